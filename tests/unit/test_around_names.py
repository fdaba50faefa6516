"""What the service's objects are called, without any of its code being run."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from twisted.internet import defer, task
from twisted.internet.defer import Deferred

from txwatchdog.manhole.around.names import (
    class_name,
    created_at,
    first_callback,
    function_called,
    result_of,
)


class Shop:
    """Whose methods are called."""

    def close(self, *_args: object) -> None:
        """Be called."""


class Closing:
    """An object that can be called."""

    def __call__(self) -> None:
        """Be called."""


class Hostile:
    """An object that must not be asked anything."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"its {name} was asked for")

    def __call__(self, *_args: object) -> None:
        raise AssertionError("it was called")

    __eq__ = __hash__ = __bool__ = __repr__ = __len__ = __call__  # type: ignore[assignment]


def _looping() -> task.LoopingCall:
    return task.LoopingCall(functools.partial(Shop().close, 1))


@pytest.mark.parametrize(
    ("called", "name"),
    [
        (Shop().close, "Shop.close"),
        (functools.partial(functools.partial(Shop().close, 1), 2), "Shop.close"),
        (_looping(), "Shop.close"),
        (Deferred().addCallback(Shop().close).callback, "Shop.close"),
        (Deferred().callback, "Deferred.callback"),
        (Closing(), "test_around_names.Closing()"),
        (Shop, "test_around_names.Shop"),
        (print, "print"),
        ([].append, "list.append"),
        (None, "NoneType"),
    ],
)
def test_what_is_called_has_a_name(called: Any, name: str) -> None:
    """Through partials, looping calls and Deferreds, down to the function."""
    assert function_called(called).function == name


def test_nothing_is_asked_of_an_object() -> None:
    """Its class says what calling it would run."""
    assert function_called(Hostile()).function == "test_around_names.Hostile()"
    assert first_callback(Hostile()) == ("nothing", None)


def test_a_coroutine_or_generator_is_what_a_deferred_resumes() -> None:
    """What waits for a Deferred, and whose result one is, is the function that has `yield`."""
    never: Deferred[None] = Deferred()

    @defer.inlineCallbacks
    def pack() -> Any:
        yield never

    async def ship() -> None:
        await never

    packed, shipped = pack(), defer.ensureDeferred(ship())
    known_by, function = first_callback(never)
    assert known_by == "resumes"
    assert function is not None
    assert function.function.endswith("pack")
    for result, name in ((packed, "pack"), (shipped, "ship")):
        found = result_of(result)
        assert found is not None
        assert found.function.endswith(name)


def test_what_is_chained_to_a_deferred_waits_for_it() -> None:
    """A Deferred that a callback returned is waited for by what waits for the outer one."""
    outer: Deferred[None] = Deferred()
    inner: Deferred[None] = Deferred()
    outer.addCallback(lambda _: inner)
    outer.callback(None)
    outer.addCallback(Shop().close)
    known_by, function = first_callback(inner)
    assert (known_by, function and function.function) == ("calls", "Shop.close")


def test_nothing_waits() -> None:
    """A Deferred without callbacks, or with errbacks that only pass on."""
    assert first_callback(Deferred()) == ("nothing", None)
    assert result_of(Deferred(lambda _: None)) is None


def test_where_a_deferred_was_made() -> None:
    """It is known if debugging was on; the innermost line that is not Twisted's."""
    assert created_at(Deferred()) is None
    defer.setDebugging(True)
    try:
        deferred: Deferred[None] = Deferred()
    finally:
        defer.setDebugging(False)
    place = created_at(deferred)
    assert place is not None
    assert "test_around_names.py:" in place
    assert place.endswith(" in test_where_a_deferred_was_made")


def test_a_class_has_its_module() -> None:
    """Builtins have none, and a module that is no text is left out."""
    assert class_name(dict) == "dict"
    assert class_name(Shop) == "test_around_names.Shop"
    assert class_name(type("Odd", (), {"__module__": 7})) == "Odd"
