"""The demo's shop: how long it pauses, and how it says what it does."""

from __future__ import annotations

import socket

import pytest

from txwatchdog.demo import habits
from txwatchdog.demo.pace import Paced
from txwatchdog.demo.shop import Task, chore_lengths
from txwatchdog.demo.site import read_seconds
from txwatchdog.demo.warehouse import Warehouse


class Machine:
    """Work that takes exactly so many seconds a unit, by a clock of its own."""

    def __init__(self, seconds_per_unit: float) -> None:
        self.seconds_per_unit = seconds_per_unit
        self.now = 0.0
        self.latest = 0.0

    def work(self, units: int) -> str:
        """Let the time pass that it takes."""
        self.latest = units * self.seconds_per_unit
        self.now += self.latest
        return f"{units} units"


@pytest.mark.parametrize("seconds_per_unit", [0.00001, 0.001, 0.02])
def test_work_lasts_as_long_as_asked(seconds_per_unit: float) -> None:
    """Whatever the machine's speed, work lasts about as long as it is told to."""
    machine = Machine(seconds_per_unit)
    paced = Paced(machine.work, lambda: machine.now)
    assert paced(1.0).endswith(" units")
    assert machine.latest == pytest.approx(1.0, abs=seconds_per_unit)


def test_a_slow_run_is_half_believed() -> None:
    """After a run on a busy machine the next one is not cut short by as much."""
    machine = Machine(0.001)
    paced = Paced(machine.work, lambda: machine.now)
    paced(1.0)
    machine.seconds_per_unit = 0.004
    paced(1.0)
    machine.seconds_per_unit = 0.001
    paced(1.0)
    assert 0.8 < machine.latest < 1.0


def test_a_faster_machine_is_believed_at_once() -> None:
    """When work gets faster there is more of it, so that it stays a pause."""
    machine = Machine(0.01)
    paced = Paced(machine.work, lambda: machine.now)
    paced(1.0)
    machine.seconds_per_unit = 0.001
    paced(1.0)
    paced(1.0)
    assert machine.latest == pytest.approx(1.0)


@pytest.mark.parametrize("threshold", [0.01, 0.5, 1.0, 2.0])
def test_the_jobs_tasks_are_pauses(threshold: float) -> None:
    """Every task of the job lasts longer than the threshold, and no longer than is bearable."""
    lengths = chore_lengths(threshold)
    assert min(lengths) > threshold
    assert max(lengths) <= 6.0


def test_the_usual_tasks_are_short() -> None:
    """With the usual threshold the job pauses for 0.6 to 1.5 s."""
    assert all(0.6 <= seconds <= 1.5 for seconds in chore_lengths(0.5))


@pytest.mark.parametrize("name", habits.__all__)
def test_each_habit_says_what_would_be_right(name: str) -> None:
    """A habit's docstring is what the pages say about it: what is wrong, and the right way."""
    task = Task.of("path", getattr(habits, name), lambda _: "")
    assert task.function == name
    assert task.bad_habit.endswith(".")
    assert len(task.bad_habit) <= 40  # what the demo's list leaves of 80 columns
    assert task.right_way
    assert "The right way" not in task.right_way


@pytest.mark.parametrize("text", [b"", b"x", b"0", b"-1", b"nan", b"inf", b"61", b"\xff"])
def test_seconds_from_outside_are_checked(text: bytes) -> None:
    """What is no number, or too much, is refused with the bounds."""
    with pytest.raises(ValueError, match="above 0, and 60 at most"):
        read_seconds(text, 60)


def test_seconds_within_bounds_are_taken() -> None:
    """A number within the bounds is taken."""
    assert read_seconds(b"30", 60) == 30.0


def test_a_warehouse_may_be_closed_twice() -> None:
    """The second time nobody is called any more."""
    warehouse = Warehouse()
    warehouse.close()
    warehouse.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(warehouse.address, timeout=5)
