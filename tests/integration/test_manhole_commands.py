"""`ssh HOST 'PYTHON'` and scripts, through the real ssh into a real service."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from manhole_support import PATIENCE, SERVICE, SOURCE, ServiceProcess, make_key, make_keys
from support import patiently

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with a manhole."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"))
    yield process
    process.close_well()


def test_values_output_and_status_come_back(service: ServiceProcess) -> None:
    """A command's values and output go to stdout, and it ends with 0."""
    result = service.ssh("1 + 1; print('hé €'); None\nservice.items")
    assert (result.stdout, result.stderr, result.returncode) == ("2\nhé €\n[]\n", "", 0)


_NODELAY = """
import os, socket
found = []
for name in os.listdir("/proc/self/fd"):
    try:
        sock = socket.socket(fileno=os.dup(int(name)))
        client = sock.getpeername()
    except OSError:  # it is no socket, or is not connected
        continue
    if sock.family == socket.AF_INET and sock.getsockname()[1] == {port}:
        found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    sock.close()
found
"""


def test_no_answer_waits_for_an_acknowledgement(service: ServiceProcess) -> None:
    """What is sent goes at once; else each step of a login would take 40 ms longer."""
    result = service.ssh(_NODELAY.format(port=service.port))
    assert (result.stdout, result.stderr) == ("[1]\n", "")


def test_a_traceback_goes_to_stderr(service: ServiceProcess) -> None:
    """A statement that raises ends with 1, its traceback begins at the operator's own line."""
    result = service.ssh("print('before')\nservice.no_such_thing\nprint('after')")
    assert result.stdout == "before\n"
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert re.fullmatch(r'  File "<manhole \S+:\d+>", line 2, in <module>', lines[1])
    assert lines[2] == "    service.no_such_thing"
    assert lines[-1].startswith("AttributeError: ")


def test_a_syntax_error_runs_nothing(service: ServiceProcess) -> None:
    """A mistake in the last line is shown before the first line runs."""
    result = service.ssh("print('never')\nreturn 3")
    assert result.stdout == ""
    assert "SyntaxError" in result.stderr
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("source", "status", "stderr"),
    [("exit()", 0, ""), ("exit(3)", 3, ""), ("raise SystemExit('why')", 1, "why\n")],
)
def test_exit_ends_the_session_only(
    service: ServiceProcess, source: str, status: int, stderr: str
) -> None:
    """exit() and SystemExit give the session's status, and the service goes on."""
    result = service.ssh(source)
    assert (result.returncode, result.stderr) == (status, stderr)
    assert service.ssh("'alive'").stdout == "'alive'\n"


def test_stderr_is_apart(service: ServiceProcess) -> None:
    """What a statement writes to sys.stderr comes as stderr."""
    result = service.ssh("import sys; print('out'); print('err', file=sys.stderr)")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_warnings_about_the_source_are_the_operators(service: ServiceProcess) -> None:
    """What the compiler warns about goes to who wrote it, not to the service's log."""
    result = service.ssh("1 is 1")
    assert result.stdout == "True\n"
    assert "SyntaxWarning" in result.stderr
    assert "SyntaxWarning" not in service.log()


def test_a_script_on_stdin(service: ServiceProcess) -> None:
    """Without a command and a terminal, stdin is run as one script."""
    script = "for i in range(2):\n    i\nx = [i for i in range(2)]\nx\nraise KeyError('k')\n"
    result = service.ssh(stdin=script)
    assert result.stdout == "0\n1\n[0, 1]\n"
    assert result.stderr.endswith("KeyError: 'k'\n")
    assert result.returncode == 1


def test_large_output_is_complete(service: ServiceProcess) -> None:
    """20 MB of output arrive, all of them."""
    result = service.ssh("print('x' * 20_000_000)")
    assert len(result.stdout) == 20_000_001
    assert set(result.stdout[:-1]) == {"x"}


def test_a_slow_reader_gets_everything_in_order(service: ServiceProcess) -> None:
    """Output that has to wait for the client, in memory and on disk, keeps its order."""
    command = "for i in range(60_000): print(i, 'x' * 60)"
    expected = [b"%d %s\n" % (i, b"x" * 60) for i in range(60_000)]
    with subprocess.Popen([*service.command(), command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == expected[0]
        # The service has printed everything long before the client has taken it.
        assert service.ssh("'done'").stdout == "'done'\n"
        assert process.stdout.read() == b"".join(expected[1:])


def test_the_watchdog_answers_during_a_pause(service: ServiceProcess) -> None:
    """While the reactor sleeps, the watchdog's statements run at once and name the function."""
    service.nap(8)
    began = time.monotonic()
    result = service.ssh("print(watchdog.stack()); watchdog.threshold = 0.1; watchdog.threshold")
    switched = service.ssh("watchdog.stop(); watchdog.start(); watchdog.running")
    assert switched.stdout == "True\n"
    still_paused = service.ssh("watchdog.stack().summary").stdout
    assert "fetch_user" in still_paused
    assert time.monotonic() - began < 8
    assert "fetch_user" in result.stdout
    assert "time.sleep(seconds)" in result.stdout
    assert result.stdout.endswith("0.1\n")


def test_others_wait_and_say_so(service: ServiceProcess) -> None:
    """During a pause any other statement waits, says where the reactor stands, and then runs."""
    service.nap(3)
    result = service.ssh("'late'")
    assert result.stdout == "'late'\n"
    assert re.search(r"^waiting: reactor paused [\d.]+ s in fetch_user ", result.stderr)
    assert result.stderr.count("\n") == 1


def test_a_client_that_goes_withdraws_its_statement(service: ServiceProcess) -> None:
    """A statement that has not begun when its client disconnects never runs."""
    service.nap(4)
    with subprocess.Popen(
        [*service.command(), "service.items.append('never')"], stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert b"waiting" in process.stderr.readline()
        process.kill()
    # The manhole has seen the other connection's end when it has served this one.
    service.ssh("watchdog.stack().summary")
    assert service.ssh("service.items").stdout == "[]\n"


def test_the_services_output_stays_its_own(service: ServiceProcess) -> None:
    """What the service prints goes to its own stdout, also while a statement runs."""
    result = service.ssh(
        "import threading, sys\n"
        "thread = threading.Thread(target=print, args=('from a thread',), kwargs={'flush': True})\n"
        "thread.start(); thread.join(); print('mine')"
    )
    assert result.stdout == "mine\n"
    assert service.line() == "from a thread"
    assert service.ssh("service.chatter()").stdout == ""
    assert service.line() == "service talks"


def test_unknown_services_are_refused(service: ServiceProcess) -> None:
    """Subsystems, forwarding, the agent, X11 and variables are refused, and nothing is logged."""
    options = ("-o", "BatchMode=yes", "-A", "-X", "-o", "SetEnv=A=1", "-R", "0:127.0.0.1:1")
    assert service.ssh("1", options=options).stdout == "1\n"
    assert service.ssh("sftp", options=("-o", "BatchMode=yes", "-s")).returncode != 0


@pytest.mark.parametrize(
    "key_type",
    [("-t", "ecdsa"), ("-t", "rsa", "-b", "2048"), ("-t", "ecdsa", "-b", "521")],
)
def test_other_key_types_get_in(
    service: ServiceProcess, tmp_path: Path, key_type: tuple[str, ...]
) -> None:
    """ECDSA and RSA keys get in, as soon as the file lists them."""
    key = make_key(tmp_path, "other", *key_type)
    make_keys(service.directory, key, service.key)
    assert service.ssh("'in'", key=key).stdout == "'in'\n"


def test_a_wrong_key_is_refused(service: ServiceProcess, tmp_path: Path) -> None:
    """A key that is not listed does not get in, and no password is asked for."""
    key = make_key(tmp_path, "stranger")
    result = service.ssh(
        "1", key=key, options=("-v", "-o", "LogLevel=VERBOSE", "-o", "BatchMode=yes")
    )
    assert result.returncode == 255
    assert "Permission denied (publickey)." in result.stderr


def test_a_file_turned_bad_lets_nobody_in(service: ServiceProcess) -> None:
    """Others may write to authorized_keys now: nobody gets in, and the log says why, once."""
    authorized = service.keys / "authorized_keys"
    authorized.chmod(0o666)
    assert service.ssh("1").returncode == 255
    assert service.ssh("1").returncode == 255
    assert service.log().count("chmod 600") == 1
    authorized.chmod(0o600)
    assert service.ssh("1").stdout == "1\n"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n" * 10,
        b"GET / HTTP/1.0\r\n\r\n",
        b"SSH-2.0-x\r\n" + b"\xff" * 100,
        b"SSH-2.0-x\r\n" + b"\x00\x00\x00\x0c\x0a\x15" + b"\x00" * 10,  # NEWKEYS at once
        b"SSH-2.0-x\r\n" + b"\x00\x00\x00\x0c\x0a\x05" + b"\x00" * 10,  # a service, in clear
        b"SSH-2.0-x\r\n" + b"\x00\x0f\xff\xfc\x0a\x14" + b"\x00" * 200_000,  # a long packet
        b"SSH-1.5-x\r\n",
        b"A" * 10_000,
    ],
)
def test_garbage_leaves_no_trace(service: ServiceProcess, garbage: bytes) -> None:
    """What a stranger sends before the login ends that connection, without a traceback."""
    address = ("127.0.0.1", service.port)
    # It may be closed while we still send.
    with socket.create_connection(address, PATIENCE) as connection, contextlib.suppress(OSError):
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    # Strangers that come and go fast hold their places for a moment, also against this login.
    patiently(lambda: service.ssh("1").stdout == "1\n", "room for a login")


def test_stop_leaves_nothing_and_start_works_again(tmp_path: Path) -> None:
    """stop() closes open sessions and leaves no thread, descriptor or router; start() works."""
    service = ServiceProcess(tmp_path)  # its own: strangers may hold a place at the other's door
    with subprocess.Popen(
        [*service.command("-N")], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as idle:
        try:
            seen = set()
            for _ in range(3):
                service.ssh("service.stop_manhole()")
                left = service.announced()
                seen.add(left.pop("fds"))
                service.port = left.pop("port")
                assert "txwatchdog-manhole" not in left["threads"]
                assert left["stdout_is_original"] is True
                assert left["address"] == "None"
            assert idle.wait(PATIENCE) == 255
        finally:
            idle.kill()
    assert len(seen) == 1, f"descriptors after each stop: {seen}"
    service.close_well()


def test_sigterm_ends_the_service_and_its_manhole(tmp_path: Path) -> None:
    """A service that ends takes its sessions and the manhole's thread with it."""
    process = ServiceProcess(tmp_path)
    terminal = process.terminal()
    terminal.expect(">>> ")
    process.process.terminate()
    assert process.announced() == {"threads": ["MainThread"]}
    assert terminal.expect_end() == 255
    terminal.close()
    process.close()


def test_a_taken_port_is_one_clear_line(service: ServiceProcess, tmp_path: Path) -> None:
    """A port that is taken is an error that names it and says what to do."""
    endpoint = f"tcp:{service.port}:interface=127.0.0.1"
    result = subprocess.run(
        [sys.executable, str(SERVICE), str(service.keys), endpoint],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"txwatchdog.errors.ListenError: cannot listen on {endpoint}: address already in use; "
        "stop what holds it or choose another endpoint"
    )
