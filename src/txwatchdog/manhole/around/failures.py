"""The last failures that the service logged, kept as plain data."""

from __future__ import annotations

import itertools
from collections import deque
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.logger import ILogObserver, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from txwatchdog.manhole import statics
from txwatchdog.manhole.around.names import class_name
from txwatchdog.manhole.around.records import Failed, Listing
from txwatchdog.records import Frame

if TYPE_CHECKING:
    from types import CodeType, TracebackType

    from twisted.logger import LogEvent

__all__ = ["KEPT", "Failures"]

KEPT = 200
"""Failures that are kept."""

_CHARACTERS = 500  # of an exception's text, and of each field of an event
_FIELDS = 20  # of an event
_FRAMES = 50  # of a stack, the innermost
_DEEPEST = 2000  # frames that are walked to find these
_PLAIN = (str, int, float, bool, type(None))
_NOT_KEPT = ("log_failure", "log_flattened")
_DEFERRED = "twisted.internet.defer"  # for an unhandled error it logs a line, then the failure
_LEVELS = (LogLevel.error, LogLevel.critical)


@frozen
class _Kept:
    """An event, as far as it could be kept without holding the service's objects."""

    number: int
    event: dict[str, Any]
    type: str | None
    text: str
    stack: tuple[tuple[CodeType, int], ...]
    frames: tuple[Frame, ...]


@implementer(ILogObserver)
class Failures:
    """An observer of `twisted.logger`'s that keeps the last failures, and events of level error.

    It is called in whatever thread logs, so it does little there: no event is formatted and no
    stack turned into text. Of the service's code only the exception's ``str`` is run, which whoever
    writes the log runs too. No frame, exception or other object of the service's is kept.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)  # next() on it is atomic, like the deque's append
        self._kept: deque[_Kept] = deque(maxlen=KEPT)
        self._total = 0  # a lower number may overwrite a higher one, for a moment

    def __call__(self, event: LogEvent) -> None:
        """Called by the logger, with every event of the process."""
        failure = event.get("log_failure")
        if failure is None and (
            event.get("log_level") not in _LEVELS or event.get("log_namespace") == _DEFERRED
        ):
            return
        try:
            number = self._total = next(self._numbers)
            self._kept.append(_keep(number, event, failure))
        except Exception:
            # An exception may be as hostile as any object; the service's log has it all the same.
            return

    def latest(self, n: int) -> Listing:
        """The last `n`, newest first. In any thread."""
        kept = list(self._kept)[::-1]
        total = self._total
        notes: tuple[str, ...] = ()
        if total > len(kept):
            notes = (f"the latest {len(kept)} are kept",)
        return Listing("errors", tuple(map(_shown, kept[:n])), total, notes=notes)


def _keep(number: int, event: LogEvent, failure: Any) -> _Kept:
    fields = {
        name: _plain(value)
        for name, value in itertools.islice(event.items(), _FIELDS)
        if type(name) is str and name not in _NOT_KEPT
    }
    # What is formatted and who logged it, wherever these stand among the fields.
    for name in ("log_format", "log_namespace", "log_time"):
        fields[name] = _plain(event.get(name))
    fields["log_level"] = getattr(event.get("log_level"), "name", "error")
    if not isinstance(failure, Failure):
        return _Kept(number, fields, None, "", (), ())
    stack = _stack(statics.attribute(failure, "tb"))
    return _Kept(
        number,
        fields,
        class_name(type(failure.value)),
        _text(failure.value),
        stack,
        () if stack else _frames(failure),
    )


def _plain(value: Any) -> Any:
    if type(value) is str:
        return value[:_CHARACTERS]
    return value if type(value) in _PLAIN else _Named(f"<{class_name(type(value))}>")


class _Named(str):
    """Stands for an object in an event's text."""

    __slots__ = ()
    __repr__ = str.__str__

    def __getattr__(self, _name: str) -> _Named:
        return self

    def __getitem__(self, _key: Any) -> _Named:
        return self

    def __call__(self) -> _Named:
        return self


def _text(value: Any) -> str:
    is_plain = getattr(type(value), "__str__", None) is BaseException.__str__
    if is_plain and len(value.args) == 1 and type(value.args[0]) is str:
        return str(value.args[0][:_CHARACTERS])  # which may be huge
    try:
        return str(value)[:_CHARACTERS]
    except Exception as error:
        return f"<an exception whose str raised {class_name(type(error))}>"


def _stack(entry: TracebackType | Any) -> tuple[tuple[CodeType, int], ...]:
    found: deque[tuple[CodeType, int]] = deque(maxlen=_FRAMES)
    for _ in range(_DEEPEST):
        if entry is None or entry is statics.UNKNOWN:
            break
        code = entry.tb_frame.f_code
        found.append((code, entry.tb_lineno or code.co_firstlineno))
        entry = entry.tb_next
    return tuple(found)


def _frames(failure: Failure) -> tuple[Frame, ...]:
    """The frames of a failure that has been cleaned, or came from elsewhere."""
    return tuple(
        Frame(str(name), str(file), int(line)) for name, file, line, *_ in failure.frames[-_FRAMES:]
    )


def _shown(kept: _Kept) -> Failed:
    message = _message(kept.event)
    seconds = kept.event["log_time"]
    when = seconds if isinstance(seconds, (int, float)) else 0.0
    return Failed(
        number=kept.number,
        at=datetime.fromtimestamp(when, timezone.utc),
        level=str(kept.event["log_level"]),
        namespace=str(kept.event["log_namespace"] or ""),
        type=kept.type,
        text=kept.text if kept.type else message,
        message=message,
        frames=kept.frames
        or tuple(Frame(code.co_name, code.co_filename, line) for code, line in kept.stack),
    )


def _message(event: dict[str, Any]) -> str:
    if event["log_format"] in (None, "{log_legacy}"):  # `twisted.python.log.err`
        return str(event.get("why") or "")
    if event["log_namespace"] == _DEFERRED:
        return "Unhandled error in Deferred"
    return formatEvent(event)[: 2 * _CHARACTERS]
