"""Puts the demo together and runs it: shop, site, watchdog, manhole, signals."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    globalLogBeginner,
    textFileLogObserver,
)
from zope.interface import implementer

from txwatchdog.demo.announce import Address, Announcement, Voice, colour_wanted, pause_line
from txwatchdog.demo.keys import arrange_access, fingerprint
from txwatchdog.demo.shop import Shop
from txwatchdog.demo.site import make_site
from txwatchdog.errors import DemoError
from txwatchdog.records import Pause
from txwatchdog.watchdog import Watchdog

if TYPE_CHECKING:
    from txwatchdog.metrics import MetricsServer

__all__ = ["Options", "run_demo"]

# Seconds. The manhole binds its port in its own thread; that takes milliseconds.
_LISTENING_WITHIN = 10.0
# A console that does not close must not keep Ctrl-C from working.
_CLOSED_WITHIN = 5.0


@frozen
class Options:
    """What the command was given.

    Attributes:
        manhole: The console's endpoint, in Twisted's notation.
        http: The pages' endpoint.
        keys: The console's keys.
        threshold: The watchdog's, in seconds.
        metrics: Where metrics for Prometheus are served; None: nowhere.
        statement_timeout: The console's, in seconds; 0 for none.
        history: Whether the console keeps what is typed.
        blackbox: The watchdog's; None for none.
        audit: The audit trail's file; None for none.
    """

    manhole: str
    http: str
    keys: Path
    threshold: float
    metrics: str | None = None
    statement_timeout: float = 30.0
    history: bool = True
    blackbox: Path | None = None
    audit: Path | None = None


def run_demo(options: Options) -> None:
    """Run the demo until it is stopped by Ctrl-C or SIGTERM.

    Raises:
        WatchdogError: It could not start.
    """
    from twisted.internet import reactor

    # Whichever reactor is the default here, it has all the interfaces that are needed.
    demo = _Demo(reactor, options)
    try:
        demo.prepare()
        demo.run()
    finally:
        demo.close()


class _Demo:
    """Everything that runs. Belongs to the main thread, which is the reactor's."""

    _log = Logger(namespace="txwatchdog.demo")

    def __init__(self, reactor: Any, options: Options) -> None:
        self._reactor = reactor
        self._options = options
        if hasattr(sys.stdout, "reconfigure"):
            # A path may hold what the terminal's encoding does not.
            sys.stdout.reconfigure(errors="backslashreplace")
        self._voice = Voice(
            sys.stdout,
            colour=colour_wanted(sys.stdout, os.environ),
            on_closed=lambda: reactor.callFromThread(self._stop),
        )
        self._stopping = self._announced = False
        self._failure: DemoError | None = None
        self._shop: Shop | None = None
        self._watchdog: Watchdog | None = None
        self._metrics: MetricsServer | None = None

    def prepare(self) -> None:
        """Make everything and listen, so that what can't be is said before anything runs.

        Raises:
            WatchdogError: A port is taken, or keys are unusable.
        """
        from txwatchdog.manhole import Manhole

        _log_to_stderr()
        options, reactor = self._options, self._reactor
        self._shop = shop = Shop(reactor, options.threshold)
        site = make_site(shop, reactor, options.threshold)
        self._port = _listen(reactor, options.http, site)
        # A TCP port's address has a host and a port; IListeningPort promises less.
        self._http = cast(Address, self._port.getHost())
        self._access = arrange_access(options.keys, Path.home() / ".ssh")
        self._watchdog = Watchdog(reactor, threshold=options.threshold, blackbox=options.blackbox)
        self._watchdog.on_pause(self._say_pause)
        self._manhole = Manhole(
            self._watchdog,
            endpoint=options.manhole,
            keys=str(options.keys),
            namespace={"service": shop, "site": site},
            statement_timeout=options.statement_timeout,
            history=options.history,
            audit=options.audit,
        )
        self._manhole.start()
        if options.metrics is not None:
            from txwatchdog.metrics import MetricsServer  # brings prometheus_client

            self._metrics = MetricsServer(self._watchdog, options.metrics)
            self._metrics.start()

    def run(self) -> None:
        """Run the reactor until the end.

        Raises:
            DemoError: The manhole did not listen in time.
        """
        reactor = self._reactor
        reactor.callWhenRunning(self._take_signals)
        reactor.callWhenRunning(self._wait_for_manhole)
        reactor.addSystemEventTrigger("before", "shutdown", self._hang_up)
        reactor.run()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Let go of what needs no reactor; may be repeated, and before `prepare` too."""
        if self._watchdog is not None and self._announced:
            # It has seen the last pause only once it is stopped.
            self._watchdog.stop()
            stats = self._watchdog.stats()
            paused = f"{stats['paused_seconds']:.1f} s in all"
            self._voice.say(f"Stopped. Pauses: {stats['pauses']}, {paused}.")
        if self._metrics is not None:
            self._metrics.stop()
        if self._shop is not None:
            self._shop.close()

    def _take_signals(self) -> None:
        # The reactor's own handlers complain about a second Ctrl-C, which is what people type
        # when the first one waits for a pause to end.
        def stop(_number: int, _frame: object) -> None:
            self._reactor.callFromThread(self._stop)

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()

    def _wait_for_manhole(self) -> None:
        """Announce everything as soon as the manhole has its port."""
        deadline = self._reactor.seconds() + _LISTENING_WITHIN

        def look() -> None:
            if self._manhole.address is not None:
                looking.stop()
                self._begin(cast(Address, self._manhole.address))
            elif self._reactor.seconds() > deadline:
                looking.stop()
                self._failure = DemoError(
                    f"The console did not listen on {self._options.manhole} within "
                    f"{_LISTENING_WITHIN:g} s: try again, or give another --manhole."
                )
                self._stop()

        looking = LoopingCall(look)
        looking.clock = self._reactor
        looking.start(0.01).addErrback(self._startup_failed)

    def _startup_failed(self, failure: Any) -> None:
        self._log.failure("The demo could not start", failure)
        self._failure = DemoError("The demo could not start: the traceback above says why.")
        self._stop()

    def _begin(self, manhole: Address) -> None:
        assert self._shop is not None
        assert self._watchdog is not None
        announcement = Announcement(
            http=self._http,
            manhole=manhole,
            metrics=cast("Address | None", self._metrics and self._metrics.address),
            access=self._access,
            host_key=fingerprint(self._options.keys / "host_ed25519"),
            tasks=self._shop.tasks,
            threshold=self._options.threshold,
        )
        self._announced = True
        self._watchdog.start()
        self._shop.open()
        self._voice.say_all(announcement.lines(self._voice.bold))

    def _say_pause(self, pause: Pause) -> None:
        # In the watch thread.
        self._voice.say(self._voice.red(pause_line(pause)))

    def _hang_up(self) -> Deferred[Any]:
        """Close both ports; the reactor waits for it before it ends."""
        closing: list[Deferred[Any]] = [
            maybeDeferred(self._port.stopListening),
            self._manhole.stop().addTimeout(_CLOSED_WITHIN, self._reactor),
        ]
        for each in closing:
            each.addErrback(lambda failure: self._log.failure("while stopping", failure))
        return gatherResults(closing)


def _listen(reactor: Any, endpoint: str, site: Any) -> IListeningPort:
    """Listen for HTTP at once.

    Raises:
        DemoError: Another program has the port, or it is not ours to take.
    """
    outcome: list[Any] = []
    serverFromString(reactor, endpoint).listen(site).addBoth(outcome.append)
    # A TCP endpoint listens while it is asked to, with no reactor running.
    (result,) = outcome
    if IListeningPort.providedBy(result):
        return result
    if not result.check(CannotListenError):
        result.raiseException()
    error = result.value
    reason = getattr(error.socketError, "strerror", None) or error.socketError
    where = f"{error.interface or '0.0.0.0'}:{error.port}"  # noqa: S104 - only named
    raise DemoError(
        f"The pages can't be served on {where} ({reason}): stop what listens there, "
        f"or give another --http, such as --http tcp:0:interface=127.0.0.1 for any free port."
    )


def _log_to_stderr() -> None:
    """Show what is wrong on stderr, but no pauses: those are printed as lines of their own."""
    warnings = LogLevelFilterPredicate(LogLevel.warn)

    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [_NoPauses(), warnings])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)


@implementer(ILogFilterPredicate)
class _NoPauses:
    def __call__(self, event: LogEvent) -> Any:
        pause = event.get("log_namespace") == "txwatchdog.pause"
        return PredicateResult.no if pause else PredicateResult.maybe
