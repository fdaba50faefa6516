"""Section 2: does a reactor that is not paused stay out of the ledger, on an overloaded machine?

Eight processes compute on all cores, and the watched ones run beside them at the lowest priority:
on each reactor one that only waits and one that computes for 2 ms fifty times a second. Beside them
run the same two under the original method, as it is here and as a port of what it was. Counted are
the pauses that each reports, how many of these blame a function, and which.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from support import REACTORS, install_reactor

from txwatchdog import Watchdog

from .harness import ROOT, Bench, Table, goal
from .methods import METHODS, Report

__all__ = ["run"]

THRESHOLD = 0.2
BUSY_PROCESSES = 8
LOADS = ("idle", "light")
RINGS = {"txwatchdog": ("thread", "sigalrm"), "original": ("sigalrm",)}


def compute_briefly() -> None:
    """Compute for 2 ms of CPU time."""
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        sum(range(100))


def watched(reactor_name: str, method: str, load: str, seconds: float) -> None:
    """In a process of its own: wait, or compute a little, and print what was reported."""
    os.nice(19)
    reactor = install_reactor(reactor_name)
    from twisted.internet.task import LoopingCall

    if method == "port":
        told: list[Report] = []
        reactor.callWhenRunning(METHODS["original"](reactor, THRESHOLD, told.append).on)
    else:
        watchdog = Watchdog(reactor, THRESHOLD, rings=RINGS[method])
        watchdog.start()

    def finish() -> None:
        if method == "port":
            found = Counter(str(each.function) for each in told)
            print(json.dumps({"pauses": len(told), "causes": {}, "blamed": found}), flush=True)
        else:
            print(json.dumps(seen_by(watchdog)), flush=True)
        reactor.stop()

    if load == "light":
        reactor.callWhenRunning(LoopingCall(compute_briefly).start, 0.02)
    reactor.callWhenRunning(reactor.callLater, seconds, finish)
    reactor.run()


def seen_by(watchdog: Watchdog) -> dict[str, Any]:
    """What a watchdog reports."""
    stats = watchdog.stats()
    causes = {cause: row["pauses"] for cause, row in stats["causes"].items()}
    blamed = {row["function"]: row["count"] for row in stats["offenders"]}
    return {"pauses": stats["pauses"], "causes": causes, "blamed": blamed}


def row(name: str, told: dict[str, Any]) -> tuple[object, ...]:
    """What one of them reported."""
    blamed = Counter(told["blamed"])
    causes = ", ".join(f"{n} {cause}" for cause, n in told["causes"].items() if n)
    whom = ", ".join(f"{n} {function}" for function, n in blamed.most_common(3))
    return name, told["pauses"], sum(blamed.values()), causes, whom


def watch_all(seconds: float) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Have all of them watched at once, beside the busy processes."""
    kinds = [(each, "txwatchdog", load) for each in REACTORS for load in LOADS]
    kinds += [("epoll", method, load) for method in ("original", "port") for load in LOADS]
    spin = [sys.executable, "-S", "-c", "while True: pass"]
    command = [sys.executable, "-m", "tests.benchmarks.false_alarms", str(seconds)]
    with ExitStack() as stack:
        for _ in range(BUSY_PROCESSES):
            stack.callback(_end, subprocess.Popen(spin))
        children = {}
        for kind in kinds:
            watched_one = subprocess.Popen(
                [*command, *kind], stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            stack.callback(_end, watched_one)
            children[kind] = watched_one
        return {kind: json.loads(one.communicate()[0]) for kind, one in children.items()}


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


def run(bench: Bench) -> Iterator[Table]:
    """For some minutes."""
    seconds = 40 if bench.quick else round(bench.minutes * 60)
    bench.say(f"{seconds} s beside {BUSY_PROCESSES} busy processes")
    table = Table(
        f"False alarms: {seconds} s beside {BUSY_PROCESSES} busy processes, at nice 19,"
        f" threshold {THRESHOLD} s",
        ("reactor, method, load", "reported", "blamed on a function", "causes", "functions"),
    )
    found = watch_all(seconds)
    for kind, told in found.items():
        table.rows.append(row(", ".join(kind), told))
        table.figures[" ".join(kind)] = told
    ours = sum(
        sum(told["blamed"].values()) for kind, told in found.items() if kind[1] == "txwatchdog"
    )
    table.notes.append('"original" is the method as `rings=("sigalrm",)`, "port" as it once was.')
    table.notes.append(f"Goal: nothing blamed on a function by txwatchdog: {goal(ours == 0)}.")
    yield table


if __name__ == "__main__":
    seconds_, reactor_, method_, load_ = sys.argv[1:]
    watched(reactor_, method_, load_, float(seconds_))
