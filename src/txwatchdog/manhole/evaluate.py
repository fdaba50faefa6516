"""How a statement runs: in a namespace, with its output its own, in the thread it belongs to.

One `Interpreter` belongs to one session. It reads the source and compiles it in the manhole's
thread, then runs it statement by statement: what `where` allows at once, the rest as an `Errand`
to the reactor's thread.
"""

from __future__ import annotations
import __future__ as future

import ast
import builtins
import contextvars
import itertools
import linecache
import pprint
import threading
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import frozen

from txwatchdog import interrupting
from txwatchdog.errors import Interrupted
from txwatchdog.manhole.output import Capture, routed
from txwatchdog.manhole.where import runs_at_once
from txwatchdog.operators import source_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, TracebackType

    from txwatchdog.manhole.output import Outlet

__all__ = ["Errand", "Interpreter", "Outcome", "Step", "describe", "show"]

_FUTURE_FLAGS = 0
for _name in future.all_feature_names:
    _FUTURE_FLAGS |= getattr(future, _name).compiler_flag

_PRETTY_LIMIT = 100_000  # characters; pprint is slow, and it works in the reactor's thread
_SOURCES_KEPT = 1 << 22  # characters of source whose lines a traceback can still show

_numbers = itertools.count(1)  # next() on it is atomic
_sources: deque[tuple[str, int]] = deque()
_sources_lock = threading.Lock()


@frozen
class Outcome:
    """How a statement, or a whole input, ended.

    Attributes:
        traceback: What it raised, ready to be printed; None if it didn't raise.
        status: The exit status that it asked for (`SystemExit`); None if it did not ask.
        message: What a `SystemExit` with a text says.
        interrupted: Whether what it raised is that it was interrupted.
    """

    traceback: traceback.TracebackException | None = None
    status: int | None = None
    message: str = ""
    interrupted: bool = False


@frozen
class Step:
    """One statement of an input, compiled."""

    node: ast.stmt
    code: CodeType


class Interpreter:
    """One operator's Python: a namespace of its own over objects that all share.

    Used in the manhole's thread, except for what an errand calls in the reactor's.

    Args:
        watchdog: Bound to the name ``watchdog``.
        namespace: The names to begin with; copied.
        operator: Whose statements they are, for tracebacks and for the blame.
    """

    def __init__(self, watchdog: Any, namespace: Mapping[str, Any], operator: str = "") -> None:
        self._watchdog = watchdog
        self._operator = operator
        # A copy: exit() and the like must not do to the service what they do to a program.
        self._builtins = {**vars(builtins), **_harmless_builtins()}
        self.namespace: dict[str, Any] = {
            **namespace,
            "watchdog": watchdog,
            "__name__": "__manhole__",
            "__builtins__": self._builtins,
        }
        self._future_flags = 0

    def read(self, source: str) -> list[Step]:
        """Compile an input, so that a mistake in its last line shows before its first one runs.

        Args:
            source: Any number of statements.

        Returns:
            The statements in order, to be given to `run_at_once` or an `Errand` one by one.

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
                ast.Interactive([node]), filename, "single", self._future_flags, dont_inherit=True
            )
            self._future_flags |= code.co_flags & _FUTURE_FLAGS
            steps.append(Step(node, code))
        return steps

    def at_once(self, step: Step) -> bool:
        """Whether a step may run in the manhole's thread, as things stand now."""
        return runs_at_once(step.node, self._is_ours)

    def run(self, step: Step, outlet: Outlet, width: int) -> Outcome:
        """Run a step here and now, in the calling thread.

        Args:
            step: From `read`.
            outlet: Where its output goes.
            width: Columns that displayed values should keep to.

        Returns:
            How it ended; nothing that it raises gets out.
        """

        def display(value: object) -> None:
            if value is not None:
                capture.stdout.write(show(value, width) + "\n")
                self.namespace["_"] = value

        capture = Capture(outlet, display)
        try:
            with routed(capture):
                exec(step.code, self.namespace)  # noqa: S102 - it is what a console is for
        except SystemExit as leaving:
            return _left(leaving)
        except BaseException as error:
            return Outcome(
                traceback=describe(error, step.code.co_filename),
                interrupted=isinstance(error, (KeyboardInterrupt, Interrupted)),
            )
        return Outcome()

    def _is_ours(self, name: str) -> bool:
        if name == "watchdog":
            return self.namespace.get(name) is self._watchdog
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


def describe(error: BaseException, filename: str) -> traceback.TracebackException:
    """Keep what a traceback needs, and none of its frames: these hold the service's objects.

    Reads no source files (printing does), so that the reactor's thread need not wait for a disk.

    Args:
        error: What was raised.
        filename: The operator's source; the frames above its first one are left out.

    Returns:
        The traceback, to be formatted in another thread.
    """
    first: TracebackType | None = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename != filename:
        first = first.tb_next
    try:
        text = traceback.TracebackException(type(error), error, first, lookup_lines=False)
        # What interrupts a statement is raised by a signal's handler, in the line that it meets.
        text.stack[:] = [frame for frame in text.stack if frame.filename != interrupting.__file__]
    except Exception as failure:  # an exception may be as hostile as any object
        message = f"{type(error).__name__} was raised, and describing it raised {failure!r}"
        text = traceback.TracebackException(RuntimeError, RuntimeError(message), None)
    return text


def show(value: object, width: int) -> str:
    """What the console displays for a value.

    Args:
        value: Anything; its ``repr`` may raise, and then so does this.
        width: Columns to keep to, where the value is a plain container.

    Returns:
        Its ``repr``, spread over lines if it is a dict, list, tuple or set longer than the width.
    """
    text = repr(value)
    # Exact types: a subclass may have a repr of its own, which then is meant to be seen.
    if type(value) in (dict, list, tuple, set) and width < len(text) <= _PRETTY_LIMIT:
        return pprint.pformat(value, width=width, sort_dicts=False)
    return text


def _left(leaving: SystemExit) -> Outcome:
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
