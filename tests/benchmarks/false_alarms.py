"""Does a reactor that is not paused stay out of the ledger, on a machine that is overloaded?

    python tests/benchmarks/false_alarms.py [--seconds 60]

Eight processes compute on all cores, and the watched ones run beside them at the lowest priority:
on each reactor one that only waits and one that computes for 2 ms fifty times a second. Beside them
run the same two under the original method, by itself. What is printed are the pauses that each
reports, how many of these blame a function, and which; the exit status is 1 if one of ours does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from support import REACTORS, install_reactor

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

    from txwatchdog import Watchdog

    watchdog = Watchdog(reactor, THRESHOLD, rings=RINGS[method])
    watchdog.start()

    def finish() -> None:
        stats = watchdog.stats()
        causes = {cause: row["pauses"] for cause, row in stats["causes"].items()}
        blamed = {row["function"]: row["count"] for row in stats["offenders"]}
        told = {"pauses": stats["pauses"], "causes": causes, "blamed": blamed}
        print(json.dumps(told), flush=True)
        reactor.stop()

    if load == "light":
        reactor.callWhenRunning(LoopingCall(compute_briefly).start, 0.02)
    reactor.callWhenRunning(reactor.callLater, seconds, finish)
    reactor.run()


def report(name: str, told: dict[str, Any]) -> int:
    """Print a row; returns how many pauses blamed a function."""
    blamed = Counter(told["blamed"])
    causes = ", ".join(f"{n} {cause}" for cause, n in told["causes"].items() if n)
    whom = ", ".join(f"{n} {function}" for function, n in blamed.most_common(3))
    number = sum(blamed.values())
    print(f"{name:28} {told['pauses']:6} {number:7}  {causes:24} {whom}", flush=True)
    return number


def main() -> None:
    """Watch them all at once, and fail if one of ours blames a function."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--watched", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watched:
        reactor_name, method, load = options.watched
        watched(reactor_name, method, load, options.seconds)
        return
    kinds = [(each, "txwatchdog", load) for each in REACTORS for load in LOADS]
    kinds += [("epoll", "original", load) for load in LOADS]
    spin = [sys.executable, "-S", "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(BUSY_PROCESSES)]
    command = [sys.executable, __file__, "--seconds", str(options.seconds), "--watched"]
    try:
        children = {
            kind: subprocess.Popen([*command, *kind], stdout=subprocess.PIPE, text=True)
            for kind in kinds
        }
        told = {kind: json.loads(child.communicate()[0]) for kind, child in children.items()}
    finally:
        for process in busy:
            process.kill()
            process.wait()
    print(f"Python {sys.version.split()[0]}, threshold {THRESHOLD} s, {options.seconds:g} s")
    print(f"{'reactor, method, load':28} {'pauses':>6} {'blaming':>7}  {'causes':24} functions")
    ours = [report(" ".join(kind), told[kind]) for kind in kinds if kind[1] == "txwatchdog"]
    for kind in kinds:
        if kind[1] == "original":
            report(" ".join(kind), told[kind])
    sys.exit(any(ours))


if __name__ == "__main__":
    main()
