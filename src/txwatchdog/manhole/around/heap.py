"""All objects that the garbage collector knows, in bounded time.

The collector gives its list in one go, with the GIL held: about 25 ms for a million objects. That
can't be done bit by bit, so it is not done where it would take long. What follows is.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from txwatchdog.manhole import statics
from txwatchdog.manhole.around.care import Pace, borrowed
from txwatchdog.manhole.around.names import class_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["NotLookedAt", "count_classes", "instances"]

_MOST_BLOCKS = 4_000_000  # of Python's memory; two of them are an object for the collector, or so
_BLOCKS_A_SECOND = 80_000_000
_PART = 2000  # objects looked at in one go, which takes half a millisecond
_SHARE = 20  # a look at the heap is followed by this many times its own length without one

_PATIENCE = 5.0  # seconds to wait for others who look; each waits in a thread, given up or not

_looking = threading.Lock()
"""One look at a time. Only who looks at the heap takes it; the reactor's thread never waits."""

_next_look = 0.0  # in `time.monotonic`; written under the lock


class NotLookedAt(Exception):  # noqa: N818 - it is no error: the answer says it
    """Why the objects were not looked at, and what to do about it."""


def _parts(reactor: Any, *, whole: bool) -> Iterator[AbstractContextManager[list[Any]]]:
    """All objects, in parts; each to be let go of before the next one.

    Raises:
        NotLookedAt: There are more than may be looked at, unless `whole`.
    """
    blocks = sys.getallocatedblocks()
    if blocks > _MOST_BLOCKS and not whole:
        raise NotLookedAt(
            f"not looked at: the process has {blocks:,} blocks of memory, so to look at all its "
            f"objects would hold the service up for up to {blocks / _BLOCKS_A_SECOND:.2f} s; "
            "--all, or whole=True, does so"
        )
    pace = Pace.here()
    if not _looking.acquire(timeout=_PATIENCE if pace.rests else 0):
        raise NotLookedAt("not looked at: someone else looks at this moment; ask again")
    try:
        with borrowed(reactor, _all_objects(pace)) as found:
            while found:
                part = found[-_PART:]
                del found[-_PART:]
                yield borrowed(reactor, part)
                pace.rest()
    finally:
        _looking.release()


def _all_objects(pace: Pace) -> list[Any]:
    """The collector's list, at a distance from the one before."""
    global _next_look  # noqa: PLW0603 - guarded by the lock
    if pace.rests:
        time.sleep(max(_next_look - time.monotonic(), 0.0))
    began = time.monotonic()
    found = gc.get_objects()
    ended = time.monotonic()
    _next_look = ended + _SHARE * (ended - began)
    return found


def count_classes(reactor: Any, *, whole: bool) -> dict[str, tuple[type, int]]:
    """How many objects there are of each class.

    Args:
        reactor: In whose thread objects end.
        whole: Whether to look, however many there are.

    Returns:
        By the class's name, the class (one of them, if several have that name) and the number.

    Raises:
        NotLookedAt: See there.
    """
    counts: Counter[int] = Counter()
    classes: dict[int, type] = {}
    for part in _parts(reactor, whole=whole):
        with part as things:
            # By identity, for a metaclass may have its own ideas of hash and equality.
            kinds = list(map(type, things))
        counts.update(map(id, kinds))
        classes.update(zip(map(id, kinds), kinds, strict=True))
    found: dict[str, tuple[type, int]] = {}
    for key, count in counts.items():
        kind = classes[key]
        name = class_name(kind)
        found[name] = kind, found.get(name, (kind, 0))[1] + count
    return found


def instances(
    reactor: Any, kind: type, most: int, read: Callable[[Any], object], *, whole: bool
) -> int:
    """Look at the objects of a class and of those derived from it.

    Args:
        reactor: In whose thread objects end.
        kind: The class.
        most: How many to look at.
        read: Called with each of these; must not keep it.
        whole: Whether to look, however many objects there are.

    Returns:
        How many there are.

    Raises:
        NotLookedAt: See there.
    """
    pace = Pace.here()
    wanted: dict[int, bool] = {}
    count = 0
    for part in _parts(reactor, whole=whole):
        with part as things:
            count += _read_part(things, kind, wanted, read if count < most else _nothing, pace)
    return count


def _read_part(
    things: list[Any],
    kind: type,
    wanted: dict[int, bool],
    read: Callable[[Any], object],
    pace: Pace,
) -> int:
    count = 0
    for thing in things:
        key = id(type(thing))
        if key not in wanted:
            wanted[key] = statics.is_a(thing, kind)
        if wanted[key]:
            count += 1
            read(thing)
            pace.rest()
    return count


def _nothing(_thing: Any) -> None:
    """Stands where enough have been read."""
