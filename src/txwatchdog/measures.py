"""What a watchdog has seen, as sums that only ever grow: for Prometheus and OpenTelemetry alike.

The ledger can't be that: it is reset by operators, and folds rows into others. So each pause is
counted here a second time, by cause and by offender, and nothing is ever taken back. Offenders
have a fixed number of rows: the first come keep theirs, those for whom there was no room are
`(other)` for good. Nothing in here knows either library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from txwatchdog.activity import SHORT, Activity
from txwatchdog.causes import CAUSES, UNBLAMED
from txwatchdog.checks import checked_count
from txwatchdog.ledger import NOT_SEEN, OTHER
from txwatchdog.records import Function, Pause, Stack, Status

__all__ = [
    "BOUNDS",
    "BOUND_LABELS",
    "MEASURES",
    "OFFENDERS",
    "Labels",
    "Measure",
    "Measured",
    "Tally",
    "Watched",
    "clean",
    "labels_of",
]

OFFENDERS = 100
"""The most offenders that have series of their own."""

LONGEST_LABEL = 300
"""The most characters of a function's name or a file's path that are kept in a label."""

BOUNDS = (*range(SHORT, 37),)
"""Powers of two: what ticks' durations are told apart by, from 1 ms to 69 s.

The probe counts ticks of less than 2**n ns. Durations are whole nanoseconds, so these are exactly
those of at most 2**n - 1 ns, which is what a histogram's inclusive bound has to be.
"""

BOUND_LABELS = (*(str((2**bound - 1) / 1e9) for bound in BOUNDS), "+Inf")
"""Those in seconds, as labels have them, and the one that everything keeps."""

Labels: TypeAlias = "tuple[str, ...]"
Values: TypeAlias = Mapping[Labels, float]
FUNCTION = ("function", "file", "line")


class Watched(Protocol):
    """What is read of a `Watchdog`."""

    threshold: float

    def activity(self) -> Activity:
        """What ticks have come to."""

    def status(self) -> Status:
        """What the watchdog does."""

    def stack(self) -> Stack:
        """Where the reactor is."""

    def on_pause(self, callback: Callable[[Pause], object]) -> Callable[[], None]:
        """Have `callback` called with each finished pause."""


@frozen
class Measured:
    """Everything at one instant. Durations in seconds.

    Attributes:
        ticks: for each of `BOUNDS` the ticks that were shorter, then all ticks.
        tick_seconds: all ended ticks' durations; None where the probe can't tell.
        busy: those and the tick under way; None where the probe can't tell.
        tick_age: how long the tick under way has lasted; 0 while the reactor waits.
        causes: for each cause the pauses that have ended, and their seconds.
        offenders: for each offender the same.
        paused: all pauses' seconds, the one under way included.
        longest: the longest pause, the one under way included.
        latest_at: when the latest pause that has ended began, Unix time; None before the first.
        under_way: the offender so far of the pause under way and its seconds; empty without one.
        threshold: in force.
        status: what the watchdog does, and its own cost.
    """

    ticks: tuple[int, ...]
    tick_seconds: float | None
    busy: float | None
    tick_age: float
    causes: Mapping[str, tuple[int, float]]
    offenders: Mapping[Labels, tuple[int, float]]
    paused: float
    longest: float
    latest_at: float | None
    under_way: Values
    threshold: float
    status: Status


class Tally:
    """Counts a watchdog's pauses from when it is made on. Any thread may read it.

    Args:
        watchdog: whose pauses.
        offenders: the most that have a row of their own.

    Raises:
        ValueError: `offenders` is not a number of rows.
    """

    def __init__(self, watchdog: Watched, offenders: int = OFFENDERS) -> None:
        self._watchdog = watchdog
        self._limit = checked_count("offenders", offenders)
        # Pauses and their ns. Written by the one thread that records pauses, each value replaced
        # whole; readers copy a table in one step. No lock: with the original method that thread is
        # the reactor's. Only `setdefault` with nothing in it is a reader's, too.
        self._causes = dict.fromkeys(CAUSES, (0, 0))
        self._offenders: dict[Labels, tuple[int, int]] = {}
        self._longest_ns = 0
        self._latest_at: float | None = None
        # What was told before is never taken back: a tick under way is forgotten when the watchdog
        # is stopped in it, and is no pause any more when the threshold is raised. Readers only.
        self._telling = threading.Lock()
        self._told: dict[str, float] = {}
        self._unsubscribe: Callable[[], None] | None = None
        self.start()

    def start(self) -> None:
        """Count; does nothing if it does."""
        if self._unsubscribe is None:
            self._unsubscribe = self._watchdog.on_pause(self._enter)

    def stop(self) -> None:
        """Count no more, and keep what was counted; does nothing if it doesn't count."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def read(self) -> Measured:
        """Everything, now. For any thread but the one that records pauses."""
        with self._telling:
            # Before the ticks: a pause that ends in between is missed now, and not counted twice.
            causes, offenders = self._causes.copy(), self._offenders.copy()
            longest = self._longest_ns / 1e9
            paused = sum(ns for _, ns in causes.values()) / 1e9
            activity, threshold = self._watchdog.activity(), self._watchdog.threshold
            age, busy = activity.tick_seconds, activity.busy_seconds
            under_way: Values = {}
            if age > threshold:
                under_way = self._under_way(self._watchdog.stack())
                offenders.update({row: offenders.get(row, (0, 0)) for row in under_way})
                if busy is not None:
                    paused, longest = paused + age, max(longest, age)
            return Measured(
                ticks=(*_shorter(activity.buckets), sum(activity.buckets)),
                tick_seconds=self._rise("ticks", None if busy is None else round(busy - age, 9)),
                busy=self._rise("busy", busy),
                tick_age=age,
                causes={cause: (count, ns / 1e9) for cause, (count, ns) in causes.items()},
                offenders={row: (count, ns / 1e9) for row, (count, ns) in offenders.items()},
                paused=self._rise("paused", paused) or 0.0,
                longest=self._rise("longest", longest) or 0.0,
                latest_at=self._latest_at,
                under_way=under_way,
                threshold=threshold,
                status=self._watchdog.status(),
            )

    def _rise(self, name: str, value: float | None) -> float | None:
        """`value`, or what was told before if that is more; None if it was never known."""
        if value is not None:
            self._told[name] = max(value, self._told.get(name, 0.0))
        return self._told.get(name)

    def _under_way(self, stack: Stack) -> Values:
        if stack.state != "paused":
            return {}  # it has ended meanwhile
        row = self._row(stack.offender)
        # A place in the table now, for its count is to come; and so the labels are bounded, too.
        self._offenders.setdefault(row, (0, 0))
        return {row: stack.seconds}

    def _enter(self, pause: Pause) -> None:
        """A pause has ended. The thread that records pauses calls it."""
        took_ns = round(pause.duration * 1e9)
        if pause.cause not in UNBLAMED or pause.offender is not None:
            row = self._row(pause.offender)
            self._offenders[row] = _plus(self._offenders.get(row), took_ns)
        self._causes[pause.cause] = _plus(self._causes.get(pause.cause), took_ns)
        self._longest_ns = max(self._longest_ns, took_ns)
        self._latest_at = pause.started_at.timestamp()

    def _row(self, offender: Function | None) -> Labels:
        row = labels_of(offender)
        known = row in self._offenders or len(self._offenders) < self._limit
        return row if known else (OTHER, "", "")


@frozen
class Measure:
    """One of the numbers, for whichever library.

    Attributes:
        name: its words, with dots between, without unit and kind: `pause`, `tick.age`.
        kind: a `counter` never falls; a `gauge` may.
        unit: `s` for seconds; empty for a number of things.
        help: what it is, in a sentence.
        read: its values, by the values of its labels.
        labels: their names.
    """

    name: str
    kind: Literal["counter", "gauge"]
    unit: Literal["s", ""]
    help: str
    read: Callable[[Measured], Values]
    labels: tuple[str, ...] = ()


def labels_of(offender: Function | None) -> Labels:
    """An offender's labels, `FUNCTION`'s values."""
    if offender is None:
        return NOT_SEEN, "", ""
    return clean(offender.function), clean(offender.file), str(offender.line)


def clean(text: str, longest: int = LONGEST_LABEL) -> str:
    """`text` for other systems, in bounds.

    A path may hold surrogates, for bytes that are no text: one would break a whole scrape.
    """
    return text[:longest].encode(errors="replace").decode()


def _plus(known: tuple[int, int] | None, took_ns: int) -> tuple[int, int]:
    count, ns = known or (0, 0)
    return count + 1, ns + took_ns


def _shorter(buckets: tuple[int, ...]) -> tuple[int, ...]:
    """For each of `BOUNDS` the ticks of less than 2**bound ns."""
    return tuple(sum(buckets[: bound + 1]) for bound in BOUNDS)


def _one(value: float | None) -> Values:
    return {} if value is None else {(): value}


def _counts(rows: Mapping[str, tuple[int, float]]) -> Values:
    return {(key,): count for key, (count, _) in rows.items()}


MEASURES = (
    Measure(
        "tick.age",
        "gauge",
        "s",
        "How long the turn of the reactor that is under way has lasted; 0 while it waits.",
        lambda now: _one(now.tick_age),
    ),
    Measure(
        "busy",
        "counter",
        "s",
        "Time in which the reactor did not wait, the tick under way included.",
        lambda now: _one(now.busy),
    ),
    Measure(
        "pauses",
        "counter",
        "",
        "Turns of the reactor over the threshold that have ended, by cause.",
        lambda now: _counts(now.causes),
        ("cause",),
    ),
    Measure(
        "pause",
        "counter",
        "s",
        "How long those took, by cause.",
        lambda now: {(cause,): seconds for cause, (_, seconds) in now.causes.items()},
        ("cause",),
    ),
    Measure(
        "paused",
        "counter",
        "s",
        "Time spent in pauses, as it passes: the one under way is included.",
        lambda now: _one(now.paused),
    ),
    Measure(
        "longest.pause",
        "gauge",
        "s",
        "The longest pause since counting began, the one under way included.",
        lambda now: _one(now.longest),
    ),
    Measure(
        "latest.pause.timestamp",
        "gauge",
        "s",
        "When the latest pause that has ended began, in Unix time.",
        lambda now: _one(now.latest_at),
    ),
    Measure(
        "pause.under.way",
        "gauge",
        "s",
        "How long the pause under way has lasted, by the function that is blamed so far.",
        lambda now: now.under_way,
        FUNCTION,
    ),
    Measure(
        "offender.pauses",
        "counter",
        "",
        "Pauses that have ended, by the function that is blamed.",
        lambda now: {row: count for row, (count, _) in now.offenders.items()},
        FUNCTION,
    ),
    Measure(
        "offender.pause",
        "counter",
        "s",
        "How long those took, by the function that is blamed.",
        lambda now: {row: seconds for row, (_, seconds) in now.offenders.items()},
        FUNCTION,
    ),
    Measure(
        "threshold",
        "gauge",
        "s",
        "A turn of the reactor that lasts longer is a pause.",
        lambda now: _one(now.threshold),
    ),
    Measure(
        "running",
        "gauge",
        "",
        "Whether the watchdog looks: 1, or 0.",
        lambda now: _one(now.status.running),
    ),
    Measure(
        "watch.cpu",
        "counter",
        "s",
        "CPU time of the watch thread since the watchdog was started.",
        lambda now: _one(now.status.cpu_seconds),
    ),
    Measure(
        "watch.wakes",
        "counter",
        "",
        "How often the watch thread woke since the watchdog was started.",
        lambda now: _one(now.status.wakes),
    ),
    Measure(
        "watch.samples",
        "counter",
        "",
        "Samples of the reactor thread's stack since the watchdog was started.",
        lambda now: _one(now.status.samples),
    ),
    Measure(
        "lost.pauses",
        "counter",
        "",
        "Pauses that were seen and not kept since the watchdog was started.",
        lambda now: _one(now.status.lost),
    ),
)
"""All but the histogram of ticks, which each library has its own way to tell."""
