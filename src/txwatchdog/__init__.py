"""Why is the reactor pausing, and what is it doing right now?

`Watchdog` sees every pause of a Twisted reactor and blames a function for it.
`txwatchdog.manhole.Manhole` (imported on its own, for it brings Conch) is an SSH console into
the running process that answers while the reactor is stuck.
"""

from txwatchdog.errors import Interrupted, WatchdogError
from txwatchdog.records import (
    Frame,
    Function,
    Interruption,
    Offender,
    Pause,
    Sample,
    Stack,
    Status,
)
from txwatchdog.watchdog import Watchdog

__all__ = [
    "Frame",
    "Function",
    "Interrupted",
    "Interruption",
    "Offender",
    "Pause",
    "Sample",
    "Stack",
    "Status",
    "Watchdog",
    "WatchdogError",
]
