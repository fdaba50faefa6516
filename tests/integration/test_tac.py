"""The README's shop.tac, as twistd runs it: in the foreground, and as a daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest
from attrs import frozen
from manhole_support import PATIENCE, SOURCE, make_key, make_keys
from support import outcome, patiently

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
STATEMENT = (
    "import time; time.sleep(0.7);"
    " print(*[type(each).__name__ for each in service.services],"
    " service.services[0].watchdog is watchdog)"
)


@frozen
class Life:
    """What was seen of a run.

    Attributes:
        answer: what the console made of `STATEMENT`.
        top: the worst offender then.
        rings: the black box's state then.
        code: the exit status; a daemon's is not known.
        left: files that were there before and after its end.
        log: all that it logged.
    """

    answer: str
    top: str
    rings: str
    code: int | None
    left: list[str]
    log: str


def _live(directory: Path, *, daemon: bool) -> Life:
    directory.mkdir()
    key = make_key(directory, "id")
    make_keys(directory, key)
    path = directory / "manhole"
    log = directory / "log"
    (source,) = re.findall(r"```python\n(# shop\.tac:.*?)```", README.read_text(), re.DOTALL)
    source = source.replace('"tcp:2222:interface=127.0.0.1"', f'"unix:{path}"')
    source = source.replace('"tcp:8080"', '"tcp:0:interface=127.0.0.1"')
    (directory / "shop.tac").write_text(source)
    twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    twistd += ["-y", "shop.tac", "--pidfile", "pid"]
    twistd += ["--logfile", str(log)] if daemon else ["--logfile", "-", "-n"]
    with log.open("ab") as stdout:
        process = subprocess.Popen(
            twistd, cwd=directory, stdout=stdout, env={**os.environ, "PYTHONPATH": str(SOURCE)}
        )

    def ask(statement: str) -> str:
        ssh = ["ssh", "-F", "/dev/null", "-i", str(key), "-o", "BatchMode=yes"]
        ssh += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={directory}/known"]
        ssh += ["-o", f"ProxyCommand={sys.executable} {HERE / 'unix_proxy.py'} {path}"]
        asked = [*ssh, "-o", "LogLevel=ERROR", "shop", statement]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE)
        assert found.returncode == 0, found.stderr + log.read_text()
        return found.stdout.strip()

    pid = process.pid
    try:
        patiently(lambda: path.exists() or process.poll(), "the manhole listens")
        if daemon:
            assert process.wait(PATIENCE) == 0
            pid = int((directory / "pid").read_text())
        answer = ask(STATEMENT)
        top = ask("watchdog.top(1, by='worst')[0].function")
        rings = ask("watchdog.status().rings['blackbox']")
        os.kill(pid, signal.SIGTERM)
        patiently(lambda: not (directory / "pid").exists(), "twistd ends")
        code = None if daemon else process.wait(PATIENCE)
        patiently(lambda: not Path(f"/proc/{pid}").exists(), "the process is gone")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        process.wait(PATIENCE)
    left = [name for name in ("manhole", "blackbox", "pid") if (directory / name).exists()]
    return Life(answer, top, rings, code, left, log.read_text())


Lives: TypeAlias = dict[str, "Future[Life]"]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    """Both runs, at the same time."""
    root = tmp_path_factory.mktemp("tac")
    with ThreadPoolExecutor() as pool:
        yield {
            name: pool.submit(_live, root / name, daemon=name == "daemon")
            for name in ("foreground", "daemon")
        }


@pytest.mark.parametrize("name", ["foreground", "daemon"])
def test_it_is_watched_and_answers(name: str, lives: Lives) -> None:
    """The console answers, finds the services, and the pause that it made is on record."""
    life = outcome(lives[name])
    assert life.answer == "WatchdogService StreamServerEndpointService True"
    assert life.top.startswith("'manhole: ")
    assert re.search(r"on, .*/blackbox", life.rings)


@pytest.mark.parametrize("name", ["foreground", "daemon"])
def test_it_ends_and_leaves_nothing(name: str, lives: Lives) -> None:
    """SIGTERM ends it: the socket file is gone, the black box stays; no traceback is logged."""
    life = outcome(lives[name])
    assert life.left == ["blackbox"]
    # By the very signal: so twistd tells whoever started it.
    assert life.code == (None if name == "daemon" else -signal.SIGTERM)
    assert "Traceback" not in life.log
    assert "Unhandled" not in life.log
