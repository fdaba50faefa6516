"""Services in which something goes wrong that is none of the watchdog's or the manhole's doing.

Run as `python faults.py DIRECTORY NAME ...`: all of these one after another on one running
reactor, each telling `passed` or `failed`. DIRECTORY holds a key `id` and `keys`, which know it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from lifecycle import (
    THRESHOLD,
    Nap,
    Scenario,
    Service,
    doze,
    run_service,
)
from support import emit, install_reactor, patiently
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher

from txwatchdog import Pause, Watchdog
from txwatchdog.blame import blame_samples
from txwatchdog.manhole import Manhole

FAULTS: dict[str, Scenario] = {}
DIRECTORY = Path(sys.argv[1]) if __name__ == "__main__" else Path()


def fault(function: Scenario) -> Scenario:
    """Enter a fault."""
    FAULTS[function.__name__] = function
    return function


def logged(service: Service, level: LogLevel = LogLevel.error) -> list[str]:
    """What the log says that is so bad, or worse; of failures, their text."""
    texts = [e for e in service.events if e["log_level"] >= level]
    return [f"{e['log_format']} {e.get('log_failure', '')}" for e in texts]


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
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        watch: Any = watchdog._watch
        watch.error = None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind)
        )
        await service.until(lambda watch=watch: watch.error, f"it has had {kind}")
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


@fault
async def no_thread_to_be_had(service: Service) -> None:
    """Neither watchdog nor manhole get a thread: they say so, and the service hears nothing."""
    service.expects_failures = True
    collectors = list(gc.callbacks)
    watchdog, manhole = service.watchdog(), manhole_of(service)
    with no_thread_starts():
        watchdog.start()
        manhole.start()
        await service.turn()
    state = watchdog.status().rings["thread"]
    assert state == "off: can't start new thread", state
    assert manhole.address is None
    said = logged(service)
    assert [text.split(":")[0] for text in said if "watch thread" in text], said
    assert [text for text in said if text.startswith("the manhole cannot begin")], said
    await service.paused(doze)
    watchdog.stop()
    assert gc.callbacks == collectors
    manhole.start()
    watchdog.start()
    await assert_well(service, watchdog)
    await assert_answers(service, manhole)
    await manhole.stop()
    watchdog.stop()


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
    kinds: list[type[BaseException]] = [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError]
    for kind in kinds:

        def misbehave(event: dict[str, Any], kind: type[BaseException] = kind) -> None:
            if threading.current_thread().name == "txwatchdog":
                raise kind

        with observing(misbehave):
            pause = await assert_sees(service, watchdog)
            await service.until(lambda pause=pause: pause in told, "observers of pauses are told")

    def log_again(event: dict[str, Any]) -> None:
        if threading.current_thread().name == "txwatchdog":
            watchdog._log.pause(watchdog.pauses(1)[0])

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
def no_descriptor_left() -> Iterator[None]:
    """At the process's limit of descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@fault
async def no_descriptor_from_the_start(service: Service) -> None:
    """Started at the limit of descriptors the watchdog sees pauses, if not always why."""
    service.expects_failures = True
    box = DIRECTORY / "box"
    watchdog, manhole = service.watchdog(blackbox=box), manhole_of(service)
    with no_descriptor_left():
        watchdog.start()
        try:
            manhole.start()
        except Exception as error:
            problem = str(error)
        else:
            problem = "it could be started"
        await service.until(lambda: watchdog.status().rings["thread"] == "on", "it is on")
        await assert_sees(service, watchdog)
        assert "Too many open files" in watchdog.status().rings["blackbox"]
    assert "too many open files" in problem.lower(), problem
    assert manhole.address is None
    watchdog.stop()
    manhole.start()
    await assert_answers(service, manhole)
    await manhole.stop()


@fault
async def no_descriptor_while_it_runs(service: Service) -> None:
    """At the limit nobody gets in, who is in goes on, and afterwards all is as it was."""
    watchdog, manhole = service.watchdog(), manhole_of(service)
    watchdog.start()
    manhole.start()
    await service.turn()
    # A script from standard input: it runs at its end.
    script = ssh_begins(manhole, None, stdin=subprocess.PIPE)
    await service.until(lambda: sessions_of(manhole), "somebody is in")
    late = ssh_begins(manhole, "6 * 7")
    # The client has its descriptors; the next one is ours.
    with no_descriptor_left():
        await assert_sees(service, watchdog)
        assert script.stdin is not None
        script.stdin.write(b"print(6 * 7)\n")
        script.stdin.close()
        await service.until(lambda: script.poll() is not None, "the script has ended")
        assert script.stdout is not None
        assert script.stdout.read() == b"42\n"
    await service.until(lambda: late.poll() is not None, "the other one is let in afterwards")
    await assert_answers(service, manhole)
    await manhole.stop()
    for process in (script, late):
        with process:
            pass
    await assert_sees(service, watchdog)
    watchdog.stop()
    problems = [text for text in logged(service, LogLevel.info) if "Traceback" in text]
    assert problems == []


# -- the manhole ----------------------------------------------------------------------------------


def manhole_of(service: Service) -> Manhole:
    """A manhole of the service's, not started."""
    return Manhole(
        Watchdog(service.reactor),
        endpoint="tcp:0:interface=127.0.0.1",
        keys=DIRECTORY / "keys",
        namespace={"Deferred": Deferred},
    )


def sessions_of(manhole: Manhole) -> int:
    """How many channels are open in it, of those who have logged in."""
    connections = list(cast(Any, manhole)._server._connections)
    services = [each.carried.service for each in connections if each.carried is not None]
    return sum(len(getattr(service, "channels", ())) for service in services)


def ssh_begins(
    manhole: Manhole, command: str | None, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """An ssh client."""
    address: Any = manhole.address
    options = {
        "UserKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "no",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
    }
    return subprocess.Popen(
        [
            *("ssh", "-F", "/dev/null", "-i", str(DIRECTORY / "id"), "-p", str(address.port)),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            *("127.0.0.1", *([command] if command else [])),
        ],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ssh(manhole: Manhole, command: str) -> tuple[str, str, int]:
    """Run ssh to its end: what it wrote on stdout and stderr, and its status. Not here: it waits
    for the reactor.
    """
    with ssh_begins(manhole, command) as process:
        output, errors = process.communicate(timeout=60)
    return output.decode(), errors.decode(), process.returncode


async def assert_answers(service: Service, manhole: Manhole) -> None:
    """A login works, and a statement runs in the reactor's thread."""
    answer = await service.in_thread(ssh, manhole, "import threading; threading.active_count() > 0")
    assert answer == ("True\n", "", 0), answer


@fault
async def manhole_thread_dies(service: Service) -> None:
    """It says so once, has no address any more, is stopped at once, and can be started again."""
    service.expects_failures = True
    manhole = manhole_of(service)
    for stops in (True, False):
        manhole.start()
        await service.turn()
        script = ssh_begins(manhole, None, stdin=subprocess.PIPE)
        await service.until(lambda: sessions_of(manhole), "somebody is in")
        loop = cast(Any, manhole)._server._loop
        loop.call_soon_threadsafe(sys.exit, 3)
        await service.until(lambda: manhole.address is None, "it is dead")
        with script:
            script.communicate(timeout=60)
        (said,) = logged(service)
        assert said.startswith("the manhole has failed; the service goes on without it"), said
        service.events.clear()
        if stops:
            assert manhole.stop().called
    manhole.start()
    await service.turn()
    await assert_answers(service, manhole)
    await manhole.stop()


@fault
async def manhole_loop_raises(service: Service) -> None:
    """What a callback of its loop raises is logged in a line, and the sessions go on."""
    manhole = manhole_of(service)
    manhole.start()
    await service.turn()
    script = ssh_begins(manhole, None, stdin=subprocess.PIPE)
    await service.until(lambda: sessions_of(manhole), "somebody is in")

    def fail() -> None:
        raise ValueError("not our fault")

    def exit_there(event: dict[str, Any]) -> None:
        if threading.current_thread().name == "txwatchdog-manhole":
            raise SystemExit

    loop = cast(Any, manhole)._server._loop
    with observing(exit_there):
        loop.call_soon_threadsafe(fail)
        await service.until(lambda: logged(service, LogLevel.warn), "it is said")
        await service.in_thread(script.communicate, b"print(6 * 7)")
    assert script.returncode == 0
    await assert_answers(service, manhole)
    assert len(logged(service, LogLevel.warn)) == 1
    await manhole.stop()


@fault
async def keys_directory_vanishes(service: Service) -> None:
    """Nobody new gets in, which is logged once; who is in goes on; put back, all is well."""
    service.expects_failures = True
    manhole = manhole_of(service)
    manhole.start()
    await service.turn()
    script = ssh_begins(manhole, None, stdin=subprocess.PIPE)
    await service.until(lambda: sessions_of(manhole), "somebody is in")
    keys, away = DIRECTORY / "keys", DIRECTORY / "away"
    keys.rename(away)
    try:
        for _ in range(2):
            _, errors, status = await service.in_thread(ssh, manhole, "1")
            assert status == 255, errors
            assert "Permission denied (publickey)" in errors, errors
        output, errors = await service.in_thread(script.communicate, b"print(6 * 7)")
        assert (output, errors) == (b"42\n", b"")
    finally:
        away.rename(keys)
    await assert_answers(service, manhole)
    (said,) = [text for text in logged(service, LogLevel.warn) if "nobody can log in" in text]
    assert "Traceback" not in said
    await manhole.stop()


# -- a child --------------------------------------------------------------------------------------


def sockets() -> int:
    """How many sockets this process has."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(each))  # noqa: PTH115 - a socket is no path
    return sum(link.startswith("socket:") for link in links)


@fault
async def fork(service: Service) -> None:
    """A forked child has neither rings nor manhole, and its life and end are not the parent's."""
    for end in (os._exit, sys.exit):
        watchdog, manhole = service.watchdog(blackbox=DIRECTORY / "box"), manhole_of(service)
        watchdog.start()
        before = sockets()
        manhole.start()
        address: Any = manhole.address
        await service.turn()
        script = ssh_begins(manhole, None, stdin=subprocess.PIPE)
        await service.until(lambda: sessions_of(manhole), "somebody is in")
        await service.until(
            lambda: watchdog.status().rings["blackbox"].startswith("on"), "the box is on"
        )
        told, telling = os.pipe()
        held, holding = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(holding)
            status = watchdog.status()
            lines = [
                ",".join(sorted(thread.name for thread in threading.enumerate())),
                status.rings["thread"],
                status.rings["blackbox"],
                str(signal.getitimer(signal.ITIMER_REAL)[0]),
                str(manhole.address),
                # The loop's own pair of sockets stays, which disturbs nobody.
                str(sockets() - before - 2),
            ]
            os.write(telling, "\n".join(lines).encode())
            os.read(held, 1)  # until the parent has done with the manhole
            signal.alarm(0)
            try:
                end(0)
            finally:
                os._exit(0)  # what sys.exit raised must not get into the reactor
        os.close(telling)
        os.close(held)
        lines = (await service.in_thread(os.read, told, 65536)).decode().split("\n")
        assert lines == [
            "MainThread",
            "off: dead",
            "off: the black box is the parent process's",
            "0.0",
            "None",
            "0",
        ], lines
        await assert_sees(service, watchdog)
        await manhole.stop()
        # The child lives, and holds neither the client nor the port.
        await service.until(lambda: script.poll() is not None, "the client is told of the end")
        cast(Any, manhole)._endpoint = f"tcp:{address.port}:interface=127.0.0.1"
        manhole.start()
        await service.turn()
        await assert_answers(service, manhole)
        os.close(holding)
        os.close(told)
        assert await service.in_thread(os.waitpid, pid, 0) == (pid, 0)
        with script:
            pass
        assert watchdog.status().rings == {
            "thread": "on",
            "sigalrm": "on",
            "blackbox": f"on, {DIRECTORY / 'box'}",
        }
        await assert_sees(service, watchdog)
        await assert_answers(service, manhole)
        await manhole.stop()
        watchdog.stop()


def main(*names: str) -> None:
    """Run the faults called `names`."""
    reactor = install_reactor("epoll")
    emit("ready")
    run_service(reactor, [FAULTS[name] for name in names])


if __name__ == "__main__":
    main(*sys.argv[2:])
