"""The keys directory as the running manhole uses it: read at the start, and when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from txwatchdog.errors import KeysError
from txwatchdog.manhole.access import AUTHORIZED_KEYS, load_authorized_keys, load_host_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twisted.conch.ssh.keys import Key

    from txwatchdog.manhole.access import AuthorizedKey

__all__ = ["Keyring"]

_log = Logger(namespace="txwatchdog.manhole")


class Keyring:
    """The keys of one manhole.

    `load` is called in the reactor's thread before the manhole's exists, `authorized` in the
    manhole's from then on.

    Args:
        directory: The keys directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys: Mapping[bytes, AuthorizedKey] = {}
        self._stamp: tuple[int, ...] | None = None
        self._complaint = ""

    def load(self) -> Key:
        """Read everything, and make the host key where there is none yet.

        Returns:
            The host key.

        Raises:
            KeysError: Something is missing, unsafe or unreadable.
        """
        host_key = load_host_key(self._directory)
        self._stamp = self._look()
        self._keys = load_authorized_keys(self._directory)
        return host_key

    def authorized(self) -> Mapping[bytes, AuthorizedKey]:
        """Who gets in, as the file says now.

        Returns:
            The keys by their blobs; none while the file can't be trusted or read, which is
            logged once for each reason.
        """
        stamp = self._look()
        if stamp is None or stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = load_authorized_keys(self._directory)
                self._complaint = ""
            except KeysError as error:
                self._keys = {}
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    _log.error("nobody can log in: {error}", error=self._complaint)
        return self._keys

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = (self._directory / AUTHORIZED_KEYS).stat()
        except OSError:
            return None
        # The mode too: a file that others may write to is not trusted any more.
        return (
            status.st_dev,
            status.st_ino,
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
