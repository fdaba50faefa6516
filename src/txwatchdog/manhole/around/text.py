"""Tables of `records` -> text. Pure; imported when someone looks, for it brings rich."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import frozen
from rich import box
from rich.table import Table
from rich.text import Text

from txwatchdog.blame import callback_start, here
from txwatchdog.manhole.around.records import (
    Class,
    Delayed,
    Failed,
    Listing,
    Objects,
    Pending,
    Reader,
    Thread,
    Threads,
)
from txwatchdog.manhole.welcome import age
from txwatchdog.tables import render
from txwatchdog.tracebacks import traceback_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from txwatchdog.records import Frame

__all__ = ["listing_text", "stacks_text", "tracebacks_text"]

_MOST_ROWS = 1000  # that rich lays out: it takes half a millisecond for each
_STACK = 12  # frames of a thread, the innermost
_IDLE_STACK = 3  # of one that is in no code of the application's
_NAMES = 4  # threads that share a stack


@frozen
class _Column:
    title: str
    cell: Callable[[Any], str]
    is_number: bool = False
    folds: bool = False


def listing_text(listing: Listing, width: int, *, colour: bool) -> str:
    """A table as text, with a line that sums up, and what else is to be said."""
    lines = []
    shown = listing.rows[:_MOST_ROWS]
    if shown:
        lines.append(render(_table(listing.what, shown), width, colour=colour))
        if len(shown) < len(listing.rows):
            lines.append(f"… {len(listing.rows) - len(shown):,} more rows; --json shows all")
    if listing.total is not None:
        lines += _wrapped(_summary(listing, listing.total), width)
    if isinstance(listing, Threads):
        if listing.pool is not None:
            lines.append(str(listing.pool))
        lines += ["", stacks_text(shown)] if shown else []
    for note in listing.notes:
        lines += _wrapped(note, width)
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        _printable(text), max(width, 20), break_long_words=False, break_on_hyphens=False
    )


def tracebacks_text(errors: Sequence[Failed]) -> str:
    """The tracebacks of failures, in their order."""
    return "\n\n".join(
        _printable(
            f"{_clock(error)}  {error.namespace} {error.level}: {error.message}\n{error.traceback}"
        )
        for error in errors
    )


def stacks_text(threads: Sequence[Thread]) -> str:
    """The stacks of threads, but for our own; those that are the same once."""
    alike: dict[tuple[Frame, ...], list[str]] = {}
    for thread in threads:
        if thread.state != "txwatchdog":
            alike.setdefault(thread.frames, []).append(thread.name)
    return _printable(
        "\n".join(f"{_names(names)}:\n{_stack(frames)}" for frames, names in alike.items())
    )


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _stack(frames: tuple[Frame, ...]) -> str:
    """A stack, without how the thread was started and got to its work, if there is more to it."""
    start = callback_start([(frame.function, frame.file) for frame in frames])
    own = (
        index
        for index, frame in enumerate(frames)
        if index >= start and here().kind(frame.file) in {"application", "third-party"}
    )
    start = max(next(own, len(frames) - _IDLE_STACK), len(frames) - _STACK, 0)
    text = traceback_text(frames[start:]).rstrip("\n")
    _, _, text = text.partition("\n")  # without "Traceback (most recent call last):"
    return f"  … {start} frame{'s' * (start > 1)}\n{text}" if start else text


def _printable(text: str) -> str:
    """Without what a terminal would obey: strangers may have a say in an error's text."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def _table(what: str, rows: Sequence[Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    columns = _COLUMNS[what]
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=not column.folds,
            overflow="fold" if column.folds else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(_printable(column.cell(row))) for column in columns))
    return table


def _summary(listing: Listing, total: int) -> str:
    one, many = _NOUNS[listing.what]
    text = f"{total:,} {one if total == 1 else many}"
    if isinstance(listing, Objects):
        text += f" of {listing.classes:,} classes"
        if listing.since is not None:
            text += f"; growth since {listing.since:%H:%M:%S}Z"
    if listing.counts and (listing.left_out or listing.what in _COUNTED):
        text += ": " + ", ".join(f"{count:,} {name}" for name, count in listing.counts[:_COUNTS])
        text += ", …" * (len(listing.counts) > _COUNTS)
    if listing.left_out and listing.rows:
        text += f"; {listing.left_out:,} not shown"
    return text


_COUNTS = 5
_COUNTED = {"threads"}  # whose counts say more than the rows


_NOUNS = {
    "readers": ("descriptor", "descriptors"),
    "delayed": ("delayed call", "delayed calls"),
    "threads": ("thread", "threads"),
    "deferreds": ("Deferred that has not fired", "Deferreds that have not fired"),
    "tasks": ("task", "tasks"),
    "objects": ("object", "objects"),
    "errors": ("error logged", "errors logged"),
}


def _age(row: Reader) -> str:
    if row.age_seconds is not None:
        return _lasted(row.age_seconds)
    return "" if row.age_at_least_seconds is None else f"> {_lasted(row.age_at_least_seconds)}"


def _lasted(seconds: float | None) -> str:
    return "" if seconds is None else age(timedelta(seconds=seconds))


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _seconds(seconds: float | None, digits: int) -> str:
    return "" if seconds is None else f"{seconds:,.{digits}f}"


def _called(row: Delayed) -> str:
    every = "" if row.every_seconds is None else f", every {row.every_seconds:g} s"
    asyncio = " (asyncio)" if row.loop == "asyncio" else ""
    by = f", scheduled at {row.scheduled_by}" if row.scheduled_by else ""
    return f"{row.function}{every}{asyncio}{by}"


def _waits(row: Pending) -> str:
    if row.known_by == "nothing":
        return "nothing waits for it" if row.count == 1 else "nothing waits for them"
    return f"{_KNOWN_BY.get(row.known_by, '')}{row.place}"


_KNOWN_BY = {
    "created": "created at ",
    "calls": "will call ",
    "resumes": "will resume ",
    "result": "result of ",
}


def _clock(row: Failed) -> str:
    return f"{row.at:%m-%d %H:%M:%S}Z"


def _failed(row: Failed) -> str:
    kind = row.type.rsplit(".", 1)[-1] + ": " if row.type else ""
    lines = (kind + row.text).splitlines()
    return lines[0] if lines else ""


def _raised_in(row: Failed) -> str:
    frame = row.function
    if frame is None:
        return ""
    return f"{frame.function} ({'/'.join(frame.file.split('/')[-2:])}:{frame.line})"


def _protocol(row: Reader) -> str:
    name = (row.protocol or "").rsplit(".", 1)[-1]
    return f"{name} (TLS)" if row.tls else name


def _ends(row: Reader) -> str:
    if row.peer is not None:
        return row.peer
    return f"on {row.local}" if row.local is not None else ""


def _growth(row: Class) -> str:
    return "" if row.growth is None else f"{row.growth:+,}"


_COLUMNS: dict[str, tuple[_Column, ...]] = {
    "readers": (
        _Column("fd", lambda row: "" if row.fd is None else str(row.fd), is_number=True),
        _Column("", lambda row: row.waits),
        _Column("transport", lambda row: row.transport),
        _Column("protocol", _protocol, folds=True),
        _Column("peer", _ends),
        _Column("age", _age, is_number=True),
        _Column("idle", lambda row: _lasted(row.idle_seconds), is_number=True),
        _Column("received", lambda row: _bytes(row.received), is_number=True),
        _Column("sent", lambda row: _bytes(row.sent), is_number=True),
        _Column("unsent", lambda row: _bytes(row.unsent), is_number=True),
    ),
    "delayed": (
        _Column("in s", lambda row: _seconds(row.seconds, 3), is_number=True),
        _Column("at", lambda row: f"{row.at:%H:%M:%S}Z"),
        _Column("function", _called, folds=True),
    ),
    "threads": (
        _Column("thread", lambda row: row.name, folds=True),
        _Column("state", lambda row: row.state),
        _Column("cpu s", lambda row: _seconds(row.cpu_seconds, 2), is_number=True),
        _Column("in", lambda row: str(row.function or ""), folds=True),
    ),
    "deferreds": (
        _Column("count", lambda row: f"{row.count:,}", is_number=True),
        _Column("class", lambda row: row.kind),
        _Column("which", _waits, folds=True),
    ),
    "tasks": (
        _Column("task", lambda row: row.name, folds=True),
        _Column("state", lambda row: row.state),
        _Column("coroutine", lambda row: row.coroutine, folds=True),
        _Column("at", lambda row: row.at or "", folds=True),
        _Column("waits for", lambda row: row.waits_for or ""),
    ),
    "objects": (
        _Column("count", lambda row: f"{row.count:,}", is_number=True),
        _Column("growth", _growth, is_number=True),
        _Column("class", lambda row: row.name, folds=True),
    ),
    "errors": (
        _Column("at", _clock),
        _Column("level", lambda row: row.level),
        _Column("error", _failed, folds=True),
        _Column("raised in", _raised_in, folds=True),
        _Column("event", lambda row: row.message if row.type else "", folds=True),
    ),
}
