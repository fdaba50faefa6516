"""Key exchange in order, and strict: our server transport against a client, on wires of memory."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from speaker import Speaker
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import (
    MSG_DEBUG,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    MSG_SERVICE_REQUEST,
)
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from txwatchdog.manhole.access import AuthorizedKey, Refusal
from txwatchdog.manhole.limits import Admission, Limits, Visit
from txwatchdog.manhole.ssh import (
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_REQUEST,
    MSG_USERAUTH_SUCCESS,
    Factory,
    ServerTransport,
)
from txwatchdog.manhole.strangers import Strangers
from txwatchdog.manhole.strict import MSG_KEX_INIT, Order

KEY = Key(ed25519.Ed25519PrivateKey.generate())


class _Wire:
    """The server's end: what it sends waits until the test carries it over."""

    is_full = False

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "10.0.0.1", 1)

    def __init__(self) -> None:
        self.sent = b""
        self.is_closing = False

    def write(self, data: bytes) -> None:
        if not self.is_closing:
            self.sent += data

    def loseConnection(self) -> None:
        self.is_closing = True

    abortConnection = loseConnection


class _Service:
    """Stands for the connection service."""

    name = b"ssh-connection"
    is_busy = False

    def serviceStarted(self) -> None: ...

    def serviceStopped(self) -> None: ...

    def wire_writable(self) -> None: ...

    def packetReceived(self, number: int, packet: bytes) -> None: ...


class _Pair:
    """A server and a client, and the bytes between them."""

    def __init__(self, *, strict: bool = True, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.limits = limits or Limits()
        clock: Any = self.clock
        allowed = AuthorizedKey(1, KEY.public().blob(), KEY, (), "")
        factory = Factory(
            KEY,
            lambda blob, _algorithm, _address: (
                allowed if blob == allowed.blob else Refusal("no", "")
            ),
            lambda _key: _Service(),  # type: ignore[arg-type,return-value]
            clock=clock,
            limits=self.limits,
            strangers=Strangers(clock),
        )
        self.wire = _Wire()
        visit = Admission(self.limits).enter("10.0.0.1", 0.0)
        assert isinstance(visit, Visit)
        self.server = ServerTransport(factory, visit)
        self._to_server = b""
        self.client = Speaker(self._send, strict=strict)

    def _send(self, data: bytes) -> None:
        self._to_server += data

    def connect(self) -> None:
        """Begin at both ends, and carry bytes until there are no more."""
        self.server.makeConnection(self.wire)
        self.client.connectionMade()
        self.carry()

    def carry(self) -> None:
        while self._to_server or self.wire.sent:
            data, self._to_server = self._to_server, b""
            if data and not self.wire.is_closing:
                self.server.dataReceived(data)
            data, self.wire.sent = self.wire.sent, b""
            if data:
                self.client.dataReceived(data)

    def log_in(self) -> None:
        self.connect()
        self.client.log_in(KEY)
        self.carry()
        assert (MSG_USERAUTH_SUCCESS, b"") in self.client.came


@pytest.mark.parametrize("strict", [True, False])
def test_both_count_from_zero_after_newkeys_if_the_client_is_strict(strict: bool) -> None:
    """Strict, the packets after NEWKEYS are counted from 0 in both directions; else they go on."""
    pair = _Pair(strict=strict)
    pair.connect()
    assert pair.client.server_is_strict is strict
    assert pair.server.order.is_strict is strict
    # What went since: the server's EXT_INFO, if anything.
    since = 0 if strict else 3
    assert pair.server.incomingPacketSequence == since
    assert pair.server.outgoingPacketSequence == pair.client.incomingPacketSequence
    assert pair.server.outgoingPacketSequence in (since, since + 1)


@pytest.mark.parametrize("strict", [True, False])
def test_new_keys_as_often_as_either_side_asks(strict: bool) -> None:
    """After the login client and server may ask for new keys in turn, and both can read on."""
    pair = _Pair(strict=strict)
    pair.log_in()
    for asks in (pair.client, pair.server, pair.server, pair.client):
        asks.sendKexInit()
        pair.carry()
        assert pair.server.incomingPacketSequence < 3 or not strict
        pair.client.sendPacket(MSG_IGNORE, NS(b"still there?"))
        pair.server.sendIgnore(b"yes")
        pair.carry()
        assert not pair.wire.is_closing
        assert pair.client.came[-1] == (MSG_IGNORE, NS(b"yes"))
    assert pair.client.exchanges == 5


def test_the_server_asks_for_new_keys_by_itself() -> None:
    """After so many bytes the server asks for new keys; what it says meanwhile comes after."""
    pair = _Pair()
    pair.log_in()
    pair.server.rekey_after = 10_000
    for _ in range(30):
        pair.server.sendIgnore(b"x" * 1000)
        pair.server.sendPacket(80, NS(b"a request"))
        pair.carry()
    assert pair.client.exchanges in (3, 4)
    assert [number for number, _ in pair.client.came].count(80) == 30


HARMLESS = [(MSG_IGNORE, NS(b"x")), (MSG_DEBUG, b"\x00" + NS(b"x") + NS(b""))]


@pytest.mark.parametrize("message", HARMLESS)
def test_an_injected_message_ends_a_strict_exchange(message: tuple[int, bytes]) -> None:
    """Strict, a harmless message before NEWKEYS disconnects, and the client can read why."""
    pair = _Pair()
    pair.client.before_newkeys = lambda: pair.client.sendPacket(*message)
    pair.connect()
    assert pair.wire.is_closing
    assert pair.client.farewell is not None
    assert pair.client.farewell.endswith(b"during the first key exchange")


def test_an_injected_message_before_kexinit_ends_a_strict_exchange() -> None:
    """Strict, the client's KEXINIT must be the first packet of all."""
    pair = _Pair()
    client: Any = pair.client
    send_kexinit = client.sendKexInit

    def ignore_first() -> None:
        client.sendKexInit = send_kexinit
        client.sendPacket(MSG_IGNORE, NS(b"x"))
        client.sendKexInit()

    client.sendKexInit = ignore_first
    pair.connect()
    assert pair.wire.is_closing
    assert client.farewell == b"a message before the first key exchange"


@pytest.mark.parametrize("message", HARMLESS)
def test_a_client_that_is_not_strict_may_say_so(message: tuple[int, bytes]) -> None:
    """Without strict key exchange the same messages are allowed, as RFC 4253 has it."""
    pair = _Pair(strict=False)
    pair.client.before_newkeys = lambda: pair.client.sendPacket(*message)
    pair.connect()
    assert not pair.wire.is_closing
    assert pair.client.exchanges == 1


def test_a_strict_wish_in_a_later_exchange_means_nothing() -> None:
    """Who was not strict from the beginning does not become so."""
    pair = _Pair(strict=False)
    pair.log_in()
    pair.client.supportedKeyExchanges = [b"curve25519-sha256", b"kex-strict-c-v00@openssh.com"]
    pair.client.sendKexInit()
    pair.carry()
    assert pair.client.exchanges == 2
    assert not pair.server.order.is_strict
    assert not pair.wire.is_closing


def test_no_second_key_exchange_before_the_login() -> None:
    """A stranger gets one key exchange: each costs the server more than it costs them."""
    pair = _Pair()
    pair.connect()
    pair.client.sendKexInit()
    pair.carry()
    assert pair.client.farewell == b"no new key exchange before the login"


@pytest.mark.parametrize("first", [MSG_NEWKEYS, MSG_KEX_INIT, 34, 49])
def test_key_exchange_has_an_order(first: int) -> None:
    """Whatever a client's key exchange begins with, if not with KEXINIT, is refused."""
    assert Order().refusal(first, may_exchange=True) is not None


def test_an_order_is_kept_in_each_exchange() -> None:
    """KEXINIT, the client's half, NEWKEYS; and again; everything else may come between."""
    order = Order()
    for _ in range(2):
        for message in (MSG_KEXINIT, MSG_KEX_INIT, MSG_NEWKEYS):
            others = {MSG_KEXINIT, MSG_KEX_INIT, MSG_NEWKEYS} - {message}
            assert all(order.refusal(other, may_exchange=True) for other in others)
            assert order.refusal(message, may_exchange=True) is None
            if message == MSG_KEXINIT:
                assert order.began(wants_strict=False) is None
            order.went_on(message)
            assert order.refusal(MSG_IGNORE, may_exchange=True) is None
    assert order.refusal(90, may_exchange=True) is None


def test_a_login_takes_no_longer_than_its_grace() -> None:
    """Whoever has not logged in by then is sent away, however busy they are."""
    pair = _Pair(limits=Limits(login_grace=2.0))
    pair.connect()
    pair.clock.advance(1.9)
    pair.client.sendPacket(MSG_IGNORE, NS(b"x"))
    pair.carry()
    assert not pair.wire.is_closing
    pair.clock.advance(0.2)
    pair.carry()
    assert pair.client.farewell == b"login took too long"


def test_packets_before_the_login_are_few() -> None:
    """A stranger can't keep the server busy with packets for as long as the grace lasts."""
    pair = _Pair()
    pair.connect()
    for _ in range(300):
        pair.client.sendPacket(MSG_IGNORE, NS(b"x"))
    pair.carry()
    assert pair.client.farewell == b"too many packets before the login"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b"S3", b"\n"])
def test_what_is_not_ssh_is_sent_away_at_once(data: bytes) -> None:
    """A client of another protocol does not hold a place until its grace is over."""
    pair = _Pair()
    pair.server.makeConnection(pair.wire)
    pair.server.dataReceived(data)
    assert pair.wire.is_closing


@pytest.mark.parametrize("length", [0, 1, 5, 35001, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF])
def test_packets_of_lying_lengths(length: int) -> None:
    """A length that can't be is refused at once; one that could is waited for, up to a bound."""
    pair = _Pair()
    pair.server.makeConnection(pair.wire)
    pair.server.dataReceived(b"SSH-2.0-x\r\n")
    packet = length.to_bytes(4, "big") + b"\x04"
    pair.server.dataReceived(packet + b"\x00" * 16)
    for _ in range(8):
        if not pair.wire.is_closing:
            pair.server.dataReceived(b"\x00" * 16384)
    assert pair.wire.is_closing


def test_an_empty_packet_is_no_packet() -> None:
    """A packet without even a message's number is refused; it would be counted, but not seen."""
    pair = _Pair()
    pair.server.makeConnection(pair.wire)
    pair.server.dataReceived(b"SSH-2.0-x\r\n\x00\x00\x00\x0c\x0b" + b"\x00" * 11)
    assert pair.wire.is_closing


def test_answers_do_not_pile_up_behind_a_key_exchange() -> None:
    """A client that asks on and on in the middle of a key exchange is cut off."""
    pair = _Pair()
    pair.log_in()
    pair.server.sendKexInit()  # and the client never answers it
    pair.wire.sent = b""
    for _ in range(1100):
        pair.server.sendPacket(82, b"")
    assert pair.wire.is_closing


def test_nothing_is_served_before_the_encryption() -> None:
    """A service that is asked for in plain text ends the connection."""
    pair = _Pair(strict=False)
    client = pair.client

    def ask_too_early() -> None:
        state, client._keyExchangeState = client._keyExchangeState, client._KEY_EXCHANGE_NONE
        client.sendPacket(MSG_SERVICE_REQUEST, NS(b"ssh-userauth"))
        client._keyExchangeState = state

    client.before_newkeys = ask_too_early
    pair.connect()
    assert pair.wire.is_closing
    assert pair.client.farewell == b"message 5 during the first key exchange"


def _ask(pair: _Pair, *parts: bytes, service: bytes = b"ssh-connection") -> None:
    """Ask to be let in, by way of the login service."""
    pair.connect()
    pair.client.sendPacket(MSG_SERVICE_REQUEST, NS(b"ssh-userauth"))
    pair.client.sendPacket(MSG_USERAUTH_REQUEST, NS(b"ann") + NS(service) + b"".join(parts))
    pair.carry()


def test_no_service_but_the_connection() -> None:
    """Whoever asks to log in to something else is sent away."""
    pair = _Pair()
    _ask(pair, NS(b"none"), service=b"ssh-userauth")
    assert pair.wire.is_closing
    assert pair.client.farewell == b"no service but ssh-connection"


@pytest.mark.parametrize("key", [KEY, Key(ed25519.Ed25519PrivateKey.generate())])
def test_a_wrong_signature_lets_nobody_in(key: Key) -> None:
    """Be the key authorized or not: a few such tries are the last."""
    pair = _Pair(limits=Limits(tries=2))
    blob = key.public().blob()
    proof = (NS(b"publickey"), b"\x01", NS(b"ssh-ed25519"), NS(blob), NS(key.sign(b"something")))
    _ask(pair, *proof)
    assert not pair.server.is_authenticated
    assert [number for number, _ in pair.client.came][-1] == MSG_USERAUTH_FAILURE
    assert not pair.wire.is_closing
    pair.client.sendPacket(
        MSG_USERAUTH_REQUEST, NS(b"ann") + NS(b"ssh-connection") + b"".join(proof)
    )
    pair.carry()
    assert pair.wire.is_closing
    assert pair.client.farewell == b"too many failed logins"


def test_a_wrong_guess_of_the_method_is_passed_over() -> None:
    """A client may send a packet of the method that it expects; if it errs, it begins anew."""
    pair = _Pair()
    # Not what the server would have first.
    pair.client.supportedKeyExchanges = [b"curve25519-sha256@libssh.org"]
    send = pair.client.sendPacket

    def guess(messageType: int, payload: bytes) -> None:
        if messageType == MSG_KEXINIT and not pair.client.exchanges:
            first = len(payload) - 5  # whether a packet follows; then four bytes that mean nothing
            payload = payload[:first] + b"\x01" + payload[first + 1 :]
            pair.client.ourKexInitPayload = bytes((MSG_KEXINIT,)) + payload
            send(messageType, payload)
            send(MSG_KEX_INIT, NS(b"a guess"))
            return
        send(messageType, payload)

    pair.client.sendPacket = guess  # type: ignore[method-assign]
    pair.log_in()
    assert pair.server.is_authenticated
    assert not pair.server.ignoreNextPacket
