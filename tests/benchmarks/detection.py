"""Section 1: which pauses are seen, how soon, and whom each method names."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from attrs import frozen

from .harness import Bench, Spread, Table, child, goal, millis
from .peers import Missing, python_with, version_of

__all__ = ["run"]

THRESHOLD_NS = 50_000_000

RUNS = (
    ("txwatchdog", "txwatchdog", "epoll", None),
    ("txwatchdog", "txwatchdog", "poll", None),
    ("txwatchdog", "txwatchdog", "select", None),
    ("txwatchdog", "txwatchdog", "asyncio", None),
    ("the original method (port)", "original", "epoll", None),
    ("aiocop", "aiocop", "asyncio", "aiocop"),
    ("asyncio debug mode", "asyncio-debug", "asyncio", None),
    ("aiodebug", "aiodebug", "asyncio", "aiodebug"),
)
"""Title, method, reactor, peer."""

BLAMED = {
    "sleep_in_del": ("__del__",),
    "hot_helper_loop": ("hot_helper_loop", "helper"),
    "heavy_import": ("heavy_import", "<module>"),
}
"""Kinds in which another function, or one of several, is the right one."""

POLLING = ("catastrophic_regex", "int_power")
HOLDING = ("json_dumps", "sort_list", "gc_collect")
PYTHON = ("python_loop", "hot_helper_loop", "heavy_import")


@frozen
class Seen:
    """A pause that was made, and what was said of it.

    Attributes:
        name: the kind, and the place if it was called from one.
        found: whether anything was said.
        during: whether the method had looked before the pause ended.
        after: seconds from the crossing of the threshold to its look.
        named: whether it names the right function.
        excused: whether it says that the machine was at fault, and so blames nobody.
        traced: whether that is in its traceback, with the place.
        error: how much the duration that it tells is wrong, in seconds; None: it tells none.
    """

    name: str
    found: bool
    during: bool = False
    after: float = 0.0
    named: bool = False
    excused: bool = False
    traced: bool = False
    error: float | None = None

    @property
    def group(self) -> str:
        """What kind of C or Python it was in."""
        kind = self.name.split()[0]
        if kind in POLLING:
            return "the GIL held, signals looked for"
        if kind in HOLDING:
            return "the GIL held"
        return "Python" if kind in PYTHON else "the GIL free"

    @property
    def place(self) -> str:
        """The function that it was called from; empty for none in particular."""
        return self.name.partition(" ")[2]


def judge(call: dict[str, Any], reports: list[dict[str, Any]]) -> Seen:
    """What was said of this pause."""
    own = [r for r in reports if call["asked_ns"] <= r["at_ns"] <= call["over_ns"] + 30_000_000]
    if not own:
        return Seen(call["name"], found=False)
    first = own[0]
    kind, _, place = call["name"].partition(" ")
    told, trace = str(first["function"]), " ".join(first["trace"])
    right = (place,) if kind == "sleep" else BLAMED.get(kind, (kind,))
    took = (call["ended_ns"] - call["began_ns"]) / 1e9
    return Seen(
        call["name"],
        found=True,
        during=first["at_ns"] < call["ended_ns"],
        after=(first["at_ns"] - call["began_ns"] - THRESHOLD_NS) / 1e9,
        named=_is_among(right, told),
        excused=told in {"(starved)", "(suspended)"},
        traced=_is_among(right, f"{told} {trace}") and (not place or _is_among((place,), trace)),
        error=None if first["seconds"] is None else abs(first["seconds"] - took),
    )


def _is_among(names: Sequence[str], text: str) -> bool:
    """Whether one of these functions is named in a text."""
    return any(re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text) for each in names)


def observe(method: str, reactor: str, peer: str | None, times: int) -> list[Seen]:
    """Run a child, and judge all its pauses."""
    python = sys.executable if peer is None else python_with(peer)
    calls, reports = [], []
    arguments = (reactor, method, times)
    with child("detected.py", *arguments, python=python, stderr=subprocess.DEVNULL) as made:
        while (said := made.hear(60))["event"] != "done":
            if said["event"] == "failed":
                raise RuntimeError(said["what"])
            if said["event"] == "call":
                calls.append(said)
            elif said["event"] == "report":
                reports.append(said)
    return [judge(call, reports) for call in calls]


def percent(part: int, whole: int) -> str:
    """A share."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _named(seen: list[Seen]) -> str:
    """The share that names the right function, of those that blame one."""
    excused = sum(each.excused for each in seen)
    share = percent(sum(each.named for each in seen), len(seen) - excused)
    return f"{share} ({excused} starved)" if excused else share


def _row(title: str, seen: list[Seen]) -> tuple[str, ...]:
    found = [each for each in seen if each.found]
    free = [each.after for each in found if each.group == "the GIL free" and each.during]
    errors = [each.error for each in found if each.error is not None]
    return (
        title,
        percent(len(found), len(seen)),
        percent(sum(each.during for each in found), len(seen)),
        f"{millis(statistics.median(free))}, {millis(Spread.of(free).p(99))}" if free else "-",
        _named(seen),
        percent(sum(each.traced for each in found), len(seen)),
        millis(statistics.median(errors)) if errors else "tells none",
    )


def run(bench: Bench) -> Iterator[Table]:
    """Two children at a time, for most of their time they sleep."""
    times = bench.times(20, 3)
    table = Table(
        f"Detection: 19 kinds of pause, and 3 of them from 7 call sites, {times} of each,"
        " threshold 50 ms",
        (
            "",
            "found",
            "looked at during the pause",
            "after the crossing, GIL free: median, p99",
            "right function named",
            "right function in the traceback",
            "error of the duration, median",
        ),
    )
    results: dict[str, list[Seen]] = {}

    def one(entry: tuple[str, str, str, str | None]) -> list[Seen] | Exception:
        title, method, reactor, peer = entry
        bench.say(f"{title}, {reactor}")
        try:
            return observe(method, reactor, peer, times)
        except (Missing, RuntimeError) as problem:
            return problem

    with ThreadPoolExecutor(2) as pool:
        for (title, _, reactor, peer), found in zip(RUNS, pool.map(one, RUNS), strict=True):
            named = f"{version_of(peer) if peer else title}, {reactor}"
            if isinstance(found, Exception):
                table.rows.append((named, f"not measured: {found}", *[""] * 5))
                continue
            results[named] = found
            table.rows.append(_row(named, found))
    table.figures = {name: _figures(seen) for name, seen in results.items()}
    ours = [each for name, seen in results.items() if "txwatchdog" in name for each in seen]
    if ours:
        table.notes.append(_verdict(ours))
    yield table
    yield _by_group(ours)
    yield _by_place(ours)
    yield on_demand(bench)


def _figures(seen: list[Seen]) -> dict[str, Any]:
    return {
        "pauses": len(seen),
        "missed": sorted({each.name for each in seen if not each.found}),
        "misnamed": sorted({each.name for each in seen if each.found and not each.named}),
    }


def _verdict(ours: list[Seen]) -> str:
    found = [each for each in ours if each.found]
    free = [each.after for each in found if each.group == "the GIL free" and each.during]
    errors = [each.error for each in found if each.error is not None]
    named = sum(each.named for each in found) / sum(not each.excused for each in ours)
    return (
        f"Goals of txwatchdog: recall 100 %: {goal(len(found) == len(ours))}; median under 1 ms"
        f" where the GIL is free: {goal(statistics.median(free) < 0.001)}; error of the duration"
        f" under 1 ms: {goal(statistics.median(errors) < 0.001)}; right function in 99 %:"
        f" {goal(named >= 0.99)}. The original method looks up to an interval early, so it reports"
        " what is shorter than its threshold, too. aiocop takes samples during a pause, and tells"
        " of it when it is over, which is what is counted here. In C that holds the GIL and does"
        " not look for signals, all look when it is over."
    )


def _by_group(ours: list[Seen]) -> Table:
    table = Table(
        "Detection by txwatchdog, all reactors",
        ("", "pauses", "found", "looked at during the pause", "after the crossing: median, p99"),
    )
    for group in ("the GIL free", "Python", "the GIL held, signals looked for", "the GIL held"):
        own = [each for each in ours if each.group == group]
        after = [each.after for each in own if each.found]
        if not after:
            continue
        during = percent(sum(each.during for each in own), len(own))
        late = f"{millis(statistics.median(after))}, {millis(Spread.of(after).p(99))}"
        table.rows.append((group, len(own), percent(len(after), len(own)), during, late))
    return table


def _by_place(ours: list[Seen]) -> Table:
    table = Table(
        "Detection by txwatchdog from each call site, all reactors",
        (
            "a sleep, a Python loop, C that holds the GIL",
            "pauses",
            "found",
            "looked at during the pause",
            "right function named",
            "it and the call site in the traceback",
        ),
    )
    for place in dict.fromkeys(each.place for each in ours if each.place):
        own = [each for each in ours if each.place == place]
        table.rows.append(
            (
                f"`{place}`",
                len(own),
                percent(sum(each.found for each in own), len(own)),
                percent(sum(each.during for each in own), len(own)),
                _named([each for each in own if each.found]),
                percent(sum(each.traced for each in own), len(own)),
            )
        )
    return table


def on_demand(bench: Bench) -> Table:
    """What py-spy answers when somebody knows of the pause, and asks."""
    table = Table("py-spy dump, on demand", ("", "answers", "names the function", "median, p99"))
    times = bench.times(20, 5)
    script = "import time\ndef fetch_user():\n    print('{}', flush=True)\n    time.sleep(1000)\n"
    with child("-c", script + "fetch_user()") as paused:
        paused.hear()
        try:
            spy = python_with("py-spy").with_name("py-spy")
        except Missing as problem:
            table.notes.append(f"Not measured: {problem}")
            return table
        took, right = [], 0
        for _ in range(times):
            began = time.perf_counter()
            dump = subprocess.run(
                [spy, "dump", "--pid", str(paused.pid)], capture_output=True, text=True
            )
            took.append(time.perf_counter() - began)
            right += "fetch_user" in dump.stdout
    spread = Spread.of(took)
    late = f"{millis(spread.median)}, {millis(spread.p(99))}"
    table.rows.append((version_of("py-spy"), times, percent(right, times), late))
    table.notes.append("It finds nothing by itself: somebody must look while the pause lasts.")
    return table
