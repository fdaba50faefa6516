"""Runs a session's verbs: what each takes, where it prints, how it ends. In the manhole's thread.

A verb itself is carried out in a short-lived thread: `stop` may wait a second for the watch
thread, `export` formats a hundred stacks, and a disk that source lines are read from may hang.
Neither another session nor Ctrl-C has to wait for that.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import TYPE_CHECKING, Any

from attrs import frozen

from txwatchdog.auditlog import tell
from txwatchdog.manhole.roles import TUNE, allows
from txwatchdog.manhole.script import give_arguments
from txwatchdog.manhole.source import heed_ctrl_c, read_script
from txwatchdog.manhole.spool import STDERR
from txwatchdog.manhole.statuses import INTERRUPTED, RAISED, USAGE
from txwatchdog.manhole.verbs.lines import NAMES
from txwatchdog.manhole.verbs.table import VERBS, Call, UsageError, read_order
from txwatchdog.manhole.worker import in_worker_until

if TYPE_CHECKING:
    from txwatchdog.manhole.around.looks import Around
    from txwatchdog.manhole.runner import Runner
    from txwatchdog.manhole.session import SessionChannel
    from txwatchdog.manhole.verbs.table import Order

__all__ = ["Verbs", "not_allowed", "what_is_allowed"]

_OUTCOMES = {0: "done", USAGE: "not understood", INTERRUPTED: "interrupted"}

_WIDTH = 100  # columns, where there is no terminal


def what_is_allowed(role: str) -> str:
    """What a role may do, in a line.

    Args:
        role: Not full, which may do everything.
    """
    names = " ".join(name for name in NAMES if allows(role, VERBS[name].role_for({})))
    rest = "" if allows(role, TUNE) else ", and change nothing"
    return f"this key's role is {role}: it may run {names}{rest}; on a terminal it opens live"


def not_allowed(what: str, role: str) -> str:
    """What is said of something that a role does not allow.

    Args:
        what: The verb line, or ``Python``.
        role: The operator's.
    """
    return f"{what[:80]}: not allowed; {what_is_allowed(role)}"


@frozen
class _Done:
    """What a verb came to.

    Attributes:
        status: The exit status.
        outcome: The same in a word, for the audit trail; empty for the usual one.
        raised: The name of the type of what it raised.
    """

    status: int
    outcome: str = ""
    raised: str | None = None


class Verbs:
    """Runs one session's verbs, one after the other.

    Args:
        channel: The session's.
        watchdog: What they ask.
        runner: For the verb that runs Python, where there is one.
        in_console: Whether a console has the client's input, and hands Ctrl-C over itself.
        around: What looks around in the process.
    """

    def __init__(
        self,
        channel: SessionChannel,
        watchdog: Any,
        runner: Runner | None = None,
        *,
        in_console: bool = False,
        around: Around | None = None,
    ) -> None:
        self._channel = channel
        self._around = around
        self._watchdog = watchdog
        self._runner = runner
        self._role = channel.operator.role
        self._in_console = in_console
        self._outlet = channel.outlet
        self._interrupted = asyncio.Event()

    def interrupt(self) -> None:
        """The operator pressed Ctrl-C while a verb runs."""
        self._interrupted.set()

    async def run(self, line: str) -> int:
        """Run a verb to its end, or to the operator's patience's.

        Args:
            line: From `lines.verb_line`.

        Returns:
            The exit status: 0, 1 if it raised or failed, 2 if it can't be understood or the
            operator's role does not allow it, 130 if given up.
        """
        began = time.monotonic()
        done = _Done(INTERRUPTED, "abandoned")  # the client may go
        try:
            done = await self._run(line)
        finally:
            outcome = done.outcome or _OUTCOMES.get(done.status, "failed")
            seconds = time.monotonic() - began
            tell(
                "verb", outcome, what=line, status=done.status, seconds=seconds, raised=done.raised
            )
        return done.status

    async def _run(self, line: str) -> _Done:
        self._interrupted.clear()
        try:
            order = read_order(line)
        except UsageError as error:
            return self._complain(str(error), USAGE)
        if isinstance(order, str):
            self._outlet.write(order + "\n")
            return _Done(0)
        if not allows(self._role, order.role):
            return self._complain(not_allowed(line, self._role), USAGE, "refused")
        if order.verb.place == "terminal":
            return await self._on_terminal()
        if order.verb.place == "stdin":
            return await self._script(order)
        return await self._carry_out(order)

    async def _carry_out(self, order: Order) -> _Done:
        terminal = self._channel.terminal
        call = Call(
            self._watchdog,
            width=_WIDTH if terminal is None else terminal.columns,
            colour=terminal is not None and terminal.has_colour,
            role=self._role,
            around=self._around,
        )
        if not self._in_console:
            heed_ctrl_c(self._channel, self.interrupt)
        text = await in_worker_until(
            self._interrupted,
            lambda: order.carry_out(call),
            or_here=order.verb.place == "anywhere",
        )
        if text.cancelled():
            return self._complain(f"{order.verb.name}: given up", INTERRUPTED)
        error = text.exception()
        if error is None:
            answer = text.result()
            self._outlet.write(answer.text + "\n")
            return _Done(answer.status)
        text_of_it = "".join(traceback.format_exception(error)).rstrip("\n")
        return self._complain(text_of_it, RAISED, "raised", type(error).__name__)

    async def _on_terminal(self) -> _Done:
        terminal = self._channel.terminal
        if terminal is None:
            return self._complain(
                "live: it fills a terminal, and there is none: ssh -t … live", USAGE
            )
        if not terminal.moves:
            return self._complain(
                f"live: a terminal of the kind {terminal.name!r} can't show it; top, stack and "
                "pauses work there",
                USAGE,
            )
        # 55 ms and 7 MiB, so only for those who come to look.
        from txwatchdog.manhole.live.screen import LiveScreen

        may_change = allows(self._role, TUNE)
        screen = LiveScreen(self._channel, self._watchdog, may_change=may_change)
        return _Done(await screen.run())

    async def _script(self, order: Order) -> _Done:
        runner, arguments = self._runner, list(order.options["arguments"])
        if runner is None or self._channel.terminal is not None:
            return self._complain(
                "python: it reads a script from standard input, and a terminal is no script: "
                "ssh … python < script.py; without a word ssh … is a console",
                USAGE,
            )
        if arguments and arguments[0] != "-":
            return self._complain(
                f"python: there is no file {arguments[0]!r} to be read here; send it: "
                f"ssh … python - < {arguments[0]}",
                USAGE,
            )
        source = await read_script(self._channel, self._outlet)
        if source is None:
            return _Done(RAISED)
        give_arguments(runner.interpreter.namespace, arguments or ["-"])
        return _Done((await runner.run(source)).status)

    def _complain(
        self, message: str, status: int, outcome: str = "", raised: str | None = None
    ) -> _Done:
        self._outlet.write(message + "\n", STDERR)
        return _Done(status, outcome, raised)
