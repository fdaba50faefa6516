"""A session's channel and its connection, without a wire."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.conch.error import ConchError
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.connection import OPEN_RESOURCE_SHORTAGE

from txwatchdog.manhole.limits import Places
from txwatchdog.manhole.session import Connection, SessionChannel
from txwatchdog.manhole.spool import STDERR


class _Refusals:
    """A trail that keeps what was refused."""

    def __init__(self) -> None:
        self.refused: list[tuple[Any, ...]] = []

    def request_refused(self, *what: Any) -> None:
        self.refused.append(what)


class _Line:
    """A connection whose packets are kept."""

    def __init__(self, begin: Callable[[SessionChannel, bytes | None], Any]) -> None:
        self.operator: Any = SimpleNamespace(has_pty=True)
        self.transport = SimpleNamespace(is_full=False)
        self.loop = asyncio.get_running_loop()
        self.begin = begin
        self.sent: list[tuple[str, Any]] = []
        self.closed = asyncio.Event()

    def used(self) -> None:
        """It is."""

    def sendData(self, _channel: Any, data: bytes) -> None:
        self.sent.append(("stdout", data))

    def sendExtendedData(self, _channel: Any, _kind: int, data: bytes) -> None:
        self.sent.append(("stderr", data))

    def sendRequest(self, _channel: Any, kind: bytes, data: bytes) -> None:
        self.sent.append((kind.decode(), *struct.unpack(">L", data)))

    def sendEOF(self, _channel: Any) -> None: ...

    def sendClose(self, channel: Any) -> None:
        channel.localClosed = True
        self.closed.set()


async def _nothing(_channel: SessionChannel, _command: bytes | None) -> int:
    return 0


def _channel(
    begin: Callable[[SessionChannel, bytes | None], Any] = _nothing,
) -> tuple[SessionChannel, _Line]:
    line: Any = _Line(begin)
    channel = SessionChannel(line, 1 << 20, 32768, Places(1).enter())  # type: ignore[arg-type]
    return channel, line


PTY = NS(b"xterm") + struct.pack(">4L", 80, 24, 0, 0) + NS(b"")


def test_no_more_sessions_than_may_be() -> None:
    """One more is refused with a reason, which the trail has, too."""
    trail = _Refusals()
    places, loop = Places(1), asyncio.new_event_loop()
    connection = Connection(SimpleNamespace(), _nothing, loop, places)  # type: ignore[arg-type]
    connection.transport = SimpleNamespace(trail=trail)  # type: ignore[assignment]
    places.enter()
    with pytest.raises(ConchError) as refusal:
        connection.getChannel(b"session", 1, 1, b"")
    assert refusal.value.data == OPEN_RESOURCE_SHORTAGE
    reason = "1 sessions are open, no more may be"
    assert trail.refused == [(b"session", reason)]
    assert refusal.value.value == reason
    loop.close()


def test_no_colour_may_be_asked_for_before_the_terminal() -> None:
    """And after it: the order is the client's."""

    async def ask() -> list[bool]:
        plain = []
        for requests in ((b"env", b"pty-req"), (b"pty-req", b"env")):
            channel, _ = _channel()
            for request in requests:
                data = PTY if request == b"pty-req" else NS(b"NO_COLOR") + NS(b"1")
                assert channel.requestReceived(request, data)
            assert channel.terminal is not None
            plain.append(channel.terminal.plain)
        return plain

    assert asyncio.run(ask()) == [True, True]


def test_a_signal_interrupts() -> None:
    """INT does what Ctrl-C does; no other signal is served."""

    async def send() -> list[str]:
        channel, _ = _channel()
        told: list[str] = []
        channel.on_interrupt = lambda: told.append("INT")
        assert channel.requestReceived(b"signal", NS(b"INT"))
        assert not channel.requestReceived(b"signal", NS(b"TERM"))
        return told

    assert asyncio.run(send()) == ["INT"]


def test_a_session_that_fails_says_so() -> None:
    """What is ours to mend is told to the operator, and the session ends with status 1."""

    async def fail(_channel: SessionChannel, _command: bytes | None) -> int:
        raise KeyError("ours")

    async def run() -> list[tuple[str, Any]]:
        channel, line = _channel(fail)
        assert channel.requestReceived(b"exec", NS(b"1"))
        await asyncio.wait_for(line.closed.wait(), 60)
        return line.sent

    said, status = asyncio.run(run())
    assert said == ("stderr", b"the session failed: KeyError('ours')\n")
    assert status == ("exit-status", 1)


def test_output_that_was_lost_is_counted_at_the_end() -> None:
    """A client that read too slowly is told how much it has missed."""

    async def say(channel: SessionChannel, _command: bytes | None) -> int:
        channel.put(STDERR, b"late\n")
        channel.spool.lost = 17
        return 3

    async def run() -> list[tuple[str, Any]]:
        channel, line = _channel(say)
        assert channel.requestReceived(b"shell", b"")
        await asyncio.wait_for(line.closed.wait(), 60)
        return line.sent

    assert asyncio.run(run()) == [
        ("stderr", b"late\n"),
        ("stderr", b"[17 bytes of output were lost]\n"),
        ("exit-status", 3),
    ]


def test_output_after_the_end_is_nobodys() -> None:
    """A thread that prints when the manhole's loop is closed is not disturbed."""

    async def make() -> SessionChannel:
        return _channel()[0]

    channel = asyncio.run(make())
    channel.put(STDERR, b"too late")
