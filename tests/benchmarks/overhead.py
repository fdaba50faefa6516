"""Section 3: what it costs a service that is well.

Each server runs in a process of its own and the method is put on and off in it, by turns, so that
both halves of a pair share one layout in memory, one client and one moment. The client sends one
request at a time over one connection, so that each is a tick of the reactor: its dearest case.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from attrs import frozen

from .harness import Bench, Spoken, Spread, Table, child, goal
from .peers import Missing, python_with, version_of

__all__ = ["run"]

SEGMENT_SECONDS = 0.15  # short, so that both halves of a pair meet the same machine
WARM_REQUESTS = 200
GOALS = {"web": 1.01, "echo": 1.02}
COLUMNS = (
    "",
    "reactor thread's CPU per request",
    "its quietest fifth",
    "process's CPU",
    "requests/s",
    "p99",
    "stacks",
)
LINE = b"a line of so many letters that it looks like something\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@frozen
class Contender:
    """Something whose cost is measured.

    Attributes:
        title: for people.
        method: one of `methods.METHODS`.
        reactor: what it runs on, with and without.
        peer: the environment it needs.
        external: puts it on a process from outside.
        takes_stacks: whether it can say where a pause was.
        slow: putting it on takes long, so there are fewer pairs.
    """

    title: str
    method: str
    reactor: str = "epoll"
    peer: str | None = None
    external: Callable[[int], contextlib.AbstractContextManager[None]] | None = None
    takes_stacks: bool = True
    slow: bool = False


@contextlib.contextmanager
def _py_spy(pid: int) -> Iterator[None]:
    command = [str(python_with("py-spy").with_name("py-spy")), "record", "-r", "100", "-d", "3600"]
    process = subprocess.Popen(
        [*command, "-o", "/dev/null", "-f", "raw", "-p", str(pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        seen = b""
        while b"Press" not in seen and b"Sampling" not in seen:
            part = process.stdout.read1(4096)  # type: ignore[attr-defined]
            if not part:
                raise Missing(f"py-spy record does not work here: {seen.decode().strip()}")
            seen += part
        time.sleep(0.3)  # it finds its way about the process first
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


CONTENDERS = (
    Contender("txwatchdog", "txwatchdog"),
    Contender("txwatchdog, metrics scraped 10 times a second", "txwatchdog-metrics", slow=True),
    Contender("txwatchdog, a console open", "txwatchdog-console", slow=True),
    Contender("txwatchdog, asyncio reactor", "txwatchdog", "asyncio"),
    Contender("txwatchdog, in a process that has a thread anyway", "txwatchdog-beside-thread"),
    Contender("a second thread that does nothing", "thread", takes_stacks=False),
    Contender("two clock readings alone (port)", "floor", takes_stacks=False),
    Contender("the original method (port)", "original"),
    Contender("py-spy record -r 100", "nothing", peer="py-spy", external=_py_spy, slow=True),
    Contender("aiocop", "aiocop", "asyncio", peer="aiocop"),
    Contender("asyncio debug mode", "asyncio-debug", "asyncio", takes_stacks=False),
    Contender("aiodebug", "aiodebug", "asyncio", peer="aiodebug", takes_stacks=False),
    Contender("nothing, twice (noise)", "nothing", takes_stacks=False),
)


@frozen
class Segment:
    """So many requests in a row.

    Attributes:
        thread: seconds of CPU of the reactor's thread per request.
        process: seconds of CPU of the process per request.
        rate: requests per second.
        p99: seconds that 99 % of the answers took at most.
    """

    thread: float
    process: float
    rate: float
    p99: float


class Client:
    """One connection, one request at a time."""

    def __init__(self, server: str, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = LINE if server == "echo" else GET
        self._end = b"\r\n" if server == "echo" else b"x" * 1000

    def send(self, count: int) -> list[float]:
        """So many requests; how long each answer took."""
        send, receive, now = self._socket.sendall, self._socket.recv, time.perf_counter
        request, end, took = self._request, self._end, []
        for _ in range(count):
            began = now()
            send(request)
            answer = receive(65536)
            while not answer.endswith(end):
                answer += receive(65536)
            took.append(now() - began)
        return took


def measure(server: Spoken, client: Client, count: int) -> Segment:
    """One segment."""
    client.send(WARM_REQUESTS)
    before = server.ask("cpu")
    began = time.perf_counter()
    took = client.send(count)
    seconds = time.perf_counter() - began
    after = server.ask("cpu")
    return Segment(
        (after["thread_ns"] - before["thread_ns"]) / 1e9 / count,
        (after["process_ns"] - before["process_ns"]) / 1e9 / count,
        count / seconds,
        sorted(took)[count * 99 // 100],
    )


@contextlib.contextmanager
def switched(server: Spoken, contender: Contender) -> Iterator[None]:
    """The method is on."""
    if contender.external is not None:
        with contender.external(server.pid):
            yield
        return
    server.ask("on")
    try:
        yield
    finally:
        server.ask("off")


@contextlib.contextmanager
def apart(pid: int) -> Iterator[None]:
    """That process on one core, this one on another: neither is moved about."""
    before = os.sched_getaffinity(0)
    first, *others = sorted(before)
    if not others:
        yield
        return
    os.sched_setaffinity(pid, {first})
    os.sched_setaffinity(0, {others[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pairs(server_name: str, contender: Contender, count: int) -> list[tuple[Segment, Segment]]:
    """So many times without and with, in one process, the order turned round each time."""
    python = {} if contender.peer is None else {"python": python_with(contender.peer)}
    if contender.peer == "py-spy":
        python = {}
    arguments = (server_name, contender.reactor, contender.method, 0.5)
    found = []
    with (
        child("served.py", *arguments, **python, stderr=subprocess.DEVNULL) as server,
        apart(server.pid),
    ):
        client = Client(server_name, server.hear()["port"])
        client.send(WARM_REQUESTS * 5)
        requests = max(200, int(measure(server, client, 500).rate * SEGMENT_SECONDS))
        for number in range(count):
            if number % 2:
                with switched(server, contender):
                    watched = measure(server, client, requests)
                found.append((measure(server, client, requests), watched))
            else:
                bare = measure(server, client, requests)
                with switched(server, contender):
                    found.append((bare, measure(server, client, requests)))
    return found


def compare(bench: Bench, server: str, title: str) -> Table:
    """A table: all contenders on one server."""
    number, fewer, processes = bench.times(60, 16), bench.times(30, 4), bench.times(3, 2)
    table = Table(
        f"Overhead: {title}; with / without, {number} alternating pairs"
        f" ({fewer} where putting it on is slow) in {processes} processes",
        COLUMNS,
    )
    bare: list[float] = []
    for contender in CONTENDERS:
        bench.say(f"{server}: {contender.title}")
        each = (fewer if contender.slow else number) // processes
        try:
            found = [pair for _ in range(processes) for pair in pairs(server, contender, each)]
        except (Missing, RuntimeError) as problem:
            table.rows.append((contender.title, f"not measured: {problem}", *[""] * 5))
            continue
        if contender.reactor == "epoll":
            bare += [without.thread for without, _ in found]
        ratios = {
            name: Spread.of([getattr(b, name) / getattr(a, name) for a, b in found])
            for name in ("thread", "process", "rate", "p99")
        }
        table.figures[contender.title] = {
            name: {"median": each.median, "sure": each.sure, "quartiles": each.quartiles}
            for name, each in ratios.items()
        }
        # What disturbs only ever adds: the least disturbed segments of each half, compared.
        calm = [
            Spread.of([each.thread for each in half]).p(20) for half in zip(*found, strict=True)
        ]
        table.figures[contender.title]["calm"] = calm[1] / calm[0]
        named = f"{contender.title}{_release(contender)}"
        cells = [each.text() for each in ratios.values()]
        cells.insert(1, f"{calm[1] / calm[0]:.3f}")
        table.rows.append((named, *cells, "yes" if contender.takes_stacks else "no"))
    table.notes.append(_verdict(table, server, statistics.median(bare)))
    return table


def _release(contender: Contender) -> str:
    return f" ({version_of(contender.peer)})" if contender.peer else ""


def _verdict(table: Table, server: str, bare: float) -> str:
    ours = table.figures["txwatchdog"]["thread"]["median"]
    others = [
        table.figures[each.title]["thread"]["median"]
        for each in CONTENDERS
        if each.takes_stacks and "txwatchdog" not in each.title and each.title in table.figures
    ]
    better = all(ours <= each for each in others)
    table.figures["bare_seconds"] = bare
    return (
        f"Bare: {bare * 1e6:.1f} µs of CPU per request. Goal: at most {GOALS[server]}:"
        f" {goal(ours <= GOALS[server])}; better than every peer that takes stacks: {goal(better)}."
        " In brackets: where the true median lies with 95 % certainty. The quietest fifth: the 20th"
        " percentiles of both halves, compared. aiocop does not watch the loop's readers, which is"
        " what these servers' ticks are: it does nothing in most of them, and sees no pause there."
    )


IDLE = (
    ("txwatchdog", "txwatchdog", 0.5),
    ("a thread that wakes as often, and does nothing", "waking-thread", 0.5),
    ("txwatchdog", "txwatchdog", 0.1),
    ("a thread that wakes as often, and does nothing", "waking-thread", 0.1),
)
"""Title, method, threshold."""


def idle(bench: Bench) -> Table:
    """What a process costs that has nothing to do."""
    seconds, rounds = bench.times(10, 2), bench.times(3, 1)
    table = Table(
        f"An idle watched process, {rounds} times {seconds} s by turns",
        (
            "",
            "threshold",
            "wakes/s",
            "goal: 1/threshold + 1",
            "CPU, % of a core: cores that sleep",
            "cores kept awake",
        ),
    )
    found: dict[tuple[str, float, bool], list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        servers = {}
        for _, method, threshold in IDLE:
            started = child("served.py", "echo", "epoll", method, threshold)
            servers[method, threshold] = server = stack.enter_context(started)
            server.hear()
        for number in range(rounds):
            for (method, threshold), server in servers.items():
                for is_awake in (False, True):
                    bench.say(f"idle, {method}, threshold {threshold}, {number + 1}")
                    with awake() if is_awake else contextlib.nullcontext():
                        each = _idle(server, seconds)
                    found.setdefault((method, threshold, is_awake), []).append(each)
    for title, method, threshold in IDLE:
        asleep, kept = (found[method, threshold, is_awake] for is_awake in (False, True))
        wakes = max(wakes for wakes, _ in (*asleep, *kept))
        percents = [Spread.of([percent for _, percent in each]).median for each in (asleep, kept)]
        most = 1 / threshold + 1
        is_ours = method == "txwatchdog"
        told = (f"{wakes:.2f}", f"{most:g}: {goal(wakes <= most)}") if is_ours else ("", "")
        table.rows.append((title, f"{threshold} s", *told, *(f"{x:.3f}" for x in percents)))
        table.figures[f"{method} {threshold}"] = {"wakes": wakes, "percent": percents}
    reached = [x < 0.05 for x in table.figures["txwatchdog 0.5"]["percent"]]
    table.notes.append(
        "Goal: below 0.05 % at the default threshold:"
        f" {goal(reached[0])} where cores sleep, {goal(reached[1])} where they are awake."
    )
    return table


def _idle(server: Spoken, seconds: float) -> tuple[float, float]:
    """Wakes a second, and % of a core."""
    server.ask("on")
    time.sleep(1)
    before = server.ask("cpu")
    began = time.monotonic()
    time.sleep(seconds)
    after = server.ask("cpu")
    took = time.monotonic() - began
    server.ask("off")
    wakes = (after["wakes"] - before["wakes"]) / took
    return wakes, (after["process_ns"] - before["process_ns"]) / took / 1e7


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """No core goes to sleep: one that has slept is slow at first, and whoever runs then pays.

    Without it a console that is open, or nothing at all done twice, came out up to half cheaper
    than a bare server. The spinners run only where nobody else wants to (SCHED_IDLE).
    """
    spin = (
        "import os\n"
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        f"while os.getppid() == {os.getpid()}: sum(range(10000))\n"
    )
    command = [sys.executable, "-S", "-c", spin]
    spinners = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in spinners:
            each.kill()
            each.wait()


def run(bench: Bench) -> Iterator[Table]:
    """All of it."""
    with awake():
        web = compare(bench, "web", "`twisted.web`, a page of 1,000 bytes")
    yield web
    with awake():
        echo = compare(bench, "echo", "a line echoed, the cheapest tick there is")
    yield echo
    yield idle(bench)
