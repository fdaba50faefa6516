"""The log of pauses: their fields, at a bounded rate."""

from __future__ import annotations

from typing import Any, cast

from builders import pause
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent

from txwatchdog.pauselog import BURST, PauseLog, RateLimit

SECOND = 10**9


class Recorder:
    """A log whose events are kept, and a clock that stands still until told."""

    def __init__(self) -> None:
        self.now_ns = SECOND
        self.events: list[Any] = []
        self.log = PauseLog(
            lambda: self.now_ns,
            Logger(namespace="txwatchdog.pause", observer=cast(ILogObserver, self.events.append)),
        )


def test_event_has_the_fields_of_the_pause() -> None:
    """An event names the function and the duration, in text and in fields."""
    recorder = Recorder()
    recorder.log.pause(pause("fetch_user", 3.25, via="recv_exactly", number=7))
    (event,) = recorder.events
    assert event["log_namespace"] == "txwatchdog.pause"
    assert event["log_level"] is LogLevel.warn
    assert formatEvent(event) == (
        "reactor paused 3.250 s in fetch_user (app/db.py:41) via recv_exactly"
    )
    assert (event["number"], event["duration"], event["left_out"]) == (7, 3.25, 0)
    assert (event["function"], event["line"], event["via"]) == ("fetch_user", 41, "recv_exactly")
    assert event["file"] == "/srv/app/db.py"
    assert event["started_at"] == "2026-01-01T00:00:00.000+00:00"
    assert event["pause"].number == 7


def test_unblamed_pause_is_logged() -> None:
    """A pause without an offender has empty fields, not an error."""
    recorder = Recorder()
    recorder.log.pause(pause(None, 1.0))
    assert recorder.events[0]["function"] is None
    assert formatEvent(recorder.events[0]) == "reactor paused 1.000 s in no callback that was seen"


def test_flood_is_counted_not_logged() -> None:
    """Beyond the burst pauses are left out, and the next event says how many."""
    recorder = Recorder()
    for _ in range(BURST + 30):
        recorder.log.pause(pause())
    assert len(recorder.events) == BURST
    recorder.now_ns += SECOND
    recorder.log.pause(pause())
    assert recorder.events[-1]["left_out"] == 30
    assert "(30 more pauses not logged)" in str(formatEvent(recorder.events[-1]))


def test_count_is_logged_when_no_pause_follows() -> None:
    """What was left out is said even if all is quiet afterwards, and said once."""
    recorder = Recorder()
    for _ in range(BURST + 5):
        recorder.log.pause(pause())
    recorder.log.flush()
    assert len(recorder.events) == BURST
    recorder.now_ns += SECOND
    recorder.log.flush()
    recorder.log.flush()
    assert [formatEvent(event) for event in recorder.events[BURST:]] == ["5 more pauses not logged"]


@given(
    burst=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 3 * SECOND), max_size=200),
)
def test_rate_is_bounded(burst: int, gaps: list[int]) -> None:
    """However they come, no more pass than a burst and one for each second gone by, and one
    always passes after a quiet second."""
    limit = RateLimit(burst, SECOND)
    start = now = 5 * SECOND
    passed = 0
    for gap in gaps:
        now += gap
        allowed = limit.allows(now)
        passed += allowed
        assert allowed or gap < SECOND
        assert passed <= burst + (now - start) / SECOND
