"""What waits to be sent to a client: a queue that costs a bounded amount of memory.

A statement may print 100 MB in a moment, and a client may take it slowly or not at all. The first
MiB waits in memory, the rest in a temporary file without a name, which vanishes with the process.
"""

from __future__ import annotations

import struct
import tempfile
import threading
from collections import deque
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STDERR", "STDOUT", "Spool"]

STDOUT = 0
STDERR = 1  # also what SSH calls the extended data type of stderr

_CHUNK = 65536  # bytes; the largest piece that is kept or written as one
_HEADER = struct.Struct(">BL")  # stream, length


def _unnamed_file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="txwatchdog-", buffering=0)


class Spool:
    """A first-in, first-out queue of output, in memory up to a bound and on disk beyond it.

    Any thread may call any method. One lock guards everything; it is held for no longer than it
    takes to copy one chunk, or to write one to the page cache.

    Args:
        memory: Bytes that may wait in memory.
        limit: Bytes that may wait altogether. What exceeds it is dropped, and `lost` counts it.
        open_file: Makes the file for what does not fit in memory.
    """

    def __init__(
        self,
        memory: int = 1 << 20,
        limit: int = 1 << 30,
        open_file: Callable[[], IO[bytes]] = _unnamed_file,
    ) -> None:
        self._memory = memory
        self._limit = limit
        self._open_file = open_file
        self._lock = threading.Lock()
        self._head: deque[tuple[int, bytearray]] = deque()
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._read_at = 0  # offsets in the file; equal when nothing in it waits
        self._write_at = 0
        self._closed = False
        self.lost = 0
        """Bytes that were dropped because the limit was reached or the disk was full."""

    def put(self, stream: int, data: bytes) -> None:
        """Append output.

        Args:
            stream: `STDOUT` or `STDERR`.
            data: The bytes; after `close` they are dropped.
        """
        for start in range(0, len(data), _CHUNK):
            with self._lock:
                if self._closed:
                    return
                self._put_chunk(stream, data[start : start + _CHUNK])

    def get(self, most: int) -> tuple[int, bytes]:
        """Take the next piece, all of one stream.

        Args:
            most: The largest number of bytes wanted.

        Returns:
            The stream and at most that many bytes; no bytes when nothing waits.
        """
        with self._lock:
            if not self._head:
                self._refill()
            if not self._head:
                return STDOUT, b""
            stream, waiting = self._head[0]
            data = bytes(waiting[:most])
            del waiting[:most]
            self._in_memory -= len(data)
            if not waiting:
                self._head.popleft()
            return stream, data

    def close(self) -> None:
        """Drop what waits, and everything put later; give the file back."""
        with self._lock:
            self._closed = True
            self._head.clear()
            self._in_memory = 0
            self._forget_file()

    def __bool__(self) -> bool:
        with self._lock:
            return bool(self._head) or self._read_at < self._write_at

    def _put_chunk(self, stream: int, chunk: bytes) -> None:
        if self._in_memory + self._write_at - self._read_at + len(chunk) > self._limit:
            self.lost += len(chunk)
        elif self._read_at == self._write_at and self._in_memory + len(chunk) <= self._memory:
            if self._head and self._head[-1][0] == stream and len(self._head[-1][1]) < _CHUNK:
                # One piece for many small prints: a piece costs more than what it holds.
                self._head[-1][1].extend(chunk)
            else:
                self._head.append((stream, bytearray(chunk)))
            self._in_memory += len(chunk)
        else:
            try:
                if self._file is None:
                    self._file = self._open_file()
                self._file.seek(self._write_at)
                frame = _HEADER.pack(stream, len(chunk)) + chunk
                if self._file.write(frame) != len(frame):
                    self.lost += len(chunk)  # a full disk: the next frame overwrites this one
                else:
                    self._write_at += len(frame)
            except OSError:
                self.lost += len(chunk)

    def _refill(self) -> None:
        """Bring frames of the file back to memory, as many as make one worthwhile read."""
        while self._read_at < self._write_at and self._in_memory < _CHUNK:
            assert self._file is not None
            try:
                self._file.seek(self._read_at)
                stream, length = _HEADER.unpack(self._file.read(_HEADER.size))
                data = self._file.read(length)
            except (OSError, struct.error):
                self.lost += self._write_at - self._read_at
                self._forget_file()
                return
            self._read_at += _HEADER.size + length
            if self._head and self._head[-1][0] == stream:
                self._head[-1][1].extend(data)
            else:
                self._head.append((stream, bytearray(data)))
            self._in_memory += len(data)
        if self._read_at == self._write_at:
            self._forget_file()

    def _forget_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
        self._read_at = self._write_at = 0
