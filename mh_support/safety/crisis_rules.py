"""The rules of the crisis check, read from crisis_rules.json, whose note explains how they are written.

The file is meant to be read, and added to, by people who know crises better than regular expressions: one phrase a
line, with a category, a level and what lowers it.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

LEVELS = ("none", "concern", "crisis", "emergency")
SUICIDE, SOMEONE = "suicide", "someone else at risk"
CATEGORIES = (SUICIDE, "self-harm", "harm to others", "abuse", "eating disorder", "medical emergency", SOMEONE)

# Up to three words, none of which can turn the meaning round.
_GAP = r"(?:(?!(?:not|no|never|dont|doesnt|didnt|havent|wont|isnt|without)\b)\w+ ){0,3}"


class Context(NamedTuple):
    """Words in the sentence of a match that lower it to the level `cap`."""

    cap: str
    before: re.Pattern[str] | None  # reaches up to the match
    around: re.Pattern[str] | None  # anywhere in the sentence, the match included
    keep: re.Pattern[str] | None  # anywhere in the sentence: the match counts in full after all

    def applies(self, before: str, found: str, after: str) -> bool:
        """Whether the sentence `before + found + after` lowers `found`."""
        sentence = before + found + after
        here = (self.before and self.before.search(before)) or (self.around and self.around.search(sentence))
        return bool(here) and not (self.keep and self.keep.search(sentence))


class Rule(NamedTuple):
    """What a match is about, how serious it is, and which contexts lower it."""

    categories: tuple[str, ...]
    level: str
    pattern: re.Pattern[str]
    unless: tuple[Context, ...]
    after: str | None  # counts only once this category has been found


def pattern_of(phrases: Iterable[str], end: str = r"\b") -> re.Pattern[str]:
    """Compile phrases, written as the note in crisis_rules.json says, into one pattern of whole words.

    >>> pattern_of(["want to ...die"]).search("/ i want to just fucking die / ").group()
    'want to just fucking die'
    """
    source = "|".join(phrases)
    while lists := set(re.findall(r"<([a-z]\w*)>", source)):
        for name in lists:
            source = source.replace(f"<{name}>", "(" + "|".join(_table()["lists"][name]) + ")")
    source = re.sub(r"(?<=[a-z\]])\*", r"\\w{0,6}", source)
    source = re.sub(r"(?<!\w)_(?!\w)", r"\\w+", source)
    source = re.sub(r"<(\d)> ", r"(\\w+ ){0,\1}", source)
    source = re.sub(r"<1-(\d)> ", r"(\\w+ ){1,\1}", source)
    source = source.replace("^", "(?<=/ )").replace("$", "(?= /)").replace("...", _GAP)
    return re.compile(r"\b(?:" + re.sub(r"\((?!\?)", "(?:", source) + ")" + end)


@cache
def rules() -> tuple[Rule, ...]:
    """Compile the rules, in the order of the file; those that wait for a category come last."""
    contexts = {name: _context(**row) for name, row in _table()["contexts"].items()}
    return tuple(_rule(contexts, **row) for row in _table()["rules"])


@cache
def answers(name: str, end: str = r"\b") -> re.Pattern[str]:
    """Compile one list of the file's "answers"."""
    return pattern_of(_table()["answers"][name], end)


def _context(about: str, cap: str, **phrases: list[str]) -> Context:
    ends = {"before": " $", "around": r"\b", "keep": r"\b"}
    return Context(cap, *(pattern_of(phrases[part], end) if part in phrases else None for part, end in ends.items()))


def _rule(
    contexts: dict[str, Context],
    *,
    about: str,
    categories: list[str],
    level: str,
    phrases: list[str],
    unless: list[str],
    after: str | None = None,
) -> Rule:
    return Rule(tuple(categories), level, pattern_of(phrases), tuple(contexts[name] for name in unless), after)


@cache
def _table() -> dict[str, Any]:
    text = (files("mh_support.safety") / "crisis_rules.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
