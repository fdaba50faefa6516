"""One connection's way through the audit trail, and a session's. All in the manhole's thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from txwatchdog.auditlog import asker, tell
from txwatchdog.pauselog import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from txwatchdog.manhole.access import Refusal
    from txwatchdog.manhole.roles import Operator
    from txwatchdog.manhole.session import SessionChannel
    from txwatchdog.manhole.strangers import Strangers

__all__ = ["LOCAL", "Trail", "recorded", "text_of"]

# Of what one connection is refused so many may be told at once, and one more after so many seconds:
# a key that may do nothing else could fill the log with it.
_BURST = 20
_REFILL = 15.0

LOCAL = "a local socket"
"""The address of who has none."""


def text_of(data: bytes) -> str:
    """What a client has sent, as text; what is no UTF-8 in it as backslash escapes."""
    return data.decode("utf-8", "backslashreplace")


class Trail:
    """Tells what becomes of one connection.

    Args:
        number: The connection's.
        address: Where it comes from: an IP address, or empty for a Unix socket.
        strangers: Told, at a bounded rate, until someone has logged in.
        client: Says which program it is, as far as it has told.
    """

    def __init__(
        self, number: int, address: str, strangers: Strangers, client: Callable[[], bytes]
    ) -> None:
        self._strangers = strangers
        self._client = client
        self._began = time.monotonic()
        self._is_known = False
        self._sessions = 0
        self._why_closed = ""
        self._refusals = RateLimit(_BURST, int(_REFILL * 1e9))
        self._left_out = 0
        self.fields: dict[str, object] = {"connection": number, "address": address or LOCAL}
        """Of whose it is: what is told of them has these."""
        self._tell("connection", "accepted")

    def _tell(self, event: str, outcome: str, **fields: object) -> None:
        if self._is_known:
            tell(event, outcome, **fields, **self.fields)
        else:
            client = text_of(self._client()) or None
            self._strangers.tell(event, outcome, **fields, **self.fields, client=client)

    def refused(self, reason: str) -> None:
        """The connection is closed before a login, or for a reason of ours after one."""
        if not self._is_known and not self._why_closed:
            self._tell("connection", "refused", reason=reason)
        self._why_closed = reason

    def key_refused(self, user: str, algorithm: bytes, refusal: Refusal) -> None:
        """A key that was offered does not get in."""
        signs_by = text_of(algorithm)
        self._tell("key", "refused", user=user, algorithm=signs_by, **refusal.fields)

    def login_refused(self, user: str, reason: str, **fields: object) -> None:
        """A try to log in has failed."""
        self._tell("login", "refused", user=user, reason=reason, **fields)

    def logged_in(self, operator: Operator) -> None:
        """A key was accepted."""
        self._is_known = True
        self.fields.update(operator.fields)
        self._tell("login", "accepted", client=text_of(self._client()))

    def request_refused(self, what: bytes, reason: str | None = None) -> None:
        """Something is not done here, or not for this key. Told at a bounded rate, else counted."""
        if self._refusals.allows(time.monotonic_ns()):
            self._tell("request", "refused", what=text_of(what), reason=reason)
        else:
            self._left_out += 1

    def session(self) -> dict[str, object]:
        """The fields of one more session."""
        self._sessions += 1
        return {**self.fields, "session": self._sessions}

    def closed(self) -> None:
        """The connection is lost."""
        if self._is_known or not self._why_closed:
            self._tell(
                "connection",
                "closed",
                reason=self._why_closed or None,
                seconds=time.monotonic() - self._began,
                refused=self._left_out or None,
            )


async def recorded(
    channel: SessionChannel,
    command: bytes | None,
    run: Callable[[], Coroutine[Any, Any, int]],
) -> int:
    """Run a session, and tell of its beginning and its end.

    Whatever is told in its context is its operator's.

    Args:
        channel: Its channel.
        command: What ``exec`` asks for; None for a shell.
        run: What it is.

    Returns:
        Its exit status.
    """
    asker.set(channel.conn.transport.trail.session())
    kind = "command" if command is not None else "terminal" if channel.terminal else "script"
    what = None if command is None else text_of(command)
    tell("session", "begun", kind=kind, what=what)
    began = time.monotonic()
    status: int | None = None
    raised: str | None = "CancelledError"
    try:
        status = await run()
        raised = None
    except Exception as error:
        raised = type(error).__name__
        raise
    finally:
        seconds = time.monotonic() - began
        # It is cancelled when the client goes.
        gone = "the client has gone" if raised == "CancelledError" else None
        tell(
            "session", "ended", kind=kind, status=status, seconds=seconds,
            raised=None if gone else raised, reason=gone,
        )  # fmt: skip
    return status
