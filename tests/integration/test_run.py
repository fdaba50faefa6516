"""`txwatchdog run`: programs run as they would alone, are watched, and summed up at the end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from manhole_support import PATIENCE, SOURCE, make_key, make_keys
from support import outcome, patiently

HERE = Path(__file__).parent
SUBJECT = "run_subject.py"
RUN = (sys.executable, "-m", "txwatchdog", "run", "--threshold", "0.2", "--no-manhole")
REACTORS = ("default", "epoll", "poll", "select", "asyncio", "uvloop")
ALIKE = {
    "script": (SUBJECT, "default", "end"),
    "raise": (SUBJECT, "none", "raise"),
    "interrupt": (SUBJECT, "none", "interrupt"),
    "message": (SUBJECT, "none", "message"),
    "status": (SUBJECT, "default", "status"),
    "children": (SUBJECT, "none", "spawn"),
    "module": ("-m", "run_subject", "none", "raise"),
    "directory": ("archive", "none", "raise"),
    "missing module": ("-m", "no.such.module"),
    "syntax error": ("bad.py",),
}

Ended = subprocess.CompletedProcess[str]


def _run(words: Sequence[str], where: Path = HERE, **environment: str) -> Ended:
    return subprocess.run(
        words,
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
        input="said on stdin",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which they run."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def ended(where: Path) -> Iterator[dict[str, Future[Ended]]]:
    """All programs that end by themselves, begun at once; for each of `ALIKE` one alone, too."""
    (where / "archive").mkdir()
    for name in (SUBJECT, "archive/__main__.py"):
        (where / name).write_text((HERE / SUBJECT).read_text())
    (where / "bad.py").write_text("def f(:\n")
    with ThreadPoolExecutor(4) as pool:
        runs = {
            name: pool.submit(_run, [*RUN, "--", SUBJECT, name, "end"], where) for name in REACTORS
        }
        for name, words in ALIKE.items():
            runs[f"{name} alone"] = pool.submit(_run, [sys.executable, *words], where)
            runs[f"{name} run"] = pool.submit(_run, [*RUN, "--", *words], where)
        quiet = {"TXWATCHDOG_QUIET": "1", "TXWATCHDOG_REPORT": "report.html"}
        runs["quiet"] = pool.submit(_run, [*RUN, "--", SUBJECT, "default", "end"], where, **quiet)
        with_manhole = (*RUN[:-1], "--keys", "none", "--", SUBJECT, "default", "end")
        runs["no keys"] = pool.submit(_run, with_manhole, where)
        no_report = {"TXWATCHDOG_REPORT": "/proc/r.html"}
        runs["no report"] = pool.submit(
            _run, [*RUN, "--", SUBJECT, "default", "end"], where, **no_report
        )
        yield runs


def _ours(run: Ended) -> list[str]:
    return [
        line.removeprefix("txwatchdog: ")
        for line in run.stderr.splitlines()
        if line.startswith("txwatchdog: ")
    ]


def _words_to_systemd(where: Path, *options: str) -> bytes:
    """All that a program under `run` tells a socket that stands for systemd."""
    name = f"txwatchdog {os.getpid()} {len(options)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}")
        words = [*RUN, *options, "--", SUBJECT, "default", "end"]
        assert _run(words, where, NOTIFY_SOCKET=f"@{name}").returncode == 0
        systemd.setblocking(False)
        heard = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                heard += systemd.recv(4096) + b"\n"
        return heard


def test_systemd_is_told_unless_the_program_does_so(
    ended: dict[str, Future[Ended]], where: Path
) -> None:
    """READY comes when the reactor turns; with --no-systemd nothing comes from us."""
    assert b"READY=1" in _words_to_systemd(where)
    assert _words_to_systemd(where, "--no-systemd") == b""


def _theirs(run: Ended) -> str:
    lines = run.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("txwatchdog: "))


@pytest.mark.parametrize("reactor", REACTORS)
def test_every_reactor(ended: dict[str, Future[Ended]], reactor: str) -> None:
    """Whichever reactor a program installs, its pause is seen, and summed up in three lines."""
    run = outcome(ended[reactor])
    assert run.returncode == 0, run.stderr
    pauses, worst, report = _ours(run)
    assert re.match(r"\d pauses? over 0.2 s, ", pauses)
    assert "block (" in worst
    assert report == "report: none (--report FILE or TXWATCHDOG_REPORT=FILE writes one)"


@pytest.mark.parametrize("what", ALIKE)
def test_as_if_alone(ended: dict[str, Future[Ended]], what: str) -> None:
    """A program sees itself, prints, and ends as it does without txwatchdog."""
    alone, run = outcome(ended[f"{what} alone"]), outcome(ended[f"{what} run"])
    assert run.returncode == alone.returncode
    assert run.stdout == alone.stdout
    assert _theirs(run) == alone.stderr
    if "default" not in ALIKE[what]:
        ((line),) = _ours(run)
        assert line.endswith("never ran its reactor, so nothing was watched")


def test_quiet_with_a_report(ended: dict[str, Future[Ended]], where: Path) -> None:
    """By the environment: nothing on stderr, and the report beside the program, and only that."""
    run = outcome(ended["quiet"])
    assert (run.returncode, run.stderr) == (0, "")
    assert "</html>" in (where / "report.html").read_text()
    assert not [path for path in where.iterdir() if path.name.startswith(".report")]


def test_what_fails_of_ours(ended: dict[str, Future[Ended]]) -> None:
    """Keys that are missing, or a report that can't be written, are said, and no more."""
    no_keys, no_report = outcome(ended["no keys"]), outcome(ended["no report"])
    assert no_keys.returncode == no_report.returncode == 0
    first, *others = _ours(no_keys)
    assert first.startswith("no manhole: there is no ")
    assert first.endswith("(the program goes on without)")
    assert len(others) == 3
    assert _ours(no_report)[2].endswith("r.html could not be written: No such file or directory")


TAC = """
import time
from twisted.application import internet, service
application = service.Application("shop")
internet.TimerService(1, lambda: block()).setServiceParent(application)
def block():
    time.sleep(0.3)
"""


class _Service:
    """A service that is run, and the console in it."""

    def __init__(self, where: Path, *words: str) -> None:
        self.where = where
        self.key = make_key(where, "id")
        make_keys(where, self.key)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        options = [*RUN[:-1], "--manhole", f"tcp:{self.port}:interface=127.0.0.1"]
        options += ["--metrics", f"unix:{where}/metrics", "--audit", "audit"]
        self.process = subprocess.Popen(
            [*options, "--report", "report.html", "--", *words],
            cwd=where,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ssh(self, statement: str) -> str:
        """What the console says to `statement`, once it answers."""
        command = f"-F /dev/null -o UserKnownHostsFile={self.where}/known -i {self.key}".split()
        command += [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "IdentityAgent=none",
            "-o",
            "BatchMode=yes",
        ]
        deadline = time.monotonic() + PATIENCE
        while True:
            words = ["ssh", *command, "-p", self.port, "127.0.0.1", statement]
            run = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
            if run.returncode != 255:
                return run.stdout + run.stderr
            assert time.monotonic() < deadline, run.stderr
            time.sleep(0.1)


def test_twist(tmp_path: Path) -> None:
    """Under `twist` the console has reactor, main and service; SIGTERM ends it as it does alone."""
    running = _Service(
        tmp_path,
        "twist",
        "--log-format=text",
        "web",
        "--path=.",
        "--listen=tcp:0:interface=127.0.0.1",
    )
    try:
        told = running.ssh("[main.__file__, type(reactor).__name__, service, service.running]")
        assert "/twist'" in told
        assert "EPollReactor" in told
        assert "MultiService" in told
        running.ssh("import time; time.sleep(0.3)")
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.connect(f"{tmp_path}/metrics")
            scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            with scraper.makefile("rb") as answer:
                assert b"txwatchdog_" in answer.read()
        assert "import time" in (tmp_path / "audit").read_text()
        running.process.send_signal(signal.SIGTERM)
        _, errors = running.process.communicate(timeout=PATIENCE)
    finally:
        running.process.kill()
        running.process.communicate()
    assert running.process.returncode == -signal.SIGTERM
    pauses, worst, report = errors.splitlines()[-3:]
    assert pauses.startswith("txwatchdog: ")
    assert "manhole: " in worst
    assert report == f"txwatchdog: report: {tmp_path}/report.html"
    assert "</html>" in (tmp_path / "report.html").read_text()


def test_daemon(tmp_path: Path) -> None:
    """A `twistd` that becomes a daemon is watched there, and its log has what stderr had not."""
    (tmp_path / "shop.tac").write_text(TAC)
    running = _Service(tmp_path, "twistd", "--logfile=log", "-y", "shop.tac")
    output, errors = running.process.communicate(timeout=PATIENCE)
    assert (running.process.returncode, output, errors) == (0, "", "")
    pid = int((tmp_path / "twistd.pid").read_text())
    log = tmp_path / "log"
    try:
        told = running.ssh("[type(application).__name__, service, type(reactor).__name__]")
        assert "Componentized" in told
        assert "MultiService" in told
        patiently(lambda: "block (" in log.read_text(), "a pause in the log")
    finally:
        os.kill(pid, signal.SIGTERM)
    patiently(lambda: "Server Shut Down" in log.read_text(), "the daemon's end")
    told = log.read_text()
    assert re.search(r"reactor paused 0.\d+ s in block \(.*: \d+% ", told)
    assert re.search(r"\d pauses? over 0.2 s", told)
    assert f"report: {tmp_path}/report.html" in told
    assert (tmp_path / "report.html").exists()
