"""The line editor, through the real ssh, as the screen of a real terminal shows it."""

from __future__ import annotations

import re
import stat
from functools import partial
from typing import TYPE_CHECKING

import pytest
from manhole_support import Screen, ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

COLOUR = "\x1b[35m"  # of a number


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with a manhole."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"))
    yield process
    process.close_well()


@pytest.fixture
def screen(service: ServiceProcess) -> Iterator[Screen]:
    """A console at its first prompt, 80 columns wide and 24 lines high."""
    screen = Screen(service.command("-tt"))
    screen.wait("Ctrl-D leaves", ">>>")
    yield screen
    screen.close()


def test_the_welcome_is_three_lines(service: ServiceProcess, screen: Screen) -> None:
    """Which process, its reactor's state, what to type; then the prompt."""
    who, state, hint, prompt = screen.text().rstrip().splitlines()
    assert who.startswith(f"manhole_service.py, pid {service.process.pid} on ")
    assert "up since 20" in who
    assert state.startswith("reactor ")
    assert " pause" in state
    assert "help" in hint
    assert prompt == ">>>"


def test_tab_completes_and_lists(screen: Screen) -> None:
    """One match is completed; of several their common part, and all are listed."""
    screen.press("servi", "Tab", ".it", "Tab")
    screen.wait(">>> service.items")
    screen.press("C-u", "watchdog.t", "Tab")
    screen.wait("threshold  ", "tracebacks", ">>> watchdog.t")
    screen.press("hr", "Tab", " =", " 0.2", "Enter", "watchdog.threshold", "Enter")
    screen.wait("\n0.2\n")


def test_what_is_typed_key_by_key_stands_where_it_was_typed(screen: Screen) -> None:
    """Each key is shown before the next one is pressed; in colour, and where a line wraps, too."""
    typed = ""
    for key in "6 * 7":
        typed += key
        screen.press("Space" if key == " " else key)
        screen.wait(f">>> {typed.rstrip()}")
    screen.press("Enter")
    screen.wait(">>> 6 * 7\n42\n")
    screen.press("x = '" + 68 * "-")
    screen.wait(">>> x = '" + 68 * "-")
    shown = ""
    for key in "abcdefgh":
        shown += key
        screen.press(key)
        # The rest of a line that wraps stands under its beginning.
        screen.until(partial(re.search, r"\s*".join(shown)), shown)
    screen.press("'", "Enter", "len(x)", "Enter")
    screen.wait("\n76\n")


def test_tab_knows_keys_and_verbs(screen: Screen) -> None:
    """A dict's keys are completed with quote and bracket, verbs with their options."""
    screen.press("d = {'alpha': 1, 'beta': 22}", "Enter", "d['b", "Tab", " * 2", "Enter")
    screen.wait(">>> d['beta'] * 2\n44\n")
    screen.press("tracebacks --j", "Tab")
    screen.wait(">>> tracebacks --json")


def test_the_prompt_counts_a_pause_and_tab_does_not_wait(
    service: ServiceProcess, screen: Screen
) -> None:
    """During a pause the prompt says so by itself, counts, and completion answers at once."""
    service.nap(4)
    screen.wait("s in fetch_user] >>>")
    screen.press("service.na", "Tab")
    before = screen.wait("s in fetch_user] >>> service.nap\n")
    screen.until(lambda text: "] >>> service.nap\n" in text and text != before)
    screen.wait("\n>>> service.nap\n", without=["[paused"])


def test_enter_indents_and_a_blank_line_runs(screen: Screen) -> None:
    """Blocks are indented as they are typed, and dedented after what leaves them."""
    lines = ("def fits(x):", "if x:", "return 'wide 日本語 🎉'", "return None")
    for number, line in enumerate(lines):
        screen.press(line)
        screen.wait(line)
        screen.press("Enter")
        screen.wait("\n..." if number == 0 else f"{line}\n...")
    body = "...     if x:\n...         return 'wide 日本語 🎉'\n...     return None\n"
    expected = f">>> def fits(x):\n{body}"
    assert expected in screen.text()
    screen.press("Enter", "fits(1)", "Enter")
    screen.wait("'wide 日本語 🎉'\n>>>")


@pytest.mark.parametrize("marked", [True, False])
def test_a_block_runs_as_pasted(screen: Screen, marked: bool) -> None:
    """Blank lines within a pasted block end nothing, nothing is indented twice, all of it runs."""
    pasted = "def f(n):\n    m = n\n\n    return m * 2\nf(21)\nprint('all', 'of it')\n'end'\n"
    screen.paste(pasted, marked=marked)
    screen.wait("... 'end'")
    if marked:
        screen.press("Enter")
    text = screen.wait("\n42\nall of it\n'end'\n>>>")
    assert "...     return m * 2\n" in text


@pytest.mark.parametrize("marked", [True, False])
def test_a_block_out_of_a_class_runs(screen: Screen, marked: bool) -> None:
    """A block is pasted with the margin that it had where it stood, and runs all the same."""
    pasted = "    def f(n):\n        if n:\n\n            return n * 2\n    print('so', f(21))\n"
    screen.paste(pasted, marked=marked)
    screen.wait("...     print('so', f(21))")
    screen.press("Enter")
    screen.wait("\nso 42\n>>>")


def test_lines_with_their_own_indentation_keep_it(screen: Screen) -> None:
    """A program that types a block line by line, blanks included, is not indented twice."""
    for line in ("for n in range(2):", "    if n:", "        print('n', n)", ""):
        screen.paste(line + "\r", marked=False)
        screen.wait("...")
    screen.paste("\r", marked=False)
    screen.wait("\nn 1\n>>>")


def test_history_outlives_the_session(service: ServiceProcess) -> None:
    """Another session of the key finds what this one typed, by Up and Ctrl-R; a block whole."""
    first = Screen(service.command("-tt"))
    first.wait(">>>")
    first.press("6 * 111", "Enter")
    first.wait("\n666\n")
    first.paste("for n in range(1):\n    print('loop', n)\n\n", marked=False)
    first.wait("loop 0\n>>>")
    second = Screen(service.command("-tt"))
    second.wait(">>>")
    second.press("Up")
    second.wait(">>> for n in range(1):\n...     print('loop', n)")
    second.press("C-c", "C-r", "* 11")
    second.wait("6 * 111", "I-search")
    second.press("Enter", "Enter")
    second.wait("\n666\n>>>")
    first.close()
    second.close()
    (file,) = (service.keys / "history").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_narrower_terminal_shows_the_line_whole(screen: Screen) -> None:
    """The terminal becomes narrower and wider in the middle of a line: nothing is left behind."""
    line = "'日本語🎉' + '" + "".join(chr(97 + n % 26) for n in range(50)) + "'"
    screen.press("'before'", "Enter")
    screen.wait("\n'before'\n>>>")
    screen.press(line)
    screen.wait(line)
    for columns in (50, 33, 100):
        screen.resize(columns, 24)

        def whole(text: str, columns: int = columns) -> bool:
            head, _, shown = text.rpartition(">>> ")
            first, *rest = shown.rstrip().split("\n")
            # Until the editor draws anew, the terminal's own wrapping shows, without the blanks.
            is_drawn = all(row.startswith("    ") and len(row) <= columns for row in rest)
            is_whole = first + "".join(row[4:] for row in rest) == line
            return is_drawn and is_whole and head.endswith("'before'\n") and "日" not in head

        screen.until(whole)
    screen.press("Left", "!", "Enter")
    screen.wait("yzabcdefghijklmnopqrstuvwx!'\n>>>")


def test_colours_and_none(service: ServiceProcess, screen: Screen) -> None:
    """Python is coloured by the terminal's own colours; a client's NO_COLOR is heeded."""
    screen.press("1234")
    screen.until(lambda _: f"{COLOUR}1234" in screen.text(styled=True))
    plain = Screen(service.command("-tt", "-o", "SetEnv=NO_COLOR=1"))
    plain.wait(">>>")
    plain.press("1234", "Enter")
    plain.wait(">>> 1234\n1234\n>>>")
    assert "\x1b[3" not in plain.text(styled=True)
    plain.close()


def test_tab_at_the_margin_indents(screen: Screen) -> None:
    """Behind blanks it goes on to the next stop, and Backspace goes back by as much."""
    screen.press("if True:", "Enter")
    screen.wait("...")
    screen.press("Tab", "Tab", "BSpace", "BSpace", "Tab", "'deep'")
    screen.wait("...         'deep'")
    screen.press("C-c")
    screen.wait("\n>>>")
    screen.press("nothing_like_this.", "Tab", "C-c")
    screen.wait("nothing_like_this.\n>>>")


def test_help_lists_what_is_here(screen: Screen) -> None:
    """Bare help shows methods, verbs and names, one line each, also during a pause."""
    screen.resize(80, 50)
    screen.press("mine = {}", "Enter", "help", "Enter")
    text = screen.wait("Your names", "\n>>>")
    assert re.search(
        r"^  watchdog\.top\(n=10, by='total'\) +The worst offenders\.", text, re.MULTILINE
    )
    assert "  mine     dict: " in text
    assert "  service  Service: What the tests ask for by way of the console." in text
