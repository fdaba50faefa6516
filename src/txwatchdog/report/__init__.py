"""The report: one HTML file to look at, which needs no network. Pure, but for reading sources.

The page is put together from the files beside this one. What was recorded goes into it as JSON, and
from there into the page as text alone; a policy in the page lets no script run but the page's own.
"""

from __future__ import annotations

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources

from txwatchdog.exports import Recording
from txwatchdog.report.data import report_data

__all__ = ["report", "warm_up"]

SCRIPTS = ("base.js", "flame.js", "timeline.js", "panels.js", "main.js")
"""The script's parts, in the order in which they need one another."""


def report(recording: Recording) -> str:
    """`recording` as a page."""
    script = "".join(map(_part, SCRIPTS))
    page = _part("page.html")
    for name, text in {
        "style-hash": _hash(_part("page.css")),
        "script-hash": _hash(script),
        "style": _part("page.css"),
        "script": script,
        "data": _inert(json.dumps(report_data(recording), separators=(",", ":"))),
    }.items():  # the data last: whatever looks like a mark in there stays as it is
        page = page.replace("{{" + name + "}}", text)
    return page


def warm_up() -> None:
    """Read the page's parts now: later another user, or a chroot, may be in the way."""
    for name in ("page.html", "page.css", *SCRIPTS):
        _part(name)


@cache
def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _inert(text: str) -> str:
    """JSON that no HTML parser finds anything in; the escapes can only be inside its strings."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
