"""Whether a file is its owner's alone to change, as sshd's StrictModes has it."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from pathlib import Path

from txwatchdog.errors import KeysError

__all__ = [
    "UnfitError",
    "check_directories",
    "check_file",
    "check_private",
    "fingerprint_of_modes",
    "make_directory",
    "open_private",
    "read_file",
]

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnfitError(Exception):
    """A file can't be used; the message says why, and what to do."""


def check_private(
    path: Path, status: os.stat_result, *, is_directory: bool = False, others: int = 0o077
) -> None:
    """Make sure that a file that the service writes is its own.

    Args:
        path: Its name, for the error.
        status: Of the open file.
        is_directory: Whether it should be a directory.
        others: The mode's bits that must not be set.

    Raises:
        UnfitError: It is something else, somebody else's, or open to others.
    """
    kind = "directory" if is_directory else "file"
    mode = stat.S_IMODE(status.st_mode)
    if not (stat.S_ISDIR if is_directory else stat.S_ISREG)(status.st_mode):
        raise UnfitError(f"{path} is no {kind}: there must be one, or nothing yet")
    if status.st_uid != os.geteuid():
        raise UnfitError(
            f"{path} belongs to another user (uid {status.st_uid}): there must be one of this "
            "user's, or nothing yet"
        )
    if mode & others:
        right = "700" if is_directory else "600"
        raise UnfitError(
            f"{path} has mode {mode:04o}, others may use it; chmod {right} {shlex.quote(str(path))}"
        )


def open_private(path: Path, *, others: int = 0o077) -> int:
    """Open a file of the service's own, to read it and add to it; made (0600) if it is missing.

    Args:
        path: Its name.
        others: As for `check_private`.

    Returns:
        The descriptor.

    Raises:
        OSError: It can't be opened.
        UnfitError: It is something else, somebody else's, or open to others.
    """
    # Neither through a link, nor waiting for whoever opens a FIFO's other end.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags, 0o600)
    try:
        check_private(path, os.fstat(descriptor), others=others)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_file(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """Read a file that is small, and look at it while it is open.

    A FIFO or a device in its place must not keep the service waiting: nothing is read from it.

    Args:
        path: Its name.
        limit: Bytes that are read at most.

    Raises:
        OSError: It can't be read.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        return file.read(limit) if stat.S_ISREG(status.st_mode) else b"", status


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def check_file(path: Path, status: os.stat_result, user: int | None = None) -> None:
    """Make sure that nobody else may have written a file.

    Args:
        path: Its name, for the error.
        status: Of the open file, so that it is the one that is read.
        user: Who may own it beside root; None for who runs this.

    Raises:
        KeysError: Someone may; the message says who, and what to type.
    """
    _check_owner(path, status, user)
    if status.st_mode & _OTHERS_WRITE:
        raise KeysError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others than its owner may write "
            f"to it, and so let themselves in; look what is in it, then: "
            f"chmod 600 {shlex.quote(str(path))}"
        )


def check_directories(directory: Path, user: int | None = None, home: Path | None = None) -> None:
    """Make sure that nobody else may put another file in the place of one in a directory.

    The directory and all above it are looked at, up to the user's home if it is in there, else to
    the root. One that anyone may write to is sound if it is sticky, as ``/tmp`` is: files in it
    are their owners' all the same.

    Args:
        directory: Symbolic links in it are resolved first.
        user: Who may own them beside root; None for who runs this.
        home: Where to stop; None for that user's.

    Raises:
        KeysError: Someone may; the message names the directory and what to type.
        OSError: One of them can't be looked at.
    """
    for each in _upwards(directory, user, home):
        status = each.stat()
        _check_owner(each, status, user)
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            who = "anyone" if status.st_mode & stat.S_IWOTH else "its group"
            letters = "".join(
                letter
                for letter, bit in (("g", stat.S_IWGRP), ("o", stat.S_IWOTH))
                if status.st_mode & bit
            )
            raise KeysError(
                f"{each} has mode {stat.S_IMODE(status.st_mode):04o}: {who} may put keys of their "
                f"own there; look what is in it, then: "
                f"chmod {letters}-w {shlex.quote(str(each))}"
            )


def fingerprint_of_modes(directory: Path) -> tuple[tuple[int, ...], ...]:
    """What `check_directories` depends on, to be compared later. Cheap.

    Raises:
        OSError: One of them can't be looked at.
    """
    statuses = [each.stat() for each in _upwards(directory, None, None)]
    return tuple((each.st_dev, each.st_ino, each.st_mode, each.st_uid) for each in statuses)


def make_directory(directory: Path) -> None:
    """Make a directory for its owner alone, and what is missing above it for nobody else to change.

    Raises:
        OSError: It can't be made.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        # Whatever the umask: in one that a group may write to, the keys would not be trusted.
        each.mkdir(mode=0o700 if each == directory else 0o755, exist_ok=True)


def _upwards(directory: Path, user: int | None, home: Path | None) -> list[Path]:
    real = Path(os.path.realpath(directory))
    if home is None:
        home = _home(os.geteuid() if user is None else user)
    found = []
    for each in (real, *real.parents):
        found.append(each)
        if each == home:
            break
    return found


def _home(user: int) -> Path | None:
    try:
        return Path(os.path.realpath(pwd.getpwuid(user).pw_dir))
    except KeyError:  # a container's user need not have an entry
        return None


def _check_owner(path: Path, status: os.stat_result, user: int | None) -> None:
    user = os.geteuid() if user is None else user
    if status.st_uid not in (0, user):
        name = _name(user)
        raise KeysError(
            f"{path} belongs to {_name(status.st_uid)}, who may let anyone in; if it should be "
            f"{name}'s, who runs this: chown {name} {shlex.quote(str(path))}"
        )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
