"""How we know that the reactor is busy: its wait is wrapped, or a heartbeat stands in.

A `Tick` is the one thing that the reactor's thread writes and the watch thread reads. The probe
on a reactor keeps it up to date: `since` is set when the wait returns, and cleared when the next
one begins, at the cost of two readings of the clock a tick.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

from twisted.logger import Logger

from txwatchdog.activity import SHORT
from txwatchdog.reactor import ReactorThread, WatchedReactor

__all__ = ["HEARTBEAT_SECONDS", "Probe", "Tick", "probe_for"]

HEARTBEAT_SECONDS = 0.1
"""A heartbeat's longest distance; a fifth of a threshold below 0.5 s."""

_log = Logger(namespace="txwatchdog.probe")
T = TypeVar("T")


class Tick:
    """The tick under way, and what ticks came to.

    Every field but `limit_ns` is written by the reactor's thread alone. Readers in other threads
    see each write whole, and in order, since the GIL is held for it.

    What is written on every tick is a float, the short ticks' count as well: CPython adds, takes
    away and compares floats in half the time that integers of more than 30 bits take.

    Attributes:
        since: when the tick under way began, in seconds of `time.monotonic`; None while the
            reactor waits.
        busy: all ticks' durations in seconds, summed; a tick's is added once it is not under way
            any more.
        short: how many ticks took less than `long`.
        long: what took so many seconds is handed to `ended`.
        buckets: `buckets[n]` counts those that took at least 2**(n-1) and less than 2**n ns.
        over: called in the reactor's thread, with a tick's beginning and duration in ns, when
            it has ended and was longer than the limit; before `since` changes.
    """

    __slots__ = ("_limit_ns", "buckets", "busy", "long", "over", "short", "since")

    def __init__(self, limit_ns: int, over: Callable[[int, int], None]) -> None:
        self.since: float | None = None
        self.busy = self.short = 0.0
        self.buckets = [0] * 128
        self.over = over
        self.limit_ns = limit_ns

    @property
    def limit_ns(self) -> int:
        """A tick that took longer is handed to `over`. Written by whoever sets the threshold."""
        return self._limit_ns

    @limit_ns.setter
    def limit_ns(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self.long = min(limit_ns, 2**SHORT) / 1e9

    @property
    def busy_since_ns(self) -> int:
        """`since` in the clock of `time.monotonic_ns`, to some ns; 0 while the reactor waits.

        No two ticks share a value, so it is a tick's identity.
        """
        since = self.since
        return 0 if since is None else round(since * 1e9)

    @property
    def busy_ns(self) -> int:
        """`busy` in ns."""
        return round(self.busy * 1e9)

    @property
    def count(self) -> int:
        """Ticks that have ended."""
        return int(self.short) + sum(self.buckets)

    def counts(self) -> tuple[int, ...]:
        """Those by their duration, as `Activity` has them."""
        short = int(self.short) + sum(self.buckets[: SHORT + 1])
        return (*[0] * SHORT, short, *self.buckets[SHORT + 1 :])

    def ended(self, since: float, took: float) -> None:
        """A tick was not short. Nothing that goes wrong reaches the reactor."""
        try:
            took_ns = round(took * 1e9)
            self.buckets[took_ns.bit_length()] += 1
            if took_ns > self._limit_ns:
                self.over(round(since * 1e9), took_ns)
        except Exception:
            _log.failure("a pause could not be recorded")


def watched(wait: Callable[..., T], tick: Tick) -> Callable[..., T]:
    """`wait`, telling `tick` when it begins and ends.

    It takes what `epoll.poll` takes, which is more than `poll.poll` and `BaseSelector.select` do.

    This runs on every tick, so each line counts (`python -m tests.benchmarks --only probe` measures
    it). `*args, **kwargs` instead of the two arguments cost a quarter of the whole, a bucket for
    each short tick a third.
    """
    now = time.monotonic

    def watched_wait(timeout: Any = None, maxevents: Any = None) -> T:
        since = tick.since
        if since is not None:
            took = now() - since
            if took < tick.long:
                tick.short += 1.0
            else:
                tick.ended(since, took)
            # In this order: who reads both in another thread never has this tick's time twice.
            tick.since = None
            tick.busy += took
        try:
            if maxevents is None:
                return wait(timeout)
            return wait(timeout, maxevents)
        finally:
            tick.since = now()

    return watched_wait


class Probe(Protocol):
    """What knows that the reactor is busy."""

    @property
    def name(self) -> str:
        """What it does, for `status()`."""

    @property
    def exact(self) -> bool:
        """Whether `since` is when the tick began, so that durations are exact."""

    def install(self) -> None:
        """Begin. Any thread may call it, whether or not the reactor runs."""

    def remove(self) -> None:
        """End, leaving no trace. Any thread may call it."""

    def is_waiting(self, frame: FrameType) -> bool:
        """Whether `frame`, the reactor thread's innermost, is the reactor's wait."""


def probe_for(reactor: WatchedReactor, thread: ReactorThread, tick: Tick) -> Probe:
    """The probe that suits `reactor`: its wait wrapped if it has one that can be."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    selector = getattr(loop, "_selector", None)
    if selector is not None:
        return _AttributeProbe(selector, "select", tick, f"{_name(selector)}.select")
    poller = getattr(reactor, "_poller", None)
    if loop is None and hasattr(poller, "poll"):
        return _PollerProbe(reactor, tick)
    module: Any = sys.modules.get("twisted.internet.selectreactor")
    if module is not None and isinstance(reactor, module.SelectReactor):
        return _SelectProbe(module, reactor, tick)
    return _Heartbeat(reactor, thread, tick, _name(reactor if loop is None else loop))


def _name(thing: object) -> str:
    return type(thing).__qualname__


class _WaitProbe:
    """A wait that is wrapped."""

    exact = True

    def __init__(self, name: str) -> None:
        self.name = f"{name}, wrapped"

    def is_waiting(self, frame: FrameType) -> bool:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if name == "select" and frame.f_back is not None:
            # Others use selectors, too: subprocess.run, for one.
            return file.endswith("/selectors.py") and frame.f_back.f_code.co_name == "_run_once"
        return name in {"watched_wait", "wait_by_select"} or (
            name in {"doPoll", "doSelect"} and "/twisted/internet/" in file
        )


class _PollerProxy:
    """Stands before `reactor._poller`: the C object behind it takes no attributes."""

    def __init__(self, poller: Any, poll: Callable[..., Any]) -> None:
        # Copied, for a `__getattr__` would slow down every look-up, that of `poll` on each tick
        # among them.
        for name in dir(poller):
            # It may be another watchdog's, whose `closed` a poll object has not.
            if not name.startswith("__") and callable(method := getattr(poller, name, None)):
                setattr(self, name, method)
        self._poller = poller
        self.poll = poll

    @property
    def closed(self) -> bool:
        """Whether an epoll object is closed."""
        return bool(self._poller.closed)


class _PollerProbe(_WaitProbe):
    """On `EPollReactor` and `PollReactor`."""

    def __init__(self, reactor: Any, tick: Tick) -> None:
        super().__init__(f"{_name(reactor)}._poller.poll")
        self._reactor = reactor
        self._poller = reactor._poller
        self._proxy = _PollerProxy(self._poller, watched(self._poller.poll, tick))

    def install(self) -> None:
        self._reactor._poller = self._proxy

    def remove(self) -> None:
        if self._reactor._poller is self._proxy:
            self._reactor._poller = self._poller
        else:  # someone wrapped it in turn, and will go on calling ours: let it pass through
            self._proxy.poll = self._poller.poll


class _SelectProbe(_WaitProbe):
    """On `SelectReactor`, whose wait is a function of its module, thus shared by all of them."""

    def __init__(self, module: Any, reactor: Any, tick: Tick) -> None:
        super().__init__("twisted.internet.selectreactor._select")
        self._module = module
        self._select = select = module._select

        def wait_by_select(reads: Any, rest: Any) -> Any:
            return select(reads, *rest)

        ours = watched(wait_by_select, tick)

        def watched_select(reads: Any, *rest: Any) -> Any:
            # Another SelectReactor, in another thread, is none of our business.
            return ours(reads, rest) if reads is reactor._reads else select(reads, *rest)

        self._wrapper = watched_select

    def install(self) -> None:
        self._module._select = self._wrapper

    def remove(self) -> None:
        if self._module._select is self._wrapper:
            self._module._select = self._select


class _AttributeProbe(_WaitProbe):
    """On `AsyncioSelectorReactor`: a method of its loop's selector, a Python object."""

    def __init__(self, owner: Any, attribute: str, tick: Tick, name: str) -> None:
        super().__init__(f"asyncio {name}")
        self._owner = owner
        self._attribute = attribute
        self._had = vars(owner).get(attribute)
        self._wrapper = watched(getattr(owner, attribute), tick)

    def install(self) -> None:
        setattr(self._owner, self._attribute, self._wrapper)

    def remove(self) -> None:
        if vars(self._owner).get(self._attribute) is not self._wrapper:
            return
        if self._had is None:
            delattr(self._owner, self._attribute)
        else:  # another wrapper stood there before
            setattr(self._owner, self._attribute, self._had)


class _Heartbeat:
    """A timed call at short distances: how late it comes is how long the reactor was busy.

    `since` is when the next beat is due, so it lies ahead while all is well, and a pause
    is seen as begun up to one distance later than it was.
    """

    exact = False

    def __init__(
        self, reactor: WatchedReactor, thread: ReactorThread, tick: Tick, name: str
    ) -> None:
        self._seconds = min(HEARTBEAT_SECONDS, max(0.005, tick.limit_ns / 5e9))
        self.name = (
            f"heartbeat every {self._seconds:g} s: {name} has no wait that can be wrapped, and"
            " durations err by as much"
        )
        self._reactor = reactor
        self._thread = thread
        self._tick = tick
        self._call: Any = None  # the beat that is due; touched in the reactor's thread alone
        self._withdraw: Callable[[], None] = lambda: None
        self._on = False

    def is_waiting(self, frame: FrameType) -> bool:  # noqa: ARG002 - the protocol's
        """True: what a tick was before the first beat can't be known."""
        return True

    def install(self) -> None:
        self._on = True
        self._withdraw = self._thread.when_running(self._schedule)

    def remove(self) -> None:
        self._on = False
        self._withdraw()
        self._thread.soon(self._cancel)

    def _schedule(self) -> None:
        self._tick.since = time.monotonic() + self._seconds
        self._call = self._reactor.callLater(self._seconds, self._beat)

    def _beat(self) -> None:
        self._call = None
        tick = self._tick
        if (due := tick.since) is not None:
            tick.ended(due, max(0.0, time.monotonic() - due))
        tick.since = None
        if self._on:
            self._schedule()

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
