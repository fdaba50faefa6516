"""What a sample costs: the time for which the watch thread has the GIL, and the reactor has not.

    python tests/benchmarks/sampling.py

The stack is 60 frames deep, in another thread. The first sample of a pause finds out which event of
the reactor led to it, too; here all frames are looked through for one, in vain, which takes most.
The floors: to be given the thread's frame, without which no stack can be had; and to walk from it
to the outermost one, without keeping anything.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from txwatchdog.origin import read_origin
from txwatchdog.records import Sample
from txwatchdog.rings.stacks import read_stack

__all__ = ["FIRST", "FLOOR", "SAMPLE", "WALK", "microseconds"]

DEPTH = 60
SAMPLES = 5000

FLOOR = "`sys._current_frames()` alone"
WALK = "its frames walked"
SAMPLE = "a sample"
FIRST = "a pause's first"


def deep(frames: int, ready: threading.Event, done: threading.Event) -> None:
    """Wait at the inner end of so many calls."""
    if frames > 1:
        deep(frames - 1, ready, done)
    else:
        ready.set()
        done.wait()


def walk(ident: int) -> None:
    """The least that it takes to see all frames."""
    frame: FrameType | None = sys._current_frames()[ident]
    while frame is not None:
        frame = frame.f_back


def sample(ident: int, *, is_first: bool = False) -> Sample:
    """What the watch thread does for a sample."""
    frame = sys._current_frames()[ident]
    origin = read_origin(frame) if is_first else None
    return Sample(1, time.monotonic_ns(), read_stack(frame), "thread", origin=origin)


CALLS: dict[str, Callable[[int], object]] = {
    FLOOR: lambda ident: sys._current_frames()[ident],
    WALK: walk,
    SAMPLE: sample,
    FIRST: lambda ident: sample(ident, is_first=True),
}


@contextmanager
def waiting(depth: int) -> Iterator[int]:
    """A thread that waits, so many frames deep; its number."""
    ready, done = threading.Event(), threading.Event()
    # threading's own calls are frames, too: three before ours, two after.
    thread = threading.Thread(target=deep, args=(depth - 5, ready, done))
    thread.start()
    ready.wait()
    time.sleep(0.1)  # so that it is in its wait
    assert thread.ident is not None
    try:
        yield thread.ident
    finally:
        done.set()
        thread.join()


def microseconds(depth: int, times: int) -> dict[str, list[float]]:
    """How long each call takes, so many times, by turns."""
    took: dict[str, list[float]] = {name: [] for name in CALLS}
    with waiting(depth) as ident:
        assert len(sample(ident).stack) == depth
        for _ in range(times):
            for name, call in CALLS.items():
                began = time.perf_counter_ns()
                call(ident)
                took[name].append((time.perf_counter_ns() - began) / 1e3)
    return took


def main() -> None:
    """Measure, and print a table."""
    print(f"Python {sys.version.split()[0]}: µs for a sample of {DEPTH} frames")
    for name, took in microseconds(DEPTH, SAMPLES).items():
        high = sorted(took)[SAMPLES * 95 // 100]
        print(f"  {name:30} {statistics.median(took):5.1f} median  {high:5.1f} p95")


if __name__ == "__main__":
    main()
