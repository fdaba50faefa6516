"""What the reactor's ticks have come to, for whoever draws how busy it is. Pure."""

from __future__ import annotations

from attrs import frozen

__all__ = ["SHORT", "Activity"]

SHORT = 20
"""Ticks of less than 2**20 ns, about a millisecond, are not told apart: counting one of them by its
duration would cost a third of all that is done on a tick."""


@frozen
class Activity:
    """What the reactor's ticks have come to; two of these say what happened between them.

    Its sums only ever grow, whatever is reset, stopped and started in between.

    Attributes:
        at: when, in seconds of `time.monotonic`.
        busy_seconds: all ticks' durations, the one under way included; None where the probe
            can't tell.
        tick_seconds: how long the tick under way has lasted; 0 when idle or off.
        buckets: `buckets[n]` counts the ticks that took at least 2**(n-1) and less than 2**n ns;
            `buckets[SHORT]` all shorter ones, too.
    """

    at: float
    busy_seconds: float | None
    tick_seconds: float
    buckets: tuple[int, ...]

    def utilisation_since(self, earlier: Activity) -> float | None:
        """The share of the time since `earlier` that the reactor was busy, 0 to 1."""
        if self.busy_seconds is None or earlier.busy_seconds is None or self.at <= earlier.at:
            return None
        busy = (self.busy_seconds - earlier.busy_seconds) / (self.at - earlier.at)
        return min(1.0, max(0.0, busy))

    def longest_since(self, earlier: Activity) -> float:
        """Seconds that no tick since `earlier` took longer than.

        At most twice too many, or a millisecond if all were shorter.
        """
        ended = (
            number
            for number, (now, before) in enumerate(zip(self.buckets, earlier.buckets, strict=True))
            if now > before
        )
        bucket = max(ended, default=0)
        return max(self.tick_seconds, 2**bucket / 1e9 if bucket else 0.0)
