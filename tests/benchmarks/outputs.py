"""Very much output: how fast it comes through each console, during a pause and not."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from .consoles import MANHOLE, OURS, PROMPT, STOCK, Console, Home, Service, connected, serving
from .harness import Bench, Spread, Table
from .peers import Missing

__all__ = ["outputs"]

MEGABYTES = 100
LIMIT_SECONDS = 120.0
ENOUGH_SECONDS = 60.0  # for all rounds of one way: the next round is not begun
PAUSE_SECONDS = 3600.0  # longer than any measurement; its process is killed
WAITS = "waits for the pause's end"


@frozen
class Output:
    """What came.

    Attributes:
        seconds: until all was there, or no more came.
        size: how many of the bytes that were asked for.
        ended: why no more came; empty if nothing was missing.
    """

    seconds: float
    size: int
    ended: str = ""


def received(number: int, size: int, began: float) -> Output:
    """Read from a descriptor until `size` letters have come."""
    count, ended = 0, ""
    while count < size and not ended:
        left = began + LIMIT_SECONDS - time.perf_counter()
        if left < 0 or not select.select([number], [], [], left)[0]:
            ended = f"given up after {LIMIT_SECONDS:.0f} s"
        elif part := os.read(number, 1 << 18):
            count += part.count(b"x")
        else:
            ended = "closed"
    return Output(time.perf_counter() - began, count, ended)


@contextmanager
def ssh(
    service: Service, *options: str, command: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """The client, with pipes: a terminal of ours would be in the way of so much."""
    process = subprocess.Popen(
        [*service.home.ssh(service.ready["port"], *options), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def by_command(service: Service, statement: str, size: int) -> Output:
    """From starting ssh."""
    began = time.perf_counter()
    with ssh(service, command=[statement]) as process:
        assert process.stdout is not None
        return received(process.stdout.fileno(), size, began)


def typed(service: Service, statement: str, size: int) -> Output:
    """From Enter at a prompt that is there."""
    with ssh(service, "-tt") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        seen = b""
        while PROMPT not in seen:
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                raise RuntimeError(f"no prompt: {seen!r}")
            seen += part
        process.stdin.write(statement.encode())
        time.sleep(0.3)  # that the letters are echoed is not counted
        began = time.perf_counter()
        process.stdin.write(b"\r")
        return received(process.stdout.fileno(), size, began)


def sent(service: Service, statement: str, size: int) -> Output:
    """From sending a line to what has no terminal."""
    with connected(service.ready) as connection:
        began = time.perf_counter()
        connection.sendall(statement.encode() + b"\n")
        return received(connection.fileno(), size, began)


@frozen
class Printing:
    """A way to have much printed.

    Attributes:
        title: for people.
        console: whose.
        by: does it.
        statement: what is typed; `{}` stands for the number of letters.
        in_pause: whether it need not wait for the end of a pause.
    """

    title: str
    console: Console
    by: Callable[[Service, str, int], Output]
    statement: str
    in_pause: bool = False

    def take(self, service: Service, statement: str, size: int) -> Output:
        """Have it done."""
        try:
            return self.by(service, statement, size)
        except (OSError, RuntimeError) as problem:
            return Output(0.0, 0, str(problem))


PRINTINGS = (
    Printing('txwatchdog, `ssh HOST "{}"`: the reactor\'s thread', OURS, by_command, "'x' * {}"),
    Printing(
        'txwatchdog, `ssh HOST "{}"`: the manhole\'s',
        OURS,
        by_command,
        "'x' * {} if watchdog.running else ''",
        in_pause=True,
    ),
    Printing("txwatchdog, `{}` typed", OURS, typed, "print('x' * {})"),
    Printing("stock `twisted.conch.manhole`, `{}` typed", STOCK, typed, "print('x' * {})"),
    Printing(
        MANHOLE.title + ", `{}` sent: no encryption",
        MANHOLE,
        sent,
        "print('x' * {})",
        in_pause=True,
    ),
)


def outputs(bench: Bench, home: Home) -> Table:
    """A row for each way."""
    size = bench.times(MEGABYTES, 20) * 1_000_000
    rounds = bench.times(5, 1)
    table = Table(
        f"Console: {size // 10**6} MB of output, {rounds} times, or for {ENOUGH_SECONDS:.0f} s;"
        " by `ssh HOST`, the login included",
        (
            "",
            "the service well",
            "in a pause (`time.sleep`)",
            "in a pause (a Python loop)",
            "most memory, more than before: MB",
        ),
    )
    for printing in PRINTINGS:
        statement = printing.statement.format(size)
        title = printing.title.format(printing.statement.format(f"{size:_}"))
        bench.say(title)
        try:
            row = _row(printing, statement, size, rounds, home)
        except (Missing, RuntimeError, OSError) as problem:
            table.rows.append((title, f"not measured: {problem}", "", "", ""))
            continue
        table.rows.append((title, *row))
        table.figures[title] = row
    table.notes.append(
        "Whoever reads takes it as fast as it comes. A statement that asks nothing but the"
        " watchdog runs in the manhole's own thread, so all that the watchdog knows can be"
        " had during a pause; any other waits for the reactor's."
    )
    return table


def _row(
    printing: Printing, statement: str, size: int, rounds: int, home: Home
) -> tuple[str, str, str, str]:
    """The three ways and the memory. Well and asleep by turns; a loop would disturb the others."""
    kinds: tuple[str, ...] = ("well", "sleep") if printing.in_pause else ("well",)
    got: dict[str, list[Output]] = {kind: [] for kind in (*kinds, "loop")}
    with ExitStack() as stack:
        services = {kind: stack.enter_context(serving(printing.console, home)) for kind in kinds}
        for kind, service in services.items():
            service.first()
            if kind != "well":
                service.pause(kind, PAUSE_SECONDS)
        well = services["well"]
        before = _memory(well, "VmRSS")
        end = time.monotonic() + ENOUGH_SECONDS
        while len(got["well"]) < rounds and time.monotonic() < end:
            for kind, service in services.items():
                got[kind].append(printing.take(service, statement, size))
        most = _memory(well, "VmHWM") - before
    if printing.in_pause:
        with serving(printing.console, home) as looping:
            looping.first()
            looping.pause("loop", PAUSE_SECONDS)
            end = time.monotonic() + ENOUGH_SECONDS
            while len(got["loop"]) < rounds and time.monotonic() < end:
                got["loop"].append(printing.take(looping, statement, size))
    cells = [_text(got.get(kind, []), size) for kind in ("well", "sleep", "loop")]
    return cells[0], cells[1], cells[2], f"{most:.0f}"


def _text(got: list[Output], size: int) -> str:
    """How fast; or how far the worst came, and how it ended."""
    if not got:
        return WAITS
    worst = min(got, key=lambda each: each.size)
    if worst.ended:
        return f"{worst.size / 1e6:.0f} MB in {worst.seconds:.0f} s, {worst.ended}"
    seconds = Spread.of([each.seconds for each in got])
    low, high = seconds.sure
    speed = f"{size / seconds.median / 1e6:.0f} MB/s"
    return f"{seconds.median:.2f} s [{low:.2f}, {high:.2f}], {speed}"


def _memory(service: Service, which: str) -> float:
    """The process's, in MB."""
    for line in Path(f"/proc/{service.server.pid}/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    return 0.0
