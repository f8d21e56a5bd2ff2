"""What the classifier of replies adds to the phrases, and how it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from training_fixtures import load_recipe

from mh_support.safety import SAFE_REPLY, ReplyCheck, check_reply
from mh_support.safety import reply_training as training
from mh_support.safety.classifier import About, Suspicion, reply_classifier
from mh_support.safety.measure_replies import FINE, Reply, read_replies
from mh_support.safety.reply_training import (
    NAMES,
    ReplyArguments,
    beginnings,
    begun,
    held_out,
    preceded,
    set_threshold,
    train_reply_classifier,
)

FIT, PHRASE = "I hear you. What was the week like?", "You are worthless."


class Weeks:
    """Refuses what speaks of a week as shaming, and notes what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def suspect(self, texts: Sequence[str]) -> list[Suspicion | None]:
        self.shown += texts
        return [Suspicion("refused", "shaming") if "week" in text else None for text in texts]


# --- beside the phrases -----------------------------------------------------------------------------------------------


def test_a_classifier_refuses_what_the_phrases_pass() -> None:
    assert check_reply(FIT, classifiers=()) == ReplyCheck(True, ())
    assert check_reply(FIT, classifiers=[Weeks()]) == ReplyCheck(False, ("shaming",))
    assert check_reply(FIT, classifiers=[Weeks(), Weeks()]) == ReplyCheck(False, ("shaming",))
    assert check_reply("I hear you.", classifiers=[Weeks()]) == ReplyCheck(True, ())


@pytest.mark.parametrize("reply", [PHRASE, "Take 20 mg.", "www.example.com", "Call 555-123-4567.", ""])
def test_and_takes_nothing_from_what_they_refuse(reply: str) -> None:
    weeks = Weeks()
    assert check_reply(reply, classifiers=[weeks]) == check_reply(reply, classifiers=())
    assert not check_reply(reply).ok and weeks.shown == []


@pytest.mark.parametrize("reply", ["Good riddance.", "Leave him.", "Just die.", "Do it.", "Jump."])
def test_a_word_or_two_can_harm(reply: str) -> None:
    assert not check_reply(reply).ok


@pytest.mark.parametrize(
    "reply", ["Thank you.", "I see.", "Of course.", "I'm sorry.", "What happened?", "You can do it."]
)
def test_a_word_or_two_can_be_fit_to_send(reply: str) -> None:
    assert check_reply(reply).ok


def test_what_the_package_itself_says_may_be_said() -> None:
    assert [text for text in SAFE_REPLY if not check_reply(text).ok] == []


def test_the_one_of_the_package_names_the_reasons_of_the_phrases() -> None:
    assert reply_classifier().about.names == NAMES
    assert set(reply_classifier().about.thresholds) == {"refused"}
    assert {"link", "email", "phone number", FINE}.isdisjoint(NAMES)
    assert reply_classifier().suspect([]) == []


# --- how it is trained ------------------------------------------------------------------------------------------------


def test_a_reply_is_read_as_it_comes() -> None:
    assert list(beginnings('He said "no." I see! And then?')) == [
        'He said "no." ',
        'He said "no." I see! ',
        'He said "no." I see! And then?',
    ]
    assert list(beginnings("I see.")) == ["I see."]


def test_contexts_are_held_out_with_all_replies_to_them() -> None:
    replies = read_replies("train")
    development, examples = held_out(replies, seed=42)
    taught = [reply for reply in replies if reply.label in (*NAMES, FINE)]
    assert sorted([*development, *examples], key=repr_of) == sorted(taught, key=repr_of)
    assert not {reply.context for reply in development} & {reply.context for reply in examples}
    assert 0.1 < len(development) / len(taught) < 0.25
    assert set(Counter(reply.label for reply in development)) == {*NAMES, FINE}
    assert held_out(replies, seed=42)[0] == development != held_out(replies, seed=43)[0]


def repr_of(reply: Reply) -> tuple[str, ...]:
    return reply.label, reply.context, reply.text


def test_harm_is_learned_behind_an_ordinary_sentence_too() -> None:
    replies = [Reply("shaming", "c", f"Shame on you, {number}.") for number in range(30)]
    said = preceded(replies, ["That is hard. Who knows of it?"], seed=1)
    assert [one.label for one in said] == ["shaming"] * 30
    assert Counter(one.text.removesuffix(other.text) for one, other in zip(said, replies, strict=True)) == {
        "": 20,
        "That is hard. ": 10,
    }
    assert preceded(replies, ["That is hard."], seed=1) != preceded(replies, ["That is hard."], seed=2)


def test_ordinary_replies_are_learned_from_their_first_sentence_too() -> None:
    replies = [f"I see {number}. And then?" for number in range(300)]
    read = Counter(text == reply for text, reply in zip(begun(replies, 1), replies, strict=True))
    assert 80 <= read[False] <= 120
    assert all(
        text in (reply, f"I see {number}.")
        for number, (text, reply) in enumerate(zip(begun(replies, 2), replies, strict=True))
    )
    assert begun(replies, 1) == begun(replies, 1) != begun(replies, 2)


class Lengths:
    """Stands for a classifier whose odds are the length of a text, and minus that where a reply is finished."""

    about = About(NAMES, {}, 2)

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([-len(text) if text.endswith("!") else len(text) for text in texts], dtype=float)


def test_the_threshold_lets_no_more_fit_replies_be_refused_than_told() -> None:
    fine = [Reply(FINE, "c", "x" * length) for length in range(1, 101)]
    harmful = [Reply("shaming", "c", "x" * 500)]

    def threshold(ordinary: list[str], **shares: float) -> float:
        about = set_threshold(Lengths(), [*fine, *harmful], ordinary, ReplyArguments(**shares))  # type: ignore[arg-type]
        assert list(about.thresholds) == ["refused"]
        return round(about.thresholds["refused"], 6)

    assert threshold(["x"] * 100) == 96
    assert threshold(["x"] * 100, max_hard=0.0) == 100
    # Refused after its first sentence, whatever comes then.
    begun = [f"{'x' * (length - 2)}. !" for length in range(201, 301)]
    assert threshold(begun) == 297
    assert threshold(begun, max_ordinary=0.1) == 290


@pytest.mark.parametrize("wrong", [{"ordinary": 9}, {"max_hard": -0.1}, {"max_ordinary": 1.0}, {"rank": 0}])
def test_arguments_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} is {next(iter(wrong.values()))}; "):
        ReplyArguments(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[Reply]:
    """Let there be few replies."""
    replies = [Reply(label, f"c{number}", f"{label}, {number}") for label in ("method", FINE) for number in range(12)]
    monkeypatch.setattr(training, "read_replies", lambda name: replies)
    monkeypatch.setattr(training, "_ordinary", lambda: [f"I see. And then, {number}?" for number in range(40)])
    return replies


def test_what_was_made_is_counted(few: list[Reply]) -> None:
    classifier, made_from = train_reply_classifier(ReplyArguments(rank=2, epochs=1, ordinary=30))
    refused = classifier.about.thresholds["refused"]
    assert made_from == {
        "harmful": 10,
        "fine": 10,
        "ordinary": 20,
        "held_out": 14,
        "refused from log-odds": round(refused, 3),
    }


def test_the_recipe_trains_writes_and_measures(
    few: list[Reply], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("train_reply_classifier")
    monkeypatch.setattr(recipe, "read_replies", lambda name: few)
    path = tmp_path / "made.safetensors"
    recipe.main(["--output", str(path), "--rank", "2", "--epochs", "1", "--ordinary", "30"])
    printed = capsys.readouterr().out
    assert reply_classifier(path).about.rank == 2
    assert "harmful replies" in printed and "phrases and classifier" in printed and str(path) in printed
