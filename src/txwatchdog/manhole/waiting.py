"""What a statement waits for: Deferreds, coroutines, and asyncio's futures where its loop turns.

All in the reactor's thread, except where it says otherwise. A Deferred that is waited for keeps
its result, be it a value or a failure, for whoever else has a use for it; so does one that the
statement's own coroutine awaits.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, DebugInfo, Deferred
from twisted.python.failure import Failure

__all__ = ["Pending", "Result", "is_awaitable"]

CANCELLED = (CancelledError, asyncio.CancelledError)


@frozen
class Result:
    """What something came to.

    Attributes:
        value: Its value, if it did not raise.
        error: What it raised, if it did.
    """

    value: Any = None
    error: BaseException | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return isinstance(self.error, CANCELLED)


def is_awaitable(value: object) -> bool:
    """Whether a statement waits for a value: a Deferred, a coroutine, a future of this loop's."""
    if asyncio.isfuture(value):
        return _running_loop() is not None
    return isinstance(value, (Deferred, types.CoroutineType))


class Pending:
    """Something that a statement waits for.

    A coroutine becomes the statement's own: it begins to run here. On a reactor that turns an
    asyncio loop it is a task of that loop, and may await what asyncio has, too. A Deferred or a
    future is only looked at: it may be the service's.

    Args:
        awaited: See `is_awaitable`. What it runs runs in the calling context.
    """

    def __init__(self, awaited: Any) -> None:
        self._lock = threading.Lock()
        self._on_end: Callable[[], None] | None = None
        self._is_own = isinstance(awaited, types.CoroutineType)
        self._is_asked_to_end = False
        self._spares = False  # what the statement's own coroutine awaits, when that is cancelled
        self.result: Result | None = None
        """Written once, in the reactor's thread; who waits is told after that."""
        self.what = _name(awaited)
        """What is waited for at the moment. Any thread may read it."""
        if self._is_own:
            self._cancel = self._run(awaited)
        elif isinstance(awaited, Deferred):
            self._cancel = awaited.cancel
            _look_at(awaited, self._end)
        else:
            self._cancel = awaited.cancel
            awaited.add_done_callback(lambda future: self._end(_result_of(future)))

    def when_ended(self, notify: Callable[[], None]) -> None:
        """Have `notify` called at the end, in any thread; at once if that has come. Any thread."""
        with self._lock:
            if self.result is None:
                self._on_end = notify
                return
        notify()

    def cancel(self) -> None:
        """Cancel it, because the operator asked for that: the service's Deferred, too."""
        if self.result is None:
            self._is_asked_to_end = True
            try:
                self._cancel()
            except BaseException as error:  # a canceller is the service's code
                self._end(Result(error=error))

    def abandon(self) -> None:
        """Nobody waits any more. The statement's own coroutine is cancelled.

        The Deferred that it awaits is left alone, like one that was only looked at.
        """
        self._on_end = None
        if self._is_own:
            self._spares = True
            self.cancel()

    def _end(self, result: Result) -> None:
        with self._lock:
            if self.result is not None:
                return
            self.result = result
            notify = self._on_end
        if notify is not None:
            notify()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Callable[[], object]:
        """Let a coroutine run; what cancels it."""
        loop = _running_loop()
        boxed = self._boxed(coroutine, self._in_deferred if loop is None else self._in_future)
        if loop is not None:
            task = loop.create_task(boxed)
            task.add_done_callback(lambda done: self._end(_result_of(done)))
            return task.cancel
        deferred = Deferred.fromCoroutine(boxed)
        deferred.addCallbacks(self._end, lambda failure: self._end(Result(error=failure.value)))
        return deferred.cancel

    async def _boxed(self, coroutine: Coroutine[Any, Any, Any], adapt: _Adapt) -> Result:
        """The coroutine's result as a value: raised, `SystemExit` would end asyncio's loop."""
        try:
            return Result(await _bridged(coroutine, adapt))
        except GeneratorExit:
            raise
        except BaseException as error:
            return Result(error=error)

    def _in_deferred(self, awaited: Any) -> Generator[Any, Any, Any]:
        """Await what a coroutine awaits, as Twisted runs coroutines."""
        self.what = _name(awaited)
        if not isinstance(awaited, Deferred):
            return (yield awaited)

        def cancel(_ours: object) -> None:
            if not self._spares:
                awaited.cancel()

        ours: Deferred[Any] = Deferred(cancel)

        def settle(result: Result) -> None:
            if not ours.called:
                ours.callback(result.value if result.error is None else Failure(result.error))

        _look_at(awaited, settle)
        return (yield ours)

    def _in_future(self, awaited: Any) -> Generator[Any, Any, Any]:
        """Await what a coroutine awaits, as asyncio runs coroutines."""
        self.what = _name(awaited)
        if not isinstance(awaited, Deferred):
            return (yield awaited)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def settle(result: Result) -> None:
            if future.done():
                return
            if result.error is None:
                future.set_result(result.value)
            elif isinstance(result.error, StopIteration):  # which a future does not take
                future.set_exception(RuntimeError(f"it raised {result.error!r}"))
            else:
                future.set_exception(result.error)

        _look_at(awaited, settle)
        try:
            return (yield from future)
        except asyncio.CancelledError:
            if not self._spares:
                awaited.cancel()
            if self._is_asked_to_end:
                # Code that awaits a Deferred knows Twisted's exception.
                raise CancelledError from None
            raise


_Adapt = Callable[[Any], Generator[Any, Any, Any]]


@types.coroutine
def _bridged(coroutine: Coroutine[Any, Any, Any], adapt: _Adapt) -> Generator[Any, Any, Any]:
    """Run a coroutine, with `adapt` in between it and whoever runs this one."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            awaited = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as end:
            return end.value
        try:
            value, error = (yield from adapt(awaited)), None
        except BaseException as raised:
            value, error = None, raised


class _Seen(DebugInfo):
    """Has Twisted not log a failure as unhandled which an operator was shown.

    A Deferred whose result is a failure keeps it here, and it is logged when both are freed. Others
    still get the failure, and one that comes after it is logged as ever.
    """

    _seen: Failure | None = None

    def __init__(self, failure: Failure, before: DebugInfo | None) -> None:
        if before is not None:
            vars(self).update(vars(before))
            before.failResult = None
        self._seen = failure

    def __setattr__(self, name: str, value: object) -> None:
        if name == "failResult" and value is not self._seen:
            self._seen = None  # somebody has handled it: let go of its frames
        super().__setattr__(name, value)

    def __del__(self) -> None:
        if self.failResult is not self._seen:
            super().__del__()


def _look_at(deferred: Deferred[Any], tell: Callable[[Result], None]) -> None:
    """Tell what a Deferred comes to, and leave it its result."""

    def look(result: Any) -> Any:
        if isinstance(result, Failure):
            deferred._debugInfo = _Seen(result, deferred._debugInfo)
            tell(Result(error=result.value))
        else:
            tell(Result(result))
        return result

    deferred.addBoth(look)


def _result_of(future: asyncio.Future[Any]) -> Result:
    """What a future came to; that of a statement's own coroutine is a result in itself."""
    try:
        value = future.result()
    except BaseException as error:
        return Result(error=error)
    return value if isinstance(value, Result) else Result(value)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _name(awaited: object) -> str:
    """What the console calls it; none of the service's code runs for that."""
    if isinstance(awaited, types.CoroutineType):
        return f"<coroutine {awaited.__qualname__}>"
    return f"<{type(awaited).__name__} at {id(awaited):#x}>"
