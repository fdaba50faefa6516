"""The interactive console, through the real ssh on a real pseudo-terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from manhole_support import ServiceProcess, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

CTRL_A, CTRL_C, CTRL_D = "\x01", "\x03", "\x04"
UP, LEFT = "\x1b[A", "\x1b[D"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with a manhole."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"))
    yield process
    process.close_well()


@pytest.fixture
def terminal(service: ServiceProcess) -> Iterator[Terminal]:
    """A console at its first prompt."""
    terminal = service.terminal()
    terminal.expect(">>> ")
    yield terminal
    terminal.close()


def test_a_short_banner_says_where_one_is(service: ServiceProcess) -> None:
    """At most three lines: which process, the reactor's state, what to type."""
    terminal = service.terminal()
    banner = terminal.expect(">>> ").splitlines()
    assert len(banner) <= 4
    assert f"pid {service.process.pid} on " in banner[0]
    assert "up since" in banner[0]
    assert banner[1].startswith("reactor")
    assert "help" in banner[2]
    terminal.close()


def test_values_output_and_the_last_value(terminal: Terminal) -> None:
    """Values and output are shown, and _ is the last value."""
    terminal.type("print('out', 'put')\r")
    terminal.expect("\r\nout put\r\n")
    terminal.type("20 + 22\r")
    terminal.expect("\r\n42\r\n")
    terminal.type("None\r_ * 2\r")
    terminal.expect("\r\n84\r\n")


def test_blocks_take_a_blank_line(terminal: Terminal) -> None:
    """An incomplete statement goes on at "... ", a blank line ends a block."""
    terminal.type("def double(number):\r")
    terminal.expect("... ")
    terminal.type("    return number * 2\r\r")
    terminal.expect(">>> ")
    terminal.type("double(\r")
    terminal.expect("... ")
    terminal.type("21)\r")
    terminal.expect("\r\n42\r\n")


def test_a_traceback_begins_at_the_operators_line(terminal: Terminal) -> None:
    """A traceback shows the operator's own source lines and nothing of ours."""
    terminal.type("def broken():\r    raise ValueError('why')\r\r")
    terminal.expect(">>> ")
    terminal.type("broken()\r")
    shown = terminal.expect("ValueError: why\r\n")
    assert "raise ValueError('why')" in shown
    assert shown.count('File "<manhole ') == 2
    assert "evaluate.py" not in shown


def test_keys_edit_the_line(terminal: Terminal) -> None:
    """Arrows, Home, Backspace and UTF-8 do what they do everywhere."""
    terminal.type("'äx€'" + LEFT * 2 + "\x7f" + CTRL_A + "len(" + "\x05" + ")\r")
    terminal.expect("\r\n2\r\n")
    terminal.type("'日本' + 'é'\r")
    terminal.expect("\r\n'日本é'\r\n")


def test_history_brings_back_lines(terminal: Terminal) -> None:
    """Up brings back what was typed before, within the session."""
    terminal.type("6 * 7\r")
    terminal.expect("\r\n42\r\n")
    terminal.type("'other'\r")
    terminal.expect("\r\n'other'\r\n")
    terminal.type(UP + UP + "\r")
    terminal.expect("\r\n42\r\n")


def test_ctrl_c_clears_the_line(terminal: Terminal) -> None:
    """Ctrl-C drops what was typed, and a new prompt follows."""
    terminal.type("raise SystemExit(")
    terminal.expect("SystemExit(")
    terminal.type(CTRL_C)
    terminal.expect(">>> ")
    terminal.type("'still here'\r")
    terminal.expect("\r\n'still here'\r\n")


@pytest.mark.parametrize(
    ("leave", "status"),
    [(CTRL_D, 0), ("exit()\r", 0), ("quit()\r", 0), ("exit\r", 0), ("exit(3)\r", 3)],
)
def test_leaving_ends_the_session_only(
    service: ServiceProcess, terminal: Terminal, leave: str, status: int
) -> None:
    """Ctrl-D and exit() close the session; the service goes on."""
    terminal.type(leave)
    assert terminal.expect_end() == status
    assert service.ssh("'alive'").stdout == "'alive'\n"


def test_leaving_during_a_pause(service: ServiceProcess, terminal: Terminal) -> None:
    """exit() does not wait for a reactor that is stuck."""
    service.nap(5)
    terminal.type("exit()\r")
    assert terminal.expect_end() == 0
    assert "fetch_user" in service.ssh("watchdog.stack().summary").stdout


def test_containers_are_spread_over_the_width(terminal: Terminal) -> None:
    """A container wider than the terminal is spread over lines; the width follows a resize."""
    terminal.type("x = {n: 'a' * 10 for n in range(5)}; x\r")
    terminal.expect("{\r\n    0: 'aaaaaaaaaa',\r\n    1: 'aaaaaaaaaa',\r\n")
    terminal.expect(">>> ")
    terminal.resize(200, 30)
    # The new size comes as a message of its own; when it has come is seen by its effect.
    for _ in range(50):
        terminal.type("x\r")
        if "{0: 'aaaaaaaaaa', 1:" in terminal.expect("4: 'aaaaaaaaaa'"):
            break
    else:
        pytest.fail("the console never learned of the new width")


def test_a_paste_is_one_input(terminal: Terminal) -> None:
    """A bracketed paste of several lines is run as pasted, after Enter."""
    terminal.type("\x1b[200~for i in range(2):\n    print('got', i)\n\nprint('end')\x1b[201~")
    terminal.expect("print('end')")
    terminal.type("\r")
    terminal.expect("got 0\r\ngot 1\r\nend\r\n")


def test_a_huge_line_does_no_harm(terminal: Terminal) -> None:
    """A line of 100,000 characters, pasted without marks, is taken as one."""
    terminal.type("len('" + "x" * 100_000 + "')\r")
    terminal.expect("\r\n100000\r\n")


def test_namespaces_are_apart(service: ServiceProcess, terminal: Terminal) -> None:
    """Each operator has names of their own, over the same objects."""
    terminal.type("mine = 1; service.items.append('shared')\r")
    terminal.expect(">>> ")
    other = service.terminal()
    other.expect(">>> ")
    other.type("mine\r")
    other.expect("NameError")
    other.type("service.items\r")
    other.expect("['shared']")
    other.close()


def test_output_goes_to_its_own_session(service: ServiceProcess, terminal: Terminal) -> None:
    """What one operator prints does not appear in another's session."""
    other = service.terminal()
    other.expect(">>> ")
    other.type("print('of the ' + 'other')\r")
    other.expect("of the other\r\n")
    terminal.type("print('of ' + 'this')\r")
    terminal.expect("of this\r\n")
    assert "of the other" not in terminal.seen
    other.close()


def test_waiting_for_a_paused_reactor(service: ServiceProcess, terminal: Terminal) -> None:
    """During a pause the console says where the reactor stands until the statement can run."""
    service.nap(3)
    terminal.type("'late' + 'r'\r")
    terminal.expect("s in fetch_user")
    terminal.expect("Ctrl-C gives up waiting")
    terminal.expect("'later'\r\n")


def test_giving_up_before_the_statement_begins(service: ServiceProcess, terminal: Terminal) -> None:
    """Ctrl-C withdraws a statement that waits; it never runs, and the prompt is back at once."""
    service.nap(4)
    terminal.type("service.items.append('never')\r")
    terminal.expect("Ctrl-C gives up waiting")
    terminal.type(CTRL_C)
    terminal.expect("had not begun")
    terminal.expect(">>> ")
    terminal.type("watchdog.stack().state\r")
    terminal.expect("'paused'\r\n")
    assert "never" not in service.ssh("service.items").stdout


def test_giving_up_after_the_statement_has_begun(terminal: Terminal) -> None:
    """Where nothing can be interrupted Ctrl-C gives the prompt back, and says why it goes on."""
    terminal.type("import signal, time; before = signal.getsignal(signal.SIGURG)\r")
    terminal.expect(">>> ")
    # One statement: between two of them Ctrl-C would find none that has begun.
    terminal.type("_ = signal.signal(signal.SIGURG, print), print('be' + 'gun'), time.sleep(3)\r")
    terminal.expect("begun\r\n")
    terminal.type(CTRL_C)
    terminal.expect("goes on in the reactor's thread")
    terminal.expect("SIGURG")
    terminal.expect(">>> ")
    terminal.type("watchdog.stack().frames[-1].file[:8]\r")
    terminal.expect("'<manhole'\r\n")
    terminal.type("_ = signal.signal(signal.SIGURG, before); 40 + 2\r")
    terminal.expect("42\r\n")


def test_a_dumb_terminal_is_usable(service: ServiceProcess) -> None:
    """TERM=dumb gets lines without a single escape sequence."""
    terminal = service.terminal(term="dumb")
    terminal.expect(">>> ")
    terminal.type("if Truu\x7fe:\r")
    terminal.expect("... ")
    terminal.type("    40 + 2\r\r")
    terminal.expect("\r\n42\r\n")
    terminal.type("rubbish(" + CTRL_C)
    terminal.expect(">>> ")
    terminal.type(CTRL_D)
    assert terminal.expect_end() == 0
    assert b"\x1b" not in terminal.raw
    terminal.close()


def test_questions_to_a_terminal_do_not_stop_the_service(terminal: Terminal) -> None:
    """input() and breakpoint() raise instead of reading the service's own terminal."""
    terminal.type("input('?')\r")
    terminal.expect("RuntimeError: input() would stop the service")
    terminal.type("breakpoint()\r")
    terminal.expect("RuntimeError: breakpoint() would stop the service")
