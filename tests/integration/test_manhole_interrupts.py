"""Breaking off what the reactor's thread does, through the real ssh."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from manhole_support import ServiceProcess, Terminal
from support import patiently

if TYPE_CHECKING:
    from collections.abc import Iterator

CTRL_C = "\x03"
LIMIT = 0.7  # seconds


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service whose operators have time."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"), statement_timeout=0)
    yield process
    process.close()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service whose operators have not."""
    process = ServiceProcess(tmp_path_factory.mktemp("hasty"), statement_timeout=LIMIT)
    yield process
    process.close()


@pytest.fixture
def terminal(service: ServiceProcess) -> Iterator[Terminal]:
    """A console at its first prompt."""
    terminal = service.terminal()
    terminal.expect(">>> ")
    yield terminal
    terminal.close()


def data(service: ServiceProcess, verb: str) -> Any:
    """What a verb answers, as data."""
    return json.loads(service.ssh(f"{verb} --json").stdout)


def wait_until_paused(service: ServiceProcess, function: str) -> Any:
    """Wait until the reactor is paused by `function`; return where it is."""
    stack: dict[str, Any] = {}

    def is_paused() -> bool:
        stack.update(data(service, "stack"))
        return bool(stack["state"] == "paused" and stack["function"] == function)

    patiently(is_paused, f"a pause in {function}")
    return stack


BLOCKED = (
    "exec('while True: pass')",
    "__import__('time').sleep(1000)",
    "pair = __import__('socket').socketpair(); pair[0].recv(1)",
    "lock = __import__('threading').Lock(); lock.acquire(); lock.acquire()",
    "__import__('subprocess').run(['sleep', '1000'])",
)


@pytest.mark.parametrize("statement", BLOCKED)
def test_ctrl_c_breaks(service: ServiceProcess, terminal: Terminal, statement: str) -> None:
    """Ctrl-C ends what blocks with a KeyboardInterrupt, the service goes on, and the pause is the
    operator's.
    """
    terminal.type(statement + "\r")
    number = wait_until_paused(service, f"manhole: {service.operator}")["number"]
    terminal.type(CTRL_C)
    shown = terminal.expect("KeyboardInterrupt\r\n")
    assert f'File "<manhole {service.operator}:' in shown
    assert "interrupting.py" not in shown
    terminal.type("6 * 7\r")
    terminal.expect("\r\n42\r\n")
    pause = data(service, "pauses -n 1")[0]
    assert (pause["number"], pause["function"]) == (number, f"manhole: {service.operator}")


def test_ctrl_c_again(service: ServiceProcess, terminal: Terminal) -> None:
    """What a statement swallows is said to go on, and another Ctrl-C works."""
    terminal.type("service.swallow('ba', KeyboardInterrupt)\r")
    wait_until_paused(service, f"manhole: {service.operator}")
    terminal.type(CTRL_C)
    terminal.expect("swallowed b\r\n")
    terminal.expect("not interrupted yet")
    terminal.type(CTRL_C)
    terminal.expect("swallowed a\r\n")
    terminal.type(CTRL_C)
    terminal.expect("KeyboardInterrupt\r\n")


def test_code_in_c_is_said_to_run(service: ServiceProcess, terminal: Terminal) -> None:
    """C code that does not come back can't be broken, which is said; it is broken when it does."""
    terminal.type(
        "key = __import__('hashlib').pbkdf2_hmac('sha256', b'', b'', 20_000_000); print('next')\r"
    )
    wait_until_paused(service, f"manhole: {service.operator}")
    terminal.type(CTRL_C)
    terminal.expect("not interrupted yet: code in C is running")
    assert "\r\nnext\r\n" not in terminal.expect("KeyboardInterrupt\r\n")


def test_a_command_of_a_terminal(service: ServiceProcess) -> None:
    """Ctrl-C ends a command with the traceback and status 130."""
    terminal = Terminal([*service.command("-tt"), "while True: pass"])
    wait_until_paused(service, f"manhole: {service.operator}")
    terminal.type(CTRL_C)
    assert terminal.expect_end() == 130
    assert "KeyboardInterrupt" in terminal.seen
    terminal.close()


def test_time_is_up(hasty: ServiceProcess) -> None:
    """A statement that takes longer than the time limit is ended, which is said; status 1."""
    done = hasty.ssh("print('begins'); __import__('time').sleep(1000)")
    assert done.stdout == "begins\n"
    assert done.returncode == 1
    assert f"interrupted after {LIMIT} s (statement_timeout)\n" in done.stderr
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_time_is_up_where_nothing_can_be_interrupted(hasty: ServiceProcess) -> None:
    """Where the signal is another's it is said that the statement goes on, and it does."""
    done = hasty.ssh(
        "import signal, time; before = signal.signal(signal.SIGURG, lambda *_: None);"
        f" time.sleep({6 * LIMIT}); print('ends', signal.signal(signal.SIGURG, before) is before)"
    )
    assert (done.stdout, done.returncode) == ("ends False\n", 0)
    assert f"it has taken {LIMIT} s, and can't be interrupted: SIGURG" in done.stderr


def test_a_client_that_vanishes(hasty: ServiceProcess) -> None:
    """A statement whose client has gone has no more time than others."""
    client = subprocess.Popen(
        [*hasty.command("-o", "BatchMode=yes"), "service.hang()"], stdin=subprocess.DEVNULL
    )
    while hasty.line() != "hangs":
        pass
    client.kill()
    client.wait()
    done = hasty.ssh("40 + 2")
    assert done.stdout == "42\n"


def test_the_verb(service: ServiceProcess) -> None:
    """The verb names the pause first, and breaks it by its number; 1 if there is none."""
    nothing = service.ssh("interrupt")
    assert (nothing.returncode, nothing.stdout) == (1, "no pause: reactor idle\n")
    service.nap(1000)
    stack = wait_until_paused(service, "fetch_user")
    number = stack["number"]
    named = service.ssh("interrupt")
    assert named.returncode == 0
    assert f"pause {number}" in named.stdout
    assert "fetch_user" in named.stdout
    other = service.ssh(f"interrupt {number + 1}")
    assert other.returncode == 1
    assert "not under way" in other.stdout
    done = service.ssh(f"interrupt {number} --json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert (answer["outcome"], answer["function"]) == ("interrupted", "fetch_user")
    patiently(lambda: f"was interrupted by manhole: {service.operator}" in service.log(), "the log")
    pause = data(service, "pauses -n 1")[0]
    assert (pause["number"], pause["function"]) == (number, "fetch_user")


def test_whichever_is_under_way(service: ServiceProcess) -> None:
    """With --confirm no number is needed; in the console it is interrupt(confirm=True)."""
    service.nap(1000)
    wait_until_paused(service, "fetch_user")
    assert service.ssh("interrupt --confirm").stdout.startswith("interrupted: pause ")
    service.nap(1000)
    wait_until_paused(service, "fetch_user")
    assert "interrupted: " in service.ssh("watchdog.interrupt(confirm=True)").stdout
