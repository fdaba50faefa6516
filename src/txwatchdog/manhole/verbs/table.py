"""What each verb does, but for those that look around. The watchdog may be asked in any thread.

Importing this makes all verbs known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from txwatchdog.manhole.roles import FULL, TUNE, VIEW, allows
from txwatchdog.manhole.verbs import around as _around  # noqa: F401 - it declares its own
from txwatchdog.manhole.verbs.declare import (
    VERBS,
    Answer,
    Call,
    Order,
    UsageError,
    Verb,
    dump,
    json_option,
    read_order,
    rows_option,
    verb,
    words_for,
)
from txwatchdog.manhole.verbs.lines import NAMES
from txwatchdog.parameters import seconds_above_zero

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["VERBS", "Answer", "Call", "Order", "UsageError", "Verb", "read_order", "words_for"]

FORMATS = ("collapsed", "speedscope", "json")  # of `exports.FORMATS`, which is dear to import


@verb(
    "top",
    rows_option(10, "functions"),
    click.Option(
        ["--by"],
        type=click.Choice(["total", "count", "worst", "recent"]),
        default="total",
        show_default=True,
        help="What comes first.",
    ),
    json_option(),
    role=VIEW,
)
def _top(call: Call, n: int, by: str, as_json: bool) -> str:
    """The functions that pause the reactor most."""
    from txwatchdog.tables import top_text

    top = call.watchdog.top(n, by)
    return dump(top.as_dict()) if as_json else top_text(top, call.width, colour=call.colour)


@verb("pauses", rows_option(10, "pauses"), json_option(), role=VIEW)
def _pauses(call: Call, n: int, as_json: bool) -> str:
    """The latest pauses, newest first."""
    from txwatchdog.tables import pauses_text

    pauses = call.watchdog.pauses(n)
    if as_json:
        return dump([pause.as_dict() for pause in pauses])
    return pauses_text(pauses, call.width, colour=call.colour)


@verb("tracebacks", rows_option(5, "pauses"), json_option(), role=VIEW)
def _tracebacks(call: Call, n: int, as_json: bool) -> str:
    """Where the reactor was during the latest pauses, newest first."""
    tracebacks = call.watchdog.tracebacks(n)
    return dump(list(tracebacks)) if as_json else str(tracebacks).removesuffix("\n")


@verb("stack", json_option(), role=VIEW)
def _stack(call: Call, as_json: bool) -> str:
    """Where the reactor is at this moment, and since when."""
    stack = call.watchdog.stack()
    return dump(stack.as_dict()) if as_json else str(stack)


@verb("status", json_option(), role=VIEW)
def _status(call: Call, as_json: bool) -> str:
    """What the watchdog does, and what it costs."""
    status = call.watchdog.status()
    return dump(attrs.asdict(status)) if as_json else str(status)


@verb("stats", json_option(), role=VIEW)
def _stats(call: Call, as_json: bool) -> str:
    """The numbers since start or reset."""
    stats = call.watchdog.stats()
    if as_json:
        return dump(stats)
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


@verb("live", place="terminal", role=VIEW)
def _live(call: Call) -> str:
    """All of this on a full screen, each second anew (ssh -t).

    In it, ? shows the keys.
    """
    raise NotImplementedError("the session opens it")


@verb(
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


@verb("report", role=VIEW)
def _report(call: Call) -> str:
    """A page with a timeline and flame graphs, as one HTML file.

    Keep it, and open it in a browser: ssh … report > pauses.html
    """
    return str(call.watchdog.export("report")).removesuffix("\n")


def _seconds(context: click.Context, param: click.Parameter, value: str | None) -> float | None:
    return None if value is None else seconds_above_zero(context, param, value)


@verb(
    "threshold",
    click.Argument(["seconds"], required=False, callback=_seconds),
    json_option(),
    role=lambda options: VIEW if options.get("seconds") is None else TUNE,
    settings={"ignore_unknown_options": True},  # so that -1 is a number, if a wrong one
)
def _threshold(call: Call, seconds: float | None, as_json: bool) -> str:
    """How long a tick may take before it is a pause; sets it.

    SECONDS is in force from the tick under way.
    """
    before = call.watchdog.threshold
    if seconds is not None:
        call.watchdog.threshold = seconds
    now = call.watchdog.threshold
    if as_json:
        return dump({"threshold": now})
    return f"{now:g} s" if seconds is None else f"{now:g} s (was {before:g} s)"


@verb("start", role=TUNE)
def _start(call: Call) -> str:
    """Begin to look for pauses."""
    call.watchdog.start()
    return "watchdog running"


@verb("stop", role=TUNE)
def _stop(call: Call) -> str:
    """Stop looking, until start."""
    call.watchdog.stop()
    return "watchdog stopped; start begins again"


@verb("reset", role=TUNE)
def _reset(call: Call) -> str:
    """Forget all pauses; count anew."""
    call.watchdog.reset()
    return "all pauses forgotten"


@verb(
    "interrupt",
    click.Argument(["number"], type=click.INT, required=False),
    click.Option(["--confirm"], is_flag=True, help="Break the pause under way, whichever it is."),
    json_option(),
    role=lambda given: TUNE if given.get("confirm") or given.get("number") is not None else VIEW,
)
def _interrupt(call: Call, number: int | None, confirm: bool, as_json: bool) -> Answer:
    """Break the pause under way.

    Names it and its number first: interrupt NUMBER, or interrupt --confirm, raises
    txwatchdog.Interrupted in the function that makes it. The exit status is 1 if there was nothing
    to break, or it could not be broken.
    """
    done = call.watchdog.interrupt(number, confirm=confirm)
    text = dump(done.as_dict()) if as_json else str(done)
    if done.outcome == "needs confirmation" and not as_json:
        text = f"this would break {done.pause}\ninterrupt {done.number}, or --confirm, does so"
    return Answer(text, int(done.is_failure))


@verb(
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


@verb("help", click.Argument(["verb"], required=False, type=click.Choice(NAMES)), role=VIEW)
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
