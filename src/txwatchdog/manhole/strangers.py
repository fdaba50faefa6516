"""Word of those who did not get in: a line at once, then one a minute, however many they are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from txwatchdog.manhole.carrier import Clock

__all__ = ["Strangers"]

_PERIOD = 60.0  # seconds
_KINDS = 10  # reasons that are told apart; what a stranger sends must not make more of them
_LONGEST = 100  # characters of one reason


class Strangers:
    """Logs who was turned away and why: level info, namespace ``txwatchdog.manhole``.

    All in the manhole's thread.

    Args:
        clock: The manhole's.
        log: Where to.
    """

    def __init__(self, clock: Clock, log: Logger | None = None) -> None:
        self._clock = clock
        self._log = log or Logger(namespace="txwatchdog.manhole")
        self._period: Any = None
        self._reasons: Counter[str] = Counter()
        self._latest = ""

    def turned_away(self, peer: object, reason: str) -> None:
        """Log it, or count it until the minute is over.

        Args:
            peer: Who.
            reason: Why; may hold whatever the stranger has sent.
        """
        printable = reason.encode("unicode_escape").decode("ascii")[:_LONGEST]
        if self._period is None:
            self._period = self._clock.callLater(_PERIOD, self._period_over)
            self._log.info(
                "turned away {peer}: {reason}", peer=peer, reason=printable, turned_away=1
            )
            return
        is_known = printable in self._reasons or len(self._reasons) < _KINDS
        self._reasons[printable if is_known else "other reasons"] += 1
        self._latest = str(peer)

    def _period_over(self) -> None:
        self._period = None
        if not self._reasons:
            return
        reasons, self._reasons = self._reasons, Counter()
        self._period = self._clock.callLater(_PERIOD, self._period_over)
        self._log.info(
            "turned away {turned_away} more in the last minute, the latest {peer}: {reasons}",
            turned_away=reasons.total(),
            peer=self._latest,
            reasons="; ".join(f"{count} x {reason}" for reason, count in reasons.most_common()),
        )
