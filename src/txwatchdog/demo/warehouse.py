"""The slow peer: a thread that listens on a loopback port of its own, and answers late."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

__all__ = ["Warehouse"]


class Warehouse:
    """Answers one caller at a time, after the seconds that its line names.

    Attributes:
        address: Where it listens: host and port.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        # Set by close() in any thread, waited for by the warehouse's thread.
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="demo-warehouse", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and wait for the thread's end; may be repeated."""
        if self._closing.is_set():
            return
        self._closing.set()
        # Closing a socket does not wake a thread that accepts on it; a caller does.
        with suppress(OSError):
            socket.create_connection(self.address, timeout=5).close()
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        with self._listener:
            while not self._closing.is_set():
                caller, _ = self._listener.accept()
                # A caller that hung up, or never says a word, is no reason to close.
                with caller, suppress(OSError):
                    caller.settimeout(5)
                    self._answer(caller)

    def _answer(self, caller: socket.socket) -> None:
        asked = re.search(rb"[\d.]+", caller.recv(100))
        if asked and not self._closing.wait(float(asked[0])):
            caller.sendall(b"412 crates, 17 on their way\n")
