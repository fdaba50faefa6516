"""Looks at objects without running any code of theirs: no property, no ``__getattr__``, no repr.

The service's objects are looked at from the manhole's thread, while the service works with them.
So nothing here calls a method that a class may define in Python, and what changes meanwhile is
looked at once more.
"""

from __future__ import annotations

import itertools
import threading
from types import (
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "UNKNOWN",
    "attribute",
    "attribute_names",
    "bases",
    "doc_line",
    "is_a",
    "is_dict",
    "keys",
    "type_name",
]

UNKNOWN: Any = object()
"""Stands for what could only be known by running code."""

_MOST = 1000  # names or keys of one object
_TRIES = 3

# By way of `type`: a metaclass may have its own ideas of these.
bases = type.__dict__["__mro__"].__get__
"""The classes that a class is derived from, itself first."""
_own = type.__dict__["__dict__"].__get__
_name = type.__dict__["__name__"].__get__


def attribute_names(thing: object) -> set[str]:
    """The names of an object's attributes, up to a thousand of each of its classes."""
    found: set[str] = set()
    own = _instance_dict(thing)
    places: list[Iterable[Any]] = [] if own is None else [dict.keys(own)]
    for names in (*places, *_class_dicts(thing)):
        found.update(name for name in _some(names) if type(name) is str)
    return found


def attribute(thing: object, name: str) -> Any:
    """An attribute's value, where it can be had without running code.

    Returns:
        The value; `UNKNOWN` if there is none, or a property or another descriptor makes it.
    """
    raw = UNKNOWN
    for names in _class_dicts(thing):
        if name in names:
            raw = names[name]
            break
    own = _instance_dict(thing)
    if _is_type(thing):
        return _unwrapped(raw)
    if type(raw) is MemberDescriptorType:
        try:
            return raw.__get__(thing, type(thing))  # a slot; what reads it is C
        except Exception:
            return UNKNOWN
    if own is not None and not _has(raw, "__set__", "__delete__"):
        # By way of `dict`: an instance may have been given a dictionary of a class of its own.
        found = dict.get(own, name, UNKNOWN)
        if found is not UNKNOWN:
            return found
    return _unwrapped(raw)


def is_dict(thing: object) -> bool:
    """Whether an object is a dict, or of a class derived from it, whatever it says itself."""
    return is_a(thing, dict)


def keys(thing: Any) -> list[object]:
    """A dict's keys, a thousand at most."""
    return _some(dict.keys(thing))


def type_name(thing: object) -> str:
    """The name of an object's class."""
    return str(_name(type(thing)))


def doc_line(thing: object) -> str:
    """The first line of an object's own docstring, or of its class's; "" if there is none."""
    if type(thing) is MethodType:
        return doc_line(thing.__func__)
    if type(thing) is FunctionType:
        doc: Any = thing.__doc__
    elif type(thing) is ModuleType or _is_type(thing):
        doc = attribute(thing, "__doc__")
    else:
        # Not an inherited one: that a dict is a dictionary says nothing about what is in it.
        doc = _own(type(thing)).get("__doc__")
    lines = doc.strip().splitlines() if type(doc) is str else []
    return lines[0].strip() if lines else ""


def _class_dicts(thing: object) -> list[Mapping[str, Any]]:
    """The dictionaries where attributes are looked up after the instance's own."""
    own = [_own(each) for each in bases(thing)] if _is_type(thing) else []
    # A module's class has nothing that anyone would look for.
    return own or ([] if type(thing) is ModuleType else [_own(each) for each in bases(type(thing))])


def _instance_dict(thing: object) -> dict[str, Any] | None:
    # A thread-local one is made anew for each thread, by running __init__.
    if _is_type(thing) or is_a(thing, threading.local):
        return None
    for each in bases(type(thing)):
        slot = _own(each).get("__dict__")
        if slot is None:
            continue
        if type(slot) not in (GetSetDescriptorType, MemberDescriptorType):
            return None  # a property of that name
        try:
            found = slot.__get__(thing, type(thing))
        except Exception:
            return None
        return found if is_a(found, dict) else None
    return None


def _unwrapped(raw: Any) -> Any:
    """What a class's attribute is, as far as that takes no descriptor to find out."""
    if type(raw) in (staticmethod, classmethod):
        return raw.__func__
    if type(raw) is FunctionType or not _has(raw, "__get__"):
        return raw
    return UNKNOWN


def _has(thing: object, *names: str) -> bool:
    return any(name in _own(each) for each in bases(type(thing)) for name in names)


def _is_type(thing: object) -> bool:
    return is_a(thing, type)


def is_a(thing: object, kind: type) -> bool:
    """Whether an object is of a class, or of one derived from it, whatever it says itself."""
    # Not isinstance, which asks `__class__`; not `in`, which asks a metaclass's `__eq__`.
    return any(each is kind for each in bases(type(thing)))


def _some(names: Iterable[Any]) -> list[Any]:
    """The first thousand; another thread may change what they are taken from."""
    for _ in range(_TRIES):
        try:
            return list(itertools.islice(names, _MOST))
        except RuntimeError:
            continue  # it has grown or shrunk in the middle
    return []
