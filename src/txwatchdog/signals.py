"""Which signals have a handler that is written in Python."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from types import CodeType

__all__ = ["handlers_of_signals"]


def handlers_of_signals() -> set[CodeType]:
    """The code of all signal handlers that are written in Python. Any thread."""
    codes = set()
    for number in _caught():
        handler = signal.getsignal(number)
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if isinstance(code, CodeType):
            codes.add(code)
    return codes


def _caught() -> Iterable[int]:
    """The signals that have a handler at all: to ask Python for each of 64 takes 0.3 ms."""
    try:
        status = Path("/proc/self/status").read_bytes()
        caught = int(status.partition(b"\nSigCgt:")[2].split(maxsplit=1)[0], 16)
    except (OSError, ValueError, IndexError):
        return signal.valid_signals()
    return [number for number in range(1, signal.NSIG) if caught >> (number - 1) & 1]
