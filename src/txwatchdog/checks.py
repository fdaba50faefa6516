"""What callers hand over, checked: each complaint names the value and what there may be instead."""

from __future__ import annotations

import math
import numbers

__all__ = ["check_number", "checked_count", "checked_seconds", "nanoseconds"]


def checked_seconds(name: str, seconds: object) -> float:
    """`seconds`, the argument called `name`.

    Raises:
        ValueError: it is no finite number above 0.
    """
    if isinstance(seconds, numbers.Real) and not isinstance(seconds, bool):
        try:
            value = float(seconds)
        except OverflowError:
            value = math.inf
        if math.isfinite(value) and value > 0:
            return value
    raise ValueError(f"{name} must be a finite number of seconds above 0, not {seconds!r}")


def nanoseconds(seconds: float) -> int:
    """`seconds` in whole nanoseconds, 1 at least."""
    # A threshold of 30,000 years is as good as any longer one, and still fits a float.
    return max(1, round(min(seconds, 1e12) * 1e9))


def checked_count(name: str, n: object) -> int:
    """`n`, the argument called `name`: how many are wanted.

    Raises:
        ValueError: it is no whole number from 0.
    """
    if isinstance(n, int) and not isinstance(n, bool) and n >= 0:
        return n
    raise ValueError(f"{name} must be a whole number from 0, not {n!r}")


def check_number(number: object) -> None:
    """Make sure that `number` may be a pause's, or is None.

    Raises:
        ValueError: it may not.
    """
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise ValueError(f"number must be a pause's number, not {number!r}")
