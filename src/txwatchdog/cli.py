"""The ``txwatchdog`` command.

This module is imported for every command, ``--help`` included, so it reads options and nothing
else: the reactor, Conch, rich and prompt_toolkit are imported by the command that needs them.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, cast

import click

from txwatchdog.errors import WatchdogError
from txwatchdog.keys_command import keys as keys_command
from txwatchdog.parameters import directory, file, seconds_above_zero, seconds_or_none
from txwatchdog.run_command import run as run_command
from txwatchdog.run_command import taken_follow_up

__all__ = ["main"]

_HELP = {"help_option_names": ["-h", "--help"]}


def _version() -> str:
    """Return the installed version, or say that there is none."""
    try:
        return metadata.version("txwatchdog")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its source tree)"


def _endpoint(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return `value` if Twisted can read it as a TCP endpoint, or if there is none.

    Raises:
        click.BadParameter: It can't, or its port does not exist.
    """
    if value is None:
        return None
    from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString

    remedy = (
        "write it as tcp:PORT:interface=ADDRESS, such as tcp:8080:interface=127.0.0.1 "
        "(port 0 is any free one)"
    )
    try:
        # The reactor is only kept for later; reading the string needs none.
        endpoint = serverFromString(cast("Any", None), value)
    except Exception as error:
        # Each endpoint's parser complains in its own way: ValueError, TypeError, IndexError.
        raise click.BadParameter(f"{value!r} is no endpoint: {remedy}.") from error
    if not isinstance(endpoint, TCP4ServerEndpoint):
        raise click.BadParameter(f"{value!r} is no TCP endpoint: {remedy}.")
    if not 0 <= endpoint._port <= 65535:
        raise click.BadParameter(f"{value!r} has no valid port: give one from 0 to 65535.")
    return value


class _Main(click.Group):
    """The commands; what one of them has prepared to follow runs when click is done.

    A program that runs within click would have its exceptions, Ctrl-C among them, taken by it.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except SystemExit as over:
            follow_up = taken_follow_up()
            if over.code or follow_up is None:
                raise
        return follow_up()


@click.group(context_settings=_HELP, cls=_Main)
@click.version_option(_version(), prog_name="txwatchdog")
def main() -> None:
    """See every pause of a Twisted reactor, and who did it.

    A watchdog that lives inside the service, and a console into the running process over SSH that
    answers while the reactor is stuck. Begin with the demo.
    """


main.add_command(keys_command)
main.add_command(run_command)


@main.command()
def dashboard() -> None:
    """Print a Grafana dashboard of the metrics, as JSON to import there.

    It asks which Prometheus it is to read.
    """
    from txwatchdog import monitoring

    click.echo(monitoring.dashboard(), nl=False)


@main.command()
def rules() -> None:
    """Print alert rules on the metrics, as a file for Prometheus' rule_files.

    A pause under way, much time spent in pauses, a busy reactor, a machine that starves it, and a
    watchdog that was stopped.
    """
    from txwatchdog import monitoring

    click.echo(monitoring.rules(), nl=False)


@main.command()
@click.option(
    "--manhole",
    callback=_endpoint,
    metavar="ENDPOINT",
    default="tcp:2222:interface=127.0.0.1",
    show_default=True,
    help="Where the SSH console listens.",
)
@click.option(
    "--http",
    callback=_endpoint,
    metavar="ENDPOINT",
    default="tcp:8080:interface=127.0.0.1",
    show_default=True,
    help="Where the service's pages are served.",
)
@click.option(
    "--metrics",
    callback=_endpoint,
    metavar="ENDPOINT",
    help="Where metrics for Prometheus are served; nowhere by default. Needs the extra metrics.",
)
@click.option(
    "--keys",
    callback=directory,
    metavar="DIR",
    default="keys",
    show_default=True,
    help="The console's keys: authorized_keys says who gets in, host_ed25519 is its own. "
    "Made if missing.",
)
@click.option(
    "--threshold",
    callback=seconds_above_zero,
    metavar="SECONDS",
    default="0.5",
    show_default=True,
    help="How long one turn of the reactor may take before it counts as a pause.",
)
@click.option(
    "--statement-timeout",
    callback=seconds_or_none,
    metavar="SECONDS",
    default="30",
    show_default=True,
    help="How long what is typed in the console may take in the reactor's thread before it is "
    "interrupted; 0 for any time.",
)
@click.option(
    "--history/--no-history",
    default=True,
    show_default=True,
    help="Keep what is typed in the console, for each key in a file of its own in the keys "
    "directory.",
)
@click.option(
    "--blackbox",
    callback=file,
    metavar="PATH",
    help="A file that tells the next start if this one dies in a pause, and where.",
)
@click.option(
    "--audit",
    callback=file,
    metavar="FILE",
    help="Write who did what in the console to this file, a line of JSON each.",
)
def demo(
    *,
    manhole: str,
    http: str,
    metrics: str | None,
    keys: Path,
    threshold: float,
    statement_timeout: float,
    history: bool,
    blackbox: Path | None,
    audit: Path | None,
) -> None:
    """Run a service that pauses on purpose, watched, with a console.

    A small web shop with the bad habits of real services: it queries, sleeps, renders and waits
    in the reactor's thread. Every pause is printed as it ends, with the function that did it; the
    console shows more, and answers during a pause. The ssh command to type is printed at the
    start. Ctrl-C stops it.

    With no authorized_keys in the keys directory your own public keys (~/.ssh/*.pub) are let in;
    if you have none, a throw-away pair is made.
    """
    try:
        from txwatchdog.demo.serve import Options, run_demo

        run_demo(
            Options(
                manhole=manhole,
                http=http,
                metrics=metrics,
                keys=keys,
                threshold=threshold,
                statement_timeout=statement_timeout,
                history=history,
                blackbox=blackbox,
                audit=audit,
            )
        )
    except KeyboardInterrupt:
        pass  # Ctrl-C while it starts, before the reactor took the signal over
    except WatchdogError as error:
        # Its message is complete: one line on stderr, exit status 1.
        raise click.ClickException(str(error)) from error
