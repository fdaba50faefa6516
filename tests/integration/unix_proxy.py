"""What `nc -U PATH` is, for machines without: standard input and output, and a socket."""

from __future__ import annotations

import os
import select
import socket
import sys

with socket.socket(socket.AF_UNIX) as there:
    there.connect(sys.argv[1])
    sources = [0, there.fileno()]
    while True:
        for source in select.select(sources, [], [])[0]:
            data = os.read(source, 65536)
            if source != 0:
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
                if not data:
                    sys.exit()
            elif data:
                there.sendall(data)
            else:
                there.shutdown(socket.SHUT_WR)
                sources.remove(0)
