"""Who an operator is, and what that allows. Pure."""

from __future__ import annotations

from attrs import frozen

__all__ = ["FULL", "ROLES", "TUNE", "VIEW", "Operator", "allows"]

VIEW = "view"
"""The verbs that only look."""
TUNE = "tune"
"""These, and those that change the watchdog."""
FULL = "full"
"""Python, and with it whatever the service may do."""

ROLES = (VIEW, TUNE, FULL)
"""Each allows what those before it do."""


def allows(held: str, needed: str) -> bool:
    """Whether a role is enough for what needs another.

    Args:
        held: The operator's.
        needed: The least that it takes.

    Raises:
        ValueError: One of them is no role; nothing is allowed then.
    """
    return ROLES.index(held) >= ROLES.index(needed)


@frozen
class Operator:
    """Who is at the other end of a connection, as it was when the key was accepted.

    Attributes:
        comment: The key's, usually whose it is; may be empty.
        fingerprint: The key's, as ``ssh-keygen -l`` prints it: ``SHA256:…``.
        role: One of `ROLES`.
        user: The name that the client logged in by. It proves nothing; the key does.
        address: Where from: an IP address, or empty for a Unix socket.
        command: The verb line that runs whatever the client asks for; None if it may choose.
        has_pty: Whether a terminal may be asked for.
    """

    comment: str
    fingerprint: str
    role: str
    user: str = ""
    address: str = ""
    command: str | None = None
    has_pty: bool = True

    @property
    def name(self) -> str:
        """Who it is: as the key's comment says, or else the client."""
        return self.comment or self.user

    @property
    def fields(self) -> dict[str, object]:
        """Who it is, for the audit trail; where from is the connection's to say."""
        return {"user": self.user, **self.key_fields}

    @property
    def key_fields(self) -> dict[str, object]:
        """What can be proved of that."""
        return {"comment": self.comment, "fingerprint": self.fingerprint, "role": self.role}
