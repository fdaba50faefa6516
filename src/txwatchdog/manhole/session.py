"""Sessions: an SSH connection's channels, and what is asked of them.

A channel carries one session: a terminal with a console, one command, or a script on its stdin.
All in the manhole's thread, but for `SessionChannel.put`, which any thread may call.
"""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from twisted.conch.error import ConchError
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import (
    EXTENDED_DATA_STDERR,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_SUCCESS,
    OPEN_RESOURCE_SHORTAGE,
    OPEN_UNKNOWN_CHANNEL_TYPE,
    SSHConnection,
)
from twisted.conch.ssh.transport import DISCONNECT_PROTOCOL_ERROR

from txwatchdog.manhole.output import Outlet
from txwatchdog.manhole.spool import STDERR, Spool
from txwatchdog.manhole.ssh import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from txwatchdog.manhole.limits import Place, Places
    from txwatchdog.manhole.roles import Operator
    from txwatchdog.manhole.ssh import ServerTransport

__all__ = ["Connection", "SessionChannel", "Terminal"]

_PACKET = 32768  # bytes of output sent as one packet at most
_BURST = 32  # packets sent in one go; then others get their turn
# Requests that honest clients make unasked, and that they get nothing by.
_ORDINARY = frozenset({b"env", b"window-change", b"signal", b"eow@openssh.com"})


@frozen
class Terminal:
    """The client's terminal.

    Attributes:
        name: Its kind, as in ``$TERM``.
        columns: Its width in characters, at least 1.
        rows: Its height in characters, at least 1.
        plain: Whether its operator has ``NO_COLOR``, and the client sent it.
    """

    name: str
    columns: int
    rows: int
    plain: bool = False

    @property
    def moves(self) -> bool:
        """Whether its cursor can be sent anywhere."""
        return self.name not in ("", "dumb", "unknown")

    @property
    def has_colour(self) -> bool:
        """Whether its operator may be shown colours; the service's ``NO_COLOR`` counts for all."""
        return self.moves and not self.plain and not os.environ.get("NO_COLOR")


class Connection(SSHConnection):
    """Conch's connection service; opens sessions and nothing else.

    Args:
        operator: Who logged in.
        begin: Makes what runs in a session; called when its channel has been told what to run.
        loop: The manhole's.
        places: Those of all sessions.
    """

    _log = silent
    transport: ServerTransport

    def __init__(
        self,
        operator: Operator,
        begin: Callable[[SessionChannel, bytes | None], Coroutine[Any, Any, int]],
        loop: asyncio.AbstractEventLoop,
        places: Places,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.begin = begin
        self.loop = loop
        self._places = places

    @property
    def is_busy(self) -> bool:
        """Whether a statement is under way in one of the sessions."""
        return any(channel.is_busy for channel in self.channels.values())

    def used(self) -> None:
        """Called by a session when something was typed or shown in it."""
        assert self.transport.presence is not None  # from the login on
        self.transport.presence.used()

    def getChannel(
        self, channelType: bytes, windowSize: int, maxPacket: int, data: bytes
    ) -> SessionChannel:
        """Called by Conch for a channel that the client wants to open."""
        trail = self.transport.trail
        if channelType != b"session":
            trail.request_refused(channelType)
            raise ConchError("only sessions are served here", OPEN_UNKNOWN_CHANNEL_TYPE)
        place = self._places.enter()
        if place is None:
            reason = f"{self._places.most} sessions are open, no more may be"
            trail.request_refused(channelType, reason)
            raise ConchError(reason, OPEN_RESOURCE_SHORTAGE)
        self.used()
        return SessionChannel(self, windowSize, maxPacket, place)

    def gotGlobalRequest(self, requestType: bytes, data: bytes) -> int:
        """Called by Conch; forwarding is refused, and a keep-alive is content with that."""
        if b"forward" in requestType:
            self.transport.trail.request_refused(requestType)
        return 0

    def ssh_CHANNEL_REQUEST(self, packet: bytes) -> None:
        """Ask the channel, and answer if an answer is wanted.

        Conch's own goes by a Deferred; that of a request which failed, or whose channel is gone,
        ends up as an unhandled error in the service's log.
        """
        (local,) = struct.unpack_from(">L", packet)
        kind, rest = getNS(packet[4:])
        channel = self.channels.get(local)
        if channel is None:
            return  # it has just been closed, which the client does not know yet
        done = channel.requestReceived(kind, rest[1:])
        if not done and kind not in _ORDINARY:
            self.transport.trail.request_refused(_named(kind, rest[1:]))
        if rest[:1] != b"\x00" and local in self.localToRemoteChannel:
            self.transport.sendPacket(
                MSG_CHANNEL_SUCCESS if done else MSG_CHANNEL_FAILURE,
                struct.pack(">L", self.localToRemoteChannel[local]),
            )

    def ssh_CHANNEL_OPEN_CONFIRMATION(self, packet: bytes) -> None:
        """An answer to what was not asked: no channel is opened from here.

        Conch would take it to be about one that the client has opened, and be left with half of
        it, so that neither that session nor those after it would ever end.
        """
        self.transport.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, b"no channel was asked for")

    ssh_CHANNEL_OPEN_FAILURE = ssh_CHANNEL_OPEN_CONFIRMATION

    def ssh_REQUEST_SUCCESS(self, packet: bytes) -> None:
        """The answer to a keep-alive; that it came has been noted."""

    ssh_REQUEST_FAILURE = ssh_REQUEST_SUCCESS

    def wire_writable(self) -> None:
        """Called by the transport when the wire has room again."""
        for channel in list(self.channels.values()):
            channel.pump()


class SessionChannel(SSHChannel):
    """One session: it keeps the client's input for it and sends its output when there is room.

    Args:
        connection: The connection that it belongs to.
        window: Bytes that the client takes for now.
        packet: Bytes that it takes at once.
        place: The session's among all; given back at its end.
    """

    name = b"session"
    _log = silent
    conn: Connection

    def __init__(self, connection: Connection, window: int, packet: int, place: Place) -> None:
        super().__init__(remoteWindow=window, remoteMaxPacket=packet, conn=connection)
        self.operator = connection.operator
        """Who asks, and what that allows."""
        self.terminal: Terminal | None = None
        self._plain = False
        self._on_input: Callable[[bytes], None] | None = None
        self._on_eof: Callable[[], None] = lambda: None
        # A client that pipes a script sends all of it, and the end, before the session's first
        # step; no more than one turn of the loop can bring comes together here.
        self._early = bytearray()
        self._is_eof = False
        self.on_resize: Callable[[], None] = lambda: None
        """Called when `terminal` has changed."""
        self.on_interrupt: Callable[[], None] = lambda: None
        """Called when the client sends the signal INT."""
        self.spool = Spool()
        self.is_working = False
        """Whether a statement is under way."""
        self._place = place
        self._loop = connection.loop
        self._task: asyncio.Task[int] | None = None
        self._status: int | None = None
        # Written by any thread, read and cleared by the manhole's; a lost race costs one
        # needless wake-up, never a missed one: it is cleared before the spool is looked at.
        self._pump_is_due = False
        self._requests: dict[bytes, Callable[[bytes], bool]] = {
            b"pty-req": self._pty_req,
            b"window-change": self._window_change,
            b"env": self._env,
            b"shell": lambda _data: self._begin(None),
            b"exec": lambda data: self._begin(getNS(data)[0]),
            b"signal": self._signal,
        }

    @property
    def outlet(self) -> Outlet:
        """A way out for text, from any thread."""
        return Outlet(self.put, terminal=self.terminal is not None)

    @property
    def is_busy(self) -> bool:
        """Whether a statement is under way. Output is in use as long as the client takes it.

        If it does not, it may have been left for good: OpenSSH waits for ever once its own reader
        (`ssh HOST export | less`) has gone, and tells only servers of its own kind.
        """
        return self.is_working

    def put(self, stream: int, data: bytes) -> None:
        """Send output as soon as the client takes it. From any thread; does not wait.

        Args:
            stream: ``STDOUT`` or ``STDERR``.
            data: What to send.
        """
        self.spool.put(stream, data)
        if not self._pump_is_due:
            self._pump_is_due = True
            try:
                self._loop.call_soon_threadsafe(self.pump)
            except RuntimeError:
                return  # the manhole has ended meanwhile

    def pump(self) -> None:
        """Send what the window and the wire have room for; the session's end comes last."""
        self._pump_is_due = False
        transport = self.conn.transport
        for _ in range(_BURST):
            if self.localClosed or transport.is_full:
                return
            most = min(self.remoteWindowLeft, self.remoteMaxPacket, _PACKET)
            if most <= 0 and self.spool:
                return  # addWindowBytes comes back here
            stream, data = self.spool.get(most)
            if not data:
                self._close_when_over()
                return
            self.conn.used()
            self.remoteWindowLeft -= len(data)
            if stream == STDERR:
                self.conn.sendExtendedData(self, EXTENDED_DATA_STDERR, data)
            else:
                self.conn.sendData(self, data)
        self._loop.call_soon(self.pump)

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        """Called by the connection for a request; what is not served here is refused."""
        serve = self._requests.get(requestType)
        return serve is not None and serve(data)

    def listen(
        self, on_input: Callable[[bytes], None], on_eof: Callable[[], None] = lambda: None
    ) -> None:
        """Have the client's input from now on, and what came before at once.

        Args:
            on_input: Called with what the client sends.
            on_eof: Called when the client will send no more.
        """
        self._on_input, self._on_eof = on_input, on_eof
        early, self._early = bytes(self._early), bytearray()
        if early:
            on_input(early)
        if self._is_eof:
            on_eof()

    def dataReceived(self, data: bytes) -> None:
        self.conn.used()
        if self._on_input is not None:
            self._on_input(data)
        elif self._task is not None:
            self._early.extend(data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        """Called by Conch for a client's stderr, which means nothing here."""

    def eofReceived(self) -> None:
        self._is_eof = True
        self._on_eof()

    def addWindowBytes(self, data: int) -> None:
        self.remoteWindowLeft = min(self.remoteWindowLeft + data, 0xFFFFFFFF)
        self.pump()

    def closeReceived(self) -> None:
        self.conn.sendClose(self)

    def closed(self) -> None:
        """Called by Conch when the channel is closed, or the connection lost."""
        self._place.leave()
        self.spool.close()
        if self._task is not None:
            self._task.cancel()

    def _pty_req(self, data: bytes) -> bool:
        name, rest = getNS(data)
        columns, rows = struct.unpack_from(">2L", rest)
        if self._task is not None or not self.operator.has_pty:
            return False
        size = _sensible(columns, rows)
        self.terminal = Terminal(name.decode("ascii", "replace"), *size, self._plain)
        return True

    def _window_change(self, data: bytes) -> bool:
        if self.terminal is None:
            return False
        columns, rows = struct.unpack_from(">2L", data)
        columns, rows = _sensible(columns, rows)
        self.terminal = evolve(self.terminal, columns=columns, rows=rows)
        self.on_resize()
        return True

    def _env(self, data: bytes) -> bool:
        """Heed ``NO_COLOR``; whatever else is sent would be the service's environment."""
        name, value, _ = getNS(data, 2)
        if name != b"NO_COLOR" or self._task is not None:
            return False
        self._plain = bool(value)
        if self.terminal is not None:  # some clients send it before they ask for one
            self.terminal = evolve(self.terminal, plain=self._plain)
        return True

    def _signal(self, data: bytes) -> bool:
        if getNS(data)[0] != b"INT":
            return False
        self.on_interrupt()
        return True

    def _begin(self, command: bytes | None) -> bool:
        if self._task is not None:
            return False
        self._task = self._loop.create_task(self.conn.begin(self, command))
        self._task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[int]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # Ours to mend, but the operator is who must know now; the service has no part in it.
            self.outlet.write(f"the session failed: {error!r}\n", STDERR)
        self._status = 1 if error is not None else task.result()
        self.pump()

    def _close_when_over(self) -> None:
        if self._status is None or self.localClosed:
            return
        if self.spool.lost:
            lost, self.spool.lost = self.spool.lost, 0
            self.outlet.write(f"[{lost} bytes of output were lost]\n", STDERR)
            self._loop.call_soon(self.pump)
            return
        self.conn.sendRequest(self, b"exit-status", struct.pack(">L", self._status))
        self.conn.sendEOF(self)
        self.conn.sendClose(self)


def _named(kind: bytes, data: bytes) -> bytes:
    """A request with what it is about, where that is a name."""
    return kind + b" " + getNS(data)[0] if kind == b"subsystem" else kind


def _sensible(columns: int, rows: int) -> tuple[int, int]:
    """A terminal's size, where a client knows none (0) or tells a tall tale."""
    return min(columns or 80, 1000), min(rows or 24, 1000)
