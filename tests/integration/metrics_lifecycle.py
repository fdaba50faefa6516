"""Starts and stops a metrics server at every moment of a reactor's life; a program of its own.

Usage: metrics_lifecycle.py REACTOR. It fails by an exception, and says "passed" otherwise.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from support import emit, install_reactor, patiently


def left() -> tuple[int, int]:
    """Threads and descriptors."""
    gc.collect()
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def scrape(server: Any) -> str:
    """What it serves."""
    with urlopen(f"http://127.0.0.1:{server.address.port}/metrics", timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def elsewhere(call: Callable[[], object], then: Callable[[], object]) -> None:
    """Call in another thread, and what is next in the reactor's."""
    reactor: Any = sys.modules["twisted.internet.reactor"]

    def run() -> None:
        call()
        reactor.callFromThread(then)

    threading.Thread(target=run).start()


def main(reactor_name: str) -> None:
    """Live through it."""
    # Whatever is left open and collected would be said on stderr, which must stay empty.
    warnings.simplefilter("error")
    reactor = install_reactor(reactor_name)
    from txwatchdog import Watchdog
    from txwatchdog.metrics import MetricsServer

    watchdog = Watchdog(reactor)
    server = MetricsServer(watchdog, "tcp:0")
    assert server.address is None
    server.stop()  # never started
    server.start()
    server.stop()
    before = left()
    for _ in range(3):  # before the reactor runs
        server.start()
        address = server.address
        server.start()
        assert address == server.address
        server.stop()
        server.stop()
        assert server.address is None
        assert left() == before, (left(), before)
    server.start()
    if pid := os.fork():  # as a daemon does: it goes on in the child
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    watchdog.start()
    steps = run_steps(reactor, server)
    reactor.callWhenRunning(next, steps)
    reactor.run()
    assert list(steps) == []
    assert server.address is None
    assert threading.active_count() == 1, threading.enumerate()
    server.stop()
    emit("passed")


def run_steps(reactor: Any, server: Any) -> Iterator[None]:
    """Goes on at each yield once what was waited for has happened, and to the end at least."""

    def go_on() -> None:
        reactor.callLater(0, next, steps, None)

    def to_the_end() -> Iterator[None]:
        try:
            yield from _steps(server, go_on)
        finally:
            reactor.callLater(0, reactor.stop)

    steps = to_the_end()
    return steps


def _steps(server: Any, go_on: Callable[[], None]) -> Iterator[None]:
    assert "txwatchdog_running 1.0" in scrape(server)  # in the reactor's thread, so during a tick
    server.stop()
    seen = []
    for _ in range(3):
        server.start()
        assert "txwatchdog_running 1.0" in scrape(server)
        server.stop()
        seen.append(left())
    assert len(set(seen)) == 1, seen
    server.start()
    elsewhere(server.stop, go_on)
    yield
    assert server.address is None
    server.start()
    address: Any = server.address
    server._endpoint = f"tcp:{address.port}"
    server.stop()
    server.start()  # finds the address free
    _fork_and_look(server)


def _fork_and_look(server: Any) -> None:
    """A child that is forked while it serves holds neither the socket nor a connection."""
    port = server.address.port
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET /metrics")
        assert "txwatchdog_running 1.0" in scrape(server)  # so the first one is being served
        told, tell = os.pipe()
        until, go_on = os.pipe()
        if not (pid := os.fork()):
            os.close(go_on)
            os.write(tell, str(server.address).encode())
            os.read(until, 1)
            server.stop()
            os._exit(0)
        assert os.read(told, 100) == b"None"
        assert "txwatchdog_running 1.0" in scrape(server)
        server.stop()
        assert client.recv(1) == b""
        patiently(lambda: _is_refused(port), "nobody listens any more")
    os.close(go_on)
    os.waitpid(pid, 0)
    for each in (told, tell, until):
        os.close(each)
    server.start()


def _is_refused(port: int) -> bool:
    try:
        urlopen(f"http://127.0.0.1:{port}/", timeout=60).close()
    except URLError:
        return True
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
