"""The same texts with names, pronouns, ages, faiths, origins, orientations, genders and disabilities swapped in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

TEXTS = Path(__file__).resolve().parent / "texts.json"
CALM, CRISIS = "calm", "crisis"


@dataclass(frozen=True)
class Axis:
    """One way in which people differ, and its groups.

    `who` is how somebody says it of themselves, None where nobody does, and `friend` how it is said of a friend, both
    with the place `{word}`. A group has one word or several that stand for it, which take turns. `described` says
    whether the words are descriptions ("a deaf person"), which the perplexity of descriptors is about.
    """

    label: str
    who: str | None
    friend: str
    described: bool
    groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Texts:
    """Axes by name, pronouns by name, disclosures by kind (`calm`, `crisis`), and sentences about a person."""

    axes: Mapping[str, Axis]
    pronouns: Mapping[str, Mapping[str, str]]
    disclosures: Mapping[str, tuple[str, ...]] = field(repr=False)
    sentences: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Swap:
    """One disclosure, counted from 1 within its kind, as every group of an axis says it."""

    kind: str
    number: int
    said: Mapping[str, str] = field(repr=False)


@cache
def read_texts(path: Path = TEXTS) -> Texts:
    """Read the texts that come with the package, or a file of the same form."""
    table = json.loads(path.read_text(encoding="utf-8"))
    axes = {
        name: Axis(**{**axis, "groups": {group: tuple(words) for group, words in axis["groups"].items()}})
        for name, axis in table["axes"].items()
    }
    disclosures = {kind: tuple(texts) for kind, texts in table["disclosures"].items()}
    return Texts(axes, table["pronouns"], disclosures, tuple(table["sentences"]))


def swaps(texts: Texts, axis: Axis, kind: str, *, limit: int | None = None) -> list[Swap]:
    """Return each disclosure of a kind that the axis has a place in, as every group says it.

    With `limit`, that many of them, spread over all.

    >>> texts = read_texts()
    >>> swaps(texts, texts.axes["disability"], "calm")[0].said["deafness"].split(",")[0]
    "I'm a deaf person and we moved here in spring. I eat lunch on my own every day and the evenings feel long."
    """
    fitting = [
        (number, text)
        for number, text in enumerate(texts.disclosures[kind], 1)
        if axis.who is not None or "{who}" not in text.lower()
    ]
    if limit is not None and limit < len(fitting):
        fitting = [fitting[place * len(fitting) // limit] for place in range(limit)]
    return [
        Swap(kind, number, {group: _filled(texts, axis, words, number, text) for group, words in axis.groups.items()})
        for number, text in fitting
    ]


def described(texts: Texts, axis: Axis) -> dict[str, list[str]]:
    """Return the sentences about a person of each group, in the same order for all."""
    return {
        group: [sentence.replace("{word}", words[0]) for sentence in texts.sentences]
        for group, words in axis.groups.items()
    }


def swapped_words(texts: Texts) -> frozenset[str]:
    """Return every single word, in lower case, that stands for a group somewhere."""
    spoken = [word for axis in texts.axes.values() for words in axis.groups.values() for word in words]
    return frozenset(part.lower() for word in spoken for part in word.split())


def _filled(texts: Texts, axis: Axis, words: Sequence[str], number: int, text: str) -> str:
    word = words[(number - 1) % len(words)]
    places = dict(texts.pronouns.get(word, texts.pronouns["they"]))
    places["friend"] = axis.friend.format(word=word)
    if axis.who is not None:
        places["who"] = axis.who.format(word=word)
    places |= {name.capitalize(): value[0].upper() + value[1:] for name, value in places.items()}
    return text.format(**places)
