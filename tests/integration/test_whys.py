"""Why a pause happened: its cause, and the reactor's event that led to it, on every reactor."""

from __future__ import annotations

import pytest
from support import REACTORS, Child, Message

Pauses = dict[str, Message]


@pytest.fixture(scope="module", params=REACTORS)
def messages(request: pytest.FixtureRequest) -> list[Message]:
    """All that a service tells that was paused in every way."""
    with Child("whys.py", request.param) as child:
        return child.finish()


@pytest.fixture
def pauses(messages: list[Message]) -> Pauses:
    """What is said of each pause, by what it was; the longest, should a loaded machine add one."""
    found: Pauses = {}
    for message in messages:
        if message["event"] == "pause":
            known = found.get(message["what"])
            if known is None or known["duration"] < message["duration"]:
                found[message["what"]] = message
    return found


@pytest.mark.parametrize(
    ("what", "causes"),
    [
        # A loaded machine may starve what computes; what sleeps it can't.
        ("block", {"blocked"}),
        ("compute", {"cpu", "starved"}),
        ("collect", {"gc", "starved"}),
        ("stand_still", {"suspended"}),
    ],
)
def test_cause(pauses: Pauses, what: str, causes: set[str]) -> None:
    """Each pause has the cause that it was made with, and shares that sum to 1."""
    assert pauses[what]["cause"] in causes, pauses[what]
    assert sum(pauses[what]["shares"].values()) == pytest.approx(1)


def test_standstill_is_nobodys_fault(pauses: Pauses) -> None:
    """A process that was stopped blames no function."""
    assert pauses["stand_still"]["function"] is None


def test_stats_count_causes(messages: list[Message]) -> None:
    """The causes' pauses add up to all pauses."""
    (told,) = [message for message in messages if message["event"] == "causes"]
    assert sum(cause["pauses"] for cause in told["causes"].values()) == told["pauses"]
    assert told["causes"]["blocked"]["seconds"] > 0


@pytest.mark.parametrize(
    ("what", "event"),
    [
        ("block", "timed call"),
        ("callFromThread", "callFromThread"),
        ("LoopingCall", "timed call"),
        ("dataReceived", "readable"),
        ("datagramReceived", "readable"),
        ("signal", "signal"),
        ("process", "process"),
        ("shutdown", "system event"),
    ],
)
def test_origin(pauses: Pauses, what: str, event: str) -> None:
    """Each pause knows which kind of event of the reactor led to it."""
    origin = pauses[what]["origin"]
    if what == "callFromThread" and origin["event"] == "timed call":
        return  # what the asyncio reactor makes of it
    assert origin["event"] == event, origin


def test_timed_call_knows_its_function_and_who_scheduled_it(pauses: Pauses) -> None:
    """With DelayedCall debugging on, a timed call says where it was made; through partials and
    LoopingCalls it says what it calls."""
    origin = pauses["block"]["origin"]
    assert origin["function"] == "block"
    assert "whys.py:" in origin["scheduled_by"]
    assert origin["scheduled_by"].endswith(" in paused")
    assert pauses["LoopingCall"]["origin"]["function"] == "block"


def test_descriptor_knows_its_protocol_and_peer(pauses: Pauses) -> None:
    """A readable connection says whose it is and where it comes from."""
    origin = pauses["dataReceived"]["origin"]
    assert origin["protocol"] == "Blocking"
    assert origin["peer"].startswith("127.0.0.1:")


def test_datagram_knows_its_sender(pauses: Pauses) -> None:
    """A UDP port has no peer of its own: the datagram that was being read has a sender."""
    origin = pauses["datagramReceived"]["origin"]
    assert origin["protocol"] == "Datagrams"
    assert origin["peer"].startswith("127.0.0.1:")


def test_signal_knows_its_handler(pauses: Pauses) -> None:
    """A signal's handler that broke into a turn is where its pause comes from."""
    assert pauses["signal"]["origin"]["function"] == "on_signal"
    assert "In a signal's handler, on_signal\n" in pauses["signal"]["traceback"]


def test_rows_know_the_event_of_their_latest_pause(messages: list[Message]) -> None:
    """The offenders' rows have an origin, too."""
    (told,) = [message for message in messages if message["event"] == "causes"]
    rows = {row["function"]: row for row in told["offenders"]}
    assert rows["block"]["origin"]["event"] == "process"


def test_traceback_names_the_event(pauses: Pauses) -> None:
    """The event stands in the traceback's text, after the stack."""
    assert "Called by the reactor for a timed call of block" in pauses["block"]["traceback"]
