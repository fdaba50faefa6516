"""What statements wait for keeps its result, and what they start is theirs while they go on."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from txwatchdog.manhole.display import lay_out
from txwatchdog.manhole.evaluate import Interpreter, Outcome
from txwatchdog.manhole.notice import Notice
from txwatchdog.manhole.output import Capture, Outlet, Turn
from txwatchdog.manhole.session import Terminal
from txwatchdog.manhole.statement import Statement
from txwatchdog.manhole.timers import carry_timers
from txwatchdog.manhole.waiting import Pending, Result, is_awaitable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What Twisted logs, once all that is garbage has been collected."""
    events: list[Any] = []
    keep: Any = events.append
    globalLogPublisher.addObserver(keep)
    gc.collect()
    events.clear()
    yield events
    globalLogPublisher.removeObserver(keep)


def _error(result: Result | None) -> BaseException:
    assert result is not None
    assert result.error is not None
    return result.error


async def _await(awaited: Any) -> Any:
    return await awaited


def test_what_is_waited_for() -> None:
    """Deferreds and coroutines are; without asyncio's loop nothing else is."""
    coroutine = _await(1)
    assert is_awaitable(succeed(1))
    assert is_awaitable(coroutine)
    coroutine.close()
    assert not is_awaitable(print)
    assert not is_awaitable(iter([]))


@pytest.mark.parametrize("wait", [Pending, lambda d: Pending(_await(d))])
def test_a_deferred_keeps_its_value(wait: Callable[[Deferred[Any]], Pending]) -> None:
    """Looked at or awaited, before or after it fires, it has its value for others."""
    assert wait(succeed(7)).result == Result(7)
    deferred: Deferred[int] = Deferred()
    first, second = wait(deferred), wait(deferred)
    told: list[str] = []
    first.when_ended(lambda: told.append("first"))
    assert first.result is None
    deferred.callback(8)
    second.when_ended(lambda: told.append("second"))
    assert first.result == second.result == Result(8)
    assert told == ["first", "second"]
    seen: list[int] = []
    deferred.addCallback(seen.append)
    assert seen == [8]


@pytest.mark.parametrize("wait", [Pending, lambda d: Pending(_await(d))])
def test_a_deferred_keeps_its_failure(
    wait: Callable[[Deferred[Any]], Pending], logged: list[Any]
) -> None:
    """A failure goes on to whoever handles it; it is not logged if nobody does but the operator."""
    deferred: Deferred[Any] = Deferred()
    pending = wait(deferred)
    deferred.errback(ValueError("why"))
    assert isinstance(_error(pending.result), ValueError)
    handled: list[Any] = []
    deferred.addErrback(handled.append)
    assert isinstance(handled[0].value, ValueError)
    pending = wait(fail(KeyError("k")))
    assert isinstance(_error(pending.result), KeyError)
    del deferred, handled, pending
    gc.collect()
    assert logged == []


def test_a_later_failure_is_logged(logged: list[Any]) -> None:
    """What goes wrong with a Deferred after an operator has looked at it is logged as ever."""
    deferred = fail(ValueError("seen"))
    Pending(deferred)
    deferred.addErrback(lambda _failure: 1 / 0)
    del deferred
    gc.collect()
    assert any("ZeroDivisionError" in str(event.get("log_failure")) for event in logged)
    assert not any("seen" in str(event.get("log_failure")) for event in logged)


def test_a_paused_deferred_and_a_chained_one() -> None:
    """What is paused or waits for another is waited for, and goes on as if nobody looked."""
    paused = succeed(1)
    paused.pause()
    pending = Pending(paused)
    assert pending.result is None
    paused.unpause()
    assert pending.result == Result(1)
    inner: Deferred[int] = Deferred()
    outer = succeed(None).addCallback(lambda _none: inner)
    inner_pending, pending = Pending(inner), Pending(outer)
    inner.callback(2)
    assert pending.result == Result(2)
    # Another one has taken its result, so there is none to be shown.
    assert inner_pending.result == Result(None)


@pytest.mark.parametrize("wait", [Pending, lambda d: Pending(_await(d))])
def test_cancelling_and_going_away(wait: Callable[[Deferred[Any]], Pending]) -> None:
    """Ctrl-C cancels a Deferred; it goes on if the client has gone, and nobody is told."""
    cancelled: list[Deferred[Any]] = []
    deferred: Deferred[Any] = Deferred(cancelled.append)
    pending = wait(deferred)
    pending.cancel()
    assert cancelled == [deferred]
    assert pending.result is not None
    assert pending.result.is_cancelled
    kept: Deferred[Any] = Deferred(cancelled.append)
    told: list[str] = []
    pending = wait(kept)
    pending.when_ended(lambda: told.append("ended"))
    pending.abandon()
    assert not kept.called
    kept.callback(3)
    assert told == []
    seen: list[int] = []
    kept.addCallback(seen.append)
    assert seen == [3]


def test_an_abandoned_coroutine_is_cancelled() -> None:
    """The statement's own coroutine is cancelled where it stands; what it awaits is not."""
    met: list[type] = []
    deferred: Deferred[Any] = Deferred()

    async def wait() -> None:
        try:
            await deferred
        except CancelledError as error:
            met.append(type(error))
            raise

    Pending(wait()).abandon()
    assert met == [CancelledError]
    assert not deferred.called


def test_a_canceller_that_raises_is_the_result() -> None:
    """What a service's canceller raises is shown to who cancelled."""

    def canceller(_deferred: Deferred[Any]) -> None:
        raise OSError("stuck")

    pending = Pending(Deferred(canceller))
    pending.cancel()
    assert isinstance(_error(pending.result), OSError)


async def _in_a_loop(deferred: Deferred[Any], act: Callable[[Pending], None]) -> Result | None:
    """What a coroutine that awaits a Deferred comes to on a reactor with asyncio's loop."""
    ended = asyncio.Event()
    pending = Pending(_await(deferred))
    pending.when_ended(ended.set)
    await asyncio.sleep(0)
    act(pending)
    await asyncio.wait_for(ended.wait(), 60)
    return pending.result


@pytest.mark.parametrize("error", [ValueError("why"), StopIteration(3)])
def test_a_failure_reaches_who_awaits_it_in_a_loop(error: Exception) -> None:
    """As it is, but for the one exception that a future can't have."""
    deferred: Deferred[Any] = Deferred()
    result = asyncio.run(_in_a_loop(deferred, lambda _: deferred.errback(error)))
    deferred.addErrback(lambda _failure: None)
    if isinstance(error, ValueError):
        assert _error(result) is error
    else:
        assert str(_error(result)) == "it raised StopIteration(3)"


def test_a_task_that_another_cancels_knows_asyncios_exception() -> None:
    """Ctrl-C comes as Twisted's to who awaits a Deferred; what asyncio cancels comes as its own."""

    def cancel_all(_pending: Pending) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    result = asyncio.run(_in_a_loop(Deferred(), cancel_all))
    assert type(_error(result)) is asyncio.CancelledError
    result = asyncio.run(_in_a_loop(Deferred(), lambda pending: pending.cancel()))
    assert type(_error(result)) is CancelledError


def test_a_future_is_looked_at() -> None:
    """Its exception is the result, and stays its own."""

    async def look() -> Result | None:
        future = asyncio.get_running_loop().create_future()
        pending = Pending(future)
        future.set_exception(KeyError("k"))
        await asyncio.sleep(0)
        assert isinstance(future.exception(), KeyError)
        return pending.result

    assert isinstance(_error(asyncio.run(look())), KeyError)


def test_an_end_comes_once() -> None:
    """What a canceller did counts, though it fires the Deferred and fails after that."""

    def canceller(deferred: Deferred[Any]) -> None:
        deferred.callback(7)
        raise OSError("stuck")

    pending = Pending(Deferred(canceller))
    pending.cancel()
    assert pending.result == Result(7)


def test_what_is_no_deferred_is_twisteds_to_await() -> None:
    """A coroutine that awaits something else gets of Twisted what any coroutine does: itself."""

    class Odd:
        def __await__(self) -> Generator[Any, Any, Any]:
            return (yield "something else")

    assert Pending(_await(Odd())).result == Result("something else")


def test_a_coroutine_that_is_dropped_ends() -> None:
    """Its frames are left as Python leaves them."""
    met: list[str] = []

    async def wait() -> None:
        try:
            await Deferred()
        finally:
            met.append("left")

    Pending(wait())
    gc.collect()
    assert met == ["left"]


class _Session:
    """An interpreter, what it sends, and a reactor whose time is the test's."""

    def __init__(self) -> None:
        self.text = ""
        self.clock = Clock()
        self.interpreter = Interpreter(object(), {"reactor": self.clock, "Deferred": Deferred})
        self.outlet = Outlet(self._put, terminal=False)

    def _put(self, stream: int, data: bytes) -> None:
        self.text += f"{'!' * stream}{data.decode()}"

    def statement(self, source: str) -> Statement:
        """The one statement that a source is."""
        (step,) = self.interpreter.read(source)
        return Statement(self.interpreter, step, self.outlet, reactor=self.clock)

    def run(self, source: str) -> Outcome:
        """Run statements to their end; show what they give."""
        outcome = Outcome()
        for step in self.interpreter.read(source):
            statement = Statement(self.interpreter, step, self.outlet, reactor=self.clock)
            outcome = statement.run()
            while statement.pending is not None:
                self.clock.pump([1] * 5)
                outcome = statement.conclude()
            if outcome.shown is not None:
                self.outlet.write(lay_out(outcome.shown, None) + "\n")
        return outcome


_SLEEP = """
def sleep(seconds, value=None):
    done = Deferred()
    reactor.callLater(seconds, done.callback, value)
    return done
"""


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("await sleep(1, 'x')", "'x'\n"),
        ("x = await sleep(1, 2)\nx", "2\n"),
        ("sleep(1, 3)\n_", "3\n3\n"),
        ("d = sleep(1, 4)", ""),
        ("sleep(1)", ""),
        ("async def f(): return await sleep(1, 5)\nf()\nawait f()", "5\n5\n"),
        ("for i in (1, 2):\n    await sleep(1)\n    i", "1\n2\n"),
        ("[i async for i in g()]", "[1, 2]\n"),
        ("async for i in g():\n    print(i)", "1\n2\n"),
        ("async with C() as c:\n    print(c)", "in\nout\n"),
        ("async def f(): return h()\nasync def h(): return 6\nf()", "6\n"),
        ("lambda: (await_ := 1)", None),
    ],
)
def test_await_at_top_level(source: str, shown: str | None) -> None:
    """Expressions and statements may await, and a bare expression's Deferred is waited for."""
    session = _Session()
    session.run(
        _SLEEP
        + "async def g():\n    yield 1\n    await sleep(1)\n    yield 2\n"
        + "class C:\n    async def __aenter__(self): return await sleep(1, 'in')\n"
        + "    async def __aexit__(self, *a): print('out')\n"
    )
    assert session.run(source).traceback is None
    assert shown is None or session.text == shown


@pytest.mark.parametrize("source", ["def f(): await x", "yield 1", "lambda: await x"])
def test_await_elsewhere_is_an_error(source: str) -> None:
    """Inside of a plain function `await` is what it is anywhere: a mistake."""
    with pytest.raises(SyntaxError):
        _Session().interpreter.read(source)


def test_what_is_awaited_prints_to_its_session(capsys: pytest.CaptureFixture[str]) -> None:
    """Coroutines, inlineCallbacks and timed calls print there until the statement has ended."""

    @inlineCallbacks
    def of_the_service(done: Deferred[Any]) -> Generator[Deferred[Any], Any, None]:
        yield done
        print("callbacks")

    session = _Session()
    session.interpreter.namespace["of_the_service"] = of_the_service
    session.run(_SLEEP)
    session.clock.callLater(0.5, print, "service")
    session.run(
        "async def f():\n    reactor.callLater(1, print, 'timer')\n    await sleep(2)\n"
        "    await of_the_service(sleep(1))\n    print('end')\n    "
        "reactor.callLater(99, print, 'after')\nf()"
    )
    session.clock.advance(99)
    assert session.text == "timer\ncallbacks\nend\n"
    assert capsys.readouterr().out == "service\nafter\n"
    assert "callLater" not in vars(session.clock)


def test_two_statements_that_wait_are_apart() -> None:
    """What one prints while another waits goes to its own session."""
    first, second = _Session(), _Session()
    second.clock = first.clock
    for session in (first, second):
        session.interpreter.namespace["reactor"] = first.clock
        session.run(_SLEEP)
    one, two = first.statement("print(await sleep(2, 1))"), second.statement("await sleep(1, 2)")
    two._reactor = first.clock
    assert one.run().waits is one
    assert two.run().waits is two
    first.clock.advance(2)
    assert one.conclude() == Outcome()
    assert two.conclude().shown is not None
    assert (first.text, second.text) == ("1\n", "")
    assert "callLater" not in vars(first.clock)


def test_an_abandoned_statement_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """When the client has gone its coroutine ends, and the process's streams are its own again."""
    import sys

    before = sys.stdout
    session = _Session()
    session.run(_SLEEP)
    statement = session.statement(
        "try:\n    await sleep(5)\nfinally:\n    await sleep(1); print('late')"
    )
    assert statement.run().waits is statement
    assert sys.stdout is not before
    statement.abandon()
    assert sys.stdout is before
    assert "callLater" not in vars(session.clock)
    session.clock.advance(9)
    assert session.text == ""
    assert capsys.readouterr().out == "late\n"


def _traceback(outcome: Outcome) -> list[str]:
    assert outcome.traceback is not None
    return "".join(outcome.traceback.format()).splitlines()


@pytest.mark.parametrize(
    "source", ["fails()", "await fails()", "fails_later()", "await fails_later()", "coroutine()"]
)
def test_a_failures_traceback_begins_at_the_operators_line(source: str) -> None:
    """It names the operator's line, then the service's, and nothing of the manhole."""

    def fails() -> Deferred[Any]:
        return succeed(1).addCallback(lambda one: one / 0)

    async def coroutine() -> None:
        await fails()

    session = _Session()
    session.interpreter.namespace.update(
        fails=fails,
        fails_later=lambda: Deferred.fromCoroutine(coroutine()),
        coroutine=coroutine,
    )
    outcome = session.run(source)
    lines = _traceback(outcome)
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith('  File "<manhole ')
    assert lines[2] == f"    {source}"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert any(__file__ in line for line in lines)
    assert not any("/txwatchdog/manhole/" in line for line in lines)
    assert isinstance(session.interpreter.namespace["_"], ZeroDivisionError)


def test_leaving_from_what_is_awaited() -> None:
    """exit() in a coroutine ends the session as it does elsewhere."""
    session = _Session()
    session.run(_SLEEP + "async def f():\n    await sleep(1)\n    exit(4)")
    assert session.run("f()") == Outcome(status=4)
    assert session.run("await f()") == Outcome(status=4)


def test_the_last_values() -> None:
    """`_` is the latest value or exception, `__` the value before; both go at the end."""
    session = _Session()
    names = session.interpreter.namespace
    session.run("1\n2\nNone\nx = 3")
    assert (names["_"], names["__"]) == (2, 1)
    outcome = session.run("def broken(): raise KeyError('k')\nbroken()")
    assert isinstance(names["_"], KeyError)
    assert names["__"] == 2
    session.run("import sys, traceback; traceback.print_exception(_, file=sys.stdout)")
    # The lines in front of the values of the statements above.
    assert session.text.splitlines()[2:] == _traceback(outcome)
    session.run("4")
    assert [names["_"], names["__"]] == [4, 2]
    session.run("1/0")
    session.interpreter.forget()
    assert "_" not in names
    assert "__" not in names


def test_a_value_whose_repr_raises_is_kept() -> None:
    """Its traceback is shown, and the value itself is there as `__`."""
    session = _Session()
    outcome = session.run("class Bad:\n    def __repr__(self): raise OSError('no')\nBad()")
    assert _traceback(outcome)[-1] == "OSError: no"
    assert type(session.interpreter.namespace["__"]).__name__ == "Bad"


class _Later:
    """A reactor that says in whose context it was asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.owned: list[bool] = []

    def callLater(self, delay: float, func: Any, *args: Any, **kwargs: Any) -> Any:
        from txwatchdog.manhole.output import in_statement

        self.owned.append(in_statement())
        self.calls.append(lambda: func(*args, **kwargs))
        return func


def test_timers_are_carried_for_statements_only() -> None:
    """Others' timed calls are as they were; a statement's leave no context in the reactor."""
    reactor: Any = _Later()
    outlet = Outlet(lambda _stream, _data: None, terminal=False)
    turn = Turn(Capture(outlet, lambda _value: None))
    releases = [carry_timers(reactor), carry_timers(reactor)]
    assert reactor.callLater(1, print) is print
    with turn.entered():
        # What pauses are blamed on finds the function by this name.
        assert reactor.callLater(1, print, "x").func is print
    assert reactor.owned == [False, False]
    turn.close()
    releases.pop()()
    assert "callLater" in vars(reactor)
    releases.pop()()
    assert "callLater" not in vars(reactor)


def test_a_callLater_of_the_services_own_stays() -> None:
    """Where the service has put one of its own, that stands there again, before and after."""
    reactor: Any = _Later()
    mine = reactor.callLater = lambda *args: args
    release = carry_timers(reactor)
    assert reactor.callLater(1, print) == (1, print)
    release()
    assert reactor.callLater is mine
    release = carry_timers(reactor)
    other = reactor.callLater = print
    release()
    assert reactor.callLater is other


class _Channel:
    def __init__(self, terminal: Terminal | None) -> None:
        self.terminal = terminal


def _notice(terminal: Terminal | None) -> tuple[Notice, list[str]]:
    sent: list[str] = []
    outlet = Outlet(lambda _stream, data: sent.append(data.decode()), terminal=terminal is not None)
    channel: Any = _Channel(terminal)
    return Notice(outlet, channel), sent


def test_output_takes_the_notices_place() -> None:
    """On a terminal the notice is erased before output, and never cuts a line in two."""
    notice, sent = _notice(Terminal("xterm", 40, 24))
    notice.show("w" * 100, "Ctrl-C")
    assert sent == ["\r\x1b[K" + "w" * 31 + "; Ctrl-C"]
    notice.outlet.write("half a line")
    notice.show("waiting", "Ctrl-C")
    assert sent[1:] == ["\r\x1b[K", "half a line"]
    notice.outlet.write("\n")
    notice.show("waiting", "Ctrl-C")
    notice.remove()
    notice.remove()
    assert sent[3:] == ["\r\n", "\r\x1b[Kwaiting; Ctrl-C", "\r\x1b[K"]


def test_elsewhere_a_notice_is_one_line() -> None:
    """Without a terminal, or on a dumb one, it is said once and stays."""
    for terminal in (None, Terminal("dumb", 40, 24)):
        notice, sent = _notice(terminal)
        notice.show("paused", "Ctrl-C", "waiting: ")
        notice.show("paused", "Ctrl-C", "waiting: ")
        notice.remove()
        end = "\r\n" if terminal else "\n"
        assert sent == [f"waiting: paused; Ctrl-C{end}"]


def test_a_notice_does_not_wait_for_output() -> None:
    """While the statement writes it can be seen to go on, and nobody waits for it."""
    notice, sent = _notice(Terminal("xterm", 40, 24))
    with notice._lock:
        notice.show("waiting", "Ctrl-C")
    assert sent == []
    notice.show("waiting", "Ctrl-C")
    assert sent == ["\r\x1b[Kwaiting; Ctrl-C"]


def test_a_statement_that_waits_for_nothing_can_not_be_cancelled() -> None:
    """Ctrl-C may come just as what it waited for has ended: nothing happens to it then."""
    session = _Session()
    statement = session.statement("3")
    statement.cancel()
    assert statement.run().shown is not None
    statement.cancel()
    assert statement.pending is None
