"""The full-screen view's pure parts: history, keys, and how a page is laid out."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from builders import EPOCH, pause, status
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from txwatchdog.activity import Activity
from txwatchdog.manhole.live.history import STEP, History, Point, blocks, log_level
from txwatchdog.manhole.live.model import NOW, Action, Model, Snapshot, next_threshold
from txwatchdog.manhole.live.page import fit, page, pause_lines
from txwatchdog.manhole.live.screen import LiveScreen, _cells
from txwatchdog.records import Function, Offender, Pause, Stack, State, Top


def activity(at: float, busy: float | None = 0.0, *, tick: float = 0.0, **buckets: int) -> Activity:
    """What ticks have come to; `b30=1` is one tick of at most 2**30 ns."""
    counts = [0] * 128
    for name, count in buckets.items():
        counts[int(name[1:])] = count
    return Activity(at, busy, tick, tuple(counts))


def offender(name: str, total: float = 1.0) -> Offender:
    """A row of the table."""
    return Offender(name, "/srv/app/db.py", 41, None, 1, total, total, EPOCH)


def snapshot(
    *pauses: Pause, paused: float = 0.0, at: float = 0.0, rows: int = 1, **fields: Any
) -> Snapshot:
    """What is there to be shown; `paused` seconds of a pause under way."""
    where = Function("fetch_user", "/srv/app/db.py", 41)
    return Snapshot(
        at=EPOCH,
        status=status("paused" if paused else "idle", paused, **fields),
        stack=Stack("paused", paused, where, None, ()) if paused else None,
        top=Top(tuple(offender(f"f{n}") for n in range(rows)), "total", 2, 1.5, 0),
        pauses=pauses,
        activity=activity(at, at / 2, tick=paused),
    )


def model(*pauses: Pause, **fields: Any) -> Model:
    """A model that has taken one snapshot in."""
    made = Model("shop, pid 7")
    made.update(snapshot(*pauses, **fields))
    return made


def text(made: Model, columns: int = 80, rows: int = 24) -> list[str]:
    """The page's text."""
    return ["".join(part for _, part in line) for line in page(made, columns, rows)]


# -- activity and history ---------------------------------------------------------------------


def test_two_activities_say_what_was_between() -> None:
    """Their difference is the utilisation, and a bound of the longest tick between them."""
    early, late = activity(10, 1.0, b20=5, b31=1), activity(12, 2.0, b20=6, b31=1)
    assert late.utilisation_since(early) == 0.5
    assert late.longest_since(early) == pytest.approx(2**20 / 1e9)
    assert evolve(late, tick_seconds=3.0).longest_since(early) == 3.0
    assert early.longest_since(early) == 0.0
    assert early.utilisation_since(early) is None
    assert evolve(late, busy_seconds=None).utilisation_since(early) is None
    assert evolve(late, busy_seconds=99.0).utilisation_since(early) == 1.0


def test_columns_join_points_and_fill_up_from_the_right() -> None:
    """STEP points share a column, always the same ones, the newest on the right."""
    history = History()
    assert history.latest is None
    for second in range(5):  # four points: 1, 2, 3, 4 s busy of one second each: capped at 1
        history.add(activity(second, [0, 0.2, 0.6, 0.6, 1.0][second]))
    assert STEP == 2
    busy = [point and point.busy for point in history.columns(3)]
    assert busy == [None, pytest.approx(0.3), pytest.approx(0.2)]
    history.add(activity(5, 1.5))
    busy = [point and point.busy for point in history.columns(2)]
    assert busy == [pytest.approx(0.2), pytest.approx(0.5)]


def test_what_was_not_watched_is_not_known() -> None:
    """While the watchdog is off, nobody knows how busy the reactor was."""
    history = History()
    history.add(activity(0))
    history.add(activity(1), watched=False)
    assert history.latest == Point(None, 0.0)


@given(st.integers(0, 40), st.integers(1, 15))
def test_there_are_as_many_columns_as_asked_for(count: int, width: int) -> None:
    """However few or many points there are, the graph has its width."""
    history = History()
    for second in range(count):
        history.add(activity(second))
    columns = history.columns(width)
    assert len(columns) == width
    assert sum(point is not None for point in columns) == min(width, -(-max(0, count - 1) // STEP))


def test_bars_and_their_scale() -> None:
    """A bar fills its rows from below, in eighths; ticks are on a logarithmic scale."""
    assert blocks(0, 2) == "  "
    assert blocks(1, 2) == "██"
    assert blocks(0.75, 2) == "▄█"
    assert blocks(9, 1) == "█"
    assert [log_level(s) for s in (0, 1e-4, 10, 99)] == [0, 0, 1, 1]
    assert 0 < log_level(0.01) < log_level(0.1) < 1


@pytest.mark.parametrize(
    ("now", "up", "then"),
    [
        (0.5, True, 1),
        (0.5, False, 0.2),
        (0.3, True, 0.5),
        (0.3, False, 0.2),
        (0.001, False, 0.001),
        (5000, True, 1000),
        (1e-9, True, 0.001),
    ],
)
def test_thresholds_go_in_steps(now: float, up: bool, then: float) -> None:
    """1, 2, 5, 10 …: the next one above or below, within bounds."""
    assert next_threshold(now, up=up) == then


# -- keys -------------------------------------------------------------------------------------


def test_keys_choose_a_pause() -> None:
    """Down and up go through the pauses, and stop at the ends; Home follows the latest again."""
    made = model(pause(number=3), pause(number=2), pause(number=1))
    assert made.shown == 3
    shown = []
    for key in ("down", "j", "down", "up", "k", "up"):
        assert made.press(key) is None
        shown.append(made.shown)
    assert shown == [2, 1, 1, 2, 3, 3]
    made.press("down")
    made.update(snapshot(pause(number=4), pause(number=3), pause(number=2)))
    assert made.shown == 2
    made.press("home")
    assert made.shown == 4


def test_a_pause_under_way_comes_first() -> None:
    """While the reactor is paused, that pause is what is shown, unless another was chosen."""
    made = model(pause(number=1), paused=1.5)
    assert made.numbers == [NOW, 1]
    assert made.shown == NOW
    made.press("up")
    made.update(snapshot(pause(number=2), pause(number=1)))
    assert made.shown == 2
    made.press("down")
    made.update(snapshot(pause(number=3), paused=0.7))
    assert made.shown == NOW, "a pause that is forgotten is no longer chosen"


def test_keys_before_there_is_anything_to_see() -> None:
    """As long as nothing is known there is nothing to choose or to change."""
    made = Model("shop, pid 7")
    assert [made.press(key) for key in ("down", "R", "o", "+")] == [None] * 4
    assert (made.shown, made.asks_reset) == (None, False)
    made.update(snapshot())
    assert made.press("down") is None
    assert made.shown is None


def test_keys_sort() -> None:
    """Key s goes through the orders; t, c, w and l name one; each asks for a look."""
    made = model()
    orders = []
    for key in ("s", "s", "s", "s", "S", "c", "w", "l", "t"):
        assert made.press(key) == Action("look")
        orders.append(made.order)
    expected = ["count", "worst", "recent", "total", "recent", "count", "worst", "recent", "total"]
    assert orders == expected


def test_keys_change_the_watchdog() -> None:
    """+ and - step the threshold, o turns the watchdog off and on."""
    made = model()
    assert made.press("+") == Action("threshold", 1.0)
    assert made.press("-") == Action("threshold", 0.2)
    assert made.press("o") == Action("stop")
    made.update(evolve(snapshot(), status=status("off")))
    assert made.press("o") == Action("start")


def test_reset_asks() -> None:
    """Only y after R resets; any other key does not, and does nothing else."""
    made = model()
    assert made.press("R") is None
    assert "forget all pauses?" in text(made)[-1]
    assert made.press("q") is None
    assert made.press("R") is None
    assert made.press("y") == Action("reset")


def test_those_who_may_only_look_change_nothing() -> None:
    """Without the right, keys that change say so, and the footer does not offer them."""
    made = Model("shop", may_change=False)
    made.update(snapshot())
    assert [made.press(key) for key in ("+", "-", "o", "R", "y")] == [None] * 5
    assert "this key may look" in text(made)[-1]
    made.notice = ""
    assert "threshold" not in text(made)[-1]


def test_leaving() -> None:
    """Key q leaves, Ctrl-C interrupts, whatever is asked or shown; q in the help closes it."""
    made = model()
    assert made.press("?") is None
    assert any("scroll the traceback" in line for line in text(made))
    assert made.press("q") is None
    assert made.press("?") is None
    assert made.press("c") == Action("look"), "a key that is listed there does what it does"
    assert not made.shows_keys
    assert made.press("q") == Action("leave")
    made.press("R")
    assert made.press("c-c") == Action("interrupt")
    assert made.press("x") is None


def test_the_traceback_scrolls_within_its_lines() -> None:
    """PgUp shows what comes before, PgDn goes back to the end, neither goes beyond."""
    made = model(pause(number=1))
    made.detail = [f"line {n}" for n in range(40)]
    assert text(made)[-2].startswith("line 39")
    made.press("pageup")
    assert text(made)[-2].startswith("line 36")
    for _ in range(50):
        made.press("pageup")
    assert any(line.startswith("line 0 ") for line in text(made))
    for _ in range(50):
        made.press("pagedown")
    assert text(made)[-2].startswith("line 39")


def test_a_notice_goes_by_itself() -> None:
    """What was told is shown for some snapshots; those that a key asked for do not count."""
    made = model()
    made.tell("done")
    for _ in range(20):
        made.update(snapshot(), anew=False)
    assert "done" in text(made)[-1]
    for _ in range(6):
        made.update(snapshot())
    assert "done" not in text(made)[-1]


# -- the page ---------------------------------------------------------------------------------


@given(
    st.integers(1, 200), st.integers(1, 60), st.integers(0, 40), st.integers(0, 20), st.booleans()
)
def test_a_page_fits_every_terminal(
    columns: int, rows: int, offenders: int, pauses: int, paused: bool
) -> None:
    """As many lines as there are rows, none wider than the terminal, whatever is shown."""
    made = model(
        *(pause("日本語" * 20, number=n) for n in range(pauses, 0, -1)),
        paused=1.5 if paused else 0.0,
        rows=offenders,
    )
    made.detail = ["x" * 300, "\x1b[2Jhostile\ttab"] * 10
    for _ in range(3):
        made.update(made.snapshot or snapshot())
    lines = text(made, columns, rows)
    assert len(lines) == rows
    assert not any("\x1b" in line for line in lines)
    if columns >= 60:
        assert max(map(get_cwidth, lines)) <= columns


def test_80x24_shows_everything() -> None:
    """The state in red, figures, both graphs, both tables, a traceback and keys in 80x24."""
    pauses = [pause(number=n, via="recv") for n in range(9, 0, -1)]
    made = model(*pauses, paused=12.4, rows=9)
    made.detail = ["Traceback (most recent call last):", *["  code"] * 20]
    assert page(made, 80, 24)[1][0][0] == "class:paused"
    shown = "\n".join(text(made))
    for part in (
        "shop, pid 7",
        "reactor paused 12.4 s in fetch_user (app/db.py:41)",
        "threshold 0.5 s",
        "busy",
        "longest tick",
        "total s",
        "f1 (app/db.py:41)",
        "▸     now",
        "      9  ",
        "traceback of the pause under way",
        "? keys",
    ):
        assert part in shown


def test_a_wide_terminal_has_the_tables_side_by_side() -> None:
    """From 120 columns on, offenders and pauses share their lines."""
    lines = text(model(pause(number=1)), 140, 50)
    assert any("total s" in line and "began" in line for line in lines)


def test_the_chosen_pause_stays_in_sight() -> None:
    """However far down it is, the chosen pause is among those shown."""
    made = model(*(pause(number=n) for n in range(100, 0, -1)))
    for _ in range(60):
        made.press("down")
    assert any("▸      40" in line for line in text(made))


@pytest.mark.parametrize(
    ("state", "line"), [("idle", " reactor idle"), ("off", " watchdog stopped"), ("busy", "20 ms")]
)
def test_states(state: State, line: str) -> None:
    """The second line says what the reactor does."""
    made = model()
    made.update(evolve(snapshot(), status=status(state, 0.02 if state == "busy" else 0.0)))
    assert line in text(made)[1]


def test_nothing_yet() -> None:
    """Before the first snapshot the page is empty; before the first pause it says so."""
    assert text(Model("x")) == [""] * 24
    assert any("no pause yet" in line for line in text(model(rows=0)))


def test_what_has_no_place_is_named() -> None:
    """A row that is no function's stands as it is; very short ticks have a unit of their own."""
    made = model()
    other = evolve(offender("(other)"), file=None, line=None)
    top = Top((other,), "total", 2, 1.5, 0)
    quick = evolve(snapshot(at=1.0), top=top, activity=activity(1.0, 0.5, b10=5))
    made.update(quick)
    lines = text(made)
    assert any("unknown   (other)   " in line for line in lines), lines
    assert any("< 1 µs" in line for line in lines), lines


def test_wide_characters_take_two_cells() -> None:
    """What stands behind them is where a terminal shows it, and none is cut in two."""
    row = _cells((("bold", "a\u4e2d\u0301b\u0301"),), 10)
    assert {x: char.char for x, char in row.items()} == {0: "a", 1: "\u4e2d", 2: "", 3: "b"}
    assert [char.char for char in _cells((("", "a\u4e2d"),), 2).values()] == ["a"]


def test_a_long_path_is_cut_in_front() -> None:
    """Of a traceback's path the end is kept, with the line's number and the function."""
    made = model(pause(number=1))
    made.detail = ['  File "/srv/' + "very/" * 30 + 'app/db.py", line 41, in fetch_user']
    assert any('app/db.py", line 41, in fetch_user' in line for line in text(made))


def test_a_pauses_lines_say_where_its_time_went() -> None:
    """Below the traceback: the shares, most first."""
    made = evolve(pause(), shares={"cpu": 0.25, "blocked": 0.75})
    assert pause_lines(made) == ["75% blocked, 25% cpu"]


@pytest.mark.parametrize(
    ("given_text", "width", "expected"),
    [
        ("abc", 5, "abc  "),
        ("abcdef", 4, "abc…"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日… "),
        ("é\x1b", 4, "é·  "),
        ("abc", 0, ""),
        ("日", 0, ""),
    ],
)
def test_fit(given_text: str, width: int, expected: str) -> None:
    """A text is cut or padded to exactly so many columns, without control characters."""
    assert fit(given_text, width) == expected


def test_without_a_thread_there_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pause's traceback would stand, the view says why it can't be had, and goes on."""

    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    model = SimpleNamespace(snapshot=SimpleNamespace(pauses=[pause()]), shown=1, detail=())
    view: Any = SimpleNamespace(_model=model, _detail_of=None)
    asyncio.run(LiveScreen._read_detail(view))
    (line,) = model.detail
    assert "can't start new thread" in line
