"""`txwatchdog.testing.no_pauses` with a reactor that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from manhole_support import PATIENCE, SOURCE
from support import Child


def test_what_pauses_fails_and_nothing_else() -> None:
    """A pause in the block, or of others meanwhile, fails; many short turns don't."""
    with Child("held.py") as child:
        assert "an asyncio loop runs here" in child.expect("elsewhere")["text"]
        for name in ("at_once", "meanwhile"):
            found = child.expect(name)
            assert found["kind"] == "AssertionError"
            assert re.match(
                r"the reactor paused .* for longer than 0\.2 s\nTraceback", found["text"]
            )
            assert "in fetch_user (integration/held.py:" in found["text"]
        assert child.expect("at_ease")["kind"] is None
        assert child.expect("fail")["kind"] == "KeyError"
        assert child.expect("end")["threads"] == ["MainThread"]
        assert child.finish() == []


TRIAL = """
import time
from twisted.internet import reactor, task
from twisted.trial.unittest import TestCase
from txwatchdog.testing import no_pauses

def fetch_user():
    time.sleep(0.3)

class Search(TestCase):
    async def test_awaits(self):
        with no_pauses(reactor, threshold=0.2):
            for _ in range(5):
                await task.deferLater(reactor, 0.06)
            fetch_user()

    async def test_at_ease(self):
        with no_pauses(reactor, threshold=0.2):
            for _ in range(5):
                await task.deferLater(reactor, 0.06)

    def test_no_reactor(self):
        with no_pauses(reactor, threshold=0.2):
            fetch_user()
"""


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
def test_under_trial(reactor: str, tmp_path: Path) -> None:
    """Trial begins tests before the reactor runs: those that pause fail, if it ever does or not."""
    (tmp_path / "test_search.py").write_text(TRIAL)
    trial = [sys.executable, "-m", "twisted.trial", "--reactor", reactor, "test_search"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(tmp_path)])}
    found = subprocess.run(
        trial, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert "FAILED (errors=2, successes=1)" in found.stdout, found.stdout + found.stderr
    assert found.stdout.count("in fetch_user (") == 2
    assert re.search(r"test_at_ease \.\.\. +\[OK\]", found.stdout)
