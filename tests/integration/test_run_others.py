"""`txwatchdog run` with services that others wrote.

What is not installed is skipped: pip install scrapy daphne django klein autobahn.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from manhole_support import PATIENCE, SOURCE
from support import patiently

OTHERS = Path(__file__).with_name("others")
RUN = (sys.executable, "-m", "txwatchdog", "run", "--threshold", "0.2", "--no-manhole", "--")


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{SOURCE}:{OTHERS}", **more}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class _Server:
    """A server that is run, once it listens."""

    def __init__(self, where: Path, *words: str) -> None:
        self.port = _free_port()
        self._log = where / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*RUN, *(word.replace("PORT", str(self.port)) for word in words)],
                cwd=where,
                env=_environment(),
                stdout=log,
                stderr=log,
            )

    def listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
        except OSError:
            return False
        return True

    def get(self, path: str) -> bytes:
        url = f"http://127.0.0.1:{self.port}/{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            body: bytes = answer.read()
            return body

    def last_words(self) -> str:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        return self._log.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def _server(where: Path, *words: str) -> Iterator[_Server]:
    server = _Server(where, *words)
    try:
        patiently(server.listens, "the server listens")
        yield server
    finally:
        server.kill()


def test_scrapy(tmp_path: Path) -> None:
    """A crawl of a local site comes to its items, and names its parse."""
    pytest.importorskip("scrapy")
    (tmp_path / "index.html").write_text("<html></html>")
    pages = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), pages) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        crawl = subprocess.run(
            [*RUN, "scrapy", "runspider", str(OTHERS / "spider.py"), "-O", "items.json"],
            cwd=tmp_path,
            env=_environment(SITE=f"http://127.0.0.1:{site.server_port}/index.html"),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        site.shutdown()
    assert crawl.returncode == 0, crawl.stderr
    assert "index.html" in (tmp_path / "items.json").read_text()
    assert re.search(r"txwatchdog: worst: parse \(others/spider.py:\d+\)", crawl.stderr)


def test_daphne(tmp_path: Path) -> None:
    """Daphne names the Django view that pauses its loop, and none that runs in a thread."""
    pytest.importorskip("daphne")
    pytest.importorskip("django")
    words = ("daphne", "-b", "127.0.0.1", "-p", "PORT", "django_site:application")
    with _server(tmp_path, *words) as server:
        assert server.get("thread") == server.get("slow") == b"slow"
        told = server.last_words()
    assert re.search(r"worst: report \(others/django_site.py:\d+\), 1 pause,", told)
    assert "report_in_thread" not in told


def test_klein(tmp_path: Path) -> None:
    """A klein app names the route's function."""
    pytest.importorskip("klein")
    with _server(tmp_path, str(OTHERS / "klein_app.py"), "PORT") as server:
        assert server.get("slow") == b"slow"
        told = server.last_words()
    assert re.search(r"worst: slow \(others/klein_app.py:\d+\), 1 pause,", told)


def test_autobahn(tmp_path: Path) -> None:
    """A WebSocket server names its onMessage."""
    pytest.importorskip("autobahn")
    script = str(OTHERS / "websocket.py")
    with _server(tmp_path, script, "PORT") as server:
        talk = [sys.executable, script, str(server.port), "talk"]
        said = subprocess.run(talk, capture_output=True, text=True, timeout=PATIENCE)
        assert said.stdout == "slow\n", said.stderr
        told = server.last_words()
    assert re.search(r"worst: onMessage \(others/websocket.py:\d+\), 1 pause,", told)
