"""Runs services with a black box in processes of their own, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from txwatchdog.lastrun import STACKS_AT, Record, decode, parse_stacks

SECONDS = 30.0
"""The longest wait for anything."""

SERVICE = '''
import faulthandler, os, signal, sys, time
from twisted.internet import {reactor}
{reactor}.install()
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
from txwatchdog import Watchdog

PATH = sys.argv[1]
watchdog = Watchdog(reactor, 0.1, blackbox=PATH{options})

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # whole, though a child writes, too
    sys.stdout.flush()

def box():
    return watchdog.status().rings["blackbox"]

def when_on(call):
    """Call once the box is taken, or can't be."""
    if "does not run" in box():
        reactor.callLater(0.01, when_on, call)
    else:
        say("box", box())
        call()

{code}
'''

RUN = """
watchdog.start()
reactor.callLater(0.01, when_on, service)
reactor.run()
say("over", box())
"""


def script(code: str, *, reactor: str = "epollreactor", options: str = "", run: str = RUN) -> str:
    """A service whose function `service`, in `code`, is called once the box is on."""
    return SERVICE.format(reactor=reactor, options=options, code=code) + run


@contextmanager
def service(path: Path, text: str) -> Iterator[subprocess.Popen[str]]:
    """The service `text` in a process, which is killed at the end if it still lives."""
    # Each in a file of its own: a traceback's lines are read when the next one runs.
    file = path.parent / f"service{len(list(path.parent.glob('service*')))}.py"
    file.write_text(text)
    source = Path(__file__).parents[2] / "src"
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(file), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        start_new_session=True,
    ) as process:

        def end() -> None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children, too: they hold its pipes

        timer = threading.Timer(2 * SECONDS, end)  # bounds every wait for what it says
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            end()


def next_word(process: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        assert process.stderr is not None
        process.kill()
        raise AssertionError(process.stderr.read())
    return line


def record(path: Path) -> Record | None:
    """What stands in the box now."""
    return decode(path.read_bytes())


def stacks(path: Path) -> int:
    """How many stacks faulthandler has written to the box."""
    return len(parse_stacks(path.read_bytes()[STACKS_AT:].decode("ascii")))


def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill it as the kernel's out-of-memory killer does."""
    process.send_signal(signal.SIGKILL)
    process.wait(SECONDS)


def is_paused(path: Path) -> bool:
    """Whether the box says that a pause is under way."""
    found = record(path)
    return found is not None and found.state == "paused"


def seconds(path: Path) -> float:
    """For how long the pause has lasted that the box says is under way."""
    found = record(path)
    return found.seconds if found else 0.0
