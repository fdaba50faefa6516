"""What all sections use: tables, medians with their spread, the machine's facts, children."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import twisted
from attrs import define, field, frozen

__all__ = ["HERE", "ROOT", "Bench", "Spoken", "Spread", "Table", "child", "facts", "goal", "millis"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_SECONDS = 60.0


@frozen
class Spread:
    """Many measurements of one thing.

    Attributes:
        values: all of them.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of `values`."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of them is below the first, a quarter above the second."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4)
        return low, high

    @property
    def sure(self) -> tuple[float, float]:
        """Where the true median lies, with 95 % certainty: the sign test's interval."""
        ordered, count = sorted(self.values), len(self.values)
        reach = int(0.98 * count**0.5)
        return ordered[max(0, count // 2 - reach)], ordered[min(count - 1, count // 2 + reach)]

    def p(self, percent: float) -> float:
        """What so many percent do not exceed."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def text(self, form: str = ".3f") -> str:
        """The median and, in brackets, where the true one lies."""
        low, high = self.sure
        return f"{self.median:{form}} [{low:{form}}, {high:{form}}]"

    def __bool__(self) -> bool:
        return bool(self.values)


@define
class Table:
    """What a section found. A cell is text, or a number with a text for people.

    Attributes:
        title: what it is about.
        columns: their names.
        rows: the cells.
        notes: what a reader must know.
        figures: the numbers behind it, for `--json`.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[object]] = field(factory=list)
    notes: list[str] = field(factory=list)
    figures: dict[str, Any] = field(factory=dict)

    def markdown(self) -> str:
        """As the README has it."""
        lines = [f"**{self.title}**", ""]
        if self.rows:
            lines += [_line(self.columns), _line(["---"] * len(self.columns))]
            lines += [_line(row) for row in self.rows]
            lines.append("")
        lines += [f"{note}\n" for note in self.notes]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        rows = [dict(zip(self.columns, map(str, row), strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": self.notes, "figures": self.figures}


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


@frozen
class Bench:
    """One run.

    Attributes:
        quick: fewer repetitions.
        say: tells people how far it is.
        minutes: how long to wait for false alarms.
    """

    quick: bool
    say: Callable[[str], None]
    minutes: float = 5.0

    def times(self, full: int, quick: int) -> int:
        """How often to repeat something."""
        return quick if self.quick else full


def goal(reached: bool) -> str:  # noqa: D103
    return "yes" if reached else "**no**"


def millis(seconds: float) -> str:
    """Seconds, as a text in ms."""
    return f"{seconds * 1000:.{3 if seconds < 0.01 else 1}f} ms"


def facts() -> dict[str, str]:
    """What one must know of the machine; not its name."""
    quota = _quota()
    return {
        "cores": f"{len(os.sched_getaffinity(0))}{quota}",
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "Twisted": twisted.__version__,
        "load": " ".join(f"{each:.1f}" for each in os.getloadavg()),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _quota() -> str:
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return f", quota {int(quota) / int(period):g}"
    return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


class Spoken:
    """A child that says a JSON object a line, and takes words on its standard input.

    If it keeps silent for a minute longer than it should it is killed, and `hear` raises.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def hear(self, seconds: float = 0.0) -> dict[str, Any]:
        """The next thing that it says, which should come within so many seconds."""
        assert self.process.stdout is not None
        timer = threading.Timer(seconds + PATIENCE_SECONDS, self.process.kill)
        timer.start()
        try:
            while line := self.process.stdout.readline():
                if line.startswith("{"):
                    heard: dict[str, Any] = json.loads(line)
                    return heard
        finally:
            timer.cancel()
        raise RuntimeError(f"the child ended or hung, status {self.process.wait()}")

    def ask(self, word: str) -> dict[str, Any]:
        """Say a word, and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.hear()


@contextlib.contextmanager
def child(
    script: str, *arguments: object, python: str | Path = sys.executable, stderr: Any = None
) -> Iterator[Spoken]:
    """Run `script`, a file beside this one or `-c`, and end it afterwards."""
    paths = (ROOT / "src", ROOT / "tests" / "integration", ROOT / "tests")
    process = subprocess.Popen(
        [str(python), script if script == "-c" else str(HERE / script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
    )
    try:
        yield Spoken(process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
