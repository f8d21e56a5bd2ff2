"""The rules of the crisis check, read from crisis_rules.json, whose note explains how they are written.

The file is meant to be read, and added to, by people who know crises better than regular expressions: one phrase a
line, with a category, a level and what lowers it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from mh_support.files import packaged_json

LEVELS = ("none", "concern", "crisis", "emergency")
SUICIDE, SOMEONE = "suicide", "someone else at risk"
CATEGORIES = (SUICIDE, "self-harm", "harm to others", "abuse", "eating disorder", "medical emergency", SOMEONE)

# How far around a match the words that lower it may stand, in characters, and never beyond its sentence.
_REACH = 120
# Up to three words, none of which can turn the meaning round.
_GAP = r"(?:(?!(?:not|no|never|dont|doesnt|didnt|havent|wont|isnt|without)\b)\w+ ){0,3}"


class Context(NamedTuple):
    """Words in the sentence of a match that lower it to the level `cap`."""

    cap: str
    before: re.Pattern[str] | None  # reaches up to the match
    around: re.Pattern[str] | None  # anywhere in the sentence, the match included
    keep: re.Pattern[str] | None  # anywhere in the sentence: the match counts in full after all
    not_of: re.Pattern[str] | None  # how a match begins that this does not apply to

    def applies(self, before: str, found: str, after: str) -> bool:
        """Whether the sentence `before + found + after` lowers `found`."""
        sentence = before + found + after
        if self.not_of and self.not_of.match(sentence, len(before)):
            return False
        here = (self.before and self.before.search(before)) or (self.around and self.around.search(sentence))
        return bool(here) and not (self.keep and self.keep.search(sentence))


class Rule(NamedTuple):
    """What a match is about, how serious it is, and which contexts lower it."""

    categories: tuple[str, ...]
    level: str
    pattern: re.Pattern[str]
    unless: tuple[Context, ...]
    after: str | None = None  # counts only once this category has been found


def pattern_of(
    phrases: Iterable[str], end: str = r"\b", lists: Mapping[str, list[str]] | None = None
) -> re.Pattern[str]:
    """Compile phrases, written as the note in crisis_rules.json says, into one pattern of whole words.

    `lists` adds to the lists of that file.

    >>> pattern_of(["want to ...die"]).search("/ i want to just fucking die / ").group()
    'want to just fucking die'
    """
    known = {**_table()["lists"], **(lists or {})}
    source = "|".join(phrases)
    while names := set(re.findall(r"<([a-z]\w*)>", source)):
        for name in names:
            source = source.replace(f"<{name}>", "(" + "|".join(known[name]) + ")")
    source = re.sub(r"(?<=[a-z\]])\*", r"\\w{0,6}", source)
    source = re.sub(r"(?<!\w)_(?!\w)", r"\\w+", source)
    source = re.sub(r"<(\d)> ", r"(\\w+ ){0,\1}", source)
    source = re.sub(r"<1-(\d)> ", r"(\\w+ ){1,\1}", source)
    source = source.replace("^", "(?<=/ )").replace("$", "(?= /)").replace("...", _GAP)
    return re.compile(r"\b(?:" + re.sub(r"\((?!\?)", "(?:", source) + ")" + end)


def context_of(cap: str, row: Mapping[str, Any], lists: Mapping[str, list[str]] | None = None) -> Context:
    """Compile the "before", "around", "keep" and "not of" phrases of a context."""
    ends = {"before": " $", "around": r"\b", "keep": r"\b", "not of": r"\b"}
    return Context(cap, *(pattern_of(row[part], end, lists) if part in row else None for part, end in ends.items()))


@cache
def rules() -> tuple[Rule, ...]:
    """Compile the rules, in the order of the file; those that wait for a category come last."""
    table = _table()
    contexts = {name: context_of(row["cap"], row) for name, row in table["contexts"].items()}
    return tuple(
        Rule(
            categories=tuple(row["categories"]),
            level=row["level"],
            pattern=_alone(row["phrases"]) if row.get("alone") else pattern_of(row["phrases"]),
            unless=tuple(contexts[name] for name in row["unless"]),
            after=row.get("after"),
        )
        for row in table["rules"]
    )


def _alone(phrases: Iterable[str]) -> re.Pattern[str]:
    """Compile phrases that must be the whole message, but for a few words that may stand around them."""
    around = _table()["alone"]
    before, after = ("|".join(around[place]) for place in ("before", "after"))
    whole = "|".join(phrases)
    # Where a message begins, "/ " stands before it alone.
    return pattern_of([rf"(?<=\A/ )({before})({whole})({after})(?= / \Z)"], end="")


@cache
def answers(name: str, end: str = r"\b") -> re.Pattern[str]:
    """Compile one list of the file's "answers"."""
    return pattern_of(_table()["answers"][name], end)


def matches(rule: Rule, text: str) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and level (an index into LEVELS) of each match that its sentence does not take back."""
    at = 0
    while found := rule.pattern.search(text, at):
        level = _level(rule, text, found)
        if level > 0:
            yield found.start(), found.end(), level
        # A match that was lowered may overlap one that counts in full: "I don't want to die, I want to die".
        at = found.end() if level == LEVELS.index(rule.level) else found.start() + 1


def around(text: str, found: re.Match[str]) -> tuple[str, str]:
    """Return what stands before and after a match in its sentence, within reach."""
    before = text[max(0, found.start() - _REACH) : found.start()].rpartition("/ ")[2]
    after = text[found.end() : found.end() + _REACH].partition(" /")[0]
    return before, after


def _level(rule: Rule, text: str, found: re.Match[str]) -> int:
    before, after = around(text, found)
    level = LEVELS.index(rule.level)
    for context in rule.unless:
        cap = LEVELS.index(context.cap)
        if cap < level and context.applies(before, found[0], after):
            level = cap
    return level


def _table() -> dict[str, Any]:
    return packaged_json("mh_support.safety", "crisis_rules.json")
