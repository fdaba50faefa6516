#!/usr/bin/env bash
# Which lines and branches of src/ the tests reach, in all the processes that they start.
#
#     PYTHON=python3.13 tests/benchmarks/covered.sh [PYTEST OPTION...]
#
# In an environment of its own, which is removed again. Exit status 2 if less than 95 % are reached,
# or pytest's own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install -q -e '.[test]' 'coverage>=7.10'
packages=$("$place/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')

# In the traced thread coverage takes a lock for each file that is new to it. What we raise from a
# signal's handler may break in there, so that the lock is never given back. The GIL does as well.
cat >"$packages/coverage_without_lock.py" <<'END'
from coverage.collector import Collector

Collector.lock_data = Collector.unlock_data = lambda self: None
END
echo 'import coverage_without_lock' >"$packages/a0_coverage_without_lock.pth"

export COVERAGE_FILE=$place/data
status=0
"$place/venv/bin/coverage" run -m pytest "$@" || status=$?
"$place/venv/bin/coverage" combine -q || true # a process that was killed as it wrote is left out
"$place/venv/bin/coverage" report --show-missing --skip-covered --fail-under=95
exit "$status"
