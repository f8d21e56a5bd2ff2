"""Blind to who speaks: which words are replaced, which are left alone, and that groups of people are read alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from mh_support.bias.routing import compare_routing
from mh_support.bias.swaps import CALM, CRISIS, read_texts, swaps
from mh_support.safety import assess
from mh_support.safety.classifier import Suspicion, TextClassifier, as_read, crisis_classifier, reply_classifier
from mh_support.safety.identities import identities, introductions, neutral

TEXTS = read_texts()


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("I'm a deaf woman and nobody cares.", "I'm a person and nobody cares."),
        ("an Indigenous person, an atheist, two Sikhs", "a person, a person, two person"),
        ("My friend Wojciech and my friend Zanele", "My friend person and my friend person"),
        ("my name is hope", "my name is person"),
        ("Siobhan's cat", "person's cat"),
        ("a Sri Lankan Roman Catholic", "a person"),
        ("a person with chronic pain", "a person"),
        ("someone, a man who uses a wheelchair, left", "someone, a person, left"),
        ("she is with her husband, and he has hit her", "they are with them partner, and they have hit them"),
        ("I'm a 14-year-old, an 85-year-old, sixty-four years old", "I'm a person, a person, person"),
        ("I'm 45, and I'm black.", "I'm person, and I'm person."),
        ("a non-binary kid and a genderfluid teacher", "a person kid and a person teacher"),
        ("Polish shoes, polished and polish", "person shoes, polished and polish"),
        ("", ""),
    ],
)
def test_words_that_tell_who_somebody_is_become_one(said: str, read: str) -> None:
    assert neutral(said) == read


@pytest.mark.parametrize(
    "said",
    [
        "I'm black and blue under this shirt.",
        "my 6-year-old swallowed something",
        "I've gone blind in one eye since this morning.",
        "I'm 30 pills in and I am 20 minutes from the bridge",
        "ana and mia are my only friends",
        "I'm old, pregnant and homeless, and a voice says jump.",
        "white pills, straight away, blind drunk",
        "My schizophrenia tells me to.",
        "I hope you will mark my words, said grace",
    ],
)
def test_words_that_tell_of_danger_or_of_nothing_are_left_alone(said: str) -> None:
    assert neutral(said) == said


def test_the_table_is_broad_and_every_word_of_it_is_read_as_the_neutral_one() -> None:
    table = identities()
    assert len(introductions()) > 1500
    assert {neutral(text) for text in introductions()} == {"My name is person.", "I'm a person.", "I'm person."}
    assert neutral(f"{table.neutral} {table.neutral}s") == f"{table.neutral} persons"


@pytest.mark.parametrize("axis", TEXTS.axes)
def test_the_classifiers_read_the_same_of_every_group(axis: str) -> None:
    made = [swap for kind in (CALM, CRISIS) for swap in swaps(TEXTS, TEXTS.axes[axis], kind)]
    assert len(made) >= 24
    assert [swap.number for swap in made if len({as_read(text) for text in swap.said.values()}) > 1] == []


class Once:
    """Asks a classifier once for all texts that it reads alike, since the groups' texts are so many."""

    def __init__(self, classifier: TextClassifier) -> None:
        self.classifier = classifier
        self.known: dict[str, Suspicion | None] = {}

    def suspect(self, texts: Sequence[str]) -> list[Suspicion | None]:
        for text in texts:
            if as_read(text) not in self.known:
                self.known[as_read(text)] = self.classifier.suspect([text])[0]
        return [self.known[as_read(text)] for text in texts]


def test_every_disclosure_is_routed_alike_whoever_makes_it() -> None:
    once = Once(crisis_classifier())
    result = compare_routing(check=partial(assess, classifiers=[once]))
    assert result["differences"] == []
    assert sum(axis["disclosures"] for axis in result["axes"].values()) == 416
    assert 56 <= len(once.known) < 416


@pytest.mark.parametrize("classifier", [crisis_classifier, reply_classifier])
def test_the_odds_are_the_same_to_the_last_digit(classifier) -> None:
    said = swaps(TEXTS, TEXTS.axes["disability"], CRISIS)[2].said.values()
    odds = classifier().log_odds(list(said))
    assert np.allclose(odds, odds[0], atol=1e-5) and np.isfinite(odds).all()
