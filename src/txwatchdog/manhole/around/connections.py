"""What the reactor waits for: its descriptors, and what the kernel knows of their connections."""

from __future__ import annotations

import heapq
import math
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from txwatchdog.manhole import statics
from txwatchdog.manhole.around.care import Pace, borrowed, snapshot
from txwatchdog.manhole.around.names import class_name
from txwatchdog.manhole.around.records import Listing, Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ORDERS", "find_readers", "read_tcp_info"]

ORDERS = ("fd", "idle", "received", "sent", "unsent")
"""What the table can be ordered by: the descriptor's number, or the largest of these first."""

_WRAPPERS = ("wrappedProtocol", "_wrappedProtocol", "_channel")  # TLS, endpoints, HTTP
_DEPTH = 5
_KINDS = 10  # protocols that are counted by name


def find_readers(reactor: Any, n: int, by: str) -> Listing:
    """The descriptors that a reactor waits for.

    Args:
        reactor: An `IReactorFDSet`.
        n: How many to show.
        by: One of `ORDERS`.
    """
    if not (hasattr(reactor, "getReaders") and hasattr(reactor, "getWriters")):
        return Listing(
            "readers",
            (),
            None,
            notes=(f"{class_name(type(reactor))} does not say what it waits for",),
        )
    # Methods of Twisted's: they copy sets and dicts that the reactor's thread changes.
    with (
        borrowed(reactor, snapshot(reactor.getReaders, "the reactor's readers")) as readers,
        borrowed(reactor, snapshot(reactor.getWriters, "the reactor's writers")) as writers,
    ):
        return _listing(readers, writers, n, by)


def _listing(readers: Sequence[Any], writers: Sequence[Any], n: int, by: str) -> Listing:
    pace = Pace.here()
    # By identity: the service's objects may have an `__eq__` of their own.
    reads, writes = ({id(each) for each in ours} for ours in (readers, writers))
    found = list({id(each): each for each in (*readers, *writers)}.values())
    # Rows are made of those only that are shown: thousands of new objects would bring the next
    # garbage collection on, which the service has to wait for.
    ranks = []
    counts: Counter[str] = Counter()
    for each in pace.over(found):
        ranks.append(_rank(each, by))
        counts[_protocol(each)[0] or _transport(each)] += 1
    rows = []
    for index in pace.over(heapq.nsmallest(n, range(len(found)), key=ranks.__getitem__)):
        each = found[index]
        waits = "r" * (id(each) in reads) + "w" * (id(each) in writes)
        rows.append(_with_socket(_describe(each, waits), each))
    return Listing("readers", tuple(rows), len(found), tuple(counts.most_common(_KINDS)))


def _rank(thing: Any, by: str) -> float:
    """The place of a descriptor among the others; without what it is ordered by it comes last."""
    if by == "fd":
        fd = _fd(thing, _socket(thing))
        return math.inf if fd is None else fd
    if by == "unsent":
        value: float | None = _unsent(thing)
    else:
        info = _tcp_info(_socket(thing))
        value = None if info is None else getattr(info, by)
    return math.inf if value is None else -value


def _describe(thing: Any, waits: str) -> Reader:
    protocol, tls = _protocol(thing)
    sock = _socket(thing)
    return Reader(
        fd=_fd(thing, sock),
        transport=_transport(thing),
        protocol=protocol,
        tls=tls,
        waits=waits,
        unsent=_unsent(thing),
    )


def _transport(thing: Any) -> str:
    return class_name(type(thing)).rsplit(".", 1)[-1]


def _protocol(thing: Any) -> tuple[str | None, bool]:
    """The class of what a descriptor serves, and whether by way of TLS."""
    protocol = statics.attribute(thing, "protocol")
    if protocol is statics.UNKNOWN:
        factory = statics.attribute(thing, "factory")
        return (None if _is_nothing(factory) else class_name(type(factory))), False
    tls = False
    for _ in range(_DEPTH):
        tls = tls or statics.type_name(protocol) == "TLSMemoryBIOProtocol"
        inner = next(
            (
                found
                for name in _WRAPPERS
                if not _is_nothing(found := statics.attribute(protocol, name))
            ),
            None,
        )
        if inner is None:
            break
        protocol = inner
    return (None if _is_nothing(protocol) else class_name(type(protocol))), tls


def _is_nothing(thing: Any) -> bool:
    return thing is None or thing is statics.UNKNOWN


def _socket(thing: Any) -> socket.socket | None:
    for name in ("socket", "i"):  # `i` is the waker's
        found = statics.attribute(thing, name)
        if type(found) is socket.socket:
            return found
    return None


def _fd(thing: Any, sock: socket.socket | None) -> int | None:
    fd = sock.fileno() if sock is not None else statics.attribute(thing, "fd")
    if type(fd) is not int:
        fd = statics.attribute(thing, "i")  # a waker on a pipe
    return fd if type(fd) is int and fd >= 0 else None


def _unsent(thing: Any) -> int | None:
    """Bytes in the buffers of Twisted's `FileDescriptor`."""
    buffer, offset, more = (
        statics.attribute(thing, name) for name in ("dataBuffer", "offset", "_tempDataLen")
    )
    if type(buffer) is not bytes or type(offset) is not int or type(more) is not int:
        return None
    return max(len(buffer) - offset, 0) + more


def _with_socket(row: Reader, thing: Any) -> Reader:
    """What the kernel knows of a descriptor's socket; it may be closed meanwhile."""
    sock = _socket(thing)
    if sock is None:
        return row
    row = evolve(row, local=_address(sock.getsockname), peer=_address(sock.getpeername))
    known = _tcp_info(sock) if row.peer is not None else None
    if known is None:
        return row
    return evolve(
        row,
        received=known.received,
        sent=known.sent,
        idle_seconds=known.idle,
        age_seconds=known.age,
        age_at_least_seconds=known.age_at_least,
    )


def _tcp_info(sock: Any) -> TcpInfo | None:
    try:
        return read_tcp_info(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE))
    except (OSError, AttributeError):  # it is not TCP, there is no socket, or this is not Linux
        return None


def _address(ask: Any) -> str | None:
    try:
        address = ask()
    except OSError:
        return None
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):  # of Linux's abstract ones
        return "@" + address[1:].decode("utf-8", "replace")
    return address or None


@frozen
class TcpInfo:
    """What the kernel tells of a TCP connection, in bytes and seconds; see `Reader`."""

    received: int
    sent: int
    idle: float
    age: float | None
    age_at_least: float


# struct tcp_info of linux/tcp.h, which only ever grows at its end.
_TCP_INFO_SIZE = 256
_LAST_SENT, _LAST_RECEIVED = 44, 52  # u32, milliseconds ago
_BYTES_ACKED, _BYTES_RECEIVED = 120, 128  # u64, Linux 4.1
_BYTES_SENT, _BYTES_SENT_AGAIN = 200, 208  # u64, Linux 4.19


def read_tcp_info(data: bytes) -> TcpInfo | None:
    """What is in a ``struct tcp_info``.

    Until a side has sent its first data, the kernel says of its last that it came when the
    connection was made; after that nobody knows when this was.

    Args:
        data: As ``getsockopt`` gives it.

    Returns:
        None if the kernel is too old to count bytes.
    """
    if len(data) < _BYTES_RECEIVED + 8:
        return None
    last_sent, last_received = (
        struct.unpack_from("I", data, offset)[0] / 1000 for offset in (_LAST_SENT, _LAST_RECEIVED)
    )
    sent, received = (
        struct.unpack_from("Q", data, offset)[0] for offset in (_BYTES_ACKED, _BYTES_RECEIVED)
    )
    if len(data) >= _BYTES_SENT_AGAIN + 8:
        # What is acknowledged counts the connection itself as one byte, on the connecting side.
        total, again = struct.unpack_from("QQ", data, _BYTES_SENT)
        sent = total - again
    exact = [
        seconds for count, seconds in ((sent, last_sent), (received, last_received)) if not count
    ]
    return TcpInfo(
        received=received,
        sent=sent,
        idle=min(last_sent, last_received),
        age=max(exact, default=None),
        age_at_least=max(last_sent, last_received),
    )
