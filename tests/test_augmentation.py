"""Augmentation: training rows alone, marked and counted, nothing with risk, nothing that asks a held-out question."""

from __future__ import annotations

import json
import math
import random
import re
from functools import partial

import numpy as np
import pytest
from scipy.stats import t as student
from test_card import REPORT, make_run
from training_fixtures import load_recipe, one_thread, save_model  # noqa: F401

import mh_support.augmentation_study as study_module
from mh_support import growth
from mh_support.augmentation_effects import Cell, effects, holm, measured, study_table
from mh_support.augmentation_study import StudyArguments, part_of
from mh_support.card import write_card
from mh_support.data import augmentation
from mh_support.data.augmentation import (
    augment,
    hint_at_risk_each,
    load_wordnet,
    shortened,
    synonyms,
    with_synonyms,
    without_turns,
)
from mh_support.data.preparation import DataArguments, load_prepared, originals, prepare
from mh_support.data.splitting import SPLITS
from mh_support.safety import assess


@pytest.fixture(autouse=True)
def rules_alone(monkeypatch):
    """Sentences made of syllables are nothing for a classifier to read."""
    monkeypatch.setattr(augmentation, "assess", partial(assess, classifiers=()))


NUMBERS = {"noun": (1, "n"), "verb": (2, "v"), "adj": (3, "a"), "adv": (4, "r")}
# Meanings, each with its words and how often WordNet's tagged texts use them so.
MEANINGS = {
    "noun": [
        {"sickness": 9, "unwellness": 0, "disease": 8, "malady": 1},
        {"job": 5, "task": 9},
        {"job": 5},
        {"malady": 9},
        {"apple": 3, "pome": 2},
        {"garden": 4, "kitchen_garden": 2, "plot": 7},
    ],
    "adv": [{"however": 9, "still": 9}],
}


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    """A folder in WordNet's format, as its page wndb(5WN) describes it, with the few meanings above."""
    folder = tmp_path_factory.mktemp("wordnet")
    counts = []
    for part, (number, letter) in NUMBERS.items():
        data, places = "  1 made for a test\n", {}
        for words in MEANINGS.get(part, []):
            listed = " ".join(f"{word} 0" for word in words)
            for word, count in words.items():
                places.setdefault(word, []).append(len(data))
                counts.append((f"{word}%{number}:00:00::", count)) if count else None
            data += f"{len(data):08d} 00 {letter} {len(words):02x} {listed} 000 | made\n"
        index = "".join(
            f"{word} {letter} {len(found)} 0 {len(found)} 0 {' '.join(f'{place:08d}' for place in found)}  \n"
            for word, found in sorted(places.items())
        )
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text(f"  1 made for a test\n{index}")
        (folder / f"{part}.exc").write_text("")
    # One key for a word's every meaning here, so a word of two has the counts of the first for both.
    (folder / "cntlist.rev").write_text("".join(f"{key} 1 {count}\n" for key, count in sorted(dict(counts).items())))
    return str(folder)


def said(*turns):
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]


def test_a_synonym_has_the_same_meaning_and_is_in_use(wordnet):
    found = load_wordnet(wordnet)

    assert synonyms("sickness", found) == ("disease",)  # unwellness is never used, malady mostly means something else
    assert synonyms("job", found) == ()  # one use in two means something else
    assert synonyms("apple", found) == ()  # "an apple", but "a pome"
    assert synonyms("garden", found) == ("plot",)  # a kitchen garden is two words
    assert synonyms("however", found) == ()  # holds a sentence together
    assert synonyms("unheard", found) == ()


def test_words_of_the_person_are_changed_and_nothing_else(wordnet, monkeypatch):
    monkeypatch.setattr(augmentation, "CHANGED", 1.0)
    messages = said("Sickness, my sickness! The job. SICKNESS, sickness's, non-sickness", "Your sickness sounds hard.")

    assert with_synonyms(messages, load_wordnet(wordnet), random.Random(0)) == said(
        "Disease, my disease! The job. SICKNESS, sickness's, non-sickness", "Your sickness sounds hard."
    )
    assert with_synonyms(said("The job.", "Sickness?"), load_wordnet(wordnet), random.Random(0)) is None


def test_without_wordnet_one_line_says_what_to_do(tmp_path):
    message = (
        rf"^no WordNet at {tmp_path}; on Debian run: apt-get install wordnet-base, or name its folder with --wordnet$"
    )
    with pytest.raises(ValueError, match=message):
        load_wordnet(str(tmp_path))


def test_shortening_keeps_some_sentences_in_order():
    sentences = ["My cat ran off.", "Nobody saw it!", "Where is it now?", "I called all day."]
    messages = said(" ".join(sentences), "Since when? Tell me.", "Monday.", "That is long.")
    kept = set()
    for seed in range(50):
        changed = shortened(messages, random.Random(seed))
        words = changed[0]["content"]
        assert words == " ".join(sentence for sentence in sentences if sentence in words) and words
        assert words != messages[0]["content"] and changed[1:] == messages[1:]
        kept.add(words.count(".") + words.count("!") + words.count("?"))
    assert kept == {1, 2, 3}


def test_dropping_turns_keeps_the_last_exchange():
    messages = said("one", "first", "two", "second", "three", "third")
    found = {tuple(turn["content"] for turn in without_turns(messages, random.Random(seed))) for seed in range(50)}
    assert found == {
        ("three", "third"),
        ("one", "first", "three", "third"),
        ("two", "second", "three", "third"),
    }
    assert without_turns(said("one", "first"), random.Random(0)) is None


def test_what_hints_at_risk_before_or_after_is_not_added():
    plain, risky = said("My cat ran off.", "Since when?"), said("I want to die tonight.", "Are you safe?")
    changes = [said("Cat gone.", "Since when?"), risky, None, plain]
    rewrites = iter(changes)
    found = list(
        augment(
            [plain, risky, plain, plain, plain], [False, True, False, False, False], lambda *_: next(rewrites), seed=""
        )
    )
    assert found == [(changes[0], "added"), (None, "risk"), (None, "risk"), (None, "unchanged"), (None, "unchanged")]


def test_what_was_said_once_and_answered_by_many_is_looked_at_once(monkeypatch):
    looked = []
    monkeypatch.setattr(
        augmentation, "hints_at_risk", lambda messages: bool(looked.append(messages)) or len(looked) > 1
    )
    rows = [said("My cat.", "Since when?"), said("My cat.", "Oh no."), said("My cat.", "Oh no.", "Yes.", "Hm.")]
    assert hint_at_risk_each(rows) == [False, False, True]
    assert looked == [rows[0], rows[2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, made_up):
    """Splits as prepare.py writes them: 20 training dialogues, two of them at risk, and two that are held out."""
    folder = tmp_path_factory.mktemp("prepared")
    held_out = [made_up(100), made_up(101)]
    training = [
        said(
            f"{made_up(number)} {made_up(number + 50)} The sickness {number}.",
            f"Reply {number}: {made_up(number + 200)}",
        )
        for number in range(14)
    ]
    training += [said(f"{made_up(20 + n)} {held_out[1]}", made_up(230 + n)) for n in range(4)]
    training += [
        said(f"I want to kill myself tonight. {made_up(30)} It is my sickness.", made_up(240)),
        said(f"{made_up(31)} I am an sickness to all.", made_up(241), "I want to die.", "Are you safe?"),
    ]
    splits = {"train": training, "validation": [said(held_out[0], "Yes?")], "test": [said(held_out[1], "And then?")]}
    for split, dialogues in splits.items():
        rows = "".join(json.dumps({"messages": messages}) + "\n" for messages in dialogues)
        (folder / f"{split}.jsonl").write_text(rows)
    return folder


def prepared(folder, wordnet, *methods, **changes):
    arguments = DataArguments(
        dataset_name=[str(folder)], risk_rows="keep", augment=list(methods), wordnet=wordnet, **changes
    )
    return prepare(arguments, progress=False)


def test_only_training_rows_are_added_marked_and_counted(folder, wordnet):
    plain, more = prepared(folder, wordnet), prepared(folder, wordnet, "synonyms", "shorten")

    assert plain.report.augmentation == {}
    assert all(more.splits[split] == plain.splits[split] for split in ("validation", "test"))
    assert more.splits["train"][:20] == plain.splits["train"] == originals(more.splits["train"])
    added = more.splits["train"][20:]
    counts = {method: sum(row["augmented"] == method for row in added) for method in ("synonyms", "shorten")}
    assert {method: report["added"] for method, report in more.report.augmentation.items()} == counts
    assert more.report.augmentation["synonyms"]["risk"] == more.report.augmentation["shorten"]["risk"] == 2
    for report in more.report.augmentation.values():
        assert sum(report.values()) == 20
    # Replies stay as they were written.
    replies = {row["messages"][-1]["content"] for row in plain.splits["train"]}
    assert {row["messages"][-1]["content"] for row in added} <= replies
    assert "disease" in json.dumps([row for row in added if row["augmented"] == "synonyms"])
    assert prepared(folder, wordnet, "synonyms", "shorten").splits == more.splits
    # A row has one fate, and what was added is none of the rows read.
    assert more.report.as_dict()["fates"]["kept"] == 22


def test_nothing_that_is_added_asks_a_held_out_question(folder, wordnet):
    more = prepared(folder, wordnet, "shorten")

    assert more.report.augmentation["shorten"]["leaked"] > 0
    asked = {row["messages"][0]["content"] for row in more.splits["train"]}
    held_out = {row["messages"][0]["content"] for split in SPLITS[1:] for row in more.splits[split]}
    assert not asked & held_out


def test_what_is_at_risk_is_never_among_what_was_added(folder, wordnet):
    more = prepared(folder, wordnet, "synonyms", "shorten", "drop_turns")
    text = json.dumps([row for row in more.splits["train"] if "augmented" in row])
    assert not re.search("kill myself|want to die|Are you safe", text)


def test_the_report_tells(folder, wordnet):
    more = prepared(folder, wordnet, "shorten")
    counts = more.report.augmentation["shorten"]
    printed = [" ".join(line.split()) for line in more.report.table().splitlines()]

    assert printed[-3:] == [
        f"added to train by shorten {counts['added']}",
        "not touched: a hint of risk in them 2",
        f"not added: they would ask a held-out question {counts['leaked']}",
    ]
    assert more.report.as_dict()["augmentation"] == more.report.augmentation


def test_marks_survive_writing_and_reading(folder, wordnet, tmp_path):
    more = prepared(folder, wordnet, "synonyms", "shorten")
    more.save(tmp_path / "again")

    assert load_prepared(tmp_path / "again") == more.splits
    again = prepared(tmp_path / "again", wordnet)
    # A copy has its original's reply; it is no near-duplicate to be dropped.
    assert again.splits == more.splits
    # The report still tells, and with it the card of a model that is trained on the folder.
    counts = {method: {"added": counts["added"]} for method, counts in more.report.augmentation.items()}
    assert again.report.augmentation == counts
    assert again.report.splits == more.report.splits
    with pytest.raises(
        ValueError, match=r"^the data is augmented already \(shorten, synonyms\); give the data that it was"
    ):
        prepared(tmp_path / "again", wordnet, "synonyms")


def test_a_column_of_that_name_which_means_something_else_is_left_alone(tmp_path, wordnet, made_up):
    rows = [{"messages": said(made_up(n), made_up(100 + n)), "augmented": "yes"} for n in range(20)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prepared(tmp_path / "data.jsonl", wordnet)
    assert found.report.fates["kept"] == 20 and found.report.augmentation == {}


def test_copies_are_dropped_where_rows_are_split_anew(folder, wordnet, tmp_path):
    more = prepared(folder, wordnet, "synonyms")
    more.save(tmp_path / "again")
    anew = prepared(tmp_path / "again", wordnet, shipped_splits="ignore")
    alone = prepared(tmp_path / "again" / "train.jsonl", wordnet)

    for found in (anew, alone):
        assert found.report.fates["augmented"] == more.report.augmentation["synonyms"]["added"]
        assert not [row for split in SPLITS for row in found.splits[split] if "augmented" in row]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"augment": ["synonym"]},
            r"^augment has 'synonym'; the ways are synonyms, shorten, drop_turns, paraphrase, ba",
        ),
        ({"augment": ["paraphrase"]}, r"^augmenting by paraphrase needs a model; name it with --paraphrase_model$"),
        (
            {"augment": ["back_translation"], "back_translation_models": ["one"]},
            r"^augmenting by back_translation needs two models; name them with --back_translation_models$",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**changes)


def test_models_that_are_configured_are_used(wordnet, tmp_path, tiny_tokenizer):
    from transformers import T5Config, T5ForConditionalGeneration

    end = tiny_tokenizer.eos_token_id
    ids = {"pad_token_id": end, "eos_token_id": end, "decoder_start_token_id": end}
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **ids)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tiny_tokenizer.save_pretrained(tmp_path / "t5")
    data, name = tmp_path / "data", str(tmp_path / "t5")
    data.mkdir()
    for split, texts in {
        "train": ["No one calls.", "I can't sleep."],
        "validation": ["Too much."],
        "test": ["So."],
    }.items():
        rows = "".join(json.dumps({"messages": said(text, f"Since when? {text}")}) + "\n" for text in texts)
        (data / f"{split}.jsonl").write_text(rows)
    models = {"paraphrase_model": name, "back_translation_models": [name, name]}
    more = prepared(data, wordnet, "paraphrase", "back_translation", **models)

    plain = {
        row["messages"][1]["content"]: row["messages"][0]["content"] for row in prepared(data, wordnet).splits["train"]
    }
    for method in ("paraphrase", "back_translation"):
        added = [row["messages"] for row in more.splits["train"] if row.get("augmented") == method]
        assert len(added) == more.report.augmentation[method]["added"]
        assert all(messages[0]["content"] not in ("", plain[messages[1]["content"]]) for messages in added)
    assert more.report.augmentation["paraphrase"]["added"] > 0
    assert prepared(data, wordnet, "paraphrase", "back_translation", **models).splits == more.splits
    with pytest.raises(
        ValueError, match=rf"^{data} is no sequence-to-sequence model that can be loaded; give its folder"
    ):
        prepared(data, wordnet, "paraphrase", paraphrase_model=str(data))


def test_the_card_tells_of_the_rows_that_were_added(tmp_path):
    report = REPORT | {"augmentation": {"synonyms": {"added": 1840, "risk": 70}, "drop_turns": {"added": 12}}}
    assert (
        "Rows added to training by changing what the person said in copies of other rows, replies as they were, none "
        "with a hint of risk:\n1,840 by synonyms, 12 by drop turns.\n"
    ) in write_card(make_run(tmp_path, report=report), "me/kind")


# What it buys.


def cell(nats, replies, added=5):
    """A cell of a question an item, with ten tokens each."""
    return Cell(20 + added, added, np.array([[nat, 10.0, 40.0] for nat in nats]), replies)


WORDY = ["so so so", "oh oh oh", "so so so", "oh oh oh"]
VARIED = ["a b c", "d e f", "g h i", "j k l"]


def line(share, method, *cells):
    return measured(share, method, cells, ["a", "b", "c", "d"])


def test_effects_by_hand():
    # Nats a token: 2.4 and 2.6 without additions, 1.4 and 1.6 with them; the variance between two seeds is 0.02 each.
    plain = line(10, "none", cell([19.0, 29, 19, 29], WORDY, 0), cell([21.0, 31, 21, 31], WORDY, 0))
    better = line(10, "shorten", cell([9.0, 19, 9, 19], VARIED), cell([11.0, 21, 11, 21], VARIED))
    none, row = effects([plain, better])

    assert (none["perplexity"]["value"], none["minus_none"], none["verdict"]) == (
        pytest.approx(math.exp(2.5), abs=1e-3),
        None,
        None,
    )
    assert row["perplexity"]["value"] == pytest.approx(math.exp(1.5), abs=1e-3)
    # Each question's difference is the same, so what is left is seeds': two lines of two seeds, 2 * 0.02 / 2 and two
    # degrees of freedom, whose quantile is 4.303.
    ends = [math.exp(2.5) * math.expm1(-1 + sign * 4.3027 * math.sqrt(0.02)) for sign in (-1, 1)]
    assert row["minus_none"]["value"] == pytest.approx(math.exp(1.5) - math.exp(2.5), abs=1e-3)
    assert row["minus_none"]["ci95"] == pytest.approx(ends, abs=1e-2)
    assert row["minus_none"]["p"] == pytest.approx(2 * student.sf(1 / math.sqrt(0.02), 2))
    by_seed = [math.exp(1.4) - math.exp(2.4), math.exp(1.6) - math.exp(2.6)]
    assert row["minus_none"]["by_seed"] == pytest.approx(by_seed)
    # A line of its own has four questions, 1.0 and 2.0 in turn without their mean: 1 / 12 over them.
    margin, freedom = 1 / 12 + 0.01, (1 / 12 + 0.01) ** 2 / ((1 / 12) ** 2 / 3 + 0.01**2 / 2)
    margin = student.ppf(0.975, freedom) * math.sqrt(margin)
    assert row["perplexity"]["ci95"] == pytest.approx([math.exp(1.5 - margin), math.exp(1.5 + margin)], abs=1e-2)
    # Eight pairs of words, all different; of the others two.
    assert (row["distinct2"]["value"], row["distinct2_minus_none"]["value"]) == (1.0, 0.75)
    # Holm corrects for both scores of the table's one line.
    assert row["minus_none"]["p_holm"] == pytest.approx(row["minus_none"]["p"])
    assert row["distinct2_minus_none"]["p_holm"] == pytest.approx(2 * row["distinct2_minus_none"]["p"])
    assert row["verdict"] == {"perplexity": "helps", "diversity": "helps"}


def test_worse_is_told_from_better_and_from_unknown():
    # Seeds that differ by nothing leave no doubt in which direction.
    high, low = [cell([20.0, 30, 20, 30], VARIED)] * 2, [cell([10.0, 20, 10, 20], WORDY)] * 2
    plain = [cell([15.0, 25, 15, 25], WORDY, 0)] * 2
    nothing = line(10, "drop_turns", *plain)
    rows = effects([line(10, "none", *plain), line(10, "shorten", *high), line(10, "synonyms", *low), nothing])
    assert [row["verdict"] for row in rows] == [
        None,
        {"perplexity": "hurts", "diversity": "helps"},
        {"perplexity": "helps", "diversity": "no difference seen"},
        None,
    ]
    # One seed a line, or one question, says nothing of chance.
    (_, alone) = effects([line(10, "none", plain[0]), line(10, "shorten", low[0])])
    one = [Cell(20, added, np.array([[nats, 10.0, 40.0]]), ["so"]) for nats, added in ((20.0, 0), (10.0, 5))]
    (_, single) = effects(
        [measured(10, name, [each] * 2, ["a"]) for name, each in zip(("none", "x"), one, strict=True)]
    )
    for row in (alone, single):
        assert row["verdict"] == {"perplexity": "no difference seen", "diversity": "no difference seen"}
        assert row["minus_none"]["ci95"] is None and row["minus_none"]["p_holm"] is None
    printed = study_table({"rows": rows})
    assert re.search(r"^10 % +drop_turns .* adds nothing ", printed, flags=re.MULTILINE)
    assert printed.endswith("Not seen to help perplexity here: shorten at 10 %; drop_turns at 10 %.")


def test_holms_correction_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    for p_values in ([0.01, 0.04, 0.03], [0.5, 0.001, 0.001, 0.6, 0.9], [1.0], []):
        expected = multipletests(p_values, method="holm")[1] if p_values else []
        assert holm(p_values) == pytest.approx(list(expected))


def drawn_table(generator, effect=0.0, questions=16):
    """Six lines of two seeds: a way changes each question by `effect` and 0.02 of noise, a seed all of them by 0.01."""
    tokens, nats = generator.integers(30, 300, size=questions), generator.normal(5, 0.5, size=questions)
    lines = []
    for share in (10, 30):
        for method in ("none", "shorten", "growth"):
            added = 0 if method == "none" else 9
            changed = nats + (generator.normal(effect, 0.02, size=questions) if added else 0)
            cells = []
            for _ in range(2):
                found = (changed + generator.normal(0, 0.01) + generator.normal(0, 0.02, size=questions)) * tokens
                replies = [" ".join(map(str, row)) for row in generator.integers(0, 9, size=(questions, 6))]
                cells.append(Cell(100, added, np.column_stack([found, tokens, tokens]), replies))
            lines.append(measured(share, method, cells, [str(number) for number in range(questions)]))
    return effects(lines)


def test_of_tables_without_an_effect_one_in_twenty_at_most_says_that_there_is_one():
    generator = np.random.default_rng(4)
    tables = [[row for row in drawn_table(generator) if row["verdict"]] for _ in range(200)]

    wrong = [rows for rows in tables if any(set(row["verdict"].values()) != {"no difference seen"} for row in rows)]
    assert len(wrong) <= 10
    # Each interval by itself covers 0 as often as it says, and is not simply wide.
    covered = np.mean(
        [row["minus_none"]["ci95"][0] < 0 < row["minus_none"]["ci95"][1] for rows in tables for row in rows]
    )
    assert 0.92 < covered < 0.98
    found = [row for row in drawn_table(generator, effect=-0.1) if row["verdict"]]
    assert [row["verdict"]["perplexity"] for row in found] == ["helps"] * 4


def test_a_part_is_of_whole_questions_and_within_a_larger_part(made_up):
    rows = [{"messages": said(made_up(n // 2), made_up(100 + n))} for n in range(40)]
    parts = [part_of(rows, share, seed=1) for share in (10, 30, 100)]

    assert [len(part) for part in parts] == [4, 12, 40]
    assert parts[2] == rows and all(row in parts[1] for row in parts[0])
    assert len({row["messages"][0]["content"] for row in parts[0]}) == 2


def test_the_table_compares_on_the_same_steps_and_goes_on_where_it_was_stopped(
    folder, tmp_path, tiny_tokenizer, capsys, monkeypatch
):
    recipe = load_recipe("compare_augmentation")
    model = save_model(tmp_path / "model", tiny_tokenizer, n_positions=512)
    (tmp_path / "more.csv").write_text("Context\nMy parcel never came\nOur hedge has grown\n")
    home = tmp_path / "study"
    arguments = ["--data", str(folder), "--model", str(model), "--methods", "shorten", "drop_turns", "growth"]
    arguments += ["--shares", "100", "--seeds", "2", "--limit", "1", "--max_steps", "2", "--max_new_tokens", "4"]
    arguments += ["--unlabelled", str(tmp_path / "more.csv"), "--output_dir", str(home)]

    # A model of random weights never says anything that is fit to be kept: here it does.
    def answers(model, tokenizer, contexts, *given):
        return [growth._Answer(f"Tell me {place} of it", "kept", 1.0) for place, _ in enumerate(contexts)]

    monkeypatch.setattr(growth, "_answers", answers)
    stopped = study_module._Study._scores

    def interrupted(self, run, place):
        if place.name == "shorten-100-43.json":
            raise KeyboardInterrupt
        return stopped(self, run, place)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(study_module._Study, "_scores", interrupted)
        recipe.main(arguments)
    assert [row["method"] for row in json.loads((home / "study.json").read_text())["rows"]] == ["none"]
    kept = {path.name: path.stat().st_mtime_ns for path in (home / "cells").iterdir()}
    assert sorted(kept) == ["none-100-42.json", "none-100-43.json", "shorten-100-42.json"]
    capsys.readouterr()
    recipe.main(arguments)
    printed = capsys.readouterr().out
    result = json.loads((home / "study.json").read_text())

    assert {name: (home / "cells" / name).stat().st_mtime_ns for name in kept} == kept
    plain, shorter, fewer, grown = result["rows"]
    assert (plain["method"], plain["dialogues"], plain["added"], plain["minus_none"]) == ("none", 18, 0, None)
    assert shorter["dialogues"] == 18 + shorter["added"] and shorter["added"] > 0
    difference = shorter["perplexity"]["value"] - plain["perplexity"]["value"]
    assert shorter["minus_none"]["value"] == pytest.approx(difference, abs=1e-3)
    assert len(shorter["minus_none"]["by_seed"]) == 2
    # Nothing here has a second exchange to drop, so nothing is trained for it.
    assert (fewer["added"], fewer["verdict"]) == (0, None)
    assert not (home / "drop_turns-100-42").exists()
    assert grown["added"] == 2
    rows = load_prepared(home / "data" / "growth-42-100")["train"]
    assert [row["messages"][0]["content"] for row in rows if row.get("augmented") == "growth"] == [
        "My parcel never came",
        "Our hedge has grown",
    ]
    assert re.search(r"^100 % +none +18 +0 ", printed, flags=re.MULTILINE)
    assert re.search(r"^100 % +drop_turns .* adds nothing ", printed, flags=re.MULTILINE)
    runs = [f"{method}-100-{seed}" for method in ("none", "shorten", "growth") for seed in (42, 43)]
    assert [json.loads((home / run / "run.json").read_text())["training"]["global_step"] for run in runs] == [2] * 6
    with pytest.raises(
        ValueError, match=r"study was begun with other arguments; go on with the same, or give a new --o"
    ):
        recipe.main([*arguments, "--max_steps", "3"])


def test_the_study_says_what_it_cannot_do(tmp_path):
    recipe = load_recipe("compare_augmentation")
    with pytest.raises(
        ValueError, match=r"^the ways of augmentation are given with --methods here; leave out --augment and --grow$"
    ):
        recipe.main(["--augment", "shorten", "--output_dir", str(tmp_path)])
    with pytest.raises(ValueError, match=r"^augmenting by paraphrase needs a model; name it with --paraphrase_model$"):
        recipe.main(["--methods", "paraphrase", "--output_dir", str(tmp_path)])
    with pytest.raises(
        ValueError, match=r"^methods has 'x'; the ways are synonyms, shorten, drop_turns, paraphrase, bac"
    ):
        StudyArguments(methods=["x"])
    with pytest.raises(ValueError, match=r"^shares has 0; give percent from 1 to 100$"):
        StudyArguments(shares=[0])
    with pytest.raises(ValueError, match=r"^seeds is 0; give 1 or more$"):
        StudyArguments(seeds=0)
