"""Breaks a statement that runs in the reactor's thread: by Ctrl-C, or when its time is up.

All in the manhole's thread, except where it says otherwise.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from txwatchdog.interrupting import RETRY_SECONDS, Request, objection
from txwatchdog.signals import handlers_of_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from txwatchdog.interrupting import Breaker

__all__ = ["Grip"]

T = TypeVar("T")

_PATIENCE = 1.0  # seconds until it is said that it takes longer
_SELDOM = 0.25  # seconds between two tries after that

_outliving: set[asyncio.Task[None]] = set()


class Grip:
    """Holds one statement, so that it can be broken off while it runs.

    Args:
        breaker: The watchdog's.
        timeout: Seconds that the statement may take; 0 for any number.
        say: Tells the operator a line.
    """

    def __init__(self, breaker: Breaker, timeout: float, say: Callable[[str], None]) -> None:
        self._breaker = breaker
        self._timeout = timeout or math.inf
        self._say = say
        # Written by the reactor's thread alone.
        self._frame: FrameType | None = None
        self._began = math.inf
        self._handlers: set[CodeType] = set()
        self._request: Request | None = None
        self._pursuit: asyncio.Task[None] | None = None
        self._is_late = False

    @property
    def why_not(self) -> str | None:
        """Why nothing can be broken off here; None if it can."""
        return self._breaker.why_off

    @property
    def seconds_left(self) -> float:
        """Until the statement's time is up; infinite if it has none, or that has been noticed."""
        if self._is_late:
            return math.inf
        return max(self._began + self._timeout - time.monotonic(), 0.0)

    @property
    def verdict(self) -> str | None:
        """What is to be said of a statement that was broken off, if not by the operator."""
        if not self._is_late:
            return None
        return f"interrupted after {self._timeout:g} s (statement_timeout)"

    def hold(self, work: Callable[[], T]) -> T:
        """Do the statement's work; called in the reactor's thread.

        Args:
            work: Runs the statement, and raises nothing, whatever is raised in there.
        """
        self._began = time.monotonic()
        self._frame = sys._getframe()
        try:
            return work()
        finally:
            self._frame = None
            self._began = math.inf

    def time_is_up(self) -> None:
        """Break the statement off, because it has had its time."""
        self._is_late = True
        why_not = self.why_not
        if why_not is None:
            self.press()
        else:
            self._say(f"it has taken {self._timeout:g} s, and can't be interrupted: {why_not}")

    def press(self) -> None:
        """Break the statement off as soon as may be; again, if it has caught the one before."""
        if self._pursuit is not None:
            self._pursuit.cancel()
        if self._request is None or self._request.raised:
            self._handlers = handlers_of_signals()
            self._request = Request(self._judge)
            self._breaker.post(self._request)
        self._pursuit = asyncio.ensure_future(self._pursue(self._request))

    def outlive(self, ended: asyncio.Future[Any]) -> None:
        """The client has gone: the statement has the rest of its time, and nobody is told.

        Args:
            ended: Done when it has ended.
        """
        self._say = lambda _line: None
        task = asyncio.ensure_future(self._outlive(ended))
        _outliving.add(task)
        task.add_done_callback(_outliving.discard)

    async def _outlive(self, ended: asyncio.Future[Any]) -> None:
        while not ended.done():
            await asyncio.wait({ended}, timeout=min(self.seconds_left, _PATIENCE))
            if not self.seconds_left and not ended.done():
                self.time_is_up()
        self.release()

    def release(self) -> None:
        """The statement has ended, or nobody cares: it is broken off no more."""
        if self._pursuit is not None:
            self._pursuit.cancel()
        if self._request is not None:
            self._breaker.withdraw(self._request)

    async def _pursue(self, request: Request) -> None:
        """Try until it is raised; say so if that, or the statement's end, takes long."""
        until = time.monotonic() + _PATIENCE
        pause = RETRY_SECONDS
        while True:
            if not request.raised:
                self._breaker.signal()
            await asyncio.sleep(pause)
            if pause == RETRY_SECONDS and time.monotonic() > until:
                self._say(f"not interrupted yet: {request.why_not}; Ctrl-C again or wait")
                pause = _SELDOM

    def _judge(self, frames: list[FrameType]) -> BaseException | str:
        """Called by the signal's handler, in the main thread, which is the reactor's."""
        if self._frame is None or not any(frame is self._frame for frame in frames):
            return "the statement is not what the reactor runs"
        calls = [(frame.f_code.co_name, frame.f_code.co_filename) for frame in frames]
        why_not = objection(calls, is_handler=lambda i: frames[i].f_code in self._handlers)
        return KeyboardInterrupt() if why_not is None else why_not
