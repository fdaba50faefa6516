"""What the merged profiles cost: time for each recorded pause, and memory.

    python tests/benchmarks/profiles.py

Stacks are 60 frames deep. The time is that of `Ledger.add`, in the thread that records pauses, once
a pause has ended; the memory is that of a ledger whose every profile is full.
"""

from __future__ import annotations

import statistics
import sys
import time
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from attrs import evolve
from builders import sampled, stack

from txwatchdog.ledger import PROFILES, Ledger
from txwatchdog.records import Function, Pause, RawStack

DEPTH = 60
PAUSES = 200


def raw(leaf: str) -> RawStack:
    """A stack whose last four calls are told apart by `leaf`."""
    loop = ("mainLoop", "/usr/lib/twisted/internet/base.py")
    trunk = [(f"f{depth}", "/srv/app/a.py") for depth in range(DEPTH - 5)]
    return stack(loop, *trunk, *((f"{leaf}_{depth}", "/srv/app/b.py") for depth in range(4)))


def pause(stacks: int, leaf: str) -> Pause:
    """A pause that was seen in that many different stacks."""
    return sampled([(raw(f"{leaf}_{n}"), 0.1) for n in range(stacks)])


def microseconds(pauses: list[Pause]) -> list[float]:
    """How long the ledger takes for each, one after the other."""
    ledger, took = Ledger(), []
    for each in pauses:
        began = time.perf_counter_ns()
        ledger.add(each)
        took.append((time.perf_counter_ns() - began) / 1e3)
    return took


def megabytes() -> float:
    """The size of a ledger with as many full profiles as it keeps."""
    ledger = Ledger(recent=1)
    tracemalloc.start()
    for number in range(PROFILES):
        for again in range(12):
            each = pause(35, f"{number}_{again}")
            ledger.add(evolve(each, offender=Function(f"f{number}", "/srv/app/a.py", number)))
    return tracemalloc.get_traced_memory()[0] / 1e6


def main() -> None:
    """Measure, and print a table."""
    print(f"Python {sys.version.split()[0]}: µs for a pause, median of {PAUSES} (most)")
    for name, stacks, is_new in (
        ("one stack", 1, False),
        ("35 stacks, the same in each pause", 35, False),
        ("35 stacks, new ones in each pause", 35, True),
    ):
        took = microseconds([pause(stacks, str(n if is_new else 0)) for n in range(PAUSES)])
        print(f"  {name:34} {statistics.median(took):6.0f}  ({max(took):.0f})")
    print(f"  {PROFILES} full profiles: {megabytes():.1f} MB")


if __name__ == "__main__":
    main()
