"""The verbs that look around in the process. Any thread may carry them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from txwatchdog.manhole.around.connections import ORDERS
from txwatchdog.manhole.roles import TUNE, VIEW
from txwatchdog.manhole.verbs.declare import Call, dump, json_option, rows_option, verb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from txwatchdog.manhole.around.looks import Around
    from txwatchdog.manhole.around.records import Listing

__all__: list[str] = []


def _whole() -> click.Option:
    return click.Option(
        ["--all", "whole"],
        is_flag=True,
        help="However many objects there are; it may hold the service up (role tune).",
    )


def _role_for(options: Mapping[str, Any]) -> str:
    # Who may only look must not be able to hold the service up.
    return TUNE if options.get("whole") else VIEW


def _around(call: Call) -> Around:
    assert call.around is not None
    return call.around


def _answer(call: Call, listing: Listing, as_json: bool) -> str:
    return dump(listing.as_dict()) if as_json else listing.text(call.width, colour=call.colour)


@verb(
    "readers",
    rows_option(20, "descriptors"),
    click.Option(
        ["--by"],
        type=click.Choice(ORDERS),
        default="fd",
        show_default=True,
        help="What comes first: the lowest fd, or the largest of the others.",
    ),
    json_option(),
    role=VIEW,
    place="thread",
)
def _readers(call: Call, n: int, by: str, as_json: bool) -> str:
    """What the reactor waits for: connections, ports, pipes.

    With protocol, peer, age and bytes, as far as the kernel knows them.
    """
    return _answer(call, _around(call).readers(n, by), as_json)


@verb("delayed", rows_option(20, "calls"), json_option(), role=VIEW, place="thread")
def _delayed(call: Call, n: int, as_json: bool) -> str:
    """The calls that are to be made later, soonest first."""
    return _answer(call, _around(call).delayed(n), as_json)


@verb("threads", rows_option(50, "threads"), json_option(), role=VIEW, place="thread")
def _threads(call: Call, n: int, as_json: bool) -> str:
    """The threads, their stacks, and the state of the pool."""
    return _answer(call, _around(call).threads(n), as_json)


@verb("deferreds", rows_option(20, "rows"), _whole(), json_option(), role=_role_for, place="thread")
def _deferreds(call: Call, n: int, whole: bool, as_json: bool) -> str:
    """Deferreds that have not fired, and what waits for them.

    Where they were created, for those that were made while Deferred debugging was on.
    """
    return _answer(call, _around(call).deferreds(n, whole=whole), as_json)


@verb("tasks", rows_option(20, "tasks"), json_option(), role=VIEW, place="thread")
def _tasks(call: Call, n: int, as_json: bool) -> str:
    """The tasks of the asyncio loop that the reactor runs on."""
    return _answer(call, _around(call).tasks(n), as_json)


@verb(
    "objects",
    click.Argument(["kind"], metavar="[TYPE]", required=False),
    rows_option(20, "classes"),
    _whole(),
    json_option(),
    role=_role_for,
    place="thread",
)
def _objects(call: Call, kind: str | None, n: int, whole: bool, as_json: bool) -> str:
    """Objects by class, the most numerous first, and their growth.

    TYPE is a class's name, such as shop.orders.Order or Order: only its objects, and those of
    classes derived from it.
    """
    return _answer(call, _around(call).objects(kind, n, whole=whole), as_json)


@verb(
    "errors",
    rows_option(10, "errors"),
    click.Option(["--tracebacks"], is_flag=True, help="All of each traceback, instead of a table."),
    json_option(),
    role=VIEW,
    place="thread",
)
def _errors(call: Call, n: int, tracebacks: bool, as_json: bool) -> str:
    """The last failures that the service logged, newest first."""
    errors = _around(call).errors(n)
    if tracebacks and not as_json and len(errors):
        from txwatchdog.manhole.around.text import tracebacks_text

        return tracebacks_text(errors.rows)
    return _answer(call, errors, as_json)
