"""Disguised and damaged spellings of labelled messages, made by program, to see what a check still reads."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from mh_support.safety.measure import Example

_LOOKALIKES = str.maketrans("aeopcyx", "\u0430\u0435\u043e\u0440\u0441\u0443\u0445")  # Cyrillic for Latin letters.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPACED = 3  # Words of a message whose letters are pulled apart.


def _upper(text: str, generator: random.Random) -> str:
    return text.upper()


def _spaced(text: str, generator: random.Random) -> str:
    """Pull the letters of some of the longer words apart."""
    words = text.split(" ")
    long = [number for number, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for number in generator.sample(long, min(_SPACED, len(long))):
        words[number] = " ".join(words[number])
    return " ".join(words)


def _lookalikes(text: str, generator: random.Random) -> str:
    return text.translate(_LOOKALIKES)


def _typos(edits: int) -> Callable[[str, random.Random], str]:
    """Return a variant with so many slips of the finger: a letter dropped, doubled, replaced or swapped."""

    def slip(text: str, generator: random.Random) -> str:
        for _ in range(edits):
            places = [place for place in range(len(text) - 1) if text[place].isalpha() and text[place + 1].isalpha()]
            if not places:
                return text
            at = generator.choice(places)
            one, two = text[at], text[at + 1]
            put = generator.choice([two, one + one + two, generator.choice(_LETTERS) + two, two + one])
            text = text[:at] + put + text[at + 2 :]
        return text

    return slip


VARIANTS: dict[str, Callable[[str, random.Random], str]] = {
    "as written": lambda text, generator: text,
    "capitals": _upper,
    "letters pulled apart": _spaced,
    "look-alike letters": _lookalikes,
    "one typo a turn": _typos(1),
    "two typos a turn": _typos(2),
}


def vary(examples: list[Example], variant: str, *, seed: int = 42) -> list[Example]:
    """Return the examples with every turn spelt as a variant of `VARIANTS` has it; the same seed gives the same.

    Raises:
        KeyError: there is no such variant.
    """
    generator = random.Random(f"{seed} {variant}")
    change = VARIANTS[variant]
    return [replace(one, turns=tuple(change(turn, generator) for turn in one.turns)) for one in examples]
