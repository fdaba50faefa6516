"""OpenTelemetry: a span for each pause, and the metrics, by way of its API.

Needs the extra `otel`, which brings opentelemetry-api. Which SDK stands behind it, and where that
sends things, is the service's choice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from importlib import metadata
from queue import SimpleQueue
from typing import TypeAlias

from attrs import frozen
from twisted.logger import Logger

from txwatchdog.errors import ExtraMissingError
from txwatchdog.logs import log_failure
from txwatchdog.measures import BOUND_LABELS, MEASURES, OFFENDERS, Measure, Measured, Tally, clean
from txwatchdog.records import Pause
from txwatchdog.watchdog import Watchdog

try:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter
    from opentelemetry.trace import SpanKind, Tracer, TracerProvider, get_tracer
except ModuleNotFoundError as missing:
    raise ExtraMissingError(
        f"OpenTelemetry needs {missing.name}: pip install 'txwatchdog[otel]'"
    ) from missing

__all__ = ["PauseSpan", "Telemetry", "span_of"]

QUEUED = 1000
"""Pauses that can wait for their span, while an exporter takes its time."""

JOIN_SECONDS = 1.5
"""How long `stop` waits for the spans of those."""

LONGEST_STACK = 16_384
"""The most characters of a traceback that a span has."""

Value: TypeAlias = "str | int | float"

ATTRIBUTES: Mapping[str, tuple[str, Callable[[str], Value]]] = {
    "function": ("code.function.name", str),
    "file": ("code.file.path", str),
    "line": ("code.line.number", int),
}
"""What labels are called in OpenTelemetry's semantic conventions; others keep their name."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_log = Logger(namespace="txwatchdog.otel")


@frozen
class PauseSpan:
    """What a pause's span says.

    Attributes:
        start_ns, end_ns: Unix time. They differ by the pause's exact duration; its beginning is
            known to the microsecond.
        attributes: the function by the semantic conventions (`code.…`), ours as `txwatchdog.…`.
    """

    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]


def span_of(pause: Pause) -> PauseSpan:
    """The span of a pause. Reads source files, for the stack."""
    start_ns = (pause.started_at - _EPOCH) // timedelta(microseconds=1) * 1000
    attributes: dict[str, Value] = {
        "txwatchdog.pause.number": pause.number,
        "txwatchdog.cause": pause.cause,
        **{f"txwatchdog.share.{cause}": share for cause, share in pause.shares.items()},
    }
    if pause.offender is not None:
        attributes["code.function.name"] = clean(pause.offender.function)
        attributes["code.file.path"] = clean(pause.offender.file)
        attributes["code.line.number"] = pause.offender.line
    if pause.via is not None:
        attributes["txwatchdog.via"] = clean(pause.via)
    if pause.origin is not None:
        attributes["txwatchdog.origin"] = clean(str(pause.origin))
    if pause.frames:
        attributes["code.stacktrace"] = clean(pause.traceback, LONGEST_STACK)
    return PauseSpan(start_ns, start_ns + round(pause.duration * 1e9), attributes)


class Telemetry:
    """Tells OpenTelemetry of a watchdog's pauses while it is started.

    A span is made in a thread of its own, once its pause has ended: what a service's exporters do
    holds up neither the reactor nor the watchdog. Metrics are observed in whatever thread the SDK
    reads them in.

    Args:
        watchdog: whose pauses.
        tracer_provider: takes the spans; None: the global one.
        meter_provider: takes the metrics; None: the global one.
        offenders: the most functions that have series of their own; all others are `(other)`.

    Attributes:
        left_out: pauses without a span, because 1,000 waited for theirs.

    Raises:
        ValueError: `offenders` is not a number of functions.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        offenders: int = OFFENDERS,
    ) -> None:
        self._watchdog = watchdog
        self._tally = Tally(watchdog, offenders)
        version = metadata.version("txwatchdog")
        self._tracer: Tracer = get_tracer("txwatchdog", version, tracer_provider)
        self._meter: Meter = get_meter("txwatchdog", version, meter_provider)
        self.left_out = 0
        # Guards the fields below, never for longer than it takes to start a thread.
        self._switch = threading.Lock()
        self._unsubscribe: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._waiting: SimpleQueue[Pause | None] = SimpleQueue()
        self._has_instruments = False

    def start(self) -> None:
        """Begin; does nothing if it has."""
        with self._switch:
            if self._unsubscribe is not None:
                return
            self._tally.start()
            self._unsubscribe = self._watchdog.on_pause(self._hand_over)
            if not self._has_instruments:  # the API has no way to take one back
                self._has_instruments = True
                self._make_instruments()

    def stop(self) -> None:
        """End, once the spans of all pauses so far are made. From any thread; may be repeated."""
        with self._switch:
            if self._unsubscribe is None:
                return
            self._unsubscribe()
            self._unsubscribe = None
            self._tally.stop()
            thread, self._thread = self._thread, None
            self._waiting.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)
            if thread.is_alive():
                _log.warn("an exporter of spans does not come back: its thread is left behind")

    def _hand_over(self, pause: Pause) -> None:
        """A pause has ended. The thread that records pauses calls it."""
        with self._switch:
            if self._unsubscribe is None:
                return
            if self._thread is None or not self._thread.is_alive():
                # At the first pause, so that no fork of a service that daemonises loses it.
                self._waiting = SimpleQueue()
                self._thread = threading.Thread(
                    target=self._tell, args=(self._waiting,), name="txwatchdog-otel", daemon=True
                )
                self._thread.start()
            if self._waiting.qsize() < QUEUED:
                self._waiting.put(pause)
            else:
                self.left_out += 1

    def _tell(self, waiting: SimpleQueue[Pause | None]) -> None:
        """The thread's body."""
        while (pause := waiting.get()) is not None:
            try:
                self._make_span(pause)
            except BaseException:  # SystemExit, too: it would end the thread in silence
                log_failure(_log, "a span could not be made of {pause}", pause=pause)

    def _make_span(self, pause: Pause) -> None:
        told = span_of(pause)
        span = self._tracer.start_span(
            "reactor pause",
            context=Context(),  # nobody's child: it held up everybody
            kind=SpanKind.INTERNAL,
            attributes=told.attributes,
            start_time=told.start_ns,
        )
        span.end(end_time=told.end_ns)

    def _make_instruments(self) -> None:
        for measure in MEASURES:
            make = (
                self._meter.create_observable_counter
                if measure.kind == "counter"
                else self._meter.create_observable_gauge
            )
            observe = partial(self._observe, partial(_observations, measure))
            make(f"txwatchdog.{measure.name}", [observe], measure.unit or "1", measure.help)
        self._meter.create_observable_counter(
            "txwatchdog.ticks",
            [partial(self._observe, _ticks)],
            "1",
            "Turns of the reactor that have ended, by the least bound in seconds that they kept.",
        )

    def _observe(
        self, observations: Callable[[Measured], Sequence[Observation]], _options: CallbackOptions
    ) -> Iterable[Observation]:
        """Called by the SDK, in a thread of its own."""
        return () if self._unsubscribe is None else observations(self._tally.read())


def _observations(measure: Measure, now: Measured) -> list[Observation]:
    return [
        Observation(value, _attributes(zip(measure.labels, labels, strict=True)))
        for labels, value in measure.read(now).items()
    ]


def _attributes(labels: Iterable[tuple[str, str]]) -> dict[str, Value]:
    attributes = {}
    for label, value in labels:
        name, kind = ATTRIBUTES.get(label, (label, str))
        if value:  # (other) has neither file nor line
            attributes[name] = kind(value)
    return attributes


def _ticks(now: Measured) -> list[Observation]:
    """The API has no histogram that is observed, and recording each tick would cost too much."""
    return [
        Observation(count - fewer, {"at_most": bound})
        for bound, count, fewer in zip(BOUND_LABELS, now.ticks, (0, *now.ticks), strict=False)
    ]
