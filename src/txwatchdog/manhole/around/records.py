"""What was found: frozen rows of plain data, and the tables that they stand in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import asdict, field, frozen

from txwatchdog.records import Frame, Function, iso

__all__ = [
    "Class",
    "Delayed",
    "Failed",
    "Listing",
    "Objects",
    "Pending",
    "Pool",
    "Reader",
    "Row",
    "Task",
    "Thread",
    "Threads",
]


@frozen
class Row:
    """One line of a table."""

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data that `json.dumps` takes."""
        return asdict(
            self, value_serializer=lambda _row, _field, value: _plain(value), recurse=True
        )


@frozen
class Reader(Row):
    """A descriptor that the reactor waits for.

    Attributes:
        fd: its number; None where that is not known.
        transport: the class of what the reactor has for it, such as ``Server`` or ``Port``.
        protocol: the class of the protocol, or of a listening port's factory; None for others.
        tls: whether TLS stands between the two.
        waits: ``r`` to read, ``w`` to write, ``rw`` for both.
        peer: the other side's address, if it is connected.
        local: its own address.
        age_seconds: since it was connected; None where nobody knows any more. The kernel tells as
            long as only one side has sent something.
        age_at_least_seconds: since then at least.
        idle_seconds: since the last data came or went.
        received: bytes that came over the connection.
        sent: bytes that went.
        unsent: bytes that the service has written and the kernel has not taken yet.
    """

    fd: int | None
    transport: str
    protocol: str | None
    tls: bool
    waits: str
    peer: str | None = None
    local: str | None = None
    age_seconds: float | None = None
    age_at_least_seconds: float | None = None
    idle_seconds: float | None = None
    received: int | None = None
    sent: int | None = None
    unsent: int | None = None


@frozen
class Delayed(Row):
    """A call that is to be made later.

    Attributes:
        seconds: from now; below 0 if it is overdue.
        at: when; aware, UTC.
        function: what is called: through partials, looping calls and a Deferred's callbacks.
        every_seconds: the interval of a looping call; None for others.
        scheduled_by: where it was scheduled, as ``FILE:LINE in FUNCTION``; known if
            `twisted.internet.base.DelayedCall.debug` is on.
        loop: whose timer it is: ``reactor`` or ``asyncio``.
    """

    seconds: float
    at: datetime
    function: Function
    every_seconds: float | None = None
    scheduled_by: str | None = None
    loop: str = "reactor"


@frozen
class Thread(Row):
    """A thread of the process.

    Attributes:
        name: as it was named; ``?`` for one that Python did not start.
        ident: Python's number of it.
        native_id: the system's; None if not known.
        daemon: whether the process ends without waiting for it.
        state: ``reactor``, ``working`` or ``idle`` for the reactor's pool, ``txwatchdog`` for our
            own; empty for others.
        function: the innermost function of application code, or of an installed package; failing
            that the innermost of all. None if it has just begun or ended.
        cpu_seconds: processor time that it has taken; None where the system does not say.
        frames: its stack, outermost call first.
    """

    name: str
    ident: int
    native_id: int | None
    daemon: bool | None
    state: str
    function: Function | None
    cpu_seconds: float | None
    frames: tuple[Frame, ...] = field(repr=False)


@frozen
class Pool(Row):
    """The reactor's thread pool.

    Attributes:
        name: the pool's.
        most: threads that it may have.
        working: threads that work.
        idle: threads that wait for work.
        queued: calls that wait for a thread.
    """

    name: str
    most: int
    working: int
    idle: int
    queued: int

    def __str__(self) -> str:
        threads = f"{self.working} of at most {self.most} threads work, {self.idle} are idle"
        return f"pool {self.name}: {threads}, {self.queued} calls are queued"


@frozen
class Pending(Row):
    """Deferreds that have not fired, of one kind.

    Attributes:
        count: how many.
        known_by: where it was ``created``; what it ``calls`` first; which coroutine or
            inlineCallbacks function it ``resumes``; or, if nothing waits for it, of which of these
            it is the ``result``; or ``nothing``.
        place: where, or what, as text.
        kind: the Deferreds' class.
    """

    count: int
    known_by: str
    place: str
    kind: str = "Deferred"


@frozen
class Task(Row):
    """A task of the asyncio loop.

    Attributes:
        name: its own.
        coroutine: the function that it runs.
        state: ``running``, ``ready`` to run, or ``waiting``.
        at: the innermost coroutine on its way, where it stands: ``FUNCTION (FILE:LINE)``.
        waits_for: the class of the future that it waits for.
    """

    name: str
    coroutine: str
    state: str
    at: str | None
    waits_for: str | None


@frozen
class Class(Row):
    """The objects of one class.

    Attributes:
        name: with its module.
        count: how many.
        growth: how many more than at the look before; None at the first.
    """

    name: str
    count: int
    growth: int | None = None


@frozen
class Failed(Row):
    """A failure that the service logged.

    Attributes:
        number: counts them, from 1.
        at: when; aware, UTC.
        level: the event's, ``error`` or ``critical`` as a rule.
        namespace: who logged it.
        type: the exception's class; None for an event without one.
        text: what the exception says, its first 500 characters; or the event, without one.
        message: the event's text.
        frames: where it was raised, outermost call first, the innermost 50.
    """

    number: int
    at: datetime
    level: str
    namespace: str
    type: str | None
    text: str
    message: str
    frames: tuple[Frame, ...] = field(default=(), repr=False)

    @property
    def function(self) -> Frame | None:
        """The innermost call."""
        return self.frames[-1] if self.frames else None

    @property
    def traceback(self) -> str:
        """As Python prints it. Source files are read here, when someone looks."""
        from txwatchdog.tracebacks import traceback_text

        what = f"{self.type}: {self.text}" if self.type else self.text
        return traceback_text(self.frames) + what

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data that `json.dumps` takes, its traceback as text."""
        data = super().as_dict()
        del data["frames"]
        return {**data, "traceback": self.traceback}


@frozen(repr=False)
class Listing(Sequence[Any]):
    """A table: a sequence of rows that prints as one.

    Attributes:
        what: the function that made it.
        rows: those shown.
        total: how many there are; None if that was not looked at, and `notes` say why.
        counts: what there is most of: (name, how many), most first.
        notes: what is to be said beyond that.
    """

    what: str
    rows: tuple[Any, ...]
    total: int | None
    counts: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> int:
        """How many are not shown. A row may stand for many."""
        if self.total is None:
            return 0
        return max(self.total - sum(getattr(row, "count", 1) for row in self.rows), 0)

    def as_dict(self) -> dict[str, Any]:
        """The table as plain data that `json.dumps` takes."""
        return {
            "total": self.total,
            "left_out": self.left_out,
            self.what: [row.as_dict() for row in self.rows],
            "counts": dict(self.counts),
            "notes": list(self.notes),
        }

    def text(self, width: int = 100, *, colour: bool = False) -> str:
        """The table as text.

        Args:
            width: columns to keep to.
            colour: whether the headings may be coloured.
        """
        from txwatchdog.manhole.around.text import listing_text  # brings rich

        return listing_text(self, width, colour=colour)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


@frozen(repr=False)
class Threads(Listing):
    """The threads, with the state of the reactor's pool; None if there is none yet."""

    pool: Pool | None = None

    def as_dict(self) -> dict[str, Any]:
        """The table as plain data that `json.dumps` takes."""
        return {**super().as_dict(), "pool": self.pool.as_dict() if self.pool else None}


@frozen(repr=False)
class Objects(Listing):
    """Classes by their objects' number; `total` counts objects.

    Attributes:
        classes: how many classes there are.
        since: when the look before was, for the growth; aware, UTC. None at the first.
    """

    classes: int = 0
    since: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """The table as plain data that `json.dumps` takes."""
        return {
            **super().as_dict(),
            "classes": self.classes,
            "since": iso(self.since) if self.since else None,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return dict(value) if isinstance(value, Mapping) else value
