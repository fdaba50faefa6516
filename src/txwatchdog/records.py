"""The nouns: frozen records, each unit in the field's name or doc.

Records keep raw stacks, pairs of a code object and a line number, as the sampler took them. Names,
source lines and text are made when someone looks, never before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import asdict, field, frozen

from txwatchdog.annotating import NO_NOTES, Plain
from txwatchdog.calls import Calls
from txwatchdog.operators import SOURCE
from txwatchdog.origin import Origin

if TYPE_CHECKING:
    from txwatchdog.lastrun import LastRun
    from txwatchdog.profiles import Profile

__all__ = [
    "Frame",
    "Function",
    "Interruption",
    "Live",
    "Offender",
    "Pause",
    "RawStack",
    "Sample",
    "Stack",
    "State",
    "Status",
    "Top",
    "Tracebacks",
    "annotated",
    "annotations_text",
    "blame_fields",
    "iso",
]

RawStack: TypeAlias = "tuple[tuple[CodeType, int], ...]"
"""A stack as it was taken: (code, line) pairs, the outermost call first."""

State: TypeAlias = Literal["off", "idle", "busy", "paused"]
"""What the reactor does: `off` when the watchdog does not look, `idle` while it waits, `busy`
within the threshold, `paused` beyond it."""

Outcome: TypeAlias = Literal["interrupted", "needs confirmation", "no pause", "refused", "not yet"]
"""What an interruption came to; see `Interruption`."""


def iso(moment: datetime) -> str:
    """`moment` in ISO 8601 with milliseconds, as every text and JSON of ours has it."""
    return moment.isoformat(timespec="milliseconds")


@frozen
class Frame:
    """One call of a stack.

    Attributes:
        function: the function's name.
        file: the source file, as its code object names it.
        line: the line at which it stood, from 1.
    """

    function: str
    file: str
    line: int


@frozen
class Function:
    """A function that can be blamed; or an operator, for what was typed in the manhole.

    Attributes:
        function: its name; an operator's is `manhole: NAME`, in the file `<manhole>`.
        file: its source file, as its code object names it.
        line: its first line, from 1, so that one function is one thing.
    """

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        if self.file == SOURCE:
            return self.function
        return f"{self.function} ({'/'.join(PurePath(self.file).parts[-2:])}:{self.line})"


@frozen
class Sample:
    """The reactor thread's stack at one instant of a pause.

    Attributes:
        tick_ns: when the tick began that it was taken in; that tick's identity.
        at_ns: when it was taken. Both in the clock of `time.monotonic_ns`.
        stack: the stack, outermost call first, frames of our own cut off.
        ring: which ring took it: `thread` or `sigalrm`.
        seconds: the part of the pause that it stands for; 0 while the pause is under way.
        asleep: of the looks at the thread the share that found it in a system call that sleeps,
            for anything but the GIL; None if that is not known.
        origin: which event of the reactor led to it; read at a pause's first sample only.
        annotations: what was noted then by `Watchdog.annotate`: names and plain, bounded values.
    """

    tick_ns: int
    at_ns: int
    stack: RawStack
    ring: str
    seconds: float = 0.0
    asleep: float | None = None
    origin: Origin | None = None
    annotations: Mapping[str, Plain] = field(default=NO_NOTES, hash=False)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The stack, its names resolved."""
        return resolve(self.stack)


@frozen(repr=False)
class Pause:
    """One tick that lasted longer than the threshold.

    Attributes:
        number: counts this watchdog's pauses, from 1.
        started_at: when the tick began; aware, UTC.
        duration: seconds, from the tick's beginning to its end.
        offender: the function that is blamed; None if no callback was seen running.
        via: the innermost function's name, where that is not the offender.
        samples: what was seen of it, earliest first; at least one, but for a pause that ended
            before any ring could look.
        culprit: the sample that the offender was read from, and `traceback` shows.
        cause: where most of its time went; one of `causes.CAUSES`.
        shares: for each cause that took some of it, the fraction; they sum to 1.
    """

    number: int
    started_at: datetime
    duration: float
    offender: Function | None
    via: str | None
    samples: tuple[Sample, ...]
    culprit: Sample | None
    cause: str = "unknown"
    shares: Mapping[str, float] = field(factory=lambda: {"unknown": 1.0})

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The stack of `traceback`, outermost call first; empty if no sample was taken."""
        return self.culprit.frames if self.culprit else ()

    @property
    def origin(self) -> Origin | None:
        """Which event of the reactor it began with; None if that is not known."""
        return next((sample.origin for sample in self.samples if sample.origin), None)

    @property
    def annotations(self) -> Mapping[str, Plain]:
        """What `Watchdog.annotate` had noted at the culprit: names and plain, bounded values."""
        return self.culprit.annotations if self.culprit else NO_NOTES

    @property
    def summary(self) -> str:
        """One line: how long, in which function, by way of which, and why."""
        return (
            f"reactor paused {self.duration:.3f} s {blamed(self.offender, self.via, self.cause)}"
            f"{_because(self.shares)}"
        )

    @property
    def traceback(self) -> str:
        """The stack during the pause as text like Python's own, the summary in its last line.

        Source files are read here, when someone looks. Any thread may ask.
        """
        from txwatchdog.tracebacks import traceback_text  # only when someone looks

        began = f"{self.origin.sentence}\n" if self.origin else ""
        when = f"Pause {self.number} at {iso(self.started_at)}: {self.summary}\n"
        return traceback_text(self.frames) + began + annotated(self.annotations) + when

    def fields(self) -> dict[str, Any]:
        """The record as plain data that `json.dumps` takes, without its samples."""
        return {
            "number": self.number,
            "started_at": iso(self.started_at),
            "duration": self.duration,
            **blame_fields(self.offender, self.via),
            "cause": self.cause,
            "shares": dict(self.shares),
            "origin": asdict(self.origin) if self.origin else None,
            "annotations": dict(self.annotations),
        }

    def as_dict(self) -> dict[str, Any]:
        """`fields`, the number of samples, and the traceback as text."""
        return {**self.fields(), "samples": len(self.samples), "traceback": self.traceback}

    def profile(self) -> Profile:
        """Where its time went: a tree of calls, with the seconds of each. Any thread may ask."""
        from txwatchdog.profiles import of_pause  # only when someone looks

        return of_pause(self)

    def export(self, format: str) -> str:  # noqa: A002 - the operators' word for it
        """This pause alone for other tools; see `Watchdog.export`.

        Args:
            format: `collapsed`, `speedscope`, `json` or `report`.

        Raises:
            ValueError: `format` is none of these.
        """
        from txwatchdog.exports import Recording, export  # only when someone asks

        return export(Recording.of(self), format)

    def __str__(self) -> str:
        return f"pause {self.number} at {iso(self.started_at)}: {self.summary}"

    __repr__ = __str__


@frozen
class Offender:
    """A row of the ledger: a function, and all that its pauses came to.

    Attributes:
        function: the function's name; in parentheses for rows that stand for no one function:
            `(other)` for those that the table had no room for, `(not seen)` for pauses that
            no ring saw a callback in.
        file: its source file; None in such rows, like `line`.
        line: its first line.
        via: the innermost function's name at its latest pause, where that is another one.
        count: pauses.
        total_seconds: their durations' sum.
        worst_seconds: the longest.
        last_at: when the latest began; aware, UTC.
        cause: where most of their time went.
        origin: the event of the reactor that its latest pause began with.
        calls: what the time of its pauses went into, from the callbacks on, bounded; `profile`
            shows it.
    """

    function: str
    file: str | None
    line: int | None
    via: str | None
    count: int
    total_seconds: float
    worst_seconds: float
    last_at: datetime
    cause: str = "unknown"
    origin: Origin | None = None
    calls: Calls = field(factory=Calls, eq=False, repr=False)

    def profile(self) -> Profile:
        """Where the time of all its pauses went: a tree of calls. Any thread may ask."""
        from txwatchdog.profiles import of_offender  # only when someone looks

        return of_offender(self)

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data that `json.dumps` takes."""
        return {
            "function": self.function,
            "file": self.file,
            "line": self.line,
            "via": self.via,
            "count": self.count,
            "total_seconds": self.total_seconds,
            "worst_seconds": self.worst_seconds,
            "last_at": iso(self.last_at),
            "cause": self.cause,
            "origin": asdict(self.origin) if self.origin else None,
        }


@frozen(repr=False)
class Stack:
    """Where the reactor is at one moment.

    Attributes:
        state: see `State`.
        seconds: how long the tick under way has lasted; 0.0 when idle or off.
        offender: the function that would be blamed now; None when idle.
        via: the innermost function's name, where that is another one.
        frames: the reactor thread's stack, outermost call first; empty if no reactor runs.
        number: when paused, the number that the pause will have.
        annotations: what `Watchdog.annotate` has noted; empty when idle.
    """

    state: State
    seconds: float
    offender: Function | None
    via: str | None
    frames: tuple[Frame, ...]
    number: int | None = None
    annotations: Mapping[str, Plain] = field(default=NO_NOTES, hash=False)

    @property
    def summary(self) -> str:
        """One line: such as `reactor paused 3.2 s in fetch_user (app/db.py:41)`."""
        if self.state == "off":
            return "watchdog stopped: for how long the reactor has been here is not known"
        if self.state == "idle":
            return "reactor idle"
        return f"reactor {self.state} {self.seconds:.1f} s {blamed(self.offender, self.via)}"

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data that `json.dumps` takes."""
        return {
            "state": self.state,
            "seconds": self.seconds,
            "number": self.number,
            **blame_fields(self.offender, self.via),
            "annotations": dict(self.annotations),
            "frames": [asdict(frame) for frame in self.frames],
        }

    def __str__(self) -> str:
        from txwatchdog.tracebacks import traceback_text  # only when someone looks

        return traceback_text(self.frames) + annotated(self.annotations) + self.summary

    __repr__ = __str__


@frozen(repr=False)
class Status:
    """What the watchdog does, and what it costs.

    Attributes:
        running: whether it looks.
        state: what the reactor does at this moment.
        seconds: how long the tick under way has lasted.
        threshold: seconds.
        probe: how busy ticks are known: what is wrapped, or that a heartbeat stands in.
        rings: for each ring `on`, or `off` and why.
        utilisation: the share of the time since start or reset that the reactor was busy,
            0 to 1; None where the probe can't tell.
        ticks: turns of the reactor since start or reset.
        pauses: pauses since start or reset.
        cpu_seconds: processor time of the watch thread since start; of putting the signal off
            and of its handler with the original method.
        wakes: how often it woke since start, or put the signal off.
        samples: how many samples the rings took since start.
        lost: pauses that were seen but not kept, because an observer held the watch thread up.
        error: the last thing that went wrong inside the watchdog, in a line; None if nothing did.
        last_run: how the run before this one died, if it did while the reactor was paused, as the
            black box tells it.
        offender: while the reactor is paused, the function that would be blamed now.
        via: the innermost function's name, where that is another one.
    """

    running: bool
    state: State
    seconds: float
    threshold: float
    probe: str
    rings: Mapping[str, str]
    utilisation: float | None
    ticks: int
    pauses: int
    cpu_seconds: float
    wakes: int
    samples: int
    lost: int
    error: str | None
    last_run: LastRun | None = None
    offender: Function | None = None
    via: str | None = None

    def __str__(self) -> str:
        known = self.utilisation is not None
        state = self.state + (f" {self.seconds:.1f} s" if self.seconds else "")
        if self.offender is not None:
            state += f" {blamed(self.offender, self.via)}"
        lines = [
            f"watchdog    {'running' if self.running else 'stopped'}",
            f"reactor     {state}",
            f"threshold   {self.threshold:g} s",
            f"probe       {self.probe}",
            *(f"ring        {ring}: {state}" for ring, state in self.rings.items()),
            "utilisation " + (f"{self.utilisation:.1%}" if known else "not known"),
            f"seen        {self.ticks} ticks, {self.pauses} pauses",
            f"own cost    {self.cpu_seconds:.3f} s CPU, {self.wakes} wakes, {self.samples} samples",
        ]
        if self.lost:
            lines.append(f"lost        {self.lost} pauses: an observer held the watch thread up")
        if self.error:
            lines.append(f"error       {self.error}")
        if self.last_run:
            lines.append(f"last run    {self.last_run} (see status().last_run.traceback)")
        return "\n".join(lines)

    __repr__ = __str__


@frozen(repr=False)
class Interruption:
    """What `Watchdog.interrupt` did, or why it did not.

    Attributes:
        outcome: `interrupted`; `needs confirmation`; `no pause`, there is none under way, or
            another one than was asked for; `refused`, it can't be done; `not yet`, it goes on.
        reason: why, where there is something to say beyond that.
        number: the number that the pause will have; None if there is none.
        seconds: for how long it had lasted.
        offender: the function that is blamed so far.
        via: the innermost function's name, where that is another one.
    """

    outcome: Outcome
    reason: str = ""
    number: int | None = None
    seconds: float = 0.0
    offender: Function | None = None
    via: str | None = None

    @property
    def is_failure(self) -> bool:
        """Whether a pause was to be broken off, and has not been; or there was none."""
        return self.outcome not in {"interrupted", "needs confirmation"}

    @property
    def pause(self) -> str:
        """The pause in a few words."""
        where = blamed(self.offender, self.via)
        return f"pause {self.number}, {self.seconds:.1f} s {where}"

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data that `json.dumps` takes."""
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "number": self.number,
            "seconds": self.seconds,
            **blame_fields(self.offender, self.via),
        }

    def __str__(self) -> str:
        if self.number is None:
            return f"{self.outcome}: {self.reason}"
        if self.outcome == "needs confirmation":
            return (
                f"this would break {self.pause}; interrupt({self.number}) does so, or"
                " interrupt(confirm=True) whichever pause is under way then"
            )
        return f"{self.outcome}: {self.pause}" + (f"; {self.reason}" if self.reason else "")

    __repr__ = __str__


@frozen(repr=False)
class Live:
    """A wish for the full-screen view: a console of the manhole's with a terminal opens it.

    Anywhere else it is a line that says how to get there.
    """

    def __str__(self) -> str:
        return "the live view needs a terminal: ssh -t -p PORT HOST live"

    __repr__ = __str__


@frozen(repr=False)
class Top(Sequence[Offender]):
    """The worst offenders: a sequence of rows that prints as a table.

    Attributes:
        rows: the rows shown, worst first.
        by: what they are ordered by.
        pauses: all pauses since start or reset, those not shown included.
        paused_seconds: their durations' sum.
        hidden: how many further rows there are.
        unblamed: the pauses that are in no row, being no function's fault, and their seconds, by
            their cause.
    """

    rows: tuple[Offender, ...]
    by: str
    pauses: int
    paused_seconds: float
    hidden: int
    unblamed: Mapping[str, tuple[int, float]] = field(factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The table as plain data that `json.dumps` takes."""
        return {
            "by": self.by,
            "pauses": self.pauses,
            "paused_seconds": self.paused_seconds,
            "hidden": self.hidden,
            "unblamed": {
                cause: {"pauses": count, "seconds": seconds}
                for cause, (count, seconds) in self.unblamed.items()
            },
            "offenders": [row.as_dict() for row in self.rows],
        }

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        from txwatchdog.tables import top_text  # brings rich, so only when someone looks

        return top_text(self)

    __repr__ = __str__


class Tracebacks(list[str]):
    """Tracebacks, newest first: a list of strings that prints as one text."""

    def __str__(self) -> str:
        return "\n".join(self) if self else "no pause yet"

    __repr__ = __str__


def resolve(stack: RawStack) -> tuple[Frame, ...]:
    """The names behind a raw stack."""
    return tuple(Frame(code.co_name, code.co_filename, line) for code, line in stack)


def blame_fields(offender: Function | None, via: str | None) -> dict[str, Any]:
    """Whom a pause is blamed on as plain data; None for what is not known."""
    function = asdict(offender) if offender else {"function": None, "file": None, "line": None}
    return {**function, "via": via}


def blamed(offender: Function | None, via: str | None, cause: str = "unknown") -> str:
    """Whom a pause is blamed on, as its sentence goes on after the duration."""
    if cause == "starved":
        return "because no CPU was free"
    if cause == "suspended":
        return "because the process stood still"
    if offender is None:
        return "in no callback that was seen"
    return f"in {offender} via {via}" if via else f"in {offender}"


def annotated(annotations: Mapping[str, Plain]) -> str:
    """Annotations as a line, whatever is in them; empty for none."""
    return f"Annotated {annotations_text(annotations)}\n" if annotations else ""


def annotations_text(annotations: Mapping[str, Plain]) -> str:
    """Annotations in a few words, printable: `request='GET /x', user=7`."""
    return ", ".join(
        f"{name if name.isidentifier() else ascii(name)}={value!r}"
        for name, value in annotations.items()
    )


def _because(shares: Mapping[str, float]) -> str:
    """The shares as a sentence ends with them; nothing if they are unknown."""
    known = sorted(shares.items(), key=lambda item: item[1], reverse=True)
    text = ", ".join(f"{share:.0%} {cause}" for cause, share in known if share >= 0.005)
    return "" if text == "100% unknown" else f": {text}"
