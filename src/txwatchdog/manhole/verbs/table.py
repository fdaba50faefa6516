"""What each verb takes and does. Pure but for the watchdog, which any thread may ask.

click reads the words and nothing else: it never prints, exits or looks at the service's terminal.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from attrs import frozen

from txwatchdog.manhole.roles import FULL, TUNE, VIEW, allows
from txwatchdog.manhole.verbs.lines import NAMES, split
from txwatchdog.records import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["VERBS", "Answer", "Call", "Order", "UsageError", "Verb", "read_order", "words_for"]

FORMATS = ("collapsed", "speedscope", "json")  # of `exports.FORMATS`, which is dear to import
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
    """

    watchdog: Any
    width: int = 100
    colour: bool = False
    role: str = FULL


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
        place: What it needs: ``terminal`` and ``stdin`` are for the session to arrange.
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
        usage = ""
        if error.ctx is not None:
            usage = f"\n{error.ctx.get_usage()}"
        message = " ".join(error.format_message().split())
        raise UsageError(f"{name}: {message}{usage}\nTry: {name} --help") from error
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
"""All verbs, by name."""


Act = TypeVar("Act", bound="Callable[..., str | Answer]")


def _verb(
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


def _rows(default: int, what: str) -> click.Option:
    return click.Option(
        ["-n", "n"],
        type=click.IntRange(min=0),
        default=default,
        show_default=True,
        help=f"How many {what}.",
    )


def _json() -> click.Option:
    return click.Option(["--json", "as_json"], is_flag=True, help="As JSON, for programs.")


def _dump(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What `json` can't write by itself: what colleagues add to a record shows, if plainly."""
    if attrs.has(type(value)):
        return attrs.asdict(value)
    return iso(value) if hasattr(value, "isoformat") else str(value)


@_verb(
    "top",
    _rows(10, "functions"),
    click.Option(
        ["--by"],
        type=click.Choice(["total", "count", "worst", "recent"]),
        default="total",
        show_default=True,
        help="What comes first.",
    ),
    _json(),
    role=VIEW,
)
def _top(call: Call, n: int, by: str, as_json: bool) -> str:
    """The functions that pause the reactor most."""
    from txwatchdog.tables import top_text

    top = call.watchdog.top(n, by)
    return _dump(top.as_dict()) if as_json else top_text(top, call.width, colour=call.colour)


@_verb("pauses", _rows(10, "pauses"), _json(), role=VIEW)
def _pauses(call: Call, n: int, as_json: bool) -> str:
    """The latest pauses, newest first."""
    from txwatchdog.tables import pauses_text

    pauses = call.watchdog.pauses(n)
    if as_json:
        return _dump([pause.as_dict() for pause in pauses])
    return pauses_text(pauses, call.width, colour=call.colour)


@_verb("tracebacks", _rows(5, "pauses"), _json(), role=VIEW)
def _tracebacks(call: Call, n: int, as_json: bool) -> str:
    """Where the reactor was during the latest pauses, newest first."""
    tracebacks = call.watchdog.tracebacks(n)
    return _dump(list(tracebacks)) if as_json else str(tracebacks).removesuffix("\n")


@_verb("stack", _json(), role=VIEW)
def _stack(call: Call, as_json: bool) -> str:
    """Where the reactor is at this moment, and since when."""
    stack = call.watchdog.stack()
    return _dump(stack.as_dict()) if as_json else str(stack)


@_verb("status", _json(), role=VIEW)
def _status(call: Call, as_json: bool) -> str:
    """What the watchdog does, and what it costs."""
    status = call.watchdog.status()
    return _dump(attrs.asdict(status)) if as_json else str(status)


@_verb("stats", _json(), role=VIEW)
def _stats(call: Call, as_json: bool) -> str:
    """The numbers since start or reset."""
    stats = call.watchdog.stats()
    if as_json:
        return _dump(stats)
    lines = [
        f"since      {stats['since'] or 'not started'}",
        f"threshold  {stats['threshold']:g} s",
        f"ticks      {stats['ticks']}",
        f"pauses     {stats['pauses']}, {stats['paused_seconds']:.3f} s in all",
    ]
    for cause, share in stats.get("causes", {}).items():
        if share["pauses"]:
            lines.append(f"  {cause:<10} {share['pauses']}, {share['seconds']:.3f} s")
    lines.append(f"offenders  {len(stats['offenders'])}: top shows them")
    return "\n".join(lines)


@_verb("live", place="terminal", role=VIEW)
def _live(call: Call) -> str:
    """All of this on a full screen, each second anew (ssh -t).

    In it, ? shows the keys.
    """
    raise NotImplementedError("the session opens it")


@_verb(
    "export",
    click.Argument(["format"], type=click.Choice(FORMATS), default="collapsed"),
    role=VIEW,
)
def _export(call: Call, format: str) -> str:  # noqa: A002 - the operators' word for it
    """What was sampled, for other tools.

    FORMAT is collapsed (the default; for flamegraph.pl and inferno), speedscope (for
    https://speedscope.app) or json (all there is).
    """
    return str(call.watchdog.export(format)).removesuffix("\n")


@_verb("report", role=VIEW)
def _report(call: Call) -> str:
    """A page with a timeline and flame graphs, as one HTML file.

    Keep it, and open it in a browser: ssh … report > pauses.html
    """
    return str(call.watchdog.export("report")).removesuffix("\n")


def _seconds(_context: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise click.BadParameter(f"{value!r} is no threshold: give seconds above 0, such as 0.5.")
    return seconds


@_verb(
    "threshold",
    click.Argument(["seconds"], required=False, callback=_seconds),
    _json(),
    role=lambda options: VIEW if options.get("seconds") is None else TUNE,
    settings={"ignore_unknown_options": True},  # so that -1 is a number, if a wrong one
)
def _threshold(call: Call, seconds: float | None, as_json: bool) -> str:
    """How long a turn may take before it is a pause; sets it.

    SECONDS is in force from the turn under way.
    """
    before = call.watchdog.threshold
    if seconds is not None:
        call.watchdog.threshold = seconds
    now = call.watchdog.threshold
    if as_json:
        return _dump({"threshold": now})
    return f"{now:g} s" if seconds is None else f"{now:g} s (was {before:g} s)"


@_verb("start", role=TUNE)
def _start(call: Call) -> str:
    """Begin to look for pauses."""
    call.watchdog.start()
    return "watchdog running"


@_verb("stop", role=TUNE)
def _stop(call: Call) -> str:
    """Stop looking, until start."""
    call.watchdog.stop()
    return "watchdog stopped; start begins again"


@_verb("reset", role=TUNE)
def _reset(call: Call) -> str:
    """Forget all pauses; count anew."""
    call.watchdog.reset()
    return "all pauses forgotten"


@_verb(
    "interrupt",
    click.Argument(["number"], type=click.INT, required=False),
    click.Option(["--confirm"], is_flag=True, help="Break the pause under way, whichever it is."),
    _json(),
    role=lambda given: TUNE if given.get("confirm") or given.get("number") is not None else VIEW,
)
def _interrupt(call: Call, number: int | None, confirm: bool, as_json: bool) -> Answer:
    """Break the pause under way.

    Names it and its number first: interrupt NUMBER, or interrupt --confirm, raises
    txwatchdog.Interrupted in the function that makes it. The exit status is 1 if there was nothing
    to break, or it could not be broken.
    """
    done = call.watchdog.interrupt(number, confirm=confirm)
    text = _dump(done.as_dict()) if as_json else str(done)
    if done.outcome == "needs confirmation" and not as_json:
        text = f"this would break {done.pause}\ninterrupt {done.number}, or --confirm, does so"
    return Answer(text, int(done.is_failure))


@_verb(
    "python",
    click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED),
    place="stdin",
    role=FULL,
    settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def _python(call: Call, arguments: Sequence[str]) -> str:
    """Run a script from standard input.

    ssh … python < script.py, or with arguments ssh … python - ONE TWO < script.py: the script finds
    them in sys.argv when it imports sys. The service's own sys.argv, which argparse looks at by
    itself, stays as it is: call parse_args(sys.argv[1:]).
    """
    raise NotImplementedError("the session runs it")


@_verb("help", click.Argument(["verb"], required=False, type=click.Choice(NAMES)), role=VIEW)
def _help(call: Call, verb: str | None) -> str:
    """The verbs, or what one of them takes."""
    if verb is not None:
        text = read_order(f"{verb} --help")
        assert isinstance(text, str)
        return text
    lines = ["One word for one answer, also during a pause:", ""]
    lines += [
        f"  {name:<11} {VERBS[name].summary}"
        for name in NAMES
        if allows(call.role, VERBS[name].role_for({}))
    ]
    rest = " Anything else is Python, such as 'watchdog.top(3)'." if call.role == FULL else ""
    return "\n".join([*lines, "", f"VERB --help says more.{rest}"])
