"""How much of the manhole anyone may have: numbers, and the decisions that follow from them. Pure.

All but the making of a `Limits` happens in the manhole's thread, so nothing here is locked.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Admission", "Limits", "Next", "Place", "Places", "Vigil", "Visit"]

HOLD = 0.3
"""Seconds for which a connection has its place at least, unless it logs in. Whoever connects and
goes away as fast as they can is served no oftener than that: each time costs a key exchange."""

UNANSWERED = 3
"""As many questions without an answer, each `Limits.keep_alive` apart: the client is gone."""


def _span(_limits: Limits, field: attrs.Attribute[Any], value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 < value < math.inf):
        raise ValueError(f"{field.name} is {value!r}; give a finite number of seconds above 0")


def _span_or_none(limits: Limits, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        _span(limits, field, value)


def _count(_limits: Limits, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{field.name} is {value!r}; give a whole number from 1 up")


@attrs.frozen(kw_only=True)
class Limits:
    """How much of the manhole anyone may have.

    Attributes:
        login_grace: Seconds from the connection to a successful login.
        tries: Failed logins, after which a connection is closed.
        unauthenticated: Connections at once that have not logged in; more are dropped.
        unauthenticated_per_address: The same from one address; clients of a ``unix:`` socket
            have none, and count only in all.
        sessions: Sessions at once, and connections that have logged in.
        idle: Seconds without a key typed, output or a statement under way, after which a
            connection is closed; None for never.
        keep_alive: Seconds of silence after which the client is asked whether it is still there;
            if it does not answer three times, it is not. None to never ask.

    Raises:
        ValueError: A number is out of range.
    """

    login_grace: float = attrs.field(default=30.0, validator=_span)
    tries: int = attrs.field(default=3, validator=_count)
    unauthenticated: int = attrs.field(default=16, validator=_count)
    unauthenticated_per_address: int = attrs.field(default=4, validator=_count)
    sessions: int = attrs.field(default=8, validator=_count)
    idle: float | None = attrs.field(default=3600.0, validator=_span_or_none)
    keep_alive: float | None = attrs.field(default=30.0, validator=_span_or_none)


class Visit:
    """One connection's place among those that have not logged in.

    Args:
        give_back: Called with the time from which on another may have it; None for at once.
        held_until: When another may have it, if this one does not log in.
    """

    def __init__(self, give_back: Callable[[float | None], None], held_until: float) -> None:
        self._give_back: Callable[[float | None], None] | None = give_back
        self._held_until = held_until

    def logged_in(self) -> None:
        """The place is free at once."""
        self._leave(None)

    def ended(self) -> None:
        """The connection is lost, after a login or without one."""
        self._leave(self._held_until)

    def _leave(self, free_at: float | None) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(free_at)


class Admission:
    """Who may connect: counts those that have not logged in.

    Fed with times in seconds of a clock that never goes back.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_address: Counter[str | None] = Counter()
        self._held: list[tuple[float, str | None]] = []

    def enter(self, address: str | None, now: float) -> Visit | str:
        """Someone has connected.

        Args:
            address: Where from; None for a local socket.
            now: The time.

        Returns:
            Their place, or why there is none.
        """
        due = [held for held in self._held if held[0] <= now]
        self._held = [held for held in self._held if held[0] > now]
        for _, whose in due:
            self._free(whose)
        if self._by_address.total() >= self._limits.unauthenticated:
            return f"{self._limits.unauthenticated} others have not logged in"
        most = self._limits.unauthenticated_per_address
        if address is not None and self._by_address[address] >= most:
            return f"{most} others from that address have not logged in"
        self._by_address[address] += 1

        def give_back(free_at: float | None) -> None:
            if free_at is None:
                self._free(address)
            else:
                self._held.append((free_at, address))

        return Visit(give_back, now + HOLD)

    def _free(self, address: str | None) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]  # a stranger may have many addresses


class Place:
    """One of a number of places; `leave` gives it back, once."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def leave(self) -> None:
        """Give the place back; may be called any number of times."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Places:
    """A number of places, for which it does not matter who has them.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0

    def enter(self) -> Place | None:
        """A place; None if all are taken."""
        if self._taken >= self.most:
            return None
        self._taken += 1
        return Place(self._left)

    def _left(self) -> None:
        self._taken -= 1


class Next(Enum):
    """What to do about a connection that was looked at."""

    WAIT = "wait"
    ASK = "ask the client whether it is there"
    GONE = "the client is gone"
    IDLE = "nobody has used the connection for too long"


class Vigil:
    """Watches over one connection: is its client still there, and is it used?

    Fed with times in seconds of a clock that never goes back.

    Args:
        limits: The limits.
        now: The time of the login.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._heard_at = now
        self._asked_at = now
        self._unanswered = 0
        self._used_at = now

    def heard(self, now: float) -> None:
        """The client has shown that it is there, by sending or by taking what was sent."""
        self._heard_at = now
        self._unanswered = 0

    def used(self, now: float) -> None:
        """Something was typed, or shown."""
        self._used_at = now

    def look(self, now: float, *, is_busy: bool) -> tuple[Next, float]:
        """What to do now.

        Args:
            now: The time.
            is_busy: Whether output or a statement is under way.

        Returns:
            That, and the seconds until the next look; infinite if there need be none.
        """
        if is_busy:
            self._used_at = now
        idle, keep_alive = self._limits.idle, self._limits.keep_alive
        idle_in = math.inf if idle is None else self._used_at + idle - now
        if idle_in <= 0:
            return Next.IDLE, math.inf
        if keep_alive is None:
            return Next.WAIT, idle_in
        ask_in = max(self._heard_at, self._asked_at) + keep_alive - now
        if ask_in > 0:
            return Next.WAIT, min(ask_in, idle_in)
        if self._unanswered == UNANSWERED:
            return Next.GONE, math.inf
        self._unanswered += 1
        self._asked_at = now
        return Next.ASK, min(keep_alive, idle_in)
