"""What systemd is told: a socket that stands for it, and, where it can be had, the real one."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support import PATIENCE_SECONDS, Child, outcome

SECONDS = 0.6
"""WATCHDOG_USEC, in seconds: a word is due every 0.3 s."""


class Systemd:
    """A datagram socket that stands for systemd.

    Args:
        name: its path, or `@` and the name of an abstract one.
    """

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name.replace("@", "\0"))
        self._lines: list[str] = []

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def hear(self, part: str) -> list[str]:
        """Listen until a line with that in it has come; all that came since the last time."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not any(part in line for line in self._lines):
            left = deadline - time.monotonic()
            assert self._receive(left), f"no {part}: {self._lines}"
        return self._taken()

    def hear_for(self, seconds: float) -> list[str]:
        """All that comes in the next seconds, and came before."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._receive(left)
        return self._taken()

    def _receive(self, seconds: float) -> bool:
        self._socket.settimeout(max(seconds, 0.001))
        try:
            self._lines += self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return False
        return True

    def _taken(self) -> list[str]:
        taken, self._lines = self._lines, []
        return taken


def live(reactor: str, name: str) -> dict[str, list[str]]:
    """The life of a service, and what was heard in each part of it."""
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": f"{SECONDS * 1e6:.0f}"}
    heard: dict[str, list[str]] = {}
    with (
        closing(Systemd(name)) as systemd,
        Child("notifying.py", reactor, environ=environ) as child,
    ):
        heard["start"] = systemd.hear("WATCHDOG=1")
        child.expect("running")
        heard["idle"] = systemd.hear("WATCHDOG=1")
        child.tell("pause")
        child.expect("paused")
        heard["pause begins"] = systemd.hear("STATUS=paused")
        heard["pause lasts"] = systemd.hear_for(3 * SECONDS)
        child.tell("resume")
        child.expect("resumed")
        heard["pause ends"] = systemd.hear("the worst") + systemd.hear("WATCHDOG=1")
        child.tell("quit")
        heard["end"] = systemd.hear("STOPPING=1")
        assert [message["event"] for message in child.finish()] == ["ended"]
    return heard


@pytest.fixture(scope="module")
def lives(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[dict[str, list[str]]]]]:
    """A service on a socket with a file, and one on an abstract one."""
    path = str(tmp_path_factory.mktemp("systemd") / "notify")
    names = {"epoll": path, "asyncio": f"@txwatchdog-{os.getpid()}"}
    with ThreadPoolExecutor() as pool:
        yield {reactor: pool.submit(live, reactor, name) for reactor, name in names.items()}


Lives = dict[str, Future[dict[str, list[str]]]]


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
def test_ready_then_words_until_it_stops(reactor: str, lives: Lives) -> None:
    """READY comes first and once, words follow while the reactor waits, and STOPPING at its end."""
    heard = outcome(lives[reactor])
    words = [line for line in heard["start"] if not line.startswith("STATUS=")]
    assert words == ["READY=1", "WATCHDOG=1"]
    assert words != heard["start"]
    assert "WATCHDOG=1" in heard["idle"]
    assert "STOPPING=1" in heard["end"]
    assert sum(lines.count("READY=1") for lines in heard.values()) == 1


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
def test_no_word_in_a_pause(reactor: str, lives: Lives) -> None:
    """While the reactor is paused there is no word but the status; after it there is, at once."""
    heard = outcome(lives[reactor])
    assert "WATCHDOG=1" not in heard["pause lasts"]
    assert any("in read_word (integration/notifying.py:" in line for line in heard["pause lasts"])
    assert "WATCHDOG=1" in heard["pause ends"]
    assert any("in read_word" in line for line in heard["pause ends"])


UNIT = """[Service]
Type=notify
ExecStart={python} {script} {directory}
WatchdogSec=1
Restart=on-failure
RestartSec=0
"""

BOOT = """
echo $$ > {group}/cgroup.procs
exec unshare -m -p -C --fork --mount-proc --kill-child sh -ec '
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir -p {hierarchy}
mount -t {kind} cgroup {hierarchy}
{systemd} --user &
until [ -S "$XDG_RUNTIME_DIR/systemd/private" ]; do kill -0 $! || exit 1; sleep 0.05; done
systemctl --user start shop && echo started
until [ -f died ] && systemctl --user is-active -q shop; do sleep 0.05; done
systemctl --user show -p NRestarts -p StatusText shop
systemctl --user stop shop'
"""
"""In namespaces of its own: what it starts ends with it, and the machine's are not touched."""

HIERARCHIES = {
    "/sys/fs/cgroup/systemd": "cgroup -o none,name=systemd",
    "/sys/fs/cgroup": "cgroup2",
}
"""Where control groups are made that systemd can work with, the old way and the new."""


def test_a_real_systemd_restarts_a_service_that_hangs(tmp_path: Path) -> None:
    """It is started, hangs, is restarted by systemd, and tells where it hung."""
    systemd = Path("/lib/systemd/systemd")
    hierarchy = next((h for h in HIERARCHIES if os.access(f"{h}/cgroup.procs", os.W_OK)), "")
    if os.geteuid() or not hierarchy or not systemd.exists() or not shutil.which("unshare"):
        pytest.skip("a systemd of one's own takes root, systemd and control groups")
    units = tmp_path / "systemd" / "user"
    units.mkdir(parents=True)
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    script = Path(__file__).with_name("hanging_unit.py")
    (units / "shop.service").write_text(
        UNIT.format(python=sys.executable, script=script, directory=tmp_path)
    )
    group = Path(hierarchy) / f"txwatchdog-{os.getpid()}"
    boot = BOOT.format(
        systemd=systemd, group=group, hierarchy=hierarchy, kind=HIERARCHIES[hierarchy]
    )
    group.mkdir()
    try:
        found = subprocess.run(
            ["sh", "-c", boot],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "XDG_CONFIG_HOME": str(tmp_path),
                "XDG_RUNTIME_DIR": str(run),
            },
            timeout=PATIENCE_SECONDS,
            capture_output=True,
            text=True,
        )
    finally:
        for each, _, _ in os.walk(group, topdown=False):
            Path(each).rmdir()
    if "started" not in found.stdout:
        pytest.skip(f"systemd does not run here: {found.stderr}")
    assert "NRestarts=1" in found.stdout
    assert re.search(r"StatusText=(no|\d+) pause", found.stdout)
    assert re.fullmatch(
        r"the last run died while paused for at least \d+\.\d s"
        r" in wait_for_approval \(integration/hanging_unit\.py:\d+\) via wait",
        (tmp_path / "died").read_text(),
    )
