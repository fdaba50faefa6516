"""Exit statuses, as shells give them."""

from __future__ import annotations

__all__ = ["INTERRUPTED", "RAISED", "USAGE"]

RAISED = 1
"""It raised, or failed."""

USAGE = 2
"""It can't be understood, or done here, or by this key."""

INTERRUPTED = 130
"""Ctrl-C."""
