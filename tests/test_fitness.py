"""Why a reply is not fit to be shown: what the check refuses, what the model has read, and danger that nobody began."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

import mh_support.safety.fitness as fitness
from mh_support.safety import check_reply
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.echoes import Echoes
from mh_support.safety.fitness import why_unfit
from mh_support.safety.replies import _words, without_check_in

LETTER = "When the second letter came the woman next door read it aloud twice and put it behind the clock."
DANGER = "Call them if it is good to end your life."

FOLDER = Path(fitness.__file__).parent


@pytest.fixture(autouse=True)
def phrases_alone(monkeypatch):
    monkeypatch.setattr("mh_support.safety.fitness.check_reply", partial(check_reply, classifiers=()))


@pytest.mark.parametrize(
    ("reply", "reasons"),
    [
        ("Since when?", ()),
        ("You have depression.", ("diagnosis",)),
        (LETTER, ("echo",)),
        (DANGER, ("danger",)),
        (f"You have depression. {LETTER} {DANGER}", ("diagnosis", "echo", "danger")),
    ],
)
def test_every_reason_is_named(reply, reasons):
    assert why_unfit(reply, echoes=Echoes.of([LETTER])) == reasons


def test_without_echoes_nothing_is_one():
    assert why_unfit(LETTER) == ()


def test_which_dangers_may_not_be_brought_up_is_for_the_caller_to_say():
    asked = "Is somebody hurting you?"
    assert why_unfit(asked) == ()
    assert why_unfit(asked, dangers=CATEGORIES) == ("danger",)


def test_the_direct_question_after_a_concern_is_no_models():
    questions = [question for variants in _words()["check in"].values() for question in variants]
    assert [without_check_in(f"That is a lot.\n\n{question}") for question in questions] == ["That is a lot."] * 9
    assert without_check_in(questions[0]) == ""
    assert without_check_in(f"{questions[0]} Tell me more.") == f"{questions[0]} Tell me more."


# --- what the checks are made of --------------------------------------------------------------------------------------


def used(module: str, found: set[str]) -> set[str]:
    """Return the modules beside this one that a module imports, at its top or within, and those that they do."""
    found.add(module)
    code = (FOLDER / f"{module}.py").read_text(encoding="utf-8")
    for name in re.findall(r"from mh_support\.safety\.(\w+) import", code):
        if name not in found:
            used(name, found)
    return found


def test_the_fingerprint_is_of_all_that_the_checks_use_and_of_nothing_else(monkeypatch):
    given = []
    monkeypatch.setattr(fitness, "sha256_of", lambda paths: given.extend(paths) or "0" * 64)
    fitness.checks_fingerprint()
    # Whom a reply may name to call changes with the years, and with it nothing that was measured.
    assert {path.stem for path in given if path.suffix == ".py"} == used("fitness", set()) - {"resources"}
    data = {path.name for path in given if path.suffix != ".py"}
    assert {"crisis_rules.json", "reply_check.json", "crisis_classifier.safetensors"} < data
    code = "".join(path.read_text(encoding="utf-8") for path in given if path.suffix == ".py")
    encoder = {"model.safetensors"}  # Another package's.
    assert set(re.findall(r'"(\w+\.(?:json|safetensors))"', code)) - encoder <= data
