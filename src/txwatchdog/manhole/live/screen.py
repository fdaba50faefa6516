"""Puts the view on a session's terminal, each second anew. In the manhole's thread.

It costs the service the GIL for as long as a frame takes, so a frame is kept cheap: a line that
is as it was keeps its row of cells, and while the client has not taken the frame before, none is
made.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from prompt_toolkit import Application
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.layout.screen import Char
from prompt_toolkit.styles import Style

from txwatchdog.auditlog import tell
from txwatchdog.errors import ManholeError
from txwatchdog.manhole.editor import channel_output
from txwatchdog.manhole.keys import ChannelInput
from txwatchdog.manhole.live.model import (
    CHANGING_KEYS,
    NOT_ALLOWED,
    NOW,
    Action,
    Model,
    Snapshot,
)
from txwatchdog.manhole.live.page import page, pause_lines, stack_lines
from txwatchdog.manhole.statuses import INTERRUPTED
from txwatchdog.manhole.worker import in_worker
from txwatchdog.process import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prompt_toolkit.key_binding import KeyPressEvent
    from prompt_toolkit.layout.mouse_handlers import MouseHandlers
    from prompt_toolkit.layout.screen import Screen, WritePosition

    from txwatchdog.manhole.live.page import Line
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["LiveScreen"]

_PERIOD = 1.0  # seconds between two looks
_ROWS = 100  # offenders and pauses that are looked at
LEFT = 0  # exit status

_STYLE = Style.from_dict(
    {
        # The terminal's own colours, so that they suit what it has behind them.
        "head": "bold underline",
        "paused": "bold fg:ansiwhite bg:ansired",
        "under-way": "bold fg:ansired",
        "bar-paused": "fg:ansired",
        "bar": "fg:ansigreen",
        "good": "bold fg:ansigreen",
        "chosen": "reverse",
        "key": "bold",
    }
)


class LiveScreen:
    """One full-screen view.

    Args:
        channel: The session's, with a terminal.
        watchdog: What it shows.
        may_change: Whether its keys may change the watchdog.
    """

    def __init__(self, channel: SessionChannel, watchdog: Any, *, may_change: bool = True) -> None:
        assert channel.terminal is not None
        self._channel = channel
        self._watchdog = watchdog
        self._model = Model(_title(), may_change=may_change)
        self._input = ChannelInput()
        self._output = channel_output(channel)
        self._was_refused = False
        self._detail_of: object = None  # what the lines in the model are the traceback of
        self._changing: set[asyncio.Future[Any]] = set()
        self._app: Application[int] = Application(
            layout=Layout(_Page(self._model)),
            key_bindings=self._bindings(),
            style=_STYLE,
            full_screen=True,
            input=self._input,
            output=self._output,
        )
        # The channel tells; asking twice a second would cost more than a look does.
        self._app.terminal_size_polling_interval = None
        self._app.ttimeoutlen = 0.2  # seconds after which an Escape is no key's beginning

    async def run(self) -> int:
        """Show it until the operator leaves.

        Returns:
            The exit status: 0, or 130 after Ctrl-C.
        """
        self._input.start()
        self._channel.on_resize = self._app._on_resize
        self._channel.on_interrupt = lambda: self._act(Action("interrupt"))
        self._channel.listen(self._input.feed, self._input.feed_eof)
        self._look()
        looking = asyncio.ensure_future(self._keep_looking())
        try:
            # Without one of its own, all sessions share prompt_toolkit's default one.
            with create_app_session(self._input, self._output):
                return await self._app.run_async(set_exception_handler=False, handle_sigint=False)
        except EOFError:
            return LEFT  # the client will send no more
        finally:
            looking.cancel()
            clear_typeahead(self._input)
            self._input.dispose()

    async def _keep_looking(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        await self._read_detail()
        self._app.invalidate()
        while True:
            # Not `sleep(_PERIOD)`: a view that takes a while would fall behind the clock.
            due = max(due + _PERIOD, loop.time())
            await asyncio.sleep(due - loop.time())
            # While the client has not taken the last frame, more of them would only pile up.
            if not self._channel.spool:
                self._look()
                await self._read_detail()
                self._app.invalidate()

    def _look(self, *, anew: bool = True) -> None:
        """Take a snapshot; one that is not `anew` comes too early for the graphs."""
        watchdog, model = self._watchdog, self._model
        status = watchdog.status()
        stack = watchdog.stack() if status.state == "paused" else None
        if stack is not None and stack.state != "paused":
            stack = None  # it ended between the two looks
        model.update(
            anew=anew,
            snapshot=Snapshot(
                at=datetime.now(timezone.utc),
                status=status,
                stack=stack,
                top=watchdog.top(_ROWS, model.order),
                pauses=watchdog.pauses(_ROWS),
                activity=watchdog.activity(),
            ),
        )

    async def _read_detail(self) -> None:
        """Get the shown pause's traceback, elsewhere: it reads source files from a disk."""
        model = self._model
        snapshot, shown = model.snapshot, model.shown
        if snapshot is None or shown is None:
            model.detail, self._detail_of = (), None
            return
        read: Callable[[], Sequence[str]]
        if shown == NOW:
            assert snapshot.stack is not None
            identity: object = snapshot.stack.frames
            read = partial(stack_lines, snapshot.stack)
        else:
            pause = next(pause for pause in snapshot.pauses if pause.number == shown)
            identity, read = shown, partial(pause_lines, pause)
        if identity != self._detail_of:
            self._detail_of = identity
            try:
                model.detail = await in_worker(read)
            except ManholeError as error:
                model.detail = (str(error),)

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add(Keys.Any)
        @bindings.add("up")
        @bindings.add("down")
        @bindings.add("home")
        @bindings.add("pageup")
        @bindings.add("pagedown")
        @bindings.add("escape")
        @bindings.add("c-c")
        @bindings.add("c-d")
        def press(event: KeyPressEvent) -> None:
            key = event.key_sequence[0]
            name = str(getattr(key.key, "value", key.key))
            self._act(self._model.press(name))
            if name in CHANGING_KEYS and not self._model.may_change and not self._was_refused:
                # Once: whoever leans on the key would fill the audit trail.
                self._was_refused = True
                tell("live", "refused", what=name, reason=NOT_ALLOWED)

        @bindings.add("c-l")
        def redraw(event: KeyPressEvent) -> None:
            event.app.renderer.clear()

        return bindings

    def _act(self, action: Action | None) -> None:
        """Do what a key asks for."""
        if action is not None and action.name in ("leave", "interrupt"):
            ending = self._app.future
            if ending is not None and not ending.done():
                self._app.exit(result=LEFT if action.name == "leave" else INTERRUPTED)
            return
        task = asyncio.ensure_future(self._change(action))
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)

    async def _change(self, action: Action | None) -> None:
        """Do what changes the watchdog, elsewhere: `stop` may wait for the watch thread."""
        watchdog, model = self._watchdog, self._model
        if action is not None and action.name != "look":
            if not model.may_change:
                # The model does not ask for it; this is where it would be done.
                model.tell(NOT_ALLOWED)
                return
            try:
                if action.name == "threshold":
                    watchdog.threshold = action.seconds
                else:
                    await in_worker(getattr(watchdog, action.name))
            except Exception as error:
                model.tell(f"{action.name} failed: {error!r}")
            else:
                model.tell(_TOLD[action.name].format(action.seconds))
        if action is not None:
            self._look(anew=False)
        await self._read_detail()
        self._app.invalidate()


_TOLD = {
    "threshold": "threshold is {:g} s now",
    "start": "watchdog running",
    "stop": "watchdog stopped",
    "reset": "all pauses forgotten",
}


class _Page(Window):
    """The one window; it writes its lines into the screen by itself.

    Args:
        model: What to show.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(always_hide_cursor=True)
        self._model = model
        self._rows: dict[Line, defaultdict[int, Char]] = {}
        self._width = 0

    def write_to_screen(  # noqa: PLR0917 - as prompt_toolkit calls it
        self,
        screen: Screen,
        mouse_handlers: MouseHandlers,
        write_position: WritePosition,
        parent_style: str,
        erase_bg: bool,
        z_index: int | None,
    ) -> None:
        """Called by prompt_toolkit for each frame."""
        columns, rows = write_position.width, write_position.height
        if columns != self._width:
            self._width, self._rows = columns, {}
        # Only this frame's rows are kept for the next.
        before, self._rows = self._rows, {}
        for y, line in enumerate(page(self._model, columns, rows)):
            row = before.get(line) or self._rows.get(line) or _cells(line, columns)
            self._rows[line] = row
            screen.data_buffer[y] = row
        screen.width, screen.height = columns, rows
        screen.visible_windows_to_write_positions[self] = write_position


def _cells(line: Line, columns: int) -> defaultdict[int, Char]:
    row: defaultdict[int, Char] = defaultdict(lambda: _BLANK)
    x = 0
    for style, text in line:
        for character in text:
            char = Char(character, style)
            if x + char.width > columns:
                return row
            if char.width:
                row[x] = char
                for rest in range(1, char.width):
                    row[x + rest] = _NOTHING
                x += char.width
    return row


_BLANK = Char(" ", "")
_NOTHING = Char("", "")


def _title() -> str:
    process = this_process()
    return f" {process.name}, pid {process.pid} on {process.host}"
