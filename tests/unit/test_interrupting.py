"""Where an exception may be raised, and whom operators' statements are blamed on."""

from __future__ import annotations

import pytest

from txwatchdog.blame import Places
from txwatchdog.interrupting import Request, objection
from txwatchdog.operators import operator_of, source_name

PLACES = Places(stdlib="/lib/", twisted="/site-packages/twisted/", ours="/ours/")
REACTOR = [
    ("run", "/site-packages/twisted/internet/base.py"),
    ("mainLoop", "/site-packages/twisted/internet/base.py"),
    ("runUntilCurrent", "/site-packages/twisted/internet/base.py"),
]
APP = ("fetch", "/app/db.py")


@pytest.mark.parametrize(
    ("calls", "objected"),
    [
        ([*REACTOR, APP], None),
        ([*REACTOR, APP, ("wait", "/lib/threading.py")], None),
        ([*REACTOR, ("get", "/site-packages/requests/api.py")], None),
        ([*REACTOR, APP, ("callback", "/site-packages/twisted/internet/defer.py"), APP], None),
        ([APP], "nobody's code"),
        (REACTOR, "nobody's code"),
        ([*REACTOR, ("render", "/site-packages/twisted/web/server.py")], "no code of the"),
        ([*REACTOR, APP, ("callLater", "/site-packages/twisted/internet/base.py")], "base.py"),
        ([*REACTOR, APP, ("call_soon", "/lib/asyncio/base_events.py")], "base_events.py"),
        ([*REACTOR, APP, ("write", "/ours/manhole/output.py")], "output.py"),
        ([*REACTOR, APP, ("emit", "/site-packages/twisted/logger/_logger.py"), APP], "it logs"),
    ],
)
def test_where_an_exception_may_be_raised(
    calls: list[tuple[str, str]], objected: str | None
) -> None:
    """In the application and what it called, and nowhere in the reactor's, loggers' or our code."""
    why_not = objection(calls, PLACES)
    assert (why_not is None) if objected is None else objected in str(why_not)


def test_not_in_a_signal_handler() -> None:
    """A signal handler of the service's may have broken into the reactor."""
    calls = [*REACTOR, APP]
    assert "signal handler" in str(objection(calls, PLACES, lambda index: index == 3))


def test_a_request_is_claimed_once() -> None:
    """Either the handler raises, or whoever asked has withdrawn it."""
    request = Request(lambda _frames: "no")
    assert request.claim()
    assert not request.claim()


@pytest.mark.parametrize(
    ("name", "shown"), [("alice@host", "alice@host"), ("a:b <c>\n", "a:b ?c?"), ("", "?")]
)
def test_sources_name_their_operator(name: str, shown: str) -> None:
    """An input's file name tells whose it is, whatever that name has in it."""
    assert operator_of(source_name(name, 7)) == shown
    assert operator_of("/app/db.py") is None
