"""Which event of the reactor led to a stack, read from the variables of the reactor's frames."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from builders import stack
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import _GenericHTTPChannelProtocol

from txwatchdog.origin import Origin, read_origin, signal_origin


class Greeter:
    """Stands for a protocol."""


class Factory:
    """Stands for a protocol's factory."""


class Port:
    """Stands for a descriptor of Twisted's: it has what `variables` are given."""

    def __init__(self, **variables: Any) -> None:
        vars(self).update(variables)


def frames(*calls: tuple[str, str, dict[str, Any]]) -> Any:
    """The innermost of frames that are given as (function, file, variables), outermost first."""
    frame = None
    for function, file, variables in calls:
        code = SimpleNamespace(co_name=function, co_filename=f"/usr/lib/twisted/internet/{file}")
        frame = SimpleNamespace(f_code=code, f_locals=variables, f_back=frame)
    return frame


def descriptor(selectable: Any, event: int = 1) -> Origin | None:
    """What is read of a descriptor that epoll says is ready."""
    variables = {"selectable": selectable, "event": event}
    return read_origin(frames(("_doReadOrWrite", "posixbase.py", variables)))


def wrapped(protocol: Any) -> Any:
    """`protocol`, in what TLS and rate limits put around it."""
    wrapper = ProtocolWrapper.__new__(ProtocolWrapper)
    wrapper.wrappedProtocol = protocol
    return wrapper


def test_a_connection_has_its_protocol_and_peer() -> None:
    """A readable or writable connection is that of a protocol with a peer."""
    server = Port(protocol=Greeter(), client=("192.0.2.7", 4711))
    assert descriptor(server) == Origin("readable", protocol="Greeter", peer="192.0.2.7:4711")
    assert descriptor(server, event=4) == Origin(
        "writable", protocol="Greeter", peer="192.0.2.7:4711"
    )


def test_an_ipv6_address_is_in_brackets() -> None:
    """A peer's port is told from its address."""
    origin = descriptor(Port(protocol=Greeter(), client=("2001:db8::7", 4711, 0, 0)))
    assert origin is not None
    assert origin.peer == "[2001:db8::7]:4711"


def test_wrappers_are_not_the_protocol() -> None:
    """TLS, policies and twisted.web's switch between two HTTPs are looked through."""
    channel = _GenericHTTPChannelProtocol(Greeter())
    for protocol in (wrapped(Greeter()), wrapped(wrapped(Greeter())), channel, wrapped(channel)):
        origin = descriptor(Port(protocol=protocol))
        assert origin is not None
        assert origin.protocol == "Greeter"


def test_endless_wrappers_end() -> None:
    """What wraps itself is named as far as it was looked into."""
    wrapper = wrapped(None)
    wrapper.wrappedProtocol = wrapper
    assert descriptor(Port(protocol=wrapper)) == Origin("readable", protocol="ProtocolWrapper")


def test_a_port_that_accepts_has_its_factory() -> None:
    """A connection that is being accepted has no protocol yet."""
    assert descriptor(Port(factory=Factory())) == Origin("readable", protocol="Port of Factory")


def test_a_datagram_has_its_sender() -> None:
    """A UDP port has many peers: the one whose datagram was being read."""
    port = Port(protocol=Greeter())
    outer = ("_doReadOrWrite", "posixbase.py", {"selectable": port, "event": 1})
    inner = ("doRead", "udp.py", {"self": port, "addr": ("192.0.2.7", 53)})
    assert read_origin(frames(outer, inner)) == Origin(
        "readable", protocol="Greeter", peer="192.0.2.7:53"
    )
    nothing_read = ("doRead", "udp.py", {"self": port})
    assert read_origin(frames(outer, nothing_read)) == Origin("readable", protocol="Greeter")


def test_a_signals_handler_is_an_event() -> None:
    """The innermost signal's handler in a stack broke in."""
    raw = stack(("main", "a.py"), ("on_hangup", "a.py"), ("reload", "a.py"))
    handlers = {raw[1][0]}
    assert signal_origin(raw, handlers) == Origin("signal", "on_hangup")
    assert signal_origin(raw[2:], handlers) is None


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (
            Origin("readable", protocol="Greeter", peer="a:1"),
            "readable descriptor: Greeter from a:1",
        ),
        (Origin("asyncio", "task f"), "asyncio callback of task f"),
        (Origin("signal", "on_hangup"), "signal of on_hangup"),
        (
            Origin("timed call", "f", scheduled_by="a.py:7 in g"),
            "timed call of f, scheduled at a.py:7 in g",
        ),
    ],
)
def test_an_origin_reads_well(origin: Origin, text: str) -> None:
    """Each event is a few words that a sentence can end with."""
    assert str(origin) == text


def test_an_origin_is_a_sentence_in_tracebacks() -> None:
    """A traceback says who called, and says no such thing of a signal."""
    assert Origin("asyncio", "f").sentence == "Called by the reactor for an asyncio callback of f"
    assert Origin("timed call", "f").sentence == "Called by the reactor for a timed call of f"
    assert Origin("signal", "on_hangup").sentence == "In a signal's handler, on_hangup"


def test_what_can_not_be_read_is_none() -> None:
    """Variables that are not what they were in an older Twisted are no one's trouble."""
    assert read_origin(None) is None
    assert read_origin(frames(("_doReadOrWrite", "posixbase.py", {}))) is None
    assert descriptor(Port(protocol=Greeter()), event="none") is None  # type: ignore[arg-type]
