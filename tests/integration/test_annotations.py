"""`Watchdog.annotate` in a real service: what is noted while it pauses is on the record."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest
from support import Child, Message, outcome

RUNS = {
    "epoll": ("epoll", "thread", "sigalrm"),
    "asyncio": ("asyncio", "thread", "sigalrm"),
    "original": ("select", "sigalrm"),
}
NOTED: dict[str, dict[str, Any]] = {
    "at_once": {"request": "GET /inner", "user": 7},
    "match_at_length": {"request": "GET /search"},
    "in_coroutine": {"request": "GET /awaits"},
    "in_generator": {"request": "GET /yields"},
    "of_another": {},
}
"""What pauses, and what is to be noted of it."""

Runs: TypeAlias = dict[str, Future[list[Message]]]


def _run(*arguments: str) -> list[Message]:
    with Child("annotator.py", *arguments) as child:
        return child.finish()


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """All runs, at the same time."""
    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(_run, *arguments) for name, arguments in RUNS.items()}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("place", NOTED)
def test_a_pause_has_what_is_noted_where_it_happens(run: str, place: str, runs: Runs) -> None:
    """In a function, a coroutine, a generator; not in others while those wait, nor from threads."""
    found = [
        message
        for message in outcome(runs[run])
        if message["event"] == "pause" and f"in {place}\n" in message["text"]
    ]
    assert [message["noted"] for message in found] == [NOTED[place]]
    assert ("\nAnnotated request=" in found[0]["text"]) == bool(NOTED[place])


@pytest.mark.parametrize("run", ["epoll", "asyncio"])
def test_the_alarm_reads_it_too(run: str, runs: Runs) -> None:
    """Where the watch thread can't look, the signal's handler reads what is noted."""
    (found,) = [
        message
        for message in outcome(runs[run])
        if message["event"] == "pause" and "in match_at_length\n" in message["text"]
    ]
    assert "sigalrm" in found["rings"]


def test_the_log_has_it(runs: Runs) -> None:
    """The log's event has it as a field and in its text, where there is something."""
    logged = [message for message in outcome(runs["epoll"]) if message["event"] == "logged"]
    assert all(message["noted"] in NOTED.values() for message in logged)
    texts = [message["text"] for message in logged if message["noted"].get("user")]
    assert [text.endswith(" [request='GET /inner', user=7]") for text in texts] == [True]
    assert not any("[" in message["text"] for message in logged if not message["noted"])
