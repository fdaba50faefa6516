"""Looking around where there is too much of a thing, or one is not what such things are."""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from types import FrameType, SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest
from test_around import FakeReactor, TLSMemoryBIOProtocol, Transport, _tcp_info
from twisted.internet import defer, task
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from txwatchdog.manhole.around import heap
from txwatchdog.manhole.around.care import borrowed
from txwatchdog.manhole.around.connections import find_readers, read_tcp_info
from txwatchdog.manhole.around.delayed import find_delayed
from txwatchdog.manhole.around.failures import Failures
from txwatchdog.manhole.around.looks import Around
from txwatchdog.manhole.around.names import class_name, first_callback, function_called, result_of
from txwatchdog.manhole.around.records import Class, Listing, Objects, Reader
from txwatchdog.manhole.around.tasks import find_tasks
from txwatchdog.manhole.around.threads import find_threads

ROOM = "txwatchdog.manhole.around"


class Gone(FakeReactor):
    """A reactor whose loop is closed."""

    def callFromThread(self, call: Any) -> None:
        raise RuntimeError("Event loop is closed")


def test_what_was_borrowed_in_the_reactors_thread_is_let_go_of_there() -> None:
    """At once, as it is where nobody could be asked to do it."""
    reactor = FakeReactor()
    things = [object()]
    with patch(f"{ROOM}.care.threadable.isInIOThread", return_value=True):
        with borrowed(reactor, things):
            assert things
        assert (things, reactor.sent) == ([], [])
    things = [object()]
    with borrowed(Gone(), things):
        assert things
    assert things == []


# -- the heap ---------------------------------------------------------------------------------


@pytest.fixture
def around() -> Around:
    """All looks at this process."""
    return Around(FakeReactor(), Failures())


def test_a_large_heap_is_looked_at_on_demand(around: Around) -> None:
    """It would hold the service up: who asks is told for how long, and may insist."""
    waiting: Deferred[None] = Deferred()
    with patch(f"{ROOM}.heap._MOST_BLOCKS", 0):
        for look in (around.deferreds, around.objects):
            listing = look()
            assert (listing.total, list(listing)) == (None, [])
            assert "would hold" in str(listing)
        found = around.deferreds(1000, whole=True)
    assert any(row.place == "" and row.known_by == "nothing" for row in found)
    assert not waiting.called


def test_one_look_at_the_heap_at_a_time(around: Around) -> None:
    """Who asks meanwhile is told to ask again."""
    with heap._looking, patch(f"{ROOM}.heap._PATIENCE", 0.01):
        assert "someone else looks at this moment" in str(around.objects())
    assert around.objects().total


def test_in_the_reactors_thread_nobody_waits_for_the_next_look(around: Around) -> None:
    """Two looks have a distance, but not where waiting would pause the reactor."""
    with (
        patch(f"{ROOM}.care.threadable.isInIOThread", return_value=True),
        patch(f"{ROOM}.heap.time", Mock(wraps=time, sleep=Mock(side_effect=AssertionError))),
    ):
        assert around.objects().total
        assert around.objects().total


def test_more_deferreds_than_are_looked_at(around: Around) -> None:
    """Their number is told, and how to know where new ones come from."""
    waiting: list[Deferred[None]] = [Deferred() for _ in range(9)]
    with patch(f"{ROOM}.census._LOOKED_AT", 2):
        told = str(around.deferreds())
    assert " more Deferreds, fired or not, were not looked at" in told
    assert "setDebugging(True) shows where new ones are created" in told
    defer.setDebugging(True)
    try:
        waiting.append(Deferred())
    finally:
        defer.setDebugging(False)
    assert "setDebugging" not in str(around.deferreds())


def test_objects_of_one_class(around: Around) -> None:
    """A class may be given itself; those that were frozen are said not to be counted."""

    class Lamp:
        """What is looked for."""

    lamps = [Lamp(), Lamp()]
    (row,) = around.objects(Lamp)
    assert row.name.endswith("Lamp")
    assert row.count == len(lamps)
    with patch("gc.get_freeze_count", return_value=1234):
        assert "1,234 frozen objects (gc.freeze) are not counted" in str(around.objects())


# -- descriptors ------------------------------------------------------------------------------


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection over which three bytes went."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        client.sendall(b"abc")
        assert accepted.recv(3) == b"abc"
        yield client, accepted


def test_descriptors_in_the_order_of_what_they_received(
    connection: tuple[socket.socket, socket.socket], tmp_path: Any
) -> None:
    """The most first; what has no such number, not being TCP, comes last, and has an address."""
    client, accepted = connection
    with (
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as nameless,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        named.bind(str(tmp_path / "s"))
        abstract.bind(f"\0txwatchdog{tmp_path}")
        datagrams.bind(("127.0.0.1", 0))
        datagrams.connect(datagrams.getsockname())
        others = [named, abstract, nameless, datagrams]
        readers = [Transport(1)] + [Transport(1, socket=s) for s in [*others, client, accepted]]
        reactor = FakeReactor(getReaders=lambda: readers, getWriters=list)
        listing = find_readers(reactor, 10, "received")
        rows = {row.fd: row for row in listing}
        assert listing[0].fd == accepted.fileno()
        assert listing[1].fd == client.fileno()
        assert (rows[accepted.fileno()].received, rows[client.fileno()].received) == (3, 0)
        assert rows[named.fileno()].local == str(tmp_path / "s")
        assert rows[abstract.fileno()].local == f"@txwatchdog{tmp_path}"
        assert rows[nameless.fileno()].local is None
        assert rows[datagrams.fileno()].peer == "{}:{}".format(*datagrams.getsockname())
        assert rows[datagrams.fileno()].received is None


def test_wrappers_without_end() -> None:
    """Of a protocol that wraps itself as much is told as was looked into."""
    endless = TLSMemoryBIOProtocol(None)
    endless.wrappedProtocol = endless
    readers = [Transport(1, protocol=endless)]
    (row,) = find_readers(
        FakeReactor(getReaders=lambda: readers, getWriters=list), 10, "fd"
    )  # fmt: skip
    assert (row.protocol, row.tls) == ("test_around.TLSMemoryBIOProtocol", True)


def test_an_older_kernel_counts_what_was_acknowledged() -> None:
    """Where it does not count what was sent, that is as near as can be."""
    info = read_tcp_info(_tcp_info(sent=9, received=70, last_sent=1, last_received=2)[:200])
    assert info is not None
    assert (info.sent, info.received) == (10, 70)


# -- timers and tasks -------------------------------------------------------------------------


def test_more_timers_than_are_counted() -> None:
    """They are in the total, and it is said that the counts are of some."""
    calls = [SimpleNamespace(time=130.0, func=print) for _ in range(3)]
    with patch(f"{ROOM}.delayed._COUNTED", 2):
        listing = find_delayed(FakeReactor(_newTimedCalls=calls, _pendingTimedCalls=[]), 1)
    assert (listing.total, dict(listing.counts)) == (3, {"print (<built-in>:0)": 2})
    assert listing.notes == ("the counts are of the first 2 only",)


@pytest.mark.parametrize("callback", [lambda _: None, print, FakeReactor().seconds, None])
def test_a_timer_that_wakes_no_task(callback: Any) -> None:
    """A future that something else waits for than a task is not a sleeping one's."""
    asyncio_loop = asyncio.new_event_loop()
    future = asyncio_loop.create_future()
    if callback is not None:
        future.add_done_callback(callback)
    timer = SimpleNamespace(_when=130.0, _callback=len, _args=(future,), _cancelled=False)
    loop = SimpleNamespace(_scheduled=[timer], time=lambda: 100.0)
    (row,) = find_delayed(FakeReactor(_asyncioEventloop=loop), 2)
    assert row.function.function == "len"
    asyncio_loop.close()


def _tasks(make: Callable[..., Any] | None = None) -> Listing:
    """The tasks of a loop in which one waits for a future, in two steps."""

    async def inner(never: Any) -> None:
        await never

    async def outer(never: Any) -> None:
        await inner(never)

    async def main() -> Listing:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(make)
        never = loop.create_future()
        waiting = loop.create_task(outer(never))
        await asyncio.sleep(0)
        found = find_tasks(FakeReactor(_asyncioEventloop=loop), 10)
        waiting.cancel()
        await asyncio.wait([waiting])
        return found

    return asyncio.run(main())


def test_tasks_written_in_python() -> None:
    """Where asyncio's own task is not the one in C, what it waits for is known as well."""

    def make(loop: Any, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
        return asyncio.tasks._PyTask(coroutine, loop=loop, **options)  # type: ignore[attr-defined]

    for listing in (_tasks(), _tasks(make)):
        row = next(row for row in listing if "outer" in row.coroutine)
        assert (row.state, row.waits_for) == ("waiting", "_asyncio.Future")
        assert row.at.startswith("inner")


def test_more_tasks_than_are_looked_at() -> None:
    """Their number is told; and coroutines that wait for one another are followed so far."""
    with patch(f"{ROOM}.tasks._LOOKED_AT", 1):
        listing = _tasks()
    assert (listing.total, listing.notes) == (2, ("1 more were not looked at",))
    with patch(f"{ROOM}.tasks._DEPTH", 1):
        row = next(row for row in _tasks() if "outer" in row.coroutine)
    assert row.at.startswith("outer")


# -- names ------------------------------------------------------------------------------------


def test_a_class_without_a_module() -> None:
    """One that was made where there is none is named without."""
    odd = eval("make('Odd', (), {})", {"make": type, "__builtins__": {}})
    assert class_name(odd) == "Odd"


def test_calls_without_end() -> None:
    """A looping call of itself, and a chain of Deferreds that is long, are followed so far."""
    looping = task.LoopingCall(print)
    looping.f = looping
    assert function_called(looping).function == "twisted.internet.task.LoopingCall()"
    chain: list[Deferred[None]] = [Deferred() for _ in range(10)]
    for one, other in pairwise(chain):
        one.chainDeferred(other)
    chain[-1].addCallback(print)
    assert first_callback(chain[0]) == ("nothing", None)
    known_by, function = first_callback(chain[-4])
    assert (known_by, function and function.function) == ("calls", "print")


def test_the_first_of_twisteds_own_callbacks() -> None:
    """Where only Twisted's own wait, it is the first of them that is told."""
    deferred: Deferred[Any] = Deferred()
    for call in (task.deferLater, defer.maybeDeferred):
        deferred.addCallback(call)  # type: ignore[call-overload]
    known_by, function = first_callback(deferred)
    assert (known_by, function and function.function) == ("calls", "deferLater")


def test_whose_result_a_deferred_is_may_not_be_known() -> None:
    """A canceller of the service's tells nothing, whatever it has in its closure."""

    def canceller(count: int) -> Callable[[Any], None]:
        def cancel(_deferred: Any) -> None:
            assert count
            assert later  # not bound yet

        found = cancel
        if count > 1:
            later = True
        return found

    assert result_of(Deferred(canceller(1))) is None


def test_a_canceller_that_has_more_than_a_status() -> None:
    """It is looked for in all of a closure."""

    @defer.inlineCallbacks
    def pack() -> Any:
        yield Deferred()

    packed: Any = pack()
    (own,) = packed._canceller.__closure__

    def canceller(count: int, status: object) -> Any:
        return lambda _deferred: (count, status)

    found = result_of(Deferred(canceller(1, own.cell_contents)))
    assert found is not None
    assert found == result_of(packed)


def test_a_result_whose_function_waits_for_nothing() -> None:
    """What it waited for has just come: nobody knows what it will resume."""
    inner: Deferred[None] = Deferred()

    @defer.inlineCallbacks
    def pack() -> Any:
        yield inner

    packed = pack()
    assert result_of(packed) is not None
    for name in ("_callbacks", "callbacks"):
        vars(inner).get(name, []).clear()
    assert result_of(packed) is None


# -- failures and threads ---------------------------------------------------------------------


def _kept(event: dict[str, Any]) -> Listing:
    failures = Failures()
    failures(event)
    return failures.latest(10)


def test_the_text_of_an_event_names_objects() -> None:
    """Whatever a format takes from an object of the service's, that object is what it shows."""
    failures = Failures()
    log = Logger(namespace="shop", observer=LogPublisher(failures))
    log.error("at {till.drawer} of {till[3]}, {till()}", till=Gone())
    (row,) = failures.latest(1)
    gone = "<test_around_rare.Gone>"
    assert row.message == f"at {gone} of {gone}, {gone}"


def test_failures_of_the_old_log() -> None:
    """What `twisted.python.log.err` says of one is its text."""
    event = {"log_failure": Failure(ValueError("no lamps")), "log_format": "{log_legacy}"}
    (row,) = _kept({**event, "why": "at the till"})
    assert (row.type, row.message) == ("ValueError", "at the till")
    (row,) = _kept(event)
    assert row.message == ""
    assert str(_kept(event)).splitlines()[-1].startswith("1 error logged")


def test_a_failure_that_is_none_is_not_kept() -> None:
    """One that can't be looked at does no harm; the service's log has it all the same."""
    broken: Any = Failure(ValueError("no lamps"))
    broken.tb = 3
    assert list(_kept({"log_failure": broken, "log_format": "x"})) == []


def test_a_traceback_is_followed_so_far() -> None:
    """Its end comes, however deep it is."""

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        raise ValueError

    try:
        dive(9)
    except ValueError:
        failure = Failure()
    with patch(f"{ROOM}.failures._DEEPEST", 3):
        (row,) = _kept({"log_failure": failure, "log_format": "x"})
    assert [frame.function for frame in row.frames][1:] == ["dive", "dive"]


def test_threads_of_no_pool() -> None:
    """A thread of the service's own has no state; where there is no pool, none is told of."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="till")
    thread.start()

    def frames() -> dict[int, FrameType]:
        found: dict[int, Any] = {**sys._current_frames(), 1: None}
        return found

    try:
        listing = find_threads(FakeReactor(), 1000, frames)
    finally:
        end.set()
        thread.join()
    rows = {row.name: row for row in listing}
    assert rows["till"].state == ""
    assert rows["till"].function is not None
    assert rows["?"].function is None
    assert listing.pool is None


def test_more_rows_than_are_laid_out() -> None:
    """A table has its end, and says so."""
    rows = tuple(Class(f"C{n}", 1) for n in range(1003))
    text = str(Objects("objects", rows, 1003, classes=1003))
    assert "… 3 more rows; --json shows all" in text
    assert "C1002" not in text


def test_an_age_that_is_known() -> None:
    """It is shown as it is."""
    row = Reader(7, "Server", "Till", tls=False, waits="r", peer="10.0.0.7:1", age_seconds=7300)
    assert "10.0.0.7:1   2 h" in str(Listing("readers", (row,), 1))


def test_partials_end() -> None:
    """A partial of what can't be flattened is looked through."""
    looping = task.LoopingCall(functools.partial(print, 1))
    assert function_called(functools.partial(looping)).function == "print"
