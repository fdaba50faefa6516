"""How much work fills a second, on this machine, today."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Paced"]

# A first run this long (in seconds) measures well enough, and is no pause.
_WARM_UP = 0.03
# How much of an earlier, faster rate is kept. A run beside others on a busy core is slow; believing
# it would make the next pause too short to be one.
_KEPT = 0.9


class Paced:
    """Makes work that is counted in units last about as many seconds as it is asked to.

    It learns from every run. Called in the reactor's thread only.

    Args:
        work: Does so many units, and says what came of it. It computes.
        clock: Seconds that only ever grow: of CPU, so that a wait for one does not count.
    """

    def __init__(
        self, work: Callable[[int], str], clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._work = work
        self._clock = clock
        self._units_per_second = 0.0

    def warm_up(self) -> None:
        """Measure with runs that double until one is long enough to tell, then twice more.

        The fastest counts: another process may have had the CPU meanwhile.
        """
        units = 1
        while self._measured(units)[1] < _WARM_UP:
            units *= 2
        for _again in range(2):
            self._measured(units)

    def __call__(self, seconds: float) -> str:
        """Work for about `seconds`, and return what came of it."""
        if not self._units_per_second:
            self.warm_up()
        return self._measured(max(1, round(seconds * self._units_per_second)))[0]

    def _measured(self, units: int) -> tuple[str, float]:
        began = self._clock()
        outcome = self._work(units)
        seconds = self._clock() - began
        if seconds >= _WARM_UP:
            self._units_per_second = max(self._units_per_second * _KEPT, units / seconds)
        return outcome, seconds
