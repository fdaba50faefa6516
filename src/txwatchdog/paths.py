"""The samples of a pause -> call paths with their time. Pure.

Used by the thread that records pauses: nothing is formatted here, and no file is read.
"""

from __future__ import annotations

from txwatchdog.blame import reactor_frames
from txwatchdog.calls import BETWEEN, NOT_SAMPLED, Call, Path
from txwatchdog.records import Pause, RawStack

__all__ = ["callback_path", "callback_paths", "nanoseconds", "whole_paths"]


def callback_path(stack: RawStack) -> Path:
    """The calls of `stack` from the callback on that the reactor called."""
    return _calls(stack[reactor_frames(stack) :]) or (BETWEEN,)


def callback_paths(pause: Pause) -> list[tuple[Path, int]]:
    """What the time of `pause` went into, from the callbacks on: call paths, each with its ns.

    Their sum is the pause's duration. A stack that several samples share comes once.
    """
    stacks, left_ns = _stacks(pause)
    paths = [(callback_path(stack), took_ns) for stack, took_ns in stacks]
    return [*paths, ((NOT_SAMPLED,), left_ns)] if left_ns else paths


def whole_paths(pause: Pause) -> list[tuple[Path, int]]:
    """As `callback_paths`, but with the calls that lead to the callbacks."""
    stacks, left_ns = _stacks(pause)
    paths = [(_calls(stack, reactor_frames(stack)), took_ns) for stack, took_ns in stacks]
    return [*paths, ((NOT_SAMPLED,), left_ns)] if left_ns else paths


def nanoseconds(pause: Pause) -> tuple[list[int], int]:
    """The ns that each sample stands for, and those of the duration that none stands for."""
    each = [round(sample.seconds * 1e9) for sample in pause.samples]
    return each, max(0, round(pause.duration * 1e9) - sum(each))


def _stacks(pause: Pause) -> tuple[list[tuple[RawStack, int]], int]:
    each, left_ns = nanoseconds(pause)
    # By identity: equal neighbours are one object (`Detector.keep`), and hashing a stack is slow.
    stacks: dict[int, tuple[RawStack, int]] = {}
    for sample, took_ns in zip(pause.samples, each, strict=True):
        _, before_ns = stacks.get(id(sample.stack), (sample.stack, 0))
        stacks[id(sample.stack)] = sample.stack, before_ns + took_ns
    return list(stacks.values()), left_ns


def _calls(stack: RawStack, reactor: int = 0) -> tuple[Call, ...]:
    return tuple(
        (code.co_name, code.co_filename, code.co_firstlineno, index < reactor)
        for index, (code, _) in enumerate(stack)
    )
