"""Lays the view out: a model and a terminal's size -> lines of styled text. Pure.

Styles are names that `screen` gives colours to. What does not fit is cut, with an ellipsis.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from prompt_toolkit.utils import get_cwidth

from txwatchdog.manhole.live.history import STEP, blocks, log_level
from txwatchdog.manhole.live.model import KEYS, NOW
from txwatchdog.records import Function, annotated
from txwatchdog.tracebacks import traceback_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from txwatchdog.manhole.live.history import Point
    from txwatchdog.manhole.live.model import Model, Snapshot
    from txwatchdog.records import Offender, Pause, Stack

__all__ = ["Line", "fit", "page", "pause_lines", "stack_lines"]

Line: TypeAlias = "tuple[tuple[str, str], ...]"
"""A line as (style, text) pairs; no styles but "" and names such as ``class:paused``."""

_BESIDE = 120  # columns from which on offenders and pauses stand side by side
_LABEL = 15  # columns of the graphs' labels
_GAP = "  "
_FILE = re.compile(r'(  File ")(.*)(", line \d+, in .*)', re.DOTALL)

PLAIN = ""
HEAD = "class:head"
PAUSED = "class:paused"
UNDER_WAY = "class:under-way"
CHOSEN = "class:chosen"
GOOD = "class:good"
KEY = "class:key"
BAR = "class:bar"
PAUSED_BAR = "class:bar-paused"


def page(model: Model, columns: int, rows: int) -> list[Line]:
    """The whole screen.

    Args:
        model: What to show.
        columns: The terminal's width.
        rows: Its height; so many lines are returned.
    """
    snapshot = model.snapshot
    if snapshot is None:
        return _filled([], rows)
    top = [_title(model, snapshot, columns), _state(snapshot, columns), _facts(snapshot, columns)]
    room = rows - len(top) - 1
    body = _keys() if model.shows_keys else _body(model, snapshot, columns, room)
    return [*_filled([*top, *body], rows - 1), _footer(model, columns)][:rows]


def fit(text: str, width: int) -> str:
    """`text` in exactly so many columns, cut or padded."""
    text = "".join(c if c.isprintable() else "·" for c in text)
    # Most text is a column a character, and then len() tells as well, a hundred times faster.
    if text.isascii():
        if len(text) <= width:
            return text.ljust(width)
        return text[: width - 1] + "…" if width > 0 else ""
    if get_cwidth(text) <= width:
        return text + " " * (width - get_cwidth(text))
    while text and get_cwidth(text) > width - 1:
        text = text[:-1]
    return text + "…" + " " * (width - 1 - get_cwidth(text)) if width > 0 else ""


def _filled(lines: list[Line], rows: int) -> list[Line]:
    return (lines + [()] * (rows - len(lines)))[: max(0, rows)]


def _title(model: Model, snapshot: Snapshot, columns: int) -> Line:
    clock = f"{snapshot.at:%H:%M:%S}Z"
    return ((HEAD, fit(model.title, columns - len(clock) - 1)), (HEAD, " " + clock))


def _state(snapshot: Snapshot, columns: int) -> Line:
    status, stack = snapshot.status, snapshot.stack
    if stack is not None:
        # Such as `reactor paused 12.4 s in fetch_user (app/db.py:41)`.
        return ((PAUSED, fit(f" {stack.summary}", columns)),)
    if status.state == "off":
        return ((PAUSED, fit(" watchdog stopped: o starts it", columns)),)
    busy = f" {_short(status.seconds)}" if status.state == "busy" else ""
    return ((GOOD, fit(f" reactor {status.state}{busy}", columns)),)


def _facts(snapshot: Snapshot, columns: int) -> Line:
    status, top = snapshot.status, snapshot.top
    known = status.utilisation is not None
    facts = [
        f"watchdog {'running' if status.running else 'STOPPED'}",
        f"threshold {status.threshold:g} s",
        f"{top.pauses} pauses, {top.paused_seconds:.1f} s in all",
        f"{status.ticks} ticks",
        f"{status.utilisation:.0%} busy since start" if known else "",
        f"error: {status.error}" if status.error else "",
        str(status.last_run) if status.last_run else "",
    ]
    return ((PLAIN, fit("  ·  ".join(filter(None, facts)), columns)),)


def _keys() -> list[Line]:
    return [(), *(((KEY, f"   {keys:>10}  "), (PLAIN, meaning)) for keys, meaning in KEYS)]


def _body(model: Model, snapshot: Snapshot, columns: int, rows: int) -> list[Line]:
    height = min(5, max(1, rows // 9))  # of each graph
    lines = _graphs(model, snapshot, columns, height)
    left = rows - len(lines)
    beside = columns >= _BESIDE
    # The traceback gets half of what is left, and what the tables have no use for.
    tables = max(3, left // 2)
    if beside:
        half = columns // 2 - len(_GAP)
        offenders = _offenders(model, snapshot, half, tables)
        pauses = _pauses(model, snapshot, columns - half - len(_GAP), tables)
        wanted = min(tables, max(len(offenders), len(pauses)))
        lines += _side_by_side(offenders, pauses, half, wanted)
    else:
        rows_wanted = (1 + max(1, len(snapshot.top.rows)), 1 + max(1, len(model.numbers)))
        upper, lower = _shares(rows_wanted, tables)
        lines += _offenders(model, snapshot, columns, upper)
        lines += _pauses(model, snapshot, columns, lower)
    return lines + _traceback(model, columns, rows - len(lines))


def _shares(wanted: tuple[int, int], rows: int) -> tuple[int, int]:
    """What each of two tables gets of so many rows: a half, and what the other does not want."""
    upper = min(wanted[0], max(rows - rows // 2, rows - wanted[1]))
    return upper, min(wanted[1], rows - upper)


def _side_by_side(left: list[Line], right: list[Line], width: int, rows: int) -> list[Line]:
    blank: Line = ((PLAIN, " " * width),)
    left = [*left, *[blank] * (rows - len(left))][:rows]
    return [(*a, (PLAIN, _GAP), *b) for a, b in zip(left, _filled(right, rows), strict=True)]


# -- graphs -----------------------------------------------------------------------------------


def _graphs(model: Model, snapshot: Snapshot, columns: int, height: int) -> list[Line]:
    points = model.history.columns(max(1, columns - _LABEL - 1))
    latest = model.history.latest
    busy = "" if latest is None else "unknown" if latest.busy is None else f"{latest.busy:.0%}"
    longest = "" if latest is None or not latest.longest else f"< {_short(latest.longest)}"
    if snapshot.activity.tick_seconds and latest is not None:
        longest = _short(latest.longest)
    limit = snapshot.status.threshold
    minutes = len(points) * STEP / 60

    def busy_level(point: Point) -> float:
        return point.busy or 0.0

    def busy_style(point: Point) -> str:
        return PAUSED_BAR if busy_level(point) > 0.9 else BAR

    def tick_style(point: Point) -> str:
        # The bound is at most twice too large.
        return PAUSED_BAR if point.longest > 2 * limit else BAR

    return [
        *_graph(points, height, busy_level, busy_style, ("busy", busy)),
        *_graph(
            points, height, lambda p: log_level(p.longest), tick_style, ("longest tick", longest)
        ),
        ((PLAIN, fit("", _LABEL) + fit(_scale(columns - _LABEL, minutes), columns - _LABEL)),),
    ]


def _graph(
    points: Sequence[Point | None],
    height: int,
    level: Callable[[Point], float],
    style: Callable[[Point], str],
    labels: tuple[str, str],
) -> list[Line]:
    """Bars, newest on the right, with a label in front: its name above, its latest value below."""
    bars = [(style(p), blocks(level(p), height)) if p else (PLAIN, " " * height) for p in points]
    shown = [" ".join(labels)] if height == 1 else [*labels, *[""] * (height - 2)]
    lines = []
    for row in range(height):
        cells: list[tuple[str, str]] = [(PLAIN, fit(shown[row], _LABEL))]
        for name, bar in bars:
            if cells[-1][0] == name and len(cells) > 1:
                cells[-1] = (name, cells[-1][1] + bar[row])
            else:
                cells.append((name, bar[row]))
        lines.append(tuple(cells))
    return lines


def _scale(width: int, minutes: float) -> str:
    left, right = f"└ {minutes:.1f} min ago", "now ┘ "
    return left + " " * max(1, width - len(left) - len(right)) + right


def _short(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


# -- tables -----------------------------------------------------------------------------------


def _offenders(model: Model, snapshot: Snapshot, columns: int, rows: int) -> list[Line]:
    titles = (("total", "total s", 9), ("count", "count", 7), ("worst", "worst s", 9))
    heading: list[tuple[str, str]] = [
        (CHOSEN if model.order == order else HEAD, title.rjust(width))
        for order, title, width in titles
    ]
    figures = sum(width for _, _, width in titles)
    last = 10  # columns
    room = columns - figures - last
    heading.append((HEAD, fit(f"{_GAP}{'cause':9} function", room)))
    heading.append((CHOSEN if model.order == "recent" else HEAD, fit(" last", last)))
    lines: list[Line] = [tuple(heading)]
    for row in snapshot.top.rows[: max(0, rows - 1)]:
        numbers = f"{row.total_seconds:9.3f}{row.count:7}{row.worst_seconds:9.3f}"
        name = fit(f"{_GAP}{row.cause:9} {_offender(row)}", room)
        lines.append(((PLAIN, f"{numbers}{name} {row.last_at:%H:%M:%S}Z"),))
    if not snapshot.top.rows:
        lines.append(((PLAIN, fit("no pause yet".rjust(figures), columns)),))
    return lines


def _offender(row: Offender) -> str:
    if row.file is None or row.line is None:
        return row.function
    return _by_way_of(Function(row.function, row.file, row.line), row.via)


def _by_way_of(function: Function | None, via: str | None) -> str:
    name = "" if function is None else str(function)
    return f"{name} via {via}" if via else name


def _pauses(model: Model, snapshot: Snapshot, columns: int, rows: int) -> list[Line]:
    lines: list[Line] = [
        ((HEAD, fit("    pause  began      seconds  cause     function", columns)),)
    ]
    numbers = model.numbers
    known = {pause.number: pause for pause in snapshot.pauses}
    shown = model.shown
    room = max(1, rows - 1)
    first = 0
    if shown in numbers:
        # The chosen one stays in sight.
        first = max(0, min(numbers.index(shown) - room // 2, len(numbers) - room))
    for number in numbers[first : first + room]:
        mark = "▸" if number == shown else " "
        style = CHOSEN if number == shown and model.chosen is not None else PLAIN
        if number == NOW:
            style, text = UNDER_WAY, _now(snapshot)
        else:
            text = _pause(known[number])
        lines.append(((style, fit(f"{mark} {text}", columns)),))
    return lines


def _pause(pause: Pause) -> str:
    return (
        f"{pause.number:7}  {pause.started_at:%H:%M:%S}Z {pause.duration:8.3f}  "
        f"{pause.cause:9} {_by_way_of(pause.offender, pause.via)}"
    )


def _now(snapshot: Snapshot) -> str:
    stack = snapshot.stack
    assert stack is not None
    place = _by_way_of(stack.offender, stack.via)
    return f"{'now':>7}  {'':9} {stack.seconds:8.1f}  {'':9} {place}"


def stack_lines(stack: Stack) -> list[str]:
    """What is shown of the pause under way. Reads source files, thus not for a loop.

    Args:
        stack: The reactor's.
    """
    return (traceback_text(stack.frames) + annotated(stack.annotations)).splitlines()


def pause_lines(pause: Pause) -> list[str]:
    """What is shown of a pause that was chosen. Reads source files, thus not for a loop.

    Args:
        pause: One that has ended.
    """
    lines = traceback_text(pause.frames).splitlines()
    if pause.origin:
        lines.append(f"Called by the reactor for a {pause.origin}")
    lines += annotated(pause.annotations).splitlines()
    shares = sorted(pause.shares.items(), key=lambda item: item[1], reverse=True)
    lines.append(", ".join(f"{share:.0%} {cause}" for cause, share in shares if share >= 0.005))
    return lines


def _traceback(model: Model, columns: int, rows: int) -> list[Line]:
    shown = model.shown
    if shown is None or rows < 2:
        return []
    title = "the pause under way" if shown == NOW else f"pause {shown}"
    room = rows - 1
    lines = model.detail
    # Its innermost calls, which come last, are what one wants to see.
    end = max(min(room, len(lines)), len(lines) - model.scroll)
    start = max(0, end - room)
    if len(lines) > room:
        title += f", lines {start + 1} to {end} of {len(lines)} (PgUp PgDn)"
    heading: Line = ((HEAD, fit(f"traceback of {title}", columns)),)
    return [
        heading,
        *(((PLAIN, fit(_path_cut(line, columns), columns)),) for line in lines[start:end]),
    ]


def _path_cut(line: str, columns: int) -> str:
    """A traceback's line, its path cut in front if need be: the end tells where one is."""
    found = _FILE.match(line)
    if found is None or len(line) <= columns:
        return line
    head, path, tail = found.groups()
    room = columns - len(head) - len(tail) - 1
    return line if room < 8 else f"{head}…{path[-room:]}{tail}"


def _footer(model: Model, columns: int) -> Line:
    if model.asks_reset:
        return ((PAUSED, fit(" forget all pauses? y or any other key", columns)),)
    if model.notice:
        return ((CHOSEN, fit(" " + model.notice, columns)),)
    changing = " + - threshold  o on/off  R reset " if model.may_change else ""
    return ((KEY, fit(f" ? keys  s sort  ↑↓ choose {changing} q leave", columns)),)
