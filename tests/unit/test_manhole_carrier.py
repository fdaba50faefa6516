"""The adapters between asyncio and Conch: what a hostile client may not do to them."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from txwatchdog.binding import address_of
from txwatchdog.manhole.carrier import Carrier, Connections, Wire


class _Transport:
    """An asyncio transport whose peer reads nothing."""

    def __init__(self) -> None:
        self.waiting = 0
        self.is_aborted = False

    def get_extra_info(self, name: str) -> None:
        """As for a local socket without a name."""

    def is_closing(self) -> bool:
        return self.is_aborted

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def close(self) -> None:
        """Only asks to be closed."""

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.is_aborted = True


class _Carried:
    """Raises whatever comes."""

    def makeConnection(self, transport: Any) -> None: ...

    def dataReceived(self, data: bytes) -> None:
        raise ValueError(data)

    def wire_writable(self) -> None:
        raise ValueError("writable")

    def farewell(self) -> None:
        raise ValueError("farewell")

    def connectionLost(self, reason: object) -> None: ...

    def failed(self, reason: str) -> None:
        self.told = reason


def test_a_client_that_never_reads_is_cut_off() -> None:
    """Whoever asks on and on and does not read the answers costs a bounded amount of memory."""
    transport: Any = _Transport()
    loop: Any = None
    wire = Wire(transport, loop)
    for _ in range(100_000):
        wire.write(b"x" * 48)
    assert transport.is_aborted
    assert transport.waiting < 1_100_000


def test_what_conch_raises_ends_one_connection() -> None:
    """An exception in Conch closes the connection, and is a line of log, not a traceback."""
    loop: Any = None
    carried = _Carried()
    carrier = Carrier(lambda: carried, loop, Connections())
    transport: Any = _Transport()
    carrier.connection_made(transport)
    carrier.data_received(b"\n")
    assert transport.is_aborted
    assert carried.told == "ValueError(b'\\n')"


def test_a_wire_that_is_full_says_so_until_it_has_room() -> None:
    """Whoever writes can wait for it; and what that raises ends the connection alone."""
    loop: Any = None
    carrier = Carrier(_Carried, loop, Connections())
    transport: Any = _Transport()
    carrier.connection_made(transport)
    assert carrier.wire is not None
    carrier.pause_writing()
    assert carrier.wire.is_full
    carrier.resume_writing()
    assert not carrier.wire.is_full
    assert transport.is_aborted
    carrier.wire.write(b"after the end")
    assert transport.waiting == 0


def test_a_peer_that_does_not_read_the_end_is_not_waited_for() -> None:
    """Three seconds after it was closed, a connection is gone."""
    later: list[tuple[float, Any]] = []
    loop: Any = type("Loop", (), {"call_later": lambda _, s, call: later.append((s, call))})()
    transport: Any = _Transport()
    wire = Wire(transport, loop)
    wire.writeSequence([b"a", b"b"])
    assert transport.waiting == 2
    wire.loseConnection()
    ((seconds, call),) = later
    assert seconds == 3.0
    call()
    assert transport.is_aborted
    wire.loseConnection()
    assert len(later) == 1


def test_a_farewell_that_fails_ends_the_connection() -> None:
    """The manhole ends in any case."""
    loop: Any = None
    carrier = Carrier(_Carried, loop, Connections())
    carrier.farewell()  # before there is anyone
    carrier.abort()
    transport: Any = _Transport()
    carrier.connection_made(transport)
    carrier.farewell()
    assert transport.is_aborted


def test_a_connection_that_nobody_carries_ends_quietly() -> None:
    """Where its protocol could not be made there is nobody to be told of its end."""
    loop: Any = None
    connections = Connections()

    def fail() -> Any:
        raise MemoryError

    carrier = Carrier(fail, loop, connections)
    transport: Any = _Transport()
    with pytest.raises(MemoryError):
        carrier.connection_made(transport)
    carrier.connection_lost(None)
    assert not connections
    carrier.abort()
    assert transport.is_aborted


@pytest.mark.parametrize(
    ("family", "name", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 22), IPv4Address("TCP", "127.0.0.1", 22)),
        (socket.AF_INET6, ("::1", 22, 0, 0), IPv6Address("TCP", "::1", 22, 0, 0)),
        (socket.AF_INET6, None, UNIXAddress(None)),
        (socket.AF_UNIX, "/run/s", UNIXAddress(b"/run/s")),
    ],
)
def test_addresses_are_twisteds(family: int, name: Any, address: Any) -> None:
    """Both ends of a connection, whatever it goes by; a peer that is gone has none."""
    transport: Any = _Transport()
    known = {"socket": SimpleNamespace(family=family), "peername": name, "sockname": name}
    transport.get_extra_info = known.get
    wire = Wire(transport, Mock())
    assert wire.getPeer() == wire.getHost() == address
    listening: Any = SimpleNamespace(family=family, getsockname=lambda: name)
    if name is not None:
        assert address_of(listening) == address
