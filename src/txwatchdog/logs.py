"""Logging from threads of our own, whatever the service's log observers do."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

__all__ = ["log_failure"]


def log_failure(log: Logger, text: str, **fields: Any) -> None:
    """Log the exception that is being handled; nothing comes out of here.

    Twisted isolates an observer that raises an Exception. One that raises SystemExit, say, would
    end the thread that logs, and in silence.

    Args:
        log: where to.
        text: what failed; a format of `fields`, as for `Logger.failure`.
        fields: of the event.
    """
    try:
        log.failure(text, **fields)
    except BaseException:  # noqa: S110
        pass  # there is nowhere to tell it
