"""What OpenTelemetry is told of a pause."""

from __future__ import annotations

from attrs import evolve
from builders import EPOCH, pause, sampled, stack

from txwatchdog.origin import Origin
from txwatchdog.otel import span_of


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
