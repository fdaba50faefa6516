"""Which event of the reactor led to a frame, read from the reactor's own variables."""

from __future__ import annotations

import sys
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import LoopingCall

from txwatchdog.origin import Origin, read_origin


def frame_in(name: str, file: str, **variables: object) -> FrameType:
    """A frame of a function `name` of `file` that has those local variables."""
    body = "".join(f"    {each} = given[{each!r}]\n" for each in variables)
    source = f"def {name}(given):\n{body}    return frame(0)\n"
    names: dict[str, Any] = {"frame": sys._getframe}
    exec(compile(source, f"/lib/{file}", "exec"), names)
    found = names[name](variables)
    assert isinstance(found, FrameType)
    return found


def work() -> None:
    """What is called."""


class Protocol:
    """What data comes to."""


class Endless:
    """What wraps itself."""

    def __init__(self) -> None:
        self.func = self

    def __call__(self) -> None:
        """Be callable."""


ENDLESS = Endless()
LOOPING = LoopingCall(work)
TRACEBACK = [
    '  File "/srv/app/main.py", line 7, in begin\n    later()\n',
    '  File "/lib/twisted/internet/base.py", line 9, in callLater\n    x\n',
]


@pytest.mark.parametrize(
    ("frame", "origin"),
    [
        (
            ("runUntilCurrent", "base.py", {"call": SimpleNamespace(func=work)}),
            Origin("timed call", "work"),
        ),
        (
            (
                "runUntilCurrent",
                "base.py",
                {"f": len, "call": SimpleNamespace(func=partial(work), creator=TRACEBACK)},
            ),
            Origin("timed call", "work", scheduled_by="/srv/app/main.py:7 in begin"),
        ),
        (
            (
                "runUntilCurrent",
                "base.py",
                {"call": SimpleNamespace(func=work, creator=['File "/a, b/c.py", line 7, in g\n'])},
            ),
            Origin("timed call", "work", scheduled_by="/a, b/c.py:7 in g"),
        ),
        (
            ("runUntilCurrent", "base.py", {"call": SimpleNamespace(func=ENDLESS)}),
            Origin("timed call", "Endless"),
        ),
        (
            ("runUntilCurrent", "base.py", {"call": SimpleNamespace(func=LOOPING)}),
            Origin("timed call", "work"),
        ),
        (
            ("runUntilCurrent", "base.py", {"call": SimpleNamespace(func=Protocol())}),
            Origin("timed call", "Protocol"),
        ),
        (
            ("runUntilCurrent", "base.py", {"call": SimpleNamespace(func=work, creator=["?"])}),
            Origin("timed call", "work"),
        ),
        (("runUntilCurrent", "base.py", {"f": len}), Origin("callFromThread", "len")),
        (("runUntilCurrent", "base.py", {}), None),
        (("runUntilCurrent", "mine.py", {"f": len}), None),
        (
            (
                "_doReadOrWrite",
                "posixbase.py",
                {
                    "selectable": SimpleNamespace(protocol=Protocol(), client=("10.0.0.1", 80)),
                    "event": 1,
                },
            ),
            Origin("readable", protocol="Protocol", peer="10.0.0.1:80"),
        ),
        (
            (
                "_doReadOrWrite",
                "posixbase.py",
                {"selectable": SimpleNamespace(addr="/run/x"), "event": 4},
            ),
            Origin("writable", protocol="SimpleNamespace", peer="/run/x"),
        ),
        (
            (
                "_doReadOrWrite",
                "selectreactor.py",
                {"selectable": SimpleNamespace(), "method": "doWrite"},
            ),
            Origin("writable", protocol="SimpleNamespace"),
        ),
        (
            (
                "_readOrWrite",
                "asyncioreactor.py",
                {"selectable": SimpleNamespace(protocol=None), "read": True},
            ),
            Origin("readable", protocol="SimpleNamespace"),
        ),
        (
            (
                "_doReadOrWrite",
                "posixbase.py",
                {"selectable": SimpleNamespace(proc=SimpleNamespace(proto=Protocol()))},
            ),
            Origin("process", protocol="Protocol"),
        ),
        (
            (
                "_doReadOrWrite",
                "posixbase.py",
                {"selectable": SimpleNamespace(proc=SimpleNamespace())},
            ),
            Origin("process"),
        ),
        (
            ("_doReadOrWrite", "posixbase.py", {"selectable": type("_SIGCHLDWaker", (), {})()}),
            Origin("process"),
        ),
        (("_doReadOrWrite", "posixbase.py", {"selectable": type("_UnixWaker", (), {})()}), None),
        (("_doReadOrWrite", "posixbase.py", {}), None),
        # A descriptor without a dictionary tells nothing but its class.
        (("_doReadOrWrite", "posixbase.py", {"selectable": 7}), Origin("readable", protocol="int")),
        (
            ("_run", "events.py", {"self": SimpleNamespace(_callback=work)}),
            Origin("asyncio", "work"),
        ),
        (
            ("fireSystemEvent", "base.py", {"eventType": "startup"}),
            Origin("system event", "startup"),
        ),
        (("fireSystemEvent", "base.py", {"eventType": 7}), None),
        # Another release of Twisted may mean something else by a name.
        (
            ("_doReadOrWrite", "posixbase.py", {"selectable": SimpleNamespace(), "event": "in"}),
            None,
        ),
    ],
)
def test_the_reactors_frames_tell_why(
    frame: tuple[str, str, dict[str, object]], origin: Origin | None
) -> None:
    """Timed calls, other threads' calls, descriptors, processes, asyncio's callbacks, events."""
    name, file, variables = frame
    assert read_origin(frame_in(name, file, **variables)) == origin


def test_a_task_of_asyncio_is_named_by_its_coroutine() -> None:
    """What the loop calls is a method of the task, which nobody has heard of."""

    class Task:
        _coro = SimpleNamespace(__qualname__="fetch_user")

        def step(self) -> None: ...

    frame = frame_in("_run", "events.py", self=SimpleNamespace(_callback=Task().step))
    assert read_origin(frame) == Origin("asyncio", "task fetch_user")


def test_where_no_reactor_is_there_is_no_origin() -> None:
    """A stack without any of its frames, and none at all."""
    assert read_origin(sys._getframe()) is None
    assert read_origin(None) is None
