"""Watchdog and manhole as a service among services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manhole_support import make_key, make_keys
from support import Child
from twisted.internet.testing import MemoryReactorClock

from txwatchdog.service import WatchdogService


def test_service(tmp_path: Path) -> None:
    """It starts and stops with the others, twice, and keeps none of them from anything."""
    keys = make_keys(tmp_path, make_key(tmp_path, "id"))
    with Child("served.py", str(keys)) as child:
        before = child.expect("before")
        assert (before["reactor"], before["manhole"]) == (False, None)
        names = child.expect("names")
        assert (names["names"], names["is_root"]) == (["answer", "reactor", "service"], True)
        for pauses in (1, 2):
            assert child.expect("part")["doing"] == "start"
            started = child.expect("started")
            assert (started["problems"], started["running"]) == (["no broken: no such thing"], True)
            assert [child.expect("part")["doing"] for _ in "12"] == ["stop", "stopped"]
            stopped = child.expect("stopped")
            assert stopped["pauses"] >= pauses
            assert not [name for name in stopped["threads"] if "txwatchdog" in name]
        taken = child.expect("taken")
        assert "already in use" in taken["problems"][0]
        assert taken["running"]


def test_metrics_begin_once() -> None:
    """However often the service starts, its metrics count on, and nobody counts twice."""
    reactor: Any = MemoryReactorClock()
    reactor.running = False
    service = WatchdogService(reactor, manhole=None, systemd=False, metrics="tcp:0")
    observers = []
    for _ in range(3):
        service.startService()
        assert service.problems == []
        observers.append(len(service.watchdog._observers))
        service.stopService()
    assert observers == [1, 1, 1]


def test_bad_argument() -> None:
    """With a reactor what is wrong with an argument is said at once."""

    class Reactor:
        running = False

    with pytest.raises(ValueError, match="threshold must be"):
        WatchdogService(Reactor(), threshold=0)  # type: ignore[arg-type]
