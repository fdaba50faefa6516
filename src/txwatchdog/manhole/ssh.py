"""The SSH server: Conch's transport with modern algorithms only, and keys as the one way in.

Conch's own ``userauth`` and ``factory`` modules import the global reactor, count failures where a
client can reset the count, and answer a probe with any key. What is left of them here is short.
Everything in this module runs in the manhole's thread.
"""

from __future__ import annotations

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
    SSHServerTransport,
)
from twisted.logger import Logger, LogPublisher

from txwatchdog.manhole.access import SIGNATURE_ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.conch.ssh.keys import Key
    from twisted.python.failure import Failure

    from txwatchdog.manhole.access import AuthorizedKey
    from txwatchdog.manhole.carrier import Clock, Wire

__all__ = ["Factory", "ServerTransport", "UserAuth", "silent"]

silent = Logger(namespace="txwatchdog.manhole.conch", observer=LogPublisher())
"""For Conch, which else reports every client's comings and goings to the service's log."""

LOGIN_GRACE = 30.0  # seconds from the connection to a successful login
FAILED_TRIES = 3  # per connection; an offered key that is not accepted is not yet a try …
OFFERS = 20  # … for an agent offers all that it holds; but there is an end to that, too
_BUFFERED_BEFORE_LOGIN = 65536  # bytes; no honest packet before the login is that large

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
        authorized: Says who gets in, as of now: the keys by their blobs.
        connection: Makes the service of a connection whose key was accepted.
        clock: The manhole's.
    """

    def __init__(
        self,
        host_key: Key,
        authorized: Callable[[], Mapping[bytes, AuthorizedKey]],
        connection: Callable[[AuthorizedKey], SSHService],
        clock: Clock,
    ) -> None:
        self.privateKeys = {host_key.sshType(): host_key}
        self.publicKeys = {host_key.sshType(): host_key.public()}
        self.authorized = authorized
        self.connection = connection
        self.clock = clock

    def build(self) -> ServerTransport:
        """Make the protocol for a new connection."""
        return ServerTransport(self)

    def getService(self, transport: ServerTransport, name: bytes) -> type[UserAuth] | None:
        """Called by Conch when a client asks for a service: one may, once, and before the login."""
        if name == b"ssh-userauth" and not transport.is_authenticated:
            return UserAuth
        return None


class ServerTransport(SSHServerTransport):
    """Conch's server transport, with only what is sound today on offer.

    Strict key exchange belongs here: `sendKexInit`, `ssh_KEXINIT`, `sendPacket`, `ssh_NEWKEYS`
    and `dispatchMessage` are the places for it.

    Args:
        factory: What all connections share.
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

    transport: Wire

    def __init__(self, factory: Factory) -> None:
        self.factory = factory  # type: ignore[assignment]  # what Conch asks of one, and no more
        self.manhole = factory
        self.is_authenticated = False
        self.user = ""
        """The name that the client logged in by. It proves nothing; the key does."""
        # Here, not in the service: a client that asks for the service again begins it anew.
        self.failed_tries = 0
        self.offers = 0
        self._grace: Any = None

    def connectionMade(self) -> None:
        # From the first byte: Conch's own timeout begins only when a client asks to log in.
        self._grace = self.manhole.clock.callLater(LOGIN_GRACE, self._grace_over)
        super().connectionMade()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._grace is not None:
            self._grace.cancel()
        super().connectionLost(reason)
        self.service = None

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if not self.is_authenticated and len(self.buf) > _BUFFERED_BEFORE_LOGIN:
            self.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, b"too large a packet before the login")

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if not self.transport.is_closing:
            super().dispatchMessage(messageNum, payload)

    def sendExtInfo(self, extensions: list[tuple[bytes, bytes]]) -> None:
        # Conch announces the host key's algorithm here, where clients look for those that they
        # may log in with: an RSA key would never be tried.
        extensions = [
            (name, b",".join(_ACCEPTED_SIGNATURES) if name == b"server-sig-algs" else value)
            for name, value in extensions
        ]
        super().sendExtInfo(extensions)

    def ssh_SERVICE_REQUEST(self, packet: bytes) -> None:
        if not self.isEncrypted("both"):
            self.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, b"encryption comes first")
            return
        super().ssh_SERVICE_REQUEST(packet)

    def welcome(self, key: AuthorizedKey) -> None:
        """Go on with the connection service, now that a key was accepted."""
        self.is_authenticated = True
        self._grace.cancel()
        self.sendPacket(MSG_USERAUTH_SUCCESS, b"")
        self.setService(self.manhole.connection(key))

    def wire_writable(self) -> None:
        """Called by the carrier when the wire has room again."""
        resume = getattr(self.service, "wire_writable", None)
        if resume is not None:
            resume()

    def farewell(self) -> None:
        """Called by the carrier when the manhole ends."""
        self.sendDisconnect(DISCONNECT_BY_APPLICATION, b"the manhole has been stopped")

    def _grace_over(self) -> None:
        self.sendDisconnect(DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, b"login took too long")


class UserAuth(SSHService):
    """Lets in whoever proves to hold an authorized key, under any user name."""

    name = b"ssh-userauth"
    _log = silent
    protocolMessages = {MSG_USERAUTH_REQUEST: "MSG_USERAUTH_REQUEST"}
    transport: ServerTransport

    def ssh_USERAUTH_REQUEST(self, packet: bytes) -> None:
        """Answer a request: string user, string service, string method, and what that takes."""
        user, service, method, rest = getNS(packet, 3)
        if service != b"ssh-connection":
            self.transport.sendDisconnect(
                DISCONNECT_SERVICE_NOT_AVAILABLE, b"no service but ssh-connection"
            )
        elif method == b"publickey":
            self._try_key(user, service, rest)
        elif method == b"none":
            self._offer_failed()  # how clients ask which methods there are
        else:
            self._try_failed()

    def _try_key(self, user: bytes, service: bytes, packet: bytes) -> None:
        """A key is offered, or used: bool signed, string algorithm, string blob, signature."""
        is_signed = packet[:1] != b"\x00"
        algorithm, blob, rest = getNS(packet[1:], 2)
        key = self._find(algorithm, blob)
        if not is_signed:
            if key is None:
                self._offer_failed()
            else:
                self.transport.sendPacket(MSG_USERAUTH_PK_OK, NS(algorithm) + NS(blob))
            return
        signature = getNS(rest)[0]
        assert self.transport.sessionID is not None
        signed = (
            NS(self.transport.sessionID)
            + bytes((MSG_USERAUTH_REQUEST,))
            + NS(user)
            + NS(service)
            + NS(b"publickey")
            + b"\x01"
            + NS(algorithm)
            + NS(blob)
        )
        if key is not None and _verifies(key.key, algorithm, signature, signed):
            self.transport.user = user.decode("utf-8", "replace")
            self.transport.welcome(key)
        else:
            self._try_failed()

    def _find(self, algorithm: bytes, blob: bytes) -> AuthorizedKey | None:
        key = self.transport.manhole.authorized().get(blob)
        return key if key is not None and algorithm in key.signature_algorithms else None

    def _offer_failed(self) -> None:
        self.transport.offers += 1
        self._refuse(give_up=self.transport.offers > OFFERS)

    def _try_failed(self) -> None:
        self.transport.failed_tries += 1
        self._refuse(give_up=self.transport.failed_tries >= FAILED_TRIES)

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
