"""Services whose metrics are served, for `test_metrics.py` and `test_prometheus.py`.

Run as `python metered.py COUNT [THRESHOLD]`: a fleet, forked from one process, for the packages are
imported only once then. Each tells its port when it serves. A line on stdin is for one of them:
`NUMBER COMMAND [ARGUMENT]`, where the command is a method of `Service`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from prometheus_client import CollectorRegistry
from support import emit
from twisted.internet.epollreactor import EPollReactor

from txwatchdog import Watchdog
from txwatchdog.metrics import MetricsServer, WatchdogCollector

HANG_SECONDS = 100.0


class Service:
    """One of the fleet. Its commands are called in a thread of their own."""

    def __init__(self, number: int, threshold: float) -> None:
        self._reactor: Any = EPollReactor()
        self._watchdog = Watchdog(self._reactor, threshold)
        self._number = number
        self._wakened = threading.Event()
        self._after_scrape: list[float] = []
        registry = CollectorRegistry(auto_describe=True)
        WatchdogCollector(self._watchdog).start(registry)
        registry.register(self)
        self._server = MetricsServer(self._watchdog, "tcp:0", registry)

    def run(self, commands: int) -> None:
        """Serve until told to end."""
        self._watchdog.start()
        self._server.start()
        self._reactor.callWhenRunning(self._tell)
        threading.Thread(target=self._obey, args=(commands,), daemon=True).start()
        self._reactor.run()
        emit("ended", number=self._number, threads=[each.name for each in threading.enumerate()])

    def collect(self) -> list[Any]:
        """Called at each scrape: the last of the collectors."""
        while self._after_scrape:
            self._reactor.callFromThread(nap_between_scrapes, self._after_scrape.pop())
        return []

    def nap(self, seconds: str) -> None:
        """Pause for so long, now."""
        self._reactor.callFromThread(nap, float(seconds))

    def nap_after_scrape(self, seconds: str) -> None:
        """Pause for so long, right after the next scrape."""
        self._after_scrape.append(float(seconds))

    def hang(self) -> None:
        """Pause until `wake`."""
        self._wakened.clear()
        self._reactor.callFromThread(hang, self._wakened)

    def wake(self) -> None:
        """End what `hang` began."""
        self._wakened.set()

    def reset(self) -> None:
        """What an operator does."""
        self._watchdog.reset()
        emit("reset", pauses=self._watchdog.stats()["pauses"])

    def end(self) -> None:
        """Stop the reactor."""
        self._reactor.callFromThread(self._reactor.stop)

    def _tell(self) -> None:
        address: Any = self._server.address
        emit("ready", number=self._number, port=address.port)

    def _obey(self, commands: int) -> None:
        with os.fdopen(commands) as lines:
            for line in lines:
                command, *arguments = line.split()
                getattr(self, command)(*arguments)
        self.end()  # the parent has gone


def nap(seconds: float) -> None:
    """Pause the reactor."""
    time.sleep(seconds)


def nap_between_scrapes(seconds: float) -> None:
    """Pause the reactor, under another name."""
    time.sleep(seconds)


def hang(wakened: threading.Event) -> None:
    """Pause the reactor until something happens elsewhere."""
    wakened.wait(HANG_SECONDS)


def main(count: int, threshold: float) -> None:
    """Fork the services, and pass on what they are told."""
    told: list[int] = []
    for number in range(count):
        reading, writing = os.pipe()
        if not os.fork():
            for other in [*told, writing]:
                os.close(other)
            Service(number, threshold).run(reading)
            os._exit(0)
        os.close(reading)
        told.append(writing)
    for line in sys.stdin:
        addressee, _, command = line.partition(" ")
        os.write(told[int(addressee)], command.encode())
    for writing in told:
        os.write(writing, b"end\n")
    for _ in told:
        os.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.5)
