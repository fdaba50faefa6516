"""A real Prometheus reads a fleet of real services: nothing that they did is missed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from support import PATIENCE_SECONDS, Child, patiently

from txwatchdog import monitoring

SERVICES = 12
THRESHOLD = 0.3
TOGETHER = (3, 7, 9)
"""Those that pause at the same time."""
BETWEEN, STUCK = 0, 5
"""The one that pauses between two scrapes, and the one that hangs."""

CONFIGURATION = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: fleet
    static_configs: [{{targets: {targets}}}]
"""

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="there is no prometheus here: apt-get install prometheus",
)


class Prometheus:
    """A server of its own for these tests.

    Args:
        directory: where it keeps all it has.
        targets: what it scrapes.
    """

    def __init__(self, directory: Path, targets: list[str]) -> None:
        rules = directory / "rules.yml"
        rules.write_text(monitoring.rules())
        configuration = directory / "prometheus.yml"
        configuration.write_text(
            CONFIGURATION.format(rules=json.dumps(str(rules)), targets=json.dumps(targets))
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self._url = f"http://{address}/api/v1"
        self._log = directory / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=log,
            )

    def get(self, what: str, **arguments: Any) -> Any:
        """What its API says; None while it does not answer yet."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urlopen(f"{self._url}/{what}?{urlencode(arguments)}", timeout=30) as answer:
                told = json.load(answer)
        except OSError as problem:
            if getattr(problem, "code", 503) != 503:  # it says so while it begins
                raise AssertionError(f"{what} {arguments}: {problem}") from None
            return None
        assert told["status"] == "success", told
        return told["data"]

    def ask(self, query: str) -> dict[str, float]:
        """A query's values by instance, or by the empty string."""
        data = self.get("query", query=query)
        series = data["result"] if data else []
        return {each["metric"].get("instance", ""): float(each["value"][1]) for each in series}

    def seconds(self, query: str, start: float, end: float) -> list[set[str]]:
        """For each second from `start` to `end` the instances of which the query has a value."""
        data = self.get("query_range", query=query, start=start, end=end, step=1)
        found: dict[float, set[str]] = {}
        for each in data["result"]:
            for at, _ in each["values"]:
                found.setdefault(at, set()).add(each["metric"]["instance"])
        return list(found.values())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Fleet:
    """The services, and the Prometheus that reads them."""

    def __init__(self, services: Child, prometheus: Prometheus, instances: list[str]) -> None:
        self.services = services
        self.prometheus = prometheus
        self.instances = instances

    def tell(self, number: int, command: str) -> None:
        """Have one of the services do something."""
        self.services.tell(f"{number} {command}")

    def wait(self, query: str, instance: str = "") -> float:
        """Wait until a query has a value; return it."""
        patiently(lambda: instance in self.prometheus.ask(query), f"{query} of {instance!r}")
        return self.prometheus.ask(query)[instance]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that has been scraped, each of it twice."""
    with Child("metered.py", str(SERVICES), str(THRESHOLD)) as services:
        ready = [services.expect("ready") for _ in range(SERVICES)]
        ports = {message["number"]: message["port"] for message in ready}
        instances = [f"127.0.0.1:{ports[number]}" for number in range(SERVICES)]
        prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), instances)
        try:
            fleet = Fleet(services, prometheus, instances)
            fleet.tell(STUCK, "hang")  # now, for Prometheus takes 5 s to begin
            fleet.wait(f"count(count_over_time(txwatchdog_running[1m]) >= 2) == {SERVICES}")
            yield fleet
        finally:
            prometheus.close()


@pytest.fixture(scope="module")
def alert(fleet: Fleet) -> dict[str, Any]:
    """The alert that fires while a service hangs, as one does from the beginning."""
    instance = fleet.instances[STUCK]
    found: list[dict[str, Any]] = []

    def fires() -> bool:
        alerts = fleet.prometheus.get("alerts")["alerts"]
        found[:] = [
            each
            for each in alerts
            if each["labels"]["alertname"] == "ReactorPaused"
            and each["labels"]["instance"] == instance
            and each["state"] == "firing"
        ]
        return bool(found)

    patiently(fires, "ReactorPaused fires")
    return found[0]


def test_rule_fires_for_a_pause_under_way(fleet: Fleet, alert: dict[str, Any]) -> None:
    """While a service hangs an alert fires, and names the function."""
    assert "hang" in alert["annotations"]["description"]
    assert "metered.py" in alert["annotations"]["description"]
    assert "has been paused for" in alert["annotations"]["summary"]
    ended = fleet.prometheus.ask('sum by (instance) (txwatchdog_pauses_total{cause="blocked"})')
    assert ended[fleet.instances[STUCK]] == 0


def test_counters_grow_during_a_pause(fleet: Fleet, alert: dict[str, Any]) -> None:
    """Each scrape during a pause finds more time paused and more time busy than the one before."""
    instance = fleet.instances[STUCK]
    for metric in ("txwatchdog_paused_seconds_total", "txwatchdog_busy_seconds_total"):
        grown = fleet.wait(metric, instance) + 0.4
        fleet.wait(f"{metric} > {grown}", instance)
        assert instance not in fleet.prometheus.ask(f"resets({metric}[1m]) > 0")


def test_pause_between_scrapes_is_there(fleet: Fleet, alert: dict[str, Any]) -> None:
    """A pause that begins after a scrape and ends before the next is counted, also as the first of
    its function."""
    instance = fleet.instances[BETWEEN]
    query = (
        f'txwatchdog_offender_pauses_total{{function="nap_between_scrapes",instance="{instance}"}}'
    )
    fleet.tell(BETWEEN, f"nap_after_scrape {THRESHOLD + 0.05}")
    fleet.wait(f"{query} == 1", instance)
    # Prometheus' increase() can't see a series' first value; this can.
    since = f"increase({query}[1m]) and {query} offset 1m or {query}"
    assert fleet.prometheus.ask(since) == {instance: 1.0}
    # So can the counter by cause, which was there before.
    fleet.wait(f'increase(txwatchdog_pauses_total{{instance="{instance}"}}[1m]) > 0', instance)


def test_who_paused_in_the_same_second(fleet: Fleet, alert: dict[str, Any]) -> None:
    """One query shows which services of a fleet paused in the same second."""
    began = time.time()
    for number in TOGETHER:
        fleet.tell(number, "nap 1.5")
    for number in TOGETHER:
        fleet.wait('txwatchdog_offender_pauses_total{function="nap"} == 1', fleet.instances[number])
    query = "(txwatchdog_paused_seconds_total - txwatchdog_paused_seconds_total offset 1s) > 0"
    expected = {fleet.instances[number] for number in (*TOGETHER, STUCK)}
    seconds = fleet.prometheus.seconds(query, began, time.time())
    # A machine that is too busy pauses others, too: they say so themselves.
    paused = set(fleet.prometheus.ask("txwatchdog_paused_seconds_total > 0"))
    assert any(expected <= second for second in seconds), seconds
    assert set().union(*seconds) <= paused
    assert expected <= paused


def test_reset_loses_nothing(fleet: Fleet) -> None:
    """What an operator resets goes on in the counters."""
    number = TOGETHER[0]
    instance = fleet.instances[number]
    before = fleet.wait("sum by (instance) (txwatchdog_pauses_total)", instance)
    fleet.tell(number, "nap 0.4")
    fleet.wait(f"sum by (instance) (txwatchdog_pauses_total) > {before}", instance)
    fleet.tell(number, "reset")
    assert fleet.services.expect("reset")["pauses"] == 0
    fleet.tell(number, "nap 0.4")
    fleet.wait(f"sum by (instance) (txwatchdog_pauses_total) > {before + 1}", instance)
    resets = fleet.prometheus.ask("sum by (instance) (resets(txwatchdog_pauses_total[1m]))")
    assert resets[instance] == 0


def test_alert_ends_with_the_pause(fleet: Fleet) -> None:
    """Once the service goes on, nothing fires any more, and the pause is blamed on its function."""
    instance = fleet.instances[STUCK]
    fleet.tell(STUCK, "wake")
    fleet.wait('txwatchdog_offender_pauses_total{function="hang"} == 1', instance)
    patiently(
        lambda: instance not in fleet.prometheus.ask('ALERTS{alertname="ReactorPaused"}'),
        "the alert is gone",
    )


def dashboard_queries() -> Iterator[str]:
    """What the dashboard asks, its variables filled in as Grafana does it."""
    values = {
        "$job": "fleet",
        "$instance": ".+",
        "$__range": "1m",
        "$__rate_interval": "30s",
        "$__interval": "1s",
    }
    for panel in json.loads(monitoring.dashboard())["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in values.items():
                query = query.replace(name, value)
            assert "$" not in query
            yield query


def test_dashboard_shows_something(fleet: Fleet) -> None:
    """Each query of the dashboard is one that Prometheus understands, and has an answer but for the
    pauses under way when there are none."""
    empty = [q for q in dashboard_queries() if not fleet.prometheus.get("query", query=q)["result"]]
    assert [query for query in empty if "under_way" not in query] == []


def test_rules_and_metrics_pass_promtool(fleet: Fleet, tmp_path: Path) -> None:
    """Prometheus' own tool finds nothing wrong with the rules, nor with a scrape."""
    rules = tmp_path / "rules.yml"
    rules.write_text(monitoring.rules())
    with urlopen(f"http://{fleet.instances[0]}/metrics", timeout=PATIENCE_SECONDS) as answer:
        scrape = answer.read()
    for command, given in ((["rules", str(rules)], b""), (["metrics"], scrape)):
        checked = subprocess.run(["promtool", "check", *command], input=given, capture_output=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert not checked.stderr, checked.stderr
