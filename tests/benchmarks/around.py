"""What looking around costs a busy service: how late its timers are meanwhile.

Usage: around.py [CONNECTIONS [OBJECTS]]. In one process: connections, 10,000 delayed calls, 20,000
Deferreds, objects, and a timer each millisecond; each function is called in a thread of its own, as
the manhole does it. Printed are the seconds that it took, the latest timer, and the longest garbage
collection, which makes timers late, too, whoever's objects bring it on.
"""

from __future__ import annotations

import gc
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from twisted.internet import defer, reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from txwatchdog.manhole.around.failures import Failures
from txwatchdog.manhole.around.looks import Around

if TYPE_CHECKING:
    from collections.abc import Callable

GIVEN = sys.argv[1:3]
CONNECTIONS, OBJECTS = map(int, (*GIVEN, *("4000", "1000000")[len(GIVEN) :]))
BEAT = 0.001  # seconds

the_reactor: Any = reactor


class Meter:
    """A timer that knows how late it has been."""

    def __init__(self) -> None:
        self.latest = 0.0
        self.collecting = 0.0
        self._began = 0.0
        self._last = time.perf_counter()
        gc.callbacks.append(self._collect)

    def beat(self) -> None:
        """Called each millisecond, if all is well."""
        now = time.perf_counter()
        self.latest = max(self.latest, now - self._last - BEAT)
        self._last = now
        the_reactor.callLater(BEAT, self.beat)

    def reset(self) -> None:
        """Begin anew."""
        self.latest = self.collecting = 0.0

    def _collect(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collecting = max(self.collecting, time.perf_counter() - self._began)


def _connect(address: Any) -> list[socket.socket]:
    return [socket.create_connection(address) for _ in range(CONNECTIONS)]


def _print_to_nowhere(look: Callable[[], object]) -> None:
    str(look())


async def measure() -> None:
    """Call all of them, twice: the first call brings in what it needs."""
    port = the_reactor.listenTCP(0, Factory.forProtocol(Protocol), 5000, "127.0.0.1")
    kept: list[Any] = [await deferToThread(_connect, ("127.0.0.1", port.getHost().port))]
    kept.append([the_reactor.callLater(1000 + n, kept.append) for n in range(10_000)])
    kept.append([defer.Deferred().addCallback(kept.append) for _ in range(20_000)])
    kept.append([[n] for n in range(OBJECTS)])
    gc.collect()
    around = Around(the_reactor, Failures())
    looks: dict[str, Callable[[], object]] = {
        "readers()": around.readers,
        "readers(by='sent')": lambda: around.readers(by="sent"),
        "readers(10000)": lambda: around.readers(10_000),
        "delayed()": around.delayed,
        "delayed(10000)": lambda: around.delayed(10_000),
        "threads()": around.threads,
        "deferreds()": around.deferreds,
        "objects()": around.objects,
    }
    meter = Meter()
    meter.beat()
    print(f"{CONNECTIONS} connections, {OBJECTS} objects\n")
    print(f"{'':20}  {'took s':>8}  {'latest ms':>9}  {'gc ms':>6}")
    for _ in range(2):
        for name, look in looks.items():
            await deferToThread(time.sleep, 0.5)
            meter.reset()
            began = time.perf_counter()
            await deferToThread(_print_to_nowhere, look)
            took = time.perf_counter() - began
            row = f"{took:8.2f}  {1000 * meter.latest:9.1f}  {1000 * meter.collecting:6.1f}"
            print(f"{name:20}  {row}", flush=True)
        print()
    the_reactor.stop()


the_reactor.callWhenRunning(lambda: defer.ensureDeferred(measure()))
the_reactor.run()
