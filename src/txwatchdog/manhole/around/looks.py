"""`Around`: what the console and the verbs ask. It puts the room together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txwatchdog.manhole import statics
from txwatchdog.manhole.around import NAMES
from txwatchdog.manhole.around.care import check_count
from txwatchdog.manhole.around.census import Census, find_deferreds
from txwatchdog.manhole.around.connections import ORDERS, find_readers
from txwatchdog.manhole.around.delayed import find_delayed
from txwatchdog.manhole.around.names import class_name
from txwatchdog.manhole.around.tasks import find_tasks
from txwatchdog.manhole.around.threads import find_threads

if TYPE_CHECKING:
    from txwatchdog.manhole.around.failures import Failures
    from txwatchdog.manhole.around.records import Listing, Objects, Threads

__all__ = ["Around"]


class Around:
    """What operators ask of the process. All methods may be called in any thread.

    Args:
        reactor: The reactor that is looked at.
        failures: What was logged.
    """

    def __init__(self, reactor: Any, failures: Failures) -> None:
        self._reactor = reactor
        self._failures = failures
        self._census = Census()

    def functions(self) -> dict[str, Any]:
        """The functions that the console has, by name."""
        return {name: getattr(self, name) for name in NAMES}

    def readers(self, n: int = 20, by: str = "fd") -> Listing:
        """What the reactor waits for: connections, ports, pipes; with protocol, peer and bytes.

        A connection whose producer is paused, and that has nothing to write, is not among them.

        Args:
            n: How many to show.
            by: ``fd``, or what the largest come first of: ``idle``, ``received``, ``sent``,
                ``unsent``.

        Raises:
            ValueError: It can't be ordered by that, or `n` is no number of rows.
        """
        if by not in ORDERS:
            raise ValueError(f"by must be one of {', '.join(ORDERS)}, not {by!r}")
        return find_readers(self._reactor, check_count(n), by)

    def delayed(self, n: int = 20) -> Listing:
        """The calls that are to be made later, soonest first; with their function and when.

        Args:
            n: How many to show.
        """
        return find_delayed(self._reactor, check_count(n))

    def threads(self, n: int = 50) -> Threads:
        """The threads and their stacks, and the state of the reactor's thread pool.

        Args:
            n: How many to show.
        """
        return find_threads(self._reactor, check_count(n))

    def deferreds(self, n: int = 20, *, whole: bool = False) -> Listing:
        """Deferreds that have not fired, by where they were created, or by what waits for them.

        Where they were created is known if `twisted.internet.defer.setDebugging` was on then.

        Args:
            n: How many rows to show.
            whole: Whether to look, however many objects the process has.
        """
        return find_deferreds(self._reactor, check_count(n), whole=whole)

    def tasks(self, n: int = 20) -> Listing:
        """The tasks of the reactor's asyncio loop.

        Args:
            n: How many to show.
        """
        return find_tasks(self._reactor, check_count(n))

    def objects(
        self,
        type: str | type | None = None,  # noqa: A002 - the operators' word for it
        n: int = 20,
        *,
        whole: bool = False,
    ) -> Objects:
        """Objects by class, the most numerous first, and how many more than at the look before.

        Counted are those that the garbage collector knows: no strings and numbers.

        Args:
            type: A class or its name, whose objects and those of derived classes are meant.
            n: How many classes to show.
            whole: Whether to look, however many there are.

        Raises:
            ValueError: `type` is neither.
        """
        if type is not None and not isinstance(type, str):
            if not statics.is_a(type, _type):
                raise ValueError(
                    f"type must be a class or its name, not a {statics.type_name(type)}"
                )
            type = class_name(type)  # noqa: A001 - likewise
        return self._census.take(self._reactor, type, check_count(n), whole=whole)

    def errors(self, n: int = 10) -> Listing:
        """The last failures that the service logged, newest first; each has its traceback.

        Args:
            n: How many to show.
        """
        return self._failures.latest(check_count(n))


_type = type
