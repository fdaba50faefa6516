"""Other people's clients, as programs: other_clients.py CLIENT PORT KEY COMMAND; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

REKEY_BYTES = 200_000


def with_paramiko(port: int, key: str, command: str) -> dict[str, Any]:
    """Ask for new keys, and run two commands."""
    import paramiko

    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        "127.0.0.1", port, "operator", key_filename=key, allow_agent=False, look_for_keys=False
    )
    transport: Any = client.get_transport()
    # With no command under way: paramiko waits for itself if one ends while it asks for new keys.
    transport.renegotiate_keys()
    _, stdout, _ = client.exec_command(command)
    said = {"output": len(stdout.read()), "status": stdout.channel.recv_exit_status()}
    _, stdout, _ = client.exec_command("'after new keys'")
    said |= {"after": stdout.read().decode(), "strict": transport.agreed_on_strict_kex}
    client.close()
    return said


def with_asyncssh(port: int, key: str, command: str) -> dict[str, Any]:
    """Run a command, with new keys every now and then."""
    return asyncio.run(_with_asyncssh(port, key, command))


async def _with_asyncssh(port: int, key: str, command: str) -> dict[str, Any]:
    import asyncssh

    async with asyncssh.connect(
        "127.0.0.1",
        port,
        username="operator",
        client_keys=[key],
        known_hosts=None,
        rekey_bytes=REKEY_BYTES,
        config=None,
        agent_path=None,
    ) as connection:
        result = await connection.run(command)
        after = await connection.run("'after new keys'")
        strict: Any = connection
        return {
            "output": len(str(result.stdout)),
            "status": result.exit_status,
            "after": after.stdout,
            "strict": strict._strict_kex,
        }


if __name__ == "__main__":
    _, client, port, key, command = sys.argv
    run = {"paramiko": with_paramiko, "asyncssh": with_asyncssh}[client]
    print(json.dumps(run(int(port), key, command)))
