"""What values look like: as Python shows them, within a budget, whatever their repr does."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import defaultdict, deque
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txwatchdog.manhole.display import lay_out
from txwatchdog.manhole.evaluate import Drawn
from txwatchdog.manhole.session import Terminal
from txwatchdog.manhole.values import Node, describe

TERMINAL = Terminal("dumb", 80, 24)


@attrs.define
class Point:
    """An attrs class."""

    x: Any
    y: Any = None
    hidden: int = attrs.field(default=0, repr=False)
    masked: str = attrs.field(default="secret", repr=lambda _value: "***")


@dataclasses.dataclass
class Row:
    """A dataclass."""

    name: Any
    rest: Any = dataclasses.field(default=None, repr=False)


class Broken:
    """Can't be shown."""

    def __repr__(self) -> str:
        raise ValueError("no")


class Huge:
    """Says too much."""

    def __repr__(self) -> str:
        return "x" * 1_000_000


class Text(str):
    """What a hostile repr may return."""

    __slots__ = ()

    def __len__(self) -> int:
        raise ValueError("no length")


class Liar:
    """Its repr is no plain text."""

    def __repr__(self) -> str:
        return Text("liar")


_leaves = (
    st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(bytearray, st.binary(max_size=9))
    | st.just(range(3))
)
_values: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(st.integers())
        | st.frozensets(st.text(max_size=3))
        | st.dictionaries(st.text(max_size=9) | st.tuples(st.integers()), inner)
        | st.builds(deque, st.lists(inner), st.none() | st.integers(0, 5))
        | st.builds(lambda d: defaultdict(list, d), st.dictionaries(st.integers(), inner))
        | st.builds(Point, inner, inner)
        | st.builds(Row, inner, inner)
    ),
    max_leaves=40,
)
_hostile: st.SearchStrategy[Any] = st.recursive(
    _leaves | st.builds(Broken) | st.builds(Huge) | st.builds(Liar),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers(), inner) | st.builds(Point, inner),
    max_leaves=40,
)


@given(_values)
def test_a_value_looks_as_in_python(value: Any) -> None:
    """What fits the budget is shown as repr shows it."""
    node = describe(value, 10_000, 1_000_000)
    assert not node.is_cut
    assert node.line() == repr(value)


@given(_hostile, st.integers(1, 50), st.integers(1, 500))
@example([*[None] * 4, Point(Point(None)), None], 12, 93)
def test_no_look_exceeds_its_budget(value: Any, nodes: int, characters: int) -> None:
    """However large and broken the parts are, only so much is kept of them."""
    try:
        node = describe([value], nodes, characters)
    except RecursionError:
        return
    assert _size(node) <= nodes + 1
    # Names, braces and marks come on top; each is short.
    assert len(node.line()) <= characters + 100 * (nodes + 1)


def _size(node: Node) -> int:
    return 1 + sum(map(_size, node.children or ()))


@given(_hostile, st.integers(1, 200), st.integers(1, 60))
def test_what_is_shown_fits_the_terminal(value: Any, columns: int, rows: int) -> None:
    """No value takes more lines than the terminal has, but for the smallest of terminals."""
    text = lay_out(describe([value]), Terminal("dumb", columns, rows))
    assert text.count("\n") <= max(rows - 4, 10)


def test_large_things_are_looked_at_quickly() -> None:
    """Neither a long string nor nested containers are gone through as a whole."""
    nested: Any = 0
    for _ in range(200):
        nested = [nested, nested]
    wide = {i: list(range(1000)) for i in range(1000)}
    began = time.thread_time()
    for value in (nested, wide, "x" * 100_000_000, [wide] * 1000):
        assert describe(value).is_cut
    assert time.thread_time() - began < 1  # a few milliseconds, on a quiet machine


def test_containers_in_themselves() -> None:
    """A cycle ends where Python ends it."""
    row: list[Any] = [1]
    row.append({"row": row})
    assert describe(row).line() == repr(row) == "[1, {'row': [...]}]"
    point = Point(1)
    point.y = [point]
    assert describe(point).line() == "Point(x=1, y=[...], masked=***)"


def test_a_broken_part_hides_no_other() -> None:
    """Inside of a container a note stands for what can't be shown; by itself it raises."""
    note = "<Broken object, whose repr raised ValueError>"
    assert describe([1, Broken(), {2: Broken()}]).line() == f"[1, {note}, {{2: {note}}}]"
    with pytest.raises(ValueError, match="no"):
        describe(Broken())


def test_another_repr_is_respected() -> None:
    """A subclass, or a record, with a repr of its own is shown by that."""

    class Mine(dict[str, int]):
        def __repr__(self) -> str:
            return "mine"

    @dataclasses.dataclass(repr=False)
    class Own:
        x: int

        def __repr__(self) -> str:
            return "own"

    assert describe([Mine(a=1), Own(1)]).line() == "[mine, own]"


def test_what_is_left_out_is_counted() -> None:
    """The last line says how much there is more, and how to see it."""
    shown = lay_out(describe(list(range(100_000))), TERMINAL)
    first, last = shown.split("\n")
    assert first.startswith("[0, 1, 2, ")
    assert first.endswith(", …]")
    count = first.count(",")
    assert last == f"… {100_000 - count} more, print(…) shows all"
    shown = lay_out(describe("x" * 1_000_000), TERMINAL)
    last = shown.split("\n")[-1]
    assert last.endswith(" more characters, print(…) shows all")
    assert abs(int(last.split()[1]) + shown.count("x") - 1_000_000) <= 2  # the quotes
    shown = lay_out(describe(_Lines()), TERMINAL)
    assert shown.endswith("line 19\n… 80 more lines, print(…) shows all")


class _Lines:
    def __repr__(self) -> str:
        return "\n".join(f"line {number}" for number in range(100))


def test_values_are_spread_over_the_width() -> None:
    """A value wider than the terminal has a part on each line; without a terminal all of it."""
    value = {"name": "x" * 60, "rest": [1, 2, 3], "t": (1,)}
    spread = f"{{\n    'name': '{'x' * 60}',\n    'rest': [1, 2, 3],\n    't': (1,)\n}}"
    assert lay_out(describe(value), TERMINAL) == spread
    assert lay_out(describe(value), None) == spread
    assert lay_out(describe(value), Terminal("dumb", 200, 24)) == repr(value)
    assert lay_out(describe(list(range(500))), None).count("\n") == 501


def test_colours_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can show colours gets them, unless NO_COLOR is set; the text is the same."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal("xterm", 80, 24)
    coloured = lay_out(describe({"a": 1}), terminal)
    assert "\x1b[" in coloured
    assert lay_out(describe({"a": 1}), TERMINAL) == "{'a': 1}"
    assert lay_out(describe({"a": 1}), Terminal("", 80, 24)) == "{'a': 1}"
    monkeypatch.setenv("NO_COLOR", "1")
    assert lay_out(describe({"a": 1}), terminal) == "{'a': 1}"


@given(_values)
def test_colours_change_no_text(value: Any) -> None:
    """With its colours taken off, a value reads as it does without."""
    coloured = lay_out(describe(value), Terminal("xterm", 80, 24))
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == lay_out(describe(value), TERMINAL)


@pytest.mark.parametrize("text", ["<", "0", "a.", "/a", "_", "(", "'"])
def test_colours_take_no_time(text: str) -> None:
    """What rich's patterns take long for is not given to them: they would hold the GIL."""
    value = [text * 3000] * 7
    began = time.thread_time()
    lay_out(describe(value), Terminal("xterm", 1000, 1000))
    lay_out(describe(text * 20_000), Terminal("xterm", 1000, 1000))
    assert time.thread_time() - began < 2  # a tenth of that, on a quiet machine; 10 s otherwise


def test_what_rich_draws() -> None:
    """A renderable of rich's is drawn by rich, at the terminal's width."""
    from rich.table import Table

    table = Table("name", "value")
    for number in range(100):
        table.add_row(str(number), "x" * 100)
    text = lay_out(Drawn(table), TERMINAL)
    assert max(map(len, text.split("\n"))) == 80
    assert text.endswith("more lines, print(…) shows all")
    assert "more lines" not in lay_out(Drawn(table), None)
