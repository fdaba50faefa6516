"""Profiles: where the time of pauses went."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from builders import EPOCH, code, pause, sample, sampled, stack
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.calls import NODES, OTHER, Call, Calls
from txwatchdog.ledger import Ledger
from txwatchdog.paths import callback_paths
from txwatchdog.records import Offender

REACTOR = (
    ("<module>", "/srv/app/main.py"),
    ("run", "/usr/lib/twisted/internet/base.py"),
    ("mainLoop", "/usr/lib/twisted/internet/base.py"),
    ("runUntilCurrent", "/usr/lib/twisted/internet/base.py"),
)
APP = "/srv/app/db.py"

names = st.sampled_from(["a", "b", "c", "d"])
paths = st.lists(names, max_size=12).map(
    lambda path: tuple((name, "/srv/app/x.py", 1, False) for name in path)
)
weighted = st.lists(st.tuples(paths, st.integers(0, 10**12)), max_size=60)


def lines(text: str) -> list[str]:
    """The rows of a profile's text, without title and heads."""
    return text.splitlines()[2:]


def test_work_that_moves_through_three_functions_shows_all_three() -> None:
    """Each function that a pause's work moved through is there, with its time."""
    profile = sampled(
        [
            (stack(*REACTOR, ("handle", APP), ("load", APP)), 1.0),
            (stack(*REACTOR, ("handle", APP), ("parse", APP)), 2.0),
            (stack(*REACTOR, ("handle", APP), ("store", APP)), 0.5),
        ]
    ).profile()
    seconds = {node.function: node.seconds for _, node in profile.walk()}
    assert seconds["handle"] == 3.5
    assert (seconds["load"], seconds["parse"], seconds["store"]) == (1.0, 2.0, 0.5)
    assert str(profile).splitlines() == [
        "reactor paused 3.500 s in fetch_user (app/db.py:41), 3 samples",
        "seconds      %  self s  call",
        "                        … 4 reactor frames",
        "  3.500  100.0          handle (app/db.py:1)",
        "  2.000   57.1   2.000    parse (app/db.py:1)",
        "  1.000   28.6   1.000    load (app/db.py:1)",
        "  0.500   14.3   0.500    store (app/db.py:1)",
    ]
    assert repr(profile) == str(profile)


def test_folded_frames_are_complete_in_the_record() -> None:
    """What the display folds is in the tree, and marked."""
    profile = sampled([(stack(*REACTOR, ("handle", APP)), 1.0)]).profile()
    assert [(depth, node.function, node.reactor) for depth, node in profile.walk()] == [
        (0, "<module>", True),
        (1, "run", True),
        (2, "mainLoop", True),
        (3, "runUntilCurrent", True),
        (4, "handle", False),
    ]


def test_reactor_between_two_callbacks() -> None:
    """Time in which the reactor had called nobody is shown as just that."""
    profile = sampled([(stack(*REACTOR), 1.0), (stack(*REACTOR, ("f", APP)), 2.0)]).profile()
    assert [line.split()[-2:] for line in lines(str(profile))[1:]] == [
        ["f", "(app/db.py:1)"],
        ["(between", "callbacks)"],
    ]


def test_pause_without_a_sample() -> None:
    """A pause that no ring saw has a profile that says so, of the right length."""
    (node,) = pause(duration=2.0).profile().nodes
    assert (node.function, node.file, node.seconds) == ("(not sampled)", None, 2.0)


def test_functions_that_differ_in_their_file_alone() -> None:
    """Code objects that Python finds equal are two functions if their files differ."""
    one, two = code("f", "/srv/a.py"), code("f", "/srv/b.py")
    assert one == two
    profile = sampled([(((one, 1),), 1.0), (((two, 1),), 2.0)]).profile()
    assert [(node.file, node.seconds) for node in profile.nodes] == [
        ("/srv/b.py", 2.0),
        ("/srv/a.py", 1.0),
    ]


def test_text_is_bounded() -> None:
    """However many calls there are, those with the most time are printed, and the rest counted."""
    profile = sampled([(stack((f"f{n}", APP)), 1.0 + n) for n in range(300)]).profile()
    shown = lines(str(profile))
    assert len(shown) == 41
    assert "f299 " in shown[0]
    assert shown[-1].strip() == "… 260 calls with less time"


def test_a_recursion_as_deep_as_the_sampler_keeps() -> None:
    """A stack of 2000 calls is no trouble in any view."""
    profile = sampled([(stack(*[("again", APP)] * 2000), 1.0)]).profile()
    assert sum(1 for _ in profile.walk()) == 2000
    assert len(str(profile).splitlines()) < 50
    assert len(json.loads(json.dumps(profile.as_dict()))["calls"]) == 2000
    assert "again" in repr(profile.nodes)
    assert profile == profile  # noqa: PLR0124 - it compares without going down the tree


def test_as_dict_is_the_tree_in_order() -> None:
    """A profile is data too: each call with its depth, a caller before what it called."""
    profile = sampled([(stack(("f", APP), ("g", APP)), 1.5)]).profile()
    data = json.loads(json.dumps(profile.as_dict()))
    assert data["seconds"] == 1.5
    assert data["calls"] == [
        {
            "depth": depth,
            "function": name,
            "file": APP,
            "line": 1,
            "reactor": False,
            "seconds": 1.5,
            "self_seconds": own,
        }
        for depth, name, own in ((0, "f", 0.0), (1, "g", 1.5))
    ]


def test_offender_has_the_merged_profile_of_its_pauses() -> None:
    """The pauses of one function make one profile, from the callback on, whoever called it."""
    ledger = Ledger()
    ledger.add(sampled([(stack(*REACTOR, ("f", APP), ("g", APP)), 1.0)]))
    ledger.add(sampled([(stack(("f", APP), ("g", APP)), 2.0), (stack(("f", APP)), 0.5)]))
    (row,) = ledger.totals().offenders
    assert [(n.function, n.seconds, n.self_seconds) for _, n in row.profile().walk()] == [
        ("f", 3.5, 0.5),
        ("g", 3.0, 3.0),
    ]
    assert str(row.profile()).startswith("2 pauses, 3.500 s in fetch_user (app/db.py:41)\n")


def test_a_row_made_by_hand_has_an_empty_profile() -> None:
    """A row without calls prints, too."""
    row = Offender("(other)", None, None, None, 1, 1.0, 1.0, EPOCH)
    assert str(row.profile()).startswith("1 pause, 1.000 s in (other)")


@given(weighted)
def test_time_adds_up(entries: list[tuple[tuple[Call, ...], int]]) -> None:
    """A call's time is its own and its children's, and the tree's is that of all paths."""
    calls = Calls().plus(entries)
    assert calls.total_ns == sum(took_ns for _, took_ns in entries)
    totals = calls.totals_ns()
    for place in range(len(totals)):
        below = sum(totals[p] for (caller, _), p in calls.places.items() if caller == place)
        assert totals[place] == calls.own_ns[place] + below


@given(st.lists(weighted, max_size=20), st.integers(6, 30))
def test_merged_profile_is_bounded_and_adds_up(
    pauses: list[list[tuple[tuple[Call, ...], int]]], limit: int
) -> None:
    """However many paths come, no more calls than the limit are kept, and no time is lost."""
    calls, total_ns = Calls(), 0
    for entries in pauses:
        before = calls, list(calls.own_ns), dict(calls.places)
        calls = calls.plus(entries, limit)
        total_ns += sum(took_ns for _, took_ns in entries)
        assert len(calls) <= limit
        assert calls.total_ns == total_ns
        assert list(calls.places.values()) == list(range(1, len(calls) + 1))
        assert all(caller < place for (caller, _), place in calls.places.items())
        assert (before[0].own_ns, before[0].places) == before[1:]  # readers may still hold it


@given(weighted)
def test_paths_come_back(entries: list[tuple[tuple[Call, ...], int]]) -> None:
    """A tree made of a tree's paths is the same tree."""
    calls = Calls().plus(entries)
    again = Calls().plus(calls.paths())
    assert dict(again.paths()) == dict(calls.paths())


def test_what_there_is_no_room_for_is_in_an_other_beside_its_siblings() -> None:
    """The calls with the most time stay, the others' time is in one child of their caller."""

    def path(*names: str) -> tuple[Call, ...]:
        return tuple((name, APP, 1, False) for name in names)

    calls = Calls().plus([(path("f", f"g{n}"), n + 1) for n in range(9)], 9)
    assert dict(calls.paths()) == {
        path("f", "g8"): 9,
        path("f", "g7"): 8,
        (*path("f"), OTHER): 28,
    }


def test_ledger_keeps_a_bounded_number_of_profiles() -> None:
    """The offenders with the most time keep their profile; all keep their time."""
    ledger = Ledger(profiles=4)
    for number in range(30):
        raw = stack((f"f{number}", APP), ("g", APP))
        ledger.add(sampled([(raw, 1.0 + number)], f"f{number}", after=number))
    rows = ledger.totals().offenders
    assert sum(len(row.calls) > 1 for row in rows) <= 4
    assert len(rows[0].calls) == 2
    for row in rows:
        assert row.calls.total_ns == round(row.total_seconds * 1e9)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.booleans()), max_size=60))
def test_profiles_have_the_time_of_their_rows(events: list[tuple[int, int, bool]]) -> None:
    """Whatever is folded, each row's profile has the time of the row."""
    ledger = Ledger(rows=8, profiles=3)
    for function, tenths, is_seen in events:
        raw = stack((f"f{function}", APP), ("g", APP), ("h", APP))
        samples = [(raw, tenths / 10)] if is_seen else []
        ledger.add(sampled(samples, f"f{function}", duration=tenths / 10))
    for row in ledger.totals().offenders:
        assert row.calls.total_ns == round(row.total_seconds * 1e9)


def test_samples_of_one_stack_are_walked_once() -> None:
    """Neighbours with the same stack, which the detector keeps once, make one path."""
    raw = stack(("f", APP))
    (entry,) = callback_paths(sampled([(raw, 1.0), (raw, 2.0)]))
    assert entry == ((("f", APP, 1, False),), 3_000_000_000)


def test_pause_longer_than_its_samples() -> None:
    """Time that no sample stands for is not lost."""
    paths = callback_paths(sampled([(stack(("f", APP)), 1.0)], duration=1.25))
    assert [took_ns for _, took_ns in paths] == [1_000_000_000, 250_000_000]
    assert paths[1][0][0][0] == "(not sampled)"


def test_offender_profile_stays_within_its_nodes() -> None:
    """An offender whose every pause has other stacks keeps a bounded profile."""
    ledger = Ledger()
    for number in range(100):
        raw = stack(("f", APP), *((f"g{number}_{depth}", APP) for depth in range(30)))
        ledger.add(sampled([(raw, 1.0)]))
    (row,) = ledger.totals().offenders
    assert len(row.calls) <= NODES
    assert row.profile().seconds == 100.0
    assert row.last_at - EPOCH == timedelta()


def test_last_sample_just_after_the_end() -> None:
    """A sample that was taken as the pause ended stands for no negative time."""
    from txwatchdog.detector import weigh

    weighed = weigh([sample(0, 900), sample(0, 1500)], 0, 1000)
    assert [s.seconds for s in weighed] == pytest.approx([950e-9, 50e-9])
