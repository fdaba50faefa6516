"""What operators ask of a live process, beside its pauses. Read-only, and safe while it works.

Everything here is called in a thread of the manhole's, also while the reactor is paused. So it
takes copies of what the reactor's thread works with, never runs a function, property or ``repr`` of
the service's, gives the GIL up again and again, and hands what it has taken back to the reactor's
thread, so that no object of the service's is destroyed in a thread where it does not belong.
"""

from __future__ import annotations

__all__ = ["NAMES"]

NAMES = ("readers", "delayed", "threads", "deferreds", "tasks", "objects", "errors")
"""The functions that the console has, and the verbs; methods of `looks.Around`."""
