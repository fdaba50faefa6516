"""What `txwatchdog.testing.no_pauses` makes of blocks that pause, and of others."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from support import emit
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txwatchdog.testing import no_pauses

reactor: Any = _reactor


def fetch_user() -> None:
    """Pause."""
    time.sleep(0.3)


async def meanwhile() -> None:
    """Wait while something else pauses the reactor."""
    reactor.callLater(0.05, fetch_user)
    await deferLater(reactor, 0.1)


async def at_ease() -> None:
    """Take longer, but not at a time."""
    for _ in range(5):
        await deferLater(reactor, 0.06)


async def at_once() -> None:
    """Pause, in the block's own turn."""
    fetch_user()


async def fail() -> None:
    """Pause, and fail."""
    fetch_user()
    raise KeyError("lost")


async def story() -> None:
    """Try each."""
    for block in (at_once, meanwhile, at_ease, fail):
        try:
            with no_pauses(reactor, threshold=0.2):
                await block()
        except Exception as error:
            emit(block.__name__, kind=type(error).__name__, text=str(error))
        else:
            emit(block.__name__, kind=None, text="")
    emit("end", threads=[thread.name for thread in threading.enumerate()])
    reactor.stop()


async def elsewhere() -> None:
    """In a loop that is not the reactor's."""
    with no_pauses(reactor):
        pass


try:
    asyncio.run(elsewhere())
except RuntimeError as error:
    emit("elsewhere", text=str(error))
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(story()))
reactor.run()
