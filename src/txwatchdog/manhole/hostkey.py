"""The host key: who we are. Made at the first start; what is wrong with one is said by name."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import stat
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.conch.ssh.keys import Key

from txwatchdog.errors import LIMITS, KeysError, reason_of
from txwatchdog.manhole.keyfiles import describe
from txwatchdog.manhole.modes import check_directories, check_file, make_directory, read_file

if TYPE_CHECKING:
    from pathlib import Path

    from txwatchdog.manhole.keyfiles import KeyFile

__all__ = ["HOST_KEY", "load_host_key", "read_host_key"]

HOST_KEY = "host_ed25519"

_FILE_LIMIT = 1 << 16  # bytes; a key takes some hundred


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
        make_directory(directory)
        check_directories(directory)
        if not path.exists():
            _make_host_key(path)
    except OSError as error:
        raise _unusable(path, error) from error
    return read_host_key(directory)


def read_host_key(directory: Path) -> Key:
    """Read the host key that is there. Blocks on the disk.

    Args:
        directory: The keys directory.

    Returns:
        The private Ed25519 key.

    Raises:
        KeysError: It can't be read or trusted.
    """
    path = directory / HOST_KEY
    name = shlex.quote(str(path))
    try:
        data, status = read_file(path, _FILE_LIMIT)
        check_file(path, status)
        check_directories(path.resolve().parent)
    except FileNotFoundError:
        raise KeysError(
            f"there is no host key {path} yet; the manhole makes one at its first start"
        ) from None
    except OSError as error:
        raise _unusable(path, error) from error
    if status.st_mode & 0o077:
        raise KeysError(
            f"the host key {path} has mode {stat.S_IMODE(status.st_mode):04o}, others may read or "
            f"change it; if nobody did: chmod 600 {name}"
        )
    private = _private(data)
    if private is None:
        found = describe(data)
        anew = f"remove it to have a new one made at the next start: rm {name}"
        remedy = " ".join(filter(None, [_remedy(found, name), anew]))
        raise KeysError(
            f"the host key {path} is {found.what}, and must be an unencrypted private Ed25519 key "
            f"in OpenSSH's or PEM format; {remedy}"
        )
    return Key(private)


def _private(data: bytes) -> ed25519.Ed25519PrivateKey | None:
    if describe(data).algorithm == "DSA":
        return None  # cryptography would print a warning about it
    for load in (serialization.load_ssh_private_key, serialization.load_pem_private_key):
        # Whatever cryptography makes of it, it is not what we need: that is all to know here.
        with contextlib.suppress(Exception):
            private = load(data, password=None)
            if isinstance(private, ed25519.Ed25519PrivateKey):
                return private
    return None


def _remedy(found: KeyFile, name: str) -> str:
    """What else can be done than to make a new key."""
    if found.cut:
        return "copy it again whole, or"
    if found.kind == "public":
        return "put the private half here, or"
    if found.algorithm not in ("Ed25519", "") or found.kind != "private":
        return ""
    if found.form == "putty":
        return f"convert it: puttygen KEY.ppk -O private-openssh -o {name}, or"
    if found.encrypted:
        how = f"ssh-keygen -p -N '' -f {name}"
        if found.form == "pem":  # which ssh-keygen can't read
            how = f"openssl pkey -in {name} -out PLAIN, and put that here"
        return f"take its passphrase off: {how}, or"
    return ""


def _unusable(path: Path, error: OSError) -> KeysError:
    remedy = LIMITS.get(error.errno or 0, "give keys= a directory that this user may write to")
    reason = reason_of(error)
    return KeysError(f"cannot read or make the host key {path}: {reason}; {remedy}")


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
