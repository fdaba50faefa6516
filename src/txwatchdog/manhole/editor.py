"""The line editor: prompt_toolkit over a channel, with completion, colours and indentation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session, run_in_terminal
from prompt_toolkit.data_structures import Size
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus, is_searching
from prompt_toolkit.formatted_text import fragment_list_width
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.search import accept_search
from prompt_toolkit.styles import Style

from txwatchdog.manhole.completion import complete, in_columns
from txwatchdog.manhole.echo import echo
from txwatchdog.manhole.frame import simplify
from txwatchdog.manhole.keys import ChannelInput
from txwatchdog.manhole.prompts import PS1, PS2, is_complete
from txwatchdog.manhole.reflow import reflow
from txwatchdog.manhole.scan import INDENT, indentation_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyPressEvent
    from prompt_toolkit.lexers import Lexer

    from txwatchdog.manhole.history import HistoryFile
    from txwatchdog.manhole.output import Outlet
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["LineEditor", "channel_output"]

_REFRESH = 1.0  # seconds between two looks at the reactor while a prompt is open

# The terminal's own colours, and only those that can be read on black and on white.
_STYLE = Style.from_dict(
    {
        "paused": "bold fg:ansired",
        "pygments.keyword": "bold fg:ansimagenta",
        "pygments.operator.word": "bold fg:ansimagenta",
        "pygments.literal.string": "fg:ansigreen",
        "pygments.literal.number": "fg:ansimagenta",
        "pygments.comment": "italic",
        "pygments.name.function": "bold",
        "pygments.name.class": "bold",
        "pygments.name.decorator": "fg:ansimagenta",
    }
)


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
        default_color_depth=(
            ColorDepth.DEPTH_4_BIT if channel.terminal.has_colour else ColorDepth.DEPTH_1_BIT
        ),
        enable_cpr=False,
    )


class _KeptHistory(History):
    """A key's history, as prompt_toolkit asks for it."""

    def __init__(self, file: HistoryFile) -> None:
        super().__init__()
        self._file = file

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._file.load())

    def store_string(self, string: str) -> None:
        self._file.add(string)


class LineEditor:
    """Reads inputs from a terminal, with editing, completion and history.

    Args:
        channel: The session's, with a terminal.
        names: What Tab completes; looked at anew each time.
        note: What stands before the prompt at this moment; called about once a second.
        history: Where inputs are kept; None: not beyond the session.
    """

    def __init__(
        self,
        channel: SessionChannel,
        names: Mapping[str, Any],
        note: Callable[[], str],
        history: HistoryFile | None,
    ) -> None:
        assert channel.terminal is not None
        self._channel = channel
        self._names = names
        self._look = note
        self._note = ""
        # Blanks that Enter has put at the beginning of a line, and the line's number.
        self._margin = (0, 0)
        self._input = ChannelInput()
        self._output = channel_output(channel)
        self._session: PromptSession[str] = PromptSession(
            input=self._input,
            output=self._output,
            history=InMemoryHistory() if history is None else _KeptHistory(history),
            style=_STYLE,
            include_default_pygments_style=False,
            multiline=True,
            key_bindings=self._bindings(),
            complete_while_typing=False,
            reserve_space_for_menu=0,
        )
        simplify(self._session, _lexer() if channel.terminal.has_colour else None, self._prefix)
        # The channel tells; asking twice a second would wake an idle service's process.
        self._session.app.terminal_size_polling_interval = None

    async def read(self) -> str:
        self._input.start()
        self._note = self._look()
        refreshing = asyncio.ensure_future(self._refresh())
        try:
            # Without one of its own, all consoles share prompt_toolkit's default session, and
            # what is typed into one is run by another.
            with create_app_session(self._input, self._output):
                return await self._session.prompt_async(
                    pre_run=self._load_history, set_exception_handler=False, handle_sigint=False
                )
        except (asyncio.CancelledError, EOFError):
            self._input.dispose()
            raise
        finally:
            refreshing.cancel()

    def feed(self, data: bytes) -> None:
        if len(data) == 1 and b" " <= data <= b"~" and self._input.is_idle:
            echo(self._session.app, data.decode("ascii"))
        self._input.feed(data)

    def feed_eof(self) -> None:
        self._input.feed_eof()

    def forget(self) -> None:
        self._input.forget()

    def resized(self) -> None:
        app, terminal = self._session.app, self._channel.terminal
        if app.is_running:
            assert terminal is not None
            reflow(app.renderer, terminal.columns)
            app._on_resize()  # as prompt_toolkit's own servers do

    def _prefix(self, line: int, wraps: int) -> StyleAndTextTuples:
        """What stands before a line of the input, or before the rest of a wrapped one."""
        # With a style, if an empty one: of bare text the renderer leaves out trailing spaces.
        prompt: StyleAndTextTuples = [("fg:ansidefault", PS1)]
        if self._note:
            prompt = [("class:paused", self._note), ("fg:ansidefault", " "), *prompt]
        if line == 0 and wraps == 0:
            return prompt
        # As wide as the prompt, so that a block stands as it will run.
        width = fragment_list_width(prompt)
        return [("fg:ansidefault", " " * width if wraps else PS2.rjust(width))]

    def _load_history(self) -> None:
        """Begin at once, and draw anew at its end: a search may have been quicker."""
        buffer, app = self._session.default_buffer, self._session.app
        buffer.load_history_if_not_yet_loaded()
        if buffer._load_history_task is not None:
            buffer._load_history_task.add_done_callback(lambda _: app.invalidate())

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH)
            note = self._look()
            # While the client does not take what it was sent, more would only pile up.
            if note != self._note and not self._channel.spool:
                self._note = note
                self._session.app.invalidate()

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        editing = has_focus(DEFAULT_BUFFER)  # as opposed to searching the history

        @Condition
        def in_margin() -> bool:
            before = self._session.default_buffer.document.current_line_before_cursor
            return bool(before) and not before.strip(" ")

        @bindings.add("enter", filter=editing)
        def enter(event: KeyPressEvent) -> None:
            self._enter(event.current_buffer, indents=True)

        @bindings.add("c-j", filter=editing)
        def pasted_line_ends(event: KeyPressEvent) -> None:
            self._enter(event.current_buffer, indents=False)

        @bindings.add("enter", filter=is_searching)
        def found(event: KeyPressEvent) -> None:
            accept_search()
            # Where the next Enter runs it; the search leaves the cursor at what was looked for.
            event.current_buffer.cursor_position = len(event.current_buffer.text)

        @bindings.add("tab", filter=editing)
        def tab(event: KeyPressEvent) -> None:
            before = event.current_buffer.document.current_line_before_cursor
            if not before or before[-1].isspace():
                event.current_buffer.insert_text(" " * (INDENT - len(before) % INDENT))
            else:
                self._complete(event.current_buffer)

        @bindings.add("backspace", filter=editing & in_margin)
        def unindent(event: KeyPressEvent) -> None:
            before = event.current_buffer.document.current_line_before_cursor
            event.current_buffer.delete_before_cursor(1 + (len(before) - 1) % INDENT)

        @bindings.add(Keys.BracketedPaste, filter=editing)
        def paste(event: KeyPressEvent) -> None:
            self._paste(event.current_buffer, event.data)

        return bindings

    def _enter(self, buffer: Buffer, *, indents: bool) -> None:
        document = buffer.document
        # In the middle of a block Enter edits; at its end it runs what is complete.
        is_at_end = document.line_count == 1 or not document.text_after_cursor.strip()
        if is_at_end and is_complete(document.text):
            if document.line_count > 1 and not document.current_line.strip():
                # The blanks that Enter put there would only be in the way later.
                buffer.delete_before_cursor(len(document.current_line_before_cursor))
            buffer.validate_and_handle()
            return
        buffer.newline(copy_margin=False)
        if indents:
            margin = indentation_after(document.text_before_cursor)
            buffer.insert_text(margin)
            self._margin = (len(margin), buffer.document.cursor_position_row)

    def _paste(self, buffer: Buffer, text: str) -> None:
        margin, row = self._margin
        document = buffer.document
        if (
            text[:1].isspace()
            and row == document.cursor_position_row
            and not document.current_line_before_cursor.strip()
        ):
            # It brings its own indentation.
            buffer.delete_before_cursor(min(margin, len(document.current_line_before_cursor)))
        self._margin = (0, 0)
        buffer.insert_text(text.replace("\r\n", "\n").replace("\r", "\n"))

    def _complete(self, buffer: Buffer) -> None:
        found = complete(buffer.document.text_before_cursor, self._names)
        if found.texts:
            buffer.insert_text(found.common[found.typed :])
        if len(found.texts) > 1:
            assert self._channel.terminal is not None
            rows = max(self._channel.terminal.rows - 4, 2)
            lines = in_columns(found.texts, self._channel.terminal.columns - 1, rows)
            text = "".join(line + "\n" for line in lines)
            run_in_terminal(lambda: self._channel.outlet.write(text))


def _lexer() -> Lexer:
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]

    return PygmentsLexer(PythonLexer)
