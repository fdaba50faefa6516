"""What OpenTelemetry is told of a pause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import Mock, patch

from attrs import evolve
from builders import EPOCH, pause, sampled, stack
from watched import FakeWatchdog

from txwatchdog.origin import Origin
from txwatchdog.otel import Telemetry, _attributes, span_of


def test_span_begins_and_ends_as_the_pause_did() -> None:
    """A span lasts as its pause did, to the nanosecond, and begins with it to a microsecond."""
    span = span_of(pause(duration=1.234567891, after=0.000001))
    assert span.start_ns == int(EPOCH.timestamp()) * 10**9 + 1000
    assert span.end_ns - span.start_ns == 1_234_567_891


def test_span_says_where_and_why() -> None:
    """Its attributes name the function by the semantic conventions, the cause and its shares."""
    told = evolve(
        pause("fetch_user", via="recv", number=7),
        cause="blocked",
        shares={"blocked": 0.75, "cpu": 0.25},
    )
    assert span_of(told).attributes == {
        "code.function.name": "fetch_user",
        "code.file.path": "/srv/app/db.py",
        "code.line.number": 41,
        "txwatchdog.pause.number": 7,
        "txwatchdog.cause": "blocked",
        "txwatchdog.share.blocked": 0.75,
        "txwatchdog.share.cpu": 0.25,
        "txwatchdog.via": "recv",
    }


def test_span_has_the_stack_and_the_origin_in_bounds() -> None:
    """It has the traceback, cut where it is too long, and the reactor's event, as clean text."""
    raw = stack(*[("fetch_user", "/srv/\udcff.py")] * 2000)
    told = sampled([(raw, 1.0)])
    origin = Origin("timed call", "f\udcff")
    first = evolve(told.samples[0], origin=origin)
    attributes = span_of(evolve(told, samples=(first,))).attributes
    text = attributes["code.stacktrace"]
    assert isinstance(text, str)
    assert len(text) == 16_384
    assert "/srv/?.py" in text
    assert attributes["txwatchdog.origin"] == str(origin).replace("\udcff", "?")


def test_span_of_a_pause_that_nobody_saw() -> None:
    """A pause without samples has no code of its own."""
    attributes = span_of(pause(None)).attributes
    assert not [name for name in attributes if name.startswith("code.")]


def test_what_is_not_known_is_no_attribute() -> None:
    """(other) has neither file nor line."""
    labels = [("function", "(other)"), ("file", ""), ("line", "")]
    assert _attributes(labels) == {"code.function.name": "(other)"}
    assert _attributes([("line", "41")]) == {"code.line.number": 41}


class Told:
    """A telemetry whose spans a test makes, in its thread."""

    def __init__(self, make: Callable[[Any], None]) -> None:
        self.watchdog: Any = FakeWatchdog()
        self.meters = Mock()
        self.telemetry = cast(Any, Telemetry(cast(Any, self.watchdog), meter_provider=self.meters))
        self.telemetry._make_span = make
        self.telemetry.start()


def test_spans_wait_within_bounds(logged: list[str]) -> None:
    """While an exporter is busy so many pauses wait; the rest are counted, and stop() goes on."""
    busy, free, made = threading.Event(), threading.Event(), list[Any]()

    def make(each: Any) -> None:
        busy.set()
        free.wait(60)
        made.append(each.number)

    told = Told(make)
    with patch("txwatchdog.otel.QUEUED", 2), patch("txwatchdog.otel.JOIN_SECONDS", 0.01):
        told.watchdog.pauses(pause(number=1))
        assert busy.wait(60)
        told.watchdog.pauses(*(pause(number=n) for n in range(2, 7)))
        assert told.telemetry.left_out == 3
        thread = told.telemetry._thread
        told.telemetry.stop()
    assert logged == ["an exporter of spans does not come back: its thread is left behind"]
    free.set()
    thread.join(60)
    assert made == [1, 2, 3]


def test_a_span_that_fails_is_told(logged: list[str]) -> None:
    """Whatever an exporter raises, the next pause has its span."""
    made = list[Any]()

    def make(each: Any) -> None:
        made.append(each.number)
        raise SystemExit(each.number)

    told = Told(make)
    told.watchdog.pauses(pause(number=1), pause(number=2))
    told.telemetry.stop()
    assert made == [1, 2]
    assert len(logged) == 2
    assert logged[0].startswith("a span could not be made of ")


def test_stopped_and_started_anew() -> None:
    """Instruments are made once, for they can't be taken back; a pause in between has no span."""
    made = list[Any]()
    told = Told(lambda each: made.append(each.number))
    meter = told.meters.get_meter.return_value
    instruments = len(meter.method_calls)
    assert instruments
    told.telemetry.stop()
    told.telemetry._hand_over(pause(number=1))
    assert told.telemetry._thread is None
    told.telemetry.start()
    assert len(meter.method_calls) == instruments
    told.watchdog.pauses(pause(number=2))
    told.telemetry.stop()
    assert made == [2]
