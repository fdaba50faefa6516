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
from twisted.internet.endpoints import serverFromString
from twisted.python.failure import Failure

from txwatchdog.errors import ListenError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

__all__ = ["address_of", "bind", "unbind"]

_REMEDIES = {
    errno.EADDRINUSE: "stop what holds it or choose another endpoint",
    errno.EADDRNOTAVAIL: "no interface of this host has that address: choose one that it has",
    errno.EACCES: "choose a place that this user may listen on (a port from 1024 up)",
    errno.EPERM: "choose a place that this user may listen on (a port from 1024 up)",
    errno.ENOENT: "make the directory that the socket belongs in",
    errno.EMFILE: "the process has no descriptor left: raise its limit (ulimit -n)",
}


def bind(endpoint: str) -> socket.socket:
    """Bind what a server endpoint string names, and listen on it.

    Without ``interface=`` the loopback address is taken: whoever wants it to be reached from
    elsewhere must say so. A ``unix:`` socket without ``mode=`` is its owner's alone.

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
        serverFromString(_Binder(endpoint), endpoint).listen(_NoFactory()).addBoth(outcome.append)
        result = outcome[0]
        if isinstance(result, Failure):
            result.raiseException()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = _REMEDIES.get(error.errno or 0, "choose another endpoint")
        raise ListenError(f"cannot listen on {endpoint}: {reason}; {remedy}") from error
    except Exception as error:
        raise ListenError(
            f"cannot listen on {endpoint!r}: {_first_line(error)}; give an endpoint of the kind "
            "tcp:PORT:interface=ADDRESS, tcp6:PORT, unix:PATH or systemd:domain=INET:index=0"
        ) from error
    assert isinstance(result, socket.socket)
    return result


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


def unbind(address: IAddress | None) -> None:
    """Remove the file that a ``unix:`` socket leaves behind; for others there is nothing to do.

    Args:
        address: What `address_of` said while the socket was listened on.
    """
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

    def adoptStreamPort(self, fileno: int, family: int, factory: object) -> socket.socket:
        """Take over a socket that already listens (systemd); the caller closes its own copy."""
        return _listen(socket.fromfd(fileno, family, socket.SOCK_STREAM), None)


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
