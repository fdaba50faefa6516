"""The audit trail's file: an event a line, as JSON, written by a thread of its own.

Whoever logs an event only puts it into a queue. The file is opened anew for whatever there is to be
written, and looked at each time: it may have been moved away, or something else put in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import queue
import shlex
import threading
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.logger import ILogObserver, Logger, globalLogPublisher
from zope.interface import implementer

from txwatchdog.auditlog import NAMESPACE
from txwatchdog.errors import LIMITS, AuditError, reason_of
from txwatchdog.logs import log_failure
from txwatchdog.manhole.modes import UnfitError, open_private

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.logger import LogEvent, LogPublisher

__all__ = ["AuditFile", "Lines", "line_of"]

SIZE = 10_000_000  # bytes, from which on a new file is begun
OLD = 4  # files before that are kept: FILE.1, the latest, to FILE.4
WAITING = 1000  # events that may wait for the file
PATIENCE = 0.5  # seconds to wait for a disk that does not answer
RETRY = 5.0  # seconds between two tries to write to a file that could not be written

_OURS = ("summary", "time", "pid")
_log = Logger(namespace="txwatchdog.manhole")


def line_of(event: LogEvent) -> bytes:
    """An event as a line of JSON, in ASCII.

    Args:
        event: Of the namespace `txwatchdog.audit`; if it is somebody else's, anything may be in it.
    """
    try:
        at = event["log_time"]
        fields = {
            name: value
            for name, value in event.items()
            # The time and the process are ours to say.
            if not name.startswith("log_") and name not in _OURS
        }
    except Exception:
        at, fields = None, {"event": "audit", "outcome": "not understood"}
    return _line(fields, at)


def _line(fields: dict[str, Any], at: float | None = None) -> bytes:
    moment = datetime.now(timezone.utc)
    try:
        if at is not None:
            moment = datetime.fromtimestamp(at, timezone.utc)
        # A float's infinity is no JSON, and a repr may raise.
        text = json.dumps({"event": "audit", **fields}, allow_nan=False, default=ascii)[1:]
    except Exception:
        text = '"event": "audit", "outcome": "not understood"}'
    time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f'{{"time": "{time}", "pid": {os.getpid()}, {text}\n'.encode("ascii")


class Lines:
    """A file of lines that is put aside when it has grown too long. Blocks on the disk.

    Several processes may write to one: each line goes by one call, and no line is lost when one of
    them puts the file aside.

    Args:
        path: The file's.
        size: Bytes, from which on it is put aside.
        old: How many that were put aside are kept.
    """

    def __init__(self, path: Path, size: int = SIZE, old: int = OLD) -> None:
        self._path = path
        self._size = size
        self._old = old

    def check(self) -> None:
        """Make sure that the file can be written to, and make it if it is missing.

        Raises:
            OSError: It can't be.
            UnfitError: It is not what it should be; or could not be put aside.
        """
        os.close(self._open())
        directory = self._path.parent
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise UnfitError(
                f"{self._path} could not be put aside when it is full, for this user can't write "
                "to its directory; give it a directory of its own"
            )

    def append(self, lines: deque[bytes]) -> None:
        """Write lines, and take each that is written off the left.

        Args:
            lines: What is left of them when this raises has not been written.

        Raises:
            OSError: The file can't be written to.
            UnfitError: It is not what it should be.
        """
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            # What a full disk, or a crash, has cut off must not run into the next line.
            mend = b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""
            while lines:
                if size >= self._size and self._put_aside(descriptor):
                    os.close(descriptor)
                    descriptor = -1
                    descriptor = self._open()
                    size, mend = os.fstat(descriptor).st_size, b""
                data = mend + lines[0]
                size += len(data)
                while data:  # the part that a full disk does not take is what raises
                    data = data[os.write(descriptor, data) :]
                mend = b""
                lines.popleft()
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        # Others may be allowed to read it: that is for who owns it to say.
        return open_private(self._path, others=0o022)

    def _put_aside(self, descriptor: int) -> bool:
        """Give the file another name. False if another process is doing so."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            is_there = os.path.samestat(os.fstat(descriptor), self._path.lstat())
        except FileNotFoundError:
            is_there = False
        if is_there:  # else another process has done so just now
            for number in range(self._old - 1, 0, -1):
                older = self._named(number)
                if os.path.lexists(older):
                    older.replace(self._named(number + 1))
            self._path.replace(self._named(1))
        return True

    def _named(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


@implementer(ILogObserver)
class AuditFile:
    """An observer of `twisted.logger` that keeps the audit trail in a file.

    A file that can't be written to stops nobody: it is logged once, what is to be written waits,
    and what there is no room for is counted; both the log and the file tell how many were lost,
    when it can be written to again.

    `open`, `begin` and `close` are for who owns it; an event may come in any thread.

    Args:
        path: The file's; made if it is missing, with mode 0600.
        publisher: Where events come from.
        log: Where to tell of trouble.
    """

    def __init__(
        self,
        path: Path,
        publisher: LogPublisher = globalLogPublisher,
        log: Logger = _log,
        lines: Lines | None = None,
    ) -> None:
        self._path = path
        self._publisher = publisher
        self._log = log
        self._lines = lines or Lines(path)
        # Put into by any thread; taken from by the writing one, or before and after it by `close`.
        self._queue: queue.SimpleQueue[LogEvent | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid: int | None = None
        self._is_unsettled = False  # only the manhole's thread touches it
        # All that follows is the writing thread's, but for `_lost`, which has a lock.
        self._waiting: deque[bytes] = deque()
        self._settled: list[Callable[[], None]] = []
        self._is_closing = False
        self._trouble: str | None = None
        self._losing = threading.Lock()
        self._lost = 0
        self._told_lost = 0

    def open(self) -> None:
        """Make sure that the file can be written to, and take events from now on.

        Raises:
            AuditError: It can't; the message names it, and what to do.
        """
        try:
            self._lines.check()
        except (OSError, UnfitError) as error:
            raise AuditError(
                f"the audit trail can't be written: {_described(error, self._path)}"
            ) from error
        self._publisher.addObserver(self)

    def begin(self) -> None:
        """Start to write.

        Raises:
            RuntimeError: The process has too many threads.
        """
        thread = threading.Thread(target=self._write_all, name="txwatchdog-audit", daemon=True)
        thread.start()
        self._thread, self._pid = thread, os.getpid()

    def close(self) -> None:
        """Take no more events, and write what there is, if the disk answers in time."""
        self._publisher.removeObserver(self)
        self._queue.put(None)
        if self._thread is None:
            self._write_all()
        else:
            self._thread.join(PATIENCE)

    def __call__(self, event: LogEvent) -> None:
        """Take an event, if it is of the audit trail. In the thread that logs it."""
        if event.get("log_namespace") != NAMESPACE:
            return
        if self._pid not in (None, os.getpid()):
            return  # a forked child has no such thread, and its trail is not this one
        if self._queue.qsize() < WAITING:
            self._queue.put(event)
        elif self._lose():
            self._log.error(
                "the audit trail's file {path} does not keep up: events are lost from now on; "
                "sessions go on",
                path=str(self._path),
            )

    def settle(self, done: Callable[[], None]) -> None:
        """Have `done` called when all events so far are written, or can't be. Any thread.

        Args:
            done: Called in the writing thread; must not block.
        """
        self._queue.put(done)

    async def written(self) -> None:
        """Wait until what has been told so far is written. In the manhole's thread.

        A disk that hangs is waited for once, and again when it has done what it was asked for then.
        """
        if self._is_unsettled:
            return
        loop, settled = asyncio.get_running_loop(), asyncio.Event()

        def settle() -> None:
            self._is_unsettled = False
            settled.set()

        def done() -> None:
            with contextlib.suppress(RuntimeError):  # the manhole has ended meanwhile
                loop.call_soon_threadsafe(settle)

        self.settle(done)
        try:
            await asyncio.wait_for(settled.wait(), PATIENCE)
        except asyncio.TimeoutError:
            self._is_unsettled = not settled.is_set()

    def _lose(self) -> bool:
        """Count an event as lost. Whether it is the first since that was last told."""
        with self._losing:
            self._lost += 1
            return self._lost == self._told_lost + 1

    def _write_all(self) -> None:
        """The thread's body."""
        while not self._is_closing:
            try:
                self._turn()
            except BaseException:  # a log observer's, which would end the thread in silence
                log_failure(self._log, "the audit trail's thread stumbled, and goes on")
        if self._waiting:
            self._log.error(
                "the audit trail's file {path} could not be written to: {lost} events are lost",
                path=str(self._path),
                lost=len(self._waiting) + self._lost - self._told_lost,
            )

    def _turn(self) -> None:
        """Write what there is, once there is something."""
        self._gather()
        self._write()
        settled, self._settled = self._settled, []
        for each in settled:
            each()

    def _gather(self) -> None:
        """Wait for something to do, and take all that there is."""
        try:
            what = self._queue.get(timeout=RETRY if self._waiting else None)
            while True:
                if what is None:
                    self._is_closing = True
                elif callable(what):
                    self._settled.append(what)
                elif len(self._waiting) < WAITING:
                    self._waiting.append(line_of(what))
                else:
                    self._lose()
                what = self._queue.get_nowait()
        except queue.Empty:
            return

    def _write(self) -> None:
        if not self._waiting:
            return
        try:
            self._lines.append(self._waiting)
            with self._losing:
                lost = self._lost - self._told_lost
            if self._trouble is None and not lost:
                return
            fields = {"event": "audit", "outcome": "resumed", "lost": lost, "reason": self._trouble}
            self._lines.append(deque([_line(fields)]))
        except (OSError, UnfitError) as error:
            trouble = _described(error, self._path)
            if trouble != self._trouble:
                self._trouble = trouble
                self._log.error(
                    "the audit trail can't be written: {trouble}; sessions go on, and events wait, "
                    "{most} at most",
                    trouble=trouble,
                    most=WAITING,
                )
            return
        self._trouble = None
        self._told_lost += lost
        self._log.warn(
            "the audit trail's file {path} is written to again; {lost} events were lost",
            path=str(self._path),
            lost=lost,
        )


def _described(error: Exception, path: Path) -> str:
    """What is wrong with a file, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    directory = shlex.quote(str(path.parent))
    remedy = {
        **LIMITS,
        errno.ENOENT: f"make its directory: mkdir -p {directory}",
        errno.ENOTDIR: "give a file in a directory",
        errno.EISDIR: "give a file, not a directory",
        errno.ELOOP: "it is a symbolic link; give the file itself",
        errno.ENOSPC: "make room on its disk",
        errno.EDQUOT: "make room on its disk",
    }.get(error.errno or 0, "this user must be able to write to it and its directory")
    return f"{path}: {reason_of(error)}; {remedy}"
