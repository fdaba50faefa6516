"""Whatever goes wrong around them, watchdog and manhole leave the service alone, and say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from manhole_faults import FAULTS
from manhole_support import make_key, make_keys
from support import Child, Message, outcome

PROCESSES = 3
"""The faults are shared out among so many."""


def run(directory: Path, names: list[str]) -> Mapping[str, Message]:
    """Have faults injected in a process of their own."""
    make_keys(directory, make_key(directory, "id"))
    with Child("manhole_faults.py", str(directory), *names) as child:
        child.expect("ready")
        return {message["name"]: message for message in child.finish()}


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Future[Mapping[str, Message]]]]:
    """What became of each fault, by its name; they wait more than they compute."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        runs = {}
        for number in range(PROCESSES):
            names = list(FAULTS)[number::PROCESSES]
            runs.update(dict.fromkeys(names, pool.submit(run, tmp_path_factory.mktemp("f"), names)))
        yield runs


@pytest.mark.parametrize("name", FAULTS)
def test_fault(told: Mapping[str, Future[Mapping[str, Message]]], name: str) -> None:
    """It goes as the fault's own docstring says, and leaves no trace in its process."""
    message = outcome(told[name])[name]
    assert message["event"] == "passed", message["traceback"]
