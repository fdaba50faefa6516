"""What the demo says: records in, lines out, and one printer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TextIO

from attrs import frozen

from txwatchdog.demo.keys import Access
from txwatchdog.demo.shop import CHORES_EVERY, LONGEST_WORK, Task, chore_lengths
from txwatchdog.records import Pause, blamed

__all__ = ["Address", "Announcement", "Voice", "colour_wanted", "pause_line", "ssh_command", "url"]

_BOLD, _RED, _PLAIN = "\033[1m", "\033[31m", "\033[0m"


class Address(Protocol):
    """What is bound: Twisted's `IPv4Address` or `IPv6Address`."""

    @property
    def host(self) -> str:
        """The address, as text."""

    @property
    def port(self) -> int:
        """The port that was really bound."""


def _reachable(host: str) -> str:
    """Return an address of this machine to connect to, given the one that is listened on."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def url(address: Address) -> str:
    """Return the URL of what listens at `address`."""
    host = _reachable(address.host)
    return f"http://[{host}]:{address.port}/" if ":" in host else f"http://{host}:{address.port}/"


def ssh_command(address: Address, identity: Path | None) -> str:
    """Return the command that opens the console, to be typed as it is."""
    words = ["ssh", "-p", str(address.port)]
    if identity is not None:
        words += ["-i", str(identity)]
    return shlex.join([*words, _reachable(address.host)])


def pause_line(pause: Pause) -> str:
    """Return one line about a finished pause."""
    when = pause.started_at.astimezone().strftime("%H:%M:%S")
    who = blamed(pause.offender, pause.via, pause.cause)
    why = "" if pause.cause == "unknown" else f": {pause.cause}"
    return f"{when}  paused {pause.duration:.2f} s {who}{why}"


@frozen
class Announcement:
    """What is said when everything listens.

    Attributes:
        http: Where the pages are.
        manhole: Where the console is.
        access: Who gets in, and how.
        host_key: The console's fingerprint, or None if it is not known.
        tasks: What the pages do, by path.
        threshold: The watchdog's, in seconds.
        metrics: Where the metrics are, or None if they are nowhere.
    """

    http: Address
    manhole: Address
    access: Access
    host_key: str | None
    tasks: Mapping[str, Task]
    threshold: float
    metrics: Address | None = None

    def lines(self, bold: Callable[[str], str]) -> Iterator[str]:
        """Yield what to print; `bold` marks what is to be typed or opened."""
        site = url(self.http)
        ssh = ssh_command(self.manhole, self.access.identity)
        yield "txwatchdog demo: a shop whose pages pause its reactor, as real services do."
        yield ""
        yield f"  pages    {bold(site)}"
        yield f"  console  {bold(ssh)}"
        yield f"           {bold(ssh + ' ' + shlex.quote('watchdog.stack()'))}"
        if self.metrics is not None:
            yield f"  metrics  {bold(url(self.metrics) + 'metrics')}"
        yield f"  keys     {self.access.story}"
        for skipped in self.access.skipped:
            yield f"           skipped {skipped}"
        if self.host_key:
            yield f"  host key {self.host_key}"
        yield ""
        yield from self._pages()
        yield ""
        yield from self._job()
        yield "During /sleep?seconds=30 the console still answers: try stack, then top."
        yield f"Each pause of more than {self.threshold:g} s is a line below. Ctrl-C stops it."
        yield ""

    def _pages(self) -> Iterator[str]:
        yield "  behaves  /, /fast"
        head = "pauses"
        for path, task in self.tasks.items():
            yield f"  {head:8} {'/' + path:10} {task.function:17} {task.bad_habit}"
            head = ""

    def _job(self) -> Iterator[str]:
        lengths = chore_lengths(self.threshold)
        yield (
            f"Every {CHORES_EVERY:g} s a job of the shop's own does one of these "
            f"for {min(lengths):.2g} to {max(lengths):.2g} s."
        )
        if max(lengths) <= self.threshold:
            yield (
                f"That is no pause with a threshold of {self.threshold:g} s: a job may take "
                f"{LONGEST_WORK:g} s at most. /sleep takes as long as you say."
            )


def colour_wanted(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether to colour what goes to `stream`: a terminal, without ``NO_COLOR``."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Voice:
    """Prints lines at once, from any thread, until nobody reads them any more.

    Each line is one write, so lines from two threads do not mix.

    Args:
        stream: Where to.
        colour: Whether to mark what matters.
        on_closed: Called once, by whichever thread prints, when the reader has gone.
    """

    def __init__(self, stream: TextIO, *, colour: bool, on_closed: Callable[[], object]) -> None:
        self._stream = stream
        self._colour = colour
        self._on_closed = on_closed
        # Written by whichever thread prints first to a closed stream; a second one that comes
        # before it sees that calls on_closed again, which stops the demo no more than once.
        self._closed = False

    def bold(self, text: str) -> str:
        """Return `text`, marked if there is colour."""
        return f"{_BOLD}{text}{_PLAIN}" if self._colour else text

    def red(self, text: str) -> str:
        """Return `text`, marked as bad news if there is colour."""
        return f"{_RED}{text}{_PLAIN}" if self._colour else text

    def say(self, *lines: str) -> None:
        """Print each line."""
        self.say_all(lines)

    def say_all(self, lines: Iterable[str]) -> None:
        """Print each line."""
        for line in lines:
            if self._closed:
                return
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except OSError:
                self._closed = True
                # Else Python tries to flush what is left as it exits, and complains.
                with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, by descriptor
                    os.dup2(nowhere.fileno(), self._stream.fileno())
                self._on_closed()
