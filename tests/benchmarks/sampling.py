"""What a sample costs: the time for which the watch thread has the GIL, and the reactor has not.

    python tests/benchmarks/sampling.py

The stack is 60 frames deep, in another thread. The first sample of a pause finds out which event of
the reactor led to it, too; here all frames are looked through for one, in vain, which takes most.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from txwatchdog.origin import read_origin
from txwatchdog.records import Sample
from txwatchdog.rings.stacks import read_stack

DEPTH = 60
SAMPLES = 5000


def deep(frames: int, ready: threading.Event, done: threading.Event) -> None:
    """Wait at the inner end of so many calls."""
    if frames > 1:
        deep(frames - 1, ready, done)
    else:
        ready.set()
        done.wait()


def sample(ident: int, *, is_first: bool) -> Sample:
    """What the watch thread does for a sample."""
    frame = sys._current_frames()[ident]
    origin = read_origin(frame) if is_first else None
    return Sample(1, time.monotonic_ns(), read_stack(frame), "thread", origin=origin)


def microseconds(call: Callable[[], object]) -> list[float]:
    """How long each of many calls takes."""
    took = []
    for _ in range(SAMPLES):
        began = time.perf_counter_ns()
        call()
        took.append((time.perf_counter_ns() - began) / 1e3)
    return sorted(took)


def main() -> None:
    """Measure, and print a table."""
    ready, done = threading.Event(), threading.Event()
    # threading's own calls are frames, too: three before ours, two after.
    thread = threading.Thread(target=deep, args=(DEPTH - 5, ready, done))
    thread.start()
    ready.wait()
    time.sleep(0.1)  # so that it is in its wait
    ident = thread.ident
    assert ident is not None
    depth = len(sample(ident, is_first=True).stack)
    print(f"Python {sys.version.split()[0]}: µs for a sample of {depth} frames")
    for name, is_first in (("a pause's first", True), ("any other", False)):
        took = microseconds(partial(sample, ident, is_first=is_first))
        median, high = statistics.median(took), took[SAMPLES * 95 // 100]
        print(f"  {name:16} {median:5.1f} median  {high:5.1f} p95")
    done.set()
    thread.join()


if __name__ == "__main__":
    main()
