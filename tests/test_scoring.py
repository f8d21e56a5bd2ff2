"""Scores of a finished run: every number where it belongs, the same each time, and nothing stale scored."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training_fixtures import dialogues, load_recipe, one_thread, save_model, train, write_csv  # noqa: F401

from mh_support.baselines import CONSTANT_REPLY, human_replies, nearest_replies, random_replies, scored_items
from mh_support.data.preparation import data_fingerprint, load_prepared
from mh_support.files import read_json
from mh_support.generation import generate_replies, generation_config
from mh_support.metrics import Bleu, Diversity, Rouge, bootstrap_interval, rouge, wilson_interval
from mh_support.modeling import load_model, load_tokenizer, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.scores import METRICS
from mh_support.scoring import ScoringArguments, results_table, score_run

QUICK: dict[str, Any] = {"max_new_tokens": 12, "n_resamples": 50}
OVERLAP = ["rouge1", "rouge2", "rougeL", "bleu", "bleu2"]
VARIETY = ["distinct1", "distinct2", "length", "repetition"]
MODEL = ["perplexity", "bits_per_byte", *OVERLAP, "distinct1", "distinct2", "length", "stop_rate", "repetition"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_tokenizer):
    """A saved model, the dialogues, and a finished run, not scored; leave them as they are."""
    home = tmp_path_factory.mktemp("scoring")
    train(home / "run", save_model(home / "tiny", tiny_tokenizer), write_csv(home / "talk.csv"), sample_replies=0)
    return home


@pytest.fixture(scope="module")
def scored(home):
    """The run, a copy of it scored, and its results."""
    shutil.copytree(home / "run", home / "scored")
    run = RunFolder.open(home / "scored")
    return run, score_run(run, ScoringArguments(**QUICK), progress=False)


@pytest.fixture
def run(home, tmp_path):
    """A copy of the finished run, to be changed."""
    return RunFolder(shutil.copytree(home / "run", tmp_path / "run"))


def replies_of(run: RunFolder, split: str) -> list[dict[str, Any]]:
    lines = run.replies_file.read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def approx(value: float):
    """Return what a score that was rounded to six decimals is to be equal to."""
    return pytest.approx(value, abs=6e-7)


# --- results.json -----------------------------------------------------------------------------------------------------


def test_results_are_written_as_they_are_returned(scored):
    run, results = scored
    assert read_json(run.results_file) == results
    assert list(results) == ["weights", "data", "leakage", "settings", "splits", "gain", "memorisation"]
    assert results["weights"] == weights_fingerprint(run.model) == run.record()["fingerprints"]["weights"]
    assert results["data"] == data_fingerprint(run.data)
    assert results["leakage"] == {"checked": True, "shared_questions": 0}


def test_settings_say_how_it_was_scored(scored):
    settings = scored[1]["settings"]
    signature = settings.pop("bleu_signature")
    assert signature.startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert settings == {
        "limit": None,
        "seed": 42,
        "batch_size": 64,
        "max_new_tokens": 12,
        "decoding": "do_sample=True, temperature=0.7, top_p=0.9, repetition_penalty=1.1",
        "intervals": "95 %: bootstrap by question (50 resamples), Wilson for the stop rate, jackknife for distinct-n",
        "human_items": 3,
    }


def test_every_row_has_its_metrics_in_order(scored):
    _, results = scored
    assert list(results["splits"]) == ["test", "train"]
    for split in results["splits"].values():
        # Three questions with two answers each.
        assert (split["items"], split["references"]) == (3, 6)
        assert list(split["rows"]) == ["base", "tuned", "constant", "random", "nearest", "human"]
        metrics = {row: list(scores) for row, scores in split["rows"].items()}
        order = [metric.key for metric in METRICS]
        assert metrics["base"] == metrics["tuned"] == order
        for row in ("constant", "random", "nearest", "human"):
            assert metrics[row] == [key for key in order if key in OVERLAP + VARIETY]


def test_every_score_is_a_number_with_an_interval_around_it(scored):
    _, results = scored
    for split in results["splits"].values():
        for scores in split["rows"].values():
            for key, score in scores.items():
                assert list(score) == ["value", "ci95"]
                low, high = score["ci95"]
                assert math.isfinite(score["value"])
                assert low <= high
                if key not in ("perplexity", "bits_per_byte", "length"):
                    assert 0 <= low <= high <= 1
                    assert 0 <= score["value"] <= 1
            if "perplexity" in scores:
                assert scores["perplexity"]["value"] > 1


def test_the_file_is_json_that_any_reader_takes(scored):
    text = scored[0].results_file.read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def items(scored):
    return scored_items(load_prepared(scored[0].data)["test"])


@pytest.mark.parametrize("row", ["base", "tuned"])
def test_perplexity_is_that_of_every_human_reply_worked_out_token_by_token(scored, items, home, row):
    run, results = scored
    folder = home / "tiny" if row == "base" else run.model
    model, tokenizer = load_model(str(folder)).eval(), load_tokenizer(str(folder))
    end = tokenizer.eos_token_id
    nats = tokens = letters = 0
    for item in items:
        for reference in item.references:
            context = [token for turn in item.context for token in [*tokenizer(turn["content"])["input_ids"], end]]
            reply = [*tokenizer(reference)["input_ids"], end]
            with torch.no_grad():
                likelihood = model(torch.tensor([context + reply])).logits[0].log_softmax(-1)
            for place, token in enumerate(reply, len(context)):
                nats -= likelihood[place - 1, token].item()
                tokens += 1
            letters += len(reference.encode())
    assert tokens > 60
    scores = results["splits"]["test"]["rows"][row]
    assert scores["perplexity"]["value"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert scores["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / letters, rel=1e-5)


def test_training_shows_in_the_perplexity(scored):
    rows = scored[1]["splits"]["test"]["rows"]
    assert rows["tuned"]["perplexity"]["value"] < 0.9 * rows["base"]["perplexity"]["value"]


@pytest.mark.parametrize("row", ["base", "tuned", "constant", "random", "nearest"])
@pytest.mark.parametrize("split", ["test", "train"])
def test_overlap_and_variety_are_what_the_metrics_give_for_the_replies(scored, split, row):
    run, results = scored
    rows = replies_of(run, split)
    replies = [each["replies"][row] for each in rows]
    references = [each["references"] for each in rows]
    scores = results["splits"][split]["rows"][row]
    memory = {"keep_in_memory": True}
    expected = {
        **Rouge(**memory).compute(predictions=replies, references=references),
        **Bleu(**memory).compute(predictions=replies, references=references),
        **Diversity(**memory).compute(predictions=replies),
    }
    assert {key: scores[key]["value"] for key in expected} == {key: approx(value) for key, value in expected.items()}


def test_the_baselines_replies_are_theirs(scored, items):
    run, _ = scored
    training = scored_items(load_prepared(run.data)["train"])
    rows = replies_of(run, "test")
    assert [row["replies"]["constant"] for row in rows] == [CONSTANT_REPLY] * 3
    assert [row["replies"]["random"] for row in rows] == random_replies(items, training, seed=42)
    assert [row["replies"]["nearest"] for row in rows] == nearest_replies(items, training)


def test_the_models_replies_are_generated_as_published(scored, items, home):
    run, results = scored
    for row, folder in (("base", home / "tiny"), ("tuned", run.model)):
        model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
        config = generation_config(tokenizer, max_new_tokens=12)
        replies = generate_replies(model, tokenizer, [item.context for item in items], config, seed=42)
        assert [each["replies"][row] for each in replies_of(run, "test")] == [reply.text for reply in replies]
        stopped = sum(reply.stopped for reply in replies)
        rate = results["splits"]["test"]["rows"][row]["stop_rate"]
        assert rate["value"] == approx(stopped / 3)
        assert rate["ci95"] == [approx(end) for end in wilson_interval(stopped, 3)]


def test_people_are_scored_against_each_other(scored, items):
    pairs = human_replies(items, seed=42)
    replies, others = [reply for reply, _ in pairs], [references for _, references in pairs]
    human = scored[1]["splits"]["test"]["rows"]["human"]
    expected = {
        **Rouge(keep_in_memory=True).compute(predictions=replies, references=others),
        **Bleu(keep_in_memory=True).compute(predictions=replies, references=others),
        **Diversity(keep_in_memory=True).compute(predictions=[item.references[0] for item in items]),
    }
    assert {key: human[key]["value"] for key in human} == {key: approx(value) for key, value in expected.items()}


def test_the_best_of_several_references_counts(scored, items):
    """Each item of the test split has two references, so the constant reply is scored against both."""
    assert [len(item.references) for item in items] == [2, 2, 2]
    constant = scored[1]["splits"]["test"]["rows"]["constant"]["rouge1"]["value"]
    single = [
        Rouge(keep_in_memory=True).compute(
            predictions=[CONSTANT_REPLY] * 3, references=[[item.references[number]] for item in items]
        )["rouge1"]
        for number in (0, 1)
    ]
    assert constant >= max(single) - 1e-6
    assert constant > min(single)


def test_the_gain_is_tuned_minus_base(scored):
    _, results = scored
    rows = results["splits"]["test"]["rows"]
    gain = results["gain"]["test"]
    assert list(results["gain"]) == ["test"]
    assert list(gain) == [key for key in MODEL if not key.startswith("distinct")]
    for key, difference in gain.items():
        assert difference["value"] == pytest.approx(rows["tuned"][key]["value"] - rows["base"][key]["value"], abs=2e-6)
        low, high = difference["ci95"]
        assert low <= high
    # All questions agree that training helped.
    assert gain["perplexity"]["ci95"][1] < 0


def test_memorisation_is_train_minus_test(scored):
    _, results = scored
    splits = results["splits"]
    assert list(results["memorisation"]) == ["perplexity", "rougeL", "bleu"]
    for key, gap in results["memorisation"].items():
        train_value, test_value = (splits[split]["rows"]["tuned"][key]["value"] for split in ("train", "test"))
        assert gap == {"train": train_value, "test": test_value, "gap": approx(train_value - test_value)}


def test_intervals_are_drawn_by_question(tmp_path, home):
    """The turns of one dialogue hang together: three dialogues of three turns are three draws, not nine."""
    data = tmp_path / "turns.jsonl"
    turns = []
    for context, reply in dialogues()[::2]:
        user, assistant = {"role": "user", "content": context}, {"role": "assistant", "content": reply}
        turns.append(
            {"messages": [{**turn, "content": f"{turn['content']} {n}"} for n in "abc" for turn in (user, assistant)]}
        )
    data.write_text("\n".join(map(json.dumps, turns)), encoding="utf-8")
    run = train(tmp_path / "run", home / "tiny", data, max_steps=1, sample_replies=0)
    results = score_run(run, ScoringArguments(**QUICK), progress=False)
    items = scored_items(load_prepared(run.data)["test"])
    assert (len(items), len({item.group for item in items})) == (9, 3)
    statistics = rouge.item_statistics([CONSTANT_REPLY] * 9, [item.references for item in items])
    groups = [item.group for item in items]
    by_question = bootstrap_interval(statistics, rouge.from_statistics, seed=42, n_resamples=50, groups=groups)
    alone = bootstrap_interval(statistics, rouge.from_statistics, seed=42, n_resamples=50)
    constant = results["splits"]["test"]["rows"]["constant"]
    for name, interval in by_question.items():
        assert constant[name]["ci95"] == [approx(end) for end in interval]
    assert by_question != alone


# --- replies.jsonl ----------------------------------------------------------------------------------------------------


def test_replies_stand_beside_their_contexts_and_references(scored, items):
    run, _ = scored
    rows = [json.loads(line) for line in run.replies_file.read_text(encoding="utf-8").splitlines()]
    assert [(row["split"], row["item"]) for row in rows] == [(s, n) for s in ("test", "train") for n in range(3)]
    for row in rows:
        assert list(row) == ["split", "item", "context", "references", "replies"]
        assert list(row["replies"]) == ["base", "tuned", "constant", "random", "nearest"]
    for row, item in zip(rows[:3], items, strict=True):
        assert (row["context"], row["references"]) == (item.context, item.references)
    # Those of the training split are some of its own questions.
    known = {item.context[0]["content"] for item in scored_items(load_prepared(run.data)["train"])}
    assert {row["context"][0]["content"] for row in rows[3:]} <= known


# --- again, and in part -----------------------------------------------------------------------------------------------


def test_the_same_twice_gives_the_same_files(scored, run):
    score_run(run, ScoringArguments(**QUICK), progress=False)
    assert run.results_file.read_bytes() == scored[0].results_file.read_bytes()
    assert run.replies_file.read_bytes() == scored[0].replies_file.read_bytes()


def test_another_seed_gives_other_replies_and_the_same_perplexity(scored, run):
    results = score_run(run, ScoringArguments(**QUICK, seed=1), progress=False)
    rows, before = results["splits"]["test"]["rows"], scored[1]["splits"]["test"]["rows"]
    assert rows["tuned"]["perplexity"]["value"] == before["tuned"]["perplexity"]["value"]
    assert rows["constant"]["rougeL"]["value"] == before["constant"]["rougeL"]["value"]
    assert run.replies_file.read_bytes() != scored[0].replies_file.read_bytes()
    assert results["settings"]["seed"] == 1


def test_a_batch_size_changes_no_perplexity(scored, run):
    rows = score_run(run, ScoringArguments(**QUICK, batch_size=1), progress=False)["splits"]["test"]["rows"]
    for row in ("base", "tuned"):
        before = scored[1]["splits"]["test"]["rows"][row]["perplexity"]["value"]
        assert rows[row]["perplexity"]["value"] == pytest.approx(before, rel=1e-5)


def test_a_limit_scores_so_many_dialogues_and_intervals_need_two(run):
    results = score_run(run, ScoringArguments(**QUICK, limit=1), progress=False)
    assert results["settings"]["limit"] == 1
    for split in results["splits"].values():
        assert (split["items"], split["references"]) in ((1, 1), (1, 2))
        for scores in split["rows"].values():
            assert {tuple(score["ci95"]) if score["ci95"] else None for score in scores.values()} == {None}
    assert all(difference["ci95"] is None for difference in results["gain"]["test"].values())
    assert "[" not in results_table(results)
    assert len(run.replies_file.read_text(encoding="utf-8").splitlines()) == 2


def test_more_training_items_can_be_scored(run):
    results = score_run(run, ScoringArguments(**QUICK, train_items=5), progress=False)
    assert results["splits"]["train"]["items"] == 5
    assert results["splits"]["test"]["items"] == 3
    # Drawn by chance, in their order: the first five would be alike where a data set is sorted.
    chosen = sorted(random.Random(42).sample(range(24), 5))
    assert chosen != list(range(5))
    known = scored_items(load_prepared(run.data)["train"])
    assert [row["context"] for row in replies_of(run, "train")] == [known[number].context for number in chosen]
    results = score_run(run, ScoringArguments(**QUICK, train_items=1000, limit=1), progress=False)
    assert results["splits"]["train"]["items"] == 24


@pytest.mark.parametrize("name", ["limit", "train_items", "batch_size", "max_new_tokens", "n_resamples"])
def test_arguments_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} is 0; give 1 or more$"):
        ScoringArguments(**{name: 0})


def test_one_answer_a_question_leaves_people_without_overlap(tmp_path, home):
    data = write_csv(tmp_path / "single.csv", dialogues()[::2])
    run = train(tmp_path / "run", home / "tiny", data, max_steps=1, sample_replies=0)
    results = score_run(run, ScoringArguments(**QUICK), progress=False)
    for split in results["splits"].values():
        assert split["references"] == split["items"]
        assert sorted(split["rows"]["human"]) == sorted(VARIETY)
    assert results["settings"]["human_items"] == 0
    column = results_table(results).splitlines()
    (rouge,) = (line for line in column if line.startswith("ROUGE-L"))
    assert rouge.split()[-1] == "-"


def test_an_adapters_run_is_scored_on_its_base(tmp_path, home):
    run = train(tmp_path / "run", home / "tiny", home / "talk.csv", lora=True, max_steps=6, sample_replies=0)
    results = score_run(run, ScoringArguments(**QUICK), progress=False)
    rows = results["splits"]["test"]["rows"]
    assert rows["tuned"]["perplexity"]["value"] < rows["base"]["perplexity"]["value"]
    assert results["weights"] == weights_fingerprint(run.model)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_data_that_is_not_what_was_trained_on_is_refused(run):
    test = run.data / "test.jsonl"
    test.write_text(test.read_text(encoding="utf-8").replace("hurts", "aches"), encoding="utf-8")
    message = r"data is not what the run was trained on; restore it or train again$"
    with pytest.raises(ValueError, match=message):
        score_run(run, ScoringArguments(**QUICK), progress=False)
    assert not run.results_file.exists()


def test_another_base_model_is_refused(tmp_path, tiny_tokenizer):
    model, data = save_model(tmp_path / "tiny", tiny_tokenizer), write_csv(tmp_path / "talk.csv")
    run = train(tmp_path / "run", model, data, max_steps=1, sample_replies=0)
    save_model(model, tiny_tokenizer, seed=5)
    message = r"^the base model .*tiny is not the one the run started from; restore it or train again$"
    with pytest.raises(ValueError, match=message):
        score_run(run, ScoringArguments(**QUICK), progress=False)
    assert not run.results_file.exists()


def test_a_run_that_has_not_finished_is_refused(run):
    record = run.record()
    run.write_record({**record, "finished": None})
    with pytest.raises(ValueError, match=r"run has not finished; go on with recipes/finetune.py --output_dir .*run$"):
        score_run(run, ScoringArguments(**QUICK), progress=False)


def test_an_earlier_result_stays_whole_when_scoring_fails(run, monkeypatch):
    run.results_file.write_text("{}\n", encoding="utf-8")

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("mh_support.scoring.generate_replies", fail)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        score_run(run, ScoringArguments(**QUICK), progress=False)
    assert run.results_file.read_text(encoding="utf-8") == "{}\n"


# --- the table and the recipe -----------------------------------------------------------------------------------------


def test_the_table_has_a_line_a_metric_and_a_column_a_row(scored):
    _, results = scored
    lines = results_table(results).splitlines()
    columns = ["Base model", "Fine-tuned", "Constant reply", "Random reply", "Nearest reply", "Reference"]
    assert lines[0].split("  ")[0] == "test, 3 replies"
    assert [place for name in columns if (place := lines[0].find(name)) < 0] == []
    assert [line[:16].strip() for line in lines[2:]] == [metric.label for metric in METRICS]
    rows = results["splits"]["test"]["rows"]
    for metric, line in zip(METRICS, lines[2:], strict=True):
        cells = [part.strip() for part in line[len(metric.label) :].split("  ") if part.strip()]
        expected = [metric.show(rows[row][metric.key]) if metric.key in rows[row] else "-" for row in rows]
        assert cells == expected
    assert results_table(results, "train").startswith("train, 3 replies")


def test_the_recipe_prints_both_tables_and_names_what_it_wrote(run, capsys, monkeypatch):
    monkeypatch.chdir(run.path.parent)
    load_recipe("score").main(["run", "--max_new_tokens", "12", "--n_resamples", "50"])
    printed = capsys.readouterr().out
    results = read_json(run.results_file)
    assert printed.startswith(f"{results_table(results)}\n\n{results_table(results, 'train')}\n\n")
    written = printed.splitlines()[-1]
    assert written.startswith("written: run/results.json and the plots ")
    names = written.removeprefix("written: run/results.json and the plots ").split(", ")
    assert names
    assert all(Path(name).is_file() and name.startswith("run/plots/") for name in names)


def test_the_recipe_refuses_what_is_no_run(tmp_path):
    with pytest.raises(
        ValueError, match=r"^no run folder at .*nowhere; make one with recipes/finetune.py --output_dir"
    ):
        load_recipe("score").main([str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match=r"is not a run folder \(it has no run.json\); give one made by recipes/fine"):
        load_recipe("score").main([str(tmp_path)])
