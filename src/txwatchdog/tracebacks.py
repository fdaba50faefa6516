"""Stacks -> text like Python's own, the reactor's plumbing folded. Pure, but for source files.

Imported when someone looks: only then are source files read.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from txwatchdog.blame import callback_start
from txwatchdog.records import Frame

__all__ = ["traceback_text"]

FOLDED = ("/twisted/internet/defer.py", "/twisted/internet/task.py")
"""Files of Twisted's that stand between most callbacks and what they call."""


def traceback_text(frames: Sequence[Frame]) -> str:
    """`frames` as Python prints a traceback, header included; empty for none.

    What leads to the callback is folded into a line ("… 9 reactor frames"), and so are Deferreds
    and looping calls further in. The innermost frame is always shown.
    """
    if not frames:
        return ""
    start = callback_start([(frame.function, frame.file) for frame in frames])
    lines = ["Traceback (most recent call last):\n"]
    folded = 0
    for index, frame in enumerate(frames):
        plumbing = index < start or frame.file.endswith(FOLDED)
        if plumbing and index < len(frames) - 1:
            folded += 1
            continue
        lines += _fold(folded)
        folded = 0
        lines += _lines(frame)
    return "".join(lines)


def _fold(count: int) -> list[str]:
    return [f"  … {count} reactor frame{'s' if count > 1 else ''}\n"] if count else []


def _lines(frame: Frame) -> list[str]:
    try:
        return traceback.format_list(
            [traceback.FrameSummary(frame.file, frame.line, frame.function)]
        )
    except (ValueError, UnicodeError):  # a file name that no file can have
        return [f"  File {frame.file!r}, line {frame.line}, in {frame.function}\n"]
