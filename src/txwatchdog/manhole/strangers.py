"""Word of those who have not logged in: event by event, and counted where they are too many."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from txwatchdog.auditlog import NAMESPACE, tell
from txwatchdog.pauselog import RateLimit

if TYPE_CHECKING:
    from txwatchdog.manhole.carrier import Clock

__all__ = ["Strangers"]

# Of each kind (there are five) so many events may come at once, and one more after so many seconds:
# with the counts 30,000 a day at most, some 8 MB. A crowd that connects does not hide whoever tries
# keys.
_BURST = 20
_REFILL = 15.0
_PERIOD = 60.0  # seconds between two counts of the others
_KINDS = 10  # reasons that are told apart; what a stranger sends must not make more of them
_LONGEST = 100  # characters of one reason


class Strangers:
    """Tells the audit trail of strangers, at a bounded rate. All in the manhole's thread.

    Args:
        clock: The manhole's.
        log: Where to.
    """

    def __init__(self, clock: Clock, log: Logger | None = None) -> None:
        self._clock = clock
        self._log = log or Logger(namespace=NAMESPACE)
        self._limits: defaultdict[tuple[str, str], RateLimit] = defaultdict(
            lambda: RateLimit(_BURST, int(_REFILL * 1e9))
        )
        self._period: Any = None
        self._left_out: Counter[str] = Counter()
        self._latest = ""

    def tell(self, event: str, outcome: str, /, **fields: object) -> None:
        """Tell of one, or count it until the minute is over.

        Args:
            event: As in `auditlog.tell`.
            outcome: Likewise.
            fields: As there, ``address`` among them; may hold whatever the stranger has sent.
        """
        if self._limits[event, outcome].allows(int(self._clock.seconds() * 1e9)):
            tell(event, outcome, self._log, **fields)
            return
        reason = f"{event} {outcome}"
        if fields.get("reason"):
            said = str(fields["reason"]).encode("unicode_escape").decode("ascii")
            reason += f": {said[:_LONGEST]}"
        is_known = reason in self._left_out or len(self._left_out) < _KINDS
        self._left_out[reason if is_known else "others"] += 1
        self._latest = str(fields.get("address", ""))
        if self._period is None:
            self._period = self._clock.callLater(_PERIOD, self._period_over)

    def turned_away(self, address: str, reason: str) -> None:
        """Somebody was not let in.

        Args:
            address: Where from.
            reason: Why; may hold whatever the stranger has sent.
        """
        self.tell("connection", "refused", address=address, reason=reason)

    def _period_over(self) -> None:
        self._period = None
        self.flush()

    def flush(self) -> None:
        """Tell how many there were beside those that were told of."""
        if self._period is not None:
            self._period.cancel()
            self._period = None
        if not self._left_out:
            return
        left_out, self._left_out = self._left_out, Counter()
        tell(
            "strangers",
            "left out",
            self._log,
            count=left_out.total(),
            latest=self._latest,
            # Bounded by the number of kinds and the length of each.
            what="; ".join(f"{count} x {reason}" for reason, count in left_out.most_common()),
        )
