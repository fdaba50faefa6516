"""Records for tests, with everything that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from types import CodeType
from typing import Any

from attrs import evolve

from txwatchdog.blame import Places
from txwatchdog.records import Function, Pause, RawStack, Sample, State, Status

EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)

PLACES = Places(
    stdlib="/usr/lib/python3/",
    twisted="/usr/lib/python3/site-packages/twisted/",
    ours="/usr/lib/python3/site-packages/txwatchdog/",
)


def code(name: str, file: str, line: int = 1) -> CodeType:
    """A code object with that name, file and first line."""
    return (lambda: None).__code__.replace(co_name=name, co_filename=file, co_firstlineno=line)


def stack(*frames: tuple[str, str]) -> RawStack:
    """A raw stack from (function, file) pairs, outermost first."""
    return tuple((code(name, file), 7) for name, file in frames)


def sample(tick_ns: int, at_ns: int, raw: RawStack = (), seconds: float = 0.0) -> Sample:
    """A sample of the watch thread."""
    return Sample(tick_ns, at_ns, raw, "thread", seconds)


def pause(
    function: str | None = "fetch_user",
    duration: float = 1.0,
    *,
    number: int = 1,
    via: str | None = None,
    after: float = 0.0,
) -> Pause:
    """A pause that is blamed on `function` and began `after` seconds after `EPOCH`."""
    return Pause(
        number=number,
        started_at=EPOCH + timedelta(seconds=after),
        duration=duration,
        offender=Function(function, "/srv/app/db.py", 41) if function else None,
        via=via,
        samples=(),
        culprit=None,
    )


def sampled(
    parts: Sequence[tuple[RawStack, float]],
    function: str | None = "fetch_user",
    *,
    duration: float | None = None,
    number: int = 1,
    after: float = 0.0,
) -> Pause:
    """A pause with a sample for each of `parts`, the seconds that it stands for beside its stack.

    It lasts as long as its parts, unless told otherwise.
    """
    at_ns, samples = 10**12, []
    for raw, seconds in parts:
        samples.append(sample(10**12, at_ns + round(seconds * 5e8), raw, seconds))
        at_ns += round(seconds * 1e9)
    lasted = (at_ns - 10**12) / 1e9 if duration is None else duration
    whole = pause(function, lasted, number=number, after=after)
    return evolve(whole, samples=tuple(samples), culprit=samples[0] if samples else None)


def status(state: State = "idle", seconds: float = 0.0, **fields: Any) -> Status:
    """A status with everything that a test does not care about filled in."""
    known: dict[str, Any] = {
        "running": state != "off",
        "state": state,
        "seconds": seconds,
        "threshold": 0.5,
        "probe": "wrapped",
        "rings": {},
        "utilisation": 0.25,
        "ticks": 3,
        "pauses": 2,
        "cpu_seconds": 0.0,
        "wakes": 0,
        "samples": 0,
        "lost": 0,
        "error": None,
    }
    return Status(**{**known, **fields})
