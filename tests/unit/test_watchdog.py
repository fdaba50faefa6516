"""The Watchdog's settings and its answers when nothing has happened yet."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from typing import Any
from unittest.mock import Mock, patch

import pytest
from twisted.internet.testing import MemoryReactorClock

from txwatchdog import Watchdog
from txwatchdog.causes import CAUSES


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
