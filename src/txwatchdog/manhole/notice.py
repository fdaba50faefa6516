"""A line that says what a session waits for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from txwatchdog.manhole.output import Outlet
from txwatchdog.manhole.spool import STDERR, STDOUT

if TYPE_CHECKING:
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["Notice"]


class Notice:
    """What is waited for: kept up to date in place on a terminal, said once elsewhere.

    Shown and removed in the manhole's thread. What the statement writes meanwhile, in any thread,
    takes its place, and it comes back on a line of its own only.

    Args:
        outlet: The session's.
        channel: The session's.
    """

    def __init__(self, outlet: Outlet, channel: SessionChannel) -> None:
        self._plain = outlet
        self._channel = channel
        # Held for no longer than it takes to hand text over, by whoever writes.
        self._lock = threading.Lock()
        self._shown = False
        self._said = False
        self._in_mid_line = False
        self.outlet: Outlet = _Guarded(self, outlet)
        """What the statement is to write to."""

    @property
    def has_terminal(self) -> bool:
        """Whether anybody may be watching."""
        return self._channel.terminal is not None

    def show(self, text: str, hint: str, label: str = "") -> None:
        """Say it, or say it anew.

        Args:
            text: What is waited for; cut to the terminal's width.
            hint: What Ctrl-C does.
            label: Put in front of it where there is no terminal to show it in place.
        """
        terminal = self._channel.terminal
        if not self._lock.acquire(blocking=False):
            return  # the statement writes, so it can be seen to go on
        try:
            if self._in_mid_line:
                return
            if terminal is not None and terminal.name != "dumb":
                room = terminal.columns - len(hint) - 3
                self._plain.write(f"\r\x1b[K{text[: max(room, 0)]}; {hint}", STDERR)
                self._shown = True
            elif not self._said:
                self._plain.write(f"{label}{text}; {hint}\n", STDERR)
                self._said = True
        finally:
            self._lock.release()

    def remove(self) -> None:
        """Take it off the terminal."""
        with self._lock:
            self._erase()

    def write(self, text: str, stream: int) -> None:
        """Write what the statement does. From any thread."""
        with self._lock:
            self._erase()
            self._plain.write(text, stream)
            if text:
                self._in_mid_line = not text.endswith("\n")

    def _erase(self) -> None:
        if self._shown:
            self._plain.write("\r\x1b[K", STDERR)
            self._shown = False


class _Guarded(Outlet):
    """An outlet that keeps the statement's text and the notice apart."""

    def __init__(self, notice: Notice, outlet: Outlet) -> None:
        super().__init__(lambda _stream, _data: None, terminal=outlet.terminal)
        self._notice = notice

    def write(self, text: str, stream: int = STDOUT) -> None:
        self._notice.write(text, stream)
