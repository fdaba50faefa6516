"""Where an exception may be raised, and whom operators' statements are blamed on."""

from __future__ import annotations

import signal

import pytest

from txwatchdog.blame import Places
from txwatchdog.interrupting import Breaker, Request, objection
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


class Broken(BaseException):
    """Raised where a request says so."""


def fail(_frames: object) -> str:
    """A judge that can't."""
    raise RecursionError


def test_a_signal_raises_what_the_first_willing_judge_says() -> None:
    """Those that object say why; one that fails objects; one that was withdrawn is passed over."""
    breaker = Breaker()
    objects, fails = Request(lambda _: "not now"), Request(fail)
    withdrawn, willing = Request(lambda _: Broken()), Request(lambda _: Broken())
    for request in (objects, fails, withdrawn, willing):
        breaker.post(request)
    assert withdrawn.claim()
    with pytest.raises(Broken):
        breaker._on_signal(0, None)
    assert willing.raised
    assert not withdrawn.raised
    assert willing.why_not.startswith("it was raised")
    assert objects.why_not == "not now"
    assert "RecursionError" in fails.why_not
    assert withdrawn.looks == willing.looks == 1
    breaker._on_signal(0, None)
    assert (objects.looks, willing.looks) == (2, 1)
    assert not breaker.withdraw(willing)
    assert breaker.withdraw(objects)


def test_a_signal_without_a_request_does_nothing() -> None:
    """It may come late, or from someone else; and nothing has looked at what is not posted."""
    breaker, request = Breaker(), Request(fail)
    breaker._on_signal(0, None)
    assert request.why_not.startswith("code in C is running")
    breaker.post(request)
    breaker.disable()
    breaker._on_signal(0, None)
    assert not request.looks
    assert breaker.why_off == "the watchdog is stopped"


def test_a_signal_that_was_taken_is_not_sent() -> None:
    """Who takes SIGURG after us gets none of ours, and we say who has it."""
    breaker, theirs = Breaker(), []
    breaker.install()
    try:
        assert breaker.why_off is None
        signal.signal(signal.SIGURG, lambda number, _frame: theirs.append(number))
        assert breaker.why_off == "SIGURG, which it takes, has been taken by someone else"
        breaker.signal()
        assert theirs == []
        signal.raise_signal(signal.SIGURG)
        assert theirs == [signal.SIGURG]
    finally:
        breaker.remove()
        signal.signal(signal.SIGURG, signal.SIG_DFL)
