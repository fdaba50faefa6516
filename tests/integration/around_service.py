"""A service with something of everything to look at, and a manhole: run as a program of its own.

Usage: around_service.py KEYS ENDPOINT [REACTOR [OPTIONS]], as `manhole_service`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from typing import Any

from manhole_service import manhole, reactor, service, watchdog
from twisted.internet import defer, task
from twisted.internet.endpoints import TCP4ServerEndpoint, clientFromString, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver

log = Logger(namespace="shop")
never: defer.Deferred[None] = defer.Deferred()
release = threading.Event()


class Order:
    """A class to be counted."""


class LateOrder(Order):
    """One derived from it."""


class Till(Protocol):
    """What a connection is served by."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data.upper())


class Customer(Protocol):
    """What connects to it."""

    def dataReceived(self, data: bytes) -> None:
        print(json.dumps({"answer": data.decode()}), flush=True)


class Shop:
    """What the tests do to the service by way of the console."""

    def __init__(self) -> None:
        self.orders = [Order() for _ in range(1234)] + [LateOrder() for _ in range(5)]
        self.waiting: list[Any] = []
        self.looping = task.LoopingCall(self.restock)

    def restock(self) -> None:
        """What a looping call calls."""

    def refuse(self, _result: object = None) -> None:
        raise ValueError("no lamps left")

    def fail(self) -> None:
        """Log a failure, by a Deferred that nobody cares for."""
        defer.Deferred().addCallback(self.refuse).callback(None)
        gc.collect()

    @defer.inlineCallbacks
    def pack(self) -> Any:
        yield never

    async def ship(self) -> None:
        await task.deferLater(reactor, 3600)

    def work(self) -> None:
        """Occupy a thread of the pool."""
        release.wait()


shop = Shop()
namespace: Any = service
namespace.shop = shop


async def begin() -> None:
    """Open a connection, and leave all kinds of things under way."""
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(Till)
    )
    where = f"tcp:127.0.0.1:{port.getHost().port}"
    customer = await connectProtocol(clientFromString(reactor, where), Customer())
    customer.transport.write(b"lamp")
    shop.looping.start(60, now=False)
    reactor.callLater(1800, shop.fail)
    shop.waiting = [shop.pack() for _ in range(3)]
    shop.waiting.append(defer.ensureDeferred(shop.ship()))
    shop.waiting += [defer.Deferred().addCallback(shop.refuse) for _ in range(7)]
    deferToThread(shop.work)
    defer.setDebugging(True)
    shop.waiting.append(defer.Deferred())
    defer.setDebugging(False)
    if hasattr(reactor, "_asyncioEventloop"):
        shop.waiting.append(reactor._asyncioEventloop.create_task(asyncio.sleep(3600), name="nap"))
    address: Any = manhole.address
    print(json.dumps({"port": address.port}), flush=True)


if __name__ == "__main__":
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    watchdog.start()
    manhole.start()
    reactor.callWhenRunning(lambda: defer.ensureDeferred(begin()))
    reactor.addSystemEventTrigger("before", "shutdown", release.set)
    reactor.run()
