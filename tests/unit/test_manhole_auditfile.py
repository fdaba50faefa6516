"""The audit trail's file: who may read it, how long it gets, and what spoils it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import stat
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import pytest
from twisted.logger import ILogObserver, Logger, LogPublisher, formatEvent

from txwatchdog.auditlog import NAMESPACE, tell
from txwatchdog.errors import AuditError
from txwatchdog.manhole.auditfile import WAITING, AuditFile, Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Trail:
    """An audit file that is written to without a thread, and what is logged of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self.publisher = LogPublisher()
        self._tell = Logger(namespace=NAMESPACE, observer=self.publisher)
        observe = cast("ILogObserver", lambda event: self.said.append(formatEvent(event)))
        self.file = AuditFile(path, self.publisher, Logger(namespace="test", observer=observe))

    def tell(self, number: int) -> None:
        tell("verb", "done", self._tell, what=f"verb {number}")

    def write(self) -> None:
        """Do what the thread does, once."""
        self.file.settle(lambda: None)
        self.file._turn()

    def records(self) -> list[dict[str, Any]]:
        """What stands in the file."""
        return [json.loads(line) for line in self.path.read_text("ascii").splitlines()]

    def whats(self) -> list[str]:
        return [record.get("what", record["outcome"]) for record in self.records()]


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    """One whose file is not there yet."""
    return Trail(tmp_path / "audit.json")


def test_an_event_is_a_line_of_json(trail: Trail) -> None:
    """The file is its owner's alone; each event has its time, its process and its fields."""
    trail.file.open()
    assert stat.S_IMODE(trail.path.stat().st_mode) == 0o600
    trail.tell(1)
    Logger(namespace="other", observer=trail.publisher).info("not of the trail")
    trail.file.close()
    trail.tell(2)
    ((record),) = trail.records()
    assert list(record) == ["time", "pid", "event", "outcome", "what"]
    assert record["time"].endswith("Z")
    assert (record["pid"], record["event"], record["what"]) == (os.getpid(), "verb", "verb 1")
    assert trail.said == []


def _directory(path: Path) -> None:
    path.mkdir()


def _no_directory(path: Path) -> None:
    path.parent.rmdir()


def _link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


def _open_to_others(path: Path) -> None:
    path.touch()
    path.chmod(0o620)


def _foreign(path: Path) -> None:
    path.touch()
    os.chown(path, 12345, -1)


BAD: list[tuple[Callable[[Path], object], str]] = [
    (_directory, "is a directory; give a file"),
    (_no_directory, "mkdir -p "),
    (_link, "symbolic link; give the file itself"),
    (os.mkfifo, "is no file: there must be one, or nothing yet"),
    (_open_to_others, "has mode 0620, others may use it; chmod 600 "),
    (_foreign, "belongs to another user (uid 12345)"),
]


@pytest.mark.parametrize(("spoil", "says"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
def test_a_file_that_is_unfit_is_an_error_at_the_start(
    tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    """It names the file, and what to do; nothing is observed."""
    if spoil is _foreign and os.geteuid():
        pytest.skip("only root can make a file that is somebody else's")
    trail = Trail(tmp_path / "audit" / "trail.json")
    trail.path.parent.mkdir()
    spoil(trail.path)
    with pytest.raises(AuditError) as caught:
        trail.file.open()
    assert str(trail.path) in str(caught.value)
    assert says in str(caught.value)
    trail.tell(1)
    assert trail.file._queue.empty()


@pytest.mark.skipif(not os.geteuid(), reason="root may write anywhere")
def test_a_directory_that_is_not_ours_is_an_error_at_the_start(trail: Trail) -> None:
    """No new file could be begun there when one is full."""
    trail.path.touch(0o600)
    trail.path.parent.chmod(0o500)
    with pytest.raises(AuditError, match="give it a directory of its own"):
        trail.file.open()


@pytest.mark.parametrize(("spoil", "says"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
def test_what_spoils_the_file_later_is_told_once(
    tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    """Events wait, and are written when it is repaired, which the log and the file tell."""
    if spoil is _foreign and os.geteuid():
        pytest.skip("only root can make a file that is somebody else's")
    trail = Trail(tmp_path / "audit" / "trail.json")
    trail.path.parent.mkdir()
    trail.file.open()
    trail.path.unlink()
    spoil(trail.path)
    for number in (1, 2):
        trail.tell(number)
        trail.write()
    (said,) = trail.said
    assert said.startswith("the audit trail can't be written: ")
    assert str(trail.path) in said
    assert says in said
    if trail.path.is_dir():
        trail.path.rmdir()
    trail.path.unlink(missing_ok=True)
    trail.path.parent.mkdir(exist_ok=True)
    trail.tell(3)
    trail.write()
    assert trail.whats() == ["verb 1", "verb 2", "verb 3", "resumed"]
    assert trail.records()[-1]["lost"] == 0
    assert trail.said[1:] == [
        f"the audit trail's file {trail.path} is written to again; 0 events were lost"
    ]


def test_events_that_do_not_fit_are_counted(trail: Trail) -> None:
    """So many wait; the log says once that more are lost, and log and file how many."""
    trail.file.open()
    trail.path.unlink()
    trail.path.mkdir()
    for number in range(WAITING + 10):
        trail.tell(number)
    assert len(trail.said) == 1
    assert "does not keep up: events are lost" in trail.said[0]
    trail.write()
    for number in range(5):
        trail.tell(number)
        trail.write()
    assert len(trail.said) == 2
    trail.path.rmdir()
    trail.write()
    assert trail.whats() == [*(f"verb {number}" for number in range(WAITING)), "resumed"]
    assert trail.records()[-1]["lost"] == 15
    assert trail.said[2].endswith("again; 15 events were lost")


def test_what_is_not_written_at_the_end_is_told(trail: Trail) -> None:
    """A file that cannot be written to up to the end costs events, whose number is logged."""
    trail.file.open()
    trail.path.unlink()
    trail.path.mkdir()
    trail.tell(1)
    trail.tell(2)
    trail.file.close()
    assert trail.said[1].endswith("could not be written to: 2 events are lost")


@contextlib.contextmanager
def _full_at(size: int) -> Iterator[None]:
    """No file of this process may get longer, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_tears_one_line_at_most(trail: Trail) -> None:
    """What was cut off is written anew, in a line of its own, when there is room."""
    trail.file.open()
    trail.tell(1)
    trail.write()
    with _full_at(trail.path.stat().st_size + 20):
        trail.tell(2)
        trail.write()
        trail.tell(3)
        trail.write()
    (said,) = trail.said
    assert str(trail.path) in said
    trail.write()
    lines = trail.path.read_text().splitlines()
    assert len(lines[1]) == 20
    del lines[1]
    whats = [json.loads(line).get("what") for line in lines]
    assert whats == ["verb 1", "verb 2", "verb 3", None]


def test_a_long_file_is_put_aside(tmp_path: Path) -> None:
    """The latest lines are in the file, those before in files with numbers; the oldest go."""
    path = tmp_path / "audit.json"
    lines = Lines(path, size=100, old=2)
    lines.check()
    for number in range(10):
        lines.append(deque([b"%d%s\n" % (number, b"x" * 58)]))
    kept = {each.name: each.read_text().replace("x", "").split() for each in tmp_path.iterdir()}
    assert kept == {
        "audit.json": ["8", "9"],
        "audit.json.1": ["6", "7"],
        "audit.json.2": ["4", "5"],
    }
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
    lines.append(deque(b"%d%s\n" % (number, b"x" * 58) for number in range(10, 14)))
    assert path.with_name("audit.json.1").read_text().replace("x", "").split() == ["10", "11"]


def test_a_file_that_another_has_just_put_aside_is_not_put_aside_again(tmp_path: Path) -> None:
    """Who comes second begins the new one, and the older ones stay where they are."""
    path, aside = tmp_path / "audit.json", tmp_path / "audit.json.1"
    path.write_bytes(b"old\n")
    lock = fcntl.flock

    def overtaken(descriptor: int, how: int) -> None:
        path.replace(aside)
        lock(descriptor, how)

    with patch("fcntl.flock", overtaken):
        Lines(path, size=4).append(deque([b"new\n"]))
    assert (path.read_bytes(), aside.read_bytes()) == (b"new\n", b"old\n")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_can_not_be_begun_anew_loses_no_line(tmp_path: Path) -> None:
    """Put aside, with nothing in its place: what was to be written waits."""
    path = tmp_path / "audit.json"
    path.write_bytes(b"old\n")
    lines, waiting = Lines(path, size=4), deque([b"new\n"])
    opened = lines._open()
    with (
        patch.object(lines, "_open", side_effect=[opened, OSError("no room")]),
        pytest.raises(OSError, match="no room"),
    ):
        lines.append(waiting)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened)
    lines.append(waiting)
    assert path.read_bytes() == b"new\n"


def test_two_processes_may_write_to_one_file(tmp_path: Path) -> None:
    """While one puts the file aside, the other writes on, and loses nothing."""
    path = tmp_path / "audit.json"
    one, other = (Lines(path, size=100, old=50) for _ in range(2))
    for number in range(20):
        (one if number % 3 else other).append(deque([b"%d%s\n" % (number, b"x" * 48)]))
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for number in range(20, 25):  # the lock is somebody's, who is about to put it aside
        one.append(deque([b"%d%s\n" % (number, b"x" * 48)]))
    os.close(descriptor)
    other.append(deque([b"25\n"]))
    text = "".join(each.read_text() for each in tmp_path.iterdir())
    assert sorted(map(int, text.replace("x", "").split())) == list(range(26))


def test_a_file_that_was_moved_away_is_begun_anew(trail: Trail) -> None:
    """What turns logs round may take it at any time."""
    trail.file.open()
    trail.tell(1)
    trail.write()
    trail.path.rename(trail.path.with_name("taken"))
    trail.tell(2)
    trail.write()
    assert trail.whats() == ["verb 2"]
    assert trail.said == []


def test_a_forked_child_leaves_the_file_alone(trail: Trail) -> None:
    """It has no thread that would write, and its events are not the parent's."""
    trail.file.open()
    trail.file._pid = os.getpid() + 1
    trail.tell(1)
    assert trail.file._queue.empty()


def test_whoever_waits_is_told_when_all_is_written(trail: Trail) -> None:
    """Also if it can't be: nobody waits for a full disk."""
    settled: list[str] = []
    trail.file.open()
    trail.tell(1)
    trail.file.settle(lambda: settled.extend(trail.whats()))
    trail.file._turn()
    assert settled == ["verb 1"]
    trail.path.unlink()
    trail.path.mkdir()
    trail.tell(2)
    trail.file.settle(lambda: settled.append("anyway"))
    trail.file._turn()
    assert settled == ["verb 1", "anyway"]


def test_an_observer_that_exits_does_not_end_the_trail(trail: Trail) -> None:
    """What a log observer raises when it is told of trouble keeps the rest from nothing."""
    said: list[str] = []

    def observe(event: Any) -> None:
        said.append(formatEvent(event))
        if len(said) == 1:
            raise SystemExit

    log = Logger(namespace="test", observer=cast("ILogObserver", observe))
    trail.file = AuditFile(trail.path, trail.publisher, log)
    trail.file.open()
    trail.path.unlink()
    trail.path.mkdir()
    trail.tell(1)
    trail.file.close()
    assert "can't be written" in said[0]
    assert "1 events are lost" in said[-1]
