"""A child: a service with a console in it, that pauses when told.

    consoled.py ours|stock|bare|manhole|aiomonitor KEYS

Says how to reach its console. `sleep SECONDS` or `loop SECONDS` on its standard input pauses the
reactor for so long; it says so in the tick of the pause.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from support import install_reactor


def emit(event: str, **fields: object) -> None:
    """Tell the parent; not by `sys.stdout`, which python-manhole gives to whoever connects."""
    os.write(1, (json.dumps({"event": event, **fields}) + "\n").encode())


def serve_ours(reactor: Any, keys: str) -> None:
    """Txwatchdog's."""
    from txwatchdog import Watchdog
    from txwatchdog.manhole import Manhole

    watchdog = Watchdog(reactor)
    watchdog.start()
    manhole = Manhole(watchdog, endpoint="tcp:0:interface=127.0.0.1", keys=keys)
    manhole.start()

    def announce() -> None:
        address: Any = manhole.address
        emit("ready", port=address.port)

    reactor.callWhenRunning(announce)


def serve_stock(reactor: Any, keys: str) -> None:
    """Conch's, in the service's reactor."""
    from benchmarks.echo import stock_factory

    port = reactor.listenTCP(0, stock_factory(keys), interface="127.0.0.1")
    reactor.callWhenRunning(lambda: emit("ready", port=port.getHost().port))


def serve_bare(reactor: Any, keys: str) -> None:
    """Conch's login and no console: what is to be run is never run, and ends well.

    Nothing of it waits for an acknowledgement (Nagle's algorithm), which a kernel may put off for
    40 ms.
    """
    from twisted.conch.avatar import ConchUser
    from twisted.conch.ssh.channel import SSHChannel
    from twisted.conch.ssh.transport import SSHServerTransport

    from benchmarks.echo import conch_factory

    class Session(SSHChannel):
        name = b"session"
        conn: Any

        def request_exec(self, _command: bytes) -> bool:
            reactor.callLater(0, self.end)  # after the answer
            return True

        def end(self) -> None:
            self.conn.sendRequest(self, b"exit-status", bytes(4))
            self.conn.sendEOF(self)
            self.loseConnection()  # type: ignore[no-untyped-call]

    class Transport(SSHServerTransport):
        transport: Any

        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)
            super().connectionMade()  # type: ignore[no-untyped-call]

    class Realm:
        def requestAvatar(self, _who: object, _mind: object, *interfaces: Any) -> Any:
            user: Any = ConchUser()
            user.channelLookup[b"session"] = Session
            return interfaces[0], user, lambda: None

    factory = conch_factory(keys, Realm())
    factory.protocol = Transport
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    reactor.callWhenRunning(lambda: emit("ready", port=port.getHost().port))


def serve_manhole(reactor: Any, keys: str) -> None:
    """python-manhole's, on a Unix socket."""
    path = str(Path(keys) / f"manhole-{os.getpid()}.socket")
    manhole: Any = importlib.import_module("manhole")
    manhole.install(socket_path=path, daemon_connection=True, verbose=False)
    reactor.callWhenRunning(lambda: emit("ready", path=path))


def serve_aiomonitor(reactor: Any, _keys: str) -> None:
    """aiomonitor's, by telnet, in a thread of its own."""
    aiomonitor: Any = importlib.import_module("aiomonitor")

    port, webui_port, console_port = free_ports(3)
    monitor = aiomonitor.Monitor(
        reactor._asyncioEventloop,
        termui_port=port,
        webui_port=webui_port,
        console_port=console_port,
        console_enabled=False,
    )

    def begin() -> None:
        monitor.start()
        emit("ready", port=port)

    reactor.callLater(0, begin)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def obey(reactor: Any) -> None:
    """Pause as told. In a thread of its own."""

    def pause(kind: str, seconds: float) -> None:
        emit("pausing")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if kind == "sleep":
                time.sleep(seconds)

    for line in sys.stdin:
        kind, seconds = line.split()
        reactor.callFromThread(pause, kind, float(seconds))


def main(which: str, keys: str) -> None:
    """Serve."""
    reactor = install_reactor("asyncio" if which == "aiomonitor" else "epoll")
    globals()[f"serve_{which}"](reactor, keys)
    threading.Thread(target=obey, args=(reactor,), daemon=True).start()
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
