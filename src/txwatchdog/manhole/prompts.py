"""What an editor asks with, and when what was typed is complete."""

from __future__ import annotations

import ast
import codeop
import textwrap

from txwatchdog.manhole.output import Capture, Outlet, routed

__all__ = ["PS1", "PS2", "dedented", "is_complete"]

# codeop's own flags; typeshed does not know them.
_DONT_IMPLY_DEDENT: int = getattr(codeop, "PyCF_DONT_IMPLY_DEDENT", 0x200)
_ALLOW_INCOMPLETE: int = getattr(codeop, "PyCF_ALLOW_INCOMPLETE_INPUT", 0)

_nowhere = Capture(Outlet(lambda _stream, _data: None, terminal=False), lambda _value: None)

PS1 = ">>> "
PS2 = "... "


def is_complete(source: str) -> bool:
    """Whether Enter at the end of an input runs it, as in Python's own console.

    Args:
        source: What has been typed so far.

    Returns:
        False while a statement lacks its rest, or a block the blank line that ends it. True also
        for what can never become valid: running it shows the error.
    """
    source = dedented(source)
    # What the parser warns about shows when the input runs; until then nobody should see it.
    with routed(_nowhere):
        try:
            if _lacks_its_rest(source):
                return False
            body = ast.parse(source).body
        except Exception:
            return True
    is_block = bool(body) and (hasattr(body[-1], "body") or isinstance(body[-1], ast.Match))
    return not is_block or not source.rsplit("\n", 1)[-1].strip()


def dedented(source: str) -> str:
    """`source` without the margin that its lines share, if the first has one.

    So comes a block that is copied out of a function or a class, and no other: what begins with
    an indentation can't be run as it is.
    """
    return textwrap.dedent(source) if source[:1] in {" ", "\t"} else source


def _lacks_its_rest(source: str) -> bool:
    """What `codeop` finds out, without what it does to find it.

    It changes the process's warning filters for a moment, in a thread that is not the service's:
    if the service does so, too, the one may put back what the other had set for a moment only.
    """
    if _parse_error(source) is None:
        return False
    error = _parse_error(source + "\n")
    return error is None or "incomplete input" in str(error)


def _parse_error(source: str) -> SyntaxError | None:
    flags = ast.PyCF_ONLY_AST | _DONT_IMPLY_DEDENT | _ALLOW_INCOMPLETE
    try:
        compile(source, "<input>", "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        return error
    return None
