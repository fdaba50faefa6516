"""What the audit trail tells, and that nobody can forge a line of it."""

from __future__ import annotations

import json
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import (
    ILogObserver,
    Logger,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
    globalLogPublisher,
)
from zope.interface import implementer

from txwatchdog.auditlog import KEPT, NAMESPACE, asked_by, tell
from txwatchdog.manhole.auditfile import line_of
from txwatchdog.manhole.roles import Operator
from txwatchdog.manhole.strangers import Strangers
from txwatchdog.manhole.trail import Trail
from txwatchdog.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator


def _told(event: str, outcome: str, **fields: object) -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    tell(event, outcome, Logger(namespace=NAMESPACE, observer=events.append), **fields)  # type: ignore[arg-type]
    (told,) = events
    return told


def test_an_event_is_flat() -> None:
    """Each field is one of the event's own; those that are None are left out."""
    told = _told("verb", "done", what="top", status=0, seconds=0.1234567891, raised=None)
    assert (told["log_namespace"], told["log_level"]) == (NAMESPACE, LogLevel.info)
    assert (told["event"], told["outcome"], told["what"]) == ("verb", "done", "top")
    assert (told["status"], told["seconds"]) == (0, 0.123457)
    assert "raised" not in told
    assert formatEvent(told) == "verb done what='top' status=0 seconds=0.123457"


def test_who_acts_is_added() -> None:
    """In the context of a session its operator is named, and not after it."""
    with asked_by({"comment": "ann", "role": "view"}):
        assert _told("verb", "done", what="top")["comment"] == "ann"
    assert "comment" not in _told("verb", "done", what="top")


def test_a_statement_is_kept_in_bounds() -> None:
    """So many characters are kept of it, and the number of the others."""
    told = _told("statement", "begun", what="x" * 10_000_000, user="u" * 100_000)
    assert (len(told["what"]), told["left_out"]) == (KEPT, 10_000_000 - KEPT)
    assert len(told["user"]) == 255
    assert len(formatEvent(told)) < 2 * KEPT
    assert len(line_of(told)) < 2 * KEPT


HOSTILE = st.text() | st.sampled_from(
    [
        "\n",
        "\r\n{'event': 'login'}",
        "\x1b[2J\x1b]0;title\x07",
        "\u202e\u2066\u200b\ufeff",
        "\u2028\u2029\x85\x0b\x0c\x1c",
        "\udcff\ud800",
        "\x00\x7f\x9b",
        "' outcome='accepted'",
        "{log_level} {event!r} %s",
    ]
)


@given(HOSTILE, HOSTILE)
def test_nobody_can_forge_a_line(user: str, what: str) -> None:
    """Whatever a client sends, the text and the JSON are one line of printable ASCII, and true."""
    told = _told("statement", "done", what=what, user=user, address="10.0.0.1")
    classic = formatEventAsClassicLogText(told) or ""
    assert classic.count("\n") == 1
    assert classic.endswith("\n")
    line = classic[:-1]
    assert line.isascii()
    assert line.isprintable()
    assert f"statement done what={what!a} user={user!a} address='10.0.0.1'" in line
    written = line_of(told)
    assert written.count(b"\n") == 1
    assert written.decode("ascii")[:-1].isprintable()
    record = json.loads(written)
    assert (record["event"], record["outcome"], record["user"]) == ("statement", "done", user)
    assert record["what"] == what


@pytest.mark.parametrize("value", [object(), {1: 2}, float("inf"), {"x": {1, 2}}])
def test_a_foreign_event_is_a_line_all_the_same(value: object) -> None:
    """Someone else may use the namespace; what JSON has no word for does not break the file."""
    record = json.loads(line_of({"log_time": 0.0, "event": "odd", "value": value}))
    assert record["time"] == "1970-01-01T00:00:00.000Z"
    assert record["event"] in ("odd", "audit")
    hostile: Any = SimpleNamespace(__repr__=1)
    json.loads(line_of({"log_time": "never", "event": hostile}))
    json.loads(line_of({}))
    bare = json.loads(line_of({"log_time": 0.0, "time": "2030-01-01", "pid": 1}))
    assert list(bare) == ["time", "pid", "event"]
    assert (bare["time"], bare["pid"]) == ("1970-01-01T00:00:00.000Z", os.getpid())


@pytest.fixture
def audit_events() -> Iterator[list[dict[str, Any]]]:
    """What is told meanwhile."""
    events: list[dict[str, Any]] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_namespace"] == NAMESPACE:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


def test_refusals_are_told_at_a_bounded_rate(audit_events: list[dict[str, Any]]) -> None:
    """Who asks again and again for what is refused is counted, and fills no log."""
    clock: Any = Clock()
    trail = Trail(1, "10.0.0.1", Strangers(clock), lambda: b"SSH-2.0-x")
    trail.logged_in(Operator("ann@laptop", "SHA256:x", "view", "ann", "10.0.0.1"))
    for _ in range(100):
        trail.request_refused(b"subsystem sftp")
    trail.closed()
    told = [event["outcome"] for event in audit_events if event["event"] == "request"]
    assert told == ["refused"] * 20
    assert (audit_events[-1]["outcome"], audit_events[-1]["refused"]) == ("closed", 80)


def test_code_outside_is_named_by_its_thread(audit_events: list[dict[str, Any]]) -> None:
    """A threshold that changes is told with its old and new value, and who changed it."""
    watchdog = Watchdog(MemoryReactorClock(), threshold=0.5)
    watchdog.threshold = 0.25
    watchdog.threshold = 0.25
    watchdog.reset()
    with asked_by({"comment": "ann"}):
        watchdog.threshold = 2
    with pytest.raises(ValueError, match="threshold"):
        watchdog.threshold = -1
    by = f"thread {threading.current_thread().name}"
    assert [
        {name: event.get(name) for name in ("what", "old", "new", "by", "comment")}
        for event in audit_events
    ] == [
        {"what": "threshold", "old": 0.5, "new": 0.25, "by": by, "comment": None},
        {"what": "reset", "old": None, "new": None, "by": by, "comment": None},
        {"what": "threshold", "old": 0.25, "new": 2.0, "by": None, "comment": "ann"},
    ]
