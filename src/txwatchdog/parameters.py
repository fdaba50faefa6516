"""The options that several commands have, and how what is given for them is read and checked.

As `cli`, this only reads options at import.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

__all__ = [
    "audit",
    "blackbox",
    "endpoint",
    "file",
    "keys",
    "manhole",
    "metrics",
    "seconds_above_zero",
    "seconds_or_none",
    "tcp_endpoint",
    "threshold",
]

_ELSEWHERE = ("tcp6", "systemd")
"""Endpoints that plugins of Twisted's read: loading those could bring the reactor in too early."""

_F = TypeVar("_F", bound=Callable[..., Any])
_Check = Callable[[click.Context, click.Parameter, Any], Any]


def seconds_above_zero(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Return `value` as seconds.

    Raises:
        click.BadParameter: It is no finite number above zero.
    """
    seconds = _number(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise click.BadParameter(f"{value!r} is no threshold: give seconds above 0, such as 0.5.")
    return seconds


def seconds_or_none(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Return `value` as seconds.

    Raises:
        click.BadParameter: It is no finite number from zero.
    """
    seconds = _number(value)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise click.BadParameter(f"{value!r} is no time: give seconds, such as 30, or 0 for none.")
    return seconds


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _directory(_ctx: click.Context, _param: click.Parameter, value: str) -> Path:
    """Return `value` as the path of a directory, which need not exist yet.

    Raises:
        click.BadParameter: Something that is no directory has that name.
    """
    path = Path(value)
    if not value or (path.exists() and not path.is_dir()):
        raise click.BadParameter(
            f"{value!r} is no directory: give one, which is made if it is missing."
        )
    return path


def file(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Path | None:
    """Return `value` as the path of a file, which need not exist yet.

    Raises:
        click.BadParameter: It can be none.
    """
    if value is None:
        return None
    path = Path(value)
    if not value or path.is_dir():
        raise click.BadParameter(f"{value!r} can be no file: give the path of one.")
    if not path.absolute().parent.is_dir():
        remedy = f"mkdir -p {shlex.quote(str(path.parent))}"
        raise click.BadParameter(f"{value!r} can be no file: make its directory: {remedy}")
    return path


def tcp_endpoint(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return `value` if Twisted can read it as a TCP endpoint, or if there is none.

    Raises:
        click.BadParameter: It can't, or its port does not exist.
    """
    if value is None:
        return None
    from twisted.internet.endpoints import TCP4ServerEndpoint

    remedy = (
        "write it as tcp:PORT:interface=ADDRESS, such as tcp:8080:interface=127.0.0.1 "
        "(port 0 is any free one)"
    )
    if not isinstance(_server_endpoint(value, remedy), TCP4ServerEndpoint):
        raise click.BadParameter(f"{value!r} is no TCP endpoint: {remedy}.")
    return value


def endpoint(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return `value` if it can be an endpoint, or if there is none.

    Raises:
        click.BadParameter: It can't, or its port does not exist.
    """
    if value is None:
        return None
    kind, _, rest = value.partition(":")
    if kind in _ELSEWHERE and rest:
        return value
    remedy = "give tcp:PORT:interface=ADDRESS, tcp6:PORT, unix:PATH or systemd:domain=INET:index=0"
    if kind not in {"tcp", "unix"}:
        raise click.BadParameter(f"{value!r} is no endpoint: {remedy}.")
    _server_endpoint(value, remedy)
    return value


def _server_endpoint(value: str, remedy: str) -> Any:
    from twisted.internet.endpoints import serverFromString

    try:
        # The reactor is only kept for later; reading the string needs none.
        found: Any = serverFromString(cast("Any", None), value)
    except Exception as error:
        # Each endpoint's parser complains in its own way: ValueError, TypeError, IndexError.
        raise click.BadParameter(f"{value!r} is no endpoint: {remedy}.") from error
    if not 0 <= getattr(found, "_port", 0) <= 65535:
        raise click.BadParameter(f"{value!r} has no valid port: give one from 0 to 65535.")
    return found


def manhole(check: _Check) -> Callable[[_F], _F]:
    """``--manhole``, where `check` says which endpoints the command takes."""
    return click.option(
        "--manhole",
        callback=check,
        metavar="ENDPOINT",
        default="tcp:2222:interface=127.0.0.1",
        show_default=True,
        help="Where the SSH console listens.",
    )


def metrics(check: _Check) -> Callable[[_F], _F]:
    """``--metrics``, likewise."""
    return click.option(
        "--metrics",
        callback=check,
        metavar="ENDPOINT",
        help="Where metrics for Prometheus are served; nowhere by default. Needs the extra "
        "metrics.",
    )


threshold = click.option(
    "--threshold",
    callback=seconds_above_zero,
    metavar="SECONDS",
    default="0.5",
    show_default=True,
    help="How long one turn of the reactor may take before it counts as a pause.",
)
keys = click.option(
    "--keys",
    callback=_directory,
    metavar="DIR",
    default="keys",
    show_default=True,
    help="The console's keys: authorized_keys says who gets in (txwatchdog keys authorize), "
    "host_ed25519 is its own. Made if missing.",
)
audit = click.option(
    "--audit",
    callback=file,
    metavar="FILE",
    help="Write who did what in the console to this file, a line of JSON each.",
)
blackbox = click.option(
    "--blackbox",
    callback=file,
    metavar="FILE",
    help="A file that tells the next start if this one died while its reactor was paused, and "
    "where.",
)
