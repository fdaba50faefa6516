"""The ledger's size, with as many pauses as a bad month brings."""

from __future__ import annotations

from builders import EPOCH, pause

from txwatchdog.ledger import OTHER, RECENT, ROWS, Ledger
from txwatchdog.records import Function, Pause

PAUSES = 1_000_000
FUNCTIONS = 100_000


def test_a_million_pauses_from_a_hundred_thousand_functions() -> None:
    """The ledger stays at its fixed size, has a row for the others, and its totals add up."""
    ledger = Ledger()
    offenders = [Function(f"f{n}", "/srv/app/db.py", n) for n in range(FUNCTIONS)]
    for number in range(PAUSES):
        offender = offenders[number * 7919 % FUNCTIONS]
        ledger.add(Pause(number, EPOCH, 0.75, offender, None, (), None))
    ledger.add(pause("heavy", 10.0, number=PAUSES))
    totals = ledger.totals()
    assert len(totals.offenders) <= ROWS
    assert totals.pauses == PAUSES + 1 == sum(row.count for row in totals.offenders)
    assert totals.paused_seconds == 0.75 * PAUSES + 10.0
    rows = {row.function: row for row in totals.offenders}
    assert rows[OTHER].count > PAUSES // 2
    assert rows["heavy"].total_seconds == 10.0
    assert len(ledger.recent(10 * RECENT)) == RECENT
