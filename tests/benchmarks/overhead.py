"""What the probe adds to a tick, beside the least that any exact probe could.

    python tests/benchmarks/overhead.py

Three things are timed in turn, many times over: a wait that does nothing, the same wrapped by the
probe, and the same wrapped by a function that only reads the clock twice. What is printed are the
nanoseconds that each wrapper adds, and their ratio.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from txwatchdog.probe import Tick, watched

CALLS = 50_000
ROUNDS = 25


def wait(timeout: float, maxevents: int) -> None:
    """A wait that returns at once."""


def two_readings(inner: Callable[..., Any]) -> Callable[..., Any]:
    """`inner`, with the clock read before and after: the floor."""
    now = time.monotonic_ns

    def wrapped(timeout: float, maxevents: int) -> Any:
        now()
        try:
            return inner(timeout, maxevents)
        finally:
            now()

    return wrapped


def nanoseconds(call: Callable[..., Any]) -> float:
    """The time of one call."""
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        call(0.1, 5)
    return (time.perf_counter_ns() - began) / CALLS


def main() -> None:
    """Measure, and print a table."""
    floor = two_readings(wait)
    probe = watched(wait, Tick(10**12, lambda *_: None))
    added: dict[str, list[float]] = {"floor": [], "probe": []}
    for _ in range(ROUNDS):
        bare = nanoseconds(wait)
        added["floor"].append(nanoseconds(floor) - bare)
        added["probe"].append(nanoseconds(probe) - bare)
    print(f"Python {sys.version.split()[0]}: ns added to a tick, median of {ROUNDS} (least, most)")
    for name, values in added.items():
        print(
            f"  {name:6} {statistics.median(values):5.0f}  ({min(values):.0f}, {max(values):.0f})"
        )
    ratios = [p / f for p, f in zip(added["probe"], added["floor"], strict=True)]
    print(f"  the probe costs {statistics.median(ratios):.1f} times the floor")


if __name__ == "__main__":
    main()
