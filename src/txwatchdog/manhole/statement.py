"""One statement, from its first step to what it comes to."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from txwatchdog.auditlog import asked_by, asker
from txwatchdog.errors import Interrupted
from txwatchdog.manhole.around.records import Listing, Objects, Threads
from txwatchdog.manhole.evaluate import Drawn, Outcome, left, trace
from txwatchdog.manhole.output import Capture, Turn
from txwatchdog.manhole.timers import carry_timers
from txwatchdog.manhole.values import describe
from txwatchdog.manhole.waiting import Pending, is_awaitable
from txwatchdog.profiles import Profile
from txwatchdog.records import Live, Pause, Stack, Status, Top, Tracebacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from txwatchdog.manhole.evaluate import Interpreter, Step
    from txwatchdog.manhole.output import Outlet
    from txwatchdog.manhole.values import Node

__all__ = ["Statement"]

_OURS = (Top, Stack, Status, Tracebacks, Pause, Profile, Live, Listing, Objects, Threads)
"""Records of ours that show as a text or table: complete, and made by whoever shows them."""


class Statement:
    """One step of an input on its way: it runs, may wait, and comes to an end.

    Made in the manhole's thread; all else is called in the thread where it runs,
    and raises nothing.

    Args:
        interpreter: Whose names it finds.
        step: From the interpreter.
        outlet: Where its output goes.
        whole: Whether values are to be shown in full, as scripts want them, or bounded.
        reactor: Whose thread it runs in; None if it runs in another and can wait for nothing.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        step: Step,
        outlet: Outlet,
        *,
        whole: bool = False,
        reactor: Any = None,
    ) -> None:
        self._interpreter = interpreter
        self._step = step
        self._outlet = outlet
        self._whole = whole
        self._reactor = reactor
        self._asker = asker.get()
        self._given: tuple[object] | None = None  # the value of an expression
        self._is_given_awaited = False
        self._error: BaseException | None = None  # what was waited for raised it
        self._turn: Turn | None = None
        self._release_timers: Callable[[], None] = _nothing
        self.pending: Pending | None = None
        """What it waits for; the manhole's thread finds it when it gets the outcome."""

    def run(self) -> Outcome:
        """Run it until it has ended or has to wait.

        Returns:
            How it ended; or, with `Outcome.waits`, that it waits for `pending`.
        """
        self._turn = Turn(Capture(self._outlet, self._display))
        if self._reactor is not None:
            self._release_timers = carry_timers(self._reactor)
        return self._go_on(self._begin)

    def conclude(self) -> Outcome:
        """Take what it waited for.

        Returns:
            As `run` does: what it waited for may come to something that is to be waited for.
        """
        return self._go_on(self._take)

    def cancel(self) -> None:
        """Cancel what it waits for, because the operator asked for that."""
        if self.pending is not None and self._turn is not None:
            with self._turn.entered():
                self.pending.cancel()

    def abandon(self) -> None:
        """Nobody waits for it any more. What it prints from now on is the service's."""
        if self.pending is not None:
            self.pending.abandon()
        self._close()

    def _go_on(self, act: Callable[[], None]) -> Outcome:
        assert self._turn is not None
        try:
            with self._turn.entered(), asked_by(self._asker):
                act()
                outcome = self._outcome()
        except BaseException as error:
            outcome = self._raised(error)
        if outcome.waits is None:
            self._close()
        return outcome

    def _begin(self) -> None:
        if self._step.awaits:
            # As asyncio's own console runs such code. If it is an expression, `_display` is called
            # at its end; what the coroutine itself gives is nothing.
            self._wait_for(types.FunctionType(self._step.code, self._interpreter.namespace)())
        else:
            exec(self._step.code, self._interpreter.namespace)  # noqa: S102 - what a console is for
            self._wait_for_given()

    def _take(self) -> None:
        """Take the result of what was waited for."""
        assert self.pending is not None
        result, self.pending = self.pending.result, None
        assert result is not None
        # Not raised: an exception may be the service's, and would keep our frames.
        self._error = result.error
        if self._given is not None and self._is_given_awaited:
            self._given = (result.value,)
        if self._error is None:
            self._wait_for_given()

    def _wait_for_given(self) -> None:
        if self._given is not None and self._reactor is not None and is_awaitable(self._given[0]):
            self._is_given_awaited = True
            self._wait_for(self._given[0])

    def _wait_for(self, awaited: Any) -> None:
        self.pending = Pending(awaited)
        if self.pending.result is not None:
            self._take()

    def _outcome(self) -> Outcome:
        if self.pending is not None:
            return Outcome(waits=self)
        if self._error is not None:
            return self._raised(self._error)
        if self._given is None or self._given[0] is None:
            return Outcome()
        value = self._given[0]
        self._interpreter.keep(value)
        return Outcome(shown=self._look_at(value))

    def _raised(self, error: BaseException) -> Outcome:
        if isinstance(error, SystemExit):
            return left(error)
        self._interpreter.keep_raised(error)
        step = self._step
        return Outcome(
            traceback=trace(error, step.code.co_filename, step.node.lineno),
            interrupted=isinstance(error, (KeyboardInterrupt, Interrupted)),
            raised=type(error).__name__,
        )

    def _display(self, value: object) -> None:
        """Take the value of an expression: called as ``sys.displayhook``."""
        if self._step.is_expression and self._given is None:
            self._given = (value,)
        elif value is not None:
            # In the middle of a statement, between its prints: a line, as it is.
            self._interpreter.keep(value)
            shown = repr(value) if self._whole else describe(value).line()
            self._outlet.write(shown + "\n")

    def _look_at(self, value: object) -> Node | Drawn | None:
        if type(value) in _OURS or _is_renderable(type(value)):
            return Drawn(value)
        node = describe(value)
        if self._whole and node.is_cut:
            self._outlet.write(repr(value) + "\n")
            return None
        return node

    def _close(self) -> None:
        if self._turn is not None:
            self._turn.close()
        release, self._release_timers = self._release_timers, _nothing
        release()


def _is_renderable(kind: type) -> bool:
    """Whether rich has a look for objects of a class; rich itself need not be there."""
    return any("__rich_console__" in vars(c) or "__rich__" in vars(c) for c in kind.__mro__)


def _nothing() -> None:
    """Stands where there is nothing to release."""
