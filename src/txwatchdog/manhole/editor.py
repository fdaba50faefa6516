"""The line editor: prompt_toolkit over a channel, without a pipe or a descriptor in between."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import contextvars
import itertools
import re
from typing import TYPE_CHECKING, Any, TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input.base import Input
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from txwatchdog.manhole.console import PS1, PS2, is_complete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prompt_toolkit.key_binding import KeyPressEvent

    from txwatchdog.manhole.output import Outlet
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["ChannelInput", "LineEditor", "channel_output"]

_INPUT_LIMIT = 1 << 20  # characters that one input may take; what exceeds it is dropped
_LONG = 64  # printable characters in a row that no hand has typed
_ESCAPE = 32  # characters that a key's escape sequence has at most

_PIECES = re.compile(r"[^\x00-\x1f\x7f]+|[\x00-\x1f\x7f]")

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
        text = "".join(self._waiting)
        self._waiting.clear()
        if self._pasting:
            self._parser.feed(text)
            text = ""
        for match in _PIECES.finditer(text):
            if self._pasting:
                # Its end mark is for the parser to find.
                self._parser.feed(text[match.start() :])
                break
            self._feed_piece(match.group())
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

    @property
    def _pasting(self) -> bool:
        # The parser's own flag: the marks may be cut anywhere, and only it knows what it has seen.
        return bool(getattr(self._parser, "_in_bracketed_paste", False))

    def _feed_piece(self, piece: str) -> None:
        """Feed one control character, or a run of printable ones.

        A long run is handed over as one paste: key by key, 200 KiB took gigabytes. Right behind an
        escape it may be a key's sequence, which only the parser can read.
        """
        if piece < " " or piece == "\x7f":
            self._parser.feed(piece)
            self._since_escape = 0 if piece == "\x1b" else _ESCAPE
            return
        head = max(_ESCAPE - self._since_escape, 0)
        rest = piece[head:]
        self._since_escape += len(piece)
        if len(rest) < _LONG:
            self._parser.feed(piece)
            return
        self._parser.feed(piece[:head])
        if self._pasting:
            self._parser.feed(rest)
        else:
            self._parser.flush()
            self._keys.append(KeyPress(Keys.BracketedPaste, rest))

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


class _Screen:
    """The file that prompt_toolkit writes to. It ends its lines itself."""

    encoding = "utf-8"

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def write(self, text: str) -> int:
        self._outlet.write_raw(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return True


def channel_output(channel: SessionChannel) -> Vt100_Output:
    """What prompt_toolkit writes to, so that it comes out at a session's terminal.

    Args:
        channel: The session's, with a terminal.
    """

    def size() -> Size:
        assert channel.terminal is not None
        return Size(rows=channel.terminal.rows, columns=channel.terminal.columns)

    assert channel.terminal is not None
    return Vt100_Output(
        cast("TextIO", _Screen(channel.outlet)),
        size,
        term=channel.terminal.name,
        # The environment that prompt_toolkit would look at is the service's, not the client's.
        default_color_depth=ColorDepth.DEPTH_1_BIT,
        enable_cpr=False,
    )


class LineEditor:
    """Reads inputs from a terminal, with editing and this session's history.

    Args:
        channel: The session's, with a terminal.
    """

    def __init__(self, channel: SessionChannel) -> None:
        self._input = ChannelInput()
        self._output = channel_output(channel)
        self._session: PromptSession[str] = PromptSession(
            # With a style, if an empty one: of bare text the renderer leaves out trailing spaces.
            [("fg:ansidefault", PS1)],
            input=self._input,
            output=self._output,
            history=InMemoryHistory(),
            multiline=True,
            prompt_continuation=[("fg:ansidefault", PS2)],
            key_bindings=_bindings(),
            complete_while_typing=False,
            reserve_space_for_menu=0,
        )
        # The channel tells; asking twice a second would wake an idle service's process.
        self._session.app.terminal_size_polling_interval = None

    async def read(self) -> str:
        self._input.start()
        try:
            # Without one of its own, all consoles share prompt_toolkit's default session, and
            # what is typed into one is run by another.
            with create_app_session(self._input, self._output):
                return await self._session.prompt_async(
                    set_exception_handler=False, handle_sigint=False
                )
        except (asyncio.CancelledError, EOFError):
            self._input.dispose()
            raise

    def feed(self, data: bytes) -> None:
        self._input.feed(data)

    def feed_eof(self) -> None:
        self._input.feed_eof()

    def forget(self) -> None:
        self._input.forget()

    def resized(self) -> None:
        if self._session.app.is_running:
            self._session.app._on_resize()  # as prompt_toolkit's own servers do


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def enter(event: KeyPressEvent) -> Any:
        buffer = event.current_buffer
        document = buffer.document
        # In the middle of a block Enter edits; at its end it runs what is complete.
        is_at_end = document.line_count == 1 or not document.text_after_cursor.strip()
        if is_at_end and is_complete(document.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    @bindings.add("tab")
    def tab(event: KeyPressEvent) -> Any:
        event.current_buffer.insert_text("    ")

    return bindings
