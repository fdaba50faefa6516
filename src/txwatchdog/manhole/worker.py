"""Work that may take long, out of the manhole's thread, so that no session holds up another."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from txwatchdog.errors import LIMITS, ManholeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_worker", "in_worker_until"]

T = TypeVar("T")


def in_worker(work: Callable[[], T], *, or_here: bool = False) -> asyncio.Future[T]:
    """Have something done in a short-lived thread of its own. In the manhole's thread.

    It is done in a copy of the caller's context, which says who asks.

    The loop's own executor keeps its threads, and a process can't end before they do; this one is
    a daemon, and nobody waits for it who does not want to.

    Args:
        work: What to do.
        or_here: Do it in the caller's thread if no other is to be had. Meanwhile all sessions wait.

    Returns:
        What it returns or raises; a `ManholeError` if it takes a thread, and none is to be had. To
        give up waiting does not end it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]  # None is a result, too
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            done.set_exception(error)
        else:  # a future would not take it, or would let it end the loop
            done.set_exception(RuntimeError(f"it raised {error!r}"))

    def run() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (context.run(work), None)
        except BaseException as error:
            outcome = (None, error)
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:
            return  # the manhole has ended meanwhile

    try:
        threading.Thread(target=run, name="txwatchdog-manhole-worker", daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        if or_here:
            run()
        else:
            done.set_exception(
                ManholeError(
                    f"this takes a thread of its own: {error}; {LIMITS[errno.EAGAIN]}, or ask for"
                    " what takes none: status, top, stack, pauses"
                )
            )
    return done


async def in_worker_until(
    given_up: asyncio.Event, work: Callable[[], T], *, or_here: bool = False
) -> asyncio.Future[T]:
    """Have something done as `in_worker` does, and wait until it is, or until it is given up.

    Args:
        given_up: Set by who does not want to wait any longer.
        work: What to do.
        or_here: As for `in_worker`.

    Returns:
        What it returned or raised; cancelled if it was given up.
    """
    done = in_worker(work, or_here=or_here)
    waiting = asyncio.ensure_future(given_up.wait())
    try:
        either: set[asyncio.Future[Any]] = {done, waiting}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not done.done():
            done.cancel()
    return done
