"""Timed calls that a statement makes belong to it: they run in its context, and print there.

Twisted carries a context along with coroutines, but not with timed calls; and an asyncio reactor
does the opposite: the one timer of its loop keeps the context in which it was set, so that after
`callLater` in a statement all the service's own timed calls would run in that statement's context.
While a statement goes on in the reactor's thread, a router stands in place of ``callLater``. In a
statement's context it has the call run in a copy of that, and sets the timer in an empty one; to
everybody else it is what it stands for.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from txwatchdog.manhole.output import in_statement

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["carry_timers"]


class _Carried:
    """A call in the context of the statement that asked for it. ``func`` is what pauses name."""

    def __init__(self, func: Callable[..., object]) -> None:
        self.func = func
        self._context = contextvars.copy_context()

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self._context.run(self.func, *args, **kwargs)


class _CallLater:
    """Stands in place of a reactor's ``callLater``."""

    def __init__(self, before: Callable[..., Any], was_set: bool) -> None:
        self.before = before
        self.was_set = was_set
        self.statements = 0

    def __call__(self, delay: float, callable: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
        if not in_statement():
            return self.before(delay, callable, *args, **kwargs)
        carried = _Carried(callable)
        return contextvars.Context().run(self.before, delay, carried, *args, **kwargs)


def carry_timers(reactor: Any) -> Callable[[], None]:
    """Have the timed calls of statements run in their contexts. In the reactor's thread.

    Args:
        reactor: The service's.

    Returns:
        Ends it, for the statement that began it; the last one leaves no trace.
    """
    own = vars(reactor)
    router = own.get("callLater")
    if not isinstance(router, _CallLater):
        router = _CallLater(reactor.callLater, "callLater" in own)
        reactor.callLater = router
    router.statements += 1

    def release() -> None:
        router.statements -= 1
        if router.statements or own.get("callLater") is not router:
            return  # where another one stands now, its owner is left alone
        if router.was_set:
            reactor.callLater = router.before
        else:
            del reactor.callLater

    return release
