"""For the tests of services: what must not pause the reactor is held to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.interfaces import IReactorCore

from txwatchdog.causes import UNBLAMED
from txwatchdog.watchdog import Watchdog

__all__ = ["no_pauses"]


@contextmanager
def no_pauses(reactor: IReactorCore, threshold: float = 0.1) -> Iterator[Watchdog]:
    """Fail a test if the reactor pauses within a `with` block.

    In a test of trial, pytest-twisted or the like:

        with no_pauses(reactor, threshold=0.1):
            await handler.answer(request)

    The block itself counts, from its beginning, and so does all that the reactor does meanwhile.
    What is no function's fault does not (a machine that is too busy, a process that stood still),
    so a test does not fail for being run beside others.

    Args:
        reactor: the reactor that runs the test.
        threshold: seconds; a turn of the reactor that lasts longer fails the test.

    Yields:
        the watchdog that looks.

    Raises:
        AssertionError: it paused; the message has each pause's traceback. Not if the block raised
            something itself, which is passed on.
        RuntimeError: another loop runs here, whose turns can't be told from pauses.
        ValueError: `threshold` is no number of seconds above 0.
    """
    # No signal: that is the test runner's, or the service's, to have.
    watchdog = Watchdog(reactor, threshold, rings=("thread",))
    if not watchdog.reactor.running and asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "an asyncio loop runs here, and the reactor does not: no_pauses needs a test that the"
            " reactor runs, such as trial's or pytest-twisted's"
        )
    watchdog.start_here()
    try:
        yield watchdog
    finally:
        watchdog.stop()
    found = [pause for pause in watchdog.pauses(1000) if pause.cause not in UNBLAMED]
    if found:
        count = "once" if len(found) == 1 else f"{len(found)} times"
        told = "\n".join(pause.traceback for pause in reversed(found[-10:]))
        raise AssertionError(f"the reactor paused {count} for longer than {threshold:g} s\n{told}")
