"""Sections 6 and 7: how soon a console answers, beside others, a bare login, and during a pause."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field, frozen
from manhole_support import make_key, make_keys

from .consoles import (
    AIOMONITOR,
    BARE,
    MANHOLE,
    OURS,
    STOCK,
    Console,
    Home,
    Service,
    by_ssh,
    serving,
    ssh_cpu_seconds,
)
from .harness import HERE, Bench, Spread, Table, child, millis
from .outputs import outputs
from .peers import Missing

__all__ = ["run"]

PAUSE_SECONDS = 3.0
SETTLE_SECONDS = 0.03  # in which a server is done with a client that has gone

IMPORTS = """
import importlib, json, time
for name in ("server", "history", "runner", "serving", "session", "ssh", "trail"):
    importlib.import_module("txwatchdog.manhole." + name)
began = time.thread_time()
for name in ("txwatchdog.manhole.console", "txwatchdog.manhole.editor", "pygments.lexers.python"):
    importlib.import_module(name)
print(json.dumps({"seconds": time.thread_time() - began}))
"""
"""What a console's first session imports, once the manhole is up."""


@define
class Prompts:
    """What a console needed, in seconds, for its first prompt, for later ones, and when paused."""

    first: list[float] = field(factory=list)
    later: list[float] = field(factory=list)
    paused: list[float] = field(factory=list)
    problem: Exception | None = None


def prompts(bench: Bench, home: Home) -> Table:
    """How long to the prompt, with the service well and with it paused."""
    processes, later = bench.times(5, 2), bench.times(4, 2)
    table = Table(
        f"Console: from connecting to the prompt, {processes} processes by turns, {later} later"
        " prompts of each",
        (
            "",
            "the first of a process",
            "later ones: median, p99",
            f"in a pause of {PAUSE_SECONDS:g} s (`time.sleep`)",
            "how",
        ),
    )
    all_took = {console: Prompts() for console in (OURS, STOCK, MANHOLE, AIOMONITOR)}
    for number in range(processes):
        for console, took in all_took.items():
            bench.say(f"prompt of {console.which}, process {number + 1}")
            if took.problem is None:
                try:
                    _prompt(console, home, later, took)
                except (Missing, RuntimeError, OSError) as problem:
                    took.problem = problem
    for console, took in all_took.items():
        how = "ssh" if console.connect is by_ssh else "plain socket, no login"
        if took.problem is not None:
            table.rows.append((console.title, f"not measured: {took.problem}", "", "", how))
            continue
        first, after, paused = (Spread.of(x) for x in (took.first, took.later, took.paused))
        over = " (when it is over)" if paused.median > PAUSE_SECONDS * 0.8 else ""
        table.rows.append(
            (
                console.title,
                millis(first.median),
                f"{millis(after.median)}, {millis(after.p(99))}",
                f"{millis(paused.median)}{over}",
                how,
            )
        )
        table.figures[console.which] = {
            "first_seconds": first.median,
            "seconds": after.median,
            "paused_seconds": paused.median,
        }
    imports = Spread.of([_imports() for _ in range(processes)]).median
    table.figures["imports_seconds"] = imports
    table.notes.append(
        "The first session of a process is the one that imports prompt_toolkit and pygments:"
        f" {millis(imports)} of CPU in a process of its own."
    )
    return table


def _prompt(console: Console, home: Home, later: int, took: Prompts) -> None:
    """One process: its first prompt, some more, and one in a pause."""
    with serving(console, home) as service:
        took.first.append(service.first())
        took.later += [service.connect() for _ in range(later)]
        service.pause("sleep", PAUSE_SECONDS)
        took.paused.append(service.connect())


def _imports() -> float:
    with child("-c", IMPORTS) as made:
        return float(made.hear()["seconds"])


@frozen
class Login:
    """Something that `ssh` is started for; no command: for the prompt."""

    title: str
    console: Console
    command: str | None = None

    def seconds(self, service: Service) -> float:
        """Do it, and say how long it took."""
        return service.connect() if self.command is None else service.run(self.command)


LOGINS = (
    Login("bare Conch with TCP_NODELAY, `ssh HOST true`, which is not run", BARE, "true"),
    Login("stock `twisted.conch.manhole`, the prompt", STOCK),
    Login("txwatchdog, `ssh HOST top`", OURS, "top"),
    Login("txwatchdog, the prompt", OURS),
)
"""The floor first."""


def logins(bench: Bench, home: Home) -> Table:
    """What is ssh's, what is the server's, and how far it is from a bare login."""
    rounds = bench.times(30, 5)
    bench.say("logins beside a bare one")
    table = Table(
        f"Console: beside a bare login by OpenSSH to Conch, {rounds} alternating rounds",
        ("", "median", "of the bare login", "CPU of ssh", "CPU of the server", "neither"),
    )
    seconds: dict[Login, list[float]] = {each: [] for each in LOGINS}
    clients: dict[Login, list[float]] = {each: [] for each in LOGINS}
    servers: dict[Login, list[float]] = {each: [] for each in LOGINS}
    with ExitStack() as stack:
        services = {
            console: stack.enter_context(serving(console, home)) for console in (BARE, STOCK, OURS)
        }
        for login in LOGINS:
            login.seconds(services[login.console])  # the first does what is done once
        for _ in range(rounds):
            for login in LOGINS:
                service = services[login.console]
                before = ssh_cpu_seconds(), service.cpu_seconds
                seconds[login].append(login.seconds(service))
                time.sleep(SETTLE_SECONDS)
                clients[login].append(ssh_cpu_seconds() - before[0])
                servers[login].append(service.cpu_seconds - before[1])
    for login in LOGINS:
        took, client, server = (Spread.of(x[login]) for x in (seconds, clients, servers))
        ratios = zip(took.values, seconds[LOGINS[0]], strict=True)
        ratio = Spread.of([mine / bare for mine, bare in ratios])
        parts = zip(took.values, client.values, server.values, strict=True)
        neither = Spread.of([whole - ssh - its for whole, ssh, its in parts])
        costs = [millis(max(each.median, 0.0)) for each in (client, server, neither)]
        table.rows.append((login.title, millis(took.median), ratio.text(".2f"), *costs))
        table.figures[f"{login.console.which} {login.command or 'prompt'}"] = {
            "seconds": took.median,
            "ratio": ratio.median,
            "client_cpu_seconds": client.median,
            "server_cpu_seconds": server.median,
        }
    table.notes.append(
        "A login is ssh's own start, the exchange of keys, the signature, and the session. What is"
        " neither's CPU is the time for which each waits for the other, for a core, or for the"
        " kernel: stock Conch has no TCP_NODELAY, so that a packet may wait for the one before it"
        " to be acknowledged, 40 ms."
    )
    return table


def commands(bench: Bench, home: Home) -> Table:
    """One command, with the service well and paused."""
    rounds = bench.times(20, 5)
    table = Table(
        f"Console: `ssh HOST top` of txwatchdog, {rounds} times: median, p99",
        ("the service well", "in a pause (`time.sleep`)", "in a pause (a Python loop)"),
    )
    cells = []
    with serving(OURS, home) as well, serving(OURS, home) as asleep:
        bench.say("ssh HOST top, well and asleep")
        asleep.pause("sleep", 600)
        pairs = [(well.run("top"), asleep.run("top")) for _ in range(rounds)]
        cells += [Spread.of(each) for each in zip(*pairs, strict=True)]
    with serving(OURS, home) as looping:
        bench.say("ssh HOST top in a loop")
        looping.pause("loop", 600)
        cells.append(Spread.of([looping.run("top") for _ in range(rounds)]))
    table.rows.append([f"{millis(c.median)}, {millis(c.p(99))}" for c in cells])
    names = ("well", "asleep", "looping")
    table.figures = {name: cell.median for name, cell in zip(names, cells, strict=True)}
    return table


def echoes(bench: Bench) -> Table:
    """A keystroke's echo beside stock Conch's."""
    rounds = bench.times(10, 3)
    bench.say("echo of keystrokes")
    table = Table(
        f"Console: echo of a keystroke, {rounds} alternating rounds", ("", "median", "p95")
    )
    command = [sys.executable, str(HERE / "echo.py"), "--rounds", str(rounds)]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    for name, middle, most in re.findall(r"(\w+) +median ([\d.]+) ms, 95 % within ([\d.]+)", told):
        title = "txwatchdog" if name == "ours" else "stock `twisted.conch.manhole`"
        table.rows.append((title, f"{middle} ms", f"{most} ms"))
        table.figures[name] = float(middle)
    ratio = re.search(r"rounds: ([\d.]+)", told)
    table.notes.append(f"Ours / stock: {ratio[1]}." if ratio else "Not measured: needs asyncssh.")
    return table


def run(bench: Bench) -> Iterator[Table]:
    """All of it."""
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name))
        make_keys(home.path, make_key(home.path, "id"))
        make_key(home.path / "keys", "host_ed25519")
        yield prompts(bench, home)
        yield logins(bench, home)
        yield commands(bench, home)
        yield outputs(bench, home)
    yield echoes(bench)
