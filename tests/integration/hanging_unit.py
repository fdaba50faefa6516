"""A service for a unit of systemd: it hangs for ever in its first run, not in its second.

Usage: hanging_unit.py DIRECTORY. Its black box is there, and what the second run has to say.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet import reactor

from txwatchdog.service import WatchdogService

directory = Path(sys.argv[1])
turning: Any = reactor


def wait_for_approval() -> None:
    """Hang."""
    threading.Event().wait()


root = MultiService()
watched: Any = WatchdogService(threshold=0.2, manhole=None, blackbox=directory / "box")
watched.setServiceParent(cast(IServiceCollection, root))
root.startService()
turning.addSystemEventTrigger("before", "shutdown", root.stopService)
if (died := watched.watchdog.status().last_run) is None:
    turning.callLater(0.5, wait_for_approval)
else:
    (directory / "died.new").write_text(str(died))
    (directory / "died.new").rename(directory / "died")
turning.run()
