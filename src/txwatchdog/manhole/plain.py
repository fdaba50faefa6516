"""A line editor for terminals that can do nothing: it echoes, erases and ends lines."""

from __future__ import annotations

import asyncio
import codecs
import unicodedata
from collections import deque
from typing import TYPE_CHECKING

from txwatchdog.manhole.prompts import PS1, PS2, is_complete

if TYPE_CHECKING:
    from txwatchdog.manhole.output import Outlet

__all__ = ["PlainEditor"]

_ERASING = "\x08\x7f\x15"
_LIMIT = 1 << 16  # characters that may wait, or that one input may have


class PlainEditor:
    """Reads inputs without a single escape sequence. In the manhole's thread.

    Args:
        outlet: Where it echoes to.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: deque[str] = deque(maxlen=_LIMIT)
        self._more = asyncio.Event()
        self._closed = False

    async def read(self) -> str:
        lines: list[str] = []
        while True:
            lines.append(await self._read_line(PS2 if lines else PS1, bool(lines)))
            source = "\n".join(lines)
            if is_complete(source) or len(source) > _LIMIT:
                return source

    def feed(self, data: bytes) -> None:
        self._waiting.extend(self._decoder.decode(data))
        self._more.set()

    def feed_eof(self) -> None:
        self._closed = True
        self._more.set()

    def forget(self) -> None:
        self._waiting.clear()

    def resized(self) -> None:
        """A line is a line, whatever the width."""

    async def _read_line(self, prompt: str, continues: bool) -> str:
        self._outlet.write(prompt)
        line: list[str] = []
        while True:
            character = await self._next()
            if character in "\r\n":
                self._outlet.write("\n")
                return "".join(line)
            if character == "\x03":
                self._outlet.write("^C\n")
                raise KeyboardInterrupt
            if character == "\x04" and not line:
                if not continues:
                    self._outlet.write("\n")
                    raise EOFError
            else:
                self._edit(line, character)

    def _edit(self, line: list[str], character: str) -> None:
        if character in _ERASING:
            # Backspace and Delete take one character away, Ctrl-U all.
            for _ in range(len(line) if character == "\x15" else min(len(line), 1)):
                self._erase(line.pop())
        elif (character >= " " or character == "\t") and len(line) < _LIMIT:
            line.append("    " if character == "\t" else character)
            self._outlet.write(line[-1])

    def _erase(self, text: str) -> None:
        wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
        self._outlet.write("\b" * wide + " " * wide + "\b" * wide)

    async def _next(self) -> str:
        while not self._waiting:
            if self._closed:
                raise EOFError
            self._more.clear()
            await self._more.wait()
        return self._waiting.popleft()
