"""Runs what a session is asked to run, and keeps the operator company while it waits.

All in the manhole's thread, except where an errand's callbacks say otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import time
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, frozen

from txwatchdog.auditlog import tell
from txwatchdog.manhole.evaluate import Errand, Interpreter, Outcome, trace
from txwatchdog.manhole.grip import Grip
from txwatchdog.manhole.notice import Notice
from txwatchdog.manhole.output import Capture, routed
from txwatchdog.manhole.roles import FULL
from txwatchdog.manhole.spool import STDERR
from txwatchdog.manhole.statement import Statement
from txwatchdog.manhole.statuses import INTERRUPTED
from txwatchdog.manhole.values import Node
from txwatchdog.manhole.worker import in_worker_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from txwatchdog.manhole.around.looks import Around
    from txwatchdog.manhole.evaluate import Drawn, Step
    from txwatchdog.manhole.output import Outlet
    from txwatchdog.manhole.session import SessionChannel
    from txwatchdog.manhole.waiting import Pending

__all__ = ["Ending", "Runner", "nothing_to_settle"]

T = TypeVar("T")

_SOON = 0.25  # seconds in which a healthy reactor has begun a statement
_REFRESH = 1.0  # seconds between two looks at a reactor that has not


@frozen
class Ending:
    """How an input ended.

    Attributes:
        status: The exit status: 0, 1 if it raised, what ``exit()`` was given, 130 if given up or
            interrupted by the operator.
        leaves: Whether it asked to end the session.
        raised: The name of the type of what it raised.
    """

    status: int = 0
    leaves: bool = False
    raised: str | None = None

    @property
    def outcome(self) -> str:
        """The same in a word, for the audit trail."""
        if self.leaves:
            return "left"
        if self.status == INTERRUPTED:
            return "interrupted"
        return "raised" if self.status else "done"


async def nothing_to_settle() -> None:
    """Stands where the audit trail has no file to be waited for."""


class Runner:
    """Runs one session's inputs, one after the other.

    Args:
        watchdog: Bound to ``watchdog``, and asked where the reactor stands.
        namespace: What the operator begins with.
        channel: The session's.
        statement_timeout: Seconds that a statement may take in the reactor's thread; 0: any.
        around: What looks around in the process.
        settle: Waits until what was told of an input stands in the audit trail.

    Raises:
        PermissionError: The operator's role does not allow Python.
    """

    def __init__(
        self,
        watchdog: Any,
        namespace: Mapping[str, Any],
        channel: SessionChannel,
        statement_timeout: float = 0.0,
        *,
        around: Around | None = None,
        settle: Callable[[], Awaitable[None]] = nothing_to_settle,
    ) -> None:
        if channel.operator.role != FULL:
            # Whoever comes here has been sent the wrong way; it must not be a way in.
            raise PermissionError(f"the role {channel.operator.role} does not allow Python")
        self.watchdog = watchdog
        self.around = around
        self._timeout = statement_timeout
        self._settle = settle
        self._reactor = watchdog.reactor
        self._channel = channel
        self._interrupted = asyncio.Event()
        self._was_cancelled = False  # Ctrl-C, while the input that runs waited
        self.interpreter = Interpreter(
            watchdog, namespace, channel.operator.name, around.functions() if around else None
        )
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
        self._channel.is_working = True
        # Before it runs: it may end the process.
        tell("statement", "begun", what=source)
        began = time.monotonic()
        ending: Ending | None = None
        try:
            await self._settle()
            ending = await self._run(source)
        finally:
            self._channel.is_working = False
            seconds = time.monotonic() - began
            if ending is None:
                tell("statement", "abandoned", what=source, seconds=seconds)
            else:
                status, raised = ending.status, ending.raised
                tell(
                    "statement", ending.outcome,
                    what=source, status=status, seconds=seconds, raised=raised,
                )  # fmt: skip
        return ending

    async def _run(self, source: str) -> Ending:
        self._interrupted.clear()
        self._was_cancelled = False
        try:
            # What the compiler warns about is for who wrote it.
            with routed(Capture(self.outlet, lambda _value: None)):
                steps = self.interpreter.read(source)
        except Exception as error:
            return self._tell(Outcome(traceback=trace(error), raised=type(error).__name__))
        for step in steps:
            if self._interrupted.is_set():
                self.outlet.write("interrupted\n", STDERR)
                return Ending(INTERRUPTED)
            outcome = await self._run_step(step)
            if outcome is not None and outcome.shown is not None:
                outcome = await self._show(outcome.shown)
            if outcome is None:
                return Ending(INTERRUPTED)
            if outcome.stops:
                return self._tell(outcome)
            if self._was_cancelled:
                return Ending(INTERRUPTED)
            await asyncio.sleep(0)  # a long script must not keep other sessions waiting
        return Ending()

    def state(self) -> str:
        """Where the reactor stands, in one line."""
        try:
            return str(self.watchdog.stack().summary)
        except Exception as error:
            return f"the watchdog cannot tell where the reactor is ({error!r})"

    async def _run_step(self, step: Step) -> Outcome | None:
        """Run one statement, wherever it belongs; None if the operator did not want to wait."""
        whole = self._channel.terminal is None
        if self.interpreter.at_once(step):
            statement = Statement(self.interpreter, step, self.outlet, whole=whole)
            if not step.looks_around:
                return statement.run()
            return await self._elsewhere(statement.run, "it goes on by itself, and ends soon")
        notice = Notice(self.outlet, self._channel)
        statement = Statement(
            self.interpreter, step, notice.outlet, whole=whole, reactor=self._reactor
        )
        outcome: Outcome | None = None
        try:
            outcome = await self._in_reactor(statement.run, notice)
            while outcome is not None and outcome.waits is not None:
                ended = await self._wait_for(statement, notice)
                outcome = await self._in_reactor(statement.conclude, notice) if ended else None
        finally:
            notice.remove()
            if outcome is None or outcome.waits is not None:
                # The operator has lost patience, or is gone. It may run still: then this waits.
                self._call_in_reactor(statement.abandon)
        return outcome

    async def _in_reactor(self, work: Callable[[], Outcome], notice: Notice) -> Outcome | None:
        """Have something done by the reactor; None if the operator did not want to wait."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        def on_ended(outcome: Outcome) -> None:  # in the reactor's thread
            try:
                loop.call_soon_threadsafe(settle, outcome)
            except RuntimeError:
                return  # the manhole has ended meanwhile

        grip = Grip(self.watchdog.breaker, self._timeout, self._say)
        errand = Errand(functools.partial(grip.hold, work), notice.remove, on_ended)
        errand.send(self._reactor)
        try:
            await self._wait(errand, ended, notice, grip)
        except asyncio.CancelledError:
            # The client has gone.
            if not errand.withdraw():
                grip.outlive(ended)
            raise
        finally:
            notice.remove()
        grip.release()
        if ended.done():
            outcome = ended.result()
            if outcome.interrupted and grip.verdict is not None:
                self._say(grip.verdict)
                return evolve(outcome, interrupted=False)
            return outcome
        if errand.withdraw():
            self._say("given up: the statement had not begun, and will not run")
        else:
            self._say(
                "given up: the statement has begun, and goes on in the reactor's thread; it can't"
                f" be interrupted: {grip.why_not}"
            )
        return None

    def _say(self, line: str) -> None:
        self.outlet.write(line + "\n", STDERR)

    async def _wait(
        self, errand: Errand, ended: asyncio.Future[Outcome], notice: Notice, grip: Grip
    ) -> None:
        """Wait until the errand has ended, or the operator does not want to wait for it to begin.

        Once it has begun, Ctrl-C breaks it off, which may take a while; and so does its timeout.
        """
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        patience = _SOON
        try:
            while True:
                either: set[asyncio.Future[Any]] = {ended, interrupted}
                done, _ = await asyncio.wait(
                    either,
                    timeout=min(patience, grip.seconds_left),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if ended in done:
                    return
                if interrupted in done:
                    if errand.withdraw() or grip.why_not is not None:
                        return
                    self._interrupted.clear()
                    interrupted = asyncio.ensure_future(self._interrupted.wait())
                    grip.press()
                elif not grip.seconds_left:
                    grip.time_is_up()
                if not errand.has_begun:
                    notice.show(self.state(), "Ctrl-C gives up waiting", "waiting: ")
                patience = _REFRESH
        finally:
            interrupted.cancel()

    async def _wait_for(self, statement: Statement, notice: Notice) -> bool:
        """Wait for what a statement waits for; False if the operator did not want to."""
        loop = asyncio.get_running_loop()
        pending = statement.pending
        assert pending is not None
        ended = asyncio.Event()

        def on_end() -> None:  # in the reactor's thread
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:
                return  # the manhole has ended meanwhile

        pending.when_ended(on_end)
        began = time.monotonic()
        patience = _SOON
        try:
            while not await self._is_set(ended, patience):
                if self._interrupted.is_set():
                    notice.remove()
                    return await self._cancel(statement, pending, ended)
                if notice.has_terminal:
                    seconds = time.monotonic() - began
                    notice.show(f"waiting for {pending.what} {seconds:.0f} s", "Ctrl-C cancels it")
                patience = _REFRESH
        finally:
            notice.remove()
        return True

    async def _cancel(self, statement: Statement, pending: Pending, ended: asyncio.Event) -> bool:
        """Cancel what is waited for; False if that was its end, and nothing is left to be told."""
        self._call_in_reactor(statement.cancel)
        self._interrupted.clear()
        self._was_cancelled = True
        if not await self._is_set(ended, _REFRESH):
            text = f"given up: cancelled, and {pending.what} has not ended yet"
        elif pending.result is not None and not pending.result.is_cancelled:
            return True
        else:
            text = "cancelled"
        self.outlet.write(text + "\n", STDERR)
        return False

    async def _is_set(self, ended: asyncio.Event, patience: float) -> bool:
        """Wait until something has ended, Ctrl-C is pressed, or patience does."""
        both = [asyncio.ensure_future(each.wait()) for each in (ended, self._interrupted)]
        try:
            await asyncio.wait(both, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()
        return ended.is_set()

    def _call_in_reactor(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of an asyncio reactor is closed
            contextvars.Context().run(self._reactor.callFromThread, work)

    async def _show(self, shown: Node | Drawn) -> Outcome | None:
        """Show a value; None if the operator did not want to wait for it."""
        from txwatchdog.manhole.display import lay_out  # brings rich, if it has to

        terminal = self._channel.terminal
        if isinstance(shown, Node):  # which is bounded
            self.outlet.write(lay_out(shown, terminal) + "\n")
            return Outcome()
        text = await self._elsewhere(
            lambda: lay_out(shown, terminal), "the value takes long to show"
        )
        if not isinstance(text, str):
            return text
        self.outlet.write(text + "\n")
        return Outcome()

    async def _elsewhere(self, work: Callable[[], T], why_long: str) -> T | Outcome | None:
        """Have something done in a thread of its own; None if the operator did not want to wait."""
        done = await in_worker_until(self._interrupted, work)
        if done.cancelled():
            self._say(f"given up: {why_long}")
            return None
        error = done.exception()
        if error is not None:
            return Outcome(traceback=trace(error), raised=type(error).__name__)
        return done.result()

    def _tell(self, outcome: Outcome) -> Ending:
        if outcome.traceback is not None:
            try:
                text = "".join(outcome.traceback.format())
            except Exception as error:
                text = f"a traceback that cannot be shown: {error!r}\n"
            self.outlet.write(text, STDERR)
            status = INTERRUPTED if outcome.interrupted else 1
            return Ending(status, raised=outcome.raised)
        if outcome.message:
            self.outlet.write(outcome.message + "\n", STDERR)
        return Ending(outcome.status or 0, leaves=True)
