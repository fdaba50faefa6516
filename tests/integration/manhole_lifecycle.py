"""Starts and stops a manhole at every moment of a reactor's life; a program of its own.

Usage: manhole_lifecycle.py KEYS REACTOR. Its reactor is never installed as the global one. It
fails by an exception, and prints "done" otherwise.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def left() -> tuple[int, int]:
    """Threads and descriptors."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def main(keys: str, reactor_name: str) -> None:
    """Live through it."""
    import txwatchdog

    assert not any(name.startswith(("twisted.conch", "txwatchdog.manhole")) for name in sys.modules)
    module, _, kind = reactor_name.rpartition(".")
    reactor: Any = getattr(import_module(module), kind)()
    watchdog = txwatchdog.Watchdog(reactor)
    from txwatchdog.manhole import Manhole

    assert not any(name.startswith("twisted.conch") for name in sys.modules)
    manhole = Manhole(watchdog, endpoint="tcp:0", keys=keys)
    assert manhole.address is None
    assert manhole.stop().called  # never started
    manhole.start()
    manhole.stop()
    before = left()
    for _ in range(3):  # before the reactor runs
        manhole.start()
        address = manhole.address
        manhole.start()
        assert address == manhole.address
        assert manhole.stop().called
        assert manhole.address is None
        assert left() == before, (left(), before)
    manhole.start()
    steps = _while_running(reactor, manhole)
    reactor.callWhenRunning(next, steps)
    reactor.run()
    assert list(steps) == []
    # The reactor's end was the manhole's: nothing is left, and a late stop has nothing to do.
    assert "txwatchdog-manhole" not in {thread.name for thread in threading.enumerate()}
    assert manhole.address is None
    assert manhole.stop().called
    assert "twisted.internet.reactor" not in sys.modules
    assert "prompt_toolkit" not in sys.modules
    print("done")


def _while_running(reactor: Any, manhole: Any) -> Iterator[None]:
    """Go on at each yield once what was waited for has happened, in the reactor's thread."""
    seen: list[tuple[int, int]] = []

    def go_on(_: object) -> None:
        assert threading.current_thread() is threading.main_thread()
        reactor.callLater(0, next, steps, None)

    steps = _steps(reactor, manhole, go_on, seen)
    return steps


def _steps(
    reactor: Any, manhole: Any, go_on: Callable[[object], None], seen: list[tuple[int, int]]
) -> Iterator[None]:
    for _ in range(3):  # from the reactor's own thread, twice at once
        manhole.stop()
        manhole.stop().addCallback(go_on)
        yield
        seen.append(left())
        manhole.start()
        assert manhole.address is not None
    assert len(set(seen)) == 1, seen
    # From another thread. If all is over before it asks, it is told in that thread.
    over = reactor.callFromThread
    threading.Thread(target=lambda: manhole.stop().addCallback(lambda _: over(go_on, None))).start()
    yield
    assert manhole.address is None
    # From the manhole's own, which is where a statement like watchdog.stop() runs.
    manhole.start()
    manhole._server._loop.call_soon_threadsafe(lambda: manhole.stop().addCallback(go_on))
    yield
    assert manhole.address is None
    # Stopped and started at once: the second finds the address free.
    manhole.start()
    address: Any = manhole.address
    manhole._endpoint = f"tcp:{address.port}"
    manhole.stop()
    manhole.start()
    assert manhole.address == address
    reactor.callLater(0, reactor.stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
