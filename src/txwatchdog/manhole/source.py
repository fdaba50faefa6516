"""What a client sends to be run, and how it says that it has enough. In the manhole's thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from txwatchdog.auditlog import tell
from txwatchdog.manhole.spool import STDERR
from txwatchdog.manhole.trail import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from txwatchdog.manhole.output import Outlet
    from txwatchdog.manhole.session import SessionChannel

__all__ = ["CTRL_C", "decode", "heed_ctrl_c", "read_script"]

_SCRIPT_LIMIT = 1 << 20  # bytes of source; compiling holds the GIL, and so the service
CTRL_C = b"\x03"


async def read_script(channel: SessionChannel, outlet: Outlet) -> str | None:
    """Read a script from a session's stdin.

    Args:
        channel: The session's, without a terminal.
        outlet: Where to say what is wrong with it.

    Returns:
        The source; None if it is too long, or no text.
    """
    data = bytearray()
    complete = asyncio.Event()

    def on_input(more: bytes) -> None:
        if len(data) <= _SCRIPT_LIMIT:
            data.extend(more)
        else:
            complete.set()

    channel.listen(on_input, complete.set)
    await complete.wait()
    if len(data) > _SCRIPT_LIMIT:
        reason = f"the script is longer than {_SCRIPT_LIMIT} bytes"
        outlet.write(f"{reason}\n", STDERR)
        tell("statement", "refused", what=text_of(bytes(data)), reason=reason, status=1)
        return None
    return decode(bytes(data), outlet)


def decode(source: bytes, outlet: Outlet) -> str | None:
    """Read bytes as Python's source.

    Args:
        source: What was sent.
        outlet: Where to say what is wrong with it.

    Returns:
        The source; None if it is no text.
    """
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as error:
        outlet.write(f"the source is not UTF-8: {error}\n", STDERR)
        tell("statement", "refused", what=text_of(source), reason="it is not UTF-8", status=1)
        return None


def heed_ctrl_c(channel: SessionChannel, interrupt: Callable[[], None]) -> None:
    """Have Ctrl-C on the client's terminal, or its signal INT, interrupt a command.

    Args:
        channel: The session's; whatever else the client sends is dropped.
        interrupt: What to call.
    """
    on_terminal = channel.terminal is not None
    channel.on_interrupt = interrupt
    channel.listen(lambda data: interrupt() if on_terminal and CTRL_C in data else None)
