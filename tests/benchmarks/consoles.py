"""The consoles that are measured: each in a service of its own, and how it is reached."""

from __future__ import annotations

import os
import pty
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from .harness import Spoken, child
from .peers import python_with, version_of

__all__ = [
    "AIOMONITOR",
    "BARE",
    "MANHOLE",
    "OURS",
    "STOCK",
    "Console",
    "Home",
    "Service",
    "serving",
]

LATE_SECONDS = 30.0
PROMPT = b">>>"
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
        while PROMPT not in seen:
            seen += os.read(master, 65536)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
        os.close(master)


@contextmanager
def connected(ready: dict[str, Any]) -> Iterator[socket.socket]:
    """A socket to what needs no login, at its prompt; by TCP or a Unix socket's path.

    Raises:
        OSError: there is none.
    """
    family = socket.AF_UNIX if "path" in ready else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(LATE_SECONDS)
        connection.connect(ready.get("path") or ("127.0.0.1", ready["port"]))
        if family == socket.AF_INET:
            connection.sendall(TELNET)
        seen = b""
        while PROMPT not in seen:
            part = connection.recv(65536)
            if not part:
                raise OSError(f"closed after {seen!r}")
            seen += part
        yield connection


def by_socket(_home: Home, ready: dict[str, Any]) -> float:
    """Seconds from connecting to the prompt."""
    began = time.perf_counter()
    with connected(ready):
        return time.perf_counter() - began


@frozen
class Console:
    """One to be measured.

    Attributes:
        name: for people.
        which: for the child.
        connect: returns the seconds to the prompt.
        peer: what it is installed from.
    """

    name: str
    which: str
    connect: Callable[[Home, dict[str, Any]], float]
    peer: str | None = None

    @property
    def title(self) -> str:
        """Its name, with its release."""
        return f"{self.name} ({version_of(self.peer)})" if self.peer else self.name


OURS = Console("txwatchdog", "ours", by_ssh)
STOCK = Console("stock `twisted.conch.manhole`", "stock", by_ssh)
MANHOLE = Console("python-manhole", "manhole", by_socket, "manhole")
AIOMONITOR = Console("aiomonitor", "aiomonitor", by_socket, "aiomonitor")
BARE = Console("bare Conch", "bare", by_ssh)
"""It has no prompt: only `Service.run`."""


@frozen
class Service:
    """A service with a console in it."""

    console: Console
    home: Home
    server: Spoken
    ready: dict[str, Any]

    def connect(self) -> float:
        """Seconds to the prompt.

        Raises:
            OSError: there is none yet.
        """
        return self.console.connect(self.home, self.ready)

    def first(self) -> float:
        """Seconds to the prompt, by the first try that succeeds: some listen a little later."""
        for _ in range(100):
            try:
                return self.connect()
            except OSError:
                time.sleep(0.05)
        return self.connect()

    def run(self, command: str) -> float:
        """Seconds that `ssh HOST command` takes.

        Raises:
            RuntimeError: it failed.
        """
        began = time.perf_counter()
        done = subprocess.run(
            [*self.home.ssh(self.ready["port"]), command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LATE_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"ssh HOST {command}: {done.stderr.decode(errors='replace')}")
        return time.perf_counter() - began

    def pause(self, kind: str, seconds: float) -> None:
        """Pause it, by `sleep` or `loop`, and return as soon as it is."""
        self.server.ask(f"{kind} {seconds}")

    @property
    def cpu_seconds(self) -> float:
        """What its process has had so far, all threads."""
        return time.clock_gettime(~self.server.pid << 3 | 2)  # as clock_getcpuclockid(3) has it


def ssh_cpu_seconds() -> float:
    """What the children that have ended had, each `ssh` among them."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def serving(console: Console, home: Home) -> Iterator[Service]:
    """The service with that console in it, to which nobody has connected.

    Raises:
        Missing: the console can't be installed.
    """
    python = sys.executable if console.peer is None else python_with(console.peer)
    arguments = (console.which, home.path / "keys")
    with child("consoled.py", *arguments, python=python, stderr=subprocess.DEVNULL) as server:
        yield Service(console, home, server, server.hear())
