"""Reading a thread's stack: the one thing that every ring does."""

from __future__ import annotations

from types import CodeType, FrameType

from txwatchdog.blame import cut_own
from txwatchdog.records import RawStack

__all__ = ["MAX_FRAMES", "read_stack"]

MAX_FRAMES = 2000
"""The innermost frames that are kept; Python's own recursion limit is 1000."""


def read_stack(frame: FrameType | None) -> RawStack:
    """The stack that ends in `frame`, outermost call first, without innermost frames of ours.

    Nothing is formatted and no file is read. Any thread may call it; the stack of a thread that
    runs meanwhile may be torn between two frames, so the caller checks that its tick still lasts.
    """
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < MAX_FRAMES:
        # A line is None between two instructions of one source line in some generated code.
        stack.append((frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno))
        frame = frame.f_back
    stack.reverse()
    return cut_own(tuple(stack))
