"""`txwatchdog.testing.no_pauses` with a reactor that runs."""

from __future__ import annotations

import re

from support import Child


def test_what_pauses_fails_and_nothing_else() -> None:
    """A pause in the block, or of others meanwhile, fails; many short turns don't."""
    with Child("held.py") as child:
        assert "needs a reactor that runs" in child.expect("before")["text"]
        for name in ("at_once", "meanwhile"):
            found = child.expect(name)
            assert found["kind"] == "AssertionError"
            assert re.match(
                r"the reactor paused .* for longer than 0\.2 s\nTraceback", found["text"]
            )
            assert "in fetch_user (integration/held.py:" in found["text"]
        assert child.expect("at_ease")["kind"] is None
        assert child.expect("fail")["kind"] == "KeyError"
        assert child.expect("end")["threads"] == ["MainThread"]
        assert child.finish() == []
