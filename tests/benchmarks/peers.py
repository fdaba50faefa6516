"""What a user would pick instead, each installed from PyPI into an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import twisted

__all__ = ["PEERS", "Missing", "python_with", "version_of"]

PEERS = {
    "aiocop": "aiocop==1.2.1",
    "aiodebug": "aiodebug==2.3.0",
    "aiomonitor": "aiomonitor==0.7.1",
    "manhole": "manhole==1.8.1",
    "py-spy": "py-spy==0.4.3",
    "pyleak": "pyleak==0.2.0",
}
"""Name -> what is installed."""


class Missing(Exception):  # noqa: N818 - not there, which is no mistake
    """A peer can't be installed here."""


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}-{twisted.__version__}"
    return Path(home) / "txwatchdog-benchmarks" / version


def version_of(peer: str) -> str:
    """The release that is measured."""
    return PEERS[peer].replace("==", " ")


def python_with(peer: str) -> Path:
    """The interpreter of an environment with `peer` and the Twisted that we run on.

    Raises:
        Missing: it can't be made.
    """
    folder = _cache() / peer
    python = folder / "bin" / "python"
    stamp = folder / PEERS[peer]
    if not stamp.exists():
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        wanted = [PEERS[peer], f"Twisted=={twisted.__version__}"]
        try:
            subprocess.run(
                [sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True
            )
            subprocess.run([*pip, *wanted], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            raise Missing(f"{PEERS[peer]} could not be installed: {problem}") from problem
        stamp.touch()
    return python
