"""A watchdog comes and goes, in real services on each reactor, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import pytest
from lifecycle import MAINS, SCENARIOS
from support import REACTORS, Child, Message, outcome

Told: TypeAlias = "Mapping[str, Message]"
"""What became of each scenario, by its name."""


def run(reactor: str, *names: str) -> Told:
    """Run scenarios in a process of their own."""
    with Child("lifecycle.py", reactor, *names) as child:
        child.expect("ready")
        return {message["name"]: message for message in child.finish()}


def run_all(reactor: str) -> Told:
    """Run all that share a running reactor, and those that run it themselves."""
    told = dict(run(reactor, *SCENARIOS))
    for name in MAINS:
        told.update(run(reactor, "main", name))
    return told


@pytest.fixture(scope="module")
def told() -> Iterator[Mapping[str, Future[Told]]]:
    """All scenarios on each reactor, at the same time: most of them sleep."""
    with ThreadPoolExecutor(len(REACTORS)) as pool:
        yield {reactor: pool.submit(run_all, reactor) for reactor in REACTORS}


@pytest.mark.parametrize("reactor", REACTORS)
@pytest.mark.parametrize("name", [*SCENARIOS, *MAINS])
def test_scenario(told: Mapping[str, Future[Told]], reactor: str, name: str) -> None:
    """It goes as the scenario's own docstring says, and leaves no trace in its process."""
    message = outcome(told[reactor])[name]
    assert message["event"] == "passed", message["traceback"]
