"""What the report's page is given: everything once, and the rest by its place in a list."""

from __future__ import annotations

import linecache
from typing import Any

from txwatchdog.blame import here, reactor_frames
from txwatchdog.calls import Path
from txwatchdog.exports import Recording, heading
from txwatchdog.records import Offender, Pause, RawStack

__all__ = ["report_data"]

LONGEST_LINE = 160
"""Characters of a source line that are shown."""


def report_data(recording: Recording) -> dict[str, Any]:
    """`recording` as plain data that `json.dumps` takes.

    Source lines are read here. Returns, beside the heading:

    * `functions`: [name, file, first line, kind];
    * `frames`: [function, line at which it stood, source line];
    * `stacks`: [the stack that called, frame]; -1 called the outermost;
    * `pauses`, earliest first: the fields, `origin` as a sentence, `culprit`, the place of the
      sample that is blamed, and `samples`: [seconds into the pause, seconds, ring, stack, how
      many reactor frames];
    * `offenders`, most time first: the fields, and `profile`: [seconds, stack].
    """
    tables = _Tables()
    pauses = [_pause(pause, tables) for pause in recording.pauses]
    offenders = [_offender(offender, tables) for offender in recording.offenders]
    functions = list(tables.functions)
    return {
        **heading(recording),
        "pauses": pauses,
        "offenders": offenders,
        "functions": functions,
        "frames": [
            [number, line, _source(functions[number][1], line)] for number, line in tables.frames
        ],
        "stacks": list(tables.stacks),
    }


def _pause(pause: Pause, tables: _Tables) -> dict[str, Any]:
    return {
        **pause.fields(),
        "origin": pause.origin.sentence if pause.origin else None,
        "culprit": next((n for n, s in enumerate(pause.samples) if s is pause.culprit), None),
        "samples": [
            [
                (sample.at_ns - sample.tick_ns) / 1e9,
                sample.seconds,
                sample.ring,
                tables.stack(sample.stack),
                reactor_frames(sample.stack),
            ]
            for sample in pause.samples
        ],
    }


def _offender(offender: Offender, tables: _Tables) -> dict[str, Any]:
    profile = [[took_ns / 1e9, tables.path(path)] for path, took_ns in offender.calls.paths()]
    return {**offender.as_dict(), "profile": profile}


class _Tables:
    """What is referred to by its place: each dict's keys, in their order."""

    def __init__(self) -> None:
        self.functions: dict[tuple[str, str | None, int | None, str], int] = {}
        self.frames: dict[tuple[int, int | None], int] = {}
        self.stacks: dict[tuple[int, int], int] = {}
        self._kind = here().kind

    def stack(self, raw: RawStack) -> int:
        place = -1
        for code, line in raw:
            place = self._call(place, code.co_name, code.co_filename, code.co_firstlineno, line)
        return place

    def path(self, path: Path) -> int:
        place = -1
        for function, file, first, _ in path:
            place = self._call(place, function, file, first, None)
        return place

    def _call(
        self, caller: int, function: str, file: str | None, first: int | None, line: int | None
    ) -> int:
        kind = "none" if file is None else self._kind(file)
        key = (function, file, first, kind)
        number = self.functions.setdefault(key, len(self.functions))
        frame = self.frames.setdefault((number, line), len(self.frames))
        return self.stacks.setdefault((caller, frame), len(self.stacks))


def _source(file: str | None, line: int | None) -> str:
    if file is None or line is None:
        return ""
    try:
        return linecache.getline(file, line).strip()[:LONGEST_LINE]
    except ValueError:  # up to Python 3.12, for a name that no file can have
        return ""
