"""A watchdog that says what a test wants it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from builders import pause, status

from txwatchdog.activity import Activity
from txwatchdog.records import Function, Pause, Stack, Status


@define(slots=False)
class FakeWatchdog:
    """What `measures`, `metrics` and `otel` ask of a watchdog."""

    threshold: float = 0.5
    ended: float = 0.0
    age: float = 0.0
    exact: bool = True
    buckets: list[int] = field(factory=lambda: [0] * 128)
    offender: str | None = "fetch_user"
    running: bool = True
    observers: list[Callable[[Pause], object]] = field(factory=list)
    reactor: Any = None

    def activity(self) -> Activity:
        """Its ticks."""
        busy = self.ended + self.age if self.exact else None
        return Activity(0.0, busy, self.age, tuple(self.buckets))

    def stack(self) -> Stack:
        """Where it is."""
        function = Function(self.offender, "/srv/app/db.py", 41) if self.offender else None
        state: Any = "paused" if self.age > self.threshold else "idle"
        return Stack(state, self.age, function, None, (), 1)

    def status(self) -> Status:
        """What it does."""
        return status(cpu_seconds=0.25, wakes=7, samples=3, lost=2)

    def on_pause(self, callback: Callable[[Pause], object]) -> Callable[[], None]:
        """Have `callback` called."""
        self.observers.append(callback)
        return lambda: self.observers.remove(callback)

    def pauses(self, *pauses: Pause) -> None:
        """These have ended."""
        for each in pauses:
            for observer in self.observers:
                observer(each)

    def paused(self, *functions: str | None, seconds: float = 1.0) -> None:
        """Pauses of so long have ended in these functions."""
        self.pauses(*(pause(function, seconds) for function in functions))
