"""What the demo says."""

from __future__ import annotations

import io
import shlex
from datetime import datetime, timezone
from pathlib import Path

import pytest
from attrs import evolve, frozen

from txwatchdog.demo.announce import (
    Announcement,
    Voice,
    colour_wanted,
    pause_line,
    ssh_command,
    url,
)
from txwatchdog.demo.keys import Access
from txwatchdog.demo.shop import Task
from txwatchdog.records import Function, Pause


@frozen
class Bound:
    """An address, as a port reports it."""

    host: str
    port: int


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def announcement(threshold: float = 0.5, skipped: tuple[str, ...] = ()) -> Announcement:
    """Return what a usual demo announces."""
    task = Task("orders", "query_orders", "Run a slow query.", "Use a thread.", lambda _: "")
    return Announcement(
        http=Bound("127.0.0.1", 8080),
        manhole=Bound("127.0.0.1", 2222),
        access=Access(Path("keys/authorized_keys"), "your own", skipped, Path("keys/demo_ed25519")),
        host_key="SHA256:abc",
        tasks={"orders": task},
        threshold=threshold,
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("0.0.0.0", "http://127.0.0.1:80/"),
        ("::", "http://[::1]:80/"),
    ],
)
def test_the_url_can_be_opened_here(host: str, expected: str) -> None:
    """A wildcard address is shown as one of this machine's."""
    assert url(Bound(host, 80)) == expected


@pytest.mark.parametrize(
    ("host", "identity", "words"),
    [
        ("127.0.0.1", None, ["ssh", "-p", "22", "127.0.0.1"]),
        ("0.0.0.0", None, ["ssh", "-p", "22", "127.0.0.1"]),
        ("::1", None, ["ssh", "-p", "22", "::1"]),
        ("127.0.0.1", Path("my keys/demo"), ["ssh", "-p", "22", "-i", "my keys/demo", "127.0.0.1"]),
    ],
)
def test_the_command_is_what_a_shell_takes(
    host: str, identity: Path | None, words: list[str]
) -> None:
    """The ssh command names port, key and a reachable host, and survives a shell."""
    assert shlex.split(ssh_command(Bound(host, 22), identity)) == words


def test_everything_is_announced() -> None:
    """Pages, console, keys and what pauses are named."""
    text = "\n".join(announcement(skipped=("old.pub: DSA",)).lines(str))
    for expected in (
        "http://127.0.0.1:8080/",
        "ssh -p 2222 -i keys/demo_ed25519 127.0.0.1 'watchdog.stack()'",
        "your own",
        "skipped old.pub: DSA",
        "SHA256:abc",
        "/orders",
        "query_orders",
        "0.8 to 1.5 s",
        "Ctrl-C",
    ):
        assert expected in text


def test_a_host_key_that_is_not_known_is_not_announced() -> None:
    """It may not be readable; the rest is told all the same."""
    lines = list(evolve(announcement(), host_key=None).lines(str))
    assert not any("host key" in line for line in lines)
    assert len(lines) == len(list(announcement().lines(str))) - 1


def test_metrics_are_announced_where_they_are_served() -> None:
    """The address of the metrics is a line, if there are any."""
    lines = list(evolve(announcement(), metrics=Bound("127.0.0.1", 9464)).lines(str))
    assert "  metrics  http://127.0.0.1:9464/metrics" in lines
    assert not [line for line in announcement().lines(str) if "metrics" in line]


def test_a_threshold_out_of_the_jobs_reach_is_said() -> None:
    """Where the job's own tasks are too short to be pauses, the announcement says so."""
    said = "That is no pause with a threshold of 20 s"
    assert said in "\n".join(announcement(threshold=20).lines(str))
    assert "That is no pause" not in "\n".join(announcement(threshold=2).lines(str))


def test_a_pause_is_one_line() -> None:
    """A pause's line names duration, function, place and what was called."""
    pause = Pause(
        number=1,
        started_at=datetime.now(timezone.utc),
        duration=1.234,
        offender=Function("query_orders", "/srv/shop/db.py", 41),
        via="fetch",
        samples=(),
        culprit=None,
    )
    assert pause_line(pause).endswith("paused 1.23 s in query_orders (shop/db.py:41) via fetch")


def test_a_pause_that_nobody_saw_is_a_line_too() -> None:
    """A pause without an offender says that there was none."""
    pause = Pause(1, datetime.now(timezone.utc), 1.0, None, None, (), None)
    assert pause_line(pause).endswith("paused 1.00 s in no callback that was seen")


def test_colour_is_for_terminals_that_want_it() -> None:
    """Neither a pipe nor NO_COLOR nor a dumb terminal gets colour."""
    assert colour_wanted(Screen(), {})
    assert not colour_wanted(io.StringIO(), {})
    assert not colour_wanted(Screen(), {"NO_COLOR": "1"})
    assert not colour_wanted(Screen(), {"TERM": "dumb"})
    plain = Voice(io.StringIO(), colour=False, on_closed=int)
    assert plain.bold("x") == plain.red("x") == "x"
    assert "\033" in Voice(Screen(), colour=True, on_closed=int).red("x")


def test_a_reader_who_left_ends_it_once(tmp_path: Path) -> None:
    """When nobody reads any more, that is reported once, and nothing is raised."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return spare.fileno()

    calls: list[int] = []
    with (tmp_path / "spare").open("wb") as spare:
        voice = Voice(Gone(), colour=False, on_closed=lambda: calls.append(1))
        voice.say("a", "b")
        voice.say("c")
    assert calls == [1]
