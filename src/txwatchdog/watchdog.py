"""`Watchdog`: the object that operators hold. It puts the rooms together."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from functools import partial
from types import FrameType
from typing import Any, cast

from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger

from txwatchdog.activity import Activity
from txwatchdog.annotating import Notes
from txwatchdog.auditlog import asker, tell
from txwatchdog.blame import Blame, blame, blame_samples, is_operators
from txwatchdog.causes import UNBLAMED, Verdict
from txwatchdog.checks import check_number, checked_count, checked_seconds, nanoseconds
from txwatchdog.detector import Detector
from txwatchdog.errors import Interrupted
from txwatchdog.interrupting import Breaker, Request, asking, objection
from txwatchdog.ledger import ORDERS, RECENT, Ledger
from txwatchdog.logs import log_failure
from txwatchdog.pauselog import PauseLog
from txwatchdog.probe import Probe, Tick, probe_for
from txwatchdog.reactor import ReactorThread, WatchedReactor
from txwatchdog.records import (
    Interruption,
    Live,
    Pause,
    Sample,
    Stack,
    State,
    Status,
    Top,
    Tracebacks,
    iso,
    resolve,
)
from txwatchdog.rings.alarm import CLOCKS, Alarm, Clock
from txwatchdog.rings.blackbox import BlackBox
from txwatchdog.rings.original import OriginalMethod
from txwatchdog.rings.stacks import read_stack
from txwatchdog.rings.thread import WatchThread
from txwatchdog.signals import handlers_of_signals

__all__ = ["Watchdog"]

RINGS = (("thread", "sigalrm"), ("thread",), ("sigalrm",))
"""The combinations of rings that make sense."""

JOIN_SECONDS = 1.0
"""How long `stop` waits for the watch thread, which an observer may hold up."""

INTERRUPT_SECONDS = 1.0
"""How long `interrupt` tries, and waits for the pause's end."""

_log = Logger(namespace="txwatchdog")


class Watchdog:
    """Sees every pause of a reactor, and blames a function for it.

    Every method may be called from any thread, during a pause too.

    Args:
        reactor: the reactor to watch; it may be running already. It must provide IReactorTime
            and IReactorFromThreads too, as every reactor of Twisted's does.
        threshold: seconds; a tick of the reactor that lasts longer is a pause.
        rings: how samples are taken: `("thread", "sigalrm")`, a watch thread with SIGALRM as its
            dead-man's switch; `("thread",)` without; `("sigalrm",)`, the original method by
            itself: a signal that the reactor puts off as long as it turns, and no thread.
        interval: for the original method, the seconds between two puttings-off.
        clock: for the original method, what its timer counts: `real` time, the process's
            `virtual` (user) time, or `prof` (user and system) time. Only pauses that its signal
            falls into are seen: on the latter two a sleeping process is not one.
        blackbox: a file of this process alone that tells its next start, by the log and by
            `status().last_run`, if it died while the reactor was paused, and where. It is made
            when the reactor runs. None: no black box. See `txwatchdog.rings.blackbox`.

    Raises:
        ValueError: an argument is not one of these.
    """

    def __init__(
        self,
        reactor: IReactorCore,
        threshold: float = 0.5,
        *,
        rings: Sequence[str] = ("thread", "sigalrm"),
        interval: float = 0.1,
        clock: Clock = "real",
        blackbox: str | os.PathLike[str] | None = None,
    ) -> None:
        self.reactor = cast(WatchedReactor, reactor)
        self._rings = _checked_rings(rings, clock)
        self._interval = checked_seconds("interval", interval)
        self._clock = clock
        self._threshold = checked_seconds("threshold", threshold)
        self._tick = Tick(nanoseconds(self._threshold), self._over)
        self._detector = Detector(self._tick.limit_ns)
        self._notes = Notes()
        self._ledger = Ledger()
        self._log = PauseLog(time.monotonic_ns)
        self._thread = ReactorThread(self.reactor)
        path = _checked_path(blackbox, self._rings)
        self._box: BlackBox | None = None
        if path is not None:
            self._box = BlackBox(path, lambda: self._threshold, lambda: self._thread.ident)
        # Guards starting and stopping, which people and services do. Never taken by a ring.
        self._switch = threading.RLock()
        self._running = False
        self._starts = 0
        self._probe: Probe | None = None
        self._watch: WatchThread | None = None
        self._original: OriginalMethod | None = None
        # Those whose signal only the main thread can give back.
        self._retired: list[Alarm | Breaker] = []
        self.breaker = Breaker()
        self._undo: list[Callable[[], None]] = []
        # Replaced, never changed, so that a ring can iterate over it while someone subscribes.
        self._subscribing = threading.Lock()
        self._observers: tuple[Callable[[Pause], object], ...] = ()
        self._pauses = 0  # written by the one thread that records pauses
        # Pauses that have ended, recorded or not yet, and the latest one's tick. Written by the
        # reactor's thread, and by whoever starts while none of ours runs.
        self._ended_pauses = 0
        self._ended_ns = 0
        # When the numbers begin: all of a tick's counters only ever grow.
        self._base_busy_ns = self._base_ticks = 0
        self._on_ns = 0  # for how long it has been on since then, without the present spell
        self._on_since_ns = 0

    def __repr__(self) -> str:
        state = "running" if self._running else "stopped"
        return f"<Watchdog {state}, threshold {self._threshold:g} s; see .status()>"

    # -- on and off ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the watchdog looks."""
        return self._running

    def start(self) -> None:
        """Begin to look, before or after the reactor runs. Does nothing if it does already."""
        with self._switch:
            if self._running:
                return
            self._running = True
            self._starts += 1
            self._on_since_ns = time.monotonic_ns()
            self._ended_pauses = self._pauses
            if self._ledger.since is None:
                self._ledger.reset()
            self._tick.since = None
            if self._box is not None:
                self._box.look_back()
            self._probe = probe_for(self.reactor, self._thread, self._tick)
            if "thread" in self._rings:
                self._watch = WatchThread(
                    self._tick,
                    self._detector,
                    lambda: self._thread.ident,
                    self._finish,
                    self._log.flush,
                    notes=self._notes,
                    with_alarm="sigalrm" in self._rings,
                    box=self._box,
                )
            else:
                self._original = OriginalMethod(
                    self.reactor,
                    self._tick,
                    self._detector,
                    self._notes,
                    interval=self._interval,
                    clock=self._clock,
                )
            self._probe.install()
            if self._watch is not None and self.reactor.running:
                # Not by way of the reactor: it may be paused, and that is the time to look.
                self._watch.start()
            # After that: on a busy machine a thread takes its time to start, and is waited for.
            self._join_tick_under_way()
            begin = partial(self._reactor_runs, self._starts)
            self._undo.append(self._thread.when_running(begin))
        _tell("start")

    def start_here(self) -> None:
        """Begin to look at this thread, in which the reactor is going to run.

        For tests: trial calls one first, and has the reactor run only while that waits. What is
        called until then counts as the first tick.
        """
        with self._switch:
            if not self._running and not self.reactor.running:
                self._thread.assume_current()
                self.start()
                if self._watch is not None:
                    self._watch.start()
            self.start()

    def stop(self) -> None:
        """Stop looking, and leave nothing behind. Does nothing if it does not look.

        A pause that is under way is recorded with what it has lasted so far. Where the caller is
        not in the reactor's thread, a signal handler is given back as soon as the reactor turns.
        """
        with self._switch:
            if not self._running:
                return
            self._running = False
            self._on_ns += time.monotonic_ns() - self._on_since_ns
            while self._undo:
                self._undo.pop()()
            breaker, self.breaker = self.breaker, Breaker()
            breaker.disable()
            self._retire(breaker)
            probe, self._probe = self._probe, None
            watch, self._watch = self._watch, None
            original, self._original = self._original, None
            if probe is not None:
                probe.remove()
            if watch is not None:
                watch.stop(JOIN_SECONDS)
                if self._box is not None:
                    self._box.close()
                if watch.alarm is not None:
                    watch.alarm.disarm()
                    self._retire(watch.alarm)
            if original is not None:
                original.alarm.disarm()
                self._thread.soon(original.stop)
                self._retire(original.alarm)
            self._log.flush()
        _tell("stop")

    def _reactor_runs(self, start: int) -> None:
        """The reactor runs: what is bound to its thread can begin. In that thread."""
        with self._switch:
            if not self._running or start != self._starts:
                return  # it was on its way here, or waited for the switch, as we were stopped
            self._remove_retired()
            self.breaker.install()
            trigger = self.reactor.addSystemEventTrigger("after", "shutdown", self.stop)
            self._undo.append(lambda: self._forget_trigger(trigger))
            if self._watch is not None:
                if self._watch.alarm is not None:
                    self._watch.alarm.install()
                if self._watch.state != "on":
                    self._watch.start()
            if self._tick.since is None:
                # No wait that we saw led here: the reactor begins, or waited since before we came.
                # What we did here, waiting for a thread to start, is not the service's.
                self._tick.since = time.monotonic()
            if self._watch is not None:
                self._watch.wake()
            if self._original is not None:
                self._original.start()

    def _retire(self, holder: Alarm | Breaker) -> None:
        """Give its signal back, at the latest when it is wanted again."""
        self._retired.append(holder)
        self._thread.soon(self._remove_retired)

    def _remove_retired(self) -> None:
        # All: the one that holds the signal may be followed by some that never got it.
        while self._retired:
            self._retired.pop().remove()

    def _forget_trigger(self, trigger: Any) -> None:
        try:
            self.reactor.removeSystemEventTrigger(trigger)
        except (KeyError, ValueError):
            pass  # it is what calls us: the reactor has taken it out of its list

    def _join_tick_under_way(self) -> None:
        """If the reactor is busy as we come, its tick counts from now on."""
        ident = self._thread.ident
        if self._thread.is_current:
            self._tick.since = time.monotonic()
        if ident is None or self._thread.is_current or self._is_waiting(ident):
            return
        now = time.monotonic()
        self._tick.since = now
        if self._is_waiting(ident) and self._tick.since == now:
            self._tick.since = None  # it went to wait between our two looks

    def _is_waiting(self, ident: int) -> bool:
        frame = sys._current_frames().get(ident)
        return frame is None or self._probe is None or self._probe.is_waiting(frame)

    # -- breaking a pause ---------------------------------------------------------------------

    def interrupt(self, number: int | None = None, *, confirm: bool = False) -> Interruption:
        """Break the pause under way: raise `Interrupted` in the function that makes it.

        It is raised in the reactor's thread while that very turn of the reactor lasts, in code of
        the application or what that called, never in the reactor's own. Tries for a second. Code
        in C that does not come back to Python can't be broken, nor can what swallows it.

        Args:
            number: the pause's number, as `stack()` and this without arguments tell it.
            confirm: break the one under way, whichever it is. Without either nothing is broken.

        Returns:
            what it broke, would break, or why it did not; prints well.

        Raises:
            ValueError: `number` is not a number.
        """
        check_number(number)
        done = self._interrupt(number, confirm=confirm)
        if confirm or number is not None:
            _tell("interrupt", done.outcome, number=done.number)
        return done

    def _interrupt(self, number: int | None, *, confirm: bool) -> Interruption:
        tick_ns = self._tick.busy_since_ns
        stack = self.stack()
        if stack.number is None or self._tick.busy_since_ns != tick_ns:
            return Interruption("no pause", stack.summary)
        found = partial(
            Interruption,
            number=stack.number,
            seconds=stack.seconds,
            offender=stack.offender,
            via=stack.via,
        )
        if number not in {None, stack.number}:
            return found("no pause", f"pause {number}, which was asked for, is not under way")
        if number is None and not confirm:
            return found("needs confirmation")
        if self._thread.is_current:
            return found("refused", "this is the reactor's thread, in which it was called")
        if (why_off := self.breaker.why_off) is not None:
            return found("refused", why_off)
        return self._break(tick_ns, found)

    def _break(self, tick_ns: int, found: Callable[..., Interruption]) -> Interruption:
        tick, handlers = self._tick, handlers_of_signals()
        who = asking.get() or f"thread {threading.current_thread().name}"
        message = f"{found('interrupted').pause}, was interrupted by {who}"

        def judge(frames: list[FrameType]) -> BaseException | str:
            if tick.busy_since_ns != tick_ns:
                return "it has ended"
            calls = [(frame.f_code.co_name, frame.f_code.co_filename) for frame in frames]
            why_not = objection(calls, is_handler=lambda i: frames[i].f_code in handlers)
            return Interrupted(message) if why_not is None else why_not

        request, breaker = Request(judge), self.breaker
        breaker.post(request)
        try:
            breaker.press(request, INTERRUPT_SECONDS, lambda: tick.busy_since_ns != tick_ns)
        finally:
            raised = not breaker.withdraw(request)
        if tick.busy_since_ns != tick_ns:
            return found("interrupted") if raised else found("no pause", "it ended by itself")
        return found("not yet", request.why_not)

    # -- settings -----------------------------------------------------------------------------

    @property
    def threshold(self) -> float:
        """Seconds; a tick that lasts longer is a pause. In force from the tick under way.

        Setting it to anything but a finite number greater than 0 raises ValueError, and the old
        value stays.
        """
        return self._threshold

    @threshold.setter
    def threshold(self, seconds: float) -> None:
        before, self._threshold = self._threshold, checked_seconds("threshold", seconds)
        self._tick.limit_ns = self._detector.threshold_ns = nanoseconds(self._threshold)
        if (watch := self._watch) is not None:
            watch.wake()
        if self._threshold != before:
            _tell("threshold", old=before, new=self._threshold)

    def on_pause(self, callback: Callable[[Pause], object]) -> Callable[[], None]:
        """Have `callback` called with each finished `Pause`.

        It is called in the watch thread (in the reactor's, with the original method), which can't
        look meanwhile: it should be quick. What it raises is logged, and goes no further.

        Args:
            callback: any callable of one argument.

        Returns:
            a function that unsubscribes it.

        Raises:
            ValueError: it can't be called.
        """
        if not callable(callback):
            raise ValueError(f"callback must be callable with a Pause, not {callback!r}")
        entry = partial(callback)  # an identity of its own, to unsubscribe by
        with self._subscribing:
            self._observers = (*self._observers, entry)

        def unsubscribe() -> None:
            with self._subscribing:
                self._observers = tuple(each for each in self._observers if each is not entry)

        return unsubscribe

    def annotate(self, /, **fields: object) -> AbstractContextManager[None]:
        """Note what the code in a `with` block is about, for the record of a pause in there.

        `with watchdog.annotate(request="GET /x"): ...` puts that on `Pause.annotations`, and so
        on tracebacks, the log and exports. It is a matter of a microsecond, on whether or not the
        watchdog looks, and never raises.

        What holds is what is noted by functions that are on the reactor thread's stack when a
        sample of the pause is taken. So a coroutine's or an `inlineCallbacks` function's note
        holds while it runs, not while it waits and others run; what other threads note never
        does. Nor does it in what is only begun in the block and called by the reactor later: a
        Deferred's callback, a timed call, another task; those have a block of their own. Where
        blocks stand within one another, the inner one's value of a name is kept.

        Args:
            fields: 16 of them are kept on a record, each name cut to 64 characters. Of values text
                and bytes (256 characters), numbers, truth values and None; of anything else its
                type's name. They are looked at when a pause is sampled, and not before.

        Returns:
            a context manager, for one block at a time. It can be entered on behalf of another
            function, by `contextlib`'s tools or an `__enter__`: then it is that one's.
        """
        return self._notes.note(fields)

    def reset(self) -> None:
        """Clear the ledger: counts and pauses begin anew."""
        with self._switch:
            self._ledger.reset()
            self._base_busy_ns = self._tick.busy_ns
            self._base_ticks = self._tick.count
            self._on_ns = 0
            self._on_since_ns = time.monotonic_ns()
        _tell("reset")

    # -- what was seen ------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """The numbers since start or reset, as a plain dict that `json.dumps` takes.

        Returns:
            `pauses`, `paused_seconds`, `threshold` (seconds), `since` (ISO 8601, UTC; None
            before the first start), `ticks`, `causes` (for each its
            `pauses` and `seconds`), and `offenders`, a list of dicts by total time, most
            first (`Offender.as_dict`).
        """
        totals = self._ledger.totals()
        since = self._ledger.since
        return {
            "pauses": totals.pauses,
            "paused_seconds": totals.paused_seconds,
            "threshold": self._threshold,
            "since": iso(since) if since else None,
            "ticks": self._ticks(),
            "causes": {
                cause: {"pauses": count, "seconds": seconds}
                for cause, (count, seconds) in totals.causes.items()
            },
            "offenders": [row.as_dict() for row in totals.offenders],
        }

    def top(self, n: int = 10, by: str = "total") -> Top:
        """The worst offenders.

        Args:
            n: how many rows.
            by: their order: `total`, `count`, `worst` or `recent`.

        Returns:
            the rows, a sequence of `Offender` that prints as a table.

        Raises:
            ValueError: `n` is not a number of rows, or `by` not an order.
        """
        checked_count("n", n)
        if by not in ORDERS:
            raise ValueError(f"by must be one of {', '.join(ORDERS)}, not {by!r}")
        totals = self._ledger.totals()
        rows = sorted(totals.offenders, key=ORDERS[by], reverse=True)[:n]
        hidden = len(totals.offenders) - len(rows)
        unblamed = {cause: spent for cause, spent in totals.causes.items() if cause in UNBLAMED}
        return Top(tuple(rows), by, totals.pauses, totals.paused_seconds, hidden, unblamed)

    def pauses(self, n: int = 10) -> list[Pause]:
        """The latest `n` pauses that have ended, newest first; the last 1,000 are kept.

        Raises:
            ValueError: `n` is not a number of pauses.
        """
        checked_count("n", n)
        return self._ledger.recent(n)

    def tracebacks(self, n: int = 5) -> Tracebacks:
        """The latest `n` pauses' tracebacks, newest first: a list of strings that prints well.

        Raises:
            ValueError: `n` is not a number of pauses.
        """
        return Tracebacks(pause.traceback for pause in self.pauses(n))

    def export(self, format: str) -> str:  # noqa: A002 - the operators' word for it
        """What was seen, for other tools.

        Args:
            format: `collapsed`, the input of flamegraph.pl and inferno, in microseconds: all pauses
                since start or reset; `speedscope`, that tool's file: the same, and each of the
                latest pauses; `json`, everything, as the README documents it; `report`, an HTML
                page to look at, in one file that needs no network.

        Returns:
            the text.

        Raises:
            ValueError: `format` is none of these.
        """
        from txwatchdog.exports import Recording, export  # only when someone asks
        from txwatchdog.process import this_process

        pauses = self._ledger.recent(RECENT)
        totals = self._ledger.totals()
        recording = Recording(
            pauses=tuple(reversed(pauses)),
            offenders=totals.offenders,
            count=totals.pauses,
            paused_seconds=totals.paused_seconds,
            threshold=self._threshold,
            since=self._ledger.since,
            made_at=datetime.now(timezone.utc),
            process=this_process(),
        )
        return export(recording, format)

    def stack(self) -> Stack:
        """Where the reactor is at this moment, and since when."""
        ident = self._thread.ident
        frame = None if ident is None else sys._current_frames().get(ident)
        state, seconds = self._state()
        raw, noted = read_stack(frame), self._notes.of(frame)
        verdict = Blame(None, None) if state == "idle" else blame(raw)
        number = self._number_under_way() if state == "paused" else None
        return Stack(state, seconds, verdict.offender, verdict.via, resolve(raw), number, noted)

    def status(self) -> Status:
        """What the watchdog does, and what it costs."""
        state, seconds = self._state()
        now = self.stack() if state == "paused" else None
        watch = self._watch
        ring = watch or self._original
        return Status(
            running=self._running,
            state=state,
            seconds=seconds,
            threshold=self._threshold,
            probe=self._probe.name if self._probe else "none",
            rings=self._ring_states(),
            utilisation=self._utilisation(),
            ticks=self._ticks(),
            pauses=self._ledger.totals().pauses,
            cpu_seconds=ring.cpu_ns / 1e9 if ring else 0.0,
            wakes=ring.wakes if ring else 0,
            samples=ring.samples if ring else 0,
            lost=watch.lost if watch else 0,
            error=watch.error if watch else None,
            last_run=self._box.last_run if self._box else None,
            offender=now.offender if now else None,
            via=now.via if now else None,
        )

    def activity(self) -> Activity:
        """What the reactor's ticks have come to by now; the difference of two says what between."""
        tick, exact = self._tick, self._probe is not None and self._probe.exact
        while True:
            busy = tick.busy
            _, seconds = self._state()
            buckets = tick.counts()
            if tick.busy == busy:
                break  # else a tick ended as we looked, and its time is in neither of the two
        return Activity(time.monotonic(), busy + seconds if exact else None, seconds, buckets)

    def live(self) -> Live:
        """The full-screen view, in a session of the manhole's that has a terminal."""
        return Live()

    def _state(self) -> tuple[State, float]:
        now_ns = time.monotonic_ns()  # first: what is under way after it was so all the time
        since_ns = self._tick.busy_since_ns
        seconds = (now_ns - since_ns) / 1e9 if since_ns else 0.0
        if not self._running:
            return "off", 0.0
        if seconds <= 0:  # a heartbeat that is not due yet lies ahead
            return "idle", 0.0
        return ("paused" if seconds > self._threshold else "busy"), seconds

    def _ring_states(self) -> dict[str, str]:
        states = dict.fromkeys(("thread", "sigalrm"), "off: not asked for")
        for ring in self._rings:
            states[ring] = "off: the watchdog is stopped"
        if self._watch is not None:
            states["thread"] = self._watch.state
            if self._watch.alarm is not None:
                states["sigalrm"] = self._watch.alarm.state
        if self._original is not None:
            states["sigalrm"] = self._original.alarm.state
        if self._box is not None:
            states["blackbox"] = self._box.state
        return states

    def _ticks(self) -> int:
        return self._tick.count - self._base_ticks

    def _utilisation(self) -> float | None:
        if self._probe is None or not self._probe.exact:
            return None
        now = time.monotonic_ns()
        on_ns = self._on_ns + now - self._on_since_ns
        since_ns = self._tick.busy_since_ns
        busy_ns = self._tick.busy_ns - self._base_busy_ns + (now - since_ns if since_ns else 0)
        return min(1.0, busy_ns / on_ns) if on_ns else 0.0

    # -- what is seen -------------------------------------------------------------------------

    def _over(self, since_ns: int, took_ns: int) -> None:
        """A tick was a pause. The reactor's thread calls it, at the tick's end."""
        if (watch := self._watch) is not None:
            self._ended_ns = since_ns
            self._ended_pauses += watch.over(since_ns, took_ns)
        elif self._original is not None:
            # Without a thread nobody reads the clocks, so the cause stays unknown.
            samples = self._detector.end(since_ns, since_ns + took_ns)
            self._finish(since_ns, samples, took_ns, Verdict())
            self._ended_pauses = self._pauses

    def _number_under_way(self) -> int:
        """The number that the pause under way will have."""
        # Those that wait to be recorded come first; the reactor's thread counts them as they end.
        return self._ended_pauses + (self._ended_ns != self._tick.busy_since_ns)

    def _finish(
        self, since_ns: int, samples: tuple[Sample, ...], took_ns: int, why: Verdict
    ) -> None:
        """Record a pause that has ended. In the watch thread, or the original method's."""
        who, culprit = blame_samples(samples)
        if who.offender is None and not self._counts_unseen():
            # It has had its number, in a heartbeat's case, when it ended.
            self._pauses += self._original is None
            return
        if why.cause in UNBLAMED and not is_operators(who.offender):
            who = Blame(None, None)
        self._pauses += 1
        ago = timedelta(microseconds=(time.monotonic_ns() - since_ns) / 1000)
        pause = Pause(
            number=self._pauses,
            started_at=datetime.now(timezone.utc) - ago,
            duration=took_ns / 1e9,
            offender=who.offender,
            via=who.via,
            samples=samples,
            culprit=culprit,
            cause=why.cause,
            shares=why.shares,
        )
        self._ledger.add(pause)
        for observer in (self._log.pause, *self._observers):
            try:
                observer(pause)
            except BaseException:  # SystemExit, too: it would end the thread that looks
                log_failure(_log, "an observer of pauses failed on {pause}", pause=pause)

    def _counts_unseen(self) -> bool:
        """Whether a tick over the threshold is a pause though no callback was seen in it.

        A heartbeat that is late says only that the process got no CPU; and the original method's
        pauses are those that its signal fell into.
        """
        return self._original is None and self._probe is not None and self._probe.exact


def _tell(what: str, outcome: str = "done", **fields: object) -> None:
    """Tell the audit trail of a change, and who made it."""
    by = None if asker.get() else f"thread {threading.current_thread().name}"
    tell("watchdog", outcome, what=what, **fields, by=by)


def _checked_rings(rings: Sequence[str], clock: str) -> tuple[str, ...]:
    chosen = tuple(rings) if not isinstance(rings, str) else (rings,)
    if chosen not in RINGS:
        raise ValueError(f"rings must be one of {', '.join(map(repr, RINGS))}, not {rings!r}")
    if clock not in CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(CLOCKS)}, not {clock!r}")
    if clock != "real" and "thread" in chosen:
        raise ValueError(
            f"clock={clock!r} goes with rings=('sigalrm',): the watch thread sleeps in real time"
        )
    return chosen


def _checked_path(path: object, rings: tuple[str, ...]) -> str | None:
    if path is None:
        return None
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"blackbox must be the path of a file, not {path!r}")
    if "thread" not in rings:
        raise ValueError("blackbox goes with the watch thread, which writes it: rings='thread'")
    return name
