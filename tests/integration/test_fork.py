"""A service that forks after it was watched, and callbacks that run a loop of their own."""

from __future__ import annotations

import pytest
from support import REACTORS, Child


@pytest.mark.parametrize("reactor", REACTORS)
def test_watched_before_the_fork(reactor: str) -> None:
    """A watchdog that was started before a fork works in the child, says so, and ends there."""
    with Child("forker.py", reactor) as child:
        told = {message.pop("event"): message for message in child.finish()}
    assert told["rings"]["rings"]["thread"] == "on"
    assert told["rings"]["rings"]["sigalrm"] == "on"
    assert "block" in told["offenders"]["names"]
    assert "unknown" not in told["causes"]["causes"]
    assert told["stopped"]["threads"] == ["MainThread"]


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select"])
def test_loop_within_a_callback(reactor: str) -> None:
    """A callback that runs an asyncio loop to its end is blamed for it."""
    with Child("forker.py", reactor) as child:
        told = {message.pop("event"): message for message in child.finish()}
    assert "run_a_loop_of_its_own" in told["offenders"]["names"]
