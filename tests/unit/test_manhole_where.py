"""Where a statement runs is decided on its syntax tree, and in doubt it is the reactor's thread."""

from __future__ import annotations

import ast
import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.manhole import around
from txwatchdog.manhole.where import runs_at_once


def _decide(source: str, rebound: frozenset[str] = frozenset()) -> list[bool]:
    def is_ours(name: str) -> bool:
        known = name == "watchdog" or name in around.NAMES or hasattr(builtins, name)
        return name not in rebound and known

    return [runs_at_once(statement, is_ours) for statement in ast.parse(source).body]


@pytest.mark.parametrize(
    "source",
    [
        "watchdog",
        "watchdog.top()",
        "watchdog.top(n=3, by='worst')",
        "watchdog.threshold = 0.1",
        "watchdog.threshold *= 2",
        "watchdog.threshold = watchdog.threshold / 2",
        "watchdog.stop(); watchdog.start()",
        "print(watchdog.tracebacks(2)[0])",
        "print(*watchdog.tracebacks(), sep='\\n')",
        "[pause.duration for pause in watchdog.pauses() if pause.duration > 1]",
        "{o['function']: o['count'] for o in watchdog.stats()['offenders']}",
        "sum(pause.duration for pause in watchdog.pauses(1000))",
        "sorted(watchdog.pauses(), key=str)[:3]",
        "f'{watchdog.stack().seconds:.1f} s'",
        "watchdog.stack().frames[-1].function if watchdog.running else None",
        "len([f for p in watchdog.pauses() for f in p.samples])",
        "exit()",
        "quit(3)",
        "readers()",
        "readers(n=5, by='sent')[0].peer",
        "print(threads())",
        "objects('dict', whole=True)",
        "[row.function for row in delayed(100) if row.seconds < 1]",
        "(len(tasks()), watchdog.stack())",
    ],
)
def test_these_run_at_once(source: str) -> None:
    """What uses the watchdog and pure builtins only runs in the manhole's thread."""
    assert all(_decide(source))


@pytest.mark.parametrize(
    "source",
    [
        "1 + 1",  # nothing to do with the watchdog
        "service",
        "service.items",
        "print(service, watchdog.stack())",
        "watchdog.reactor",
        "watchdog.reactor.stop()",
        "watchdog.on_pause(print)",
        "watchdog._ledger",
        "watchdog.__class__",
        "watchdog.stack.__self__",
        "watchdog.stack().__class__",
        "watchdog.rings = ()",
        "watchdog.stop = None",
        "del watchdog.threshold",
        "stack = watchdog.stack()",
        "a = watchdog.threshold = 1",
        "watchdog.threshold, x = 1, 2",
        "watchdog.threshold: float = 1",
        "watchdog.threshold **= 9",
        "(x := watchdog.stack())",
        "[watchdog][0].reactor",
        "getattr(watchdog, 'reactor')",
        "vars(watchdog)",
        "print(watchdog)",
        "'{0.reactor}'.format(watchdog)",
        "'{0.reactor}'.format(watchdog.stack())",
        "[s for s in watchdog.tracebacks()] + [s]",
        "[s.stop() for t in watchdog.tracebacks()]",
        "[t for t in service for t in watchdog.tracebacks()]",
        "[watchdog for watchdog in [1]] and watchdog.reactor",
        "[print for print in watchdog.pauses()]",
        "[0 for watchdog.threshold in watchdog.pauses()]",
        "[0 for x[0] in watchdog.pauses()]",
        "[_ for _ in watchdog.pauses()]",
        "[p async for p in watchdog.pauses()]",
        "watchdog.top(n=9 ** 9 ** 9)",
        "watchdog.top(n=1 << 99999999)",
        "sorted(watchdog.pauses(), key=lambda p: service.get(p))",
        "sorted(watchdog.pauses(), key=service.key)",
        "await watchdog.stack()",
        "for p in watchdog.pauses(): print(p)",
        "if watchdog.running: print(1)",
        "import os",
        "def watchdog(): pass",
        "readers",
        "print(readers)",
        "readers.__self__",
        "readers()[0].__class__",
        "objects(service.kind)",
        "objects(type=service)",
        "errors(n=service.n)",
        "(threads(), service.stop())",
        "[threads() for threads in [service.stop]]",
        "x = objects()",
        "service.readers()",
        "exit(service)",
        "exit(*service)",
        "exit",
    ],
)
def test_these_go_to_the_reactor(source: str) -> None:
    """Whatever touches anything else, or could, runs in the reactor's thread."""
    assert _decide(source) == [False]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("watchdog", "watchdog"),
        ("watchdog.stack()", "watchdog"),
        ("watchdog.threshold = 1", "watchdog"),
        ("print(watchdog.stack())", "print"),
        ("exit()", "exit"),
        ("readers()", "readers"),
        ("(readers(), watchdog.stack())", "readers"),
        ("(readers(), watchdog.stack())", "watchdog"),
        ("[len(t) for t in watchdog.tracebacks()]", "len"),
    ],
)
def test_a_name_that_was_rebound_is_not_trusted(source: str, name: str) -> None:
    """What the operator has rebound no longer means what it did."""
    assert _decide(source) == [True]
    assert _decide(source, frozenset({name})) == [False]


_names = st.sampled_from(["watchdog", "service", "print", "len", "x", "reactor", "_", "exit"])
_attributes = st.sampled_from(
    ["stack", "reactor", "threshold", "on_pause", "format", "__class__", "stop", "file"]
)


def _larger(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}.{}".format, parts, _attributes),
        st.builds("{}({})".format, parts, parts),
        st.builds("({})[{}]".format, parts, parts),
        st.builds("[{} for {} in {}]".format, parts, _names, parts),
        st.builds("({}, {})".format, parts, parts),
        st.builds("f'{{{}}}'".format, parts.filter(lambda part: "'" not in part)),
    )


@given(st.recursive(_names, _larger, max_leaves=6))
def test_nothing_but_the_watchdogs_safe_names_is_ever_reached(source: str) -> None:
    """Run with a spy for every name, what runs at once touches only what it may."""
    if not all(_decide(source)):
        return
    touched: set[str] = set()

    class Spy:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getattr__(self, attribute: str) -> object:
            touched.add(f"{self.name}.{attribute}")
            return lambda *_args: ["harmless"]

    namespace: dict[str, object] = {"watchdog": Spy("watchdog"), "print": lambda *_args: None}
    foreign = {"service", "reactor", "x", "_"}
    used_globals = set(compile(source, "<source>", "eval").co_names)
    assert not used_globals & foreign
    try:
        eval(source, namespace)
    except (TypeError, AttributeError, IndexError, KeyError, NameError, SystemExit):
        pass
    assert touched <= {"watchdog.stack", "watchdog.threshold", "watchdog.stop"}
