"""What the line editor has on the screen: the input behind its prompt, and the search below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prompt_toolkit.filters import Never, is_done
from prompt_toolkit.layout import ConditionalContainer, HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl
from prompt_toolkit.layout.processors import HighlightIncrementalSearchProcessor
from prompt_toolkit.widgets import SearchToolbar

if TYPE_CHECKING:
    from collections.abc import Callable

    from prompt_toolkit import PromptSession
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.lexers import Lexer

__all__ = ["simplify"]


def simplify(
    session: PromptSession[Any],
    lexer: Lexer | None,
    prefix: Callable[[int, int], StyleAndTextTuples],
) -> None:
    """Have a session draw nothing but what the console has.

    Its own layout has room for menus and toolbars that are never there; to find that out took two
    thirds of the time from a key to its echo.

    Args:
        session: The session, before its first prompt.
        lexer: Colours the input.
        prefix: What stands before a line; called with the line's number and how often it has been
            wrapped so far.
    """
    search = SearchToolbar(session.search_buffer)
    control = BufferControl(
        buffer=session.default_buffer,
        search_buffer_control=search.control,
        input_processors=[HighlightIncrementalSearchProcessor()],
        include_default_input_processors=False,
        lexer=lexer,
        preview_search=True,
    )
    window = Window(control, get_line_prefix=prefix, wrap_lines=True)
    searching = ConditionalContainer(search, filter=~is_done)
    session.app.layout = Layout(HSplit([window, searching]), focused_element=window)
    # Suggestions and validators, of which there are none, would have each key drawn twice.
    session.default_buffer.auto_suggest = None
    session.default_buffer.validate_while_typing = Never()
    # One redraw follows a burst of keys as it is; to wait for the loop's idle moment costs turns.
    session.app.max_render_postpone_time = None
