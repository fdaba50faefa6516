"""Metrics for Prometheus: a collector, and a server that answers while the reactor is stuck.

Needs the extra `metrics`, which brings prometheus-client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from twisted.internet.interfaces import IAddress

from txwatchdog.errors import ExtraMissingError
from txwatchdog.measures import BOUND_LABELS, MEASURES, OFFENDERS, Measure, Measured, Tally
from txwatchdog.reactor import ReactorThread
from txwatchdog.scraping import Scraped
from txwatchdog.watchdog import Watchdog

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.exposition import make_wsgi_app
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import Collector
except ModuleNotFoundError as missing:
    raise ExtraMissingError(
        f"metrics need {missing.name}: pip install 'txwatchdog[metrics]'"
    ) from missing

__all__ = ["MetricsServer", "WatchdogCollector"]

JOIN_SECONDS = 1.5
"""How long `stop` waits for the thread, which a slow collector may hold up."""


class WatchdogCollector(Collector):
    """What a watchdog has seen, as a collector for any registry of prometheus_client's.

    It counts pauses from its making on, so make it where the watchdog is made. What operators do
    in the console (`watchdog.reset()`) changes none of its counters. It may be asked from any
    thread.

    Args:
        watchdog: whose numbers.
        offenders: the most functions that have series of their own; all others are `(other)`.

    Raises:
        ValueError: `offenders` is not a number of functions.
    """

    def __init__(self, watchdog: Watchdog, offenders: int = OFFENDERS) -> None:
        self._tally = Tally(watchdog, offenders)
        self._reactor = type(watchdog.reactor).__qualname__
        self._registry: CollectorRegistry | None = None

    def start(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register it, and count; the same as `registry.register` if it is new.

        Raises:
            ValueError: the registry has such metrics already (prometheus_client's own words).
        """
        self._tally.start()
        if self._registry is None:
            registry.register(self)
            self._registry = registry

    def stop(self) -> None:
        """Take it out of the registry that it was started in, and count no more."""
        self._tally.stop()
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.unregister(self)

    def collect(self) -> Iterable[Metric]:
        """All metrics, now. Registries call it."""
        now = self._tally.read()
        yield InfoMetricFamily(
            "txwatchdog",
            "The watchdog, and the reactor that it watches.",
            {"version": metadata.version("txwatchdog"), "reactor": self._reactor},
        )
        yield _histogram(now)
        for measure in MEASURES:
            yield _family(measure, now)


class MetricsServer:
    """Serves metrics to Prometheus from a thread of its own, during a pause too.

    Start and stop it in the reactor's thread, or while no reactor runs; `stop` from any thread.

    Args:
        watchdog: whose numbers, beside those of the process (`process_…`).
        endpoint: a server endpoint string of Twisted's (`tcp:`, `tcp6:`, `unix:`, `systemd:`).
            Without `interface=` only this host can connect.
        registry: what is served instead, as it is: one of the service's own, in which a
            `WatchdogCollector` is registered or not.
        offenders: as for `WatchdogCollector`, without a registry.

    Raises:
        ValueError: `offenders` is not a number of functions.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        endpoint: str,
        registry: CollectorRegistry | None = None,
        *,
        offenders: int = OFFENDERS,
    ) -> None:
        self._reactor = watchdog.reactor
        self._thread = ReactorThread(watchdog.reactor)
        self._endpoint = endpoint
        if registry is None:
            registry = CollectorRegistry(auto_describe=True)
            ProcessCollector(registry=registry)
            registry.register(WatchdogCollector(watchdog, offenders))
        self._registry = registry
        # Guards starting and stopping. Not held while the thread is waited for.
        self._switch = threading.RLock()
        self._scraped: Scraped | None = None
        self._undo: list[Callable[[], None]] = []

    @property
    def address(self) -> IAddress | None:
        """Where it listens, as an address of Twisted's; None while it does not. Any thread."""
        scraped = self._scraped
        return None if scraped is None else scraped.address

    def start(self) -> None:
        """Listen; answer once the reactor runs, or log why not. Harmless if it is started.

        Raises:
            ListenError: the endpoint can't be listened on.
        """
        with self._switch:
            if self._scraped is not None:
                if self._scraped.address is not None:
                    return
                self.stop()  # it has failed, which the log says
            scraped = self._scraped = Scraped(self._endpoint, make_wsgi_app(self._registry))
            # Not before: a thread does not survive the fork of a service that daemonises.
            self._undo.append(self._thread.when_running(lambda: self._launch(scraped)))

    def stop(self) -> None:
        """Close the socket and end the thread. From any thread, any number of times."""
        with self._switch:
            scraped, self._scraped = self._scraped, None
            while self._undo:
                self._undo.pop()()
        if scraped is not None:
            scraped.end()
            scraped.join(JOIN_SECONDS)

    def _launch(self, scraped: Scraped) -> None:
        """The reactor runs. In its thread."""
        with self._switch:
            if self._scraped is not scraped:
                return
            scraped.launch()
            trigger = self._reactor.addSystemEventTrigger("after", "shutdown", self.stop)
            self._undo.append(lambda: self._forget_trigger(trigger))

    def _forget_trigger(self, trigger: Any) -> None:
        try:
            self._reactor.removeSystemEventTrigger(trigger)
        except (KeyError, ValueError):
            pass  # it is what calls us: the reactor has taken it out of its list


def _histogram(now: Measured) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        "txwatchdog_tick_seconds",
        "Turns of the reactor that have ended, by how long they took.",
        buckets=list(zip(BOUND_LABELS, now.ticks, strict=True)),
        sum_value=now.tick_seconds,
    )


def _family(measure: Measure, now: Measured) -> Metric:
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    unit = "seconds" if measure.unit == "s" else ""
    name = f"txwatchdog_{measure.name.replace('.', '_')}"
    family = kind(name, measure.help, labels=measure.labels, unit=unit)
    for labels, value in measure.read(now).items():
        family.add_metric(labels, value)
    return family
