"""Each pause as an event of `twisted.logger`, at a bounded rate."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from txwatchdog.records import Pause, annotations_text, blame_fields, iso

__all__ = ["BURST", "PauseLog", "RateLimit"]

BURST = 10
"""Events that may come at once, after a quiet time."""

REFILL_SECONDS = 1.0
"""One more may come each time that this has passed."""


class RateLimit:
    """A token bucket, fed with times. Pure.

    Args:
        burst: how many may pass at once.
        refill_ns: one more may pass each time that this has passed.
    """

    def __init__(self, burst: int, refill_ns: int) -> None:
        self._burst = burst
        self._refill_ns = refill_ns
        self._full_at_ns = 0

    def allows(self, now_ns: int) -> bool:
        """Whether one may pass at `now_ns`; if so, it has."""
        start_ns = max(self._full_at_ns, now_ns)
        if start_ns + self._refill_ns > now_ns + self._burst * self._refill_ns:
            return False
        self._full_at_ns = start_ns + self._refill_ns
        return True


class PauseLog:
    """Logs pauses: `txwatchdog.pause`, level warn, with the pause's fields.

    Args:
        clock: the time in ns; `time.monotonic_ns`.
        log: where to.
    """

    def __init__(self, clock: Callable[[], int], log: Logger | None = None) -> None:
        self._clock = clock
        self._log = log or Logger(namespace="txwatchdog.pause")
        self._limit = RateLimit(BURST, int(REFILL_SECONDS * 1e9))
        self._left_out = 0

    def pause(self, pause: Pause) -> None:
        """Log `pause`, or count it as left out. The thread that records pauses calls it.

        The event has the pause itself as `pause`, so an observer can have its traceback: it is
        not made here, because that reads source files.
        """
        if not self._limit.allows(self._clock()):
            self._left_out += 1
            return
        self._log.warn(
            "{summary}{annotated}{also}",
            summary=pause.summary,
            annotated=f" [{annotations_text(pause.annotations)}]" if pause.annotations else "",
            also=f" ({self._left_out} more pauses not logged)" if self._left_out else "",
            left_out=self._left_out,
            number=pause.number,
            duration=pause.duration,
            started_at=iso(pause.started_at),
            **blame_fields(pause.offender, pause.via),
            cause=pause.cause,
            shares=dict(pause.shares),
            annotations=dict(pause.annotations),
            pause=pause,
        )
        self._left_out = 0

    def flush(self) -> None:
        """Log the count of those left out, once the rate allows it."""
        if self._left_out and self._limit.allows(self._clock()):
            self._log.warn("{left_out} more pauses not logged", left_out=self._left_out)
            self._left_out = 0
