"""What ``help`` says in the console: the watchdog's methods, the verbs, the operator's names. Pure.

The names' values are the service's: they are named by their classes, and nothing of theirs is run.
"""

from __future__ import annotations

import inspect
import itertools
import textwrap
from types import FunctionType
from typing import TYPE_CHECKING, Any

from txwatchdog.manhole import around, statics
from txwatchdog.manhole.verbs.lines import COMMAND_ONLY, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["console_help"]

_MOST = 50  # names
_WIDEST = 32  # columns of what stands on the left


def console_help(watchdog: Any, names: Mapping[str, Any], columns: int) -> str:
    """All of it, but for the verbs with one line each.

    Args:
        watchdog: The operator's.
        names: The console's, ``watchdog`` among them.
        columns: The terminal's width.
    """
    verbs = " ".join(name for name in NAMES if name not in COMMAND_ONLY)
    lines = [
        "The watchdog, which answers during a pause:",
        *_aligned(list(_methods(type(watchdog))), columns),
        "What looks around in the process, also during a pause:",
        *_aligned(list(_looks(names)), columns),
        "Verbs, one word for one answer; VERB --help says more:",
        *textwrap.wrap(verbs, columns - 1, initial_indent="  ", subsequent_indent="  "),
        "Your names; help(NAME) says more:",
        *_aligned(list(_names(names)), columns),
    ]
    return "\n".join(lines) + "\n"


def _methods(kind: type) -> Iterator[tuple[str, str]]:
    for name, raw in vars(kind).items():
        if name.startswith("_"):
            continue
        if type(raw) is FunctionType:
            yield f"watchdog.{name}{_signature(raw)}", statics.doc_line(raw)
        elif isinstance(raw, property):
            yield f"watchdog.{name}", statics.doc_line(raw.fget)


def _looks(names: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from txwatchdog.manhole.around.looks import Around

    for name in around.NAMES:
        if name not in names:  # or it is the operator's
            raw = vars(Around)[name]
            yield f"{name}{_signature(raw)}", statics.doc_line(raw)


def _names(names: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    shown = sorted(
        name
        for name in statics.keys(names)
        if type(name) is str and not name.startswith("_") and name != "watchdog"
    )
    for name in itertools.islice(shown, _MOST):
        value = names.get(name)
        doc = statics.doc_line(value)
        yield name, statics.type_name(value) + (f": {doc}" if doc else "")
    if not shown:
        yield "", "none yet: x = 1 makes one"
    elif len(shown) > _MOST:
        yield f"… {len(shown) - _MOST} more", "dir() lists all"


def _signature(function: Any) -> str:
    parameters = list(inspect.signature(function).parameters.values())[1:]  # without self
    return "(" + ", ".join(str(each.replace(annotation=each.empty)) for each in parameters) + ")"


def _aligned(pairs: Sequence[tuple[str, str]], columns: int) -> Iterator[str]:
    widest = min(max((len(left) for left, _ in pairs), default=0), _WIDEST)
    for left, right in pairs:
        line = f"  {left:<{widest}}  {right}".rstrip()
        yield line if len(line) < columns else line[: max(columns - 2, 0)] + "…"
