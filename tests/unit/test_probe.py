"""The probe: the reactor's wait, wrapped, or a heartbeat."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

from txwatchdog.activity import SHORT
from txwatchdog.probe import Tick, probe_for, watched
from txwatchdog.reactor import ReactorThread


class RunningReactor(MemoryReactorClock):
    """A reactor whose time is told, and whose thread is the test's."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = True

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        call(*args)


class Poller:
    """What a reactor's poller is, as far as anyone here asks."""

    def __init__(self) -> None:
        self.polled: list[Any] = []
        self.closed = False

    def poll(self, *args: Any) -> list[Any]:
        self.polled.append(args)
        return [args]

    def register(self, *_: Any) -> str:
        return "registered"

    modify = unregister = register


class PollReactor:
    """A reactor with a poller, that does not run."""

    running = False

    def __init__(self) -> None:
        self._poller: Any = Poller()


def install(reactor: Any, tick: Tick) -> Any:
    """The reactor's probe, installed."""
    probe = probe_for(reactor, ReactorThread(reactor), tick)
    probe.install()
    return probe


def test_wait_is_passed_through() -> None:
    """The wrapped wait gets what it is called with, by position, and its result comes back."""
    tick = Tick(10**9, lambda *_: None)
    wait = watched(lambda *args: args, tick)
    assert wait(1) == (1,)
    assert wait(timeout=1, maxevents=2) == (1, 2)


def test_busy_between_two_waits_only() -> None:
    """The tick begins when the wait returns, also with an exception, and not while it lasts."""
    tick = Tick(10**9, lambda *_: None)
    seen = []

    def wait(_timeout: float | None) -> None:
        seen.append(tick.busy_since_ns)
        raise InterruptedError

    wrapped = watched(wait, tick)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            wrapped()
        assert tick.busy_since_ns > 0
    assert seen == [0, 0]
    assert tick.count == 1
    assert tick.busy_ns > 0


def test_long_tick_is_handed_over() -> None:
    """A tick over the limit is announced with its beginning and duration, before it is over."""
    ended: list[tuple[int, int, int]] = []
    tick = Tick(1, lambda since, took: ended.append((since, took, tick.busy_since_ns)))
    wrapped = watched(lambda _timeout: None, tick)
    wrapped()
    began = tick.busy_since_ns
    wrapped()
    ((since, took, busy_since),) = ended
    assert since == began == busy_since
    assert took > 1


@given(
    st.lists(st.integers(1, 10**12), max_size=30),
    st.floats(0, 1e8),
    st.sampled_from([10**5, 2**SHORT, 10**8]),
)
def test_each_tick_is_counted_once(took_ns: list[int], started: float, limit_ns: int) -> None:
    """All ticks are counted, all but the short ones by their duration, which are summed, and those
    over the limit are handed over, however long the machine has been up."""
    over: list[int] = []
    tick = Tick(limit_ns, lambda _, took: over.append(took))
    now = [started]
    with patch("time.monotonic", lambda: now[0]):
        wrapped = watched(lambda _timeout: None, tick)
    for each in took_ns:
        wrapped()
        now[0] += each / 1e9
    tolerance = 64  # ns: a float of 1e8 s is exact to 15
    wrapped()
    assert tick.count == sum(tick.counts()) == len(took_ns)
    for bound in range(SHORT, 41):
        counted = sum(tick.counts()[: bound + 1])
        assert counted >= sum(each < 2**bound - tolerance for each in took_ns)
        assert counted <= sum(each < 2**bound + tolerance for each in took_ns)
    assert tick.busy_ns == pytest.approx(sum(took_ns), abs=tolerance * (len(took_ns) + 1))
    surely = [each for each in took_ns if each > limit_ns + tolerance]
    assert len(surely) <= len(over)
    assert all(each > limit_ns for each in over)


def test_failure_in_recording_stays_with_us() -> None:
    """If recording a pause fails, the reactor's wait goes on as if it had not."""

    def over(_since: int, _took: int) -> None:
        raise RuntimeError("ours")

    wrapped = watched(lambda _timeout: "waited", Tick(1, over))
    assert [wrapped(), wrapped()] == ["waited", "waited"]


def test_poller_is_replaced_and_given_back() -> None:
    """A proxy stands before the poller, passes everything on, and leaves no trace."""
    reactor = PollReactor()
    poller = reactor._poller
    tick = Tick(10**9, lambda *_: None)
    probe = install(reactor, tick)
    assert probe.exact
    assert reactor._poller is not poller
    assert reactor._poller.poll(0.1, 5) == [(0.1, 5)]
    assert reactor._poller.register(1, 2) == "registered"
    assert reactor._poller.closed is False
    assert tick.busy_since_ns
    probe.remove()
    assert reactor._poller is poller


def test_poller_wrapped_by_another_in_turn() -> None:
    """If someone wrapped our proxy, it stays in their chain and does nothing any more."""
    reactor = PollReactor()
    tick = Tick(10**9, lambda *_: None)
    probe = install(reactor, tick)
    theirs = type("Theirs", (), {"poll": reactor._poller.poll, "inner": reactor._poller})()
    proxy, reactor._poller = reactor._poller, theirs
    probe.remove()
    assert reactor._poller is theirs
    proxy.poll(1)
    assert tick.busy_since_ns == 0


class Selector:
    """A selector as asyncio's loop has it."""

    def select(self, timeout: float | None = None) -> float | None:
        return timeout


class AsyncioReactor:
    """A reactor over an asyncio loop."""

    running = False

    def __init__(self, selector: object) -> None:
        self._asyncioEventloop = type("Loop", (), {"_selector": selector})()


def test_selector_is_wrapped_and_given_back() -> None:
    """The selector's method is shadowed, and afterwards the instance is as it was."""
    selector = Selector()
    probe = install(AsyncioReactor(selector), Tick(10**9, lambda *_: None))
    assert "select" in vars(selector)
    assert selector.select(3) == 3
    probe.remove()
    assert vars(selector) == {}


def test_earlier_wrapper_of_the_selector_stays() -> None:
    """Another's wrapper, there before ours, is there again afterwards."""
    selector = Selector()
    theirs = selector.select
    selector.select = theirs  # type: ignore[method-assign]
    probe = install(AsyncioReactor(selector), Tick(10**9, lambda *_: None))
    probe.remove()
    assert vars(selector) == {"select": theirs}


def test_later_wrapper_of_the_selector_stays() -> None:
    """Another's wrapper, put there after ours, is not taken away with ours."""
    selector = Selector()
    probe = install(AsyncioReactor(selector), Tick(10**9, lambda *_: None))
    theirs: Any = partial(selector.select)
    selector.select = theirs  # type: ignore[method-assign]
    probe.remove()
    assert selector.select is theirs
    assert selector.select(3) == 3


def test_heartbeat_where_nothing_can_be_wrapped() -> None:
    """A reactor with no wait that we know is asked to call us at short distances."""
    reactor = RunningReactor()
    tick = Tick(500_000_000, lambda *_: None)
    probe = install(reactor, tick)
    assert not probe.exact
    assert "heartbeat every 0.1 s" in probe.name
    (call,) = reactor.getDelayedCalls()
    assert call.getTime() == pytest.approx(0.1)
    assert probe.is_waiting(sys._getframe())  # there is nothing to tell it by
    reactor.advance(0.1)
    assert len(reactor.getDelayedCalls()) == 1
    assert tick.count == 1
    probe.remove()
    assert reactor.getDelayedCalls() == []


def test_heartbeat_that_was_removed_beats_no_more() -> None:
    """A beat that comes before the reactor has got to taking it back is the last one."""
    reactor: Any = RunningReactor()
    sent: list[Callable[..., object]] = []
    thread = ReactorThread(reactor)
    thread._ident = -1  # another one than this
    probe = probe_for(reactor, thread, Tick(500_000_000, lambda *_: None))
    probe.install()
    with patch.object(reactor, "callFromThread", sent.append):
        thread._ident = -1
        probe.remove()
    reactor.advance(0.1)
    assert reactor.getDelayedCalls() == []
    sent[0]()
    assert reactor.getDelayedCalls() == []


def test_heartbeat_is_quicker_for_low_thresholds() -> None:
    """The distance of the beats is a fifth of the threshold, if that is less."""
    reactor = RunningReactor()
    probe = install(reactor, Tick(100_000_000, lambda *_: None))
    assert "every 0.02 s" in probe.name
    probe.remove()


def test_late_beat_is_a_pause() -> None:
    """A beat that comes later than the limit after it was due is announced as a pause."""
    reactor = RunningReactor()
    ended: list[tuple[int, int]] = []
    tick = Tick(500_000_000, lambda since, took: ended.append((since, took)))
    probe = install(reactor, tick)
    assert tick.since is not None
    tick.since -= 5.0
    due = tick.busy_since_ns
    reactor.advance(0.1)
    ((since, took),) = ended
    assert since == due
    assert took > 4_000_000_000
    assert tick.busy_since_ns > due
    probe.remove()


def test_select_reactor_of_another_thread_is_left_alone() -> None:
    """The wrapped `_select` tells reactors apart by the set of readers that they pass."""
    from twisted.internet import selectreactor

    original = selectreactor._select
    reactor: Any = selectreactor.SelectReactor.__new__(selectreactor.SelectReactor)
    reactor._reads, reactor.running = set(), False
    tick = Tick(10**9, lambda *_: None)
    probe = install(reactor, tick)
    try:
        selectreactor._select(set(), set(), [], 0)
        assert tick.busy_since_ns == 0
        selectreactor._select(reactor._reads, set(), [], 0)
        assert tick.busy_since_ns > 0
        assert sys.modules["twisted.internet.selectreactor"] is selectreactor
    finally:
        probe.remove()
    assert selectreactor._select is original


def test_later_wrapper_of_select_stays() -> None:
    """Another's wrapper of the module's function, put there after ours, is left alone."""
    from twisted.internet import selectreactor

    original = selectreactor._select
    reactor: Any = selectreactor.SelectReactor.__new__(selectreactor.SelectReactor)
    reactor._reads, reactor.running = set(), False
    probe = install(reactor, Tick(10**9, lambda *_: None))
    theirs = selectreactor._select = partial(original)
    try:
        probe.remove()
        assert selectreactor._select is theirs
    finally:
        selectreactor._select = original


def test_what_the_reactor_calls_too_late_is_not_called() -> None:
    """Once taken back, a call is not made though the reactor was about to make it."""
    reactor: Any = MemoryReactorClock()
    called: list[str] = []
    reactor.running = False
    with patch.object(reactor, "removeSystemEventTrigger", create=True):
        withdraw = ReactorThread(reactor).when_running(lambda: called.append("late"))
        ((run, args, kwargs),) = reactor.whenRunningHooks
        withdraw()
        run(*args, **kwargs)
    assert called == []
