"""The black box in real processes with real reactors, killed and started again."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from blackbox_support import (
    SECONDS,
    is_paused,
    kill,
    next_word,
    record,
    script,
    seconds,
    service,
    stacks,
    until,
)

from txwatchdog.lastrun import EMPTY, SLOTS_AT, STACKS_AT

REPORT = """
def service():
    found = watchdog.status().last_run
    say("last", found)
    if found:
        say("status", any(str(found) in line for line in str(watchdog.status()).splitlines()))
        say(repr(found.traceback))
    reactor.stop()
"""

QUIET = """
def service():
    say("ready")
"""

SLEEP = """
def slow():
    time.sleep(1000)

def service():
    reactor.callLater(0, slow)
"""

HANG = """
def endless():
    sum(range(10**15))  # C code that holds the GIL and looks for no signal

def service():
    reactor.callLater(0, endless)
"""


def report(path: Path) -> tuple[str, str]:
    """What the next start says of the last run, and its log."""
    with service(path, script(REPORT)) as process:
        said, log = process.communicate(timeout=SECONDS)
    # The last run's own stack, and no other: nothing went wrong in this one.
    assert "Traceback" not in re.sub(r"Traceback \(most recent call last\):\n\t  [F…]", "", log)
    return said, log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the box is."""
    return tmp_path / "box"


@pytest.mark.parametrize("reactor", ["epollreactor", "selectreactor", "asyncioreactor"])
def test_killed_in_a_pause(path: Path, reactor: str) -> None:
    """The next start logs and shows where a killed process had been paused, and for how long."""
    with service(path, script(SLEEP, reactor=reactor)) as process:
        until(lambda: path.exists() and seconds(path) > 0.3)
        kill(process)
    said, log = report(path)
    found = re.search(r"last the last run died while paused for at least (\S+) s in slow \(", said)
    assert found
    assert 0.3 <= float(found[1]) < SECONDS
    assert "service0.py:" in said
    assert "status True" in said
    assert "time.sleep(1000)" in said
    assert "[txwatchdog.blackbox#critical] the last run died while paused for at least" in log
    assert "Traceback (most recent call last):" in log
    assert "last None" in report(path)[0]


@pytest.mark.parametrize("options", ["", ", rings=('thread',)"])
def test_killed_while_c_code_holds_the_gil(path: Path, options: str) -> None:
    """C code that never gives the GIL back is named, with and without ring 2."""
    with service(path, script(HANG, options=options)) as process:
        until(lambda: path.exists() and stacks(path) >= 2)
        assert process.poll() is None
        kill(process)
    said, log = report(path)
    found = re.search(r"last the last run died while paused for at least (\S+) s in endless", said)
    assert found
    assert float(found[1]) >= 1.0
    assert "in C code that held the GIL" in said
    assert "sum(range(10**15))" in said
    assert "#critical" in log
    assert path.stat().st_size == STACKS_AT


def test_a_reactor_in_another_thread(path: Path) -> None:
    """Where the reactor is not in the main thread, its stack is the one that is written."""
    run = """
import threading
watchdog.start()
reactor.callLater(0.01, when_on, service)
thread = threading.Thread(target=reactor.run, args=(False,))
thread.start()
thread.join()  # a main thread that ends lets nobody start threads any more in Python 3.12.1
"""
    with service(path, script(HANG, run=run)) as process:
        until(lambda: path.exists() and stacks(path) >= 1)
        kill(process)
    assert " s in endless (" in report(path)[0]


def test_a_regular_expression(path: Path) -> None:
    """C code that holds the GIL, but looks for signals, is named, too."""
    code = """
def match():
    import re
    re.match(r"(a|aa)+$", "a" * 100 + "b")

def service():
    reactor.callLater(0, match)
"""
    with service(path, script(code)) as process:
        until(lambda: path.exists() and (is_paused(path) or stacks(path) >= 2))
        kill(process)
    assert " s in match (" in report(path)[0]


def test_killed_while_idle(path: Path) -> None:
    """A process that was killed while its reactor waited did not die paused."""
    with service(path, script(QUIET)) as process:
        assert next_word(process).startswith("box on")
        assert next_word(process) == "ready"
        kill(process)
    said, log = report(path)
    assert "last None" in said
    assert "txwatchdog.blackbox" not in log


def test_killed_after_a_pause(path: Path) -> None:
    """A pause that ended is cleared from the box, with or without the GIL."""
    code = """
def service():
    reactor.callLater(0, time.sleep, 0.4)
    reactor.callLater(0.6, lambda: sum(range(int(sys.argv[2] if sys.argv[2:] else 5 * 10**7))))
    reactor.callLater(0.7, say, "woke")
"""
    with service(path, script(code)) as process:
        next_word(process)
        assert next_word(process) == "woke"
        until(lambda: not is_paused(path) and path.stat().st_size == STACKS_AT)
        kill(process)
    assert "last None" in report(path)[0]


@pytest.mark.parametrize(
    "end", ["reactor.stop()", "watchdog.stop(); os._exit(0)", "raise SystemExit"]
)
def test_a_clean_end(path: Path, end: str) -> None:
    """A run that ends, or stops the watchdog, says so in the box, whose mode is 0600."""
    code = f"""
def service():
    {end}
"""
    run = """
watchdog.start()
reactor.callLater(0.01, when_on, service)
try:
    reactor.run()
finally:
    say("over")
"""
    with service(path, script(code, run=run)) as process:
        next_word(process)
        if "SystemExit" in end:  # Twisted logs it, and goes on
            until(lambda: record(path) is not None)
            process.terminate()
        process.communicate(timeout=SECONDS)
    found = record(path)
    assert found is not None
    assert found.state == "clean"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "last None" in report(path)[0]


def test_an_exit_without_a_stop_is_clean(path: Path) -> None:
    """A process that exits while the watchdog is on leaves a clean mark, and ends as it should."""
    run = """
watchdog.start()
reactor.startRunning()
reactor.iterate(0.05)
while "does not run" in box():
    reactor.iterate(0.05)
sys.exit(7)
"""
    with service(path, script("", run=run)) as process:
        process.communicate(timeout=SECONDS)
        assert process.returncode == 7
    found = record(path)
    assert found is not None
    assert found.state == "clean"


def test_stop_leaves_nothing(path: Path) -> None:
    """Started and stopped many times, nothing is left: no descriptor, timer, signal or lock."""
    code = """
def left():
    caught = next(l for l in open("/proc/self/status") if l.startswith("SigCgt"))
    timers = open("/proc/self/timers").read() if os.path.exists("/proc/self/timers") else ""
    return len(os.listdir("/proc/self/fd")), caught, timers, watchdog.running

def again(times, before):
    watchdog.stop()
    now = left()
    if before not in (None, now):
        say("left", before, now)
    if not times:
        say("done", box())
        reactor.stop()
        return
    watchdog.start()
    reactor.callLater(0, when_ready, times - 1, now)

def when_ready(*args):
    if box().startswith("on"):
        again(*args)
    else:
        reactor.callLater(0.01, when_ready, *args)

def service():
    again(20, None)
"""
    with service(path, script(code)) as process:
        next_word(process)
        assert next_word(process) == "done off: the watchdog is stopped"


def test_someone_elses_timer_still_fires(path: Path) -> None:
    """faulthandler.dump_traceback_later is someone else's, be it set before us or after."""
    code = """
def service():
    other = open(PATH + ".other", "w")
    faulthandler.dump_traceback_later(0.5, file=other)
    say("ready")
"""
    early = """
other = open(PATH + ".early", "w")
faulthandler.dump_traceback_later(0.5, file=other)
"""
    for name, text in (
        ("other", script(code)),
        ("early", script(QUIET, run=early + script("").partition("call()\n")[2])),
    ):
        theirs = Path(f"{path}.{name}")
        with service(path, text) as process:
            next_word(process)
            assert next_word(process) == "ready"
            until(lambda file=theirs: "Timeout (0:00:00.500000)!" in file.read_text())  # type: ignore[misc]
            kill(process)


def test_two_processes(path: Path) -> None:
    """A second process with the same path says so, keeps off, and harms nothing."""
    with service(path, script(SLEEP)) as process:
        until(lambda: path.exists() and is_paused(path))
        said, log = report(path)
        assert f"box off: {path}: process {process.pid} uses it" in said
        assert "last None" in said
        assert f"process {process.pid} uses it; each process needs one of its own" in log
        assert is_paused(path)
        kill(process)
    assert "s in slow (" in report(path)[0]


def test_a_forked_child(path: Path) -> None:
    """A child that outlives its parent neither writes the box nor keeps it locked."""
    code = """
def service():
    child = os.fork()
    if child == 0:
        say("child", box())
        watchdog.stop()
        time.sleep(1000)
    say("parent", child, box()[:2])
"""
    with service(path, script(code)) as process:
        assert next_word(process).startswith("box on")
        words = sorted(next_word(process) for _ in range(2))
        assert words[0] == "child off: the black box is the parent process's"
        assert words[1].endswith("on")
        child = int(words[1].split()[1])
        try:
            found = record(path)
            assert found is not None
            assert (found.state, found.pid) == ("running", process.pid)
            kill(process)
            assert "box on" in report(path)[0]
        finally:
            os.kill(child, 9)


def test_a_daemon_forks_before_the_reactor_runs(path: Path) -> None:
    """A watchdog that was started before the process became a daemon has its box."""
    run = """
watchdog.start()
if os.fork():
    os._exit(os.wait() and 0)
reactor.callLater(0.01, when_on, service)
reactor.run()
"""
    code = """
def service():
    say("over")
    reactor.stop()
"""
    with service(path, script(code, run=run)) as process:
        assert next_word(process).startswith("box on")
        assert next_word(process) == "over"
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("damage", ["torn", "truncated", "flipped", "zeros"])
def test_a_damaged_box(path: Path, damage: str) -> None:
    """A box that was damaged is recognised, logged and used again."""
    data = bytearray(EMPTY)
    data[SLOTS_AT[0] : SLOTS_AT[0] + 30] = b"000000ff 01234567\n{something}\n"
    if damage == "truncated":
        del data[20:]
    elif damage == "flipped":
        data[SLOTS_AT[1] : SLOTS_AT[1] + 300] = bytes(range(150)) * 2
    elif damage == "zeros":
        data[SLOTS_AT[0] :] = bytes(10)
    path.write_bytes(data)
    said, log = report(path)
    assert "box on" in said
    assert "last None" in said
    assert f"the black box {path} is damaged" in log


def test_an_empty_file(path: Path) -> None:
    """An empty file becomes a box, and no word is lost about it."""
    path.touch(0o644)
    said, log = report(path)
    assert "box on" in said
    assert "txwatchdog.blackbox" not in log
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_something_else(path: Path) -> None:
    """A file that is no box is not overwritten."""
    path.write_bytes(b"precious")
    said, _ = report(path)
    assert f"box off: {path}: it is something else than a black box, and stays as it is" in said
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["directory", "fifo", "no folder"])
def test_what_can_be_no_box(path: Path, kind: str) -> None:
    """Whatever the path is, the watchdog starts, and status and log say what is wrong."""
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    target = path / "x" if kind == "no folder" else path
    with service(path, script(REPORT, options="").replace("sys.argv[1]", repr(str(target)))) as it:
        said, log = it.communicate(timeout=SECONDS)
    message = {
        "directory": "Is a directory",
        "fifo": "it is not a regular file",
        "no folder": "No such file or directory",
    }[kind]
    assert f"box off: {target}: {message}" in said
    assert log.count(message) == 1


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("os.setuid(65534)", "Permission denied"),
        ("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))", "File too"),
    ],
)
def test_a_file_that_cannot_be_written(path: Path, before: str, message: str) -> None:
    """Without permission or room, the box is off, and the watchdog starts anyway."""
    if "setuid" in before:
        if os.getuid() != 0:
            pytest.skip("only root can become someone without permission")
        path.touch(0o600)
        path.parent.chmod(0o755)
    run = f"""
{before}
watchdog.start()
reactor.callLater(0.01, when_on, service)
reactor.run()
"""
    with service(path, script(REPORT, run=run)) as process:
        said, log = process.communicate(timeout=SECONDS)
    assert f"box off: {path}: {message}" in said, log


def test_a_write_that_fails_later(path: Path) -> None:
    """A disk that fails in a pause is named in status and log once, and nothing else changes."""
    code = """
import resource
def service():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    reactor.callLater(0, time.sleep, 0.5)
    reactor.callLater(0.1, lambda: (say(box()), reactor.stop()))
"""
    with service(path, script(code)) as process:
        said, log = process.communicate(timeout=SECONDS)
    assert f"on, {path}; a write to it failed: File too large" in said
    assert log.count("a write to it failed") == 1
    assert process.returncode == 0


def test_the_watchdog_needs_a_thread_to_write() -> None:
    """The black box without the watch thread, or without a path, is a ValueError."""
    code = (
        "from twisted.internet import reactor\nfrom txwatchdog import Watchdog\n"
        "for options in ({'rings': 'sigalrm', 'blackbox': 'x'},"
        " {'blackbox': 3}, {'blackbox': ''}):\n"
        "    try: Watchdog(reactor, **options)\n"
        "    except ValueError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.count("blackbox must be the path of a file") == 2
    assert "blackbox goes with the watch thread" in run.stdout
