"""What is told of a watchdog: sums that never fall, in bounded numbers."""

from __future__ import annotations

import re

import pytest
from attrs import evolve
from builders import EPOCH, pause
from hypothesis import given
from hypothesis import strategies as st
from watched import FakeWatchdog

from txwatchdog.causes import CAUSES
from txwatchdog.measures import BOUND_LABELS, BOUNDS, MEASURES, Tally, clean, labels_of
from txwatchdog.records import Function

PLACE = ("/srv/app/db.py", "41")


def test_pauses_are_counted_by_cause_and_by_offender() -> None:
    """Each pause is counted, with its seconds, under its cause and under its function; all causes
    are there from the beginning."""
    watchdog = FakeWatchdog()
    tally = Tally(watchdog)
    assert tally.read().causes == dict.fromkeys(CAUSES, (0, 0.0))
    watchdog.pauses(
        evolve(pause("f", 1.0), cause="cpu"),
        evolve(pause("f", 2.0), cause="blocked"),
        evolve(pause("g", 4.0), cause="blocked"),
    )
    now = tally.read()
    assert (now.causes["cpu"], now.causes["blocked"]) == ((1, 1.0), (2, 6.0))
    assert now.offenders == {("f", *PLACE): (2, 3.0), ("g", *PLACE): (1, 4.0)}
    assert (now.paused, now.longest, now.latest_at) == (7.0, 4.0, EPOCH.timestamp())


def test_nobodys_fault_has_no_offender() -> None:
    """A starved pause counts under its cause alone; one of which nothing was seen has a row."""
    watchdog = FakeWatchdog()
    tally = Tally(watchdog)
    watchdog.pauses(evolve(pause(None), cause="starved"), pause(None))
    now = tally.read()
    assert now.causes["starved"] == (1, 1.0)
    assert now.offenders == {("(not seen)", "", ""): (1, 1.0)}


def test_first_come_keep_their_row() -> None:
    """Functions that there is no room for are (other) for good, and no row ever moves."""
    watchdog = FakeWatchdog()
    tally = Tally(watchdog, offenders=2)
    watchdog.paused("a", "b", "c", "d", "a", "c")
    counts = {row[0]: count for row, (count, _) in tally.read().offenders.items()}
    assert counts == {"a": 2, "b": 1, "(other)": 3}


def test_no_rows_at_all() -> None:
    """With no offenders wanted, all are (other); fewer than none is a ValueError."""
    watchdog = FakeWatchdog()
    tally = Tally(watchdog, offenders=0)
    watchdog.paused("a", "b")
    assert tally.read().offenders == {("(other)", "", ""): (2, 2.0)}
    with pytest.raises(ValueError, match="offenders must be a whole number from 0, not -1"):
        Tally(watchdog, offenders=-1)


def test_pause_under_way_shows_in_sums_and_has_its_row() -> None:
    """While a pause is under way its time is in the sums, and its function has a row at 0, so that
    its count is seen to rise."""
    watchdog = FakeWatchdog(ended=1.0, age=3.0)
    now = Tally(watchdog).read()
    assert (now.busy, now.tick_seconds, now.tick_age) == (4.0, 1.0, 3.0)
    assert (now.paused, now.longest) == (3.0, 3.0)
    assert now.under_way == {("fetch_user", *PLACE): 3.0}
    assert now.offenders == {("fetch_user", *PLACE): (0, 0.0)}


def test_pauses_under_way_are_bounded_too() -> None:
    """However many functions are caught in pauses, they share the offenders' rows."""
    watchdog = FakeWatchdog(age=3.0)
    tally = Tally(watchdog, offenders=3)
    seen = set()
    for number in range(20):
        watchdog.offender = f"f{number}"
        seen |= set(tally.read().under_way)
    assert len(seen) == 4
    assert ("(other)", "", "") in seen


def test_pause_that_ends_as_it_is_looked_at() -> None:
    """A pause that is over when its stack is read has no function under way."""
    watchdog = FakeWatchdog(age=3.0)
    stack = evolve(watchdog.stack(), state="idle")
    watchdog.stack = lambda: stack  # type: ignore[method-assign]
    assert Tally(watchdog).read().under_way == {}


def test_within_the_threshold_nothing_is_paused() -> None:
    """A tick under way that is no pause yet is busy time, and no more."""
    now = Tally(FakeWatchdog(age=0.4)).read()
    assert (now.busy, now.paused, now.longest, now.under_way) == (0.4, 0.0, 0.0, {})


def test_heartbeat_is_not_taken_for_more_than_it_is() -> None:
    """Where the probe can't tell, busy time is not there at all, and only ended pauses count."""
    watchdog = FakeWatchdog(exact=False, age=3.0)
    tally = Tally(watchdog)
    watchdog.paused("f")
    now = tally.read()
    assert (now.busy, now.tick_seconds, now.paused) == (None, None, 1.0)


def test_stopped_watchdog_takes_nothing_back() -> None:
    """A tick under way that is forgotten by a stop stays in the sums that were told."""
    watchdog = FakeWatchdog(ended=1.0, age=3.0)
    tally = Tally(watchdog)
    tally.read()
    watchdog.age = 0.0
    now = tally.read()
    assert (now.busy, now.paused, now.longest) == (4.0, 3.0, 3.0)
    watchdog.exact = False  # as of a watchdog that has no probe while it is stopped
    assert tally.read().busy == 4.0


def test_stopped_tally_counts_no_more() -> None:
    """After stop nothing is counted, and after start it goes on where it was."""
    watchdog = FakeWatchdog()
    tally = Tally(watchdog)
    tally.start()
    watchdog.paused("f")
    tally.stop()
    tally.stop()
    watchdog.paused("f")
    assert watchdog.observers == []
    tally.start()
    watchdog.paused("f")
    assert tally.read().causes["unknown"][0] == 2


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pause"), st.integers(0, 9), st.floats(0.001, 100.0)),
        st.tuples(st.just("age"), st.integers(0, 9), st.floats(0.0, 100.0)),
        st.tuples(st.just("threshold"), st.just(0), st.floats(0.01, 50.0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_counter_ever_falls(steps: list[tuple[str, int, float]]) -> None:
    """Whatever happens between two readings, no counter falls and no series of one goes."""
    watchdog = FakeWatchdog()
    tally = Tally(watchdog, offenders=4)
    before: dict[tuple[str, ...], float] = {}
    for kind, function, value in steps:
        if kind == "pause":
            watchdog.ended += value
            watchdog.paused(f"f{function}", seconds=value)
        elif kind == "age":
            watchdog.age, watchdog.offender = value, f"f{function}"
        else:
            watchdog.threshold = value
        now = tally.read()
        told = {
            (measure.name, *labels): value
            for measure in MEASURES
            if measure.kind == "counter"
            for labels, value in measure.read(now).items()
        }
        assert all(told[series] >= value for series, value in before.items())
        assert len([series for series in told if series[0] == "offender.pauses"]) <= 5
        before = told


@given(st.lists(st.integers(1, 10**11), max_size=50))
def test_bounds_are_exact(durations_ns: list[int]) -> None:
    """For each bound just those ticks are counted that took no longer."""
    watchdog = FakeWatchdog()
    extreme = [2**bound + by for bound in BOUNDS for by in (-1, 0)]
    for took_ns in (*durations_ns, *extreme):
        watchdog.buckets[took_ns.bit_length()] += 1
    ticks = Tally(watchdog).read().ticks
    for bound, count in zip(BOUND_LABELS, ticks, strict=True):
        limit_ns = float(bound) * 1e9
        assert count == sum(took <= round(limit_ns, 1) for took in (*durations_ns, *extreme))


def test_labels_are_what_others_can_take() -> None:
    """A label is bounded, and text in UTF-8, whatever a file is called."""
    assert labels_of(Function("f" * 1000, "/srv/\udcff.py", 3)) == ("f" * 300, "/srv/?.py", "3")
    assert clean("abc", 2) == "ab"


def test_names_follow_the_conventions() -> None:
    """Names are words with dots; no counter ends as another library would end it."""
    names = [measure.name for measure in MEASURES]
    assert len(names) == len(set(names))
    for measure in MEASURES:
        assert re.fullmatch(r"[a-z]+(\.[a-z]+)*", measure.name)
        assert not measure.name.endswith(("total", "seconds", "count"))
        assert measure.help.endswith(".")
