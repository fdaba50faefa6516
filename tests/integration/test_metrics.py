"""Metrics, served by real services: to strangers too, and without a trace when they end."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from support import PATIENCE_SECONDS, REACTORS, Child, Message, patiently
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from txwatchdog import Watchdog
from txwatchdog.metrics import MetricsServer
from txwatchdog.scraping import Bounds, Scraped


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Child, str]]:
    """A service, and where its metrics are."""
    with Child("metered.py", "1", "0.2") as child:
        port = child.expect("ready")["port"]
        yield child, f"http://127.0.0.1:{port}/metrics"


def scrape(url: str) -> dict[str, float]:
    """The values of all series."""
    with urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    series = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in series}


def test_scrapes_during_a_pause_show_it_growing(service: tuple[Child, str]) -> None:
    """While the reactor is stuck a scrape is answered, and each shows more of the pause."""
    child, url = service
    child.tell("0 hang")
    patiently(lambda: scrape(url)["txwatchdog_paused_seconds_total"], "a pause is under way")
    first = scrape(url)
    patiently(
        lambda: (
            scrape(url)["txwatchdog_paused_seconds_total"]
            > first["txwatchdog_paused_seconds_total"] + 0.2
        ),
        "it grows",
    )
    second = scrape(url)
    for name in ("txwatchdog_tick_age_seconds", "txwatchdog_busy_seconds_total"):
        assert second[name] > first[name] + 0.2
    assert second["txwatchdog_tick_seconds_count"] == first["txwatchdog_tick_seconds_count"]
    (place,) = [name for name in second if name.startswith("txwatchdog_pause_under_way_seconds")]
    assert 'function="hang"' in place
    assert 'txwatchdog_pauses_total{cause="blocked"}' in second
    child.tell("0 wake")
    ended = f"txwatchdog_offender_pauses_total{place.partition('seconds')[2]}"
    patiently(lambda: scrape(url)[ended] == 1, "it has ended")
    after = scrape(url)
    assert after["txwatchdog_tick_age_seconds"] < second["txwatchdog_tick_age_seconds"]
    assert after["txwatchdog_paused_seconds_total"] >= second["txwatchdog_paused_seconds_total"]
    assert after["txwatchdog_busy_seconds_total"] >= second["txwatchdog_busy_seconds_total"]


def test_formats_and_compression_are_negotiated(service: tuple[Child, str]) -> None:
    """Prometheus' own library decides on the format and the encoding, by what is asked for."""
    _, url = service
    asked = Request(
        url,
        headers={
            "Accept": "application/openmetrics-text; version=1.0.0",
            "Accept-Encoding": "gzip",
        },
    )
    with urlopen(asked, timeout=PATIENCE_SECONDS) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.read()).endswith(b"# EOF\n")
    with urlopen(f"{url}?name[]=txwatchdog_running", timeout=PATIENCE_SECONDS) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert answer.read().splitlines()[2:] == [b"txwatchdog_running 1.0"]


class Door:
    """Something that is served, in this process."""

    def __init__(self, endpoint: str, app: Any, bounds: Bounds | None = None) -> None:
        self.scraped = Scraped(endpoint, app, bounds)
        self.address: Any = self.scraped.address
        self.scraped.launch()

    def close(self) -> None:
        """Serve no more."""
        self.scraped.end()
        self.scraped.join(PATIENCE_SECONDS)

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.address.port), timeout=PATIENCE_SECONDS)

    def ask(self, *sent: bytes) -> bytes:
        """All of the answer to what is sent."""
        with self.connect() as connection:
            for data in sent:
                connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """What is served: a large page, or an error."""
    if environ["PATH_INFO"] == "/fails":
        raise RuntimeError("on purpose")
    if environ["PATH_INFO"] == "/leaves":
        raise SystemExit("on purpose")
    start_response("200 OK", [("Content-Type", "text/plain"), ("", "")])
    return [environ["PATH_INFO"].encode(), b" " * 10**6]


@pytest.fixture
def door() -> Iterator[Door]:
    """A door that few fit through."""
    opened = Door("tcp:0", hello, Bounds(connections=3, head=1000, seconds=1.0))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ((b"GET /a%20b?c HTTP/1.1\r\nHost: x\r\n", b"\r\n"), b"200 OK"),
        ((b"GET / HTTP/1.0\r\n\r\nmore than that",), b"200 OK"),
        ((b"POST / HTTP/1.1\r\n\r\n",), b"405 Method Not Allowed"),
        ((b"GET /fails HTTP/1.1\r\n\r\n",), b"500 Internal Server Error"),
        ((b"\x16\x03\x01\r\n\r\n",), b"400 Bad Request"),
        ((b"GET http://[ HTTP/1.1\r\n\r\n",), b"400 Bad Request"),
        ((b"GET / HTTP/1.1\r\nno field\r\n\r\n",), b"400 Bad Request"),
        ((b"GET / HTTP/1.1\r\nA: " + b"x" * 2000,), b"431 Request Header Fields Too Large"),
        (
            (b"GET / HTTP/1.1\r\nA: " + b"x" * 2000 + b"\r\n\r\n",),
            b"431 Request Header Fields Too Large",
        ),
        ((b"GET /leaves HTTP/1.1\r\n\r\n",), b"500 Internal Server Error"),
    ],
)
def test_whatever_is_sent_has_an_answer(door: Door, sent: tuple[bytes, ...], status: bytes) -> None:
    """Requests in pieces are put together; what is no request is told so, in bounds."""
    answer = door.ask(*sent)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    if status.startswith(b"200"):
        assert len(body) > 10**6


def test_failures_are_logged_at_a_bounded_rate(door: Door) -> None:
    """Whoever asks again and again for what fails is answered, and does not fill the log."""
    logged: list[LogEvent] = []
    observer: ILogObserver = logged.append  # type: ignore[assignment]
    globalLogPublisher.addObserver(observer)
    try:
        for _ in range(10):
            assert door.ask(b"GET /fails HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 500")
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [event["log_format"] for event in logged] == ["the metrics could not be told"] * 3


def test_those_who_linger_are_dropped(door: Door) -> None:
    """Who says nothing, or takes nothing, is dropped in time, and earlier to make room."""
    lingering = [door.connect() for _ in range(5)]
    with lingering[-1] as last:
        last.sendall(b"GET / HTTP/1.1\r\n\r\n")  # and never reads
        assert door.ask(b"GET /served HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200")
        for connection in lingering[:-1]:
            with connection:
                try:
                    assert connection.recv(1) == b""
                except ConnectionResetError:
                    pass


def test_end_drops_those_who_are_there(door: Door) -> None:
    """At the end every connection is closed, and the thread gone."""
    with door.connect() as connection:
        connection.sendall(b"GET /")
        assert door.ask(b"GET / HTTP/1.1\r\n\r\n")
        began = time.monotonic()
        door.close()
        assert time.monotonic() - began < PATIENCE_SECONDS
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
    assert door.scraped.address is None


class Unlucky(Scraped):
    """One that gets no thread."""

    def _start(self, thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")


def test_nobody_waits_where_no_thread_is() -> None:
    """Where no thread is to be had nothing listens any more; another start may have more luck."""
    reactor: Any = MemoryReactorClock()
    reactor.running = False
    reactor.removeSystemEventTrigger = lambda _: None
    server = MetricsServer(Watchdog(reactor), "tcp:0")
    unlucky = server._scraped = Unlucky("tcp:0", hello)
    address: Any = unlucky.address
    server._launch(unlucky)
    assert server.address is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", address.port), timeout=PATIENCE_SECONDS)
    server.start()
    assert server.address is not None
    server.stop()


def test_unix_socket(tmp_path: Path) -> None:
    """A `unix:` endpoint serves its owner alone, and its file goes with it."""
    path = tmp_path / "metrics"
    opened = Door(f"unix:{path}", hello)
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(str(path))
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
    finally:
        opened.close()
    assert not path.exists()


@pytest.fixture(scope="module")
def lives() -> Iterator[dict[str, Child]]:
    """A process for each reactor, all at the same time."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Child("metrics_lifecycle.py", name)) for name in REACTORS}


@pytest.mark.parametrize("reactor", REACTORS)
def test_lifecycle(lives: dict[str, Child], reactor: str) -> None:
    """Started and stopped at every moment, also before and after a fork, it leaves nothing."""
    assert [message["event"] for message in lives[reactor].finish()] == ["passed"]


def test_missing_package_is_named() -> None:
    """Without the extra's package the error says what to install, and nothing else needs it."""
    script = (
        "import sys\n"
        "sys.modules['prometheus_client'] = sys.modules['opentelemetry.context'] = None\n"
        "import txwatchdog, txwatchdog.cli\n"
        "for name in ('metrics', 'otel'):\n"
        "    try:\n"
        "        __import__(f'txwatchdog.{name}')\n"
        "    except txwatchdog.WatchdogError as error:\n"
        "        print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.stdout.splitlines() == [
        "metrics need prometheus_client: pip install 'txwatchdog[metrics]'",
        "OpenTelemetry needs opentelemetry.context: pip install 'txwatchdog[otel]'",
    ], shown.stderr


@pytest.fixture(scope="module")
def told() -> dict[str, Message]:
    """What OpenTelemetry was told of two pauses."""
    with Child("telemetry.py") as child:
        return {message["event"]: message for message in child.finish()}


def test_span_for_each_pause(told: dict[str, Message]) -> None:
    """Each pause is a span of its own that begins and ends when it did, and says where."""
    message = told["spans"]
    assert len(message["spans"]) == 2
    for span, duration, started_at in zip(
        message["spans"], message["durations"], message["started_at"], strict=True
    ):
        assert span["name"] == "reactor pause"
        assert not span["parent"]
        assert span["end"] - span["start"] == round(duration * 1e9)
        assert abs(span["start"] / 1e9 - started_at) < 1e-5
        assert span["attributes"]["code.function.name"] == "nap"
        assert "in nap\n" in span["attributes"]["code.stacktrace"]


def test_slow_exporter_holds_up_nobody(told: dict[str, Message]) -> None:
    """An exporter that takes its time keeps its own thread busy; the next pause is seen, and no
    span is lost when telemetry stops."""
    assert told["after"]["spans"] == 0
    assert told["spans"]["threads"] == ["txwatchdog-otel"]
    assert told["spans"]["left"] == []
    assert told["stopped"]["metrics"]


def test_metrics_by_way_of_opentelemetry(told: dict[str, Message]) -> None:
    """The metrics are those of Prometheus, with the names of OpenTelemetry."""
    during, after = told["during"]["metrics"], told["after"]["metrics"]
    ((place, seconds),) = during["txwatchdog.pause.under.way"]
    assert place["code.function.name"] == "nap"
    assert isinstance(place["code.line.number"], int)
    assert seconds > 0.1
    ((_, paused),) = during["txwatchdog.paused"]
    assert paused > 0.1
    assert sum(count for _, count in after["txwatchdog.pauses"]) == 2
    assert after["txwatchdog.offender.pauses"] == [[place, 2]]
    assert sum(count for _, count in after["txwatchdog.ticks"]) >= 2
    ((_, busy),) = after["txwatchdog.busy"]
    assert busy >= 0.8
