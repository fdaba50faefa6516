"""How the console's smaller parts come to an end, or find that there is nothing to do."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest
from prompt_toolkit.renderer import Renderer
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher

from txwatchdog import Watchdog
from txwatchdog.errors import ListenError
from txwatchdog.interrupting import Breaker
from txwatchdog.manhole import Manhole
from txwatchdog.manhole.door import Door
from txwatchdog.manhole.grip import Grip
from txwatchdog.manhole.limits import Admission, Limits
from txwatchdog.manhole.output import Outlet
from txwatchdog.manhole.plain import PlainEditor
from txwatchdog.manhole.presence import Presence
from txwatchdog.manhole.reflow import reflow
from txwatchdog.manhole.strangers import Strangers


class _Dumb:
    """A terminal that can do nothing, and what was typed there."""

    def __init__(self) -> None:
        self.shown = ""
        self.editor = PlainEditor(Outlet(self._put, terminal=True))

    def _put(self, _stream: int, data: bytes) -> None:
        self.shown += data.decode()

    async def read(self, typed: str, *, then_ends: bool = False) -> str:
        """What the editor makes of it."""
        self.editor.feed(typed.encode())
        if then_ends:
            self.editor.feed_eof()
        return await asyncio.wait_for(self.editor.read(), 60)


def test_ctrl_d_ends_a_plain_console_between_inputs_only() -> None:
    """In the middle of a block, or of a line, it means nothing."""

    async def type_it() -> list[str]:
        dumb = _Dumb()
        read = [await dumb.read("if x:\r\x04    y\x04\r\r"), await dumb.read("z\x04\x01\r")]
        with pytest.raises(EOFError):
            await dumb.read("\x04")
        assert "\x01" not in dumb.shown
        return read

    assert asyncio.run(type_it()) == ["if x:\n    y\n", "z"]


def test_a_plain_console_ends_with_its_client() -> None:
    """What was typed before the end is read first; what is forgotten is not."""

    async def type_it() -> str:
        dumb = _Dumb()
        dumb.editor.feed(b"forgotten\r")
        dumb.editor.forget()
        read = await dumb.read("last\r", then_ends=True)
        with pytest.raises(EOFError):
            await asyncio.wait_for(dumb.editor.read(), 60)
        return read

    assert asyncio.run(type_it()) == "last"


class _Knocking:
    """A listening socket whose accept says what a test wants."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)

    def accept(self) -> Any:
        outcome = self.outcomes.pop(0) if self.outcomes else BlockingIOError()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _door(listening: Any, loop: Any, admission: Admission | None = None) -> Door:
    clock: Any = Clock()
    receive: Any = Mock()
    admission = admission or Admission(Limits())
    return Door(listening, loop, admission, Strangers(clock), receive)


def test_a_door_that_was_closed_does_not_open_again() -> None:
    """It rests for a while if nobody can be accepted, and may be closed meanwhile."""
    loop = Mock()
    door = _door(_Knocking(OSError(errno.EMFILE, "Too many open files")), loop)
    door.open()
    door._accept()
    ((_seconds, go_on),) = [call.args for call in loop.call_later.call_args_list]
    assert loop.remove_reader.call_count == 1
    go_on()
    assert loop.add_reader.call_count == 2
    door.close()
    go_on()
    assert loop.add_reader.call_count == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOTCONN, "gone"), MemoryError()])
def test_who_does_not_get_in_gives_the_place_back(error: BaseException) -> None:
    """Where a connection can't be taken over it is closed, and the next one has its place."""

    async def knock() -> None:
        theirs, ours = socket.socketpair()
        admission = Admission(Limits(unauthenticated=1))
        loop = asyncio.get_running_loop()
        with theirs, patch.object(loop, "connect_accepted_socket", side_effect=error):
            visit: Any = admission.enter(None, 0.0)
            door = _door(_Knocking(), loop, admission)
            with pytest.raises(MemoryError) if isinstance(error, MemoryError) else nullcontext():
                await door._let_in(ours, visit)
        assert ours.fileno() == -1
        assert not isinstance(admission.enter(None, 1000.0), str)  # when its time is over

    asyncio.run(knock())


@pytest.mark.parametrize(
    ("limits", "timers"), [(Limits(idle=None, keep_alive=None), 0), (Limits(), 1)]
)
def test_a_connection_that_ends_is_watched_no_more(limits: Limits, timers: int) -> None:
    """Where there is nothing to watch for, there is no timer to be cancelled."""
    clock = Clock()
    transport: Any = SimpleNamespace(
        manhole=SimpleNamespace(limits=limits, clock=clock),
        service=SimpleNamespace(is_busy=False),
    )
    presence = Presence(transport)
    assert len(clock.getDelayedCalls()) == timers
    presence.end()
    assert clock.getDelayedCalls() == []


def test_nothing_to_reflow() -> None:
    """Before anything was drawn a narrower terminal changes nothing."""
    renderer: Any = SimpleNamespace(last_rendered_screen=None, _cursor_pos=Renderer)
    reflow(renderer, 10)
    assert renderer._cursor_pos is Renderer


def test_a_statement_that_does_not_run_is_not_broken() -> None:
    """A signal that comes too late, or meets other code, breaks nothing."""
    grip = Grip(Breaker(), 0, lambda _line: None)
    assert grip._judge([]) == "the statement is not what the reactor runs"
    assert grip.hold(lambda: grip._judge([])) == "the statement is not what the reactor runs"
    assert grip.seconds_left == float("inf")


def test_ctrl_c_again_while_it_is_being_broken() -> None:
    """The request that is under way stays the one; another only once that was raised."""

    async def press() -> list[int]:
        breaker = Breaker()
        grip = Grip(breaker, 0, lambda _line: None)
        counts = []
        for _ in range(2):
            grip.press()
            counts.append(len(breaker._requests))
        grip.release()
        counts.append(len(breaker._requests))
        await asyncio.sleep(0)
        return counts

    assert asyncio.run(press()) == [1, 1, 0]


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_time_limit_that_is_none(seconds: float) -> None:
    """It is refused when the manhole is made, and named."""
    dog = Watchdog(MemoryReactorClock())
    with pytest.raises(ValueError, match="statement_timeout must be a number of seconds, or 0"):
        Manhole(dog, "tcp:0", "keys", statement_timeout=seconds)


def test_an_audit_file_is_closed_if_nothing_can_be_listened_on(tmp_path: Any) -> None:
    """A manhole that can't start holds nothing, and may be started again."""
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "authorized_keys").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBd6VCmGyBNkjAJ6nHcJ3dHbXCwnX0lKBmUzSFPNZ1Q a\n"
    )
    (tmp_path / "keys" / "authorized_keys").chmod(0o600)
    tmp_path.chmod(0o700)
    endpoint = f"unix:{tmp_path}/s"
    (tmp_path / "s").mkdir()
    audit = tmp_path / "audit.json"
    dog = Watchdog(MemoryReactorClock())
    manhole = Manhole(dog, endpoint, tmp_path / "keys", audit=audit)
    before = list(globalLogPublisher._observers)
    for _ in range(2):
        with pytest.raises(ListenError, match="cannot listen"):
            manhole.start()
    assert list(globalLogPublisher._observers) == before
