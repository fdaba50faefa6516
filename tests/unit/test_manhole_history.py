"""The file of a key's history: who may read it, how long it gets, and what spoils it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from txwatchdog.manhole.history import INPUTS, LONGEST, SIZE, HistoryFile, history_path
from txwatchdog.manhole.modes import open_private

if TYPE_CHECKING:
    from collections.abc import Iterator

FINGERPRINT = "SHA256:j6Oqsvqpt54KA5jaW/q9B+AUJEKlvoC5pkYI1xjLH80"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a history goes; neither it nor its directory is there yet."""
    return history_path(tmp_path, FINGERPRINT)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    messages: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        messages.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield messages
    globalLogPublisher.removeObserver(observe)


def _filled(path: Path, *texts: str) -> HistoryFile:
    history = HistoryFile(path)
    history.load()
    for text in texts:
        history.add(text)
    return history


def test_the_name_is_the_fingerprint(tmp_path: Path) -> None:
    """The file is named as ssh-keygen names the key, without what no file name has."""
    path = history_path(tmp_path, FINGERPRINT)
    assert path == tmp_path / "history" / "SHA256-j6Oqsvqpt54KA5jaW_q9B-AUJEKlvoC5pkYI1xjLH80"


def test_what_was_typed_comes_back(path: Path) -> None:
    """Inputs come back in order, lines and all, and nobody else can read them."""
    _filled(path, "one", "def f():\n    return '日本\\n'\n")
    assert HistoryFile(path).load() == ["one", "def f():\n    return '日本\\n'\n"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_text_comes_back(texts: list[str]) -> None:
    """Whatever the characters, an input is a line of the file."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = history_path(Path(directory), FINGERPRINT)
        _filled(path, *texts)
        assert HistoryFile(path).load() == texts


def test_two_sessions_keep_both_their_lines(path: Path) -> None:
    """Two sessions of one key add to the same file, in the order in which they come."""
    one, two = _filled(path), _filled(path)
    one.add("a")
    two.add("b")
    one.add("c")
    assert HistoryFile(path).load() == ["a", "b", "c"]


def test_it_is_bounded(path: Path) -> None:
    """The latest thousand inputs stay, and the file does not go far beyond these."""
    one, two = _filled(path), _filled(path)
    for number in range(700):
        one.add(f"one {number}")
        two.add(f"two {number}")
    inputs = HistoryFile(path).load()
    assert len(inputs) == INPUTS
    assert inputs[-2:] == ["one 699", "two 699"]
    assert len(path.read_text().splitlines()) <= INPUTS + 100
    assert list(path.parent.iterdir()) == [path]


def test_its_size_is_bounded(path: Path) -> None:
    """Large inputs push older ones out; what is too large is not kept."""
    history = _filled(path, "x" * (LONGEST + 1))
    for number in range(200):
        history.add(f"{number:03}" + "y" * 12_000)
    assert path.stat().st_size <= SIZE + LONGEST
    assert HistoryFile(path).load()[-1].startswith("199")


def test_what_a_lock_holds_up_comes_later(path: Path) -> None:
    """While another process has the file locked nobody waits, and nothing is lost."""
    history = _filled(path, "first")
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        history.add("meanwhile")
    history.add("after")
    assert HistoryFile(path).load() == ["first", "meanwhile", "after"]


def test_a_file_that_another_has_just_shortened_is_opened_again(path: Path) -> None:
    """What is written to the one that is gone would be lost."""
    history = _filled(path, "first")
    opened: list[Path] = []

    def overtaken(which: Path) -> int:
        descriptor = open_private(which)
        opened.append(which)
        if len(opened) == 1:
            shorter = path.with_name("shorter")
            shorter.write_bytes(path.read_bytes())
            shorter.chmod(0o600)
            shorter.replace(path)
        return descriptor

    with patch("txwatchdog.manhole.history.open_private", overtaken):
        history.add("second")
    assert len(opened) == 2
    assert HistoryFile(path).load() == ["first", "second"]


def test_a_spoilt_line_is_passed_over(path: Path, said: list[str]) -> None:
    """Lines that are no history cost themselves alone, and the log says so."""
    _filled(path, "good")
    with path.open("ab") as file:
        file.write(b'\xff\x00\n{"not": "text"}\n"cut')
    assert HistoryFile(path).load() == ["good"]
    assert "3 lines are no history" in said[0]


def _open_to_others(path: Path) -> None:
    path.touch(0o600)
    path.chmod(0o644)


def _directory_open_to_others(path: Path) -> None:
    path.parent.chmod(0o755)


def _link(path: Path) -> None:
    (path.parent / "other").touch(0o600)
    path.symlink_to(path.parent / "other")


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "spoil", [_open_to_others, _directory_open_to_others, _link, _fifo, _directory]
)
def test_an_unsafe_file_is_left_alone(path: Path, said: list[str], spoil: Any) -> None:
    """What others could read, or have put there, is not used; the log says why, once."""
    path.parent.mkdir(mode=0o700)
    spoil(path)
    history = _filled(path, "secret", "more")
    assert history.load() == []
    assert "history lasts as long as each session" in said[0]
    assert str(path.parent) in said[0]
    contents = [each.read_bytes() for each in path.parent.iterdir() if each.is_file()]
    assert b"secret" not in b"".join(contents)
