"""The black box's contents: what is written of a run, and what the next run makes of it. Pure.

A box is one file: a header, two slots that are written in turn, and the stacks that faulthandler
appends. A slot holds one record as JSON, after its length and checksum in hexadecimal, so that a
write that was torn, and a file that was damaged, are recognised; the other slot still tells.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from attrs import asdict, evolve, field, frozen

from txwatchdog.annotating import Plain
from txwatchdog.blame import blame, cut_own
from txwatchdog.records import Frame, Function, RawStack, annotated, iso
from txwatchdog.tracebacks import traceback_text

__all__ = [
    "EMPTY",
    "SLOTS_AT",
    "SLOT_BYTES",
    "STACKS_AT",
    "LastRun",
    "Record",
    "blamed_dump",
    "decode",
    "encode",
    "is_box",
    "last_run",
    "parse_stacks",
]

State: TypeAlias = Literal["running", "paused", "clean"]

MAGIC = b"txwatchdog black box, version 1\n"
SLOT_BYTES = 32 * 1024
SLOTS_AT = (4096, 4096 + SLOT_BYTES)
STACKS_AT = 4096 + 2 * SLOT_BYTES
"""Where faulthandler's text begins: what comes before is always there."""

EMPTY = MAGIC + bytes(STACKS_AT - len(MAGIC))
"""A box in which nothing has been written."""

MAX_FRAMES = 100
"""The innermost frames that are kept, as many as faulthandler writes; fewer if names are long."""

MAX_NAME = 300
"""Characters of a name that are kept; of a longer one the end, which tells more of a path."""

MAX_ANNOTATIONS_BYTES = SLOT_BYTES // 4
"""They must not take the stack's room: in JSON a character may be 12 bytes."""

_HEAD = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8})\n")
_HEAD_BYTES = 18
_STACK_BEGINS = "Stack (most recent call first):"
_FRAME = re.compile(r'  File (?:"(.*)"|\?\?\?), line (\d+|\?\?\?) in (.*)')
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")


@frozen
class Record:
    """What a run writes of itself.

    Attributes:
        state: `running`, `paused`, or `clean` once the watchdog was stopped.
        pid: the process.
        process: what tells it from another of the same pid: the machine's boot, the start time.
        program: its argv[0].
        threshold: seconds.
        step: seconds; the n-th stack (from 0) that faulthandler writes proves that the GIL had
            been held for `step * 2**n`.
        began_at: when the tick under way began; aware, UTC. None if it is not a pause, as all
            that follows is empty then.
        seconds: how long the pause had lasted.
        offender: the function that is blamed so far.
        via: the innermost function's name, where that is another one.
        frames: the reactor thread's stack, outermost call first.
        annotations: what `Watchdog.annotate` had noted.
    """

    state: State
    pid: int
    process: str
    program: str
    threshold: float
    step: float
    began_at: datetime | None = None
    seconds: float = 0.0
    offender: Function | None = None
    via: str | None = None
    frames: tuple[Frame, ...] = ()
    annotations: Mapping[str, Plain] = field(factory=dict, hash=False)


@frozen(repr=False)
class LastRun:
    """How the run before this one died: while the reactor was paused.

    Attributes:
        pid: its process.
        program: its argv[0].
        began_at: when the pause began; aware, UTC. None where only faulthandler saw it.
        seconds: how long it had lasted at least: until it was last seen.
        offender: the function that is blamed; for a stack of faulthandler's its line is the one
            at which it stood, since its first line is not known.
        via: the innermost function's name, where that is another one.
        frames: the reactor thread's stack, outermost call first.
        held_gil: whether C code held the GIL then, so that no Python thread could run.
        annotations: what `Watchdog.annotate` had noted, as far as it was seen.
    """

    pid: int
    program: str
    began_at: datetime | None
    seconds: float
    offender: Function | None
    via: str | None
    frames: tuple[Frame, ...]
    held_gil: bool
    annotations: Mapping[str, Plain] = field(factory=dict, hash=False)

    @property
    def summary(self) -> str:
        """One line: how long it had been paused, and in which function."""
        where = f" in {self.offender}" if self.offender else ""
        return (
            f"the last run died while paused for at least {self.seconds:.1f} s{where}"
            + (f" via {self.via}" if self.via else "")
            + (", in C code that held the GIL" if self.held_gil else "")
        )

    @property
    def traceback(self) -> str:
        """The stack as text like Python's own, the summary in its last line.

        Source files are read here, when someone looks: those of today.
        """
        since = f" since {iso(self.began_at)}" if self.began_at else ""
        who = f"Process {self.pid} ({self.program}){since}: "
        noted = annotated(self.annotations)
        return traceback_text(self.frames) + noted + who + self.summary + "\n"

    def __str__(self) -> str:
        return self.summary

    __repr__ = __str__


def is_box(data: bytes) -> bool:
    """Whether a file that begins with `data` is a box, be it cut short; an empty file is."""
    return data[: len(MAGIC)] == MAGIC[: len(data)]


def encode(record: Record, sequence: int) -> bytes:
    """`record` as the bytes of a slot, at most `SLOT_BYTES`.

    Args:
        record: what to write. Its stack is cut at the outer end until it fits.
        sequence: greater than that of any record before.
    """
    frames = tuple(_short(frame) for frame in record.frames[-MAX_FRAMES:])
    offender = _short(record.offender) if record.offender else None
    via = record.via[-MAX_NAME:] if record.via else None
    record = evolve(
        record,
        offender=offender,
        via=via,
        program=record.program[-MAX_NAME:],
        frames=frames,
        annotations=_fitting(record.annotations),
    )
    while len(slot := _slot(record, sequence)) > SLOT_BYTES:
        record = evolve(record, frames=record.frames[len(record.frames) // 2 + 1 :])
    return slot


def decode(data: bytes) -> Record | None:
    """The latest record in a box.

    Args:
        data: the box from its beginning; `STACKS_AT` bytes of it are looked at.

    Returns:
        None if no slot holds a whole one.
    """
    best: tuple[int, Record] | None = None
    for at in SLOTS_AT:
        found = _read_slot(data[at : at + SLOT_BYTES])
        if found and (best is None or found[0] > best[0]):
            best = found
    return best[1] if best else None


def parse_stacks(text: str) -> list[tuple[Frame, ...]]:
    """The stacks that faulthandler wrote, oldest first, each with its outermost call first.

    A line that is not faulthandler's, or was cut short, ends its stack. A last stack that lacks
    its outer end, since the process died as it was written, is left out.
    """
    stacks: list[tuple[Frame, ...]] = []
    for section in text.split(_STACK_BEGINS + "\n")[1:]:
        frames: list[Frame] = []
        for line in section.split("\n")[:-1]:
            match = _FRAME.fullmatch(line)
            if match is None:
                break
            file, number, name = match.groups()
            frames.append(
                Frame(_unescaped(name), _unescaped(file or "???"), _number(number)),
            )
        stacks.append(tuple(reversed(frames)))
    if len(stacks) > 1 and stacks[-1][:1] != stacks[-2][:1]:
        stacks.pop()
    return [stack for stack in stacks if stack]


def blamed_dump(frames: Sequence[Frame]) -> tuple[Function | None, str | None]:
    """Whom a stack blames of which only names and lines are left: offender and via."""
    raw: RawStack = tuple((_code(frame), frame.line) for frame in frames)
    verdict = blame(cut_own(raw))
    return verdict.offender, verdict.via


def last_run(record: Record | None, stacks: Sequence[tuple[Frame, ...]]) -> LastRun | None:
    """What `record` and the stacks beside it say of how that run died.

    The watch thread throws the stacks away as soon as it can run again, so stacks that are left
    say that it never could; and a record of a pause that is left, that the pause never ended.

    Returns:
        None if it ended well, or was not paused as far as is known.
    """
    if record is None or record.state == "clean":
        return None
    seen = LastRun(
        record.pid,
        record.program,
        record.began_at,
        record.seconds,
        record.offender,
        record.via,
        record.frames,
        held_gil=False,
        annotations=record.annotations,
    )
    if stacks:
        offender, via = blamed_dump(stacks[-1])
        if offender is not None:  # else the reactor waits, and only the watch thread was held up
            # Added, for had the tick of the record ended, the watch thread would have cleared it.
            seconds = record.seconds + record.step * 2.0 ** (len(stacks) - 1)
            return evolve(
                seen, seconds=seconds, offender=offender, via=via, frames=stacks[-1], held_gil=True
            )
    return seen if record.state == "paused" else None


def _fitting(annotations: Mapping[str, Plain]) -> dict[str, Plain]:
    """As many of the innermost annotations as take no more than `MAX_ANNOTATIONS_BYTES`."""
    kept = dict(annotations)
    for name in annotations:
        if len(json.dumps(kept)) <= MAX_ANNOTATIONS_BYTES:
            break
        del kept[name]
    return kept


def _short(named: Any) -> Any:
    """A frame or function, its names cut to `MAX_NAME`."""
    return evolve(named, function=named.function[-MAX_NAME:], file=named.file[-MAX_NAME:])


def _slot(record: Record, sequence: int) -> bytes:
    fields = asdict(record, recurse=False)
    fields["began_at"] = iso(record.began_at) if record.began_at else None
    fields["offender"] = _row(record.offender) if record.offender else None
    fields["frames"] = [_row(frame) for frame in record.frames]
    fields["annotations"] = dict(record.annotations)
    # ASCII, thus lone surrogates of an undecodable file name too.
    payload = json.dumps({"sequence": sequence, **fields}, separators=(",", ":")).encode("ascii")
    return b"%08x %08x\n" % (len(payload), zlib.crc32(payload)) + payload


def _row(named: Frame | Function) -> tuple[str, str, int]:
    return named.function, named.file, named.line


def _read_slot(data: bytes) -> tuple[int, Record] | None:
    head = _HEAD.match(data)
    if head is None:
        return None
    length, checksum = int(head[1], 16), int(head[2], 16)
    payload = data[_HEAD_BYTES : _HEAD_BYTES + length]
    if len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    try:
        fields = json.loads(payload)
        sequence = int(fields.pop("sequence"))
        began_at, offender = fields.pop("began_at"), fields.pop("offender")
        return sequence, Record(
            began_at=datetime.fromisoformat(began_at) if began_at else None,
            offender=Function(*offender) if offender else None,
            frames=tuple(Frame(*row) for row in fields.pop("frames")),
            **fields,
        )
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None  # whole, but not of this version


def _unescaped(text: str) -> str:
    """`text` without the escapes that faulthandler writes for all but ASCII."""
    return _ESCAPE.sub(lambda match: _character(int(match[1] or match[2] or match[3], 16)), text)


def _character(number: int) -> str:
    return chr(number) if number < 0x110000 else "?"


def _number(text: str) -> int:
    return int(text[:9]) if text.isascii() and text.isdigit() else 0


def _code(frame: Frame) -> Any:
    """A code object that stands for the lost one; its first line is where the frame stood."""
    return (lambda: None).__code__.replace(
        co_name=frame.function, co_filename=frame.file, co_firstlineno=frame.line
    )
