"""Blame: a stack -> an offender."""

from __future__ import annotations

import json.decoder
import random

import attr
import pytest
from builders import PLACES, sample, stack
from twisted.internet import base
from twisted.web import server

import txwatchdog.probe
from txwatchdog.blame import Blame, Places, blame, blame_samples, cut_own, here, is_operators
from txwatchdog.operators import SOURCE, source_name
from txwatchdog.records import Function

TWISTED = "/usr/lib/python3/site-packages/twisted"
LOOP = [
    ("<module>", "/srv/app/main.py"),
    ("run", f"{TWISTED}/internet/base.py"),
    ("mainLoop", f"{TWISTED}/internet/base.py"),
    ("runUntilCurrent", f"{TWISTED}/internet/base.py"),
]
ASYNCIO = [
    ("<module>", "/srv/app/main.py"),
    ("run", f"{TWISTED}/internet/asyncioreactor.py"),
    ("run_forever", "/usr/lib/python3/asyncio/base_events.py"),
    ("_run_once", "/usr/lib/python3/asyncio/base_events.py"),
    ("_run", "/usr/lib/python3/asyncio/events.py"),
]
READ = [
    ("doPoll", f"{TWISTED}/internet/epollreactor.py"),
    ("callWithLogger", f"{TWISTED}/python/log.py"),
    ("callWithContext", f"{TWISTED}/python/context.py"),
    ("_doReadOrWrite", f"{TWISTED}/internet/posixbase.py"),
]


def verdict(*frames: tuple[str, str]) -> tuple[str | None, str | None]:
    """Who is blamed for that stack, and via what."""
    result = blame(stack(*frames), PLACES)
    return (result.offender.function if result.offender else None, result.via)


def test_innermost_application_frame() -> None:
    """Of several application frames the innermost is blamed, and what it called is `via`."""
    assert verdict(
        *LOOP,
        ("handle", "/srv/app/web.py"),
        ("fetch_user", "/srv/app/db.py"),
        ("execute", "/usr/lib/python3/site-packages/dbapi/cursor.py"),
        ("recv_exactly", "/usr/lib/python3/site-packages/dbapi/wire.py"),
    ) == ("fetch_user", "recv_exactly")


def test_no_via_where_the_offender_is_innermost() -> None:
    """A function that blocks in C code has no `via`."""
    assert verdict(*LOOP, ("fetch_user", "/srv/app/db.py")) == ("fetch_user", None)


def test_the_function_is_named_by_its_first_line() -> None:
    """The offender's line is the function's first, wherever it stood."""
    result = blame(stack(*LOOP, ("fetch_user", "/srv/app/db.py")), PLACES)
    assert result.offender == Function("fetch_user", "/srv/app/db.py", 1)


def test_the_program_that_runs_the_reactor_is_not_blamed() -> None:
    """Application frames below the reactor's dispatch are not at fault."""
    assert verdict(
        *LOOP, *READ, ("dataReceived", "/usr/lib/python3/site-packages/lib/proto.py")
    ) == ("dataReceived", None)


def test_third_party_code_where_no_application_is() -> None:
    """Without application code the innermost installed package is blamed, not the library."""
    assert verdict(
        *LOOP,
        ("outer", "/usr/lib/python3/site-packages/a/x.py"),
        ("inner", "/usr/lib/python3/site-packages/b/y.py"),
        ("dumps", "/usr/lib/python3/json/__init__.py"),
    ) == ("inner", "dumps")


@pytest.mark.parametrize("loop", [LOOP + READ, ASYNCIO], ids=["epoll", "asyncio"])
def test_twisted_code_where_nothing_else_is(loop: list[tuple[str, str]]) -> None:
    """Failing all else, what the reactor called is blamed."""
    assert verdict(
        *loop,
        ("dataReceived", f"{TWISTED}/web/http.py"),
        ("parse", f"{TWISTED}/web/http.py"),
    ) == ("dataReceived", "parse")


@pytest.mark.parametrize("loop", [LOOP, LOOP + READ, ASYNCIO])
def test_reactor_between_two_callbacks(loop: list[tuple[str, str]]) -> None:
    """Nobody is blamed when no callback is on the stack."""
    assert verdict(*loop) == (None, None)


def test_no_loop_on_the_stack() -> None:
    """A thread that is in no reactor at all is blamed as it stands."""
    assert verdict(("<module>", "/srv/app/main.py"), ("f", "/srv/app/db.py")) == ("f", None)


def test_empty_stack() -> None:
    """Nothing is blamed for nothing."""
    assert blame((), PLACES) == Blame(None, None)


@pytest.mark.parametrize("loop", [LOOP, LOOP + READ, ASYNCIO])
def test_loop_within_a_callback(loop: list[tuple[str, str]]) -> None:
    """A callback that runs a loop of its own is at fault, or what that loop calls."""
    nested = [
        *loop,
        ("handle", "/srv/app/web.py"),
        ("run", "/usr/lib/python3/asyncio/runners.py"),
        ("run_until_complete", "/usr/lib/python3/asyncio/base_events.py"),
        ("_run_once", "/usr/lib/python3/asyncio/base_events.py"),
    ]
    assert verdict(*nested) == ("handle", "_run_once")
    inner = [("_run", "/usr/lib/python3/asyncio/events.py"), ("fetch", "/srv/app/db.py")]
    assert verdict(*nested, *inner) == ("fetch", None)


def test_reactor_within_an_asyncio_loop() -> None:
    """What runs a reactor from within an asyncio loop is not blamed for what the reactor does."""
    assert verdict(*ASYNCIO[2:], ("test_it", "/srv/app/test_web.py"), *LOOP) == (None, None)


def test_application_file_named_like_the_plumbing() -> None:
    """An application's own file may have the name of one of Twisted's."""
    assert verdict(*LOOP, ("write", "/srv/python/log.py")) == ("write", None)


def test_generated_methods_are_nobodys_code() -> None:
    """A dataclass's generated method is not blamed, but who called it."""
    frames = [*LOOP, ("rank_rows", "/srv/app/db.py"), ("__lt__", "<string>")]
    assert verdict(*frames) == ("rank_rows", "__lt__")


@pytest.mark.parametrize("scope", ["<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"])
def test_comprehension_is_part_of_its_function(scope: str) -> None:
    """A comprehension's frame counts as the function that it stands in, on every Python."""
    frames = [*LOOP, ("total", "/srv/app/shop.py"), (scope, "/srv/app/shop.py")]
    assert verdict(*frames) == ("total", None)
    assert verdict(*frames, ("price", "/srv/app/shop.py")) == ("price", None)
    # Consumed elsewhere, it has nothing of its own around it.
    assert verdict(*LOOP, ("total", "/srv/app/shop.py"), (scope, "/srv/app/b.py")) == (scope, None)


def test_own_frames_are_cut_off() -> None:
    """A handler of ours, innermost, is cut off; the service's own frames stay."""
    ours = "/usr/lib/python3/site-packages/txwatchdog/rings/alarm.py"
    whole = stack(*LOOP, ("f", "/srv/app/db.py"), ("_on_signal", ours), ("_alarmed", ours))
    assert cut_own(whole, PLACES) == whole[:-2]
    assert cut_own(whole[:-1], PLACES) == whole[:-2]
    assert cut_own(whole[-2:], PLACES) == ()


def test_console_statement_is_application_code() -> None:
    """What an operator typed is blamed; the machinery that runs it is not."""
    ours = "/usr/lib/python3/site-packages/txwatchdog/manhole/evaluate.py"
    assert verdict(*LOOP, ("run", ours), ("<module>", "<manhole 3>")) == ("<module>", None)


def test_an_operator_is_blamed_for_what_they_run() -> None:
    """Whatever function of theirs or of the application's it stands in; that is `via`, if it is
    not their own."""
    typed = source_name("ann@laptop", 3)
    ann = Function("manhole: ann@laptop", SOURCE, 1)
    for called, via in (
        ([("helper", typed)], None),
        ([("fetch_user", "/srv/app/db.py")], "fetch_user"),
        ([("fetch_user", "/srv/app/db.py"), ("helper", typed)], None),
    ):
        found = blame(stack(*LOOP, ("<module>", typed), *called), PLACES)
        assert found == Blame(ann, via)
    assert is_operators(ann)
    assert not is_operators(Function("fetch_user", "/srv/app/db.py", 1))
    assert not is_operators(None)


def test_our_own_code_is_blamed_for_nothing() -> None:
    """Where nothing but our own runs, nobody is blamed; beside it, what is not."""
    ours = "/usr/lib/python3/site-packages/txwatchdog/watchdog.py"
    assert verdict(*LOOP, ("_reactor_runs", ours)) == (None, None)
    assert verdict(*LOOP, ("_reactor_runs", ours), ("start", "/usr/lib/python3/threading.py")) == (
        "start",
        None,
    )


def test_code_that_attrs_makes_is_a_packages() -> None:
    """A generated `__init__` is not blamed, but who called it; by itself it is a package's."""
    made = ("__init__", "<attrs generated methods app.User>")
    assert verdict(*LOOP, ("load", "/srv/app/db.py"), made) == ("load", "__init__")
    assert PLACES.kind(made[1]) == "third-party"


def test_a_function_made_from_text_is_the_applications() -> None:
    """`exec` of a string makes functions that are blamed; a dunder in a file is blamed, too."""
    assert verdict(*LOOP, ("work", "<string>")) == ("work", None)
    assert verdict(*LOOP, ("__del__", "/srv/app/db.py")) == ("__del__", None)


def test_an_asyncio_loop_by_itself() -> None:
    """Without Twisted's loop on the stack, what asyncio's calls is blamed."""
    assert verdict(*ASYNCIO[2:], ("handle", "/srv/app/web.py")) == ("handle", None)
    assert verdict(("main", "/srv/app/main.py"), *ASYNCIO[2:]) == (None, None)


def test_places_of_this_interpreter() -> None:
    """Each kind of code on this machine is told apart by where it lives."""
    places = here()
    assert places.kind(base.__file__) == "twisted"
    assert places.kind(server.__file__) == "twisted"
    assert places.kind(json.decoder.__file__) == "stdlib"
    assert places.kind(random.__file__) == "stdlib"
    assert places.kind("<frozen importlib._bootstrap>") == "stdlib"
    assert places.kind(attr.__file__) == "third-party"
    assert places.kind(pytest.__file__) == "third-party"
    assert places.kind(txwatchdog.probe.__file__) == "ours"
    assert places.kind(f"{places.ours}demo.py") == "application"
    assert places.kind(__file__) == "application"
    assert places.kind("<string>") == "application"


def test_debian_packages_are_third_party() -> None:
    """Debian keeps installed packages in a folder of another name, inside the library's."""
    places = Places("/usr/lib/python3/", TWISTED + "/", "/nowhere/")
    assert places.kind("/usr/lib/python3/dist-packages/yaml/__init__.py") == "third-party"


def test_most_of_the_time_decides() -> None:
    """Of several functions the one in which most of the pause went is blamed, and its longest
    sample is the culprit."""
    short = stack(*LOOP, ("short", "/srv/app/a.py"))
    long = stack(*LOOP, ("long", "/srv/app/a.py"))
    samples = [
        sample(1, 2, long, 0.2),
        sample(1, 3, short, 0.5),
        sample(1, 4, long, 0.4),
    ]
    result, culprit = blame_samples(samples)
    assert result.offender is not None
    assert result.offender.function == "long"
    assert culprit is samples[2]


def test_many_short_samples_outweigh_a_long_one() -> None:
    """It is the sum that counts, not the longest sample, nor how many there are."""
    many = [sample(1, at, stack(*LOOP, ("many", "/srv/app/a.py")), 0.2) for at in range(2, 6)]
    long = sample(1, 9, stack(*LOOP, ("long", "/srv/app/a.py")), 0.7)
    few = [sample(1, at, stack(*LOOP, ("few", "/srv/app/a.py")), 0.01) for at in range(10, 20)]
    result, culprit = blame_samples([long, *many, *few])
    assert result.offender is not None
    assert result.offender.function == "many"
    assert culprit is many[0]


def test_a_callback_seen_once_is_blamed() -> None:
    """Samples that caught the reactor between two callbacks don't hide the one that was seen."""
    samples = [
        sample(1, 2, stack(*LOOP), 0.9),
        sample(1, 3, stack(*LOOP, ("seen", "/srv/app/a.py")), 0.1),
    ]
    result, culprit = blame_samples(samples)
    assert result.offender is not None
    assert result.offender.function == "seen"
    assert culprit is samples[1]


def test_no_sample_blames_nobody() -> None:
    """A pause that no ring saw has neither offender nor culprit."""
    assert blame_samples([]) == (Blame(None, None), None)
