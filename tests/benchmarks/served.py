"""A child: a server to be measured, with a method that is put on and off by word.

    served.py SERVER REACTOR METHOD THRESHOLD

Says its port; then to each line on its standard input (on, off, cpu) what CPU time the reactor's
thread and the process have had. On the asyncio reactor the method is put on with the loop running.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

from benchmarks.methods import METHODS


class Echo(LineReceiver):
    """Sends each line back."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line)  # type: ignore[no-untyped-call]


def listen(server: str, reactor: Any) -> int:
    """Serve; returns the port."""
    if server == "echo":
        factory: Any = Factory.forProtocol(Echo)
    else:
        from twisted.web.resource import Resource
        from twisted.web.server import Site

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: object) -> bytes:
                return b"x" * 1000

        factory = Site(Page())  # type: ignore[no-untyped-call]
    port: int = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    return port


class Control(LineReceiver):
    """Whoever measures."""

    delimiter = b"\n"

    def __init__(self, reactor: Any, method: Any, port: int) -> None:
        self._reactor = reactor
        self._method = method
        self._port = port

    def connectionMade(self) -> None:
        self._say(port=self._port)

    def lineReceived(self, line: bytes) -> None:
        if line in {b"on", b"off"}:
            getattr(self._method, line.decode())()
        # In a tick of its own, so that whatever was begun is under way.
        self._reactor.callLater(0.01, self._tell)

    def _tell(self) -> None:
        if not self._method.settled:
            self._reactor.callLater(0.01, self._tell)
            return
        watchdog = getattr(self._method, "watchdog", None)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._say(
            thread_ns=time.thread_time_ns(),
            process_ns=time.process_time_ns(),
            wakes=watchdog.status().wakes if watchdog else 0,
            switches=usage.ru_nvcsw,
            pid=os.getpid(),
        )

    def _say(self, **words: object) -> None:
        sys.__stdout__.write(json.dumps(words) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]

    def connectionLost(self, reason: object = None) -> None:
        self._reactor.stop()


def main(server: str, reactor_name: str, method: str, threshold: str) -> None:
    """Serve until the standard input ends."""
    from twisted.internet import asyncioreactor, epollreactor

    (asyncioreactor if reactor_name == "asyncio" else epollreactor).install()
    from twisted.internet import reactor as running

    reactor: Any = running
    chosen = METHODS[method](reactor, float(threshold), lambda _: None)
    control = Control(reactor, chosen, listen(server, reactor))
    # Not the standard output: what is said goes there in one piece, and at once.
    silent = os.open(os.devnull, os.O_WRONLY)
    stdio: Any = StandardIO
    reactor.callWhenRunning(lambda: stdio(control, stdout=silent, reactor=reactor))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
