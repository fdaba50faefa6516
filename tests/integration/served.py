"""A service that is made of services, a `WatchdogService` among them. Tells what became of each."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any

from support import emit
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txwatchdog import Watchdog
from txwatchdog.service import WatchdogService


class Plugged:
    """A part that takes its time to end."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._reactor: Any = watchdog.reactor

    def start(self) -> None:
        emit("part", doing="start")

    def stop(self) -> Deferred[None]:
        emit("part", doing="stop")
        return deferLater(self._reactor, 0.05, emit, "part", doing="stopped")


def broken(watchdog: Watchdog) -> Plugged:
    """A part that can't be made."""
    raise OSError("no such thing")


def block() -> None:
    """Pause the reactor."""
    time.sleep(0.3)


async def story(reactor: Any, keys: str) -> None:
    """Start, pause, stop, and all of it again; then without a port to listen on."""
    root = MultiService()
    service = WatchdogService(
        threshold=0.2, manhole="tcp:0:interface=127.0.0.1", keys=keys, namespace={"answer": 42}
    )
    service.plug(Plugged)
    service.plug(broken)
    child: Any = service  # Twisted has no types for this
    child.setServiceParent(root)
    names = service._names()
    emit("names", names=sorted(names), is_root=names["service"] is root)
    for _ in range(2):
        root.startService()
        manhole: Any = service.manhole
        address = manhole.address
        emit("started", problems=service.problems, running=service.watchdog.running)
        await deferLater(reactor, 0.1, block)
        await deferLater(reactor, 0.1)
        await root.stopService()
        threads = [thread.name for thread in threading.enumerate()]
        emit("stopped", pauses=service.watchdog.stats()["pauses"], threads=threads)
    with socket.create_server(("127.0.0.1", address.port)):
        taken = WatchdogService(manhole=f"tcp:{address.port}:interface=127.0.0.1", keys=keys)
        taken.startService()
        emit("taken", problems=taken.problems, running=taken.watchdog.running)
        await taken.stopService()
    reactor.stop()


def main() -> None:
    """Run."""
    without = WatchdogService(manhole=None)
    emit("before", reactor="twisted.internet.reactor" in sys.modules, manhole=without.manhole)
    from twisted.internet import reactor

    running: Any = reactor
    running.callWhenRunning(lambda: Deferred.fromCoroutine(story(running, sys.argv[1])))
    running.run()


if __name__ == "__main__":
    main()
