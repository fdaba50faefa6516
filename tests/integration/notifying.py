"""A service under what stands for systemd: run as a program of its own.

Usage: notifying.py REACTOR. It pauses when told `pause`, until it is told `resume`; `quit` ends it.
"""

from __future__ import annotations

import os
import sys
from typing import Any, cast

from support import emit, install_reactor
from twisted.application.service import IServiceCollection, MultiService

from txwatchdog.service import WatchdogService

reactor: Any = install_reactor(sys.argv[1])


def read_word() -> str:
    """The next word on standard input; waits for it."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1) or b"quit\n"
    return line.decode().strip()


def wait_for_approval() -> None:
    """Pause until told otherwise."""
    emit("paused")
    read_word()
    emit("resumed")


class Input:
    """Standard input, as the reactor reads it."""

    def fileno(self) -> int:
        return 0

    def doRead(self) -> None:
        if read_word() == "pause":
            reactor.callLater(0, wait_for_approval)
        else:
            reactor.removeReader(self)
            reactor.stop()

    def connectionLost(self, reason: object) -> None:
        """The reactor ends."""

    def logPrefix(self) -> str:
        return "input"


root = MultiService()
watched: Any = WatchdogService(reactor, threshold=0.2, manhole=None)
watched.setServiceParent(cast(IServiceCollection, root))
root.startService()
reactor.addSystemEventTrigger("before", "shutdown", root.stopService)
reactor.callWhenRunning(reactor.addReader, Input())
reactor.callWhenRunning(emit, "running")
reactor.run()
emit("ended")
