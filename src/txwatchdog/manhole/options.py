"""What stands before a key in ``authorized_keys``: options, and what they come to. Pure.

As in sshd(8), AUTHORIZED_KEYS FILE FORMAT. An option that is not known here is not ignored: it
may be the one that was to keep somebody out.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, frozen

from txwatchdog.errors import KeysError
from txwatchdog.manhole.patterns import parse_patterns
from txwatchdog.manhole.roles import FULL, TUNE, VIEW

if TYPE_CHECKING:
    from txwatchdog.manhole.patterns import Patterns

__all__ = ["Options", "Terms", "forced", "parse_expiry", "quoted", "split_options", "terms_of"]

Options: TypeAlias = "tuple[tuple[str, str | None], ...]"
"""In order, as (name in lower case, value or None)."""

# Those that forbid, or allow again, what is never done here: honouring them takes nothing.
_NOTHING_TO_DO = frozenset({"port-forwarding", "agent-forwarding", "x11-forwarding", "user-rc"})
_EXAMPLE = "a line looks like: ssh-ed25519 AAAAC3Nza... name@host"
_EXPIRY = re.compile(r"(\d{8})(\d{4})?(\d{2})?(Z|UTC)?", re.ASCII | re.IGNORECASE)


@frozen
class Terms:
    """On what terms a key gets in.

    Attributes:
        role: What it may do.
        command: The verb line that runs whatever is asked for; None if the operator may choose.
        sources: Where it may be used from; None if anywhere.
        expires: From when on it is not let in any more; aware. None if never.
        has_pty: Whether it may have a terminal.
    """

    role: str = FULL
    command: str | None = None
    sources: Patterns | None = None
    expires: datetime | None = None
    has_pty: bool = True

    def objection(self, address: str, now: datetime) -> str | None:
        """Why the key does not get in now and from there; None if it does.

        Args:
            address: The peer's IP address; empty for a Unix socket.
            now: Aware.
        """
        if self.expires is not None and now >= self.expires:
            return f"it expired at {self.expires:%Y-%m-%d %H:%M:%S %Z}".rstrip()
        if self.sources is not None and not self.sources.match(address):
            return f'it may be used from="{self.sources.text}" only'
        return None


def split_options(line: str) -> tuple[Options, str]:
    """Split a line into its options and what follows them.

    Options are separated by commas; a value is in double quotes, in which a backslash and a quote
    stand for a quote, and commas and blanks for themselves.

    Args:
        line: It begins with an option.

    Raises:
        KeysError: It does not, or a value is not quoted as it should be.
    """
    options: list[tuple[str, str | None]] = []
    index = 0
    while True:
        start = index
        while index < len(line) and (line[index].isalnum() or line[index] in "-_@."):
            index += 1
        name = line[start:index].lower()
        if not name:
            shown = line if len(line) <= 40 else line[:37] + "..."
            raise KeysError(f"neither a public key nor options before one: {shown!r}; {_EXAMPLE}")
        value = None
        if line[index : index + 1] == "=":
            value, index = _read_quoted(line, index + 1, name)
        options.append((name, value))
        follows = line[index : index + 1]
        index += 1
        if follows in (" ", "\t"):
            return tuple(options), line[index:].lstrip(" \t")
        if follows != ",":
            raise KeysError(f"no public key after {name!r}; {_EXAMPLE}")


def _read_quoted(line: str, index: int, name: str) -> tuple[str, int]:
    if line[index : index + 1] != '"':
        raise KeysError(f'the value of option {name!r} is not in double quotes: {name}="..."')
    value: list[str] = []
    index += 1
    while index < len(line):
        if line[index] == '"':
            return "".join(value), index + 1
        if line[index : index + 2] == '\\"':
            index += 1
        value.append(line[index])
        index += 1
    raise KeysError(f"the value of option {name!r} has no closing quote")


def quoted(value: str) -> str:
    """A value in quotes, as `split_options` reads it.

    Raises:
        ValueError: The format has no way to say it.
    """
    if value.endswith("\\") or "\n" in value or "\r" in value:
        raise ValueError(f"{value!r} can't be written into authorized_keys")
    escaped = value.replace('"', '\\"')
    return f'"{escaped}"'


def terms_of(options: Options) -> Terms:
    """What a line's options come to, later ones over earlier ones.

    Raises:
        KeysError: One is unknown, comes twice, or can't be enforced: the key must not get in.
    """
    terms = Terms()
    for name, value in options:
        if name in ("from", "command", "expiry-time"):
            terms = _set(terms, name, value)
        elif name == "cert-authority":
            raise KeysError(
                "certificates (option 'cert-authority') are not supported; list the keys themselves"
            )
        elif name not in ("restrict", "pty", "no-pty") and (
            name.removeprefix("no-") not in _NOTHING_TO_DO
        ):
            raise KeysError(
                f"option {name!r} is not known here, so this key is not let in; remove the "
                "option, or the line"
            )
        elif value is not None:
            raise KeysError(f"option {name!r} takes no value; remove it")
        elif name.endswith("pty") or name == "restrict":
            terms = evolve(terms, has_pty=name == "pty")
    return terms


def _set(terms: Terms, name: str, value: str | None) -> Terms:
    if value is None:
        raise KeysError(f'option {name!r} needs a value: {name}="..."')
    try:
        if name == "expiry-time":
            expires = parse_expiry(value)
            # Of several, the first to come counts, as in sshd.
            earliest = min(expires, terms.expires or expires)
            return evolve(terms, expires=earliest)
        if name == "from":
            if terms.sources is not None:
                raise ValueError("it comes twice; put all patterns into one list")  # noqa: TRY301
            return evolve(terms, sources=parse_patterns(value))
        if terms.command is not None or terms.role != FULL:
            raise ValueError("it comes twice; keep one")  # noqa: TRY301
        role, command = forced(value)
        return evolve(terms, role=role, command=command)
    except ValueError as error:
        raise KeysError(f"option {name!r}: {error}") from error


def parse_expiry(text: str) -> datetime:
    """Read a time as ``expiry-time=`` has it.

    Args:
        text: ``YYYYMMDD``, ``YYYYMMDDHHMM`` or ``YYYYMMDDHHMMSS``, in the system's time zone, or
            in UTC with a ``Z`` behind it.

    Returns:
        Aware.

    Raises:
        ValueError: There is no such time.
    """
    found = _EXPIRY.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)  # noqa: TRY301
        day, minute, second, zone = found.groups(default="")
        moment = datetime.strptime(f"{day}{minute or '0000'}{second or '00'}", "%Y%m%d%H%M%S")  # noqa: DTZ007 - the zone follows
        # A naive one is local time; what the system's clock can't say is no time either.
        return moment.replace(tzinfo=timezone.utc) if zone else moment.astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"{text!r} is no time: write YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with a Z "
            "behind it for UTC"
        ) from error


def forced(command: str) -> tuple[str, str | None]:
    """What ``command=`` allows.

    Args:
        command: A role's name but for full, or a verb line.

    Returns:
        The role, and the verb line if it is one.

    Raises:
        ValueError: It is neither.
    """
    text = command.strip()
    if text in (VIEW, TUNE):
        return text, None
    from txwatchdog.manhole.verbs.lines import verb_line

    line = verb_line(text)
    if line is None:
        raise ValueError(f"{command!r} is neither view, tune nor a verb such as 'top --json'")
    from txwatchdog.manhole.verbs.table import Order, UsageError, read_order  # brings click

    try:
        order = read_order(line)
    except UsageError as error:
        raise ValueError(" ".join(str(error).split())) from error
    role = order.role if isinstance(order, Order) else VIEW
    if role == FULL:
        raise ValueError(
            f"{command!r} would allow all of Python, which a key without command= does, too"
        )
    return role, line
