"""What is in a black box, and what is made of it: pure."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
import twisted
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from txwatchdog.lastrun import (
    EMPTY,
    SLOT_BYTES,
    SLOTS_AT,
    STACKS_AT,
    Record,
    decode,
    encode,
    is_box,
    last_run,
    parse_stacks,
)
from txwatchdog.records import Frame, Function

unhurried = settings(deadline=None)  # a loaded machine is no failure

LOOP = Frame("runUntilCurrent", f"{twisted.__path__[0]}/internet/base.py", 1094)
FRAMES = (Frame("<module>", "/srv/app/main.py", 3), LOOP, Frame("fetch", "/srv/app/db.py", 41))
RUNNING = Record("running", 17, "boot/4711", "/srv/app/main.py", 0.5, 0.5)
PAUSED = evolve(
    RUNNING,
    state="paused",
    began_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    seconds=3.25,
    offender=Function("fetch", "/srv/app/db.py", 40),
    via="recv",
    frames=FRAMES,
)

DUMP = f"""\
Stack (most recent call first):
  File "/srv/app/db.py", line 41 in fetch
  File "{LOOP.file}", line 1094 in runUntilCurrent
  File "/srv/app/main.py", line 3 in <module>
"""


def box(*records: Record) -> bytes:
    """A box into which `records` were written, in that order."""
    data = bytearray(EMPTY)
    for sequence, record in enumerate(records):
        slot = encode(record, sequence)
        at = SLOTS_AT[sequence % 2]
        data[at : at + len(slot)] = slot
    return bytes(data)


names = st.text(max_size=400)
numbers = st.integers(0, 2**31 - 1)
frames = st.builds(Frame, names, names, numbers)
records = st.builds(
    Record,
    state=st.sampled_from(["running", "paused", "clean"]),
    pid=numbers,
    process=st.text(max_size=50),
    program=names,
    threshold=st.floats(0.001, 1e12),
    step=st.floats(0.5, 1e12),
    began_at=st.none() | st.just(PAUSED.began_at),
    seconds=st.floats(0, 1e9),
    offender=st.none() | st.builds(Function, names, names, numbers),
    via=st.none() | st.text(min_size=1, max_size=400),
    frames=st.lists(frames, max_size=8).map(tuple),
)


def shortened(record: Record) -> Record:
    """`record` as it comes back: long names cut to their ends."""

    def cut(named: Any) -> Any:
        return evolve(named, function=named.function[-300:], file=named.file[-300:])

    return evolve(
        record,
        program=record.program[-300:],
        via=record.via[-300:] if record.via else None,
        offender=cut(record.offender) if record.offender else None,
        frames=tuple(map(cut, record.frames)),
    )


@unhurried
@given(records, records, records)
def test_the_latest_record_comes_back(first: Record, second: Record, third: Record) -> None:
    """What was written last is what is read, whatever is in it."""
    assert decode(box(first, second, third)) == shortened(third)


@unhurried
@given(records, records, st.data())
def test_a_damaged_box_never_tells_what_was_not_written(
    first: Record, second: Record, data: st.DataObject
) -> None:
    """With any bit flipped or the end cut off, what is read was written, or nothing is."""
    damaged = bytearray(box(first, second))
    written = len(encode(first, 0)), len(encode(second, 1))
    slot = data.draw(st.sampled_from([0, 1]))
    spot = SLOTS_AT[slot] + data.draw(st.integers(0, written[slot] - 1))
    if data.draw(st.booleans()):
        damaged[spot] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[spot:]
    assert decode(bytes(damaged)) in (None, shortened(first), shortened(second))


@unhurried
@given(records, st.data())
def test_a_torn_write_leaves_the_record_before(record: Record, data: st.DataObject) -> None:
    """If only the beginning of a record got there, the one before it still tells."""
    torn = bytearray(box(RUNNING, RUNNING))
    slot = encode(record, 2)
    length = data.draw(st.integers(0, len(slot) - 1))
    torn[SLOTS_AT[0] : SLOTS_AT[0] + length] = slot[:length]
    assert decode(bytes(torn)) == RUNNING


@unhurried
@given(st.binary(max_size=200), st.integers(0, STACKS_AT))
def test_garbage_is_no_record(garbage: bytes, at: int) -> None:
    """Whatever bytes stand in a box, reading it raises nothing, and yields nothing."""
    assert decode(garbage) is None
    assert decode(EMPTY[:at] + garbage) is None


@pytest.mark.parametrize(
    "payload",
    [b"{}", b"[]", b"1", b'{"sequence":1}', b"\xff", b"[" * 5000, b'{"sequence":{"a":1}}'],
)
def test_a_whole_slot_of_another_version_is_no_record(payload: bytes) -> None:
    """A checksum that is right does not make a record of what is none."""
    from zlib import crc32

    slot = b"%08x %08x\n" % (len(payload), crc32(payload)) + payload
    assert decode(EMPTY[: SLOTS_AT[0]] + slot) is None


def test_a_slot_is_never_too_long() -> None:
    """Of a stack with long names as much is kept as a slot has room for, the innermost calls."""
    long = tuple(Frame("\U0001f40d" * 1000, "\U0001f40d" * 5000, n) for n in range(100))
    slot = encode(evolve(PAUSED, frames=long, program="p" * 10**6, via="v" * 10**6), 1)
    assert len(slot) <= SLOT_BYTES
    record = decode(EMPTY[: SLOTS_AT[0]] + slot)
    assert record is not None
    assert [frame.line for frame in record.frames] == list(range(100))[-len(record.frames) :]
    assert record.frames


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", True), (EMPTY[:5], True), (EMPTY[:64], True), (b"root:x:0:0", False), (b"\0", False)],
)
def test_what_may_be_overwritten(data: bytes, expected: bool) -> None:
    """A box, or what a torn write left of one, may be overwritten; any other file may not."""
    assert is_box(data) is expected


def test_stacks_of_faulthandler() -> None:
    """The stacks come oldest first, each with its outermost call first, escapes undone."""
    escaped = DUMP.replace("fetch", "f\\xe9tch").replace("app/db", "\\u4e2d\\U0001f40d/db")
    assert parse_stacks(DUMP + escaped) == [
        FRAMES,
        (
            *FRAMES[:2],
            Frame("fétch", "/srv/中🐍/db.py", 41),
        ),
    ]


def test_what_is_odd_in_a_stack() -> None:
    """A frame that faulthandler could not name is kept as such, and what it left out ends it."""
    text = "Stack (most recent call first):\n  File ???, line ??? in ???\n  ...\n  File junk\n"
    assert parse_stacks(text) == [(Frame("???", "???", 0),)]


def test_a_stack_that_was_cut_short_is_left_out() -> None:
    """If the process died while its stack was written, the whole one before it is the last."""
    for length in range(len(DUMP)):
        stacks = parse_stacks(DUMP + DUMP[:length])
        assert stacks[0] == FRAMES
        assert stacks[-1] == FRAMES


@unhurried
@given(st.text(alphabet='Stack (mosrencl fi):\nFe"x/,1?\\u0', max_size=300))
def test_any_text_is_taken(text: str) -> None:
    """Parsing and judging any text raises nothing."""
    last_run(PAUSED, parse_stacks(DUMP + text))
    last_run(RUNNING, parse_stacks("Stack (most recent call first):\n" + text))


@pytest.mark.parametrize("state", ["running", "clean"])
def test_no_report_unless_paused(state: Any) -> None:
    """A run that was stopped, or was not paused when it died, is none to report."""
    assert last_run(evolve(RUNNING, state=state), []) is None
    assert last_run(None, [FRAMES]) is None
    assert last_run(evolve(PAUSED, state="clean"), [FRAMES]) is None


def test_the_report_of_a_pause() -> None:
    """A pause that never ended is reported with its function, and how long it was seen."""
    found = last_run(PAUSED, [])
    assert found is not None
    assert str(found) == (
        "the last run died while paused for at least 3.2 s in fetch (app/db.py:40) via recv"
    )
    assert found.traceback.splitlines()[-1] == (
        "Process 17 (/srv/app/main.py) since 2026-01-01T00:00:00.000+00:00: " + found.summary
    )
    assert '  File "/srv/app/db.py", line 41, in fetch' in found.traceback


def test_the_report_of_a_held_gil() -> None:
    """Each further stack proves that the GIL was held for twice as long."""
    found = last_run(RUNNING, parse_stacks(DUMP * 5))
    assert found is not None
    assert str(found) == (
        "the last run died while paused for at least 8.0 s in fetch (app/db.py:41), in C code that"
        " held the GIL"
    )
    longer = last_run(PAUSED, parse_stacks(DUMP * 5))
    assert longer is not None
    assert longer.seconds == 11.25
    assert longer.began_at == PAUSED.began_at


def test_a_stack_of_a_waiting_reactor_is_no_pause() -> None:
    """If only the watch thread got no CPU, nothing is reported."""
    wait = Frame("doPoll", LOOP.file.replace("base", "epollreactor"), 200)
    assert last_run(RUNNING, [(FRAMES[0], wait)]) is None
