"""What a console says first, and its prompt about the reactor. In the manhole's thread."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from txwatchdog.process import this_process
from txwatchdog.summary import in_short

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["age", "pause_note", "so_far", "welcome"]

_LONG_NAME = 30  # characters of a function's name

_HINT = "help lists what is here, Tab completes, Ctrl-D leaves; try watchdog.top()"


def welcome(state: str, columns: int) -> str:
    """Three lines: which process this is, where its reactor stands, what to type.

    Args:
        state: Where the reactor stands, in one line.
        columns: The terminal's width.
    """
    process = this_process()
    who = f"{process.name}, pid {process.pid} on {process.host}"
    began = _started_at()
    if began is not None:
        who += f", up since {began:%Y-%m-%d %H:%M}Z ({age(datetime.now(timezone.utc) - began)})"
    lines = (who, state, _HINT)
    return "".join(_cut(line, columns) + "\n" for line in lines)


def so_far(watchdog: Any) -> str:
    """Such as ``; 4 pauses, 4.7 s in all, …``, to be put behind where the reactor stands."""
    try:
        return f"; {in_short(watchdog.top(1, by='worst'))}"
    except Exception:
        return ""  # a welcome is no place for errors


def pause_note(watchdog: Any) -> str:
    """Such as ``[paused 3 s in fetch_user]`` while the reactor is paused; "" while it is not."""
    try:
        if watchdog.status().state != "paused":
            return ""
        stack = watchdog.stack()
    except Exception:
        return ""  # a prompt is no place for errors
    if stack.state != "paused":
        return ""  # it ended between the two looks
    seconds = f"{stack.seconds:.0f}" if stack.seconds >= 1 else f"{stack.seconds:.1f}"
    name = stack.offender.function if stack.offender is not None else stack.via
    where = f" in {_cut(name, _LONG_NAME)}" if name else ""
    return f"[paused {seconds} s{where}]"


def age(elapsed: timedelta) -> str:
    """How long something has lasted, roughly: `3 min`, `2.5 h`, `12 d`."""
    seconds = max(elapsed.total_seconds(), 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _started_at(
    read: Callable[[], str] = lambda: Path("/proc/self/stat").read_text("utf-8"),
    boot_seconds: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
) -> datetime | None:
    """When this process began; None where the system does not say."""
    try:
        # The second field, a name in parentheses, may have anything in it; the start is the 22nd.
        ticks = int(read().rpartition(")")[2].split()[19])
        seconds = boot_seconds() - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return datetime.now(timezone.utc) - timedelta(seconds=seconds)


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else text[: max(columns - 1, 0)] + "…"
