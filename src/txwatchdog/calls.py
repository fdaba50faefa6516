"""Call paths and their time, in bounded memory: what profiles are made of. Pure.

A path is the calls of a stack from the outermost to the innermost, each as plain values, so that
neither frames nor code objects live on in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import nlargest
from typing import TypeAlias

__all__ = ["BETWEEN", "NODES", "NOT_SAMPLED", "OTHER", "Call", "Calls", "Path"]

Call: TypeAlias = "tuple[str, str | None, int | None, bool]"
"""A called function: its name, source file, first line, and whether the call is the reactor's (or
the program's on the way there) rather than a callback's. File and line are None in calls that stand
for no one function; no code object is without a file, so none can be mistaken for one of them.

Not a code object: two of those are equal though their files differ, and cost more to hash."""

Path: TypeAlias = "tuple[Call, ...]"

OTHER: Call = ("(other)", None, None, False)
"""Stands for the calls that there was no room for."""

NOT_SAMPLED: Call = ("(not sampled)", None, None, False)
"""Stands for time of which there is no sample."""

BETWEEN: Call = ("(between callbacks)", None, None, False)
"""Stands for time in which the reactor had called nobody."""

NODES = 500
"""The calls that an offender's merged profile has room for, at some 300 bytes each."""


class Calls:
    """A tree of calls, with the time that each took itself. Never changed once it is made.

    So one thread can replace it while others read the old one.

    Attributes:
        places: (the caller's place, the call) -> the call's place. Places count from 1 in the order
            of this dict, 0 being whoever called the outermost; a caller's is always smaller.
        own_ns: by place, the time in which the call was the innermost one.
    """

    __slots__ = ("own_ns", "places")

    def __init__(
        self, places: dict[tuple[int, Call], int] | None = None, own_ns: list[int] | None = None
    ) -> None:
        self.places = places or {}
        self.own_ns = own_ns or [0]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def total_ns(self) -> int:
        """The time of all its calls."""
        return sum(self.own_ns)

    def plus(self, paths: Iterable[tuple[Path, int]], limit: int | None = None) -> Calls:
        """This tree with further paths, each with its time in ns.

        Args:
            paths: what to add.
            limit: the most calls that it may have, at least 6. When there are more, a third of
                them stays, those with the most time, and the others' time is in an `OTHER` beside
                them: much is folded at a time, so that it costs little on average.
        """
        places, own_ns = self.places.copy(), self.own_ns.copy()
        for path, took_ns in paths:
            place = 0
            for call in path:
                key = (place, call)
                place = places.get(key, 0)
                if not place:
                    place = places[key] = len(own_ns)
                    own_ns.append(0)
            own_ns[place] += took_ns
        merged = Calls(places, own_ns)
        return merged if limit is None or len(merged) <= limit else merged._pruned(limit // 3)

    def folded(self) -> Calls:
        """All of it in one `OTHER`: only the time is left."""
        return Calls({(0, OTHER): 1}, [0, self.total_ns])

    def without_reactor(self) -> Calls:
        """From the callbacks on. Time that the reactor spent itself is `BETWEEN` callbacks."""

        def paths() -> Iterator[tuple[Path, int]]:
            for path, took_ns in self.paths():
                yield tuple(call for call in path if not call[3]) or (BETWEEN,), took_ns

        return Calls().plus(paths())

    def paths(self) -> Iterator[tuple[Path, int]]:
        """The paths that took time themselves, each with that time in ns."""
        keys = list(self.places)
        for place, took_ns in enumerate(self.own_ns):
            if took_ns:
                path = []
                while place:
                    place, call = keys[place - 1]  # noqa: PLW2901 - the way up
                    path.append(call)
                yield tuple(reversed(path)), took_ns

    def totals_ns(self) -> list[int]:
        """By place, the time of the call and of all that it called."""
        totals = self.own_ns.copy()
        for (caller, _), place in reversed(self.places.items()):
            totals[caller] += totals[place]
        return totals

    def _pruned(self, room: int) -> Calls:
        totals = self.totals_ns()
        # Whoever is chosen, so is its caller: that has no less time, and a smaller place.
        chosen = set(
            nlargest(
                room,
                (place for (_, call), place in self.places.items() if call != OTHER),
                key=lambda place: (totals[place], -place),
            )
        )
        places: dict[tuple[int, Call], int] = {}
        own_ns = [self.own_ns[0]]
        moved = [0]
        for (caller, call), place in self.places.items():
            if place not in chosen and caller and caller not in chosen:
                moved.append(moved[caller])  # its caller is in an OTHER already
            else:
                key = (moved[caller], call if place in chosen else OTHER)
                moved.append(places.setdefault(key, len(places) + 1))
                if len(own_ns) <= len(places):
                    own_ns.append(0)
            own_ns[moved[place]] += self.own_ns[place]
        return Calls(places, own_ns)
