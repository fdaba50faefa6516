"""The kernel's files, as far as they are read by us."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import pytest

from txwatchdog.clocks import _numbers, _ran_at_ns

SCHED = """python (18050, #threads: 1)
-------------------------------------------------------------------
se.exec_start                                :       3800046.566838
se.vruntime                                  :       1347001.738199
"""


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [(SCHED, 3_800_046_566_838), ("", None), ("exec_start", None), ("se.exec_start : x.y\n", None)],
)
def test_when_a_thread_last_ran(tmp_path: Path, text: str, at_ns: int | None) -> None:
    """The scheduler's file tells when a thread last had a CPU, or nothing is known."""
    path = tmp_path / "sched"
    path.write_text(text)
    file = FileIO(path)
    assert _ran_at_ns(file) == at_ns
    file.close()
    assert _ran_at_ns(file) is None
    assert _ran_at_ns(None) is None


@pytest.mark.parametrize(("text", "numbers"), [("12 34 5\n", (12, 34, 5)), ("12 34\n", None)])
def test_how_a_thread_was_scheduled(
    tmp_path: Path, text: str, numbers: tuple[int, int, int] | None
) -> None:
    """The schedstat file tells CPU time, time queued and slices, or nothing is known."""
    path = tmp_path / "schedstat"
    path.write_text(text)
    file = FileIO(path)
    assert _numbers(file) == numbers
    file.close()
    assert _numbers(file) is None
