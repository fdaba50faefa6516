"""The demo as a user meets it: the real command, the real ssh client, real pauses."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

# Seconds. How long something may take on a very busy machine before it is called broken.
PATIENCE = 60.0

ANY_PORT = "tcp:0:interface=127.0.0.1"


class Demo:
    """A demo in a process of its own, with a home and a keys directory of its own."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.keys = home / "the keys"
        self.lines: list[str] = []
        self._errors = home / "stderr"
        self._arrived: queue.Queue[str | None] = queue.Queue()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        environ |= {"HOME": str(home)}
        words = ["--http", ANY_PORT, "--manhole", ANY_PORT, "--keys", str(self.keys), *options]
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "txwatchdog", "demo", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environ,
                text=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self._arrived.put(line.rstrip("\n"))
        self._arrived.put(None)

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        return self._errors.read_text()

    def line(self, pattern: str, *, newest: bool = False) -> re.Match[str]:
        """Wait for a line that matches, earlier ones included unless it is to be a new one."""
        for seen in () if newest else self.lines:
            if match := re.search(pattern, seen):
                return match
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if line is None:
                break
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line like {pattern!r} in {self.lines}, {self.errors}")

    def ready(self) -> Demo:
        """Wait until it has announced itself."""
        self.line(r"Ctrl-C stops it")
        return self

    def queued_seconds(self) -> float:
        """For how long its main thread has waited for a CPU."""
        schedule = Path(f"/proc/{self.process.pid}/schedstat").read_text()
        return int(schedule.split()[1]) / 1e9

    def get(self, path: str) -> str:
        """Fetch one of its pages."""
        site = self.line(r"pages +(http://127\.0\.0\.1:\d+/)$")[1]
        with urllib.request.urlopen(site + path, timeout=PATIENCE) as answer:
            content: bytes = answer.read()
        return content.decode()

    def ssh(self, python: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `python` in the console by the command that was printed."""
        command = shlex.split(self.line(r"console +(ssh .*)$")[1])
        # ssh takes its defaults from the user's entry in the password file, not from $HOME.
        quiet = [
            *("-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"),
            *("-o", f"UserKnownHostsFile={shlex.quote(str(self.home / 'known_hosts'))}"),
            *("-o", "IdentityAgent=none", "-o", "LogLevel=ERROR"),
        ]
        return subprocess.run(
            [*command[:1], *quiet, *options, *command[1:], python],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def ask(self, python: str, *options: str) -> str:
        """Run `python` in the console, which must succeed, and return what it printed."""
        done = self.ssh(python, *options)
        assert done.returncode == 0, (done, self.errors)
        return done.stdout

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def until(condition: Callable[[], Any]) -> Any:
    """Return the condition's value once it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never became true: {condition}"
        time.sleep(0.05)
    return value


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start demos that are gone when the test is."""
    demos: list[Demo] = []

    def start(*options: str) -> Demo:
        demos.append(Demo(tmp_path, *options))
        return demos[-1]

    yield start
    for demo in demos:
        demo.process.kill()
        demo.process.wait(PATIENCE)


def make_own_key(home: Path, name: str = "id_ed25519") -> Path:
    """Make the user a key pair, as ssh-keygen does."""
    (home / ".ssh").mkdir(mode=0o700)
    private = home / ".ssh" / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return private


def test_the_console_blames_each_page(start: Callable[..., Demo]) -> None:
    """Every page that pauses is a pause blamed on its function, in the console and in a line."""
    demo = start().ready()
    demo.line("paused")
    demo.ask("service.job.stop()")  # else its pauses and the pages' may share a tick
    functions = {
        "orders": "query_orders",
        "payment": "retry_payment",
        "inventory": "read_inventory",
        "catalogue": "render_catalogue",
        "report": "export_report",
        "sleep": "wait_for_approval",
    }
    starved = set()
    for path, function in functions.items():
        assert f"/{path}" in demo.get("")
        for _attempt in range(5):
            queued = demo.queued_seconds()
            # The amount of work is estimated: ask for so much that it is a pause in any case.
            assert function in demo.get(f"{path}?seconds=1.5")
            nobody = r"paused (\d+\.\d\d) s because no CPU was free"
            blame = rf"^\d\d:\d\d:\d\d  paused \d+\.\d\d s in {function} \(demo/habits\.py:\d+\)"
            seen = demo.line(f"{blame}|{nobody}", newest=True)
            if seen[1] is None:
                break
            # A machine with no CPU to spare is why: so the kernel must say, too.
            assert demo.queued_seconds() - queued > 0.4 * float(seen[1])
        else:
            starved.add(function)
    seen = json.loads(demo.ask("import json; print(json.dumps(watchdog.stats()))"))
    blamed = {offender["function"] for offender in seen["offenders"]}
    expected = set(functions.values()) - starved
    assert blamed >= expected
    top = demo.ask("watchdog.top()")
    assert all(function in top for function in expected)
    assert demo.stop() == 0
    assert demo.errors == ""


def test_pages_that_behave_are_no_pauses(start: Callable[..., Demo]) -> None:
    """The index and the page that does it right answer without a pause of theirs."""
    demo = start("--threshold", "30").ready()
    assert "A shop that pauses" in demo.get("")
    assert "accepted" in demo.get("fast")
    assert json.loads(demo.ask("import json; print(json.dumps(watchdog.stats()))"))["pauses"] == 0
    assert demo.stop() == 0
    assert demo.errors == ""


def test_the_job_pauses_by_itself(start: Callable[..., Demo]) -> None:
    """Without any visitor there is something to see soon."""
    demo = start().ready()
    function = demo.line(r"paused \d+\.\d\d s in (\w+) \(demo/habits\.py")[1]
    assert function in demo.ask("watchdog.top()")


def test_the_console_answers_while_a_page_sleeps(start: Callable[..., Demo]) -> None:
    """A new login during a pause sees the frame that sleeps; the pause is one when it ends."""
    demo = start().ready()
    assert demo.ask("watchdog.running").strip() == "True"
    visit = threading.Thread(target=demo.get, args=("sleep?seconds=15",))
    visit.start()
    stack = until(lambda: "wait_for_approval" in (text := demo.ask("watchdog.stack()")) and text)
    assert visit.is_alive()
    assert "time.sleep(seconds)" in stack
    visit.join(PATIENCE)
    paused = r"paused (\d+\.\d\d) s in wait_for_approval \(demo/.*\): blocked$"
    assert float(demo.line(paused)[1]) >= 15
    count = "[row.count for row in watchdog.top() if row.function == 'wait_for_approval']"
    assert demo.ask(count).strip() == "[1]"
    assert demo.stop() == 0


def test_the_job_adds_nothing_to_a_pages_pause(start: Callable[..., Demo]) -> None:
    """A job that is due when a page has slept is a pause of its own."""
    demo = start().ready()
    for _attempt in range(3):
        demo.get("sleep?seconds=6.5")  # one is due each 6 s, and takes at least 0.8 s
        took = demo.line(r"paused (\d+\.\d\d) s in wait_for_approval", newest=True)[1]
        if float(took) < 7.0:
            break  # else the machine was too busy to wake the sleeper in time
    else:
        raise AssertionError(demo.lines)


def test_a_demo_that_was_killed_in_a_pause_leaves_word(
    start: Callable[..., Demo], tmp_path: Path
) -> None:
    """With --blackbox the next start says that the last one died paused, and where."""
    box = ("--blackbox", str(tmp_path / "box"))
    demo = start(*box).ready()

    def stay() -> None:
        with suppress(OSError, HTTPException):  # it hangs up before it answers
            demo.get("sleep?seconds=1000")

    visit = threading.Thread(target=stay)
    visit.start()
    until(lambda: "reactor paused" in (text := demo.ask("watchdog.stack()")) and "approval" in text)
    demo.stop(signal.SIGKILL)
    visit.join(PATIENCE)
    died = (
        r"the last run died while paused for at least \d+\.\d s in wait_for_approval \(demo/habits"
    )
    again = start(*box).ready()
    assert re.search(died, again.errors)
    assert re.search(died, again.ask("watchdog.status()"))
    assert again.stop() == 0


def test_the_namespace_holds_the_service(start: Callable[..., Demo], tmp_path: Path) -> None:
    """The console can look at the shop and quiet its job; with --audit that stands in a file."""
    audit = tmp_path / "audit.json"
    demo = start("--audit", str(audit)).ready()
    demo.get("fast")
    assert "visits" in demo.ask("service")
    assert demo.ask("service.visits['/fast']").strip() == "1"
    assert "ShopSite" in demo.ask("type(site).__name__")
    demo.line("paused")  # so the job is at work
    demo.ask("service.job.stop()")
    assert demo.ask("service.job.running").strip() == "False"
    assert demo.stop() == 0
    assert demo.errors == ""
    records = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [each["outcome"] for each in records if each.get("what") == "service.job.stop()"] == [
        *("begun", "begun", "done")  # the session, and the statement
    ]


def test_a_throw_away_key_gets_in_again_and_again(start: Callable[..., Demo]) -> None:
    """Without a key of the user's own the printed command names one made for it, now and later."""
    for story in ("a throw-away pair", "used as it is"):
        demo = start().ready()
        assert story in demo.line(r"keys  (.*)")[1]
        command = shlex.split(demo.line(r"console +(ssh .*)$")[1])
        assert command[command.index("-i") + 1] == str(demo.keys / "demo_ed25519")
        assert demo.ask("1 + 1").strip() == "2"
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", demo.keys / "host_ed25519"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert demo.line(r"host key (SHA256:\S+)")[1] in shown.split()
        assert demo.stop() == 0


def test_the_users_own_key_gets_in(start: Callable[..., Demo], tmp_path: Path) -> None:
    """With a key of the user's own the printed command needs no key."""
    private = make_own_key(tmp_path)
    demo = start().ready()
    assert str(private) in demo.line(r"keys  (.*)")[1]
    assert "-i" not in shlex.split(demo.line(r"console +(ssh .*)$")[1])
    assert demo.ask("1 + 1", "-i", str(private)).strip() == "2"
    assert not (demo.keys / "demo_ed25519").exists()


def test_an_existing_file_decides(start: Callable[..., Demo], tmp_path: Path) -> None:
    """An authorized_keys that is there says who gets in; the user's own key alone does not."""
    private = make_own_key(tmp_path)
    keys = tmp_path / "the keys"
    keys.mkdir(mode=0o700)
    other = keys / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    authorized = keys / "authorized_keys"
    authorized.write_text((keys / "other.pub").read_text())
    authorized.chmod(0o600)
    demo = start().ready()
    assert demo.ask("1 + 1", "-i", str(other)).strip() == "2"
    assert demo.ssh("1 + 1", "-o", "IdentitiesOnly=yes", "-i", str(private)).returncode == 255
    assert authorized.read_text() == (keys / "other.pub").read_text()


@pytest.mark.parametrize("option", ["--http", "--manhole"])
def test_a_port_that_is_taken_is_one_line(start: Callable[..., Demo], option: str) -> None:
    """A port that another program has is one line on stderr and exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start(option, f"tcp:{port}:interface=127.0.0.1")
        assert demo.process.wait(PATIENCE) == 1
    assert len(demo.errors.splitlines()) == 1
    assert demo.errors.startswith("Error: ")
    assert str(port) in demo.errors


def test_keys_that_are_no_keys_are_one_line(start: Callable[..., Demo], tmp_path: Path) -> None:
    """An authorized_keys that lets nobody in is one line on stderr and exit status 1."""
    keys = tmp_path / "the keys"
    keys.mkdir(mode=0o700)
    (keys / "authorized_keys").touch(mode=0o600)
    demo = start()
    assert demo.process.wait(PATIENCE) == 1
    assert len(demo.errors.splitlines()) == 1
    assert "authorized_keys" in demo.errors


def test_a_file_that_cannot_be_written_is_one_line(
    start: Callable[..., Demo], tmp_path: Path
) -> None:
    """An audit trail that can't be kept is one line on stderr and exit status 1."""
    audit = tmp_path / "audit.json"
    audit.symlink_to(tmp_path / "elsewhere")
    demo = start("--audit", str(audit))
    assert demo.process.wait(PATIENCE) == 1
    assert len(demo.errors.splitlines()) == 1
    assert str(audit) in demo.errors
    assert "symbolic link; give the file itself" in demo.errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(start: Callable[..., Demo], number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with status 0 and without a traceback."""
    demo = start().ready()
    assert demo.stop(number) == 0
    demo.line(r"^Stopped\.")
    assert demo.errors == ""


def test_an_impatient_signal_in_a_pause_stops_it(start: Callable[..., Demo]) -> None:
    """Ctrl-C during a pause, twice, stops it when the pause ends; the pause is still told."""
    demo = start().ready()

    def stay() -> None:
        with suppress(OSError, HTTPException):  # the service may hang up before it answers
            demo.get("sleep?seconds=5")

    visit = threading.Thread(target=stay)
    visit.start()
    until(lambda: "wait_for_approval" in demo.ask("watchdog.stack()"))
    demo.process.send_signal(signal.SIGINT)
    assert demo.stop() == 0
    visit.join(PATIENCE)
    demo.line(r"paused \d+\.\d\d s in wait_for_approval")
    demo.line(r"^Stopped\.")
    assert demo.errors == ""


def test_a_reader_who_leaves_stops_it(tmp_path: Path) -> None:
    """When nobody reads its output any more (as with `| head`), it ends without complaint."""
    words = ["--http", ANY_PORT, "--manhole", ANY_PORT, "--keys", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "txwatchdog", "demo", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"HOME": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline()
            process.stdout.close()
            assert process.wait(PATIENCE) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()
