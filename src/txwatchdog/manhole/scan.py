"""What unfinished Python says about the place where it ends: in a string, in a comment. Pure."""

from __future__ import annotations

import re

__all__ = ["CODE", "COMMENT", "LIMIT", "indentation_after", "string_start"]

CODE = -1
COMMENT = -2
LIMIT = 20_000  # characters; of a longer source only its last ones are looked at

INDENT = 4

_OPENING = re.compile(r"#|'''|\"\"\"|'|\"")
_CLOSING = {
    "'": re.compile(r"(?:\\.|[^\\\n'])*(?:'|\n)", re.DOTALL),
    '"': re.compile(r'(?:\\.|[^\\\n"])*(?:"|\n)', re.DOTALL),
    "'''": re.compile(r"(?:\\.|[^\\])*?'''", re.DOTALL),
    '"""': re.compile(r'(?:\\.|[^\\])*?"""', re.DOTALL),
}
_LEAVES = re.compile(r"(?:return|pass|break|continue|raise)\b")


def string_start(source: str) -> int:
    """Where the string begins in which a source ends.

    Args:
        source: Python, as far as it has been typed.

    Returns:
        The index of its first quote; `CODE` if it ends in none, `COMMENT` if in a comment.
    """
    at = 0
    while (opening := _OPENING.search(source, at)) is not None:
        if opening[0] == "#":
            at = source.find("\n", opening.end())
            if at < 0:
                return COMMENT
            continue
        closing = _CLOSING[opening[0]].match(source, opening.end())
        if closing is None:
            return opening.start()
        at = closing.end()
    return CODE


def indentation_after(source: str) -> str:
    """The blanks that the line after a source begins with.

    Args:
        source: What stands before it, without a line feed at its end.

    Returns:
        As many as the last line has; four more after a colon, four fewer after what leaves a block;
        none in a string, whose blanks are its own.
    """
    line = source.rsplit("\n", 1)[-1]
    code = line.lstrip(" \t")
    margin = line[: len(line) - len(code)]
    where = string_start(source[-LIMIT:])
    if where >= 0:
        return ""
    code = _without_comment(code).rstrip()
    if code.endswith(":"):
        return margin + " " * INDENT
    return margin[:-INDENT] if _LEAVES.match(code) else margin


def _without_comment(line: str) -> str:
    for mark in re.finditer("#", line):
        if string_start(line[: mark.end()]) == COMMENT:
            return line[: mark.start()]
    return line
