"""Changes who gets in: adds lines to ``authorized_keys`` and takes lines out. Blocks on the disk.

A change is whole or not at all: the new text is written beside the file and renamed into its
place, and of two that come at once the second waits. Nothing but the lines concerned is touched.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import stat
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from attrs import frozen

from txwatchdog.errors import KeysError, reason_of
from txwatchdog.manhole.access import (
    AUTHORIZED_KEYS,
    AuthorizedKey,
    RefusedLine,
    parse_authorized_keys,
    read_authorized_keys,
    read_lines,
)
from txwatchdog.manhole.keyfiles import describe, type_name
from txwatchdog.manhole.modes import check_directories, make_directory
from txwatchdog.manhole.options import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from txwatchdog.manhole.keyfiles import KeyFile

__all__ = ["Row", "authorize", "options_text", "public_keys", "revoke", "rows"]

_SHORT_TYPES = {"ssh-rsa": "RSA", "ssh-ed25519": "ED25519"}


@frozen
class Row:
    """A line of ``authorized_keys``, for people and programs to read.

    Attributes:
        number: The line's, from 1.
        type: ``ED25519``, ``ECDSA`` or ``RSA``; what else it says, where it lets nobody in.
        bits: The key's size; 0 where it can't be told.
        fingerprint: As ``ssh-keygen -l`` prints it; empty where it can't be told.
        role: Its role; empty where it lets nobody in.
        command: The verb line that it is confined to, if it is.
        sources: Its pattern list; None for anywhere.
        expires: When it does, ISO 8601; None for never.
        pty: Whether it may have a terminal.
        comment: What follows the key.
        refused: Why it lets nobody in; None if it lets somebody in.
    """

    number: int
    type: str
    bits: int
    fingerprint: str
    role: str
    command: str | None
    sources: str | None
    expires: str | None
    pty: bool
    comment: str
    refused: str | None

    def as_dict(self) -> dict[str, object]:
        """The same for ``json.dumps``; ``sources`` is called ``from`` there, as in the file."""
        return {
            "number": self.number,
            "type": self.type,
            "bits": self.bits,
            "fingerprint": self.fingerprint,
            "role": self.role,
            "command": self.command,
            "from": self.sources,
            "expires": self.expires,
            "pty": self.pty,
            "comment": self.comment,
            "refused": self.refused,
        }

    def __str__(self) -> str:
        facts = [self.fingerprint, f"({self.type})" if self.type else "", self.comment]
        return " ".join(filter(None, [f"line {self.number}:", *facts]))


def public_keys(data: bytes, name: str) -> list[AuthorizedKey]:
    """The keys of a ``.pub`` file, or of several of them.

    Args:
        data: What is in it.
        name: What it is called, for errors.

    Returns:
        At least one.

    Raises:
        KeysError: Something else is in it, or a key that would not get in.
    """
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if text.lstrip().startswith(("-----", "---- ", "PuTTY-User-Key-File")) or "\x00" in text:
        raise KeysError(_not_public(describe(data), name))
    found = []
    for each in read_lines(text):
        if isinstance(each, RefusedLine):
            raise KeysError(f"{name}, line {each.line}: {each.reason}")
        if each.options:
            raise KeysError(
                f"{name}, line {each.line}: there are options before the key; remove them, and "
                "give what is meant as --role, --command, --from or --expires"
            )
        found.append(each)
    if not found:
        raise KeysError(f"{name} holds no key; give a public one, such as ~/.ssh/id_ed25519.pub")
    return found


def _not_public(found: KeyFile, name: str) -> str:
    if found.kind == "private":
        remedy = "it belongs to its owner alone; authorize its public half, the .pub file"
        if found.form == "putty":
            remedy += " (puttygen -L KEY.ppk prints it)"
        elif (found.form == "openssh" or found.algorithm == "RSA") and not found.cut:
            remedy += f" (ssh-keygen -y -f {name} prints it)"
    elif found.kind == "public":
        form = {"rfc4716": "RFC4716", "pem": "PKCS8"}.get(found.form, "PKCS8")
        remedy = "OpenSSH's one line is wanted"
        if (found.form, found.algorithm) == ("pem", "Ed25519"):  # ssh-keygen -i can't read it
            remedy += ", as ssh-keygen writes it into a .pub file"
        else:
            remedy += f": ssh-keygen -i -m {form} -f {name}"
    else:
        remedy = "give a public key, such as ~/.ssh/id_ed25519.pub"
    usable = ("", "Ed25519", "RSA", "ECDSA, NIST P-256", "ECDSA, NIST P-384", "ECDSA, NIST P-521")
    if found.algorithm not in usable:
        remedy = f"{found.algorithm} is not supported; make another: ssh-keygen -t ed25519"
    return f"{name} is {found.what}; {remedy}"


def options_text(
    role: str = "full",
    command: str | None = None,
    sources: str | None = None,
    expires: str | None = None,
) -> str:
    """Options as they stand before a key.

    Args:
        role: One of `ROLES`.
        command: The verb line that the key is confined to; goes before `role`.
        sources: A pattern list for ``from=``.
        expires: As ``expiry-time=`` has it.

    Returns:
        Empty if there is nothing to say.

    Raises:
        ValueError: One has a value that the format has no way to say.
    """
    forced = command if command is not None else None if role == "full" else role
    named = (("command", forced), ("from", sources), ("expiry-time", expires))
    return ",".join(f"{name}={quoted(value)}" for name, value in named if value is not None)


def authorize(directory: Path, keys: list[AuthorizedKey], options: str = "") -> list[Row]:
    """Let keys in from now on.

    Args:
        directory: The keys directory; made (0700) where it is missing.
        keys: From `public_keys`.
        options: From `options_text`.

    Returns:
        The new lines.

    Raises:
        KeysError: One is there already, or the file can't be read, trusted or written.
    """
    path = directory / AUTHORIZED_KEYS
    with _changing(directory):
        try:
            text = read_authorized_keys(directory)
        except FileNotFoundError:
            text = ""
        try:
            parse_authorized_keys(text)
        except KeysError as error:
            raise KeysError(f"{path}, {error}") from error
        known = {each.blob: each for each in reversed(read_lines(text)) if each.blob}
        for key in keys:
            before = known.setdefault(key.blob, key)
            if before is not key:
                is_new = any(before is each for each in keys)
                where = "what is to be authorized" if is_new else path
                raise KeysError(
                    f"the key {key.fingerprint} {_printable(key.comment)} stands in line "
                    f"{before.line} of {where} already; nothing was changed (to change what it "
                    f"may do: txwatchdog keys revoke {key.fingerprint}, then authorize it again)"
                )
        start = text if not text or text.endswith("\n") else text + "\n"
        first = start.count("\n") + 1
        _write(path, start + "".join(_line(key, options) for key in keys))
        added = range(first, first + len(keys))
        return [row for row in rows(read_authorized_keys(directory)) if row.number in added]


def _line(key: AuthorizedKey, options: str) -> str:
    kind = key.key.sshType().decode()
    words = (options, kind, base64.b64encode(key.blob).decode(), _printable(key.comment))
    return " ".join(filter(None, words)) + "\n"


def revoke(directory: Path, which: str) -> list[Row]:
    """Let a key in no more.

    Args:
        directory: The keys directory.
        which: A line's number, or a key's fingerprint or comment.

    Returns:
        The lines that were removed: all of that key, unless a number said which.

    Raises:
        KeysError: There is none, there are several keys, or the file can't be read, trusted or
            written.
    """
    path = directory / AUTHORIZED_KEYS
    with _changing(directory):
        try:
            text = read_authorized_keys(directory)
        except FileNotFoundError:
            raise KeysError(f"there is no {path}, so there is nothing to revoke") from None
        removed = _find(rows(text), which, path)
        numbers = {row.number for row in removed}
        lines = text.split("\n")
        kept = [line for number, line in enumerate(lines, 1) if number not in numbers]
        _write(path, "\n".join(kept))
        return removed


def _find(found: list[Row], which: str, path: Path) -> list[Row]:
    by_number = [row for row in found if which.isascii() and which == str(row.number)]
    by_name = [
        row
        for row in found
        if row.fingerprint and which in (row.fingerprint, row.fingerprint.removeprefix("SHA256:"))
    ] or [row for row in found if row.comment and which == row.comment]
    candidates = by_number + [row for row in by_name if row not in by_number]
    if not candidates:
        raise KeysError(
            f"no key in {path} has {which!r} for its number, fingerprint or comment; "
            "txwatchdog keys list shows them"
        )
    if by_number and len(candidates) == 1:
        return by_number
    if by_number or len({row.fingerprint or row.number for row in candidates}) > 1:
        listed = "; ".join(map(str, candidates))
        raise KeysError(
            f"{which!r} may mean any of these, so nothing was changed: {listed}. Give a fingerprint"
        )
    return candidates


def rows(text: str, now: datetime | None = None) -> list[Row]:
    """What stands in an ``authorized_keys`` file, line by line.

    Args:
        text: The file's.
        now: To tell what has expired; aware.
    """
    return [_row(each, now or datetime.now(timezone.utc)) for each in read_lines(text)]


def _row(each: AuthorizedKey | RefusedLine, now: datetime) -> Row:
    if isinstance(each, RefusedLine):
        command, sources, expires = (
            next((_printable(value or "") for name, value in each.options if name == wanted), None)
            for wanted in ("command", "from", "expiry-time")
        )
        return Row(
            number=each.line,
            type=_printable(_short_type(each.type)),
            bits=0,
            fingerprint=each.fingerprint,
            role="",
            command=command,
            sources=sources,
            expires=expires,
            pty=False,
            comment=_printable(each.comment),
            refused=_printable(each.reason),
        )
    terms = each.terms
    is_over = terms.expires is not None and now >= terms.expires
    return Row(
        number=each.line,
        type=_short_type(each.key.sshType().decode()),
        bits=each.key.size(),
        fingerprint=each.fingerprint,
        role=terms.role,
        command=terms.command,
        sources=None if terms.sources is None else terms.sources.text,
        expires=None if terms.expires is None else terms.expires.isoformat(),
        pty=terms.has_pty,
        comment=_printable(each.comment),
        refused="it has expired" if is_over else None,
    )


def _short_type(ssh_type: str) -> str:
    if ssh_type.startswith("ecdsa-sha2-nistp"):
        return "ECDSA"
    return _SHORT_TYPES.get(ssh_type) or type_name(ssh_type)


def _printable(text: str) -> str:
    """Text that can't move a terminal's cursor or forge a line."""
    return "".join(character if character.isprintable() else "?" for character in text)


@contextlib.contextmanager
def _changing(directory: Path) -> Iterator[None]:
    """Keep others from changing the file meanwhile.

    Raises:
        KeysError: The directory can't be made or trusted; or what is done in it goes wrong.
    """
    try:
        make_directory(directory)
        check_directories(directory)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeysError(
            f"cannot change {directory / AUTHORIZED_KEYS}: "
            f"{reason_of(error)}; give a directory of your own with "
            "--keys DIR, or run this as its owner"
        ) from error


def _write(path: Path, text: str) -> None:
    """Put a new text into the place of a file's, mode and owner as they were."""
    real = path.resolve()  # a symbolic link stays one
    try:
        before = real.stat()
        mode = stat.S_IMODE(before.st_mode)
    except FileNotFoundError:
        before, mode = None, 0o600
    unfinished = real.with_name(f"{real.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            if before is not None and (before.st_uid, before.st_gid) != (
                os.geteuid(),
                os.getegid(),
            ):
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(real)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
