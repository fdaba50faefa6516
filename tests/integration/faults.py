"""What goes wrong in a service, or is done to it, and is none of its watchdog's doing.

`manhole_faults.py` runs them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from lifecycle import (
    THRESHOLD,
    Scenario,
    Service,
    doze,
)
from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent, globalLogPublisher

from txwatchdog import Pause, Watchdog
from txwatchdog.blame import blame_samples

FAULTS: dict[str, Scenario] = {}


def fault(function: Scenario) -> Scenario:
    """Enter a fault."""
    FAULTS[function.__name__] = function
    return function


def logged(service: Service, level: LogLevel = LogLevel.error) -> list[str]:
    """What the log says that is so bad, or worse; of failures, their text."""
    texts = [e for e in service.events if e["log_level"] >= level]
    return [f"{formatEvent(e)} {e.get('log_failure', '')}" for e in texts]


def pauses_at(function: str, watchdog: Watchdog) -> list[Pause]:
    """The pauses that were sampled in `function`, newest first, whatever they are blamed on."""
    found = ((blame_samples(p.samples)[0].offender, p) for p in watchdog.pauses(100))
    return [pause for offender, pause in found if offender and offender.function == function]


async def assert_sees(service: Service, watchdog: Watchdog) -> Pause:
    """It sees a pause, in the right function."""
    before = len(pauses_at("doze", watchdog))
    await service.paused(doze)
    await service.until(lambda: len(pauses_at("doze", watchdog)) > before, "a pause is seen")
    return pauses_at("doze", watchdog)[0]


async def assert_well(service: Service, watchdog: Watchdog) -> None:
    """It looks, with both rings, and sees a pause."""
    await service.until(
        lambda: watchdog.status().rings == {"thread": "on", "sigalrm": "on"}, "both rings are on"
    )
    await assert_sees(service, watchdog)


# -- the watch thread -----------------------------------------------------------------------------


class BrokenDetector:
    """Fails for so often, and is a detector like any other then."""

    def __init__(self, detector: Any, problems: list[BaseException]) -> None:
        self._detector = detector
        self._problems = problems

    def look(self, now_ns: int, busy_since_ns: int) -> object:
        if self._problems:
            raise self._problems.pop()
        return self._detector.look(now_ns, busy_since_ns)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)


@fault
async def watch_thread_stumbles(service: Service) -> None:
    """Whatever its body raises is logged once and shown by status(), and it looks again."""
    service.expects_failures = True
    watchdog = service.watchdog()
    watchdog.start()
    watch: Any = watchdog._watch
    problems = [GeneratorExit(), SystemExit(3), KeyboardInterrupt(), MemoryError("no room")]
    watch._detector = BrokenDetector(watch._detector, problems)
    while problems:
        watch.wake()
        await service.turn()
    await assert_well(service, watchdog)
    error = watchdog.status().error
    assert error == "watch thread: GeneratorExit()", error
    assert "error       watch thread" in str(watchdog.status())
    (text,) = logged(service)
    assert text.startswith("the watch thread stumbled, and goes on"), text
    assert "MemoryError'>: no room" in text, text
    watchdog.stop()


@fault
async def exceptions_set_in_the_watch_thread(service: Service) -> None:
    """What ends any other thread, an exception that is set from outside, does not end it."""
    service.expects_failures = True
    watchdog = service.watchdog()
    watchdog.start()
    (thread,) = [each for each in threading.enumerate() if each.name == "txwatchdog"]
    watch: Any = watchdog._watch
    # From then on it sleeps nearly always; what met it as it opens a file would leave that open.
    await service.until(lambda: watch.wakes, "it has begun")
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        watch.error = None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind)
        )
        await service.until(lambda: watch.error, f"it has had {kind}")
    await assert_well(service, watchdog)
    assert thread.is_alive()
    watchdog.stop()


@fault
async def watch_thread_dies(service: Service) -> None:
    """Should it die all the same, status() says so, nothing else minds, and a new start helps."""
    service.expects_failures = True
    watchdog = service.watchdog()
    watchdog.start()
    watch: Any = watchdog._watch

    def die(call: object) -> None:
        raise SystemExit

    watch._guard = die
    watch.wake()
    await service.until(
        lambda: watchdog.status().rings["thread"] == "off: dead", "it is known to be dead"
    )
    await service.paused(doze)
    assert "ring        thread: off: dead" in str(watchdog.status())
    watchdog.stop()
    watchdog.start()
    await assert_well(service, watchdog)
    watchdog.stop()


@contextlib.contextmanager
def no_thread_starts() -> Iterator[None]:
    """No room for the stack of another thread: as at a process's limit of threads."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


# -- those who are told ---------------------------------------------------------------------------


@contextlib.contextmanager
def observing(observer: object) -> Iterator[None]:
    """With a further observer of the log."""
    globalLogPublisher.addObserver(cast(ILogObserver, observer))
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, observer))


@fault
async def log_observers_misbehave(service: Service) -> None:
    """Log observers that raise anything, or log in turn, keep nobody from seeing pauses."""
    service.expects_failures = True
    watchdog = service.watchdog()
    told: list[Pause] = []
    watchdog.on_pause(told.append)
    watchdog.start()
    raised: list[type[BaseException]] = [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError]

    def misbehave(event: dict[str, Any]) -> None:
        if threading.current_thread().name == "txwatchdog":
            raise raised[0]

    while raised:
        with observing(misbehave):
            pause = await assert_sees(service, watchdog)
            await service.until(partial(told.__contains__, pause), "observers of pauses are told")
            raised.pop(0)

    def log_again(event: dict[str, Any]) -> None:
        if threading.current_thread().name == "txwatchdog":
            Logger().warn("somebody logged")

    with observing(log_again):
        pause = await assert_sees(service, watchdog)
        await service.until(lambda: pause in told, "observers of pauses are told")
    await assert_well(service, watchdog)
    watchdog.stop()


@fault
async def observer_hangs(service: Service) -> None:
    """An observer that does not return delays what is told of later pauses, and loses none."""
    watchdog = service.watchdog()
    hangs, go_on = threading.Event(), threading.Event()
    told: list[Pause] = []

    def hang(pause: Pause) -> None:
        hangs.set()
        go_on.wait()

    watchdog.on_pause(hang)
    watchdog.on_pause(told.append)
    watchdog.start()
    await service.paused(doze)
    await service.until(hangs.is_set, "the first one hangs")
    for _ in range(3):
        began = time.monotonic()
        await service.paused(doze)
        assert time.monotonic() - began < 10 * THRESHOLD
    go_on.set()
    await service.until(lambda: len(pauses_at("doze", watchdog)) == 4, "all four are recorded")
    await service.until(lambda: len(told) >= 4, "the other one is told of all")
    assert watchdog.status().lost == 0
    # The alarm stood in for the thread that could not look.
    late = pauses_at("doze", watchdog)[:3]
    assert {sample.ring for pause in late for sample in pause.samples} == {"sigalrm"}, late
    watchdog.stop()


@fault
async def observer_hangs_at_the_end(service: Service) -> None:
    """Stopping does not wait for an observer that hangs for more than a second."""
    watchdog = service.watchdog()
    hangs, go_on = threading.Event(), threading.Event()

    def hang(pause: Pause) -> None:
        hangs.set()
        go_on.wait()

    watchdog.on_pause(hang)
    watchdog.start()
    await service.paused(doze)
    await service.until(hangs.is_set, "it hangs")
    began = time.monotonic()
    watchdog.stop()
    assert time.monotonic() - began < 10
    go_on.set()


# -- the machine ----------------------------------------------------------------------------------


def compute() -> None:
    """A loop in Python, which gives the GIL up only if it is told to."""
    end = time.monotonic() + 3 * THRESHOLD
    while time.monotonic() < end:
        pass


@fault
async def huge_switch_interval(service: Service) -> None:
    """Threads that wait a minute for the GIL: the alarm samples in the thread's stead."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60.0)
    try:
        watchdog = service.watchdog()
        watchdog.start()
        await service.paused(compute)
        await service.until(lambda: pauses_at("compute", watchdog), "the pause is seen")
        (pause,) = pauses_at("compute", watchdog)
        assert {sample.ring for sample in pause.samples} == {"sigalrm"}, pause.samples
        assert pause.duration >= 3 * THRESHOLD
        assert pause.cause in {"cpu", "starved"}, pause
        watchdog.stop()
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def no_descriptor_left(but: int = 0) -> Iterator[None]:
    """At the process's limit of descriptors, or so many before it."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = [os.dup(0) for _ in range(but + 1)]
    for each in lowest:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest[-1], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
