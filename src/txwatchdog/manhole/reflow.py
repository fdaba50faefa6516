"""What a terminal does to a prompt when it becomes narrower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.data_structures import Point

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prompt_toolkit.layout.screen import Char
    from prompt_toolkit.renderer import Renderer

__all__ = ["reflow"]


def reflow(renderer: Renderer, columns: int) -> None:
    """Have a renderer know where the cursor is in a terminal that has become narrower.

    Terminals wrap then what has become too long; the renderer would go up too few rows, and leave
    the first of them above what it draws anew.
    """
    screen, cursor = renderer.last_rendered_screen, renderer._cursor_pos
    if screen is None:
        return
    rows = 0
    for y in range(cursor.y):
        row = screen.data_buffer[y]
        used = max((x + cell.width for x, cell in row.items() if cell.char != " "), default=0)
        rows += _rows(row, used, columns)
    row = screen.data_buffer[cursor.y]
    is_at_end = all(cell.char == " " for x, cell in row.items() if x >= cursor.x)
    # Behind a last column the cursor stays in it until something is written there.
    rows += _rows(row, cursor.x + (not is_at_end), columns) - 1
    # However the terminal counts wide characters at an edge, so far left is the first column.
    renderer._cursor_pos = Point(x=columns, y=rows)


def _rows(row: Mapping[int, Char], used: int, columns: int) -> int:
    """How many rows a terminal needs for the first `used` columns of a wider one's."""
    rows, at = 1, 0
    for x in range(used):
        cell = row.get(x)
        width = 1 if cell is None else cell.width
        if at + width > columns:
            rows, at = rows + 1, 0
        at += width
    return rows
