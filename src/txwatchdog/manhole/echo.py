"""Shows a typed character before anything else is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prompt_toolkit.data_structures import Point
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.layout.screen import Char

if TYPE_CHECKING:
    from prompt_toolkit.application import Application

__all__ = ["echo"]


def echo(app: Application[Any], character: str) -> None:
    """Show a character that is about to be inserted at a line's end, if that is all it will do.

    The renderer takes half a millisecond to find out what has changed. It is told what the terminal
    shows now, so whatever else becomes of the character (a colour, or that a binding did not insert
    it) it finds and mends as usual.

    Args:
        app: The prompt's, whether it runs or not.
        character: One that takes one column.
    """
    renderer, keys = app.renderer, app.key_processor
    screen, cursor = renderer.last_rendered_screen, renderer._cursor_pos
    buffer = app.current_buffer
    is_quiet = not (
        app._invalidated
        or app._running_in_terminal
        or keys.key_buffer
        or keys.input_queue
        or keys.arg is not None
    )
    if (
        app.is_running
        and screen is not None
        and is_quiet
        and buffer.name == DEFAULT_BUFFER
        and buffer.selection_state is None
        and buffer.document.is_cursor_at_the_end_of_line
        and cursor.x + 1 < app.output.get_size().columns
    ):
        screen.data_buffer[cursor.y][cursor.x] = Char(character)
        renderer._cursor_pos = Point(x=cursor.x + 1, y=cursor.y)
        app.output.write_raw(character)
        app.output.flush()
