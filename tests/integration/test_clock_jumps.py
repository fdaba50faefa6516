"""Someone sets the clock of the day while a service runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from jumper import DOZE
from support import Child

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long seconds;

void set_clock(long to) { seconds = to; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += seconds;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc, to stand before the C library")
def test_the_clock_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forth and back by an hour: each pause is seen, as long as it was, and when it was."""
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "clock.c"), "-ldl"]
    subprocess.run(command, check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    with Child("jumper.py") as child:
        monkeypatch.undo()
        *pauses, status = child.finish()
    assert [pause["hours"] for pause in pauses] == [0, 1, 0, -1, 0]
    for pause in pauses:
        assert DOZE <= pause["duration"] < DOZE + 30, pause
        assert 0 <= pause["ago"] < 60, pause
        assert pause["cause"] != "suspended", pause
    assert status["error"] is None
    assert status["lost"] == 0
    assert 0 <= status["utilisation"] <= 1
