"""What systemd is told, and when: decided from times and an environment."""

from __future__ import annotations

import math
import resource
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from txwatchdog import Stack, Watchdog
from txwatchdog.records import Function, Offender, Top
from txwatchdog.systemd import Notifier, Pulse, Wishes, status_line

SOCKET = {"NOTIFY_SOCKET": "/run/systemd/notify"}


@pytest.mark.parametrize(
    ("environ", "wishes"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "1000000"}, None),
        (SOCKET, Wishes("/run/systemd/notify", None)),
        ({"NOTIFY_SOCKET": "@run/1"}, Wishes("\0run/1", None)),
        ({**SOCKET, "WATCHDOG_USEC": "2500000"}, Wishes("/run/systemd/notify", 2.5)),
        (
            {**SOCKET, "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "7"},
            Wishes("/run/systemd/notify", 2.5),
        ),
        # Another process of the service is to say so, or nobody, or it can't be read.
        (
            {**SOCKET, "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "8"},
            Wishes("/run/systemd/notify", None),
        ),
        ({**SOCKET, "WATCHDOG_USEC": "0"}, Wishes("/run/systemd/notify", None)),
        ({**SOCKET, "WATCHDOG_USEC": "-1"}, Wishes("/run/systemd/notify", None)),
        ({**SOCKET, "WATCHDOG_USEC": "1 s"}, Wishes("/run/systemd/notify", None)),
    ],
)
def test_what_the_environment_asks_for(environ: dict[str, str], wishes: Wishes | None) -> None:
    """NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID mean what sd_notify(3) says."""
    assert Wishes.of(environ, 7) == wishes


@pytest.mark.parametrize("address", ["vsock:2:1234", "notify", "@", "/"])
def test_a_socket_that_cannot_be_sent_to(address: str) -> None:
    """An address of another kind is refused, by name."""
    with pytest.raises(ValueError, match="NOTIFY_SOCKET must be a path or @NAME"):
        Wishes.of({"NOTIFY_SOCKET": address}, 7)


def test_a_pulse_asks_at_half_of_the_time_and_tells_of_each_answer() -> None:
    """The reactor is asked at half of WATCHDOG_USEC; READY goes with the first answer."""
    pulse = Pulse(10.0)
    first = pulse.look(100.0, answered=False)
    assert (first.ask, first.lines, first.wake_at) == (True, (), math.inf)
    answer = pulse.look(100.1, answered=True)
    assert (answer.ask, answer.lines, answer.wake_at) == (False, ("READY=1", "WATCHDOG=1"), 105.0)
    assert pulse.look(104.9, answered=True).lines == ()
    assert pulse.look(105.0, answered=True).ask
    assert pulse.look(105.1, answered=True).lines == ("WATCHDOG=1",)


def test_no_answer_no_word() -> None:
    """While no answer comes nothing is told and nothing asked again; then at once."""
    pulse = Pulse(10.0)
    pulse.look(100.0, answered=False)
    for now in (105.0, 111.0, 1000.0):
        look = pulse.look(now, answered=False)
        assert (look.ask, look.lines) == (False, ())
    # What is overdue is asked in the same turn: else a whole half would be lost.
    look = pulse.look(1000.1, answered=True)
    assert (look.ask, look.lines) == (True, ("READY=1", "WATCHDOG=1"))


def test_without_a_watchdog_only_ready_is_told() -> None:
    """Without WATCHDOG_USEC the reactor is asked once."""
    pulse = Pulse(None)
    assert pulse.look(100.0, answered=False).ask
    look = pulse.look(100.1, answered=True)
    assert (look.ask, look.lines, look.wake_at) == (False, ("READY=1",), math.inf)


def test_what_could_not_be_told_is_told_after_another_answer() -> None:
    """If a word could not be sent the reactor is asked soon: an old answer is never passed on."""
    pulse = Pulse(10.0)
    pulse.look(100.0, answered=False)
    look = pulse.look(100.1, answered=True)
    pulse.failed(look.lines, 100.1)
    assert pulse.look(100.6, answered=False).ask
    assert pulse.look(100.7, answered=True).lines == ("READY=1", "WATCHDOG=1")
    once = Pulse(None)
    once.look(100.0, answered=False)
    once.failed(once.look(100.1, answered=True).lines, 100.1)
    assert once.look(100.6, answered=False).ask
    assert once.look(100.7, answered=True).lines == ("READY=1",)


def test_a_status_that_could_not_be_told_asks_for_no_answer() -> None:
    """It is only for people: the reactor is asked when it would have been."""
    pulse = Pulse(10.0)
    pulse.look(100.0, answered=False)
    pulse.look(100.1, answered=True)
    pulse.failed((), 100.2)
    assert not pulse.look(104.9, answered=False).ask
    assert pulse.look(105.0, answered=False).ask


def test_a_status_is_told_when_it_is_another() -> None:
    """And one that can't be had is left out."""
    watchdog: Any = _Watchdog(Stack("idle", 0.0, None, None, ()))
    watchdog.reactor = _Reactor()
    notifier = Notifier(watchdog, {})
    notifier._status = ""
    assert notifier._news() == ("STATUS=no pause",)
    assert notifier._news() == ()
    watchdog.stack = None
    assert notifier._news() == ()


class _Watchdog(Watchdog):
    """One that says what a test wants."""

    def __init__(self, stack: Stack, *worst: Offender) -> None:
        self._seen = stack, Top(worst, "worst", 3 * len(worst), 4.9 * len(worst), 0)

    def stack(self) -> Stack:
        return self._seen[0]

    def top(self, n: int = 10, by: str = "total") -> Top:
        return self._seen[1]


FETCH = Function("fetch_user", "/srv/app/db.py", 41)
ROW = Offender("fetch_user", "/srv/app/db.py", 41, None, 3, 4.9, 2.5, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("watchdog", "line"),
    [
        (_Watchdog(Stack("idle", 0.0, None, None, ())), "no pause"),
        (
            _Watchdog(Stack("busy", 0.1, None, None, ()), ROW),
            "3 pauses, 4.9 s in all, the worst 2.5 s in fetch_user",
        ),
        (
            _Watchdog(Stack("paused", 12.3, FETCH, None, (), 4), ROW),
            "paused 12 s in fetch_user (app/db.py:41)",
        ),
        (_Watchdog(Stack("off", 0.0, None, None, ())), "the watchdog is stopped; no pause"),
        (
            _Watchdog(Stack("paused", 1.0, Function("a\nREADY=1", "<manhole>", 1), None, ())),
            "paused 1 s in a?READY=1",
        ),
    ],
    ids=range(5),
)
def test_the_status_line(watchdog: Watchdog, line: str) -> None:
    """The status is one line: what is under way, or what was."""
    assert status_line(watchdog) == line


class _Reactor(MemoryReactorClock):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def addSystemEventTrigger(self, *args: Any, **kwargs: Any) -> Any:
        return object()

    def removeSystemEventTrigger(self, trigger: object) -> None:
        """Take it back."""


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_nothing_happens_without_a_socket(environ: dict[str, str]) -> None:
    """Without a socket that can be sent to there is no thread; if it is a strange one, a log."""
    events: list[LogEvent] = []
    observer: ILogObserver = events.append  # type: ignore[assignment]
    globalLogPublisher.addObserver(observer)
    try:
        reactor = _Reactor()
        reactor.running = False
        notifier = Notifier(Watchdog(reactor), environ)
        notifier.start()
        before = set(threading.enumerate())
        for call, args, kwargs in reactor.whenRunningHooks:
            call(*args, **kwargs)
        assert set(threading.enumerate()) == before
        notifier.stop()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [event.get("problem", "")[:33] for event in events] == [
        "NOTIFY_SOCKET must be a path or @" for _ in environ
    ]


def test_a_stop_that_overtakes_the_beginning(tmp_path: Path) -> None:
    """A beginning that was on its way to the reactor's thread as we were stopped begins nothing."""
    reactor = _Reactor()
    reactor.running = False
    notifier = Notifier(Watchdog(reactor), {"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.start()
    notifier.stop()
    before = set(threading.enumerate())
    notifier._begin()
    assert set(threading.enumerate()) == before


def test_a_want_of_descriptors_passes(tmp_path: Path) -> None:
    """A word that there is no descriptor for fails, and the next one does not."""
    address = str(tmp_path / "notify")
    notifier = Notifier(Watchdog(_Reactor()), {})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            assert not notifier._send(address, ("WATCHDOG=1",))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert notifier._send(address, ("WATCHDOG=1",))
        assert systemd.recv(100) == b"WATCHDOG=1"
