"""What options of several commands have in common: their values, read and checked."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import click

__all__ = ["directory", "file", "seconds_above_zero", "seconds_or_none"]


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
        remedy = f"mkdir -p {shlex.quote(str(path.parent))}"
        raise click.BadParameter(f"{value!r} can be no file: make its directory: {remedy}")
    return path
