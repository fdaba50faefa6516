"""Looking around in a live service through the real ssh, on each reactor, during a pause too."""

from __future__ import annotations

import ast
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from manhole_support import ServiceProcess, make_key

from txwatchdog.manhole.around import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("around_service.py")
REACTORS = ("epoll", "poll", "select", "asyncio", "uvloop")
ASYNCIO = ("asyncio", "uvloop")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServiceProcess]]:
    """A service on each reactor, with something of everything to look at."""

    def start(reactor: str) -> ServiceProcess:
        process = ServiceProcess(tmp_path_factory.mktemp(reactor), reactor=reactor, script=PROGRAM)
        while process.line() != '{"answer": "LAMP"}':
            pass
        return process

    with ThreadPoolExecutor() as pool:
        running = dict(zip(REACTORS, pool.map(start, REACTORS), strict=True))
        yield running
        list(pool.map(ServiceProcess.close, running.values()))
    for process in running.values():
        assert "txwatchdog.manhole#" not in process.log()


@pytest.fixture(scope="module")
def service(services: dict[str, ServiceProcess]) -> ServiceProcess:
    """The one with an epoll reactor."""
    return services["epoll"]


@pytest.mark.parametrize("reactor", REACTORS)
def test_what_there_is_on_each_reactor(services: dict[str, ServiceProcess], reactor: str) -> None:
    """Connections, timers, threads, Deferreds and tasks are found, whichever reactor has them."""
    asked = ", ".join(f"{name}().as_dict()" for name in NAMES[:5])
    result = services[reactor].ssh(f"print([{asked}])")
    assert result.stderr == ""
    readers, delayed, threads, deferreds, tasks = ast.literal_eval(result.stdout)
    _check_connection(readers["readers"])
    calls = {row["function"]["function"]: row for row in delayed["delayed"]}
    assert calls["Shop.restock"]["every_seconds"] == 60
    assert 1700 < calls["Shop.fail"]["seconds"] <= 1800
    assert "Shop.ship" in calls or sys.version_info < (3, 11)  # or it has no class there
    states = {row["state"]: row for row in threads["threads"]}
    assert states["working"]["function"]["function"] == "work"
    assert states["reactor"]["name"] == "MainThread"
    assert (threads["pool"]["working"], threads["pool"]["queued"]) == (1, 0)
    _check_deferreds(deferreds["deferreds"])
    if reactor in ASYNCIO:
        (nap,) = tasks["tasks"]
        assert (nap["name"], nap["state"]) == ("nap", "waiting")
        assert nap["coroutine"].startswith("sleep (")
    else:
        assert tasks["total"] == 0
        assert "no asyncio loop" in tasks["notes"][0]


def _check_connection(readers: list[dict[str, Any]]) -> None:
    by_protocol = {row["protocol"]: row for row in readers}
    till, customer = by_protocol["__main__.Till"], by_protocol["__main__.Customer"]
    port = by_protocol["twisted.internet.protocol.Factory"]
    assert till["local"] == customer["peer"] == port["local"]
    assert till["peer"] == customer["local"]
    assert [(row["received"], row["sent"]) for row in (till, customer)] == [(4, 4), (4, 4)]
    assert till["age_at_least_seconds"] >= till["idle_seconds"] >= 0
    assert (till["waits"], till["unsent"], till["tls"]) == ("r", 0, False)


def _check_deferreds(rows: list[dict[str, Any]]) -> None:
    counts = {
        (row["known_by"], name): row["count"]
        for row in rows
        for name in ("refuse", "pack", "ship", "in begin")
        if name in row["place"]
    }
    assert counts == {
        ("calls", "refuse"): 7,
        ("result", "pack"): 3,
        ("resumes", "pack"): 1,
        ("result", "ship"): 1,
        ("resumes", "ship"): 1,
        ("created", "in begin"): 1,
    }


def test_all_of_it_answers_during_a_pause(service: ServiceProcess) -> None:
    """Verbs and functions alike, as text and as JSON; and the pause is still under way then."""
    service.nap(300)
    try:
        with ThreadPoolExecutor(3) as pool:
            verbs = list(pool.map(service.ssh, NAMES))
            data = list(pool.map(service.ssh, [f"{name} --json -n 1" for name in NAMES]))
            calls = list(pool.map(service.ssh, [f"{name}(n=1)" for name in NAMES]))
    finally:
        assert service.ssh("interrupt --confirm").stdout.startswith("interrupted: ")
    for results in (verbs, data, calls):
        assert {(result.stderr, result.returncode) for result in results} == {("", 0)}
    for name, result in zip(NAMES, data, strict=True):
        assert len(json.loads(result.stdout)[name]) <= 1
    assert "fetch_user" in verbs[NAMES.index("threads")].stdout
    assert "time.sleep(seconds)" in verbs[NAMES.index("threads")].stdout


def test_objects_by_class_and_their_growth(service: ServiceProcess) -> None:
    """A class's objects and its derived classes' are counted, and what has come since."""
    service.ssh("objects around_none")
    before = json.loads(service.ssh("objects __main__.Order --json").stdout)
    counts = {row["name"]: row["count"] for row in before["objects"]}
    assert counts == {"__main__.Order": 1234, "__main__.LateOrder": 5}
    assert before["total"] == 1239
    service.ssh("service.shop.orders += [type(service.shop.orders[0])() for _ in range(10)]")
    text = service.ssh("objects('Order', n=1)").stdout
    assert "1,244      +10   __main__.Order" in text
    assert "no object of a class Nothing" in service.ssh("objects Nothing").stdout


def test_the_last_failures(service: ServiceProcess) -> None:
    """An unhandled failure is there once, with its traceback, in all forms."""
    service.ssh("service.shop.fail()")
    (error,) = json.loads(service.ssh("errors -n 1 --json").stdout)["errors"]
    assert (error["type"], error["text"]) == ("ValueError", "no lamps left")
    assert error["message"] == "Unhandled error in Deferred"
    assert error["traceback"].endswith("ValueError: no lamps left")
    assert "ValueError" in service.ssh("errors").stdout
    assert 'raise ValueError("no lamps left")' in service.ssh("errors --tracebacks").stdout
    shown = service.ssh("print(errors(1)[0].traceback)").stdout
    assert 'raise ValueError("no lamps left")' in shown


def test_a_role_that_may_only_look_may_look_around(service: ServiceProcess) -> None:
    """It may use all of these verbs, but for what could hold the service up; never Python."""
    key = make_key(service.directory, "viewer")
    with (service.keys / "authorized_keys").open("a") as file:
        file.write(f'command="view" {key.with_suffix(".pub").read_text()}')
    assert service.ssh("readers", key=key).returncode == 0
    result = service.ssh("objects --all", key=key)
    assert result.returncode == 2
    assert "not allowed" in result.stderr
    assert service.ssh("readers()", key=key).returncode == 2
    assert service.ssh("objects '__import__(\"os\").abort()'", key=key).returncode == 0
    assert service.ssh("objects --all -n 1").returncode == 0


def test_mistakes_say_what_to_do(service: ServiceProcess) -> None:
    """A bound below 0, or an order that there is not."""
    for line in ("readers -n -1", "readers --by age", "delayed 3"):
        result = service.ssh(line)
        assert (result.stdout, result.returncode) == ("", 2)
    assert service.ssh("errors(-1)").stderr.endswith(
        "ValueError: n must be a whole number from 0, not -1\n"
    )


def test_in_the_console(service: ServiceProcess) -> None:
    """`help` lists them, Tab knows them; an own name goes before."""
    terminal = service.terminal()
    terminal.expect(">>> ")
    terminal.type("help\r")
    terminal.expect("readers(n=20, by='fd')")
    terminal.expect(">>> ")
    terminal.type("print(len(delay\t(1)))\r")
    terminal.expect("print(len(delayed(1)))")
    terminal.expect("\r\n1\r\n")
    terminal.type("threads(1)\r")
    terminal.expect("MainThread:\r\n")
    terminal.type("readers -n 1\r")
    terminal.expect("_UnixWaker")
    lines = terminal.expect("4 not").splitlines()
    assert max(map(len, lines)) <= 80
    terminal.type("tasks = 'mine'\r")
    terminal.expect(">>> ")
    terminal.type("tasks\r")
    terminal.expect("\r\n'mine'\r\n")
    terminal.close()
