"""Runs what a session is asked to run, and keeps the operator company while it waits.

All in the manhole's thread, except where an errand's callbacks say otherwise.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any

from attrs import frozen

from txwatchdog.manhole.evaluate import Errand, Interpreter, Outcome, describe
from txwatchdog.manhole.output import Capture, routed
from txwatchdog.manhole.spool import STDERR
from txwatchdog.manhole.verbs.lines import verb_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from txwatchdog.manhole.evaluate import Step
    from txwatchdog.manhole.history import HistoryFile
    from txwatchdog.manhole.output import Outlet
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["Ending", "Runner", "heed_ctrl_c", "read_script", "run_session"]

_SOON = 0.25  # seconds in which a healthy reactor has begun a statement
_REFRESH = 1.0  # seconds between two looks at a reactor that has not
_SCRIPT_LIMIT = 1 << 20  # bytes of source; compiling holds the GIL, and so the service
INTERRUPTED = 130  # exit status, as shells give it
CTRL_C = b"\x03"


@frozen
class Ending:
    """How an input ended.

    Attributes:
        status: The exit status: 0, 1 if it raised, what ``exit()`` was given, 130 if given up.
        leaves: Whether it asked to end the session.
    """

    status: int = 0
    leaves: bool = False


class Runner:
    """Runs one session's inputs, one after the other.

    Args:
        watchdog: Bound to ``watchdog``, and asked where the reactor stands.
        namespace: What the operator begins with.
        channel: The session's.
    """

    def __init__(
        self, watchdog: Any, namespace: Mapping[str, Any], channel: SessionChannel
    ) -> None:
        self.watchdog = watchdog
        self._reactor = watchdog.reactor
        self._channel = channel
        self._interrupted = asyncio.Event()
        self.interpreter = Interpreter(watchdog, namespace)
        self.outlet: Outlet = channel.outlet

    def interrupt(self) -> None:
        """The operator pressed Ctrl-C while an input runs."""
        self._interrupted.set()

    async def run(self, source: str) -> Ending:
        """Run an input to its end, or to the operator's patience's.

        Args:
            source: Any number of statements. What follows one that raises is not run.

        Returns:
            How it ended; its output and its traceback have been written.
        """
        self._interrupted.clear()
        try:
            # What the compiler warns about is for who wrote it.
            with routed(Capture(self.outlet, lambda _value: None)):
                steps = self.interpreter.read(source)
        except Exception as error:
            return self._tell(Outcome(traceback=describe(error, "")))
        for step in steps:
            if self._interrupted.is_set():
                self.outlet.write("interrupted\n", STDERR)
                return Ending(INTERRUPTED)
            if self.interpreter.at_once(step):
                outcome: Outcome | None = self.interpreter.run(step, self.outlet, self._width)
            else:
                outcome = await self._in_reactor(step)
            if outcome is None:
                return Ending(INTERRUPTED)
            if outcome != Outcome():
                return self._tell(outcome)
            await asyncio.sleep(0)  # a long script must not keep other sessions waiting
        return Ending()

    def state(self) -> str:
        """Where the reactor stands, in one line."""
        try:
            return str(self.watchdog.stack().summary)
        except Exception as error:
            return f"the watchdog cannot tell where the reactor is ({error!r})"

    @property
    def _width(self) -> int:
        terminal = self._channel.terminal
        return 80 if terminal is None else terminal.columns

    async def _in_reactor(self, step: Step) -> Outcome | None:
        """Have a step run by the reactor; None if the operator did not want to wait."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()
        notice = _Notice(self.outlet, self._channel)

        def settle(outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        def on_ended(outcome: Outcome) -> None:  # in the reactor's thread
            try:
                loop.call_soon_threadsafe(settle, outcome)
            except RuntimeError:
                return  # the manhole has ended meanwhile

        errand = Errand(
            functools.partial(self.interpreter.run, step, self.outlet, self._width),
            notice.remove,
            on_ended,
        )
        errand.send(self._reactor)
        try:
            await self._wait(errand, ended, notice)
        except asyncio.CancelledError:
            errand.withdraw()  # the client has gone
            raise
        finally:
            notice.remove()
        if ended.done():
            return ended.result()
        if errand.withdraw():
            self.outlet.write("given up: the statement had not begun, and will not run\n", STDERR)
        else:
            self.outlet.write(
                "given up: the statement has begun, and goes on in the reactor's thread\n", STDERR
            )
        return None

    async def _wait(self, errand: Errand, ended: asyncio.Future[Outcome], notice: _Notice) -> None:
        """Wait until the errand has ended or the operator interrupts."""
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        patience = _SOON
        try:
            while True:
                either: set[asyncio.Future[Any]] = {ended, interrupted}
                done, _ = await asyncio.wait(
                    either, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return
                if not errand.has_begun:
                    notice.show(self.state())
                patience = _REFRESH
        finally:
            interrupted.cancel()

    def _tell(self, outcome: Outcome) -> Ending:
        if outcome.traceback is not None:
            try:
                text = "".join(outcome.traceback.format())
            except Exception as error:
                text = f"a traceback that cannot be shown: {error!r}\n"
            self.outlet.write(text, STDERR)
            return Ending(1)
        if outcome.message:
            self.outlet.write(outcome.message + "\n", STDERR)
        return Ending(outcome.status or 0, leaves=True)


class _Notice:
    """A line that says what is waited for: kept up to date on a terminal, said once elsewhere.

    `remove` is called in the reactor's thread right before the statement's own output, too; the
    lock keeps the two apart, and is held for no longer than a line takes.
    """

    def __init__(self, outlet: Outlet, channel: SessionChannel) -> None:
        self._outlet = outlet
        self._channel = channel
        self._lock = threading.Lock()
        self._shown = False
        self._over = False

    def show(self, state: str) -> None:
        hint = "; Ctrl-C gives up waiting"
        terminal = self._channel.terminal
        in_place = terminal is not None and terminal.name != "dumb"
        with self._lock:
            if self._over or (self._shown and not in_place):
                return
            self._shown = True
            if in_place:
                assert terminal is not None
                self._outlet.write(
                    "\r\x1b[K" + (state[: terminal.columns - len(hint) - 1] + hint), STDERR
                )
            else:
                self._outlet.write(f"waiting: {state}{hint}\n", STDERR)

    def remove(self) -> None:
        terminal = self._channel.terminal
        with self._lock:
            if not self._over and self._shown and terminal and terminal.name != "dumb":
                self._outlet.write("\r\x1b[K", STDERR)
            self._over = True


async def run_session(
    channel: SessionChannel,
    command: bytes | None,
    watchdog: Any,
    namespace: Mapping[str, Any],
    history: HistoryFile | None = None,
) -> int:
    """Be one session, from its first byte to its last.

    Args:
        channel: Its channel; ``terminal`` says whether there is one.
        command: What ``exec`` asks for; None for a shell.
        watchdog: The operator's.
        namespace: What the operator begins with.
        history: Where a console's inputs are kept; None: not beyond the session.

    Returns:
        The exit status for the client.
    """
    runner = Runner(watchdog, namespace, channel)
    channel.on_interrupt = runner.interrupt
    if command is None and channel.terminal is not None:
        from txwatchdog.manhole.console import Console

        return await Console(channel, runner, history).interact()
    if command is None:
        source = await read_script(channel, runner.outlet)
    else:
        source = _decode(command, runner.outlet)
    if source is None:
        return 1
    line = None if command is None else verb_line(source)
    if line is not None:
        from txwatchdog.manhole.verbs.run import Verbs  # brings click

        return await Verbs(channel, watchdog, runner).run(line)
    if command is not None:
        heed_ctrl_c(channel, runner.interrupt)
    return (await runner.run(source)).status


async def read_script(channel: SessionChannel, outlet: Outlet) -> str | None:
    """Read a script from a session's stdin.

    Args:
        channel: The session's, without a terminal.
        outlet: Where to say what is wrong with it.

    Returns:
        The source; None if it is too long, or no text.
    """
    data = bytearray()
    complete = asyncio.Event()

    def on_input(more: bytes) -> None:
        if len(data) <= _SCRIPT_LIMIT:
            data.extend(more)
        else:
            complete.set()

    channel.listen(on_input, complete.set)
    await complete.wait()
    if len(data) > _SCRIPT_LIMIT:
        outlet.write(f"the script is longer than {_SCRIPT_LIMIT} bytes\n", STDERR)
        return None
    return _decode(bytes(data), outlet)


def _decode(source: bytes, outlet: Outlet) -> str | None:
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as error:
        outlet.write(f"the source is not UTF-8: {error}\n", STDERR)
        return None


def heed_ctrl_c(channel: SessionChannel, interrupt: Callable[[], None]) -> None:
    """Have Ctrl-C on the client's terminal, or its signal INT, interrupt a command.

    Args:
        channel: The session's; whatever else the client sends is dropped.
        interrupt: What to call.
    """
    on_terminal = channel.terminal is not None
    channel.on_interrupt = interrupt
    channel.listen(lambda data: interrupt() if on_terminal and CTRL_C in data else None)
