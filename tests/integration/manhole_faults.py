"""What goes wrong in a service with a manhole; and whatever `faults.py` has.

Run as `python manhole_faults.py DIRECTORY NAME ...`: all of these one after another on one running
reactor, each telling `passed` or `failed`. DIRECTORY holds a key `id`, and `keys` that let it in.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from faults import (
    FAULTS,
    assert_sees,
    assert_well,
    fault,
    logged,
    no_descriptor_left,
    no_thread_starts,
    observing,
)
from lifecycle import Service, doze, run_service
from support import emit, install_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import LogLevel

from txwatchdog import Watchdog
from txwatchdog.errors import ListenError
from txwatchdog.manhole import Manhole
from txwatchdog.metrics import MetricsServer

__all__ = ["FAULTS"]

ADVICE = "too many open files; the process has no descriptor left: raise its limit (ulimit -n)"


def manhole_of(service: Service) -> Manhole:
    """A manhole of the service's, not started."""
    return Manhole(
        Watchdog(service.reactor),
        endpoint="tcp:0:interface=127.0.0.1",
        keys="keys",
        namespace={"Deferred": Deferred},
    )


def sessions_of(manhole: Manhole) -> int:
    """How many channels are open in it, of those who have logged in."""
    connections = list(cast(Any, manhole)._server._connections)
    services = [each.carried.service for each in connections if each.carried is not None]
    return sum(len(getattr(service, "channels", ())) for service in services)


def ssh_begins(manhole: Manhole, command: str | None) -> subprocess.Popen[bytes]:
    """An ssh client; without a command it reads a script from standard input."""
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
            *("ssh", "-F", "/dev/null", "-i", "id", "-p", str(address.port)),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            *("127.0.0.1", *([command] if command else [])),
        ],
        stdin=subprocess.DEVNULL if command else subprocess.PIPE,
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


def has_ended(client: subprocess.Popen[bytes]) -> bool:
    """Whether a client has."""
    return client.poll() is not None


async def assert_answers(service: Service, manhole: Manhole) -> None:
    """A login works, and a statement runs in the reactor's thread."""
    answer = await service.in_thread(ssh, manhole, "import threading; threading.active_count() > 0")
    assert answer == ("True\n", "", 0), answer


# -- limits of the process ------------------------------------------------------------------------


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
    (text,) = [text for text in said if "without the manhole" in text]
    assert "can't start new thread; the process has no thread left: raise its limit" in text, text
    await service.paused(doze)
    watchdog.stop()
    assert gc.callbacks == collectors
    manhole.start()
    watchdog.start()
    await assert_well(service, watchdog)
    await assert_answers(service, manhole)
    await manhole.stop()
    watchdog.stop()


@fault
async def no_thread_for_a_statement(service: Service) -> None:
    """What would take one is refused, with what to do; what takes none works; so all goes on."""
    manhole = manhole_of(service)
    manhole.start()
    await service.turn()
    advice = b"can't start new thread; the process has no thread left: raise its limit (ulimit -u)"
    with no_thread_starts():
        for command, status, said in (
            ("status", 0, b"threshold"),
            ("top --json", 0, b"offenders"),
            ("threads", 1, advice),
            ("watchdog.top()", 1, advice),
            ("threads()", 1, advice),
            ("str(watchdog.status())", 0, b"watchdog"),
            ("6 * 7", 0, b"42"),
        ):
            with ssh_begins(manhole, command) as client:
                await service.until(partial(has_ended, client), "it is answered")
                output, errors = client.communicate()
            assert client.returncode == status, (command, output, errors)
            assert said in (errors if status else output), (command, output, errors)
    await manhole.stop()


@fault
async def no_descriptor_from_the_start(service: Service) -> None:
    """Started at the limit of descriptors the watchdog sees pauses, if not always why."""
    service.expects_failures = True
    watchdog, manhole = service.watchdog(blackbox="box"), manhole_of(service)
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
    assert "too many open files; the process has no descriptor left" in problem, problem
    assert manhole.address is None
    watchdog.stop()
    manhole.start()
    await assert_answers(service, manhole)
    await manhole.stop()


@fault
async def no_descriptor_for_a_loop(service: Service) -> None:
    """With too few left for a loop, or for Conch's files, all that is said is what to do."""
    service.expects_failures = True
    metrics = MetricsServer(service.watchdog(), "tcp:0")
    for served, whose in ((manhole_of(service), "the manhole"), (metrics, "the metrics server")):
        for few in (1, 2):
            with no_descriptor_left(but=few):
                served.start()
                gc.collect()
            assert served.address is None
            (said,) = logged(service, LogLevel.warn)
            assert said.endswith(f": {ADVICE}; the service goes on without {whose} "), said
            service.events.clear()
        await maybeDeferred(served.stop)


@fault
async def no_descriptor_to_import_by(service: Service) -> None:
    """With none left to read Conch by, all that is said is what to do; there or in the thread."""
    service.expects_failures = True
    manhole = manhole_of(service)
    manhole.start()  # all is imported
    await service.turn()
    await assert_answers(service, manhole)
    await manhole.stop()
    known = {name: sys.modules.pop(f"txwatchdog.manhole.{name}") for name in ("keyring", "serving")}
    problem = ""
    with no_descriptor_left():
        try:
            manhole.start()
        except ListenError as error:
            problem = str(error)
    assert problem.endswith(ADVICE), problem
    assert manhole.address is None
    service.events.clear()
    with no_descriptor_left(but=3):  # as many as a loop and its socket take
        manhole.start()
        await service.until(lambda: manhole.address is None, "it has given up")
    (said,) = logged(service)
    assert said.endswith(f": {ADVICE}; the service goes on without the manhole "), said
    for name, module in known.items():
        sys.modules[f"txwatchdog.manhole.{name}"] = module
    await manhole.stop()


@fault
async def no_descriptor_while_it_runs(service: Service) -> None:
    """At the limit nobody gets in, who is in goes on, and afterwards all is as it was."""
    watchdog, manhole = service.watchdog(), manhole_of(service)
    watchdog.start()
    manhole.start()
    await service.turn()
    # A script from standard input: it runs at its end.
    script = ssh_begins(manhole, None)
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


@fault
async def no_room_on_the_disk(service: Service) -> None:
    """A black box that can't be written any more says so once, and pauses are seen as ever."""
    service.expects_failures = True
    watchdog = service.watchdog(blackbox="box")
    watchdog.start()

    def state() -> str:
        return watchdog.status().rings["blackbox"]

    await service.until(lambda: state().startswith("on"), "the box is on")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        for _ in range(2):
            await assert_sees(service, watchdog)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "a write to it failed: File too large" in state(), state()
    (said,) = [text for text in logged(service) if "black box" in text]
    assert "Traceback" not in said
    watchdog.stop()


# -- the manhole itself --------------------------------------------------------------------------


@fault
async def manhole_thread_dies(service: Service) -> None:
    """It says so once, has no address any more, is stopped at once, and can be started again."""
    service.expects_failures = True
    manhole = manhole_of(service)
    for stops in (True, False):
        manhole.start()
        await service.turn()
        script = ssh_begins(manhole, None)
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
            await manhole.stop()
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
    script = ssh_begins(manhole, None)
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


def move(before: str, after: str) -> None:
    """Give a directory another name."""
    Path(before).rename(after)


@fault
async def keys_directory_vanishes(service: Service) -> None:
    """Nobody new gets in, which is logged once; who is in goes on; put back, all is well."""
    service.expects_failures = True
    manhole = manhole_of(service)
    manhole.start()
    await service.turn()
    script = ssh_begins(manhole, None)
    await service.until(lambda: sessions_of(manhole), "somebody is in")
    move("keys", "away")
    try:
        for _ in range(2):
            _, errors, status = await service.in_thread(ssh, manhole, "1")
            assert status == 255, errors
            assert "Permission denied (publickey)" in errors, errors
        output, errors = await service.in_thread(script.communicate, b"print(6 * 7)")
        assert (output, errors) == (b"42\n", b"")
    finally:
        move("away", "keys")
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


def be_a_child(
    watchdog: Watchdog, manhole: Manhole, tell: int, until: int, end: Callable[[int], object]
) -> None:
    """Tell what there is, and end when the parent wants it. Never returns."""
    try:
        status = watchdog.status()
        lines = [
            ",".join(sorted(thread.name for thread in threading.enumerate())),
            status.rings["thread"],
            status.rings["blackbox"],
            str(signal.getitimer(signal.ITIMER_REAL)[0]),
            str(manhole.address),
            str(sockets()),
        ]
        os.write(tell, "\n".join(lines).encode())
        os.read(until, 1)
        end(0)
    finally:
        os._exit(0)  # what `sys.exit` raises must not get into the reactor


async def live_beside_a_child(service: Service, end: Callable[[int], object]) -> None:
    """A forked child has neither rings nor manhole, and its life and end are not the parent's."""
    watchdog, manhole = service.watchdog(blackbox="box"), manhole_of(service)
    # Beside these the child may have the pair by which the manhole's loop is woken.
    allowed = sockets() + 2
    watchdog.start()
    manhole.start()
    address: Any = manhole.address
    await service.turn()
    script = ssh_begins(manhole, None)
    await service.until(lambda: sessions_of(manhole), "somebody is in")
    await service.until(
        lambda: watchdog.status().rings["blackbox"].startswith("on"), "the box is on"
    )
    told, tell = os.pipe()
    until, go_on = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go_on)
        be_a_child(watchdog, manhole, tell, until, end)
    os.close(tell)
    os.close(until)
    lines = (await service.in_thread(os.read, told, 65536)).decode().split("\n")
    off = ["MainThread", "off: dead", "off: the black box is the parent process's", "0.0", "None"]
    assert lines == [*off, str(allowed)], lines
    await assert_sees(service, watchdog)
    await manhole.stop()
    # The child lives, and holds neither the client nor the port.
    await service.until(lambda: script.poll() is not None, "the client is told of the end")
    cast(Any, manhole)._endpoint = f"tcp:{address.port}:interface=127.0.0.1"
    manhole.start()
    await service.turn()
    await assert_answers(service, manhole)
    os.close(go_on)
    os.close(told)
    assert await service.in_thread(os.waitpid, pid, 0) == (pid, 0)
    with script:
        pass
    rings = watchdog.status().rings
    assert (rings["thread"], rings["sigalrm"]) == ("on", "on"), rings
    assert rings["blackbox"].endswith("/box"), rings
    await assert_sees(service, watchdog)
    await assert_answers(service, manhole)
    await manhole.stop()
    watchdog.stop()


@fault
async def fork_and_os_exit(service: Service) -> None:
    """A child that ends without ceremony."""
    await live_beside_a_child(service, os._exit)


@fault
async def fork_and_sys_exit(service: Service) -> None:
    """A child that ends with all that Python does then."""
    await live_beside_a_child(service, sys.exit)


def main(directory: str, *names: str) -> None:
    """Run the faults called `names`."""
    os.chdir(directory)
    reactor = install_reactor("epoll")
    emit("ready")
    run_service(reactor, [FAULTS[name] for name in names])


if __name__ == "__main__":
    main(*sys.argv[1:])
