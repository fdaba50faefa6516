"""Who may log in to the demo: the invoking user, by a key that is there or one made for it.

Nothing that exists is ever overwritten.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

from attrs import frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from txwatchdog.errors import KeysError
from txwatchdog.manhole.modes import make_directory

__all__ = ["Access", "UnsuitableKeyError", "arrange_access", "fingerprint", "read_public_key"]

_THROW_AWAY = "demo_ed25519"
_SUITABLE = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
# What ssh offers unasked; any other key needs -i.
_OFFERED_UNASKED = ("id_rsa.pub", "id_ecdsa.pub", "id_ed25519.pub")


class UnsuitableKeyError(Exception):
    """A public key can't be used here; the message says why."""


@frozen
class Access:
    """How the user gets in.

    Attributes:
        authorized_keys: The file that says who gets in.
        story: One line: whose keys these are, and where they came from.
        skipped: The user's public keys that were not taken, each with the reason.
        identity: The private key that ssh must be told to use, or None where ssh finds it alone.
    """

    authorized_keys: Path
    story: str
    skipped: tuple[str, ...] = ()
    identity: Path | None = None


def arrange_access(directory: Path, ssh_directory: Path) -> Access:
    """Make sure that `directory` has an ``authorized_keys``, and say how to log in by it.

    Args:
        directory: The manhole's keys. Made, with mode 0700, if missing.
        ssh_directory: The user's ``~/.ssh``, which need not exist. Only its ``*.pub`` are read.

    Raises:
        KeysError: A file can't be read or written.
    """
    authorized = directory / "authorized_keys"
    try:
        make_directory(directory)
        own, skipped = _own_keys(ssh_directory)
        if os.path.lexists(authorized):
            # The manhole reads it, and complains about it, itself.
            story = f"{authorized}, used as it is"
        elif own:
            story = f"your own ({', '.join(str(path) for path in own)}), written to {authorized}"
            _authorize(authorized, own)
        else:
            throw_away = _throw_away(directory)
            story = f"a throw-away pair, {throw_away[0].with_suffix('')}, let in by {authorized}"
            _authorize(authorized, dict([throw_away]))
        return Access(authorized, story, skipped, _identity(authorized, directory, own))
    except OSError as error:
        raise KeysError(
            f"{error.filename or directory} can't be used for the console's keys "
            f"({error.strerror}): give a directory of your own with --keys DIR."
        ) from error


def read_public_key(text: str) -> str:
    """Return the key of a ``.pub`` file's text: type, base64 and comment, in one line.

    Raises:
        UnsuitableKeyError: The manhole would not take it.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise UnsuitableKeyError(f"{len(lines)} keys in it")
    kind = lines[0].split()[0]
    if kind == "ssh-dss":
        raise UnsuitableKeyError("DSA is broken; ssh itself refuses it")
    if "-cert-" in kind:
        raise UnsuitableKeyError("a certificate, no key")
    if kind not in _SUITABLE:
        raise UnsuitableKeyError(
            f"{kind[:40]!r} is no type that works here ({', '.join(_SUITABLE)} do)"
        )
    try:
        key = serialization.load_ssh_public_key(lines[0].encode())
    except Exception as error:
        # Whatever cryptography makes of a damaged key, it is damaged.
        raise UnsuitableKeyError("damaged: it can't be read") from error
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        raise UnsuitableKeyError(f"RSA of {key.key_size} bits is too short; 2048 is the least")
    return lines[0]


def fingerprint(private_key: Path) -> str | None:
    """Return the SHA256 fingerprint of an OpenSSH private key, as ssh shows it.

    None if there is none that can be read.
    """
    try:
        key = serialization.load_ssh_private_key(private_key.read_bytes(), password=None)
        line = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    except (OSError, ValueError, TypeError):
        return None
    digest = hashlib.sha256(_blob(line.decode())).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _own_keys(ssh_directory: Path) -> tuple[dict[Path, str], tuple[str, ...]]:
    """Return the user's suitable public keys by path, and why the others are not."""
    own: dict[Path, str] = {}
    skipped = []
    try:
        paths = sorted(ssh_directory.glob("*.pub"))
    except OSError as error:
        return {}, (f"{ssh_directory}: {error.strerror}",)
    for path in paths:
        try:
            own[path] = read_public_key(path.read_text(encoding="utf-8", errors="replace"))
        except (UnsuitableKeyError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            skipped.append(f"{path}: {reason}")
    return own, tuple(skipped)


def _throw_away(directory: Path) -> tuple[Path, str]:
    """Return the throw-away pair's public path and line; the pair is made if missing."""
    private = directory / _THROW_AWAY
    public = private.with_suffix(".pub")
    if not private.exists():
        key = ed25519.Ed25519PrivateKey.generate()
        _write_new(
            private,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            ),
            0o600,
        )
    try:
        pair = serialization.load_ssh_private_key(private.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise KeysError(
            f"{private} can't be read as a private key: delete it, and the demo makes a new one."
        ) from error
    line = pair.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    line += b" txwatchdog-demo"
    if not public.exists():
        _write_new(public, line + b"\n", 0o644)
    return public, line.decode()


def _authorize(authorized: Path, keys: dict[Path, str]) -> None:
    when = datetime.now(timezone.utc).astimezone().isoformat(" ", "minutes")
    lines = [f"# Written by txwatchdog demo, {when}, from:"]
    for path, line in keys.items():
        # A file name may hold a line break; a comment must not.
        lines += [f"# {str(path)!r}", line]
    _write_new(authorized, "\n".join([*lines, ""]).encode(), 0o600)


def _identity(authorized: Path, directory: Path, own: dict[Path, str]) -> Path | None:
    """Return the private key to name to ssh, given what `authorized` lets in."""
    try:
        listed = set(_blobs(authorized.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return None
    ours = [path for path, line in own.items() if _blob(line) in listed]
    if any(path.name in _OFFERED_UNASKED for path in ours):
        return None
    throw_away = directory / f"{_THROW_AWAY}.pub"
    if throw_away.is_file():
        text = throw_away.read_text(encoding="utf-8", errors="replace")
        if listed.intersection(_blobs(text)):
            ours.insert(0, throw_away)
    # An agent may hold a key whose file is elsewhere: naming a missing file would not help.
    return next((path.with_suffix("") for path in ours if path.with_suffix("").is_file()), None)


def _blobs(text: str) -> Iterator[bytes]:
    """Yield the keys themselves of an ``authorized_keys`` or ``.pub`` file."""
    for line in text.splitlines():
        if not line.lstrip().startswith("#") and (blob := _blob(line)):
            yield blob


def _blob(line: str) -> bytes:
    """Return the decoded key in `line`, behind options or not; empty if there is none."""
    words = line.split()
    for kind, word in pairwise(words):
        if kind in _SUITABLE:
            try:
                return base64.b64decode(word, validate=True)
            except ValueError:  # no base64, or not even ASCII
                return b""
    return b""


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist yet, never readable by more than `mode` allows."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
