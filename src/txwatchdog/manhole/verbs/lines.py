"""Which commands are verbs, and which are Python. Pure, and light: it looks at every command.

A command is a verb if it is one line whose first word is a verb's name, and the rest is nothing,
begins with ``-``, or does not make it valid Python. So ``top``, ``top --by worst``, ``top --jsn``
(a mistake, which the verb explains), ``threshold 0.2`` and ``python - one`` are verbs;
``top = 3``, ``stop if x else y``, ``top (3)`` and ``watchdog.top()`` are Python. Whoever means the
difference of two variables that have such names puts it in parentheses: ``(top - 3)``.
"""

from __future__ import annotations

import ast
import re
import shlex
from typing import TYPE_CHECKING

from txwatchdog.manhole import around
from txwatchdog.manhole.output import Capture, Outlet, routed

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["COMMAND_ONLY", "NAMES", "console_verb", "is_file_copy", "split", "verb_line"]

NAMES = (
    "top",
    "pauses",
    "tracebacks",
    "stack",
    "status",
    "stats",
    "live",
    "export",
    "report",
    *around.NAMES,
    "threshold",
    "start",
    "stop",
    "reset",
    "interrupt",
    "python",
    "help",
)
"""The verbs, in the order in which `help` lists them."""

COMMAND_ONLY = frozenset({"python", "help"})
"""Those that mean something else, or nothing, where statements are typed."""

_nowhere = Capture(Outlet(lambda _stream, _data: None, terminal=False), lambda _value: None)

_COPY = re.compile(r"(scp|rsync) --?[a-zA-Z]")

_BLANKS = re.compile("[ \t]+")

_LIVE = ("watchdog.live()", "--help", "-h")


def verb_line(source: str) -> str | None:
    """The verb line that a command is.

    Args:
        source: What the client asks to be run.

    Returns:
        The line, to be split into words; None if it is Python.
    """
    line = source.strip()
    if line in _LIVE:
        return "live" if line == _LIVE[0] else "help"
    # At what `shlex` splits, and not at a vertical tab, say: it would find another first word.
    words = _BLANKS.split(line, maxsplit=1)
    if words[0] not in NAMES or "\n" in line or "\r" in line:
        return None
    if len(words) == 1 or words[1].startswith("-") or not _is_python(line):
        return line
    return None


def console_verb(source: str, names: Container[str]) -> str | None:
    """The verb line that an input of the console is.

    Args:
        source: What was typed.
        names: The operator's own, which go before verbs.

    Returns:
        The line; None if it is Python.
    """
    line = verb_line(source)
    if line is None:
        return None
    name = _BLANKS.split(line, maxsplit=1)[0]
    return None if name in names or name in COMMAND_ONLY else line


def is_file_copy(source: str) -> bool:
    """Whether a command is what ``scp -O`` and ``rsync`` have the far end run.

    Args:
        source: What the client asks to be run; ``scp -t /tmp/x`` would be valid Python.
    """
    return _COPY.match(source) is not None


def split(line: str) -> list[str]:
    """A verb line's words, quotes as in a shell.

    Raises:
        ValueError: A quotation is not closed.
    """
    return shlex.split(line)


def _is_python(line: str) -> bool:
    # What the parser warns about shows when the line runs, if it is Python.
    with routed(_nowhere):
        try:
            ast.parse(line)
        except Exception:
            return False
    return True
