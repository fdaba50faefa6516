"""The ``txwatchdog`` command.

This module is imported for every command, ``--help`` included, so it reads options and nothing
else: the reactor, Conch, rich and prompt_toolkit are imported by the command that needs them.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import click

from txwatchdog import parameters
from txwatchdog.errors import WatchdogError
from txwatchdog.keys_command import keys as keys_command
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
@parameters.manhole(parameters.tcp_endpoint)
@click.option(
    "--http",
    callback=parameters.tcp_endpoint,
    metavar="ENDPOINT",
    default="tcp:8080:interface=127.0.0.1",
    show_default=True,
    help="Where the service's pages are served.",
)
@parameters.metrics(parameters.tcp_endpoint)
@parameters.keys
@parameters.threshold
@click.option(
    "--statement-timeout",
    callback=parameters.seconds_or_none,
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
@parameters.blackbox
@parameters.audit
def demo(**given: Any) -> None:
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

        run_demo(Options(**given))
    except KeyboardInterrupt:
        pass  # Ctrl-C while it starts, before the reactor took the signal over
    except WatchdogError as error:
        # Its message is complete: one line on stderr, exit status 1.
        raise click.ClickException(str(error)) from error
