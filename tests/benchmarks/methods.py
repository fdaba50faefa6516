"""In a child: the ways to watch a reactor, each of which can be put on and taken off again.

Only the standard library and Twisted are imported at the top: this runs in the peers' environments,
too. Ports are marked as such: they do what a method that has no release does.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple

__all__ = ["METHODS", "Method", "Report"]


class Report(NamedTuple):
    """What a method says of a pause.

    Attributes:
        at_ns: when it looked, or learned of it, in the clock of `time.monotonic_ns`.
        function: whom it names; None for nobody.
        trace: the functions in the traceback that it gives, outermost first.
        seconds: how long it says that the pause was; None if it does not say.
    """

    at_ns: int
    function: str | None
    trace: tuple[str, ...] = ()
    seconds: float | None = None


def let_anywhere(client: subprocess.Popen[bytes]) -> None:
    """Let a client that is not what is measured run on any core, whichever we are bound to."""
    os.sched_setaffinity(client.pid, range(os.cpu_count() or 1))


class Method:
    """None at all: the bare service.

    Args:
        reactor: which runs.
        threshold: seconds.
        report: is told of each pause. Any thread.

    Attributes:
        settled: whether what `on` or `off` began is done.
    """

    settled = True

    def __init__(self, reactor: Any, threshold: float, report: Callable[[Report], None]) -> None:
        self.reactor = reactor
        self.threshold = threshold
        self.report = report

    def on(self) -> None:
        """Begin to watch."""

    def off(self) -> None:
        """Leave as little behind as it can."""


class Ours(Method):
    """txwatchdog, as it comes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        from txwatchdog import Watchdog

        self.watchdog = Watchdog(self.reactor, self.threshold)
        self.watchdog.on_pause(self._ended)

    def _ended(self, pause: Any) -> None:
        first = pause.samples[0] if pause.samples else None
        trace = tuple(each.function for each in first.frames) if first else ()
        at_ns = first.at_ns if first else time.monotonic_ns()
        name = pause.offender.function if pause.offender else f"({pause.cause})"
        self.report(Report(at_ns, name, trace, pause.duration))

    def on(self) -> None:
        self.watchdog.start()

    def off(self) -> None:
        self.watchdog.stop()


class OursBesideThread(Ours):
    """txwatchdog, where the process has another thread, as most have, with and without it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class OursWithMetrics(Ours):
    """txwatchdog, its metrics scraped ten times a second: 150 times as often as Prometheus does."""

    EVERY_SECONDS = 0.1

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        from txwatchdog.metrics import MetricsServer

        self._server = MetricsServer(self.watchdog, "tcp:0:interface=127.0.0.1")
        self._scraper: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        super().on()
        self._server.start()
        address: Any = self._server.address
        url = f"http://127.0.0.1:{address.port}/metrics"
        scrape = (
            "import time, urllib.request\n"
            "while True:\n"
            f"    urllib.request.urlopen({url!r}).read(); time.sleep({self.EVERY_SECONDS})\n"
        )
        self._scraper = subprocess.Popen([sys.executable, "-c", scrape])
        let_anywhere(self._scraper)

    def off(self) -> None:
        if self._scraper is not None:
            self._scraper.kill()
            self._scraper.wait()
        self._server.stop()
        super().off()


class OursWithConsole(Ours):
    """txwatchdog, and a console open at its prompt, by the real ssh."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        from manhole_support import make_key, make_keys

        from txwatchdog.manhole import Manhole

        home = Path(tempfile.mkdtemp())
        self._key = make_key(home, "id")
        keys = str(make_keys(home, self._key))
        self._manhole = Manhole(self.watchdog, "tcp:0:interface=127.0.0.1", keys)
        self._ssh: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        super().on()
        self.settled = False
        self._manhole.start()
        threading.Thread(target=self._connect).start()

    def _connect(self) -> None:
        while self._manhole.address is None:
            time.sleep(0.01)
        command = ["ssh", "-tt", "-F", "/dev/null", "-i", str(self._key), "-p"]
        address: Any = self._manhole.address
        command += [str(address.port), "-o", "StrictHostKeyChecking=no"]
        command += ["-o", "UserKnownHostsFile=/dev/null", "127.0.0.1"]
        self._ssh = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        let_anywhere(self._ssh)
        assert self._ssh.stdout is not None
        seen = b""
        while b">>>" not in seen:
            part = self._ssh.stdout.read1(4096)  # type: ignore[attr-defined]
            if not part:
                raise RuntimeError(f"no prompt: {seen!r}")
            seen += part
        self.settled = True

    def off(self) -> None:
        if self._ssh is not None:
            self._ssh.kill()
            self._ssh.communicate()
        self.settled = False
        self._manhole.stop().addBoth(self._stopped)

    def _stopped(self, _: object) -> None:
        super().off()
        self.settled = True


class Readings:
    """Of the clock, kept where that is cheapest."""

    __slots__ = ("since", "until")

    def __init__(self) -> None:
        self.since = self.until = 0.0


class Floor(Method):
    """What the most frugal exact probe would do: the clock read when the wait ends and begins."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._bare = self.reactor._poller

    def on(self) -> None:
        wait, now = self._bare.poll, time.monotonic
        busy = Readings()

        def poll(timeout: Any = None, maxevents: Any = None) -> Any:
            busy.until = now()
            try:
                return wait(timeout, maxevents)
            finally:
                busy.since = now()

        public = [name for name in dir(self._bare) if not name.startswith("_")]
        proxy = SimpleNamespace(**{name: getattr(self._bare, name) for name in public})
        proxy.poll = poll
        self.reactor._poller = proxy

    def off(self) -> None:
        self.reactor._poller = self._bare


class IdleThread(Method):
    """A second thread that does nothing, without which no pause is seen from outside of it."""

    def on(self) -> None:
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._idle)
        self._thread.start()

    def _idle(self) -> None:
        self._enough.wait()

    def off(self) -> None:
        self._enough.set()
        self._thread.join()


class WakingThread(IdleThread):
    """A second thread that does nothing but wake up, once a threshold."""

    def _idle(self) -> None:
        while not self._enough.wait(self.threshold):
            pass


class Original(Method):
    """A port of the method that txwatchdog grew from: SIGALRM, put off again and again.

    Its handler logs the traceback, and counts the function that it finds innermost.
    """

    SHARE = 0.2  # of the threshold: 100 ms of 500 ms

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        from twisted.internet.task import LoopingCall

        self._loop = LoopingCall(self._put_off)
        self._loop.clock = self.reactor
        self.stats: Counter[str] = Counter()

    def _put_off(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, self.threshold)

    def _alarmed(self, _signal: int, frame: FrameType | None) -> None:
        at_ns = time.monotonic_ns()
        stack = traceback.extract_stack(frame)
        logging.getLogger("original").warning("".join(traceback.format_list(stack)))
        self.stats[stack[-1].name] += 1
        trace = tuple(each.name for each in stack)
        self.report(Report(at_ns, trace[-1], trace))

    def on(self) -> None:
        signal.signal(signal.SIGALRM, self._alarmed)
        self._loop.start(self.SHARE * self.threshold)

    def off(self) -> None:
        self._loop.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


class AsyncioDebug(Method, logging.Handler):
    """asyncio's debug mode, which logs slow callbacks once they have ended."""

    def __init__(self, *args: Any) -> None:
        Method.__init__(self, *args)
        logging.Handler.__init__(self)
        self._event_loop = self.reactor._asyncioEventloop
        self._event_loop.slow_callback_duration = self.threshold

    def emit(self, record: logging.LogRecord) -> None:
        if "took" in record.msg and isinstance(record.args, tuple):
            name, seconds = record.args
            self.report(Report(time.monotonic_ns(), str(name), (), float(str(seconds))))

    def on(self) -> None:
        logging.getLogger("asyncio").addHandler(self)
        self._event_loop.set_debug(True)

    def off(self) -> None:
        self._event_loop.set_debug(False)
        logging.getLogger("asyncio").removeHandler(self)


class Aiodebug(Method):
    """aiodebug's log_slow_callbacks."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._slow: Any = importlib.import_module("aiodebug.log_slow_callbacks")
        handle: Any = asyncio.events.Handle
        self._bare = handle._run

    def _ended(self, name: str, seconds: float) -> None:
        self.report(Report(time.monotonic_ns(), name, (), seconds))

    def on(self) -> None:
        self._slow.enable(self.threshold, self._ended)

    def off(self) -> None:
        handle: Any = asyncio.events.Handle
        handle._run = self._bare


class Aiocop(Method):
    """aiocop, set up as its documentation says. Once set up it can only be made to rest."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._aiocop: Any = importlib.import_module("aiocop")
        self._is_set_up = False

    def _ended(self, event: Any) -> None:
        if not event.exceeded_threshold:
            return
        at_ns = time.monotonic_ns()
        # Where it was found most often; failing that the gravest call.
        found = sorted(event.cpu_stack_samples, key=lambda each: -each["count"])
        found += sorted(event.blocking_events, key=lambda each: -(each["severity"] or 0))
        trace = tuple(word for each in found for word in str(each["trace"]).split())
        name = str(found[0]["entry_point"]) if found else None
        self.report(Report(at_ns, name, trace, event.elapsed_ms / 1000))

    def on(self) -> None:
        if not self._is_set_up:
            self._is_set_up = True
            self._aiocop.patch_audit_functions()
            self._aiocop.start_blocking_io_detection(trace_depth=20)
            self._aiocop.detect_slow_tasks(round(self.threshold * 1000), self._ended)
        self._aiocop.activate()

    def off(self) -> None:
        self._aiocop.deactivate()


METHODS: dict[str, type[Method]] = {
    "nothing": Method,
    "txwatchdog": Ours,
    "txwatchdog-metrics": OursWithMetrics,
    "txwatchdog-console": OursWithConsole,
    "txwatchdog-beside-thread": OursBesideThread,
    "floor": Floor,
    "thread": IdleThread,
    "waking-thread": WakingThread,
    "original": Original,
    "asyncio-debug": AsyncioDebug,
    "aiodebug": Aiodebug,
    "aiocop": Aiocop,
}
"""What a child is told -> the method."""
