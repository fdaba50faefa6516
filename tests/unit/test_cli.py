"""The command line: help, version, bad values, and what importing it brings along."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from txwatchdog import cli
from txwatchdog.demo import serve
from txwatchdog.errors import ListenError


def test_help_names_the_demo() -> None:
    """The command's help lists what there is to run."""
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0
    assert "demo" in result.output


def test_help_of_the_demo_names_each_option_with_its_default() -> None:
    """The demo's help says what each option is when it is not given."""
    result = CliRunner().invoke(cli.main, ["demo", "-h"])
    assert result.exit_code == 0
    for expected in (
        "--manhole ENDPOINT",
        "tcp:2222:interface=127.0.0.1",
        "--http ENDPOINT",
        "tcp:8080:interface=127.0.0.1",
        "--keys DIR",
        "--threshold SECONDS",
        "0.5",
    ):
        assert expected in result.output
    assert "TXWATCHDOG" not in result.output  # from the environment only `run` takes them


def test_version_is_said_without_an_installation_too() -> None:
    """--version answers with one line that begins with the name."""
    result = CliRunner().invoke(cli.main, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("txwatchdog")
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
def test_threshold_must_be_seconds_above_zero(value: str) -> None:
    """A bad threshold is a usage error that names the value and the remedy."""
    result = CliRunner().invoke(cli.main, ["demo", "--threshold", value])
    assert result.exit_code == 2
    assert f"{value!r} is no threshold" in result.output
    assert "such as 0.5" in result.output


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon"])
def test_a_time_limit_must_be_seconds(value: str) -> None:
    """A bad one is a usage error that names the value; 0 is none."""
    result = CliRunner().invoke(cli.main, ["demo", "--statement-timeout", value])
    assert result.exit_code == 2
    assert f"{value!r} is no time: give seconds, such as 30, or 0 for none." in result.output


@pytest.mark.parametrize("option", ["--http", "--manhole"])
@pytest.mark.parametrize(
    "value", ["", "8080", "tcp", "tcp:x", "tcp:70000", "tcp:-1", "tcp:1:face=2", "unix:/tmp/x"]
)
def test_endpoints_must_be_tcp(option: str, value: str) -> None:
    """A bad endpoint is a usage error that names option, value and remedy."""
    result = CliRunner().invoke(cli.main, ["demo", option, value])
    assert result.exit_code == 2
    assert option in result.output
    assert repr(value) in result.output
    assert "0 to 65535" in result.output or "tcp:PORT:interface=ADDRESS" in result.output


def test_keys_must_not_be_a_file(tmp_path: Path) -> None:
    """A keys directory that is a file is a usage error that names it."""
    file = tmp_path / "keys"
    file.touch()
    result = CliRunner().invoke(cli.main, ["demo", "--keys", str(file)])
    assert result.exit_code == 2
    assert "is no directory" in result.output


def test_options_reach_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is given on the command line is what the demo is run with."""
    given: list[serve.Options] = []
    monkeypatch.setattr(serve, "run_demo", given.append)
    box = tmp_path / "box"
    words = ["--http", "tcp:1", "--manhole", "tcp:2", "--keys", str(tmp_path), "--threshold", "0.2"]
    result = CliRunner().invoke(cli.main, ["demo", *words, "--blackbox", str(box)])
    assert result.exit_code == 0
    assert given == [
        serve.Options(manhole="tcp:2", http="tcp:1", keys=tmp_path, threshold=0.2, blackbox=box)
    ]


@pytest.mark.parametrize("name", ["", ".", "nowhere/box"])
def test_a_black_box_must_be_a_file(tmp_path: Path, name: str) -> None:
    """A path at which no file can be is a usage error that names it."""
    value = str(tmp_path / name) if name else ""
    result = CliRunner().invoke(cli.main, ["demo", "--blackbox", value])
    assert result.exit_code == 2
    assert "can be no file" in result.output


def test_an_error_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be done is said in one line, with exit status 1 and no traceback."""

    def fail(_options: serve.Options) -> None:
        raise ListenError("Port 2222 is taken: give another.")

    monkeypatch.setattr(serve, "run_demo", fail)
    result = CliRunner().invoke(cli.main, ["demo"])
    assert result.exit_code == 1
    assert result.output == "Error: Port 2222 is taken: give another.\n"


def test_importing_the_command_is_light() -> None:
    """Neither the reactor nor Conch, rich or prompt_toolkit come along with the command's help."""
    heavy = ("twisted.internet.reactor", "twisted.conch", "rich", "prompt_toolkit")
    code = f"import sys, txwatchdog.cli; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found == "[]\n"


def test_dashboard_and_rules_are_printed_as_they_are() -> None:
    """What is for Grafana and Prometheus comes out as a file for them, and nothing else."""
    dashboard = CliRunner().invoke(cli.main, ["dashboard"])
    assert json.loads(dashboard.output)["title"] == "txwatchdog"
    rules = CliRunner().invoke(cli.main, ["rules"])
    assert "\ngroups:\n" in rules.output
    assert rules.output.endswith("\n")


def test_metrics_need_an_endpoint() -> None:
    """The demo's metrics are served on a TCP endpoint, and a bad one is a usage error."""
    result = CliRunner().invoke(cli.main, ["demo", "--metrics", "9464"])
    assert result.exit_code == 2
    assert "'9464' is no endpoint" in result.output


def test_main_is_a_click_command() -> None:
    """The entry point of the package is the group itself."""
    assert isinstance(cli.main, click.Group)
