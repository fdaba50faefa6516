"""The edge of `causes`: reads the clocks from the operating system.

What the reactor's thread spent is one thing. The other is how late the watch thread woke, and what
it did meanwhile: that tells a process that stood still as a whole from one that waits.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from io import FileIO
from typing import Any

from txwatchdog.causes import Reading

__all__ = ["GcClock", "Lateness", "ThreadClocks", "native_id"]

SUSPENSION_NS = 50_000_000
"""The shortest standstill of the whole process that is told from a late wake-up."""

SYS_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
"""The number of futex(2) on each machine (the kernel's syscall tables)."""


def native_id(ident: int | None) -> int | None:
    """The kernel's number of a thread; None if there is no such thread.

    Args:
        ident: its identifier, as `threading.get_ident` gives it.
    """
    for thread in threading.enumerate():
        if thread.ident == ident:
            # In a forked child Python (3.13) takes the main thread's number for what it was in the
            # parent. On Linux it is the process's.
            is_main = thread is threading.main_thread() and sys.platform == "linux"
            return os.getpid() if is_main else thread.native_id
    return None


class GcClock:
    """How long the collector ran in one thread, at the cost of two calls for each collection.

    Attributes:
        ident: the thread's identifier, once it is known.
        ns: the time so far. Written by that thread alone.
    """

    def __init__(self) -> None:
        self.ident: int | None = None
        self.ns = 0
        self._began_ns = 0
        self._entry = self._collects  # one bound method, so that it can be taken off again

    def start(self) -> None:
        """Begin to count."""
        gc.callbacks.append(self._entry)

    def stop(self) -> None:
        """Leave no trace."""
        if self._entry in gc.callbacks:
            gc.callbacks.remove(self._entry)

    def _collects(self, phase: str, _info: dict[str, Any]) -> None:
        if threading.get_ident() != self.ident:
            return
        if phase == "start":
            self._began_ns = time.monotonic_ns()
        elif self._began_ns:
            self.ns += time.monotonic_ns() - self._began_ns
            self._began_ns = 0


class ThreadClocks:
    """The clocks of the reactor's thread, which another thread may read.

    Not for two threads at once: the watch thread's, once that runs.

    Args:
        ident: the reactor thread's identifier, as `threading.get_ident` gives it.
        collector: how long the collector ran in it.
    """

    def __init__(self, ident: int, collector: GcClock) -> None:
        collector.ident = ident
        self._collector = collector
        self._cpu_clock = _cpu_clock(ident)
        native = native_id(ident)
        self._schedule = _open(f"/proc/self/task/{native}/schedstat")
        self._syscall = _open(f"/proc/self/task/{native}/syscall")
        self._scheduler = _open(f"/proc/self/task/{native}/sched")
        self._futex = SYS_FUTEX.get(os.uname().machine)
        self._gil = _runtime_span()

    def close(self) -> None:
        """Close the files."""
        for file in (self._schedule, self._syscall, self._scheduler):
            if file is not None:
                file.close()
        self._schedule = self._syscall = self._scheduler = None

    def read(self, busy_ns: int, suspended_ns: int, still: Reading | None = None) -> Reading:
        """All clocks, now.

        Args:
            busy_ns: what the reactor's ticks took so far.
            suspended_ns: for how long the process has stood still.
            still: a reading since which the reactor's thread has only waited: its own clocks stand
                as they stood then. Reading them costs little but where caches are cold, as they
                are when a service that has nothing to do is looked at.
        """
        at_ns = time.monotonic_ns()
        if still is not None:
            cpu_ns, queued_ns = still.cpu_ns, still.queued_ns
        elif self._cpu_clock is not None:
            cpu_ns, queued_ns = time.clock_gettime_ns(self._cpu_clock), None
        else:
            cpu_ns = queued_ns = None
        process_ns, gc_ns = time.process_time_ns(), self._collector.ns
        # Last, for reading a file gives the GIL up, and it may be long until we have it back.
        if still is None and (schedule := _numbers(self._schedule)) is not None:
            queued_ns = schedule[1]
        return Reading(
            at_ns=at_ns,
            cpu_ns=cpu_ns,
            process_ns=process_ns,
            queued_ns=queued_ns,
            gc_ns=gc_ns,
            suspended_ns=suspended_ns,
            busy_ns=busy_ns,
        )

    def is_asleep(self) -> bool | None:
        """Whether the reactor's thread sleeps in a system call, for anything but the GIL.

        Returns:
            None where the kernel does not tell.
        """
        if self._syscall is None or self._futex is None or self._gil is None:
            return None
        try:
            words = os.pread(self._syscall.fileno(), 256, 0).split()
        except (OSError, ValueError):
            return None
        if not words or words[0] == b"running":
            return False
        if words[0] == b"-1":  # in the kernel, but not by a call: a page fault
            return False
        if int(words[0]) != self._futex:
            return True
        return int(words[1], 16) not in self._gil

    def ran_at_ns(self) -> int | None:
        """When the reactor's thread last had a CPU, in the scheduler's clock.

        Returns:
            None where the kernel does not tell.
        """
        return _ran_at_ns(self._scheduler)


class Lateness:
    """Why the watch thread wakes later than it meant to. That thread's own, from its making on.

    Attributes:
        suspended_ns: for how long the whole process has stood still, so far.
    """

    def __init__(self) -> None:
        native = threading.get_native_id()
        self._schedule = _open(f"/proc/self/task/{native}/schedstat")
        self._scheduler = _open(f"/proc/self/task/{native}/sched")
        self._before = _numbers(self._schedule)
        self.suspended_ns = 0

    def close(self) -> None:
        """Close the files."""
        for file in (self._schedule, self._scheduler):
            if file is not None:
                file.close()
        self._schedule = self._scheduler = None

    def woke(self, late_ns: int) -> tuple[int, int]:
        """Explain a wake-up.

        If the thread did not run, did not queue for a CPU, and did not wait for the GIL (for which
        it would have woken at each switch interval), the process stood still as a whole.

        Args:
            late_ns: how much later it was than it was meant to be.

        Returns:
            for how much of it the machine was too busy, and the GIL taken, in ns. Where the
            kernel does not tell, all of it is the machine's fault.
        """
        before, self._before = self._before, _numbers(self._schedule)
        if before is None or self._before is None:
            return late_ns, 0
        _, queued_ns, slices = (b - a for a, b in zip(before, self._before, strict=True))
        queued_ns = min(queued_ns, late_ns)
        rest_ns = late_ns - queued_ns
        if rest_ns > SUSPENSION_NS and slices * sys.getswitchinterval() * 1e9 < rest_ns / 4:
            self.suspended_ns += rest_ns
            return queued_ns, 0
        return queued_ns, rest_ns

    def ran_at_ns(self) -> int | None:
        """When this thread last got a CPU, in the scheduler's clock; None: not known."""
        return _ran_at_ns(self._scheduler)


def _cpu_clock(ident: int) -> int | None:
    try:
        return time.pthread_getcpuclockid(ident)
    except (AttributeError, OSError):
        return None


def _open(path: str) -> FileIO | None:
    # An object, not a number: it closes itself where whoever made it died before it was kept.
    try:
        return FileIO(path)
    except OSError:
        return None


def _numbers(file: FileIO | None) -> tuple[int, int, int] | None:
    """A schedstat file: CPU time and time queued for a CPU, in ns, and time slices."""
    if file is None:
        return None
    try:
        cpu, queued, slices = os.pread(file.fileno(), 128, 0).split()
        return int(cpu), int(queued), int(slices)
    except (OSError, ValueError):
        return None


def _ran_at_ns(file: FileIO | None) -> int | None:
    """A sched file: the `exec_start` in it, which is in ms (kernel/sched/debug.c)."""
    if file is None:
        return None
    try:
        head = os.pread(file.fileno(), 512, 0)
        _, _, value = head.partition(b"exec_start")[2].partition(b":")
        milliseconds, fraction = value.split(maxsplit=1)[0].split(b".")
        return int(milliseconds) * 1_000_000 + int(fraction)
    except (OSError, ValueError, IndexError):
        return None


def _runtime_span() -> range | None:
    """Where CPython's runtime lies in memory; None on another Python, or if the OS won't tell.

    In it is what a thread that waits for the GIL sleeps on: the GIL is part of the main
    interpreter's state, and that of one static struct, `_PyRuntime` (pycore_runtime.h). Locks are
    made on the heap. The struct's size is not known here, so it ends where its mapping does.
    """
    try:
        start = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
        with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123 - pathlib brings more
            end = start
            for line in maps:
                low, high = (int(bound, 16) for bound in line.split(maxsplit=1)[0].split(b"-"))
                if low <= end < high and b"[heap]" not in line:
                    end = high
    except (AttributeError, ValueError, OSError):
        return None
    return range(start, end) if end > start else None
