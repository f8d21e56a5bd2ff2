"""Growing training data: every context has one fate, nothing unsafe or held out gets in, what is grown is marked."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from test_card import REPORT, make_run
from training_fixtures import load_recipe, one_thread, save_model, train, write_csv  # noqa: F401

import mh_support.growth as growth
from mh_support.card import write_card
from mh_support.data.contexts import made_ready, read_contexts
from mh_support.data.grown import grower, held_out_fingerprint, is_grower, read_grown
from mh_support.data.preparation import DataArguments, load_prepared, originals, prepare
from mh_support.dialogue import encode_reply
from mh_support.generation import GeneratedReply
from mh_support.growth import FATES, GrowthRule, grow, likelihoods
from mh_support.metrics.perplexity.perplexity import item_statistics
from mh_support.modeling import load_model, load_tokenizer, weights_fingerprint
from mh_support.safety.echoes import Echoes

ASKED = ["My parcel never came", "The choir sings without me", "Our hedge has grown too high"]


def said(*turns):
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_tokenizer):
    """A tiny run, and the file that it was tuned on."""
    home = tmp_path_factory.mktemp("home")
    base = save_model(home / "tiny", tiny_tokenizer, n_positions=160)
    train(home / "run", base, write_csv(home / "talk.csv"), max_steps=4, eval_steps=4, save_steps=4, sample_replies=0)
    return home


@pytest.fixture
def run(home):
    from mh_support.run_folder import RunFolder

    return RunFolder(home / "run")


@pytest.fixture(autouse=True)
def no_risk_in_syllables(monkeypatch):
    """A classifier reads danger into few words about nothing; the rules are enough here."""
    from functools import partial

    from mh_support.data import augmentation
    from mh_support.safety import assess

    monkeypatch.setattr(augmentation, "assess", partial(assess, classifiers=()))


@pytest.fixture
def answering(monkeypatch):
    """Return a function that sets what the model answers to each context, as many tries as there are texts."""

    def set_answers(answers: dict[str, list[str | GeneratedReply]]) -> None:
        def replies(model, tokenizer, conversations, config, **options):
            turns = {text: iter(texts) for text, texts in answers.items()}
            given = [next(turns[messages[-1]["content"]]) for messages in conversations]
            return [text if isinstance(text, GeneratedReply) else GeneratedReply(text, True) for text in given]

        monkeypatch.setattr(growth, "generate_replies", replies)

    return set_answers


@pytest.fixture
def liked(monkeypatch):
    """Let every reply be likely, with the gain that is its number of words; the threshold is three words."""

    def measured(model, tokenizer, contexts, replies, **options):
        import numpy as np

        words = np.array([float(len(reply.split())) for reply in replies])
        return np.where(["unlikely" in reply for reply in replies], -9.0, -1.0), words

    monkeypatch.setattr(growth, "likelihoods", measured)
    monkeypatch.setattr(growth, "_threshold", lambda *given: growth.Threshold(-2.0, 3.0))


def contexts(*texts):
    return [said(text) for text in texts]


# What is answered.


def test_every_context_has_one_fate(run, answering, liked):
    splits = load_prepared(run.data)
    test, training = (splits[name][0]["messages"][0]["content"] for name in ("test", "train"))
    given = contexts(
        *(
            ASKED[0],
            "",
            test.upper(),
            training,
            f"{ASKED[0]}!",
            "I want to kill myself tonight",
            "word " * 200,
            ASKED[1],
        )
    )
    answering({ASKED[0]: ["Since when do you wait?"], ASKED[1]: ["That sounds rather lonely."]})
    grown = grow(run, given, GrowthRule(tries=1), progress=False)

    assert grown.fates == ["kept", "empty", "held_out", "known", "repeat", "risk", "too_long", "kept"]
    assert [row["messages"] for row in grown.rows] == [
        said(ASKED[0], "Since when do you wait?"),
        said(ASKED[1], "That sounds rather lonely."),
    ]
    counted = grown.as_dict([("a.csv", number) for number in range(1, 9)])
    assert sum(counted["fates"].values()) == counted["contexts"] == 8
    assert counted["each"][2] == {"source": "a.csv", "row": 3, "fate": "held_out"}
    assert ASKED[0] not in json.dumps(counted) and ASKED[0] not in repr(grown)


def test_a_context_is_scrubbed_and_ends_with_the_person(run, answering, liked):
    talk = [{"role": "assistant", "content": "Welcome."}]
    talk += said("Hm", "Yes?", "My parcel never came. Write to me at ann@example.org.", "")
    asked = made_ready(talk)
    assert [turn["role"] for turn in asked] == ["user", "assistant", "user"]
    assert "ann@example.org" not in json.dumps(asked)
    assert made_ready([*said("Hm", "Yes?")]) == []


def test_so_many_are_answered_and_the_same_each_time(run, answering, liked):
    answering({text: ["Since when do you wait?", "That sounds rather lonely."] for text in ASKED})
    first, second = (grow(run, contexts(*ASKED), GrowthRule(max_contexts=1), progress=False) for _ in range(2))
    assert Counter(first.fates) == {"surplus": 2, "kept": 1}
    assert (first.fates, first.rows) == (second.fates, second.rows)


# What is kept of the answers.


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (GeneratedReply("Since when do you wait", False), "unfinished"),
        ("You have depression, I am sure.", "unsafe"),
        ("Call them if it is good to end your life.", "unsafe"),
        ("", "unsafe"),
        ("Tell me of it and tell me of it and so on.", "repetition"),
        ("This is quite unlikely of you.", "unlikely"),
        ("I see.", "generic"),
        ("Since when do you wait?", "kept"),
    ],
)
def test_an_answer_goes_for_the_first_thing_that_is_wrong_with_it(run, answering, liked, answer, fate):
    answering({ASKED[0]: [answer]})
    grown = grow(run, contexts(ASKED[0]), GrowthRule(tries=1), progress=False)
    assert grown.fates == [fate]
    assert len(grown.rows) == (fate == "kept")


def test_what_repeats_the_training_text_is_an_echo():
    read = "My sister drove all the way from Leeds with the cat on her lap."
    assert growth._fate(
        "Your sister drove all the way from Leeds with the cat on her lap!", True, Echoes.of([read])
    ) == ("echo")


def test_of_several_answers_the_one_that_fits_best_is_kept(run, answering, liked):
    answering(
        {
            ASKED[0]: ["You have depression, I am sure.", "Since when do you wait?", "Since when do you wait for it?"],
            ASKED[1]: ["", "I see.", GeneratedReply("Oh", False)],
        }
    )
    grown = grow(run, contexts(*ASKED[:2]), GrowthRule(tries=3), progress=False)
    assert grown.fates == ["kept", "generic"]  # Of those that fail, the one that came furthest.
    assert grown.rows[0]["messages"][-1]["content"] == "Since when do you wait for it?"


def test_one_reply_to_everything_is_kept_once(run, answering, liked):
    answering({text: ["What would you like to do about it?"] for text in ASKED})
    grown = grow(run, contexts(*ASKED), GrowthRule(tries=1), progress=False)
    assert grown.fates == ["kept", "same_reply", "same_reply"]


# The threshold.


def test_likelihood_is_by_the_token_and_gain_is_what_the_context_brings(tiny_model, tiny_tokenizer):
    replies = ["That sounds lonely.", "Oh."]
    context = said("I feel alone.")
    likelihood, gain = likelihoods(tiny_model, tiny_tokenizer, [context] * 2, replies)
    for number, text in enumerate(replies):
        told, untold = (
            item_statistics(
                tiny_model,
                [encode_reply(tiny_tokenizer, [{"role": "user", "content": user}, *said("", text)[1:]])],
                pad_token_id=tiny_tokenizer.pad_token_id,
            )[0]
            for user in ("I feel alone.", "")
        )
        assert likelihood[number] == pytest.approx(-told[0] / told[1])
        assert gain[number] == pytest.approx(-told[0] / told[1] + untold[0] / untold[1])


def test_the_threshold_is_that_of_the_stated_share_of_its_own_answers(run, monkeypatch):
    """What the model says to the validation contexts is what its other answers are held against."""
    model, tokenizer = load_model(str(run.model)), load_tokenizer(str(run.model))
    validation = load_prepared(run.data)["validation"]
    said: list[tuple[list[dict[str, str]], str]] = []

    def replies(model, tokenizer, conversations, config, **options):
        texts = [f"Tell me of number {place}" for place in range(len(conversations))]
        texts[0] = ""  # What says nothing tells nothing.
        said[:] = list(zip(conversations, texts, strict=True))[1:]
        return [GeneratedReply(text, True) for text in texts]

    monkeypatch.setattr(growth, "generate_replies", replies)
    found = {
        share: growth._threshold(model, tokenizer, validation, GrowthRule(share=share), False) for share in (0, 0.5, 1)
    }
    asked = {messages[0]["content"] for messages, _ in said}
    assert asked < {row["messages"][0]["content"] for row in validation}
    likelihood, gain = likelihoods(model, tokenizer, [messages for messages, _ in said], [text for _, text in said])
    assert (found[0].likelihood, found[0].gain) == pytest.approx((likelihood.min(), gain.min()), rel=1e-4)
    assert (found[1].likelihood, found[1].gain) == pytest.approx((likelihood.max(), gain.max()), rel=1e-4)
    assert found[0].likelihood <= found[0.5].likelihood <= found[1].likelihood
    monkeypatch.setattr(growth, "generate_replies", lambda *given, **more: [GeneratedReply("", True)] * len(given[2]))
    with pytest.raises(
        ValueError, match=r"^the model says nothing to any of 3 validation contexts, so its answers can"
    ):
        growth._threshold(model, tokenizer, validation, GrowthRule(), False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.5}, r"^share is 1.5; give a share from 0 to 1, such as 0.5$"),
        ({"tries": 0}, r"^tries is 0; give 1"),
    ],
)
def test_bad_rules(changes, message):
    with pytest.raises(ValueError, match=message):
        GrowthRule(**changes)


# From a file of questions to training rows.


@pytest.fixture
def grown_file(home, run, tmp_path, answering, liked):
    """What the recipe writes for a CSV that has no replies."""
    answering({text: ["Since when do you wait?" if text == ASKED[0] else f"So {text.lower()}?"] * 2 for text in ASKED})
    (tmp_path / "questions.csv").write_text("Context\n" + "\n".join(ASKED) + "\n")
    load_recipe("grow").main(
        [str(run.path), "--contexts", str(tmp_path / "questions.csv"), "--output", str(tmp_path / "grown.jsonl")]
    )
    return tmp_path / "grown.jsonl"


def test_the_recipe_writes_marked_rows_and_tells_every_fate(grown_file, run, capsys):
    rows = [json.loads(line) for line in grown_file.read_text().splitlines()]
    model = f"tiny@{weights_fingerprint(run.model)[:12]}"
    assert [row["messages"][0]["content"] for row in rows] == ASKED
    assert {(row["augmented"], row["grown_by"]) for row in rows} == {("growth", model)}
    report = json.loads(grown_file.with_suffix(".report.json").read_text())
    assert report["fates"] == {"kept": 3} and report["threshold"] == {"likelihood": -2.0, "gain": 3.0}
    assert report["each"][0] == {"source": "questions.csv", "row": 1, "fate": "kept"}
    with pytest.raises(ValueError, match=r"grown\.jsonl is there already; give --output a new file$"):
        load_recipe("grow").main([str(run.path), "--contexts", "x.csv", "--output", str(grown_file)])
    with pytest.raises(ValueError, match=r"^output is grown\.csv; give a name that ends in \.jsonl$"):
        load_recipe("grow").main([str(run.path), "--contexts", "x.csv", "--output", "grown.csv"])


def test_grown_rows_are_training_rows_marked_and_counted(home, run, grown_file, tmp_path):
    plain = prepare(DataArguments(dataset_name=[str(home / "talk.csv")]), progress=False)
    more = prepare(DataArguments(dataset_name=[str(home / "talk.csv")], grow=[str(grown_file)]), progress=False)

    assert plain.report.growth == {} and DataArguments().grow == []
    assert all(more.splits[split] == plain.splits[split] for split in ("validation", "test"))
    added = more.splits["train"][len(plain.splits["train"]) :]
    model = f"tiny@{weights_fingerprint(run.model)[:12]}"
    assert [row["messages"][0]["content"] for row in added] == ASKED
    assert {(row["augmented"], row["grown_by"]) for row in added} == {("growth", model)}
    assert originals(more.splits["train"]) == plain.splits["train"]
    assert more.report.growth == {model: {"added": 3, "leaked": 0, "repeated": 0}}
    assert re.search(rf"^added to train, replies grown by {model} +3$", more.report.table(), flags=re.MULTILINE)

    # The marks survive writing and reading, and with them the report; where rows are split anew, grown ones go.
    more.save(tmp_path / "again")
    again = prepare(DataArguments(dataset_name=[str(tmp_path / "again")]), progress=False)
    assert again.splits == more.splits and again.report.growth == {model: {"added": 3}}
    anew = prepare(DataArguments(dataset_name=[str(tmp_path / "again")], shipped_splits="ignore"), progress=False)
    assert anew.report.fates["augmented"] == 3
    with pytest.raises(ValueError, match=rf"^the data is grown already \(by {model}\); give the data without it, or"):
        prepare(DataArguments(dataset_name=[str(tmp_path / "again")], grow=[str(grown_file)]), progress=False)


def test_what_asks_a_held_out_question_or_comes_twice_stays_out(home, grown_file):
    splits = prepare(DataArguments(dataset_name=[str(home / "talk.csv")]), progress=False).splits
    rows = [json.loads(line) for line in grown_file.read_text().splitlines()]
    rows[1]["messages"][0]["content"] = splits["test"][0]["messages"][0]["content"]
    grown_file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    more = prepare(DataArguments(dataset_name=[str(home / "talk.csv")], grow=[str(grown_file)]), progress=False)
    assert list(more.report.growth.values()) == [{"added": 2, "leaked": 1, "repeated": 1}]


def test_rows_grown_on_other_splits_are_refused(home, grown_file, tmp_path):
    other = DataArguments(dataset_name=[str(home / "talk.csv")], grow=[str(grown_file)], split_seed=7)
    with pytest.raises(ValueError, match=r"grown\.jsonl was grown by a model that was tuned on other splits, and may"):
        prepare(other, progress=False)
    with pytest.raises(
        ValueError, match=r"^no grown dialogues at missing\.jsonl; write them with recipes/grow\.py RUN"
    ):
        prepare(DataArguments(dataset_name=[str(home / "talk.csv")], grow=["missing.jsonl"]), progress=False)
    (tmp_path / "plain.jsonl").write_text(json.dumps({"messages": said("So", "Yes?")}) + "\n")
    with pytest.raises(
        ValueError, match=r"plain\.jsonl line 1 is no grown dialogue; write the file anew with recipes/"
    ):
        read_grown(tmp_path / "plain.jsonl", "0" * 16)


def test_splits_are_told_apart_by_the_questions_they_hold_out():
    rows = [{"messages": said(text, "Yes?")} for text in ASKED]
    one = {"train": rows[:1], "validation": rows[1:2], "test": rows[2:]}
    assert held_out_fingerprint(one) == held_out_fingerprint({**one, "train": []})
    assert held_out_fingerprint(one) != held_out_fingerprint({**one, "test": rows[:1]})


@pytest.mark.parametrize(
    ("name", "right"), [("me/kind@cd837e36cd6d", True), ("<b>x</b>@cd837e36cd6d", False), (3, False)]
)
def test_what_may_stand_on_a_card_as_a_model(name, right):
    assert is_grower(name) is right


def test_a_model_in_a_folder_of_any_name_has_a_name_that_is_read_again():
    assert grower("my <kind> model", "cd837e36cd6d97f6") == "my__kind__model@cd837e36cd6d"
    assert is_grower(grower("my <kind> model", "cd837e36cd6d97f6"))


def test_contexts_are_read_from_columns_without_replies_and_from_dialogues(tmp_path):
    (tmp_path / "a.csv").write_text("id,Question\n1,My cat\n2,\n")
    rows = [{"messages": said("My dog", "Yes?", "It barks", "I see.")}, {"messages": said("", "Hm?")}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.csv").write_text("words\nMy owl\n")
    found, places = read_contexts([str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl")])
    assert [[turn["content"] for turn in messages] for messages in found] == [
        *(["My cat"], [""], ["My dog", "Yes?", "It barks"], [""])
    ]
    assert places == [("a.csv", 1), ("a.csv", 2), ("b.jsonl", 1), ("b.jsonl", 2)]
    assert read_contexts([str(tmp_path / "c.csv")], context_column="words")[0] == [said("My owl")]
    with pytest.raises(ValueError, match=r"^c\.csv has no column said; its columns are words$"):
        read_contexts([str(tmp_path / "c.csv")], context_column="said")
    with pytest.raises(ValueError, match=r"^c\.csv has the columns words; expected Context and Response, prompt and"):
        read_contexts([str(tmp_path / "c.csv")])


def test_a_model_grows_and_a_model_is_tuned_on_it(home, run, tmp_path):
    """The whole way, with a model that really answers: whatever it says, the fates add up and the rows are whole."""
    given = contexts(*ASKED)
    grown = grow(run, given, GrowthRule(tries=2, max_new_tokens=8, share=0.0), progress=False)
    assert len(grown.fates) == 3 and set(grown.fates) <= set(FATES)
    assert len(grown.rows) == grown.fates.count("kept")
    grown.save(tmp_path / "grown.jsonl", [("a", 1), ("a", 2), ("a", 3)])
    assert grown.table().splitlines()[0].split()[:2] == ["grown", "by"]


def test_the_card_says_how_many_rows_were_grown_by_which_model(tmp_path):
    report = REPORT | {
        "growth": {"starter@cd837e36cd6d": {"added": 1312, "leaked": 3}, "me/kind@0123456789ab": {"added": 4}}
    }
    card = write_card(make_run(tmp_path, report=report), "me/kind")
    assert (
        "Rows grown, whose replies nobody wrote or read: contexts without a reply were answered by an earlier" in card
    )
    assert (
        "\n1,312 by starter@cd837e36cd6d, 4 by me/kind@0123456789ab (its base, and the beginning of its weights'"
        " fingerprint).\n" in card
    )
    assert "Rows grown" not in write_card(make_run(tmp_path / "plain"), "me/kind")
