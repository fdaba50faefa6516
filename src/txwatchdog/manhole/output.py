"""Where a statement's output goes: to its own session, and nothing else's goes there.

`print` writes to ``sys.stdout``, which belongs to the whole process. While at least one statement
runs, a router stands there. It looks at the context it is called in: a statement's writes go to
that statement's session, all others to whatever stood there before, untouched. When no statement
runs the router is gone.
"""

from __future__ import annotations

import io
import sys
import threading
import warnings
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from txwatchdog.manhole.spool import STDERR, STDOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Capture", "Outlet", "Turn", "in_statement", "routed"]

_PIECE = 16384  # characters encoded at a time: a long text is never copied as a whole


class Outlet:
    """One session's way out for text, from any thread.

    Args:
        put: Takes a stream's number and bytes; called in the thread that writes.
        terminal: Whether a terminal is at the other end. It wants a carriage return before
            each line feed, and has no stderr of its own.
    """

    def __init__(self, put: Callable[[int, bytes], None], *, terminal: bool) -> None:
        self._put = put
        self.terminal = terminal

    def write(self, text: str, stream: int = STDOUT) -> None:
        """Send text, as UTF-8; lone surrogates go as backslash escapes.

        Args:
            text: What to send; a line feed ends a line.
            stream: `STDOUT` or `STDERR`.
        """
        for start in range(0, len(text), _PIECE):
            piece = text[start : start + _PIECE]
            if self.terminal:
                piece = piece.replace("\n", "\r\n")
            self._put(
                STDOUT if self.terminal else stream, piece.encode("utf-8", "backslashreplace")
            )

    def write_raw(self, text: str) -> None:
        """Send text to a terminal as it is, line ends and all."""
        self._put(STDOUT, text.encode("utf-8", "backslashreplace"))


class _Stream(io.TextIOBase):
    """What a statement finds as ``sys.stdout`` or ``sys.stderr``."""

    def __init__(self, outlet: Outlet, stream: int) -> None:
        self._outlet = outlet
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # TextIOBase has an attribute here
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # likewise
        return "backslashreplace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._outlet.terminal

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._outlet.write(text, self._stream)
        return len(text)


class Capture:
    """A running statement's output.

    Made in the manhole's thread, used in the one where the statement runs.

    Args:
        outlet: The session's.
        display: Called with the value of each expression statement, in the statement's thread.
    """

    def __init__(self, outlet: Outlet, display: Callable[[object], None]) -> None:
        self.stdout = _Stream(outlet, STDOUT)
        self.stderr = _Stream(outlet, STDERR)
        self.display = display


class Turn:
    """One use of a capture, from when it is made until it is closed.

    What runs within `entered`, and the coroutines and calls that carry its context on, write to the
    capture as long as it is open. What outlives it in its context is no longer the statement's.

    Args:
        capture: Where output goes.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture: Capture | None = capture
        _routing.enter()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make the calling context the statement's. In any thread, any number of times."""
        token = _turn.set(self)
        try:
            yield
        finally:
            _turn.reset(token)

    def close(self) -> None:
        """Be over; once is enough, and more does no harm."""
        if self.capture is not None:
            self.capture = None
            _routing.leave()


_turn: ContextVar[Turn | None] = ContextVar("txwatchdog_turn", default=None)


def in_statement() -> bool:
    """Whether the calling context is that of a statement that goes on."""
    return _current() is not None


def _current() -> Capture | None:
    turn = _turn.get()
    return None if turn is None else turn.capture


class _Writable(Protocol):
    def write(self, text: str, /) -> object: ...


class _Router:
    """Stands in place of one of the process's streams while a statement runs.

    Someone may keep it for longer than it stands there (a log handler made meanwhile), so it goes
    on passing everything to what it replaced.
    """

    def __init__(self, before: Any, name: str) -> None:
        self.before = before
        self._name = name

    def _target(self) -> Any:
        capture = _current()
        return self.before if capture is None else getattr(capture, self._name)

    def write(self, text: str) -> Any:
        target: _Writable | None = self._target()
        return None if target is None else target.write(text)

    def flush(self) -> None:
        target = self._target()
        if target is not None:
            target.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target(), name)


class _DisplayHook:
    """Stands in place of ``sys.displayhook`` while a statement runs."""

    def __init__(self, before: Any, _name: str) -> None:
        self.before = before

    def __call__(self, value: object) -> None:
        capture = _current()
        if capture is None:
            self.before(value)
        else:
            capture.display(value)


class _ShowWarning:
    """Stands in place of ``warnings.showwarning``, which Twisted's logger may have taken."""

    def __init__(self, before: Any, _name: str) -> None:
        self.before = before

    def __call__(  # noqa: PLR0917 - as Python calls it
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        capture = _current()
        if capture is None or file is not None:
            self.before(message, category, filename, lineno, file, line)
        else:
            capture.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


@frozen
class _Seat:
    """A name of a module where a router may stand."""

    module: Any
    name: str
    router: Any


_SEATS = (
    _Seat(sys, "stdout", _Router),
    _Seat(sys, "stderr", _Router),
    _Seat(sys, "displayhook", _DisplayHook),
    _Seat(warnings, "showwarning", _ShowWarning),
)

_KEPT = 16  # routers of each seat


class _Routing:
    """Puts the routers in place for the first statement and takes them away after the last.

    A router is kept and used again, never freed when it is taken away: `print` borrows
    ``sys.stdout`` without a reference of its own (CPython up to 3.13 at least), so that a thread
    of the service's in the middle of a print would go on with freed memory. Seen as an object
    that had lost its attributes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._kept: dict[str, deque[Any]] = {seat.name: deque(maxlen=_KEPT) for seat in _SEATS}

    def enter(self) -> None:
        with self._lock:
            self._running += 1
            for seat in _SEATS:
                # Looked at for each statement: the service may have put its own stream there
                # since, and then that is the one to stand in front of.
                there = getattr(seat.module, seat.name)
                if type(there) is not seat.router:
                    setattr(seat.module, seat.name, self._router(seat, there))

    def leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running:
                return
            for seat in _SEATS:
                # Where another stream stands now, its owner is left alone.
                there = getattr(seat.module, seat.name)
                if type(there) is seat.router:
                    setattr(seat.module, seat.name, there.before)

    def _router(self, seat: _Seat, there: Any) -> Any:
        for router in self._kept[seat.name]:
            if router.before is there:
                return router
        router = seat.router(there, seat.name)
        self._kept[seat.name].append(router)
        return router


_routing = _Routing()


@contextmanager
def routed(capture: Capture) -> Iterator[None]:
    """Send what the calling context prints to a statement's session.

    Called in the thread where the statement runs; statements of several threads may overlap.

    Args:
        capture: The statement's output.
    """
    turn = Turn(capture)
    try:
        with turn.entered():
            yield
    finally:
        turn.close()
