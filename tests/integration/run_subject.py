"""A program as people write it, for `txwatchdog run`: what it sees of itself, and how it ends.

Run as `python run_subject.py REACTOR HOW`. It tells what it takes itself for, pauses its reactor
and ends in one of several ways.
"""

import importlib
import os
import pickle
import sys
import time
from multiprocessing import get_context
from typing import Any


class Thing:
    """Pickled as __main__'s."""


def work(thing: object) -> None:
    """Runs in a child that imports this file anew."""
    print("child", type(thing).__name__, __name__, sys.argv[1:])


def block() -> None:
    """Pause the reactor."""
    time.sleep(0.4)


def spawn() -> None:
    """Have children that are started in each way, and one that comes back as this program does."""
    context: Any = get_context
    for how in ("spawn", "fork"):
        child = context(how).Process(target=work, args=(Thing(),))
        child.start()
        child.join()
        print(how, child.exitcode)
        sys.stdout.flush()
    if os.fork() == 0:
        sys.exit(0)
    os.wait()


def main(reactor_name: str, how: str) -> None:
    """Run."""
    print(sys.argv, sys.path[0], __name__, __file__, __package__, __doc__, sorted(globals()))
    spec: Any = __spec__  # None in a script
    print(spec and (spec.name, spec.origin), sys.modules["__main__"].__file__)
    print(type(pickle.loads(pickle.dumps(Thing()))), sys.stdin.read(), sys.excepthook)
    sys.stdout.flush()
    if how == "spawn":
        spawn()
    if reactor_name == "uvloop":
        uvloop = importlib.import_module("uvloop")
        asyncioreactor = importlib.import_module("twisted.internet.asyncioreactor")
        asyncioreactor.install(uvloop.new_event_loop())
    elif reactor_name not in {"none", "default"}:
        importlib.import_module(f"twisted.internet.{reactor_name}reactor").install()
    if reactor_name != "none":
        from twisted.internet import reactor

        reactor.callLater(0.2, block)
        reactor.callLater(0.9, reactor.stop)
        if how == "wall in":  # as a chroot does, or another user's rights
            reactor.callLater(0.8, sys.meta_path.clear)
            os.umask(0)
        reactor.run()
    if how == "raise":
        raise RuntimeError(how)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "message":
        sys.exit(how)
    if how == "status":
        sys.exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
