"""A service that tells OpenTelemetry of its pauses, with an exporter that keeps all in memory."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import emit, install_reactor, patiently

from txwatchdog import Watchdog
from txwatchdog.otel import Telemetry


class SlowExporter(InMemorySpanExporter):
    """Takes its time, as one that writes to a network may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.threads: set[str] = set()

    def export(self, spans: Any) -> Any:
        """Keep them, some time."""
        self.threads.add(threading.current_thread().name)
        self.may_go_on.wait(60)
        return super().export(spans)


def nap(seconds: float) -> None:
    """Pause the reactor."""
    time.sleep(seconds)


def observe(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """All metrics: a list of attributes and value for each."""
    data: Any = reader.get_metrics_data()
    (scope,) = data.resource_metrics[0].scope_metrics
    return {
        metric.name: [[dict(point.attributes), point.value] for point in metric.data.data_points]
        for metric in scope.metrics
    }


def tell(span: ReadableSpan) -> dict[str, Any]:
    """A span as plain data."""
    assert span.context is not None
    return {
        "name": span.name,
        "start": span.start_time,
        "end": span.end_time,
        "parent": span.parent is not None,
        "attributes": dict(span.attributes or {}),
    }


def main() -> None:
    """Pause, and tell what became of it."""
    reactor = install_reactor("epoll")
    watchdog = Watchdog(reactor, threshold=0.1)
    exporter, reader = SlowExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(watchdog, tracer_provider=tracers, meter_provider=MeterProvider([reader]))
    telemetry.start()
    telemetry.start()
    watchdog.start()

    def look() -> None:
        patiently(lambda: watchdog.stack().state == "paused", "it pauses")
        emit("during", metrics=observe(reader))
        # The exporter holds up the first span, and nothing else.
        patiently(lambda: watchdog.stats()["pauses"] == 2, "it has paused twice")
        emit("after", metrics=observe(reader), spans=len(exporter.get_finished_spans()))
        exporter.may_go_on.set()
        telemetry.stop()
        telemetry.stop()
        emit(
            "spans",
            spans=[tell(span) for span in exporter.get_finished_spans()],
            durations=[pause.duration for pause in reversed(watchdog.pauses())],
            started_at=[pause.started_at.timestamp() for pause in reversed(watchdog.pauses())],
            threads=list(exporter.threads),
            left=[thread.name for thread in threading.enumerate() if "otel" in thread.name],
        )
        emit("stopped", metrics=reader.get_metrics_data() is None)
        reactor.callFromThread(reactor.stop)

    reactor.callLater(0.1, nap, 0.6)
    reactor.callLater(0.2, nap, 0.2)
    threading.Thread(target=look).start()
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
