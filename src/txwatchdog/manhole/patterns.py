"""From where a key may be used: the pattern list of ``from=``, as sshd reads it. Pure.

Names are never looked up (sshd's default, too), so a pattern that is a host's name matches nobody.
"""

from __future__ import annotations

import fnmatch
import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from attrs import frozen

__all__ = ["Patterns", "parse_patterns"]

_MAPPED = IPv6Network("::ffff:0:0/96")
_NAME = re.compile(r"[g-z_-]|^[^:]*[a-f][^:]*\.|^[^:]*\.[^:]*[a-f]", re.IGNORECASE)


@frozen
class Patterns:
    """A pattern list.

    Attributes:
        text: As it was written.
        entries: Whether it is negated, and a network or a pattern with ``*`` and ``?``, each.
    """

    text: str
    entries: tuple[tuple[bool, IPv4Network | IPv6Network | str], ...]

    def match(self, address: str) -> bool:
        """Whether someone may come from there.

        Args:
            address: An IP address; an IPv4 one that is mapped into IPv6 is that IPv4 address.
                Empty for a peer that has none (a Unix socket): nothing matches it, ``*`` neither.

        Returns:
            True if a pattern matches, and none that is negated does.
        """
        try:
            peer = _unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        matching = {negated for negated, pattern in self.entries if _matches(pattern, peer)}
        return matching == {False}


def parse_patterns(text: str) -> Patterns:
    """Read a pattern list.

    Args:
        text: Patterns with commas between them: an address, an address range (``10.0.0.0/8``), or
            either's text with ``*`` and ``?`` in it; a ``!`` in front of one excludes.

    Raises:
        ValueError: One can't be understood, or not enforced.
    """
    entries = []
    for entry in text.split(","):
        negated = entry.startswith("!")
        pattern = entry.removeprefix("!")
        if not pattern or not pattern.isprintable() or " " in pattern:
            raise ValueError(f"{entry!r} is no pattern: no blanks, one comma between two")
        if negated and "/" not in pattern and _NAME.search(pattern):
            raise ValueError(
                f"{entry!r} would exclude a host by its name, and names are not looked up; "
                "give its address"
            )
        entries.append((negated, _read(pattern)))
    return Patterns(text, tuple(entries))


def _read(pattern: str) -> IPv4Network | IPv6Network | str:
    if "/" not in pattern:
        try:
            address = _unmapped(ip_address(pattern))
        except ValueError:
            return pattern.lower()
        return ip_network(address)
    try:
        network = ip_network(pattern)
    except ValueError as error:
        raise ValueError(
            f"{pattern!r} is no address range such as 10.0.0.0/8 or 2001:db8::/32 ({error})"
        ) from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _matches(pattern: IPv4Network | IPv6Network | str, address: IPv4Address | IPv6Address) -> bool:
    if isinstance(pattern, str):
        # Brackets mean nothing to sshd, and a set of characters to fnmatch.
        return fnmatch.fnmatchcase(str(address), pattern.replace("[", "[[]"))
    return address in pattern
