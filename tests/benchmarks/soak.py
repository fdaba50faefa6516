"""A service under load that pauses once a second, watched for long: nothing grows, nothing is lost.

    python tests/benchmarks/soak.py [--minutes 30]

A service answers HTTP requests, pauses on purpose once a second, and has five sessions in its
manhole that come and go: verbs, statements, consoles, live views, and clients that vanish. What is
printed at the end is what grew from the third quarter of the time to the last one, what is left
when all sessions are over, and how often each pause was found, which is to be once. A pause that
nobody made on purpose (the machine had no CPU to spare, a session held the GIL) is real if a timed
call in the service was late by as much, else invented. Exit status 1 if anything grew, or a pause
was lost, found twice, or invented.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).parents[1] / each) for each in ("", "integration"))

from attrs import define, field, frozen
from manhole_support import ServiceProcess, Terminal

from benchmarks.strangers import latencies, percentiles

THRESHOLD = 0.2
PAUSE = 0.3
SESSIONS = 5
SAMPLE_SECONDS = 1.0
SLACK_NS = 50_000_000
BEAT_SECONDS = 0.05
GROWTH_MIB = 2.0
"""By how much memory may be more in the last quarter than in the third. The latest 1,000 pauses are
kept, so until there are so many it grows a little."""

SETTLING_MIB = 20.0
"""By how much instead in a soak of less than `SETTLED_MINUTES`: it settles in the first two. When
each kind of session first comes, and how many at once, is chance; each brings some MiB."""

SETTLED_MINUTES = 4.0


# -- the service ----------------------------------------------------------------------------------


@define
class Injected:
    """A pause that was made on purpose.

    Attributes:
        began_ns: when, in the monotonic clock.
        ended_ns: until when.
        found: how many reported pauses it is in.
    """

    began_ns: int
    ended_ns: int
    found: int = 0


@define
class Book:
    """What was injected, and what was reported. Written in the reactor's and the watch thread.

    Attributes:
        injected: the pauses that were made.
        late: from when to when no timed call was made, where that was for a threshold or longer.
        reported: each pause's beginning, duration and text.
    """

    injected: list[Injected] = field(factory=list)
    late: list[tuple[int, int]] = field(factory=list)
    reported: list[tuple[int, int, str]] = field(factory=list)

    def report(self, pause: Any) -> None:
        """Enter a pause that the watchdog has seen."""
        if pause.samples:
            began_ns = pause.samples[0].tick_ns
        else:  # on a machine that is too busy to look: when it began is known to some milliseconds
            ago = (datetime.now(timezone.utc) - pause.started_at).total_seconds()
            began_ns = time.monotonic_ns() - round(ago * 1e9) - SLACK_NS
        self.reported.append((began_ns, round(pause.duration * 1e9), str(pause)))

    def balance(self) -> dict[str, Any]:
        """Look for each injected pause among those that were reported."""
        invented: list[str] = []
        unasked: list[str] = []
        for began_ns, took_ns, text in self.reported:
            within = [
                each
                for each in self.injected
                if began_ns <= each.began_ns and each.ended_ns <= began_ns + took_ns + 2 * SLACK_NS
            ]
            for each in within:
                each.found += 1
            if not within:
                was_late = any(
                    since_ns <= began_ns + SLACK_NS and began_ns + took_ns <= until_ns + SLACK_NS
                    for since_ns, until_ns in self.late
                )
                (unasked if was_late else invented).append(text)
        found = Counter(each.found for each in self.injected)
        return {
            "injected": len(self.injected),
            "found once": found[1],
            "lost": found[0],
            "found twice": sum(found.values()) - found[0] - found[1],
            "not on purpose": unasked,
            "invented": invented,
        }


def sleep_on_purpose() -> None:
    """Block."""
    time.sleep(PAUSE)


def compute_on_purpose() -> None:
    """Compute."""
    end = time.monotonic() + PAUSE
    while time.monotonic() < end:
        sum(range(1000))


def serve() -> None:
    """Be the service: the one of `manhole_service.py`, with pages, and pauses."""
    import manhole_service
    from twisted.internet.task import LoopingCall
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request: object) -> bytes:
            return b"x" * 1000

    book = Book()
    reactor, watchdog = manhole_service.reactor, manhole_service.watchdog
    works: list[Callable[[], None]] = [sleep_on_purpose, compute_on_purpose]

    def pause() -> None:
        work = works[len(book.injected) % len(works)]
        injected = Injected(time.monotonic_ns(), 0)
        work()
        injected.ended_ns = time.monotonic_ns()
        book.injected.append(injected)

    def beat(before_ns: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - before_ns > THRESHOLD * 1e9:
            book.late.append((before_ns, now_ns))
        reactor.callLater(BEAT_SECONDS, beat, now_ns)

    def tell(*_: object) -> None:
        """Pause no more, and tell once the last one is recorded."""
        loop.stop()
        reactor.callLater(1.0, lambda: print(json.dumps(book.balance()), flush=True))

    loop = LoopingCall(pause)
    loop.clock = reactor
    watchdog.on_pause(book.report)
    web = reactor.listenTCP(0, Site(Page()), interface="127.0.0.1")  # type: ignore[no-untyped-call]
    # Not at once: the first tick of all is a reactor that begins.
    reactor.callWhenRunning(loop.start, 1.0, now=False)
    reactor.callWhenRunning(lambda: beat(time.monotonic_ns()))
    port = json.dumps({"web": web.getHost().port})
    reactor.callWhenRunning(lambda: reactor.callLater(0, print, port, flush=True))
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(tell))
    manhole_service.run()


# -- who uses it ----------------------------------------------------------------------------------


@frozen
class Sample:
    """What a process has of the machine's."""

    memory: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """Read it."""
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        )
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(status["VmRSS"].split()[0]) / 1024, descriptors, int(status["Threads"]))


class Visitors:
    """Sessions that come and go, each in a thread of its own."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._over = threading.Event()
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._threads = [
            threading.Thread(target=self._come_and_go, args=(number,)) for number in range(SESSIONS)
        ]
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Have all of them go."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _come_and_go(self, number: int) -> None:
        lots = random.Random(number)
        kinds = [self.verb, self.statement, self.console, self.live, self.vanish]
        while not self._over.wait(lots.uniform(0.2, 1.5)):
            kind = lots.choice(kinds)
            try:
                kind()
            except Exception as problem:
                self.problems.append(f"{kind.__name__}: {problem!r}")
            self.done[kind.__name__] += 1

    def verb(self) -> None:
        """A verb, answered in the manhole's thread."""
        self._ask("top --json")

    def statement(self) -> None:
        """A statement, run in the reactor's thread."""
        self._ask("[n for n in range(1000)]")

    def _ask(self, command: str) -> None:
        answer = self._service.ssh(command)
        assert answer.returncode == 0, answer
        assert answer.stdout, answer

    def console(self) -> None:
        """A console, in which something is typed."""
        terminal = self._service.terminal()
        try:
            terminal.expect(">>> ")
            terminal.type("6 * 7\r")
            terminal.expect("42")
            terminal.type("\x04")
            assert terminal.expect_end() == 0
        finally:
            terminal.close()

    def live(self) -> None:
        """A live view."""
        terminal = Terminal([*self._service.command("-tt"), "live"])
        try:
            terminal.expect("keys")
            self._over.wait(3.0)
            terminal.type("q")
            assert terminal.expect_end() == 0
        finally:
            terminal.close()

    def vanish(self) -> None:
        """A client that is killed, waiting for what never comes."""
        command = self._service.command("-o", "BatchMode=yes")
        waits = "from twisted.internet.defer import Deferred; Deferred()"
        with subprocess.Popen([*command, waits], stderr=subprocess.DEVNULL) as client:
            self._over.wait(2.0)
            client.kill()


def at_rest(service: ServiceProcess) -> Sample:
    """What the service has when nobody is there: it lets go of who has left within some seconds."""
    samples = []
    for _ in range(10):
        samples.append(Sample.of(service.process.pid))
        time.sleep(0.3)
    return Sample(
        samples[-1].memory,
        min(each.descriptors for each in samples),
        min(each.threads for each in samples),
    )


def grown(samples: list[Sample], most_mib: float) -> list[str]:
    """What is more in the last quarter than in the third. Prints a table of the quarters."""
    size = len(samples) // 4
    quarters = [samples[n * size : (n + 1) * size] for n in range(4)]
    rows = {
        "memory, MiB": [statistics.median(s.memory for s in quarter) for quarter in quarters],
        "descriptors": [statistics.median(s.descriptors for s in quarter) for quarter in quarters],
        "threads": [statistics.median(s.threads for s in quarter) for quarter in quarters],
    }
    print(f"{'median of each quarter':24}" + "".join(f"{n:>10}" for n in range(1, 5)))
    for what, row in rows.items():
        print(f"{what:24}" + "".join(f"{value:10.1f}" for value in row))
    # How many descriptors and threads there are depends on who happens to be there: see `at_rest`.
    before, after = rows["memory, MiB"][2:]
    return ["memory grew"] if after - before > most_mib else []


def soak(seconds: float, directory: Path) -> list[str]:
    """Run all of it, and print it. Returns: what is wrong."""
    service = ServiceProcess(directory, script=Path(__file__), unauthenticated_per_address=16)
    samples: list[Sample] = []
    took: list[float] = []
    try:
        web = service.announced()["web"]
        for kind in ("1", "top", "import rich"):  # what is imported at the first time
            service.ssh(kind)
        terminal = service.terminal()
        terminal.expect(">>> ")
        terminal.close()
        before = at_rest(service)
        visitors = Visitors(service)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            took += latencies(web, SAMPLE_SECONDS)
            samples.append(Sample.of(service.process.pid))
        visitors.leave()
        after = at_rest(service)
        service.process.send_signal(signal.SIGUSR1)
        balance = service.announced()
        log = service.log()
    finally:
        service.close()
    problems = grown(samples, GROWTH_MIB if seconds >= 60 * SETTLED_MINUTES else SETTLING_MIB)
    print(f"{'at rest':24}{'before':>10}{'after':>10}")
    for what in ("descriptors", "threads"):
        values = getattr(before, what), getattr(after, what)
        print(f"{what:24}{values[0]:10}{values[1]:10}")
        if values[1] > values[0]:
            problems.append(f"{what} grew")
    median, worst = percentiles(took)
    print(f"HTTP answers            {len(took)}, median {median:.1f} ms, p99 {worst:.1f} ms")
    print(f"sessions                {sum(visitors.done.values())}: {dict(visitors.done)}")
    for what, value in balance.items():
        print(f"{what:24}{len(value) if isinstance(value, list) else value}")
    for text in balance["not on purpose"]:
        print(f"    {text}")
    problems += [f"pauses {each}" for each in ("lost", "found twice", "invented") if balance[each]]
    problems += visitors.problems + balance["invented"]
    if "Traceback" in log:
        problems.append(f"there are tracebacks in the log:\n{log}")
    return problems


def main() -> None:
    """Soak, and exit with 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        problems = soak(60 * minutes, Path(name))
    for problem in problems:
        print(f"WRONG: {problem}")
    print("nothing grew, and each pause was found once" if not problems else "not well")
    sys.exit(bool(problems))


if __name__ == "__main__":
    # ServiceProcess runs this very file, with what `manhole_service.py` takes.
    if len(sys.argv) > 3:
        serve()
    else:
        main()
