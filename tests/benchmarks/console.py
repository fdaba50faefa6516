"""Section 6: how soon a console answers, beside others, and whether it does so during a pause."""

from __future__ import annotations

import os
import pty
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from manhole_support import make_key, make_keys

from .harness import HERE, Bench, Spoken, Spread, Table, child, millis
from .peers import Missing, python_with, version_of

__all__ = ["run"]

PAUSE_SECONDS = 3.0
LATE_SECONDS = 30.0
MEGABYTES = 100
# Terminal type and window size, which a telnet server asks for.
TELNET = (
    b"\xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0\xff\xfb\x18\xff\xfa\x18\x00xterm\xff\xf0"
)


@frozen
class Home:
    """A directory with a key pair, and what its owner may enter with it."""

    path: Path

    @property
    def key(self) -> Path:
        """The private key."""
        return self.path / "id"

    def ssh(self, port: int, *options: str) -> list[str]:
        """The ssh command up to the host."""
        settings = ("UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR")
        given = [word for each in settings for word in ("-o", each)]
        return [
            *("ssh", "-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"),
            *given,
            *("-i", str(self.key), "-l", "operator", "-p", str(port), *options, "127.0.0.1"),
        ]


def by_ssh(home: Home, ready: dict[str, Any]) -> float:
    """Seconds from starting ssh to the prompt."""
    master, slave = pty.openpty()
    began = time.perf_counter()
    process = subprocess.Popen(
        home.ssh(ready["port"], "-tt"), stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    try:
        seen = b""
        while b">>>" not in seen:
            seen += os.read(master, 65536)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
        os.close(master)


def by_socket(_home: Home, ready: dict[str, Any]) -> float:
    """Seconds from connecting, by TCP or to a Unix socket, to the prompt."""
    began = time.perf_counter()
    family = socket.AF_UNIX if "path" in ready else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(LATE_SECONDS)
        connection.connect(ready.get("path") or ("127.0.0.1", ready["port"]))
        if family == socket.AF_INET:
            connection.sendall(TELNET)
        seen = b""
        while b">>>" not in seen:
            part = connection.recv(65536)
            if not part:
                raise OSError(f"closed after {seen!r}")
            seen += part
        return time.perf_counter() - began


@frozen
class Console:
    """One to be measured."""

    title: str
    which: str
    connect: Callable[[Home, dict[str, Any]], float]
    peer: str | None = None


CONSOLES = (
    Console("txwatchdog", "ours", by_ssh),
    Console("stock `twisted.conch.manhole` (the floor: a bare login)", "stock", by_ssh),
    Console("python-manhole", "manhole", by_socket, "manhole"),
    Console("aiomonitor", "aiomonitor", by_socket, "aiomonitor"),
)


def pause(server: Spoken, seconds: float) -> None:
    """Pause the service, and return as soon as it is."""
    server.ask(str(seconds))


@contextmanager
def serving(console: Console, home: Home) -> Iterator[tuple[Spoken, dict[str, Any]]]:
    """The service with that console in it, and how to reach it."""
    python = sys.executable if console.peer is None else python_with(console.peer)
    arguments = (console.which, home.path / "keys")
    with child("consoled.py", *arguments, python=python, stderr=subprocess.DEVNULL) as server:
        ready = server.hear()
        for _ in range(100):  # some listen a little later
            try:
                console.connect(home, ready)
                break
            except OSError:
                time.sleep(0.05)
        yield server, ready


def prompts(bench: Bench, home: Home) -> Table:
    """How long to the prompt, with the service well and with it paused."""
    times, paused_times = bench.times(20, 5), bench.times(5, 2)
    table = Table(
        f"Console: from connecting to the prompt, {times} times; during a pause {paused_times}",
        ("", "median, p99", f"in a pause of {PAUSE_SECONDS:g} s (`time.sleep`)", "how"),
    )
    for console in CONSOLES:
        bench.say(f"prompt of {console.which}")
        how = "ssh" if console.connect is by_ssh else "plain socket, no login"
        name = f"{console.title}" + (f" ({version_of(console.peer)})" if console.peer else "")
        try:
            with serving(console, home) as (server, ready):
                took = Spread.of([console.connect(home, ready) for _ in range(times)])
                late = []
                for _ in range(paused_times):
                    pause(server, PAUSE_SECONDS)
                    began = time.perf_counter()
                    late.append(console.connect(home, ready))
                    time.sleep(max(0.0, PAUSE_SECONDS + 0.2 - (time.perf_counter() - began)))
        except (Missing, RuntimeError, OSError) as problem:
            table.rows.append((name, f"not measured: {problem}", "", how))
            continue
        middle = statistics.median(late)
        after = " (when it is over)" if middle > PAUSE_SECONDS * 0.8 else ""
        quick = f"{millis(took.median)}, {millis(took.p(99))}"
        table.rows.append((name, quick, f"{millis(middle)}{after}", how))
        table.figures[console.which] = {"seconds": took.median, "paused_seconds": middle}
    return table


def commands(bench: Bench, home: Home) -> Table:
    """One command, and very much output."""
    times = bench.times(20, 5)
    size = bench.times(MEGABYTES, 20) * 1_000_000
    table = Table("Console: commands to txwatchdog", ("", "the service well", "paused"))
    with serving(CONSOLES[0], home) as (server, ready):

        def run_command(text: str) -> tuple[float, bytes]:
            began = time.perf_counter()
            done = subprocess.run(
                [*home.ssh(ready["port"]), text], capture_output=True, timeout=300
            )
            return time.perf_counter() - began, done.stdout

        bench.say("ssh HOST top")
        cells = []
        for seconds in (0.0, times * 2.0 + 5):
            if seconds:
                pause(server, seconds)
            cells.append(Spread.of([run_command("top")[0] for _ in range(times)]))
    table.rows.append(
        ("`ssh HOST top`: median, p99", *(f"{millis(c.median)}, {millis(c.p(99))}" for c in cells))
    )
    with serving(CONSOLES[0], home) as (server, ready):
        bench.say(f"{size // 10**6} MB of output")
        took, output = run_command(f"'x' * {size}")
    whole = "" if len(output) >= size else f", {len(output):,} bytes only"
    shown = f"{took:.1f} s, {size / took / 1e6:.0f} MB/s{whole}"
    paused = "the service's own Python waits for the pause's end"
    table.rows.append((f"a value of {size // 10**6} MB", shown, paused))
    table.figures = {"top": cells[0].median, "top_paused": cells[1].median, "output": shown}
    return table


def echoes(bench: Bench) -> Table:
    """A keystroke's echo beside stock Conch's."""
    rounds = bench.times(10, 3)
    bench.say("echo of keystrokes")
    table = Table(
        f"Console: echo of a keystroke, {rounds} alternating rounds", ("", "median", "p95")
    )
    command = [sys.executable, str(HERE / "echo.py"), "--rounds", str(rounds)]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    for name, middle, most in re.findall(r"(\w+) +median ([\d.]+) ms, 95 % within ([\d.]+)", told):
        title = "txwatchdog" if name == "ours" else "stock `twisted.conch.manhole`"
        table.rows.append((title, f"{middle} ms", f"{most} ms"))
        table.figures[name] = float(middle)
    ratio = re.search(r"rounds: ([\d.]+)", told)
    table.notes.append(f"Ours / stock: {ratio[1]}." if ratio else "Not measured: needs asyncssh.")
    return table


def run(bench: Bench) -> Iterator[Table]:
    """All of it."""
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name))
        make_keys(home.path, make_key(home.path, "id"))
        make_key(home.path / "keys", "host_ed25519")
        yield prompts(bench, home)
        yield commands(bench, home)
    yield echoes(bench)
