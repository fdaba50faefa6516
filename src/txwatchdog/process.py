"""Which process this is, for the heading of what leaves it."""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import PurePath

import twisted

from txwatchdog.exports import Process

__all__ = ["this_process"]


def this_process() -> Process:
    """The facts about this process. Any thread may ask."""
    script = sys.argv[0] if sys.argv else ""
    name = PurePath(script).name
    if name == "__main__.py":  # python -m PACKAGE
        name = PurePath(script).parent.name
    return Process(
        name=name if name not in {"", "-c"} else "python",
        pid=os.getpid(),
        host=socket.gethostname(),
        python=platform.python_version(),
        twisted=twisted.__version__,
    )
