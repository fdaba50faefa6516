"""What goes over the wire, and what does not: the real clients, and hostile ones."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hostile import STAGES, attack, connect
from manhole_support import PATIENCE, ServiceProcess
from support import patiently
from twisted.conch.ssh.keys import Key

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = Path(__file__).with_name("other_clients.py")
STREAMS = 300  # hostile ones; hostile.py sends as many as one likes
HALF_OPEN = 1000


def _served(directory: Path, **limits: Any) -> Iterator[ServiceProcess]:
    process = ServiceProcess(directory, **limits)
    yield process
    process.close_well()
    assert "destroyed" not in process.log()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with the default limits."""
    yield from _served(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that has little patience."""
    limits = {"login_grace": 4, "idle": 2.5, "keep_alive": None}
    yield from _served(tmp_path_factory.mktemp("strict"), **limits)


def _verbose(service: ServiceProcess, command: str, *options: str) -> tuple[int, str, str]:
    result = service.ssh(command, options=("-o", "LogLevel=DEBUG3", "-vvv", *options))
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("by", ["client", "server"])
def test_openssh_is_strict_and_has_new_keys(service: ServiceProcess, by: str) -> None:
    """OpenSSH agrees to strict key exchange, and reads on whoever asks for new keys."""
    options = ("-o", "RekeyLimit=500K") if by == "client" else ()
    transport = "from txwatchdog.manhole.ssh import ServerTransport as transport"
    if by == "server":
        service.ssh(f"{transport}; transport.rekey_after = 500_000")
    status, stdout, stderr = _verbose(service, "print('x' * 3_000_000)", *options)
    service.ssh(f"{transport}; transport.rekey_after = 1 << 30")
    assert (status, len(stdout)) == (0, 3_000_001)
    assert "will use strict KEX ordering" in stderr
    assert stderr.count("resetting read seqnr") >= 2
    assert stderr.count("resetting send seqnr") >= 2


@pytest.mark.parametrize("client", ["paramiko", "asyncssh"])
def test_other_clients_are_strict_and_have_new_keys(service: ServiceProcess, client: str) -> None:
    """Paramiko and asyncssh agree to strict key exchange, and to new keys."""
    result = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", str(CLIENTS), client),
            *(str(service.port), str(service.key), "print('x' * 1_000_000)"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "output": 1_000_001,
        "status": 0,
        "after": "'after new keys'\n",
        "strict": True,
    }


@pytest.mark.parametrize(
    ("options", "command", "status", "said"),
    [
        (("-W", "127.0.0.1:22"), (), 255, "stdio forwarding failed"),
        (
            ("-N", "-o", "ExitOnForwardFailure=yes", "-R", "45998:127.0.0.1:22"),
            (),
            255,
            "remote port forwarding failed",
        ),
        (("-s",), ("no-such-thing",), 255, "subsystem request failed"),
        (("-A",), ("6 * 7",), 0, ""),
        (("-o", "SetEnv=TXWATCHDOG=1"), ("'TXWATCHDOG' in __import__('os').environ",), 0, ""),
    ],
)
def test_what_is_refused_is_refused_clearly(
    service: ServiceProcess,
    options: tuple[str, ...],
    command: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    """Forwarding and subsystems end with a message; agents and the environment are ignored."""
    result = service.ssh(*command, options=("-o", "BatchMode=yes", *options))
    assert result.returncode == status
    assert said in result.stderr
    assert result.stdout in ("", "42\n", "False\n")


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        (("sftp", "-b", "/dev/null"), ("127.0.0.1",), "subsystem request failed"),
        (("scp",), ("/etc/hostname", "127.0.0.1:"), "subsystem request failed"),
        (("scp", "-O"), ("/etc/hostname", "127.0.0.1:/tmp/x"), "no files are copied here"),
        (("scp", "-O"), ("127.0.0.1:/tmp/x", "/dev/null"), "no files are copied here"),
    ],
)
def test_no_files_are_copied(
    service: ServiceProcess, program: tuple[str, ...], arguments: tuple[str, ...], said: str
) -> None:
    """The programs sftp and scp, old and new, end with a message and a status that is not 0."""
    options = ["-P" if each == "-p" else each for each in service.command()[1:-1]]
    result = subprocess.run(
        [*program, *options, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert result.returncode != 0
    assert said in result.stderr


def _is_dropped(connection: socket.socket) -> bool:
    """Whether the manhole has sent someone away at the door; else it has said its version."""
    try:
        return not connection.recv(4096).startswith(b"SSH-")
    except ConnectionError:
        return True


def test_those_who_do_not_log_in_are_few(service: ServiceProcess) -> None:
    """The fifth from an address is dropped, the 17th of all, and there is room when they go."""
    with contextlib.ExitStack() as stack:
        for number in range(5):
            connection = stack.enter_context(connect(service.port))
            assert _is_dropped(connection) is (number == 4)
        from_there = ("-o", "BatchMode=yes", "-b", "127.1.0.1")
        assert service.ssh("1", options=from_there).returncode == 255
        assert service.ssh("1").stdout == "1\n"  # another address
        for number in range(4, 17):
            connection = stack.enter_context(connect(service.port, number))
            assert _is_dropped(connection) is (number == 16)
        assert service.ssh("1").returncode == 255
    patiently(lambda: service.ssh("1").stdout == "1\n", "room for a login")


def _open_descriptors(service: ServiceProcess) -> int:
    result = service.ssh("len(__import__('os').listdir('/proc/self/fd'))")
    return int(result.stdout or -1)


def _strangers(service: ServiceProcess) -> int:
    """Lines of log about those who had not logged in."""
    lines = service.log().splitlines()
    return sum("connection accepted" in line or "connection refused" in line for line in lines)


def test_a_thousand_half_open_connections(service: ServiceProcess) -> None:
    """A crowd that connects and says nothing costs 16 descriptors, and a few lines of log."""
    patiently(lambda: service.ssh("1").stdout == "1\n", "room for a login")
    before, lines = _open_descriptors(service), _strangers(service)
    dropped = 0
    with contextlib.ExitStack() as stack:
        for number in range(HALF_OPEN):
            connection = stack.enter_context(connect(service.port, number))
            dropped += _is_dropped(connection)
        held = len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))
        assert held <= before + 16
    assert dropped >= HALF_OPEN - 16 - 4  # and the test before may have left room for some more
    patiently(lambda: _open_descriptors(service) == before, "as many descriptors as before")
    assert _strangers(service) <= lines + 50  # 20 of each kind, and 4 a minute


def test_a_login_takes_no_longer_than_its_grace(strict: ServiceProcess) -> None:
    """Whoever connects and says nothing is sent away."""
    with connect(strict.port) as silent:
        before = time.monotonic()
        while silent.recv(4096):
            pass
        assert time.monotonic() - before > 3


def test_sessions_are_few(service: ServiceProcess) -> None:
    """The ninth session is refused with a word, and let in when another is over."""
    patiently(lambda: service.ssh("1").stdout == "1\n", "room for a login")
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            terminal = stack.enter_context(contextlib.closing(service.terminal()))
            terminal.expect(">>>")
        result = service.ssh("1")
        assert result.returncode == 255
        assert "8 others have logged in, no more may" in result.stderr
    patiently(lambda: service.ssh("1").stdout == "1\n", "room for a session")


def test_idle_sessions_end(strict: ServiceProcess) -> None:
    """A session at its prompt ends after some time; one in which a statement runs does not."""
    command = [*strict.command(), "import time; time.sleep(4); 7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as working:
        terminal = strict.terminal()
        assert terminal.expect_end() == 255
        assert "nothing typed or shown for 2.5 seconds" in terminal.seen
        terminal.close()
        assert working.communicate(timeout=PATIENCE)[0] == "7\n"


@pytest.fixture(scope="module")
def watchful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that soon asks who is still there."""
    yield from _served(tmp_path_factory.mktemp("watchful"), keep_alive=1, idle=None)


def test_a_client_that_is_gone_is_noticed(watchful: ServiceProcess) -> None:
    """A client that does not answer is given up; one that is merely silent is not."""
    quiet = watchful.terminal()
    quiet.expect(">>>")
    gone = watchful.terminal()
    gone.expect(">>>")
    with_both = _open_descriptors(watchful)
    gone.stop()
    patiently(lambda: _open_descriptors(watchful) < with_both, "the end of a dead client")
    gone.close()
    quiet.type("6 * 7\r")
    quiet.expect("42")
    quiet.close()


@pytest.fixture(scope="module")
def fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that lets the hostile in, to see what they do."""
    yield from _served(tmp_path_factory.mktemp("fortress"), unauthenticated=1000)


def _vitals(service: ServiceProcess) -> tuple[int, int]:
    descriptors, threads = service.ssh(
        "import os, threading; print(len(os.listdir('/proc/self/fd')), threading.active_count())"
    ).stdout.split()
    return int(descriptors), int(threads)


def test_hostile_streams(fortress: ServiceProcess) -> None:
    """Random and mutated bytes, before keys, with keys and logged in, leave nothing behind."""
    key = Key.fromFile(str(fortress.key))
    before = _vitals(fortress)
    stages = [attack(fortress.port, key, number) for number in range(STREAMS)]
    assert {stage: stages.count(stage) for stage in STAGES} == dict.fromkeys(
        STAGES, STREAMS // len(STAGES)
    )
    patiently(lambda: _vitals(fortress) == before, "as many descriptors and threads as before")
    others = [line for line in fortress.log().splitlines() if "[txwatchdog.audit#" not in line]
    assert len(others) < 10
    assert _strangers(fortress) <= 60
