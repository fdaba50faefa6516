"""Looking around: what is read from a reactor, a log and the kernel, and how it is shown."""

from __future__ import annotations

import gc
import json
import struct
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure

from txwatchdog.manhole import Manhole
from txwatchdog.manhole.around import NAMES
from txwatchdog.manhole.around.care import Pace, borrowed, check_count, snapshot
from txwatchdog.manhole.around.connections import find_readers, read_tcp_info
from txwatchdog.manhole.around.delayed import find_delayed
from txwatchdog.manhole.around.failures import KEPT, Failures
from txwatchdog.manhole.around.looks import Around
from txwatchdog.manhole.around.records import Class, Listing, Objects, Pool, Reader, Thread, Threads
from txwatchdog.manhole.around.tasks import find_tasks
from txwatchdog.manhole.around.text import tracebacks_text
from txwatchdog.manhole.evaluate import Interpreter
from txwatchdog.records import Frame, Function

if TYPE_CHECKING:
    from pathlib import Path


class FakeReactor:
    """Has what a reactor is asked for."""

    def __init__(self, **known: Any) -> None:
        self.__dict__.update(known)
        self.sent: list[Any] = []

    def seconds(self) -> float:
        return 100.0

    def callFromThread(self, call: Any) -> None:
        self.sent.append(call)


def test_work_and_rest_take_turns() -> None:
    """After a millisecond of work comes one of rest; none in the reactor's thread."""
    now = [0.0]
    rests: list[float] = []
    for may_rest in (True, False):
        pace = Pace(rests=may_rest, clock=lambda: now[0], sleep=rests.append)
        for _ in pace.over(range(10)):
            now[0] += 0.0006
    assert rests == [0.001] * 5


def test_what_changes_meanwhile_is_copied_again() -> None:
    """A copy that fails is made anew; one that always fails says so."""
    problems: list[Exception] = [RuntimeError("changed"), KeyError(7)]

    def take() -> list[int]:
        if problems:
            raise problems.pop()
        return [1, 2]

    assert snapshot(take, "things") == [1, 2]

    def never() -> list[int]:
        raise RuntimeError("changed")

    with pytest.raises(RuntimeError, match="things changed while they were read, 50 times"):
        snapshot(never, "things")


def test_what_was_borrowed_is_let_go_of_by_the_reactor() -> None:
    """The last reference is dropped in the reactor's thread, not where it was looked at."""
    reactor = FakeReactor()
    things = [object()]
    with borrowed(reactor, things) as held:
        assert held is things
    assert len(things) == 1
    (give_up,) = reactor.sent
    give_up()
    assert things == []


@pytest.mark.parametrize("n", [-1, 1.5, "3", True, None])
def test_a_bound_is_a_whole_number(n: object) -> None:
    """Anything else is a mistake, which names it."""
    with pytest.raises(ValueError, match="n must be a whole number from 0, not"):
        check_count(n)
    assert (check_count(7), check_count(10**9)) == (7, 10_000)


def _tcp_info(sent: int, received: int, last_sent: int, last_received: int) -> bytes:
    data = bytearray(256)
    struct.pack_into("I", data, 44, last_sent)
    struct.pack_into("I", data, 52, last_received)
    struct.pack_into("QQ", data, 120, sent + 1, received)
    struct.pack_into("QQ", data, 200, sent + 30, 30)
    return bytes(data)


def test_bytes_and_ages_of_a_connection() -> None:
    """A side that has sent nothing dates the connection; else it is at least as old as its last."""
    info = read_tcp_info(_tcp_info(sent=0, received=70, last_sent=5000, last_received=2000))
    assert info is not None
    assert (info.sent, info.received) == (0, 70)
    assert (info.age, info.idle, info.age_at_least) == (5.0, 2.0, 5.0)
    info = read_tcp_info(_tcp_info(sent=9, received=70, last_sent=1000, last_received=2000))
    assert info is not None
    assert (info.sent, info.age, info.age_at_least) == (9, None, 2.0)
    assert read_tcp_info(bytes(104)) is None


class Transport:
    """A selectable that must not be asked anything."""

    def __init__(self, fd: int, **known: Any) -> None:
        self.__dict__.update(fd=fd, dataBuffer=b"abc", offset=1, _tempDataLen=40, **known)

    def fileno(self) -> int:
        raise AssertionError("it was asked")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("it was compared")

    __hash__ = None  # type: ignore[assignment]


class TLSMemoryBIOProtocol:
    """Named like Twisted's."""

    def __init__(self, inner: object) -> None:
        self.wrappedProtocol = inner


def test_readers_and_writers_are_one_table() -> None:
    """A descriptor that waits for both stands there once; its protocol is the innermost."""
    plain = Transport(7, protocol=TLSMemoryBIOProtocol(Class("x", 1)))
    port = Transport(5, factory=Class("x", 1))
    reactor = FakeReactor(getReaders=lambda: [plain, port], getWriters=lambda: [plain])
    listing = find_readers(reactor, 10, "fd")
    assert [(row.fd, row.waits, row.tls, row.unsent) for row in listing] == [
        (5, "r", False, 42),
        (7, "rw", True, 42),
    ]
    assert {row.protocol for row in listing} == {"txwatchdog.manhole.around.records.Class"}
    assert dict(listing.counts) == {"txwatchdog.manhole.around.records.Class": 2}
    assert find_readers(reactor, 1, "unsent").left_out == 1
    assert find_readers(object(), 1, "fd").notes == ("object does not say what it waits for",)


def _call(when: float, func: Any) -> DelayedCall:
    return DelayedCall(when, func, (), {}, lambda _: None, lambda _: None, lambda: 100.0)


def test_delayed_calls_soonest_first() -> None:
    """Cancelled ones are left out, put off ones stand at their new time, all are counted."""
    calls = [_call(130.0, print), _call(110.0, print), _call(99.0, len), _call(120.0, print)]
    calls[1].delay(100.0)
    calls[3].cancel()
    reactor = FakeReactor(_newTimedCalls=calls[:1], _pendingTimedCalls=calls[1:])
    listing = find_delayed(reactor, 2)
    assert [(row.seconds, row.function.function) for row in listing] == [(-1, "len"), (30, "print")]
    assert (listing.total, listing.left_out) == (3, 1)
    assert listing.counts[0] == ("print (<built-in>:0)", 2)


def test_a_timers_arguments_run_no_code() -> None:
    """Whatever a timer of asyncio's is to hand over is not asked what it is."""
    asked: list[str] = []

    class Proxy:
        def __getattribute__(self, name: str) -> object:
            asked.append(name)
            raise AttributeError(name)

    timer = SimpleNamespace(_when=130.0, _callback=print, _args=(Proxy(),), _cancelled=False)
    loop = SimpleNamespace(_scheduled=[timer], time=lambda: 100.0)
    listing = find_delayed(FakeReactor(_asyncioEventloop=loop), 2)
    assert [(row.seconds, row.function.function) for row in listing] == [(30, "print")]
    assert asked == []


def test_a_reactor_without_a_loop_has_no_tasks() -> None:
    """And the table says why it is empty."""
    assert "FakeReactor has no asyncio loop" in str(find_tasks(FakeReactor(), 5))


def _logged(*events: Any) -> Failures:
    failures = Failures()
    log = Logger(namespace="shop", observer=LogPublisher(failures))
    for event in events:
        event(log)
    return failures


def _raise(error: Exception, local: object = None) -> None:
    raise error


class UnprintableError(Exception):
    """Its text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def _fail(error: Exception, text: str = "at the till") -> Any:
    def log_it(log: Logger) -> None:
        try:
            _raise(error)
        except Exception:
            log.failure(text, till=object())

    return log_it


def test_failures_newest_first_with_their_tracebacks() -> None:
    """Each has its exception, the event's text and a traceback; what is no error is not kept."""
    failures = _logged(
        _fail(ValueError("no lamps")),
        lambda log: log.info("all is well"),
        lambda log: log.error("the till {till} is open", till=3),
        _fail(KeyError("lamp"), "at {till}"),
    )
    latest, text, first = failures.latest(10)
    assert (latest.type, latest.text, latest.message) == ("KeyError", "'lamp'", "at <object>")
    assert (text.type, text.text, text.level) == (None, "the till 3 is open", "error")
    assert (first.type, first.namespace, first.message) == ("ValueError", "shop", "at the till")
    assert first.traceback.endswith("    raise error\nValueError: no lamps")
    assert json.loads(json.dumps(first.as_dict()))["traceback"] == first.traceback
    assert "ValueError: no lamps" in tracebacks_text([first])
    assert len(failures.latest(1)) == 1


def test_no_object_of_the_services_is_kept() -> None:
    """Neither the exception, nor a frame, nor what an event carries."""
    local = Deferred[None]()
    error = UnprintableError("no lamps")
    gone = weakref.ref(local), weakref.ref(error)

    def log_it(log: Logger, local: object, error: Exception) -> None:
        try:
            _raise(error, local)
        except Exception:
            log.failure("at {local}", local=local)

    failures = Failures()
    log_it(Logger(namespace="shop", observer=failures), local, error)
    del local, error
    gc.collect()
    assert [each() for each in gone] == [None, None]
    assert failures.latest(1)[0].message == "at <twisted.internet.defer.Deferred>"


def test_failures_are_bounded() -> None:
    """The latest are kept, long texts are cut, a hostile one does no harm."""
    failures = _logged(*[_fail(ValueError("x" * 10_000))] * (KEPT + 5), _fail(UnprintableError()))
    listing = failures.latest(1000)
    assert (len(listing), listing.total) == (KEPT, KEPT + 6)
    assert listing[0].text == "<an exception whose str raised RuntimeError>"
    assert len(listing[1].text) == 500
    assert f"the latest {KEPT} are kept" in str(listing)


def test_a_failure_without_a_traceback() -> None:
    """One that was cleaned, or never raised, has as much as is left of it."""
    cleaned = Failure(ValueError("no lamps"))
    try:
        _raise(ValueError("no lamps"))
    except ValueError:
        cleaned = Failure()
    cleaned.cleanFailure()
    failures = _logged(
        lambda log: log.failure("", failure=cleaned),
        lambda log: log.failure("", failure=Failure(OSError(2, "no such lamp"))),
    )
    bare, shown = failures.latest(2)
    assert [frame.function for frame in shown.frames][-1] == "_raise"
    assert bare.frames == ()
    assert bare.traceback.startswith("FileNotFoundError: [Errno 2]")


def test_the_manhole_listens_to_the_log_while_it_is_started(tmp_path: Path) -> None:
    """Its observer comes with start and goes with stop."""
    (tmp_path / "authorized_keys").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBd6VCmGyBNkjAJ6nHcJ3dHbXCwnX0lKBmUzSFPNZ1Q a\n"
    )
    (tmp_path / "authorized_keys").chmod(0o600)
    tmp_path.chmod(0o700)
    manhole = Manhole(SimpleNamespace(reactor=MemoryReactorClock()), f"unix:{tmp_path}/s", tmp_path)
    before = list(globalLogPublisher._observers)
    manhole.start()
    manhole.start()
    assert len(globalLogPublisher._observers) == len(before) + 1
    manhole.stop()
    assert list(globalLogPublisher._observers) == before


def test_tables_are_text_and_data() -> None:
    """A table prints with a line that sums up; its data is fit for JSON, what is left out too."""
    rows = (Class("shop.Order", 1200, 7), Class("dict", 30, -1))
    listing = Objects("objects", rows, 1250, classes=3, notes=("30 frozen",))
    text = str(listing)
    assert "1,200       +7   shop.Order" in text
    assert text.endswith("1,250 objects of 3 classes; 20 not shown\n30 frozen")
    data = json.loads(json.dumps(listing.as_dict()))
    assert data["objects"][0] == {"name": "shop.Order", "count": 1200, "growth": 7}
    assert (data["total"], data["left_out"], data["notes"]) == (1250, 20, ["30 frozen"])


def test_what_was_not_looked_at_is_not_none() -> None:
    """A table that could not be made says why, and has no number."""
    listing = Objects("objects", (), None, notes=("not looked at: too many",))
    assert str(listing) == "not looked at: too many"
    assert (listing.as_dict()["total"], listing.left_out) == (None, 0)


def test_what_a_stranger_chose_cannot_move_the_cursor() -> None:
    """Control characters in names and texts are shown as question marks."""
    rows = (Class("a\x1b[2Jb\x07", 1),)
    assert "a?[2Jb?" in str(Objects("objects", rows, 1, classes=1))
    thread = Thread(
        "serves a\x1b[2J", 1, 1, daemon=True, state="", function=None, cpu_seconds=0, frames=()
    )
    assert "\x1b" not in str(Threads("threads", (thread,), 1))


def test_threads_show_the_pool_and_each_stack_once() -> None:
    """Those that stand at the same place share their stack; how they got there is folded."""
    frames = (
        Frame("_bootstrap", "<frozen start>", 1),
        Frame("work", "/shop/till.py", 7),
    )
    rows = tuple(
        Thread(f"t{n}", n, n, True, "working", Function("work", "/shop/till.py", 1), 0.5, frames)
        for n in range(6)
    )
    pool = Pool("reactor", 10, 6, 0, 3)
    text = str(Threads("threads", rows, 6, (("working", 6),), pool=pool))
    assert "pool reactor: 6 of at most 10 threads work, 0 are idle, 3 calls are queued" in text
    assert text.count("till.py") == 7
    assert 't0, t1, t2, t3 and 2 more:\n  … 1 frame\n  File "/shop/till.py"' in text


def test_ages_that_are_not_known_exactly() -> None:
    """A bound is shown as one."""
    row = Reader(
        7, "Server", "shop.Till", tls=True, waits="r", peer="10.0.0.7:1", age_at_least_seconds=7300
    )
    text = str(Listing("readers", (row,), 1))
    assert "Till (TLS)   10.0.0.7:1   > 2 h" in text


def test_the_consoles_functions_and_the_operators_names() -> None:
    """They are there without an import, and a name of the operator's goes before."""
    around = Around(FakeReactor(), Failures())
    interpreter = Interpreter(object(), {"tasks": 3}, around=around.functions())
    (step,) = interpreter.read("threads()")
    assert interpreter.at_once(step)
    assert step.looks_around
    for source in ("tasks()", "x = threads()"):
        (step,) = interpreter.read(source)
        assert not interpreter.at_once(step)
    interpreter.namespace["threads"] = print
    (step,) = interpreter.read("threads()")
    assert not interpreter.at_once(step)
    assert set(around.functions()) == set(NAMES)


def test_mistakes_are_named() -> None:
    """What can't be asked is a ValueError that says what can."""
    around = Around(FakeReactor(), Failures())
    with pytest.raises(ValueError, match="by must be one of fd, idle, received"):
        around.readers(by="age")
    with pytest.raises(ValueError, match="type must be a class or its name, not a int"):
        around.objects(3)  # type: ignore[arg-type]
