"""What Prometheus and Grafana are given: alert rules and a dashboard, as files."""

from __future__ import annotations

from importlib import resources

__all__ = ["dashboard", "rules"]


def dashboard() -> str:
    """The Grafana dashboard, as JSON to import."""
    return resources.files(__package__).joinpath("dashboard.json").read_text("utf-8")


def rules() -> str:
    """The alert rules, as a file for Prometheus' `rule_files`."""
    return resources.files(__package__).joinpath("rules.yml").read_text("utf-8")
