"""What prompt_toolkit reads: a channel's bytes, without a pipe or a descriptor in between."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import contextvars
import itertools
import re
from typing import TYPE_CHECKING

from prompt_toolkit.input.base import Input
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ChannelInput"]

_INPUT_LIMIT = 1 << 20  # characters that one input may take; what exceeds it is dropped
_LONG = 64  # printable characters in a row that no hand has typed
_ESCAPE = 32  # characters that a key's escape sequence has at most

_PIECES = re.compile(r"\r\n|[^\x00-\x1f\x7f]+|[\x00-\x1f\x7f]")
_TYPED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # keys that no text has in it
_INDENTED = re.compile(r"^[ \t]+[^ \t\n]", re.MULTILINE)

_numbers = itertools.count(1)


class ChannelInput(Input):
    """What prompt_toolkit reads, fed by the channel; all in the manhole's thread.

    A pipe, as prompt_toolkit's own, would cost two descriptors, and its write blocks for ever
    once it is full.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[str] = []
        self._taken = 0  # characters since the last `start`
        self._since_escape = _ESCAPE
        self._keys: list[KeyPress] = []
        self._parser = Vt100Parser(self._keys.append)
        self._callback: Callable[[], None] | None = None
        self._context = contextvars.Context()
        self._closed = False
        # Not id(): the hash names a global dictionary's entry, which must not be another's.
        self._hash = f"txwatchdog-manhole-{next(_numbers)}"

    def start(self) -> None:
        """A new input begins, and with it a new count."""
        self._taken = sum(map(len, self._waiting))

    @property
    def is_idle(self) -> bool:
        """Whether a character that comes now is typed, and no part of anything."""
        return not (
            self._waiting
            or self._pasting
            or self._since_escape < _ESCAPE
            or self._taken >= _INPUT_LIMIT
            or self._decoder.getstate()[0]
        )

    def feed(self, data: bytes) -> None:
        """Take bytes from the client; a character may be cut between two of them."""
        text = self._decoder.decode(data)
        room = max(_INPUT_LIMIT - self._taken, 0)
        if len(text) > room:
            # Control characters still get through, so that Ctrl-C and Enter help.
            text = text[:room] + "".join(c for c in text[room:] if c in "\x03\x04\r")[:16]
        self._taken += len(text)
        if text:
            self._waiting.append(text)
        self._notify()

    def feed_eof(self) -> None:
        """The client will send no more."""
        self._closed = True
        self._notify()

    def forget(self) -> None:
        """Drop what has not been read yet."""
        self._waiting.clear()
        self._parser.reset()
        self._keys.clear()
        clear_typeahead(self)

    def dispose(self) -> None:
        """Leave nothing behind in prompt_toolkit's global dictionary."""
        from prompt_toolkit.input import typeahead

        typeahead._buffer.pop(self._hash, None)

    def read_keys(self) -> list[KeyPress]:
        waiting = self._waiting[:]
        self._waiting.clear()
        for text in waiting:
            self._feed_chunk(text)
        return self._take_keys()

    def flush_keys(self) -> list[KeyPress]:
        self._parser.flush()
        self._since_escape = _ESCAPE
        return self._take_keys()

    @property
    def closed(self) -> bool:
        return self._closed

    def fileno(self) -> int:
        raise NotImplementedError("a channel has no descriptor")

    def typeahead_hash(self) -> str:
        return self._hash

    def raw_mode(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def cooked_mode(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def attach(self, input_ready_callback: Callable[[], None]) -> Iterator[None]:
        before, self._callback = self._callback, input_ready_callback
        # What feeds us runs outside of the application, and prompt_toolkit 3.0.38, unlike later
        # ones, finds by the context whose keys these are: none of its bindings would apply.
        self._context = contextvars.copy_context()
        self._notify()  # what was typed ahead, or the end
        try:
            yield
        finally:
            self._callback = before

    @contextlib.contextmanager
    def detach(self) -> Iterator[None]:
        before, self._callback = self._callback, None
        try:
            yield
        finally:
            self._callback = before
            self._notify()  # what was typed meanwhile

    @property
    def _pasting(self) -> bool:
        # The parser's own flag: the marks may be cut anywhere, and only it knows what it has seen.
        return bool(getattr(self._parser, "_in_bracketed_paste", False))

    def _feed_chunk(self, text: str) -> None:
        """Feed what came at once."""
        if not self._pasting and self._is_block(text):
            # Pasted by a terminal that does not mark it. It has its own indentation, and blank
            # lines that end nothing.
            lines = text.replace("\r\n", "\n").replace("\r", "\n")
            self._paste(lines.removesuffix("\n"))
            if lines.endswith("\n"):
                self._keys.append(KeyPress(Keys.ControlJ, "\n"))
            return
        for match in _PIECES.finditer(text):
            if self._pasting:
                # Its end mark is for the parser to find.
                self._parser.feed(text[match.start() :])
                break
            self._feed_piece(match.group())

    def _is_block(self, text: str) -> bool:
        """Whether it is several lines, one of them indented, and nothing but text."""
        if self._since_escape < _ESCAPE or _TYPED.search(text):
            return False
        lines = text.replace("\r\n", "\n").replace("\r", "\n")
        return "\n" in lines.removesuffix("\n") and _INDENTED.search(lines) is not None

    def _paste(self, text: str) -> None:
        self._parser.flush()
        self._keys.append(KeyPress(Keys.BracketedPaste, text))

    def _feed_piece(self, piece: str) -> None:
        """Feed one control character, or a run of printable ones.

        A long run is handed over as one paste: key by key, 200 KiB took gigabytes. So is one that
        begins with blanks: it has its own indentation. Right behind an escape it may be a key's
        sequence, which only the parser can read.
        """
        if piece in ("\r\n", "\n"):
            piece = "\r"
        if piece < " " or piece == "\x7f":
            self._parser.feed(piece)
            self._since_escape = 0 if piece == "\x1b" else _ESCAPE
            return
        head = max(_ESCAPE - self._since_escape, 0)
        rest = piece[head:]
        self._since_escape += len(piece)
        if len(rest) < _LONG and not (head == 0 and len(rest) > 1 and rest[0] == " "):
            self._parser.feed(piece)
            return
        self._parser.feed(piece[:head])
        if self._pasting:
            self._parser.feed(rest)
        else:
            self._paste(rest)

    def _take_keys(self) -> list[KeyPress]:
        keys = self._keys[:]
        self._keys.clear()
        return keys

    def _notify(self) -> None:
        if self._callback is not None and (self._waiting or self._closed):
            # Not at once: attach() may be the caller, and the application is not ready yet.
            asyncio.get_running_loop().call_soon(self._ready, context=self._context)

    def _ready(self) -> None:
        if self._callback is not None:
            self._callback()
