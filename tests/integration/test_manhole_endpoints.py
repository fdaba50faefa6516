"""Other endpoints than tcp:, with the real ssh: a socket file, and sockets of systemd's."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest
from manhole_support import ServiceProcess
from support import outcome

HERE = Path(__file__).parent
PROXIES = {
    "python": shlex.join([sys.executable, str(HERE / "unix_proxy.py")]),
    "nc": "nc -U",
}


def _start(directory: Path, kind: str) -> ServiceProcess:
    directory.mkdir()
    path = directory / "manhole"
    activated = (sys.executable, str(HERE / "activate.py"))
    if kind == "unix":
        return ServiceProcess(directory, f"unix:{path}:mode=660")
    if kind == "systemd, INET":
        return ServiceProcess(directory, "systemd:domain=INET:index=0", launcher=(*activated, "0"))
    return ServiceProcess(
        directory, "systemd:domain=UNIX:name=manhole", launcher=(*activated, str(path))
    )


Services: TypeAlias = dict[str, "Future[ServiceProcess]"]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A service on each kind of endpoint."""
    root = tmp_path_factory.mktemp("m")  # short, for a socket's path must be
    kinds = ("unix", "systemd, INET", "systemd, UNIX")
    with ThreadPoolExecutor() as pool:
        started = {
            kind: pool.submit(_start, root / str(number), kind) for number, kind in enumerate(kinds)
        }
        yield started
        for each in started.values():
            if not each.exception():
                each.result().close()


def _ask(service: ServiceProcess, *command: str, proxy: str = "python") -> str:
    options = ["-o", "BatchMode=yes"]
    if service.port == 22:  # a socket file
        options += ["-o", f"ProxyCommand={PROXIES[proxy]} {service.directory / 'manhole'}"]
    answer = service.ssh(*command, options=options)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.mark.parametrize("kind", ["unix", "systemd, INET", "systemd, UNIX"])
def test_it_answers_stops_and_starts_again(kind: str, services: Services) -> None:
    """It answers there, and again after it was stopped and started, with no descriptor more."""
    service = outcome(services[kind])
    for _ in range(3):
        assert _ask(service, "watchdog.running") == "True"
        before = _ask(service, "len(__import__('os').listdir('/proc/self/fd'))")
        _ask(service, "service.stop_manhole()")
        assert service.announced()["address"] == "None"
    assert _ask(service, "len(__import__('os').listdir('/proc/self/fd'))") == before


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_socket_file_has_the_mode_that_was_asked_for(proxy: str, services: Services) -> None:
    """unix: with mode= makes a file of that mode; ssh gets there by a ProxyCommand."""
    if proxy == "nc" and not shutil.which("nc"):
        pytest.skip("nc is not installed")
    service = outcome(services["unix"])
    assert stat.filemode((service.directory / "manhole").stat().st_mode) == "srw-rw----"
    assert _ask(service, "6 * 7", proxy=proxy) == "42"


def test_it_answers_during_a_pause(services: Services) -> None:
    """A new login by a socket of systemd's answers while the reactor is paused."""
    service = outcome(services["systemd, INET"])
    _ask(service, "service.nap(5)")
    while service.line() != "napping":
        pass
    assert "in fetch_user" in _ask(service, "stack")


def test_who_made_the_file_removes_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """At its end a service removes its own socket file, and never systemd's."""
    root = tmp_path_factory.mktemp("m")
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(_start, root / "ours", "unix")
        theirs = pool.submit(_start, root / "theirs", "systemd, UNIX")
    for each in (ours, theirs):
        assert (each.result().directory / "manhole").exists()
        each.result().close()
    assert not (root / "ours" / "manhole").exists()
    assert (root / "theirs" / "manhole").exists()
