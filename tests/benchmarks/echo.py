"""How long a keystroke takes to be echoed, beside stock ``twisted.conch.manhole``; run by hand.

    python tests/benchmarks/echo.py [--rounds 10] [--keys 100]

Both consoles serve in one process each, reached over loopback by the same client (asyncssh), in
alternating rounds, so that a noisy machine is noisy for both. A round types letters, each sent
when the one before has been echoed, and counts from the sending to the letter's coming back. The
lines are of a length that people type: Ctrl-U clears them after 40 letters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncssh

LINE = 40  # letters
CLEAR_LINE = "\x15"


def _serve_ours(keys: str) -> None:
    from twisted.internet import reactor as _reactor

    from txwatchdog import Watchdog
    from txwatchdog.manhole import Manhole

    reactor: Any = _reactor
    manhole = Manhole(Watchdog(reactor), endpoint="tcp:0:interface=127.0.0.1", keys=keys)
    manhole.start()

    def announce() -> None:
        address: Any = manhole.address
        print(json.dumps({"port": address.port}), flush=True)

    reactor.callWhenRunning(announce)
    reactor.run()


def stock_factory(keys: str) -> Any:
    """Conch's own manhole, with the same host key and the same operator's key as ours."""
    from twisted.conch import manhole, manhole_ssh
    from twisted.conch.insults import insults

    realm: Any = manhole_ssh.TerminalRealm()
    realm.chainedProtocolFactory = lambda: insults.ServerProtocol(manhole.ColoredManhole, {})
    return conch_factory(keys, realm)


def conch_factory(keys: str, realm: Any) -> Any:
    """Conch's own server, with the same host key and the same operator's key as ours."""
    from twisted.conch import manhole_ssh
    from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
    from twisted.conch.ssh.keys import Key
    from twisted.cred.portal import Portal

    portal = Portal(realm)
    public = Key.fromFile(f"{keys}/authorized_keys")
    portal.registerChecker(SSHPublicKeyChecker(InMemorySSHKeyDB({b"operator": [public]})))
    factory: Any = manhole_ssh.ConchFactory(portal)
    host = Key.fromFile(f"{keys}/host_ed25519")
    factory.publicKeys, factory.privateKeys = {host.sshType(): host}, {host.sshType(): host}
    return factory


def _serve_stock(keys: str) -> None:
    from twisted.internet import reactor as _reactor

    reactor: Any = _reactor
    port = reactor.listenTCP(0, stock_factory(keys), interface="127.0.0.1")
    reactor.callWhenRunning(lambda: print(json.dumps({"port": port.getHost().port}), flush=True))
    reactor.run()


class _Console:
    """One console with its prompt open."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.process = process
        self.milliseconds: list[float] = []

    async def open(self, key: Path) -> None:
        assert self.process.stdout is not None
        port = json.loads(self.process.stdout.readline())["port"]
        self.connection = await asyncssh.connect(
            "127.0.0.1",
            port,
            known_hosts=None,
            username="operator",
            client_keys=[str(key)],
            config=[],
        )
        self.session = await self.connection.create_process(
            term_type="xterm", term_size=(80, 24), encoding="utf-8"
        )
        await self._read_until(">>> ")

    async def round(self, keys: int) -> float:
        """Type letters; return the median in milliseconds."""
        taken = []
        for number in range(keys):
            if number % LINE == 0:
                self.session.stdin.write(CLEAR_LINE)
                await asyncio.sleep(0.1)  # what it draws is not counted
                await self._drain()
            letter = "abcdefghijklmnopqrstuvwxyz"[number % 26]
            began = time.perf_counter()
            self.session.stdin.write(letter)
            await self._read_until(letter)
            taken.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.005)  # nobody types faster, and what follows an echo is its own
            await self._drain()
        self.milliseconds += taken
        return statistics.median(taken)

    async def _read_until(self, text: str) -> None:
        seen = ""
        while text not in seen:
            seen += str(await asyncio.wait_for(self.session.stdout.read(4096), 10))

    async def _drain(self) -> None:
        try:
            while True:
                await asyncio.wait_for(self.session.stdout.read(4096), 0.001)
        except asyncio.TimeoutError:
            return


async def _compare(rounds: int, keys: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        for name in ("id", "host_ed25519"):
            subprocess.run(  # noqa: ASYNC221 - nothing else waits for the loop yet
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True
            )
        (home / "authorized_keys").write_text((home / "id.pub").read_text())
        (home / "authorized_keys").chmod(0o600)
        consoles = [
            _Console(
                which,
                subprocess.Popen(  # noqa: ASYNC220 - likewise
                    [sys.executable, __file__, "--serve", which, directory],
                    stdout=subprocess.PIPE,
                ),
            )
            for which in ("ours", "stock")
        ]
        try:
            for console in consoles:
                await console.open(home / "id")
                await console.round(keys)  # warm
                console.milliseconds.clear()
            ratios = []
            for _ in range(rounds):
                ours, stock = [await console.round(keys) for console in consoles]
                ratios.append(ours / stock)
            for console in consoles:
                taken = sorted(console.milliseconds)
                print(
                    f"{console.name:<6} median {statistics.median(taken):.2f} ms, "
                    f"95 % within {taken[len(taken) * 95 // 100]:.2f} ms"
                )
            print(f"ours / stock, median of {rounds} rounds: {statistics.median(ratios):.2f}")
        finally:
            for console in consoles:
                console.process.kill()
                console.process.wait()


def main() -> None:
    """Compare, or be one of the two servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--serve", nargs=2, metavar=("WHICH", "KEYS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        which, keys = options.serve
        (_serve_ours if which == "ours" else _serve_stock)(keys)
    else:
        asyncio.run(_compare(options.rounds, options.keys))


if __name__ == "__main__":
    main()
