"""Sections 4, 5 and 7: what things cost when there are very many of something; memory; samples."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .harness import Bench, Spread, Table, child
from .sampling import FIRST, FLOOR, SAMPLE, WALK, microseconds

__all__ = ["run"]

STEPS = {
    "pauses": ("pauses seen", (10, 10_000, 1_000_000)),
    "offenders": ("functions that paused", (10, 1_000, 100_000)),
    "connections": ("open connections", (10, 1_000, 10_000)),
    "depth": ("frames deep", (10, 100, 900)),
}
SESSIONS = 8
DEPTHS = (10, 60, 900)


def grown(what: str, number: int) -> dict[str, Any]:
    """What a child says that has so many."""
    with child("grown.py", what, number) as made:
        return made.hear(600)


def growth(bench: Bench) -> Table:
    """A row for each number."""
    table = Table(
        "Growth (µs and ns of CPU: the least of several; a tick: the median of 31 differences)",
        ("", "a tick: ns added", "a wake: µs", "`top()`: µs", "reading the stack: µs"),
    )
    for what, (title, numbers) in STEPS.items():
        for number in numbers:
            wanted = min(number, 100_000) if bench.quick else number
            bench.say(f"{wanted:,} {title}")
            try:
                found = grown(what, wanted)
            except RuntimeError as problem:
                table.rows.append((f"{wanted:,} {title}", f"not measured: {problem}", "", "", ""))
                continue
            stack = f"{found['stack_us']:.1f}" if what == "depth" else ""
            costs = [f"{found[each]:.0f}" for each in ("tick_ns", "wake_us", "top_us")]
            table.rows.append((f"{wanted:,} {title}", *costs, stack))
            table.figures[f"{what} {wanted}"] = found
    table.notes.append(
        "Flat but for two things. `top()` grows up to the 500 functions that have a row. Reading a"
        " stack is linear in its depth; that is done in the watch thread, during a pause only."
    )
    return table


def samples(bench: Bench) -> Table:
    """What a sample takes of the watch thread, beside what is the least."""
    times = bench.times(5000, 500)
    table = Table(
        f"A sample of a stack beside the floor: µs, medians of {times}, by turns",
        (
            "",
            FLOOR,
            WALK,
            SAMPLE,
            FIRST,
            f"a sample, of {FLOOR}",
            "a sample, of the walk",
        ),
    )
    for depth in DEPTHS:
        bench.say(f"samples, {depth} frames deep")
        took = microseconds(depth, times)
        medians = {name: Spread.of(each).median for name, each in took.items()}
        floors = {
            name: Spread.of([a / b for a, b in zip(took[SAMPLE], took[name], strict=True)])
            for name in (FLOOR, WALK)
        }
        cells = [f"{medians[name]:.1f}" for name in (FLOOR, WALK, SAMPLE, FIRST)]
        ratios = [each.text(".1f") for each in floors.values()]
        table.rows.append((f"{depth} frames deep", *cells, *ratios))
        table.figures[str(depth)] = medians
    table.notes.append(
        "Without the first no stack can be had in Python; the walk keeps nothing, a sample keeps"
        " each frame's code and line. A pause's first finds out which event of the reactor led"
        " to it, too."
    )
    return table


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory(bench: Bench, number: int, rss: dict[str, float]) -> Table:
    """A row for each stage."""
    table = Table("Memory", ("", "RSS, MB", "more than before, MB"))
    stages = {
        "Twisted's reactor": rss["bare"],
        "`import txwatchdog`": rss["imported"],
        "started": rss["started"],
        f"{number:,} pauses of 100 functions, 21 frames deep": rss["filled"],
    }
    before = rss["bare"]
    for title, size in stages.items():
        table.rows.append((title, f"{size:.1f}", f"{size - before:.1f}"))
        before = size
    bench.say(f"memory with {SESSIONS} console sessions")
    from manhole_support import ServiceProcess

    with ExitStack() as stack:
        service = ServiceProcess(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(service.close)
        sizes = [_rss(service.process.pid)]
        for count in range(SESSIONS):
            terminal = service.terminal()
            stack.callback(terminal.close)
            terminal.expect(">>>")
            if count in {0, SESSIONS - 1}:
                sizes.append(_rss(service.process.pid))
    table.rows += [
        ("a service with a manhole, nobody in it", f"{sizes[0]:.1f}", ""),
        ("the first console session", f"{sizes[1]:.1f}", f"{sizes[1] - sizes[0]:.1f}"),
        (f"{SESSIONS} of them", f"{sizes[2]:.1f}", f"{sizes[2] - sizes[1]:.1f}"),
    ]
    table.figures = {**rss, "sessions": sizes}
    return table


def run(bench: Bench) -> Iterator[Table]:
    """All three."""
    table = growth(bench)
    yield table
    yield samples(bench)
    number = bench.times(1_000_000, 100_000)
    yield memory(bench, number, table.figures[f"pauses {number}"]["rss"])
