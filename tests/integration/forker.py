"""A service that is watched before it forks, as twistd does to become a daemon.

Run as `python forker.py REACTOR`. The child runs the reactor, and tells what is seen of a pause.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

from support import emit, install_reactor


def block() -> None:
    """Pause the reactor."""
    time.sleep(0.3)


def run_a_loop_of_its_own() -> None:
    """Pause the reactor by running another loop to its end."""
    asyncio.run(asyncio.sleep(0.3))


def main() -> None:
    """Watch, fork, and pause in the child."""
    reactor = install_reactor(sys.argv[1])
    from txwatchdog import Watchdog

    watchdog = Watchdog(reactor, threshold=0.1)
    watchdog.start()
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def tell() -> None:
        emit("rings", rings=dict(watchdog.status().rings))
        emit("offenders", names=[row.function for row in watchdog.top()])
        emit("causes", causes=sorted({pause.cause for pause in watchdog.pauses()}))
        watchdog.stop()
        emit("stopped", threads=[thread.name for thread in threading.enumerate()])
        reactor.stop()

    pauses = [block] if sys.argv[1] == "asyncio" else [block, run_a_loop_of_its_own]
    for number, pause in enumerate(pauses):
        reactor.callLater(0.3 + number, pause)
    reactor.callLater(2.5, tell)
    reactor.run()


if __name__ == "__main__":
    main()
