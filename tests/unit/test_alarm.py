"""The alarm: a signal taken only if nobody else has it, and never left with someone else."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType
from unittest.mock import patch

import pytest

from txwatchdog.rings.alarm import Alarm


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    """An alarm that has its signal, and gives it back."""
    made = Alarm(lambda _frame: None, "real", interrupts=False)
    made.install()
    yield made
    made.remove()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def theirs(_signal: int, _frame: FrameType | None) -> None:
    """Another's handler."""


def left() -> float:
    """How long the process's timer has to go."""
    return signal.getitimer(signal.ITIMER_REAL)[0]


def test_signal_and_timer_are_given_back(alarm: Alarm) -> None:
    """After removal neither handler nor timer is left."""
    assert alarm.state == "on"
    alarm.arm(100)
    assert left() > 50
    alarm.remove()
    assert left() == 0
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert "stopped" in alarm.state


def test_whoever_takes_the_signal_does_not_get_our_alarm(alarm: Alarm) -> None:
    """Once the signal is another's, the timer that we set is taken back, not left to them."""
    alarm.arm(100)
    signal.signal(signal.SIGALRM, theirs)
    alarm.arm(50)
    assert left() == 0
    assert "taken by someone else" in alarm.state
    alarm.remove()
    assert signal.getsignal(signal.SIGALRM) is theirs


def test_a_timer_of_theirs_is_left_alone(alarm: Alarm) -> None:
    """A timer that another has set is not ours to stop."""
    alarm.arm(100)
    signal.signal(signal.SIGALRM, theirs)
    signal.setitimer(signal.ITIMER_REAL, 30)
    alarm.arm(50)
    alarm.remove()
    assert 0 < left() <= 30


def test_a_signal_borrowed_and_returned_is_ours_again(alarm: Alarm) -> None:
    """The usual way to give a call a time limit takes the signal and gives it back."""
    before = signal.signal(signal.SIGALRM, theirs)
    assert not alarm.is_on
    signal.signal(signal.SIGALRM, before)
    alarm.arm(100)
    assert alarm.state == "on"
    assert left() > 50
    alarm.remove()
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_signal_taken_as_the_timer_is_set_leaves_no_timer(alarm: Alarm) -> None:
    """Whoever takes the signal in between does not get the alarm that was just set."""
    set_timer = signal.setitimer

    def set_and_lose(timer: int, seconds: float) -> None:
        set_timer(timer, seconds)
        signal.signal(signal.SIGALRM, theirs)

    with patch("signal.setitimer", set_and_lose):
        alarm.arm(100)
    assert left() == 0
    assert signal.getsignal(signal.SIGALRM) is theirs


def test_failing_handler_reaches_nobody(alarm: Alarm) -> None:
    """What goes wrong in our handler never reaches the code that the signal met."""

    def fail(_frame: FrameType | None) -> None:
        raise RecursionError

    failing = Alarm(fail, "prof", interrupts=False)
    failing.install()
    try:
        signal.raise_signal(signal.SIGPROF)
    finally:
        failing.remove()


def test_earlier_handler_or_timer_keeps_it_off() -> None:
    """A handler or a timer that is there already is never replaced."""
    signal.signal(signal.SIGALRM, theirs)
    try:
        alarm = Alarm(lambda _frame: None, "real", interrupts=False)
        alarm.install()
        assert "has a handler already" in alarm.state
        alarm.arm(5)
        assert left() == 0
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    alarm.install()
    assert "it is ignored" in alarm.state
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        alarm.install()
        assert "timer of SIGALRM is already running" in alarm.state
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
