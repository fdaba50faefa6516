"""Records -> rich tables and text. Pure; imported when someone looks, for it brings rich."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from txwatchdog.records import Function, Offender, Pause, Top

__all__ = ["pauses_text", "render", "top_table", "top_text"]

WIDTH = 100
"""Columns, where nobody says how many there are."""


def top_table(top: Top) -> Table:
    """The offenders as a rich table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("total s", "count", "worst s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("function", overflow="fold")
    table.add_column("via", overflow="fold")
    table.add_column("cause", no_wrap=True)
    table.add_column("last", no_wrap=True)
    for row in top.rows:
        table.add_row(
            f"{row.total_seconds:.3f}",
            str(row.count),
            f"{row.worst_seconds:.3f}",
            Text(_place(row)),
            Text(row.via or ""),
            row.cause,
            f"{row.last_at:%H:%M:%S}Z",
        )
    return table


def top_text(top: Top, width: int = WIDTH, *, colour: bool = False) -> str:
    """The offenders as text, with a line that sums up.

    Args:
        top: the rows.
        width: columns to keep to.
        colour: whether the headings may be coloured.
    """
    if not top.pauses:
        return "no pause yet"
    summary = (
        f"{top.pauses} pause{'s' if top.pauses > 1 else ''}, {top.paused_seconds:.3f} s in all"
    )
    nobodys = [f"{n} {cause}, {secs:.3f} s" for cause, (n, secs) in top.unblamed.items() if n]
    if nobodys:
        summary += f"; no function's fault: {'; '.join(nobodys)}"
    if top.hidden:
        summary += f"; {top.hidden} more rows, top({len(top) + top.hidden}) shows all"
    if not top.rows:
        return summary
    return f"{render(top_table(top), width, colour=colour)}\n{summary}"


def pauses_text(pauses: Sequence[Pause], width: int = WIDTH, *, colour: bool = False) -> str:
    """Pauses as text, a line each.

    Args:
        pauses: in the order in which they are shown.
        width: columns to keep to.
        colour: whether the headings may be coloured.
    """
    if not pauses:
        return "no pause yet"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("pause", justify="right", no_wrap=True)
    table.add_column("began", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("function", overflow="fold")
    table.add_column("via", overflow="fold")
    table.add_column("cause", no_wrap=True)
    for pause in pauses:
        table.add_row(
            str(pause.number),
            f"{pause.started_at:%m-%d %H:%M:%S}Z",
            f"{pause.duration:.3f}",
            Text(str(pause.offender or "")),
            Text(pause.via or ""),
            pause.cause,
        )
    return render(table, width, colour=colour)


def render(table: Table, width: int, *, colour: bool) -> str:
    """A table as text, without empty lines.

    Args:
        table: the table.
        width: columns to keep to.
        colour: whether the headings may be coloured.
    """
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        height=25,  # or rich asks the service's own terminal
        color_system="standard" if colour else None,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        _environ={},  # whoever looks has another terminal than the service
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines() if line.strip())


def _place(row: Offender) -> str:
    if row.file is None or row.line is None:
        return row.function
    return str(Function(row.function, row.file, row.line))
