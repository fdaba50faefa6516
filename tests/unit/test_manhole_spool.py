"""Output waits in bounded memory, in order, and none of it is lost without a word."""

from __future__ import annotations

import errno
import io
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.manhole.spool import STDERR, STDOUT, Spool


def _drain(spool: Spool, most: int = 1 << 20) -> list[tuple[int, bytes]]:
    pieces: list[tuple[int, bytes]] = []
    while True:
        stream, data = spool.get(most)
        if not data:
            return pieces
        assert len(data) <= most
        pieces.append((stream, data))


_actions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=30)),
        st.integers(1, 20),
    ),
    max_size=60,
)


@given(_actions, st.integers(0, 50))
def test_everything_comes_out_in_order(actions: list[tuple[int, bytes] | int], memory: int) -> None:
    """However puts and gets follow one another, each byte comes out once, where it belongs."""
    spool = Spool(memory=memory, open_file=io.BytesIO)
    put: list[tuple[int, int]] = []
    got: list[tuple[int, int]] = []
    for action in actions:
        if isinstance(action, int):
            stream, data = spool.get(action)
            got += [(stream, byte) for byte in data]
        else:
            stream, data = action
            spool.put(stream, data)
            put += [(stream, byte) for byte in data]
    got += [(stream, byte) for stream, data in _drain(spool) for byte in data]
    assert got == put
    assert not spool
    assert spool.lost == 0


def test_small_pieces_are_joined() -> None:
    """Many small prints are one piece; streams stay apart."""
    spool = Spool()
    for data in (b"a", b"b"):
        spool.put(STDOUT, data)
    spool.put(STDERR, b"c")
    assert _drain(spool) == [(STDOUT, b"ab"), (STDERR, b"c")]


def test_a_large_output_waits_on_disk() -> None:
    """What does not fit in memory goes through a file, which is gone when it is read."""
    files: list[IO[bytes]] = []

    def open_file() -> IO[bytes]:
        files.append(io.BytesIO())
        return files[-1]

    spool = Spool(memory=1000, open_file=open_file)
    data = bytes(range(256)) * 4096
    spool.put(STDOUT, data)
    assert len(files) == 1
    assert b"".join(piece for _, piece in _drain(spool, 1000)) == data
    assert files[0].closed


def test_beyond_the_limit_output_is_dropped_and_counted() -> None:
    """A client that never reads costs no more than the limit."""
    spool = Spool(memory=10, limit=100, open_file=io.BytesIO)
    for _ in range(50):
        spool.put(STDOUT, b"12345")
    kept = sum(len(data) for _, data in _drain(spool))
    assert kept + spool.lost == 250
    assert kept < 100


def test_a_full_disk_loses_output_and_nothing_else() -> None:
    """A disk that takes no more is counted, never raised."""

    def no_file() -> IO[bytes]:
        raise OSError(errno.ENOSPC, "full")

    spool = Spool(memory=4, open_file=no_file)
    spool.put(STDOUT, b"1234")
    spool.put(STDOUT, b"5678")
    assert spool.lost == 4
    assert _drain(spool) == [(STDOUT, b"1234")]


def test_a_disk_that_takes_a_part_loses_that_piece() -> None:
    """A piece that was not written whole is counted, and what comes later takes its place."""

    class Nearly(io.BytesIO):
        full = True

        def write(self, data: Any) -> int:
            return super().write(data[:3] if self.full else data)

    file = Nearly()
    spool = Spool(memory=4, open_file=lambda: file)
    spool.put(STDOUT, b"1234")
    spool.put(STDOUT, b"5678")
    assert spool.lost == 4
    file.full = False
    spool.put(STDOUT, b"9")
    spool.put(STDOUT, b"0abc")
    assert b"".join(data for _, data in _drain(spool)) == b"123490abc"


@pytest.mark.parametrize("problem", [OSError(errno.EIO, "bad"), None])
def test_a_disk_that_gives_nothing_back(problem: OSError | None) -> None:
    """What can't be read again is counted as lost, never raised; what comes later is kept."""

    class Forgetful(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            if problem is not None:
                raise problem
            return b""

    spool = Spool(memory=4, open_file=Forgetful)
    spool.put(STDOUT, b"1234")
    spool.put(STDOUT, b"5678")
    assert _drain(spool) == [(STDOUT, b"1234")]
    assert spool.lost >= 4
    spool.put(STDOUT, b"9")
    assert _drain(spool) == [(STDOUT, b"9")]


def test_after_close_nothing_is_kept() -> None:
    """A session that is over takes no output."""
    spool = Spool(memory=1, open_file=io.BytesIO)
    spool.put(STDOUT, b"before")
    spool.close()
    spool.put(STDOUT, b"after")
    assert not spool
    assert _drain(spool) == []
