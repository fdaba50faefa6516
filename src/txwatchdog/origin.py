"""The Twisted side of a stack: which event of the reactor led to it.

Read once for each pause, in the watch thread, from the local variables of the reactor's own frames.
That a signal's handler broke in is found out when the pause has ended, for it takes longer.
None of the service's code runs for it: attributes are looked up in instances' own dictionaries,
and what is kept are names and addresses, never the objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

from attrs import frozen

__all__ = ["Origin", "creator_of", "read_origin", "signal_origin"]

_EVENTS = {
    "readable": "readable descriptor",
    "writable": "writable descriptor",
    "asyncio": "asyncio callback",
}
"""Events that want a noun in a sentence."""

WRAPPERS = 5
"""Wrappers in wrappers end somewhere; so many are looked into."""


@frozen
class Origin:
    """The event of the reactor that a pause began with.

    Attributes:
        event: `timed call`, `callFromThread`, `readable`, `writable`, `process`, `signal`,
            `asyncio` (a callback of its loop's) or `system event` (startup, shutdown).
        function: the name of what was called, for a call; a signal's handler.
        protocol: the protocol's class, for a descriptor; the descriptor's if it has none, and
            `Port of FACTORY` for one that accepts connections.
        peer: the other side's address, for a descriptor that is connected.
        scheduled_by: where a timed call was made, as `FILE:LINE in FUNCTION`; known if the
            reactor's DelayedCall debugging is on (`twisted.internet.base.DelayedCall.debug`).
    """

    event: str
    function: str | None = None
    protocol: str | None = None
    peer: str | None = None
    scheduled_by: str | None = None

    @property
    def sentence(self) -> str:
        """What a traceback ends with."""
        if self.event == "signal":
            return f"In a signal's handler, {self.function}"
        return f"Called by the reactor for {'an' if self.event == 'asyncio' else 'a'} {self}"

    def __str__(self) -> str:
        text = _EVENTS.get(self.event, self.event)
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


def signal_origin(
    stack: Sequence[tuple[CodeType, int]], handlers: Collection[CodeType]
) -> Origin | None:
    """The signal whose handler broke into `stack`; None if none of `handlers` is in it.

    Args:
        stack: (code, line) pairs, outermost call first.
        handlers: the code of all signals' handlers.
    """
    broke_in = (code for code, _ in reversed(stack) if code in handlers)
    code = next(broke_in, None)
    return None if code is None else Origin("signal", code.co_name)


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
    return Origin(_direction(variables), protocol=_whose(selectable, known), peer=_peer(known))


def _datagram(variables: Mapping[str, Any]) -> Origin | None:
    """`doRead` of a UDP port: only it knows whom the datagram is from."""
    address = variables.get("addr")
    if not isinstance(address, tuple):
        return None
    port = variables["self"]
    return Origin("readable", protocol=_whose(port, _own(port)), peer=_address(address))


def _whose(selectable: Any, known: Mapping[str, Any]) -> str:
    """The class of the protocol on `selectable`, without TLS and the like around it."""
    protocol = known.get("protocol")
    if protocol is None:
        name = type(selectable).__name__
        factory = known.get("factory")
        return name if factory is None else f"{name} of {type(factory).__name__}"
    for _ in range(WRAPPERS):
        inside = _own(protocol)
        # A `ProtocolWrapper` (TLS, policies), and twisted.web's switch between two HTTPs.
        inner = inside.get("wrappedProtocol") or inside.get("_channel")
        if inner is None:
            break
        protocol = inner
    return type(protocol).__name__


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
    ("doRead", "udp.py"): _datagram,
    ("_doReadOrWrite", "posixbase.py"): _descriptor,
    ("_doReadOrWrite", "selectreactor.py"): _descriptor,
    ("_readOrWrite", "asyncioreactor.py"): _descriptor,
    ("_run", "events.py"): _handle,
    ("fireSystemEvent", "base.py"): _system_event,
}
"""Frames of the reactor that know why they call: (function, file) -> who reads them."""


def _called(callable_: Any) -> str | None:
    """The name of what is called, through partials and LoopingCalls."""
    for _ in range(WRAPPERS):
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
    return _address(address)


def _address(address: Any) -> str | None:
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
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
            file, _, place = head[6:].rpartition('", line ')
            number, _, function = place.partition(", ")
            return f"{file}:{number} {function}"
    return None
