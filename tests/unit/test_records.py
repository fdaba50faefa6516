"""Records print well, and are data too."""

from __future__ import annotations

import json

from attrs import evolve
from builders import EPOCH, pause, sample, stack, status

from txwatchdog.ledger import Ledger
from txwatchdog.records import Frame, Function, Stack, Top, Tracebacks

FUNCTION = Function("fetch_user", "/srv/app/db.py", 41)


def test_function_is_shown_by_the_end_of_its_path() -> None:
    """A function's text has the last folder and file, its data the whole path."""
    assert str(FUNCTION) == "fetch_user (app/db.py:41)"
    assert str(Function("f", "script.py", 1)) == "f (script.py:1)"


def test_traceback_is_like_pythons() -> None:
    """A pause's traceback has Python's header, its lines, and the summary last."""
    culprit = sample(1, 2, stack(("main", "/srv/app/main.py"), ("fetch_user", "/srv/app/db.py")))
    text = evolve(pause(number=3), culprit=culprit).traceback
    assert text.splitlines() == [
        "Traceback (most recent call last):",
        '  File "/srv/app/main.py", line 7, in main',
        '  File "/srv/app/db.py", line 7, in fetch_user',
        f"Pause 3 at 2026-01-01T00:00:00.000+00:00: {pause().summary}",
    ]


def test_traceback_shows_source_lines() -> None:
    """Where the source can be read, its line is shown, as Python does."""
    line = stack.__code__.co_firstlineno
    culprit = sample(1, 2, ((stack.__code__, line),))
    assert "def stack(" in evolve(pause(), culprit=culprit).traceback


def test_summary_says_why() -> None:
    """A pause's line ends with where its time went, and blames nobody for what is no fault."""
    busy = evolve(pause(), cause="cpu", shares={"cpu": 0.97, "gc": 0.026, "gil": 0.004})
    assert busy.summary == "reactor paused 1.000 s in fetch_user (app/db.py:41): 97% cpu, 3% gc"
    starved = evolve(pause(None), cause="starved", shares={"starved": 1.0})
    assert starved.summary == "reactor paused 1.000 s because no CPU was free: 100% starved"
    stopped = evolve(pause(None), cause="suspended", shares={"suspended": 1.0})
    assert "because the process stood still" in stopped.summary


def test_traceback_of_an_unseen_pause() -> None:
    """A pause that no ring saw has a summary and no frames."""
    assert pause(None).traceback.count("\n") == 1


def test_pause_is_json() -> None:
    """A pause's data goes through JSON unchanged."""
    data = pause(via="recv").as_dict()
    assert json.loads(json.dumps(data)) == data
    assert (data["function"], data["duration"], data["via"]) == ("fetch_user", 1.0, "recv")


def test_stack_says_where_and_how_long() -> None:
    """A stack's text is a traceback with one line that sums up."""
    here = Stack("paused", 3.21, FUNCTION, None, (Frame("fetch_user", "/srv/app/db.py", 44),))
    assert here.summary == "reactor paused 3.2 s in fetch_user (app/db.py:41)"
    assert str(here) == repr(here)
    assert str(here).splitlines()[1:] == [
        '  File "/srv/app/db.py", line 44, in fetch_user',
        here.summary,
    ]
    assert Stack("idle", 0.0, None, None, ()).summary == "reactor idle"
    assert "stopped" in Stack("off", 0.0, None, None, ()).summary


def test_tracebacks_are_a_list_that_prints() -> None:
    """Tracebacks print as one text, and say so when there is none."""
    both = Tracebacks(["one\n", "two\n"])
    assert both == ["one\n", "two\n"]
    assert str(both) == repr(both) == "one\n\ntwo\n"
    assert str(Tracebacks()) == "no pause yet"


def test_top_is_a_sequence_that_prints_a_table() -> None:
    """The offenders' table has a line for each row, in columns, and one that sums up."""
    ledger = Ledger()
    ledger.add(pause("fetch_user", 1.5, via="recv_exactly"))
    ledger.add(pause(None, 0.25))
    totals = ledger.totals()
    top = Top(totals.offenders, "total", totals.pauses, totals.paused_seconds, 0)
    assert len(top) == 2
    assert top[0].function == "fetch_user"
    assert [row.count for row in top] == [1, 1]
    head, _, first, second, summary = str(top).splitlines()
    assert head.split() == ["total", "s", "count", "worst", "s", "function", "via", "cause", "last"]
    assert first.split() == [
        *("1.500", "1", "1.500"),
        *("fetch_user", "(app/db.py:41)", "recv_exactly", "unknown", "00:00:00Z"),
    ]
    assert second.split()[3:5] == ["(not", "seen)"]
    assert summary == "2 pauses, 1.750 s in all"
    assert repr(top) == str(top)


def test_top_of_nothing() -> None:
    """An empty table is a sentence."""
    assert str(Top((), "total", 0, 0.0, 0)) == "no pause yet"


def test_top_says_how_to_see_the_rest() -> None:
    """A table that is cut short says what shows all."""
    ledger = Ledger()
    ledger.add(pause())
    top = Top(ledger.totals().offenders, "total", 9, 9.0, 4)
    assert str(top).endswith("9 pauses, 9.000 s in all; 4 more rows, top(5) shows all")


def test_top_says_which_pauses_are_in_no_row() -> None:
    """Pauses that are no function's fault are told apart, so that rows and sum add up."""
    unblamed = {"starved": (2, 3.5), "suspended": (0, 0.0)}
    ledger = Ledger()
    ledger.add(pause(None, 0.5))
    top = Top(ledger.totals().offenders, "total", 3, 4.0, 0, unblamed)
    assert str(top).endswith("\n3 pauses, 4.000 s in all; no function's fault: 2 starved, 3.500 s")
    assert top.as_dict()["unblamed"]["starved"] == {"pauses": 2, "seconds": 3.5}
    nobody = Top((), "total", 1, 2.0, 0, {"suspended": (1, 2.0)})
    assert str(nobody) == "1 pause, 2.000 s in all; no function's fault: 1 suspended, 2.000 s"


def test_markup_in_a_name_is_text() -> None:
    """A function's name that looks like rich markup is shown as it is."""
    ledger = Ledger()
    ledger.add(pause("[bold]x[/bold]"))
    assert "[bold]x[/bold]" in str(Top(ledger.totals().offenders, "total", 1, 1.0, 0))


def test_status_prints_what_it_knows() -> None:
    """A status has a line for each thing, those that are troubles only when there are any."""
    paused = status(
        "paused", 2.0, rings={"thread": "on", "sigalrm": "off: taken"}, utilisation=0.123
    )
    text = str(paused)
    assert repr(paused) == text
    assert "reactor     paused 2.0 s" in text
    assert "ring        sigalrm: off: taken" in text
    assert "utilisation 12.3%" in text
    assert "lost" not in text
    troubled = str(evolve(paused, lost=3, error="boom", utilisation=None))
    assert "lost        3 pauses" in troubled
    assert "error       boom" in troubled
    assert "utilisation not known" in troubled
    named = str(evolve(paused, offender=Function("fetch", "/srv/app/db.py", 41), via="recv"))
    assert "reactor     paused 2.0 s in fetch (app/db.py:41) via recv\n" in named


def test_moments_are_iso() -> None:
    """A row's data has its moment in ISO 8601 with the zone."""
    ledger = Ledger()
    ledger.add(pause())
    row = ledger.totals().offenders[0].as_dict()
    assert row["last_at"] == EPOCH.isoformat(timespec="milliseconds")
