"""Errors: one base class; each message says what happened, with the value, and what to do."""

from __future__ import annotations

import errno

__all__ = [
    "LIMITS",
    "AuditError",
    "DemoError",
    "ExtraMissingError",
    "Interrupted",
    "KeysError",
    "ListenError",
    "ManholeError",
    "ProgramError",
    "WatchdogError",
    "reason_of",
]


LIMITS = {
    errno.EMFILE: "the process has no descriptor left: raise its limit (ulimit -n)",
    errno.EAGAIN: "the process has no thread left: raise its limit (ulimit -u)",
}
"""What to do at a limit of the process, whatever it was that met it."""


def reason_of(error: OSError) -> str:
    """What the system says is wrong, as the middle of a sentence has it."""
    return (error.strerror or str(error)).lower()


class WatchdogError(Exception):
    """Base of every error that txwatchdog raises on purpose.

    The message is complete as it stands: one or two sentences that name the value and the remedy.
    A command prints it as it is, without a traceback.
    """


class ManholeError(WatchdogError):
    """The manhole can't be started or used as asked."""


class KeysError(ManholeError):
    """A key file is missing, unsafe or unreadable."""


class AuditError(ManholeError):
    """The audit trail's file can't be written."""


class ListenError(WatchdogError):
    """An endpoint, the manhole's or the metrics', can't be listened on."""


class DemoError(WatchdogError):
    """The demo can't be started as asked."""


class ProgramError(WatchdogError):
    """There is no such program to run, or it is not one that can be watched."""


class ExtraMissingError(WatchdogError, ImportError):
    """A package is not installed that one of the extras brings."""


class Interrupted(BaseException):
    """Raised in the function that paused the reactor, by `Watchdog.interrupt`.

    No `Exception`, so that ``except Exception: pass`` in a loop does not make it go on; and neither
    `KeyboardInterrupt` nor `SystemExit`, which would end an asyncio reactor. Twisted logs it as any
    failure of the function that it called, and goes on.
    """
