"""From an endpoint string to a socket that listens, or to one error that says what to do.

Twisted's own parser reads the string, so ``tcp:``, ``tcp6:``, ``unix:`` and ``systemd:`` mean here
what they mean everywhere else in Twisted. It is handed a reactor that only binds: an asyncio loop,
the manhole's or the metrics', serves the socket later, in its own thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.python.failure import Failure

from txwatchdog.errors import LIMITS, ListenError, reason_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

__all__ = ["address_of", "bind", "close", "refusal"]

_REMEDIES = {
    errno.EADDRINUSE: "stop what holds it or choose another endpoint",
    errno.EADDRNOTAVAIL: "no interface of this host has that address: choose one that it has",
    errno.EACCES: "choose a place that this user may listen on (a port from 1024 up)",
    errno.EPERM: "choose a place that this user may listen on (a port from 1024 up)",
    errno.ENOENT: "make the directory that the socket belongs in",
    **LIMITS,
}


def bind(endpoint: str) -> socket.socket:
    """Bind what a server endpoint string names, and listen on it.

    Without ``interface=`` the loopback address is taken: whoever wants it to be reached from
    elsewhere must say so. A ``unix:`` socket without ``mode=`` is its owner's alone. A socket of
    systemd's stays open in this process, so that it can be had again; clients wait meanwhile.

    Args:
        endpoint: A server endpoint string of Twisted's, such as ``tcp:2222`` or
            ``unix:/run/service/manhole``.

    Returns:
        A listening, non-blocking socket that child programs don't inherit.

    Raises:
        ListenError: The endpoint can't be understood or listened on; the message says which.
    """
    outcome: list[Any] = []
    try:
        if endpoint.startswith("systemd:"):
            return _adopt(endpoint)
        serverFromString(_Binder(endpoint), endpoint).listen(_NoFactory()).addBoth(outcome.append)
        result = outcome[0]
        if isinstance(result, Failure):
            result.raiseException()
    except ListenError:
        raise
    except OSError as error:
        raise refusal(endpoint, error) from error
    except Exception as error:
        raise ListenError(
            f"cannot listen on {endpoint!r}: {_first_line(error)}; give an endpoint of the kind "
            "tcp:PORT:interface=ADDRESS, tcp6:PORT, unix:PATH or systemd:domain=INET:index=0"
        ) from error
    assert isinstance(result, socket.socket)
    return result


def refusal(endpoint: str, error: OSError) -> ListenError:
    """What to raise, or log, if an endpoint can't be listened on for a reason of the system's."""
    reason = reason_of(error)
    remedy = _REMEDIES.get(error.errno or 0, "choose another endpoint")
    return ListenError(f"cannot listen on {endpoint}: {reason}; {remedy}")


def address_of(listening: socket.socket) -> IAddress:
    """The address that a socket of `bind` listens on, as Twisted writes addresses.

    Args:
        listening: A socket that `bind` returned, not yet closed.

    Returns:
        An ``IPv4Address``, ``IPv6Address`` or ``UNIXAddress``.
    """
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return UNIXAddress(os.fsencode(name) if name else None)
    if listening.family == socket.AF_INET6:
        return IPv6Address("TCP", *name)
    return IPv4Address("TCP", *name)


def close(listening: socket.socket, address: IAddress | None) -> None:
    """Stop listening, and remove the file that a ``unix:`` socket leaves behind if it is our own.

    Args:
        listening: A socket that `bind` returned. Closing it again is harmless.
        address: What `address_of` said of it while it was open.
    """
    listening.close()
    if isinstance(listening, _Inherited):
        return  # systemd's, which goes on to listen there
    if isinstance(address, UNIXAddress) and address.name:
        with contextlib.suppress(OSError):
            os.unlink(address.name)  # noqa: PTH108 - a bytes path, as the socket has it


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


# As many may wait to be accepted. Strangers are dropped fast, but come faster; if too many do, the
# kernel drops some before us, an operator's first packet among them, which costs them a second.
_BACKLOG = 1024


class _NoFactory:
    """Stands where an endpoint wants a factory: connections are not accepted here."""


class _Binder:
    """The few methods of a reactor that endpoints call to listen; each only binds."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def _backlog(self, backlog: int) -> int:
        """What the endpoint asks for; Twisted's default is for services of another kind."""
        return backlog if ":backlog=" in self._endpoint else _BACKLOG

    def listenTCP(
        self, port: int, factory: object, backlog: int = 50, interface: str = ""
    ) -> socket.socket:
        """Bind a TCP port; called by ``tcp:`` and ``tcp6:`` endpoints."""
        if not interface:
            interface = "127.0.0.1"
        elif interface == "::" and "\\:" not in self._endpoint:
            # Twisted's default for tcp6: nobody wrote it, for a colon must be escaped.
            interface = "::1"
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((interface, port))
            return _listen(listening, self._backlog(backlog))
        except BaseException:
            listening.close()
            raise

    def listenUNIX(
        self,
        address: str,
        factory: object,
        backlog: int = 50,
        mode: int = 0o600,
        wantPID: bool = False,
    ) -> socket.socket:
        """Bind a socket file, replacing one that nobody listens on any more."""
        if ":mode=" not in self._endpoint:
            mode = 0o600
        _remove_stale(address)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Made with no rights at all: nobody connects before the mode is what was asked for.
            before = os.umask(0o777)
            try:
                listening.bind(address)
            finally:
                os.umask(before)
            os.chmod(address, mode)  # noqa: PTH101 - one call, one path
            return _listen(listening, self._backlog(backlog))
        except BaseException:
            listening.close()
            raise


class _Inherited(socket.socket):
    """A socket that someone else listens on, too."""


def _adopt(endpoint: str) -> socket.socket:
    """A socket that systemd has handed over. Its descriptor stays open: see `bind`."""
    try:
        adopted = serverFromString(_Binder(endpoint), endpoint)
    except LookupError:
        raise ListenError(
            f"cannot listen on {endpoint}: systemd has handed no such socket over; start the"
            " service from its .socket unit, and give name=, which is that unit's name or its"
            " FileDescriptorName=, or index="
        ) from None
    assert isinstance(adopted, AdoptedStreamServerEndpoint)
    # Not by way of its listen(), which closes the descriptor: the second time that would be a
    # descriptor of the service's that has got the same number.
    inherited: int = adopted.fileno
    os.set_inheritable(inherited, False)
    listening = _Inherited(fileno=os.dup(inherited))
    if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listening.close()
        raise ListenError(
            f"cannot listen on {endpoint}: that socket of systemd's does not listen; give its"
            " .socket unit a ListenStream="
        )
    return _listen(listening, None)


def _listen(listening: socket.socket, backlog: int | None) -> socket.socket:
    if backlog is not None:
        listening.listen(backlog)
    listening.setblocking(False)
    return listening


def _remove_stale(path: str) -> None:
    """Remove a socket file whose listener is gone; leave anything else to make bind() fail."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 - one call, one path
        except OSError:
            return
