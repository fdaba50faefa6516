"""The kernel's files, as far as they are read by us."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from unittest.mock import patch

import pytest

from txwatchdog.clocks import GcClock, ThreadClocks, _numbers, _ran_at_ns, native_id

SCHED = """python (18050, #threads: 1)
-------------------------------------------------------------------
se.exec_start                                :       3800046.566838
se.vruntime                                  :       1347001.738199
"""


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [(SCHED, 3_800_046_566_838), ("", None), ("exec_start", None), ("se.exec_start : x.y\n", None)],
)
def test_when_a_thread_last_ran(tmp_path: Path, text: str, at_ns: int | None) -> None:
    """The scheduler's file tells when a thread last had a CPU, or nothing is known."""
    path = tmp_path / "sched"
    path.write_text(text)
    file = FileIO(path)
    assert _ran_at_ns(file) == at_ns
    file.close()
    assert _ran_at_ns(file) is None
    assert _ran_at_ns(None) is None


@pytest.mark.parametrize(("text", "numbers"), [("12 34 5\n", (12, 34, 5)), ("12 34\n", None)])
def test_how_a_thread_was_scheduled(
    tmp_path: Path, text: str, numbers: tuple[int, int, int] | None
) -> None:
    """The schedstat file tells CPU time, time queued and slices, or nothing is known."""
    path = tmp_path / "schedstat"
    path.write_text(text)
    file = FileIO(path)
    assert _numbers(file) == numbers
    file.close()
    assert _numbers(file) is None


@pytest.fixture
def clocks() -> Iterator[ThreadClocks]:
    """This thread's clocks, on a machine where a futex is call 202 and the GIL is at 0x1000."""
    made = ThreadClocks(threading.get_ident(), GcClock())
    made._futex, made._gil = 202, range(0x1000, 0x2000)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "asleep"),
    [
        ("running\n", False),
        ("", False),
        ("-1 0x7ffd 0x55aa\n", False),  # a page fault
        ("7 0x3 0x0\n", True),
        ("202 0x1234 0x80\n", False),  # it waits for the GIL
        ("202 0x7f00 0x80\n", True),  # another lock
    ],
)
def test_what_a_thread_sleeps_in(
    tmp_path: Path, clocks: ThreadClocks, text: str, asleep: bool | None
) -> None:
    """The syscall file tells whether a thread sleeps for anything but the GIL."""
    path = tmp_path / "syscall"
    path.write_text(text)
    assert clocks._syscall is not None
    clocks._syscall.close()
    clocks._syscall = FileIO(path)
    assert clocks.is_asleep() is asleep
    clocks._syscall.close()
    assert clocks.is_asleep() is None
    clocks.close()
    assert clocks.is_asleep() is None


def test_a_system_without_clocks_of_threads() -> None:
    """Where a thread has no clock, what it spent is not known; what the process did is."""
    with patch("time.pthread_getcpuclockid", side_effect=OSError):
        clocks = ThreadClocks(threading.get_ident(), GcClock())
    clocks._schedule, schedule = None, clocks._schedule
    reading = clocks.read(busy_ns=5, suspended_ns=7)
    assert (reading.cpu_ns, reading.queued_ns) == (None, None)
    assert (reading.busy_ns, reading.suspended_ns) == (5, 7)
    assert reading.process_ns is not None
    clocks._schedule = schedule
    clocks.close()


def test_a_thread_that_is_not_there_has_no_number() -> None:
    """Nor has one that is not known yet; this one has."""
    assert native_id(None) is None
    assert native_id(-1) is None
    assert native_id(threading.get_ident()) == threading.get_native_id()


def test_a_collection_under_way_as_it_begins_is_not_counted() -> None:
    """One of which only the end was seen took nobody knows how long."""
    clock = GcClock()
    clock.ident = threading.get_ident()
    clock._collects("stop", {})
    assert clock.ns == 0
    clock._collects("start", {})
    clock._collects("stop", {})
    assert clock.ns > 0
