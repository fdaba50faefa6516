"""The ``txwatchdog run`` command: reads its options, and leaves the running to `txwatchdog.run`.

As `cli`, this only reads options at import.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from txwatchdog.errors import ProgramError
from txwatchdog.parameters import directory, file, seconds_above_zero

__all__ = ["run", "taken_follow_up"]

_ELSEWHERE = ("tcp6", "systemd")
"""Endpoints that plugins of Twisted's read: loading those could bring the reactor in too early."""

_F = TypeVar("_F", bound=Callable[..., Any])

_follow_up: list[Callable[[], None]] = []


def taken_follow_up() -> Callable[[], None] | None:
    """What is to be called once click is done with the command line; it is told only once."""
    return _follow_up.pop() if _follow_up else None


def _endpoint(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return `value` if it can be an endpoint, or if there is none.

    Raises:
        click.BadParameter: It can't.
    """
    if value is None:
        return None
    from twisted.internet.endpoints import serverFromString

    kind, _, rest = value.partition(":")
    if kind in _ELSEWHERE and rest:
        return value
    remedy = "give tcp:PORT:interface=ADDRESS, tcp6:PORT, unix:PATH or systemd:domain=INET:index=0"
    if kind not in {"tcp", "unix"}:
        raise click.BadParameter(f"{value!r} is no endpoint: {remedy}.")
    try:
        # The reactor is only kept for later; reading the string needs none.
        endpoint: Any = serverFromString(cast("Any", None), value)
    except Exception as error:
        # Each endpoint's parser complains in its own way: ValueError, TypeError, IndexError.
        raise click.BadParameter(f"{value!r} is no endpoint: {remedy}.") from error
    if not 0 <= getattr(endpoint, "_port", 0) <= 65535:
        raise click.BadParameter(f"{value!r} has no valid port: give one from 0 to 65535.")
    return value


def _option(name: str, **settings: Any) -> Callable[[_F], _F]:
    """An option that the environment can give, too: `--no-manhole` is TXWATCHDOG_NO_MANHOLE."""
    variable = "TXWATCHDOG" + name.upper().replace("--", "_").replace("-", "_")
    return click.option(name, envvar=variable, show_envvar=True, **settings)


@click.command(
    context_settings={"allow_interspersed_args": False},
    # click's own would not show how a program's arguments are kept apart from ours.
    options_metavar="[OPTIONS] --",
)
@_option(
    "--threshold",
    callback=seconds_above_zero,
    metavar="SECONDS",
    default="0.5",
    show_default=True,
    help="How long one turn of the reactor may take before it counts as a pause.",
)
@_option(
    "--manhole",
    callback=_endpoint,
    metavar="ENDPOINT",
    default="tcp:2222:interface=127.0.0.1",
    show_default=True,
    help="Where the SSH console listens.",
)
@_option(
    "--no-manhole",
    is_flag=True,
    help="No console.",
)
@_option(
    "--keys",
    callback=directory,
    metavar="DIR",
    default="keys",
    show_default=True,
    help="The console's keys: authorized_keys says who gets in (txwatchdog keys authorize).",
)
@_option(
    "--metrics",
    callback=_endpoint,
    metavar="ENDPOINT",
    help="Where metrics for Prometheus are served; nowhere by default. Needs the extra metrics.",
)
@_option(
    "--audit",
    callback=file,
    metavar="FILE",
    help="Write who did what in the console to this file, a line of JSON each.",
)
@_option(
    "--blackbox",
    callback=file,
    metavar="FILE",
    help="Tells the next start if this one died while its reactor was paused, and where.",
)
@_option(
    "--report",
    callback=file,
    metavar="FILE",
    help="Where an HTML report of all pauses is written at the end.",
)
@_option(
    "--no-systemd",
    is_flag=True,
    help="Tell systemd nothing, for a program that does so itself. Else a unit that asks for it "
    "hears READY and WATCHDOG as the reactor turns.",
)
@_option(
    "--quiet",
    is_flag=True,
    help="Say nothing on stderr, neither at the end nor if something of ours can't be started.",
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="PROGRAM [ARGS]...")
@click.pass_context
def run(
    ctx: click.Context,
    *,
    threshold: float,
    manhole: str,
    keys: Path,
    metrics: str | None,
    audit: Path | None,
    blackbox: Path | None,
    report: Path | None,
    program: tuple[str, ...],
    no_manhole: bool,
    no_systemd: bool,
    quiet: bool,
) -> None:
    r"""Run any Twisted program, unchanged, with watchdog and console inside.

    PROGRAM is a script, -m MODULE, or a command that is written in Python, such as twist, twistd,
    trial, scrapy or daphne. It runs as it would alone, and is watched from when its reactor runs;
    what of this can't be started is said on stderr, and the program goes on without. At the end
    three lines there sum up.

    \b
    txwatchdog run -- twist web --path .
    txwatchdog run --threshold 0.1 --report pauses.html -- server.py --port 8080
    txwatchdog run --no-manhole -- -m my_service
    """
    from txwatchdog.program import find

    try:
        found = find(program)
    except ProgramError as error:
        raise click.UsageError(f"{error}.", ctx) from error
    from txwatchdog.run import Options, run_program

    if no_manhole and _is_typed(ctx, "manhole") and not _is_typed(ctx, "no_manhole"):
        no_manhole = False  # the environment says none, and the command line says where
    options = Options(
        threshold=threshold,
        manhole=None if no_manhole else manhole,
        keys=keys,
        metrics=metrics,
        audit=audit,
        blackbox=blackbox,
        report=report,
        systemd=not no_systemd,
        quiet=quiet,
    )
    _follow_up[:] = [partial(run_program, found, options)]


def _is_typed(ctx: click.Context, parameter: str) -> bool:
    return ctx.get_parameter_source(parameter) is ParameterSource.COMMANDLINE
