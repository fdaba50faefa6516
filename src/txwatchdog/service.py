"""Watchdog and manhole as one service of `twisted.application`, for a ``.tac`` or a plugin."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger

from txwatchdog.systemd import Notifier
from txwatchdog.watchdog import Watchdog

if TYPE_CHECKING:
    from txwatchdog.manhole import Limits, Manhole
    from txwatchdog.metrics import MetricsServer

__all__ = ["Part", "WatchdogService"]

_log = Logger(namespace="txwatchdog")


class Part(Protocol):
    """What can be plugged into a `WatchdogService`. Called in the reactor's thread."""

    def start(self) -> object:
        """Begin; called when the service starts, perhaps before the reactor runs."""

    def stop(self) -> object:
        """End; called when the service stops. A Deferred that it returns is waited for."""


MakePart: TypeAlias = Callable[[Watchdog], Part]


class WatchdogService(Service):
    """A watchdog and a manhole that start and stop with the services around them.

    Whatever can't be started is logged, and the others start all the same, the services around it
    among them: no port that is taken and no key that is missing keeps a service down.

    Args:
        reactor: The reactor to watch. None: the one that is installed when it is first wanted,
            which is when the service starts, or when someone asks for `watchdog` before.
        threshold: Seconds; a tick of the reactor that lasts longer is a pause.
        blackbox: A file that tells the next start if this run died while paused. None: none.
        manhole: The console's endpoint, a server endpoint string of Twisted's. None: no manhole.
        keys: The directory of its host key and ``authorized_keys``.
        namespace: The names that its operators find beside ``watchdog``, ``reactor`` and
            ``service``, the outermost of the services that this one is part of.
        limits: How much of the manhole anyone may have. None: the defaults.
        history: Whether it keeps what is typed, in the keys directory.
        statement_timeout: Seconds after which a statement is interrupted; 0 for never.
        audit: A file in which who did what in the manhole is kept. None: only in the log.
        metrics: The endpoint at which metrics for Prometheus are served, as `manhole`'s. None:
            nowhere. Needs the extra `metrics`.
        systemd: Whether systemd is told how the reactor does, if it asks for that: see
            `txwatchdog.systemd.Notifier`. False for a service that tells it itself.

    Raises:
        ValueError: An argument is not one of these. Without a reactor: when it is first wanted.
    """

    name = "txwatchdog"

    def __init__(
        self,
        reactor: IReactorCore | None = None,
        *,
        threshold: float = 0.5,
        blackbox: str | os.PathLike[str] | None = None,
        manhole: str | None = "tcp:2222:interface=127.0.0.1",
        keys: str | os.PathLike[str] = "keys",
        namespace: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        history: bool = True,
        statement_timeout: float = 30.0,
        audit: str | os.PathLike[str] | None = None,
        metrics: str | None = None,
        systemd: bool = True,
    ) -> None:
        self._reactor = reactor
        self._threshold = threshold
        # Absolute now: a service that daemonises changes its directory.
        self._blackbox = None if blackbox is None else os.path.abspath(blackbox)  # noqa: PTH100 - bytes too
        self._endpoint = manhole
        self._keys = os.path.abspath(keys)  # noqa: PTH100 - likewise
        self._namespace = dict(namespace or {})
        self._limits = limits
        self._history = history
        self._statement_timeout = statement_timeout
        self._audit = None if audit is None else os.path.abspath(audit)  # noqa: PTH100 - likewise
        self._watchdog: Watchdog | None = None
        if reactor is not None:
            _ = self.watchdog  # now, so that what is wrong with an argument is said here
        self._manhole: Manhole | None = None
        self._makers: list[MakePart] = [Notifier] if systemd else []
        if metrics is not None:
            self.plug(_serving(metrics))
        self._parts: list[Part] = []
        self.problems: list[str] = []
        """What could not be started when the service last was, a sentence each."""

    @property
    def watchdog(self) -> Watchdog:
        """The watchdog. Asking for it imports the reactor, if none was given."""
        if self._watchdog is None:
            if self._reactor is None:
                from twisted.internet import reactor

                self._reactor = cast(IReactorCore, reactor)
            self._watchdog = Watchdog(self._reactor, self._threshold, blackbox=self._blackbox)
        return self._watchdog

    @property
    def manhole(self) -> Manhole | None:
        """The manhole; None if there is to be none."""
        if self._manhole is None and self._endpoint is not None:
            from txwatchdog.manhole import Manhole

            self._manhole = Manhole(
                self.watchdog,
                endpoint=self._endpoint,
                keys=self._keys,
                namespace=self._names(),
                limits=self._limits,
                history=self._history,
                statement_timeout=self._statement_timeout,
                audit=self._audit,
            )
        return self._manhole

    def plug(self, make: MakePart) -> None:
        """Have something else start and stop with the service.

        Args:
            make: Called with the watchdog at each start; returns what is to be started. A class
                whose constructor takes a watchdog is one.
        """
        self._makers.append(make)

    def startService(self) -> None:
        """Start everything; called by the services around it.

        Raises:
            ValueError: An argument of the constructor was not as it must be.
        """
        watchdog, manhole = self.watchdog, self.manhole
        super().startService()
        self.problems.clear()
        if manhole is not None:
            self._try("manhole", manhole.start)
        for make in self._makers:
            self._try(getattr(make, "__name__", repr(make)), partial(self._add, make))
        # Last: if the reactor runs already, its tick counts from here, without what we took of it.
        self._try("watchdog", watchdog.start)

    def stopService(self) -> Deferred[None]:
        """Stop everything; called by the services around it.

        Returns:
            Fires when all is gone.
        """
        super().stopService()
        parts, self._parts = self._parts, []
        # The latest first, as services are; the watchdog last, to see the others stop.
        stopping = [maybeDeferred(part.stop) for part in reversed(parts)]
        if self._manhole is not None:
            stopping.append(maybeDeferred(self._manhole.stop))
        for each in stopping:
            each.addErrback(lambda failure: _log.failure("while stopping", failure))
        return gatherResults(stopping).addCallback(lambda _: self._stop_watchdog())

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()

    def _add(self, make: MakePart) -> None:
        part = make(self.watchdog)
        self._parts.append(part)  # also if it can't be started: it may have got half-way
        part.start()

    def _try(self, what: str, start: Callable[[], object]) -> None:
        try:
            start()
        except Exception as error:
            problem = f"no {what}: {str(error) or repr(error)}"
            self.problems.append(problem)
            _log.error("{problem}; the service goes on without it", problem=problem)

    def _names(self) -> dict[str, Any]:
        """What operators begin with."""
        names: dict[str, Any] = {"reactor": self.watchdog.reactor}
        root: Any = self
        while (parent := getattr(root, "parent", None)) is not None:
            root = parent
        if root is not self:
            names["service"] = root
        return {**names, **self._namespace}


def _serving(endpoint: str) -> MakePart:
    # One for all starts: it counts from its making on, and its counters must not begin anew.
    server: MetricsServer | None = None

    def metrics(watchdog: Watchdog) -> Part:
        nonlocal server
        if server is None:
            from txwatchdog.metrics import MetricsServer  # which brings prometheus-client

            server = MetricsServer(watchdog, endpoint)
        return server

    return metrics
