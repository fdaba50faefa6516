"""Where a pause's time went: readings of the clocks -> shares and a cause. Pure.

Nothing here is guessed. What the clocks say is added up; what they leave open (the reactor's
thread was not on a CPU and not waiting for one: did it sleep, or wait for the GIL?) is settled by
what the samples caught it doing; and where that could not be read, it stays `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from attrs import field, frozen

__all__ = ["CAUSES", "UNBLAMED", "Journal", "Reading", "Verdict", "judge"]

CAUSES = ("cpu", "blocked", "gil", "starved", "gc", "suspended", "unknown")
"""All causes: the reactor's thread computed; slept in the kernel; waited for the GIL that another
thread held; was runnable and got no CPU; collected garbage; the whole process stood still; the
clocks don't tell."""

UNBLAMED: frozenset[str] = frozenset({"starved", "suspended"})
"""Causes that are no function's fault."""

IDLE_SHARE = 0.05
"""If the process's other threads computed for less than this share of the time that the clocks
leave open, nobody can have held the GIL against the reactor: it slept."""


MISSED_SHARE = 0.1
"""The first reading may come later than the pause by this share of it, not more."""


@frozen
class Reading:
    """The clocks at one instant; each but `at_ns` only grows, and is None if unknown.

    Attributes:
        at_ns: when, in the clock of `time.monotonic_ns`.
        cpu_ns: CPU time of the reactor's thread.
        process_ns: CPU time of the whole process.
        queued_ns: for how long the reactor's thread was runnable and waited for a CPU.
        gc_ns: for how long the collector has run in the reactor's thread.
        suspended_ns: for how long the whole process has stood still.
        busy_ns: for how long the reactor has been busy, the tick under way included.
    """

    at_ns: int
    cpu_ns: int | None = None
    process_ns: int | None = None
    queued_ns: int | None = None
    gc_ns: int = 0
    suspended_ns: int = 0
    busy_ns: int = 0


@frozen
class Verdict:
    """Where a pause's time went.

    Attributes:
        cause: the one that took most of it.
        shares: for each cause that took some, the fraction; they sum to 1.
    """

    cause: str = "unknown"
    shares: Mapping[str, float] = field(factory=lambda: {"unknown": 1.0})


@frozen
class _Spent:
    """What the clocks counted during a pause, in ns; None if unknown."""

    cpu: int | None
    process: int | None
    queued: int | None
    gc: int
    suspended: int


def judge(
    readings: Sequence[Reading],
    *,
    began_ns: int,
    took_ns: int,
    busy_before_ns: int,
    asleep: Sequence[tuple[float | None, float]],
) -> Verdict:
    """Say where a pause's time went.

    Args:
        readings: the latest from before the pause, any from within it, the first from after it.
        began_ns: when the pause began.
        took_ns: how long it lasted.
        busy_before_ns: for how long the reactor had been busy before the pause began. What else
            it did since the first reading is thus known to the nanosecond.
        asleep: for each sample the share of the looks that found the reactor's thread in a system
            call that sleeps (None if that could not be read), and the time that it stands for.

    Returns:
        the shares, and the cause with the largest.
    """
    if len(readings) < 2 or readings[0].at_ns > began_ns + MISSED_SHARE * took_ns:
        return Verdict()
    spent = _spent(readings, took_ns, busy_before_ns)
    left = took_ns
    shares: dict[str, int] = {}

    def charge(cause: str, ns: int) -> None:
        nonlocal left
        taken = min(max(ns, 0), left)
        left -= taken
        if taken:
            shares[cause] = shares.get(cause, 0) + taken

    charge("suspended", spent.suspended)
    if spent.cpu is not None:
        collected = min(spent.gc, spent.cpu)
        charge("gc", collected)
        charge("cpu", spent.cpu - collected)
        if spent.queued is not None and spent.process is not None:
            charge("starved", spent.queued)
            others = spent.process - spent.cpu
            slept = _slept(left, others, asleep)
            if slept is not None:
                charge("blocked", min(left, round(slept * took_ns)))
                charge("gil", min(left, others))
                charge("blocked", left)  # nobody ran who could have held the GIL
    charge("unknown", left)
    fractions = {cause: shares[cause] / took_ns for cause in CAUSES if cause in shares}
    return Verdict(max(shares, key=lambda cause: shares[cause]), fractions)


def _slept(
    left_ns: int, others_ns: int, asleep: Sequence[tuple[float | None, float]]
) -> float | None:
    """The fraction of the pause in which the thread slept; None if that is not known."""
    if others_ns < IDLE_SHARE * left_ns:
        return 1.0
    known = [(share, seconds) for share, seconds in asleep if share is not None]
    total = sum(seconds for _, seconds in known)
    return sum(share * seconds for share, seconds in known) / total if total else None


def _spent(readings: Sequence[Reading], took_ns: int, busy_before_ns: int) -> _Spent:
    """What the clocks counted during the pause.

    The first interval begins before it. What they counted in it is divided between the pause and
    what the reactor did before, by how long each lasted.
    """
    first, second, last = readings[0], readings[1], readings[-1]
    earlier_ns = max(0, busy_before_ns - first.busy_ns)
    within_ns = max(1, took_ns if second is last else took_ns - (last.at_ns - second.at_ns))
    part = within_ns / (within_ns + earlier_ns)

    def count(clock: Callable[[Reading], int | None]) -> int | None:
        a, b, c = clock(first), clock(second), clock(last)
        if a is None or b is None or c is None:
            return None
        return max(0, round((b - a) * part) + c - b)

    return _Spent(
        cpu=count(attrgetter("cpu_ns")),
        process=count(attrgetter("process_ns")),
        queued=count(attrgetter("queued_ns")),
        gc=count(attrgetter("gc_ns")) or 0,
        suspended=last.suspended_ns - first.suspended_ns,
    )


class Journal:
    """Keeps the readings that a pause will be judged by. The watch thread's alone."""

    def __init__(self) -> None:
        self._tick_ns = 0
        self._before: Reading | None = None
        self._within: Reading | None = None
        self._last: Reading | None = None

    def note(self, reading: Reading, tick_ns: int, *, is_pause: bool) -> None:
        """Keep `reading`.

        Args:
            reading: the clocks, now.
            tick_ns: when the tick under way began; 0 while the reactor waits.
            is_pause: whether that tick is a pause already.
        """
        if tick_ns != self._tick_ns:
            # The very first reading has none before it, and is as near as can be.
            self._tick_ns, self._before, self._within = tick_ns, self._last or reading, None
        if is_pause and self._within is None:
            self._within = reading
        self._last = reading

    def of(self, tick_ns: int) -> list[Reading]:
        """The readings from before the tick that began at `tick_ns`, and from within it.

        If nobody looked while it lasted, the last one from before it.
        """
        pair = (self._before, self._within) if tick_ns == self._tick_ns else (self._last,)
        return [reading for reading in pair if reading is not None]
