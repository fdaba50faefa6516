"""What to call the service's objects: by their code and class, never by their own account."""

from __future__ import annotations

import functools
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
)
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from txwatchdog.blame import here
from txwatchdog.manhole import statics
from txwatchdog.origin import creator_of
from txwatchdog.records import Function

__all__ = [
    "class_name",
    "coroutine_code",
    "created_at",
    "first_callback",
    "function_called",
    "function_of_code",
    "result_of",
    "unwrapped",
]

_UNWRAPPINGS = 5  # a partial of a partial ends somewhere
_CALLBACKS = 20  # of a Deferred, that are looked at

_module = type.__dict__["__module__"].__get__
_qualified = type.__dict__["__qualname__"].__get__


def class_name(kind: type) -> str:
    """A class's name with its module; builtins have none."""
    try:
        module = _module(kind)
    except AttributeError:
        module = None
    name = str(_qualified(kind))
    return f"{module}.{name}" if type(module) is str and module != "builtins" else name


def function_of_code(code: CodeType) -> Function:
    """The function that a code object belongs to, with its class where Python tells it."""
    return Function(
        getattr(code, "co_qualname", code.co_name),  # Python 3.11
        code.co_filename,
        code.co_firstlineno,
    )


def unwrapped(thing: Any) -> Any:
    """What is called in the end: a partial's function, a looping call's."""
    for _ in range(_UNWRAPPINGS):
        if type(thing) is functools.partial:
            thing = thing.func
        elif statics.is_a(thing, LoopingCall):
            thing = statics.attribute(thing, "f")
        else:
            break
    return thing


def function_called(thing: Any) -> Function:
    """The function that calling something calls. A Deferred's ``callback`` calls its callbacks."""
    thing = unwrapped(thing)
    if type(thing) is MethodType:
        owner, thing = thing.__self__, thing.__func__
        if statics.is_a(owner, Deferred):
            _, function = first_callback(owner)
            if function is not None:
                return function
    if type(thing) is FunctionType:
        code = thing.__code__
        return Function(thing.__qualname__, code.co_filename, code.co_firstlineno)
    if type(thing) is BuiltinFunctionType:
        return Function(thing.__qualname__, "<built-in>", 0)
    if statics.is_a(thing, type):
        return Function(class_name(thing), "<class>", 0)
    call = statics.attribute(type(thing), "__call__")
    if type(call) is FunctionType:
        return Function(
            f"{class_name(type(thing))}()", call.__code__.co_filename, call.__code__.co_firstlineno
        )
    return Function(class_name(type(thing)), "<built-in>", 0)


def first_callback(deferred: Any, depth: int = 0) -> tuple[str, Function | None]:
    """What waits for a Deferred.

    Returns:
        (`calls` or `resumes`, the function); (`nothing`, None) if nothing waits. Callbacks of
        Twisted's own count only if there are no others; another Deferred that is chained to this
        one is asked what waits for it.
    """
    found: tuple[str, Function | None] = ("nothing", None)
    if depth > _UNWRAPPINGS:
        return found
    for pair in _callbacks(deferred):
        for call, arguments, *_ in pair[:2] if type(pair) is tuple else ():
            known_by, function = _waits(call, arguments, depth)
            if function is None:
                continue
            if known_by == "resumes" or here().kind(function.file) != "twisted":
                return known_by, function
            if found[1] is None:
                found = known_by, function
    return found


def _waits(call: Any, arguments: Any, depth: int) -> tuple[str, Function | None]:
    """What one callback comes to."""
    given = arguments if type(arguments) is tuple else ()
    for argument in given:
        code = coroutine_code(argument)
        if code is not None:
            return "resumes", function_of_code(code)
    if type(call) is FunctionType:
        return "calls", None if call.__name__ in _PASSING else function_called(call)
    chained = call.__self__ if type(call) is MethodType else next(iter(given), None)
    if statics.is_a(chained, Deferred):
        return first_callback(chained, depth + 1)
    return "calls", function_called(call)


def result_of(deferred: Any) -> Function | None:
    """The coroutine or inlineCallbacks function whose result a Deferred will be, if it waits."""
    canceller = statics.attribute(deferred, "_canceller")
    if type(canceller) is not FunctionType:
        return None
    for cell in canceller.__closure__ or ():
        try:
            status = cell.cell_contents
        except ValueError:  # it is empty
            continue
        if statics.type_name(status) == "_CancellationStatus":
            return _resumed(statics.attribute(status, "waitingOn"), status)
    return None


def _resumed(waited_for: Any, status: Any) -> Function | None:
    """What a Deferred resumes, of those that wait for it the one that has a status."""
    for pair in _callbacks(waited_for):
        for _, arguments, *_ in pair[:1] if type(pair) is tuple else ():
            if type(arguments) is tuple and any(each is status for each in arguments):
                codes = (coroutine_code(each) for each in arguments)
                return next((function_of_code(code) for code in codes if code is not None), None)
    return None


def _callbacks(deferred: Any) -> list[Any]:
    found = statics.attribute(deferred, "_callbacks")
    if found is statics.UNKNOWN:
        found = statics.attribute(deferred, "callbacks")  # before Twisted 25.5
    return found[:_CALLBACKS] if type(found) is list else []


_PASSING = {"passthru", "_failthru"}
"""What Twisted puts where a callback or an errback was not given."""


def coroutine_code(thing: Any) -> CodeType | None:
    """The code of a coroutine or generator; None for anything else."""
    for kind, name in _COROUTINES:
        if type(thing) is kind:
            code: CodeType = getattr(thing, name)
            return code
    return None


_COROUTINES: tuple[tuple[type, str], ...] = (
    (CoroutineType, "cr_code"),
    (GeneratorType, "gi_code"),
    (AsyncGeneratorType, "ag_code"),
)


def created_at(deferred: Any) -> str | None:
    """Where a Deferred was made, if Deferred debugging was on then."""
    info = statics.attribute(deferred, "_debugInfo")
    return None if info is statics.UNKNOWN else creator_of(statics.attribute(info, "creator"))
