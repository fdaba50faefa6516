"""A service ends as it would without a manhole, whoever is in there and whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from manhole_support import PATIENCE, SOURCE, ServiceProcess, Terminal, make_key, make_keys
from support import outcome, patiently

ENDING = Path(__file__).with_name("ending.py")

SECONDS = 15.0
"""A bound against hanging, on a machine of which others have most: 0.2 to 0.5 s were measured, and
1.6 s beside ten busy processes on two cores."""

WAYS = {
    "reactor.stop": (signal.SIGUSR1, 0.0, 7),
    "reactor.crash and sys.exit": (signal.SIGUSR2, 0.0, 7),
    "SIGTERM": (signal.SIGTERM, 0.0, 7),
    "SIGINT": (signal.SIGINT, 0.0, 7),
    # Twisted leaves it as it is: the process ends on the spot.
    "SIGHUP": (signal.SIGHUP, 0.0, -signal.SIGHUP),
    "SIGTERM in a pause": (signal.SIGTERM, 1.0, 7),
    "reactor.stop in a pause": (signal.SIGUSR1, 1.0, 7),
    "SIGHUP in a pause": (signal.SIGHUP, 1000.0, -signal.SIGHUP),
}
"""The signal that is sent, for how long the reactor is paused then, and the exit status."""

SLOW = """
import time
class Slow:
    def __rich__(self):
        print("laying out", flush=True)
        time.sleep(1000)
Slow()
"""


@frozen
class Ended:
    """How a service ended.

    Attributes:
        status: its exit status.
        seconds: from the signal to its end, without what was left of the pause.
        log: what it logged.
    """

    status: int
    seconds: float
    log: str


@contextmanager
def sessions(service: ServiceProcess) -> Iterator[None]:
    """Some that do nothing, wait, look, or hang."""
    terminals = [
        service.terminal(),
        service.terminal(),
        Terminal([*service.command("-tt"), "live"]),
    ]
    commands = [
        ["from twisted.internet.defer import Deferred; print('here'); Deferred()"],
        [f"print('here')\n{SLOW}"],
        [],
    ]
    clients = [
        subprocess.Popen(
            [*service.command("-o", "BatchMode=yes"), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        for terminal in terminals[:2]:
            terminal.expect(">>> ")
        terminals[1].type("import asyncio; await asyncio.sleep(1) or 1\r")
        terminals[2].expect("keys")
        for client in clients[:2]:
            assert client.stdout is not None
            line = client.stdout.readline()
            assert line == b"here\n", line
        yield
        for terminal in terminals:
            assert terminal.expect_end()
        for client in clients:
            client.wait(PATIENCE)
    finally:
        for terminal in terminals:
            terminal.close()
        for client in clients:
            client.kill()
            with client:
                pass


def end(directory: Path, way: str) -> Ended:
    """Run a service with sessions in it, and end it."""
    number, pause, _ = WAYS[way]
    service = ServiceProcess(directory, script=ENDING, unauthenticated_per_address=8)
    try:
        with sessions(service):
            if pause:
                service.nap(pause)
            began = time.monotonic()
            service.process.send_signal(number)
            status = service.process.wait(PATIENCE)
            waits = 0.0 if number == signal.SIGHUP else pause
            seconds = time.monotonic() - began - waits
        return Ended(status, seconds, service.log())
    finally:
        service.process.kill()
        service.close()


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Ended]]]:
    """How each of them went."""
    with ThreadPoolExecutor(4) as pool:
        yield {way: pool.submit(end, tmp_path_factory.mktemp("ends"), way) for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_end_with_open_sessions(ended: Mapping[str, Future[Ended]], way: str) -> None:
    """It ends soon, with the status that it has by itself, and no traceback; so do the clients."""
    found = outcome(ended[way])
    print(f"{way}: {found.seconds:.2f} s")
    assert found.status == WAYS[way][2]
    assert found.seconds < SECONDS
    assert "Traceback" not in found.log, found.log
    assert "Unhandled" not in found.log, found.log


TAC = """
import os
from twisted.application.service import Application, Service
from twisted.internet import reactor
from txwatchdog import Watchdog
from txwatchdog.manhole import Limits, Manhole

application = Application("served")
watchdog = Watchdog(reactor, 0.2, blackbox="box")
# As a file that is read before twistd forks may do.
watchdog.start()
limits = Limits(unauthenticated_per_address=8)
manhole = Manhole(watchdog, "tcp:0:interface=127.0.0.1", keys={keys!r}, limits=limits)
manhole.start()


class Announces(Service):
    def startService(self):
        with open("port.new", "w") as file:
            file.write(str(manhole.address.port))
        os.rename("port.new", "port")


Announces().setServiceParent(application)
"""


class Twistd(ServiceProcess):
    """`twistd -y`, as a daemon or not; its pid and port are in files."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.key = make_key(directory, "id")
        self.keys = make_keys(directory, self.key)
        (directory / "served.tac").write_text(TAC.format(keys=str(self.keys)))
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
                *("--pidfile=pid", "--logfile=log", "-y", "served.tac", *options),
            ],
            cwd=directory,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        patiently((directory / "port").exists, "it runs")
        self.port = int((directory / "port").read_text())
        self.pid = int((directory / "pid").read_text())

    def log(self) -> str:
        return (self.directory / "log").read_text()


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "in the foreground"])
def test_twistd(tmp_path: Path, daemon: bool) -> None:
    """It daemonises with both started before, answers, and ends by SIGTERM with its pidfile."""
    service = Twistd(tmp_path, *([] if daemon else ["--nodaemon"]))
    try:
        if daemon:
            assert service.process.wait(PATIENCE) == 0
        with sessions(service):
            answer = service.ssh("watchdog.status()")
            assert "ring        thread: on\n" in answer.stdout, answer
            assert "ring        sigalrm: on\n" in answer.stdout, answer
            assert "ring        blackbox: on" in answer.stdout, answer
            began = time.monotonic()
            os.kill(service.pid, signal.SIGTERM)
            if not daemon:
                # What twistd itself makes of SIGTERM: it ends by the signal.
                assert service.process.wait(PATIENCE) == -signal.SIGTERM
            patiently(lambda: not (tmp_path / "pid").exists(), "its pidfile is gone")
            patiently(lambda: not Path(f"/proc/{service.pid}").exists(), "it is gone")
            seconds = time.monotonic() - began
        print(f"{seconds:.2f} s")
        assert seconds < SECONDS
        assert "Traceback" not in service.log(), service.log()
        assert "Unhandled" not in service.log(), service.log()
    finally:
        service.process.kill()
        with service.process:
            pass
