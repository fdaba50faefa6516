"""``txwatchdog run``: any Twisted program, unchanged, with watchdog and manhole inside.

`Run` waits for the program to install its reactor, starts a `WatchdogService` when that runs, and
sums up when it has ended. Nothing that goes wrong here keeps the program from anything.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import twisted.internet.main
from attrs import frozen
from twisted.logger import Logger

from txwatchdog.summary import summary

if TYPE_CHECKING:
    from txwatchdog.activity import Activity
    from txwatchdog.program import Program
    from txwatchdog.service import WatchdogService

__all__ = ["Options", "run_program", "service_roots"]

_REACTOR = "twisted.internet.reactor"

_log = Logger(namespace="txwatchdog.run")


@frozen
class Options:
    """What the command was given.

    Attributes:
        threshold: Seconds; a tick that lasts longer is a pause.
        manhole: The console's endpoint; None for none.
        keys: Its keys.
        metrics: Where metrics are served; None for nowhere.
        audit: Where it is kept who did what in the console; None for nowhere but the log.
        blackbox: The black box's file; None for none.
        report: Where the report is written at the end; None for none.
        systemd: Whether systemd is told how the reactor does, if it asks for that.
        quiet: Whether nothing is said on stderr.
    """

    threshold: float = 0.5
    manhole: str | None = "tcp:2222:interface=127.0.0.1"
    keys: Path = Path("keys")
    metrics: str | None = None
    audit: Path | None = None
    blackbox: Path | None = None
    report: Path | None = None
    systemd: bool = True
    quiet: bool = False


def run_program(program: Program, options: Options) -> None:
    """Run `program` to its end, watched as soon as its reactor runs.

    Raises:
        BaseException: Whatever the program raises.
    """
    from txwatchdog.program import begin

    run = Run(program.name, options)
    run.wait_for_reactor()
    begin(program)


class Run:
    """One program's run. Belongs to the main thread, in which reactors run.

    Args:
        name: The program's.
        options: What the command was given.
        stderr: Where to say what there is to say.
    """

    def __init__(self, name: str, options: Options, stderr: TextIO | None = None) -> None:
        self._name = Path(name).name
        self._options = options
        # Absolute now: a program that daemonises changes its directory.
        self._report = options.report and options.report.absolute()
        self._keys = options.keys.absolute()
        self._audit = options.audit and options.audit.absolute()
        self._blackbox = options.blackbox and options.blackbox.absolute()
        self._voice = _Voice(sys.stderr if stderr is None else stderr, quiet=options.quiet)
        # The process that speaks at the end: the one in which the reactor ran, which may have been
        # forked, and none that is forked later.
        self._pid = os.getpid()
        self._service: WatchdogService | None = None
        self._before: Activity | None = None
        self._is_over = False

    def wait_for_reactor(self) -> None:
        """Have the watchdog started when the program's reactor runs, whichever it installs."""
        # First, so that it is called last.
        atexit.register(self._end)
        with contextlib.suppress(Exception):  # it is imported again when wanted, and told then
            _warm_up(self._options)
        if _REACTOR in sys.modules:  # someone was before us: a sitecustomize, for one
            self._installed(sys.modules[_REACTOR])
            return
        module: Any = twisted.internet.main
        install = module.installReactor

        @functools.wraps(install)
        def install_reactor(reactor: Any) -> None:
            install(reactor)
            if module.installReactor is install_reactor:
                module.installReactor = install  # there can be but one
            self._installed(reactor)

        module.installReactor = install_reactor

    def _installed(self, reactor: Any) -> None:
        try:
            reactor.callWhenRunning(self._begin, reactor)
        except Exception as error:  # no reactor of Twisted's kind
            self._say([f"nothing is watched: {reactor!r} can't be asked when it runs ({error!r})"])

    def _begin(self, reactor: Any) -> None:
        """The reactor runs. Called by it, before whatever the program asked of it."""
        try:
            self._pid = os.getpid()
            from txwatchdog.service import WatchdogService

            options = self._options
            names = {"main": sys.modules["__main__"], **service_roots(sys._getframe())}
            self._service = service = WatchdogService(
                reactor,
                threshold=options.threshold,
                blackbox=self._blackbox,
                manhole=options.manhole,
                keys=self._keys,
                audit=self._audit,
                metrics=options.metrics,
                namespace=names,
                systemd=options.systemd,
            )
            service.startService()
            self._before = service.watchdog.activity()
            # After the watchdog's own trigger, which lets it see the shutdown, too.
            reactor.addSystemEventTrigger("after", "shutdown", self._end)
            self._say([f"{problem} (the program goes on without)" for problem in service.problems])
            address = service.manhole.address if service.manhole is not None else None
            _log.info("watching {program}; console: {address}", program=self._name, address=address)
        except Exception as error:
            self._say([f"not all is watched: {error!r}"])

    def _end(self) -> None:
        """Sum up, once: when the reactor has shut down, or at the latest when Python exits."""
        if self._is_over or os.getpid() != self._pid:
            return
        self._is_over = True
        try:
            self._say(self._last_words())
        except Exception as error:
            self._say([f"there is no summary: {error!r}"])

    def _last_words(self) -> Sequence[str]:
        service, before = self._service, self._before
        if service is None or before is None:
            missing = f", and {self._report} not written" if self._report else ""
            return [f"{self._name} never ran its reactor, so nothing was watched{missing}"]
        service.stopService()
        watchdog = service.watchdog
        watchdog.stop()  # the service may wait for others, where the reactor ended otherwise
        after = watchdog.activity()
        return summary(
            watchdog.stats(),
            # A heartbeat has not seen all.
            None if before.busy_seconds is None else after.longest_since(before),
            after.at - before.at,
            self._written(watchdog.export),
        )

    def _written(self, export: Callable[[str], str]) -> str:
        """Write the report; say where it is, why it is not, or how to get one."""
        path = self._report
        if path is None:
            return "report: none (--report FILE or TXWATCHDOG_REPORT=FILE writes one)"
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(export("report"), encoding="utf-8")
            beside.replace(path)
        except Exception as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            reason = (isinstance(error, OSError) and error.strerror) or repr(error)
            return f"report: {path} could not be written: {reason}"
        return f"report: {path}"

    def _say(self, lines: Sequence[str]) -> None:
        self._voice.say(lines)


class _Voice:
    """Says lines on stderr, as long as that is what it was at the start.

    A daemon's is not; and a descriptor that the program closed may be a file of its own by now.
    What can't be said there is logged.
    """

    def __init__(self, stream: TextIO | None, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._was = self._now()

    def say(self, lines: Sequence[str]) -> None:
        if self._quiet:
            return
        if self._stream is not None and self._now() == self._was:
            with contextlib.suppress(Exception):
                text = "".join(f"txwatchdog: {line}\n" for line in lines)
                self._stream.write(text)
                self._stream.flush()
            return
        for line in lines:
            _log.info("{line}", line=line)

    def _now(self) -> object:
        try:
            assert self._stream is not None
            facts = os.fstat(self._stream.fileno())
        except Exception:
            return None  # closed, or in memory
        return facts.st_dev, facts.st_ino


def service_roots(frame: FrameType | None) -> dict[str, Any]:
    """The program's `application` and `service`, as far as its callers hold them.

    Whoever runs the reactor with one holds it: ``twistd`` in its runner, ``twist`` and programs of
    one's own in a variable. Nothing is patched for that, and no object's own code is run.

    Args:
        frame: Where the reactor was run from, or further in.
    """
    from twisted.application.service import IService, IServiceCollection
    from twisted.python.components import Componentized

    runner: Any = getattr(sys.modules.get("twisted.application.app"), "ApplicationRunner", ())
    service: Any = None
    while frame is not None:
        for value in list(frame.f_locals.values()):
            held: Any = (
                getattr(value, "application", None) if issubclass(type(value), runner) else value
            )
            if issubclass(type(held), Componentized):
                root = IService(held, None)
                if IServiceCollection(held, None) is not None and root is not None:
                    return {"application": held, "service": root}
            elif service is None and _is_service(type(held)) and held.parent is None:
                service = held
        frame = frame.f_back
    return {} if service is None else {"service": service}


def _is_service(kind: type) -> bool:
    from twisted.application.service import Service

    return issubclass(kind, Service)


def _warm_up(options: Options) -> None:
    """Import what will be wanted, so that the program's reactor is not held up by it.

    None of it imports the reactor.
    """
    import txwatchdog.service

    if options.manhole is not None:
        import txwatchdog.manhole.keyring
    if options.metrics is not None:
        import txwatchdog.metrics  # noqa: F401
