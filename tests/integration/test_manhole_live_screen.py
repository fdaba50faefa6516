"""The full-screen view, through the real ssh, on a screen that tmux draws."""

from __future__ import annotations

import re
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from manhole_support import PATIENCE, Screen, ServiceProcess, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    shutil.which("tmux") is None, reason="the terminal of these tests is tmux: install it"
)

RED = "\x1b[41m"
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"  # the alternate screen


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with a manhole, that has paused twice."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"))
    for count in (1, 2):
        process.nap(0.3 * count)
        while process.ssh(f"watchdog.status().pauses >= {count}").stdout != "True\n":
            pass
    yield process
    process.close_well()


@pytest.fixture
def screen(service: ServiceProcess) -> Iterator[Callable[..., Screen]]:
    """Makes screens on which the view runs, and hangs them up."""
    screens: list[Screen] = []

    def make(columns: int = 80, rows: int = 24, *, command: str = "live") -> Screen:
        made = Screen([*service.command("-t"), command], columns, rows)
        screens.append(made)
        return made

    yield make
    for each in screens:
        each.close()


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (140, 50), (60, 12)])
def test_everything_is_on_the_screen(
    screen: Callable[..., Screen], columns: int, rows: int
) -> None:
    """State, figures, graphs, offenders, pauses, a traceback with source lines, and keys."""
    parts = ["? keys", "reactor idle", "busy", "longest tick", "total s", "fetch_user", "▸"]
    if rows > 20:
        parts += ["traceback of pause 2", "time.sleep(seconds)", "blocked"]
    text = screen(columns, rows).wait(*parts)
    lines = text.splitlines()
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert "threshold 0.2 s" in lines[2]
    if columns > 120:
        assert re.search("total s.*began", text)


def test_a_pause_counts_in_red(service: ServiceProcess, screen: Callable[..., Screen]) -> None:
    """During a pause the view goes on: how long, in which function, in red, with its stack."""
    view = screen()
    view.wait("reactor idle")
    service.nap(6)
    text = view.wait("reactor paused", "▸     now", "traceback of the pause under way")
    assert "fetch_user (integration/manhole_service.py:" in text.splitlines()[1]
    assert "time.sleep(seconds)" in text
    line = view.text(styled=True).splitlines()[1]
    assert RED in line or ";41m" in line
    seen = set()
    while "reactor paused" in (text := view.text()):
        found = re.search(r"reactor paused (\d+)\.\d s", text)
        assert found
        seen.add(int(found.group(1)))
    assert len(seen) >= 3, f"seconds shown: {seen}"
    # It becomes one of the list, and what was shown is still shown.
    view.wait("reactor idle", "time.sleep(seconds)", without=["▸     now"])


def test_keys_choose_sort_and_explain(screen: Callable[..., Screen]) -> None:
    """Down chooses another pause, Home goes back, ? shows the keys."""
    view = screen()
    before = re.search(r"traceback of pause (\d+)", view.wait("traceback of pause"))
    assert before
    latest = int(before.group(1))
    view.press("Down")
    view.wait(f"traceback of pause {latest - 1}")
    view.press("Home")
    view.wait(f"traceback of pause {latest}")
    view.press("?")
    view.wait("threshold up and down", without=["traceback of"])
    view.press("?")
    view.wait("traceback of")
    view.press("s")
    deadline = time.monotonic() + PATIENCE
    # Reverse: a heading's bold and underlining end where it begins.
    while not re.search(r"\x1b\[[0-9;]*7m[^ -~]*(\x1b\[[0-9;]*m)* *count", view.text(styled=True)):
        assert time.monotonic() < deadline, view.text(styled=True)


def test_keys_change_the_watchdog(service: ServiceProcess, screen: Callable[..., Screen]) -> None:
    """+ and - set the threshold, o stops and starts; the service's own watchdog knows."""
    view = screen()
    view.wait("threshold 0.2 s")
    view.press("+")
    view.wait("threshold 0.5 s", "threshold is 0.5 s now")
    assert service.ssh("threshold").stdout == "0.5 s\n"
    view.press("-")
    view.wait("threshold 0.2 s")
    view.press("o")
    view.wait("watchdog STOPPED")
    assert service.ssh("watchdog.running").stdout == "False\n"
    view.press("o")
    view.wait("watchdog running", "reactor idle")


def test_reset_asks_first(tmp_path_factory: pytest.TempPathFactory) -> None:
    """R asks; y forgets all pauses, anything else nothing."""
    service = ServiceProcess(tmp_path_factory.mktemp("reset"))
    service.nap(0.4)
    view = Screen([*service.command("-t"), "live"])
    view.wait("1 pauses, 0.4 s")
    view.press("R")
    view.wait("forget all pauses?")
    view.press("n")
    view.wait("1 pauses, 0.4 s", without=["forget all pauses?"])
    view.press("R")
    view.press("y")
    view.wait("0 pauses, 0.0 s", "no pause yet")
    view.close()
    service.close()


@pytest.mark.parametrize(("key", "status"), [("q", 0), ("C-c", 130), ("C-d", 0)])
def test_leaving(screen: Callable[..., Screen], key: str, status: int) -> None:
    """Leaving gives the terminal back as it was, with an exit status."""
    view = screen()
    view.wait("reactor idle")
    view.press(key)
    text = view.wait(f"exit status {status}", without=["threshold"])
    assert text.splitlines()[0] == f"exit status {status}"


def test_the_screen_is_restored(service: ServiceProcess) -> None:
    """The alternate screen is entered once and left once, and the cursor is shown again."""
    terminal = Terminal([*service.command("-tt"), "live"])
    terminal.expect("? keys")
    terminal.type("q")
    assert terminal.expect_end() == 0
    raw = terminal.raw.decode()
    assert raw.count(ENTER) == raw.count(LEAVE) == 1
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
    terminal.close()


def test_resizing(screen: Callable[..., Screen]) -> None:
    """A new size is used at once, wider or narrower."""
    view = screen()
    view.wait("reactor idle", "traceback of")
    view.resize(140, 40)
    text = view.wait("? keys")
    deadline = time.monotonic() + PATIENCE
    while not re.search("total s.*began", text):
        assert time.monotonic() < deadline, text
        text = view.text()
    view.resize(70, 20)
    while re.search("total s.*began", text):
        assert time.monotonic() < deadline, text
        text = view.text()
    lines = view.wait("? keys").splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 70


@pytest.mark.parametrize("typed", ["live\r", "watchdog.live()\r"])
def test_from_the_console_and_back(service: ServiceProcess, typed: str) -> None:
    """Typed in a session the view opens, and leaving it gives the prompt back, history and all."""
    terminal = service.terminal()
    terminal.expect(">>> ")
    terminal.type("6 * 7\r")
    terminal.expect("\r\n42\r\n")
    terminal.type(typed)
    terminal.expect("? keys")
    terminal.resize(100, 30)
    terminal.type("q")
    terminal.expect(">>> ")
    terminal.type("\x1b[A\x1b[A\r")
    terminal.expect("42\r\n")
    terminal.type("\x04")
    assert terminal.expect_end() == 0
    terminal.close()


def test_the_method_says_what_to_do_elsewhere(service: ServiceProcess) -> None:
    """Where no view can open, watchdog.live() says how to get one."""
    assert "ssh -t" in service.ssh("view = watchdog.live(); view").stdout
    result = service.ssh("watchdog.live()")
    assert (result.returncode, "ssh -t" in result.stderr) == (2, True)


def test_a_terminal_that_cannot_show_it(service: ServiceProcess) -> None:
    """TERM=dumb gets a line that says what works there."""
    terminal = Terminal([*service.command("-tt"), "live"], term="dumb")
    terminal.expect("can't show it")
    assert terminal.expect_end() == 2
    assert b"\x1b" not in terminal.raw
    terminal.close()


def test_no_colour_where_it_is_not_wanted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With NO_COLOR in the service's environment there are no colours, but reverse and bold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        service = ServiceProcess(tmp_path_factory.mktemp("plain"))
    terminal = Terminal([*service.command("-tt"), "live"])
    terminal.expect("? keys")
    terminal.type("q")
    assert terminal.expect_end() == 0
    assert not re.search(rb"\x1b\[[0-9;]*(3|4|9|10)[0-7][0-9;]*m", terminal.raw)
    terminal.close()
    service.close()


def test_a_client_that_goes_leaves_nothing(service: ServiceProcess) -> None:
    """When the client vanishes, the view ends: nothing goes on looking, nothing is kept."""
    terminal = Terminal([*service.command("-tt"), "live"])
    terminal.expect("? keys")
    terminal.close()
    count = "sum(type(each).__name__ == 'LiveScreen' for each in gc.get_objects())"
    deadline = time.monotonic() + PATIENCE
    while service.ssh(f"import gc; (gc.collect() and None); {count}").stdout != "0\n":
        assert time.monotonic() < deadline
    assert "coroutine" not in service.log()
