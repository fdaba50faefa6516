"""The original method by itself: a LoopingCall puts SIGALRM off, and no thread at all.

Every `interval` seconds the pending signal is cancelled and set anew for `threshold` seconds
ahead. If the reactor pauses, nobody puts it off, and its handler takes the sample.
"""

from __future__ import annotations

import time
from types import FrameType
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from txwatchdog.detector import Detector
from txwatchdog.origin import read_origin
from txwatchdog.probe import Tick
from txwatchdog.reactor import WatchedReactor
from txwatchdog.records import Sample
from txwatchdog.rings.alarm import Alarm, Clock
from txwatchdog.rings.stacks import read_stack

__all__ = ["OriginalMethod"]

_log = Logger(namespace="txwatchdog.watch")


class OriginalMethod:
    """SIGALRM, SIGVTALRM or SIGPROF, put off by the reactor for as long as it turns.

    All of it is in the reactor's thread, which must be the main one.

    Args:
        reactor: the reactor.
        tick: what the probe knows: a signal that meets a waiting reactor is no pause.
        detector: keeps the samples.
        interval: seconds between two puttings-off.
        clock: what the timer counts.

    Attributes:
        alarm: the signal and its timer.
        wakes, samples, cpu_ns: what it cost so far: how often it put the signal off, how many
            samples it took, and the CPU time of both. Written by the reactor's thread alone.
    """

    def __init__(
        self,
        reactor: WatchedReactor,
        tick: Tick,
        detector: Detector,
        *,
        interval: float,
        clock: Clock,
    ) -> None:
        self._tick = tick
        self._detector = detector
        self._interval = interval
        self.alarm = Alarm(self._alarmed, clock, interrupts=True)
        self.wakes = self.samples = self.cpu_ns = 0
        self._loop = LoopingCall(self._put_off)
        self._loop.clock = cast(IReactorTime, reactor)

    def start(self) -> None:
        """Begin, if the signal can be had. In the reactor's thread."""
        self.alarm.install()
        if self.alarm.is_on:
            self._loop.start(self._interval).addErrback(
                lambda failure: _log.failure("the alarm is no longer put off", failure)
            )

    def stop(self) -> None:
        """End, leaving nothing behind. In the reactor's thread."""
        if self._loop.running:
            self._loop.stop()
        self.alarm.remove()

    def _put_off(self) -> None:
        began_ns = time.thread_time_ns()
        self.wakes += 1
        self.alarm.disarm()
        self.alarm.arm(self._detector.threshold_ns / 1e9)
        self.cpu_ns += time.thread_time_ns() - began_ns

    def _alarmed(self, frame: FrameType | None) -> None:
        began_ns = time.thread_time_ns()
        tick_ns = self._tick.busy_since_ns
        if tick_ns:
            self._detector.look(time.monotonic_ns(), tick_ns)  # drops what was kept of others
            self.samples += 1
            stack, origin = read_stack(frame), read_origin(frame)
            sample = Sample(tick_ns, time.monotonic_ns(), stack, "sigalrm", origin=origin)
            self._detector.keep(sample)
        self.cpu_ns += time.thread_time_ns() - began_ns
