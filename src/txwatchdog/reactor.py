"""The reactor that is watched, and the thread that it runs in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from twisted.python import threadable

__all__ = ["ReactorThread", "WatchedReactor"]


class WatchedReactor(Protocol):
    """The least that is asked of a reactor; each of Twisted's own has it."""

    running: bool

    # Twisted's names; what they do is in IReactorCore, IReactorFromThreads and IReactorTime.
    callWhenRunning: Callable[..., Any]
    callFromThread: Callable[..., Any]
    callLater: Callable[..., Any]
    addSystemEventTrigger: Callable[..., Any]
    removeSystemEventTrigger: Callable[..., Any]


class ReactorThread:
    """Knows which thread the reactor runs in, and gets calls into it. Any thread may use it."""

    def __init__(self, reactor: WatchedReactor) -> None:
        self._reactor = reactor
        # Written by anyone with what Twisted says, then by the reactor's thread with the truth.
        self._ident: int | None = None

    @property
    def ident(self) -> int | None:
        """The thread's identifier; None while the reactor has never run."""
        if self._ident is None and self._reactor.running:
            self._ident = threadable.ioThread
        return self._ident

    def assume_current(self) -> None:
        """Take the caller's thread for the one that the reactor is going to run in."""
        self._ident = threading.get_ident()

    @property
    def is_current(self) -> bool:
        """Whether the caller is in the reactor's thread."""
        return self.ident == threading.get_ident()

    def when_running(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called in the reactor's thread as soon as the reactor runs.

        Returns:
            a function that takes that back. It may be called at any time, from any thread.
        """
        if self._reactor.running:
            return self.soon(call)
        trigger: Any = None
        wanted = True

        def run() -> None:
            nonlocal trigger
            trigger = None
            self._ident = threading.get_ident()
            if wanted:
                call()

        def withdraw() -> None:
            nonlocal trigger, wanted
            wanted = False
            if trigger is not None:
                self._reactor.removeSystemEventTrigger(trigger)
                trigger = None

        trigger = self._reactor.callWhenRunning(run)
        return withdraw

    def soon(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called in the reactor's thread; at once, if that is the caller's.

        A reactor that does not run can't be asked: then, too, it is called at once.

        Returns:
            a function that takes that back.
        """
        wanted = True

        def withdraw() -> None:
            nonlocal wanted
            wanted = False

        def run() -> None:
            if wanted:
                call()

        def run_there() -> None:
            # Another reactor, run in another thread, says that the I/O thread is its own.
            self._ident = threading.get_ident()
            run()

        if self.is_current or not self._reactor.running:
            run()
        else:
            self._reactor.callFromThread(run_there)
        return withdraw
