"""How much of the manhole anyone may have: the decisions, fed with times."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent

from txwatchdog.manhole.limits import (
    HOLD,
    UNANSWERED,
    Admission,
    Limits,
    Next,
    Places,
    Vigil,
    Visit,
)
from txwatchdog.manhole.strangers import Strangers


@pytest.mark.parametrize("name", ["login_grace", "idle", "keep_alive"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, "30", True, b""])
def test_spans_of_time_are_checked(name: str, value: Any) -> None:
    """A span that is no finite number above 0 is a ValueError, which names it."""
    with pytest.raises(ValueError, match=f"{name} is .* above 0"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    "name", ["tries", "unauthenticated", "unauthenticated_per_address", "sessions"]
)
@pytest.mark.parametrize("value", [0, -1, 1.5, None, "3", True])
def test_counts_are_checked(name: str, value: Any) -> None:
    """A count that is no whole number from 1 up is a ValueError, which names it."""
    with pytest.raises(ValueError, match=f"{name} is .* from 1 up"):
        Limits(**{name: value})


def test_what_may_be_turned_off() -> None:
    """The idle timeout and keep-alive may be turned off, the login's grace may not."""
    assert Limits(idle=None, keep_alive=None) == Limits(keep_alive=None, idle=None)
    with pytest.raises(ValueError, match="login_grace is None"):
        Limits(login_grace=None)  # type: ignore[arg-type]


def _enter(admission: Admission, address: str | None, now: float = 0.0) -> Visit:
    visit = admission.enter(address, now)
    assert isinstance(visit, Visit)
    return visit


def test_newcomers_are_dropped_when_all_places_are_taken() -> None:
    """The 17th that has not logged in is dropped, and the fifth from one address."""
    admission = Admission(Limits())
    for number in range(16):
        _enter(admission, f"10.0.0.{number // 4}")
        if number == 3:
            assert admission.enter("10.0.0.0", 0.0) == (
                "4 others from that address have not logged in"
            )
    assert admission.enter("10.0.0.9", 0.0) == "16 others have not logged in"


def test_local_sockets_have_no_address() -> None:
    """Clients of a unix: socket count only in all."""
    admission = Admission(Limits())
    for _ in range(16):
        _enter(admission, None)
    assert admission.enter(None, 0.0) == "16 others have not logged in"


def test_a_login_frees_its_place_at_once() -> None:
    """Whoever logs in is no longer counted, and not a second time when the connection ends."""
    admission = Admission(Limits(unauthenticated=1))
    visit = _enter(admission, "10.0.0.1")
    visit.logged_in()
    other = _enter(admission, "10.0.0.1")
    visit.ended()
    assert isinstance(admission.enter("10.0.0.1", 10.0), str)
    other.ended()
    _enter(admission, "10.0.0.1", 10.0)


def test_a_place_is_held_for_a_moment() -> None:
    """Whoever comes and goes without a login keeps the place for a moment from when they came."""
    admission = Admission(Limits(unauthenticated_per_address=1))
    _enter(admission, "10.0.0.1", 5.0).ended()
    assert isinstance(admission.enter("10.0.0.1", 5.0 + HOLD / 2), str)
    _enter(admission, "10.0.0.1", 5.0 + HOLD)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "log in", "end"]),
            st.integers(0, 3),
            st.floats(0, 0.5, allow_nan=False),
        )
    )
)
def test_places_never_get_lost(steps: list[tuple[str, int, float]]) -> None:
    """Whatever comes and goes, when all have gone there is room for as many as ever."""
    limits = Limits(unauthenticated=5, unauthenticated_per_address=2)
    admission = Admission(limits)
    visits: list[Visit] = []
    now = 0.0
    for what, number, seconds in steps:
        now += seconds
        if what == "enter":
            visit = admission.enter(f"10.0.0.{number}", now)
            if isinstance(visit, Visit):
                visits.append(visit)
        elif visits:
            chosen = visits[number % len(visits)]
            (chosen.logged_in if what == "log in" else chosen.ended)()
    for visit in visits:
        visit.ended()
    now += 1.0
    for number in range(5):
        _enter(admission, f"10.0.0.{number // 2}", now)
    assert isinstance(admission.enter("10.0.0.3", now), str)


def test_places_are_given_back_once() -> None:
    """A session that ends twice makes room for one."""
    places = Places(1)
    place = places.enter()
    assert place is not None
    assert places.enter() is None
    place.leave()
    place.leave()
    assert places.enter() is not None
    assert places.enter() is None


def test_a_silent_client_is_asked_then_given_up() -> None:
    """After some silence the client is asked; three questions without an answer, and it is gone."""
    vigil = Vigil(Limits(keep_alive=10, idle=None), 0.0)
    assert vigil.look(0.0, is_busy=False) == (Next.WAIT, 10.0)
    for number in range(UNANSWERED):
        assert vigil.look(10.0 * (number + 1), is_busy=False) == (Next.ASK, 10.0)
    assert vigil.look(39.0, is_busy=False) == (Next.WAIT, 1.0)
    assert vigil.look(40.0, is_busy=True) == (Next.GONE, math.inf)


def test_any_sign_of_life_counts() -> None:
    """A client that answers, or says anything, is not given up."""
    vigil = Vigil(Limits(keep_alive=10, idle=None), 0.0)
    for number in range(1, 20):
        assert vigil.look(number * 20.0, is_busy=False)[0] is Next.ASK
        vigil.heard(number * 20.0 + 5.0)
        assert vigil.look(number * 20.0 + 10.0, is_busy=False) == (Next.WAIT, 5.0)


def test_a_process_that_stood_still_gives_nobody_up() -> None:
    """After an hour in which the manhole itself was frozen the client is asked, not given up."""
    vigil = Vigil(Limits(keep_alive=10, idle=None), 0.0)
    assert vigil.look(3600.0, is_busy=False)[0] is Next.ASK


def test_idle_is_who_neither_types_nor_waits() -> None:
    """Typing, output and a statement under way put the end off; answers to questions do not."""
    vigil = Vigil(Limits(keep_alive=None, idle=60), 0.0)
    vigil.used(30.0)
    assert vigil.look(60.0, is_busy=False) == (Next.WAIT, 30.0)
    assert vigil.look(90.0, is_busy=True) == (Next.WAIT, 60.0)
    vigil.heard(100.0)
    assert vigil.look(150.0, is_busy=False) == (Next.IDLE, math.inf)


def test_neither_idle_nor_gone_if_turned_off() -> None:
    """With both off there is nothing to look for."""
    vigil = Vigil(Limits(keep_alive=None, idle=None), 0.0)
    assert vigil.look(1e9, is_busy=False) == (Next.WAIT, math.inf)


def _strangers() -> tuple[Clock, list[str], Strangers]:
    clock = Clock()
    lines: list[str] = []
    log = Logger(observer=lambda event: lines.append(formatEvent(event)))  # type: ignore[arg-type]
    fake: Any = clock
    return clock, lines, Strangers(fake, log)


def test_a_flood_is_a_line_a_minute() -> None:
    """The first twenty are told at once, a thousand more as one line at the minute's end."""
    clock, lines, strangers = _strangers()
    for _ in range(20):
        strangers.turned_away("10.0.0.1", "no")
    assert lines == ["connection refused address='10.0.0.1' reason='no'"] * 20
    for number in range(1000):
        strangers.turned_away("10.0.0.2", f"reason {number % 2}")
    clock.advance(60)
    assert lines[20:] == [
        "strangers left out count=1000 latest='10.0.0.2' what="
        + repr("; ".join(f"500 x connection refused: reason {number}" for number in range(2)))
    ]
    clock.advance(60)
    assert len(lines) == 21
    strangers.turned_away("10.0.0.3", "no")
    assert lines[21:] == ["connection refused address='10.0.0.3' reason='no'"]


def test_a_flood_without_end_is_some_lines_a_minute() -> None:
    """However many come, and however long: five lines a minute, and no timer is left behind."""
    clock, lines, strangers = _strangers()
    for _ in range(600):
        for _ in range(100):
            strangers.tell("connection", "accepted", address="10.0.0.1")
        clock.advance(1)
    assert 60 <= len(lines) <= 20 + 10 * 5
    strangers.flush()
    assert "left out" in lines[-1]
    assert clock.getDelayedCalls() == []


def test_a_stranger_cannot_write_to_the_log() -> None:
    """Control characters are shown as escapes, reasons cut short, and no more kept than ten."""
    clock, lines, strangers = _strangers()
    strangers.turned_away("10.0.0.1", "\x1b[2J\nforged {log_level} \u202e" + "x" * 1000)
    for number in range(1000):
        strangers.turned_away("10.0.0.1", f"{number}\n")
    clock.advance(60)
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert all(len(line) < 500 for line in lines)
    assert lines[-1].count(" x ") == 11
    assert "971 x others" in lines[-1]
