"""The adapters between asyncio and Conch: what a hostile client may not do to them."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from txwatchdog.manhole.carrier import Carrier, Connections, Wire
from txwatchdog.manhole.strangers import Strangers


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

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.is_aborted = True


class _Carried:
    """Raises whatever comes."""

    def makeConnection(self, transport: Any) -> None: ...

    def dataReceived(self, data: bytes) -> None:
        raise ValueError(data)


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
    clock: Any = Clock()
    lines: list[str] = []
    strangers = Strangers(clock)
    strangers.turned_away = lambda address, reason: lines.append(f"{address}: {reason}")  # type: ignore[method-assign]
    loop: Any = None
    carrier = Carrier(_Carried, loop, Connections(), strangers)  # type: ignore[arg-type]
    transport: Any = _Transport()
    carrier.connection_made(transport)
    carrier.data_received(b"\n")
    assert transport.is_aborted
    assert lines == ["a local socket: ValueError(b'\\n')"]
