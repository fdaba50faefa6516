"""A service whose clock of the day is set, by a library that stands before the C library's.

Run as `python jumper.py`, with what `test_clock_jumps.py` compiles preloaded.
"""

from __future__ import annotations

import ctypes
import threading
import time
from datetime import datetime, timezone

from support import emit, install_reactor, patiently

from txwatchdog import Pause, Watchdog

THRESHOLD = 0.1
DOZE = 0.3
HOUR = 3600


def doze() -> None:
    """Pause the reactor."""
    time.sleep(DOZE)


def dozes(watchdog: Watchdog) -> list[Pause]:
    """The pauses that were sampled in it, newest first."""
    return [
        pause
        for pause in watchdog.pauses(100)
        if any(frame.function == "doze" for sample in pause.samples for frame in sample.frames)
    ]


def await_wakes(watchdog: Watchdog, wakes: int) -> None:
    """Wait until the watch thread has woken so often."""
    enough = watchdog.status().wakes + wakes
    patiently(lambda: watchdog.status().wakes >= enough, "it wakes")


def await_dozes(watchdog: Watchdog, number: int) -> None:
    """Wait until so many pauses have been seen."""
    patiently(lambda: len(dozes(watchdog)) == number, "the pause is seen")


def main() -> None:
    """Set the clock forth and back, and pause each time."""
    set_clock = ctypes.CDLL(None).set_clock
    reactor = install_reactor("epoll")
    watchdog = Watchdog(reactor, THRESHOLD)

    def conduct() -> None:
        # From a thread: Twisted's own timed calls go by the clock of the day.
        for number, hours in enumerate((0, 1, 0, -1, 0), start=1):
            set_clock(hours * HOUR)
            await_wakes(watchdog, 3)
            reactor.callFromThread(doze)
            await_dozes(watchdog, number)
            pause = dozes(watchdog)[0]
            now = datetime.now(timezone.utc)
            emit(
                "pause",
                hours=hours,
                duration=pause.duration,
                ago=(now - pause.started_at).total_seconds(),
                cause=pause.cause,
            )
        status = watchdog.status()
        emit("status", error=status.error, utilisation=status.utilisation, lost=status.lost)
        reactor.callFromThread(reactor.stop)

    watchdog.start()
    reactor.callWhenRunning(threading.Thread(target=conduct).start)
    reactor.run()


if __name__ == "__main__":
    main()
