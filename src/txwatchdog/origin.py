"""The Twisted side of a stack: which event of the reactor led to it.

Read once for each pause, in the watch thread, from the local variables of the reactor's own frames.
None of the service's code runs for it: attributes are looked up in instances' own dictionaries,
and what is kept are names and addresses, never the objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType
from typing import Any

from attrs import frozen

__all__ = ["Origin", "creator_of", "read_origin"]


@frozen
class Origin:
    """The event of the reactor that a pause began with.

    Attributes:
        event: `timed call`, `callFromThread`, `readable`, `writable`, `process`, `asyncio` (a
            callback of its loop's) or `system event` (startup, shutdown).
        function: the name of what was called, for a call.
        protocol: the protocol's class, or the descriptor's, for a descriptor.
        peer: the other side's address, for a descriptor that is connected.
        scheduled_by: where a timed call was made, as `FILE:LINE in FUNCTION`; known if the
            reactor's DelayedCall debugging is on (`twisted.internet.base.DelayedCall.debug`).
    """

    event: str
    function: str | None = None
    protocol: str | None = None
    peer: str | None = None
    scheduled_by: str | None = None

    def __str__(self) -> str:
        text = self.event
        if self.function:
            text += f" of {self.function}"
        if self.protocol:
            text += f": {self.protocol}"
        if self.peer:
            text += f" from {self.peer}"
        if self.scheduled_by:
            text += f", scheduled at {self.scheduled_by}"
        return text


def read_origin(frame: FrameType | None) -> Origin | None:
    """Which event of the reactor led to `frame`; None if none did, or it can't be told.

    Never raises. The watch thread calls it, or a signal handler in the reactor's thread.
    """
    try:
        while frame is not None:
            reader = _READERS.get((frame.f_code.co_name, _file(frame)))
            if reader is not None and (origin := reader(frame.f_locals)) is not None:
                return origin
            frame = frame.f_back
    except Exception:
        # Another release of Twisted may name its variables otherwise: that is no one's trouble.
        return None
    return None


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.rsplit("/", 1)[-1]


def _timed_or_threaded(variables: Mapping[str, Any]) -> Origin | None:
    """`ReactorBase.runUntilCurrent`: first the calls of other threads, then those that are due."""
    if "call" in variables:
        call = variables["call"]
        creator = creator_of(getattr(call, "creator", None))
        return Origin("timed call", _called(getattr(call, "func", None)), scheduled_by=creator)
    if "f" in variables:
        return Origin("callFromThread", _called(variables["f"]))
    return None


def _descriptor(variables: Mapping[str, Any]) -> Origin | None:
    """`_doReadOrWrite` and `_readOrWrite`: a descriptor is ready."""
    selectable = variables.get("selectable")
    if selectable is None:
        return None
    name = type(selectable).__name__
    if name == "_SIGCHLDWaker":
        return Origin("process")
    if name == "_UnixWaker":
        return None  # it only wakes the reactor up
    known = _own(selectable)
    if "proc" in known:  # a pipe to a child process
        protocol = _own(known["proc"]).get("proto")
        return Origin("process", protocol=type(protocol).__name__ if protocol else None)
    protocol = known.get("protocol")
    return Origin(
        _direction(variables),
        protocol=type(selectable if protocol is None else protocol).__name__,
        peer=_peer(known),
    )


def _direction(variables: Mapping[str, Any]) -> str:
    if "read" in variables:  # AsyncioSelectorReactor
        return "readable" if variables["read"] else "writable"
    if "method" in variables and isinstance(variables["method"], str):  # SelectReactor
        return "readable" if variables["method"] == "doRead" else "writable"
    # Epoll and poll: POLLIN and EPOLLIN are 1 everywhere.
    return "readable" if int(variables.get("event", 1)) & 1 else "writable"


def _handle(variables: Mapping[str, Any]) -> Origin | None:
    """`Handle._run` of asyncio: anything that the loop calls."""
    handle = variables.get("self")
    callback = getattr(handle, "_callback", None)
    task = getattr(callback, "__self__", None)
    coroutine = getattr(task, "_coro", None)
    if coroutine is not None:
        return Origin("asyncio", f"task {getattr(coroutine, '__qualname__', '?')}")
    return Origin("asyncio", _called(callback))


def _system_event(variables: Mapping[str, Any]) -> Origin | None:
    event = variables.get("eventType")
    return Origin("system event", str(event)) if isinstance(event, str) else None


_READERS = {
    ("runUntilCurrent", "base.py"): _timed_or_threaded,
    ("_doReadOrWrite", "posixbase.py"): _descriptor,
    ("_doReadOrWrite", "selectreactor.py"): _descriptor,
    ("_readOrWrite", "asyncioreactor.py"): _descriptor,
    ("_run", "events.py"): _handle,
    ("fireSystemEvent", "base.py"): _system_event,
}
"""Frames of the reactor that know why they call: (function, file) -> who reads them."""


def _called(callable_: Any) -> str | None:
    """The name of what is called, through partials and LoopingCalls."""
    for _ in range(5):  # wrappers in wrappers end somewhere
        known = _own(callable_)
        inner = known.get("func") or known.get("f")
        if type(callable_).__name__ == "partial":
            inner = callable_.func
        if inner is None or not callable(inner):
            break
        callable_ = inner
    name = getattr(type(callable_), "__name__", "?")
    if name in {"function", "method", "builtin_function_or_method", "type"}:
        return str(callable_.__qualname__)
    return str(name)


def _own(thing: Any) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return found


def _peer(known: Mapping[str, Any]) -> str | None:
    """The address of a connection's other side, from what Twisted keeps on its transports."""
    address = known.get("client") or known.get("realAddress") or known.get("addr")
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    return address if isinstance(address, str) and address else None


def creator_of(lines: Any) -> str | None:
    """The innermost frame outside Twisted of a kept traceback, as `FILE:LINE in FUNCTION`.

    Args:
        lines: what a DelayedCall or a Deferred keeps if its debugging is on; None if it does not.
    """
    if not isinstance(lines, list):
        return None
    for line in reversed(lines):
        head = str(line).strip().split("\n", 1)[0]
        if head.startswith("File ") and "/twisted/internet/" not in head:
            file, number, function = (part.strip() for part in head.split(",", 2))
            return f"{file[6:-1]}:{number[5:]} {function}"
    return None
