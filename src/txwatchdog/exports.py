"""Pauses for other tools: flame graphs, speedscope, JSON, and a report to look at. Pure.

Flame graphs begin at the callback that the reactor called; the stacks in `json` are complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from importlib import metadata
from typing import Any

from attrs import asdict, frozen

from txwatchdog.calls import NOT_SAMPLED, Call, Path
from txwatchdog.paths import callback_path, callback_paths, nanoseconds
from txwatchdog.records import Function, Offender, Pause, RawStack, Sample, blamed, iso

__all__ = ["FORMATS", "VERSION", "Process", "Recording", "export", "heading"]

VERSION = 1
"""The version of `json`: raised when a field goes or changes its meaning, not when one comes."""

SPEEDSCOPE_PAUSES = 100
"""The latest pauses that have a profile of their own: there each is an entry of one long list."""


@frozen
class Process:
    """Which process something comes from.

    Attributes:
        name: the program's.
        pid: its identifier.
        host: the machine's name.
        python: Python's version.
        twisted: Twisted's.
    """

    name: str
    pid: int
    host: str
    python: str
    twisted: str

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data that `json.dumps` takes."""
        return asdict(self)


@frozen
class Recording:
    """What is exported.

    Attributes:
        pauses: pauses with their samples, earliest first.
        offenders: the ledger's rows, most time first; of all pauses since start or reset, those
            that are no longer kept whole included. Empty if it is about single pauses.
        count: all pauses since start or reset.
        paused_seconds: their durations' sum.
        threshold: seconds; None if it is about single pauses, like those that follow.
        since: since when pauses were counted; aware, UTC.
        made_at: when this was put together; aware, UTC.
        process: which process the pauses are of.
    """

    pauses: tuple[Pause, ...]
    offenders: tuple[Offender, ...]
    count: int
    paused_seconds: float
    threshold: float | None = None
    since: datetime | None = None
    made_at: datetime | None = None
    process: Process | None = None

    @staticmethod
    def of(pause: Pause) -> Recording:
        """`pause` by itself."""
        return Recording((pause,), (), 1, pause.duration)


def export(recording: Recording, format: str) -> str:  # noqa: A002 - the operators' word for it
    """`recording` as text.

    Args:
        recording: what to export.
        format: `collapsed`, `speedscope`, `json` or `report`.

    Raises:
        ValueError: `format` is none of these.
    """
    if format not in tuple(FORMATS):  # a tuple's `in` takes what can't be hashed, too
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    return FORMATS[format](recording)


def heading(recording: Recording) -> dict[str, Any]:
    """What an export says about itself, as plain data."""
    process = recording.process
    return {
        "generator": _generator(),
        "made_at": iso(recording.made_at) if recording.made_at else None,
        "process": process.as_dict() if process else None,
        "threshold": recording.threshold,
        "since": iso(recording.since) if recording.since else None,
        "totals": {"pauses": recording.count, "paused_seconds": recording.paused_seconds},
    }


def _collapsed(recording: Recording) -> str:
    """The input of flamegraph.pl and inferno: `frame;frame;frame MICROSECONDS`, a path a line.

    Of all pauses since start or reset but those that are no function's fault; a path that comes
    again has been added up.
    """
    took_ns: dict[str, int] = {}
    label = lru_cache(maxsize=None)(_label)  # the same few calls are in many paths
    for path, each_ns in _all_paths(recording):
        line = ";".join(map(label, path))
        took_ns[line] = took_ns.get(line, 0) + each_ns
    return "".join(f"{line} {weight}\n" for line, weight in _microseconds(took_ns) if weight)


def _microseconds(took_ns: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Rounded so that their sum is the sum, rounded: each takes on what the ones before left."""
    sum_ns = sum_us = 0
    for line, each_ns in took_ns.items():
        sum_ns += each_ns
        weight = (sum_ns + 500) // 1000 - sum_us
        sum_us += weight
        yield line, weight


def _all_paths(recording: Recording) -> Iterator[tuple[Path, int]]:
    for offender in recording.offenders:
        yield from offender.calls.paths()
    if not recording.offenders:
        for pause in recording.pauses:
            yield from callback_paths(pause)


def _label(call: Call) -> str:
    function, file, line, _ = call
    text = function if file is None or line is None else str(Function(function, file, line))
    # No character that ends a frame or a line, or that no encoding takes, whatever the name is.
    return "".join(c if c.isprintable() and c != ";" else "?" for c in text)


def _speedscope(recording: Recording) -> str:
    """The file format of https://www.speedscope.app: all pauses merged, then the latest ones."""
    frames: dict[Call, int] = {}

    def profile(name: str, paths: Iterable[tuple[Path, int]]) -> dict[str, Any]:
        listed = [(path, took_ns) for path, took_ns in paths if took_ns]
        return {
            "type": "sampled",
            "name": name,
            "unit": "seconds",
            "startValue": 0,
            "endValue": sum(took_ns for _, took_ns in listed) / 1e9,
            "samples": [[frames.setdefault(c, len(frames)) for c in path] for path, _ in listed],
            "weights": [took_ns / 1e9 for _, took_ns in listed],
        }

    profiles = []
    if recording.offenders or not recording.pauses:  # the file needs one profile at least
        # Starved and suspended ones have no row, so they are not in it.
        count = sum(offender.count for offender in recording.offenders)
        took = sum(offender.total_seconds for offender in recording.offenders)
        name = f"all {count} pauses, {took:.3f} s"
        if count != recording.count:
            name += f" ({recording.count - count} starved or suspended ones left out)"
        profiles.append(profile(name, _all_paths(recording)))
    for pause in recording.pauses[: -SPEEDSCOPE_PAUSES - 1 : -1]:
        who = blamed(pause.offender, pause.via, pause.cause)
        name = f"pause {pause.number} at {iso(pause.started_at)}: {pause.duration:.3f} s {who}"
        profiles.append(profile(name, _in_order(pause)))
    document = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": _generator(),
        "name": f"{recording.process.name} pauses" if recording.process else "pauses",
        "activeProfileIndex": 0,
        "shared": {"frames": [_speedscope_frame(call) for call in frames]},
        "profiles": profiles,
    }
    return json.dumps(document)


def _in_order(pause: Pause) -> Iterator[tuple[Path, int]]:
    """The samples of `pause` in the order in which they were taken, as paths with their ns."""
    each, left_ns = nanoseconds(pause)
    for sample, took_ns in zip(pause.samples, each, strict=True):
        yield callback_path(sample.stack), took_ns
    if left_ns:
        yield (NOT_SAMPLED,), left_ns


def _speedscope_frame(call: Call) -> dict[str, Any]:
    function, file, line, _ = call
    return {"name": function} | ({} if file is None else {"file": file, "line": line})


def _json(recording: Recording) -> str:
    """Everything, for programs: documented in the README.

    `pauses` are those that are kept whole, earliest first, each stack complete; `offenders` are of
    all pauses since start or reset, each with its merged profile.
    """
    frames: dict[tuple[str, str | None, int | None, int | None], int] = {}

    def frame(function: str, file: str | None, line: int | None, first: int | None) -> int:
        return frames.setdefault((function, file, line, first), len(frames))

    def stack(raw: RawStack) -> list[int]:
        return [
            frame(code.co_name, code.co_filename, line, code.co_firstlineno) for code, line in raw
        ]

    def sample(each: Sample) -> dict[str, Any]:
        return {
            "at": (each.at_ns - each.tick_ns) / 1e9,
            "seconds": each.seconds,
            "ring": each.ring,
            "stack": stack(each.stack),
        }

    def profile(offender: Offender) -> list[dict[str, Any]]:
        return [
            {
                "seconds": took_ns / 1e9,
                "stack": [frame(function, file, None, first) for function, file, first, _ in path],
            }
            for path, took_ns in offender.calls.paths()
        ]

    document = {
        "version": VERSION,
        **heading(recording),
        "pauses": [
            {**pause.fields(), "samples": [sample(each) for each in pause.samples]}
            for pause in recording.pauses
        ],
        "offenders": [
            {**offender.as_dict(), "profile": profile(offender)} for offender in recording.offenders
        ],
    }
    names = ("function", "file", "line", "first_line")
    document["frames"] = [dict(zip(names, each, strict=True)) for each in frames]
    return json.dumps(document)


def _report(recording: Recording) -> str:
    from txwatchdog.report import report  # brings a page

    return report(recording)


def _generator() -> str:
    try:
        return f"txwatchdog {metadata.version('txwatchdog')}"
    except metadata.PackageNotFoundError:  # a checkout on the path
        return "txwatchdog"


FORMATS: dict[str, Callable[[Recording], str]] = {
    "collapsed": _collapsed,
    "speedscope": _speedscope,
    "json": _json,
    "report": _report,
}
"""What there is to export to."""
