"""A WebSocket server of autobahn's that sleeps over each message; `talk` as its client."""

import sys
import time

from autobahn.twisted import websocket
from twisted.internet import reactor

PORT = int(sys.argv[1])


class Server(websocket.WebSocketServerProtocol):
    """Sends back what it gets."""

    def onMessage(self, payload, isBinary):
        """Pause the reactor."""
        time.sleep(0.4)
        self.sendMessage(payload, isBinary)


class Client(websocket.WebSocketClientProtocol):
    """Says something, and prints what it is told."""

    def onOpen(self):
        """Say it."""
        self.sendMessage(b"slow")

    def onMessage(self, payload, isBinary):
        """Print it, and be done."""
        print(payload.decode())
        reactor.stop()


if sys.argv[2:] == ["talk"]:
    factory = websocket.WebSocketClientFactory(f"ws://127.0.0.1:{PORT}")
    factory.protocol = Client
    reactor.connectTCP("127.0.0.1", PORT, factory)
else:
    factory = websocket.WebSocketServerFactory()
    factory.protocol = Server
    reactor.listenTCP(PORT, factory, interface="127.0.0.1")
reactor.run()
