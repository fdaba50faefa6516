"""Logging from threads of our own, whatever the service's log observers do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    import asyncio

__all__ = ["log_failure", "loop_reporter"]


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


def loop_reporter(
    log: Logger, where: str
) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """What an asyncio loop is to call for what nobody else caught, instead of logging a traceback.

    Args:
        log: where to.
        where: whose loop it is, in words.
    """

    def report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        with contextlib.suppress(BaseException):  # a log observer's, which would end the thread
            log.warn(  # noqa: G010 - twisted.logger has no other
                "in {where}: {message}: {error!r}",
                where=where,
                message=context.get("message", ""),
                error=context.get("exception"),
            )

    return report
