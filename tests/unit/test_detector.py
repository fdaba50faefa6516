"""The detector: when to look, and what ended."""

from __future__ import annotations

from itertools import pairwise

from attrs import evolve
from builders import sample, stack
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.detector import GROWTH, MAX_SAMPLES, MIN_GAP_NS, Detector

MS = 1_000_000
SECOND = 1000 * MS
THRESHOLD = 500 * MS


def run(detector: Detector, since: int, until: int) -> list[int]:
    """Follow a tick as the watch thread does; returns when samples were taken."""
    now, taken = since, []
    while now < until:
        look = detector.look(now, since)
        if look.sample:
            taken.append(now)
            detector.keep(sample(since, now))
        assert look.wake_at_ns > now
        now = look.wake_at_ns
    return taken


def test_waiting_reactor_is_looked_at_once_per_threshold() -> None:
    """While the reactor waits, the next look is one threshold ahead and nothing is sampled."""
    look = Detector(THRESHOLD).look(10 * SECOND, 0)
    assert not look.sample
    assert look.wake_at_ns == 10 * SECOND + THRESHOLD


def test_busy_reactor_is_looked_at_at_the_crossing() -> None:
    """A tick under the threshold is looked at again exactly when it crosses it."""
    look = Detector(THRESHOLD).look(10 * SECOND + 100 * MS, 10 * SECOND)
    assert not look.sample
    assert look.wake_at_ns == 10 * SECOND + THRESHOLD


def test_looked_at_too_early_it_keeps_to_the_time_set() -> None:
    """An earlier look, at another's wish, takes no sample and does not put off the next one."""
    detector = Detector(THRESHOLD)
    first = detector.look(SECOND + THRESHOLD, SECOND)
    assert first.sample is True
    early = detector.look(first.wake_at_ns - 1, SECOND)
    assert early.sample is False
    assert early.wake_at_ns == first.wake_at_ns
    assert detector.look(first.wake_at_ns, SECOND).sample is True


def test_the_next_pause_is_sampled_at_its_own_crossing() -> None:
    """However far ahead the last one's next sample was."""
    detector = Detector(THRESHOLD)
    run(detector, SECOND, 100 * SECOND)
    look = detector.look(101 * SECOND + THRESHOLD, 101 * SECOND)
    assert look.sample is True


def test_first_sample_at_the_crossing() -> None:
    """The first sample of a pause is taken at the crossing, to the nanosecond."""
    taken = run(Detector(THRESHOLD), SECOND, 3 * SECOND)
    assert taken[0] == SECOND + THRESHOLD


def test_distances_grow() -> None:
    """Each sample is further from the last than that was, so a long pause costs few."""
    taken = run(Detector(THRESHOLD), SECOND, 61 * SECOND)
    ages = [at - SECOND for at in taken]
    assert 20 <= len(taken) <= 60
    assert all(abs(b / a - GROWTH) < 0.01 for a, b in pairwise(ages))


def test_low_threshold_does_not_sample_without_rest() -> None:
    """However low the threshold, two samples are some milliseconds apart."""
    taken = run(Detector(1000), SECOND, SECOND + 100 * MS)
    assert all(b - a >= MIN_GAP_NS for a, b in pairwise(taken))


def test_samples_of_one_pause_are_bounded() -> None:
    """A pause of a hundred years keeps no more samples than fit."""
    detector = Detector(1000)
    run(detector, 1, 100 * 365 * 86400 * SECOND)
    assert len(detector.end(1, 100 * 365 * 86400 * SECOND)) == MAX_SAMPLES


def test_no_sample_is_taken_that_would_not_be_kept() -> None:
    """When there is no room for more, the thread is not looked at any more."""
    detector = Detector(1000)
    taken = run(detector, 1, 100 * 365 * 86400 * SECOND)
    assert len(taken) == MAX_SAMPLES
    detector.keep(sample(1, 2))  # as the alarm does, unasked
    assert len(detector.end(1, 3)) == MAX_SAMPLES


def test_what_has_ended_is_forgotten() -> None:
    """A pause's samples are handed over once."""
    detector = Detector(THRESHOLD)
    run(detector, SECOND, 2 * SECOND)
    assert detector.end(SECOND, 2 * SECOND)
    assert detector.end(SECOND, 2 * SECOND) == ()


def test_samples_of_a_tick_that_was_no_pause_are_forgotten() -> None:
    """What was kept of a tick is not counted for a later one."""
    detector = Detector(THRESHOLD)
    run(detector, SECOND, 2 * SECOND)
    detector.look(5 * SECOND, 4 * SECOND)
    assert detector.end(4 * SECOND, 6 * SECOND) == ()


def test_alarm_sample_arrives_before_the_tick_is_looked_at() -> None:
    """A sample that SIGALRM took of a tick not yet looked at stays when it is."""
    detector = Detector(THRESHOLD)
    detector.keep(sample(SECOND, 2 * SECOND))
    detector.look(2 * SECOND, SECOND)
    assert len(detector.end(SECOND, 3 * SECOND)) == 1


def test_ending_one_pause_keeps_what_is_known_of_the_next() -> None:
    """The thread may learn of a pause's end when the next one is already sampled."""
    detector = Detector(THRESHOLD)
    detector.keep(sample(SECOND, 2 * SECOND))
    detector.keep(sample(5 * SECOND, 6 * SECOND))
    assert [s.at_ns for s in detector.end(SECOND, 3 * SECOND)] == [2 * SECOND]
    assert [s.at_ns for s in detector.end(5 * SECOND, 7 * SECOND)] == [6 * SECOND]


def test_equal_stacks_are_kept_once() -> None:
    """A thread that stands still costs the memory of one stack."""
    detector = Detector(THRESHOLD)
    first, second = stack(("f", "a.py")), stack(("f", "a.py"))
    detector.keep(sample(1, 2, first))
    detector.keep(sample(1, 3, (*first[:1],)))
    detector.keep(sample(1, 4, second))
    kept = detector.end(1, 5)
    assert kept[0].stack is kept[1].stack


@given(
    began=st.integers(1, 10**12),
    gaps=st.lists(st.integers(1, 10**10), min_size=1, max_size=20),
)
def test_samples_stand_for_the_whole_pause(began: int, gaps: list[int]) -> None:
    """The seconds that a pause's samples stand for sum to its duration, whatever their order."""
    detector = Detector(1)
    at = began
    times = []
    for gap in gaps:
        at += gap
        times.append(at)
    for moment in reversed(times):
        detector.keep(sample(began, moment))
    ended = at + 1
    samples = detector.end(began, ended)
    assert [s.at_ns for s in samples] == times
    assert abs(sum(s.seconds for s in samples) - (ended - began) / 1e9) < 1e-6
    assert all(s.seconds >= 0 for s in samples)


@given(
    ticks=st.lists(
        st.tuples(st.integers(1, 2 * SECOND), st.integers(1, 2 * SECOND)), min_size=1, max_size=20
    )
)
def test_every_look_moves_on(ticks: list[tuple[int, int]]) -> None:
    """Whatever waits and ticks come, the next look is later than now and within a threshold of
    what could happen next; only ticks over the threshold are sampled."""
    detector = Detector(THRESHOLD)
    now = SECOND
    for waited, busy in ticks:
        look = detector.look(now, 0)
        assert not look.sample
        assert look.wake_at_ns == now + THRESHOLD
        now += waited
        taken = run(detector, now, now + busy)
        assert bool(taken) == (busy > THRESHOLD)
        now += busy


def test_each_sample_has_its_own_annotations() -> None:
    """What is noted differently on the same stack is kept apart; what is the same is kept once."""
    detector, raw = Detector(THRESHOLD), stack(("f", "a.py"))
    for at, noted in enumerate([{"n": "1"}, {"n": "2"}, {"n": "2"}]):
        taken = evolve(sample(SECOND, SECOND + at, raw), annotations=noted)
        detector.keep(taken)
    first, second, third = (each.annotations for each in detector.end(SECOND, 2 * SECOND))
    assert (first, second) == ({"n": "1"}, {"n": "2"})
    assert third is second
