"""Conch carried by a plain asyncio loop, without a second reactor.

A reactor in a thread of its own would take ``isInIOThread()`` away from the service's, leave its
waker's descriptors behind at each stop and log into the service. Conch needs little of one: bytes
in, bytes out, and a clock. These are three small adapters for just that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Protocol, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IAddress

__all__ = ["Carried", "Carrier", "Clock", "Connections", "Wire"]

_FEED = 16384  # bytes; Conch copies its whole buffer for each packet that it takes out of it
_LINGER = 3.0  # seconds that a closed connection has to send what it still holds
# Bytes that may wait to be sent. Output stops long before, when the wire is full; more than this
# comes together only for who asks and asks, and does not read the answers.
_WAITING = 1 << 20


class Carried(Protocol):
    """What is carried: Conch's protocol, as far as it is used here. All in the manhole's thread."""

    def makeConnection(self, transport: Any) -> None: ...

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...

    def wire_writable(self) -> None:
        """Called when the wire has room again after it had none."""

    def farewell(self) -> None:
        """Called when the manhole ends: say so to the client, and close."""

    def failed(self, reason: str) -> None:
        """Called when it has raised, for what a client sent, and the connection is cut off."""


@implementer(ITransport)
class Wire:
    """An asyncio transport, as Twisted's protocols see one.

    Args:
        transport: What carries the bytes.
        loop: Whose transport it is.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._host = _address(transport, "sockname")
        # Asked for now: a peer that is gone has no name any more.
        self._peer = _address(transport, "peername")
        self.is_full = False
        """Whether what is written now would only wait in memory."""

    @property
    def is_closing(self) -> bool:
        """Whether the connection is closed, or will be as soon as all is sent."""
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        # asyncio logs writes to a lost connection as warnings, into the service's log.
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > _WAITING:
            self._transport.abort()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self._transport.is_closing():
            self._transport.close()
            # A peer that does not read must not keep the connection for ever.
            self._loop.call_later(_LINGER, self._transport.abort)

    def abortConnection(self) -> None:
        """Close at once; what waits to be sent is lost."""
        self._transport.abort()

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._host


class Connections(set["Carrier"]):
    """The connections that live; each adds and removes itself."""

    def __init__(self) -> None:
        super().__init__()
        self._empty = asyncio.Event()

    def discard(self, connection: object) -> None:
        super().discard(cast("Carrier", connection))
        if not self:
            self._empty.set()

    async def wait_empty(self, patience: float) -> None:
        """Wait until none lives any more, for a number of seconds at most."""
        self._empty.clear()
        if self:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience)


class Carrier(asyncio.Protocol):
    """Feeds one connection's bytes to what is carried, and lets nothing that it raises out.

    Args:
        build: Makes the protocol for a new connection.
        loop: The manhole's.
        connections: Where this one is listed for as long as it lives.
    """

    def __init__(
        self,
        build: Callable[[], Carried],
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
    ) -> None:
        self._build = build
        self._loop = loop
        self._connections = connections
        self.carried: Carried | None = None
        self.wire: Wire | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        self.wire = Wire(cast("asyncio.Transport", transport), self._loop)
        self.carried = self._build()
        self._guard(self.carried.makeConnection, self.wire)

    def data_received(self, data: bytes) -> None:
        assert self.wire is not None
        assert self.carried is not None
        for start in range(0, len(data), _FEED):
            # Conch goes on parsing after it has sent a disconnect; what comes then is not for it.
            if self.wire.is_closing:
                return
            self._guard(self.carried.dataReceived, data[start : start + _FEED])

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self.carried is not None:
            reason = ConnectionDone() if exc is None else ConnectionLost(str(exc))
            self._guard(self.carried.connectionLost, Failure(reason))

    def pause_writing(self) -> None:
        assert self.wire is not None
        self.wire.is_full = True

    def resume_writing(self) -> None:
        assert self.wire is not None
        assert self.carried is not None
        self.wire.is_full = False
        self._guard(self.carried.wire_writable)

    def farewell(self) -> None:
        """Close with a word to the client."""
        if self.carried is not None:
            self._guard(self.carried.farewell)

    def abort(self) -> None:
        """Close without one."""
        if self.wire is not None:
            self.wire.abortConnection()

    def _guard(self, call: Callable[..., None], *args: Any) -> None:
        """Call into Conch. What a stranger sends may raise anything there: it ends that connection.

        A traceback for each would let anyone fill the log.
        """
        try:
            call(*args)
        except Exception as error:
            assert self.wire is not None
            assert self.carried is not None
            self.carried.failed(repr(error))
            self.wire.abortConnection()


class Clock:
    """``callLater`` and ``seconds``, for what wants a clock of Twisted's.

    Args:
        loop: The manhole's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def seconds(self) -> float:
        """Seconds of a clock that never goes back."""
        return self._loop.time()

    def callLater(
        self, delay: float, function: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        """Call in the manhole's thread, after a delay in seconds.

        Returns:
            A handle with ``cancel()``, which may be called at any time, also afterwards.
        """
        return self._loop.call_later(delay, function, *args)


def _address(transport: asyncio.Transport, which: str) -> IAddress:
    name = transport.get_extra_info(which)
    family = getattr(transport.get_extra_info("socket"), "family", None)
    if family == socket.AF_INET6 and name:
        return IPv6Address("TCP", *name)
    if family == socket.AF_INET and name:
        return IPv4Address("TCP", *name)
    return UNIXAddress(os.fsencode(name) if name else None)
