"""How many years at school it takes to read a text with ease."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|\n+")
_VOWELS = re.compile(r"[aeiouy]+")


def reading_grade(text: str) -> float:
    """Return the Flesch-Kincaid grade of an English text: the school year, as the United States count, that reads it.

    Lower is easier; a text of very short sentences and words can fall below 0. The formula is Kincaid, Fishburne,
    Rogers and Chissom's (1975, Research Branch Report 8-75, Naval Technical Training Command): 0.39 times the words a
    sentence, plus 11.8 times the syllables a word, less 15.59. A sentence ends with `.`, `!` or `?`, or with its line,
    so that turns joined by line breaks stay apart. Syllables are counted by `syllables`, which is only nearly right.

    Raises:
        ValueError: the text has no word.

    Example:
        >>> round(reading_grade("You came home late. Nobody asked."), 2)  # 6 words, 2 sentences, 9 syllables
        3.28
    """
    words = _WORD.findall(text)
    if not words:
        raise ValueError("the text has no word; give some English text")
    sentences = sum(bool(_WORD.search(piece)) for piece in _SENTENCE_END.split(text))
    return 0.39 * len(words) / sentences + 11.8 * sum(map(syllables, words)) / len(words) - 15.59


def syllables(word: str) -> int:
    """Return about how many syllables an English word has.

    Neighbouring vowels (y among them) count as one, an e at the end as none, and every word has at least one: the rule
    of the Flesch exercise in Cay Horstmann's textbook *Big Java*. It counts too few in "table" and too many in "asked".

    Example:
        >>> [syllables(word) for word in ("the", "regal", "quiet", "home", "asked")]
        [1, 2, 1, 1, 2]
    """
    return max(1, len(_VOWELS.findall(re.sub(r"e$", "", word.lower()))))
