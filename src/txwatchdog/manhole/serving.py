"""Serves one session: a console, a command or a script, as far as its operator's role goes.

All in the manhole's thread. What a session does not need is not imported.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from txwatchdog.auditlog import tell
from txwatchdog.interrupting import asking
from txwatchdog.manhole.roles import FULL
from txwatchdog.manhole.runner import Runner, nothing_to_settle
from txwatchdog.manhole.source import decode, heed_ctrl_c, read_script
from txwatchdog.manhole.spool import STDERR
from txwatchdog.manhole.statuses import RAISED, USAGE
from txwatchdog.manhole.verbs.lines import is_file_copy, verb_line
from txwatchdog.operators import tidy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from txwatchdog.manhole.around.looks import Around
    from txwatchdog.manhole.history import HistoryFile
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["run_session"]


async def run_session(
    channel: SessionChannel,
    command: bytes | None,
    watchdog: Any,
    namespace: Mapping[str, Any],
    *,
    history: HistoryFile | None = None,
    statement_timeout: float = 0.0,
    around: Around | None = None,
    settle: Callable[[], Awaitable[None]] = nothing_to_settle,
) -> int:
    """Be one session, from its first byte to its last.

    Args:
        channel: Its channel; ``terminal`` says whether there is one.
        command: What ``exec`` asks for; None for a shell.
        watchdog: The operator's.
        namespace: What the operator begins with.
        statement_timeout: Seconds that a statement may take in the reactor's thread; 0: any.
        history: Where a console's inputs are kept; None: not beyond the session.
        around: What looks around in the process.
        settle: As for a `Runner`.

    Returns:
        The exit status for the client.
    """
    asking.set(f"manhole: {tidy(channel.operator.name)}")
    if channel.operator.role != FULL:
        from txwatchdog.manhole.restricted import run_restricted

        return await run_restricted(channel, command, watchdog, around)
    runner = Runner(watchdog, namespace, channel, statement_timeout, around=around, settle=settle)
    channel.on_interrupt = runner.interrupt
    session = asyncio.current_task()
    assert session is not None
    session.add_done_callback(lambda _session: runner.interpreter.forget())
    if command is None and channel.terminal is not None:
        from txwatchdog.manhole.console import Console

        return await Console(channel, runner, history).interact()
    if command is None:
        source = await read_script(channel, runner.outlet)
    else:
        source = decode(command, runner.outlet)
    if source is None:
        return RAISED
    if command is not None and is_file_copy(source):
        runner.outlet.write("no files are copied here: this is a Python console\n", STDERR)
        tell("statement", "refused", what=source, reason="no files are copied here", status=USAGE)
        return USAGE
    line = None if command is None else verb_line(source)
    if line is not None:
        from txwatchdog.manhole.verbs.run import Verbs  # brings click

        return await Verbs(channel, watchdog, runner, around=around).run(line)
    if command is not None:
        heed_ctrl_c(channel, runner.interrupt)
    return (await runner.run(source)).status
