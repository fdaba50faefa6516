"""Where a statement runs: at once in the manhole's thread, or in the reactor's thread.

The watchdog is thread-safe, so a statement that uses nothing else may run while the reactor is
stuck. All other objects belong to the reactor's thread. The decision is made on the syntax tree
before anything runs, and it is conservative: whatever is not known to be safe goes to the reactor.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from txwatchdog.manhole import around

if TYPE_CHECKING:
    from collections.abc import Callable

    _IsOurs = Callable[[str], bool]

__all__ = ["looks_around", "runs_at_once"]

_WATCHDOG = "watchdog"

_VERBS = frozenset(
    {
        "start",
        "stop",
        "running",
        "threshold",
        "top",
        "stats",
        "pauses",
        "tracebacks",
        "stack",
        "status",
        "activity",
        "live",
        "reset",
        "interrupt",
    }
)
"""The watchdog's thread-safe public names. Not ``reactor``, and not ``on_pause``, whose callback
would go on running in another thread."""

_BUILTINS = frozenset(
    {
        "abs",
        "all",
        "any",
        "bool",
        "dict",
        "enumerate",
        "float",
        "int",
        "isinstance",
        "len",
        "list",
        "max",
        "min",
        "print",
        "repr",
        "reversed",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "zip",
    }
)
"""Builtins that only look at what they are given. Nothing here makes endless or huge things."""

_AROUND = frozenset(around.NAMES)
"""Functions that look at the process from any thread, and give plain data."""

_LEAVING = frozenset({"exit", "quit"})
"""They end the session, and must do so during a pause, too."""

# A format string reaches attributes by names that are not in the tree: "{0.reactor}".format(…).
_UNSAFE_ATTRIBUTES = frozenset({"format", "format_map"})

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
"""Without ``**`` and ``<<``, which turn two small numbers into one that fills the memory."""


def runs_at_once(statement: ast.stmt, is_ours: _IsOurs) -> bool:
    """Whether a statement may run in the manhole's thread, also while the reactor is paused.

    It may if it names `watchdog`, or calls what looks around, and has otherwise only pure builtins,
    literals and its own comprehensions' names; or sets ``watchdog.threshold``; or leaves the
    session.

    Args:
        statement: One statement of what the operator typed.
        is_ours: Says of a name whether it still means what it meant when the session began: the
            watchdog, what looks around, or Python's own builtin. Asked right before the statement
            runs, since an earlier one may have rebound it.

    Returns:
        True if nothing in it can touch what belongs to the reactor's thread.
    """
    value: ast.expr
    if isinstance(statement, ast.Expr):
        value = statement.value
        if _is_leaving(value, is_ours):
            return True
        if _is_watchdog(value):
            return is_ours(_WATCHDOG)
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        if not _is_threshold(statement.targets[0]):
            return False
        value = statement.value
    elif isinstance(statement, ast.AugAssign):
        if not (_is_threshold(statement.target) and isinstance(statement.op, _OPERATORS)):
            return False
        value = statement.value
    else:
        return False
    uses_watchdog = any(map(_is_watchdog, ast.walk(statement)))
    is_one_of_these = is_ours(_WATCHDOG) if uses_watchdog else looks_around(statement)
    return is_one_of_these and _is_safe(value, frozenset(), is_ours)


def looks_around(statement: ast.stmt) -> bool:
    """Whether a statement calls what looks around, if the names are ours; that may take a while."""
    return any(map(_is_look, ast.walk(statement)))


def _is_look(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _AROUND
    )


def _is_leaving(value: ast.expr, is_ours: _IsOurs) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id in _LEAVING
        and is_ours(value.func.id)
        and not value.keywords
        and all(isinstance(argument, ast.Constant) for argument in value.args)
    )


def _is_threshold(target: ast.expr) -> bool:
    return (
        isinstance(target, ast.Attribute)
        and target.attr == "threshold"
        and _is_watchdog(target.value)
    )


def _is_safe(node: ast.AST, own: frozenset[str], is_ours: _IsOurs) -> bool:
    """Whether an expression, or a part of one, is made of safe parts only.

    `own` holds the names that the comprehensions around it bind.
    """
    if isinstance(node, ast.Name):
        # `watchdog` by itself is not: in a list or as an argument nobody sees what becomes of it.
        return node.id in own or (node.id in _BUILTINS and is_ours(node.id))
    if isinstance(node, _COMPREHENSIONS):
        return _is_safe_comprehension(node, own, is_ours)
    if isinstance(node, ast.Attribute) and _is_watchdog(node.value):
        return node.attr in _VERBS
    if isinstance(node, ast.Call) and _is_look(node):
        parts = (*node.args, *node.keywords)
        assert isinstance(node.func, ast.Name)
        return is_ours(node.func.id) and all(_is_safe(part, own, is_ours) for part in parts)
    return _is_safe_kind(node) and all(
        _is_safe(child, own, is_ours) for child in ast.iter_child_nodes(node)
    )


def _is_safe_kind(node: ast.AST) -> bool:
    """Whether a node is safe by itself, whatever is to be said of its parts."""
    if isinstance(node, ast.Attribute):
        return not node.attr.startswith("_") and node.attr not in _UNSAFE_ATTRIBUTES
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, _OPERATORS)
    if isinstance(node, ast.keyword):
        return node.arg is None or not node.arg.startswith("_")
    return isinstance(node, _SAFE_NODES)


def _is_watchdog(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == _WATCHDOG


def _is_safe_comprehension(node: ast.expr, own: frozenset[str], is_ours: _IsOurs) -> bool:
    """Judge a comprehension in its own scope; its first iterable belongs to the scope around it."""
    assert isinstance(node, _COMPREHENSIONS)
    bound: set[str] = set()
    for generator in node.generators:
        if generator.is_async or not _is_plain_target(generator.target):
            return False
        bound.update(n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name))
    if bound & (_BUILTINS | _AROUND | {_WATCHDOG}) or any(name.startswith("_") for name in bound):
        return False
    inner = own | bound
    parts: list[ast.expr] = []
    for generator in node.generators:
        parts += [generator.iter, *generator.ifs]
    parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    first = node.generators[0].iter
    return all(_is_safe(part, own if part is first else inner, is_ours) for part in parts)


def _is_plain_target(target: ast.expr) -> bool:
    if isinstance(target, ast.Name):
        return True
    return isinstance(target, (ast.Tuple, ast.List)) and all(
        _is_plain_target(element.value if isinstance(element, ast.Starred) else element)
        for element in target.elts
    )


_SAFE_NODES = (
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.Dict,
    ast.FormattedValue,
    ast.IfExp,
    ast.JoinedStr,
    ast.List,
    ast.Set,
    ast.Slice,
    ast.Starred,
    ast.Subscript,
    ast.Tuple,
    ast.UnaryOp,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
    ast.operator,
    ast.unaryop,
)
"""Parts that are safe if theirs are. What is missing (lambda, await, :=, …) goes to the reactor."""
