"""The threads of the process: what each does, and the state of the reactor's pool."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python import threadable

from txwatchdog.blame import blame, cut_own, here
from txwatchdog.manhole import statics
from txwatchdog.manhole.around.names import function_of_code
from txwatchdog.manhole.around.records import Pool, Thread, Threads
from txwatchdog.records import resolve
from txwatchdog.rings.stacks import MAX_FRAMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from txwatchdog.records import Function, RawStack

__all__ = ["find_threads"]

_OURS = "txwatchdog"
_ORDER = {"reactor": 0, "working": 1, "": 2, "idle": 3, _OURS: 4}
_TICKS = 100  # that a second of processor time has in /proc, on every Linux


def find_threads(
    reactor: Any,
    n: int,
    frames: Callable[[], dict[int, FrameType]] = sys._current_frames,
) -> Threads:
    """The threads of this process: the reactor's first, then those that work.

    Args:
        reactor: Whose thread and pool are meant.
        n: How many threads to show.
        frames: Gives each thread's innermost frame.
    """
    pool = statics.attribute(reactor, "threadpool")
    named = {thread.ident: thread for thread in threading.enumerate()}
    # Each frame keeps its function's variables alive: no longer than it takes to read its stack.
    stacks = {ident: _read(frame) for ident, frame in frames().items()}
    prefix = f"PoolThread-{_text(pool, 'name')}-"
    rows = [_thread(ident, stack, named.get(ident), prefix) for ident, stack in stacks.items()]
    rows.sort(key=lambda row: (_ORDER[row.state], len(row.name), row.name))
    counts = Counter(row.state or "other" for row in rows)
    return Threads(
        "threads", tuple(rows[:n]), len(rows), tuple(counts.most_common()), pool=_pool(pool)
    )


def _read(frame: FrameType | None) -> RawStack:
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < MAX_FRAMES:
        stack.append((frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno))
        frame = frame.f_back
    stack.reverse()
    return tuple(stack)


def _thread(
    ident: int, stack: RawStack, thread: threading.Thread | None, pool_prefix: str
) -> Thread:
    # Not by way of properties: a class derived from Thread may have its own.
    name = _text(thread, "_name") or "?"
    state = ""
    if ident == threadable.ioThread:
        state, stack = "reactor", cut_own(stack)
    elif name.startswith(_OURS):
        state = _OURS
    elif name.startswith(pool_prefix):
        state = "working" if any(map(_is_work, stack)) else "idle"
    native_id = statics.attribute(thread, "_native_id")
    daemon = statics.attribute(thread, "_daemonic")
    return Thread(
        name=name,
        ident=ident,
        native_id=native_id if type(native_id) is int else None,
        daemon=daemon if type(daemon) is bool else None,
        state=state,
        function=_function(stack),
        cpu_seconds=_cpu_seconds(native_id) if type(native_id) is int else None,
        frames=resolve(stack),
    )


def _text(thing: Any, name: str) -> str:
    value = statics.attribute(thing, name)
    return value if type(value) is str else ""


def _is_work(call: tuple[CodeType, int]) -> bool:
    """Whether a call is the one by which a thread of a pool does its work."""
    code, _ = call
    return code.co_name == "doWork" and code.co_filename.endswith("_team.py")


def _function(stack: RawStack) -> Function | None:
    if not stack:
        return None
    offender = blame(stack).offender
    if offender is None or here().kind(offender.file) not in {"application", "third-party"}:
        return function_of_code(stack[-1][0])
    return offender


def _cpu_seconds(native_id: int) -> float | None:
    try:
        text = Path(f"/proc/self/task/{native_id}/stat").read_text("utf-8", "replace")
        # The second field, a name in parentheses, may have anything in it.
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS
    except (OSError, ValueError):  # it has just ended, or this is not Linux
        return None


def _pool(pool: Any) -> Pool | None:
    team = statics.attribute(pool, "_team")
    idle, working, queued, most = (
        statics.attribute(thing, name)
        for thing, name in (
            (team, "_idle"),
            (team, "_busyCount"),
            (team, "_pending"),
            (pool, "max"),
        )
    )
    if type(working) is not int or type(most) is not int:
        return None
    return Pool(_text(pool, "name"), most, working, len(idle), len(queued))
