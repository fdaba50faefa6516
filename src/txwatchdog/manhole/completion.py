"""What Tab offers. Pure: text and names in, names out; no code of the service's is run.

Only what is written as ``name.attribute.attribute`` is looked up, as it stands at this moment; what
a call or an index would give nobody knows without making it.
"""

from __future__ import annotations

import builtins
import itertools
import keyword
import re
from typing import TYPE_CHECKING, Any

from attrs import frozen

from txwatchdog.manhole import around, statics
from txwatchdog.manhole.scan import CODE, LIMIT, string_start
from txwatchdog.manhole.verbs.lines import COMMAND_ONLY, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Completions", "complete", "in_columns"]

_NAME = r"[^\W\d]\w*"
_CHAIN = rf"(?P<chain>{_NAME}(?:\.{_NAME})*)"
_NAME_END = re.compile(rf"(?:{_NAME})?\Z")
_ATTRIBUTE_END = re.compile(rf"{_CHAIN}\.(?P<prefix>\w*)\Z")
_INDEX_END = re.compile(rf"{_CHAIN}\[(?P<prefix>-?\d*)\Z")
_VERBS = frozenset(NAMES) - COMMAND_ONLY
_VERB = re.compile(rf"(?P<verb>{'|'.join(_VERBS)}) +(?:.* )?(?P<word>\S+)\Z")
_LONG_KEY = 100  # characters; what is longer is not offered
_KEYWORDS = frozenset(keyword.kwlist)


@frozen
class Completions:
    """What may stand instead of what is being typed.

    Attributes:
        typed: How many characters before the cursor each of them replaces.
        texts: They, sorted; each begins with what they replace.
    """

    typed: int
    texts: tuple[str, ...]

    @property
    def common(self) -> str:
        """What all of them begin with; there must be one."""
        # Of sorted texts the first and the last differ earliest.
        first, last = self.texts[0], self.texts[-1]
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
        return "".join(one for one, _ in same)


def complete(before: str, names: Mapping[str, Any]) -> Completions:
    """What may come next.

    Args:
        before: The input up to the cursor.
        names: The operator's; their values are looked at, and nothing is called.

    Returns:
        None at all, too; so in comments, and in strings that are not a dict's key.
    """
    before = before[-LIMIT:]
    verb = _VERB.match(before)
    if verb is not None and verb["verb"] not in names:
        found = _verb_words(verb["verb"], before.split()[:-1], verb["word"])
        if found.texts:
            return found
    quote = string_start(before)
    if quote >= 0:
        return _quoted_keys(before[:quote], before[quote:], names)
    if quote != CODE:
        return Completions(0, ())
    index = _INDEX_END.search(before)
    if index is not None and _begins_here(before, index):
        found = _index_keys(index, names)
        if found.texts:
            return found
    attribute = _ATTRIBUTE_END.search(before)
    return _names(before, names) if attribute is None else _attributes(before, attribute, names)


def in_columns(texts: Iterable[str], columns: int, rows: int) -> list[str]:
    """Lay texts out in columns, read from top to bottom.

    Args:
        texts: Short ones.
        columns: The terminal's width.
        rows: Lines to keep to; the last says how many texts there was no room for.
    """
    texts = list(texts)
    wide = min(max(map(len, texts), default=0) + 2, columns)
    across = max(columns // max(wide, 1), 1)
    room = across * rows
    left_out = 0
    if len(texts) > room:
        left_out = len(texts) - across * (rows - 1)
        texts = texts[: len(texts) - left_out]
    height = -(-len(texts) // across)
    lines = [
        "".join(text[: wide - 1].ljust(wide) for text in texts[row::height]).rstrip()
        for row in range(height)
    ]
    return [*lines, f"… {left_out} more"] if left_out else lines


def _names(before: str, names: Mapping[str, Any]) -> Completions:
    name = _NAME_END.search(before)
    assert name is not None
    head, prefix = before[: name.start()], name[0]
    if head.rstrip(" \t").endswith("."):
        return Completions(0, ())  # an attribute of what is not known
    found = {name for name in statics.keys(names) if type(name) is str}
    if prefix:
        # Without anything typed these would be two hundred, of which nobody looks for one.
        found |= _KEYWORDS
        found |= set(dir(builtins)) | set(around.NAMES)
        if not head.strip():
            found |= _VERBS
    return _public(prefix, found)


def _attributes(before: str, chain: re.Match[str], names: Mapping[str, Any]) -> Completions:
    thing = statics.UNKNOWN
    if _begins_here(before, chain):
        thing = _resolve(chain["chain"], names)
    if thing is statics.UNKNOWN:
        return Completions(0, ())
    return _public(chain["prefix"], statics.attribute_names(thing))


def _verb_words(verb: str, words: list[str], word: str) -> Completions:
    from txwatchdog.manhole.verbs.table import words_for  # brings click

    return _beginning_with(word, words_for(verb, words[1:], word))


def _index_keys(index: re.Match[str], names: Mapping[str, Any]) -> Completions:
    """A dict's keys for what looks like ``name[`` or ``name[12``."""
    texts = [
        repr(key) + "]"
        for key in _keys(index["chain"], names)
        if type(key) is int or repr(key)[1:-1] == key
    ]
    return _beginning_with(index["prefix"], texts)


def _quoted_keys(head: str, string: str, names: Mapping[str, Any]) -> Completions:
    """A dict's keys for what looks like ``name["begin``."""
    quote, prefix = string[0], string[1:]
    index = _INDEX_END.search(head)
    if index is None or index["prefix"] or not _begins_here(head, index):
        return Completions(0, ())
    texts = [
        f"{key}{quote}]"
        for key in _keys(index["chain"], names)
        # What would have to be escaped is left to be typed.
        if type(key) is str and repr(key)[1:-1] == key and quote not in key
    ]
    return _beginning_with(prefix, texts)


def _keys(chain: str, names: Mapping[str, Any]) -> list[Any]:
    thing = _resolve(chain, names)
    if not statics.is_dict(thing):
        return []
    return [
        key
        for key in statics.keys(thing)
        if type(key) is int or (type(key) is str and len(key) <= _LONG_KEY)
    ]


def _resolve(chain: str, names: Mapping[str, Any]) -> Any:
    first, *rest = chain.split(".")
    thing = names.get(first, getattr(builtins, first, statics.UNKNOWN))
    for name in rest:
        if thing is statics.UNKNOWN:
            break
        thing = statics.attribute(thing, name)
    return thing


def _begins_here(before: str, chain: re.Match[str]) -> bool:
    """Whether nothing that belongs to it stands before a chain of names: `f().a.b` has a call."""
    head = before[: chain.start()]
    return not head.rstrip(" \t").endswith(".") and not re.search(r"\w\Z", head)


def _public(prefix: str, names: Iterable[str]) -> Completions:
    """Private names, and those with two underscores, are for who types these."""
    hidden = "" if prefix.startswith("__") else "__" if prefix.startswith("_") else "_"
    return _beginning_with(
        prefix,
        (
            name
            for name in names
            if name.isidentifier() and not (hidden and name.startswith(hidden))
        ),
    )


def _beginning_with(prefix: str, texts: Iterable[str]) -> Completions:
    found = sorted({text for text in texts if text.startswith(prefix)})
    return Completions(len(prefix), tuple(itertools.islice(found, 2000)))
