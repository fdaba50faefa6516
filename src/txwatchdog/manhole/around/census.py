"""What there is on the heap: Deferreds that have not fired, and objects by their class."""

from __future__ import annotations

import gc
from collections import Counter
from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import Deferred

from txwatchdog.manhole import statics
from txwatchdog.manhole.around.heap import NotLookedAt, count_classes, instances
from txwatchdog.manhole.around.names import class_name, created_at, first_callback, result_of
from txwatchdog.manhole.around.records import Class, Listing, Objects, Pending

__all__ = ["Census", "find_deferreds"]

_LOOKED_AT = 100_000  # Deferreds
_PLACES = 5000  # that are told apart
_CLASSES = 20_000  # whose number is kept until the next look
_OTHER = ("other", "(other)", "")


def find_deferreds(reactor: Any, n: int, *, whole: bool) -> Listing:
    """The Deferreds that have not fired, counted by where they come from or what waits for them.

    Args:
        reactor: In whose thread they belong.
        n: How many rows to show.
        whole: Whether to look, however many objects the process has.
    """
    counts: Counter[tuple[str, str, str]] = Counter()

    def read(deferred: Any) -> None:
        if statics.attribute(deferred, "called"):
            return
        key = (*_origin(deferred), class_name(type(deferred)).rsplit(".", 1)[-1])
        counts[key if key in counts or len(counts) < _PLACES else _OTHER] += 1

    try:
        seen = instances(reactor, Deferred, _LOOKED_AT, read, whole=whole)
    except NotLookedAt as reason:
        return Listing("deferreds", (), None, notes=(str(reason),))
    rows = tuple(
        Pending(count, known_by, place, kind)
        for (known_by, place, kind), count in counts.most_common(n)
    )
    notes = []
    if seen > _LOOKED_AT:
        notes.append(f"{seen - _LOOKED_AT:,} more Deferreds, fired or not, were not looked at")
    if not any(known_by == "created" for known_by, _, _ in counts):
        notes.append("twisted.internet.defer.setDebugging(True) shows where new ones are created")
    kinds: Counter[str] = Counter()
    for (known_by, _, _), count in counts.items():
        kinds[known_by] += count
    total = sum(counts.values())
    return Listing("deferreds", rows, total, tuple(kinds.most_common()), tuple(notes))


def _origin(deferred: Any) -> tuple[str, str]:
    place = created_at(deferred)
    if place is not None:
        return "created", place
    known_by, function = first_callback(deferred)
    if function is None and (result := result_of(deferred)) is not None:
        return "result", str(result)
    return known_by, "" if function is None else str(function)


class Census:
    """Counts objects by class, and remembers how many there were.

    Several threads may use it: each look replaces what is remembered, whoever made it.
    """

    def __init__(self) -> None:
        self._before: tuple[datetime, dict[str, int]] | None = None

    def take(self, reactor: Any, kind: str | None, n: int, *, whole: bool) -> Objects:
        """Count.

        Args:
            reactor: In whose thread objects end.
            kind: A class's name, with its module or without, whose objects (and those of derived
                classes) are meant; it is compared as text. None for all.
            n: How many classes to show.
            whole: Whether to look, however many objects there are.
        """
        try:
            found = count_classes(reactor, whole=whole)
        except NotLookedAt as reason:
            return Objects("objects", (), None, notes=(str(reason),))
        before, self._before = (
            self._before,
            (
                datetime.now(timezone.utc),
                {name: count for name, (_, count) in list(found.items())[:_CLASSES]},
            ),
        )
        chosen = [
            Class(
                name,
                count,
                None if before is None else count - before[1].get(name, 0),
            )
            for name, (cls, count) in found.items()
            if kind is None or _is_kind(cls, kind)
        ]
        chosen.sort(key=lambda row: (-row.count, row.name))
        notes = []
        if kind is not None and not chosen:
            notes.append(f"no object of a class {kind}; objects shows which there are")
        if frozen := gc.get_freeze_count():
            notes.append(f"{frozen:,} frozen objects (gc.freeze) are not counted")
        return Objects(
            "objects",
            tuple(chosen[:n]),
            sum(row.count for row in chosen),
            notes=tuple(notes),
            classes=len(chosen),
            since=before[0] if before else None,
        )


def _is_kind(cls: type, wanted: str) -> bool:
    """Whether a class, or one that it is derived from, has a name."""
    return any(
        name == wanted or name.endswith("." + wanted)
        for name in map(class_name, statics.bases(cls))
    )
