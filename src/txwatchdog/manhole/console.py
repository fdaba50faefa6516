"""The interactive console: read, run, show, until the operator leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from txwatchdog.manhole.helptext import console_help
from txwatchdog.manhole.prompts import dedented
from txwatchdog.manhole.source import CTRL_C
from txwatchdog.manhole.verbs.lines import console_verb
from txwatchdog.manhole.welcome import pause_note, so_far, welcome

if TYPE_CHECKING:
    from txwatchdog.manhole.history import HistoryFile
    from txwatchdog.manhole.runner import Runner
    from txwatchdog.manhole.session import SessionChannel
    from txwatchdog.manhole.verbs.run import Verbs

__all__ = ["Console", "Editor"]


class Editor(Protocol):
    """Reads inputs from a terminal. All in the manhole's thread."""

    async def read(self) -> str:
        """Read one input of one or more lines.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was typed is dropped.
            EOFError: Ctrl-D on an empty line, or the client sends no more.
        """

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""

    def feed_eof(self) -> None:
        """The client will send no more."""

    def forget(self) -> None:
        """Drop what was typed ahead."""

    def resized(self) -> None:
        """The terminal has another size."""


class Console:
    """One operator's console.

    Args:
        channel: The session's, with a terminal.
        runner: Runs what is typed.
        history: Where inputs are kept; None: not beyond the session.
    """

    def __init__(
        self, channel: SessionChannel, runner: Runner, history: HistoryFile | None
    ) -> None:
        self._runner = runner
        self._is_running = False
        self._channel = channel
        self._editor = _make_editor(channel, runner, history)
        self._verbs: Verbs | None = None
        self._attach()

    async def interact(self) -> int:
        """Read and run until the operator leaves.

        Returns:
            The session's exit status.
        """
        state = self._runner.state() + so_far(self._runner.watchdog)
        self._runner.outlet.write(welcome(state, self._columns))
        while True:
            try:
                source = await self._editor.read()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if source.strip() in ("exit", "quit") and source.strip() not in self._names:
                return 0
            if source.strip():
                ending = await self._run(source)
                if ending is not None:
                    return ending

    @property
    def _columns(self) -> int:
        terminal = self._channel.terminal
        return 80 if terminal is None else terminal.columns

    @property
    def _names(self) -> dict[str, object]:
        return self._runner.interpreter.namespace

    async def _run(self, source: str) -> int | None:
        """Run an input; the exit status if it ends the session."""
        self._is_running = True
        try:
            if source.strip() in ("help", "help()") and "help" not in self._names:
                text = console_help(self._runner.watchdog, self._names, self._columns)
                self._runner.outlet.write(text)
                return None
            line = console_verb(source, self._names)
            if line is not None:
                await self._run_verb(line)
                return None
            ending = await self._runner.run(dedented(source) + "\n")
        finally:
            self._is_running = False
        return ending.status if ending.leaves else None

    async def _run_verb(self, line: str) -> None:
        if self._verbs is None:
            from txwatchdog.manhole.verbs.run import Verbs  # brings click

            self._verbs = Verbs(
                self._channel, self._runner.watchdog, in_console=True, around=self._runner.around
            )
        try:
            await self._verbs.run(line)
        finally:
            self._attach()  # a verb may take the terminal over

    def _attach(self) -> None:
        self._channel.on_resize = self._editor.resized
        self._channel.listen(self._input, self._editor.feed_eof)

    def _input(self, data: bytes) -> None:
        if self._is_running and CTRL_C in data:
            # What was typed before the Ctrl-C was for the prompt that it interrupts.
            self._editor.forget()
            data = data[data.rindex(CTRL_C) + 1 :]
            self._runner.interrupt()
            if self._verbs is not None:
                self._verbs.interrupt()
        self._editor.feed(data)


def _make_editor(channel: SessionChannel, runner: Runner, history: HistoryFile | None) -> Editor:
    assert channel.terminal is not None
    if channel.terminal.name == "dumb":
        from txwatchdog.manhole.plain import PlainEditor

        return PlainEditor(channel.outlet)
    # 55 ms and 7 MiB, so only for those who come to type.
    from txwatchdog.manhole.editor import LineEditor

    names = runner.interpreter.namespace
    return LineEditor(channel, names, lambda: pause_note(runner.watchdog), history)
