"""The names that operators' statements have on a stack. Pure, and at the ground: all may ask."""

from __future__ import annotations

__all__ = ["SOURCE", "operator_of", "source_name", "tidy"]

SOURCE = "<manhole>"
"""The file of what operators are blamed for, whichever of their inputs it was."""

_PREFIX = "<manhole "
_LONGEST = 40


def source_name(operator: str, number: int) -> str:
    """The file name of an input, in its code objects and tracebacks.

    Args:
        operator: who typed it.
        number: tells it from all others.
    """
    return f"{_PREFIX}{tidy(operator)}:{number}>"


def operator_of(file: str) -> str | None:
    """Whose input has the file name `file`; None if it is no input's."""
    if not file.startswith(_PREFIX):
        return None
    return file[len(_PREFIX) :].rpartition(":")[0]


def tidy(operator: str) -> str:
    """A name that a client or a key file gave, fit for one line of a terminal."""
    name = "".join(c if c.isprintable() and c not in "<>" else "?" for c in operator.strip())
    return name[:_LONGEST] or "?"
