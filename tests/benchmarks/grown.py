"""A child: a watched process that has seen, or has, very many of something; says what things cost.

grown.py pauses|offenders|connections|depth NUMBER
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

TURNS = 20_000


def rss() -> float:
    """The process's memory, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def fastest(call: Callable[[], object], times: int = 7) -> float:
    """Seconds of CPU of the fastest of some calls: what it costs when nobody disturbs it."""
    took = []
    for _ in range(times):
        began = time.thread_time()
        call()
        took.append(time.thread_time() - began)
    return min(took)


def fill(watchdog: Any, number: int, functions: int) -> None:
    """Have the ledger record so many pauses of so many functions."""
    import builders

    raw = builders.stack(
        ("mainLoop", "/usr/lib/python3/site-packages/twisted/internet/base.py"),
        *((f"f{depth}", "/srv/app/a.py") for depth in range(20)),
    )
    for count in range(number):
        function = f"f{count % functions}"
        watchdog._ledger.add(builders.sampled([(raw, 1.0)], function, number=count))


class Quiet:
    """A connection that says nothing; one socket serves for all, by other numbers."""

    near, far = socket.socketpair()

    def __init__(self) -> None:
        self._number = os.dup(self.near.fileno())

    def fileno(self) -> int:
        return self._number

    def doRead(self) -> None:
        """Never called."""

    def connectionLost(self, reason: object) -> None:
        """The reactor stopped."""

    def logPrefix(self) -> str:
        return "quiet"


def deeper(depth: int, call: Callable[[], None]) -> None:
    """Call `call` from so many frames further in."""
    if depth:
        deeper(depth - 1, call)
    else:
        call()


def tick_ns(reactor: Any) -> float:
    """What the probe adds to a wait."""
    proxy, bare = reactor._poller, reactor._poller._poller

    def turns(poller: Any) -> None:
        for _ in range(TURNS):
            poller.poll(0, 5)

    # Not the least of differences, which is where the bare one was disturbed.
    return statistics.median(
        (fastest(lambda: turns(proxy), 1) - fastest(lambda: turns(bare), 1)) / TURNS * 1e9
        for _ in range(31)
    )


def main(what: str, number_: str) -> None:
    """Get there, measure, and say it."""
    number = int(number_)
    # Nothing of ours before the first look: `support` brings it in.
    epollreactor.install()
    reactor: Any = importlib.import_module("twisted.internet.reactor")
    bare = rss()
    from txwatchdog import Watchdog
    from txwatchdog.rings.stacks import read_stack

    imported = rss()
    watchdog: Any = Watchdog(reactor, 0.02)
    kept = [Quiet() for _ in range(number if what == "connections" else 0)]

    def ready() -> None:
        started = rss()
        if what == "pauses":
            fill(watchdog, number, 100)
        elif what == "offenders":
            fill(watchdog, number, number)
        for each in kept:
            reactor.addReader(each)
        stack = [0.0]

        def read() -> None:
            frame = sys._getframe()
            stack[0] = fastest(lambda: [read_stack(frame) for _ in range(100)]) / 100

        if what == "depth":
            deeper(number, read)
        filled = rss()
        before = watchdog.status()

        def finish() -> None:
            after = watchdog.status()
            wakes = after.wakes - before.wakes
            told = {
                "tick_ns": tick_ns(reactor),
                "wake_us": (after.cpu_seconds - before.cpu_seconds) / wakes * 1e6,
                "top_us": fastest(watchdog.top) * 1e6,
                "stack_us": stack[0] * 1e6,
                "rss": {"bare": bare, "imported": imported, "started": started, "filled": filled},
            }
            print(json.dumps(told), flush=True)
            reactor.stop()

        reactor.callLater(1.5, finish)

    watchdog.start()
    reactor.callWhenRunning(reactor.callLater, 0.2, ready)
    reactor.run()


if __name__ == "__main__":
    sys.setrecursionlimit(3000)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    main(*sys.argv[1:])
