"""Which commands are verbs, what each takes and says, and a script's own sys.argv."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import json
import sys
import threading
from typing import Any

import pytest
from builders import EPOCH, pause
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

from txwatchdog import Watchdog, exports
from txwatchdog.errors import ManholeError
from txwatchdog.manhole.script import give_arguments
from txwatchdog.manhole.verbs.declare import dump
from txwatchdog.manhole.verbs.lines import NAMES, console_verb, verb_line
from txwatchdog.manhole.verbs.table import FORMATS, VERBS, Call, Order, UsageError, read_order
from txwatchdog.manhole.worker import in_worker
from txwatchdog.records import Function


@pytest.mark.parametrize(
    "line",
    [
        "top",
        " stop \n",
        "top --by worst",
        "top --jsn",
        "top -n",
        "top - 3",
        "threshold 0.2",
        "threshold -1",
        "export speedscope",
        "export 'half",
        "python - one",
        "python -",
        "top =",
        "help top",
    ],
)
def test_verbs_and_what_looks_like_one(line: str) -> None:
    """A verb's name alone, with options, or with what is not Python, is a verb line."""
    assert verb_line(line) == line.strip()


@pytest.mark.parametrize(
    "source",
    [
        "",
        "1 + 1",
        "watchdog.top()",
        "top = 3",
        "top (3)",
        "stop if start else reset",
        "(top - 3)",
        "top\nstop",
        "topping",
        "status.running",
        "help(top)",
        "threshold; 1",
        "tops --json",
    ],
)
def test_all_else_is_python(source: str) -> None:
    """What is valid Python beyond a lone name or a dash, or has several lines, is Python."""
    assert verb_line(source) is None


@given(st.sampled_from(NAMES), st.sampled_from(" \t\v\f\x1c\u2028\xa0'\"\\"), st.text())
def test_no_line_is_too_odd(name: str, between: str, rest: str) -> None:
    """Whatever follows a verb's name, the line is Python, or is understood, or is a mistake."""
    line = verb_line(name + between + rest)
    if line is not None:
        with contextlib.suppress(UsageError):
            read_order(line)


def test_the_live_view_by_its_method() -> None:
    """What the operator knows as a method is the verb; so is the option that everyone tries."""
    assert verb_line("watchdog.live()") == "live"
    assert verb_line("--help") == "help"


@pytest.mark.parametrize(
    ("source", "names", "expected"),
    [
        ("top", {}, "top"),
        ("top", {"top": 1}, None),
        ("help", {}, None),
        ("python", {}, None),
        ("x", {}, None),
    ],
)
def test_in_a_console_the_operators_names_come_first(
    source: str, names: dict[str, object], expected: str | None
) -> None:
    """A verb is not one where the operator has a variable of that name, or it means Python."""
    assert console_verb(source, names) == expected


def test_the_names_are_those_of_the_table() -> None:
    """The light list of names and the table of verbs agree."""
    assert set(NAMES) == set(VERBS)


def test_the_formats_are_those_of_the_exports() -> None:
    """What export and report offer is what the watchdog can export."""
    assert {*FORMATS, "report"} == set(exports.FORMATS)


@pytest.mark.parametrize("name", NAMES)
def test_each_verb_has_help(name: str) -> None:
    """VERB --help is a text that names the verb and says what it does, whatever else is said."""
    text = read_order(f"{name} --help")
    assert isinstance(text, str)
    assert text.startswith(f"Usage: {name}")
    assert VERBS[name].summary.rstrip(".") in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("top --jsn", "No such option"),
        ("top --by moon", "'moon' is not one of"),
        ("top -n -1", "-1"),
        ("top extra", "unexpected extra argument"),
        ("threshold -1", "give seconds above 0, such as 0.5"),
        ("threshold nan", "give seconds above 0"),
        ("threshold a", "'a' is no threshold"),
        ("export bread", "'bread' is not one of"),
        ("export 'half", "no closing quotation in: export 'half"),
        ("stop now", "unexpected extra argument"),
    ],
)
def test_a_mistake_says_what_and_what_to_do(line: str, message: str) -> None:
    """A line that can't be understood is an error that names the value and a remedy."""
    with pytest.raises(UsageError) as caught:
        read_order(line)
    assert message in str(caught.value)
    assert "--help" in str(caught.value) or "close it" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("top", "view"),
        ("live", "view"),
        ("export json", "view"),
        ("threshold", "view"),
        ("threshold 0.3", "tune"),
        ("start", "tune"),
        ("stop", "tune"),
        ("reset", "tune"),
        ("python", "full"),
    ],
)
def test_each_says_which_role_it_takes(line: str, role: str) -> None:
    """An order knows the least role that carrying it out takes."""
    order = read_order(line)
    assert isinstance(order, Order)
    assert order.role == role


def _watchdog() -> Watchdog:
    dog = Watchdog(MemoryReactorClock(), threshold=0.25)
    dog._ledger.reset()
    dog._ledger.add(pause("fetch_user", 1.5, number=1))
    dog._ledger.add(pause("render", 0.5, number=2, via="sleep", after=3))
    return dog


def _say(dog: Watchdog, line: str, **settings: Any) -> str:
    order = read_order(line)
    assert isinstance(order, Order)
    return order.carry_out(Call(dog, **settings)).text


def test_top_as_text_and_as_json() -> None:
    """The table by the order asked for, in the width there is, and as data."""
    dog = _watchdog()
    text = _say(dog, "top --by recent", width=90)
    assert text.index("render") < text.index("fetch_user")
    assert max(map(len, text.splitlines())) <= 90
    data = json.loads(_say(dog, "top -n 1 --json"))
    assert [row["function"] for row in data["offenders"]] == ["fetch_user"]
    assert (data["pauses"], data["hidden"], data["by"]) == (2, 1, "total")


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escape sequences come with colour=True, whatever the service's environment says."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in _say(_watchdog(), "top") + _say(_watchdog(), "pauses")
    assert "\x1b[" in _say(_watchdog(), "top", colour=True)


def test_pauses_as_text_and_as_json() -> None:
    """A line for each pause, newest first; all of them as data."""
    lines = _say(_watchdog(), "pauses").splitlines()
    assert "render (app/db.py:41)" in lines[2]
    assert "fetch_user" in lines[3]
    assert [each["number"] for each in json.loads(_say(_watchdog(), "pauses --json"))] == [2, 1]
    assert _say(Watchdog(MemoryReactorClock()), "pauses") == "no pause yet"


@pytest.mark.parametrize("verb", ["stats", "status", "stack", "tracebacks"])
def test_the_others_as_text_and_as_json(verb: str) -> None:
    """Each has something to say, and the same as data."""
    dog = _watchdog()
    assert _say(dog, verb)
    assert json.loads(_say(dog, f"{verb} --json"))


def test_stats_says_what_took_the_time() -> None:
    """The numbers in lines, causes that occurred among them."""
    text = _say(_watchdog(), "stats")
    assert "pauses     2, 2.000 s in all" in text
    assert "unknown    2, 2.000 s" in text


def test_the_threshold_is_shown_and_set() -> None:
    """Without a number it looks; with one it says old and new."""
    dog = _watchdog()
    assert _say(dog, "threshold") == "0.25 s"
    assert _say(dog, "threshold 0.1") == "0.1 s (was 0.25 s)"
    assert json.loads(_say(dog, "threshold --json")) == {"threshold": 0.1}


def test_help_lists_what_the_role_allows() -> None:
    """Who may not use a verb is not told of it, nor that all else is Python."""
    text = _say(_watchdog(), "help", role="view")
    assert "  threshold " in text
    assert "  stop " not in text
    assert "ython" not in text
    assert "  stop " in _say(_watchdog(), "help", role="tune")


def test_help_lists_all_verbs() -> None:
    """Verb help names each verb with a line; help VERB is VERB --help."""
    text = _say(_watchdog(), "help")
    assert all(f"  {name} " in text for name in NAMES)
    assert _say(_watchdog(), "help top") == read_order("top --help")


@pytest.mark.parametrize("line", ["export", "export speedscope", "export json", "report"])
def test_exports(line: str) -> None:
    """What the watchdog exports is printed as it is."""
    name = {"export": "collapsed", "report": "report"}.get(line) or line.split()[1]
    dog, text = _watchdog(), _say(_watchdog(), line)
    assert text.splitlines()[:1] == dog.export(name).splitlines()[:1] or name == "json"
    assert name != "json" or json.loads(text)["totals"]["pauses"] == 2


def test_reset_forgets() -> None:
    """Reset clears the ledger, and says so."""
    dog = _watchdog()
    assert _say(dog, "reset") == "all pauses forgotten"
    assert dog.pauses() == []


def test_what_json_does_not_know_is_plain() -> None:
    """Records are objects, times are text, and anything else is as it prints."""
    known = {"function": Function("f", "a.py", 1), "at": EPOCH, "other": 1j}
    assert json.loads(dump(known)) == {
        "function": {"function": "f", "file": "a.py", "line": 1},
        "at": "2026-01-01T00:00:00.000+00:00",
        "other": "1j",
    }


def test_a_script_has_arguments_of_its_own() -> None:
    """`import sys` in that namespace finds its argv, and else the real sys; the process's stays."""
    namespace: dict[str, Any] = {"__builtins__": dict(vars(builtins))}
    give_arguments(namespace, ["-", "a b"])
    before = list(sys.argv)
    source = (
        "import sys, os\nfrom sys import argv, version_info\nimport os.path\n"
        "found = sys.argv\nsys.argv = ['mine']\nsys.txwatchdog_mark = 1\nafter = sys.argv"
    )
    exec(source, namespace)
    assert namespace["found"] == namespace["argv"] == ["-", "a b"]
    assert namespace["after"] == ["mine"]
    assert namespace["version_info"] == sys.version_info
    assert sys.argv == before
    assert vars(sys).pop("txwatchdog_mark") == 1
    assert "argv" in dir(namespace["sys"])


def test_a_worker_hands_back_what_it_returns_or_raises() -> None:
    """The result, or the exception, comes back to the loop; no exception is lost."""

    def complain() -> None:
        raise KeyError("why")

    def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        before = threading.current_thread()
        assert await in_worker(threading.current_thread) is not before
        with pytest.raises(KeyError):
            await in_worker(complain)
        with pytest.raises(RuntimeError, match="SystemExit"):
            await in_worker(leave)
        given_up = in_worker(lambda: 1)
        given_up.cancel()
        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_without_a_thread_the_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the process's limit of threads nothing is done in the manhole's, for that would wait."""
    done: list[int] = []

    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        monkeypatch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(ManholeError, match=r"can't start new thread; .*raise its limit"):
            await in_worker(lambda: done.append(7))
        assert not done

    asyncio.run(main())
