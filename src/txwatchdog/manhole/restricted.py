"""Sessions of operators who may not use Python: verbs, and nothing that leads elsewhere.

All in the manhole's thread. There is no interpreter in here, and no way to one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txwatchdog.auditlog import tell
from txwatchdog.manhole.spool import STDERR
from txwatchdog.manhole.trail import text_of
from txwatchdog.manhole.verbs.lines import verb_line
from txwatchdog.manhole.verbs.run import USAGE, Verbs, not_allowed, what_is_allowed

if TYPE_CHECKING:
    from txwatchdog.manhole.around.looks import Around
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["run_restricted"]

# Bytes. No verb needs more, and to find out that a megabyte is no Python would hold the GIL, and
# with it the service, which who may only look must not be able to do.
_LONGEST_COMMAND = 4096


async def run_restricted(
    channel: SessionChannel, command: bytes | None, watchdog: Any, around: Around | None = None
) -> int:
    """Be one session of an operator whose role is not full.

    Args:
        channel: Its channel.
        command: What ``exec`` asks for; None for a shell.
        watchdog: What the verbs ask.
        around: What else they ask.

    Returns:
        The exit status for the client.
    """
    operator = channel.operator
    verbs = Verbs(channel, watchdog, around=around)
    channel.on_interrupt = verbs.interrupt
    if operator.command is not None:
        # Whatever the client asks for; what it sends is not looked at.
        return await verbs.run(operator.command)
    if command is None:
        if channel.terminal is not None:
            return await verbs.run("live")
        complaint = what_is_allowed(operator.role)
    else:
        # What is not text is no verb, and what replaces it is none either.
        text = command.decode("utf-8", "replace")
        line = verb_line(text) if len(command) <= _LONGEST_COMMAND else None
        if line is not None:
            return await verbs.run(line)
        complaint = not_allowed("Python", operator.role)
        reason = f"the role {operator.role} does not allow Python"
        tell("statement", "refused", what=text_of(command), reason=reason, status=USAGE)
    channel.outlet.write(complaint + "\n", STDERR)
    return USAGE
