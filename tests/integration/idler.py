"""A service that only waits, watched. Run as `python idler.py REACTOR`; a line on stdin begins."""

from __future__ import annotations

import signal
import socket
import sys
import threading

from support import emit, install_reactor, patiently

from txwatchdog import Watchdog

THRESHOLD = 0.2
WAKES = 25
"""So often the watch thread wakes in 5 s if there is nothing to see."""


def main(name: str) -> None:
    """Wait on the reactor called `name`, and tell what the watchdog made of it."""
    reactor = install_reactor(name)
    watchdog = Watchdog(reactor, THRESHOLD)
    # Python writes the number of each signal that has a handler to this socket.
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)

    def wait() -> None:
        sys.stdin.readline()
        watchdog.reset()
        reactor.callFromThread(signal.set_wakeup_fd, near.fileno(), warn_on_full_buffer=False)
        first = watchdog.status()
        patiently(lambda: watchdog.status().wakes >= first.wakes + WAKES, "the thread wakes")
        status = watchdog.status()
        reactor.callFromThread(signal.set_wakeup_fd, -1)
        emit(
            "stats",
            stats=watchdog.stats(),
            pauses=[str(pause) for pause in watchdog.pauses()],
            rings=dict(status.rings),
            samples=status.samples - first.samples,
            error=status.error,
        )
        reactor.callFromThread(finish)

    def finish() -> None:
        try:
            signals = list(far.recv(10_000))
        except BlockingIOError:
            signals = []
        emit("signals", alarms=signals.count(signal.SIGALRM))
        reactor.stop()

    def begin() -> None:
        emit("ready")
        threading.Thread(target=wait).start()

    watchdog.start()
    reactor.callWhenRunning(begin)
    reactor.run()
    near.close()
    far.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
