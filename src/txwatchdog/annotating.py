"""What code says of itself, for the record of a pause that it makes: `Watchdog.annotate`.

A note belongs to the frame of its `with` block. Whoever samples a stack finds those of the frames
that are on it, so a coroutine's or generator's notes hold just while it runs: not while it waits in
the block and others run, and again once it goes on. A context variable would follow a request
further, but another thread can't read one; a plain attribute would be read by others' turns.

Frames are known by their identity and not kept: a reference would keep a coroutine that nobody
resumes from being collected. A frame leaves its blocks before it goes, which takes the note away;
where someone enters without ever leaving, the frame's code tells an old note from a new frame.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType, MappingProxyType, TracebackType
from typing import Any, TypeAlias

__all__ = ["NO_NOTES", "Note", "Notes", "Plain", "plain"]

Plain: TypeAlias = "str | int | float | bool | None"
"""What is kept of a value."""

NO_NOTES: Mapping[str, Plain] = MappingProxyType({})

MAX_FIELDS = 16
"""The names on one record; the innermost ones are kept."""

MAX_NAME = 64
"""Characters of a name that are kept."""

MAX_TEXT = 256
"""Characters of a value that are kept."""

MAX_BITS = 64
"""The longest whole number that is kept as one."""

MAX_BLOCKS = 100_000
"""The frames that may be in such blocks at once, coroutines that wait included. Others' notes are
lost: a service with more of them has no room for ours."""

MAX_DEPTH = 64
"""Blocks within one another in one frame."""

_ENTERING = frozenset({"__enter__", "__aenter__", "enter_context", "enter_async_context"})
"""Who enters a block on behalf of its caller: then the note is the caller's."""

_qualname = type.__dict__["__qualname__"].__get__  # a metaclass may have one of its own


class Note:
    """A context manager that notes `fields` for as long as its block lasts.

    For one block at a time. It takes about a microsecond, neither locks nor raises, and looks at
    no value: that is done when a pause is sampled. Any thread may use it.

    Left before a block within it, it is taken out from around that one, whose note stays. To enter
    it again before it is left, or to leave it twice, does nothing.
    """

    __slots__ = ("_code", "_depth", "_fields", "_is_entered", "_key", "_outer", "_table")

    def __init__(self, table: dict[int, Note], fields: Mapping[str, object]) -> None:
        self._table = table
        self._fields = fields
        self._key = 0
        self._code: CodeType | None = None
        self._outer: Note | None = None
        self._depth = 0
        self._is_entered = False

    def __enter__(self) -> None:
        if self._is_entered:
            return  # it would be around itself
        self._is_entered = True
        frame = sys._getframe(1)
        while (caller := frame.f_back) is not None and (
            caller.f_code.co_name in _ENTERING or frame.f_code.co_name in _ENTERING
        ):
            frame = caller
        table = self._table
        self._key = key = id(frame)
        self._code = code = frame.f_code
        outer = table.get(key)
        if outer is not None and outer._code is code and outer._depth < MAX_DEPTH:
            self._outer = outer
            self._depth = outer._depth + 1
        if len(table) < MAX_BLOCKS:
            table[key] = self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if not self._is_entered:
            return
        self._is_entered = False
        table, outer = self._table, self._outer
        innermost = table.get(self._key)
        if innermost is not self:  # left before one within it, or there was no room for it
            inner = next((note for note in _chain(innermost) if note._outer is self), None)
            if inner is not None:
                inner._outer = outer
        elif outer is None:
            del table[self._key]
        else:
            table[self._key] = outer
        self._outer = None
        self._depth = 0

    def levels(self, frame: FrameType) -> Iterator[Mapping[str, object]]:
        """What was noted in `frame`, innermost block first; nothing if the note is not its own."""
        for note in _chain(self):
            if note._code is not frame.f_code:
                return
            yield note._fields


def _chain(note: Note | None) -> Iterator[Note]:
    """It, and those around it. Bounded, whatever threads that share one make of it."""
    for _ in range(MAX_DEPTH + 1):
        if note is None:
            return
        yield note
        note = note._outer


class Notes:
    """The notes of all blocks that code is in, or waits in. Bounded.

    Each is written by the thread that enters the block, under its frame's identity, which no other
    thread's frame has; rings read, for the frames of the reactor's thread alone. Each step is one
    operation of a dict, so no lock is needed.
    """

    def __init__(self) -> None:
        self._table: dict[int, Note] = {}

    def note(self, fields: Mapping[str, object]) -> Note:
        """A block's note; see `Note`."""
        return Note(self._table, fields)

    def of(self, frame: FrameType | None) -> Mapping[str, Plain]:
        """What is noted on the stack that ends in `frame`: innermost wins, outermost comes first.

        Called by rings, in whichever thread. Never raises.
        """
        if not self._table:
            return NO_NOTES
        found: dict[str, object] = {}
        try:
            while frame is not None and len(found) < MAX_FIELDS:
                if (note := self._table.get(id(frame))) is not None:
                    for fields in note.levels(frame):
                        found = {**fields, **found}
                frame = frame.f_back
            kept = list(found.items())[-MAX_FIELDS:]
            return {_cut(name, MAX_NAME): plain(value) for name, value in kept} or NO_NOTES
        except Exception:
            return NO_NOTES


def plain(value: Any) -> Plain:
    """What is kept of `value`: text, a number, a truth value or None, all of them bounded.

    Bytes count as text. Of anything else only the type's name is kept: what it has to say would
    take code of the service's, which must not run in another thread.
    """
    # By the methods of the built-in types: a subclass's own are code of the service's, too.
    kind = type(value)
    if value is None or kind is bool:
        return value  # type: ignore[no-any-return]
    if issubclass(kind, str):
        return _cut(str.__getitem__(value, slice(MAX_TEXT + 1)), MAX_TEXT)
    if issubclass(kind, bytes):
        begin = bytes.__getitem__(value, slice(MAX_TEXT + 1))
        return _cut(begin.decode("utf-8", "backslashreplace"), MAX_TEXT)
    if issubclass(kind, int):
        bits = int.bit_length(value)
        return int.__int__(value) if bits <= MAX_BITS else f"(a whole number of {bits} bits)"
    if issubclass(kind, float):
        number = float.__float__(value)
        return number if math.isfinite(number) else repr(number)  # JSON has no others
    return _cut(f"({_qualname(kind)})", MAX_TEXT)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
