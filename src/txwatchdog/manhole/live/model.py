"""What the full-screen view shows, and what each key does to it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from txwatchdog.manhole.live.history import History

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from txwatchdog.activity import Activity
    from txwatchdog.records import Pause, Stack, Status, Top

__all__ = [
    "CHANGING_KEYS",
    "KEYS",
    "NOT_ALLOWED",
    "NOW",
    "Action",
    "Model",
    "Snapshot",
    "next_threshold",
]

NOW = 0
"""Stands for the pause under way, which has no number yet."""

NOT_ALLOWED = "this key may look, and change nothing"

KEYS = (
    ("↑ ↓", "choose a pause, whose traceback is shown"),
    ("Home", "the latest pause again, and each new one"),
    ("PgUp PgDn", "scroll the traceback"),
    ("s", "sort the offenders by the next column"),
    ("t c w l", "… by total time, count, worst, latest"),
    ("+ -", "threshold up and down"),
    ("o", "watchdog on and off"),
    ("R", "reset: forget all pauses (asks)"),
    ("?", "these keys, and away with them"),
    ("q Ctrl-C", "leave; the service goes on"),
)

ORDERS = ("total", "count", "worst", "recent")

_ORDER_KEYS = {"t": "total", "c": "count", "w": "worst", "l": "recent"}
CHANGING_KEYS = frozenset({"+", "=", "-", "o", "R"})
_NOTICE_SECONDS = 5  # for how many snapshots a notice stays


@frozen
class Snapshot:
    """All that is shown, at one moment.

    Attributes:
        at: When; aware, UTC.
        status: The watchdog's.
        stack: The reactor's, if it is paused.
        top: The offenders, in the order that was asked for.
        pauses: The latest, newest first.
        activity: For the graphs.
    """

    at: datetime
    status: Status
    stack: Stack | None
    top: Top
    pauses: Sequence[Pause]
    activity: Activity


@frozen
class Action:
    """What a key asks of the one who holds the watchdog.

    Attributes:
        name: `threshold`, `start`, `stop`, `reset`, `look` (take a snapshot now), `leave` or
            `interrupt`.
        seconds: The new threshold.
    """

    name: str
    seconds: float = 0.0


class Model:
    """The view's state. In one thread.

    Args:
        title: Which process this is.
        may_change: Whether keys may change the watchdog.
    """

    def __init__(self, title: str, *, may_change: bool = True) -> None:
        self.title = title
        self.may_change = may_change
        self.history = History()
        self.snapshot: Snapshot | None = None
        self.order = "total"
        self.chosen: int | None = None
        """The number of the pause that was chosen; None to follow the latest."""
        self.detail: Sequence[str] = ()
        """The lines of the shown pause's traceback."""
        self.scroll = 0
        """Lines of it that are hidden below."""
        self.shows_keys = False
        self.asks_reset = False
        self.notice = ""
        self._notice_left = 0

    def update(self, snapshot: Snapshot, *, anew: bool = True) -> None:
        """Take a new snapshot in.

        Args:
            snapshot: What is shown from now on.
            anew: Whether it was due; one that a key asked for adds nothing to the graphs.
        """
        self.snapshot = snapshot
        if self.chosen is not None and self.chosen not in self.numbers:
            self.chosen = None  # it ended, was forgotten, or has made room for newer ones
        if not anew:
            return
        self.history.add(snapshot.activity, watched=snapshot.status.running)
        if self._notice_left:
            self._notice_left -= 1
        else:
            self.notice = ""

    def tell(self, notice: str) -> None:
        """Show a notice for some seconds."""
        self.notice, self._notice_left = notice, _NOTICE_SECONDS

    @property
    def numbers(self) -> list[int]:
        """The pauses that can be chosen, newest first; the one under way is `NOW`."""
        if self.snapshot is None:
            return []
        under_way = [NOW] if self.snapshot.stack is not None else []
        return under_way + [pause.number for pause in self.snapshot.pauses]

    @property
    def shown(self) -> int | None:
        """The pause whose traceback is shown; None if there is none."""
        if self.chosen is not None:
            return self.chosen
        numbers = self.numbers
        return numbers[0] if numbers else None

    def press(self, key: str) -> Action | None:
        """Take a key in.

        Args:
            key: A character, or prompt_toolkit's name of a key, such as ``pageup`` or ``c-c``.

        Returns:
            What is to be done about it; None if it only changes what is shown.
        """
        if key in ("c-c", "c-d"):
            return Action("interrupt" if key == "c-c" else "leave")
        if self.asks_reset:
            self.asks_reset = False
            if key in ("y", "Y"):
                return Action("reset")
            self.tell("nothing was reset")
            return None
        if self.shows_keys:
            # Any key closes it; one that is listed there may as well do what it does.
            self.shows_keys = False
            if key in ("?", "q", "escape", "c-m", " "):
                return None
        if key in CHANGING_KEYS:
            return self._press_changing(key)
        return self._press_looking(key)

    def _press_looking(self, key: str) -> Action | None:
        if key == "q":
            return Action("leave")
        if key == "?":
            self.shows_keys = True
        elif key in ("s", "S"):
            step = 1 if key == "s" else -1
            self.order = ORDERS[(ORDERS.index(self.order) + step) % len(ORDERS)]
            return Action("look")
        elif key in _ORDER_KEYS:
            self.order = _ORDER_KEYS[key]
            return Action("look")
        elif key in ("up", "k", "down", "j"):
            self._choose(-1 if key in ("up", "k") else 1)
        elif key in ("home", "g"):
            self.chosen, self.scroll = None, 0
        elif key in ("pageup", "pagedown"):
            step = 3 if key == "pageup" else -3
            self.scroll = max(0, min(self.scroll + step, len(self.detail) - 1))
        return None

    def _press_changing(self, key: str) -> Action | None:
        if not self.may_change:
            self.tell(NOT_ALLOWED)
            return None
        if self.snapshot is None:
            return None
        if key == "R":
            self.asks_reset = True
            return None
        if key == "o":
            return Action("stop" if self.snapshot.status.running else "start")
        up = key != "-"
        return Action("threshold", next_threshold(self.snapshot.status.threshold, up=up))

    def _choose(self, step: int) -> None:
        numbers = self.numbers
        if numbers:
            shown = self.shown
            index = numbers.index(shown) if shown in numbers else 0
            self.chosen = numbers[max(0, min(index + step, len(numbers) - 1))]
            self.scroll = 0


def next_threshold(seconds: float, *, up: bool) -> float:
    """The next of 1, 2, 5, 10, 20 … and their parts, from a millisecond to 1000 s."""
    steps = [float(f"{digit}e{power}") for power in range(-3, 3) for digit in (1, 2, 5)] + [1e3]
    if up:
        return next((step for step in steps if step > seconds * 1.0001), steps[-1])
    return next((step for step in reversed(steps) if step < seconds * 0.9999), steps[0])
