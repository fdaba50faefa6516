"""Byte streams that no honest client sends, and clients that send them.

As a program, against a running manhole: hostile.py PORT KEY [COUNT [SEED]]
"""

from __future__ import annotations

import random
import socket
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

# As a program it does not have the tests' path.
sys.path.append(str(Path(__file__).parents[1] / "unit"))

from speaker import Speaker
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHClientTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["STAGES", "attack", "connect", "mutated"]

STAGES = ("raw", "sealed", "inside")
"""Before the key exchange, after it, and after the login."""

PATIENCE = 60.0  # seconds; a bound against hanging

_LENGTHS = (0, 1, 4, 5, 255, 32768, 35000, 1 << 20, 1 << 31, (1 << 32) - 1)

_OPEN = NS(b"session") + struct.pack(">3L", 0, 1 << 20, 32768)
_PTY = NS(b"xterm") + struct.pack(">4L", 80, 24, 0, 0) + NS(b"\x00")

_SEALED = [
    (1, struct.pack(">L", 11) + NS(b"bye") + NS(b"")),
    (2, NS(b"ignored")),
    (3, struct.pack(">L", 3)),
    (4, b"\x01" + NS(b"debug") + NS(b"")),
    (5, NS(b"ssh-userauth")),
    (5, NS(b"ssh-connection")),
    (6, NS(b"ssh-userauth")),
    (7, struct.pack(">L", 1) + NS(b"server-sig-algs") + NS(b"ssh-ed25519")),
    (20, bytes(16) + NS(b"curve25519-sha256") + NS(b"ssh-ed25519") + NS(b"aes128-ctr") * 2),
    (21, b""),
    (30, NS(bytes(32))),
    (50, NS(b"me") + NS(b"ssh-connection") + NS(b"none")),
    (50, NS(b"me") + NS(b"ssh-connection") + NS(b"password") + b"\x00" + NS(b"secret")),
    (50, NS(b"me") + NS(b"ssh-connection") + NS(b"publickey") + b"\x00" + NS(b"ssh-rsa") * 2),
    (52, b""),
    (80, NS(b"tcpip-forward") + b"\x01" + NS(b"0.0.0.0") + struct.pack(">L", 22)),
    (90, _OPEN),
    (192, b""),
]

_INSIDE = [
    *_SEALED,
    (81, b""),
    (82, b""),
    (90, _OPEN),
    (90, NS(b"direct-tcpip") + struct.pack(">3L", 7, 1 << 20, 32768) + NS(b"localhost")),
    (91, struct.pack(">4L", 0, 0, 1 << 20, 32768)),
    (92, struct.pack(">2L", 0, 1) + NS(b"no") + NS(b"")),
    (93, struct.pack(">2L", 0, (1 << 32) - 1)),
    (94, struct.pack(">L", 0) + NS(b"1 + 1\r")),
    (95, struct.pack(">2L", 0, 1) + NS(b"error")),
    (96, struct.pack(">L", 0)),
    (97, struct.pack(">L", 0)),
    (98, struct.pack(">L", 0) + NS(b"pty-req") + b"\x01" + _PTY),
    (98, struct.pack(">L", 0) + NS(b"window-change") + b"\x00" + struct.pack(">4L", 9, 9, 0, 0)),
    (98, struct.pack(">L", 0) + NS(b"shell") + b"\x01"),
    (98, struct.pack(">L", 0) + NS(b"exec") + b"\x01" + NS(b"status")),
    (98, struct.pack(">L", 0) + NS(b"subsystem") + b"\x01" + NS(b"sftp")),
    (98, struct.pack(">L", 0) + NS(b"env") + b"\x00" + NS(b"LANG") + NS(b"C")),
    (98, struct.pack(">L", 0) + NS(b"signal") + b"\x00" + NS(b"INT")),
    (99, struct.pack(">L", 0)),
    (100, struct.pack(">L", 0)),
]


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Data, as it is or changed in one to three places."""
    changed = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at = chance.randrange(len(changed) + 1)
        what = chance.randrange(6)
        if what == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            changed[at : at + 4] = struct.pack(">L", chance.choice(_LENGTHS))
        elif what == 2:
            del changed[at:]
        elif what == 3:
            del changed[at : at + chance.randrange(1, 20)]
        elif what == 4:
            changed[at:at] = chance.randbytes(chance.randrange(1, 200))
        else:
            changed[at:at] = changed[at : at + chance.randrange(1, 200)] * chance.randrange(1, 4)
    return bytes(changed)


def connect(port: int, number: int = 0) -> socket.socket:
    """Connect from a loopback address that depends on the number."""
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.bind(
        (f"127.{1 + number // 64000 % 250}.{number // 250 % 256}.{1 + number % 250}", 0)
    )
    connection.connect(("127.0.0.1", port))
    return connection


def attack(port: int, key: Key, number: int, seed: int = 0) -> str:
    """Send one hostile stream, and wait until the server has closed the connection.

    Args:
        port: The manhole's.
        key: One that may log in.
        number: Which stream; the same number and seed make the same one.
        seed: The series.

    Returns:
        Its stage, or "dropped" if it did not get as far.
    """
    chance = random.Random(f"{seed} {number}")
    stage = STAGES[number % len(STAGES)]
    with connect(port, number) as connection:
        try:
            if stage == "raw":
                connection.sendall(b"".join(_raw(chance)))
            else:
                _sealed(connection, chance, key if stage == "inside" else None)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:  # the server has closed it already
            return stage
        except EOFError:
            return "dropped"
    return stage


def _raw(chance: random.Random) -> Iterator[bytes]:
    """What is sent before there are keys: random, or mutated from what a client says."""
    if chance.random() < 0.3:
        if chance.random() < 0.5:
            yield b"SSH-2.0-x\r\n"
        yield chance.randbytes(chance.randrange(5000))
        return
    said: list[bytes] = []
    client = Speaker(said.append, strict=chance.random() < 0.5)
    client.connectionMade()
    client._keyExchangeState = client._KEY_EXCHANGE_NONE
    client.sendPacket(30, NS(chance.randbytes(32)))
    client.sendPacket(21, b"")
    yield from (mutated(chance, each) for each in said)


def _sealed(connection: socket.socket, chance: random.Random, key: Key | None) -> None:
    """Exchange keys, log in if there is a key, and say hostile things."""
    client = Speaker(connection.sendall, strict=chance.random() < 0.5)
    client.connectionMade()
    _listen_until(connection, client, lambda: client.exchanges > 0)
    if key is not None:
        client.log_in(key)
        _listen_until(connection, client, lambda: (52, b"") in client.came)
        if chance.random() < 0.8:
            client.sendPacket(90, _OPEN)
    client._keyExchangeState = client._KEY_EXCHANGE_NONE
    for _ in range(chance.randrange(1, 12)):
        number, payload = chance.choice(_SEALED if key is None else _INSIDE)
        if chance.random() < 0.1:
            number = chance.randrange(256)
        if chance.random() < 0.05:
            connection.sendall(chance.randbytes(100))  # which is no packet at all
        SSHClientTransport.sendPacket(client, number, mutated(chance, payload))
        client._keyExchangeState = client._KEY_EXCHANGE_NONE


def _listen_until(
    connection: socket.socket, client: Speaker, is_enough: Callable[[], bool]
) -> None:
    while not is_enough():
        data = connection.recv(65536)
        if not data:
            raise EOFError
        client.dataReceived(data)


def main(port: str, key: str, count: str = "10000", seed: str = "0") -> None:
    """Attack a running manhole, and say how far the streams got."""
    private = Key.fromFile(key)
    stages: Counter[str] = Counter()
    for number in range(int(count)):
        stages[attack(int(port), private, number, int(seed))] += 1
    print(dict(stages))


if __name__ == "__main__":
    main(*sys.argv[1:])
