"""What statements wait for and show, through the real ssh, on an epoll and an asyncio reactor."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from manhole_support import ServiceProcess, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

CTRL_C = "\x03"
WAITING = "Ctrl-C cancels it"

SETUP = """
import asyncio
from twisted.internet.defer import Deferred, fail, inlineCallbacks
from twisted.internet.task import deferLater
def later(value=None): return deferLater(reactor, 0.05, lambda: value)
"""


@pytest.fixture(scope="module", params=["epoll", "asyncio"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service with a manhole."""
    process = ServiceProcess(tmp_path_factory.mktemp("service"), reactor=request.param)
    yield process
    process.close_well()


@pytest.fixture
def terminal(service: ServiceProcess) -> Iterator[Terminal]:
    """A console in which the setup has run."""
    terminal = service.terminal(columns=100)
    terminal.expect(">>> ")
    terminal.type(f"\x1b[200~{SETUP.strip()}\x1b[201~\r")
    terminal.type("'rea' + 'dy'\r")
    terminal.expect("'ready'\r\n")
    terminal.expect(">>> ")
    yield terminal
    terminal.close()


def _paste(terminal: Terminal, source: str) -> None:
    """Run a block, and wait for the prompt after it."""
    terminal.type(f"\x1b[200~{source.strip()}\n\x1b[201~\r'pas' + 'ted'\r")
    terminal.expect("'pasted'\r\n")
    terminal.expect(">>> ")


def _run(service: ServiceProcess, script: str) -> tuple[str, str, int]:
    result = service.ssh(stdin=SETUP + script)
    return result.stdout, result.stderr, result.returncode


def test_a_script_awaits_in_order(service: ServiceProcess) -> None:
    """Await works in expressions and statements; a bare Deferred or coroutine is waited for."""
    script = """
print(1, await later(2))
later({'a': 3})
async def twice(n):
    print('twice', n)
    return 2 * await later(n)

twice(4)
d = later('not waited for')
for n in range(2):
    await later()
    n
async with asyncio.Lock() as lock:
    print('locked')
_
"""
    out = "1 2\n{'a': 3}\ntwice 4\n8\n0\n1\nlocked\n1\n"
    assert _run(service, script) == (out, "", 0)


def test_asyncio_where_its_loop_turns(service: ServiceProcess) -> None:
    """On an asyncio reactor asyncio's own may be awaited, beside Deferreds; elsewhere it raises."""
    if "asyncio" not in service.ssh("watchdog.status().probe").stdout:
        out, err, status = _run(service, "await asyncio.sleep(0.05)")
        assert (out, status) == ("", 1)
        assert err.endswith("RuntimeError: no running event loop\n")
        return
    script = """
async def both():
    await later()
    return await asyncio.wait_for(asyncio.sleep(0.05, 'slept'), 50)

both()
asyncio.ensure_future(asyncio.sleep(0.05, 'slept'))
"""
    assert _run(service, script) == ("'slept'\n'slept'\n", "", 0)


@pytest.mark.parametrize("source", ["fail(OSError('why'))", "await fail(OSError('why'))"])
def test_a_failure_is_a_traceback(service: ServiceProcess, source: str) -> None:
    """It begins at the operator's line; what follows is not run, and the status is 1."""
    out, err, status = _run(service, f"{source}\nprint('never')\n")
    lines = err.splitlines()
    assert (out, status) == ("", 1)
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith(", line 6, in <module>")
    assert lines[2] == f"    {source}"
    assert lines[-1] == "OSError: why"


def test_leaving_from_a_coroutine(service: ServiceProcess) -> None:
    """exit() after an await ends the session with its status."""
    assert _run(service, "async def f():\n    await later()\n    exit(7)\n\nawait f()") == (
        "",
        "",
        7,
    )


def test_what_is_awaited_prints_here_and_the_service_does_not(service: ServiceProcess) -> None:
    """Coroutines, inlineCallbacks, callbacks and threads of asyncio's that a statement waits for
    print in its session; what the service prints meanwhile does not arrive there."""
    script = """
@inlineCallbacks
def callbacks():
    yield later()
    print('inlineCallbacks')

async def main():
    service.talk(20)
    for _ in range(20):
        await deferLater(reactor, 0.01, lambda: None)
    await callbacks()
    await deferLater(reactor, 0.01, print, 'deferLater')
    print('coroutine')

main()
deferLater(reactor, 0.05, print, 'callback')
"""
    out = "inlineCallbacks\ndeferLater\ncoroutine\ncallback\n"
    assert _run(service, script) == (out, "", 0)
    for _ in range(20):
        assert service.line() == "service talks"


def test_a_deferred_of_the_services_keeps_its_result(service: ServiceProcess) -> None:
    """To look at a Deferred takes neither its value nor its failure from the service."""
    script = """
service.ready = Deferred(); service.got = []
_ = reactor.callLater(0.1, service.ready.callback, 5)
service.ready
await service.ready
service.ready.addCallback(service.got.append) and None
service.got
service.broken = fail(KeyError('k'))
async def look():
    try:
        await service.broken
    except KeyError as error:
        print('seen', error)

look()
_ = service.broken.addErrback(lambda failure: service.got.append(failure.value))
service.got
"""
    out = "5\n5\n[5]\nseen 'k'\n[5, KeyError('k')]\n"
    assert _run(service, script) == (out, "", 0)


def test_a_client_that_goes_ends_its_own_coroutine_only(service: ServiceProcess) -> None:
    """Its coroutine is cancelled; a Deferred of the service's that it waits for is not."""
    script = """
service.kept = Deferred()
async def wait():
    try:
        print('waiting')
        await service.kept
    except BaseException as error:
        service.items.append(type(error).__name__)
        raise

wait()
"""
    with subprocess.Popen(
        service.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(SETUP + script)
        process.stdin.close()
        assert process.stdout.readline() == "waiting\n"
        process.kill()
    # Its end comes through another connection than the question.
    for _ in range(500):
        if (shown := service.ssh("service.items").stdout) != "[]\n":
            break
    assert shown == "['CancelledError']\n"
    assert service.ssh("service.items.clear(); service.kept.called").stdout == "False\n"


def test_the_console_says_what_it_waits_for(terminal: Terminal) -> None:
    """A line in place says so and counts; what the awaited prints takes its place."""
    terminal.type("d = Deferred(); _ = reactor.callLater(1.5, print, 'ti' + 'mer'); _ = None\r")
    terminal.type("await deferLater(reactor, 3, lambda: 'do' + 'ne')\r")
    shown = terminal.expect("'done'\r\n")
    assert shown.count(WAITING) >= 2
    assert "waiting for <Deferred at 0x" in shown
    terminal.expect(">>> ")
    _paste(terminal, "async def f():\n    await deferLater(reactor, 1.5, print, 'from' + ' it')")
    terminal.type("f()\r")
    terminal.expect(WAITING)
    terminal.expect("from it\r\n")
    terminal.expect(">>> ")


def test_ctrl_c_cancels(terminal: Terminal) -> None:
    """Ctrl-C cancels the Deferred, or the coroutine, says so, and the prompt is back."""
    terminal.type("d = Deferred(lambda d: print('can' + 'celler'))\rd\r")
    terminal.expect(WAITING)
    terminal.type(CTRL_C)
    terminal.expect("canceller\r\n")
    terminal.expect("cancelled\r\n")
    terminal.expect(">>> ")
    source = "try: await Deferred()\n    finally: print('clean' + 'up')"
    _paste(terminal, f"async def f():\n    {source}")
    terminal.type("f()\r")
    terminal.expect(WAITING)
    terminal.type(CTRL_C)
    terminal.expect("cleanup\r\n")
    terminal.expect("cancelled\r\n")
    terminal.expect(">>> ")
    terminal.type("6 * 7\r")
    terminal.expect("\r\n42\r\n")


def test_what_is_saved_from_a_cancellation_is_shown(terminal: Terminal) -> None:
    """A coroutine that ends well though Ctrl-C cancelled it has its value; the rest is not run."""
    _paste(
        terminal,
        """
async def f():
    try: await Deferred()
    except Exception: return 'sa' + 'ved'
""",
    )
    terminal.type("await f(); print('ne' + 'ver')\r")
    terminal.expect(WAITING)
    terminal.type(CTRL_C)
    terminal.expect("'saved'\r\n")
    terminal.type("6 * 7\r")
    assert "never" not in terminal.expect("\r\n42\r\n")


def test_a_value_that_takes_long_to_show_is_given_up(
    service: ServiceProcess, terminal: Terminal
) -> None:
    """Ctrl-C gives the prompt back; a look of its own that raises is a traceback."""
    _paste(
        terminal,
        """
import sys, threading
free = threading.Event()
class Slow:
    def __rich__(self):
        sys.__stdout__.write('draws\\n')
        sys.__stdout__.flush()
        free.wait(60)
        return 'drawn'
class Broken:
    def __rich__(self): raise OSError('no ' + 'look')
""",
    )
    terminal.type("Slow(); print('ne' + 'ver')\r")
    while service.line() != "draws":
        pass
    terminal.type(CTRL_C)
    terminal.expect("given up: the value takes long to show\r\n")
    terminal.type("free.set(); 6 * 7\r")
    shown = terminal.expect("\r\n42\r\n")
    assert "never" not in shown
    assert "interrupted" not in shown, "it was given up, and that has been said"
    terminal.expect(">>> ")
    terminal.type("Broken()\r")
    terminal.expect("OSError: no look\r\n")
    terminal.expect(">>> ")


def test_a_cancelled_command_ends_with_130(service: ServiceProcess) -> None:
    """Ctrl-C on a command's terminal cancels what it waits for; the exit status is 130."""
    source = "from twisted.internet.defer import Deferred; Deferred(); print('never')"
    terminal = Terminal([*service.command("-tt"), source])
    terminal.expect(WAITING)
    terminal.type(CTRL_C)
    terminal.expect("cancelled\r\n")
    assert terminal.expect_end() == 130
    assert "never" not in terminal.seen
    terminal.close()


def test_what_will_not_be_cancelled_is_given_up(terminal: Terminal) -> None:
    """A coroutine that goes on after it was cancelled does not hold the console."""
    source = "while True:\n        try: await Deferred()\n        except Exception: pass"
    _paste(terminal, f"async def f():\n    {source}")
    terminal.type("f()\r")
    terminal.expect(WAITING)
    terminal.type(CTRL_C)
    terminal.expect("given up: cancelled, and ")
    terminal.expect("has not ended yet\r\n")
    terminal.expect(">>> ")


def test_large_values_are_cut(terminal: Terminal) -> None:
    """A value takes no more lines than the screen has; a last line says how much there is more."""
    terminal.type("{n: 'x' * 30 for n in range(10_000)}\r")
    shown = terminal.expect(" more, print(…) shows all\r\n")
    assert shown.count("\n") < 24
    assert "    0: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',\r\n" in shown
    terminal.type("'x' * 100_000_000\r")
    shown = terminal.expect(" more characters, print(…) shows all\r\n")
    assert shown.count("\n") < 24
    terminal.type("print('[%s]' % len(str(_)))\r")
    terminal.expect("\r\n[100000000]\r\n")


def test_bad_reprs_do_no_harm(terminal: Terminal) -> None:
    """What raises, has no end, or is huge is shown as what it is, and the session goes on."""
    _paste(terminal, "class Bad:\n    def __repr__(self): raise OSError('no repr')")
    terminal.type("[Bad()]\r")
    terminal.expect("[<Bad object, whose repr raised OSError>]\r\n")
    terminal.type("Bad()\r")
    assert "Traceback (most recent call last):" in terminal.expect("OSError: no repr\r\n")
    terminal.type("type(_).__name__, type(__).__name__\r")
    terminal.expect("('OSError', 'Bad')\r\n")
    _paste(terminal, "class Huge:\n    def __repr__(self): return 'x' * 100_000_000")
    terminal.type("Huge()\r")
    terminal.expect(" more characters, print(…) shows all\r\n")
    terminal.type("row = []; row.append(row); row\r")
    terminal.expect("\r\n[[...]]\r\n")


def test_a_huge_repr_arrives_whole_without_a_terminal(service: ServiceProcess) -> None:
    """A command gets all of a value, without marks and colours."""
    result = service.ssh("'x' * 20_000_000")
    assert len(result.stdout) == 20_000_003
    assert set(result.stdout) == {"x", "'", "\n"}


def test_the_last_exception_is_there_for_traceback(terminal: Terminal) -> None:
    """`_` is what the last statement raised; traceback shows it from the operator's line on."""
    terminal.type("import traceback\r1 / 0\r")
    terminal.expect("ZeroDivisionError: division by zero\r\n")
    terminal.expect(">>> ")
    terminal.type("traceback.print_exception(_)\r")
    shown = terminal.expect("ZeroDivisionError: division by zero\r\n").splitlines()
    assert shown[1] == "Traceback (most recent call last):"
    assert shown[2].startswith('  File "<manhole ')


def test_rich_draws_what_is_its_own(terminal: Terminal) -> None:
    """An object that rich can draw is drawn, at the terminal's width."""
    terminal.type("import rich.panel; rich.panel.Panel('drawn')\r")
    assert "╭" in terminal.expect("│ drawn")
    terminal.expect("╯\r\n")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_colours_only_where_they_can_be_shown(service: ServiceProcess, term: str) -> None:
    """Values are coloured on a terminal, and never on a dumb one."""
    terminal = service.terminal(term=term)
    terminal.expect(">>> ")
    terminal.type("{'a': 12345}\r")
    terminal.expect("\r\n{'a': 12345}\r\n")
    assert (b"m12345\x1b[" in terminal.raw) == (term == "xterm")
    terminal.close()


def test_nothing_is_left_behind(service: ServiceProcess) -> None:
    """When no statement goes on, streams and timers are the process's own again."""
    service.ssh("service.stop_manhole()")
    left = service.announced()
    service.port = left["port"]
    assert left["stdout_is_original"] is True
    assert left["timers_are_original"] is True
