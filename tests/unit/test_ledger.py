"""The ledger: bounded history and totals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from attrs import evolve
from builders import EPOCH, pause, sampled, stack
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.ledger import NOT_SEEN, OTHER, Ledger, _fold
from txwatchdog.origin import Origin

durations = st.integers(1, 10**6).map(lambda milliseconds: milliseconds / 1000)


def test_one_function_is_one_row() -> None:
    """Pauses of one function are counted together, with their sum and worst."""
    ledger = Ledger()
    for number, seconds in enumerate((1.0, 3.0, 2.0)):
        ledger.add(pause("f", seconds, via=f"v{number}", after=number))
    (row,) = ledger.totals().offenders
    assert (row.function, row.count, row.total_seconds, row.worst_seconds) == ("f", 3, 6.0, 3.0)
    assert row.via == "v2"
    assert (row.last_at - EPOCH).total_seconds() == 2


def test_a_row_has_the_via_and_origin_of_its_latest_pause() -> None:
    """Whichever was entered last: a pause may be recorded late."""
    ledger = Ledger()
    for after in (1, 3, 2):
        origin = Origin("timed call", f"call {after}")
        each = sampled([(stack(("f", "a.py")), 1.0)], "f", after=after)
        samples = (evolve(each.samples[0], origin=origin),)
        ledger.add(evolve(each, samples=samples, via=f"v{after}"))
    (row,) = ledger.totals().offenders
    assert (row.via, row.origin) == ("v3", Origin("timed call", "call 3"))
    assert (row.last_at - EPOCH).total_seconds() == 3


def test_rows_of_no_one_function_have_neither_via_nor_origin() -> None:
    """What their pauses came by differs from one to the next."""
    ledger = Ledger(rows=6)
    for number in range(20):
        each = sampled([(stack(("f", "a.py")), 1.0)], f"f{number}", after=number)
        samples = (evolve(each.samples[0], origin=Origin("timed call", "f")),)
        ledger.add(evolve(each, samples=samples, via="v"))
    ledger.add(evolve(pause(None, 100.0, via="v"), samples=samples))
    rows = {row.function: row for row in ledger.totals().offenders}
    for name in (OTHER, NOT_SEEN):
        assert (rows[name].via, rows[name].origin) == (None, None)
    named = [row for row in rows.values() if row.file]
    assert {(row.via, row.origin) for row in named} == {("v", Origin("timed call", "f"))}


def test_the_table_is_folded_when_it_is_full_and_no_sooner() -> None:
    """It holds as many rows as it may; one more folds it to half, the newest kept."""
    ledger = Ledger(rows=10)
    for number in range(10):
        ledger.add(pause(f"f{number}", 10.0 + number))
    assert len(ledger.totals().offenders) == 10
    ledger.add(pause("new", 0.1))
    names = [row.function for row in ledger.totals().offenders]
    assert sorted(names) == [OTHER, "f6", "f7", "f8", "f9", "new"]


def test_a_reset_as_the_table_is_folded_is_not_undone() -> None:
    """Another thread may reset it just then: the folded rows do not come back."""
    ledger = Ledger(rows=10)

    def fold_and_reset(*args: Any, **kwargs: Any) -> Any:
        ledger.reset()
        return _fold(*args, **kwargs)

    with patch("txwatchdog.ledger._fold", fold_and_reset):
        for number in range(11):
            ledger.add(pause(f"f{number}"))
    assert ledger.totals().offenders == ()


def test_profiles_are_folded_when_there_are_too_many_and_no_sooner() -> None:
    """The functions with the most time keep theirs, half as many as there may be."""

    def profiled(ledger: Ledger) -> set[str]:
        return {row.function for row in ledger.totals().offenders if len(row.calls) > 1}

    ledger = Ledger(profiles=10)
    whole = stack(("f", "a.py"), ("g", "a.py"))
    for number in range(10):
        ledger.add(sampled([(whole, 10.0 + number)], f"f{number}"))
    assert len(profiled(ledger)) == 10
    ledger.add(sampled([(whole, 0.1)], "new"))
    assert profiled(ledger) == {"f5", "f6", "f7", "f8", "f9"}


def test_rows_come_worst_first() -> None:
    """Offenders are ordered by their total time, most first."""
    ledger = Ledger()
    for name, seconds in (("small", 1.0), ("big", 5.0), ("middle", 2.0)):
        ledger.add(pause(name, seconds))
    assert [row.function for row in ledger.totals().offenders] == ["big", "middle", "small"]


def test_unblamed_pauses_have_a_row() -> None:
    """A pause that no function is blamed for is counted all the same."""
    ledger = Ledger()
    ledger.add(pause(None, 2.0))
    (row,) = ledger.totals().offenders
    assert (row.function, row.file, row.line, row.count) == (NOT_SEEN, None, None, 1)


def test_causes_are_counted() -> None:
    """Pauses and seconds are summed for each cause, and a row has the cause of most of its
    time."""
    ledger = Ledger()
    for cause, seconds in (("cpu", 1.0), ("blocked", 3.0), ("cpu", 1.5)):
        ledger.add(evolve(pause("f", seconds), cause=cause))
    totals = ledger.totals()
    assert totals.causes["cpu"] == (2, 2.5)
    assert totals.causes["blocked"] == (1, 3.0)
    assert totals.causes["gil"] == (0, 0.0)
    assert totals.offenders[0].cause == "blocked"
    ledger.add(evolve(pause("g", 4.0), cause="cpu"))
    assert ledger.totals().causes["cpu"] == (3, 6.5)


def test_nobodys_fault_counts_under_its_cause_alone() -> None:
    """Starved and suspended pauses are in the totals, and in no offender's row, not even when
    the table is folded."""
    ledger = Ledger(rows=4)
    ledger.add(evolve(pause(None, 2.0), cause="starved"))
    for number in range(20):
        ledger.add(pause(f"f{number}", 1.0))
    totals = ledger.totals()
    assert totals.pauses == 21
    assert totals.paused_seconds == 22.0
    assert totals.causes["starved"] == (1, 2.0)
    assert sum(row.count for row in totals.offenders) == 20


def test_recent_is_bounded_and_newest_first() -> None:
    """The latest pauses are kept whole, newest first, and no more than asked for."""
    ledger = Ledger(recent=3)
    for number in range(1, 6):
        ledger.add(pause(number=number))
    assert [p.number for p in ledger.recent(10)] == [5, 4, 3]
    assert [p.number for p in ledger.recent(1)] == [5]


def test_counting_begins_at_a_time_that_says_where() -> None:
    """It is compared with, and printed as, UTC."""
    ledger = Ledger()
    assert ledger.since is None
    ledger.reset()
    assert ledger.since is not None
    assert ledger.since.utcoffset() == timedelta(0)


def test_reset_forgets() -> None:
    """After a reset nothing is left, and counting begins now."""
    ledger = Ledger()
    ledger.add(pause())
    ledger.reset(EPOCH)
    assert ledger.totals().pauses == 0
    assert ledger.recent(5) == []
    assert ledger.since == EPOCH


def test_heavy_offender_outlives_a_flood() -> None:
    """The function with the most time keeps its row, however many others come after it."""
    ledger = Ledger(rows=10)
    ledger.add(pause("heavy", 100.0))
    for number in range(200):
        ledger.add(pause(f"light{number}", 0.5))
    rows = {row.function: row for row in ledger.totals().offenders}
    assert rows["heavy"].total_seconds == 100.0
    assert OTHER in rows
    assert len(rows) <= 10


def test_function_named_like_a_row_of_ours() -> None:
    """A real function can't be mistaken for the row of the others, whatever its name."""
    ledger = Ledger(rows=4)
    for name in (OTHER, NOT_SEEN, "a", "b", "c", "d"):
        ledger.add(pause(name, 1.0))
    totals = ledger.totals()
    assert totals.pauses == 6
    assert {row.file for row in totals.offenders if row.function == "d"} == {"/srv/app/db.py"}


@given(
    events=st.lists(st.tuples(st.integers(0, 40), durations), max_size=300),
    rows=st.integers(2, 12),
)
def test_totals_add_up(events: list[tuple[int, float]], rows: int) -> None:
    """However many functions come, the table stays within its size, and its counts, sums and
    maximum are those of all pauses."""
    ledger = Ledger(rows=rows)
    for function, seconds in events:
        ledger.add(pause(f"f{function}", seconds))
        assert len(ledger.totals().offenders) <= rows
    totals = ledger.totals()
    assert totals.pauses == len(events) == sum(row.count for row in totals.offenders)
    expected = sum(round(seconds * 1000) for _, seconds in events) / 1000
    assert totals.paused_seconds == pytest.approx(expected)
    assert sum(row.total_seconds for row in totals.offenders) == pytest.approx(expected)
    if events:
        assert max(row.worst_seconds for row in totals.offenders) == max(s for _, s in events)


def test_pauses_are_kept_within_bounds() -> None:
    """The latest pauses are kept whole while their number and the frames in them allow it."""
    ledger = Ledger(recent=5, frames=20)
    for number in range(8):
        ledger.add(pause(number=number))
    assert [each.number for each in ledger.recent(10)] == [7, 6, 5, 4, 3]
    same = stack(*[("f", "/srv/app/db.py")] * 8)
    for number in range(8, 11):  # the same stack twice is there once
        ledger.add(sampled([(same, 1.0), (same, 1.0)], number=number))
    assert [each.number for each in ledger.recent(10)] == [10, 9]
    huge = stack(*[("f", "/srv/app/db.py")] * 100)
    ledger.add(sampled([(huge, 1.0)], number=11))
    assert [each.number for each in ledger.recent(10)] == [11]
    ledger.reset()
    ledger.add(pause(number=12))
    assert [each.number for each in ledger.recent(10)] == [12]
