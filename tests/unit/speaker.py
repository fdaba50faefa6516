"""A client that says what a test wants it to say, on the level of SSH's packets."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.transport import (
    MSG_KEXINIT,
    MSG_NEWKEYS,
    MSG_SERVICE_REQUEST,
    SSHClientTransport,
)

from txwatchdog.manhole.ssh import MSG_USERAUTH_REQUEST, MSG_USERAUTH_SUCCESS, silent
from txwatchdog.manhole.strict import STRICT_CLIENT, STRICT_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.conch.ssh.keys import Key
    from twisted.internet.defer import Deferred

__all__ = ["Speaker"]


class _Wire:
    def __init__(self, send: Callable[[bytes], object]) -> None:
        self.write = send
        self.is_lost = False

    def loseConnection(self) -> None:
        self.is_lost = True

    def getPeer(self) -> None:
        """Conch asks, for its log."""


class Speaker(SSHClientTransport):
    """Conch's client transport, which tells a test what came.

    Args:
        send: Carries bytes to the server.
        strict: Whether to ask for strict key exchange, and to keep to it.
    """

    _log = silent
    supportedKeyExchanges = [b"curve25519-sha256"]
    supportedCiphers = [b"aes128-ctr"]
    supportedMACs = [b"hmac-sha2-256"]
    supportedCompressions = [b"none"]
    supportedPublicKeys = [b"ssh-ed25519"]

    def __init__(self, send: Callable[[bytes], object], *, strict: bool = True) -> None:
        self.transport: Any = _Wire(send)
        self._strict = strict
        self.server_is_strict = False
        self.exchanges = 0
        self.came: list[tuple[int, bytes]] = []
        """The messages that came after the first key exchange."""
        self.farewell: bytes | None = None
        """Why the server has disconnected."""
        self.before_newkeys: Callable[[], None] = lambda: None

    def sendKexInit(self) -> None:
        methods = self.supportedKeyExchanges
        if self._strict and not self.exchanges:
            self.supportedKeyExchanges = [*methods, STRICT_CLIENT]
        super().sendKexInit()
        self.supportedKeyExchanges = methods

    def ssh_KEXINIT(self, packet: bytes) -> None:
        if not self.exchanges:
            methods = getNS(packet[16:])[0].split(b",")
            self.server_is_strict = STRICT_SERVER in methods and self._strict
        super().ssh_KEXINIT(packet)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        if messageType == MSG_NEWKEYS:
            self.before_newkeys()
        super().sendPacket(messageType, payload)
        if messageType == MSG_NEWKEYS and self.server_is_strict:
            self.outgoingPacketSequence = 0

    def ssh_NEWKEYS(self, packet: bytes) -> None:
        if self.server_is_strict:
            self.incomingPacketSequence = 0
        super().ssh_NEWKEYS(packet)

    def _newKeys(self) -> None:
        super()._newKeys()
        self.exchanges += 1

    def connectionSecure(self) -> None:
        """Called by Conch when the first key exchange is over."""

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[Any]:
        from twisted.internet.defer import succeed

        return succeed(None)

    def ssh_SERVICE_ACCEPT(self, packet: bytes) -> None:
        """Called by Conch; `log_in` does not wait for it."""

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if self.exchanges and messageNum not in range(MSG_KEXINIT, 50):
            self.came.append((messageNum, payload))
        if messageNum == MSG_USERAUTH_SUCCESS:
            self.setService(SSHService())
        super().dispatchMessage(messageNum, payload)

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        self.farewell = description

    def log_in(self, key: Key) -> None:
        """Ask for the login service, and use the key, without waiting for answers.

        Args:
            key: The private one, Ed25519.
        """
        self.sendPacket(MSG_SERVICE_REQUEST, NS(b"ssh-userauth"))
        assert self.sessionID is not None
        request = (
            NS(b"operator")
            + NS(b"ssh-connection")
            + NS(b"publickey")
            + b"\x01"
            + NS(b"ssh-ed25519")
            + NS(key.public().blob())
        )
        signed = NS(self.sessionID) + struct.pack(">B", MSG_USERAUTH_REQUEST) + request
        self.sendPacket(MSG_USERAUTH_REQUEST, request + NS(key.sign(signed)))
