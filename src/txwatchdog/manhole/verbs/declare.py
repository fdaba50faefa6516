"""What a verb is: its words, its help, the role that it takes. Pure.

click reads the words and nothing else: it never prints, exits or looks at the service's terminal.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from attrs import frozen

from txwatchdog.manhole.roles import FULL
from txwatchdog.manhole.verbs.lines import split
from txwatchdog.records import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from txwatchdog.manhole.around.looks import Around

__all__ = [
    "VERBS",
    "Answer",
    "Call",
    "Order",
    "UsageError",
    "Verb",
    "dump",
    "json_option",
    "read_order",
    "rows_option",
    "verb",
    "words_for",
]

WIDTH = 80  # columns of help texts


class UsageError(Exception):
    """A verb line that can't be carried out; its message says why, and what to type."""


@frozen
class Call:
    """What a verb is called with, beside its own options.

    Attributes:
        watchdog: Whom it asks.
        width: Columns that its text should keep to.
        colour: Whether its text may be coloured.
        role: The operator's.
        around: What looks around in the process.
    """

    watchdog: Any
    width: int = 100
    colour: bool = False
    role: str = FULL
    around: Around | None = None


@frozen
class Answer:
    """What a verb came to, if not plainly what it was asked for.

    Attributes:
        text: To be printed.
        status: The exit status.
    """

    text: str
    status: int = 0


@frozen
class Verb:
    """One verb.

    Attributes:
        command: Reads its options.
        act: Called in any thread with a `Call` and the options; returns the text to be printed,
            or an `Answer`.
        role_for: Says of its options which role carrying them out takes, at least; without
            options, which role it takes to use the verb at all.
        place: What it needs: ``terminal`` and ``stdin`` are for the session to arrange. What may be
            done ``anywhere`` is bounded and runs no code of the service's, so if the process is at
            its limit of threads, it is done in the manhole's; for what needs a ``thread`` of its
            own that would be too long.
    """

    command: click.Command
    act: Callable[..., str | Answer]
    role_for: Callable[[Mapping[str, Any]], str]
    place: str = "anywhere"

    @property
    def name(self) -> str:
        """Its one word."""
        return str(self.command.name)

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return self.command.get_short_help_str(WIDTH)


@frozen
class Order:
    """A verb line that has been understood."""

    verb: Verb
    options: Mapping[str, Any]

    @property
    def role(self) -> str:
        """The least role that carrying it out takes."""
        return self.verb.role_for(self.options)

    def carry_out(self, call: Call) -> Answer:
        """Do it, in any thread.

        Returns:
            The text to be printed, without its last line feed; and the exit status.
        """
        answer = self.verb.act(call, **self.options)
        return Answer(answer) if isinstance(answer, str) else answer


def read_order(line: str) -> Order | str:
    """Understand a verb line.

    Args:
        line: From `lines.verb_line`.

    Returns:
        What to do; the help text if that is all that is asked for.

    Raises:
        UsageError: It can't be understood.
    """
    try:
        name, *words = split(line)
    except ValueError as error:
        raise UsageError(f"{str(error).lower()} in: {line}; close it") from error
    command = VERBS[name].command
    try:
        context = command.make_context(name, words, terminal_width=WIDTH, max_content_width=WIDTH)
    except _HelpWanted as wanted:
        return str(wanted)
    except click.UsageError as error:
        usage = command.get_usage(click.Context(command, info_name=name, terminal_width=WIDTH))
        message = " ".join(error.format_message().split())
        raise UsageError(f"{name}: {message}\n{usage}\nTry: {name} --help") from error
    return Order(VERBS[name], context.params)


def words_for(name: str, words: Sequence[str], word: str) -> list[str]:
    """What may stand where a word of a verb line is being typed.

    Args:
        name: The verb.
        words: Those between it and this one.
        word: As far as it has been typed.

    Returns:
        Its options, or the values that one of them, or an argument, may have.
    """
    params = VERBS[name].command.params
    if word.startswith("-"):
        return [option for param in params for option in param.opts if option.startswith("-")]
    for param in params:
        is_meant = words[-1] in param.opts if words else isinstance(param, click.Argument)
        if is_meant and isinstance(param.type, click.Choice):
            return [str(choice) for choice in param.type.choices]
    return []


class _HelpWanted(Exception):  # noqa: N818 - it is not an error
    pass


def _help_wanted(context: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        raise _HelpWanted(context.get_help())


VERBS: dict[str, Verb] = {}
"""All verbs, by name; `table` fills it."""


Act = TypeVar("Act", bound="Callable[..., str | Answer]")


def verb(
    name: str,
    *params: click.Parameter,
    role: str | Callable[[Mapping[str, Any]], str],
    place: str = "anywhere",
    settings: Mapping[str, Any] | None = None,
) -> Callable[[Act], Act]:
    """Declare a verb; its docstring is its help. Which role it takes is nobody's guess."""
    role_for = (lambda _options: role) if isinstance(role, str) else role

    def declare(act: Act) -> Act:
        about = click.Option(
            ["--help", "-h"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_help_wanted,
            help="Show this.",
        )
        command = click.Command(
            name,
            params=[*params, about],
            help=act.__doc__,
            add_help_option=False,
            context_settings=dict(settings or {}),
        )
        VERBS[name] = Verb(command, act, role_for, place)
        return act

    return declare


def rows_option(default: int, what: str) -> click.Option:
    """``-n``, a bound."""
    return click.Option(
        ["-n", "n"],
        type=click.IntRange(min=0),
        default=default,
        show_default=True,
        help=f"How many {what}.",
    )


def json_option() -> click.Option:
    """``--json``."""
    return click.Option(["--json", "as_json"], is_flag=True, help="As JSON, for programs.")


def dump(data: Any) -> str:
    """Plain data as one JSON value."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What `json` can't write by itself: what colleagues add to a record shows, if plainly."""
    if attrs.has(type(value)):
        return attrs.asdict(value)
    return iso(value) if hasattr(value, "isoformat") else str(value)
