"""Services in which a watchdog is started, stopped and changed in every way.

Run as `python lifecycle.py REACTOR SCENARIO ...`: all of these one after another on one running
reactor, each telling `passed` or `failed`, and what is left behind is looked for after each. Run
as `python lifecycle.py REACTOR main NAME` for those of which each needs a process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

from support import emit, install_reactor, patiently
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, LogLevel, globalLogBeginner
from twisted.python import threadable
from twisted.python.threadpool import ThreadPool

from txwatchdog import Pause, Stack, Watchdog

THRESHOLD = 0.15

Scenario: TypeAlias = "Callable[[Service], Awaitable[None]]"
SCENARIOS: dict[str, Scenario] = {}
MAINS: dict[str, Callable[[Any], None]] = {}


def scenario(function: Scenario) -> Scenario:
    """Enter a scenario."""
    SCENARIOS[function.__name__] = function
    return function


def main_scenario(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Enter a scenario that runs the reactor itself."""
    MAINS[function.__name__] = function
    return function


def waits_of(reactor: Any) -> dict[str, object]:
    """The places where a probe might stand, and what is there."""
    from twisted.internet import selectreactor

    selector = getattr(getattr(reactor, "_asyncioEventloop", None), "_selector", None)
    return {
        "_poller": getattr(reactor, "_poller", None),
        "_select": getattr(selectreactor, "_select", None),
        "selector.select": vars(selector).get("select") if selector is not None else None,
    }


def triggers_of(reactor: Any) -> dict[str, int]:
    """How many system event triggers there are of each phase."""
    return {
        f"{phase} {name}": len(getattr(event, phase))
        for name, event in reactor._eventTriggers.items()
        for phase in ("before", "during", "after")
        if getattr(event, phase)
    }


def delayed_calls_of(reactor: Any) -> list[str]:
    """The delayed calls that are ours."""
    return [str(call) for call in reactor.getDelayedCalls() if "txwatchdog" in str(call)]


def open_files() -> list[str]:
    """What this process's descriptors lead to."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing itself is gone
            links.append(str(descriptor.readlink()))
    return sorted(links)


class Traces:
    """What is in the process before a watchdog comes; nothing else may be there after it went.

    Args:
        reactor: the reactor.
    """

    SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGURG)
    TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._before = self._now()

    def _now(self) -> dict[str, object]:
        return {
            **waits_of(self._reactor),
            "triggers": triggers_of(self._reactor),
            "delayed calls": delayed_calls_of(self._reactor),
            "handlers": [signal.getsignal(number) for number in self.SIGNALS],
            "timers": [signal.getitimer(timer)[0] > 0 for timer in self.TIMERS],
            "collector": len(gc.callbacks),
            "files of proc": [link for link in open_files() if link.startswith("/proc/")],
            "threads": [t.name for t in threading.enumerate() if t.name == "txwatchdog"],
        }

    @property
    def left(self) -> dict[str, object]:
        """What is different."""
        now = self._now()
        return {what: there for what, there in now.items() if there != self._before[what]}

    def assert_none(self) -> None:
        """Nothing may be different."""
        assert self.left == {}, self.left


class Service:
    """What a scenario has to work with.

    Args:
        reactor: the running reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.events: list[dict[str, Any]] = []
        self.traces = Traces(reactor)
        self.expects_failures = False
        self._watchdogs: list[Watchdog] = []
        self._pool = ThreadPool(0, 4)
        self._pool.start()
        globalLogBeginner.beginLoggingTo(
            [cast(ILogObserver, self.events.append)], redirectStandardIO=False, discardBuffer=True
        )

    def close(self) -> None:
        """Stop the threads."""
        self._pool.stop()

    def begin(self) -> None:
        """Look afresh."""
        self.events.clear()
        self.traces = Traces(self.reactor)
        self.expects_failures = False

    def stop_all(self) -> None:
        """A scenario that failed must not take the next ones with it."""
        for watchdog in self._watchdogs:
            watchdog.stop()
        self._watchdogs.clear()

    async def end(self) -> None:
        """Nothing may be left, and nothing may have gone wrong."""
        await self.until(lambda: not self.traces.left, f"nothing is left of {self.traces.left}")
        if not self.expects_failures:
            failures = [e for e in self.events if e["log_level"] >= LogLevel.error]
            assert failures == []

    async def turn(self) -> None:
        """Let the reactor turn, once at least."""
        await deferLater(self.reactor, 0.001)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Let the reactor turn until `condition()`."""
        deadline = time.monotonic() + 10
        while not condition():
            told = [(each.status(), each.pauses(100)) for each in self._watchdogs]
            assert time.monotonic() < deadline, f"it did not come about that {what}; {told}"
            await deferLater(self.reactor, 0.005)

    def in_thread(self, call: Callable[..., object], *arguments: object) -> Deferred[Any]:
        """Call `call` in another thread."""
        return deferToThreadPool(self.reactor, self._pool, call, *arguments)

    def watchdog(self, threshold: float = THRESHOLD, **settings: Any) -> Watchdog:
        """A watchdog of this reactor."""
        self._watchdogs.append(Watchdog(self.reactor, threshold, **settings))
        return self._watchdogs[-1]

    async def paused(self, pause: Callable[[], None]) -> None:
        """Call `pause` in a tick of its own, and return in a later one."""
        await self.turn()
        await deferLater(self.reactor, 0, pause)
        await self.turn()

    async def assert_sees(self, watchdog: Watchdog) -> Pause:
        """The watchdog must see a pause, once."""
        before = len(pauses_in("doze", watchdog))
        await self.paused(doze)
        await self.until(lambda: len(pauses_in("doze", watchdog)) > before, "a pause is seen")
        seen = pauses_in("doze", watchdog)
        assert len(seen) == before + 1, seen
        assert seen[0].samples
        return seen[0]


def pauses_in(function: str, watchdog: Watchdog) -> list[Pause]:
    """The pauses that are blamed on `function`, newest first.

    On a loaded machine any tick may be a pause, so there may be others beside.
    """
    return [p for p in watchdog.pauses(100) if p.offender and p.offender.function == function]


def doze() -> None:
    """Pause for as long as the shortest of pauses takes to be told from none."""
    time.sleep(2 * THRESHOLD)


class Nap:
    """A long sleep in the reactor's thread, which other threads can tell is under way."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began = threading.Event()
        self.woke = threading.Event()

    def nap(self) -> None:
        """Sleep."""
        self.began.set()
        time.sleep(self.seconds)
        self.woke.set()


# -- starting -------------------------------------------------------------------------------------


@scenario
async def start_in_the_reactors_thread(service: Service) -> None:
    """Started by a callback it looks at once, once, and stopped by one it is gone at once."""
    watchdog = service.watchdog()
    watchdog.start()
    assert watchdog.running
    watchdog.start()
    assert [t.name for t in threading.enumerate()].count("txwatchdog") == 1
    await service.assert_sees(watchdog)
    assert watchdog.status().rings == {"thread": "on", "sigalrm": "on"}
    watchdog.stop()
    assert not watchdog.running
    service.traces.assert_none()


@scenario
async def start_in_another_thread(service: Service) -> None:
    """Started and stopped by another thread, it has both rings on as soon as the reactor turns."""
    watchdog = service.watchdog()
    await service.in_thread(watchdog.start)
    await service.until(
        lambda: watchdog.status().rings == {"thread": "on", "sigalrm": "on"}, "both rings are on"
    )
    await service.assert_sees(watchdog)
    await service.in_thread(watchdog.stop)


@scenario
async def start_during_a_pause(service: Service) -> None:
    """Started while the reactor is paused, it sees the pause under way, and says where it is."""
    watchdog = service.watchdog()
    nap = Nap(1.0)

    def start_and_look() -> tuple[Stack, bool]:
        nap.began.wait()
        watchdog.start()
        patiently(lambda: watchdog.stack().state == "paused", "the pause is seen")
        return watchdog.stack(), nap.woke.is_set()

    looked = service.in_thread(start_and_look)
    await service.paused(nap.nap)
    stack, too_late = await looked
    assert not too_late
    assert stack.state == "paused"
    assert stack.offender is not None
    assert stack.offender.function == "nap", stack
    assert "reactor paused 0." in str(stack)
    await service.until(lambda: pauses_in("nap", watchdog), "the pause is recorded")
    (pause,) = pauses_in("nap", watchdog)
    assert pause.duration > THRESHOLD
    assert pause.offender == stack.offender
    watchdog.stop()


@scenario
async def stop_during_a_pause(service: Service) -> None:
    """Stopped while the reactor is paused, it records what the pause has lasted so far."""
    watchdog = service.watchdog()
    watchdog.start()
    nap = Nap(0.8)

    def stop_when_paused() -> bool:
        nap.began.wait()
        patiently(lambda: watchdog.stack().state == "paused", "the pause is seen")
        patiently(lambda: watchdog.status().samples > 0, "a sample is taken")
        watchdog.stop()
        assert not watchdog.running
        assert watchdog.stack().state == "off"
        return nap.woke.is_set()

    stopped = service.in_thread(stop_when_paused)
    await service.paused(nap.nap)
    assert not await stopped
    (pause,) = pauses_in("nap", watchdog)
    assert THRESHOLD < pause.duration < nap.seconds


@scenario
async def stop_and_start_many_times(service: Service) -> None:
    """Started and stopped in any order by two threads, it works afterwards, and goes."""
    watchdog = service.watchdog()
    lots = random.Random(2)

    def switch() -> None:
        lots.choice([watchdog.start, watchdog.stop])()

    def switch_often() -> None:
        for _ in range(100):
            switch()

    other = service.in_thread(switch_often)
    for _ in range(100):
        switch()
        if lots.random() < 0.3:
            await service.turn()
    await other
    watchdog.start()
    await service.until(lambda: watchdog.status().rings["sigalrm"] == "on", "both rings are on")
    await service.assert_sees(watchdog)
    watchdog.stop()
    watchdog.stop()


@scenario
async def two_watchdogs_at_once(service: Service) -> None:
    """A second watchdog sees what the first one does, and goes without taking it along."""
    first, second = service.watchdog(), service.watchdog()
    first.start()
    second.start()
    assert second.status().rings["sigalrm"].startswith("off: SIGALRM has a handler already")
    await service.assert_sees(first)
    await service.until(lambda: pauses_in("doze", second), "the other one sees it, too")
    second.stop()
    await service.assert_sees(first)
    first.stop()


# -- signals that are someone else's --------------------------------------------------------------


def of_the_application(number: int, frame: object) -> None:
    """A signal handler of the application's."""


@scenario
async def earlier_alarm_handler_stays(service: Service) -> None:
    """A handler that the application had before keeps SIGALRM, and ring 2 says why it is off."""
    signal.signal(signal.SIGALRM, of_the_application)
    try:
        watchdog = service.watchdog()
        watchdog.start()
        state = watchdog.status().rings["sigalrm"]
        assert state.startswith("off: SIGALRM has a handler already"), state
        assert "of_the_application" in state, state
        await service.assert_sees(watchdog)
        assert signal.getsignal(signal.SIGALRM) is of_the_application
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        watchdog.stop()
        assert signal.getsignal(signal.SIGALRM) is of_the_application
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@scenario
async def ignored_alarm_stays_ignored(service: Service) -> None:
    """SIGALRM that the application ignores stays ignored."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        watchdog = service.watchdog()
        watchdog.start()
        assert watchdog.status().rings["sigalrm"].endswith("it is ignored")
        watchdog.stop()
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@scenario
async def later_alarm_handler_stays(service: Service) -> None:
    """A handler and timer that the application sets later are left alone, during and after."""
    watchdog = service.watchdog()
    watchdog.start()
    try:
        signal.signal(signal.SIGALRM, of_the_application)
        signal.setitimer(signal.ITIMER_REAL, 1000)
        await service.until(
            lambda: (
                watchdog.status().rings["sigalrm"] == "off: SIGALRM has been taken by someone else"
            ),
            "the watch thread notices",
        )
        await service.assert_sees(watchdog)
        watchdog.stop()
        assert signal.getsignal(signal.SIGALRM) is of_the_application
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@scenario
async def running_timer_stays(service: Service) -> None:
    """A timer that runs already goes on, and ring 2 says why it is off."""
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        watchdog = service.watchdog()
        watchdog.start()
        state = watchdog.status().rings["sigalrm"]
        assert state == "off: the timer of SIGALRM is already running", state
        await service.assert_sees(watchdog)
        watchdog.stop()
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# -- the threshold --------------------------------------------------------------------------------


@scenario
async def threshold_changes_while_running(service: Service) -> None:
    """A threshold is in force from the moment that it is set, for new ticks."""
    watchdog = service.watchdog(60.0)
    watchdog.start()
    await service.paused(doze)
    watchdog.threshold = THRESHOLD
    assert watchdog.threshold == watchdog.stats()["threshold"] == THRESHOLD
    await service.assert_sees(watchdog)
    assert len(pauses_in("doze", watchdog)) == 1  # not the one before
    watchdog.threshold = 60.0
    await service.paused(doze)
    watchdog.stop()
    assert len(pauses_in("doze", watchdog)) == 1


@scenario
async def threshold_lowered_during_a_pause(service: Service) -> None:
    """A threshold lowered by another thread makes a pause of the tick under way."""
    watchdog = service.watchdog(60.0)
    watchdog.start()
    nap = Nap(0.8)

    def lower() -> tuple[str, bool]:
        nap.began.wait()
        before = watchdog.stack().state
        watchdog.threshold = 0.001
        patiently(lambda: watchdog.status().samples > 0, "a sample is taken")
        return before, nap.woke.is_set()

    lowered = service.in_thread(lower)
    await service.paused(nap.nap)
    assert await lowered == ("busy", False)
    watchdog.threshold = 60.0
    await service.until(lambda: pauses_in("nap", watchdog), "it is a pause")
    (pause,) = pauses_in("nap", watchdog)
    assert pause.duration >= nap.seconds
    watchdog.stop()


@scenario
async def threshold_raised_during_a_pause(service: Service) -> None:
    """A threshold raised beyond it makes none of the pause under way."""
    watchdog = service.watchdog()
    watchdog.start()
    nap = Nap(0.5)

    def raise_it() -> bool:
        nap.began.wait()
        patiently(lambda: watchdog.status().samples > 0, "a sample is taken")
        watchdog.threshold = 60.0
        return nap.woke.is_set()

    raised = service.in_thread(raise_it)
    await service.paused(nap.nap)
    assert not await raised
    watchdog.stop()
    assert pauses_in("nap", watchdog) == []


@scenario
async def bad_thresholds_are_refused(service: Service) -> None:
    """What is no finite number above 0 raises ValueError, and the old threshold stays."""
    watchdog = service.watchdog()
    watchdog.start()
    for bad in ("x", 0, -1, math.nan, math.inf, True, None, 10**400):
        with contextlib.suppress(ValueError):
            watchdog.threshold = bad  # type: ignore[assignment]
            raise AssertionError(f"{bad!r} was taken")
        assert watchdog.threshold == THRESHOLD
    await service.assert_sees(watchdog)
    watchdog.stop()


# -- who is told ----------------------------------------------------------------------------------


@scenario
async def observers_are_isolated(service: Service) -> None:
    """Observers that raise are logged, the others are told, and no more once unsubscribed."""
    service.expects_failures = True
    watchdog = service.watchdog()
    told: list[Pause] = []
    again: list[Pause] = []

    def fail(pause: Pause) -> None:
        raise RuntimeError("an observer's own mistake")

    def leave(pause: Pause) -> None:
        raise SystemExit(3)

    unsubscribers = [watchdog.on_pause(each) for each in (fail, leave, told.append, again.append)]
    watchdog.start()
    pause = await service.assert_sees(watchdog)
    await service.until(lambda: pause in again, "the last one is told")
    assert told == again == watchdog.pauses(100)[::-1]
    assert pause in told
    unsubscribers[3]()
    unsubscribers[3]()
    before = list(again)
    await service.assert_sees(watchdog)
    watchdog.stop()
    assert told == watchdog.pauses(100)[::-1]
    assert len(told) > len(before)
    assert again == before
    logged = [e["log_failure"].type for e in service.events if e.get("log_failure")]
    assert logged == [RuntimeError, SystemExit] * len(told), logged


@scenario
async def observer_stops_the_watchdog(service: Service) -> None:
    """An observer may stop the watchdog from the watch thread that calls it."""
    watchdog = service.watchdog()
    watchdog.on_pause(lambda _: watchdog.stop())
    watchdog.start()
    await service.paused(doze)
    await service.until(lambda: not watchdog.running, "it is stopped")
    assert watchdog.stats()["pauses"] >= 1


@scenario
async def pauses_are_logged(service: Service) -> None:
    """Each pause is an event with its fields; beyond the rate they are left out, and counted."""
    watchdog = service.watchdog(0.002)
    watchdog.start()

    def nap_briefly() -> None:
        time.sleep(0.01)

    def events() -> list[dict[str, Any]]:
        return [e for e in service.events if e["log_namespace"] == "txwatchdog.pause"]

    for _ in range(25):
        await service.paused(nap_briefly)
    await service.until(lambda: watchdog.stats()["pauses"] >= 25, "all are recorded")
    assert len(events()) < 25

    def naps() -> list[dict[str, Any]]:
        return [event for event in events() if event.get("function") == "nap_briefly"]

    for _ in range(2000):  # on a loaded machine most may be no function's fault
        if naps():
            break
        await service.paused(nap_briefly)
    watchdog.threshold = 60.0

    def logged() -> int:
        return sum(event["left_out"] + ("pause" in event) for event in events())

    assert {event["log_level"] for event in events()} == {LogLevel.warn}
    first = naps()[0]
    assert first["pause"].duration == first["duration"] > 0.002
    assert first["file"] == __file__
    assert first["line"] == nap_briefly.__code__.co_firstlineno
    assert first["number"] == first["pause"].number
    assert first["via"] is None
    assert "T" in first["started_at"]
    watchdog.threshold = 0.05  # the watch thread wakes more often: it tells of those left out
    await service.until(
        lambda: logged() == watchdog.stats()["pauses"], "those left out are counted"
    )
    watchdog.stop()


# -- the rings ------------------------------------------------------------------------------------


def busy_loop(ring: Any) -> None:
    """Compute, hardly ever in the kernel, until `ring` has a sample, or long enough for any.

    The kernel counts a process's user time by looking who runs at each of its ticks, so on a
    loaded machine a timer of that time may come much later than by any other clock.
    """
    end = time.thread_time() + 4 * THRESHOLD
    give_up = time.monotonic() + 20
    while time.thread_time() < end or not (ring.samples or time.monotonic() > give_up):
        sum(range(10_000))


async def original_method(service: Service, clock: str, *, sees_sleep: bool) -> None:
    """Try the original method by itself with `clock`."""
    watchdog = service.watchdog(rings=("sigalrm",), interval=0.05, clock=clock)
    watchdog.start()
    assert watchdog.status().rings == {"thread": "off: not asked for", "sigalrm": "on"}
    assert "txwatchdog" not in [t.name for t in threading.enumerate()]
    await service.paused(partial(busy_loop, watchdog._original))
    seen = pauses_in("busy_loop", watchdog)
    assert len(seen) == 1, (watchdog.pauses(), watchdog.status())
    assert {sample.ring for sample in seen[0].samples} == {"sigalrm"}
    assert seen[0].duration >= 4 * THRESHOLD
    await service.paused(doze)
    await service.turn()
    assert len(pauses_in("doze", watchdog)) == sees_sleep
    status = watchdog.status()
    assert min(status.wakes, status.samples, status.cpu_seconds) > 0, status
    watchdog.stop()
    service.traces.assert_none()


@scenario
async def original_method_in_real_time(service: Service) -> None:
    """By itself, with the wall clock, SIGALRM sees a busy loop and a sleep."""
    await original_method(service, "real", sees_sleep=True)


@scenario
async def original_method_in_virtual_time(service: Service) -> None:
    """With the process's user time, SIGVTALRM sees a busy loop but no sleep."""
    await original_method(service, "virtual", sees_sleep=False)


@scenario
async def original_method_in_prof_time(service: Service) -> None:
    """With the process's CPU time, SIGPROF sees a busy loop but no sleep."""
    await original_method(service, "prof", sees_sleep=False)


@scenario
async def thread_ring_alone(service: Service) -> None:
    """Without ring 2 the thread sees a pause, and neither signal nor timer is touched."""
    watchdog = service.watchdog(rings=("thread",))
    watchdog.start()
    pause = await service.assert_sees(watchdog)
    assert {sample.ring for sample in pause.samples} == {"thread"}
    assert watchdog.status().rings == {"thread": "on", "sigalrm": "off: not asked for"}
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    watchdog.stop()
    service.traces.assert_none()


@scenario
async def second_reactor_is_left_alone(service: Service) -> None:
    """Another reactor in another thread may pause as it likes."""
    from twisted.internet.selectreactor import SelectReactor

    second = SelectReactor()
    second._registerAsIOThread = False
    napped = threading.Event()

    def nap_elsewhere() -> None:
        time.sleep(4 * THRESHOLD)
        napped.set()

    second.callWhenRunning(nap_elsewhere)
    watchdog = service.watchdog()
    watchdog.start()
    over = service.in_thread(second.run, False)  # without signal handlers
    await service.until(napped.is_set, "the second reactor has paused")
    await service.assert_sees(watchdog)
    assert [p for p in watchdog.pauses() if "nap_elsewhere" in p.traceback] == []
    assert "nap_elsewhere" not in json.dumps(watchdog.stats())
    second.callFromThread(second.stop)
    await over
    watchdog.stop()
    service.traces.assert_none()


@scenario
async def second_reactor_took_the_io_thread(service: Service) -> None:
    """Started after another reactor has said that the I/O thread is its own, it is not misled."""
    from twisted.internet.selectreactor import SelectReactor

    second = SelectReactor()
    over = service.in_thread(second.run, False)  # without signal handlers
    try:
        await service.until(lambda: second.running, "the second reactor runs")
        watchdog = service.watchdog()
        watchdog.start()
        await service.assert_sees(watchdog)
        assert watchdog.status().rings == {"thread": "on", "sigalrm": "on"}
        watchdog.stop()
    finally:
        second.callFromThread(second.stop)
        await over
        threadable.registerAsIOThread()


# -- scenarios that run the reactor themselves ----------------------------------------------------


@main_scenario
def started_before_it_runs(reactor: Any) -> None:
    """Started before the reactor it sees the very first tick, and goes with the reactor."""
    traces = Traces(reactor)
    watchdog = Watchdog(reactor, THRESHOLD)
    for _ in range(3):
        watchdog.stop()
        watchdog.start()
        watchdog.start()
    status = watchdog.status()
    assert status.rings["sigalrm"] == "off: the reactor does not run yet"
    assert status.state == "idle"
    seen: list[dict[str, str]] = []

    def see() -> None:
        if pauses_in("doze", watchdog):
            seen.append(dict(watchdog.status().rings))
            reactor.stop()
        else:
            reactor.callLater(0.005, see)

    reactor.callLater(0, doze)
    reactor.callLater(0, see)
    reactor.run()
    # Nobody stopped the watchdog: it went with the reactor.
    assert not watchdog.running
    assert seen == [{"thread": "on", "sigalrm": "on"}], seen
    assert len(pauses_in("doze", watchdog)) == 1
    left = traces.left
    left.pop("triggers", None)  # the reactor's own are gone, too
    assert left == {}, left
    assert [name for name in triggers_of(reactor) if name.startswith("after")] == []


@main_scenario
def stopped_before_it_runs(reactor: Any) -> None:
    """Started and stopped before the reactor, it never comes."""
    traces = Traces(reactor)
    watchdog = Watchdog(reactor, THRESHOLD)
    watchdog.start()
    watchdog.stop()
    traces.assert_none()

    def look() -> None:
        left = traces.left
        left.pop("triggers", None)  # those that the reactor itself has as it runs
        problems.append(left)
        reactor.stop()

    problems: list[dict[str, object]] = []
    reactor.callLater(0.01, look)
    reactor.run()
    assert problems == [{}], problems


@main_scenario
def in_a_thread_that_is_not_the_main_one(reactor: Any) -> None:
    """A reactor outside the main thread is watched by the thread alone, and ring 2 says why."""
    traces = Traces(reactor)
    watchdog = Watchdog(reactor, THRESHOLD)
    watchdog.start()
    reactor.callLater(0.01, doze)
    runner = threading.Thread(target=reactor.run, args=(False,))
    runner.start()
    patiently(lambda: pauses_in("doze", watchdog), "a pause is seen")
    (pause,) = pauses_in("doze", watchdog)
    assert {sample.ring for sample in pause.samples} == {"thread"}
    rings = watchdog.status().rings
    assert rings["thread"] == "on"
    assert rings["sigalrm"].startswith("off: signals reach the main thread only"), rings
    watchdog.stop()
    watchdog.start()
    patiently(lambda: watchdog.status().rings["thread"] == "on", "it is on again")
    reactor.callFromThread(reactor.callLater, 0, doze)
    patiently(lambda: len(pauses_in("doze", watchdog)) == 2, "another pause is seen")
    reactor.callFromThread(reactor.stop)
    runner.join()
    assert not watchdog.running
    left = traces.left
    left.pop("triggers", None)
    assert left == {}, left


# -- running them ---------------------------------------------------------------------------------


async def run_scenarios(service: Service, scenarios: Iterable[Scenario]) -> None:
    """Run all of them, each telling how it went."""
    for each in scenarios:
        name = each.__name__
        service.begin()
        try:
            await each(service)
            await service.end()
        except BaseException:
            emit("failed", name=name, traceback=traceback.format_exc())
        else:
            emit("passed", name=name)
        finally:
            service.stop_all()
            await service.turn()


def main(reactor_name: str, *names: str) -> None:
    """Run the scenarios called `names`, or after `main` the one that runs the reactor itself."""
    reactor = install_reactor(reactor_name)
    emit("ready")
    if names[0] == "main":
        try:
            MAINS[names[1]](reactor)
        except BaseException:
            emit("failed", name=names[1], traceback=traceback.format_exc())
        else:
            emit("passed", name=names[1])
        return

    run_service(reactor, [SCENARIOS[name] for name in names])


def run_service(reactor: Any, scenarios: Iterable[Scenario]) -> None:
    """Run scenarios on a reactor, to its end."""
    service = Service(reactor)

    def begin() -> None:
        done = ensureDeferred(run_scenarios(service, scenarios))
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    service.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
