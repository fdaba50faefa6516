"""`Watchdog.annotate`: which notes a stack has, and what is kept of values."""

from __future__ import annotations

import contextlib
import enum
import gc
import json
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator, Mapping
from typing import Any

import pytest
from attrs import evolve
from builders import pause, sampled, stack
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.testing import MemoryReactorClock

from txwatchdog import Watchdog
from txwatchdog.annotating import MAX_BLOCKS, MAX_DEPTH, Notes, plain
from txwatchdog.lastrun import SLOT_BYTES, SLOTS_AT, STACKS_AT, Record, decode, encode, last_run
from txwatchdog.ledger import Ledger
from txwatchdog.manhole.live.page import pause_lines, stack_lines
from txwatchdog.records import Stack


class _Annotator:
    """Notes, and a look at them as a ring has it: from the caller's frame outwards."""

    def __init__(self) -> None:
        self.notes = Notes()

    def note(self, **fields: object) -> Any:
        return self.notes.note(fields)

    def seen(self) -> dict[str, Any]:
        return dict(self.notes.of(sys._getframe(1)))

    def is_empty(self) -> bool:
        return not self.notes._table


@pytest.fixture
def here() -> _Annotator:
    """Notes of this test alone."""
    return _Annotator()


def test_a_note_holds_in_its_block_and_what_that_calls(here: _Annotator) -> None:
    """A note holds within its block, in functions called from there too, and not after it."""

    def called() -> dict[str, Any]:
        return here.seen()

    assert called() == {}
    with here.note(request="GET /x", user=7):
        assert called() == {"request": "GET /x", "user": 7}
    assert called() == {}
    assert here.is_empty()


def test_inner_wins_and_is_undone(here: _Annotator) -> None:
    """The inner block's value of a name is seen, the outer one's again after it."""

    def called() -> dict[str, Any]:
        with here.note(step=2, user="ann"):
            return here.seen()

    with here.note(request="GET /x", step=0):
        with here.note(step=1):
            assert here.seen() == {"request": "GET /x", "step": 1}
            assert list(called().items()) == [
                ("request", "GET /x"),
                ("step", 2),
                ("user", "ann"),
            ]
            assert here.seen()["step"] == 1
        assert here.seen()["step"] == 0


def test_an_exception_passes_and_ends_the_note(here: _Annotator) -> None:
    """What is raised in a block goes through it, and the note is gone."""
    with pytest.raises(KeyError, match="lost"), here.note(request="GET /x"):
        raise KeyError("lost")
    assert here.is_empty()


def test_a_coroutine_that_waits_leaves_nothing_to_others(here: _Annotator) -> None:
    """A coroutine's note holds while it runs: not while it waits in its block, and then again."""
    seen: list[tuple[str, dict[str, Any]]] = []

    async def handle(name: str, answer: Deferred[None]) -> None:
        with here.note(request=name):
            seen.append((name, here.seen()))
            await ask(answer)
            seen.append((name, here.seen()))

    async def ask(answer: Deferred[None]) -> None:
        await answer

    answers = [Deferred[None](), Deferred[None]()]
    for name, answer in zip("ab", answers, strict=True):
        Deferred.fromCoroutine(handle(name, answer))
        assert here.seen() == {}
    for answer in answers:
        answer.callback(None)
        assert here.seen() == {}
    assert seen == [(name, {"request": name}) for name in "abab"]
    assert here.is_empty()


def test_inline_callbacks(here: _Annotator) -> None:
    """The same with `inlineCallbacks`."""
    seen = []

    @inlineCallbacks
    def handle(answer: Deferred[None]) -> Generator[Deferred[None], None, None]:
        with here.note(request="GET /x"):
            yield answer
            seen.append(here.seen())

    answer: Deferred[None] = Deferred()
    handle(answer)
    assert here.seen() == {}
    answer.callback(None)
    assert seen == [{"request": "GET /x"}]
    assert here.is_empty()


def test_entered_on_behalf_of_another(here: _Annotator) -> None:
    """What contextlib's tools, or an `__enter__`, enter is noted for the function they serve."""

    @contextlib.contextmanager
    def request(name: str) -> Iterator[None]:
        with here.note(request=name):
            yield

    class Request:
        def __enter__(self) -> None:
            self._note = here.note(request="own")
            self._note.__enter__()

        def __exit__(self, *_: object) -> None:
            self._note.__exit__(None, None, None)

    with request("inner"):
        assert here.seen() == {"request": "inner"}
    assert here.is_empty()
    with Request():
        assert here.seen() == {"request": "own"}
    assert here.is_empty()
    with contextlib.ExitStack() as exits:
        exits.enter_context(here.note(user=1))
        exits.enter_context(request("stacked"))
        assert here.seen() == {"user": 1, "request": "stacked"}
    assert here.is_empty()


def test_entered_on_behalf_of_a_coroutine(here: _Annotator) -> None:
    """The same with an asynchronous context manager."""

    @contextlib.asynccontextmanager
    async def request(name: str) -> AsyncIterator[None]:
        with here.note(request=name):
            yield

    async def handle() -> dict[str, Any]:
        async with request("GET /x"), contextlib.AsyncExitStack() as exits:
            await exits.enter_async_context(request("inner"))
            return here.seen()

    assert _finished(handle()) == {"request": "inner"}
    assert here.is_empty()


def _finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


def test_other_threads_are_kept_apart(here: _Annotator) -> None:
    """What another thread notes is on no other thread's stack."""
    entered, seen = threading.Event(), threading.Event()

    def work() -> None:
        with here.note(request="theirs"):
            entered.set()
            seen.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(60)
    assert here.seen() == {}
    with here.note(request="ours"):
        assert here.seen() == {"request": "ours"}
    seen.set()
    thread.join()
    assert here.is_empty()


def test_a_coroutine_that_is_never_resumed_is_collected(here: _Annotator) -> None:
    """A note keeps nothing alive: a coroutine that waits for ever can be collected, and ends it."""

    async def handle(answer: Deferred[None]) -> None:
        with here.note(request="GET /x"):
            await answer

    answer: Deferred[None] = Deferred()
    Deferred.fromCoroutine(handle(answer))
    assert not here.is_empty()
    gone = weakref.ref(answer)
    del answer
    gc.collect()
    assert gone() is None
    assert here.is_empty()


def test_left_out_of_turn(here: _Annotator) -> None:
    """Blocks that are left in another order than they should be disturb nobody."""
    first, second, third = here.note(a=1), here.note(b=2), here.note(c=3)
    first.__enter__()
    second.__enter__()
    third.__enter__()
    second.__exit__(None, None, None)
    assert here.seen() == {"a": 1, "c": 3}
    first.__exit__(None, None, None)
    assert here.seen() == {"c": 3}
    third.__exit__(None, None, None)
    third.__exit__(None, None, None)
    assert here.is_empty()
    here.note(never=1).__exit__(None, None, None)


def test_entered_within_itself(here: _Annotator) -> None:
    """A note that is entered again before it is left is around itself in no way: nobody who looks
    would come to an end. Left out of turn, it can be used again, without what was around it."""
    first, second = here.note(a=1), here.note(b=2)
    first.__enter__()
    second.__enter__()
    first.__enter__()
    assert first._outer is None
    assert here.seen() == {"a": 1, "b": 2}
    first.__exit__(None, None, None)
    first.__enter__()
    assert second._outer is None
    assert list(here.seen()) == ["b", "a"]
    second.__exit__(None, None, None)
    first.__exit__(None, None, None)
    assert here.is_empty()

    def another() -> dict[str, Any]:
        with first:
            return here.seen()

    assert another() == {"a": 1}


def test_never_left_stays_bounded(here: _Annotator) -> None:
    """Whoever enters and never leaves fills no memory, and annotates nobody else."""

    def enter() -> None:
        here.note(lost=1).__enter__()

    def other() -> dict[str, Any]:
        return here.seen()

    for _ in range(3 * MAX_DEPTH):
        enter()
    assert other() == {}
    chain = next(iter(here.notes._table.values()), None)
    depth = 0
    while chain is not None:
        chain, depth = chain._outer, depth + 1
    assert depth <= MAX_DEPTH + 1


def test_too_many_blocks_are_passed_over(here: _Annotator) -> None:
    """With as many blocks open as there is room for, another notes nothing, and does no harm."""
    here.notes._table.update(dict.fromkeys(range(MAX_BLOCKS), here.note()))
    with here.note(request="GET /x"):
        assert here.seen() == {}
    assert len(here.notes._table) == MAX_BLOCKS


class _Text(str):
    __slots__ = ()

    def __getitem__(self, _: Any) -> str:
        raise AssertionError("code of the service was run")

    __len__ = __str__ = __repr__ = __getitem__  # type: ignore[assignment]


class _Colour(enum.IntEnum):
    RED = 3


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError("code of the service was run")


class _Hostile(metaclass=_Meta):
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise AssertionError("code of the service was run")

    def __repr__(self) -> str:
        raise AssertionError("code of the service was run")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("GET /x", "GET /x"),
        ("x" * 256, "x" * 256),
        ("x" * 10**6, "x" * 255 + "…"),
        (b"GET /\xff", "GET /\\xff"),
        (b"\xff" * 10**6, "\\xff" * 63 + "\\xf…"),
        (_Text("GET /x"), "GET /x"),
        (None, None),
        (True, True),
        (-7, -7),
        (_Colour.RED, 3),
        (2**64 - 1, 2**64 - 1),
        (1 << 10**6, "(a whole number of 1000001 bits)"),
        (0.5, 0.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ([1, 2], "(list)"),
        (_Hostile(), "(_Hostile)"),
    ],
    ids=range(17),  # pytest would ask the values
)
def test_what_is_kept_of_a_value(value: object, kept: object) -> None:
    """Plain values are kept within bounds; none of the service's code is run for any."""
    found = plain(value)
    assert found == kept
    assert type(found) in {str, int, float, bool, type(None)}


def test_the_innermost_fields_are_kept(here: _Annotator) -> None:
    """Of more names than a record has room for the innermost are kept, long names cut."""
    with here.note(**{f"outer_{n}": n for n in range(20)}), here.note(**{"n" * 100: 1, "inner": 2}):
        seen = here.seen()
    assert len(seen) == 16
    assert list(seen)[-2:] == ["n" * 63 + "…", "inner"]


ANNOTATIONS: Mapping[str, Any] = {"request": "GET /\x1b[31m", "user": 7}


def test_texts_and_data_have_them() -> None:
    """A pause's texts and data, the log's fields and the export have what its culprit noted."""
    one = sampled([(stack(("handle", "/srv/app/db.py")), 1.0)])
    assert one.annotations == {}
    assert "Annotated" not in one.traceback
    assert one.culprit is not None
    noted = evolve(one, culprit=evolve(one.culprit, annotations=ANNOTATIONS))
    assert "\nAnnotated request='GET /\\x1b[31m', user=7\nPause 1 at" in noted.traceback
    assert noted.as_dict()["annotations"] == ANNOTATIONS
    assert json.loads(noted.export("json"))["pauses"][0]["annotations"] == ANNOTATIONS
    assert json.loads(one.export("json"))["pauses"][0]["annotations"] == {}


def test_a_stack_has_them() -> None:
    """Where the reactor is at this moment comes with what is noted there."""
    now = Stack("paused", 1.0, None, None, (), 1, ANNOTATIONS)
    assert str(now).startswith("Annotated request='GET /\\x1b[31m', user=7\nreactor paused 1.0 s")
    assert now.as_dict()["annotations"] == ANNOTATIONS


def test_the_live_view_has_them() -> None:
    """Below the traceback of a pause that was chosen, and of the one under way."""
    line = "Annotated request='GET /\\x1b[31m', user=7"
    one = sampled([(stack(("handle", "/srv/app/db.py")), 1.0)])
    assert one.culprit is not None
    assert line in pause_lines(evolve(one, culprit=evolve(one.culprit, annotations=ANNOTATIONS)))
    assert stack_lines(Stack("paused", 1.0, None, None, (), 1, ANNOTATIONS)) == [line]


def test_the_black_box_has_them() -> None:
    """The next start is told what was noted, however much there was of it."""

    def told(annotations: Mapping[str, Any]) -> Mapping[str, Any]:
        record = Record("paused", 1, "boot/1", "shop", 0.5, 0.5, annotations=annotations)
        slot = encode(record, 1)
        assert len(slot) <= SLOT_BYTES
        box = bytearray(STACKS_AT)
        box[SLOTS_AT[1] : SLOTS_AT[1] + len(slot)] = slot
        found = last_run(decode(bytes(box)), [])
        assert found is not None
        assert ("Annotated " in found.traceback) == bool(annotations)
        return found.annotations

    assert told({}) == {}
    assert told(ANNOTATIONS) == ANNOTATIONS
    much = {f"name_{n}": "\U0001f40c" * 256 for n in range(16)}
    assert list(told(much)) == ["name_14", "name_15"]


def test_the_ledger_counts_them_as_memory() -> None:
    """Annotations take room that the latest pauses have in all."""
    ledger = Ledger(frames=100)
    one = sampled([(stack(("handle", "/srv/app/db.py")), 1.0)])
    (only,) = one.samples
    for number in range(50):
        ledger.add(evolve(one, number=number, samples=(evolve(only, annotations={"n": number}),)))
    assert len(ledger.recent(50)) == 20
    assert pause().annotations == {}


def test_annotate_is_there_whether_or_not_the_watchdog_looks() -> None:
    """Any name can be noted, and a stopped watchdog's stack() is none the worse."""
    watchdog = Watchdog(MemoryReactorClock())
    with watchdog.annotate(self=1, fields=2, request=b"GET /x"):
        assert dict(watchdog._notes.of(sys._getframe())) == {
            "self": 1,
            "fields": 2,
            "request": "GET /x",
        }
    assert watchdog.stack().annotations == {}
