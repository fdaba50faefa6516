"""The SSH server: Conch's transport with modern algorithms only, and keys as the one way in.

Conch's own ``userauth`` and ``factory`` modules import the global reactor, count failures where a
client can reset the count, and answer a probe with any key. What is left of them here is short.
Everything in this module runs in the manhole's thread.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any

from twisted.conch.ssh import _kex
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.transport import (
    DISCONNECT_BY_APPLICATION,
    DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE,
    DISCONNECT_PROTOCOL_ERROR,
    DISCONNECT_SERVICE_NOT_AVAILABLE,
    DISCONNECT_TOO_MANY_CONNECTIONS,
)
from twisted.logger import Logger, LogPublisher

from txwatchdog.manhole.access import SIGNATURE_ALGORITHMS, Refusal
from txwatchdog.manhole.limits import Places
from txwatchdog.manhole.presence import Presence
from txwatchdog.manhole.strict import StrictTransport
from txwatchdog.manhole.trail import Trail, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.conch.ssh.keys import Key
    from twisted.python.failure import Failure

    from txwatchdog.manhole.access import AuthorizedKey
    from txwatchdog.manhole.carrier import Clock, Wire
    from txwatchdog.manhole.limits import Limits, Place, Visit
    from txwatchdog.manhole.roles import Operator
    from txwatchdog.manhole.session import Connection
    from txwatchdog.manhole.strangers import Strangers

__all__ = ["Factory", "ServerTransport", "UserAuth", "silent"]

silent = Logger(namespace="txwatchdog.manhole.conch", observer=LogPublisher())
"""For Conch, which else reports every client's comings and goings to the service's log."""

# An offered key that is not accepted is not yet a failed try, for an agent offers all that it
# holds; but there is an end to that, too.
OFFERS = 20
_BUFFERED_BEFORE_LOGIN = 65536  # bytes; no honest packet before the login is that large
_PACKETS_BEFORE_LOGIN = 200  # several times what a login with that many offers takes
_QUEUED = 1000  # answers that may wait for the end of a key exchange

_ENCRYPTED_ONLY_KEX = (
    b"mlkem768x25519-sha256",
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
)

MSG_USERAUTH_REQUEST = 50
MSG_USERAUTH_FAILURE = 51
MSG_USERAUTH_SUCCESS = 52
MSG_USERAUTH_PK_OK = 60

_ACCEPTED_SIGNATURES = tuple(
    algorithm for algorithms in SIGNATURE_ALGORITHMS.values() for algorithm in algorithms
)


class Factory:
    """What all connections share, under the names that Conch's transport asks for.

    Args:
        host_key: The private host key.
        admit: Says whether a key gets in now: asked with its blob, the signature's algorithm and
            the client's address, as `Keyring.admit` is.
        connection: Makes the service of a connection whose key was accepted.
        clock: The manhole's.
        limits: How much anyone may have.
        strangers: Told of those who have not logged in.
    """

    def __init__(
        self,
        host_key: Key,
        admit: Callable[[bytes, bytes, str], AuthorizedKey | Refusal],
        connection: Callable[[Operator], Connection],
        *,
        clock: Clock,
        limits: Limits,
        strangers: Strangers,
    ) -> None:
        self.privateKeys = {host_key.sshType(): host_key}
        self.publicKeys = {host_key.sshType(): host_key.public()}
        self.admit = admit
        self.connection = connection
        self.clock = clock
        self.limits = limits
        self.strangers = strangers
        self.logins = Places(limits.sessions)
        self.numbers = itertools.count(1)

    def build(self, visit: Visit) -> ServerTransport:
        """Make the protocol for a new connection."""
        return ServerTransport(self, visit)

    def getService(self, transport: ServerTransport, name: bytes) -> type[UserAuth] | None:
        """Called by Conch when a client asks for a service: one may, once, and before the login."""
        if name == b"ssh-userauth" and not transport.is_authenticated:
            return UserAuth
        return None


class ServerTransport(StrictTransport):
    """Conch's server transport, with only what is sound today on offer.

    Args:
        factory: What all connections share.
        visit: The connection's place among those that have not logged in.
    """

    _log = silent
    # Twisted's version is nobody's business before the login.
    version = b"txwatchdog"
    ourVersionString = b"SSH-2.0-txwatchdog"

    supportedKeyExchanges = [
        name for name in _ENCRYPTED_ONLY_KEX if name in _kex.getSupportedKeyExchanges()
    ]
    supportedPublicKeys = [b"ssh-ed25519"]
    supportedCiphers = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
    supportedMACs = [b"hmac-sha2-512", b"hmac-sha2-256"]
    supportedCompressions = [b"none"]

    rekey_after = 1 << 30
    """Bytes of both directions after which we ask for new keys, as RFC 4253 recommends."""

    transport: Wire
    service: Any
    trail: Trail
    _grace: Any

    def __init__(self, factory: Factory, visit: Visit) -> None:
        super().__init__()
        self.factory = factory  # type: ignore[assignment]  # what Conch asks of one, and no more
        self.manhole = factory
        self.is_authenticated = False
        # Here, not in the service: a client that asks for the service again begins it anew.
        self.failed_tries = 0
        self.offers = 0
        self.presence: Presence | None = None
        self._visit = visit
        self._login: Place | None = None
        self._packets_before_login = 0
        self._bytes_since_exchange = 0

    @property
    def is_full(self) -> bool:
        """Whether what is sent now would only wait in memory."""
        return self.transport.is_full or self._keyExchangeState != self._KEY_EXCHANGE_NONE

    def may_exchange_again(self) -> bool:
        return self.is_authenticated

    def connectionMade(self) -> None:
        self.trail = Trail(
            next(self.manhole.numbers),
            self.address,
            self.manhole.strangers,
            lambda: getattr(self, "otherVersionString", b""),
        )
        # From the first byte: Conch's own timeout begins only when a client asks to log in.
        self._grace = self.manhole.clock.callLater(
            self.manhole.limits.login_grace, self._grace_over
        )
        super().connectionMade()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.trail.closed()
        self._visit.ended()
        if self._login is not None:
            self._login.leave()
        self._grace.cancel()
        if self.presence is not None:
            self.presence.end()
        super().connectionLost(reason)
        self.service = None

    def dataReceived(self, data: bytes) -> None:
        if self.presence is not None:
            self.presence.heard()
        if not self.gotVersion and not _may_be_version(self.buf + data):
            self._not_ssh()
            return
        super().dataReceived(data)
        self._bytes_since_exchange += len(data)
        if not self.is_authenticated and len(self.buf) > _BUFFERED_BEFORE_LOGIN:
            self.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, b"too large a packet before the login")

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if self.transport.is_closing:
            return
        if not self.is_authenticated:
            self._packets_before_login += 1
            if self._packets_before_login > _PACKETS_BEFORE_LOGIN:
                self.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, b"too many packets before the login")
                return
        super().dispatchMessage(messageNum, payload)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        super().sendPacket(messageType, payload)
        self._bytes_since_exchange += len(payload)
        if self._keyExchangeState != self._KEY_EXCHANGE_NONE:
            if len(self._blockedByKeyExchange or ()) > _QUEUED:
                self.transport.abortConnection()
        elif self.is_authenticated and self._bytes_since_exchange > self.rekey_after:
            self._bytes_since_exchange = 0  # first: this sends a packet itself
            self.sendKexInit()

    def _newKeys(self) -> None:
        super()._newKeys()
        self.wire_writable()

    def sendDisconnect(self, reason: int, desc: bytes | str) -> None:
        self.trail.refused(text_of(desc) if isinstance(desc, bytes) else desc)
        super().sendDisconnect(reason, desc)

    def sendExtInfo(self, extensions: list[tuple[bytes, bytes]]) -> None:
        # Conch announces the host key's algorithm here, where clients look for those that they
        # may log in with: an RSA key would never be tried.
        extensions = [
            (name, b",".join(_ACCEPTED_SIGNATURES) if name == b"server-sig-algs" else value)
            for name, value in extensions
        ]
        super().sendExtInfo(extensions)

    @property
    def address(self) -> str:
        """The client's IP address; empty for a Unix socket."""
        return str(getattr(self.transport.getPeer(), "host", ""))

    def welcome(self, operator: Operator) -> None:
        """Go on with the connection service, now that a key was accepted."""
        self._login = self.manhole.logins.enter()
        if self._login is None:
            reason = f"{self.manhole.logins.most} others have logged in, no more may"
            self.trail.login_refused(operator.user, reason, **operator.key_fields)
            self.sendDisconnect(DISCONNECT_TOO_MANY_CONNECTIONS, reason.encode())
            return
        self.is_authenticated = True
        self.trail.logged_in(operator)
        self._visit.logged_in()
        self._grace.cancel()
        self.sendPacket(MSG_USERAUTH_SUCCESS, b"")
        self.setService(self.manhole.connection(operator))
        self.presence = Presence(self)

    def wire_writable(self) -> None:
        """Called by the carrier when the wire has room again; also when a key exchange is over."""
        if self.presence is not None:
            self.presence.heard()
            self.service.wire_writable()

    def farewell(self) -> None:
        """Called by the carrier when the manhole ends."""
        self.sendDisconnect(DISCONNECT_BY_APPLICATION, b"the manhole has been stopped")

    def failed(self, reason: str) -> None:
        """Called by the carrier when what the client sent has made us raise."""
        self.trail.refused(reason)

    def _not_ssh(self) -> None:
        """Send away at once what speaks another protocol: it holds someone else's place."""
        self.trail.refused("it does not speak SSH")
        self.transport.write(b"This is an SSH server\r\n")
        self.transport.loseConnection()

    def _grace_over(self) -> None:
        self.sendDisconnect(DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, b"login took too long")


def _may_be_version(data: bytes) -> bool:
    """Whether what a client sends first may be its version, or the beginning of one."""
    return data[:4] == b"SSH-"[: len(data)]


class UserAuth(SSHService):
    """Lets in whoever proves to hold an authorized key, under any user name."""

    name = b"ssh-userauth"
    _log = silent
    protocolMessages = {MSG_USERAUTH_REQUEST: "MSG_USERAUTH_REQUEST"}
    transport: ServerTransport

    def ssh_USERAUTH_REQUEST(self, packet: bytes) -> None:
        """Answer a request: string user, string service, string method, and what that takes."""
        name, service, method, rest = getNS(packet, 3)
        user = text_of(name)
        if service != b"ssh-connection":
            self.transport.sendDisconnect(
                DISCONNECT_SERVICE_NOT_AVAILABLE, b"no service but ssh-connection"
            )
        elif method == b"publickey":
            self._try_key(name, rest)
        elif method == b"none":
            self._offer_failed()  # how clients ask which methods there are
        else:
            self.transport.trail.login_refused(user, f"by {text_of(method)}, and keys are all")
            self._try_failed()

    def _try_key(self, name: bytes, packet: bytes) -> None:
        """A key is offered, or used: bool signed, string algorithm, string blob, signature."""
        is_signed = packet[:1] != b"\x00"
        algorithm, blob, rest = getNS(packet[1:], 2)
        user, address = text_of(name), self.transport.address
        key = self.transport.manhole.admit(blob, algorithm, address)
        if isinstance(key, Refusal):
            self.transport.trail.key_refused(user, algorithm, key)
        if not is_signed:
            if isinstance(key, Refusal):
                self._offer_failed()
            else:
                self.transport.sendPacket(MSG_USERAUTH_PK_OK, NS(algorithm) + NS(blob))
            return
        signature = getNS(rest)[0]
        assert self.transport.sessionID is not None
        signed = (
            NS(self.transport.sessionID)
            + bytes((MSG_USERAUTH_REQUEST,))
            + NS(name)
            + NS(b"ssh-connection")
            + NS(b"publickey")
            + b"\x01"
            + NS(algorithm)
            + NS(blob)
        )
        if isinstance(key, Refusal):
            self._try_failed()
            return
        operator = key.operator(user, address)
        if _verifies(key.key, algorithm, signature, signed):
            self.transport.welcome(operator)
        else:
            self.transport.trail.login_refused(
                user, "the signature is wrong", **operator.key_fields
            )
            self._try_failed()

    def _offer_failed(self) -> None:
        self.transport.offers += 1
        self._refuse(give_up=self.transport.offers > OFFERS)

    def _try_failed(self) -> None:
        self.transport.failed_tries += 1
        self._refuse(give_up=self.transport.failed_tries >= self.transport.manhole.limits.tries)

    def _refuse(self, *, give_up: bool) -> None:
        if give_up:
            self.transport.sendDisconnect(
                DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, b"too many failed logins"
            )
        else:
            self.transport.sendPacket(MSG_USERAUTH_FAILURE, NS(b"publickey") + b"\x00")


def _verifies(key: Key, algorithm: bytes, signature: bytes, signed: bytes) -> bool:
    """Whether a signature is the key's, and made as announced (never with SHA-1)."""
    try:
        (made_with,) = struct.unpack_from(f">4x{len(algorithm)}s", signature)
        # 40 bytes without a name is how DSA once signed, and Conch still reads it so.
        return (
            made_with == algorithm and len(signature) != 40 and bool(key.verify(signature, signed))
        )
    except Exception:
        return False
