"""Word to systemd: READY once the reactor turns, WATCHDOG for as long as it does.

A thread of ours asks the reactor's thread to answer (by `callFromThread`, so on any reactor, and
whether or not the watchdog looks), and tells systemd of each answer. While the reactor is paused
there is none, and so no word. Where C code holds the GIL, nobody asks either.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from attrs import frozen
from twisted.logger import Logger

from txwatchdog.reactor import ReactorThread
from txwatchdog.summary import in_short
from txwatchdog.watchdog import Watchdog

__all__ = ["Look", "Notifier", "Pulse", "Wishes", "status_line"]

STATUS_SECONDS = 5.0
"""How often the status line is looked at; half of WATCHDOG_USEC if that is less. It is sent if it
has changed."""

RETRY_SECONDS = 0.5
"""How long to wait after systemd could not be told; less if half of WATCHDOG_USEC is less."""

JOIN_SECONDS = 1.0
"""How long `stop` waits for the thread, which never waits for anything but a wake-up."""

MAX_STATUS = 200
"""Characters of a status line."""

_log = Logger(namespace="txwatchdog.systemd")


@frozen
class Wishes:
    """What systemd wants to be told.

    Attributes:
        address: the socket to send to, as `socket.sendto` takes it.
        watchdog_seconds: systemd ends the service if it has had no word for so long; None if it
            does not look.
    """

    address: str
    watchdog_seconds: float | None

    @staticmethod
    def of(environ: Mapping[str, str], pid: int) -> Wishes | None:
        """What the environment of process `pid` says.

        Returns:
            None if nobody wants to be told.

        Raises:
            ValueError: NOTIFY_SOCKET is nothing that can be sent to.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if not address:
            return None
        if address[0] not in "/@" or len(address) < 2:
            raise ValueError(
                f"NOTIFY_SOCKET must be a path or @NAME, not {address!r}; systemd is told nothing"
            )
        if address[0] == "@":  # Linux's abstract sockets, which have no file
            address = "\0" + address[1:]
        usec, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if not (usec.isascii() and usec.isdigit() and int(usec)) or whose not in {"", str(pid)}:
            return Wishes(address, None)
        return Wishes(address, int(usec) / 1e6)


@frozen
class Look:
    """What is to be done next.

    Attributes:
        ask: whether to ask the reactor for an answer.
        lines: what to tell systemd.
        wake_at: when to look again, if no answer comes before; in the clock that was fed.
    """

    ask: bool
    lines: tuple[str, ...]
    wake_at: float


class Pulse:
    """When to ask the reactor, and what its answers are worth. Pure, fed with times.

    It is asked at half of WATCHDOG_USEC, and systemd gets a word for each answer. So a reactor
    that is paused has its last word before the pause, and no other before its end.

    Args:
        watchdog_seconds: WATCHDOG_USEC in seconds; None if there is none.
    """

    def __init__(self, watchdog_seconds: float | None) -> None:
        self._interval = math.inf if watchdog_seconds is None else watchdog_seconds / 2
        self._ask_at = -math.inf
        self._is_asked = self._is_ready = False

    def look(self, now: float, *, answered: bool) -> Look:
        """Decide what to do at `now`, with the latest question answered or not."""
        lines: tuple[str, ...] = ()
        if self._is_asked and answered:
            self._is_asked = False
            if not self._is_ready:
                self._is_ready = True
                lines += ("READY=1",)
            if math.isfinite(self._interval):
                lines += ("WATCHDOG=1",)
        ask = not self._is_asked and now >= self._ask_at
        if ask:
            self._is_asked = True
            self._ask_at = now + self._interval
        return Look(ask, lines, math.inf if self._is_asked else self._ask_at)

    def failed(self, lines: tuple[str, ...], now: float) -> None:
        """Systemd could not be told those `lines`: the reactor is to be asked anew."""
        if lines:
            self._is_ready = self._is_ready and "READY=1" not in lines
            self._ask_at = min(self._ask_at, now + min(RETRY_SECONDS, self._interval))


def status_line(watchdog: Watchdog) -> str:
    """What `systemctl status` shows: the pause under way, or those that were. Any thread."""
    stack = watchdog.stack()
    if stack.state == "paused":
        where = f" in {stack.offender}" if stack.offender else ""
        text = f"paused {stack.seconds:.0f} s{where}"
    else:
        text = in_short(watchdog.top(1, by="worst"))
        if stack.state == "off":
            text = f"the watchdog is stopped; {text}"
    # A name could have a line break, after which systemd would read another word.
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_STATUS])


class Notifier:
    """Tells systemd how the reactor does. Without NOTIFY_SOCKET it does nothing at all.

    `READY=1` when the reactor turns; `WATCHDOG=1` at half of WATCHDOG_USEC as long as it does (so
    a pause that lasts longer than WATCHDOG_USEC ends the service, at the latest when it has lasted
    so long); `STOPPING=1` when it shuts down; `STATUS=` for people. It goes on though the watchdog
    is stopped. What can't be sent is logged, once.

    All methods may be called from any thread.

    Args:
        watchdog: The watchdog whose reactor it is, and whose pauses the status tells.
        environ: Where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked up, once the
            reactor runs (a daemon has forked by then).
    """

    def __init__(self, watchdog: Watchdog, environ: Mapping[str, str] = os.environ) -> None:
        self._watchdog = watchdog
        self._reactor = watchdog.reactor
        self._environ = environ
        # Guards starting and stopping. Not held while the thread is waited for.
        self._switch = threading.RLock()
        self._is_wanted = False
        self._thread: threading.Thread | None = None
        self._withdraw: list[Callable[[], None]] = []
        # Written by whoever starts or stops, and the reactor's thread; read by ours.
        self._is_stopping = self._is_ending = False
        # Set by the reactor's thread, when it answers; cleared by ours, before it asks.
        self._has_answered = False
        # A lock used as a wake-up token, never as a lock: releasing it can't block.
        self._token = threading.Lock()
        self._status = ""
        self._failed = False

    def start(self) -> None:
        """Begin as soon as the reactor runs."""
        self.stop()
        with self._switch:
            self._is_wanted = True
            self._is_stopping = self._is_ending = False
            # Now: services around this one, which stop it, ask to be called after that.
            self._at_shutdown("before", self._shuts_down)
            self._withdraw.append(ReactorThread(self._reactor).when_running(self._begin))

    def stop(self) -> None:
        """Say no more. A systemd that wants word from the service takes it for hung then.

        When the reactor shuts down, that is what it has been told.
        """
        with self._switch:
            self._is_wanted = False
            while self._withdraw:
                self._withdraw.pop()()
            thread, self._thread = self._thread, None
        if thread is not None:
            self._is_ending = True
            self._wake()
            if thread is not threading.current_thread():
                thread.join(JOIN_SECONDS)

    def _begin(self) -> None:
        """In the reactor's thread, once it runs."""
        try:
            wishes = Wishes.of(self._environ, os.getpid())
        except ValueError as problem:
            _log.error("{problem}", problem=str(problem))
            return
        if wishes is None:
            return
        with self._switch:
            if not self._is_wanted:
                return  # it was on its way here as we were stopped
            thread = threading.Thread(
                target=self._run, args=(wishes,), name="txwatchdog-systemd", daemon=True
            )
            try:
                thread.start()
            except (RuntimeError, MemoryError) as problem:  # the process's limit of threads
                _log.error(
                    "systemd is told nothing, for want of a thread: {problem}; raise TasksMax=",
                    problem=str(problem),
                )
                return
            self._thread = thread
            self._at_shutdown("after", self.stop)

    def _at_shutdown(self, phase: str, call: Callable[[], None]) -> None:
        trigger = self._reactor.addSystemEventTrigger(phase, "shutdown", call)

        def forget() -> None:
            with suppress(KeyError, ValueError):  # it is what calls us, or has been called
                self._reactor.removeSystemEventTrigger(trigger)

        self._withdraw.append(forget)

    def _shuts_down(self) -> None:
        self._is_stopping = True
        self._wake()

    def _answer(self) -> None:
        """In the reactor's thread: it turns."""
        self._has_answered = True
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # a wake-up is already under way
            self._token.release()

    # -- in the thread ------------------------------------------------------------------------

    def _run(self, wishes: Wishes) -> None:
        pulse = Pulse(wishes.watchdog_seconds)
        turn = min(STATUS_SECONDS, (wishes.watchdog_seconds or math.inf) / 2)
        self._status = ""
        said_stopping = False
        while True:
            is_ending = self._is_ending  # before anything else: what was true then is told
            now = time.monotonic()
            look = pulse.look(now, answered=self._has_answered)
            last = ("STOPPING=1",) if self._is_stopping and not said_stopping else ()
            lines = look.lines + last + self._news()
            if lines and not self._send(wishes.address, lines):
                pulse.failed(look.lines, now)
                self._status = ""
            elif last:
                said_stopping = True
            if is_ending:
                return
            if look.ask:
                self._has_answered = False
                with suppress(RuntimeError):  # the loop of an asyncio reactor is closed
                    self._reactor.callFromThread(self._answer)
            wait = min(look.wake_at - time.monotonic(), turn)
            self._token.acquire(timeout=max(wait, 0.0))

    def _news(self) -> tuple[str, ...]:
        try:
            status = status_line(self._watchdog)
        except Exception:  # nothing is worth being restarted for that is only for people
            return ()
        if status == self._status:
            return ()
        self._status = status
        return (f"STATUS={status}",)

    def _send(self, address: str, lines: tuple[str, ...]) -> bool:
        try:
            # Made for each word: one that was to be had for none, for want of descriptors, is for
            # the next. Else that want would end the service.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
                to_systemd.setblocking(False)
                to_systemd.sendto("\n".join(lines).encode("utf-8", "replace"), address)
        except (OSError, ValueError) as problem:
            if not self._failed:
                self._failed = True
                with suppress(BaseException):  # a log observer's, which would end the thread
                    _log.error(
                        "systemd can't be told how the reactor does, by {address}: {problem}",
                        address=address.replace("\0", "@"),
                        problem=str(problem),
                    )
            return False
        return True
