"""Sees a connection off whose client is gone, or which nobody uses. All in the manhole's thread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.conch.ssh.common import NS
from twisted.conch.ssh.connection import MSG_GLOBAL_REQUEST
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION

from txwatchdog.manhole.limits import Next, Vigil

if TYPE_CHECKING:
    from txwatchdog.manhole.ssh import ServerTransport

__all__ = ["Presence"]


class Presence:
    """Acts as a `Vigil` says, from the login on.

    Args:
        transport: The connection's.
    """

    def __init__(self, transport: ServerTransport) -> None:
        self._transport = transport
        self._limits = transport.manhole.limits
        self._clock = transport.manhole.clock
        self._vigil = Vigil(self._limits, self._clock.seconds())
        self._timer: Any = None
        self._look()

    def heard(self) -> None:
        """The client has sent something, or taken what was sent."""
        self._vigil.heard(self._clock.seconds())

    def used(self) -> None:
        """Something was typed, or shown."""
        self._vigil.used(self._clock.seconds())

    def end(self) -> None:
        """The connection is lost."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        is_busy = self._transport.service.is_busy
        what, seconds = self._vigil.look(self._clock.seconds(), is_busy=is_busy)
        if what is Next.GONE:
            self._transport.trail.refused("the client no longer answers")
            self._transport.transport.abortConnection()
        elif what is Next.IDLE:
            self._transport.sendDisconnect(
                DISCONNECT_BY_APPLICATION,
                f"nothing typed or shown for {self._limits.idle:g} seconds".encode(),
            )
        elif what is Next.ASK:
            # Any answer will do, and the one that clients give to what they don't know is enough.
            self._transport.sendPacket(MSG_GLOBAL_REQUEST, NS(b"keepalive@openssh.com") + b"\x01")
        if seconds < math.inf:
            self._timer = self._clock.callLater(seconds, self._look)
