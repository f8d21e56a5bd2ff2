"""The trained classifier beside the rules: what it adds, what it leaves alone, and how it is made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_fixtures import load_recipe

from mh_support.safety import Span, assess
from mh_support.safety import classifier_training as training
from mh_support.safety.classifier import CLASSIFIER, CrisisClassifier, crisis_classifier, features
from mh_support.safety.classifier_training import NAMES, ClassifierArguments, fit, train_classifier
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.measure import KINDS, Example

# None of these holds a phrase of the rules.
HINT = "The last blue ferry leaves tonight."
CALM = "The green kettle is on for the first guest."
RISKY = ("the ferry leaves", "last ferry tonight", "one lantern hung high", "a flag at night")
CALM_ONES = ("kettle guest", "first guest tonight", "the kettle is on", "green kettle and guest")


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": turn} for turn in turns]


@pytest.fixture(scope="module")
def small() -> CrisisClassifier:
    """A classifier that takes ferries for self-harm, lanterns for abuse and flags for suicide."""
    kinds = {"ferry": "self-harm", "lantern": "abuse", "flag": "suicide"}
    examples = [Example("crisis", kinds[word], (text,)) for text in RISKY for word in kinds if word in text]
    examples += [Example("safe", "distress", (text,)) for text in CALM_ONES]
    return fit(examples, ClassifierArguments())


def test_what_the_rules_pass_may_be_a_crisis_to_the_classifier(small: CrisisClassifier) -> None:
    assert assess(said(HINT), classifier="rules alone").level == "none"
    found = assess(said(HINT), classifier=small)
    assert (found.level, found.categories) == ("crisis", frozenset({"self-harm"}))
    assert found.spans == (Span(0, 0, len(HINT), "self-harm"),)
    assert assess(said(CALM), classifier=small) == assess(said(CALM), classifier="rules alone")


@pytest.mark.parametrize("message", ["I want to die.", "I am going to kill myself tonight.", "My husband hits me."])
def test_it_takes_nothing_from_what_the_rules_find(small: CrisisClassifier, message: str) -> None:
    never = replace(small, threshold=1.1)
    always = replace(small, threshold=0.0)
    for other in (never, always):
        assert assess(said(message), classifier=other) == assess(said(message), classifier="rules alone")


def test_what_it_alone_suspects_is_a_concern_in_the_turns_after(small: CrisisClassifier) -> None:
    after = assess(said(HINT, CALM), classifier=small)
    assert (after.level, after.categories, after.spans) == ("concern", frozenset({"self-harm"}), ())
    assert assess(said(CALM, HINT), classifier=small).level == "crisis"
    assert assess(said(HINT, CALM, HINT), classifier=small).level == "crisis"


def test_only_the_person_is_read(small: CrisisClassifier) -> None:
    conversation = [{"role": "assistant", "content": HINT}, *said(CALM), {"role": "assistant", "content": HINT}]
    assert assess(conversation, classifier=small).level == "none"


def test_an_answer_to_a_suspicion_is_heard(small: CrisisClassifier) -> None:
    asked = [*said(HINT), {"role": "assistant", "content": "Are you thinking about suicide?"}, *said("Yes.")]
    assert "suicide" in assess(asked, classifier=small).categories


def test_probabilities_are_between_nought_and_one_and_one_a_text(small: CrisisClassifier) -> None:
    found = small.probabilities([HINT, CALM, "", "\U0001f642", "lantern " * 5000])
    assert found.shape == (5,) and (found >= 0).all() and (found <= 1).all()
    assert found[0] > 0.5 > found[1]
    assert small.probabilities([]).shape == (0,)


def test_disguises_are_taken_off_first(small: CrisisClassifier) -> None:
    plain, disguised = features(["i want to die on the ferry"]), features(["I w\u0430nt to D I E on the ferry"])
    assert abs(plain - disguised).max() == 0


def test_a_file_holds_it_whole(small: CrisisClassifier, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    small.save(path)
    again = crisis_classifier(path)
    assert (again.names, again.threshold) == (small.names, small.threshold)
    assert np.allclose(again.probabilities([HINT, CALM]), small.probabilities([HINT, CALM]), atol=1e-3)
    assert again.category(HINT) == "self-harm"


@pytest.mark.parametrize("content", [None, b"", b"not a tensor"])
def test_a_damaged_file_is_said_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "damaged.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^the crisis classifier .+ cannot be read \(.+\); install the package again$"
    ):
        crisis_classifier(path)


def test_the_categories_are_those_of_the_rules() -> None:
    assert list(NAMES) == list(KINDS["crisis"])
    assert NAMES["harm-to-others"] == "harm to others" and NAMES["someone-else"] == "someone else at risk"
    assert set(crisis_classifier().names) == set(CATEGORIES)


def test_the_threshold_lets_no_more_ordinary_messages_stand_out_than_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"topic": "work", "messages": said(f"The {word} bus was late, number {number}.")}
        for number in range(100)
        for word in ("red", "blue", "old", "new")
    ]
    monkeypatch.setattr(training, "read_practice_rows", lambda: [*rows, {"topic": "risk", "messages": said(HINT)}])
    for share in (0.0, 0.1, 0.5):
        arguments = ClassifierArguments(ordinary=400, max_false_alarms=share)
        classifier, made_from = train_classifier(arguments)
        held_out = training._ordinary(arguments)[:80]
        assert HINT not in training._ordinary(arguments)
        assert (made_from["ordinary"], made_from["held_out"]) == (320, 80)
        flagged = (classifier.probabilities(held_out) >= classifier.threshold).sum()
        assert flagged <= share * 80
    assert flagged > 20


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"ordinary": 9}, {"max_false_alarms": 1.0}])
def test_arguments_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"they are above 0, 10 or more, and at least 0 and below 1$"):
        ClassifierArguments(**wrong)  # type: ignore[arg-type]


def test_the_recipe_makes_the_file_that_comes_with_the_package(tmp_path: Path, capsys) -> None:
    path = tmp_path / "made.safetensors"
    load_recipe("train_crisis_classifier").main(["--output", str(path)])
    printed = capsys.readouterr().out
    made, ours = crisis_classifier(path), crisis_classifier(CLASSIFIER)
    assert json.dumps(made.names) == json.dumps(ours.names)
    assert abs(made.threshold - ours.threshold) < 1e-3
    assert np.abs(made.danger - ours.danger).max() < 0.05
    assert "crises seen" in printed and str(path) in printed
