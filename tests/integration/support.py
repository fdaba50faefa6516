"""Real child processes that say what happens in them, a JSON object a line."""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import txwatchdog

__all__ = ["REACTORS", "Child", "Message", "emit", "install_reactor", "outcome", "patiently"]

REACTORS = ("epoll", "poll", "select", "asyncio")
"""Those whose wait the probe wraps."""

PATIENCE_SECONDS = 60.0
"""How long a loaded machine may take from one message to the next: a second on a quiet one."""

Message = dict[str, Any]
T = TypeVar("T")

HERE = Path(__file__).parent
_emitting = threading.Lock()


def emit(event: str, **fields: Any) -> None:
    """In a child: tell the parent. Any thread."""
    line = json.dumps({"event": event, **fields}) + "\n"
    with _emitting:
        sys.stdout.write(line)
        sys.stdout.flush()


def install_reactor(name: str) -> Any:
    """In a child: install the reactor called `name` (one of `REACTORS`, or uvloop); return it."""
    if name == "uvloop":
        uvloop: Any = importlib.import_module("uvloop")
        module = importlib.import_module("twisted.internet.asyncioreactor")
        module.install(uvloop.new_event_loop())
    else:
        importlib.import_module(f"twisted.internet.{name}reactor").install()
    return importlib.import_module("twisted.internet.reactor")


def patiently(
    condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until `condition()`, or fail because `what` did not come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.005)


def outcome(future: Future[T]) -> T:
    """What `future` came to. Many tests ask, so what went wrong is raised anew for each."""
    if problem := future.exception():
        if isinstance(problem, FileNotFoundError):
            raise problem  # perhaps for want of a program: see conftest.py
        raise AssertionError(f"the run that this test looks at failed: {problem}")
    return future.result()


class Child:
    """A script beside this file, run in a process of its own. Leaving the context ends it.

    Args:
        script: its file name.
        arguments: what it is given.
        nice: by how much its priority is lowered.
    """

    def __init__(self, script: str, *arguments: str, nice: int = 0) -> None:
        source = str(Path(txwatchdog.__file__).parents[1])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
        self._what = " ".join([script, *arguments])
        lowered = ["nice", "-n", str(nice)] if nice else []
        self._process = subprocess.Popen(
            [*lowered, sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._errors: list[bytes] = []
        self._readers = [
            threading.Thread(target=self._read_messages, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)

    def expect(self, event: str) -> Message:
        """The next message, which must be `event`."""
        try:
            message = self._messages.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            message = {"event": "nothing yet"}
        assert message is not None, f"{self._what}: ended before {event!r}; {self._said()}"
        assert message["event"] == event, f"{message} instead of {event!r}; {self._said()}"
        return message

    def finish(self) -> list[Message]:
        """All further messages of a child that ends by itself, as it should: without complaint."""
        messages = []
        try:
            while message := self._messages.get(timeout=PATIENCE_SECONDS):
                messages.append(message)
        except queue.Empty:
            last = messages[-1:]
            raise AssertionError(f"{self._what}: silent after {last}; {self._said()}") from None
        code = self._process.wait(PATIENCE_SECONDS)
        self._readers[1].join(PATIENCE_SECONDS)
        assert code == 0, f"{self._what}: exit status {code}; {self._said()}"
        assert not self._errors, self._said()
        return messages

    def tell(self, line: str) -> None:
        """Write `line` to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _said(self) -> str:
        return f"it said on stderr: {b''.join(self._errors).decode(errors='replace')!s}"

    def __enter__(self) -> Child:  # noqa: PYI034 - typing has Self from Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
