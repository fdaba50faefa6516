"""The manhole: a Python console in the running process, over SSH, that answers during a pause.

This is the face of the room and holds no logic. ``import txwatchdog`` never imports it, so Conch
stays out of a service that only wants the watchdog.
"""

from __future__ import annotations

from txwatchdog.manhole.limits import Limits
from txwatchdog.manhole.server import Manhole

__all__ = ["Limits", "Manhole"]
