"""`ssh HOST VERB` and `ssh HOST python < script.py`, through the real ssh into a real service."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from manhole_support import ServiceProcess, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

CTRL_C = "\x03"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with a manhole, that has paused once."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"))
    process.nap(0.4)
    while not json.loads(process.ssh("pauses", "--json").stdout):
        pass
    yield process
    process.close_well()


@pytest.mark.parametrize(
    ("verb", "part"),
    [
        ("top", "fetch_user"),
        ("pauses", "fetch_user"),
        ("tracebacks", "time.sleep(seconds)"),
        ("stack", "reactor "),
        ("status", "watchdog    running"),
        ("stats", "pauses     1, "),
        ("threshold", "0.2 s"),
        ("help", "  tracebacks "),
        ("export", "fetch_user"),
        ("export speedscope", "speedscope.app"),
        ("export json", '"version"'),
        ("report", "<!DOCTYPE html>"),
    ],
)
def test_each_verb_answers(service: ServiceProcess, verb: str, part: str) -> None:
    """One word, one answer on stdout, nothing on stderr, exit status 0."""
    result = service.ssh(verb)
    assert part in result.stdout
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout.endswith("\n")


@pytest.mark.parametrize(
    "verb", ["top", "pauses", "tracebacks", "stack", "status", "stats", "threshold"]
)
def test_json_is_json(service: ServiceProcess, verb: str) -> None:
    """With --json, stdout is one JSON value and nothing else."""
    result = service.ssh(verb, "--json")
    assert json.loads(result.stdout)
    assert result.returncode == 0
    assert "\x1b" not in result.stdout


def test_options_are_words_of_a_shell(service: ServiceProcess) -> None:
    """Options come as ssh sends them, joined by blanks, quotes as in a shell."""
    data = json.loads(service.ssh("top", "-n", "1", "--by", "'worst'", "--json").stdout)
    assert (data["by"], len(data["offenders"])) == ("worst", 1)


@pytest.mark.parametrize(
    "line",
    ["top --jsn", "threshold -1", "export bread", "stop now", "top 'half", "live", "python x"],
)
def test_a_mistake_is_2_and_says_what_to_do(service: ServiceProcess, line: str) -> None:
    """What can't be understood, or done here, goes to stderr in a few lines, and ends with 2."""
    result = service.ssh(line)
    assert (result.stdout, result.returncode) == ("", 2)
    assert 1 <= result.stderr.count("\n") <= 3
    assert "Traceback" not in result.stderr


def test_live_without_a_terminal_is_one_line(service: ServiceProcess) -> None:
    """It says that it wants ssh -t, on stderr."""
    result = service.ssh("live")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "ssh -t" in result.stderr


def test_help_of_a_verb(service: ServiceProcess) -> None:
    """VERB --help is on stdout, and succeeds."""
    result = service.ssh("top", "--help")
    assert result.stdout.startswith("Usage: top")
    assert result.returncode == 0


def test_what_raises_is_1(service: ServiceProcess) -> None:
    """A verb that raises has its traceback on stderr, and ends with 1."""
    service.ssh("watchdog.stats = None")
    result = service.ssh("stats")
    service.ssh("del watchdog.stats")
    assert result.returncode == 1
    assert result.stderr.endswith("TypeError: 'NoneType' object is not callable\n")


def test_verbs_that_change_the_watchdog(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The threshold, start, stop and reset do what they say, and say it."""
    process = ServiceProcess(tmp_path_factory.mktemp("changed"))
    assert process.ssh("threshold", "0.3").stdout == "0.3 s (was 0.2 s)\n"
    assert process.ssh("stop").stdout.startswith("watchdog stopped")
    assert process.ssh("watchdog.running").stdout == "False\n"
    assert process.ssh("start").stdout == "watchdog running\n"
    assert process.ssh("reset").stdout == "all pauses forgotten\n"
    assert process.ssh("status").stdout.startswith("watchdog    running")
    process.close()


def test_verbs_answer_during_a_pause(service: ServiceProcess) -> None:
    """While the reactor sleeps, all of them answer, and the stack names the function."""
    service.nap(20)
    began = time.monotonic()
    state = "busy"
    while state == "busy":  # until the threshold is over
        stack = json.loads(service.ssh("stack --json").stdout)
        state = stack["state"]
    assert (state, stack["function"]) == ("paused", "fetch_user")
    for verb in ("top", "status", "stats", "pauses", "tracebacks", "export", "threshold 0.2"):
        assert service.ssh(verb).returncode == 0
    assert " s in fetch_user (" in service.ssh("status").stdout
    assert service.ssh("stop").returncode == service.ssh("start").returncode == 0
    assert json.loads(service.ssh("stack --json").stdout)["function"] == "fetch_user"
    assert time.monotonic() - began < 20


def test_what_only_looks_like_a_verb_is_python(service: ServiceProcess) -> None:
    """Names of verbs are no reserved words."""
    assert service.ssh("top = 3; top").stdout == "3\n"
    assert service.ssh("stop = 1\nstop + 1").stdout == "2\n"
    assert service.ssh("watchdog.threshold").stdout == "0.2\n"


def test_a_script_with_arguments(service: ServiceProcess) -> None:
    """Python reads a script from stdin; its arguments are its own sys.argv, and no one else's."""
    script = "import sys\nprint(sys.argv)\nservice.items.append(1)\nlen(service.items)\n"
    result = service.ssh("python", "-", "one", "--two", "'a b'", stdin=script)
    assert result.stdout == "['-', 'one', '--two', 'a b']\n1\n"
    assert result.returncode == 0
    found = service.ssh("python", stdin="from sys import argv; argv").stdout
    assert found == "['-']\n"
    real = service.ssh("import sys; sys.argv[0]").stdout
    assert real.endswith("manhole_service.py'\n")


def test_a_script_that_raises(service: ServiceProcess) -> None:
    """Its traceback goes to stderr, the statements before it have run, the status is 1."""
    result = service.ssh("python", stdin="print('before')\n1 / 0\nprint('after')\n")
    assert (result.stdout, result.returncode) == ("before\n", 1)
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert service.ssh("python", stdin="exit(7)").returncode == 7


def test_a_script_that_is_too_long(service: ServiceProcess) -> None:
    """It is refused before anything of it runs: compiling it would hold the service up."""
    result = service.ssh("python", stdin="print('before')\n" + "#" * (3 << 20))
    assert (result.stdout, result.returncode) == ("", 1)
    assert result.stderr == "the script is longer than 1048576 bytes\n"


def test_a_terminal_is_no_script(service: ServiceProcess) -> None:
    """It would be typed without an editor: where the console is, is said instead."""
    terminal = Terminal([*service.command("-tt"), "python"])
    terminal.expect("a terminal is no script")
    assert terminal.expect_end() == 2
    terminal.close()


def test_ctrl_c_gives_a_verb_up(service: ServiceProcess) -> None:
    """On a terminal Ctrl-C ends a verb that takes long, with 130."""
    service.ssh(
        "import time, sys; watchdog.export = lambda format: "
        "(sys.__stdout__.write('begun\\n'), sys.__stdout__.flush(), time.sleep(60))"
    )
    terminal = Terminal([*service.command("-tt"), "export"])
    while service.line() != "begun":
        pass
    # Another session does not wait for it.
    assert service.ssh("threshold").stdout == "0.2 s\n"
    terminal.type(CTRL_C)
    terminal.expect("export: given up")
    assert terminal.expect_end() == 130
    terminal.close()
    service.ssh("del watchdog.export")


def test_colour_and_width_are_the_terminals(service: ServiceProcess) -> None:
    """On a terminal tables are coloured and as wide as it is; on a dumb one they are plain."""
    for term, columns in (("xterm", 70), ("dumb", 60)):
        terminal = Terminal([*service.command("-tt"), "top"], term=term, columns=columns)
        assert terminal.expect_end() == 0
        assert ("\x1b[" in terminal.raw.decode()) is (term == "xterm")
        assert max(map(len, terminal.seen.splitlines())) <= columns
        terminal.close()


def test_verbs_in_the_console(service: ServiceProcess) -> None:
    """A verb may be typed at the prompt; a variable of that name goes before it."""
    terminal = service.terminal()
    terminal.expect(">>> ")
    terminal.type("threshold\r")
    terminal.expect("\r\n0.2 s\r\n")
    terminal.type("threshold 0.2\r")
    terminal.expect("(was 0.2 s)\r\n")
    terminal.type("top --jsn\r")
    terminal.expect("top --help\r\n")
    terminal.type("threshold = 'mine'\r")
    terminal.expect(">>> ")
    terminal.type("threshold\r")
    terminal.expect("\r\n'mine'\r\n")
    terminal.close()
