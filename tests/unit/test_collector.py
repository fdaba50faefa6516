"""The collector for Prometheus: formats, names, and the registries of applications."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text
from watched import FakeWatchdog

from txwatchdog.metrics import WatchdogCollector


def collector(watchdog: Any) -> WatchdogCollector:
    """A collector of what a fake says."""
    return WatchdogCollector(watchdog)


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """What a scrape says, by series."""
    text = generate_latest(registry).decode()
    return {
        f"{each.name}{sorted(each.labels.items()) or ''}": each.value
        for family in parse_text(text)
        for each in family.samples
    }


def test_scrape_has_everything() -> None:
    """A scrape has the ticks, the pauses, what is under way and the watchdog's own cost."""
    watchdog = FakeWatchdog(ended=2.0, age=3.0)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector(watchdog))
    watchdog.buckets[31] = 2
    watchdog.paused("fetch_user", seconds=1.5)
    told = samples(registry)
    place = "[('file', '/srv/app/db.py'), ('function', 'fetch_user'), ('line', '41')]"
    for series, value in {
        "txwatchdog_tick_seconds_bucket[('le', '1.073741823')]": 0,
        "txwatchdog_tick_seconds_bucket[('le', '2.147483647')]": 2,
        "txwatchdog_tick_seconds_bucket[('le', '+Inf')]": 2,
        "txwatchdog_tick_seconds_count": 2,
        "txwatchdog_tick_seconds_sum": 2.0,
        "txwatchdog_tick_age_seconds": 3.0,
        "txwatchdog_busy_seconds_total": 5.0,
        "txwatchdog_pauses_total[('cause', 'unknown')]": 1,
        "txwatchdog_pauses_total[('cause', 'blocked')]": 0,
        "txwatchdog_pause_seconds_total[('cause', 'unknown')]": 1.5,
        "txwatchdog_paused_seconds_total": 4.5,
        "txwatchdog_longest_pause_seconds": 3.0,
        f"txwatchdog_offender_pauses_total{place}": 1,
        f"txwatchdog_offender_pause_seconds_total{place}": 1.5,
        f"txwatchdog_pause_under_way_seconds{place}": 3.0,
        "txwatchdog_threshold_seconds": 0.5,
        "txwatchdog_running": 1,
        "txwatchdog_watch_cpu_seconds_total": 0.25,
        "txwatchdog_lost_pauses_total": 2,
    }.items():
        assert told[series] == value, series


@pytest.mark.parametrize("exact", [True, False])
def test_openmetrics_parser_takes_it(exact: bool) -> None:
    """The stricter format is in order, also where a probe can't tell how busy the reactor was."""
    watchdog = FakeWatchdog(age=3.0, exact=exact)
    registry = CollectorRegistry()
    registry.register(collector(watchdog))
    watchdog.paused("f", None)
    text = generate_openmetrics(registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"txwatchdog_busy_seconds", "txwatchdog_tick_seconds", "txwatchdog"} <= names
    assert ("txwatchdog_busy_seconds_total" in text) is exact


def test_start_and_stop_in_an_applications_registry() -> None:
    """It registers where it is started, once, and leaves no trace of itself when it is stopped."""
    registry, watchdog = CollectorRegistry(auto_describe=True), FakeWatchdog()
    ours = collector(watchdog)
    ours.start(registry)
    ours.start(registry)
    assert "txwatchdog_running" in samples(registry)
    with pytest.raises(ValueError, match="txwatchdog"):
        collector(FakeWatchdog()).start(registry)
    ours.stop()
    ours.stop()
    assert samples(registry) == {}
    assert watchdog.observers == []
    ours.start(registry)
    assert "txwatchdog_running" in samples(registry)
