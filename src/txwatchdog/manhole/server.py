"""The manhole's life: listening, a thread with a loop of its own, and an end without a trace.

`Manhole` lives in the reactor's thread, `_Server` in the manhole's. Each start has a `_Server` of
its own, so that nothing of an old one can get mixed up with the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogPublisher

from txwatchdog.binding import refusal
from txwatchdog.loops import LoopThread
from txwatchdog.manhole.around.failures import Failures
from txwatchdog.manhole.around.looks import Around
from txwatchdog.manhole.auditfile import AuditFile
from txwatchdog.manhole.carrier import Carrier, Clock, Connections
from txwatchdog.manhole.door import Door
from txwatchdog.manhole.limits import Admission, Limits, Places
from txwatchdog.manhole.strangers import Strangers
from txwatchdog.reactor import ReactorThread

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Coroutine, Mapping

    from twisted.conch.ssh.keys import Key
    from twisted.internet.interfaces import IAddress

    from txwatchdog.manhole.keyring import Keyring
    from txwatchdog.manhole.limits import Visit
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["Manhole"]

_log = Logger(namespace="txwatchdog.manhole")

_FAREWELL = 0.3  # seconds that open connections get to take their last bytes
_PATIENCE = 1.5  # seconds after which a stop no longer waits for the thread


class Manhole:
    """A Python console in this process, over SSH, that answers while the reactor is stuck.

    All methods are to be called in the reactor's thread, or before the reactor runs; `stop` may be
    called from any thread.

    Args:
        watchdog: The watchdog of the reactor that runs here; operators find it as ``watchdog``.
        endpoint: A server endpoint string of Twisted's (``tcp:``, ``tcp6:``, ``unix:``,
            ``systemd:``). Without ``interface=`` only this host can connect.
        keys: The directory of the host key and ``authorized_keys``; the host key, and the
            directory itself, are made at the first start.
        namespace: The names that each operator begins with, beside ``watchdog``.
        limits: How much of it anyone may have; None for the defaults.
        history: Whether what is typed in consoles is kept from session to session, for each key
            in a file of its own (mode 0600, 1000 inputs or 1 MiB) in ``history`` in `keys`.
        statement_timeout: Seconds after which a statement that runs in the reactor's thread is
            interrupted; 0 for never.
        audit: A file to which the audit trail (``txwatchdog.audit``) is written, too, an event a
            line, as JSON; made with mode 0600 if it is missing.

    Raises:
        ValueError: `statement_timeout` is no number of seconds.
    """

    def __init__(
        self,
        watchdog: Any,
        endpoint: str = "tcp:2222:interface=127.0.0.1",
        keys: str | os.PathLike[str] = "keys",
        namespace: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        *,
        history: bool = True,
        statement_timeout: float = 30.0,
        audit: str | os.PathLike[str] | None = None,
    ) -> None:
        if not (math.isfinite(statement_timeout) and statement_timeout >= 0):
            raise ValueError(
                f"statement_timeout must be a number of seconds, or 0, not {statement_timeout!r}"
            )
        self._statement_timeout = statement_timeout
        self._watchdog = watchdog
        self._reactor = watchdog.reactor
        self._thread = ReactorThread(watchdog.reactor)
        self._endpoint = endpoint
        # Absolute now: a service that daemonises changes its directory.
        self._keys = Path(keys).absolute()
        self._namespace = dict(namespace or {})
        self._limits = limits or Limits()
        self._history = self._keys if history else None
        self._failures = Failures()
        self._around = Around(self._reactor, self._failures)
        self._audit = None if audit is None else Path(audit).absolute()
        self._server: _Server | None = None
        self._ending: _Server | None = None
        self._withdraw_launch: Callable[[], None] = lambda: None
        self._shutdown_trigger: Any = None

    @property
    def address(self) -> IAddress | None:
        """Where it listens, as an address of Twisted's; None while it does not. Any thread."""
        server = self._server
        return None if server is None else server.address

    def start(self) -> None:
        """Begin to listen; sessions are served as soon as the reactor runs.

        What can fail does so here; if there is no thread to be had then, the log says so. Starting
        what is started is harmless.

        Raises:
            KeysError: The host key or ``authorized_keys`` is missing, unsafe or unreadable.
            ListenError: The endpoint can't be listened on.
            AuditError: The audit trail's file can't be written to.
        """
        if self._server is not None:
            if self._server.address is not None:
                return
            self.stop()
        if self._ending is not None:
            # The one before still holds the address; it is about to let go of it.
            self._ending.join(_PATIENCE)
        try:
            from txwatchdog.manhole.keyring import Keyring  # brings Conch
        except OSError as error:  # no descriptor to read it by
            raise refusal(self._endpoint, error) from error
        keyring = Keyring(self._keys)
        host_key = keyring.load()
        audit = None if self._audit is None else AuditFile(self._audit)
        if audit is not None:
            audit.open()
        try:
            server = self._server = _Server(
                self._watchdog,
                self._endpoint,
                host_key,
                keyring,
                namespace=self._namespace,
                limits=self._limits,
                history=self._history,
                statement_timeout=self._statement_timeout,
                around=self._around,
                audit=audit,
                on_ended=self._ended,
            )
        except BaseException:
            if audit is not None:
                audit.close()
            raise
        globalLogPublisher.addObserver(self._failures)
        self._shutdown_trigger = self._reactor.addSystemEventTrigger(
            "before", "shutdown", self._shut_down
        )
        # Not before: a thread does not survive the fork of a service that daemonises.
        self._withdraw_launch = self._thread.when_running(server.launch)

    def stop(self) -> Deferred[None]:
        """Close all sessions and stop listening. From any thread, any number of times.

        Returns:
            Fires in the reactor's thread when the thread, its loop and its descriptors are gone.
            Once the reactor has stopped, it has already fired.
        """
        done: Deferred[None] = Deferred()
        if self._reactor.running and not self._thread.is_current:
            contextvars.Context().run(self._reactor.callFromThread, self._stop, done)
        else:
            self._stop(done)
        return done

    def _shut_down(self) -> Deferred[None]:
        """Called by the reactor when it shuts down; it waits for the result."""
        self._shutdown_trigger = None
        done: Deferred[None] = Deferred()
        self._stop(done)
        return done

    def _stop(self, done: Deferred[None]) -> None:
        server, self._server = self._server, None
        self._withdraw_launch()
        globalLogPublisher.removeObserver(self._failures)
        if self._shutdown_trigger is not None:
            with contextlib.suppress(Exception):  # the reactor is shutting down already
                self._reactor.removeSystemEventTrigger(self._shutdown_trigger)
            self._shutdown_trigger = None
        if server is not None and server.end():
            self._ending = server
        if self._ending is None:
            done.callback(None)
            return
        self._ending.waiting.append(done)
        if not self._reactor.running:
            # No reactor will tell when it is over, so it is waited for.
            self._ended(self._ending)

    def _ended(self, server: _Server) -> None:
        """Called in the reactor's thread when a server's thread is at its end, or seems stuck."""
        server.join(_PATIENCE)
        if self._ending is server:
            self._ending = None
        waiting, server.waiting = server.waiting, []
        for done in waiting:
            done.callback(None)


class _Server(LoopThread):
    """One listening socket and the thread that serves it.

    Args:
        watchdog: For the operators.
        endpoint: Where to listen.
        host_key: Who we are.
        keyring: Who gets in.
        namespace: What operators begin with.
        limits: How much anyone may have.
        history: The keys directory, in which inputs are kept; None: they are not.
        statement_timeout: For their statements.
        around: What looks around in the process.
        audit: The audit trail's file, which is open, and closed at the end; None: there is none.
        on_ended: Called in the reactor's thread when the thread is at its end, or when it does not
            end in time; possibly both.

    Raises:
        ListenError: The endpoint can't be listened on.
    """

    def __init__(
        self,
        watchdog: Any,
        endpoint: str,
        host_key: Key,
        keyring: Keyring,
        *,
        namespace: Mapping[str, Any],
        limits: Limits,
        history: Path | None,
        statement_timeout: float,
        around: Around,
        audit: AuditFile | None,
        on_ended: Callable[[_Server], None],
    ) -> None:
        super().__init__(endpoint, name="txwatchdog-manhole", whose="the manhole", log=_log)
        self._watchdog = watchdog
        self._reactor = watchdog.reactor
        self._host_key = host_key
        self._keyring = keyring
        self._namespace = namespace
        self._limits = limits
        self._history = history
        self._statement_timeout = statement_timeout
        self._around = around
        self._audit = audit
        self._on_ended = on_ended
        self.waiting: list[Deferred[None]] = []
        """To be fired at the end; only the reactor's thread touches it."""
        self._connections = Connections()
        self._stuck: Any = None  # the reactor's timer for a thread that does not end

    def end(self) -> bool:
        """In the reactor's thread."""
        is_ending = super().end()
        if is_ending and self._reactor.running:
            self._stuck = self._reactor.callLater(_PATIENCE, self._on_ended, self)
        return is_ending

    def join(self, seconds: float) -> None:
        stuck, self._stuck = self._stuck, None
        if stuck is not None and stuck.active():
            stuck.cancel()
        super().join(seconds)

    def _start(self, thread: threading.Thread) -> None:
        if self._audit is not None:
            self._audit.begin()
        super()._start(thread)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._run(loop)
        with contextlib.suppress(Exception):  # the reactor is gone, so nobody waits either
            contextvars.Context().run(self._reactor.callFromThread, self._on_ended, self)

    def _close(self) -> None:
        super()._close()
        if self._audit is not None:
            self._audit.close()  # all has been told

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept connections until it is over."""
        from txwatchdog.manhole.history import HistoryFile, history_path
        from txwatchdog.manhole.runner import nothing_to_settle
        from txwatchdog.manhole.serving import run_session
        from txwatchdog.manhole.session import Connection
        from txwatchdog.manhole.ssh import Factory
        from txwatchdog.manhole.trail import recorded

        def begin(channel: SessionChannel, command: bytes | None) -> Coroutine[Any, Any, int]:
            kept = self._history
            history = None
            if kept is not None:
                history = HistoryFile(history_path(kept, channel.operator.fingerprint))
            run = functools.partial(
                run_session,
                channel,
                command,
                self._watchdog,
                self._namespace,
                history=history,
                statement_timeout=self._statement_timeout,
                around=self._around,
                settle=nothing_to_settle if self._audit is None else self._audit.written,
            )
            return recorded(channel, command, run)

        clock = Clock(loop)
        strangers = Strangers(clock)
        sessions = Places(self._limits.sessions)
        factory = Factory(
            self._host_key,
            self._keyring.admit,
            lambda operator: Connection(operator, begin, loop, sessions),
            clock=clock,
            limits=self._limits,
            strangers=strangers,
        )
        connections = self._connections

        def receive(visit: Visit) -> Carrier:
            return Carrier(lambda: factory.build(visit), loop, connections)

        door = Door(self._listening, loop, Admission(self._limits), strangers, receive)
        door.open()
        await self._is_over.wait()
        door.close()
        for connection in list(connections):
            connection.farewell()
        await connections.wait_empty(_FAREWELL)
        for connection in list(connections):
            connection.abort()
        await connections.wait_empty(_FAREWELL)
        others = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_FAREWELL)
        strangers.flush()
