"""Who gets in: ``authorized_keys``, in OpenSSH's format.

Nothing here guesses. A file that can't be trusted or read is an error that names it, its line and
what to type; while the service runs it lets nobody in rather than somebody. A line that can be
read, but asks for what is not done here, or has a key that is too weak, is refused by itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import shlex
import stat
from typing import TYPE_CHECKING

from attrs import field, frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.conch.ssh.keys import Key

from txwatchdog.errors import LIMITS, KeysError, reason_of
from txwatchdog.manhole.keyfiles import type_name
from txwatchdog.manhole.modes import check_directories, check_file, read_file
from txwatchdog.manhole.options import Terms, split_options, terms_of
from txwatchdog.manhole.roles import Operator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from txwatchdog.manhole.options import Options

__all__ = [
    "AUTHORIZED_KEYS",
    "SIGNATURE_ALGORITHMS",
    "Access",
    "AuthorizedKey",
    "Refusal",
    "RefusedLine",
    "fingerprint_of",
    "load_authorized_keys",
    "parse_authorized_keys",
    "read_authorized_keys",
    "read_lines",
]

AUTHORIZED_KEYS = "authorized_keys"

SIGNATURE_ALGORITHMS: Mapping[bytes, tuple[bytes, ...]] = {
    b"ssh-ed25519": (b"ssh-ed25519",),
    b"ecdsa-sha2-nistp256": (b"ecdsa-sha2-nistp256",),
    b"ecdsa-sha2-nistp384": (b"ecdsa-sha2-nistp384",),
    b"ecdsa-sha2-nistp521": (b"ecdsa-sha2-nistp521",),
    # An RSA key may sign with SHA-2 only; "ssh-rsa" as an algorithm means SHA-1.
    b"ssh-rsa": (b"rsa-sha2-512", b"rsa-sha2-256"),
}
"""Key types that may get in, and the signatures that each may make."""

_RSA_BITS = 2048  # fewer are refused
_FILE_LIMIT = 1 << 20  # bytes; some thousands of keys


@frozen
class AuthorizedKey:
    """One key that may get in.

    Attributes:
        line: The number of its line in the file, from 1.
        blob: The public key as it goes over the wire.
        key: The same, ready to verify signatures.
        options: The line's options in order, as (name in lower case, value or None).
        comment: What follows the key, usually who it belongs to.
        terms: What the options come to.
    """

    line: int
    blob: bytes
    key: Key
    options: Options
    comment: str
    terms: Terms = field(factory=Terms)

    @property
    def signature_algorithms(self) -> tuple[bytes, ...]:
        """The signature algorithms that this key may log in with."""
        return SIGNATURE_ALGORITHMS[self.key.sshType()]

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it."""
        return fingerprint_of(self.blob)

    def operator(self, user: str, address: str) -> Operator:
        """Who logs in with it.

        Args:
            user: The name that the client gives.
            address: Its IP address; empty for a Unix socket.
        """
        return Operator(
            comment=self.comment,
            fingerprint=self.fingerprint,
            role=self.terms.role,
            user=user,
            address=address,
            command=self.terms.command,
            has_pty=self.terms.has_pty,
        )


@frozen
class RefusedLine:
    """A line that lets nobody in.

    Attributes:
        line: Its number, from 1.
        reason: Why, and what to do.
        readable: Whether it is clear what the line wants. If not, the whole file is in doubt.
        type: The key's type as SSH has it; empty where it can't be told.
        blob: The public key as it goes over the wire; empty where it can't be told.
        comment: What follows the key.
        options: What stands before it.
    """

    line: int
    reason: str
    readable: bool = False
    type: str = ""
    blob: bytes = b""
    comment: str = ""
    options: Options = ()

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it; empty where there is no key to be told."""
        return fingerprint_of(self.blob) if self.blob else ""


@frozen
class Refusal:
    """Why a key does not get in now.

    Attributes:
        reason: In words.
        fingerprint: The key's.
        line: The number of its line in the file; None if there is none.
        comment: What follows it there.
        role: What it might do, if it got in.
    """

    reason: str
    fingerprint: str
    line: int | None = None
    comment: str | None = None
    role: str | None = None

    @property
    def fields(self) -> dict[str, object]:
        """The same for the audit trail."""
        return {
            "reason": self.reason,
            "line": self.line,
            "comment": self.comment,
            "fingerprint": self.fingerprint,
            "role": self.role,
        }


@frozen
class Access:
    """Who gets in.

    Attributes:
        keys: The lines of each key by its blob, in the file's order.
        refused: The lines that let nobody in, each with its reason.
    """

    keys: Mapping[bytes, tuple[AuthorizedKey, ...]] = field(factory=dict)
    refused: tuple[RefusedLine, ...] = ()


def fingerprint_of(blob: bytes) -> str:
    """A public key's fingerprint, as ``ssh-keygen -l`` prints it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def load_authorized_keys(directory: Path) -> Access:
    """Read who gets in.

    Blocks on the disk.

    Args:
        directory: The keys directory.

    Returns:
        At least one key.

    Raises:
        KeysError: The file is missing, empty, unreadable, or others may change it, or a directory
            that it is in; or a line of it can't be read. The message says what to type.
    """
    path = directory / AUTHORIZED_KEYS
    where = shlex.quote(str(directory))
    example = f"for example: txwatchdog keys authorize ~/.ssh/id_ed25519.pub --keys {where}"
    try:
        text = read_authorized_keys(directory)
    except FileNotFoundError:
        raise KeysError(
            f"there is no {path}, so nobody could log in; put the public keys that may into it, "
            f"{example}"
        ) from None
    try:
        keys, refused = parse_authorized_keys(text)
    except KeysError as error:
        raise KeysError(f"{path}, {error}") from error
    if not keys and refused:
        first = refused[0]
        raise KeysError(f"{path} lets nobody in; line {first.line}: {first.reason}")
    if not keys:
        raise KeysError(
            f"{path} holds no key, so nobody could log in; put the public keys that may into it, "
            f"{example}"
        )
    by_blob: dict[bytes, tuple[AuthorizedKey, ...]] = {}
    for key in keys:
        by_blob[key.blob] = (*by_blob.get(key.blob, ()), key)
    return Access(by_blob, tuple(refused))


def read_authorized_keys(directory: Path) -> str:
    """The text of ``authorized_keys``, if it can be trusted.

    Blocks on the disk.

    Args:
        directory: The keys directory.

    Returns:
        The text; what is not UTF-8 in it comes as surrogates, to be written as it was.

    Raises:
        FileNotFoundError: There is none.
        KeysError: It can't be read, or others may change it.
    """
    path = directory / AUTHORIZED_KEYS
    try:
        data, status = read_file(path, _FILE_LIMIT + 1)
        if not stat.S_ISREG(status.st_mode):
            raise KeysError(f"{path} is no regular file; put one in its place")
        check_file(path, status)
        check_directories(path.resolve().parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = reason_of(error)
        readable = (
            f"make it a file that the service's user may read: chmod 600 {shlex.quote(str(path))}"
        )
        remedy = LIMITS.get(error.errno or 0, readable)
        raise KeysError(f"cannot read {path}: {reason}; {remedy}") from error
    if len(data) > _FILE_LIMIT:
        raise KeysError(f"{path} is longer than {_FILE_LIMIT} bytes; remove what is no key from it")
    return data.decode("utf-8", "surrogateescape")


def parse_authorized_keys(text: str) -> tuple[list[AuthorizedKey], list[RefusedLine]]:
    """Read the text of an ``authorized_keys`` file.

    Args:
        text: Lines in OpenSSH's format: options, type, key in base64, comment.

    Returns:
        The keys that get in, in the order of their lines, and the lines that let nobody in; of a
        key that comes twice, both.

    Raises:
        KeysError: A line can't be read. The message begins with "line N".
    """
    keys: list[AuthorizedKey] = []
    refused: list[RefusedLine] = []
    for each in read_lines(text):
        if isinstance(each, AuthorizedKey):
            keys.append(each)
        elif each.readable:
            refused.append(each)
        else:
            raise KeysError(f"line {each.line}: {each.reason}")
    return keys, refused


def read_lines(text: str) -> list[AuthorizedKey | RefusedLine]:
    """What each line of an ``authorized_keys`` file is that is neither blank nor a comment.

    Args:
        text: The file's.
    """
    found: list[AuthorizedKey | RefusedLine] = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t\r")
        if stripped and not stripped.startswith("#"):
            try:
                found.append(_read_line(stripped, number))
            except KeysError as error:
                found.append(RefusedLine(number, str(error)))
    return found


def _read_line(line: str, number: int) -> AuthorizedKey | RefusedLine:
    """Read one line.

    Raises:
        KeysError: It can't be read.
    """
    if line.startswith(("-----", "PuTTY-User-Key-File")):
        raise KeysError(
            "this is a key file's first line, perhaps a private key's, which belongs to its owner "
            "alone; put the one line of its .pub file here"
        )
    options: Options = ()
    algorithm, rest = _split_word(line)
    if not _is_key_type(algorithm):
        options, line = split_options(line)
        algorithm, rest = _split_word(line)
    encoded, comment = _split_word(rest)
    reason, blob = _unsuitable_type(algorithm), b""
    if reason is None:
        key, blob = _read_key(algorithm, encoded)
        reason = _too_weak(key)
        try:
            terms = terms_of(options)
        except KeysError as error:
            reason = str(error)
        if reason is None:
            return AuthorizedKey(number, blob, key, options, comment, terms)
    else:
        try:
            blob = base64.b64decode(encoded, validate=True)
        except ValueError:
            pass  # it has no fingerprint, then
    return RefusedLine(
        number, reason, readable=True, type=algorithm, blob=blob, comment=comment, options=options
    )


def _split_word(text: str) -> tuple[str, str]:
    text = text.lstrip(" \t")
    for index, character in enumerate(text):
        if character in " \t":
            return text[:index], text[index:].strip(" \t")
    return text, ""


def _is_key_type(word: str) -> bool:
    return word.startswith(("ssh-", "ecdsa-", "sk-", "rsa-"))


def _unsuitable_type(algorithm: str) -> str | None:
    """Why keys of a type don't get in; None if they may."""
    if algorithm == "ssh-dss":
        return "a DSA key (ssh-dss) is too weak; make another: ssh-keygen -t ed25519"
    if "-cert-v" in algorithm:
        return f"certificates ({_shorten(algorithm)}) are not supported; list the key itself"
    if algorithm.startswith("sk-"):
        return (
            f"a security key's signatures ({_shorten(algorithm)}) can't be verified by Conch; use "
            "another key: ssh-keygen -t ed25519"
        )
    if algorithm.encode("utf-8", "backslashreplace") in SIGNATURE_ALGORITHMS:
        return None
    name = type_name(algorithm)
    named = repr(_shorten(algorithm)) + (f" ({name})" if name != algorithm else "")
    return (
        f"keys of type {named} are not supported; use one of "
        f"{', '.join(known.decode() for known in SIGNATURE_ALGORITHMS)}"
    )


def _read_key(algorithm: str, encoded: str) -> tuple[Key, bytes]:
    """The key, and the blob that a client will send, which is the canonical one.

    Raises:
        KeysError: It is damaged.
    """
    broken = "the key is damaged or cut short; copy the whole line of the .pub file again"
    try:
        blob = base64.b64decode(encoded.encode("ascii"), validate=True)
        public = serialization.load_ssh_public_key(
            algorithm.encode() + b" " + base64.b64encode(blob)
        )
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise KeysError(broken) from error
    except Exception as error:
        raise KeysError(f"{broken} ({error})") from error
    assert isinstance(
        public, (ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey, rsa.RSAPublicKey)
    )
    key = Key(public)
    return key, key.blob()


def _too_weak(key: Key) -> str | None:
    if key.sshType() == b"ssh-rsa" and key.size() < _RSA_BITS:
        return (
            f"an RSA key of {key.size()} bits is too weak, {_RSA_BITS} is the least; make "
            "another: ssh-keygen -t ed25519"
        )
    return None


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
