"""What a run came to, in three lines or one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from txwatchdog.records import Function, Top

__all__ = ["in_short", "summary"]


def summary(
    stats: Mapping[str, Any], longest: float | None, seconds: float, report: str
) -> Sequence[str]:
    """Sum up a run: its pauses, the worst offender, and where the report is.

    Args:
        stats: what `Watchdog.stats` says.
        longest: seconds that no tick took longer than; None if that is not known.
        seconds: how long it was watched.
        report: the third line.
    """
    count, threshold = stats["pauses"], stats["threshold"]
    watched = f"in {_duration(seconds)}"
    if not count:
        bound = "" if longest is None else f" (no tick took longer than {longest:.3g} s)"
        return [
            f"no pause over {threshold:g} s {watched}",
            f"worst: none{bound}",
            report,
        ]
    return [
        f"{_times(count)} over {threshold:g} s, {stats['paused_seconds']:.3f} s in all, {watched}",
        f"worst: {_worst(stats)}",
        report,
    ]


def in_short(top: Top) -> str:
    """Sum up what there was so far: `4 pauses, 4.7 s in all, the worst 1.5 s in read_inventory`.

    Args:
        top: the worst offender, as `Watchdog.top(1, by="worst")` says.
    """
    if not top.pauses:
        return "no pause"
    text = f"{_times(top.pauses)}, {top.paused_seconds:.1f} s in all"
    if top.rows:
        worst = top.rows[0]
        text += f", the worst {worst.worst_seconds:.1f} s in {worst.function}"
    return text


def _worst(stats: Mapping[str, Any]) -> str:
    if stats["offenders"]:
        worst = stats["offenders"][0]
        seconds = f"{worst['total_seconds']:.3f} s"
        return f"{_place(worst)}, {_times(worst['count'])}, {seconds}, {worst['cause']}"
    cause, sums = max(stats["causes"].items(), key=lambda pair: pair[1]["seconds"])
    return f"no function's fault, {_times(sums['pauses'])}, {sums['seconds']:.3f} s, {cause}"


def _times(count: int) -> str:
    return "1 pause" if count == 1 else f"{count} pauses"


def _place(offender: Mapping[str, Any]) -> str:
    if offender["file"] is None:
        return str(offender["function"])
    return str(Function(offender["function"], offender["file"], offender["line"]))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 120 else f"{hours:.1f} h"
