"""Who gets in, and what they may do: through the real ssh, and clients that ask for odd things."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import asyncssh
import paramiko
import pytest
from manhole_support import PATIENCE, SOURCE, Screen, ServiceProcess, make_key
from support import patiently

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TERMS = {
    "view": 'command="view"',
    "tune": 'command="tune"',
    "only": 'command="threshold --json"',
    "bare": 'restrict,command="view"',
    "no_pty": "no-pty",
    "near": 'from="127.0.0.0/8,!127.0.0.9"',
    "far": 'from="*,!127.0.0.1"',
    "late": 'expiry-time="20200101"',
    "early": 'expiry-time="29991231Z"',
    "odd": 'environment="A=1"',
    "bash": 'command="/bin/bash"',
    "ca": "cert-authority",
}
"""The options of each key, by the key's name."""

MARK = "mark-of-python"


class Guests:
    """A service, and a key for each of `TERMS` that it knows."""

    def __init__(self, directory: Path) -> None:
        # Refused logins come thick and fast here, and each keeps its place for a moment.
        self.service = ServiceProcess(
            directory, unauthenticated=1000, unauthenticated_per_address=1000
        )
        self.private = {name: make_key(directory, name) for name in TERMS}
        self.private["rsa"] = make_key(directory, "rsa", "-t", "rsa", "-b", "2048")
        self.private["weak"] = make_key(directory, "weak", "-t", "rsa", "-b", "1024")
        self.file = self.service.keys / "authorized_keys"
        self.lines = [self.service.key.with_suffix(".pub").read_text()]
        for name, path in self.private.items():
            line = path.with_suffix(".pub").read_text()
            self.lines.append(f"{TERMS.get(name, '')} {line}".lstrip())
        self.write("".join(self.lines))

    def write(self, text: str) -> None:
        self.file.write_text(text)
        self.file.chmod(0o600)

    def ssh(
        self, name: str, *command: str, stdin: str = "", options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run ssh as one of the keys."""
        return self.service.ssh(
            *command,
            options=("-o", "BatchMode=yes", *options),
            key=self.private[name],
            stdin=stdin,
        )

    @contextlib.contextmanager
    def transport(self, name: str) -> Iterator[paramiko.Transport]:
        """A connection of paramiko's, which asks for whatever it is told to."""
        key = paramiko.Ed25519Key.from_private_key_file(str(self.private[name]))
        transport = paramiko.Transport(("127.0.0.1", self.service.port))
        try:
            transport.connect(username="anyone", pkey=key)
            yield transport
        finally:
            transport.close()

    def unharmed(self) -> None:
        """Make sure that nobody has run Python, or changed the watchdog."""
        assert self.service.ssh("service.items").stdout == "[]\n"
        assert self.service.ssh("watchdog.threshold, watchdog.running").stdout == "(0.2, True)\n"


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """A service with a manhole that knows all these keys."""
    guests = Guests(tmp_path_factory.mktemp("guests"))
    # The first of all attempts, so that the file is read again.
    assert guests.service.ssh("'in'").stdout == "'in'\n"
    yield guests
    guests.service.close_well()


def test_refused_lines_are_logged_and_let_nobody_in(guests: Guests) -> None:
    """Each has its number and reason in the log; the keys around it get in."""
    log = guests.service.log()
    for name, reason in (
        ("odd", "option 'environment' is not known here"),
        ("bash", "'/bin/bash' is neither view, tune nor a verb"),
        ("ca", "certificates (option 'cert-authority') are not supported"),
        ("weak", "1024 bits is too weak"),
    ):
        number = 2 + list(guests.private).index(name)
        assert f"authorized_keys, line {number} lets nobody in: " in log
        assert reason in log
        assert guests.ssh(name, "status").returncode == 255
    assert guests.ssh("rsa", "1 + 1").stdout == "2\n"


def test_where_from_and_until_when(guests: Guests) -> None:
    """A key gets in from where, and until when, it may; else the log says why not."""
    assert guests.ssh("near", "1").stdout == guests.ssh("early", "1").stdout == "1\n"
    assert guests.ssh("far", "1").returncode == guests.ssh("late", "1").returncode == 255
    log = guests.service.log()
    assert """reason='it may be used from="*,!127.0.0.1" only'""" in log
    assert "reason='it expired at 2020-01-01" in log


@pytest.mark.parametrize(
    "command",
    [
        f"service.items.append('{MARK}')",
        "watchdog.threshold = 9",
        "watchdog.stop()",
        "watchdog.stack()",
        "watchdog.live(service)",
        f"top\nservice.items.append('{MARK}')",
        f"top; service.items.append('{MARK}')",
        f"top --by $(service.items.append('{MARK}'))",
        "python",
        "python -",
        f"help(service.items.append('{MARK}'))",
        "threshold 9",
        "threshold '9'",
        "threshold\v9",
        "threshold\x1c9",
        "threshold\u20289",
        "stop",
        "start",
        "reset",
        " stop ",
        "exit()",
        "1",
        "é",
        "top" + " " * 5000,
    ],
)
def test_view_looks_and_no_more(guests: Guests, command: str) -> None:
    """Python, and verbs that change something, are refused in one line on stderr, with 2."""
    result = guests.ssh("view", command, stdin=f"service.items.append('{MARK}')\n")
    assert (result.stdout, result.returncode) == ("", 2)
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") <= 3


def test_view_uses_the_verbs_that_look(guests: Guests) -> None:
    """All of them, in every form; and nothing that was tried by then has changed anything."""
    for command in ("top", "pauses --json", "tracebacks", "stack", "status", "stats", "threshold",
                    "export json", "report", "help", "stop --help"):  # fmt: skip
        result = guests.ssh("view", command)
        assert (result.stderr, result.returncode) == ("", 0), command
    guests.unharmed()


def test_view_without_a_terminal_is_told_what_it_may(guests: Guests) -> None:
    """No script is read from its standard input."""
    result = guests.ssh("view", stdin=f"service.items.append('{MARK}')\n")
    assert (result.stdout, result.returncode) == ("", 2)
    assert "role is view: it may run top " in result.stderr
    guests.unharmed()


def test_view_on_a_terminal_opens_live_and_changes_nothing(guests: Guests) -> None:
    """A session is the full-screen view; its keys that would change something say so."""
    screen = Screen(guests.service.command("-tt", key=guests.private["view"]), 100, 30)
    try:
        screen.wait("watchdog running", "? keys", without=["o on/off"])
        for key in ("+", "-", "o", "R", "y"):
            screen.press(key)
        screen.wait("this key may look, and change nothing")
        screen.press("x", "1", "Enter", "C-z", "M-x", "C-x", "C-e", "M-!")
        screen.wait("watchdog running")
        screen.press("q")
        screen.wait("exit status 0")
    finally:
        screen.close()
    guests.unharmed()


def test_odd_requests_are_no_way_round(guests: Guests) -> None:
    """Variables, subsystems, more channels, a shell after a command: none leads to Python."""
    source = f"service.items.append('{MARK}')"
    with guests.transport("view") as transport:
        for request in ("env", "subsystem", "x11", "again"):
            channel = transport.open_session()
            channel.settimeout(PATIENCE)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                if request == "env":
                    channel.set_environment_variable("PYTHONSTARTUP", source)
                elif request == "subsystem":
                    channel.invoke_subsystem(source)
                elif request == "x11":
                    channel.request_x11()
                else:
                    channel.exec_command("top")
                    channel.invoke_shell()
            with contextlib.suppress(paramiko.SSHException, OSError):
                channel.sendall((source + "\n").encode())
                channel.shutdown_write()
            channel.close()
        channel = transport.open_session()
        channel.settimeout(PATIENCE)
        channel.get_pty("dumb")
        channel.invoke_shell()
        with contextlib.suppress(OSError):  # such a terminal can't show live: it has ended already
            channel.sendall((source + "\r").encode())
        assert channel.recv_exit_status() == 2
        for kind in ("direct-tcpip", "auth-agent@openssh.com", "forwarded-tcpip"):
            with pytest.raises(paramiko.ChannelException):
                transport.open_channel(kind, ("127.0.0.1", 1), ("127.0.0.1", 1))
    guests.unharmed()


def test_tune_has_the_switches_and_no_python(guests: Guests) -> None:
    """Threshold, stop, start and reset work, in live as well; Python is refused."""
    screen = Screen(guests.service.command("-tt", key=guests.private["tune"]), 100, 30)
    try:
        screen.wait("threshold 0.2 s", "o on/off")
        screen.press("+")
        screen.wait("threshold 0.5 s")
        screen.press("q")
        screen.wait("exit status 0")
    finally:
        screen.close()
    assert guests.ssh("tune", "threshold", "0.3").stdout == "0.3 s (was 0.5 s)\n"
    assert guests.ssh("tune", "threshold", "0.2").returncode == 0
    for verb in ("stop", "start", "reset", "top"):
        assert guests.ssh("tune", verb).returncode == 0
    for command in ("watchdog.threshold = 0.3", "python", "service.items"):
        result = guests.ssh("tune", command, stdin="1")
        assert (result.stdout, result.returncode) == ("", 2)
    guests.unharmed()


def test_a_forced_verb_is_all_there_is(guests: Guests) -> None:
    """Whatever the client asks for, and whatever it sends, that verb line runs."""
    expected = '{\n  "threshold": 0.2\n}\n'
    for command in ((), ("top",), ("threshold 9",), ("python",), ("1 + 1",)):
        result = guests.ssh("only", *command, stdin=f"service.items.append('{MARK}')\n")
        assert (result.stdout, result.returncode) == (expected, 0)
    shell = guests.ssh("only", options=("-tt",))
    assert shell.stdout.replace("\r", "") == expected
    assert guests.ssh("only", "sftp", options=("-s",)).returncode != 0
    guests.unharmed()


def test_without_pty_there_is_no_terminal(guests: Guests) -> None:
    """With no-pty, and with restrict, a terminal is refused and the rest works."""
    assert guests.ssh("no_pty", "1 + 1").stdout == "2\n"
    result = guests.ssh("bare", options=("-tt",))
    assert "PTY allocation request failed" in result.stderr
    assert (result.stdout, result.returncode) == ("", 255)
    assert guests.ssh("bare", "status").returncode == 0


def test_the_client_is_told_which_signatures_work(guests: Guests) -> None:
    """Server-sig-algs lists what is accepted: SHA-2 for RSA, and no SHA-1."""
    result = guests.ssh("rsa", "1", options=("-vv", "-o", "LogLevel=DEBUG2"))
    (line,) = (each for each in result.stderr.splitlines() if "server-sig-algs=<" in each)
    announced = line.partition("<")[2].rstrip(">\r").split(",")
    assert sorted(announced) == [
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-256",
        "rsa-sha2-512",
        "ssh-ed25519",
    ]


def test_no_client_logs_in_with_sha_1(guests: Guests) -> None:
    """An RSA key that signs with SHA-2 gets in; the same one with SHA-1 does not."""

    async def log_in(algorithm: str) -> str:
        async with asyncssh.connect(
            "127.0.0.1",
            guests.service.port,
            username="anyone",
            client_keys=[str(guests.private["rsa"])],
            known_hosts=None,
            agent_path=None,
            config=[],
            signature_algs=[algorithm],
        ) as connection:
            return str((await connection.run("1 + 1")).stdout)

    for algorithm in ("rsa-sha2-256", "rsa-sha2-512"):
        assert asyncio.run(log_in(algorithm)) == "2\n"
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(log_in("ssh-rsa"))


def test_keys_come_and_go_while_it_runs(guests: Guests, tmp_path: Path) -> None:
    """What `txwatchdog keys` changes counts at the next login; an open session stays."""
    guest = make_key(tmp_path, "guest")

    def keys(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "txwatchdog", "keys", *words, "--keys", guests.service.keys],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )

    added = keys("authorize", f"{guest}.pub", "--role", "view", "--from", "127.0.0.1")
    assert (added.stderr, added.returncode) == ("", 0)
    assert guests.service.ssh("status", key=guest).returncode == 0
    assert guests.service.ssh("1", key=guest).returncode == 2
    screen = Screen(guests.service.command("-tt", key=guest), 100, 30)
    try:
        screen.wait("watchdog running")
        fingerprint = next(word for word in added.stdout.split() if word.startswith("SHA256:"))
        assert keys("revoke", fingerprint).returncode == 0
        assert guests.service.ssh("status", key=guest).returncode == 255
        screen.press("?")
        screen.wait("choose a pause")
    finally:
        screen.close()
    assert guests.file.read_text() == "".join(guests.lines)


def test_a_broken_file_keeps_everybody_out_until_it_is_repaired(guests: Guests) -> None:
    """Nobody new gets in, which is logged once; open sessions go on; repaired, it works again."""
    open_session = guests.service.terminal()
    open_session.expect(">>> ")
    guests.write("".join(guests.lines) + "rubbish\n")
    for name in ("view", "rsa", "view"):
        assert guests.ssh(name, "status").returncode == 255
    open_session.type("6 * 7\r")
    open_session.expect("42")
    open_session.close()
    said = f"nobody can log in: {guests.file}, line {len(guests.lines) + 1}: no public key after"
    patiently(lambda: said in guests.service.log(), "the log's line")
    assert guests.service.log().count("nobody can log in") == 1
    guests.write("".join(guests.lines))
    assert guests.ssh("view", "status").returncode == 0
