"""Breaking what the reactor's thread does: where an exception may be raised, and how it gets there.

A signal's handler, written in Python, runs in the main thread between two steps of whatever that
thread executes, and what it raises goes on from there. So it can look, with nothing in between, at
what it would break. An exception that is set from another thread (PyThreadState_SetAsyncExc) lands
wherever the thread is by then: in the asyncio loop it ended the reactor, after 2 to 4 of 300 tries.

The signal is SIGURG, which a process without a handler ignores.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from types import FrameType

from txwatchdog.blame import Places, callback_start, here
from txwatchdog.rings.alarm import described

__all__ = ["Breaker", "Request", "asking", "objection"]

RETRY_SECONDS = 0.01
"""Between two tries to find the reactor's thread where it may be broken off."""

MAX_FRAMES = 2000

asking: ContextVar[str] = ContextVar("txwatchdog_asking", default="")
"""Who asks for an interruption, for the message; empty: not known."""

_MACHINERY = (
    "twisted/internet/",
    "twisted/logger/",
    "twisted/_threads/",
    "twisted/python/context.py",
    "twisted/python/log.py",
    "twisted/python/threadable.py",
    "twisted/python/threadpool.py",
    "/asyncio/",
    "/logging/",
)
"""Parts of paths: code that others rely on to be done when it is done."""

_LOGGING = ("twisted/logger/", "twisted/python/log.py", "/logging/")
"""Whom they call to take an event may raise an `Exception`, and nothing else."""


def objection(
    calls: Sequence[tuple[str, str]],
    places: Places | None = None,
    is_handler: Callable[[int], bool] = lambda _index: False,
) -> str | None:
    """Why an exception must not be raised in the innermost call of a stack. Pure.

    It may be raised into the application (or a package that it is made of), and into what the
    application called, but for code of the reactor, of loggers and of ours.

    Args:
        calls: the stack as (function, file) pairs, outermost first.
        places: where code lives.
        is_handler: whether the call at an index is a signal handler, which breaks into whatever it
            is, the reactor's own code included.

    Returns:
        the objection; None if there is none.
    """
    places = places or here()
    start = callback_start(calls)
    if start in {0, len(calls)}:
        return "the reactor runs nobody's code"
    kinds = [(places.kind(file), file) for _, file in calls]
    innermost = len(calls) - 1
    while kinds[innermost][0] not in {"application", "third-party"}:
        kind, file = kinds[innermost]
        if kind == "ours" or _is_part(kind, file, _MACHINERY):
            return f"it is in {_short(file)}, which must not be broken off"
        innermost -= 1
        if innermost < start:
            return "no code of the application is running"
    for index in range(start, len(calls)):
        if _is_part(*kinds[index], _LOGGING):
            return "it logs, which must not be broken off"
        if is_handler(index):
            return "it is in a signal handler, which may have broken into anything"
    return None


def _is_part(kind: str, file: str, parts: Collection[str]) -> bool:
    return kind in {"twisted", "stdlib"} and any(part in file for part in parts)


def _short(file: str) -> str:
    return "/".join(file.rsplit("/", 3)[-3:])


def frames_of(frame: FrameType | None) -> list[FrameType]:
    """The stack that ends in `frame`, outermost call first."""
    frames: list[FrameType] = []
    while frame is not None and len(frames) < MAX_FRAMES:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    return frames


class Request:
    """One wish to have an exception raised in the main thread.

    Args:
        judge: called by the signal's handler with the main thread's stack, outermost call first,
            its own frames left out; returns the exception to raise, or in words why not now.

    Attributes:
        raised: whether that has been done. Written by the main thread.
        looks: how often the handler has looked. Written by the main thread.
        refusal: why it did not raise when it last looked.
    """

    def __init__(self, judge: Callable[[list[FrameType]], BaseException | str]) -> None:
        self.judge = judge
        self.raised = False
        self.looks = 0
        self.refusal = ""
        # Who pops has the say: the handler that raises, or whoever no longer wants it.
        self._open: deque[None] = deque([None])
        # Released by the handler, waited for by whoever asks; see `WatchThread` on such tokens.
        self._token = threading.Lock()
        self._token.acquire()

    @property
    def why_not(self) -> str:
        """Why what it breaks goes on, as far as one can see."""
        if self.raised:
            return "it was raised, and the code has caught it, or is still cleaning up"
        if not self.looks:
            return "code in C is running, and has not come back to Python"
        return self.refusal

    def claim(self) -> bool:
        """Whether the caller is the first to have the say."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    def wait_for_look(self, seconds: float) -> None:
        """Wait until the handler has looked, for so long at most. In whoever's thread asks."""
        self._token.acquire(timeout=seconds)

    def looked(self) -> None:
        """The handler has looked."""
        self.looks += 1
        try:
            self._token.release()
        except RuntimeError:
            pass  # nobody has waited since the last look


class Breaker:
    """Raises exceptions in the main thread, where that may be done."""

    def __init__(self) -> None:
        self._ours = self._on_signal  # one bound method, so that it can be recognised
        self._installed = False
        self._why_off: str | None = "the reactor does not run yet"
        # Appended to by who asks, read by the main thread.
        self._requests: deque[Request] = deque()

    @property
    def why_off(self) -> str | None:
        """Why nothing can be broken off; None if it can. Any thread."""
        if self._why_off is None and signal.getsignal(signal.SIGURG) != self._ours:
            return "SIGURG, which it takes, has been taken by someone else"
        return self._why_off

    def install(self) -> None:
        """Take the signal, unless it is someone else's. In the reactor's thread."""
        if threading.current_thread() is not threading.main_thread():
            self._why_off = "the reactor is not in the main thread, which alone gets signals"
        elif (holder := signal.getsignal(signal.SIGURG)) is not signal.SIG_DFL:
            self._why_off = f"SIGURG, which it takes, has a handler already, {described(holder)}"
        else:
            signal.signal(signal.SIGURG, self._ours)
            self._installed = True
            self._why_off = None

    def remove(self) -> None:
        """Give the signal back, if it is still ours. In the main thread."""
        self.disable()
        if self._installed and signal.getsignal(signal.SIGURG) == self._ours:
            signal.signal(signal.SIGURG, signal.SIG_DFL)
        self._installed = False

    def disable(self) -> None:
        """Break nothing off any more. Any thread."""
        self._requests.clear()
        self._why_off = "the watchdog is stopped"

    def post(self, request: Request) -> None:
        """Have `request` judged at each signal from now on, until it is raised or withdrawn."""
        self._requests.append(request)

    def withdraw(self, request: Request) -> bool:
        """Have it judged no more. Any thread.

        Returns:
            whether it is certain never to be raised; else it has been.
        """
        self._forget(request)
        return request.claim()

    def signal(self) -> None:
        """Have the main thread look at all requests as soon as it executes Python code."""
        if self.why_off is None:
            ident = threading.main_thread().ident
            assert ident is not None
            signal.pthread_kill(ident, signal.SIGURG)

    def press(self, request: Request, seconds: float, is_over: Callable[[], bool]) -> None:
        """Try until `request` is raised and what it breaks has ended, or for so long.

        It stays posted. Any thread but the main one.

        Args:
            request: it has been posted.
            seconds: how long to try at most.
            is_over: whether what it breaks has ended.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until and not is_over():
            if not request.raised:
                self.signal()
                request.wait_for_look(RETRY_SECONDS)
            time.sleep(RETRY_SECONDS / 10)

    def _on_signal(self, _signal: int, frame: FrameType | None) -> None:
        requests = tuple(self._requests)
        if not requests:
            return
        error = self._chosen(requests, frames_of(frame))
        if error is not None:
            raise error

    def _chosen(self, requests: Sequence[Request], frames: list[FrameType]) -> BaseException | None:
        for request in requests:
            try:
                verdict = request.judge(frames)
            except Exception as problem:  # at the recursion limit there is no room for us, say
                verdict = f"looking at it failed: {problem!r}"
            if isinstance(verdict, str):
                request.refusal = verdict
            elif request.claim():
                request.raised = True
                self._forget(request)
                request.looked()
                return verdict
            request.looked()
        return None

    def _forget(self, request: Request) -> None:
        try:
            self._requests.remove(request)
        except ValueError:
            pass  # by another thread, meanwhile
