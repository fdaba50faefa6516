"""A socket that answers HTTP GETs from a thread of its own, whatever the reactor does.

A small asyncio loop with no timers of its own, so that it costs nothing between two scrapes. Each
connection has one request and one answer, a bounded head and a bounded time; of too many at once
the oldest is dropped, which is one that lingers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from attrs import frozen
from twisted.logger import Logger

from txwatchdog.logs import log_failure
from txwatchdog.loops import LoopThread
from txwatchdog.pauselog import RateLimit

__all__ = ["Bounds", "Scraped", "WsgiApp"]

WsgiApp: TypeAlias = "Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]"

COMPLAINTS, COMPLAINT_SECONDS = 3, 60.0
"""So many failures of the application are logged at once, and one more after so many seconds."""

_log = Logger(namespace="txwatchdog.metrics")


@frozen
class Bounds:
    """How much of it anyone may have.

    Attributes:
        connections: at once.
        head: bytes of a request.
        seconds: from the connection to the answer's last byte.
    """

    connections: int = 32
    head: int = 16384
    seconds: float = 10.0


class Scraped(LoopThread):
    """One listening socket, and the thread that answers on it.

    Args:
        endpoint: as for `binding.bind`.
        app: what answers, called in that thread with a request's environment (its method, path,
            query and headers).
        bounds: how much of it anyone may have.

    Raises:
        ListenError: the endpoint can't be listened on.
    """

    def __init__(self, endpoint: str, app: WsgiApp, bounds: Bounds | None = None) -> None:
        super().__init__(endpoint, name="txwatchdog-metrics", whose="the metrics server", log=_log)
        self._app = app
        self._bounds = bounds or Bounds()
        # Whoever may connect can ask for what the application fails on, as often as they like.
        self._complaints = RateLimit(COMPLAINTS, int(COMPLAINT_SECONDS * 1e9))

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        connections: dict[_Exchange, None] = {}  # oldest first

        server = await loop.create_server(
            lambda: _Exchange(self._app, self._bounds, connections, self._complain),
            sock=self._listening,
        )
        await self._is_over.wait()
        server.close()
        for connection in list(connections):
            connection.drop()
        await asyncio.sleep(0)  # in which asyncio closes their sockets

    def _complain(self) -> None:
        """The application has failed; called where that is handled. Logs it, at a bounded rate."""
        if self._complaints.allows(time.monotonic_ns()):
            log_failure(_log, "the metrics could not be told")


class _Exchange(asyncio.Protocol):
    """A connection: a request, an answer, and its end.

    Args:
        app: what answers.
        bounds: how large and how long it may be.
        connections: those that are open; it enters itself, and leaves.
        complain: called when the application has failed.
    """

    def __init__(
        self,
        app: WsgiApp,
        bounds: Bounds,
        connections: dict[_Exchange, None],
        complain: Callable[[], None],
    ) -> None:
        self._app = app
        self._complain = complain
        self._bounds = bounds
        self._connections = connections
        self._received = bytearray()
        self._transport: Any = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        self._transport = transport
        if len(self._connections) >= self._bounds.connections:
            next(iter(self._connections)).drop()
        self._connections[self] = None
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._bounds.seconds, self.drop)

    def data_received(self, data: bytes) -> None:
        """A part of the request came, or more than that."""
        if self._transport.is_closing():
            return  # it has had its answer
        self._received += data
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if len(head) > self._bounds.head:
            self._answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {}, b"")
        elif end:
            self._answer(*_respond(self._app, bytes(head), self._complain))

    def connection_lost(self, _problem: Exception | None) -> None:
        """It is over."""
        self._connections.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()

    def drop(self) -> None:
        """End it, whatever it is at."""
        self._connections.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, status: str | HTTPStatus, headers: Mapping[str, str], body: bytes) -> None:
        line = f"{status.value} {status.phrase}" if isinstance(status, HTTPStatus) else status
        fields = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if name)
        self._transport.write(f"HTTP/1.1 {line}\r\n{head}\r\n".encode("latin-1") + body)
        self._transport.close()  # once that is written


def _respond(
    app: WsgiApp, head: bytes, complain: Callable[[], None]
) -> tuple[str | HTTPStatus, Mapping[str, str], bytes]:
    """The answer to a request: status, headers, body."""
    environ = _environ(head)
    if environ is None:
        return HTTPStatus.BAD_REQUEST, {}, b"this is no HTTP request\n"
    if environ["REQUEST_METHOD"] != "GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET"}, b"metrics are there to be read\n"
    told: list[Any] = []
    try:
        body = b"".join(app(environ, lambda status, headers, *_: told.extend((status, headers))))
        status, headers = told
        return status, dict(headers), body
    except BaseException:  # a collector's or a log observer's SystemExit would end the thread
        complain()
        body = b"the metrics could not be told: the service's log says why\n"
        return HTTPStatus.INTERNAL_SERVER_ERROR, {}, body


def _environ(head: bytes) -> dict[str, Any] | None:
    """What a WSGI application is told of a request; None if that is none."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    try:
        target = urlsplit(words[1])
    except ValueError:
        return None
    environ = {
        "REQUEST_METHOD": words[0],
        "PATH_INFO": unquote(target.path),
        "QUERY_STRING": target.query,
    }
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            return None
        environ[f"HTTP_{name.strip().upper().replace('-', '_')}"] = value.strip()
    return environ
