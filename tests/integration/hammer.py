"""A service that is interrupted at arbitrary moments. Run as `python hammer.py REACTOR COUNT`.

Its application computes, sleeps, blocks, schedules, fires Deferreds, logs and talks over a socket,
all of it as pauses, while another thread breaks one pause after the other. Tells `hammered`, and
what became of it.
"""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from support import emit, install_reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger, globalLogBeginner
from zope.interface import provider

from txwatchdog import Interrupted, Watchdog

LATER = 40  # timed calls that wait all the while
PATIENCE = 100.0
_log = Logger()


class Echo(Protocol):
    """Sends back what it gets, after some computing."""

    def dataReceived(self, data: bytes) -> None:
        compute(0.003)
        assert self.transport is not None
        self.transport.write(data)


def compute(seconds: float) -> int:
    """Keep Python busy."""
    until, n = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        n += sum(range(20))
    return n


class Service:
    """What is hammered."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.turns = 0
        self.fired = 0
        self.failures: list[Any] = []
        self.works: list[Callable[[], object]] = [
            partial(compute, 0.004),
            partial(time.sleep, 0.004),
            self.schedule,
            self.log,
            self.fire,
            self.generate,
            self.block,
            self.call_threads,
        ]

    def schedule(self) -> None:
        for _ in range(200):
            self.reactor.callLater(0.001, int)
        for _ in range(200):
            self.reactor.callLater(100, int).cancel()

    def log(self) -> None:
        for n in range(100):
            _log.info("number {n}", n=n)

    def fire(self) -> None:
        for _ in range(30):
            done: Deferred[int] = Deferred()
            for _ in range(10):
                done.addCallback(lambda value: value)
            done.addErrback(lambda _failure: None)
            done.callback(compute(0.0001))

    @inlineCallbacks
    def generate(self) -> Generator[Deferred[Any], Any, None]:
        for _ in range(10):
            yield succeed(None)
            compute(0.0005)
        yield deferLater(self.reactor, 0, int)
        compute(0.003)

    def block(self) -> None:
        try:
            queue.Queue[int]().get(timeout=0.004)
        except queue.Empty:
            pass

    def call_threads(self) -> None:
        for _ in range(200):
            self.reactor.callFromThread(int)

    def turn(self) -> None:
        """One pause: a few works, one after the other."""
        self.turns += 1
        for _ in range(random.randrange(1, 4)):
            random.choice(self.works)()

    def waited(self) -> None:
        """A timed call that was there all the while."""
        self.fired += 1

    def observer(self) -> Any:
        @provider(ILogObserver)
        def observe(event: Any) -> None:
            if event.get("log_failure") is not None:
                self.failures.append(event["log_failure"])

        return observe


def where(failure: Any) -> tuple[str, str]:
    """The file that an exception was raised in, above the handler's, and its kind."""
    from txwatchdog.blame import here

    files, tb = [], failure.getTracebackObject()
    while tb is not None:
        files.append(tb.tb_frame.f_code.co_filename)
        tb = tb.tb_next
    while files and here().kind(files[-1]) == "ours":
        files.pop()
    return (files[-1], here().kind(files[-1])) if files else ("", "")


def hammer(service: Service, watchdog: Watchdog, count: int) -> None:
    """Interrupt again and again, at any moment; then see that all is well. In a thread."""
    reactor, outcomes = service.reactor, dict[str, int]()
    until = time.monotonic() + PATIENCE
    longest, posted = 0.0, 0
    while outcomes.get("interrupted", 0) < count and time.monotonic() < until:
        if posted - service.turns < 3:
            posted += 1
            reactor.callFromThread(service.turn)
        time.sleep(random.random() * 0.004)
        began = time.monotonic()
        outcome = watchdog.interrupt(confirm=True).outcome
        longest = max(longest, time.monotonic() - began)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    alive = threading.Event()
    reactor.callFromThread(reactor.callLater, 0.01, alive.set)
    is_alive = alive.wait(30)
    while service.fired < LATER and time.monotonic() < until + 30:
        for call in list(service.waiting):  # type: ignore[attr-defined]
            reactor.callFromThread(lambda call=call: call.active() and call.reset(0))
        time.sleep(0.1)
    ours = [failure for failure in service.failures if failure.check(Interrupted)]
    emit(
        "hammered",
        outcomes=outcomes,
        alive=is_alive,
        fired=service.fired,
        turns=service.turns,
        logged=len(ours),
        places=sorted({where(failure) for failure in ours}),
        others=[str(f.value) + f.getTraceback() for f in service.failures if f not in ours][:3],
        pauses=watchdog.stats()["pauses"],
        error=watchdog.status().error,
        longest=longest,
    )
    reactor.callFromThread(reactor.stop)


def main() -> None:
    """Run."""
    reactor = install_reactor(sys.argv[1])
    service = Service(reactor)
    globalLogBeginner.beginLoggingTo([service.observer()], redirectStandardIO=False)
    watchdog = Watchdog(reactor, threshold=0.0005)
    watchdog.start()
    service.waiting = [reactor.callLater(1000, service.waited) for _ in range(LATER)]  # type: ignore[attr-defined]
    talk(service)
    thread = threading.Thread(target=hammer, args=(service, watchdog, int(sys.argv[2])))
    reactor.callWhenRunning(thread.start)
    reactor.run()
    thread.join()
    watchdog.stop()
    import signal

    emit("ended", handler=str(signal.getsignal(signal.SIGURG)))
    sys.stdout.flush()
    os._exit(0)


def talk(service: Service) -> None:
    """Have a client and a server of the service's own exchange something all the while."""
    import socket

    port = service.reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
    address = ("127.0.0.1", port.getHost().port)

    def chat() -> None:
        while True:  # each interruption costs a connection
            try:
                with socket.create_connection(address, timeout=0.2) as client:
                    while True:
                        client.sendall(b"x" * 100)
                        client.recv(100)
                        time.sleep(0.002)
            except OSError:
                time.sleep(0.005)

    threading.Thread(target=chat, daemon=True).start()


if __name__ == "__main__":
    main()
