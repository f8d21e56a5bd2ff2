"""Whether a text is clearly not English, which is all that the trained classifiers have read.

Clearly: most of its letters are not Latin, or it has several of another language's commonest words and few of English.
A short text, one that mixes languages, slang, and words that no list has are never that: they are read.
"""

from __future__ import annotations

import re
from functools import cache

from mh_support.files import packaged_json

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
# So many words; so many of them another language's common ones, that share, and so many times those of English.
_WORDS, _LEAST, _SHARE, _TIMES = 6, 3, 0.25, 2
# As many letters that are not Latin, and that share of all letters.
_LETTERS, _FOREIGN_LETTERS = 6, 0.5


def is_foreign(text: str) -> bool:
    """Say whether a text, as `without_disguises` leaves it, is clearly not English.

    >>> is_foreign("Ich bin so muede, weil der Hund die ganze Nacht gebellt hat.")
    True
    >>> is_foreign("no puedo mas, i want to die")
    False
    """
    words = {word.lower() for word in _WORD.findall(text)}
    english, others = _common_words()
    known = len(words & english)
    letters = [letter for letter in text if letter.isalpha()]
    # Letters of the Latin alphabet and their accented kin come first in Unicode.
    foreign = sum(letter > "\u024f" for letter in letters)
    if foreign >= _LETTERS and foreign >= _FOREIGN_LETTERS * len(letters):
        return known < _LEAST
    common = max(len(words & own) for own in others)
    return len(words) >= _WORDS and common >= max(_LEAST, _SHARE * len(words), _TIMES * known)


@cache
def _common_words() -> tuple[frozenset[str], tuple[frozenset[str], ...]]:
    """Return the common words of English, and those of each other language."""
    table = packaged_json("mh_support.safety", "languages.json")
    own = {language: frozenset(words.split()) for language, words in table["words"].items()}
    return own.pop("English"), tuple(own.values())
