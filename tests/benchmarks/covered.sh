#!/usr/bin/env bash
# Which lines and branches of src/ the tests reach, in all the processes that they start.
#
#     PYTHON=python3.13 tests/benchmarks/covered.sh [PYTEST OPTION...]
#
# In an environment of its own, which is removed again. Exit status: pytest's own if a test failed,
# else 2 if less than 95 % of the lines, of the branches or of both together are reached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install -q -e '.[test]' 'coverage>=7.10'
packages=$("$place/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')

# In the traced thread coverage takes a lock for each file that is new to it. What we raise from a
# signal's handler may break in there, so that the lock is never given back. The GIL does as well.
# And twistd ends by the signal that it got, once all is done, where coverage has it end by exit.
cat >"$packages/coverage_of_services.py" <<'END'
import os
import signal

from coverage import Coverage
from coverage.collector import Collector

# In C, for what is in Python there might be broken itself.
Collector.lock_data = Collector.unlock_data = staticmethod(int)
kill = os.kill


def save_and_kill(pid, number):
    if pid == os.getpid() and number and signal.getsignal(number) is signal.SIG_DFL:
        if (coverage := Coverage.current()) is not None:
            coverage.save()
    kill(pid, number)


os.kill = save_and_kill
END
echo 'import coverage_of_services' >"$packages/a0_coverage_of_services.pth"

export COVERAGE_FILE=$place/data
status=0
"$place/venv/bin/coverage" run -m pytest "$@" || status=$?
"$place/venv/bin/coverage" combine -q || true
rm -f "$place"/data.* # of a process that was killed as it wrote
"$place/venv/bin/coverage" report --show-missing --skip-covered
"$place/venv/bin/coverage" json -q -o "$place/covered.json"
"$place/venv/bin/python" - "$place/covered.json" <<'END' || status=$((status ? status : 2))
import json
import sys

with open(sys.argv[1]) as file:
    totals = json.load(file)["totals"]
lines = totals["covered_lines"], totals["num_statements"]
branches = totals["covered_branches"], totals["num_branches"]
both = lines[0] + branches[0], lines[1] + branches[1]
short = False
for what, (covered, of) in {"lines": lines, "branches": branches, "both": both}.items():
    print(f"{what:8} {100 * covered / of:5.1f} %  ({covered} of {of})")
    short |= covered < 0.95 * of
sys.exit(short)
END
exit "$status"
