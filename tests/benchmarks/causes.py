"""Is the cause right? Pauses of each kind are injected, and a confusion matrix is printed.

    python tests/benchmarks/causes.py [--count N] [--kinds KIND ...]

Each kind runs in a process of its own, with a real reactor; the lengths go from 1.2 thresholds
to 5 s. A pause that was not seen counts as wrong. The rows in parentheses are the hard cases, two
causes at once: what is right is what took most of the pause by the pauser's own account (its CPU
time, and how often it slept), which is printed beside what was measured. They fail nothing.
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
FREEZERS = Path("/sys/fs/cgroup/freezer")
Pauser = Callable[[float], object]
Record = dict[str, Any]


def python_loop(seconds: float) -> dict[str, float]:
    """Compute in Python. Returns: the true shares, if nothing but the GIL keeps it from that."""
    began, computed = time.monotonic(), time.thread_time()
    while time.monotonic() < began + seconds:
        sum(range(200))
    cpu = (time.thread_time() - computed) / (time.monotonic() - began)
    return {"cpu": cpu, "gil": 1 - cpu}


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


def freeze(seconds: float) -> None:
    """Be frozen as a whole, as a container is, and thawed by a process outside of it."""
    state = FREEZERS / _group() / "freezer.state"
    script = f"""
        echo $$ > {FREEZERS}/cgroup.procs
        echo FROZEN > {state}; sleep {seconds:.3f}; echo THAWED > {state}
    """
    subprocess.run(["sh", "-c", script], check=True)


def _group() -> str:
    return f"txwatchdog-{os.getpid()}"


def short_sleeps(each: float) -> Pauser:
    """Sleep again and again, for a short time each."""

    def pause(seconds: float) -> dict[str, float]:
        began, computed, slept = time.monotonic(), time.thread_time(), 0.0
        while time.monotonic() < began + seconds:
            time.sleep(each)
            slept += each  # what it slept longer counts as waiting for the GIL: 0.1 ms, say
        took = time.monotonic() - began
        cpu = (time.thread_time() - computed) / took
        return {"blocked": slept / took, "cpu": cpu, "gil": 1 - cpu - slept / took}

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
    group = CPU_GROUPS / _group()
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
def freezable() -> Any:
    """A container that can be frozen."""
    group = FREEZERS / _group()
    group.mkdir()
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (FREEZERS / "cgroup.procs").write_text(str(os.getpid()))
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

# name -> the right cause (None: what took most, by the pauser's own account), what pauses, what
# goes on meanwhile.
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
    "frozen": ("suspended", freeze, freezable),
    "(1 ms sleeps beside Python)": (None, short_sleeps(0.001), lambda: computing_threads(1)),
    "(20 ms sleeps beside Python)": (None, short_sleeps(0.02), lambda: computing_threads(1)),
    "(loop beside 1 Python thread)": (None, python_loop, lambda: computing_threads(1)),
}


NEEDS = {"throttled": CPU_GROUPS, "frozen": FREEZERS}
"""Kinds that need root, and these control groups, of version 1."""


def lengths(count: int) -> list[float]:
    """From 1.2 thresholds to the longest, each longer than the last by the same factor."""
    shortest = 1.2 * THRESHOLD
    return [shortest * (LONGEST / shortest) ** (n / (count - 1)) for n in range(count)]


def inject(kind: str, count: int) -> None:
    """In a process of its own: pause, and print what was seen of it, a line of JSON for each."""
    from twisted.internet import reactor, task
    from twisted.internet.defer import ensureDeferred

    from txwatchdog import Pause, Watchdog

    clock: Any = reactor
    _, pauser, around = KINDS[kind]
    seen: list[Pause] = []
    watchdog = Watchdog(reactor, threshold=THRESHOLD)
    stack = ExitStack()

    async def pause_of(began: float, ended: float) -> Pause | None:
        """The pause that has most of that time, if one has half of it, once it is recorded."""

        def shared(pause: Pause) -> float:
            start = pause.started_at.timestamp()
            return min(ended, start + pause.duration) - max(began, start)

        for _ in range(30):
            await task.deferLater(clock, 0.3)
            if seen and shared(most := max(seen, key=shared)) > (ended - began) / 2:
                return most
        return None

    async def run() -> None:
        watchdog.start()
        stack.enter_context(around())
        await task.deferLater(clock, 0.5)
        watchdog.on_pause(seen.append)
        for seconds in lengths(count):
            began = time.time()
            true = pauser(seconds)
            pause = await pause_of(began, time.time())
            told = {"cause": "missed", "shares": {}, "duration": seconds}
            print(json.dumps({"true": true, **(pause.fields() if pause else told)}), flush=True)
            seen.clear()
        stack.close()
        clock.stop()

    clock.callWhenRunning(lambda: ensureDeferred(run()))
    clock.run()


def measure(kind: str, count: int) -> list[Record]:
    """What a process that pauses so says of each pause that was injected."""
    command = [sys.executable, __file__, "--inject", kind, "--count", str(count)]
    shown = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    pauses = [json.loads(line) for line in shown.stdout.splitlines() if line.startswith("{")]
    assert len(pauses) == count, f"{len(pauses)} of {count} were injected: {kind}"
    return pauses


def report(kind: str, pauses: list[Record]) -> bool:
    """Print a row; whether at least 95 % of it is right, or it is a hard one."""
    expected = KINDS[kind][0]
    found = Counter(pause["cause"] for pause in pauses)
    cells = "  ".join(f"{cause} {number}" for cause, number in found.most_common())
    right = sum(
        pause["cause"] == (expected or max(pause["true"], key=pause["true"].__getitem__))
        for pause in pauses
    ) / len(pauses)
    told = f"[{mean_shares(pauses, 'shares')}]"
    if expected is None:
        told += f" true: [{mean_shares(pauses, 'true')}]"
    print(f"{kind:30} {expected or '':10} {right:4.0%}  {cells:32} {told}", flush=True)
    return expected is None or right >= 0.95


def mean_shares(pauses: list[Record], field: str) -> str:
    """The largest of the shares, weighed by how long the pauses were."""
    total = sum(pause["duration"] for pause in pauses)
    shares: Counter[str] = Counter()
    for pause in pauses:
        for cause, share in pause[field].items():
            shares[cause] += share * pause["duration"] / total
    return ", ".join(f"{share:.0%} {cause}" for cause, share in shares.most_common(3))


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
        groups = NEEDS.get(kind)
        if groups and not os.access(groups / "tasks", os.W_OK):
            print(f"{kind:30} not measured: needs root, and {groups} of version 1")
        else:
            results.append(report(kind, measure(kind, options.count)))
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
