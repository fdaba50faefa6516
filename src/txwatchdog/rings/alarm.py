"""A signal of a timer of the process, taken only if nobody else has it."""

from __future__ import annotations

import atexit
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Literal, TypeAlias

__all__ = ["CLOCKS", "Alarm", "Clock", "described"]

Clock: TypeAlias = Literal["real", "virtual", "prof"]

CLOCKS: dict[str, tuple[int, signal.Signals]] = {
    "real": (signal.ITIMER_REAL, signal.SIGALRM),
    "virtual": (signal.ITIMER_VIRTUAL, signal.SIGVTALRM),
    "prof": (signal.ITIMER_PROF, signal.SIGPROF),
}
"""What a timer counts -> which timer, and its signal: wall time, the process's time in user
mode, its time in user mode and in the kernel (setitimer(2))."""


SAME_SECONDS = 0.01
"""A timer that has as long to go as the one that we set, give or take this, is the same."""


class Alarm:
    """The timer and signal that a ring uses.

    Args:
        fired: called in the main thread, with the frame that the signal met, when time is up.
        clock: which timer; a key of `CLOCKS`.
        interrupts: whether a system call is cut short by the signal, so that `fired` is called
            at once, or is resumed by the kernel where it can be, so that nothing is disturbed.

    """

    def __init__(
        self, fired: Callable[[FrameType | None], None], clock: Clock, *, interrupts: bool
    ) -> None:
        self._fired = fired
        self._timer, self._signal = CLOCKS[clock]
        self._interrupts = interrupts
        self._ours = self._on_signal  # one bound method, so that it can be recognised
        self._installed = False
        self._why_off = "off: the reactor does not run yet"
        self._due = 0.0  # when the timer that we set ends, by time.monotonic()

    @property
    def is_on(self) -> bool:
        """Whether the signal is ours. Someone may take it for a while, and give it back."""
        return self._installed and signal.getsignal(self._signal) == self._ours

    @property
    def state(self) -> str:
        """`on`, or `off` and why."""
        if self.is_on:
            return "on"
        if self._installed:
            return f"off: {self._signal.name} has been taken by someone else"
        return self._why_off

    def install(self) -> None:
        """Take the signal, unless it is someone else's; `state` says. In the reactor's thread."""
        name = self._signal.name
        if threading.current_thread() is not threading.main_thread():
            self._why_off = (
                "off: signals reach the main thread only, and the reactor runs elsewhere"
            )
        elif (holder := signal.getsignal(self._signal)) is not signal.SIG_DFL:
            self._why_off = f"off: {name} has a handler already, {described(holder)}"
        elif signal.getitimer(self._timer)[0]:
            self._why_off = f"off: the timer of {name} is already running"
        else:
            signal.signal(self._signal, self._ours)
            signal.siginterrupt(self._signal, self._interrupts)
            self._installed = True
            # Python gives signals back as it ends, with the watch thread frozen already: an alarm
            # that came then would kill a process that only took its time to exit.
            atexit.register(self.remove)

    def arm(self, seconds: float) -> None:
        """Have `fired` called in `seconds`, instead of when it was due before. Any thread."""
        if not self.is_on:
            self._take_timer_back()
            return
        seconds = max(seconds, 1e-6)
        self._due = time.monotonic() + seconds
        signal.setitimer(self._timer, seconds)
        if not self.is_on:  # given back in another thread meanwhile: without us it would kill
            self._take_timer_back()

    def disarm(self) -> None:
        """Have `fired` not called. Any thread."""
        if self.is_on:
            signal.setitimer(self._timer, 0)
        else:
            self._take_timer_back()
        self._due = 0.0

    def remove(self) -> None:
        """Give the signal back, if it is still ours. In the main thread."""
        atexit.unregister(self.remove)
        self.disarm()
        if self.is_on:
            signal.signal(self._signal, signal.SIG_DFL)
        self._installed = False
        self._why_off = "off: the watchdog is stopped"

    def _take_timer_back(self) -> None:
        """Whoever took the signal must not get our alarm; a timer that they set is theirs."""
        left = signal.getitimer(self._timer)[0]
        if left and self._due and abs(self._due - time.monotonic() - left) < SAME_SECONDS:
            signal.setitimer(self._timer, 0)
        self._due = 0.0

    def _on_signal(self, _signal: int, frame: FrameType | None) -> None:
        try:
            self._fired(frame)
        except Exception:  # noqa: S110
            # Most likely the service is at its recursion limit, and there is no room for us: it
            # must not get an exception of ours, and there is nobody else to tell.
            pass


def described(handler: object) -> str:
    """What stands where a signal's handler of ours would: for a sentence that says so."""
    if handler is signal.SIG_IGN:
        return "it is ignored"
    return "set from C" if handler is None else repr(handler)
