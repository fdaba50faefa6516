"""A thread with an asyncio loop of its own, which serves a socket whatever the reactor does.

The manhole and the metrics have one each. What is the same for both is here: a beginning that may
fail, with one clear error; an end that is waited for so long and no longer; and forked children.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import selectors
import threading
import weakref
from typing import TYPE_CHECKING

from txwatchdog.binding import address_of, bind, close, refusal
from txwatchdog.errors import LIMITS
from txwatchdog.logs import log_failure, loop_reporter

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.logger import Logger

__all__ = ["LoopThread"]


class _Loop(asyncio.SelectorEventLoop):
    """Made directly: never uvloop's, never what a policy of the service's would choose."""

    def __del__(self) -> None:
        """Does nothing: whoever runs the loop closes it.

        asyncio's own would close one that is half made, for want of descriptors. That fails, and
        is printed.
        """


class LoopThread:
    """One listening socket and the thread that serves it, as a subclass says in `_serve`.

    Args:
        endpoint: As for `binding.bind`.
        name: The thread's.
        whose: It is, in words, such as ``the manhole``.
        log: Where to tell of trouble.

    Raises:
        ListenError: The endpoint can't be listened on.
    """

    def __init__(self, endpoint: str, *, name: str, whose: str, log: Logger) -> None:
        self._endpoint = endpoint
        self._name = name
        self._whose = whose
        self._log = log
        self._listening = bind(endpoint)
        self.address: IAddress | None = address_of(self._listening)
        """Where it listens; None if it has ended, or failed, which the log says. Any thread."""
        # Not epoll, which takes a descriptor, and is no faster for so few.
        self._selector = selectors.PollSelector()
        self._own: set[int] = set()  # what wakes the loop up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_over = asyncio.Event()

    def launch(self) -> None:
        """Start the thread; in the reactor's. Not before a service is a daemon: it would be lost.

        At the process's limit of descriptors or threads the log says so, and nothing listens.
        """
        loop: _Loop | None = None
        try:
            loop = _Loop(self._selector)
            loop.set_debug(False)
            loop.set_exception_handler(loop_reporter(self._log, self._whose))
            self._own = self._watched()
            thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
            self._start(thread)
        except Exception as error:
            if loop is not None:
                loop.close()
            self._close()
            if not isinstance(error, OSError):  # of threads, which Python tells without a number
                error = OSError(errno.EAGAIN, str(error) or repr(error))
            self._tell(error)
        else:
            self._loop, self._thread = loop, thread
            _launched.add(self)

    def end(self) -> bool:
        """Begin to close everything. Any thread. False if there is none, so that all is over."""
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            self._close()
            return False
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._is_over.set)
        return True

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, for a number of seconds at most. Any thread, its own too."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)
            if self._thread.is_alive():
                self._log.warn("{whose} has not ended: it is left behind", whose=self._whose)

    def forget(self) -> None:
        """In a forked child, which has no such thread: the sockets are the parent's.

        They would stay open for as long as the child lives. `/dev/null` takes each connection's
        number, which an object here still owns, so nothing of the child's is closed by mistake.
        """
        numbers = self._watched() - self._own - {self._listening.fileno()}
        self.address = None  # a socket file is the parent's, too
        self._listening.close()
        if numbers:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for number in numbers:
                os.dup2(null, number, inheritable=False)
            os.close(null)

    def _watched(self) -> set[int]:
        """The descriptors that the loop waits for; none if it is closed."""
        return {key.fd for key in (self._selector.get_map() or {}).values()}

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve until `_is_over` is set, then see off whoever is there. In the thread."""
        raise NotImplementedError

    def _start(self, thread: threading.Thread) -> None:
        """Start it. What this raises is a failed beginning."""
        thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread's body."""
        serving = loop.create_task(self._serve(loop))
        try:
            loop.run_until_complete(serving)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in LIMITS:
                self._tell(error)
            else:
                text = "{whose} has failed; the service goes on without it"
                log_failure(self._log, text, whose=self._whose)
            self._is_over.set()
            with contextlib.suppress(BaseException):  # whoever is connected is seen off
                loop.run_until_complete(serving)
        finally:
            loop.close()
            self._close()

    def _tell(self, error: OSError) -> None:
        """Say that it could not begin, and what to do."""
        problem = str(refusal(self._endpoint, error))
        text = "{problem}; the service goes on without {whose}"
        self._log.error(text, problem=problem, whose=self._whose)

    def _close(self) -> None:
        """Listen no more. In the thread while that lives; may be called again."""
        close(self._listening, self.address)
        self.address = None


_launched: weakref.WeakSet[LoopThread] = weakref.WeakSet()
"""Those that have a thread, or had one."""


def _forget_all() -> None:
    for each in list(_launched):
        each.forget()


os.register_at_fork(after_in_child=_forget_all)
