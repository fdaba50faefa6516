"""Stands for systemd's socket activation: listens, hands the socket over, and becomes a program.

Usage: activate.py PORT_OR_PATH PROGRAM ARGS...
"""

from __future__ import annotations

import os
import socket
import sys

where, *program = sys.argv[1:]
if where.isdigit():
    listening = socket.socket(socket.AF_INET)
    listening.bind(("127.0.0.1", int(where)))
else:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(where)
listening.listen()
if listening.fileno() != 3:
    os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "manhole"}
os.execv(program[0], program)
