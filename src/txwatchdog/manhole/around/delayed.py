"""The calls that are to be made later, by the reactor or the asyncio loop that it runs on."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from datetime import datetime, timedelta, timezone
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import Any

from twisted.internet.task import LoopingCall

from txwatchdog.manhole import statics
from txwatchdog.manhole.around.care import Pace, borrowed
from txwatchdog.manhole.around.names import (
    class_name,
    coroutine_code,
    function_called,
    function_of_code,
)
from txwatchdog.manhole.around.records import Delayed, Listing
from txwatchdog.origin import creator_of
from txwatchdog.records import Function

__all__ = ["asyncio_loop", "find_delayed"]

_COUNTED = 100_000  # calls whose function is looked up
_KINDS = 10  # functions that are counted by name


def find_delayed(reactor: Any, n: int) -> Listing:
    """The calls that a reactor, and its asyncio loop if it has one, are to make, soonest first.

    Args:
        reactor: An `IReactorTime`.
        n: How many to show.
    """
    loop = asyncio_loop(reactor)
    with (
        borrowed(reactor, _calls(reactor)) as calls,
        borrowed(reactor, _timers(loop)) as timers,
    ):
        return _listing(reactor, loop, calls, timers, n)


def asyncio_loop(reactor: Any) -> Any:
    """The loop that a reactor runs on; None if it is not asyncio's."""
    loop = statics.attribute(reactor, "_asyncioEventloop")
    return None if loop is statics.UNKNOWN else loop


def _calls(reactor: Any) -> list[Any]:
    calls: list[Any] = []
    for name in ("_newTimedCalls", "_pendingTimedCalls"):
        some = statics.attribute(reactor, name)
        if type(some) is list:
            calls += some
    return calls


def _timers(loop: Any) -> list[Any]:
    scheduled = None if loop is None else statics.attribute(loop, "_scheduled")
    return [*scheduled] if type(scheduled) is list else []


def _is_due(call: Any) -> bool:
    # An int for the reactor's, a bool for asyncio's.
    return not any(statics.attribute(call, name) == 1 for name in ("cancelled", "_cancelled"))


def _when(call: Any) -> float:
    """When a call of the reactor's, or of asyncio's, is to be made."""
    values = (statics.attribute(call, name) for name in ("time", "delayed_time", "_when"))
    return float(sum(value for value in values if type(value) in (float, int)))


def _listing(reactor: Any, loop: Any, calls: list[Any], timers: list[Any], n: int) -> Listing:
    pace = Pace.here()
    due = [call for call in pace.over(calls) if _is_due(call)]
    now = reactor.seconds()
    seconds = [_when(call) - now for call in pace.over(due)]
    if timers:
        others = [each for each in timers if _is_due(each) and not _is_reactors(each, reactor)]
        now = loop.time()
        seconds += [_when(timer) - now for timer in pace.over(others)]
        due += others
    notes: list[str] = []
    if loop is not None and statics.attribute(loop, "_scheduled") is statics.UNKNOWN:
        notes.append(f"what {class_name(type(loop))} itself is to call it does not say")
    counts: Counter[str] = Counter()
    for call in pace.over(islice(due, _COUNTED)):
        counts[str(_called(call)[0])] += 1
    if len(due) > _COUNTED:
        notes.append(f"the counts are of the first {_COUNTED:,} only")
    moment = datetime.now(timezone.utc)
    rows = tuple(
        _delayed(seconds[index], due[index], moment)
        for index in pace.over(heapq.nsmallest(n, range(len(due)), key=seconds.__getitem__))
    )
    return Listing("delayed", rows, len(due), tuple(counts.most_common(_KINDS)), tuple(notes))


def _asleep(timer: Any) -> Function | None:
    """The function of the task that a timer of ``asyncio.sleep`` wakes."""
    arguments = statics.attribute(timer, "_args")
    future = arguments[0] if type(arguments) is tuple and arguments else None
    # By their exact types: anything may be a timer's argument, and have its own idea of its class.
    if type(future) is not asyncio.Future:
        return None
    for callback, *_ in getattr(future, "_callbacks", None) or ():
        if type(callback) not in (BuiltinMethodType, MethodType):
            continue
        task = callback.__self__
        if statics.is_a(task, asyncio.Task):
            code = coroutine_code(asyncio.Task.get_coro(task))
            return None if code is None else function_of_code(code)
    return None


def _called(call: Any) -> tuple[Function, float | None]:
    """What a timer calls, and how often."""
    called = statics.attribute(call, "func")
    if called is statics.UNKNOWN:
        called = statics.attribute(call, "_callback")
        sleeper = _asleep(call)
        if sleeper is not None:
            return sleeper, None
    every = statics.attribute(called, "interval") if statics.is_a(called, LoopingCall) else None
    return function_called(called), every if type(every) in (float, int) else None


def _delayed(seconds: float, call: Any, moment: datetime) -> Delayed:
    function, every = _called(call)
    is_asyncios = statics.attribute(call, "func") is statics.UNKNOWN
    return Delayed(
        seconds=seconds,
        at=moment + timedelta(seconds=min(max(seconds, -1e9), 1e9)),
        function=function,
        every_seconds=every,
        scheduled_by=creator_of(statics.attribute(call, "creator")),
        loop="asyncio" if is_asyncios else "reactor",
    )


def _is_reactors(timer: Any, reactor: Any) -> bool:
    """Whether an asyncio timer is the one by which the reactor gets its own calls made."""
    callback = statics.attribute(timer, "_callback")
    return type(callback) is MethodType and callback.__self__ is reactor
