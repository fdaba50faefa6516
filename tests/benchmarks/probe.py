"""Sections 3 and 7: what the probe does to a tick, and how far that is from the floor.

The least that an exact probe in Python could do is to read the clock when the wait ends and when it
begins; `floor` does that, in the same kind of wrapper, and writes two attributes.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from txwatchdog.probe import Tick, watched

from .harness import ROOT, Bench, Spread, Table

__all__ = ["run"]

TURNS = 20_000


def wait(timeout: float, maxevents: int) -> None:
    """A wait that returns at once."""


class Poller:
    """What `reactor._poller` is."""

    def __init__(self, poll: Callable[..., Any]) -> None:
        self.poll = poll


def floor(inner: Callable[..., Any]) -> Callable[..., Any]:
    """`inner`, with the clock read before and after, and that written down."""
    now = time.monotonic
    tick = Tick(10**12, lambda *_: None)

    def wrapped(timeout: Any = None, maxevents: Any = None) -> Any:
        tick.busy = now()
        try:
            return inner(timeout, maxevents)
        finally:
            tick.since = now()

    return wrapped


def probed(inner: Callable[..., Any]) -> Callable[..., Any]:
    """`inner`, wrapped as the watchdog does."""
    return watched(inner, Tick(10**12, lambda *_: None))


WRAPPERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "bare": lambda inner: inner,
    "floor": floor,
    "probe": probed,
}


def turn(poller: Poller, count: int) -> None:
    """What a reactor does with it."""
    for _ in range(count):
        poller.poll(0.1, 5)


def nanoseconds(poller: Poller) -> float:
    """The CPU time of one turn."""
    began = time.thread_time_ns()
    turn(poller, TURNS)
    return (time.thread_time_ns() - began) / TURNS


def instructions(name: str) -> float | None:
    """How many a turn takes, by callgrind; None where it does not work.

    The difference between a run of many turns and one of few, so that all else cancels out.
    """

    def count(turns: int) -> int:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
        command += ["-c", f"from tests.benchmarks.probe import count; count({name!r}, {turns})"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = re.search(r"Collected : (\d+)", run.stderr)
        assert found is not None
        return int(found[1])

    try:
        with ThreadPoolExecutor(2) as pool:
            many, few = pool.map(count, (60_000, 10_000))
        return (many - few) / 50_000
    except (OSError, subprocess.CalledProcessError, AssertionError):
        return None


def count(name: str, turns: int) -> None:
    """In a child, under callgrind."""
    turn(Poller(WRAPPERS[name](wait)), turns)


def run(bench: Bench) -> Iterator[Table]:
    """Measure the three by turns."""
    bench.say("ns a tick")
    pollers = {name: Poller(wrap(wait)) for name, wrap in WRAPPERS.items()}
    rounds = bench.times(101, 25)
    took: dict[str, list[float]] = {name: [] for name in pollers}
    for _ in range(rounds):
        for name, poller in pollers.items():
            took[name].append(nanoseconds(poller))
    counted = {}
    for name in pollers:
        bench.say(f"instructions of {name}")
        counted[name] = instructions(name)
    table = Table(
        f"The probe by itself: what it adds to a tick, {rounds} rounds",
        ("", "ns", "instructions (callgrind)"),
    )
    added: dict[str, Spread] = {}
    for name in ("floor", "probe"):
        added[name] = Spread.of([a - b for a, b in zip(took[name], took["bare"], strict=True)])
        mine, bare = counted[name], counted["bare"]
        shown = "not measured" if mine is None or bare is None else f"{mine - bare:.0f}"
        table.rows.append((name, added[name].text(".0f"), shown))
        table.figures[name] = {"ns": added[name].median, "instructions": shown}
    ratio = statistics.median(
        p / f for p, f in zip(added["probe"].values, added["floor"].values, strict=True)
    )
    table.figures["ratio"] = ratio
    table.notes.append(
        f"The probe costs {ratio:.2f} times the floor, which is a wrapper with two readings of the"
        " clock and two writes. Beyond it: the tick's length, the ticks' sum and count, the limit."
    )
    yield table
