"""Is the cause right? Pauses of each kind are injected, and a confusion matrix is printed.

    python tests/benchmarks/causes.py [--count N] [--kinds KIND ...]

Each kind runs in a process of its own, with a real reactor; the lengths go from 1.2 thresholds
to 5 s. The rows in parentheses are the hard cases: two causes at once, whose true shares are
printed from the outside (how the pause was made) beside what was measured.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

THRESHOLD = 0.2
LONGEST = 5.0
CPU_GROUPS = Path("/sys/fs/cgroup/cpu")  # of version 1, where they need no preparation
Pauser = Callable[[float], object]


def python_loop(seconds: float) -> None:
    """Compute in Python."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(200))


def c_with_gil(seconds: float) -> None:
    """Compute in C that keeps the GIL."""
    numbers = [random.random() for _ in range(100_000)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sorted(numbers)


def c_without_gil(seconds: float) -> None:
    """Compute in C that gives the GIL up."""
    data = bytes(20_000_000)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hashlib.sha256(data).digest()


def blocking_recv(seconds: float) -> None:
    """Wait for a peer."""
    ours, theirs = socket.socketpair()
    timer = threading.Timer(seconds, theirs.send, (b"x",))
    timer.start()
    ours.recv(1)
    timer.join()
    ours.close()
    theirs.close()


def lock_acquire(seconds: float) -> None:
    """Wait for another thread's lock."""
    lock = threading.Lock()
    lock.acquire()
    timer = threading.Timer(seconds, lock.release)
    timer.start()
    lock.acquire()
    timer.join()


def subprocess_run(seconds: float) -> None:
    """Wait for another process."""
    subprocess.run(["sleep", str(seconds)], check=True)


def collect(seconds: float) -> None:
    """Collect garbage, in a heap that takes its time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        gc.collect()


def stand_still(seconds: float) -> None:
    """Be stopped as a whole, and continued."""
    pid = os.getpid()
    script = f"kill -STOP {pid}; sleep {seconds:.3f}; kill -CONT {pid}"
    subprocess.run(["sh", "-c", script], check=True)


def short_sleeps(each: float) -> Pauser:
    """Sleep again and again, for a short time each."""

    def pause(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(each)

    return pause


@contextmanager
def computing_threads(count: int, work: Callable[[], object] = lambda: None) -> Any:
    """Other threads of the process compute meanwhile."""
    on = True

    def compute() -> None:
        while on:
            work()

    threads = [threading.Thread(target=compute, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        on = False
        for thread in threads:
            thread.join()


@contextmanager
def busy_machine() -> Any:
    """Eight other processes compute, and ours is the least important."""
    os.nice(19)
    burn = [sys.executable, "-S", "-c", "while True: pass"]
    processes = [subprocess.Popen(burn) for _ in range(8)]
    for process in processes:
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def throttled() -> Any:
    """A container's quota: 30 ms of CPU in each 100 ms."""
    group = CPU_GROUPS / f"txwatchdog-{os.getpid()}"
    group.mkdir()
    (group / "cpu.cfs_period_us").write_text("100000")
    (group / "cpu.cfs_quota_us").write_text("30000")
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (CPU_GROUPS / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


@contextmanager
def huge_heap() -> Any:
    """Many containers for the collector to walk."""
    heap = [[i] for i in range(1_000_000)]
    yield
    heap.clear()


@contextmanager
def quiet() -> Any:
    """Nothing else goes on."""
    yield


def hashing() -> None:
    """Compute without the GIL."""
    hashlib.sha256(bytes(1_000_000)).digest()


def sorting() -> None:
    """Compute with the GIL, 100 ms at a time."""
    sorted(_NUMBERS)


_NUMBERS = [random.Random(1).random() for _ in range(200_000)]

# name -> the right cause (None: see the shares), what pauses, what goes on meanwhile.
KINDS: dict[str, tuple[str | None, Pauser, Callable[[], Any]]] = {
    "python loop": ("cpu", python_loop, quiet),
    "C with the GIL": ("cpu", c_with_gil, quiet),
    "C without the GIL": ("cpu", c_without_gil, quiet),
    "sleep": ("blocked", time.sleep, quiet),
    "recv": ("blocked", blocking_recv, quiet),
    "lock": ("blocked", lock_acquire, quiet),
    "subprocess": ("blocked", subprocess_run, quiet),
    "sleep beside Python": ("blocked", time.sleep, lambda: computing_threads(1)),
    "sleep beside hashing": ("blocked", short_sleeps(0.001), lambda: computing_threads(1, hashing)),
    "GIL, 3 Python threads": ("gil", python_loop, lambda: computing_threads(3)),
    "GIL, 3 threads that sort": ("gil", python_loop, lambda: computing_threads(3, sorting)),
    "starved": ("starved", python_loop, busy_machine),
    "throttled": ("starved", python_loop, throttled),
    "collector": ("gc", collect, huge_heap),
    "stopped": ("suspended", stand_still, quiet),
    "(1 ms sleeps beside Python)": (None, short_sleeps(0.001), lambda: computing_threads(1)),
    "(20 ms sleeps beside Python)": (None, short_sleeps(0.02), lambda: computing_threads(1)),
    "(loop beside 1 Python thread)": (None, python_loop, lambda: computing_threads(1)),
}


def lengths(count: int) -> list[float]:
    """From 1.2 thresholds to the longest, each longer than the last by the same factor."""
    shortest = 1.2 * THRESHOLD
    return [shortest * (LONGEST / shortest) ** (n / (count - 1)) for n in range(count)]


def inject(kind: str, count: int) -> None:
    """In a process of its own: pause, and print what was seen, a line of JSON each."""
    from twisted.internet import reactor, task
    from twisted.internet.defer import ensureDeferred

    from txwatchdog import Pause, Watchdog

    clock: Any = reactor
    _, pauser, around = KINDS[kind]

    def show(pause: Pause) -> None:
        asleep = [sample.asleep for sample in pause.samples]
        print(json.dumps({**pause.as_dict(), "asleep": asleep}), flush=True)

    watchdog = Watchdog(reactor, threshold=THRESHOLD)
    stack = ExitStack()

    async def run() -> None:
        watchdog.start()
        stack.enter_context(around())
        await task.deferLater(clock, 0.5)
        watchdog.on_pause(show)
        for seconds in lengths(count):
            pauser(seconds)
            await task.deferLater(clock, 0.3)
        stack.close()
        clock.stop()

    clock.callWhenRunning(lambda: ensureDeferred(run()))
    clock.run()


def measure(kind: str, count: int) -> list[dict[str, Any]]:
    """What a process that pauses so says of it; only the pauses that were injected."""
    command = [sys.executable, __file__, "--inject", kind, "--count", str(count)]
    shown = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    pauses = [json.loads(line) for line in shown.stdout.splitlines() if line.startswith("{")]
    return [pause for pause in pauses if pause["duration"] >= 1.1 * THRESHOLD]


def report(kind: str, pauses: list[dict[str, Any]]) -> bool:
    """Print a row; whether at least 95 % of it is right."""
    expected = KINDS[kind][0]
    found = Counter(pause["cause"] for pause in pauses)
    cells = "  ".join(f"{cause} {number}" for cause, number in found.most_common())
    right = found[expected] / len(pauses) if expected and pauses else 1.0
    total = sum(pause["duration"] for pause in pauses) or 1.0
    shares: Counter[str] = Counter()
    for pause in pauses:
        for cause, share in pause["shares"].items():
            shares[cause] += share * pause["duration"] / total
    mean = ", ".join(f"{share:.0%} {cause}" for cause, share in shares.most_common(3))
    verdict = f"{right:4.0%}" if expected else "    "
    print(f"{kind:30} {expected or '':10} {verdict}  {cells:32} [{mean}]", flush=True)
    return right >= 0.95


def main() -> None:
    """Measure all kinds, print the matrix, and fail if one is wrong too often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="pauses of each kind")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), help="only these")
    parser.add_argument("--inject", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inject:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        inject(options.inject, options.count)
        return
    print(f"Python {sys.version.split()[0]}, threshold {THRESHOLD} s, {options.count} of each")
    print(f"{'kind':30} {'cause':10} right  labelled                         [mean shares]")
    results = []
    for kind in options.kinds:
        if kind == "throttled" and not os.access(CPU_GROUPS / "tasks", os.W_OK):
            print(f"{kind:30} not measured: needs root, and {CPU_GROUPS} of version 1")
        else:
            results.append(report(kind, measure(kind, options.count)))
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
