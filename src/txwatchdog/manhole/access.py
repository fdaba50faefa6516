"""The keys directory: who we are (the host key) and who gets in (``authorized_keys``).

Nothing here guesses. A file that can't be trusted or understood is an error that names it, its
line and what to type; while the service runs it lets nobody in rather than somebody.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from twisted.conch.ssh.keys import Key

from txwatchdog.errors import KeysError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SIGNATURE_ALGORITHMS",
    "AuthorizedKey",
    "load_authorized_keys",
    "load_host_key",
    "parse_authorized_keys",
]

HOST_KEY = "host_ed25519"
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

# Options that forbid what this server never does, so that honouring them takes nothing.
_HONOURED = frozenset(
    {"no-port-forwarding", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc"}
)


@frozen
class AuthorizedKey:
    """One key that may get in.

    Attributes:
        line: The number of its line in the file, from 1.
        blob: The public key as it goes over the wire.
        key: The same, ready to verify signatures.
        options: The line's options in order, as (name in lower case, value or None).
        comment: What follows the key, usually who it belongs to.
    """

    line: int
    blob: bytes
    key: Key
    options: tuple[tuple[str, str | None], ...]
    comment: str

    @property
    def signature_algorithms(self) -> tuple[bytes, ...]:
        """The signature algorithms that this key may log in with."""
        return SIGNATURE_ALGORITHMS[self.key.sshType()]


def load_host_key(directory: Path) -> Key:
    """Read the host key, or make one at the first start.

    Blocks on the disk. Two processes that start at the same moment end up with the same key.

    Args:
        directory: The keys directory; made (0700) where it is missing.

    Returns:
        The private Ed25519 key.

    Raises:
        KeysError: It can't be read, made or trusted.
    """
    path = directory / HOST_KEY
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make_host_key(path)
        status = path.stat()
        text = path.read_bytes()
    except OSError as error:
        raise KeysError(
            f"cannot read or make the host key {path}: {(error.strerror or str(error)).lower()}; "
            "give keys= a directory that this user may write to"
        ) from error
    if status.st_mode & 0o077:
        raise KeysError(
            f"the host key {path} has mode {stat.S_IMODE(status.st_mode):04o}, others may read or "
            f"change it; if nobody did: chmod 600 {path}"
        )
    remedy = f"remove it to have a new one made at the next start: rm {path}"
    try:
        private = serialization.load_ssh_private_key(text, password=None)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise KeysError(
            f"the host key {path} is not an unencrypted private key in OpenSSH's format "
            f"({reason.rstrip('.')}); {remedy}"
        ) from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise KeysError(f"the host key {path} is not an Ed25519 key; {remedy}")
    return Key(private)


def _make_host_key(path: Path) -> None:
    text = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        # A link, not a rename: the key that another process made meanwhile is not overwritten.
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        unfinished.unlink()


def load_authorized_keys(directory: Path) -> dict[bytes, AuthorizedKey]:
    """Read who gets in.

    Blocks on the disk.

    Args:
        directory: The keys directory.

    Returns:
        At least one key; each by the blob that a client will name it with.

    Raises:
        KeysError: The file is missing, empty, unreadable, writable by others, or in a directory
            that is; or a line of it can't be read. The message says what to type.
    """
    path = directory / AUTHORIZED_KEYS
    add = f"cat ~/.ssh/id_ed25519.pub >> {path}"
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            folder = directory.stat()
            data = file.read()
    except FileNotFoundError:
        raise KeysError(
            f"there is no {path}, so nobody could log in; put the public keys that may into it, "
            f"for example: {add}"
        ) from None
    except OSError as error:
        raise KeysError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()}; make it a file that "
            f"the service's user may read: chmod 600 {path}"
        ) from error
    if status.st_mode & 0o022:
        raise KeysError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others than its owner may write "
            f"to it, and so let themselves in; look what is in it, then: chmod 600 {path}"
        )
    if folder.st_mode & 0o002 and not folder.st_mode & stat.S_ISVTX:
        raise KeysError(
            f"{directory} has mode {stat.S_IMODE(folder.st_mode):04o}: anyone may put files of "
            f"their own into it; look what is in it, then: chmod o-w {directory}"
        )
    try:
        keys = parse_authorized_keys(data.decode("utf-8", "surrogateescape"))
    except KeysError as error:
        raise KeysError(f"{path}, {error}") from error
    if not keys:
        raise KeysError(
            f"{path} holds no key, so nobody could log in; put the public keys that may into it, "
            f"for example: {add}"
        )
    return {key.blob: key for key in keys}


def parse_authorized_keys(text: str) -> list[AuthorizedKey]:
    """Read the text of an ``authorized_keys`` file.

    Args:
        text: Lines in OpenSSH's format: options, type, key in base64, comment.

    Returns:
        The keys in the order of their lines; of a key that comes twice, both.

    Raises:
        KeysError: A line can't be read, or asks for something that is not enforced here. The
            message begins with "line N".
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t\r")
        if stripped and not stripped.startswith("#"):
            try:
                found.append(_parse_line(stripped, number))
            except KeysError as error:
                raise KeysError(f"line {number}: {error}") from error
    return found


def _parse_line(line: str, number: int) -> AuthorizedKey:
    if line.startswith("-----"):
        raise KeysError(
            "this is a key file's first line, perhaps a private key's, which belongs to its owner "
            "alone; put the one line of its .pub file here"
        )
    options: tuple[tuple[str, str | None], ...] = ()
    algorithm, _, rest = _split_word(line)
    if not _is_key_type(algorithm):
        options, line = _split_options(line)
        algorithm, _, rest = _split_word(line)
    encoded, _, comment = _split_word(rest)
    key, blob = _read_key(algorithm, encoded)
    for name, _value in options:
        if name == "cert-authority":
            raise KeysError(
                "certificates (cert-authority) are not supported; list the keys themselves"
            )
        if name not in _HONOURED:
            raise KeysError(
                f"option {name!r} is not enforced here, so this key is not let in; remove the "
                "option, or the line"
            )
    return AuthorizedKey(number, blob, key, options, comment)


def _split_word(text: str) -> tuple[str, str, str]:
    text = text.lstrip(" \t")
    for index, character in enumerate(text):
        if character in " \t":
            return text[:index], character, text[index:].strip(" \t")
    return text, "", ""


def _is_key_type(word: str) -> bool:
    return word.startswith(("ssh-", "ecdsa-", "sk-", "rsa-"))


def _split_options(line: str) -> tuple[tuple[tuple[str, str | None], ...], str]:
    """Split a line into its options and what follows them.

    Options are separated by commas; a value is in double quotes, in which a backslash and a quote
    stand for a quote, and commas and blanks for themselves.
    """
    options: list[tuple[str, str | None]] = []
    index = 0
    while True:
        start = index
        while index < len(line) and (line[index].isalnum() or line[index] in "-_@."):
            index += 1
        name = line[start:index].lower()
        if not name:
            raise KeysError(
                f"neither a public key nor options before one: {_shorten(line)!r}; "
                "a line looks like: ssh-ed25519 AAAAC3Nza... name@host"
            )
        value = None
        if line[index : index + 1] == "=":
            value, index = _read_quoted(line, index + 1, name)
        options.append((name, value))
        follows = line[index : index + 1]
        index += 1
        if follows in (" ", "\t"):
            return tuple(options), line[index:].lstrip(" \t")
        if follows != ",":
            raise KeysError(
                f"no public key after {name!r}; a line looks like: ssh-ed25519 AAAAC3Nza... "
                "name@host"
            )


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


def _read_key(algorithm: str, encoded: str) -> tuple[Key, bytes]:
    name = algorithm.encode("utf-8", "backslashreplace")
    if algorithm == "ssh-dss":
        raise KeysError("a DSA key (ssh-dss) is too weak; make another: ssh-keygen -t ed25519")
    if name not in SIGNATURE_ALGORITHMS:
        raise KeysError(
            f"keys of type {_shorten(algorithm)!r} are not supported; use one of "
            f"{', '.join(known.decode() for known in SIGNATURE_ALGORITHMS)}"
        )
    broken = "the key is damaged or cut short; copy the whole line of the .pub file again"
    try:
        blob = base64.b64decode(encoded.encode("ascii"), validate=True)
        public = serialization.load_ssh_public_key(name + b" " + base64.b64encode(blob))
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise KeysError(broken) from error
    except Exception as error:
        raise KeysError(f"{broken} ({error})") from error
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < _RSA_BITS:
        raise KeysError(
            f"an RSA key of {public.key_size} bits is too weak, {_RSA_BITS} is the least; make "
            "another: ssh-keygen -t ed25519"
        )
    assert not isinstance(public, dsa.DSAPublicKey)
    assert isinstance(
        public, (ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey, rsa.RSAPublicKey)
    )
    key = Key(public)
    # The blob that a client will send is the canonical one, which is what is compared with.
    return key, key.blob()


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
