"""How an input is read, and handed over: one operator's names, source, and way to the reactor.

One `Interpreter` belongs to one session. It reads and compiles the source in the manhole's thread;
each of its steps is run by a `Statement`: there and then if `where` allows that, the rest as an
`Errand` to the reactor's thread.
"""

from __future__ import annotations
import __future__ as future

import ast
import builtins
import contextvars
import inspect
import itertools
import linecache
import threading
import traceback
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from txwatchdog import interrupting
from txwatchdog.manhole.where import looks_around, runs_at_once
from txwatchdog.operators import source_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, TracebackType

    from txwatchdog.manhole.statement import Statement
    from txwatchdog.manhole.values import Node

__all__ = ["Drawn", "Errand", "Interpreter", "Outcome", "Step", "left", "trace"]

_FUTURE_FLAGS = 0
for _name in future.all_feature_names:
    _FUTURE_FLAGS |= getattr(future, _name).compiler_flag

_MANHOLE = f"{Path(__file__).parent}/"
_SOURCES_KEPT = 1 << 22  # characters of source whose lines a traceback can still show

_numbers = itertools.count(1)  # next() on it is atomic
_sources: deque[tuple[str, int]] = deque()
_sources_lock = threading.Lock()


@frozen
class Drawn:
    """A value with a look of its own that takes a while to make: not in the reactor's thread."""

    value: object


@frozen
class Outcome:
    """How a statement ended, or that it has not ended yet.

    Attributes:
        traceback: What it raised, ready to be printed; None if it didn't raise.
        status: The exit status that it asked for (`SystemExit`); None if it did not ask.
        message: What a `SystemExit` with a text says.
        shown: The value to be shown, if it gave one and it has not been shown yet.
        waits: The statement, if it waits for something; it is to be concluded when that has ended.
        interrupted: Whether what it raised is that it was interrupted.
        raised: The name of the type of what it raised.
    """

    traceback: traceback.TracebackException | None = None
    status: int | None = None
    message: str = ""
    shown: Node | Drawn | None = None
    waits: Statement | None = None
    interrupted: bool = False
    raised: str | None = None

    @property
    def stops(self) -> bool:
        """Whether what follows in the same input is not run."""
        return self.traceback is not None or self.status is not None


@frozen
class Step:
    """One statement of an input, compiled."""

    node: ast.stmt
    code: CodeType

    @property
    def is_expression(self) -> bool:
        """Whether it gives a value, which is to be shown."""
        return isinstance(self.node, ast.Expr)

    @property
    def looks_around(self) -> bool:
        """Whether it looks around in the process, which may take a while."""
        return looks_around(self.node)

    @property
    def awaits(self) -> bool:
        """Whether its code has `await` and the like, so that it is a coroutine's."""
        return bool(self.code.co_flags & inspect.CO_COROUTINE)


class Interpreter:
    """One operator's Python: a namespace of its own over objects that all share.

    Used in the manhole's thread, except for `keep` and `keep_raised`, which statements call.

    Args:
        watchdog: Bound to the name ``watchdog``.
        namespace: The names to begin with; copied.
        operator: Whose statements they are, for tracebacks and for the blame.
        around: Functions that look around in the process, by name; the operator's names go before.
    """

    def __init__(
        self,
        watchdog: Any,
        namespace: Mapping[str, Any],
        operator: str = "",
        around: Mapping[str, Any] | None = None,
    ) -> None:
        self._watchdog = watchdog
        self._operator = operator
        self.around = dict(around or {})
        # A copy: exit() and the like must not do to the service what they do to a program.
        self._builtins = {**vars(builtins), **self.around, **_harmless_builtins()}
        self.namespace: dict[str, Any] = {
            **namespace,
            "watchdog": watchdog,
            "__name__": "__manhole__",
            "__builtins__": self._builtins,
        }
        self._future_flags = 0
        self._raised = False  # whether `_` is what a statement raised

    def read(self, source: str) -> list[Step]:
        """Compile an input, so that a mistake in its last line shows before its first one runs.

        Args:
            source: Any number of statements.

        Returns:
            The statements in order, each to be run by a `Statement`.

        Raises:
            SyntaxError: And whatever else Python's compiler raises on odd sources (`ValueError`,
                `OverflowError`, `RecursionError`, `MemoryError`).
        """
        filename = _register(source, self._operator)
        # One flag set for all of a session, as in any console: `from __future__` stays in force.
        tree = compile(
            source, filename, "exec", ast.PyCF_ONLY_AST | self._future_flags, dont_inherit=True
        )
        assert isinstance(tree, ast.Module)
        steps = []
        for node in tree.body:
            code = compile(
                ast.Interactive([node]),
                filename,
                "single",
                self._future_flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                dont_inherit=True,
            )
            self._future_flags |= code.co_flags & _FUTURE_FLAGS
            steps.append(Step(node, code))
        return steps

    def at_once(self, step: Step) -> bool:
        """Whether a step may run in the manhole's thread, as things stand now."""
        return runs_at_once(step.node, self._is_ours)

    def keep(self, value: object) -> None:
        """Bind ``_`` to a value that is shown, and ``__`` to the one before it."""
        self._shift()
        self._raised = False
        self.namespace["_"] = value

    def keep_raised(self, error: BaseException) -> None:
        """Bind ``_`` to what a statement raised, until the next value takes its place.

        An exception holds frames, and so the service's objects: it never gets as far as ``__``,
        which is the latest value that was shown.
        """
        self._shift()
        self._raised = True
        self.namespace["_"] = error

    def forget(self) -> None:
        """Let go of the latest values, at the session's end: a timer may hold the namespace."""
        self.namespace.pop("_", None)
        self.namespace.pop("__", None)

    def _shift(self) -> None:
        if "_" in self.namespace and not self._raised:
            self.namespace["__"] = self.namespace["_"]

    def _is_ours(self, name: str) -> bool:
        if name == "watchdog":
            return self.namespace.get(name) is self._watchdog
        if name in self.around:
            ours = self._builtins.get(name) is self.around[name]
            return ours and name not in self.namespace
        return name not in self.namespace and (
            self._builtins.get(name) is getattr(builtins, name, None) or name in ("exit", "quit")
        )


class Errand:
    """A step on its way to the reactor's thread, which may be taken back until it begins.

    Args:
        work: Runs the step; called in the reactor's thread.
        begun: Called there right before it; must not block.
        ended: Called there right after it, with the outcome; must not block.
    """

    def __init__(
        self,
        work: Callable[[], Outcome],
        begun: Callable[[], None],
        ended: Callable[[Outcome], None],
    ) -> None:
        self._work = work
        self._on_begun = begun
        self._on_ended = ended
        self._lock = threading.Lock()
        self._withdrawn = False
        self.has_begun = False
        """Written by the reactor's thread under the lock; others may read a stale False."""

    def send(self, reactor: Any) -> None:
        """Hand the errand over.

        Args:
            reactor: Whose ``callFromThread`` is called, in an empty context: an asyncio reactor
                would otherwise keep the caller's for all timers that the statement starts.
        """
        contextvars.Context().run(reactor.callFromThread, self._run)

    def withdraw(self) -> bool:
        """Take the errand back, from any thread.

        Returns:
            True if it had not begun, and now never will.
        """
        with self._lock:
            if not self.has_begun:
                self._withdrawn = True
            return self._withdrawn

    def _run(self) -> None:
        """Called by the reactor; raises nothing, whatever the statement does."""
        with self._lock:
            if self._withdrawn:
                return
            self.has_begun = True
        self._on_begun()
        self._on_ended(contextvars.Context().run(self._work))


def trace(
    error: BaseException, filename: str = "", line: int | None = None
) -> traceback.TracebackException:
    """Keep what a traceback needs, and none of its frames: these hold the service's objects.

    Reads no source files (printing does), so that the reactor's thread need not wait for a disk.

    Args:
        error: What was raised. If it came by the operator's source, what is above that is cut off
            its own traceback, too, so that the `traceback` module shows the same.
        filename: The operator's source, with which the traceback begins.
        line: Where the statement stands in it, if nothing of it is on the way to the error: a
            Deferred failed, or a ``repr``.

    Returns:
        The traceback, to be formatted in another thread.
    """
    try:
        first = _first(error.__traceback__, lambda file: file == filename)
        if first is not None:
            error.__traceback__, line = first, None
        else:
            first = _first(error.__traceback__, lambda file: not _is_machinery(file))
        text = traceback.TracebackException(type(error), error, first, lookup_lines=False)
        if line is not None:
            text.stack.insert(
                0, traceback.FrameSummary(filename, line, "<module>", lookup_line=False)
            )
        _leave_out_ours(text)
    except Exception as failure:  # an exception may be as hostile as any object
        message = f"{type(error).__name__} was raised, and describing it raised {failure!r}"
        return traceback.TracebackException(RuntimeError, RuntimeError(message), None)
    return text


def _first(entry: TracebackType | None, is_wanted: Callable[[str], bool]) -> TracebackType | None:
    while entry is not None and not is_wanted(entry.tb_frame.f_code.co_filename):
        entry = entry.tb_next
    return entry


def _leave_out_ours(text: traceback.TracebackException | None) -> None:
    """Take the manhole's own frames out of a traceback, and out of those that led to it."""
    if text is not None:
        # What interrupts a statement is raised by a signal's handler, in the line that it meets.
        text.stack[:] = [
            frame
            for frame in text.stack
            if not frame.filename.startswith(_MANHOLE) and frame.filename != interrupting.__file__
        ]
        _leave_out_ours(text.__cause__)
        _leave_out_ours(text.__context__)


def _is_machinery(file: str) -> bool:
    return file.startswith(_MANHOLE) or file.endswith("twisted/internet/defer.py")


def left(leaving: SystemExit) -> Outcome:
    """What a `SystemExit` asks for, as Python itself would take it."""
    code = leaving.code
    if code is None:
        return Outcome(status=0)
    if isinstance(code, int):
        return Outcome(status=code & 0xFF)
    return Outcome(status=1, message=str(code))


def _register(source: str, operator: str) -> str:
    """Name an input, and keep its lines where tracebacks look for them."""
    filename = source_name(operator, next(_numbers))
    lines = [line + "\n" for line in source.splitlines()]
    with _sources_lock:
        # Without a time of change linecache never looks for such a file on the disk.
        linecache.cache[filename] = (len(source), None, lines, filename)
        # An input costs some memory, however short it is.
        _sources.append((filename, len(source) + 1000))
        while len(_sources) > 1 and sum(size for _, size in _sources) > _SOURCES_KEPT:
            linecache.cache.pop(_sources.popleft()[0], None)
    return filename


class _Leave:
    """``exit`` and ``quit``. Python's own close ``sys.stdin``, the service's, before they raise."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"{self._name}() or Ctrl-D closes this session; the service goes on"

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


class _Help:
    """``help``. Python's own may start a pager on the service's terminal."""

    def __repr__(self) -> str:
        return "help(object) shows what an object is and can do"

    def __call__(self, *objects: object) -> None:
        import pydoc

        if not objects:
            print(self)  # noqa: T201 - to the operator
        for thing in objects:
            print(pydoc.render_doc(thing, renderer=pydoc.plaintext))  # type: ignore[attr-defined]  # noqa: T201


def _harmless_builtins() -> dict[str, Any]:
    """Stand-ins for builtins that would end the service or stop it at its own terminal."""

    def no_input(*_prompt: object) -> str:
        raise RuntimeError("input() would stop the service at its own terminal; assign a value")

    def no_breakpoint(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("breakpoint() would stop the service at its own terminal")

    return {
        "exit": _Leave("exit"),
        "quit": _Leave("quit"),
        "help": _Help(),
        "input": no_input,
        "breakpoint": no_breakpoint,
    }
