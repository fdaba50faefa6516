"""The last minutes, second by second: how busy the reactor was, and its longest ticks. Pure."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from txwatchdog.activity import Activity

__all__ = ["LONGEST", "SHORTEST", "STEP", "History", "Point", "blocks", "log_level"]

KEPT = 1200
"""Points that are kept: the width of any sensible terminal, times `STEP`."""

STEP = 2
"""Points that share a column, so that 80 columns show more than two minutes."""

SHORTEST, LONGEST = 1e-4, 10.0
"""Seconds between which a tick's length is drawn, on a logarithmic scale."""

_BLOCKS = " ▁▂▃▄▅▆▇█"


@frozen
class Point:
    """What a stretch of time came to.

    Attributes:
        busy: The share of it that the reactor was busy, 0 to 1; None if that is not known.
        longest: Seconds that no tick in it took longer than; a bound, at most twice too large.
    """

    busy: float | None
    longest: float


class History:
    """Points of equal distance, the latest last."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=KEPT)
        self._latest: Activity | None = None
        self._count = 0

    @property
    def latest(self) -> Point | None:
        """The last point."""
        return self._points[-1] if self._points else None

    def add(self, activity: Activity, *, watched: bool = True) -> None:
        """Enter what came since the activity before.

        Args:
            activity: The watchdog's, as of now.
            watched: Whether the watchdog looked.
        """
        before, self._latest = self._latest, activity
        if before is None:
            return
        busy = activity.utilisation_since(before) if watched else None
        self._points.append(Point(busy, activity.longest_since(before)))
        self._count += 1

    def columns(self, width: int) -> list[Point | None]:
        """The latest points, `STEP` of them in one column; None where there are none yet.

        A point never changes its column's other half, so that columns move, but do not flicker.
        """
        partial = self._count % STEP
        wanted = width * STEP - ((STEP - partial) % STEP)
        points = list(islice(self._points, max(0, len(self._points) - wanted), None))
        head = len(points) % STEP if partial == 0 else (len(points) - partial) % STEP
        groups = [points[:head]] if head else []
        groups += [points[start : start + STEP] for start in range(head, len(points), STEP)]
        columns = [_merged(group) for group in groups[-width:]]
        return [None] * (width - len(columns)) + columns


def blocks(level: float, height: int) -> str:
    """A bar as block characters, one for each row, the top one first.

    Args:
        level: Its height as a share of all rows, 0 to 1.
        height: Rows.
    """
    eighths = round(min(1.0, max(0.0, level)) * height * 8)
    return "".join(_BLOCKS[min(8, max(0, eighths - row * 8))] for row in range(height - 1, -1, -1))


def log_level(seconds: float) -> float:
    """Where a tick's length stands between `SHORTEST` and `LONGEST`, 0 to 1."""
    if seconds <= SHORTEST:
        return 0.0
    return min(1.0, math.log(seconds / SHORTEST) / math.log(LONGEST / SHORTEST))


def _merged(points: Sequence[Point]) -> Point:
    known = [point.busy for point in points if point.busy is not None]
    return Point(sum(known) / len(known) if known else None, max(point.longest for point in points))
