"""Where connections come in, or don't: dropped before they cost more than the call that accepts.

asyncio's own server makes a transport and a protocol for each before anyone may object, and logs
a descriptor shortage once a second. All in the manhole's thread.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from txwatchdog.manhole.limits import Visit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from txwatchdog.manhole.limits import Admission
    from txwatchdog.manhole.strangers import Strangers

__all__ = ["Door"]

# So many connections are taken in one go, and then none for so many seconds: 800 a second at most.
# A flood that is dropped as fast as it comes (20,000 a second were tried) keeps this thread busy,
# and the service waiting for the GIL; what the kernel drops for want of room costs neither.
_AT_ONCE = 8
_BREATH = 0.01
_REST = 1.0  # seconds until the next try when the process has no descriptor left

# A client shows it to whoever asks it to be verbose; it must not look like a version ("SSH-").
_FULL = b"Too many connections that have not logged in\r\n"


class Door:
    """Accepts connections as the admission has it.

    Args:
        listening: The socket; whoever made it closes it.
        loop: The manhole's.
        admission: Says who may come in.
        strangers: Told who may not.
        receive: Makes the protocol for who may.
    """

    def __init__(
        self,
        listening: socket.socket,
        loop: asyncio.AbstractEventLoop,
        admission: Admission,
        strangers: Strangers,
        receive: Callable[[Visit], asyncio.Protocol],
    ) -> None:
        self._listening = listening
        self._loop = loop
        self._admission = admission
        self._strangers = strangers
        self._receive = receive
        self._is_open = False
        # The loop keeps but a weak reference to a task.
        self._coming_in: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to accept."""
        self._is_open = True
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more."""
        self._is_open = False
        self._loop.remove_reader(self._listening)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor, no memory
                self._strangers.turned_away("all", str(error))
                # The next one still waits, and would have us called at once, for ever.
                self._pause(_REST)
                return
            local = connection.family == socket.AF_UNIX
            admitted = self._admission.enter(None if local else address[0], self._loop.time())
            if isinstance(admitted, Visit):
                task = self._loop.create_task(self._let_in(connection, admitted))
                self._coming_in.add(task)
                task.add_done_callback(self._coming_in.discard)
            else:
                self._strangers.turned_away("a local socket" if local else address[0], admitted)
                with contextlib.suppress(OSError):
                    connection.send(_FULL, socket.MSG_DONTWAIT)
                connection.close()

        self._pause(_BREATH)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._is_open:
            self.open()

    async def _let_in(self, connection: socket.socket, visit: Visit) -> None:
        try:
            connection.setblocking(False)
            if connection.family != socket.AF_UNIX:
                # Else what is typed, and each step of a login, waits until the client's kernel has
                # acknowledged the packet before, for 40 ms. asyncio does so only for sockets that
                # were made with the protocol's number (base_events._set_nodelay).
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: self._receive(visit), connection)
        except OSError:  # gone already
            visit.ended()
            connection.close()
        except BaseException:
            visit.ended()
            connection.close()
            raise
