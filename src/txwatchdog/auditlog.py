"""The audit trail: who did what, as events of `twisted.logger`. At the ground: all may tell.

The watchdog tells what changes it, the manhole everything else. Whatever a client may have sent is
bounded here, and can't forge or split a line: an event's text is printable ASCII.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from twisted.logger import Logger

__all__ = ["KEPT", "NAMESPACE", "asked_by", "asker", "summary", "tell"]

NAMESPACE = "txwatchdog.audit"

KEPT = 4096
"""Characters of a statement or verb line that are kept."""

_KEPT_ELSEWHERE = 255  # of all other texts; nothing honest is longer

_log = Logger(namespace=NAMESPACE)

asker: ContextVar[Mapping[str, object]] = ContextVar("txwatchdog_asker", default={})  # noqa: B039 - never changed
"""Who acts in this context, as fields of an event; empty for the service's own code."""


@contextmanager
def asked_by(fields: Mapping[str, object]) -> Iterator[None]:
    """Have what is done in the calling context be somebody's.

    Args:
        fields: as in `asker`.
    """
    token = asker.set(fields)
    try:
        yield
    finally:
        asker.reset(token)


def tell(event: str, outcome: str, log: Logger = _log, /, **fields: object) -> None:
    """Log an event: level info, namespace `txwatchdog.audit`. From any thread.

    Args:
        event: what kind it is.
        outcome: what came of it.
        log: where to.
        fields: what else there is to say, as texts and numbers; those that are None are left out.
            Who acts in this context is added.
    """
    flat = _bounded({**fields, **asker.get()})
    text = summary(event, outcome, flat)
    try:
        log.info("{summary}", summary=text, event=event, outcome=outcome, **flat)
    except BaseException:
        # An observer's SystemExit, say: Twisted lets it through. It must not end a thread of ours.
        if threading.current_thread() is threading.main_thread():
            raise


def summary(event: str, outcome: str, fields: Mapping[str, object]) -> str:
    """An event in one line of printable ASCII.

    Args:
        event: one of our own words.
        outcome: likewise.
        fields: names of ours, and values that may be anybody's.
    """
    return " ".join([event, outcome, *(f"{name}={it!a}" for name, it in fields.items())])


def _bounded(fields: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            most = KEPT if name == "what" else _KEPT_ELSEWHERE
            flat[name] = value[:most]
            if name == "what" and len(value) > most:
                flat["left_out"] = len(value) - most
        elif isinstance(value, float):
            flat[name] = round(value, 6)
        elif value is not None:
            flat[name] = value
    return flat
