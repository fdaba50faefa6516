"""The watch thread's turns, without the thread: what it does where something is missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any
from unittest.mock import patch

from txwatchdog.annotating import Notes
from txwatchdog.causes import Verdict
from txwatchdog.detector import Detector
from txwatchdog.probe import Tick
from txwatchdog.records import Sample
from txwatchdog.rings.thread import WAITING_PAUSES, WatchThread

THRESHOLD = 500_000_000


class Turns:
    """A watch thread that is never started, of a reactor in this thread or in none."""

    def __init__(self, ident: int | None, frames: Mapping[int, FrameType] | None = None) -> None:
        self.tick = Tick(THRESHOLD, lambda *_: None)
        self.ended: list[tuple[tuple[Sample, ...], Verdict]] = []
        options: dict[str, Any] = {} if frames is None else {"frames": lambda: frames}
        self.watch = WatchThread(
            self.tick,
            Detector(THRESHOLD),
            lambda: ident,
            lambda _since, samples, _took, why: self.ended.append((samples, why)),
            lambda: None,
            notes=Notes(),
            with_alarm=False,
            **options,
        )

    def pause(self) -> None:
        """Look at a tick that is a pause already, and at its end."""
        self.tick.since = time.monotonic() - 2 * THRESHOLD / 1e9
        self.watch._turn()
        self.watch.over(self.tick.busy_since_ns, 2 * THRESHOLD)
        self.tick.since = None
        self.watch._turn()
        self.watch._close_clocks()


def test_a_pause_is_sampled() -> None:
    """The reactor thread's stack is what a pause's sample has."""
    turns = Turns(threading.get_ident())
    turns.pause()
    ((samples, _why),) = turns.ended
    assert "pause" in [code.co_name for code, _ in samples[0].stack]
    assert turns.watch.samples == 1


def test_a_thread_without_a_frame_is_not_sampled() -> None:
    """A pause whose thread has no stack to look at is recorded without a sample."""
    turns = Turns(threading.get_ident(), frames={})
    turns.pause()
    ((samples, _why),) = turns.ended
    assert samples == ()
    assert turns.watch.samples == 0


def test_a_thread_that_is_not_known_has_no_clocks() -> None:
    """As long as it is not, a pause's cause is unknown."""
    turns = Turns(None)
    turns.pause()
    ((samples, why),) = turns.ended
    assert (samples, why) == ((), Verdict())


def test_what_can_wait_is_bounded() -> None:
    """While an observer holds the thread up, pauses wait, but not without end; the rest count."""
    turns = Turns(threading.get_ident())
    kept = [turns.watch.over(number, THRESHOLD) for number in range(WAITING_PAUSES + 3)]
    assert kept == [True] * WAITING_PAUSES + [False] * 3
    assert turns.watch.lost == 3


def test_clocks_that_can_not_be_read_keep_no_thread_from_starting() -> None:
    """It is told, and the thread starts; it will try again."""
    turns = Turns(threading.get_ident())
    with patch("txwatchdog.rings.thread.ThreadClocks", side_effect=RuntimeError("no clocks")):
        turns.watch.start()
        try:
            assert turns.watch.state == "on"
        finally:
            turns.watch.stop(60.0)
    assert turns.watch.error is None or "no clocks" in turns.watch.error
