"""The report: one page that needs nothing else, whatever the functions in it are called."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from builders import EPOCH, pause, sampled, stack
from twisted.internet.testing import MemoryReactorClock

from txwatchdog import Watchdog
from txwatchdog.exports import Process, Recording, export
from txwatchdog.ledger import Ledger
from txwatchdog.origin import Origin
from txwatchdog.records import Pause

LOOP = ("mainLoop", "/usr/lib/twisted/internet/base.py")
VOID = {"meta", "input"}

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>&lt;&#60;",
    "{{style}}{{script}}{{data}}",
    "a\u2028b\u2029c\x00",
    "\ud800",
    "__proto__",
    "'\"`${alert(1)}",
]


class Page(HTMLParser):
    """A page's elements, and the text in its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"script", "style"}:
            kind = self.tags[-1][1].get("type") or "style"
            self.raw[kind] = self.raw.get(kind, "") + data

    @property
    def data(self) -> Any:
        return json.loads(self.raw["application/json"])


def report(*pauses: Pause) -> str:
    """The report of a watchdog that saw these."""
    ledger = Ledger()
    for each in pauses:
        ledger.add(each)
    totals = ledger.totals()
    process = Process("shop.py", 123, "web1", "3.13.0", "24.10.0")
    recording = Recording(
        pauses, totals.offenders, totals.pauses, totals.paused_seconds, 0.5, EPOCH, EPOCH, process
    )
    return export(recording, "report")


def busy(name: str = "f", file: str = "/srv/app/x.py") -> Pause:
    """A pause of a function with that name."""
    return sampled([(stack(LOOP, (name, file)), 1.5)], name)


def test_page_is_well_formed() -> None:
    """Every element that is opened is closed, and no part of the page was left out."""
    text = report(busy())
    page = Page(text)
    assert page.open == []
    assert "{{" not in text
    assert text.startswith("<!DOCTYPE html>\n")
    assert {"application/json", "module", "style"} == page.raw.keys()


def test_page_needs_no_network() -> None:
    """Nothing in it refers to anything outside of it."""
    page = Page(report(busy()))
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "base"}
        assert not attributes.keys() & {"src", "href", "style", "action"}
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]
    addresses = re.findall(r"https?://[^\"'\s]+", page.raw["module"] + page.raw["style"])
    assert addresses == ["http://www.w3.org/2000/svg"]


def test_policy_allows_the_page_s_own_script_and_style_alone() -> None:
    """The policy has the hashes of just what is in the page, and nothing else may load or run."""
    page = Page(report(busy()))
    (policy,) = (
        attributes["content"]
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    hashes = {
        name: b64encode(sha256(page.raw[name].encode()).digest()).decode()
        for name in ("module", "style")
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['module']}'; base-uri 'none'; form-action 'none'"
    )


def test_script_makes_no_markup() -> None:
    """The page's script has no way to turn text into elements or code."""
    script = Page(report(busy())).raw["module"]
    for risk in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert risk not in script


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_data(name: str) -> None:
    """However a function or a file is called, the page's elements are the same, and its data has
    the name as it is."""
    text = report(busy(name, f"/srv/{name}.py"))
    page, plain = Page(text), Page(report(busy()))
    assert page.tags == plain.tags
    assert (page.raw["module"], page.raw["style"]) == (plain.raw["module"], plain.raw["style"])
    assert [name, f"/srv/{name}.py", 1, "application"] in page.data["functions"]
    assert page.data["pauses"][0]["function"] == name
    text.encode()


def test_source_lines_are_data_too(tmp_path: Path) -> None:
    """A source line is shown as it stands in its file, and can't break out either."""
    line = "print('</script><script>alert(1)</script>')  # & more"
    source = tmp_path / "evil.py"
    source.write_text("\n" * 6 + f"    {line}\n")
    page = Page(report(busy("f", str(source))))
    assert line in [source for _, _, source in page.data["frames"]]


def test_data_says_where_the_time_went() -> None:
    """Each sample has its time and its whole stack, with how much of that is the reactor's."""
    raw = stack(LOOP, ("f", "/srv/app/x.py"), ("g", "/srv/app/x.py"))
    data = Page(report(sampled([(raw, 1.0), (raw, 0.5)], "f"))).data
    (one,) = data["pauses"]
    assert one["culprit"] == 0
    assert [(s[1], s[2], s[4]) for s in one["samples"]] == [(1.0, "thread", 1), (0.5, "thread", 1)]
    place, found = one["samples"][0][3], []
    while place >= 0:
        place, frame = data["stacks"][place]
        found.append(data["functions"][data["frames"][frame][0]][0])
    assert found == ["g", "f", "mainLoop"]
    (row,) = data["offenders"]
    assert [seconds for seconds, _ in row["profile"]] == [1.5]
    assert data["totals"] == {"pauses": 1, "paused_seconds": 1.5}
    assert (data["threshold"], data["process"]["pid"]) == (0.5, 123)


def test_data_says_which_event_led_to_a_pause() -> None:
    """A pause has its event as a sentence, or none."""
    samples = sampled([(stack(LOOP, ("f", "/srv/app/x.py")), 1.0)]).samples
    origin = Origin("readable", protocol="Greeter", peer="192.0.2.7:4711")
    told = evolve(pause(), samples=(evolve(samples[0], origin=origin),))
    first, second = Page(report(told, pause(number=2))).data["pauses"]
    assert first["origin"] == (
        "Called by the reactor for a readable descriptor: Greeter from 192.0.2.7:4711"
    )
    assert second["origin"] is None


def test_one_pause_no_sample_or_nothing_at_all() -> None:
    """A pause by itself, a pause that no ring saw, and a watchdog that saw none make a page."""
    assert Page(busy().export("report")).data["offenders"] == []
    assert Page(report(pause(None, 2.0))).data["pauses"][0]["culprit"] is None
    assert Page(Watchdog(MemoryReactorClock()).export("report")).data["pauses"] == []


def test_a_recursion_as_deep_as_the_sampler_keeps() -> None:
    """A stack of 2000 calls makes a page, too."""
    deep = sampled([(stack(*[("again", "/srv/app/x.py")] * 2000), 1.0)])
    assert len(Page(deep.export("report")).data["stacks"]) == 2000
