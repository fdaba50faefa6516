"""Helpers for the manhole's integration tests: a service as a child, the real ssh, a terminal."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SOURCE = Path(__file__).resolve().parents[2] / "src"
SERVICE = Path(__file__).with_name("manhole_service.py")
PATIENCE = 60.0  # seconds; a bound against hanging, never an expectation

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07")

_numbers = itertools.count(1)


def make_key(directory: Path, name: str, *options: str) -> Path:
    """Make a key pair with ssh-keygen, and return the private one's path."""
    path = directory / name
    options = options or ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(path), *options], check=True)
    return path


def make_keys(directory: Path, *private: Path) -> Path:
    """Make a keys directory that lets these keys in."""
    keys = directory / "keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    authorized = keys / "authorized_keys"
    authorized.write_text("".join(path.with_suffix(".pub").read_text() for path in private))
    authorized.chmod(0o600)
    return keys


class ServiceProcess:
    """The service, as a process, and ssh to talk to it."""

    def __init__(
        self,
        directory: Path,
        endpoint: str = "tcp:0:interface=127.0.0.1",
        reactor: str = "epoll",
        launcher: Sequence[str] = (),
        script: Path = SERVICE,
        **options: Any,
    ) -> None:
        self.directory = directory
        self.key = make_key(directory, "id")
        self.keys = make_keys(directory, self.key)
        self.operator = self.key.with_suffix(".pub").read_text().split(None, 2)[2].strip()
        self._log = directory / "service.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *launcher,
                    sys.executable,
                    "-u",
                    str(script),
                    str(self.keys),
                    endpoint,
                    reactor,
                    json.dumps(options),
                ],
                stdout=subprocess.PIPE,
                bufsize=0,  # or lines wait in a buffer, where select() does not see them
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
            )
        self.port = self.announced()["port"] or 22  # which ssh wants even without TCP

    def announced(self) -> Any:
        """Wait for the service's next announcement, and return it."""
        while True:
            line = self.line()
            if line.startswith("{"):
                return json.loads(line)

    def line(self) -> str:
        """Wait for the next line of the service's stdout."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline().decode() if readable else ""
        assert line, f"the service said nothing; its log:\n{self.log()}"
        return line.rstrip("\n")

    def log(self) -> str:
        """All that the service has logged."""
        return self._log.read_text()

    def command(self, *options: str, key: Path | None = None) -> list[str]:
        """The ssh command up to the host."""
        return [
            "ssh",
            "-F",
            "/dev/null",
            "-o",
            f"UserKnownHostsFile={self.directory}/known_hosts",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-o",
            "LogLevel=ERROR",
            "-i",
            str(key or self.key),
            "-p",
            str(self.port),
            *options,
            "127.0.0.1",
        ]

    def ssh(
        self,
        *command: str,
        options: Sequence[str] = ("-o", "BatchMode=yes"),
        key: Path | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run ssh with a command, to its end."""
        return subprocess.run(
            [*self.command(*options, key=key), *command],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=PATIENCE,
            check=False,
        )

    def terminal(self, **settings: Any) -> Terminal:
        """Log in with a terminal."""
        return Terminal(self.command("-tt"), **settings)

    def nap(self, seconds: float) -> None:
        """Pause the reactor, and return as soon as it is paused."""
        assert self.ssh(f"service.nap({seconds})").returncode == 0
        while self.line() != "napping":
            pass

    def close(self) -> None:
        """End the service, and say what it logged if it had to be killed."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the service did not end; its log:\n{self.log()}") from None
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def close_well(self) -> None:
        """End the service, which must not have logged that anything went wrong."""
        self.close()
        log = self.log()
        assert "Traceback" not in log, log
        assert "Unhandled" not in log, log


class Terminal:
    """A program on a pseudo-terminal, as a person sees and types to it."""

    def __init__(
        self, command: Sequence[str], term: str = "xterm", columns: int = 80, rows: int = 24
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, rows, notify=False)
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # So that ssh learns of a new size: the signal goes to whose terminal it is.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
            env={**os.environ, "TERM": term},
        )
        os.close(slave)
        self.seen = ""
        self.raw = b""
        self._read_to = 0

    def type(self, text: str) -> None:
        """Type text; a carriage return is Enter."""
        data = text.encode()
        while data:
            data = data[os.write(self._master, data) :]

    def expect(self, text: str) -> str:
        """Wait until text appears after what was last expected; return all up to its end."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.seen.find(text, self._read_to)
            if found >= 0:
                start, self._read_to = self._read_to, found + len(text)
                return self.seen[start : self._read_to]
            assert self._read_more(deadline), f"no {text!r} in:\n{self.seen[self._read_to :]}"

    def expect_end(self) -> int:
        """Wait until the program ends; return its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read_more(deadline):
            pass
        return self._process.wait(PATIENCE)

    def resize(self, columns: int, rows: int, *, notify: bool = True) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if notify:
            self._process.send_signal(signal.SIGWINCH)

    def stop(self) -> None:
        """Have the program stand still, as if its host were gone."""
        self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        """Hang up."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read_more(self, deadline: float) -> bool:
        readable, _, _ = select.select(
            [self._master], [], [], max(deadline - time.monotonic(), 0.0)
        )
        if not readable:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.raw += data
        self.seen = _CONTROL.sub("", self.raw.decode("utf-8", "ignore"))
        return bool(data)


class Screen:
    """A program in tmux: a terminal that knows what its screen shows, not only what was sent.

    Args:
        command: What runs in it; its exit status is shown when it has ended.
        columns: The terminal's width.
        rows: Its height.
    """

    def __init__(self, command: Sequence[str], columns: int = 80, rows: int = 24) -> None:
        self._socket = f"txwatchdog-{os.getpid()}-{next(_numbers)}"
        shown = f"{shlex.join(command)}; echo exit status $?; sleep 1000"
        size = ("-x", str(columns), "-y", str(rows))
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, shown)

    def text(self, *, styled: bool = False) -> str:
        """What the screen shows, with its colours' escape sequences if `styled`."""
        return self._tmux("capture-pane", "-p", *(["-e"] if styled else []))

    def wait(self, *texts: str, without: Sequence[str] = ()) -> str:
        """Wait until the screen shows all of `texts` and none of `without`; return it."""

        def shows(text: str) -> bool:
            return all(each in text for each in texts) and not any(each in text for each in without)

        return self.until(shows, f"{texts} without {without}")

    def until(self, shows: Callable[[str], object], what: str = "what was expected") -> str:
        """Wait until the screen's text is as expected; return it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.text()
            if shows(text):
                return text
            assert time.monotonic() < deadline, f"no {what} in:\n{text}"
            time.sleep(0.05)

    def paste(self, text: str, *, marked: bool) -> None:
        """Paste text at once, with the marks of a bracketed paste or as if it were typed."""
        self._tmux("set-buffer", text)
        self._tmux("paste-buffer", "-r", *(["-p"] if marked else []))

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names: `q`, `Down`, `C-c`."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def close(self) -> None:
        """Hang up."""
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-u", "-L", self._socket, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        ).stdout
