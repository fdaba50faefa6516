"""What a console says first, what its prompt says, and its help."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet.testing import MemoryReactorClock

from txwatchdog import Watchdog
from txwatchdog.manhole.helptext import console_help
from txwatchdog.manhole.verbs.lines import COMMAND_ONLY, NAMES
from txwatchdog.manhole.welcome import _started_at, age, pause_note, so_far, welcome
from txwatchdog.records import Function, Stack


class _Watchdog:
    def __init__(self, stack: Stack | None) -> None:
        self._stack = stack

    def status(self) -> Any:
        return self.stack()

    def stack(self) -> Stack:
        if self._stack is None:
            raise RuntimeError("broken")
        return self._stack


def _a_watchdog() -> Watchdog:
    reactor: Any = object()
    return Watchdog(reactor)


_FETCH = Function("fetch_user", "app/db.py", 41)


@pytest.mark.parametrize(
    ("stack", "note"),
    [
        (Stack("idle", 0.0, None, None, ()), ""),
        (Stack("busy", 0.1, _FETCH, None, ()), ""),
        (Stack("off", 0.0, None, None, ()), ""),
        (None, ""),
        (Stack("paused", 0.62, _FETCH, None, ()), "[paused 0.6 s in fetch_user]"),
        (Stack("paused", 12.4, _FETCH, None, ()), "[paused 12 s in fetch_user]"),
        (Stack("paused", 3.0, None, None, ()), "[paused 3 s]"),
    ],
)
def test_the_prompt_shows_a_pause(stack: Stack | None, note: str) -> None:
    """During a pause the prompt says for how long and where; at other times nothing."""
    assert pause_note(_Watchdog(stack)) == note


def test_a_pause_that_ends_as_it_is_looked_at_is_none() -> None:
    """Between the two looks that the prompt takes it may have gone by."""
    watchdog: Any = _Watchdog(Stack("idle", 0.0, None, None, ()))
    watchdog.status = lambda: Stack("paused", 3.0, _FETCH, None, ())
    assert pause_note(watchdog) == ""


def test_a_long_name_does_not_fill_the_prompt() -> None:
    """A function's name is cut."""
    stack = Stack("paused", 3.0, Function("f" * 200, "app.py", 1), None, ())
    assert len(pause_note(_Watchdog(stack))) < 60


def test_the_pauses_so_far_stand_behind_the_state() -> None:
    """The welcome says how much there was; nothing if the watchdog can't tell."""
    assert so_far(_a_watchdog()) == "; no pause"
    assert not so_far(object())


@pytest.mark.parametrize("columns", [20, 80])
def test_three_lines_and_no_wider_than_the_terminal(columns: int) -> None:
    """The welcome is three lines, each of which fits."""
    lines = welcome("reactor idle", columns).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59, "59 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_ages_are_rough(seconds: float, text: str) -> None:
    """How long a process has been up is said in one unit."""
    assert age(timedelta(seconds=seconds)) == text


def test_a_process_without_a_beginning() -> None:
    """Where the system does not say since when a process runs, nothing is said."""
    assert _started_at(read=lambda: "") is None


def test_help_lists_methods_verbs_and_names() -> None:
    """Each public method with its signature, each verb, and each name with what it is."""

    class Service:
        """Serves.

        And more.
        """

    names = {"watchdog": 1, "service": Service(), "_private": 2, "x": 3}
    text = console_help(_a_watchdog(), names, 100)
    assert re.search(r"^  watchdog\.top\(n=10, by='total'\) +The worst", text, re.MULTILINE)
    assert "  service  Service: Serves.\n" in text
    assert all(f" {verb}" in text for verb in NAMES if verb not in COMMAND_ONLY)
    assert "_private" not in text
    assert "_finish" not in text
    assert max(map(len, text.splitlines())) < 100


def test_help_is_bounded() -> None:
    """Of very many names it shows some, and says how many more there are."""
    text = console_help(_a_watchdog(), {f"name{n}": n for n in range(1000)}, 80)
    assert "… 950 more" in text
    assert len(text.splitlines()) < 100


def test_where_it_is_not_known_when_the_process_began() -> None:
    """The greeting does without."""
    with patch("txwatchdog.manhole.welcome._started_at", return_value=None):
        text = welcome("idle", 200)
    assert "up since" not in text
    assert "up since" in welcome("idle", 200)


def test_help_leaves_out_what_the_operator_has_replaced() -> None:
    """What looks around is not listed where its name is taken; without names it says so."""

    class Odd(Watchdog):
        limit = 3

    names: dict[str, Any] = {"watchdog": None}
    assert "none yet: x = 1 makes one" in console_help(_a_watchdog(), names, 100)
    assert "  threads(" in console_help(_a_watchdog(), names, 100)
    replaced = console_help(Odd(MemoryReactorClock()), {**names, "threads": 7}, 100)
    assert "  threads(" not in replaced
    assert "watchdog.limit" not in replaced
    assert "  threads" in replaced
