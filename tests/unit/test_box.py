"""The black box's file, and what happens where it, or the machine, is not as it should be."""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from builders import sample, stack

from txwatchdog.lastrun import EMPTY, STACKS_AT, Record, decode
from txwatchdog.rings.blackbox import BlackBox
from txwatchdog.rings.lastgasp import _in_status

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
THRESHOLD = 10**6  # seconds: no stack is written meanwhile


@pytest.fixture
def box(tmp_path: Path) -> Iterator[BlackBox]:
    """A box whose reactor's thread is this one; closed at the end."""
    made = BlackBox(str(tmp_path / "box"), lambda: THRESHOLD, threading.get_ident)
    yield made
    made.close()


def record(box: BlackBox) -> Record:
    """What the file says."""
    found = decode(Path(box.path).read_bytes())
    assert found is not None
    return found


def pause(box: BlackBox) -> int:
    """Write a pause into the box; the tick that it is of."""
    now = time.monotonic_ns()
    box.paused(sample(now - 10**9, now, stack(("fetch", "/srv/app/db.py"))))
    return now - 10**9


def no_timers() -> AbstractContextManager[Any]:
    """A C library whose timer_create fails."""
    return patch("ctypes.PyDLL", return_value=Mock(timer_create=Mock(return_value=-1)))


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda: patch("sys.platform", "darwin"), "are known on 64-bit Linux only"),
        (lambda: patch("ctypes.PyDLL", return_value=object()), "has no timer_create"),
        (lambda: patch("signal.getsignal", return_value=print), "every real-time signal has"),
        (no_timers, "timer_create failed"),
    ],
)
def test_a_machine_without_such_timers(
    box: BlackBox, broken: Callable[[], AbstractContextManager[Any]], why: str
) -> None:
    """Where no timer can have the stack written, the box says why, and is one all the same."""
    with broken():
        box.begin()
    assert box.state.startswith(f"on, {box.path}; it can't see C code that holds the GIL: ")
    assert why in box.state
    tick_ns = pause(box)
    box.turn(tick_ns, 1.0)
    assert record(box).state == "paused"
    box.turn(0, 1.0)
    assert record(box).state == "running"
    box.close()
    assert record(box).state == "clean"


def test_a_reactor_whose_thread_is_not_known(tmp_path: Path) -> None:
    """Nobody's stack can be written then; and a forked child has nothing to take back."""
    box = BlackBox(str(tmp_path / "box"), lambda: THRESHOLD, lambda: None)
    box.begin()
    assert box.state.endswith("the reactor's thread is not known")
    box.forget()
    assert box.state == "off: the black box is the parent process's"
    box.forget()
    box.turn(0, 1.0)
    assert record(box).state == "running"


def test_a_changed_threshold_is_written(tmp_path: Path) -> None:
    """The next run judges stacks by the threshold in force; it is written when it has changed."""
    thresholds = [THRESHOLD]
    box = BlackBox(str(tmp_path / "box"), lambda: thresholds[-1], threading.get_ident)
    box.begin()
    box.turn(0, 1.0)
    assert record(box).threshold == THRESHOLD
    thresholds.append(2 * THRESHOLD)
    box.turn(0, 1.0)
    assert record(box).threshold == 2 * THRESHOLD
    box.close()


def test_stacks_of_a_gil_that_was_held_for_a_while_are_forgotten(box: BlackBox) -> None:
    """Once the watch thread runs again, what faulthandler wrote has come to nothing."""
    box.begin()
    with Path(box.path).open("ab") as file:
        file.write(b"Stack (most recent call first):\n")
    box.turn(0, 1.0)
    assert Path(box.path).stat().st_size == STACKS_AT


@pytest.mark.parametrize("broken", ["fstat", "pwrite"])
def test_a_write_that_fails_is_told_once(box: BlackBox, logged: list[str], broken: str) -> None:
    """A disk that fails or is full is told by the state and a line of the log, and no more."""
    box.begin()
    with patch(f"os.{broken}", side_effect=FULL):
        box.turn(pause(box), 1.0)
        box.turn(0, 1.0)
    assert box.state == f"on, {box.path}; a write to it failed: No space left on device"
    assert logged == [f"the black box is {box.state}"]


def test_a_full_disk_at_the_start(box: BlackBox, logged: list[str]) -> None:
    """A file that can't be made as large as it must be is off, and told once; later it is one."""
    with patch("os.pwrite", side_effect=FULL):
        box.begin()
        box.begin()
    assert Path(box.path).stat().st_size == 0
    assert box.state == f"off: {box.path}: No space left on device"
    assert logged == [f"the black box is {box.state}"]
    box.begin()
    assert box.state == f"on, {box.path}"


def test_a_write_in_parts_is_a_write(box: BlackBox) -> None:
    """What the system does not take at once is written after that, where it belongs."""
    write = os.pwrite

    def write_some(fd: int, data: bytes, at: int) -> int:
        return write(fd, data[:1000], at)

    with patch("os.pwrite", write_some):
        box.begin()
        pause(box)
    assert record(box).state == "paused"
    assert Path(box.path).stat().st_size == STACKS_AT
    assert box.state == f"on, {box.path}"


def test_a_box_that_can_not_be_made_sense_of(box: BlackBox, logged: list[str]) -> None:
    """Whatever goes wrong as the last run is read, this one starts."""
    Path(box.path).write_bytes(EMPTY)
    with patch("txwatchdog.rings.blackbox.parse_stacks", side_effect=RecursionError):
        box.look_back()
    assert box.last_run is None
    assert logged == [f"the black box {box.path} can't be read"]
    box.begin()
    assert box.state == f"on, {box.path}"


def test_a_signal_on_its_way_finds_something_harmless(box: BlackBox) -> None:
    """As long as one may come, the signal stays ours, and the number is the null device's."""
    box.begin()
    fd, gasp = box._fd, box._gasp
    assert gasp is not None
    with patch("txwatchdog.rings.lastgasp._in_status", return_value=True):
        box.close()
    assert os.fstat(fd).st_rdev == Path(os.devnull).stat().st_rdev
    size = Path(box.path).stat().st_size
    signal.pthread_kill(threading.get_ident(), gasp.signal)
    assert Path(box.path).stat().st_size == size
    assert record(box).state == "clean"
    faulthandler.unregister(gasp.signal)
    os.close(fd)


def test_a_thread_that_is_gone_has_no_signals() -> None:
    """What the kernel does not tell is taken for no."""
    assert not _in_status("task/0/status", "SigPnd", signal.SIGURG)
    assert not _in_status("status", "NoSuchField", signal.SIGURG)
