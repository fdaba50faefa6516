"""Interruptions at arbitrary moments, on each reactor."""

from __future__ import annotations

import pytest
from support import REACTORS, Child

COUNT = 300


@pytest.mark.parametrize("reactor", REACTORS)
def test_hammered(reactor: str) -> None:
    """After 300 interruptions the reactor runs, its timed calls are alive, and none was raised in
    code of the reactor's own.
    """
    with Child("hammer.py", reactor, str(COUNT)) as child:
        told = child.expect("hammered")
        ended = child.expect("ended")
    assert told["outcomes"]["interrupted"] >= COUNT, told
    assert told["alive"]
    assert told["fired"] == 40
    assert told["logged"] > 0
    assert told["others"] == []
    assert {kind for _, kind in told["places"]} <= {"application", "stdlib"}, told["places"]
    assert not [file for file, _ in told["places"] if "/asyncio/" in file or "/logging/" in file]
    assert told["error"] is None
    assert ended["handler"] in {"0", "Handlers.SIG_DFL"}
