"""A child: pauses in every known way, over and over, and says what a method saw of it.

    detected.py REACTOR METHOD TIMES

The kinds and the places are those of tests/integration/kinds.py, with shorter pauses. A call is
named by its kind, and by the place if that is not a plain timed call; `sleep` is the place's own.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from functools import partial
from typing import Any

import kinds
from kinds import MAKERS, PLACES, Call, run_kind
from support import emit, install_reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from benchmarks.methods import METHODS, Report

THRESHOLD = 0.05
kinds.BLOCKED_SECONDS = 0.12
kinds.CPU_SECONDS = 0.15
kinds.HELD_SECONDS = 0.3
AFTER_SECONDS = 0.03  # for what is said once a pause has ended
FROM_PLACES = ("python_loop", "json_dumps")
"""Kinds that are tried from each place, too: Python, and C that holds the GIL."""


def again(name: str) -> None:
    """What a kind left behind that would keep it from pausing once more."""
    sys.modules.pop("heavy_module", None)
    if name == "gc_collect":
        gc.freeze()


async def conduct(reactor: Any, calls: list[tuple[Any, str, Any]], times: int) -> None:
    """Have all pauses made, each in a tick of its own."""
    for _ in range(times):
        for begin, name, work in calls:
            call = Call(reactor, name, work)
            call.asked_ns = time.monotonic_ns()
            reactor.callLater(0.01, begin, call)
            await call.finished
            again(name)
            await deferLater(reactor, AFTER_SECONDS)


def main(reactor_name: str, method: str, times: str) -> None:
    """Run until all pauses are made."""
    logging.disable(logging.NOTSET)
    logging.getLogger().addHandler(logging.NullHandler())
    reactor = install_reactor(reactor_name)
    works = {kind: maker() for kind, maker in MAKERS.items() if not kind.startswith("brief")}
    calls: list[tuple[Any, str, Any]] = [(run_kind, kind, work) for kind, work in works.items()]
    sleep = partial(time.sleep, kinds.BLOCKED_SECONDS)
    for place, bring_about in PLACES.items():
        calls.append((bring_about, f"sleep {place}", sleep))
        calls += [(bring_about, f"{kind} {place}", works[kind]) for kind in FROM_PLACES]

    def report(seen: Report) -> None:
        # Not by `emit`: a signal's handler reports, too, and may come while that holds its lock.
        os.write(1, (json.dumps({"event": "report", **seen._asdict()}) + "\n").encode())

    chosen = METHODS[method](reactor, THRESHOLD, report)

    def finish(_: object) -> None:
        chosen.off()
        emit("done")
        reactor.stop()

    def begin() -> None:
        chosen.on()
        emit("ready")
        conducted = ensureDeferred(conduct(reactor, calls, int(times)))
        conducted.addErrback(lambda failure: emit("failed", what=failure.getTraceback()))
        conducted.addBoth(finish)

    # Not `callWhenRunning`: aiocop wants asyncio's loop to run already.
    reactor.callLater(0, begin)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
