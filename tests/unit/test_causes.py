"""Causes: readings of the clocks -> shares and a cause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.causes import CAUSES, Journal, Reading, Verdict, judge

MS = 1_000_000
BEGAN = 10_000 * MS
TOOK = 1000 * MS


def pause(
    *,
    asleep: list[tuple[float | None, float]] | None = None,
    process: int = 0,
    earlier: int = 0,
    **spent: int | None,
) -> Verdict:
    """The verdict on a pause of 1 s, in which the clocks counted those ms (None: no clock)."""
    known = {name: None if ms is None else ms * MS for name, ms in spent.items()}
    before = Reading(BEGAN - MS, 0, 0, 0)
    after = Reading(
        BEGAN + TOOK,
        cpu_ns=known.get("cpu", 0),
        process_ns=(known.get("cpu", 0) or 0) + process * MS,
        queued_ns=known.get("queued", 0),
        gc_ns=known.get("gc", 0) or 0,
        suspended_ns=known.get("suspended", 0) or 0,
    )
    return judge(
        [before, after],
        began_ns=BEGAN,
        took_ns=TOOK,
        busy_before_ns=earlier * MS,
        asleep=asleep or [],
    )


@pytest.mark.parametrize(
    ("verdict", "cause"),
    [
        (pause(cpu=900), "cpu"),
        (pause(cpu=10), "blocked"),
        (pause(cpu=10, queued=800), "starved"),
        (pause(cpu=900, gc=800), "gc"),
        (pause(cpu=10, suspended=900), "suspended"),
        (pause(cpu=10, process=900, asleep=[(0.0, 1.0)]), "gil"),
        (pause(cpu=10, process=900, asleep=[(1.0, 1.0)]), "blocked"),
        (pause(cpu=300, process=900, asleep=[(0.0, 0.9), (1.0, 0.1)]), "gil"),
        # Nobody ran who could have held the GIL, whatever the samples say.
        (pause(cpu=10, process=10, asleep=[(0.0, 1.0)]), "blocked"),
        (pause(cpu=10, process=300, asleep=[(0.0, 1.0)]), "blocked"),
        # The kernel does not tell what the thread did while others ran.
        (pause(cpu=10, process=900), "unknown"),
        (pause(cpu=10, process=900, asleep=[(None, 1.0)]), "unknown"),
        (pause(cpu=None), "unknown"),
        (pause(cpu=100, queued=None), "unknown"),
        (pause(cpu=900, queued=None), "cpu"),
    ],
)
def test_cause(verdict: Verdict, cause: str) -> None:
    """The cause is what took most of the time; what is not measured is not guessed."""
    assert verdict.cause == cause
    assert sum(verdict.shares.values()) == pytest.approx(1)


def test_shares_are_fractions_of_the_pause() -> None:
    """Each share is the fraction of the pause that its clock counted."""
    assert pause(cpu=300, gc=100, queued=50).shares == pytest.approx(
        {"cpu": 0.2, "gc": 0.1, "starved": 0.05, "blocked": 0.65}
    )


def test_a_wait_is_divided_by_what_the_samples_found() -> None:
    """While others ran, the thread slept for the share of the time in which it was found asleep,
    and waited for the GIL for the rest, as long as the others can have held it."""
    found: list[tuple[float | None, float]] = [(1.0, 0.2), (0.5, 1.6), (None, 5.0), (0.0, 0.2)]
    assert pause(cpu=100, process=800, asleep=found).shares == pytest.approx(
        {"cpu": 0.1, "blocked": 0.5, "gil": 0.4}
    )
    # Two parts of one cause are one share.
    assert pause(cpu=100, process=350, asleep=[(0.5, 1.0)]).shares == pytest.approx(
        {"cpu": 0.1, "blocked": 0.55, "gil": 0.35}
    )


def test_the_largest_share_is_the_cause() -> None:
    """Whatever the causes' names and order."""
    assert pause(cpu=500, gc=0, queued=300).cause == "cpu"
    assert pause(cpu=100, queued=300).cause == "blocked"
    assert pause(cpu=100, queued=600, suspended=300).cause == "starved"


def test_only_what_was_suspended_meanwhile_counts() -> None:
    """A process that has stood still before has not done so in this pause."""
    before = Reading(BEGAN, 0, 0, 0, suspended_ns=700 * MS)
    after = Reading(BEGAN + TOOK, 0, 0, 0, suspended_ns=800 * MS)
    verdict = judge([before, after], began_ns=BEGAN, took_ns=TOOK, busy_before_ns=0, asleep=[])
    assert verdict.shares == pytest.approx({"suspended": 0.1, "blocked": 0.9})


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_clock_that_fails_once_tells_nothing(broken: int) -> None:
    """Three readings make a count, and it takes all of them."""
    cpu: list[int | None] = [0, 400 * MS, 900 * MS]
    cpu[broken] = None
    at = (BEGAN, BEGAN + 500 * MS, BEGAN + TOOK)
    readings = [Reading(at_ns, ns, 0, 0) for at_ns, ns in zip(at, cpu, strict=True)]
    verdict = judge(readings, began_ns=BEGAN, took_ns=TOOK, busy_before_ns=0, asleep=[])
    assert verdict.cause == "unknown"


def test_what_was_counted_before_the_first_reading_is_no_part_of_it() -> None:
    """Clocks count from the process's start: what counts is what they went on by."""
    before = Reading(BEGAN, 5000 * MS, 5000 * MS, 3000 * MS, 1000 * MS, 0, 9000 * MS)
    within = Reading(BEGAN + 500 * MS, 5100 * MS, 5100 * MS, 3000 * MS, 1000 * MS, 0, 9500 * MS)
    after = Reading(BEGAN + TOOK, 5200 * MS, 5200 * MS, 3100 * MS, 1000 * MS, 0, 10_000 * MS)
    verdict = judge(
        [before, within, after],
        began_ns=BEGAN,
        took_ns=TOOK,
        busy_before_ns=9000 * MS,
        asleep=[],
    )
    assert verdict.shares == pytest.approx({"cpu": 0.2, "starved": 0.1, "blocked": 0.7})


def test_a_first_reading_that_comes_late_is_none() -> None:
    """Up to a part of the pause may be missed; else nothing is said of it."""
    late = Reading(BEGAN + 400 * MS, 0, 0, 0)
    soon = Reading(BEGAN + 10 * MS, 0, 0, 0)
    after = Reading(BEGAN + TOOK, 700 * MS, 700 * MS, 0)
    for first, cause in ((late, "unknown"), (soon, "cpu")):
        verdict = judge([first, after], began_ns=BEGAN, took_ns=TOOK, busy_before_ns=0, asleep=[])
        assert verdict.cause == cause


def test_no_reading_is_unknown() -> None:
    """Without a reading from before and after there is nothing to say."""
    assert judge([], began_ns=1, took_ns=TOOK, busy_before_ns=0, asleep=[]) == Verdict()
    late = [Reading(BEGAN + TOOK // 2, 0, 0, 0), Reading(BEGAN + TOOK, 0, 0, 0)]
    assert judge(late, began_ns=BEGAN, took_ns=TOOK, busy_before_ns=0, asleep=[]) == Verdict()


def test_what_the_reactor_did_before_is_not_charged() -> None:
    """CPU time since the first reading is divided by how long each part of it was busy."""
    before = Reading(BEGAN - 500 * MS, 0, 0, 0)
    within = Reading(BEGAN + 500 * MS, 400 * MS, 400 * MS, 0)
    after = Reading(BEGAN + 1000 * MS, 400 * MS, 400 * MS, 0)
    verdict = judge(
        [before, within, after], began_ns=BEGAN, took_ns=TOOK, busy_before_ns=500 * MS, asleep=[]
    )
    assert verdict.shares == pytest.approx({"cpu": 0.2, "blocked": 0.8})


@given(
    clocks=st.tuples(*[st.none() | st.integers(0, 3 * TOOK)] * 3),
    counts=st.tuples(*[st.integers(0, 3 * TOOK)] * 3),
    asleep=st.lists(
        st.tuples(st.none() | st.floats(0, 1), st.floats(0, 10, allow_nan=False)), max_size=5
    ),
    took=st.integers(1, 10 * TOOK),
)
def test_shares_sum_to_one(
    clocks: tuple[int | None, ...],
    counts: tuple[int, ...],
    asleep: list[tuple[float | None, float]],
    took: int,
) -> None:
    """Whatever the clocks say, the shares are fractions of known causes that sum to 1, and the
    cause has the largest."""
    cpu, process, queued = clocks
    after = Reading(BEGAN + took, cpu, process, queued, counts[0], counts[1])
    verdict = judge(
        [Reading(BEGAN, 0, 0, 0), after],
        began_ns=BEGAN,
        took_ns=took,
        busy_before_ns=counts[2],
        asleep=asleep,
    )
    assert set(verdict.shares) <= set(CAUSES)
    assert sum(verdict.shares.values()) == pytest.approx(1)
    assert verdict.shares[verdict.cause] == max(verdict.shares.values())


def at(ms: int) -> Reading:
    """A reading at that time."""
    return Reading(ms * MS)


def test_journal_of_a_pause_that_was_looked_at() -> None:
    """A pause is judged by the last reading before it and the first after its crossing."""
    journal = Journal()
    journal.note(at(1), 0, is_pause=False)
    journal.note(at(2), 0, is_pause=False)
    journal.note(at(3), 2 * MS + 1, is_pause=False)
    journal.note(at(4), 2 * MS + 1, is_pause=True)
    journal.note(at(5), 2 * MS + 1, is_pause=True)
    assert journal.of(2 * MS + 1) == [at(2), at(4)]


def test_journal_of_a_pause_that_nobody_looked_at() -> None:
    """If nobody looked during a pause, the last reading at all is from before it."""
    journal = Journal()
    assert journal.of(7) == []
    journal.note(at(1), 0, is_pause=False)
    assert journal.of(7) == [at(1)]


def test_journal_of_the_first_tick() -> None:
    """The very first reading stands for the one before it."""
    journal = Journal()
    journal.note(at(1), 7, is_pause=False)
    assert journal.of(7) == [at(1)]
