"""What options before a key come to: where from, until when, with which role."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from txwatchdog.errors import KeysError
from txwatchdog.manhole.options import (
    Terms,
    forced,
    parse_expiry,
    quoted,
    split_options,
    terms_of,
)
from txwatchdog.manhole.patterns import parse_patterns
from txwatchdog.manhole.roles import ROLES, allows

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,15}", fullmatch=True)
VALUES = st.none() | st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(NAMES, VALUES), min_size=1), st.sampled_from([" ", "\t", " \t "]))
def test_options_are_read_as_they_were_written(
    options: list[tuple[str, str | None]], blank: str
) -> None:
    """Whatever is in a value's quotes, commas, blanks and quotes among it, comes out again."""
    assume(not any(value is not None and value.endswith("\\") for _, value in options))
    written = ",".join(
        name if value is None else f"{name}={quoted(value)}" for name, value in options
    )
    assert split_options(f"{written}{blank}ssh-ed25519 AAAA") == (
        tuple(options),
        "ssh-ed25519 AAAA",
    )


@pytest.mark.parametrize("value", ["a\\", "a\nb", "\r"])
def test_what_the_format_can_not_say_is_not_written(value: str) -> None:
    """A value that would end its quotes too late, or its line too early, is an error."""
    with pytest.raises(ValueError, match="can't be written"):
        quoted(value)


@given(st.text(max_size=80))
def test_no_text_gets_anything_but_options_or_an_error(text: str) -> None:
    """Whatever stands before a key, it is options that can be enforced, or a KeysError."""
    try:
        options, _ = split_options(text)
        terms = terms_of(options)
    except KeysError:
        return
    assert terms.role in ROLES


def _terms(text: str) -> Terms:
    return terms_of(split_options(f"{text} key")[0])


@pytest.mark.parametrize(
    ("text", "has_pty"),
    [
        ("no-port-forwarding", True),
        ("restrict", False),
        ("no-pty", False),
        ("restrict,pty", True),
        ("pty,restrict", False),
        ("NO-PTY,Pty", True),
        ("restrict,port-forwarding,agent-forwarding,X11-forwarding,user-rc", False),
    ],
)
def test_of_two_that_contradict_each_other_the_later_counts(text: str, has_pty: bool) -> None:
    """Restrict takes the terminal away, pty gives it back, in the line's order and in any case."""
    assert _terms(text).has_pty is has_pty


@pytest.mark.parametrize(
    ("text", "role", "command"),
    [
        ("restrict", "full", None),
        ('command="view"', "view", None),
        ('command=" tune "', "tune", None),
        ('command="top --json"', "view", "top --json"),
        ('command="live"', "view", "live"),
        ('command="threshold"', "view", "threshold"),
        ('command="threshold 0.2"', "tune", "threshold 0.2"),
        ('command="top --help"', "view", "top --help"),
        ('command="export \\"json\\""', "view", 'export "json"'),
    ],
)
def test_a_command_is_a_role_or_a_verb_line(text: str, role: str, command: str | None) -> None:
    """A verb line's key has the least role that the line takes."""
    terms = _terms(text)
    assert (terms.role, terms.command) == (role, command)


@pytest.mark.parametrize(
    "command",
    ["", "VIEW", "full", "view top", "/bin/sh", "1 + 1", "watchdog.stop()", "python", "top; stop"],
)
def test_any_other_command_is_no_command(command: str) -> None:
    """What is neither view, tune nor a verb line, or would be Python, refuses the key."""
    with pytest.raises(ValueError, match=r"neither view|all of Python|extra argument"):
        forced(command)


def test_roles_allow_what_lesser_ones_do() -> None:
    """Full allows all, tune what view does, and what is no role allows nothing."""
    assert [[allows(held, needed) for needed in ROLES] for held in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    with pytest.raises(ValueError, match="not in tuple"):
        allows("root", "view")


# -- from= --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        ("10.0.0.1", ["10.0.0.1", "::ffff:10.0.0.1"], ["10.0.0.2", "10.0.0.10", "::a00:1"]),
        ("10.0.0.0/8", ["10.255.0.1", "::ffff:10.2.3.4"], ["11.0.0.1", "::1"]),
        ("10.0.0.*", ["10.0.0.1", "10.0.0.255", "::ffff:10.0.0.7"], ["10.0.1.1"]),
        ("10.0.0.?", ["10.0.0.1"], ["10.0.0.12"]),
        ("*", ["10.0.0.1", "::1", "fe80::1%eth0"], []),
        ("*,!10.0.0.0/24", ["10.0.1.1", "::1"], ["10.0.0.1", "::ffff:10.0.0.1"]),
        ("!10.0.0.1,10.0.0.0/24", ["10.0.0.2"], ["10.0.0.1", "10.0.1.0"]),
        ("!10.0.0.1", [], ["10.0.0.1", "10.0.0.2"]),
        ("2001:DB8::/32,::1", ["2001:db8::5", "::1", "0:0::1"], ["2001:db9::", "127.0.0.1"]),
        ("2001:db8:*", ["2001:db8::5"], ["2001:db9::5"]),
        ("fe80::1", ["fe80::1", "fe80::1%eth0"], ["fe80::2"]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.0"]),
        ("::/0", ["::1", "2001:db8::1"], ["10.0.0.1", "::ffff:10.0.0.1"]),
        ("*.example.com,localhost", [], ["127.0.0.1", "::1"]),
        ("[12]*", [], ["10.0.0.1", "1"]),
    ],
)
def test_addresses_match_as_in_sshd(patterns: str, inside: list[str], outside: list[str]) -> None:
    """Addresses, ranges and wildcards let in; one that is negated keeps out, wherever it stands."""
    parsed = parse_patterns(patterns)
    assert [each for each in inside if not parsed.match(each)] == []
    assert [each for each in outside if parsed.match(each)] == []


def test_who_has_no_address_matches_nothing() -> None:
    """A Unix socket's peer is nowhere that a pattern could mean, not even a lone asterisk."""
    assert not parse_patterns("*").match("")


@pytest.mark.parametrize(
    "text",
    ["", ",", "10.0.0.1,", "!", "a b", "10.0.0.1, 10.0.0.2", "10.0.0.0/33", "10.0.0.1/8", "10/8",
     "x/8", "::/129", "*,!evil.example", "*,!localhost", "*,!*.de", "a\tb"],
)  # fmt: skip
def test_a_list_that_can_not_be_enforced_is_an_error(text: str) -> None:
    """Rubbish, and a host that would have to be looked up to be excluded, refuse the key."""
    with pytest.raises(ValueError, match=r"no pattern|no address range|not looked up"):
        parse_patterns(text)


ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(ADDRESSES, st.integers(0, 128), ADDRESSES)
def test_ranges_are_pythons(
    base: IPv4Address | IPv6Address, length: int, peer: IPv4Address | IPv6Address
) -> None:
    """A range has in it what `ipaddress` has in it, IPv4 in IPv6 apart; its negation nothing."""
    length = min(length, base.max_prefixlen)
    network = ip_network(f"{base}/{length}", strict=False)
    mapped = ip_network("::ffff:0:0/96")
    assume(isinstance(peer, IPv4Address) or peer not in mapped)
    assume(not (isinstance(network, IPv6Network) and network.subnet_of(mapped)))  # type: ignore[arg-type]
    assert parse_patterns(str(network)).match(str(peer)) is (peer in network)
    assert not parse_patterns(f"!{network},*").match(str(peer)) or peer not in network


@given(ADDRESSES, st.data())
def test_wildcards_stand_for_any_part(
    address: IPv4Address | IPv6Address, data: st.DataObject
) -> None:
    """An address with a part of it replaced by an asterisk matches it."""
    assume(getattr(address, "ipv4_mapped", None) is None)
    text = str(address)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    pattern = f"{text[:start]}*{text[end:]}"
    assert parse_patterns(pattern).match(text)
    if start < end:
        assert parse_patterns(text[:start] + "?" * (end - start) + text[end:]).match(text)


@given(st.text(max_size=30), ADDRESSES)
def test_any_list_is_patterns_or_an_error(text: str, address: IPv4Address | IPv6Address) -> None:
    """Whatever stands in from=, it can be matched or is a ValueError."""
    try:
        parsed = parse_patterns(text)
    except ValueError:
        return
    assert parsed.match(str(address)) in (True, False)
    assert ip_address(str(address)) == address


# -- expiry-time= -------------------------------------------------------------------------------


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system's time zone is one that is not UTC."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("20270131", "2027-01-30 23:00:00"),
        ("20270701", "2027-06-30 22:00:00"),
        ("20270131Z", "2027-01-31 00:00:00"),
        ("202701311830", "2027-01-31 17:30:00"),
        ("202701311830z", "2027-01-31 18:30:00"),
        ("20270131183015", "2027-01-31 17:30:15"),
        ("20270131183015UTC", "2027-01-31 18:30:15"),
    ],
)
def test_a_time_is_local_or_utc(text: str, utc: str) -> None:
    """Without a Z it is the system's time, summer time included."""
    assert parse_expiry(text).astimezone(timezone.utc).isoformat(" ") == f"{utc}+00:00"


@pytest.mark.parametrize(
    "text",
    ["", "Z", "2027", "2027013", "202701311", "2027013118301", "20270132", "20270229", "20271301",
     "202701312400", "202701311860", "20270131183060", "00000101", "2027-01-31", "20270131 ",
     "٢٠٢٧٠١٣١", "+1d", "never", "00010101", "99991231"],
)  # fmt: skip
def test_what_is_no_time_is_an_error(text: str) -> None:
    """A time that can't be read, or does not exist, refuses the key."""
    try:
        parse_expiry(text)
    except ValueError as error:
        assert "is no time" in str(error)  # noqa: PT017 - the edges of the calendar may be times
    else:
        assert text in ("00010101", "99991231")


def test_a_key_is_in_until_its_time_comes() -> None:
    """One second before it gets in; at that time it does not; of two times the first counts."""
    terms = _terms('expiry-time="20270131120000Z",expiry-time="20280101Z"')
    before = datetime(2027, 1, 31, 11, 59, 59, tzinfo=timezone.utc)
    assert terms.objection("::1", before) is None
    at = before.replace(hour=12, minute=0, second=0)
    assert terms.objection("::1", at) == "it expired at 2027-01-31 12:00:00 UTC"


def test_both_place_and_time_must_be_right() -> None:
    """A key gets in from where it may, and says where that is."""
    terms = _terms('from="10.0.0.0/8",expiry-time="20270131Z"')
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert terms.objection("10.1.1.1", now) is None
    assert terms.objection("11.1.1.1", now) == 'it may be used from="10.0.0.0/8" only'
    assert terms.objection("", now) is not None
    assert Terms().objection("", now) is None
