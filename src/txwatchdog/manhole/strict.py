"""Key exchange in order, and OpenSSH's strict key exchange, which Conch lacks.

Without it who sits between client and server may slip in packets before encryption begins and cut
off as many after it, unnoticed (CVE-2023-48795, "Terrapin"). OpenSSH's PROTOCOL, section 1.10, is
the remedy: during the first key exchange nothing but key exchange, and packets are counted from 0
again after each NEWKEYS.
"""

from __future__ import annotations

from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.transport import (
    DISCONNECT_PROTOCOL_ERROR,
    MSG_DEBUG,
    MSG_DISCONNECT,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    SSHServerTransport,
)

__all__ = ["Order", "StrictTransport"]

STRICT_CLIENT = b"kex-strict-c-v00@openssh.com"
STRICT_SERVER = b"kex-strict-s-v00@openssh.com"

MSG_KEX_INIT = 30  # the client's half of a key exchange, whichever of those on offer here
_KEY_EXCHANGE = range(20, 50)

# All that a key exchange changes in what goes out, by the names that Conch's SSHCiphers has.
_OUTGOING = ("outCipType", "outMACType", "encryptor", "encBlockSize", "outMAC")


class Order:
    """Which message of a client's may come next. Pure.

    Conch takes key exchange messages in any order, and answers most surprises with an exception.

    Attributes:
        is_strict: Whether both sides want strict key exchange.
        is_first: Whether this is the connection's first key exchange, or it has yet to begin.
    """

    def __init__(self) -> None:
        self.is_strict = False
        self.is_first = True
        self._came_before = False  # anything before the first KEXINIT
        self._expected = MSG_KEXINIT

    def refusal(self, message: int, *, may_exchange: bool) -> str | None:
        """Why a message may not come now.

        Args:
            message: Its number.
            may_exchange: Whether the client may begin another key exchange.

        Returns:
            What to tell the client before the connection is closed; None if all is well.
        """
        if message in _KEY_EXCHANGE:
            if message != self._expected:
                return f"key exchange message {message} out of order"
            if message == MSG_KEXINIT and not (self.is_first or may_exchange):
                return "no new key exchange before the login"
        elif self.is_first and (self.is_strict or not MSG_DISCONNECT <= message <= MSG_DEBUG):
            return f"message {message} during the first key exchange"
        return None

    def began(self, *, wants_strict: bool) -> str | None:
        """The client's KEXINIT has come.

        Args:
            wants_strict: Whether it asks for strict key exchange.

        Returns:
            As `refusal`.
        """
        self._expected = MSG_KEX_INIT
        if self.is_first:  # in a later one the wish means nothing
            self.is_strict = wants_strict
            if wants_strict and self._came_before:
                return "a message before the first key exchange"
        return None

    def went_on(self, message: int) -> None:
        """A message that was not refused has been dealt with.

        Args:
            message: Its number.
        """
        if message == MSG_KEX_INIT:
            self._expected = MSG_NEWKEYS
        elif message == MSG_NEWKEYS:
            self._expected = MSG_KEXINIT
            self.is_first = False
        elif self.is_first:
            self._came_before = True


class StrictTransport(SSHServerTransport):
    """Conch's server transport, with key exchange in order, and strict if the client can."""

    def __init__(self) -> None:
        self.order = Order()

    def may_exchange_again(self) -> bool:
        """Whether the client may begin another key exchange; each costs more than it costs it."""
        raise NotImplementedError

    def sendKexInit(self) -> None:
        if not self.order.is_first:
            super().sendKexInit()
            return
        # Announced among the methods, but not to be chosen as one: so not for longer than this.
        methods = self.supportedKeyExchanges
        self.supportedKeyExchanges = [*methods, STRICT_SERVER]
        try:
            super().sendKexInit()
        finally:
            self.supportedKeyExchanges = methods

    def getPacket(self) -> bytes | None:
        packet: bytes | None = super().getPacket()
        if packet == b"":
            # It would count as a packet, but Conch would not dispatch it, nor what follows it.
            self.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, b"an empty packet")
            return None
        return packet

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if self.ignoreNextPacket and messageNum in _KEY_EXCHANGE and messageNum >= MSG_KEX_INIT:
            # The client's guess of the method, sent along with its KEXINIT, was wrong.
            self.ignoreNextPacket = False
            return
        refusal = self.order.refusal(messageNum, may_exchange=self.may_exchange_again())
        if refusal is None and messageNum == MSG_KEXINIT:
            methods = getNS(payload[16:])[0].split(b",")
            refusal = self.order.began(wants_strict=STRICT_CLIENT in methods)
        if refusal is not None:
            self.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, refusal.encode())
            return
        if messageNum == MSG_NEWKEYS and self.order.is_strict:
            self.incomingPacketSequence = 0
        super().dispatchMessage(messageNum, payload)
        self.order.went_on(messageNum)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        super().sendPacket(messageType, payload)
        if messageType == MSG_NEWKEYS:
            # Conch goes on with the old keys until the client's NEWKEYS has come: what it says
            # meanwhile, such as why it disconnects, could not be read.
            for name in _OUTGOING:
                setattr(self.currentEncryptions, name, getattr(self.nextEncryptions, name))
            if self.order.is_strict:
                self.outgoingPacketSequence = 0
