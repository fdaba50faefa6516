"""The ``txwatchdog keys`` commands: who gets into a manhole, and by which key clients know it.

As `cli`, this only reads options at import; what does the work is imported where it is needed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from txwatchdog.errors import KeysError, WatchdogError, reason_of

if TYPE_CHECKING:
    from txwatchdog.manhole.keybook import Row

__all__ = ["keys"]

_F = TypeVar("_F", bound=Callable[..., Any])
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?(Z?)", re.ASCII)
_COLUMNS = ("line", "type", "bits", "fingerprint", "role", "from", "expires", "comment")


class _Failing(click.Group):
    """A group whose commands end with one line on stderr and exit status 1 when they fail."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WatchdogError as error:
            raise click.ClickException(str(error)) from error


@click.group("keys", cls=_Failing)
def keys() -> None:
    """Say who may log in to a manhole. A running one heeds changes at the next login."""


def _directory(command: _F) -> _F:
    return click.option(
        "--keys",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        default="keys",
        show_default=True,
        help="The keys directory.",
    )(command)


@keys.command()
@click.argument("file")
@click.option(
    "--role",
    type=click.Choice(["view", "tune", "full"]),
    help="What it may do: look; that, and change the watchdog; anything, by Python.  "
    "[default: full]",
)
@click.option("--command", metavar="VERBLINE", help="Run just this verb, whatever is asked for.")
@click.option(
    "--from",
    "sources",
    metavar="PATTERNS",
    help="Where it may be used from: addresses, ranges (10.0.0.0/8), * and ?, commas between, ! "
    "before what is excluded.",
)
@click.option(
    "--expires",
    metavar="DATE",
    help="When it ends: 2027-01-31, 2027-01-31T18:00, or as expiry-time= has it "
    "(YYYYMMDD[HHMM[SS]]); a Z behind it for UTC.",
)
@_directory
def authorize(
    *,
    file: str,
    role: str | None,
    command: str | None,
    sources: str | None,
    expires: str | None,
    directory: Path,
) -> None:
    """Let the public keys in FILE (- for standard input) in."""
    from txwatchdog.manhole.keybook import authorize as let_in
    from txwatchdog.manhole.keybook import public_keys

    options = _options(role, command, sources, expires)
    if file == "-":
        data, name = sys.stdin.buffer.read(), "standard input"
    else:
        try:
            data, name = Path(file).read_bytes(), file
        except OSError as error:
            raise KeysError(
                f"cannot read {file}: {reason_of(error)}; give the file of a "
                "public key, such as ~/.ssh/id_ed25519.pub"
            ) from error
    for row in let_in(directory, public_keys(data, name), options):
        click.echo(f"authorized: {row}, {_may(row)}")


def _options(
    role: str | None, command: str | None, sources: str | None, expires: str | None
) -> str:
    """The options to be written, each looked at as the manhole will.

    Raises:
        click.UsageError: One would not be understood.
    """
    from txwatchdog.manhole.keybook import options_text
    from txwatchdog.manhole.patterns import parse_patterns

    if role is not None and command is not None:
        raise click.UsageError("--role and --command exclude each other: a verb is all it may run.")
    moment = None if expires is None else _ISO.sub(_compact, expires)
    checks: tuple[tuple[str, str | None, Callable[[str], object]], ...] = (
        ("--command", command, _verb),
        ("--from", sources, parse_patterns),
        ("--expires", moment, _future),
    )
    for option, value, check in checks:
        try:
            if value is not None:
                check(value)
                options_text(command=value)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=option) from error
    return options_text(role or "full", command, sources, moment)


def _compact(found: re.Match[str]) -> str:
    return "".join(group or "" for group in found.groups())


def _verb(command: str) -> None:
    from txwatchdog.manhole.options import forced

    if forced(command)[1] is None:
        raise ValueError(f"{command!r} is a role: --role {command.strip()}")


def _future(moment: str) -> None:
    from datetime import datetime, timezone

    from txwatchdog.manhole.options import parse_expiry

    if parse_expiry(moment) <= datetime.now(timezone.utc):
        raise ValueError(f"{moment!r} is over; give a time to come")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@_directory
def list_(as_json: bool, directory: Path) -> None:
    """Show who gets in, and which lines let nobody in.

    Exit status 1 if nobody gets in.
    """
    from txwatchdog.manhole.access import AUTHORIZED_KEYS, load_authorized_keys
    from txwatchdog.manhole.keybook import rows

    trouble = None
    try:
        load_authorized_keys(directory)
    except KeysError as error:
        trouble = error
    path = directory / AUTHORIZED_KEYS
    try:
        # What can't be trusted may be looked at all the same.
        text = path.read_text("utf-8", "surrogateescape") if path.is_file() else ""
    except OSError:
        text = ""  # which the trouble tells of
    found = rows(text)
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in found], indent=2, ensure_ascii=False))
    else:
        for line in _table(found):
            click.echo(line)
    if trouble is not None:
        raise trouble


def _table(found: list[Row]) -> list[str]:
    if not found:
        return []
    cells = [
        (
            str(row.number),
            row.type,
            str(row.bits or ""),
            row.fingerprint,
            "refused" if row.refused else row.command or row.role,
            row.sources or "",
            row.expires or "",
            row.comment,
        )
        for row in found
    ]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip()
        for each in (_COLUMNS, *cells)
    ]
    return lines + [f"line {row.number} is refused: {row.refused}" for row in found if row.refused]


@keys.command()
@click.argument("which", metavar="NUMBER|FINGERPRINT|COMMENT")
@_directory
def revoke(which: str, directory: Path) -> None:
    """Let a key in no more. Sessions that are open stay open."""
    from txwatchdog.manhole.access import read_authorized_keys
    from txwatchdog.manhole.keybook import revoke as take_out
    from txwatchdog.manhole.keybook import rows

    removed = take_out(directory, which)
    for row in removed:
        click.echo(f"revoked: {row}")
    gone = {row.fingerprint for row in removed if row.fingerprint}
    left = [row for row in rows(read_authorized_keys(directory)) if not row.refused]
    for row in left:
        if row.fingerprint in gone:
            click.echo(f"the same key still gets in by {row}", err=True)
    if not left:
        click.echo("now nobody can log in", err=True)


@keys.command()
@_directory
def fingerprint(directory: Path) -> None:
    """Print the host key's fingerprint, for clients to compare at their first login."""
    from txwatchdog.manhole.access import fingerprint_of
    from txwatchdog.manhole.hostkey import HOST_KEY, read_host_key
    from txwatchdog.manhole.keyfiles import comment_of

    key = read_host_key(directory)
    # To the letter as ssh-keygen -l does, a key without a comment included.
    comment = comment_of((directory / HOST_KEY).read_bytes())
    click.echo(f"{key.size()} {fingerprint_of(key.public().blob())} {comment} (ED25519)")


def _may(row: Row) -> str:
    what = f"may run {row.command!r}" if row.command else f"role {row.role}"
    where = f", from {row.sources}" if row.sources else ""
    until = f", until {row.expires}" if row.expires else ""
    return what + where + until
