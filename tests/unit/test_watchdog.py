"""The Watchdog's settings and its answers when nothing has happened yet."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast
from unittest.mock import Mock, patch

import pytest
from twisted.internet.testing import MemoryReactorClock

from txwatchdog import Watchdog
from txwatchdog.annotating import Notes
from txwatchdog.causes import CAUSES
from txwatchdog.detector import Detector
from txwatchdog.probe import Tick
from txwatchdog.process import this_process
from txwatchdog.rings.original import OriginalMethod

T = TypeVar("T")


def watchdog(**options: Any) -> Watchdog:
    """A watchdog of a reactor that never runs."""
    return Watchdog(MemoryReactorClock(), **options)


@pytest.mark.parametrize(
    "value", [0, -1, 0.0, math.nan, math.inf, -math.inf, "1", None, True, 10**400, [], 1j]
)
def test_bad_threshold_is_refused_and_the_old_one_stays(value: Any) -> None:
    """Anything but a finite number above 0 is a ValueError that names it."""
    dog = watchdog(threshold=0.25)
    with pytest.raises(ValueError, match="threshold must be a finite number of seconds above 0"):
        dog.threshold = value
    assert dog.threshold == 0.25
    with pytest.raises(ValueError, match="not "):
        watchdog(threshold=value)


@pytest.mark.parametrize("value", [1, 0.001, 1e300, 5e-324])
def test_any_other_threshold_is_taken(value: float) -> None:
    """Any finite number above 0 is a threshold, however large or small."""
    dog = watchdog()
    dog.threshold = value
    assert dog.threshold == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rings": ("smoke",)}, "rings must be one of"),
        ({"rings": ()}, "rings must be one of"),
        ({"rings": ("sigalrm",), "clock": "sun"}, "clock must be one of real, virtual, prof"),
        ({"clock": "virtual"}, "goes with rings="),
        ({"interval": 0}, "interval must be a finite number"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    """An option that makes no sense is a ValueError that says which values do."""
    with pytest.raises(ValueError, match=message):
        watchdog(**options)


def test_a_ring_by_its_name() -> None:
    """One ring may be given as a plain string."""
    assert watchdog(rings="sigalrm").status().rings["thread"] == "off: not asked for"


def test_stats_before_anything() -> None:
    """Before the first start the numbers are zero, and JSON takes them."""
    stats = watchdog().stats()
    assert json.loads(json.dumps(stats)) == {
        "pauses": 0,
        "paused_seconds": 0,
        "threshold": 0.5,
        "since": None,
        "ticks": 0,
        "causes": {cause: {"pauses": 0, "seconds": 0} for cause in CAUSES},
        "offenders": [],
    }


def test_answers_before_anything() -> None:
    """Nothing that an operator asks fails on a watchdog that was never started."""
    dog = watchdog()
    assert str(dog.top()) == "no pause yet"
    assert dog.pauses() == []
    assert str(dog.tracebacks()) == "no pause yet"
    assert dog.stack().state == "off"
    assert "stopped" in str(dog.status())
    dog.stop()
    dog.reset()
    assert dog.stats()["since"] is not None


@pytest.mark.parametrize("call", ["top", "pauses", "tracebacks"])
@pytest.mark.parametrize("n", [-1, 1.5, "3", None, True])
def test_bad_count_is_refused(call: str, n: Any) -> None:
    """A number of rows that is none is a ValueError that names it."""
    with pytest.raises(ValueError, match="n must be a whole number from 0"):
        getattr(watchdog(), call)(n)


@pytest.mark.parametrize("number", ["3", 1.5, True])
def test_bad_number_is_refused(number: Any) -> None:
    """What can't be a pause's number breaks nothing, and is named."""
    with pytest.raises(ValueError, match="number must be a pause's number, not "):
        watchdog().interrupt(number)


def test_bad_order_is_refused() -> None:
    """An order that is none is a ValueError that lists those that are."""
    with pytest.raises(ValueError, match="by must be one of total, count, worst, recent"):
        watchdog().top(by="name")


def test_observer_must_be_callable() -> None:
    """What can't be called is refused when it is handed over, not when a pause comes."""
    with pytest.raises(ValueError, match="callback must be callable"):
        watchdog().on_pause("print")  # type: ignore[arg-type]


def test_start_before_the_reactor_leaves_one_trigger_and_stop_takes_it_back() -> None:
    """On a reactor that does not run yet, starting waits for it, and stopping leaves nothing."""
    reactor = MemoryReactorClock()
    dog = Watchdog(reactor)
    for _ in range(3):
        dog.start()
        dog.start()
        assert dog.running
        assert dog.status().rings["thread"] == "off: the reactor does not run yet"
        dog.stop()
        dog.stop()
        assert not dog.running
    assert not any(reactor.triggers.values())


def test_tick_that_ends_as_it_is_looked_at_counts_once() -> None:
    """What activity() says of busy time never misses a tick that ends at that moment, and never
    has it twice."""
    dog = watchdog()
    dog.start()
    dog._probe = Mock(exact=True)
    dog._tick.since = time.monotonic() - 10
    state = dog._state

    def end_and_look() -> Any:
        if dog._tick.since is not None:  # between the two readings that make the sum
            dog._tick.since = None
            dog._tick.busy += 10
        return state()

    assert dog.activity().busy_seconds == pytest.approx(10.0, abs=1.0)
    with patch.object(dog, "_state", end_and_look):
        assert dog.activity().busy_seconds == 10.0
    dog.stop()


def test_import_brings_no_console() -> None:
    """`import txwatchdog` pulls in neither Conch nor prompt_toolkit nor rich, nor a reactor, nor
    what is only for those who look."""
    script = (
        "import sys, txwatchdog\n"
        "heavy = ('twisted.conch', 'prompt_toolkit', 'rich', 'twisted.internet.reactor',"
        " 'txwatchdog.manhole', 'cryptography', 'txwatchdog.exports', 'txwatchdog.profiles',"
        " 'txwatchdog.report', 'txwatchdog.process', 'txwatchdog.tables', 'prometheus_client',"
        " 'opentelemetry', 'txwatchdog.measures', 'txwatchdog.metrics')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.stdout.strip() == "[]", shown.stderr


@pytest.fixture
def main_reactor() -> Iterator[Any]:
    """A watchdog whose breaker has its signal, on a reactor in this thread that is in a pause."""
    dog = watchdog()
    dog.start()
    dog._thread.assume_current()
    dog.breaker.install()
    dog._tick.since = time.monotonic() - 10
    breaker = dog.breaker
    yield dog
    dog.stop()
    breaker.remove()


def elsewhere(call: Callable[[], T]) -> T:
    """What `call` returns in another thread, while this one waits."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(60)


def test_a_pause_can_not_be_broken_from_within(main_reactor: Any) -> None:
    """In the reactor's thread itself there is nothing to break but the one who asks."""
    done = main_reactor.interrupt(confirm=True)
    assert (done.outcome, done.reason) == (
        "refused",
        "this is the reactor's thread, in which it was called",
    )


def test_a_pause_is_not_broken_without_the_signal(main_reactor: Any) -> None:
    """Where the signal is not ours, nothing is broken, and it is said who has it."""
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    try:
        done = elsewhere(lambda: main_reactor.interrupt(confirm=True))
    finally:
        signal.signal(signal.SIGURG, signal.SIG_DFL)
    assert done.outcome == "refused"
    assert done.reason == "SIGURG, which it takes, has been taken by someone else"


def test_what_must_not_be_broken_is_not(main_reactor: Any) -> None:
    """Code that the reactor did not call is left alone, though it was tried for a while."""
    with patch("txwatchdog.watchdog.INTERRUPT_SECONDS", 2.0):
        done = elsewhere(lambda: main_reactor.interrupt(confirm=True))
    assert (done.outcome, done.reason) == ("not yet", "the reactor runs nobody's code")


def test_a_pause_that_ends_as_it_is_to_be_broken(main_reactor: Any) -> None:
    """Nothing is raised in what comes after it."""
    breaker, send = main_reactor.breaker, main_reactor.breaker.signal

    def end_and_send() -> None:
        main_reactor._tick.since = None
        send()

    with (
        patch.object(breaker, "signal", end_and_send),
        patch("txwatchdog.watchdog.objection", return_value=None),  # else it might be raised
    ):
        done = elsewhere(lambda: main_reactor.interrupt(confirm=True))
    assert (done.outcome, done.reason) == ("no pause", "it ended by itself")


@pytest.mark.parametrize(("waits", "joined"), [((False, True), False), ((False, False), True)])
def test_a_reactor_that_goes_to_wait_as_it_is_looked_at(
    waits: tuple[bool, bool], joined: bool
) -> None:
    """What was busy at the first look and waits at the second is not in a tick."""
    dog = watchdog()
    dog._thread._ident = -1  # another one than this
    with patch.object(dog, "_is_waiting", side_effect=waits):
        dog._join_tick_under_way()
    assert (dog._tick.since is not None) is joined


def test_a_start_that_failed_can_be_stopped_and_repeated() -> None:
    """Whatever made it fail, stop() cleans up, and the next start is as the first."""
    reactor = MemoryReactorClock()
    dog = Watchdog(reactor)
    with (
        patch("txwatchdog.watchdog.probe_for", side_effect=RuntimeError("no probe")),
        pytest.raises(RuntimeError, match="no probe"),
    ):
        dog.start()
    dog.stop()
    assert not dog.running
    dog.start()
    assert dog.status().probe != "none"
    dog.stop()
    assert not any(reactor.triggers.values())


def test_a_stopped_watchdog_does_nothing_of_what_was_under_way() -> None:
    """What was on its way to the reactor's thread as it was stopped changes nothing there."""
    reactor = MemoryReactorClock()
    dog = Watchdog(reactor)
    dog.start()
    dog.stop()
    dog._reactor_runs(1)
    dog.start()
    dog._reactor_runs(1)
    dog.stop()
    dog._over(time.monotonic_ns(), 10**10)
    assert not any(reactor.triggers.values())
    assert dog.pauses() == []
    assert dog._pauses == 0
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL


def test_the_original_method_here() -> None:
    """It has no thread to start before the reactor runs."""
    dog = watchdog(rings="sigalrm")
    dog._thread._reactor.running = False
    dog.start_here()
    assert dog.running
    assert dog.status().rings["thread"] == "off: not asked for"
    dog.stop()


def test_the_original_method_without_its_signal() -> None:
    """Where SIGALRM is taken it puts nothing off, and leaves nothing behind."""
    clock = MemoryReactorClock()
    method = OriginalMethod(
        cast(Any, clock),
        Tick(10**9, lambda *_: None),
        Detector(10**9),
        Notes(),
        interval=0.1,
        clock="real",
    )
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        method.start()
        assert clock.getDelayedCalls() == []
        assert "it is ignored" in method.alarm.state
        method.stop()
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/srv/shop/__main__.py"], "shop"),
        (["/srv/bin/shop"], "shop"),
        (["-c"], "python"),
        ([], "python"),
    ],
)
def test_a_process_is_named_by_its_program(argv: list[str], name: str) -> None:
    """A package that is run is named, not its `__main__.py`."""
    with patch("sys.argv", argv):
        assert this_process().name == name
