"""Where the time of pauses went, as a tree of calls. Pure; made when someone asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nlargest
from typing import Any

from attrs import frozen

from txwatchdog.calls import Call, Calls
from txwatchdog.paths import whole_paths
from txwatchdog.records import Function, Offender, Pause

__all__ = ["LINES", "Node", "Profile", "of_offender", "of_pause"]

LINES = 40
"""The calls that a profile prints, those with the most time."""

DEEPEST = 24
"""Calls deeper than this are not indented any further."""


@frozen(eq=False, repr=False)
class Node:
    """A call in a profile.

    Attributes:
        function: the called function's name; in parentheses where a node stands for no one
            function: `(other)` for calls that there was no room for, `(not sampled)` for time of
            which there is no sample, `(between callbacks)` for time that the reactor spent itself.
        file: its source file; None in such nodes, like `line`.
        line: its first line.
        reactor: whether the call is the reactor's, or the program's on the way there.
        seconds: the time of this call and of all that it called.
        self_seconds: the time in which it was the innermost call.
        children: what it called, most time first.
    """

    function: str
    file: str | None
    line: int | None
    reactor: bool
    seconds: float
    self_seconds: float
    children: tuple[Node, ...]

    @property
    def name(self) -> str:
        """The function with its place in the source."""
        if self.file is None or self.line is None:
            return self.function
        return str(Function(self.function, self.file, self.line))

    def __repr__(self) -> str:  # neither this nor == goes down the tree: it can be 2000 calls deep
        return f"<{self.name}: {self.seconds:.3f} s, {len(self.children)} children>"


@frozen(eq=False, repr=False)
class Profile:
    """A tree by time. Prints as one, from the callbacks on; complete in `nodes`.

    Attributes:
        title: whose profile it is.
        seconds: the time of all of it.
        nodes: the outermost calls, most time first.
        calls: the same as flat values.
    """

    title: str
    seconds: float
    nodes: tuple[Node, ...]
    calls: Calls

    def walk(self) -> Iterator[tuple[int, Node]]:
        """Each node with its depth from 0, a caller before what it called."""
        return _walk(self.nodes)

    def as_dict(self) -> dict[str, Any]:
        """The profile as plain data that `json.dumps` takes, however deep the tree is.

        Returns:
            `title`, `seconds`, and `calls`: a flat list in the order of `walk`, each with its
            `depth` and the fields of `Node`.
        """
        return {
            "title": self.title,
            "seconds": self.seconds,
            "calls": [
                {
                    "depth": depth,
                    "function": node.function,
                    "file": node.file,
                    "line": node.line,
                    "reactor": node.reactor,
                    "seconds": node.seconds,
                    "self_seconds": node.self_seconds,
                }
                for depth, node in self.walk()
            ],
        }

    def text(self, lines: int = LINES) -> str:
        """The tree as text, reactor frames folded, with the `lines` calls that took most time."""
        rows = list(_walk(_nodes(self.calls.without_reactor())))
        # A call has no more time than its caller, which comes earlier: no row hangs in the air.
        places = sorted(nlargest(lines, range(len(rows)), key=lambda i: (rows[i][1].seconds, -i)))
        text = [self.title, "seconds      %  self s  call"]
        reactor = max((depth + 1 for depth, node in self.walk() if node.reactor), default=0)
        if reactor:
            text.append(f"{'':24}… {reactor} reactor frame{'s' if reactor > 1 else ''}")
        for depth, node in (rows[place] for place in places):
            share = 100 * node.seconds / self.seconds if self.seconds else 0.0
            own = f"{node.self_seconds:.3f}" if node.self_seconds else ""
            indent = "  " * min(depth, DEEPEST)
            text.append(f"{node.seconds:7.3f}  {share:5.1f}  {own:>6}  {indent}{node.name}")
        if len(rows) > len(places):
            text.append(f"{'':24}… {len(rows) - len(places)} calls with less time")
        return "\n".join(text)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def of_pause(pause: Pause) -> Profile:
    """The profile of one pause, with all that its samples saw."""
    count = len(pause.samples)
    title = f"{pause.summary}, {count} sample{'' if count == 1 else 's'}"
    return _profile(title, Calls().plus(whole_paths(pause)))


def of_offender(offender: Offender) -> Profile:
    """The profile of all of an offender's pauses, merged."""
    count = offender.count
    name = Node(offender.function, offender.file, offender.line, False, 0.0, 0.0, ()).name
    paused = f"{offender.total_seconds:.3f} s"
    return _profile(f"{count} pause{'' if count == 1 else 's'}, {paused} in {name}", offender.calls)


def _profile(title: str, calls: Calls) -> Profile:
    return Profile(title, calls.total_ns / 1e9, _nodes(calls), calls)


def _nodes(calls: Calls) -> tuple[Node, ...]:
    totals = calls.totals_ns()
    children: list[list[Node]] = [[] for _ in totals]
    # From the last to the first, so that what a call called is there before it.
    for (caller, call), place in reversed(calls.places.items()):
        children[caller].append(
            _node(call, totals[place], calls.own_ns[place], _by_time(children[place]))
        )
    return _by_time(children[0])


def _node(call: Call, total_ns: int, own_ns: int, children: tuple[Node, ...]) -> Node:
    function, file, line, reactor = call
    return Node(function, file, line, reactor, total_ns / 1e9, own_ns / 1e9, children)


def _by_time(nodes: list[Node]) -> tuple[Node, ...]:
    nodes.reverse()  # back into their order, which decides between equals
    return tuple(sorted(nodes, key=lambda node: node.seconds, reverse=True))


def _walk(nodes: Sequence[Node]) -> Iterator[tuple[int, Node]]:
    todo = [(0, node) for node in reversed(nodes)]
    while todo:
        depth, node = todo.pop()
        yield depth, node
        todo.extend((depth + 1, child) for child in reversed(node.children))
