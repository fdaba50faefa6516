"""What a value looks like, in bounded time: anything -> a small tree of text. Pure.

A value can be a dict of a million rows, a list that contains itself, or an object whose ``repr``
is 100 MB of text. The thread that it belongs to looks at so much of it as an operator can read, and
makes plain text of that; how it is laid out and coloured is left to another thread (`display`).
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections import defaultdict, deque
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["CUT", "Node", "describe"]

NODES = 1000  # values looked at
CHARACTERS = 20_000  # of text made of them
DEPTH = 30  # containers within containers

CUT = "…"
"""Stands where something was left out."""


@attrs.define
class Node:
    """A value, or a part of one, as text.

    Attributes:
        text: What it looks like, if it has no parts.
        children: Its parts; None if it is shown as text.
        opening: What stands before its parts.
        closing: What stands behind them.
        key: What stands before the node itself: ``'name': `` or ``name=``.
        left_out: Parts that were left out, or characters of the text.
        is_tuple: Whether one single part is followed by a comma.
    """

    text: str = ""
    children: list[Node] | None = None
    opening: str = ""
    closing: str = ""
    key: str = ""
    left_out: int = 0
    is_tuple: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether anything was left out, here or further in."""
        return self.left_out > 0 or any(child.is_cut for child in self.children or ())

    def line(self) -> str:
        """All of it in one line: what ``repr`` says, if nothing was left out."""
        if self.children is None:
            return self.key + self.text + CUT * (self.left_out > 0)
        parts = [child.line() for child in self.children] + [CUT] * (self.left_out > 0)
        comma = "," * (self.is_tuple and len(parts) == 1)
        return f"{self.key}{self.opening}{', '.join(parts)}{comma}{self.closing}"


def describe(value: object, nodes: int = NODES, characters: int = CHARACTERS) -> Node:
    """Look at a value.

    Plain containers, attrs and dataclass objects with the ``repr`` that comes with these are looked
    into; all others say themselves what they look like. Where such a ``repr`` raises inside of a
    container, a note takes its place.

    Args:
        value: Anything.
        nodes: How many values to look at, at most.
        characters: How much text to keep of them, at most.

    Returns:
        The tree. `Node.line` is ``repr(value)`` if nothing had to be left out.

    Raises:
        Exception: What the value's own ``repr`` raises.
    """
    return _Look(nodes, characters).at(value)


class _Look:
    """One look at a value; it counts what is left of the budget."""

    def __init__(self, nodes: int, characters: int) -> None:
        self._nodes = nodes
        self._room = characters
        self._around: set[int] = set()  # the containers that we are in, so as to see cycles

    def at(self, value: object) -> Node:
        self._nodes -= 1
        kind = type(value)
        if kind is str or kind is bytes or kind is bytearray:
            return self._text(repr(value[: self._room]), len(value) - self._room)  # type: ignore[index,arg-type]
        look_into = _CONTAINERS.get(kind) or _record(kind)
        if look_into is None:
            return self._text(repr(value))
        if id(value) in self._around:
            return self._text(_RECURSIVE.get(kind, "..."))
        if len(self._around) >= DEPTH:
            return self._text(CUT, 1)
        self._around.add(id(value))
        try:
            return look_into(self, value)
        finally:
            self._around.discard(id(value))

    def part(self, value: object) -> Node:
        """Look at a part of something; that one part is broken must not hide the others."""
        try:
            return self.at(value)
        except Exception as error:
            return self._text(_broken(value, error))

    def parts(self, node: Node, values: Iterable[object], size: int) -> Node:
        """Look at the parts of a container.

        Args:
            node: The container's.
            values: So many of them as there are nodes left; a copy, which nobody changes.
            size: How many there are in all.
        """
        self._spend(node)
        children: list[Node] = []
        node.children = children
        for value in values:
            if self._is_spent():
                break
            children.append(self.part(value))
        node.left_out = max(size - len(children), 0)
        return node

    def items(self, node: Node, mapping: dict[Any, Any]) -> Node:
        """Look at a dict's items."""
        self._spend(node)
        size = len(mapping)
        children: list[Node] = []
        node.children = children
        # In one go, before any code of the service's runs: another thread may add an item.
        for key, value in self.first(mapping.items()):
            if self._is_spent():
                break
            name = self.part(key).line() + ": "
            child = Node(CUT, left_out=1) if self._is_spent() else self.part(value)
            child.key = name
            children.append(child)
        node.left_out = max(size - len(children), 0)
        return node

    def fields(self, node: Node, value: object, names: list[tuple[str, Any]]) -> Node:
        """Look at a record's fields: (name, how its own repr shows it)."""
        self._spend(node)
        children: list[Node] = []
        node.children = children
        for name, shows in names:
            if self._is_spent():
                break
            field = getattr(value, name)
            if callable(shows):
                self._nodes -= 1
                child = self._text(shows(field))
            else:
                child = self.part(field)
            child.key = f"{name}="
            self._room -= len(child.key)
            children.append(child)
        node.left_out = len(names) - len(children)
        return node

    def first(self, values: Iterable[Any]) -> list[Any]:
        """As many as there may be looked at."""
        return list(islice(values, max(self._nodes, 0)))

    def _is_spent(self) -> bool:
        return self._nodes <= 0 or self._room <= 0

    def _spend(self, node: Node) -> None:
        self._room -= len(node.opening) + len(node.closing)

    def _text(self, text: str, left_out: int = 0) -> Node:
        # A repr may return a subclass of str with methods of its own.
        size = str.__len__(text)
        room = max(self._room, 0)
        left_out = max(left_out, size - room - 2, 0)  # a cut string's repr has its quotes on top
        text = str.__getitem__(text, slice(room + 2))
        self._room -= len(text) + 2  # the comma or line end that follows
        return Node(text, left_out=left_out)


def _broken(value: object, error: Exception) -> str:
    try:
        return f"<{type(value).__name__} object, whose repr raised {type(error).__name__}>"
    except Exception:  # a metaclass may have a __name__ of its own
        return "<an object whose repr raised>"


def _list(look: _Look, value: Any) -> Node:
    return look.parts(Node(opening="[", closing="]"), look.first(value), len(value))


def _tuple(look: _Look, value: Any) -> Node:
    node = Node(opening="(", closing=")", is_tuple=True)
    return look.parts(node, look.first(value), len(value))


def _set(look: _Look, value: Any) -> Node:
    if not value:
        return look._text("set()")
    return look.parts(Node(opening="{", closing="}"), look.first(value), len(value))


def _frozenset(look: _Look, value: Any) -> Node:
    if not value:
        return look._text("frozenset()")
    return look.parts(Node(opening="frozenset({", closing="})"), look.first(value), len(value))


def _deque(look: _Look, value: Any) -> Node:
    closing = "])" if value.maxlen is None else f"], maxlen={value.maxlen})"
    return look.parts(Node(opening="deque([", closing=closing), look.first(value), len(value))


def _dict(look: _Look, value: Any) -> Node:
    return look.items(Node(opening="{", closing="}"), value)


def _defaultdict(look: _Look, value: Any) -> Node:
    factory = look.part(value.default_factory).line()
    return look.items(Node(opening=f"defaultdict({factory}, {{", closing="})"), value)


# Exact types: a subclass may have a repr of its own, which then is meant to be seen.
_CONTAINERS: dict[type, Callable[[_Look, Any], Node]] = {
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    deque: _deque,
    dict: _dict,
    defaultdict: _defaultdict,
}

_RECURSIVE: dict[type, str] = {
    list: "[...]",
    tuple: "(...)",
    deque: "[...]",
    dict: "{...}",
    defaultdict: "defaultdict(...)",
}
"""What Python shows for a container inside itself."""


def _record(kind: type) -> Callable[[_Look, Any], Node] | None:
    """How to look into objects of a class that attrs or dataclasses made the ``repr`` of."""
    made = getattr(getattr(kind.__repr__, "__code__", None), "co_filename", None)
    if not isinstance(made, str):
        return None
    if attrs.has(kind) and made.startswith("<attrs generated"):
        names = [(field.name, field.repr) for field in attrs.fields(kind) if field.repr]
    elif dataclasses.is_dataclass(kind) and made in _DATACLASS_FILES:
        names = [(field.name, True) for field in dataclasses.fields(kind) if field.repr]
    else:
        return None
    name = _record_name(kind)
    return lambda look, value: look.fields(Node(opening=f"{name}(", closing=")"), value, names)


def _record_name(kind: type) -> str:
    # As both of them say it: of a class inside of a function only the last part.
    return kind.__qualname__.rsplit(">.", 1)[-1]


# The file of the function that keeps a dataclass's repr from going round in circles.
_DATACLASS_FILES = {dataclasses.__file__, reprlib.__file__}
