"""Ring 3's second half: the reactor thread's stack goes to a file though nobody gets the GIL.

`faulthandler.dump_traceback_later` is not used. It is one timer for the whole process, a second
call cancels the first, and there is no way to ask whether somebody else has it; each re-arming
starts a thread and joins the one before with the GIL held, thus holds the reactor up on a loaded
machine; and its thread reads the stacks of threads that may be running, which can crash.

Instead a signal that nobody uses is given to `faulthandler.register`, whose handler is in C and
needs no GIL, and POSIX timers of our own (timer_create(2), of which a process may have many) send
it to the reactor's thread itself, main or not. That thread stands still in the handler while its
stack is written, and nobody else's is read. Nothing of anyone else's is touched.
"""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import struct
import sys
import time
from pathlib import Path

__all__ = ["SHOTS", "LastGasp"]

SHOTS = 16
"""Timers. Each waits twice as long as the one before, so that a hang of hours is told from one of
seconds, while the file gets no more than so many stacks."""

_CLOCK_MONOTONIC = 1
_SIGEV_THREAD_ID = 4


class LastGasp:
    """Has the reactor thread's stack written to a file unless that is put off in time.

    Args:
        descriptor: the file; it is written where it stands.
        native_id: the reactor thread, as the kernel numbers it.

    Raises:
        OSError: the system can't do that; the message says why.
    """

    def __init__(self, descriptor: int, native_id: int) -> None:
        if sys.platform != "linux" or sys.maxsize < 2**32:
            raise OSError("timers that signal one thread are known on 64-bit Linux only")
        try:
            # With the GIL held: these calls never wait, and giving it up might cost 5 ms each.
            self._libc = ctypes.PyDLL(None, use_errno=True)
            self._create, self._set = self._libc.timer_create, self._libc.timer_settime
        except AttributeError:
            raise OSError("this C library has no timer_create") from None
        self._native_id = native_id
        self._timers: list[ctypes.c_void_p] = []
        self.signal = _free_signal()
        faulthandler.register(self.signal, descriptor, all_threads=False, chain=False)
        try:
            self._make_timers()
        except OSError:
            self.close()
            raise

    def arm(self, wait: float, step: float) -> None:
        """Put it off: the n-th stack is written in `wait + step * 2**n` seconds. Any thread."""
        for n, timer in enumerate(self._timers):
            seconds = wait + step * 2.0**n
            whole = int(seconds)
            after = struct.pack("4l", 0, 0, whole, int((seconds - whole) * 1e9))
            self._set(timer, 0, after, None)

    def close(self) -> bool:
        """Have nothing written any more, and give the signal back. Any thread.

        Returns:
            False in the rare case that a signal is still on its way to a thread that gets no
            CPU: given back, it would end the process, so it stays ours, and the descriptor must
            stay open for something harmless.
        """
        while self._timers:
            self._libc.timer_delete(self._timers.pop())
        for _ in range(100):
            if not _in_status(f"task/{self._native_id}/status", "SigPnd", self.signal):
                faulthandler.unregister(self.signal)
                return True
            time.sleep(0.001)
        return False

    def forget(self) -> None:
        """In a forked child, which inherits no timer and no pending signal."""
        self._timers.clear()
        faulthandler.unregister(self.signal)

    def _make_timers(self) -> None:
        # struct sigevent: a value, the signal, how it is sent, and the thread; 64 bytes in all.
        event = struct.pack("Piii44x", 0, self.signal, _SIGEV_THREAD_ID, self._native_id)
        for _ in range(SHOTS):
            timer = ctypes.c_void_p()
            if self._create(_CLOCK_MONOTONIC, event, ctypes.byref(timer)) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"timer_create failed with errno {number}")
            self._timers.append(timer)


def _free_signal() -> int:
    """A real-time signal without a handler, be it Python's or C's.

    Raises:
        OSError: there is none.
    """
    for number in range(signal.SIGRTMAX - 4, signal.SIGRTMIN, -1):
        taken = _in_status("status", "SigCgt", number) or _in_status("status", "SigIgn", number)
        if signal.getsignal(number) is signal.SIG_DFL and not taken:
            return number
    raise OSError("every real-time signal has a handler already")


def _in_status(file: str, field: str, number: int) -> bool:
    """Whether the set of signals `field` of a proc(5) status has `number`; False if unknown."""
    try:
        lines = Path(f"/proc/self/{file}").read_text("ascii", "replace").splitlines()
        found = next(line for line in lines if line.startswith(field + ":"))
        return bool(int(found.split()[1], 16) >> (number - 1) & 1)
    except (OSError, StopIteration, ValueError):
        return False  # no proc, or the thread is gone
