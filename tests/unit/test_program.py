"""Which program is meant, whether it is one in Python, and what a run is summed up as."""

from __future__ import annotations

import py_compile
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from twisted.application import service
from twisted.application.app import ApplicationRunner

from txwatchdog import cli
from txwatchdog.errors import ProgramError
from txwatchdog.program import Program, _run_script, find
from txwatchdog.run import service_roots
from txwatchdog.run_command import taken_follow_up
from txwatchdog.summary import summary


def _command(directory: Path, text: bytes, name: str = "tool") -> Path:
    path = directory / name
    path.write_bytes(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "text",
    [
        f"#!{sys.executable}\n".encode(),
        f"#!{sys.executable} -u\nimport sys\n".encode(),
        b"#!/usr/bin/env python3\n",
        b"#!/usr/bin/env -S python3 -u\n",
        b"#!/usr/bin/env PYTHONUTF8=1 python3.13t\n",
        f"#!/bin/sh\n'''exec' '{sys.executable}' \"$0\" \"$@\"\n' '''\n".encode(),
        b'#!/bin/sh\n\'\'\'exec\' "$(dirname -- "$(realpath -- "$0")")"/\'python3\' "$0" "$@"\n',
        b"#!/no/such/environment/bin/python3\n",
    ],
)
def test_commands_in_python(tmp_path: Path, text: bytes) -> None:
    """A command whose first lines have Python run it is a script, found on PATH."""
    path = _command(tmp_path, text)
    assert find(["tool", "-x", "--"], str(tmp_path)) == Program("script", str(path), ("-x", "--"))


@pytest.mark.parametrize(
    "text",
    [b"\x7fELF\0\0", b"#!/bin/sh\necho\n", b"#!/usr/bin/env bash\n", b"#!\n", b"echo\n", b""],
)
def test_commands_in_something_else(tmp_path: Path, text: bytes) -> None:
    """A command that is not written in Python is refused by name, with what to do."""
    _command(tmp_path, text)
    with pytest.raises(ProgramError, match=r"tool' is not written in Python.*run it without"):
        find(["tool"], str(tmp_path))


def test_python_itself(tmp_path: Path) -> None:
    """Who writes python before the script is told to leave it out."""
    _command(tmp_path, b"\x7fELF\0", "python3.12")
    with pytest.raises(ProgramError, match=r"Python itself: leave it out"):
        find(["python3.12", "server.py"], str(tmp_path))


def test_command_of_another_environment(tmp_path: Path) -> None:
    """A command whose packages are another Python's is refused, with how to mend that."""
    _command(tmp_path, b"", "python3")
    _command(tmp_path, f"#!{tmp_path}/python3\n".encode())
    with pytest.raises(ProgramError, match=rf"{tmp_path}/python3 -m pip install txwatchdog"):
        find(["tool"], str(tmp_path))


def test_command_beside_python(tmp_path: Path) -> None:
    """A command of the environment that we run in is found though PATH does not have it, too."""
    assert Path(find(["txwatchdog"], str(tmp_path)).name).parent == Path(sys.executable).parent
    _command(tmp_path, b"#!/bin/sh\n", "txwatchdog")
    assert Path(find(["txwatchdog"], str(tmp_path)).name).parent == Path(sys.executable).parent


def test_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is taken as Python takes it, whatever its first line; a name here is one, too."""
    monkeypatch.chdir(tmp_path)
    _command(tmp_path, b"print()\n", "server.py")
    _command(tmp_path, b"print()\n", "server")
    _command(tmp_path, b"#!/elsewhere/bin/python3\n", "other")
    assert find(["server.py", "a"], "") == Program("script", "server.py", ("a",))
    assert find(["server"], "") == Program("script", "server")
    assert find(["./server"], "") == Program("script", "./server")
    assert find(["./other"], "") == Program("script", "./other")
    for missing in ("missing.py", "./missing"):
        with pytest.raises(ProgramError, match=r"missing.*No such file"):
            find([missing], "")
    with pytest.raises(ProgramError, match="neither a command on PATH nor a file here"):
        find(["missing"], "")


def test_modules_and_archives(tmp_path: Path) -> None:
    """A module, a directory with a __main__.py and a zip file are told from scripts."""
    assert find(["-m", "pkg", "-m", "x"]) == Program("module", "pkg", ("-m", "x"))
    with pytest.raises(ProgramError, match=r"directory without a __main__\.py"):
        find([str(tmp_path)])
    (tmp_path / "__main__.py").touch()
    assert find([str(tmp_path)]).kind == "archive"
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", "")
    assert find([f"{tmp_path}/app.pyz"]).kind == "archive"


def test_shebang_that_keeps_its_directory_out(tmp_path: Path) -> None:
    """A distribution's `python3 -sP` is heeded, for commands as the kernel would."""
    path = _command(tmp_path, b"#!/usr/bin/env -S python3 -sP\n")
    assert find(["tool"], str(tmp_path)).safe_path
    assert not find([str(path)]).safe_path


def test_a_compiled_script(tmp_path: Path) -> None:
    """One without its source is run as Python runs it."""
    source = _command(tmp_path, b"answer = (__name__, __file__)\n", "tool.py")
    compiled = py_compile.compile(str(source), str(tmp_path / "tool.pyc"))
    source.unlink()
    main = ModuleType("__main__")
    assert compiled is not None
    _run_script(compiled, main)
    assert vars(main)["answer"] == ("__main__", compiled)


@pytest.mark.parametrize("words", [[], ["--"], ["--", "-m"]])
def test_no_program(words: list[str]) -> None:
    """Without a program there is an example of how to name one."""
    result = CliRunner().invoke(cli.main, ["run", *words])
    assert result.exit_code == 2
    assert "no program: write it behind --" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--threshold", "0"], "'0' is no threshold"),
        (["--manhole", "2222"], "'2222' is no endpoint"),
        (["--manhole", "tcp:x"], "'tcp:x' is no endpoint"),
        (["--manhole", "tcp:70000"], "no valid port"),
        (["--manhole", "systemd"], "'systemd' is no endpoint"),
        (["--metrics", "9100"], "'9100' is no endpoint"),
        (["--audit", "."], "'.' can be no file"),
        (["--report", "."], "'.' can be no file"),
        (["--blackbox", ""], "'' can be no file"),
        (["--keys", __file__], "is no directory"),
    ],
)
def test_bad_values(arguments: list[str], complaint: str) -> None:
    """A value that can't be is a usage error, and the program does not begin."""
    result = CliRunner().invoke(cli.main, ["run", *arguments, "--", __file__])
    assert result.exit_code == 2
    assert complaint in result.output
    assert taken_follow_up() is None


def _options(*arguments: str, **environment: str) -> Any:
    result = CliRunner().invoke(
        cli.main.commands["run"], [*arguments, "--", __file__], env=environment
    )
    assert result.exit_code == 0, result.output
    follow_up: Any = taken_follow_up()
    program, options = follow_up.args
    assert program == Program("script", __file__)
    return options


def test_options_from_the_environment() -> None:
    """Every option can come from the environment; the command line goes before it."""
    options = _options(
        TXWATCHDOG_THRESHOLD="0.25",
        TXWATCHDOG_MANHOLE="unix:/run/x:mode=660",
        TXWATCHDOG_KEYS="/etc/keys",
        TXWATCHDOG_METRICS="tcp:9100",
        TXWATCHDOG_AUDIT="/etc/audit",
        TXWATCHDOG_BLACKBOX="/var/box",
        TXWATCHDOG_REPORT="/tmp/r.html",
        TXWATCHDOG_QUIET="1",
    )
    assert (options.threshold, options.manhole) == (0.25, "unix:/run/x:mode=660")
    assert (options.keys, options.blackbox) == (Path("/etc/keys"), Path("/var/box"))
    assert (options.metrics, options.audit) == ("tcp:9100", Path("/etc/audit"))
    assert (options.report, options.quiet) == (Path("/tmp/r.html"), True)
    assert _options("--threshold", "2", TXWATCHDOG_THRESHOLD="0.25").threshold == 2.0
    assert _options(TXWATCHDOG_NO_MANHOLE="1").manhole is None
    assert _options("--manhole", "tcp:1", TXWATCHDOG_NO_MANHOLE="1").manhole == "tcp:1"
    assert _options("--no-manhole", TXWATCHDOG_MANHOLE="tcp:1").manhole is None
    assert _options("--metrics", "tcp6:9100").metrics == "tcp6:9100"
    assert _options(TXWATCHDOG_QUIET="0", TXWATCHDOG_THRESHOLD="").quiet is False


def test_help_has_examples() -> None:
    """Each example in the help is a line of its own, which can be copied."""
    result = CliRunner().invoke(cli.main, ["run", "--help"])
    assert "  txwatchdog run -- twist web --path .\n" in result.output
    assert "  txwatchdog run --no-manhole -- -m my_service\n" in result.output


_WORST = {
    "function": "fetch_user",
    "file": "/srv/app/db.py",
    "line": 41,
    "count": 2,
    "total_seconds": 2.0,
    "cause": "blocked",
}


@pytest.mark.parametrize(
    ("stats", "lines"),
    [
        (
            {"pauses": 0},
            ["no pause over 0.5 s in 61.0 s", "worst: none (no tick took longer than 0.0168 s)"],
        ),
        (
            {"pauses": 3, "paused_seconds": 2.6, "offenders": [_WORST]},
            [
                "3 pauses over 0.5 s, 2.600 s in all, in 61.0 s",
                "worst: fetch_user (app/db.py:41), 2 pauses, 2.000 s, blocked",
            ],
        ),
        (
            {
                "pauses": 1,
                "paused_seconds": 0.6,
                "offenders": [],
                "causes": {
                    "cpu": {"pauses": 0, "seconds": 0.0},
                    "starved": {"pauses": 1, "seconds": 0.6},
                },
            },
            [
                "1 pause over 0.5 s, 0.600 s in all, in 61.0 s",
                "worst: no function's fault, 1 pause, 0.600 s, starved",
            ],
        ),
        (
            {
                "pauses": 1,
                "paused_seconds": 0.6,
                "offenders": [{**_WORST, "function": "(other)", "file": None, "line": None}],
            },
            [
                "1 pause over 0.5 s, 0.600 s in all, in 61.0 s",
                "worst: (other), 2 pauses, 2.000 s, blocked",
            ],
        ),
    ],
)
def test_summary(stats: dict[str, Any], lines: list[str]) -> None:
    """A run is summed up in three lines: pauses, the worst offender, the report."""
    found = summary({"threshold": 0.5, **stats}, 0.01678, 61.0, "report: /tmp/r.html")
    assert found == [*lines, "report: /tmp/r.html"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(119.94, "119.9 s"), (300.0, "5 min"), (7200.0, "2.0 h")]
)
def test_a_long_run_has_a_rough_length(seconds: float, told: str) -> None:
    """Beyond two minutes nobody asks for tenths of a second."""
    first, *_ = summary({"threshold": 0.5, "pauses": 0}, 0.01, seconds, "")
    assert first == f"no pause over 0.5 s in {told}"


def _frame_of(**held: object) -> Any:
    value = held["value"]  # noqa: F841 - it is what is looked for
    return sys._getframe()


def test_roots_of_the_program() -> None:
    """The application, or the outermost service, is found where whoever runs the reactor has it."""
    application = service.Application("shop")
    root = service.IService(application)
    runner = ApplicationRunner({"profile": None})
    runner.application = application
    both = {"application": application, "service": root}
    assert service_roots(_frame_of(value=runner)) == both
    assert service_roots(_frame_of(value=application)) == both


def test_root_without_an_application() -> None:
    """Where there is no application, a service that is no part of another is the root."""
    alone = service.MultiService()
    child = service.Service()
    child.setServiceParent(alone)
    assert service_roots(_frame_of(value=child)) == {"service": alone}
