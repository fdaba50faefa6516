"""A manhole may be started and stopped at any moment, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from manhole_support import PATIENCE, SOURCE, make_key, make_keys

LIFECYCLE = Path(__file__).with_name("manhole_lifecycle.py")


@pytest.mark.parametrize(
    "reactor",
    [
        "twisted.internet.epollreactor.EPollReactor",
        "twisted.internet.pollreactor.PollReactor",
        "twisted.internet.selectreactor.SelectReactor",
        "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
    ],
)
def test_every_moment_of_a_reactors_life(tmp_path: Path, reactor: str) -> None:
    """Before it runs, while it runs, from any thread, after it: on every reactor."""
    keys = make_keys(tmp_path, make_key(tmp_path, "id"))
    result = subprocess.run(
        [
            sys.executable,
            # Conch up to 24.11 names TripleDES at import.
            *("-W", "ignore", "-W", "error::ResourceWarning"),
            *(str(LIFECYCLE), str(keys), reactor),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert (result.stdout, result.stderr, result.returncode) == ("done\n", "", 0)
