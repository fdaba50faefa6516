"""Each kind of pause, on each reactor, in a real service: seen, timed, sampled and blamed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest
from attrs import frozen
from kinds import HELD_SECONDS
from support import REACTORS, Child, outcome

THRESHOLD = 0.2
HEARTBEAT = 0.04
"""Its distance at that threshold: by so much a heartbeat's durations err."""


@frozen
class Kind:
    """What is to be seen of a kind of pause.

    Attributes:
        blamed: the functions of which any one may be blamed; the kind's own name if empty.
        via: the innermost functions of which any one may stand in `via`; None for no other.
        sampled: a sample is taken before the pause ends, for the GIL is released, or asked for.
        alarmed: a sample is taken by SIGALRM before the pause ends.
    """

    blamed: tuple[str, ...] = ()
    via: tuple[str | None, ...] = (None,)
    sampled: bool = False
    alarmed: bool = False


WAITS = ("wait", "_wait", "_try_wait", "communicate", "_communicate")

KINDS = {
    "time_sleep": Kind(sampled=True),
    "blocking_recv": Kind(sampled=True),
    "lock_acquire": Kind(sampled=True),
    "lock_acquire_timeout": Kind(sampled=True),
    "event_wait": Kind(via=("wait",), sampled=True),
    "subprocess_run": Kind(via=WAITS, sampled=True),
    "sqlite_query": Kind(sampled=True),
    "hash_buffer": Kind(sampled=True),
    "compress_buffer": Kind(sampled=True),
    "fifo_without_writer": Kind(sampled=True),
    "sleep_in_del": Kind(blamed=("__del__",), sampled=True),
    "python_loop": Kind(sampled=True),
    "hot_helper_loop": Kind(blamed=("hot_helper_loop", "helper"), sampled=True),
    "heavy_import": Kind(blamed=("heavy_import", "<module>"), sampled=True),
    "catastrophic_regex": Kind(via=("match",), alarmed=True),
    "int_power": Kind(alarmed=True),
    "json_dumps": Kind(via=("iterencode", "encode", "dumps")),
    "sort_list": Kind(),
    "gc_collect": Kind(),
}
BRIEF = ("brief_sleep", "brief_loop")
PLACES = (
    "in_call_later",
    "in_generator",
    "in_coroutine",
    "in_callback",
    "dataReceived",
    "in_looping_call",
    "in_call_from_thread",
)
WORKS = ("sleep", "power")
UNWRAPPED = ("time_sleep", "sqlite_query", "python_loop", "catastrophic_regex", "in_call_later")
"""What is tried on uvloop, where a heartbeat stands in for the probe."""


@frozen
class Span:
    """From when to when something lasted, in ns of the monotonic clock."""

    began_ns: int
    ended_ns: int

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.ended_ns - self.began_ns) / 1e9

    def overlaps(self, other: Span) -> bool:
        """Whether most of `other` is in it."""
        shared = min(self.ended_ns, other.ended_ns) - max(self.began_ns, other.began_ns)
        return shared > (other.ended_ns - other.began_ns) / 2


@frozen
class Call(Span):
    """A call that paused, as the service itself timed it.

    Attributes:
        asked_ns: when it was asked for: an earlier tick.
        over_ns: when it was over: a later tick, the next one.
    """

    asked_ns: int
    over_ns: int


@frozen
class Sample:
    """When a sample was taken, and by which ring."""

    at_ns: int
    ring: str


@frozen
class Seen:
    """A pause as the watchdog reported it; `function` is whom its samples point at."""

    span: Span
    function: str | None
    via: str | None
    blamed: str | None
    cause: str
    samples: tuple[Sample, ...]
    traceback: str


@frozen
class Run:
    """What happened in one child process, and what its watchdog saw of it.

    Attributes:
        calls: what paused -> when it did.
        seen: the pauses that were reported.
        stats: the watchdog's numbers when it was stopped.
    """

    calls: Mapping[str, Call]
    seen: tuple[Seen, ...]
    stats: Mapping[str, Any]

    def during(self, call: str) -> list[Seen]:
        """The pauses that were reported of `call`."""
        return [seen for seen in self.seen if seen.span.overlaps(self.calls[call])]

    def only(self, call: str) -> Seen:
        """The one pause that was reported of `call`."""
        (seen,) = self.during(call)
        return seen


def run(reactor: str, wanted: tuple[str, ...]) -> Run:
    """Have the `wanted` pauses, or all, made on `reactor`."""
    calls: dict[str, Call] = {}
    seen: list[Seen] = []
    stats: dict[str, Any] = {}
    with Child("kinds.py", reactor, *wanted) as child:
        child.expect("ready")
        for message in child.finish():
            event = message["event"]
            if event == "call":
                times = ("began_ns", "ended_ns", "asked_ns", "over_ns")
                calls[message["name"]] = Call(*(message[each] for each in times))
            elif event == "pause":
                ended_ns = message["began_ns"] + round(message["duration"] * 1e9)
                seen.append(
                    Seen(
                        Span(message["began_ns"], ended_ns),
                        message["function"],
                        message["via"],
                        message["blamed"],
                        message["cause"],
                        tuple(Sample(at_ns, ring) for at_ns, ring, _ in message["samples"]),
                        message["traceback"],
                    )
                )
            else:
                assert event == "stats", message
                stats = message
    return Run(calls, tuple(seen), stats)


Runs: TypeAlias = "Mapping[str, Future[Run]]"


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """One run on each reactor, all at the same time: they wait as much as they compute."""
    with ThreadPoolExecutor(len(REACTORS)) as pool:
        pending = {reactor: pool.submit(run, reactor, ()) for reactor in REACTORS}
        if importlib.util.find_spec("uvloop"):
            pending["uvloop"] = pool.submit(run, "uvloop", UNWRAPPED)
        yield pending
        for future in pending.values():
            future.cancel()


everywhere = pytest.mark.parametrize("reactor", REACTORS)


def expected() -> dict[str, Kind]:
    """All calls over the threshold, and what is to be seen of them."""
    places = {
        f"{place} {work}": Kind(blamed=(place,), sampled=work == "sleep", alarmed=work == "power")
        for place in PLACES
        for work in WORKS
    }
    return {**KINDS, **places}


EXPECTED = expected()


def check_blame(seen: Seen, call: str) -> None:
    """The function that paused, and no other, is blamed."""
    kind = EXPECTED[call]
    assert seen.function in (kind.blamed or (call,)), seen
    assert seen.via in kind.via, seen
    assert seen.blamed == (None if seen.cause == "starved" else seen.function), seen
    assert seen.traceback.startswith("Traceback (most recent call last):\n")
    assert f"in {seen.function}\n" in seen.traceback


def check_sampled(seen: Seen, call: Span, *, slack: float = 0.0) -> None:
    """The first sample was taken after the crossing, and before the call ended."""
    first = seen.samples[0].at_ns
    assert first >= seen.span.began_ns + (THRESHOLD - slack) * 1e9
    assert first < call.ended_ns


def check_alarmed(seen: Seen, call: Span) -> None:
    """SIGALRM took a sample well before the call ended."""
    alarms = [sample.at_ns for sample in seen.samples if sample.ring == "sigalrm"]
    assert alarms
    assert min(alarms) >= seen.span.began_ns + THRESHOLD * 1e9
    assert min(alarms) < call.began_ns + 0.8 * call.seconds * 1e9


@everywhere
def test_everything_was_tried(runs: Runs, reactor: str) -> None:
    """Each kind and place made its call, and what was to be a pause lasted longer than one."""
    calls = outcome(runs[reactor]).calls
    assert set(calls) == {*EXPECTED, *BRIEF}
    assert [c for c in EXPECTED if calls[c].seconds <= THRESHOLD] == []


@everywhere
@pytest.mark.parametrize("call", EXPECTED)
def test_one_pause_is_seen(runs: Runs, reactor: str, call: str) -> None:
    """Each call over the threshold is one pause, blamed on the function that made it."""
    check_blame(outcome(runs[reactor]).only(call), call)


@everywhere
@pytest.mark.parametrize("call", EXPECTED)
def test_duration_is_that_of_the_call(runs: Runs, reactor: str, call: str) -> None:
    """A pause lasts from the tick's beginning to its end, which is little more than the call."""
    result = outcome(runs[reactor])
    seen, own = result.only(call).span, result.calls[call]
    # The ticks before and after are right beside, unless the process got no processor there:
    # so these bounds are tight on a quiet machine, and hold on a loaded one.
    assert own.asked_ns <= seen.began_ns <= own.began_ns
    assert own.ended_ns <= seen.ended_ns <= own.over_ns


@everywhere
@pytest.mark.parametrize("call", [name for name, kind in EXPECTED.items() if kind.sampled])
def test_sample_is_taken_during_the_pause(runs: Runs, reactor: str, call: str) -> None:
    """Where the GIL is released or asked for, the stack is read while the call still lasts."""
    result = outcome(runs[reactor])
    check_sampled(result.only(call), result.calls[call])


@everywhere
@pytest.mark.parametrize("call", [name for name, kind in EXPECTED.items() if kind.alarmed])
def test_alarm_backs_the_thread_up(runs: Runs, reactor: str, call: str) -> None:
    """Where C code holds the GIL and looks for signals, SIGALRM takes a sample meanwhile."""
    result = outcome(runs[reactor])
    if result.calls[call].seconds > 3 * HELD_SECONDS:
        pytest.skip("the machine made it last longer than it was to, which puts the alarm off")
    check_alarmed(result.only(call), result.calls[call])


@everywhere
@pytest.mark.parametrize("call", BRIEF)
def test_nothing_is_said_below_the_threshold(runs: Runs, reactor: str, call: str) -> None:
    """What lasts less than the threshold is neither reported nor blamed."""
    result = outcome(runs[reactor])
    if result.calls[call].seconds > 0.75 * THRESHOLD:
        pytest.skip("the machine made it last longer than it was to")
    assert call not in {seen.function for seen in result.seen}


@everywhere
def test_nobody_else_is_blamed(runs: Runs, reactor: str) -> None:
    """Apart from the calls' own pauses, nothing is blamed on a function that paused on purpose."""
    result = outcome(runs[reactor])
    extra = [
        seen
        for seen in result.seen
        if not any(seen.span.overlaps(span) for span in result.calls.values())
    ]
    culprits = {name for kind in EXPECTED.values() for name in kind.blamed} | set(KINDS)
    assert {seen.function for seen in extra} & culprits == set()


@everywhere
def test_stats_add_up(runs: Runs, reactor: str) -> None:
    """The numbers are those of the pauses that observers were told of, and nothing went wrong."""
    result = outcome(runs[reactor])
    stats = result.stats["stats"]
    assert result.stats["error"] is None
    assert stats["pauses"] == len(result.seen)
    assert stats["pauses"] == sum(cause["pauses"] for cause in stats["causes"].values())
    nobodys = sum(stats["causes"][cause]["pauses"] for cause in ("starved", "suspended"))
    assert stats["pauses"] == nobodys + sum(row["count"] for row in stats["offenders"])
    assert stats["paused_seconds"] == pytest.approx(sum(seen.span.seconds for seen in result.seen))


@pytest.mark.parametrize("call", [*UNWRAPPED[:-1], *(f"{UNWRAPPED[-1]} {work}" for work in WORKS)])
def test_heartbeat_sees_pauses_on_uvloop(runs: Runs, call: str) -> None:
    """Where no wait can be wrapped a pause is one, sampled meanwhile, its duration nearly right."""
    if "uvloop" not in runs:
        pytest.skip("uvloop is not installed")
    result = outcome(runs["uvloop"])
    seen, own = result.only(call), result.calls[call]
    check_blame(seen, call)
    assert abs(seen.span.seconds - own.seconds) < HEARTBEAT + 0.05 + 0.2 * own.seconds
    if EXPECTED[call].sampled:
        check_sampled(seen, own)
    if EXPECTED[call].alarmed:
        check_alarmed(seen, own)
