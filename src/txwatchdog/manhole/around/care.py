"""How to look at what another thread works with, without being in its way."""

from __future__ import annotations

import contextvars
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.python import threadable

from txwatchdog.checks import checked_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Pace", "borrowed", "check_count", "snapshot"]

T = TypeVar("T")

_SLICE = 0.001  # seconds of work, and of rest after it
_TRIES = 50
_MOST_ROWS = 10_000


class Pace:
    """Work at a pace that leaves the GIL to others: as much rest as work, a millisecond at a time.

    A thread that computes keeps the GIL for 5 ms each time that the reactor's thread has given it
    up, for any system call: that would make a reactor slow that does many of them.

    Args:
        rests: Whether to rest at all; not in the reactor's thread, which would only take longer.
        clock: The time in seconds.
        sleep: Rests for so many.
    """

    def __init__(
        self,
        *,
        rests: bool,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.rests = rests
        self._clock = clock
        self._sleep = sleep
        self._since = clock()

    @classmethod
    def here(cls) -> Pace:
        """The pace of the calling thread."""
        return cls(rests=not threadable.isInIOThread())

    def over(self, things: Iterable[T]) -> Iterator[T]:
        """The same, with rests between."""
        for thing in things:
            yield thing
            self.rest()

    def rest(self) -> None:
        """Rest, if it is time for that."""
        if self.rests and self._clock() - self._since >= _SLICE:
            self._sleep(_SLICE)
            self._since = self._clock()


def snapshot(take: Callable[[], list[T]], what: str) -> list[T]:
    """Copy what another thread may change meanwhile.

    Args:
        take: Makes the copy; may raise `RuntimeError` or `KeyError` if something changed.
        what: For the error.

    Raises:
        RuntimeError: It changed each time.
    """
    for _ in range(_TRIES):
        try:
            return take()
        except (RuntimeError, KeyError):  # it has grown or shrunk in the middle
            continue
    raise RuntimeError(f"{what} changed while they were read, {_TRIES} times; ask again")


@contextmanager
def borrowed(reactor: Any, things: list[T]) -> Iterator[list[T]]:
    """Look at objects of the service's, and let go of them in the reactor's thread.

    One that the service has dropped meanwhile ends when we let go of it, and what then runs
    (``__del__``, a generator's ``finally``) belongs there. Whoever looks keeps none of them.

    Args:
        reactor: Whose thread it is.
        things: The only list of them; cleared in the end.
    """
    try:
        yield things
    finally:
        if things:
            _give_back(reactor, things)


def _give_back(reactor: Any, things: list[Any]) -> None:
    if threadable.isInIOThread():
        things.clear()
        return
    try:
        contextvars.Context().run(reactor.callFromThread, things.clear)
    except RuntimeError:  # an asyncio reactor's loop is closed
        things.clear()


def check_count(n: object) -> int:
    """How many rows are wanted, and no more than there may be.

    Raises:
        ValueError: It is no whole number, or below 0.
    """
    return min(checked_count("n", n), _MOST_ROWS)
