"""Lays values out for a session: to its width, in its colours, in a bounded number of lines.

Not in the reactor's thread: rich takes its time.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import attrs

from txwatchdog.manhole.around.records import Listing
from txwatchdog.manhole.evaluate import Drawn
from txwatchdog.manhole.values import CUT, Node
from txwatchdog.records import Top

if TYPE_CHECKING:
    from rich.pretty import Node as RichNode

    from txwatchdog.manhole.session import Terminal

__all__ = ["lay_out"]

_WIDTH = 80  # columns of a value, where there is no terminal
_WIDTH_OF_TABLES = 100
_LINES = 10  # that a value gets on the smallest of terminals
_PROMPTS = 4  # lines that are kept for what was typed, and for the next prompt

# What is tried, in turn, until a value fits: parts of the outermost container, and characters.
_BOUNDS = ((100, 2000), (50, 1000), (25, 500), (15, 250), (10, 120), (5, 80), (3, 60), (1, 30))
_COLOURED = 5000  # characters that are looked at for colours
_COLOURED_LINE = 500  # of one line
_INNER = 5  # a container has so many times fewer parts than the one around it


def lay_out(shown: Node | Drawn, terminal: Terminal | None) -> str:
    """Make text of a value.

    Args:
        shown: What a statement gave.
        terminal: The session's. If there is none, all of the value is shown, without colour.

    Returns:
        The text, without a last line feed.

    Raises:
        Exception: What an object's own way to be shown raises.
    """
    colour = terminal is not None and terminal.has_colour
    if isinstance(shown, Drawn):
        return _drawn(shown.value, terminal, colour=colour)
    if terminal is None:
        return _lines(shown, _WIDTH)
    text, left_out = _bounded(shown, terminal)
    if colour:
        text = _coloured(text)
    return f"{text}\n{_shows_all(left_out)}" if left_out else text


def _drawn(value: Any, terminal: Terminal | None, *, colour: bool) -> str:
    width = _WIDTH_OF_TABLES if terminal is None else terminal.columns
    if type(value) is Top:
        from txwatchdog.tables import top_text

        return top_text(value, width, colour=colour)
    if issubclass(type(value), Listing):
        listing: Listing = value
        return listing.text(width, colour=colour)
    if type(value).__module__.startswith("txwatchdog."):
        return repr(value)
    text = _printed(value, width, colour=colour)
    if terminal is None:
        return text
    lines, left_out = _cut(text, terminal)
    return f"{lines}\n{_shows_all(left_out)}" if left_out else lines


def _shows_all(left_out: str) -> str:
    return f"{CUT} {left_out}, print({CUT}) shows all"


def _room(terminal: Terminal) -> int:
    """The lines that a value may take."""
    return max(terminal.rows - _PROMPTS, _LINES)


def _bounded(node: Node, terminal: Terminal) -> tuple[str, str]:
    """The text that fits on a terminal, and what does not."""
    columns = terminal.columns
    text = _lines(node, columns)
    for parts, characters in _BOUNDS:
        if _rows(text, columns) <= _room(terminal):
            break
        node = _trimmed(node, parts, characters)
        text = _lines(node, columns)
    text, lines = _cut(text, terminal)  # the repr of one object can be a text of many lines
    return text, lines or _left_out(node)


def _cut(text: str, terminal: Terminal) -> tuple[str, str]:
    lines = text.split("\n")
    more = len(lines) - _room(terminal)
    return ("\n".join(lines[:-more]), f"{more} more lines") if more > 0 else (text, "")


def _rows(text: str, columns: int) -> int:
    from rich.cells import cell_len

    return sum(max(-(-cell_len(line) // columns), 1) for line in text.split("\n"))


def _trimmed(node: Node, parts: int, characters: int) -> Node:
    """A copy with so many parts of each container, and so much of each text."""
    if node.children is None:
        # A text of many lines is cut by lines.
        most = len(node.text) if "\n" in node.text else characters
        return _copy(node, text=node.text[:most], left_out=max(len(node.text) - most, 0))
    inner = max(parts // _INNER, 1)
    kept = [_trimmed(child, inner, characters) for child in node.children[:parts]]
    return _copy(node, children=kept, left_out=len(node.children) - len(kept))


def _copy(node: Node, left_out: int, **changes: Any) -> Node:
    return attrs.evolve(node, left_out=node.left_out + left_out, **changes)


def _left_out(node: Node) -> str:
    """How much of a value is not there, such as `12 more`; nothing if all of it is."""
    parts, characters = _count(node)
    if parts:
        return f"{parts} more"
    return f"{characters} more characters" if characters else ""


def _count(node: Node) -> tuple[int, int]:
    if node.children is None:
        return 0, node.left_out
    parts, characters = node.left_out, 0
    for child in node.children:
        more = _count(child)
        parts, characters = parts + more[0], characters + more[1]
    return parts, characters


def _lines(node: Node, width: int) -> str:
    """A value spread over as many lines as its width takes, as rich spreads it."""
    line = node.line()
    if len(line) <= width and line.isascii():
        return line  # most values: rich need not be there
    return _for_rich(node).render(max_width=width)


def _for_rich(node: Node) -> RichNode:
    from rich.pretty import Node as RichNode

    # rich puts a separator behind the key; ours has one already.
    if node.children is None:
        text = node.text + CUT * (node.left_out > 0)
        return RichNode(key_repr=node.key, key_separator="", value_repr=text)
    children = [_for_rich(child) for child in node.children]
    if node.left_out:
        children.append(RichNode(value_repr=CUT))
    if children:
        children[-1].last = True
    return RichNode(
        key_repr=node.key,
        key_separator="",
        open_brace=node.opening,
        close_brace=node.closing,
        empty=node.opening + node.closing,
        is_tuple=node.is_tuple,
        children=children,
    )


def _coloured(text: str) -> str:
    """The text in colours; lines that are too long for that stay as they are.

    rich's patterns take time by the square of what they are given: 10 s for 20,000 zeros, all of
    them with the GIL held.
    """
    from rich.highlighter import ReprHighlighter
    from rich.text import Text

    highlighter = ReprHighlighter()
    lines = []
    room = _COLOURED
    for line in text.split("\n"):
        coloured = Text(line, no_wrap=True, overflow="ignore")
        if len(line) <= min(room, _COLOURED_LINE):
            highlighter.highlight(coloured)
            room -= len(line)
        lines.append(coloured)
    whole = Text("\n", end="", no_wrap=True, overflow="ignore").join(lines)
    return _printed(whole, max(map(len, lines)) * 2, colour=True)


def _printed(renderable: Any, width: int, *, colour: bool) -> str:
    """What rich makes of something."""
    from rich.console import Console

    out = StringIO()
    console = Console(
        file=out,
        width=max(width, 1),
        height=25,  # or rich asks the service's own terminal
        color_system="standard" if colour else None,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        soft_wrap=False,
        _environ={},  # whoever looks has another terminal than the service
    )
    console.print(renderable, end="")
    return out.getvalue().rstrip("\n")
