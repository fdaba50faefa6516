"""The audit trail: its file and the log, after the real ssh and after hostile clients."""

from __future__ import annotations

import json
import stat
import threading
from typing import TYPE_CHECKING, Any

import paramiko
import pytest
from hostile import connect
from manhole_support import PATIENCE, Screen, ServiceProcess, make_key
from support import patiently
from twisted.logger import Logger

from txwatchdog.auditlog import NAMESPACE, tell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVIL = "ev\nil\x1b[2J\u202e' role='full"


class Audited:
    """A service that keeps an audit trail, and a key for each role."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "trail" / "audit.json"
        self.path.parent.mkdir()
        self.service = ServiceProcess(
            directory, audit=str(self.path), unauthenticated_per_address=16, tries=2
        )
        self.view, self.tune, self.stranger = (
            make_key(directory, name) for name in ("view", "tune", "stranger")
        )
        authorized = self.service.keys / "authorized_keys"
        text = authorized.read_text()
        for key in (self.view, self.tune):
            text += f'command="{key.name}" {key.with_suffix(".pub").read_text()}'
        expired = make_key(directory, "expired")
        self.expired = expired
        text += f'expiry-time="20200101" {expired.with_suffix(".pub").read_text()}'
        authorized.write_text(text)

    def records(self) -> list[dict[str, Any]]:
        """All that stands in the file, which ends with a whole line."""
        text = self.path.read_bytes()
        assert not text or text.endswith(b"\n")
        return [json.loads(line) for line in text.splitlines()]

    def wait(self, **fields: object) -> dict[str, Any]:
        """Wait for an event with these fields; return the latest."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [
                record
                for record in self.records()
                if all(record.get(name) == value for name, value in fields.items())
            ]
            return bool(found)

        patiently(is_there, f"an event with {fields}")
        return found[-1]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """One service for all tests here."""
    audited = Audited(tmp_path_factory.mktemp("audited"))
    yield audited
    audited.service.close()
    log = audited.service.log()
    assert "Traceback" not in log
    assert "Unhandled" not in log


def test_a_command_from_its_connection_to_its_end(audited: Audited) -> None:
    """Who, from where, when and what, and what came of it; nobody else may read it."""
    service = audited.service
    assert service.ssh("1 + 1", "# first").stdout == "2\n"
    login = audited.wait(event="login", outcome="accepted")
    number = login["connection"]
    audited.wait(event="connection", outcome="closed", connection=number)
    records = [each for each in audited.records() if each.get("connection") == number]
    assert [(each["event"], each["outcome"]) for each in records] == [
        ("connection", "accepted"),
        ("login", "accepted"),
        ("session", "begun"),
        ("statement", "begun"),
        ("statement", "done"),
        ("session", "ended"),
        ("connection", "closed"),
    ]
    assert login["client"].startswith("SSH-2.0-OpenSSH")
    assert {each["address"] for each in records} == {"127.0.0.1"}
    for each in records[1:]:
        assert (each["comment"], each["role"]) == (service.operator, "full")
        assert each["fingerprint"].startswith("SHA256:")
    statement = records[4]
    assert (statement["what"], statement["status"]) == ("1 + 1 # first", 0)
    assert 0 <= statement["seconds"] < PATIENCE
    assert stat.S_IMODE(audited.path.stat().st_mode) == 0o600
    said = f"statement done what='1 + 1 # first' status=0 seconds={statement['seconds']} "
    assert said in service.log()


@pytest.mark.parametrize(
    ("command", "told", "status", "raised"),
    [
        ("1 / 0", "statement raised", 1, "ZeroDivisionError"),
        ("1 +", "statement raised", 1, "SyntaxError"),
        ("exit(7)", "statement left", 7, None),
        ("import time; time.sleep(0)", "statement done", 0, None),
        ("top --by worst", "verb done", 0, None),
        ("top --jsn", "verb not understood", 2, None),
        ("interrupt 99", "verb failed", 1, None),
        ("scp -t /tmp/x", "statement refused", 2, None),
    ],
)
def test_what_came_of_it(
    audited: Audited, command: str, told: str, status: int, raised: str | None
) -> None:
    """The exit status that the client gets, in a word what it means, and what was raised."""
    assert audited.service.ssh(command).returncode == status
    event, _, outcome = told.partition(" ")
    record = audited.wait(event=event, what=command, outcome=outcome)
    assert (record["status"], record.get("raised")) == (status, raised)


def test_what_is_refused_to_a_lesser_role(audited: Audited) -> None:
    """What a key of role view or tune has tried stands there with its reason."""
    ssh = audited.service.ssh
    for key, command, event in (
        (audited.view, "import os", "statement"),
        (audited.view, "threshold 9", "verb"),
        (audited.tune, "watchdog.threshold = 9", "statement"),
    ):
        assert ssh(command, key=key).returncode == 2
        told = audited.wait(event=event, what=command, outcome="refused")
        assert (told["role"], told["status"]) == (key.name, 2)
    ssh("-s", "sftp", key=audited.view, options=("-s",))
    audited.wait(event="request", outcome="refused", role="view")
    ssh("1", options=("-W", "127.0.0.1:22"))
    audited.wait(event="request", outcome="refused", what="direct-tcpip")
    screen = Screen(audited.service.command("-tt", key=audited.view), 100, 30)
    try:
        screen.wait("watchdog running")
        screen.press("o")
        screen.wait("this key may look")
        screen.press("q")
        screen.wait("exit status 0")
    finally:
        screen.close()
    audited.wait(event="live", outcome="refused", what="o", role="view")
    audited.wait(event="session", outcome="ended", kind="terminal", role="view")


def test_who_does_not_get_in(audited: Audited) -> None:
    """A key that is refused, with the reason where it is known; a login that fails."""
    ssh = audited.service.ssh
    assert ssh("1", key=audited.stranger).returncode == 255
    told = audited.wait(event="key", outcome="refused", reason="it is not in authorized_keys")
    assert told["fingerprint"].startswith("SHA256:")
    assert told["client"].startswith("SSH-2.0-OpenSSH")
    assert ssh("1", key=audited.expired).returncode == 255
    told = audited.wait(event="key", outcome="refused", line=4)
    assert told["reason"].startswith("it expired at 2020-01-01")
    assert told["role"] == "full"
    assert ssh("1", options=("-o", "BatchMode=yes", "-c", "aes128-cbc")).returncode == 255
    reason = "couldn't match all kex parts"
    told = audited.wait(event="connection", outcome="refused", reason=reason)
    assert told["client"].startswith("SSH-2.0-OpenSSH")
    transport = paramiko.Transport(("127.0.0.1", audited.service.port))
    try:
        transport.start_client(timeout=PATIENCE)
        for _ in range(2):
            with pytest.raises(paramiko.SSHException):
                transport.auth_password(EVIL, "secret", fallback=False)
    finally:
        transport.close()
    told = audited.wait(event="login", outcome="refused", user=EVIL)
    assert "by password" in told["reason"]
    assert "secret" not in audited.path.read_text()
    audited.wait(event="connection", outcome="refused", reason="too many failed logins")
    with connect(audited.service.port) as intruder:
        intruder.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while intruder.recv(4096):
            pass
    audited.wait(event="connection", outcome="refused", reason="it does not speak SSH")


def test_who_changes_the_watchdog(audited: Audited) -> None:
    """Verbs, live's keys, statements in either thread, and code outside: old, new, and whose."""
    service = audited.service
    service.ssh("threshold", "0.25", key=audited.tune)
    told = audited.wait(event="watchdog", what="threshold", new=0.25)
    assert (told["old"], told["role"]) == (0.2, "tune")
    service.ssh("watchdog.threshold = 0.3")
    told = audited.wait(event="watchdog", what="threshold", new=0.3)
    assert (told["old"], told["comment"]) == (0.25, service.operator)
    service.ssh("import time; watchdog.threshold = 0.4")
    told = audited.wait(event="watchdog", what="threshold", new=0.4)
    assert (told["comment"], told["session"]) == (service.operator, 1)
    service.ssh("reactor.callLater(0, setattr, watchdog, 'threshold', 0.42)")
    told = audited.wait(event="watchdog", what="threshold", new=0.42)
    assert told["comment"] == service.operator
    service.ssh("service.retune(0.45)")
    told = audited.wait(event="watchdog", what="threshold", new=0.45)
    assert (told["by"], told.get("comment")) == ("thread MainThread", None)
    screen = Screen(service.command("-tt", key=audited.tune), 100, 30)
    try:
        for key, notice in (("+", "threshold is 0.5 s"), ("o", "watchdog stopped")):
            screen.wait("threshold 0.")
            screen.press(key)
            screen.wait(notice)
    finally:
        screen.close()
    assert audited.wait(event="watchdog", what="threshold", new=0.5)["role"] == "tune"
    assert audited.wait(event="watchdog", what="stop")["role"] == "tune"
    for verb in ("start", "reset"):
        service.ssh(verb)
        assert audited.wait(event="watchdog", what=verb)["comment"] == service.operator
    service.ssh("interrupt", "--confirm")
    assert audited.wait(event="watchdog", what="interrupt")["outcome"] == "no pause"
    service.ssh("watchdog.threshold = 0.2")


def test_what_is_malformed_is_told_as_its_operators(audited: Audited) -> None:
    """A request that is cut off ends the connection of who sent it, and is no stranger's."""
    key = paramiko.Ed25519Key.from_private_key_file(str(audited.service.key))
    with paramiko.Transport(("127.0.0.1", audited.service.port)) as transport:
        transport.connect(username="careless", pkey=key)
        channel = transport.open_session()
        request = paramiko.Message()
        request.add_byte(b"\x62")  # SSH_MSG_CHANNEL_REQUEST
        request.add_int(channel.remote_chanid)
        request.add_string("subsystem")
        request.add_boolean(True)
        transport._send_user_message(request)
        told = audited.wait(event="connection", outcome="closed", user="careless")
    assert told["comment"] == audited.service.operator
    assert told["reason"].startswith("error('unpack")
    others = [each for each in audited.records() if each["outcome"] == "refused"]
    assert not [each for each in others if "unpack" in str(each.get("reason"))]


def test_a_client_cannot_forge_a_line(audited: Audited) -> None:
    """Names, versions and statements with anything in them are one line in the file and the log."""
    key = paramiko.Ed25519Key.from_private_key_file(str(audited.service.key))
    before = len(audited.service.log().splitlines())
    forged = "\n2026-01-01T00:00:00+0000 [txwatchdog.audit#info] login accepted comment='root'\n"
    sources = ["1" + forged, "'\u2028\u202e\x85\x1b]0;x\x07'", "x = '''" + "y" * 900_000 + "'''"]
    transport = paramiko.Transport(("127.0.0.1", audited.service.port))
    transport.local_version = "SSH-2.0-evil\x1b[2J \x85' role='full"
    try:
        transport.connect(username=EVIL, pkey=key)
        for source in [*sources, b"1 # \xff\x00\n"]:
            channel = transport.open_session()
            channel.settimeout(PATIENCE)
            channel.exec_command(source)
            while channel.recv(65536):
                pass
            channel.recv_exit_status()
            channel.close()
    finally:
        transport.close()
    for source in sources:
        told = audited.wait(event="session", outcome="begun", user=EVIL, what=source[:4096])
        assert told.get("left_out", 0) == max(len(source) - 4096, 0)
    audited.wait(event="statement", outcome="refused", what="1 # \\xff\x00\n")
    told = audited.wait(event="login", outcome="accepted", user=EVIL)
    assert told["client"].startswith("SSH-2.0-evil\x1b[2J")
    audited.wait(event="connection", outcome="closed", user=EVIL)
    lines = audited.service.log().split("\n")[before:-1]
    assert all("[txwatchdog.audit#info] " in line.partition("] ")[0] + "] " for line in lines)
    assert all(line.isprintable() and len(line) < 10_000 for line in lines)
    said = [line.partition("] ")[2] for line in lines]
    assert sum(each.startswith("login accepted") for each in said) == 1


def test_a_file_that_cannot_be_written_stops_nobody(audited: Audited) -> None:
    """Sessions go on; it is logged once; what was to be written is, when its directory is back."""
    directory = audited.path.parent
    away = directory.with_name("away")
    directory.rename(away)
    for number in range(3):
        assert audited.service.ssh(f"{number}").stdout == f"{number}\n"
    assert audited.service.log().count("the audit trail can't be written: ") == 1
    assert f"{audited.path}: no such file or directory; make its directory" in audited.service.log()
    directory.mkdir()
    assert audited.service.ssh("'back'").stdout == "'back'\n"
    resumed = audited.wait(event="audit", outcome="resumed")
    assert (resumed["lost"], "no such file" in resumed["reason"]) == (0, True)
    for number in range(3):
        audited.wait(event="statement", outcome="done", what=f"{number}")
    assert "is written to again; 0 events were lost" in audited.service.log()


def test_a_statement_stands_there_before_it_runs(tmp_path: Path) -> None:
    """One that ends the process at once has been told of; the manhole's own end is, too."""
    audited = Audited(tmp_path)
    audited.service.ssh("__import__('os')._exit(9)")
    assert audited.service.process.wait(PATIENCE) == 9
    (told,) = (each for each in audited.records() if each["event"] == "statement")
    assert (told["outcome"], told["what"]) == ("begun", "__import__('os')._exit(9)")
    audited.service.close()


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """Statements run, that more is lost than can wait is logged, and the service ends."""
    audited = Audited(tmp_path)
    hang = "import time, txwatchdog.manhole.auditfile as file; "
    hang += "file.Lines.append = lambda self, lines: time.sleep(1000)"
    assert audited.service.ssh(hang).returncode == 0
    for number in range(3):
        assert audited.service.ssh(f"{number}").stdout == f"{number}\n"
    audited.service.ssh("for n in range(3000): watchdog.threshold = 1 + n % 2")
    said = f"file {audited.path} does not keep up: events are lost from now on; sessions go on"
    assert audited.service.log().count(said) == 1
    audited.service.close()
    assert "Traceback" not in audited.service.log()


def test_what_is_told_last_is_written(tmp_path: Path) -> None:
    """At the manhole's end sessions are seen off, and that stands in the file."""
    audited = Audited(tmp_path)
    terminal = audited.service.terminal()
    terminal.expect(">>>")
    audited.service.close()
    terminal.close()
    ended = [each for each in audited.records() if each["outcome"] in ("ended", "closed")]
    assert sorted(each["event"] for each in ended) == ["connection", "session"]
    assert "the manhole has been stopped" in [each["reason"] for each in ended]


def test_an_observer_that_exits_ends_no_thread_of_ours() -> None:
    """What Twisted lets through goes no further, but in the main thread."""

    def exits(_event: object) -> None:
        raise SystemExit

    log = Logger(namespace=NAMESPACE, observer=exits)  # type: ignore[arg-type]
    survived = []

    def work() -> None:
        tell("verb", "done", log)
        survived.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert survived
    with pytest.raises(SystemExit):
        tell("verb", "done", log)
