"""The service of `manhole_service.py`, with an exit status of its own: 7.

SIGUSR1 has it call `reactor.stop()`, and SIGUSR2 `reactor.crash()`, after which `sys.exit` finds
everything as it was.
"""

from __future__ import annotations

import signal
import sys

from manhole_service import reactor, run


def main() -> None:
    """Run, and exit."""
    for number, end in ((signal.SIGUSR1, "stop"), (signal.SIGUSR2, "crash")):
        signal.signal(number, lambda *_, end=end: reactor.callFromThread(getattr(reactor, end)))
    run()
    sys.exit(7)


if __name__ == "__main__":
    main()
