"""The ledger: bounded history and totals.

One thread writes; any thread reads. No lock: each row is an immutable tuple, a reader copies the
table in one step that no other thread can get into (`dict.copy` runs no Python code, not even by
way of the collector, so the GIL is held), and totals are summed from that copy, so they always add
up. A row's profile is as immutable as the row, so it is that of just the pauses that the row
counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from functools import partial
from heapq import nlargest
from itertools import islice
from operator import attrgetter
from typing import TypeAlias

from attrs import evolve, frozen

from txwatchdog.calls import NODES, Calls
from txwatchdog.calls import OTHER as OTHER_CALL
from txwatchdog.causes import CAUSES, UNBLAMED
from txwatchdog.origin import Origin
from txwatchdog.paths import callback_paths
from txwatchdog.records import Function, Offender, Pause

__all__ = ["ORDERS", "RECENT", "ROWS", "Ledger", "Totals"]

ROWS = 500
"""The most rows that the offenders' table has."""

RECENT = 1000
"""The most pauses that are kept whole, with their samples."""

FRAMES = 300_000
"""The most frames in the samples of those; where that is less, fewer pauses are kept. At some
90 bytes each, and mostly shared: no more than 30 MB."""

ANNOTATION_FRAMES = 4
"""An annotation is at most some 400 bytes."""

PROFILES = 50
"""The rows that keep a profile of more than one line, which is the large part of a row."""

_Key: TypeAlias = "Function | str"
NOT_SEEN = "(not seen)"
OTHER = "(other)"
NOBODY = "(nobody)"
"""The row of pauses that are nobody's fault: they count under their cause alone, so it is never
shown; but it is in the same table, so that all totals add up in each snapshot."""

ORDERS: dict[str, Callable[[Offender], float | datetime]] = {
    "total": attrgetter("total_seconds"),
    "count": attrgetter("count"),
    "worst": attrgetter("worst_seconds"),
    "recent": attrgetter("last_at"),
}
"""What the offenders' table can be ordered by, most first."""


@frozen
class Totals:
    """A snapshot of the ledger.

    Attributes:
        pauses: how many there were.
        paused_seconds: their durations' sum.
        offenders: the rows, by total time, most first.
        causes: for each cause its pauses and their seconds.
    """

    pauses: int
    paused_seconds: float
    offenders: tuple[Offender, ...]
    causes: Mapping[str, tuple[int, float]]


@frozen
class _Row:
    """What is kept of one function; durations in integer nanoseconds, so that sums are exact."""

    via: str | None
    count: int
    total_ns: int
    worst_ns: int
    last_at: datetime
    causes: Mapping[str, tuple[int, int]]
    """Pauses and their ns, for each cause that there was. Never changed once made."""
    calls: Calls
    origin: Origin | None

    def plus(self, other: _Row, calls: Calls) -> _Row:
        """Both in one, with `calls` as the profile of both."""
        latest = self if self.last_at > other.last_at else other
        return _Row(
            latest.via,
            self.count + other.count,
            self.total_ns + other.total_ns,
            max(self.worst_ns, other.worst_ns),
            latest.last_at,
            {
                cause: _add(self.causes.get(cause), other.causes.get(cause))
                for cause in {**self.causes, **other.causes}
            },
            calls,
            latest.origin,
        )


class _Latest:
    """The latest pauses, within bounds of number and size. One thread adds; any thread reads."""

    def __init__(self, limit: int, frames: int) -> None:
        self._limit = limit
        self._most_frames = frames
        self._frames = 0
        self.pauses: deque[Pause] = deque()

    def add(self, pause: Pause) -> None:
        self.pauses.append(pause)
        self._frames += _frames(pause)
        # The latest is kept however large: one pause has bounds of its own.
        while len(self.pauses) > 1 and (
            len(self.pauses) > self._limit or self._frames > self._most_frames
        ):
            self._frames -= _frames(self.pauses.popleft())


class Ledger:
    """Folds pauses into bounded memory.

    Args:
        rows: the most rows, at least 2. When they are used up, the half with the least time is
            folded into the row `(other)`.
        recent: the most pauses, of the latest, that are kept whole.
        profiles: the most rows that keep a profile. When there are more, the half of them with the
            least time keeps nothing but that time.
        frames: the most frames in the samples of the pauses that are kept whole.
    """

    def __init__(
        self,
        rows: int = ROWS,
        recent: int = RECENT,
        profiles: int = PROFILES,
        frames: int = FRAMES,
    ) -> None:
        self._limit = rows
        self._kept = partial(_Latest, recent, frames)
        self._profiles = profiles
        # Written by one thread, read by any; both replaced, never cleared, by `reset`.
        self._recent = self._kept()
        self._rows: dict[_Key, _Row] = {}
        self.since: datetime | None = None

    def reset(self, now: datetime | None = None) -> None:
        """Forget everything; count from `now`. Any thread may call it.

        A pause that the writer is about to enter meanwhile may be lost: it belongs to the time
        before.
        """
        self._rows = {}
        self._recent = self._kept()
        self.since = now or datetime.now(timezone.utc)

    def add(self, pause: Pause) -> None:
        """Enter a finished pause. Only the one writing thread calls it."""
        rows = self._rows
        self._recent.add(pause)
        took_ns = round(pause.duration * 1e9)
        key = NOBODY if pause.cause in UNBLAMED else pause.offender or NOT_SEEN
        known = rows.get(key)
        calls = (known.calls if known else Calls()).plus(callback_paths(pause), NODES)
        causes = {pause.cause: (1, took_ns)}
        began = pause.started_at
        row = _Row(pause.via, 1, took_ns, took_ns, began, causes, calls, pause.origin)
        # One step: the row and its profile are never seen at odds.
        rows[key] = known.plus(row, calls) if known else row
        if len(rows) > self._limit:
            folded = _fold(rows, keep=key, room=self._limit // 2 - 1)
            if self._rows is rows:  # else it was reset meanwhile
                self._rows = folded
        elif len(calls) > 1 and (known is None or len(known.calls) <= 1):
            _fold_profiles(rows, self._profiles)

    def recent(self, n: int) -> list[Pause]:
        """The latest `n` pauses, newest first. Any thread may call it."""
        return list(islice(reversed(list(self._recent.pauses)), n))

    def totals(self) -> Totals:
        """A snapshot. Any thread may call it."""
        rows = list(self._rows.copy().items())
        return Totals(
            pauses=sum(row.count for _, row in rows),
            paused_seconds=sum(row.total_ns for _, row in rows) / 1e9,
            offenders=tuple(
                _offender(key, row)
                for key, row in sorted(rows, key=lambda item: item[1].total_ns, reverse=True)
                if key != NOBODY
            ),
            causes=_causes(row for _, row in rows),
        )


def _frames(pause: Pause) -> int:
    """The frames in a pause's samples; the stack of one that saw no change is counted once.

    An annotation counts as so many frames as have its size.
    """
    sizes = {id(sample.stack): len(sample.stack) for sample in pause.samples}
    sizes |= {id(s.annotations): ANNOTATION_FRAMES * len(s.annotations) for s in pause.samples}
    return sum(sizes.values())


def _fold(rows: dict[_Key, _Row], keep: _Key, room: int) -> dict[_Key, _Row]:
    """The `room` rows with the most time, and `keep`; the others' sum is in `(other)`.

    Half at a time, so that a new function costs little on average, however many come.
    """
    worst = {
        key
        for key, _ in nlargest(
            room,
            ((k, r) for k, r in rows.items() if k not in {OTHER, NOBODY}),
            key=lambda item: item[1].total_ns,
        )
    }
    worst.update((keep, NOBODY))
    folded = {key: row for key, row in rows.items() if key in worst}
    folded[OTHER] = _sum(row for key, row in rows.items() if key not in worst)
    return folded


def _fold_profiles(rows: dict[_Key, _Row], limit: int) -> None:
    """If more than `limit` rows have a profile, leave it to the half of them with most time."""
    profiled = [(key, row) for key, row in rows.items() if len(row.calls) > 1]
    if len(profiled) > limit:
        profiled.sort(key=lambda item: item[1].total_ns)
        for key, row in profiled[: len(profiled) - limit // 2]:
            rows[key] = evolve(row, calls=row.calls.folded())


def _sum(rows: Iterable[_Row]) -> _Row:
    total: _Row | None = None
    for row in rows:
        total = total.plus(row, total.calls) if total else row
    assert total is not None
    calls = Calls().plus([((OTHER_CALL,), total.total_ns)])
    return evolve(total, via=None, calls=calls, origin=None)


def _add(a: tuple[int, int] | None, b: tuple[int, int] | None) -> tuple[int, int]:
    (count_a, ns_a), (count_b, ns_b) = a or (0, 0), b or (0, 0)
    return count_a + count_b, ns_a + ns_b


def _causes(rows: Iterable[_Row]) -> dict[str, tuple[int, float]]:
    """Pauses and seconds of every cause there is, those that never were included."""
    totals: dict[str, tuple[int, int]] = dict.fromkeys(CAUSES, (0, 0))
    for row in rows:
        for cause, spent in row.causes.items():
            totals[cause] = _add(totals[cause], spent)
    return {cause: (count, ns / 1e9) for cause, (count, ns) in totals.items()}


def _offender(key: _Key, row: _Row) -> Offender:
    named = isinstance(key, Function)
    return Offender(
        function=key.function if isinstance(key, Function) else key,
        file=key.file if isinstance(key, Function) else None,
        line=key.line if isinstance(key, Function) else None,
        via=row.via if named else None,
        count=row.count,
        total_seconds=row.total_ns / 1e9,
        worst_seconds=row.worst_ns / 1e9,
        last_at=row.last_at,
        cause=max(row.causes, key=lambda cause: row.causes[cause][1]),
        calls=row.calls,
        origin=row.origin if named else None,
    )
