"""Exports: pauses for other tools."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from attrs import evolve
from builders import EPOCH, pause, sampled, stack
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

from txwatchdog import Watchdog
from txwatchdog.exports import FORMATS, Process, Recording, export
from txwatchdog.ledger import Ledger
from txwatchdog.records import Pause, RawStack

LOOP = ("mainLoop", "/usr/lib/twisted/internet/base.py")
APP = "/srv/app/db.py"

names = st.text(st.characters(), max_size=8)
raw_stacks = st.lists(st.tuples(names, names), max_size=4).map(
    lambda frames: stack(LOOP, *((name, f"/srv/{file}") for name, file in frames))
)
parts = st.lists(st.tuples(raw_stacks, st.integers(0, 10**11).map(lambda ns: ns / 1e9)), max_size=6)
pauses = st.lists(parts, min_size=1, max_size=6).map(
    lambda each: [sampled(samples, f"f{n % 3}", number=n) for n, samples in enumerate(each, 1)]
)


def recording(kept: list[Pause]) -> Recording:
    """A recording of `kept`, as a watchdog that saw just these would make it."""
    ledger = Ledger()
    for each in kept:
        ledger.add(each)
    totals = ledger.totals()
    return Recording(
        pauses=tuple(kept),
        offenders=totals.offenders,
        count=totals.pauses,
        paused_seconds=totals.paused_seconds,
        threshold=0.5,
        since=EPOCH,
        made_at=EPOCH,
        process=Process("shop.py", 123, "web1", "3.13.0", "24.10.0"),
    )


def moves() -> Pause:
    """A pause whose work moves through two functions."""
    load, parse = stack(LOOP, ("f", APP), ("load", APP)), stack(LOOP, ("f", APP), ("parse", APP))
    return sampled([(load, 1.0), (parse, 0.25), (load, 0.5)], number=7)


def parsed(collapsed: str) -> dict[str, int]:
    """Collapsed stacks as the tools read them: all up to the last space, and a whole number."""
    found = {}
    for line in collapsed.split("\n")[:-1]:
        match = re.fullmatch(r"(.*)\s+?(\d+)", line, re.DOTALL)
        assert match, line
        assert match[1] not in found
        found[match[1]] = int(match[2])
    return found


def test_collapsed_is_a_path_a_line_with_its_microseconds() -> None:
    """Each path from the callback on is a line; what comes again has been added up."""
    assert moves().export("collapsed").splitlines() == [
        "f (app/db.py:1);load (app/db.py:1) 1500000",
        "f (app/db.py:1);parse (app/db.py:1) 250000",
    ]


@given(pauses)
def test_collapsed_weights_are_the_durations(kept: list[Pause]) -> None:
    """However the functions are called, the text parses back, and its weights' sum is the pauses'
    durations'."""
    text = export(recording(kept), "collapsed")
    total_ns = sum(round(each.duration * 1e9) for each in kept)
    assert sum(parsed(text).values()) == (total_ns + 500) // 1000
    text.encode()


@pytest.mark.parametrize("name", ["a;b", "a\nb", "a\r\u2028b", "\ud800", "a 12", "\x1b[31m"])
def test_hostile_names_stay_one_frame(name: str) -> None:
    """No name breaks a line, a frame, an encoding or a terminal."""
    raw: RawStack = stack(LOOP, (name, f"/srv/{name}/x.py"))
    text = sampled([(raw, 1.0)]).export("collapsed")
    ((path, weight),) = parsed(text).items()
    assert weight == 1_000_000
    assert ";" not in path
    assert text.encode().decode().rstrip("\n").isprintable()


def check_speedscope(document: dict[str, Any]) -> None:
    """What speedscope asks of a file, by its schema and its importer."""
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert 0 <= document["activeProfileIndex"] < len(document["profiles"])
    frames = document["shared"]["frames"]
    for frame in frames:
        assert isinstance(frame["name"], str)
        assert frame.keys() <= {"name", "file", "line", "col"}
    for profile in document["profiles"]:
        assert (profile["type"], profile["unit"]) == ("sampled", "seconds")
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(0 <= place < len(frames) for each in profile["samples"] for place in each)
        assert sum(profile["weights"]) == pytest.approx(profile["endValue"])


@given(pauses)
def test_speedscope_weights_are_the_durations(kept: list[Pause]) -> None:
    """The first profile is of all pauses, the others of one each, newest first."""
    document = json.loads(export(recording(kept), "speedscope"))
    check_speedscope(document)
    everything, *each = document["profiles"]
    assert everything["endValue"] == pytest.approx(sum(p.duration for p in kept))
    assert [p["endValue"] for p in each] == pytest.approx([p.duration for p in reversed(kept)])


def test_speedscope_says_what_is_merged() -> None:
    """The merged profile's name counts what is in it, and what is not."""
    nobodys = evolve(pause(None, 4.0, number=2), cause="starved")
    for kept, name in (
        ([moves()], "all 1 pauses, 1.750 s"),
        ([moves(), nobodys], "all 1 pauses, 1.750 s (1 starved or suspended ones left out)"),
    ):
        document = json.loads(export(recording(kept), "speedscope"))
        assert document["profiles"][0]["name"] == name
    assert document["profiles"][1]["name"].endswith(": 4.000 s because no CPU was free")


def test_speedscope_of_a_pause_keeps_the_order_of_its_samples() -> None:
    """One pause is one profile, its samples in the order in which they were taken."""
    document = json.loads(moves().export("speedscope"))
    check_speedscope(document)
    (profile,) = document["profiles"]
    assert profile["weights"] == [1.0, 0.25, 0.5]
    names = [document["shared"]["frames"][each[-1]]["name"] for each in profile["samples"]]
    assert names == ["load", "parse", "load"]
    assert profile["name"] == (
        "pause 7 at 2026-01-01T00:00:00.000+00:00: 1.750 s in fetch_user (app/db.py:41)"
    )


def test_json_has_everything() -> None:
    """Each pause with its fields, each sample with its place in the pause and its whole stack."""
    document = json.loads(export(recording([moves()]), "json"))
    assert document["version"] == 1
    assert document["generator"].startswith("txwatchdog")
    assert document["process"] == {
        "name": "shop.py",
        "pid": 123,
        "host": "web1",
        "python": "3.13.0",
        "twisted": "24.10.0",
    }
    assert document["totals"] == {"pauses": 1, "paused_seconds": 1.75}
    assert (document["threshold"], document["since"]) == (0.5, "2026-01-01T00:00:00.000+00:00")
    (one,) = document["pauses"]
    assert (one["number"], one["duration"], one["function"]) == (7, 1.75, "fetch_user")
    assert [(s["at"], s["seconds"], s["ring"]) for s in one["samples"]] == [
        (0.5, 1.0, "thread"),
        (1.125, 0.25, "thread"),
        (1.5, 0.5, "thread"),
    ]
    frames = [document["frames"][place] for place in one["samples"][0]["stack"]]
    assert [frame["function"] for frame in frames] == ["mainLoop", "f", "load"]
    assert frames[-1] == {"function": "load", "file": APP, "line": 7, "first_line": 1}
    (row,) = document["offenders"]
    assert (row["function"], row["count"], row["total_seconds"]) == ("fetch_user", 1, 1.75)
    assert sorted(path["seconds"] for path in row["profile"]) == [0.25, 1.5]


@given(pauses)
def test_json_round_trip(kept: list[Pause]) -> None:
    """Whatever the names are, every stack comes back from JSON as it was, and the time adds up."""
    document = json.loads(export(recording(kept), "json"))
    for before, after in zip(kept, document["pauses"], strict=True):
        assert after["duration"] == before.duration
        assert len(after["samples"]) == len(before.samples)
        for sample, data in zip(before.samples, after["samples"], strict=True):
            frames = [document["frames"][place] for place in data["stack"]]
            assert [(f["function"], f["file"], f["line"]) for f in frames] == [
                (frame.function, frame.file, frame.line) for frame in sample.frames
            ]
        assert sum(s["seconds"] for s in after["samples"]) == pytest.approx(before.duration)
    profiles = sum(path["seconds"] for row in document["offenders"] for path in row["profile"])
    assert profiles == pytest.approx(document["totals"]["paused_seconds"])


def test_one_pause_by_itself() -> None:
    """A pause's own JSON has that pause, and says nothing of the process, which it doesn't know."""
    document = json.loads(moves().export("json"))
    assert [each["number"] for each in document["pauses"]] == [7]
    assert (document["offenders"], document["process"], document["threshold"]) == ([], None, None)


@pytest.mark.parametrize("wanted", [f for f in FORMATS if f != "report"])
def test_pauses_without_samples_and_no_pause_at_all(wanted: str) -> None:
    """Every format takes a pause that no ring saw, and a watchdog that saw none."""
    unseen = pause(None, 2.0)
    text = export(recording([unseen]), wanted)
    assert "2000000" in text or "2.0" in text
    empty = Watchdog(MemoryReactorClock()).export(wanted)
    if wanted == "collapsed":
        assert empty == ""
    else:
        json.loads(empty)
    if wanted == "speedscope":
        check_speedscope(json.loads(empty))


@pytest.mark.parametrize("wanted", ["svg", "", None, ["json"], 3, "JSON"])
def test_bad_format_is_refused(wanted: Any) -> None:
    """A format that is none is a ValueError that names it and lists those that are."""
    message = "format must be one of collapsed, speedscope, json, report, not "
    with pytest.raises(ValueError, match=message) as caught:
        pause().export(wanted)
    assert repr(wanted) in str(caught.value)
    with pytest.raises(ValueError, match=message):
        Watchdog(MemoryReactorClock()).export(wanted)
