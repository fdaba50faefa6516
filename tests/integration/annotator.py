"""A service that says what it is at while it pauses: run as a program of its own.

Usage: annotator.py REACTOR RING... Prints each pause, and what the log had of it.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from support import emit, install_reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import globalLogBeginner

from txwatchdog import Pause, Watchdog

reactor: Any = install_reactor(sys.argv[1])
watchdog = Watchdog(reactor, threshold=0.1, rings=sys.argv[2:])
annotate: Callable[..., Any] = watchdog.annotate


def pause() -> None:
    """What every function here pauses in."""
    time.sleep(0.3)


def at_once() -> None:
    """Pause in two blocks, one within the other."""
    with annotate(request="GET /outer", user=7), annotate(request=b"GET /inner"):
        pause()


def match_at_length() -> None:
    """Pause in C code that holds the GIL, and polls for signals."""
    with annotate(request="GET /search"):
        re.match(r"(a+)+$", "a" * 23 + "b")


class Answer:
    """Something that is waited for."""

    def __init__(self) -> None:
        self.deferred: Deferred[None] = Deferred()

    def come(self) -> None:
        self.deferred.callback(None)


awaited, yielded = Answer(), Answer()


async def in_coroutine() -> None:
    """Wait in a block, and pause there later."""
    with annotate(request="GET /awaits"):
        await awaited.deferred
        pause()


@inlineCallbacks
def in_generator() -> Any:
    """Wait in a block, and pause there later."""
    with request("GET /yields"):
        yield yielded.deferred
        pause()


@contextmanager
def request(path: str) -> Any:
    """A block of the service's own, made of ours."""
    with annotate(request=path):
        yield


def begin() -> None:
    """Have both wait."""
    Deferred.fromCoroutine(in_coroutine())
    in_generator()


def of_another() -> None:
    """Pause while those two wait in their blocks, and a thread is in one of its own."""
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with annotate(request="a thread's"):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    pause()
    leave.set()
    thread.join()


STEPS = [at_once, match_at_length, begin, of_another, awaited.come, yielded.come]


def step() -> None:
    """Take the next step, in a turn of its own."""
    if not STEPS:
        reactor.callLater(0.3, reactor.stop)  # the latest pause is recorded by then
        return
    STEPS.pop(0)()
    reactor.callLater(0.01, step)


def seen(one: Pause) -> None:
    """Tell of a pause."""
    rings = sorted({sample.ring for sample in one.samples})
    function = one.offender.function if one.offender else None
    emit("pause", function=function, noted=dict(one.annotations), text=one.traceback, rings=rings)


def logged(event: Any) -> None:
    """Tell of an event of the log."""
    if event.get("log_namespace") == "txwatchdog.pause":
        emit("logged", noted=event["annotations"], text=event["log_format"].format(**event))


observer: Any = logged
globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
watchdog.on_pause(seen)
watchdog.start()
reactor.callWhenRunning(reactor.callLater, 0.01, step)
reactor.run()
