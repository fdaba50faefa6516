"""A reactor that only waits is never paused, however little of the processor it gets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest
from support import REACTORS, Child, Message

BUSY_PROCESSES = 8
NICE = 5
"""Of the busy and of the watched processes alike: their fight is fair, and hurts nobody else."""

SPIN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
"""It ends by itself, too, if nobody is left to end it."""


@contextmanager
def busy_machine() -> Iterator[None]:
    """The machine has more to do than it can."""
    spin = ["nice", "-n", str(NICE), sys.executable, "-S", "-c", SPIN]
    spinning = [subprocess.Popen(spin) for _ in range(BUSY_PROCESSES)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait()


@pytest.fixture(scope="module")
def told() -> Mapping[str, tuple[Message, Message]]:
    """What a watched service that waited on a busy machine tells, by its reactor."""
    with ExitStack() as stack:
        children = {
            reactor: stack.enter_context(Child("idler.py", reactor, nice=NICE))
            for reactor in REACTORS
        }
        for child in children.values():
            child.expect("ready")
        stack.enter_context(busy_machine())
        for child in children.values():
            child.tell("begin")
        told = {r: (c.expect("stats"), c.expect("signals")) for r, c in children.items()}
        for child in children.values():
            assert child.finish() == []
        return told


@pytest.mark.parametrize("reactor", REACTORS)
def test_no_pause_is_seen(told: Mapping[str, tuple[Message, Message]], reactor: str) -> None:
    """A reactor that waits on a busy machine yields no pause and no sample."""
    stats, _ = told[reactor]
    assert stats["rings"] == {"thread": "on", "sigalrm": "on"}
    assert stats["pauses"] == []
    assert stats["stats"]["pauses"] == 0
    assert stats["stats"]["offenders"] == []
    assert stats["samples"] == 0
    assert stats["error"] is None


@pytest.mark.parametrize("reactor", REACTORS)
def test_hardly_any_signal_comes(told: Mapping[str, tuple[Message, Message]], reactor: str) -> None:
    """SIGALRM hardly ever reaches a service that waits: only until the load has shown itself."""
    _, signals = told[reactor]
    # Of 25 wakes. Nothing foretells the first time that the watch thread is late by more than
    # the alarm's grace; it is patient afterwards.
    assert signals["alarms"] <= 2
