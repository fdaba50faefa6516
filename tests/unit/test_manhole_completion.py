"""What Tab offers, and that nothing is run to find it out."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.manhole import statics
from txwatchdog.manhole.completion import complete, in_columns
from txwatchdog.manhole.scan import CODE, COMMENT, indentation_after, string_start


def _never(*_args: object, **_kwargs: object) -> NoReturn:
    raise AssertionError("code of the service's was run")


class _HostileMeta(type):
    __eq__ = _never
    __hash__ = type.__hash__
    __getattribute__ = _never
    __instancecheck__ = _never


class _Hostile(metaclass=_HostileMeta):
    """An object that notices whatever is done to it."""

    __slots__ = ("__dict__", "slot")
    __getattr__ = _never
    __getattribute__ = _never
    __dir__ = _never
    __eq__ = _never
    __hash__ = None  # type: ignore[assignment]
    __repr__ = _never
    __bool__ = _never
    __len__ = _never
    __iter__ = _never

    def method(self) -> None:
        """Not called."""

    @property
    def made(self) -> object:
        _never()

    @property
    def __class__(self) -> Any:
        _never()

    @__class__.setter
    def __class__(self, value: object) -> None:
        _never()


class _HostileDict(dict[Any, Any]):
    __getitem__ = _never
    __iter__ = _never
    keys = _never
    get = _never
    __contains__ = _never
    __missing__ = _never


def _hostile() -> _Hostile:
    thing = object.__new__(_Hostile)
    object.__setattr__(thing, "slot", {"within": 1})
    object.__setattr__(thing, "own", _HostileDict({"first": 1, "second": 2}))
    return thing


_NAMES: dict[str, Any] = {
    "service": _hostile(),
    "config": {"host": 1, "hosts": 2, "it's": 3, "new\nline": 4, 80: 5, 8080: 6, (1,): 7},
    "threading": threading,
    "stop": 1,
    "_private": 2,
}


@pytest.mark.parametrize(
    ("before", "texts"),
    [
        ("serv", ["service"]),
        ("x = serv", ["service"]),
        ("service.", ["made", "method", "own", "slot"]),
        ("service.m", ["made", "method"]),
        ("service._", []),
        ("service.made.", []),
        ("service.slot['", ["within']"]),
        ("service.own['f", ["first']"]),
        ("service.own[", ["'first']", "'second']"]),
        ("service.absent.", []),
        ('config["ho', ['host"]', 'hosts"]']),
        ("config['it", []),
        ('config["it', ["it's\"]"]),
        ("config[8", ["8080]", "80]"]),
        ("config[serv", ["service"]),
        ("f(config['host", ["host']", "hosts']"]),
        ("service().m", []),
        ("service().threading.active_c", []),
        ("absent.a.b.c", []),
        ("absent.__doc__.up", []),
        ("threading[", ["config", "service", "stop", "threading"]),
        ("threading['", []),
        ("config['host'].m", []),
        ("'service.m", []),
        ("# service.m", []),
        ("'it' and service.m", ["made", "method"]),
        ("'''service.\n", []),
        ("threading.active_c", ["active_count"]),
        ("threading.Thread.da", ["daemon"]),
        ("_pri", ["_private"]),
        ("lamb", ["lambda"]),
        ("isinst", ["isinstance"]),
        ("sta", ["stack", "start", "staticmethod", "stats", "status"]),
        ("print(sta", ["staticmethod"]),
        ("top --b", ["--by"]),
        ("top st", ["staticmethod", "stop", "str"]),
        ("top -n 3 --by w", ["worst"]),
        ("export s", ["speedscope"]),
        ("stop --js", []),  # a name goes before the verb
        ("1.real", []),
        ("", ["config", "service", "stop", "threading"]),
    ],
)
def test_tab_offers(before: str, texts: list[str]) -> None:
    """Names, attributes, keys and verbs, and nothing where nothing can be known."""
    assert list(complete(before, _NAMES).texts) == texts


def test_the_common_part_is_what_all_begin_with() -> None:
    """What can be completed without a choice is known."""
    found = complete("config['h", _NAMES)
    assert (found.typed, found.common) == (1, "host")


@given(st.text(alphabet="abservic.[]'\"()# \n\\1=", max_size=40))
def test_any_text_can_be_completed(before: str) -> None:
    """Whatever is typed, completion raises nothing and extends what was typed."""
    found = complete(before, _NAMES)
    for text in found.texts:
        assert text.startswith(before[len(before) - found.typed :])


@given(st.text(alphabet="ab'\"#\n\\ ", max_size=30))
def test_strings_are_found_as_python_finds_them(source: str) -> None:
    """Where a source ends in code, a quote put there opens a string, and a hash sign a comment."""
    if string_start(source) == CODE:
        assert string_start(source + "#") == COMMENT
        assert string_start(source + " 'x") == len(source) + 1


def test_a_growing_dict_is_no_obstacle() -> None:
    """Keys that another thread adds meanwhile raise nothing, and a thousand are enough."""
    names = {"d": dict.fromkeys(map(str, range(5000)))}
    over = threading.Event()

    def grow() -> None:
        while not over.is_set():
            for n in range(100):
                names["d"][f"more{n}"] = None
                names["d"].pop(f"more{n}")

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        assert all(len(complete("d['", names).texts) <= 1000 for _ in range(20))
    finally:
        over.set()
        thread.join()


def test_a_thread_local_is_not_made_anew() -> None:
    """Looking at a threading.local runs no __init__ of its class."""

    class Local(threading.local):
        def __init__(self) -> None:
            made.append(threading.get_ident())

    made: list[int] = []
    local = Local()
    thread = threading.Thread(target=complete, args=("local.", {"local": local}))
    thread.start()
    thread.join()
    assert made == [threading.get_ident()]


def test_what_a_value_is_without_asking_it() -> None:
    """The class's name and docstring are told of an object that answers to nothing."""
    thing = _NAMES["service"]
    assert statics.type_name(thing) == "_Hostile"
    assert statics.doc_line(thing) == "An object that notices whatever is done to it."
    assert statics.doc_line({}) == dict.__doc__.splitlines()[0]  # type: ignore[union-attr]
    assert statics.is_dict(collections.OrderedDict())


def test_columns_are_bounded() -> None:
    """A list that is too long says how much more there is."""
    lines = in_columns([f"name{n:03}" for n in range(100)], 40, 5)
    assert len(lines) == 5
    assert max(map(len, lines)) <= 40
    assert lines[0].split() == ["name000", "name004", "name008", "name012"]
    assert lines[-1] == "… 84 more"
    assert in_columns(["one", "two"], 40, 5) == ["one  two"]


@pytest.mark.parametrize(
    ("source", "margin"),
    [
        ("x = 1", 0),
        ("if x:", 4),
        ("if x:  # why", 4),
        ("if x:\n    y()", 4),
        ("if x:\n    for y in z:", 8),
        ("def f():\n    return 1", 0),
        ("def f():\n    if x:\n        pass  # so", 4),
        ("def f():\n    returned = 1", 4),
        ("x = '#:", 0),
        ("x = {'a': '#'}", 0),
        ("if x:\n    y = '''one:", 0),
        ("pass", 0),
    ],
)
def test_enter_indents(source: str, margin: int) -> None:
    """A line begins where the block goes on."""
    assert indentation_after(source) == " " * margin


class _Slots:
    """Has a slot that is full, and one that is empty."""

    __slots__ = ("empty", "full")

    def __init__(self) -> None:
        self.full = 7


class _Plain:
    """Has all kinds of attributes."""

    constant = 3
    shadowed = 4
    made = property(_never)

    def __init__(self) -> None:
        self.shadowed = 5

    def method(self) -> None:
        """A method."""

    @staticmethod
    def static() -> None:
        """A static one."""


class _OddDict:
    """Whose `__dict__` is a property."""

    __dict__ = property(_never)


def test_attributes_are_read_as_far_as_that_runs_nothing() -> None:
    """Slots, class and instance attributes, functions; what a descriptor makes is not known."""
    slots, plain = _Slots(), _Plain()
    assert statics.attribute(slots, "full") == 7
    assert statics.attribute(slots, "empty") is statics.UNKNOWN
    assert statics.attribute(plain, "constant") == 3
    assert statics.attribute(plain, "shadowed") == 5
    assert statics.attribute(_Plain, "shadowed") == 4
    assert statics.attribute(plain, "made") is statics.UNKNOWN
    assert statics.attribute(plain, "nothing") is statics.UNKNOWN
    assert statics.attribute(plain, "static") is _Plain.static
    assert statics.attribute(_OddDict(), "nothing") is statics.UNKNOWN
    assert "made" in statics.attribute_names(plain)


def test_docstrings_are_those_of_the_thing_itself() -> None:
    """A function's, a bound method's, a class's, a module's; none that is inherited."""
    assert statics.doc_line(_Plain().method) == "A method."
    assert statics.doc_line(_Plain.static) == "A static one."
    assert statics.doc_line(_Plain) == "Has all kinds of attributes."
    assert statics.doc_line(statics).startswith("Looks at objects without")
    assert statics.doc_line({}) == statics.doc_line(dict)
    assert statics.doc_line(type("Undocumented", (dict,), {})()) == ""


def test_names_that_change_all_the_time_are_given_up() -> None:
    """After some tries nothing is offered, rather than an error."""

    def changing() -> Iterator[str]:
        yield "one"
        raise RuntimeError("dictionary changed size during iteration")

    class Changing:
        def __iter__(self) -> Iterator[str]:
            return changing()

    assert statics._some(Changing()) == []
