"""``python -m txwatchdog`` is the ``txwatchdog`` command."""

from __future__ import annotations

from txwatchdog.cli import main

if __name__ == "__main__":
    main()
