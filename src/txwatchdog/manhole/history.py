"""What an operator has typed, kept from session to session in a file of their key's own.

A file that can't be used is no reason to refuse a session: its history then lasts as long as it.
All in the manhole's thread; no call takes longer than a disk needs for a MiB.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from typing import TYPE_CHECKING

from twisted.logger import Logger

from txwatchdog.manhole.modes import UnfitError, check_private, open_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["HistoryFile", "history_path"]

_log = Logger(namespace="txwatchdog.manhole")

INPUTS = 1000
SIZE = 1 << 20  # bytes of the file
LONGEST = 1 << 14  # characters; longer inputs are pasted programs, which nobody walks back to
_TRIES = 3
_SLACK = 100  # inputs by which a file may be too long until it is cut


def history_path(keys: Path, fingerprint: str) -> Path:
    """The file of a key.

    Args:
        keys: The keys directory.
        fingerprint: The key's, as ``ssh-keygen -l`` prints it.

    Returns:
        A path whose name is the fingerprint but for the characters ``:``, ``/`` and ``+``, which
        become ``-``, ``_`` and ``-``.
    """
    return keys / "history" / fingerprint.translate(str.maketrans(":/+", "-_-"))


class HistoryFile:
    """One key's inputs: a line of JSON each, oldest first, mode 0600.

    Several sessions, and processes, may have it open: each only adds lines, under a lock.

    Args:
        path: From `history_path`. The directory is made (0700) where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._usable = True
        self._waiting: list[str] = []

    def load(self) -> list[str]:
        """The inputs of earlier sessions, oldest first; none if the file can't be used."""
        inputs: list[str] = []
        with self._guarded():
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            check_private(self._path.parent, self._path.parent.lstat(), is_directory=True)
            descriptor = open_private(self._path)
            try:
                inputs = self._read(descriptor)
            finally:
                os.close(descriptor)
        return inputs[-INPUTS:]

    def add(self, text: str) -> None:
        """Keep an input.

        Args:
            text: One or more lines; a long one is dropped.
        """
        if not self._usable or len(text) > LONGEST:
            return
        self._waiting.append(json.dumps(text) + "\n")
        with self._guarded():
            for _ in range(_TRIES):
                descriptor = open_private(self._path)
                try:
                    if self._write(descriptor):
                        self._trim(descriptor)
                        break
                finally:
                    os.close(descriptor)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UnfitError) as error:
            self._usable = False
            self._waiting.clear()
            _log.warn("history lasts as long as each session, no longer: {error}", error=str(error))

    def _read(self, descriptor: int) -> list[str]:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, 2 * SIZE, max(size - 2 * SIZE, 0))
        inputs, bad = [], 0
        for line in data.splitlines():
            try:
                text = json.loads(line)
            except ValueError:
                text = None
            if isinstance(text, str):
                inputs.append(text)
            else:
                bad += 1
        if bad:
            _log.warn(
                "{path}: {bad} lines are no history, and are passed over", path=self._path, bad=bad
            )
        return inputs

    def _write(self, descriptor: int) -> bool:
        """Add what waits. False if another process has the lock; it goes with the next one then."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if os.fstat(descriptor).st_nlink == 0:
            return False  # another process has just put a shorter one in its place
        os.write(descriptor, "".join(self._waiting).encode())
        self._waiting.clear()
        return True

    def _trim(self, descriptor: int) -> None:
        """Put a shorter file in its place, if it has grown too long."""
        # Counted anew each time: other sessions add to it, too.
        data = os.pread(descriptor, SIZE + 1, 0)
        if len(data) <= SIZE and data.count(b"\n") <= INPUTS + _SLACK:
            return
        lines = [(json.dumps(text) + "\n").encode() for text in self._read(descriptor)]
        room = SIZE // 2
        kept: list[bytes] = []
        for line in reversed(lines[-INPUTS:]):
            room -= len(line)
            if room < 0:
                break
            kept.append(line)
        shorter = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(
                os.open(shorter, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.writelines(reversed(kept))
            shorter.replace(self._path)
        except BaseException:
            shorter.unlink(missing_ok=True)
            raise
