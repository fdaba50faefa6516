"""What holds for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import formatEvent, globalLogPublisher

# A loaded machine may take its time: how long an example takes says nothing about it.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.load_profile("patient")

TOOLS = ("ssh", "ssh-keygen", "ssh-agent", "ssh-add", "tmux")
"""Programs that some tests are made with, on a machine that may have no more than Python."""


def _skipped_without_its_tool() -> Generator[None, object, object]:
    try:
        return (yield)
    except FileNotFoundError as error:
        if error.filename in TOOLS and shutil.which(error.filename) is None:
            pytest.skip(f"{error.filename} is not installed")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """Skip what can't be set up for want of a program, and say which."""
    return (yield from _skipped_without_its_tool())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip what can't be run for want of a program, and say which."""
    return (yield from _skipped_without_its_tool())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What Twisted logs meanwhile."""
    lines: list[str] = []
    keep: Any = lambda event: lines.append(formatEvent(event))  # noqa: E731 - typed so
    globalLogPublisher.addObserver(keep)
    yield lines
    globalLogPublisher.removeObserver(keep)
