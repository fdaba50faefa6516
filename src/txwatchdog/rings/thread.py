"""Ring 1, the watch thread, and ring 2, its dead-man's switch.

The thread sleeps until the earliest instant at which the threshold can be crossed, so it wakes
about 1/threshold times a second when all is well, and exactly at the crossing when it is not.
At each wake it sets SIGALRM for a little after its own next wake: the signal comes only if the
thread could not run then, that is when C code holds the GIL.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TypeVar

from attrs import evolve
from twisted.logger import Logger

from txwatchdog.annotating import Notes
from txwatchdog.causes import Journal, Reading, Verdict, judge
from txwatchdog.clocks import GcClock, Lateness, ThreadClocks
from txwatchdog.detector import Detector
from txwatchdog.logs import log_failure
from txwatchdog.origin import read_origin, signal_origin
from txwatchdog.probe import Tick
from txwatchdog.records import Sample
from txwatchdog.rings.alarm import Alarm
from txwatchdog.rings.blackbox import BlackBox
from txwatchdog.rings.stacks import read_stack
from txwatchdog.signals import handlers_of_signals

__all__ = ["WatchThread"]

GRACE_SECONDS = 0.05
"""How much later than the thread's own wake the alarm is set, at least."""

PATIENCE = 4
"""The alarm is set later than the thread's wake by this many times the thread's worst lateness of
late: on a loaded machine a healthy service must not get the signal either. Only the time that it
queued for a CPU counts: C code that held the GIL is what ring 2 is for, and must not make it wait
longer at the next pause."""

GIL_WAIT_NS = 2_000_000
"""A wait for the GIL that is worth speaking of; its switch interval is 5 ms."""

LOOKS = 4
"""A short pause's first sample stands for most of it: so often the thread is looked at then, to
see whether it sleeps. Of one that sleeps for a millisecond at a time a single look tells little."""

LOOK_NS = 1_300_000
"""The time between two such looks; no round number, for what is looked at may well have one."""

SERVED_NS = 1_000_000
"""A thread that slept for no longer than this when we got the GIL got it right before us."""

FORGET = 0.9
"""At each wake the worst lateness of late shrinks to this."""

MAX_WAIT_SECONDS = 3600.0
"""The longest sleep, whatever the threshold."""

STUMBLED_SECONDS = 1.0
"""The longest sleep after a turn that failed."""

WAITING_PAUSES = 4096
"""Ended pauses that can wait for the thread while an observer holds it up."""

_log = Logger(namespace="txwatchdog.watch")
T = TypeVar("T")


class WatchThread:
    """Samples the reactor's thread when a tick crosses the threshold.

    Args:
        tick: what the probe knows.
        detector: decides when to look; this thread's alone, while it runs.
        ident: tells the reactor thread's identifier; None while it is not known.
        ended: called in this thread for each tick that was a pause: its beginning in ns, its
            samples, its duration in ns, and where its time went.
        wakes_up: called in this thread at each wake, after all that.
        notes: what the code on a stack says of itself.
        with_alarm: whether ring 2 is wanted.
        box: ring 3; None if it is not wanted.
        frames: all threads' innermost frames by identifier; `sys._current_frames`.

    Attributes:
        alarm: ring 2; None if it is not wanted.
        wakes, samples, cpu_ns: this thread's cost so far. Written by it alone.
        lost: pauses that could not wait any longer. Written by the reactor's thread alone.
        error: what last went wrong in here, in a line; None if nothing did.
    """

    def __init__(
        self,
        tick: Tick,
        detector: Detector,
        ident: Callable[[], int | None],
        ended: Callable[[int, tuple[Sample, ...], int, Verdict], None],
        wakes_up: Callable[[], None],
        *,
        notes: Notes,
        with_alarm: bool,
        box: BlackBox | None = None,
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,
    ) -> None:
        self._tick = tick
        self._detector = detector
        self._ident = ident
        self._ended = ended
        self._wakes_up = wakes_up
        self._notes = notes
        self._frames = frames
        self.alarm = Alarm(self._alarmed, "real", interrupts=False) if with_alarm else None
        self._box = box
        self.wakes = self.samples = self.cpu_ns = self.lost = 0
        self.error: str | None = None
        # A lock used as a wake-up token, never as a lock: releasing it can't block, so the
        # reactor's thread and signal handlers may. (threading.Event holds a real lock inside.)
        self._token = threading.Lock()
        self._token.acquire()
        self._stopping = False  # written by whoever stops, read by the thread
        # Appended to by the reactor's thread and emptied by this one.
        self._over: deque[tuple[int, int, int]] = deque()
        self._alarm_samples: deque[Sample] = deque(maxlen=64)
        # Made as soon as it is known which thread's they are: by whoever starts this one, so that
        # the very first tick has a reading from its beginning, or else by this one.
        self._clocks: ThreadClocks | None = None
        self._lateness: Lateness | None = None
        self._collector = GcClock()
        self._journal = Journal()
        self._still: Reading | None = None  # the latest, if the reactor waited then
        self._worst_late_ns = 0.0
        self._gil_waited_ns = 0  # at the latest wake
        self._due_ns = 0
        self._explained_ns = 0  # up to when it is known why this thread was late
        self._sampled_ns = 0  # the tick that the latest sample is of
        self._thread: threading.Thread | None = None
        self._why_off: str | None = "the reactor does not run yet"

    @property
    def state(self) -> str:
        """`on`, or `off` and why."""
        if self._why_off is not None:
            return f"off: {self._why_off}"
        return "on" if self._thread is not None and self._thread.is_alive() else "off: dead"

    def start(self) -> None:
        """Start the thread; `state` says whether that could be done."""
        self._collector.start()
        try:
            self._note_clocks(self._tick.busy_since_ns, is_pause=False)
        except Exception:
            _log.failure("the clocks can't be read; the watch thread will try again")
        # Made here, not earlier: the service may have forked since, to become a daemon.
        thread = threading.Thread(target=self._run, name="txwatchdog", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as problem:  # the process's limit of threads
            self._collector.stop()
            self._why_off = str(problem) or repr(problem)
            _log.error("the watch thread is off: {reason}; the service goes on", reason=problem)
        else:
            self._thread, self._why_off = thread, None

    def stop(self, seconds: float) -> None:
        """Have the thread end, and wait for that as long as `seconds`. Any thread, this one too."""
        self._stopping = True
        self._collector.stop()
        self.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)
        if self._thread is None or not self._thread.is_alive():
            self._close_clocks()  # it never started, or died without

    def wake(self) -> None:
        """Have the thread look again now. Any thread, and signal handlers; never blocks."""
        try:
            self._token.release()
        except RuntimeError:
            pass  # a wake-up is already under way

    def over(self, since_ns: int, took_ns: int) -> bool:
        """A tick was a pause. The reactor's thread calls it, at the tick's end.

        Returns:
            whether it will be recorded: not if too many wait for that.
        """
        kept = len(self._over) < WAITING_PAUSES
        if kept:
            self._over.append((since_ns, took_ns, self._tick.busy_ns))
        else:
            self.lost += 1
        self.wake()
        return kept

    def _run(self) -> None:
        if self._box is not None:
            self._guard(self._box.begin)
        while not self._stopping:
            self._guard(self._turn_and_sleep)
        self._guard(self._collect)
        self._guard(self._close_tick_under_way)
        self._close_clocks()

    def _close_clocks(self) -> None:
        """Close their files, once no thread reads them any more. May be repeated."""
        for clocks in (self._lateness, self._clocks):
            if clocks is not None:
                with contextlib.suppress(OSError):
                    clocks.close()

    def _turn_and_sleep(self) -> None:
        wait_ns = self._guard(self._turn)
        self.wakes += 1
        self.cpu_ns = time.thread_time_ns()
        if wait_ns is None:
            self._due_ns = self._explained_ns = 0  # it sleeps on purpose, and is not late after it
            seconds = min(max(self._detector.threshold_ns / 1e9, GRACE_SECONDS), STUMBLED_SECONDS)
        else:
            seconds = min(max(wait_ns / 1e9, 0.0), MAX_WAIT_SECONDS)
        self._token.acquire(timeout=seconds)

    def _guard(self, call: Callable[[], T]) -> T | None:
        """Call `call`. What it raises is told once, and ends nothing. Returns: None if it did."""
        try:
            return call()
        except BaseException as problem:  # SystemExit, too: it would end the thread in silence
            is_first, self.error = self.error is None, f"watch thread: {problem!r}"
            if is_first:
                log_failure(_log, "the watch thread stumbled, and goes on")
            return None

    def _turn(self) -> int:
        """Look once. Returns: how long to sleep, in ns."""
        self._notice_lateness(time.monotonic_ns())
        # First this, then `_collect`: a tick's end is announced before it stops being the one
        # under way, so the end of every earlier tick is entered before its samples are dropped.
        busy_since_ns = self._tick.busy_since_ns
        self._collect()
        look = self._detector.look(time.monotonic_ns(), busy_since_ns)
        if look.sample:
            self._sample(busy_since_ns)
        self._note_clocks(busy_since_ns, is_pause=look.sample)
        self._due_ns = look.wake_at_ns
        wait_ns = look.wake_at_ns - time.monotonic_ns()
        if self.alarm is not None:
            grace = max(GRACE_SECONDS, PATIENCE * self._worst_late_ns / 1e9)
            self.alarm.arm(min(max(wait_ns, 0) / 1e9 + grace, MAX_WAIT_SECONDS))
        if self._box is not None:
            self._box.turn(busy_since_ns, min(wait_ns / 1e9, MAX_WAIT_SECONDS))
        self._wakes_up()
        return wait_ns

    def _notice_lateness(self, now_ns: int) -> None:
        # A look may have come back after the time that its turn had set for the next.
        due_ns = max(self._due_ns, self._explained_ns)
        queued_ns, self._gil_waited_ns = self._explain(now_ns - due_ns if due_ns else 0)
        self._worst_late_ns = max(queued_ns, self._worst_late_ns * FORGET)

    def _explain(self, late_ns: int) -> tuple[int, int]:
        if self._lateness is None:
            self._lateness = Lateness()  # here, for it is about the thread that makes it
        self._explained_ns = time.monotonic_ns()
        return self._lateness.woke(max(0, late_ns))

    def _note_clocks(self, tick_ns: int, *, is_pause: bool) -> None:
        if self._tick.busy_since_ns != tick_ns:
            # The reactor went on during this turn, which gives the GIL up to read files: now would
            # be within the next tick, or after the end of one that is not entered yet.
            return
        if (reading := self._read_clocks()) is not None:
            self._journal.note(reading, tick_ns, is_pause=is_pause)

    def _read_clocks(self, *, anew: bool = False) -> Reading | None:
        if self._clocks is None:
            ident = self._ident()
            if ident is None:
                return None
            self._clocks = ThreadClocks(ident, self._collector)
        tick = self._tick
        since_ns = tick.busy_since_ns
        now = time.monotonic_ns()
        busy_ns = tick.busy_ns + (max(0, now - since_ns) if since_ns else 0)
        suspended_ns = self._lateness.suspended_ns if self._lateness else 0
        still = self._still
        if anew or since_ns or (still is not None and still.busy_ns != busy_ns):
            still = None
        reading = self._clocks.read(busy_ns, suspended_ns, still)
        self._still = None if since_ns else reading
        return reading

    def _sample(self, tick_ns: int) -> None:
        frame = self._frames().get(self._ident() or 0)
        at_ns = time.monotonic_ns()
        if frame is None:
            return
        stack, annotations = read_stack(frame), self._notes.of(frame)
        if self._tick.busy_since_ns != tick_ns:
            return  # the tick ended meanwhile: whatever this is, it is not of the pause
        self.samples += 1
        is_first = tick_ns != self._sampled_ns
        self._sampled_ns = tick_ns
        origin = read_origin(frame) if is_first else None
        sample = Sample(tick_ns, at_ns, stack, "thread", origin=origin, annotations=annotations)
        if self._box is not None:
            self._box.paused(sample)
        asleep = self._look_asleep(tick_ns, LOOKS if is_first else 1)
        self._detector.keep(evolve(sample, asleep=asleep))

    def _look_asleep(self, tick_ns: int, looks: int) -> float | None:
        """The share of so many looks that find the reactor's thread asleep; None: not known."""
        found: list[bool] = []
        gil_waited_ns = self._gil_waited_ns
        while self._clocks is not None and (asleep := self._clocks.is_asleep()) is not None:
            if found and self._tick.busy_since_ns != tick_ns:
                break  # the tick has ended
            found.append(asleep and not (gil_waited_ns > GIL_WAIT_NS and self._was_served_first()))
            if len(found) == looks:
                break
            due_ns = time.monotonic_ns() + LOOK_NS
            time.sleep(LOOK_NS / 1e9)
            _, gil_waited_ns = self._explain(time.monotonic_ns() - due_ns)
        return sum(found) / len(found) if found else None

    def _was_served_first(self) -> bool:
        """Whether the reactor's thread, asleep now, had the GIL right before this one got it.

        Who waits longest for the GIL is served first: a thread that hardly does anything but wait
        for it is always found asleep, right after it was served.
        """
        assert self._clocks is not None  # they found it asleep
        assert self._lateness is not None  # and this, that the GIL was waited for
        theirs, ours = self._clocks.ran_at_ns(), self._lateness.ran_at_ns()
        return theirs is not None and ours is not None and theirs > ours - SERVED_NS

    def _collect(self) -> None:
        self._keep_alarm_samples()
        while self._over:
            since_ns, took_ns, busy_before_ns = self._over.popleft()
            self._keep_alarm_samples()  # an observer may have held this thread up meanwhile
            self._end(since_ns, took_ns, busy_before_ns)

    def _keep_alarm_samples(self) -> None:
        while self._alarm_samples:
            self.samples += 1
            self._detector.keep(self._alarm_samples.popleft())

    def _end(self, since_ns: int, took_ns: int, busy_before_ns: int) -> None:
        readings = self._journal.of(since_ns)
        # Anew: for a moment a tick that has ended is not in `busy_ns` yet.
        if (after := self._read_clocks(anew=True)) is not None:
            readings.append(after)
        samples = _with_signal(self._detector.end(since_ns, since_ns + took_ns))
        asleep = [(sample.asleep, sample.seconds) for sample in samples]
        if not asleep and self._gil_waited_ns > GIL_WAIT_NS:
            # It ended before this thread got the GIL, so it was about the GIL.
            asleep = [(0.0, took_ns / 1e9)]
        verdict = judge(
            readings,
            began_ns=since_ns,
            took_ns=took_ns,
            busy_before_ns=busy_before_ns,
            asleep=asleep,
        )
        self._ended(since_ns, samples, took_ns, verdict)

    def _close_tick_under_way(self) -> None:
        """Record a pause that is under way, as far as it got."""
        tick = self._tick
        since_ns, now = tick.busy_since_ns, time.monotonic_ns()
        if since_ns and now - since_ns > tick.limit_ns:
            self._end(since_ns, now - since_ns, tick.busy_ns)

    def _alarmed(self, frame: FrameType | None) -> None:
        """SIGALRM: the thread did not wake when it meant to. In the main thread, the reactor's."""
        assert self.alarm is not None  # which calls this
        tick = self._tick
        tick_ns = tick.busy_since_ns
        now = time.monotonic_ns()
        early_ns = tick_ns + tick.limit_ns - now if tick_ns else tick.limit_ns
        # As long as the thread does not come back to set it, the alarm stands in for it.
        # In a long pause at growing distances, or else its first samples would have to make room.
        wait_ns = early_ns if early_ns > 0 else max(tick.limit_ns, (now - tick_ns) // 2)
        self.alarm.arm(min(max(wait_ns / 1e9, GRACE_SECONDS), MAX_WAIT_SECONDS))
        if early_ns <= 0:  # else C code has held the GIL since before the thread knew of this tick
            stack, origin = read_stack(frame), read_origin(frame)
            noted = self._notes.of(frame)
            self._alarm_samples.append(
                Sample(tick_ns, now, stack, "sigalrm", origin=origin, annotations=noted)
            )
        # A C library without sem_clockwait(3) has it sleep by the clock of the day, which may have
        # been set back.
        self.wake()


def _with_signal(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """`samples`, the first of which says so if most of them were taken in a signal's handler."""
    handlers = handlers_of_signals()
    found = [(signal_origin(each.stack, handlers), each.seconds) for each in samples]
    broken_into = [(origin, seconds) for origin, seconds in found if origin is not None]
    if sum(seconds for _, seconds in broken_into) <= sum(s for _, s in found) / 2:
        return samples
    return (evolve(samples[0], origin=broken_into[0][0]), *samples[1:])
