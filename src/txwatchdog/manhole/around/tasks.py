"""The tasks of the asyncio loop that the reactor runs on."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from txwatchdog.manhole import statics
from txwatchdog.manhole.around.care import Pace, borrowed, snapshot
from txwatchdog.manhole.around.delayed import asyncio_loop
from txwatchdog.manhole.around.names import class_name, coroutine_code, function_of_code
from txwatchdog.manhole.around.records import Listing, Task
from txwatchdog.records import Function

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["find_tasks"]

_LOOKED_AT = 100_000
_KINDS = 10  # coroutines that are counted by name
_DEPTH = 100  # coroutines that wait for one another


def find_tasks(reactor: Any, n: int) -> Listing:
    """The tasks of a reactor's asyncio loop.

    Args:
        reactor: The reactor.
        n: How many to show.
    """
    loop = asyncio_loop(reactor)
    if loop is None:
        return Listing("tasks", (), 0, notes=(f"{class_name(type(reactor))} has no asyncio loop",))
    # It is made for any thread, and copies a WeakSet, again if that changed meanwhile.
    with borrowed(reactor, snapshot(lambda: list(asyncio.all_tasks(loop)), "tasks")) as tasks:
        return _task_listing(loop, tasks, n)


def _task_listing(loop: Any, tasks: Sequence[Any], n: int) -> Listing:
    pace = Pace.here()
    running = asyncio.current_task(loop)
    counts: Counter[str] = Counter()
    rows = []
    for task in pace.over(islice(tasks, _LOOKED_AT)):
        row = _task(task, is_running=task is running)
        counts[row.coroutine] += 1
        rows.append(row)
    # Names of tasks that nobody named have numbers at their end.
    rows.sort(key=lambda row: (_ORDER[row.state], len(row.name), row.name))
    notes: tuple[str, ...] = ()
    if len(tasks) > _LOOKED_AT:
        notes = (f"{len(tasks) - _LOOKED_AT:,} more were not looked at",)
    return Listing("tasks", tuple(rows[:n]), len(tasks), tuple(counts.most_common(_KINDS)), notes)


_ORDER = {"running": 0, "ready": 1, "waiting": 2}


def _task(task: Any, *, is_running: bool) -> Task:
    if isinstance(task, asyncio.Task):  # the class in C
        name, coroutine = asyncio.Task.get_name(task), asyncio.Task.get_coro(task)
        waits_for = getattr(task, "_fut_waiter", None)
    else:  # the one in Python, which a task factory may make
        name, coroutine, waits_for = (
            statics.attribute(task, each) for each in ("_name", "_coro", "_fut_waiter")
        )
    code = coroutine_code(coroutine)
    at = _innermost(coroutine)
    return Task(
        name=str(name),
        coroutine=class_name(type(coroutine)) if code is None else str(function_of_code(code)),
        state="running" if is_running else "ready" if waits_for is None else "waiting",
        at=None if at is None else str(at),
        waits_for=None if waits_for is None else class_name(type(waits_for)),
    )


def _innermost(coroutine: Any) -> Function | None:
    """Where the coroutine stands that all the others wait for, as far as it is one of Python's."""
    found = None
    for _ in range(_DEPTH):
        code = coroutine_code(coroutine)
        if code is None:
            break
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        line = frame.f_lineno if frame is not None else code.co_firstlineno
        found = Function(code.co_name, code.co_filename, line or code.co_firstlineno)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found
