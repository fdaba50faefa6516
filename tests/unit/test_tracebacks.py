"""Tracebacks as text: like Python's, the reactor's plumbing folded."""

from __future__ import annotations

from txwatchdog.records import Frame
from txwatchdog.tracebacks import traceback_text

REACTOR = [
    Frame("<module>", "/srv/app/main.py", 9),
    Frame("run", "/x/twisted/internet/base.py", 1),
    Frame("mainLoop", "/x/twisted/internet/base.py", 2),
    Frame("runUntilCurrent", "/x/twisted/internet/base.py", 3),
]
APP = Frame("fetch_user", "/srv/app/db.py", 41)
DEFERRED = Frame("_runCallbacks", "/x/twisted/internet/defer.py", 5)


def test_reactor_frames_are_folded() -> None:
    """What leads to the callback is one line, and so is what Deferreds put in between."""
    text = traceback_text([*REACTOR, APP, DEFERRED, DEFERRED, APP])
    assert text.splitlines() == [
        "Traceback (most recent call last):",
        "  … 4 reactor frames",
        '  File "/srv/app/db.py", line 41, in fetch_user',
        "  … 2 reactor frames",
        '  File "/srv/app/db.py", line 41, in fetch_user',
    ]


def test_innermost_frame_is_always_shown() -> None:
    """A reactor that had called nobody still shows where it is."""
    assert traceback_text(REACTOR).splitlines()[1:] == [
        "  … 3 reactor frames",
        '  File "/x/twisted/internet/base.py", line 3, in runUntilCurrent',
    ]
    assert traceback_text([*REACTOR, DEFERRED]).splitlines()[-1].endswith("in _runCallbacks")


def test_no_frames_are_no_text() -> None:
    """Nothing is made of nothing, and a stack without a reactor is shown whole."""
    assert traceback_text([]) == ""
    assert traceback_text([APP]).count("File") == 1


def test_impossible_file_name_is_shown() -> None:
    """A file name that no file can have does not keep the rest from being shown."""
    assert "in f" in traceback_text([Frame("f", "a\0b\udc80", 1)])
