"""A small service with a manhole, for the integration tests: run as a program of its own.

Usage: manhole_service.py KEYS ENDPOINT [REACTOR [OPTIONS, as JSON]]. Prints one line of JSON when
it is ready. The options are those of `Limits`, `statement_timeout` and `audit`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import install_reactor
from twisted.logger import globalLogBeginner, textFileLogObserver

from txwatchdog import Watchdog
from txwatchdog.manhole import Limits, Manhole

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

KEYS, ENDPOINT, REACTOR, OPTIONS = (*sys.argv[1:], *("epoll", "{}")[len(sys.argv) - 3 :])

reactor: Any = install_reactor(REACTOR)


class Service:
    """What the tests ask for by way of the console."""

    def __init__(self) -> None:
        self.items: list[str] = []

    def nap(self, seconds: float) -> None:
        """Pause the reactor soon, in a function of the application's."""
        reactor.callLater(0, self.fetch_user, seconds)

    def fetch_user(self, seconds: float) -> None:
        print("napping", flush=True)
        time.sleep(seconds)

    def hang(self) -> None:
        """Never return."""
        print("hangs", file=sys.__stdout__, flush=True)
        while True:
            pass

    def swallow(self, words: str, swallowed: type[BaseException]) -> None:
        """Sleep for ever, and go on though interrupted, as often as there are words."""
        for word in words:
            try:
                time.sleep(1000)
            except swallowed:
                print("swallowed", word)
        time.sleep(1000)

    def retune(self, seconds: float) -> None:
        """Change the threshold in the service's own name, a little later."""
        reactor.callFromThread(setattr, watchdog, "threshold", seconds)

    def chatter(self) -> None:
        """Print in the service's own name, now and a little later."""
        reactor.callLater(0, print, "service talks", flush=True)

    def talk(self, times: int) -> None:
        """Print again and again from timed calls of the service's own."""

        def say(left: int) -> None:
            print("service talks", flush=True)
            if left > 1:
                reactor.callLater(0.01, say, left - 1)

        # By way of a thread, whose context has nothing to do with who asked.
        threading.Thread(target=reactor.callFromThread, args=(say, times)).start()

    def stop_manhole(self) -> None:
        """Stop, look at what is left, start again, and report on stdout."""
        reactor.callLater(0.05, self._stop_manhole)

    def _stop_manhole(self) -> None:
        def report(_: object) -> None:
            left = {
                "threads": sorted(thread.name for thread in threading.enumerate()),
                "fds": len(list(Path("/proc/self/fd").iterdir())),
                "stdout_is_original": sys.stdout is sys.__stdout__,
                "timers_are_original": "callLater" not in vars(reactor),
                "address": str(manhole.address),
            }
            manhole.start()
            again: Any = manhole.address
            print(json.dumps({**left, "port": again.port}), flush=True)

        done: Deferred[None] = manhole.stop()
        manhole.stop()
        done.addCallback(report)


service = Service()
options = json.loads(OPTIONS)
statement_timeout = options.pop("statement_timeout", 30.0)
audit = options.pop("audit", None)
watchdog = Watchdog(reactor, threshold=0.2)
manhole = Manhole(
    watchdog,
    endpoint=ENDPOINT,
    keys=KEYS,
    namespace={"service": service, "reactor": reactor},
    limits=Limits(**options),
    statement_timeout=statement_timeout,
    audit=audit,
)


def announce() -> None:
    """Say on which port."""
    address: Any = manhole.address
    print(json.dumps({"port": getattr(address, "port", None)}), flush=True)


def run() -> None:
    """Be a service, until the reactor ends."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    watchdog.start()
    manhole.start()
    reactor.callWhenRunning(announce)
    reactor.run()
    print(json.dumps({"threads": [thread.name for thread in threading.enumerate()]}), flush=True)


if __name__ == "__main__":
    run()
