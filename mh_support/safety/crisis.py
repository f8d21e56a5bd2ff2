"""The crisis check: does what a person has written so far call for people who can help?

In English. Rules are the floor: `assess` reads every turn of the person in full, whatever its length; a message is made
plain (`plain_words`), then searched with the phrases of crisis_rules.json, which take time in proportion to the text. A
trained classifier adds what no phrase holds. Nothing a person wrote is kept, logged or shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mh_support.safety.classifier import Suspects, crisis_classifier
from mh_support.safety.crisis_rules import CATEGORIES, LEVELS, SOMEONE, answers, around, matches, rules
from mh_support.safety.plain_words import PlainWords, plain_words

_NONE, _CONCERN, _CRISIS, _EMERGENCY = range(len(LEVELS))
_ROLES = ("user", "assistant", "system")
# Classifiers read the latest turns of the person, so many of them, each with up to so many turns in all.
_READ, _TOGETHER = 2, 3
# How many characters before a question mark belong to the question.
_REACH = 200
# A bare "yes" with more words than this may be the answer to another question.
_ANSWER_WORDS = 12


@dataclass(frozen=True)
class Span:
    """Where a rule matched: characters `start` to `end` of `messages[message]["content"]`; never the text itself."""

    message: int
    start: int
    end: int
    category: str


@dataclass(frozen=True)
class Assessment:
    """What a conversation calls for.

    `level` is "none", "concern" (pain that deserves a gentle word), "crisis" (someone may be in danger) or
    "emergency" (danger now). `categories` say what about; in a crisis, only those that make it one. `spans` are the
    places they were found in, in the order of the conversation.
    """

    level: str = "none"
    categories: frozenset[str] = frozenset()
    spans: tuple[Span, ...] = ()

    @property
    def is_crisis(self) -> bool:
        """Whether to answer with people who can help instead of with a generated reply."""
        return self.level in ("crisis", "emergency")


@dataclass(frozen=True)
class _Finding:
    level: int  # index into LEVELS
    span: Span

    @property
    def category(self) -> str:
        return self.span.category


def assess(
    messages: Sequence[Mapping[str, str]],
    *,
    classifiers: Sequence[Suspects] | None = None,
    known: dict[str, str] | None = None,
) -> Assessment:
    """Assess a conversation up to its latest turn.

    Only the turns of the user are searched. A crisis, once said, stays at its level until the person clearly says
    that they are safe, and is a concern from then on. Saying so of oneself leaves the danger of someone else
    standing, and the other way round. What a classifier alone suspects makes a crisis of the turn that it is in, and
    a concern of the turn after it: it errs more often than the rules, and nobody should have to talk it down.

    `classifiers` are the one that comes with the package unless others are given; with none, the rules stand alone. Any
    of them may raise the level, and none lowers it.

    `known` remembers how words are spelt plainly from call to call, which is quicker. Give a dictionary
    only where the words may be kept so long, as while a data set is read; by default nothing outlives the call.

    Raises ValueError for a message without a known role or without a text.

    >>> assess([{"role": "user", "content": "This exam is killing me."}]).level
    'none'
    >>> assess([{"role": "user", "content": "I don't want to wake up tomorrow."}]).categories
    frozenset({'suicide'})
    """
    standing: dict[str, list[_Finding]] = {}
    eased: set[str] = set()
    current: list[_Finding] = []
    suspected: list[_Finding] = []
    said: list[str] = []  # since the last turn that was taken for a crisis, or said that it is over
    classifiers = [crisis_classifier()] if classifiers is None else classifiers
    read = [index for index, message in enumerate(messages) if message.get("role") == "user"][-_READ:]
    for index, message in enumerate(messages):
        content = _content(message, index)
        if message["role"] != "user":
            continue
        words = plain_words(content, known)
        current = [*_findings(words, index, set(standing)), *_answer(messages, words, index)]
        eased |= {finding.category for finding in suspected}
        suspected = []
        said.append(content)
        serious = [finding for finding in current if finding.level >= _CRISIS]
        if serious:
            said = []
        else:
            released = _released(words.text, set(standing))
            said = [] if released else said
            eased |= released
            standing = {name: found for name, found in standing.items() if name not in released}
        for finding in serious:
            standing.setdefault(finding.category, []).append(finding)
        if said and not standing and index in read:
            found = _suspected(classifiers, "\n\n".join(said[-_TOGETHER:]), Span(index, 0, len(content), ""))
            suspected = [finding for finding in found if finding.level >= _CRISIS]
            current += [finding for finding in found if finding.level < _CRISIS]
            said = [] if suspected else said
    return _summary([*(finding for found in standing.values() for finding in found), *suspected], eased, current)


def _content(message: Mapping[str, str], index: int) -> str:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise ValueError(f"message {index} has the role {role!r}; give each message one of {', '.join(_ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f"message {index} has content of type {type(content).__name__}; give it as one string")
    return content


def _findings(words: PlainWords, index: int, standing: set[str]) -> Iterator[_Finding]:
    """Yield what the rules find in one message."""
    said = set(standing)
    for rule in rules():
        if rule.after is not None and rule.after not in said:
            continue
        for start, end, level in matches(rule, words.text):
            if level >= _CRISIS:
                said.update(rule.categories)
            place = words.place(start, end)
            for category in rule.categories:
                yield _Finding(level, Span(index, *place, category))


def _answer(messages: Sequence[Mapping[str, str]], words: PlainWords, index: int) -> list[_Finding]:
    """Find a yes, bare or in other words, to being asked about danger in the turn before."""
    if index == 0 or messages[index - 1]["role"] != "assistant":
        return []
    bare_yes = len(words.starts) <= _ANSWER_WORDS and answers("yes").match(words.text, 2)
    # "Are you thinking about suicide, and are you safe?" - "Yes, I'm safe."
    if bare_yes and _declares("safe", words.text):
        bare_yes = None
    if not bare_yes and not answers("admitted").search(words.text):
        return []
    place = words.place(2, len(words.text) - 2)
    about = asked_about(messages[index - 1]["content"])
    return [_Finding(_CRISIS, Span(index, *place, category)) for category in CATEGORIES if category in about]


def asked_about(reply: str) -> frozenset[str]:
    """Return the categories of danger that the last question of a reply asks about directly.

    >>> asked_about("That is hard. Are you thinking about ending your life?")
    frozenset({'suicide'})
    """
    question = reply.rsplit("?", 1)
    if len(question) < 2:
        return frozenset()
    return spoken_of(question[0][-_REACH:])


def spoken_of(reply: str) -> frozenset[str]:
    """Return the categories of danger to the person that a reply speaks of, which is for written words alone to do.

    >>> spoken_of("Call them if it is good to end your life.")
    frozenset({'suicide'})
    """
    words = plain_words(reply).text
    return frozenset(category for category in CATEGORIES if answers(f"asked: {category}").search(words))


def _suspected(classifiers: Sequence[Suspects], text: str, span: Span) -> list[_Finding]:
    """Return what the classifiers make of what was said up to a turn, with the whole turn as its place."""
    found = [suspicion for classifier in classifiers for suspicion in classifier.suspect([text]) if suspicion]
    return [_Finding(LEVELS.index(one.level), replace(span, category=one.category)) for one in found]


def _released(text: str, standing: set[str]) -> set[str]:
    """Say which of the categories that stand at crisis this message clearly declares over."""
    own, other = standing - {SOMEONE}, standing & {SOMEONE}
    return (own if own and _declares("safe", text) else set()) | (
        other if other and _declares("someone safe", text) else set()
    )


def _declares(name: str, text: str) -> bool:
    for found in answers(name).finditer(text):
        before, after = around(text, found)
        unsure = answers("unsure before", " $").search(before) or answers("unsure after").match(after.lstrip())
        if not unsure:
            return True
    return False


def _summary(serious: list[_Finding], eased: set[str], current: list[_Finding]) -> Assessment:
    counted = serious or current
    categories = {finding.category for finding in counted} | (set() if serious else eased)
    level = max([finding.level for finding in counted] + [_CONCERN if eased else _NONE])
    spans = {finding.span for finding in counted}
    in_order = sorted(spans, key=lambda span: (span.message, span.start, span.end, span.category))
    return Assessment(LEVELS[level], frozenset(categories), tuple(in_order))
