"""Ring 3, the black box: what is under way is on disk while it is under way.

During a pause the watch thread writes a record at each sample, and clears it when the pause has
ended. Where C code holds the GIL so that the watch thread can't, `LastGasp` writes the stack. The
next start reads how the last run died. The data survive the process, not the machine: nothing is
synced to the disk.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

from attrs import evolve
from twisted.logger import Logger

from txwatchdog.blame import blame
from txwatchdog.clocks import native_id
from txwatchdog.lastrun import (
    EMPTY,
    SLOTS_AT,
    STACKS_AT,
    LastRun,
    Record,
    decode,
    encode,
    is_box,
    last_run,
    parse_stacks,
)
from txwatchdog.records import Sample, resolve
from txwatchdog.rings.lastgasp import LastGasp

__all__ = ["BlackBox"]

STEP_SECONDS = 0.5
"""The GIL must have been held for so long, or a threshold if that is longer, before the reactor
thread's stack is written: by then it is a pause."""

MAX_STACKS_BYTES = 1 << 20
"""Of what faulthandler wrote so much is read; a stack of 100 frames has about 10 KB."""

LOCK_ATTEMPTS = 5
LOCK_SECONDS = 0.02
"""How often the lock is tried, and how far apart: a process that starts reads under it, too."""

_log = Logger(namespace="txwatchdog.blackbox")
_open_boxes: weakref.WeakSet[BlackBox] = weakref.WeakSet()


class BlackBox:
    """A file that tells the next run how this one died.

    It is of a fixed size, 68 KiB, plus at most 16 stacks of at most 100 frames while C code holds
    the GIL, and its mode is 0600. One process at a time may use it, which a lock on the file
    (flock(2)) ensures; the file is opened when the reactor runs, so a process may fork before.

    Args:
        path: the file.
        threshold: tells the threshold in seconds.
        ident: tells the reactor thread's identifier; None while it is not known.

    Attributes:
        state: `on, PATH`, or `off` and why.
        last_run: how the last run died, if it did while paused; since `look_back`.
    """

    def __init__(
        self, path: str, threshold: Callable[[], float], ident: Callable[[], int | None]
    ) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 - the program may change its directory
        self._threshold = threshold
        self._ident = ident
        self.state = "off: the reactor does not run yet"
        self.last_run: LastRun | None = None
        self._looked_back = False
        # Between the watch thread and whoever exits the process; the reactor's thread takes it
        # at exit only.
        self._lock = threading.Lock()
        self._fd = -1
        self._sequence = 0
        self._recorded_ns = 0  # the tick of which the file says that it is a pause
        self._written: Record | None = None
        self._gasp: LastGasp | None = None

    # -- the run before -----------------------------------------------------------------------

    def look_back(self) -> None:
        """Read how the last run died, and log it. Any thread; the first time it is called.

        Whatever the file is, nothing is raised: `state` and the log say what is wrong with it.
        """
        if self._looked_back or not os.path.lexists(self.path):
            return
        try:
            fd = _opened(self.path)
        except OSError as problem:
            self._fail(problem)
            return
        try:
            self._look_back(fd)
        finally:
            os.close(fd)

    def _look_back(self, fd: int) -> None:
        self._looked_back = True
        try:
            data = os.pread(fd, STACKS_AT, 0)
            record = decode(data)
            if record is None and data not in (b"", EMPTY):
                _log.error(
                    "the black box {path} is damaged: whether the last run died while paused is"
                    " not known",
                    path=self.path,
                )
            text = os.pread(fd, MAX_STACKS_BYTES, STACKS_AT).decode("ascii", "replace")
            found = last_run(record, parse_stacks(text))
            if found is not None:
                _log.critical(
                    "{last_run}\n{traceback}", last_run=found, traceback=found.traceback.rstrip()
                )
            self.last_run = found
        except Exception:  # whatever is in the file, the service starts
            _log.failure("the black box {path} can't be read", path=self.path)

    # -- this run -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the file for this run; `state` says whether it could be had.

        The watch thread calls it as it starts, so the reactor runs, and no daemon forks any more.
        """
        fd = -1
        try:
            fd = _opened(self.path, os.O_CREAT)
            if not self._looked_back:
                self._look_back(fd)
            os.fchmod(fd, 0o600)
            # All of it, so that the disk has room for what is written later; and first: a file of
            # nothing but zeros would never be taken for a box again.
            _put(fd, EMPTY, 0)
            os.ftruncate(fd, STACKS_AT)
            os.lseek(fd, STACKS_AT, os.SEEK_SET)
        except OSError as problem:
            self._fail(problem)
            if fd >= 0:
                os.close(fd)
            return
        with self._lock:
            self._fd = fd
            self._recorded_ns = 0
            self._write_twice(idle := self._idle())
            _open_boxes.add(self)
            atexit.register(self.close)
            state = f"on, {self.path}"
            try:
                native = native_id(self._ident())
                if native is None:
                    raise OSError("the reactor's thread is not known")  # noqa: TRY301 - told below
                self._gasp = LastGasp(fd, native)
                self._gasp.arm(0.0, idle.step)
            except Exception as problem:  # of ctypes or faulthandler: the rest works without
                state += f"; it can't see C code that holds the GIL: {_told(problem)}"
            self.state = state  # last: from when it says so, all of it is

    def paused(self, sample: Sample) -> None:
        """The tick under way is a pause, and this is where it stands. The watch thread calls it."""
        with self._lock:
            if self._fd < 0:
                return
            seconds = (sample.at_ns - sample.tick_ns) / 1e9
            ago = timedelta(microseconds=(time.monotonic_ns() - sample.tick_ns) / 1000)
            verdict = blame(sample.stack)
            self._recorded_ns = sample.tick_ns
            self._write(
                evolve(
                    self._idle(),
                    state="paused",
                    began_at=datetime.now(timezone.utc) - ago,
                    seconds=seconds,
                    offender=verdict.offender,
                    via=verdict.via,
                    frames=resolve(sample.stack),
                    annotations=sample.annotations,
                )
            )

    def turn(self, tick_ns: int, wait: float) -> None:
        """The watch thread is about to sleep. It calls this at the end of each turn.

        Args:
            tick_ns: the tick under way; 0 while the reactor waits.
            wait: for how many seconds it sleeps at most.
        """
        with self._lock:
            if self._fd < 0:
                return
            idle = self._idle()
            if self._gasp is not None:
                self._gasp.arm(max(wait, 0.0), idle.step)
            # After that, for until then one more might have been written.
            self._forget_stacks()
            if self._recorded_ns and tick_ns != self._recorded_ns:
                self._recorded_ns = 0
                self._write_twice(idle)
            elif not self._recorded_ns and idle != self._written:
                self._write_twice(idle)  # the threshold was changed

    def close(self) -> None:
        """The run ends well: the watchdog is stopped, or the process exits. Any thread."""
        atexit.unregister(self.close)
        with self._lock:
            if self._fd < 0:
                return
            gave_back = self._gasp is None or self._gasp.close()
            self._gasp = None
            self._forget_stacks()
            self._write_twice(evolve(self._idle(), state="clean"))
            self._leave(keep_number=not gave_back)
            self.state = "off: the watchdog is stopped"

    def forget(self) -> None:
        """In a forked child: the box is the parent's, and so is the lock as long as we have it."""
        self._lock = threading.Lock()  # the parent's watch thread may have held it
        atexit.unregister(self.close)
        if self._gasp is not None:
            self._gasp.forget()
            self._gasp = None
        if self._fd >= 0:
            self._leave()
        self.state = "off: the black box is the parent process's"

    # -- the file -----------------------------------------------------------------------------

    def _idle(self) -> Record:
        threshold = self._threshold()
        return Record(
            state="running",
            pid=os.getpid(),
            process=_process(),
            program=sys.argv[0] if sys.argv else "",
            threshold=threshold,
            step=max(STEP_SECONDS, threshold),
        )

    def _write(self, record: Record) -> None:
        """Write to the slot that is not the latest one."""
        self._sequence += 1
        slot = encode(record, self._sequence)
        try:
            _put(self._fd, slot, SLOTS_AT[self._sequence % 2])
        except OSError as problem:
            self._report(problem)
        self._written = record

    def _write_twice(self, record: Record) -> None:
        """Write to both slots, so that no older pause can come back if one is damaged."""
        self._write(record)
        self._write(record)

    def _forget_stacks(self) -> None:
        """The watch thread runs, so whatever faulthandler wrote has come to nothing."""
        try:
            if os.fstat(self._fd).st_size > STACKS_AT:
                os.ftruncate(self._fd, STACKS_AT)
                os.lseek(self._fd, STACKS_AT, os.SEEK_SET)
        except OSError as problem:
            self._report(problem)

    def _leave(self, *, keep_number: bool = False) -> None:
        """Close the file, which frees the lock."""
        fd, self._fd = self._fd, -1
        _open_boxes.discard(self)
        if keep_number:  # faulthandler may yet write to that number once
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, fd, inheritable=False)
            os.close(null)
        else:
            os.close(fd)

    def _fail(self, problem: OSError) -> None:
        state = f"off: {self.path}: {_told(problem)}"
        if self.state != state:
            self.state = state
            _log.error("the black box is {state}", state=state)

    def _report(self, problem: OSError) -> None:
        """A write failed: once logged, since the next one may be as bad."""
        state = f"on, {self.path}; a write to it failed: {_told(problem)}"
        if self.state != state:
            self.state = state
            _log.error("the black box is {state}", state=state)


def _opened(path: str, flags: int = 0) -> int:
    """The descriptor of a box that is locked, and is one.

    Raises:
        OSError: it is not, or can't be had; the message says why.
    """
    # Not blocking, should it be a FIFO or a device.
    flags |= os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    fd = os.open(path, flags, 0o600)
    try:
        _check(fd)
        _lock(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def _check(fd: int) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError("it is not a regular file")
    if not is_box(os.pread(fd, 64, 0)):
        raise OSError("it is something else than a black box, and stays as it is")


def _put(fd: int, data: bytes, at: int) -> None:
    while data:  # the part that a full disk does not take is what raises
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written


def _lock(fd: int) -> None:
    attempts = LOCK_ATTEMPTS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            attempts -= 1
            if not attempts:
                record = decode(os.pread(fd, STACKS_AT, 0))
                who = f"process {record.pid}" if record else "another process"
                raise OSError(f"{who} uses it; each process needs one of its own") from None
            time.sleep(LOCK_SECONDS)
        else:
            return


def _told(problem: Exception) -> str:
    return (isinstance(problem, OSError) and problem.strerror) or str(problem)


@lru_cache(maxsize=1)
def _process_of(pid: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2]
        return f"{boot}/{fields.split()[19]}"
    except (OSError, LookupError, ValueError):
        return ""


def _process() -> str:
    """What tells this process from another of the same number: the boot, and the start's time."""
    return _process_of(os.getpid())


def _forget_all() -> None:
    for box in list(_open_boxes):
        box.forget()


os.register_at_fork(after_in_child=_forget_all)
