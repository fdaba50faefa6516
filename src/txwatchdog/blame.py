"""Whose fault is it: a stack -> an offender. Pure.

The innermost frame of application code, above the reactor's dispatch; failing that the innermost
third-party frame; failing that the callback that the reactor called. Application code is what is
neither the standard library, nor an installed package, nor Twisted, nor ours. What was typed in the
manhole comes before all of these: its operator did whatever it called.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType
from typing import Literal, TypeAlias

import twisted
from attrs import frozen

from txwatchdog.operators import SOURCE, operator_of
from txwatchdog.records import Function, RawStack, Sample

__all__ = [
    "Blame",
    "Places",
    "blame",
    "blame_samples",
    "callback_start",
    "cut_own",
    "function_of",
    "here",
    "is_operators",
    "reactor_frames",
]

Kind: TypeAlias = Literal["application", "third-party", "twisted", "stdlib", "ours"]

_LOOPS = {
    "twisted/internet/base.py": {"run", "mainLoop", "runUntilCurrent", "iterate"},
    "twisted/internet/epollreactor.py": {"doPoll"},
    "twisted/internet/pollreactor.py": {"doPoll"},
    "twisted/internet/selectreactor.py": {"doSelect"},
    "twisted/internet/asyncioreactor.py": {"run", "_onTimer", "_readOrWrite", "iterate"},
    "asyncio/base_events.py": {"run_forever", "_run_once", "run_until_complete"},
    "asyncio/events.py": {"_run"},
}
"""The functions that turn a loop: the end of a file's path -> names."""

_PLUMBING = {
    *_LOOPS,
    "twisted/internet/posixbase.py",
    "twisted/logger/_logger.py",
    "twisted/python/context.py",
    "twisted/python/log.py",
}
"""Files between a loop and the callback: never blamed as a callback themselves."""

_INNER_SCOPES = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


@frozen
class Places:
    """Where code lives, so that application code can be told from the rest.

    Attributes:
        stdlib: the standard library's directory; those of installed packages may be within.
        twisted: Twisted's directory, which may be a checkout.
        ours: this package's directory.
    """

    stdlib: str
    twisted: str
    ours: str

    def kind(self, file: str) -> Kind:
        """What the code in `file` (as a code object names it) is."""
        if file.startswith(self.ours):
            # The demo is a service like any other: its functions are to be blamed.
            return "application" if file.startswith(self.ours + "demo") else "ours"
        if file.startswith(self.twisted):
            return "twisted"
        if "/site-packages/" in file or "/dist-packages/" in file:
            return "third-party"
        if file.startswith((self.stdlib, "<frozen ")):
            return "stdlib"
        return "third-party" if file.startswith("<attrs generated ") else "application"


@cache
def here() -> Places:
    """The places of this interpreter, from modules that are loaded anyway: no file is read."""
    return Places(
        stdlib=f"{Path(os.__file__).parent}/",
        twisted=f"{Path(twisted.__file__).parent}/",
        ours=f"{Path(__file__).parent}/",
    )


@frozen
class Blame:
    """A verdict.

    Attributes:
        offender: the function that is blamed; None if no callback is on the stack.
        via: the innermost function's name, where that is not the offender.
    """

    offender: Function | None
    via: str | None


def cut_own(stack: RawStack, places: Places | None = None) -> RawStack:
    """`stack` without the innermost frames that are ours: a handler of a ring, the probe."""
    kind = (places or here()).kind
    end = len(stack)
    while end and kind(stack[end - 1][0].co_filename) == "ours":
        end -= 1
    return stack[:end]


def blame(stack: RawStack, places: Places | None = None) -> Blame:
    """Whom `stack` blames. Frames of our own must have been cut off (`cut_own`)."""
    places = places or here()
    codes = _without_inner_scopes([code for code, _ in stack])
    called = codes[callback_start([(code.co_name, code.co_filename) for code in codes]) :]
    offender = _innermost(called, places)
    if offender is None:
        return Blame(None, None)
    innermost = called[-1]
    operator = next(filter(None, (operator_of(code.co_filename) for code in called)), None)
    if operator is not None:
        is_own = operator_of(innermost.co_filename) is not None
        by_operator = Function(f"manhole: {operator}", SOURCE, 1)
        return Blame(by_operator, None if is_own else innermost.co_name)
    return Blame(function_of(offender), None if innermost is offender else innermost.co_name)


def callback_start(calls: Sequence[tuple[str, str]]) -> int:
    """The index of the outermost call that is not the program's start or the reactor's plumbing.

    Args:
        calls: a stack as (function, file) pairs, outermost first.

    Returns:
        the stack's length, if the reactor had called nobody; 0, if no loop is on the stack. If
        a callback runs a loop of its own (`asyncio.run`, `reactor.iterate`), it is still it.
    """
    loops = [i for i, (name, file) in enumerate(calls) if name in _LOOPS.get(_known(file), ())]
    if not loops:
        return 0
    # Twisted's own, if there is one: an asyncio loop may run around it, as in many test runners.
    twisted = (i for i in loops if _known(calls[i][1]).startswith("twisted/"))
    start = next(twisted, loops[0])
    while start < len(calls) and _known(calls[start][1]) in _PLUMBING:
        start += 1
    return start


def reactor_frames(stack: RawStack) -> int:
    """How many of the outermost frames lead to the callback: see `callback_start`."""
    return callback_start([(code.co_name, code.co_filename) for code, _ in stack])


def blame_samples(samples: Sequence[Sample]) -> tuple[Blame, Sample | None]:
    """Whom the samples of a pause blame: the function in which most of its time went.

    Returns:
        the verdict, and the sample that it was read from: of those that blame that function the
        one that stands for most of the pause. None if there is no sample.
    """
    if not samples:
        return Blame(None, None), None
    verdicts = [blame(sample.stack) for sample in samples]
    seconds: dict[Function | None, float] = {}
    for sample, verdict in zip(samples, verdicts, strict=True):
        seconds[verdict.offender] = seconds.get(verdict.offender, 0.0) + sample.seconds
    # Some callback ran, if but in one sample: the others caught the reactor between two of them.
    worst = max(seconds, key=lambda offender: (offender is not None, seconds[offender]))
    culprit, verdict = max(
        (
            (sample, verdict)
            for sample, verdict in zip(samples, verdicts, strict=True)
            if verdict.offender == worst
        ),
        key=lambda pair: pair[0].seconds,
    )
    return verdict, culprit


def is_operators(offender: Function | None) -> bool:
    """Whether it is an operator of the manhole who is blamed."""
    return offender is not None and offender.file == SOURCE


def function_of(code: CodeType) -> Function:
    """The function that `code` belongs to, at its first line."""
    return Function(code.co_name, code.co_filename, code.co_firstlineno)


def _without_inner_scopes(codes: Sequence[CodeType]) -> list[CodeType]:
    """`codes` without frames that are part of the function around them.

    A comprehension has a frame of its own before Python 3.12, and a generator expression always:
    nobody would look for the offender there.
    """
    return [
        code
        for outer, code in zip((None, *codes), codes, strict=False)
        if outer is None
        or code.co_name not in _INNER_SCOPES
        or outer.co_filename != code.co_filename
    ]


def _innermost(codes: Sequence[CodeType], places: Places) -> CodeType | None:
    """The frame to blame among those that the reactor called."""
    kinds = [_kind(code, places) for code in codes]
    for wanted in ("application", "third-party"):
        for code, kind in zip(reversed(codes), reversed(kinds), strict=True):
            if kind == wanted:
                return code
    return next((c for c, kind in zip(codes, kinds, strict=True) if kind != "ours"), None)


def _kind(code: CodeType, places: Places) -> Kind:
    if code.co_filename == "<string>" and code.co_name.startswith("__"):
        return "stdlib"  # what dataclasses generate: nobody's own code
    return places.kind(code.co_filename)


@lru_cache(maxsize=1024)  # bounded: each console statement has a file name of its own
def _known(file: str) -> str:
    """The end of `file`'s path, if that is one that matters here; else empty."""
    parts = file.rsplit("/", 3)
    ends = ("/".join(parts[-3:]), "/".join(parts[-2:]))
    return next((end for end in ends if end in _PLUMBING), "")
