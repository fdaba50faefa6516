"""`python -m tests.benchmarks`: measures everything, and prints the tables that README carries."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .harness import ROOT, Bench, facts

sys.path.extend(str(ROOT / "tests" / each) for each in ("integration", "unit"))

SECTIONS = {
    "detection": "which pauses are seen, how soon, and who is named",
    "false_alarms": "what a reactor that is not paused is reported for, on an overloaded machine",
    "overhead": "what it costs a service that is well",
    "growth": "what many pauses, functions, connections and frames do; memory",
    "console": "how soon a console answers, and during a pause",
    "probe": "what the probe does to a tick, and how far that is from the floor",
}
"""Module -> what it measures."""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    told = "; ".join(f"{name}: {what}" for name, what in SECTIONS.items())
    parser.add_argument("--only", action="append", choices=SECTIONS, help=told)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--minutes", type=float, default=5.0, help="of false_alarms")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the numbers, too")
    options = parser.parse_args()
    # So that children are ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    began = time.monotonic()
    bench = Bench(
        options.quick,
        lambda text: _say(f"{time.monotonic() - began:6.0f} s  {text}"),
        options.minutes,
    )
    known = facts()
    everything: dict[str, Any] = {"facts": known, "quick": options.quick, "sections": {}}
    print("; ".join(f"{name} {fact}" for name, fact in known.items()))
    if options.quick:
        print("\nQuick: fewer repetitions than the figures in README have.")
    for name in options.only or SECTIONS:
        started = time.monotonic()
        section = importlib.import_module(f".{name}", __package__)
        tables = everything["sections"][name] = []
        print(f"\n### {name}: {SECTIONS[name]}\n")
        for table in section.run(bench):
            print(table.markdown(), flush=True)
            tables.append(table.as_dict())
        print(f"({time.monotonic() - started:.0f} s)")
    if options.json:
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
