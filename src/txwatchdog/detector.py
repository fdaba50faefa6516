"""When to look, and what ended: the decisions of the watch thread, fed with times.

Pure: no thread, no clock, no Twisted. Times are integers in the clock of `time.monotonic_ns`.
"""

from __future__ import annotations

from itertools import pairwise

from attrs import evolve, frozen

from txwatchdog.records import Sample

__all__ = ["GROWTH", "MAX_SAMPLES", "Detector", "Look"]

GROWTH = 1.15
"""Each sample of a pause is taken when the pause is this many times as old as at the one before,
so a pause of 120 thresholds costs 35 samples, and one of a day at a threshold of 0.5 s 87."""

MIN_GAP_NS = 10_000_000
"""No two samples are taken closer together than this, however low the threshold."""

MAX_SAMPLES = 128
"""The most that is kept of one pause; the growing distances reach it after a year."""


@frozen
class Look:
    """What the caller must do next.

    Attributes:
        sample: take a sample now, and hand it to `Detector.keep`.
        wake_at_ns: call `Detector.look` again then, or earlier if something changes.
    """

    sample: bool
    wake_at_ns: int


class Detector:
    """Follows one tick at a time, and keeps the samples of a pause until it ends.

    One thread at a time may call it: the watch thread, or, in the original method, the reactor's.

    Attributes:
        threshold_ns: a tick that lasts longer is a pause. May be set at any time.
    """

    def __init__(self, threshold_ns: int) -> None:
        self.threshold_ns = threshold_ns
        self._tick_ns = 0
        self._next_ns = 0
        self._samples: list[Sample] = []

    def look(self, now_ns: int, busy_since_ns: int) -> Look:
        """Decide what to do at `now_ns`, with the tick under way begun at `busy_since_ns`.

        Call `end` for ticks that have ended before: what was kept of them is forgotten here.

        Args:
            now_ns: the time.
            busy_since_ns: when the tick under way began; 0 while the reactor waits.

        Returns:
            whether to sample now, and when to look next.
        """
        if busy_since_ns != self._tick_ns:
            self._tick_ns = busy_since_ns
            self._next_ns = 0
            self._samples = [s for s in self._samples if s.tick_ns == busy_since_ns]
        if not busy_since_ns:
            return Look(sample=False, wake_at_ns=now_ns + self.threshold_ns)
        crossing_ns = busy_since_ns + self.threshold_ns
        if now_ns < crossing_ns:
            return Look(sample=False, wake_at_ns=crossing_ns)
        if now_ns < self._next_ns:
            return Look(sample=False, wake_at_ns=self._next_ns)
        gap_ns = max(MIN_GAP_NS, int((now_ns - busy_since_ns) * (GROWTH - 1)))
        self._next_ns = now_ns + gap_ns
        return Look(sample=len(self._samples) < MAX_SAMPLES, wake_at_ns=self._next_ns)

    def keep(self, sample: Sample) -> None:
        """Keep `sample` until its tick ends. What equals that of the one before is kept once."""
        if len(self._samples) >= MAX_SAMPLES:
            return
        if self._samples:
            before = self._samples[-1]
            if before.stack == sample.stack:
                sample = evolve(sample, stack=before.stack)
            if before.annotations == sample.annotations:
                sample = evolve(sample, annotations=before.annotations)
        self._samples.append(sample)

    def end(self, tick_ns: int, ended_ns: int) -> tuple[Sample, ...]:
        """The tick that began at `tick_ns` was a pause, and ended at `ended_ns`.

        Returns:
            its samples, earliest first, each with the time that it stands for: half the way to
            its neighbours, the first from the beginning, the last to the end. Their sum is the
            pause's duration.
        """
        own = sorted((s for s in self._samples if s.tick_ns == tick_ns), key=lambda s: s.at_ns)
        self._samples = [s for s in self._samples if s.tick_ns > tick_ns]
        return weigh(own, tick_ns, ended_ns)


def weigh(samples: list[Sample], began_ns: int, ended_ns: int) -> tuple[Sample, ...]:
    """`samples`, earliest first, each with the seconds of the pause that it stands for."""
    # A sample can be taken just after the end: between the reading of the clock and the flag.
    at = [min(s.at_ns, ended_ns) for s in samples]
    bounds = [began_ns, *((a + b) // 2 for a, b in pairwise(at)), ended_ns]
    return tuple(
        evolve(sample, seconds=(right - left) / 1e9)
        for sample, (left, right) in zip(samples, pairwise(bounds), strict=False)
    )
