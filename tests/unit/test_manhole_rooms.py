"""What Enter does, what keys bytes are, and how a statement's output finds its session."""

from __future__ import annotations

import builtins
import io
import itertools
import linecache
import os
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.keys import Keys

from txwatchdog.binding import address_of, bind, close
from txwatchdog.errors import ListenError
from txwatchdog.manhole.display import lay_out
from txwatchdog.manhole.evaluate import Errand, Interpreter, Outcome, trace
from txwatchdog.manhole.keys import ChannelInput
from txwatchdog.manhole.output import Capture, Outlet, routed
from txwatchdog.manhole.prompts import is_complete
from txwatchdog.manhole.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("source", "complete"),
    [
        ("", True),
        ("1", True),
        ("f(", False),
        ("'''", False),
        ("if x:", False),
        ("if x:\n    pass", False),
        ("if x:\n    pass\n", True),
        ("for x in y: pass", False),
        ("x = 1\nif x:\n    pass\n    ", True),
        ("def f(): pass\n\nf()", True),
        ("match x:\n    case 1: pass", False),
        ("@decorator", False),
        ("x +", True),
        ("1 \\", False),
        ("a b", True),
        ("\x00", True),
        ("    if x:\n        f()", False),
        ("    if x:\n        f()\n", True),
        ("    f()\n    g()", True),
    ],
)
def test_enter_runs_what_is_complete(source: str, complete: bool) -> None:
    """A block takes a blank line, an incomplete statement its rest, an error none."""
    assert is_complete(source) is complete


def _keys(chunks: list[bytes]) -> str:
    reader = ChannelInput()
    text = ""
    for chunk in chunks:
        reader.feed(chunk)
        for press in reader.read_keys():
            text += press.data
    return text


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=300), st.data())
def test_text_survives_being_cut_anywhere(text: str, data: st.DataObject) -> None:
    """However the bytes of a text are cut, the same text comes out."""
    encoded = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=5)))
    edges = [0, *cuts, len(encoded)]
    assert _keys([encoded[a:b] for a, b in itertools.pairwise(edges)]) == text


def test_a_long_run_is_one_paste() -> None:
    """A line that no hand has typed is handed over as one paste, control keys apart."""
    reader = ChannelInput()
    reader.feed(b"x" * 1000 + b"\r")
    assert [press.key for press in reader.read_keys()] == [Keys.BracketedPaste, Keys.ControlM]


def test_escape_sequences_are_keys() -> None:
    """A key's sequence is not taken for text, even when it is cut and text follows at once."""
    reader = ChannelInput()
    reader.feed(b"\x1b[")
    keys = reader.read_keys()
    reader.feed(b"A" + b"x" * 500)
    keys += reader.read_keys()
    assert keys[0].key == Keys.Up
    assert "".join(press.data for press in keys[1:]) == "x" * 500


def test_a_marked_paste_that_comes_at_once() -> None:
    """Its beginning and its text may come in one piece."""
    reader = ChannelInput()
    reader.feed(b"\x1b[200~" + b"x" * 1000 + b"\x1b[201~")
    assert [(press.key, press.data) for press in reader.read_keys()] == [
        (Keys.BracketedPaste, "x" * 1000)
    ]


def test_a_marked_paste_is_one_key() -> None:
    """A bracketed paste is one key with its text, wherever it is cut."""
    reader = ChannelInput()
    keys = []
    paste = b"\x1b[200~" + b"line\n" * 100 + b"\x1b[201~\r"
    for start in range(0, len(paste), 7):
        reader.feed(paste[start : start + 7])
        keys += reader.read_keys()
    assert [(press.key, press.data) for press in keys] == [
        (Keys.BracketedPaste, "line\n" * 100),
        (Keys.ControlM, "\r"),
    ]


@pytest.mark.parametrize(
    ("chunk", "keys"),
    [
        ("x\r", ["x", "enter"]),
        ("x\n", ["x", "enter"]),
        ("x\r\ny\r\n", ["x", "enter", "y", "enter"]),
        ("    x\r", ["paste     x", "enter"]),
        (" ", [" "]),
        ("if x:\r    y\r\rz\r", ["paste if x:\n    y\n\nz", "line end"]),
        ("if x:\n\ty", ["paste if x:\n\ty"]),
        ("x\ty\r", ["x", "tab", "y", "enter"]),
    ],
)
def test_an_unmarked_paste_is_known_by_its_indentation(chunk: str, keys: list[str]) -> None:
    """Lines that come at once, indented, are a paste; other lines are as good as typed."""
    names = {Keys.ControlM: "enter", Keys.ControlJ: "line end", Keys.ControlI: "tab"}
    reader = ChannelInput()
    reader.feed(chunk.encode())
    seen = []
    for press in reader.read_keys():
        if press.key == Keys.BracketedPaste:
            seen.append("paste " + press.data)
        else:
            seen.append(names.get(press.key, press.data))  # type: ignore[call-overload]
    assert seen == keys


def test_one_input_is_bounded() -> None:
    """Beyond a MiB characters are dropped, and Ctrl-C still comes through."""
    reader = ChannelInput()
    for _ in range(40):
        reader.feed(b"y" * 65536)
    reader.feed(b"z" * 100 + b"\x03")
    keys = reader.read_keys()
    assert sum(len(press.data) for press in keys) <= (1 << 20) + 16
    assert keys[-1].key == Keys.ControlC


class _Sent:
    def __init__(self) -> None:
        self.text = ""
        self.outlet = Outlet(self.put, terminal=False)

    def put(self, stream: int, data: bytes) -> None:
        self.text += f"{'!' * stream}{data.decode()}"


def _run(source: str, interpreter: Interpreter | None = None) -> tuple[str, list[Outcome]]:
    interpreter = interpreter or Interpreter(object(), {})
    sent = _Sent()
    outcomes = []
    for step in interpreter.read(source):
        outcome = Statement(interpreter, step, sent.outlet).run()
        if outcome.shown is not None:
            sent.outlet.write(lay_out(outcome.shown, None) + "\n")
        outcomes.append(evolve(outcome, shown=None))
    return sent.text, outcomes


def test_output_is_the_statements_own() -> None:
    """print, stderr and values go to the session, and afterwards all stands where it stood."""
    before = (sys.stdout, sys.stderr, sys.displayhook)
    text, outcomes = _run("import sys\nprint('a')\nprint('b', file=sys.stderr)\n'c'\nNone\n_")
    assert text == "a\n!b!\n'c'\n'c'\n"
    assert set(outcomes) == {Outcome()}
    assert (sys.stdout, sys.stderr, sys.displayhook) == before


def test_a_statements_streams_are_text_files() -> None:
    """As far as programs ask: their encoding, that they can be written to, and with text only."""
    text, outcomes = _run(
        "from sys import stdout\n"
        "print(stdout.encoding, stdout.errors, stdout.writable(), stdout.isatty())\n"
        "stdout.write(3)"
    )
    assert text == "utf-8 backslashreplace True False\n"
    assert outcomes[-1].traceback is not None
    assert "write() argument must be str, not int" in "".join(outcomes[-1].traceback.format())


def test_what_others_show_meanwhile_is_the_processes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While a statement runs, another thread's values and warnings go where they went before."""

    def elsewhere() -> None:
        sys.displayhook(42)
        warnings.warn("theirs", stacklevel=1)

    def run() -> None:
        with routed(Capture(sent.outlet, lambda _value: None)):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()

    before, sent = builtins.__dict__.get("_"), _Sent()
    with pytest.warns(UserWarning, match="theirs"):
        run()
    builtins.__dict__["_"] = before
    assert (capsys.readouterr().out, sent.text) == ("42\n", "")


def test_a_stream_that_another_put_there_meanwhile_stays() -> None:
    """What the service puts in place of a stream while a statement runs is left alone after it."""
    before, theirs = sys.stdout, io.StringIO()
    try:
        with routed(Capture(_Sent().outlet, lambda _value: None)):
            sys.stdout = theirs
        assert sys.stdout is theirs
    finally:
        sys.stdout = before


def test_a_process_without_streams_stays_without() -> None:
    """A daemon may have none: what its threads print meanwhile goes nowhere."""
    before, sys.stdout = sys.stdout, None
    try:
        with routed(Capture(_Sent().outlet, lambda _value: None)):
            thread = threading.Thread(target=lambda: print("nothing", flush=True))
            thread.start()
            thread.join()
        assert sys.stdout is None
    finally:
        sys.stdout = before


def test_help_is_the_sessions() -> None:
    """It is printed to the operator, without a pager; what ends a session says how."""
    text, _ = _run("help(len)")
    assert "Return the number of items in a container" in text
    assert "help(object)" not in text
    assert _run("help()")[0] == "help(object) shows what an object is and can do\n"
    assert "exit() or Ctrl-D closes this session" in _run("exit")[0]


def test_sources_that_tracebacks_can_show_are_bounded() -> None:
    """The oldest inputs are forgotten, never the one that has just come."""
    interpreter = Interpreter(object(), {}, "ann")
    with patch("txwatchdog.manhole.evaluate._SOURCES_KEPT", 3500):
        files = [interpreter.read(f"x = {n}")[0].code.co_filename for n in range(5)]
    assert [file in linecache.cache for file in files] == [False, False, True, True, True]


def test_an_exception_that_can_not_be_described() -> None:
    """It is told as what it is; the statement ends like any other."""

    class HostileError(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise RecursionError

    told = "".join(trace(HostileError()).format())
    assert "HostileError was raised, and describing it raised RecursionError()" in told


def test_a_later_write_is_the_processes_again(capsys: pytest.CaptureFixture[str]) -> None:
    """What keeps a statement's stream beyond its end does not reach into the session."""
    interpreter = Interpreter(object(), {})
    text, _ = _run("import sys; kept = sys.stdout; kept.write('now\\n') and None", interpreter)
    interpreter.namespace["kept"].write("later\n")
    assert text == "now\n"
    assert capsys.readouterr().out == "later\n"


def test_a_router_outlives_its_turn() -> None:
    """print() borrows sys.stdout: what stood there must not be freed while a thread prints."""
    interpreter = Interpreter(object(), {})
    seen = set()
    for _ in range(5):
        _run("import sys; kept = id(sys.stdout)", interpreter)
        seen.add(interpreter.namespace["kept"])
    assert len(seen) == 1


def test_printing_threads_survive_statements() -> None:
    """Threads that print all the while never lose a line to a session, nor crash."""
    over = threading.Event()
    before, sys.stdout = sys.stdout, io.StringIO()
    ours = sys.stdout
    counts = []

    def chatter() -> None:
        count = 0
        while not over.is_set():
            print("service")
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=chatter) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(300):
            assert _run("print('mine')")[0] == "mine\n"
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.stdout = before
    assert ours.getvalue().count("service") == sum(counts)
    assert "mine" not in ours.getvalue()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """Where something else stands the endpoint is named, and it stays."""
    path = tmp_path / "s"
    path.write_text("notes")
    with pytest.raises(ListenError, match="cannot listen on unix:"):
        bind(f"unix:{path}")
    assert path.read_text() == "notes"


def test_leaving_is_an_outcome() -> None:
    """SystemExit is the session's exit status, and sys.stdin stays open."""
    assert _run("exit(3)")[1] == [Outcome(status=3)]
    assert _run("quit()")[1] == [Outcome(status=0)]
    assert _run("raise SystemExit('why')")[1] == [Outcome(status=1, message="why")]
    assert not sys.stdin.closed


def test_a_future_stays_in_force() -> None:
    """`from __future__` holds for the rest of the session."""
    interpreter = Interpreter(object(), {})
    _run("from __future__ import annotations", interpreter)
    text, _ = _run("def f(x: nowhere): pass\nf.__annotations__", interpreter)
    assert text == "{'x': 'nowhere'}\n"


def test_a_hostile_exception_is_still_an_outcome() -> None:
    """An exception whose text can't be had does not get out."""
    text, outcomes = _run(
        "class Bad(BaseException):\n    def __str__(self): raise Bad\n\nraise Bad"
    )
    assert text == ""
    assert outcomes[-1].traceback is not None
    assert "Bad" in "".join(outcomes[-1].traceback.format())


class _Reactor:
    """Keeps what it is asked to call."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def callFromThread(self, function: Callable[[], None]) -> None:
        self.calls.append(function)


def test_an_errand_runs_once_and_tells() -> None:
    """An errand says when it begins and how it ended."""
    reactor = _Reactor()
    told: list[Any] = []
    errand = Errand(lambda: Outcome(status=7), lambda: told.append("begun"), told.append)
    errand.send(reactor)
    assert not errand.has_begun
    reactor.calls.pop()()
    assert told == ["begun", Outcome(status=7)]
    assert errand.withdraw() is False


def test_an_errand_that_is_withdrawn_never_runs() -> None:
    """Once withdrawn, an errand is not begun, however late the reactor comes to it."""
    reactor = _Reactor()
    told: list[Any] = []
    errand = Errand(Outcome, lambda: told.append("begun"), told.append)
    errand.send(reactor)
    assert errand.withdraw() is True
    reactor.calls.pop()()
    assert told == []


def test_only_loopback_is_listened_on_unless_told_otherwise() -> None:
    """Without interface= the address is this host's own."""
    with bind("tcp:0") as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        assert not os.get_inheritable(listening.fileno())
    with bind("tcp:0:interface=0.0.0.0") as listening:
        assert listening.getsockname()[0] == "0.0.0.0"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_only_loopback_over_ipv6_too() -> None:
    """tcp6: means ::1 unless told otherwise."""
    try:
        listening = bind("tcp6:0")
    except ListenError:
        pytest.skip("no IPv6 loopback here")
    with listening:
        assert listening.getsockname()[0] == "::1"


def test_a_socket_file_is_its_owners_and_replaced_when_stale(tmp_path: Path) -> None:
    """unix: makes a 0600 socket, replaces a dead one, never one in use, and leaves none."""
    path = tmp_path / "manhole"
    endpoint = f"unix:{path}"
    bind(endpoint).close()  # leaves the file behind, as a killed service does
    with bind(endpoint) as listening:
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ListenError, match="already in use"):
            bind(endpoint)
        address = address_of(listening)
        close(listening, address)
        close(listening, address)
    assert not path.exists()
    bind(f"{endpoint}:mode=660").close()
    assert path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    "endpoint",
    ["", "2222", "ssl:2222", "fancy:1", "tcp:port", "tcp:99999", "tcp:1:nonsense=1", "unix:/no/w"],
)
def test_an_endpoint_that_makes_no_sense_is_named(endpoint: str) -> None:
    """What can't be listened on is one line that names it and says what would do."""
    with pytest.raises(ListenError) as caught:
        bind(endpoint)
    assert endpoint in str(caught.value)
    assert "\n" not in str(caught.value)
