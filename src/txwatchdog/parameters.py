"""What options of several commands have in common: their values, read and checked."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import click

__all__ = ["directory", "file", "seconds_above_zero"]


def seconds_above_zero(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Return `value` as seconds.

    Raises:
        click.BadParameter: It is no finite number above zero.
    """
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise click.BadParameter(f"{value!r} is no threshold: give seconds above 0, such as 0.5.")
    return seconds


def directory(_ctx: click.Context, _param: click.Parameter, value: str) -> Path:
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
        raise click.BadParameter(
            f"{value!r} can be no file: make its directory: mkdir -p {shlex.quote(str(path.parent))}"
        )
    return path
