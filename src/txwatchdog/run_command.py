"""The ``txwatchdog run`` command: reads its options, and leaves the running to `txwatchdog.run`.

As `cli`, this only reads options at import.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from txwatchdog import parameters
from txwatchdog.errors import ProgramError

__all__ = ["run", "taken_follow_up"]

_follow_up: list[Callable[[], None]] = []


def taken_follow_up() -> Callable[[], None] | None:
    """What is to be called once click is done with the command line; it is told only once."""
    return _follow_up.pop() if _follow_up else None


def _from_environment(command: click.Command) -> click.Command:
    """Let the environment give each option, too: `--no-manhole` is TXWATCHDOG_NO_MANHOLE."""
    for option in command.params:
        if isinstance(option, click.Option):
            option.envvar = f"TXWATCHDOG_{option.name}".upper()
            option.show_envvar = True
    return command


@_from_environment
@click.command(
    context_settings={"allow_interspersed_args": False},
    # click's own would not show how a program's arguments are kept apart from ours.
    options_metavar="[OPTIONS] --",
)
@parameters.threshold
@parameters.manhole(parameters.endpoint)
@click.option("--no-manhole", is_flag=True, help="No console.")
@parameters.keys
@parameters.metrics(parameters.endpoint)
@parameters.audit
@parameters.blackbox
@click.option(
    "--report",
    callback=parameters.file,
    metavar="FILE",
    help="Where an HTML report of all pauses is written at the end.",
)
@click.option(
    "--no-systemd",
    is_flag=True,
    help="Tell systemd nothing, for a program that does so itself. Else a unit that asks for it "
    "hears READY and WATCHDOG as the reactor turns.",
)
@click.option(
    "--quiet",
    is_flag=True,
    help="Say nothing on stderr, neither at the end nor if something of ours can't be started.",
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="PROGRAM [ARGS]...")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    program: tuple[str, ...],
    manhole: str,
    no_manhole: bool,
    no_systemd: bool,
    **others: Any,
) -> None:
    """Run any Twisted program, unchanged, with watchdog and console inside.

    PROGRAM is a script, -m MODULE, or a command that is written in Python, such as twist, twistd,
    trial, scrapy or daphne. It runs as it would alone, and is watched from when its reactor runs;
    what of this can't be started is said on stderr, and the program goes on without. At the end
    three lines there sum up.

    \b
    txwatchdog run -- twist web --path .
    txwatchdog run --threshold 0.1 --report pauses.html -- server.py --port 8080
    txwatchdog run --no-manhole -- -m my_service
    """  # noqa: D301 - click wants the character, which keeps the lines below it apart
    from txwatchdog.program import find

    try:
        found = find(program)
    except ProgramError as error:
        raise click.UsageError(f"{error}.", ctx) from error
    from txwatchdog.run import Options, run_program

    if no_manhole and _is_typed(ctx, "manhole") and not _is_typed(ctx, "no_manhole"):
        no_manhole = False  # the environment says none, and the command line says where
    options = Options(manhole=None if no_manhole else manhole, systemd=not no_systemd, **others)
    _follow_up[:] = [partial(run_program, found, options)]


def _is_typed(ctx: click.Context, parameter: str) -> bool:
    return ctx.get_parameter_source(parameter) is ParameterSource.COMMANDLINE
