"""A service that pauses in every way that is known, and says what the watchdog saw of it.

Run as `python kinds.py REACTOR`, or with the names of kinds and places after it for these only.
Each kind is a function of its own, to be blamed by name; those that compute are made, before the
reactor runs, of a size that takes about `CPU_SECONDS` of this machine.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import math
import mmap
import os
import random
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from support import emit, install_reactor
from twisted.internet.defer import Deferred, ensureDeferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall, deferLater

from txwatchdog import Pause, Watchdog
from txwatchdog.blame import blame_samples

THRESHOLD = 0.2
BLOCKED_SECONDS = 0.4
CPU_SECONDS = 0.5
HELD_SECONDS = 0.75
"""For those that only SIGALRM can look into: time enough for it to come late."""
BRIEF_SECONDS = 0.05
"""Below the threshold: nothing is to be said of it."""

Work: TypeAlias = Callable[[], object]

MAKERS: dict[str, Callable[[], Work]] = {}
"""The kinds: a function's name -> what makes that function."""


def kind(maker: Callable[[], Work]) -> Callable[[], Work]:
    """Enter what makes a function of the same name."""
    MAKERS[maker.__name__.removeprefix("_make_")] = maker
    return maker


def size_for(
    seconds: float, work: Callable[[int], object], size: int, exponent: float = 1.0
) -> int:
    """The size at which `work` takes `seconds`, where its time grows with `size ** exponent`.

    In CPU time, so that a loaded machine can't make it come out too small.
    """
    for _ in range(30):
        began = time.thread_time()
        work(size)
        took = time.thread_time() - began
        if took > seconds / 12:
            return int(size * (seconds / took) ** (1 / exponent))
        size *= 2
    raise AssertionError(f"its time does not grow with its size: {work}")


def after(seconds: float, call: Work) -> None:
    """Call `call` in another thread."""
    threading.Timer(seconds, call).start()


# -- kinds that release the GIL ---------------------------------------------------------------


@kind
def _make_time_sleep() -> Work:
    def time_sleep() -> None:
        time.sleep(BLOCKED_SECONDS)

    return time_sleep


@kind
def _make_blocking_recv() -> Work:
    def blocking_recv() -> None:
        near, far = socket.socketpair()
        with near, far:
            after(BLOCKED_SECONDS, partial(far.send, b"at last"))
            near.recv(100)

    return blocking_recv


@kind
def _make_lock_acquire() -> Work:
    def lock_acquire() -> None:
        lock = threading.Lock()
        lock.acquire()
        after(BLOCKED_SECONDS, lock.release)
        lock.acquire()

    return lock_acquire


@kind
def _make_lock_acquire_timeout() -> Work:
    def lock_acquire_timeout() -> None:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire(timeout=BLOCKED_SECONDS)

    return lock_acquire_timeout


@kind
def _make_event_wait() -> Work:
    def event_wait() -> None:
        threading.Event().wait(BLOCKED_SECONDS)

    return event_wait


@kind
def _make_subprocess_run() -> Work:
    def subprocess_run() -> None:
        subprocess.run(["sleep", str(BLOCKED_SECONDS)], check=True)

    return subprocess_run


@kind
def _make_sqlite_query() -> Work:
    connection = sqlite3.connect(":memory:")
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?)"

    def query(rows: int) -> object:
        return connection.execute(count + " SELECT sum(i) FROM n", [rows]).fetchall()

    rows = size_for(CPU_SECONDS, query, 10_000)

    def sqlite_query() -> None:
        connection.execute(count + " SELECT sum(i) FROM n", [rows]).fetchall()

    return sqlite_query


@kind
def _make_hash_buffer() -> Work:
    # Pages of zeros that nobody writes to take no memory.
    everything = mmap.mmap(-1, 1 << 33, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = memoryview(everything)
    size = size_for(CPU_SECONDS, lambda size: hashlib.sha3_512(view[:size]), 1 << 20)

    def hash_buffer() -> None:
        hashlib.sha3_512(view[:size])

    return hash_buffer


@kind
def _make_compress_buffer() -> Work:
    noise = random.randbytes(1 << 16)  # zlib looks back half as far, so it may be repeated

    def buffer_of(blocks: int) -> bytes:
        return noise * blocks

    buffer = buffer_of(size_for(CPU_SECONDS, lambda blocks: zlib.compress(buffer_of(blocks), 9), 4))

    def compress_buffer() -> None:
        zlib.compress(buffer, 9)

    return compress_buffer


@kind
def _make_fifo_without_writer() -> Work:
    path = Path(tempfile.mkdtemp()) / "fifo"
    os.mkfifo(path)

    def open_for_writing() -> None:
        path.open("wb").close()

    def fifo_without_writer() -> None:
        after(BLOCKED_SECONDS, open_for_writing)
        os.close(os.open(path, os.O_RDONLY))

    return fifo_without_writer


@kind
def _make_sleep_in_del() -> Work:
    class Connection:
        def __del__(self) -> None:
            time.sleep(BLOCKED_SECONDS)

    def sleep_in_del() -> None:
        connection = Connection()
        del connection

    return sleep_in_del


# -- kinds that run Python code ---------------------------------------------------------------


@kind
def _make_python_loop() -> Work:
    def python_loop() -> None:
        end = time.monotonic() + CPU_SECONDS
        total = 0
        while time.monotonic() < end:
            for number in range(1000):
                total += number

    return python_loop


def helper(number: int) -> int:
    """What the next kind calls all the time: the innermost function of application code."""
    total = 0
    for digit in range(number % 20):
        total += digit * digit
    return total


@kind
def _make_hot_helper_loop() -> Work:
    def hot_helper_loop() -> None:
        end = time.monotonic() + CPU_SECONDS
        while time.monotonic() < end:
            for number in range(100):
                helper(number)

    return hot_helper_loop


@kind
def _make_heavy_import() -> Work:
    folder = Path(tempfile.mkdtemp())
    (folder / "heavy_module.py").write_text(
        "import time\n"
        f"end = time.monotonic() + {CPU_SECONDS}\n"
        "table = {}\n"
        "while time.monotonic() < end:\n"
        "    table[len(table) % 1000] = [str(n) for n in range(100)]\n"
    )
    sys.path.append(str(folder))

    def heavy_import() -> None:
        importlib.import_module("heavy_module")

    return heavy_import


# -- kinds that hold the GIL, in C that looks for signals ----------------------------------------


@kind
def _make_catastrophic_regex() -> Work:
    def subject(letters: int) -> str:
        return "a" * letters + "b"

    letters = 10  # each one more doubles the time
    began = time.thread_time()
    while (took := time.thread_time() - began) < CPU_SECONDS / 16:
        letters += 1
        began = time.thread_time()
        re.match("(a+)+$", subject(letters))
    letters += math.ceil(math.log2(HELD_SECONDS / took))

    def catastrophic_regex() -> None:
        re.match("(a+)+$", subject(letters))

    return catastrophic_regex


def exponent_for(seconds: float) -> int:
    """The power of three that takes `seconds` to compute (Karatsuba's method)."""
    return size_for(seconds, lambda size: pow(3, size), 10_000, math.log2(3))


@kind
def _make_int_power() -> Work:
    exponent = exponent_for(HELD_SECONDS)

    def int_power() -> None:
        3**exponent

    return int_power


# -- kinds that hold the GIL, and do not look ----------------------------------------------------


@kind
def _make_json_dumps() -> Work:
    def numbers(size: int) -> list[float]:
        return [number * math.pi for number in range(size)]

    values = numbers(size_for(CPU_SECONDS, lambda size: json.dumps(numbers(size)), 10_000))

    def json_dumps() -> None:
        json.dumps(values)

    return json_dumps


@kind
def _make_sort_list() -> Work:
    def pairs(size: int) -> list[tuple[float, int]]:
        return [(random.random(), number) for number in range(size)]

    def shuffled(size: int) -> object:
        return sorted(pairs(size))

    # Making the list is part of what is measured, and much the lesser one.
    values = pairs(size_for(1.3 * CPU_SECONDS, shuffled, 10_000, 1.1))

    def sort_list() -> None:
        sorted(values)

    return sort_list


@kind
def _make_gc_collect() -> Work:
    gc.collect()
    gc.freeze()  # all else is no part of the heap that is measured
    leaves: list[list[Any]] = [[] for _ in range(1_000_000)]
    mixed = random.choices(leaves, k=500_000)  # in an order that caches can't foresee
    heap: list[list[Any]] = []

    def collected() -> float:
        began = time.thread_time()
        gc.collect()
        return time.thread_time() - began

    took = 0.0
    while took < CPU_SECONDS / 12:
        heap += [list(mixed) for _ in range(1 + len(heap))]
        took = min(collected() for _ in range(3))  # the first one finds the caches cold
    heap += [list(mixed) for _ in range(int(len(heap) * (CPU_SECONDS / took - 1)))]
    gc.freeze()  # until then: the other kinds' own collections are not to be slow

    def gc_collect() -> None:
        assert heap
        gc.unfreeze()
        gc.collect()

    return gc_collect


# -- below the threshold -------------------------------------------------------------------------


@kind
def _make_brief_sleep() -> Work:
    def brief_sleep() -> None:
        time.sleep(BRIEF_SECONDS)

    return brief_sleep


@kind
def _make_brief_loop() -> Work:
    def brief_loop() -> None:
        end = time.monotonic() + BRIEF_SECONDS
        while time.monotonic() < end:
            pass

    return brief_loop


# -- from where -----------------------------------------------------------------------------------


class Call:
    """One pause on purpose: its body is timed, and `finished` fires in a later tick.

    Args:
        reactor: the reactor.
        name: of the kind, or of the place and what is called there.
        work: what pauses.

    Attributes:
        asked_ns: when it was asked for, in an earlier tick.
    """

    def __init__(self, reactor: Any, name: str, work: Work) -> None:
        self.reactor = reactor
        self.name = name
        self.work = work
        self.finished: Deferred[None] = Deferred()
        self.asked_ns = 0
        self._began_ns = 0

    def __enter__(self) -> None:
        self._began_ns = time.monotonic_ns()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        ended_ns = time.monotonic_ns()
        # Twice: what a read event sends for is still called before the next wait, in its tick.
        later = self.reactor.callLater
        later(0, later, 0, self._report, self._began_ns, ended_ns)

    def _report(self, began_ns: int, ended_ns: int) -> None:
        emit(
            "call",
            name=self.name,
            asked_ns=self.asked_ns,
            began_ns=began_ns,
            ended_ns=ended_ns,
            over_ns=time.monotonic_ns(),
        )
        self.finished.callback(None)


def run_kind(call: Call) -> None:
    """A kind, in a function of its own, from a plain timed call."""
    with call:
        call.work()


def in_call_later(call: Call) -> None:
    """From a plain timed call."""
    with call:
        call.work()


@inlineCallbacks
def in_generator(call: Call) -> Generator[Deferred[None], None, None]:
    """From a generator that inlineCallbacks drives."""
    yield deferLater(call.reactor, 0)
    with call:
        call.work()


async def in_coroutine(call: Call) -> None:
    """From an async def that a Deferred drives."""
    await deferLater(call.reactor, 0)
    with call:
        call.work()


def in_callback(call: Call) -> None:
    """From a callback of a Deferred."""
    with call:
        call.work()


class Pausing(Protocol):
    """From a protocol."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def dataReceived(self, data: bytes) -> None:
        """Some bytes came."""
        assert self.transport is not None
        # In a later tick: a late sample must not find this one closing the connection.
        self._call.reactor.callLater(0, self.transport.loseConnection)
        with self._call:
            self._call.work()


def in_looping_call(call: Call, loop: LoopingCall) -> None:
    """From a LoopingCall."""
    with call:
        call.work()
    loop.stop()


def in_call_from_thread(call: Call) -> None:
    """From a call that another thread sent."""
    with call:
        call.work()


def begin_callback(call: Call) -> None:
    """Fire a Deferred with a callback."""
    deferred: Deferred[Call] = Deferred()
    deferred.addCallback(in_callback)
    call.reactor.callLater(0, deferred.callback, call)


def begin_data_received(call: Call) -> None:
    """Send a byte to a protocol."""
    port = call.reactor.listenTCP(
        0, Factory.forProtocol(partial(Pausing, call)), interface="127.0.0.1"
    )
    peer = socket.create_connection(("127.0.0.1", port.getHost().port))
    peer.send(b"!")

    def close(_: None) -> None:
        peer.close()
        port.stopListening()

    call.finished.addCallback(close)


def begin_looping_call(call: Call) -> None:
    """Start a LoopingCall."""
    loop = LoopingCall(in_looping_call, call)
    loop.a = (call, loop)
    loop.clock = call.reactor
    loop.start(0.01, now=False)


def begin_call_from_thread(call: Call) -> None:
    """Send a call from another thread."""
    threading.Thread(target=call.reactor.callFromThread, args=(in_call_from_thread, call)).start()


PLACES: dict[str, Callable[[Call], object]] = {
    "in_call_later": in_call_later,
    "in_generator": in_generator,
    "in_coroutine": lambda call: ensureDeferred(in_coroutine(call)),
    "in_callback": begin_callback,
    "dataReceived": begin_data_received,
    "in_looping_call": begin_looping_call,
    "in_call_from_thread": begin_call_from_thread,
}
"""The function that pauses -> what has it called."""


# -- the service ----------------------------------------------------------------------------------


def report(pause: Pause) -> None:
    """Tell what the watchdog saw. In the watch thread."""
    ago = (datetime.now(timezone.utc) - pause.started_at).total_seconds()
    began_ns = time.monotonic_ns() - round(ago * 1e9)
    if pause.samples:
        began_ns = pause.samples[0].tick_ns
    # Whom the samples point at: a pause that a loaded machine starved blames nobody for it.
    who, _ = blame_samples(pause.samples)
    emit(
        "pause",
        number=pause.number,
        began_ns=began_ns,
        duration=pause.duration,
        function=who.offender.function if who.offender else None,
        via=who.via,
        blamed=pause.offender.function if pause.offender else None,
        cause=pause.cause,
        traceback=pause.traceback,
        samples=[[s.at_ns, s.ring, s.frames[-1].function] for s in pause.samples],
    )


async def conduct(reactor: Any, watchdog: Watchdog, calls: list[tuple[Any, Call]]) -> None:
    """Have all calls made, each in a tick of its own."""
    emit("ready")
    for begin, call in calls:
        call.asked_ns = time.monotonic_ns()
        reactor.callLater(0.01, begin, call)
        await call.finished
    status = watchdog.status()
    watchdog.stop()  # which waits until all is reported
    emit("stats", stats=watchdog.stats(), status=str(status), error=status.error)


def main(name: str, *wanted: str) -> None:
    """Run the reactor called `name` until all `wanted` pauses are made."""
    reactor = install_reactor(name)
    calls: list[tuple[Any, Call]] = [
        (run_kind, Call(reactor, kind, maker()))
        for kind, maker in MAKERS.items()
        if kind in wanted or not wanted
    ]
    if not wanted or set(wanted) & set(PLACES):
        # Callables without a Python frame of their own: the place itself pauses.
        works: dict[str, Work] = {
            "sleep": partial(time.sleep, BLOCKED_SECONDS),
            "power": partial(pow, 3, exponent_for(HELD_SECONDS)),
        }
        calls += [
            (begin, Call(reactor, f"{place} {work}", works[work]))
            for place, begin in PLACES.items()
            for work in works
            if place in wanted or not wanted
        ]
    watchdog = Watchdog(reactor, THRESHOLD)
    watchdog.on_pause(report)
    watchdog.start()

    def begin() -> None:
        conducted = ensureDeferred(conduct(reactor, watchdog, calls))
        conducted.addErrback(lambda failure: emit("failed", traceback=failure.getTraceback()))
        conducted.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
