"""The keys directory as the running manhole uses it: read at the start, and when it changes."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from twisted.logger import Logger

from txwatchdog.errors import KeysError
from txwatchdog.manhole.access import (
    AUTHORIZED_KEYS,
    Access,
    AuthorizedKey,
    Refusal,
    fingerprint_of,
    load_authorized_keys,
)
from txwatchdog.manhole.hostkey import load_host_key
from txwatchdog.manhole.modes import fingerprint_of_modes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twisted.conch.ssh.keys import Key

__all__ = ["Keyring"]

_log = Logger(namespace="txwatchdog.manhole")


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Keyring:
    """The keys of one manhole.

    `load` is called in the reactor's thread before the manhole's exists, `admit` in the manhole's
    from then on.

    Args:
        directory: The keys directory.
        now: Says what time it is, for keys that expire; aware.
        log: Where to say who does not get in, and why.
    """

    def __init__(
        self, directory: Path, now: Callable[[], datetime] = _utc_now, log: Logger = _log
    ) -> None:
        self._directory = directory
        self._now = now
        self._log = log
        self._access = Access()
        self._stamp: object = None
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
        self._take(load_authorized_keys(self._directory))
        return host_key

    def admit(self, blob: bytes, algorithm: bytes, address: str) -> AuthorizedKey | Refusal:
        """Whether a key gets in, as the file says now.

        Nobody does while the file can't be trusted or read, which is logged once for each reason.

        Args:
            blob: The public key.
            algorithm: The signature that the client is going to make.
            address: Where it comes from: an IP address, or empty for a Unix socket.

        Returns:
            The first line of that key whose terms are met, as in sshd; else what is wrong with
            the first there is.
        """
        self._refresh()
        lines = self._access.keys.get(blob, ())
        now = self._now()
        refusal: Refusal | None = None
        for line in lines:
            objection = line.terms.objection(address, now)
            if objection is None:
                if algorithm in line.signature_algorithms:
                    return line
                objection = "it may not sign by that algorithm"
            refusal = refusal or Refusal(
                objection, line.fingerprint, line.line, line.comment, line.terms.role
            )
        return refusal or self._unknown(blob)

    def _unknown(self, blob: bytes) -> Refusal:
        fingerprint = fingerprint_of(blob)
        if self._complaint:
            return Refusal("authorized_keys cannot be used; the log says why", fingerprint)
        for line in self._access.refused:
            if blob and line.blob == blob:
                return Refusal(line.reason, fingerprint, line.line, line.comment)
        return Refusal("it is not in authorized_keys", fingerprint)

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp is not None and stamp == self._stamp:
            return
        # Before it is read: what changes meanwhile has another stamp, and is read again.
        self._stamp = stamp
        try:
            access = load_authorized_keys(self._directory)
        except KeysError as error:
            self._access = Access()
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._log.error("nobody can log in: {error}", error=self._complaint)
            return
        self._complaint = ""
        self._take(access)

    def _take(self, access: Access) -> None:
        known = {(each.line, each.reason) for each in self._access.refused}
        self._access = access
        for each in access.refused:
            if (each.line, each.reason) not in known:
                self._log.warn(
                    "{path}, line {line} lets nobody in: {reason}",
                    path=str(self._directory / AUTHORIZED_KEYS),
                    line=each.line,
                    reason=each.reason,
                )

    def _look(self) -> object:
        """Something that changes with the file, or with who may change it; None if it is gone."""
        path = self._directory / AUTHORIZED_KEYS
        try:
            status = path.stat()
            directories = fingerprint_of_modes(path.resolve().parent)
        except (OSError, RuntimeError):
            return None
        return (
            status.st_dev,
            status.st_ino,
            status.st_mode,
            status.st_uid,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            directories,
        )
