"""A service whose reactor is paused from each kind of event, and for each reason.

Run as `python whys.py REACTOR`. Each pause is told as it ends: what it was, and what is said of it.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from support import emit, install_reactor
from twisted.internet import protocol

THRESHOLD = 0.1
LENGTH = 0.3


def block() -> None:
    """Sleep in the kernel."""
    time.sleep(LENGTH)


def compute() -> None:
    """Compute in Python."""
    end = time.monotonic() + LENGTH
    while time.monotonic() < end:
        sum(range(100))


def collect() -> None:
    """Collect garbage."""
    heap = [[number] for number in range(300_000)]
    end = time.monotonic() + LENGTH
    while time.monotonic() < end:
        gc.collect()
    heap.clear()


def stand_still() -> None:
    """Be stopped and continued as a whole."""
    pid = os.getpid()
    subprocess.run(["sh", "-c", f"kill -STOP {pid}; sleep 1; kill -CONT {pid}"], check=True)


def on_signal(number: int, frame: object) -> None:
    """Handle a signal that comes while the reactor is busy."""
    block()


class Blocking(protocol.Protocol):
    """Blocks when bytes come."""

    def dataReceived(self, data: bytes) -> None:
        """Some came."""
        block()


class Datagrams(protocol.DatagramProtocol):
    """Blocks when a datagram comes."""

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """One came."""
        block()


async def connected(reactor: Any) -> Any:
    """A protocol that is connected to a blocking one."""
    from twisted.internet import endpoints

    factory: Any = protocol.Factory.forProtocol(Blocking)
    listening = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    port = (await listening).getHost().port
    plain: Any = protocol.Factory.forProtocol(protocol.Protocol)
    return await endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(plain)


def send_datagram(to: tuple[str, int]) -> None:
    """Send a byte."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", to)


def main() -> None:
    """Pause for each reason from a timed call, and then from each kind of event."""
    reactor: Any = install_reactor(sys.argv[1])
    from twisted.internet import base, defer, task, utils

    from txwatchdog import Pause, Watchdog

    base.DelayedCall.debug = True
    what = ""
    recorded: defer.Deferred[None] = defer.Deferred()

    def record() -> None:
        if not recorded.called:
            recorded.callback(None)

    def tell(pause: Pause) -> None:
        emit("pause", what=what, **pause.as_dict())
        reactor.callFromThread(record)

    async def paused(name: str, begin: Callable[[], object]) -> None:
        """Have `begin` bring a pause about, and wait until it is on record."""
        nonlocal what, recorded
        what, recorded = name, defer.Deferred()
        begin()
        await recorded
        await task.deferLater(reactor, 0.05)

    async def run() -> None:
        nonlocal what
        watchdog = Watchdog(reactor, threshold=THRESHOLD)
        watchdog.start()
        await task.deferLater(reactor, 0.3)
        watchdog.on_pause(tell)
        for function in (block, compute, collect, stand_still):
            later = functools.partial(reactor.callLater, 0, functools.partial(function))
            await paused(function.__name__, later)
        threaded = functools.partial(reactor.callFromThread, block)
        await paused("callFromThread", lambda: reactor.callInThread(threaded))
        loop = task.LoopingCall(block)
        await paused("LoopingCall", lambda: loop.start(0.1, now=False))
        loop.stop()
        client = await connected(reactor)
        await paused("dataReceived", lambda: client.transport.write(b"x"))
        datagrams = reactor.listenUDP(0, Datagrams(), interface="127.0.0.1")
        to = ("127.0.0.1", datagrams.getHost().port)
        await paused("datagramReceived", lambda: send_datagram(to))
        await datagrams.stopListening()
        signal.signal(signal.SIGUSR1, on_signal)
        kill = functools.partial(os.kill, os.getpid(), signal.SIGUSR1)
        await paused("signal", lambda: reactor.callLater(0, kill))
        exited = utils.getProcessValue("/bin/true")
        await paused("process", lambda: exited.addCallback(lambda _: block()))
        what = "shutdown"
        reactor.addSystemEventTrigger("before", "shutdown", block)
        emit("causes", **watchdog.stats())
        reactor.stop()

    reactor.callWhenRunning(lambda: defer.ensureDeferred(run()))
    reactor.run()


if __name__ == "__main__":
    main()
