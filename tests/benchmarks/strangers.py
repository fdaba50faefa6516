"""What strangers at the manhole's door cost the service: its HTTP answers, attacked and left alone.

    python tests/benchmarks/strangers.py [SECONDS OF A ROUND [ROUNDS]]

A service answers HTTP requests, one after the other, and has a manhole with the default limits. An
attacker, in a process of its own at nice 19 (which takes the CPU that nobody wants), is let loose
and held back in turn, so that each attacked round stands beside a quiet one. What is printed are
the latencies at the median and at the 99th percentile in ms, the ratio of attacked to quiet at the
latter, as the median of the rounds, and how often a second the attacker did what it does.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / each) for each in ("integration", "unit"))

from hostile import attack, connect
from manhole_support import make_key, make_keys
from twisted.conch.ssh.keys import Key

ATTACKS = {
    "half-open": "connects from a thousand addresses, says nothing, and stays",
    "reconnect": "connects and goes away as fast as it can, from one address",
    "garbage": "sends random and mutated bytes, before the keys and with keys",
    "insider": "has a key, logs in, and sends them then: no stranger, so no limit holds it back",
}
GAP = 0.002  # seconds between an answer and the next request


def serve(keys: str) -> None:
    """Be the service."""
    from twisted.internet import reactor as _reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    from txwatchdog import Watchdog
    from txwatchdog.manhole import Manhole

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request: object) -> bytes:
            return b"x" * 1000

    reactor: object = _reactor
    assert hasattr(reactor, "listenTCP")
    assert hasattr(reactor, "callWhenRunning")
    assert hasattr(reactor, "run")
    web = reactor.listenTCP(0, Site(Page()), interface="127.0.0.1")  # type: ignore[no-untyped-call]
    watchdog = Watchdog(_reactor)
    watchdog.start()
    manhole = Manhole(watchdog, "tcp:0", keys)
    manhole.start()
    ports = {"web": web.getHost().port, "manhole": getattr(manhole.address, "port", None)}
    reactor.callWhenRunning(lambda: print(json.dumps(ports), flush=True))
    reactor.run()


def be_hostile(kind: str, port: int, key: str, counter: str) -> None:
    """Be the attacker, until killed, and keep a count of what was done in a file."""
    os.nice(19)
    count = os.open(counter, os.O_WRONLY)
    private = Key.fromFile(key)
    held: list[socket.socket] = []
    print("ready", flush=True)
    for number in itertools.count():
        os.pwrite(count, b"%12d" % number, 0)
        try:
            if kind == "garbage":
                attack(port, private, number // 2 * 3 + number % 2)
            elif kind == "insider":
                attack(port, private, number * 3 + 2)
            elif kind == "reconnect":
                connect(port).close()
            else:
                held.append(connect(port, number))
                if len(held) > 1000:
                    held.pop(0).close()
        except OSError:
            continue


def latencies(port: int, seconds: float) -> list[float]:
    """Ask for so long, and return how long each answer took, in ms."""
    took = []
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"x" * 1000):
                answer += connection.recv(65536)
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(GAP)
    return took


def percentiles(took: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


def measure(kind: str, ports: dict[str, int], key: Path, seconds: float, rounds: int) -> None:
    """Measure one attack, and print a line."""
    counter = key.with_name("counter")
    counter.write_text("0")
    port = str(ports["manhole"])
    command = [sys.executable, __file__, "attack", kind, port, str(key), str(counter)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "ready\n"
        quiet, attacked = [], []
        for _ in range(rounds):
            attacker.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            quiet.append(percentiles(latencies(ports["web"], seconds)))
            attacker.send_signal(signal.SIGCONT)
            attacked.append(percentiles(latencies(ports["web"], seconds)))
        attacker.kill()
    rate = int(counter.read_text()) / seconds / rounds
    shown = [statistics.median(each) for each in (*zip(*quiet, strict=True),)]
    worse = [statistics.median(each) for each in (*zip(*attacked, strict=True),)]
    pairs = zip(quiet, attacked, strict=True)
    ratio = statistics.median(after[1] / before[1] for before, after in pairs)
    print(
        f"{kind:10} quiet {shown[0]:6.2f} {shown[1]:6.2f}   attacked {worse[0]:6.2f} "
        f"{worse[1]:6.2f}   p99 x {ratio:.2f}   {rate:5.0f}/s   {ATTACKS[kind]}",
        flush=True,
    )


def main(seconds: str = "3", rounds: str = "10") -> None:
    """Measure all attacks, and print a table."""
    with tempfile.TemporaryDirectory() as name:
        key = make_key(Path(name), "id")
        keys = make_keys(Path(name), key)
        command = [sys.executable, __file__, "serve", str(keys)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            ports = json.loads(service.stdout.readline())
            print("milliseconds: median and 99th percentile")
            for kind in ATTACKS:
                measure(kind, ports, key, float(seconds), int(rounds))
            service.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["attack"]:
        be_hostile(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    else:
        main(*sys.argv[1:])
