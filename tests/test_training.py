"""Fine-tuning: what a finished run folder holds, what is refused, and that a model really learns."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_fixtures import (
    WORDS,
    dialogues,
    load_recipe,
    one_thread,  # noqa: F401
    save_model,
    train,
    write_csv,
)
from transformers import AutoTokenizer, TrainingArguments, pipeline

import mh_support.run_folder as run_folder
import mh_support.training as training
from mh_support.data.preparation import DataArguments, data_fingerprint, load_prepared, prepare
from mh_support.dialogue import CHAT_TEMPLATE, IGNORED, encode_dialogue
from mh_support.files import read_json, write_json
from mh_support.generation import generate_replies, generation_config
from mh_support.modeling import (
    ModelArguments,
    load_model,
    load_tokenizer,
    memory_estimate,
    state_fingerprint,
    weights_fingerprint,
)
from mh_support.run_folder import RunFolder, new_run_path
from mh_support.trainer import DialogueTrainer
from mh_support.training import FinetuneArguments, describe_rows, encode_split, finetune, make_plan


@dataclass(frozen=True)
class Trained:
    """A finished run, what it printed, and the empty folder that it was started in."""

    run: RunFolder
    model: Path
    data: Path
    printed: str
    cwd: Path


def build(folder: Path, tokenizer, **changes) -> Trained:
    model, data = save_model(folder / "tiny", tokenizer), write_csv(folder / "talk.csv")
    cwd = folder / "cwd"
    cwd.mkdir()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(cwd)
        run = train(folder / "run", model, data, **changes)
    return Trained(run, model, data, printed.getvalue(), cwd)


@pytest.fixture(scope="module")
def full(tmp_path_factory, tiny_tokenizer):
    """A finished full fine-tuning; leave it as it is."""
    return build(tmp_path_factory.mktemp("full"), tiny_tokenizer)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_tokenizer):
    """A finished LoRA run; leave it as it is."""
    return build(tmp_path_factory.mktemp("adapter"), tiny_tokenizer, lora=True, max_steps=8)


@pytest.fixture
def model(tmp_path, tiny_tokenizer):
    return save_model(tmp_path / "tiny", tiny_tokenizer)


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "talk.csv")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def cut(monkeypatch) -> None:
    """Let training stop just before the final model is saved."""

    def stop(*arguments):
        raise RuntimeError("the power went out")

    monkeypatch.setattr(training, "_finish", stop)


# --- the run folder ---------------------------------------------------------------------------------------------------

TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
CHECKPOINT_FILES = TOKENIZER_FILES | {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.bin",
}


def test_a_run_folder_is_whole_and_holds_nothing_else(full):
    record = full.run.record()["training"]
    kept = {record["best_step"], 12} if record["best_step"] != 12 else {8, 12}
    expected = {".lock", "run.json", "data_report.json", "log_history.json", "emissions.json"}
    expected |= {f"data/{split}.jsonl" for split in ("train", "validation", "test")}
    expected |= {f"checkpoints/checkpoint-{step}/{name}" for step in kept for name in CHECKPOINT_FILES}
    expected |= {f"model/{name}" for name in TOKENIZER_FILES}
    expected |= {
        f"model/{name}" for name in ("config.json", "echoes.npy", "generation_config.json", "model.safetensors")
    }
    found = files(full.run.path)
    (events,) = found - expected
    assert expected <= found
    assert re.fullmatch(r"tensorboard/events\.out\.tfevents\.[\w.-]+", events)


def test_nothing_is_written_beside_the_run_folder(full):
    assert list(full.cwd.iterdir()) == []
    assert sorted(path.name for path in full.cwd.parent.iterdir()) == ["cwd", "run", "talk.csv", "tiny"]


def test_the_record_says_what_the_run_was_made_from(full):
    record = full.run.record()
    assert list(record) == [
        "format",
        "created",
        "finished",
        "arguments",
        "fingerprints",
        "base_model",
        "method",
        "dtype",
        "device",
        "seed",
        "versions",
        "data",
        "license",
        "training",
    ]
    assert record["fingerprints"] == {
        "data": data_fingerprint(full.run.data),
        "base_weights": state_fingerprint(load_model(str(full.model))),
        "weights": weights_fingerprint(full.run.model),
    }
    parameters = sum(tensor.numel() for tensor in load_file(full.run.model / "model.safetensors").values())
    assert record["base_model"] == {
        "name_or_path": str(full.model),
        "is_local": True,
        "revision": None,
        "architecture": "GPT2LMHeadModel",
        "parameters": parameters,
    }
    assert record["method"] == {
        "kind": "full",
        "train_layers": None,
        "lora": None,
        "trainable_parameters": parameters,
    }
    assert (record["format"], record["dtype"], record["seed"], record["license"]) == (1, "fp32", 42, "other")
    assert re.fullmatch(r".+ CPU, 1 thread", record["device"])
    assert set(record["versions"]) == {
        "python",
        "mh-support",
        "torch",
        "transformers",
        "datasets",
        "peft",
        "accelerate",
    }
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    assert re.fullmatch(stamp, record["created"])
    assert re.fullmatch(stamp, record["finished"])
    assert record["created"] <= record["finished"]
    assert record["data"]["sources"] == [
        {"name": "talk.csv", "license": "unknown", "non_commercial": False, "url": None, "rows": 60}
    ]
    assert record["data"]["splits"]["train"]["dialogues"] == 48
    assert record["data"]["splits"]["validation"]["dialogues"] == 6


def test_the_record_keeps_every_argument_that_bears_on_the_result_and_no_secret(full):
    arguments = full.run.record()["arguments"]
    asked = {"learning_rate": 1e-2, "max_steps": 12, "eval_steps": 4, "save_steps": 4, "max_length": 64, "bf16": False}
    assert {name: arguments[name] for name in asked} == asked
    assert (arguments["dataset_name"], arguments["train_layers"], arguments["world_size"]) == (
        [str(full.data)],
        None,
        1,
    )
    assert not {"output_dir", "resume", "dry_run", "disable_tqdm", "hub_token", "push_to_hub_token"} & arguments.keys()


def test_the_record_says_how_training_went(full):
    record = full.run.record()["training"]
    losses = {entry["step"]: entry["eval_loss"] for entry in read_json(full.run.log_file) if "eval_loss" in entry}
    assert list(losses) == [4, 8, 12]
    best = min(losses, key=losses.__getitem__)
    assert record == {
        "global_step": 12,
        "planned_steps": 12,
        "epochs": 2.4,
        "best_step": best,
        "best_eval_loss": losses[best],
        "train_runtime_s": record["train_runtime_s"],
        "stopped_early": False,
    }
    assert record["train_runtime_s"] > 0


def test_the_log_holds_every_loss(full):
    log = read_json(full.run.log_file)
    assert [entry["step"] for entry in log if "loss" in entry] == [2, 4, 6, 8, 10, 12]
    assert {"loss", "grad_norm", "learning_rate", "epoch", "step"} == set(log[0])
    assert all(math.isfinite(entry["loss"]) for entry in log if "loss" in entry)
    assert "train_runtime" in log[-1]


def test_the_final_model_is_the_best_checkpoint(full):
    best = full.run.record()["training"]["best_step"]
    final = load_file(full.run.model / "model.safetensors")
    checkpoint = load_file(full.run.checkpoints / f"checkpoint-{best}" / "model.safetensors")
    assert final.keys() == checkpoint.keys()
    assert all(torch.equal(final[name], checkpoint[name]) for name in final)
    base = load_file(full.model / "model.safetensors")
    assert [name for name in base if torch.equal(base[name], final[name])] == []


def test_the_saved_dialogues_are_the_prepared_ones(full):
    prepared = prepare(DataArguments(dataset_name=[str(full.data)]), progress=False)
    assert load_prepared(full.run.data) == prepared.splits
    report = read_json(full.run.report_file)
    assert report["fates"] == {"kept": 60}
    assert report["leakage"] == {"checked": True, "shared_questions": 0}
    assert report["encoding"] == {
        "long_inputs": "truncate",
        "max_length": 64,
        **full.run.record()["data"]["splits"],
    }


def test_counts_of_tokens_are_those_of_the_rows(full, tiny_tokenizer):
    counts = full.run.record()["data"]["splits"]
    for split in ("train", "validation"):
        rows = [
            encode_dialogue(tiny_tokenizer, dialogue["messages"], max_length=64).rows[0]
            for dialogue in load_prepared(full.run.data)[split]
        ]
        assert counts[split] == {
            "dialogues": len(rows),
            "rows": len(rows),
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "supervised_tokens": sum(label != IGNORED for row in rows for label in row["labels"]),
            "long_dialogues": 0,
        }


def test_emissions_are_estimated(full):
    emissions = read_json(full.run.emissions_file)
    assert list(emissions) == ["kg_co2eq", "duration_s", "country_iso_code", "sessions"]
    assert 0 < emissions["kg_co2eq"] < 0.01
    assert 0 < emissions["duration_s"] < 600
    assert (emissions["country_iso_code"], emissions["sessions"]) == ("USA", 1)


def test_tensorboard_has_the_losses_and_the_sample_replies(full):
    board = EventAccumulator(str(full.run.tensorboard))
    board.Reload()
    tags = board.Tags()
    assert {"train/loss", "train/learning_rate", "train/grad_norm", "eval/loss"} <= set(tags["scalars"])
    assert [event.step for event in board.Scalars("eval/loss")] == [4, 8, 12]
    assert [event.step for event in board.Scalars("train/loss")] == [2, 4, 6, 8, 10, 12]
    samples = [tag for tag in tags["tensors"] if tag.startswith("sample")]
    assert sorted(samples) == ["sample 1/text_summary", "sample 2/text_summary"]
    for tag in samples:
        assert [event.step for event in board.Tensors(tag)] == [4, 8, 12]
    logged = {}
    for entry in read_json(full.run.log_file):
        logged.setdefault(entry["step"], {}).update(entry)
    for event in board.Scalars("eval/loss"):
        assert event.value == pytest.approx(logged[event.step]["eval_loss"], rel=1e-6)


# --- what is printed --------------------------------------------------------------------------------------------------


def test_what_will_be_trained_is_printed_first(full):
    record = full.run.record()
    counts = record["data"]["splits"]["train"]
    parameters = record["base_model"]["parameters"]
    memory = memory_estimate(load_model(str(full.model)), batch_size=10, max_length=64) / 2**30
    assert full.printed.splitlines()[:7] == [
        f"model        {full.model}, full",
        f"parameters   {parameters:,} trainable of {parameters:,}",
        "precision    fp32 on cpu",
        "rows         48 from 48 dialogues (0 long: truncate), validation 6",
        f"tokens       {counts['tokens']:,} an epoch, {counts['supervised_tokens']:,} of them supervised",
        "steps        12, evaluated and saved every 4",
        f"memory       about {memory:.1f} GiB",
    ]


def test_two_sample_replies_are_printed_at_each_evaluation(full):
    found = re.findall(r"^  step (\d+), sample (\d): (.*)\n    ->", full.printed, flags=re.MULTILINE)
    assert [(int(step), int(number)) for step, number, _ in found] == [(s, n) for s in (4, 8, 12) for n in (1, 2)]
    contexts = [dialogue["messages"][0]["content"] for dialogue in load_prepared(full.run.data)["validation"]]
    # Every question is answered twice; the samples are two questions, not one of them twice.
    assert [context for _, _, context in found] == [contexts[0], contexts[2]] * 3
    assert contexts[0] == contexts[1] != contexts[2]


def test_sample_replies_are_the_models_own_greedy_ones(full, tiny_tokenizer):
    step = max(int(path.name.partition("-")[2]) for path in full.run.checkpoints.iterdir())
    checkpoint = load_model(str(full.run.checkpoints / f"checkpoint-{step}"))
    greedy = generation_config(tiny_tokenizer, max_new_tokens=48, do_sample=False, temperature=1.0, top_p=1.0)
    context = load_prepared(full.run.data)["validation"][0]["messages"][:1]
    (reply,) = generate_replies(checkpoint, tiny_tokenizer, [context], greedy)
    found = re.search(rf"^  step {step}, sample 1: .*\n    -> (.*)$", full.printed, flags=re.MULTILINE)
    assert found[1].strip() == reply.text


def test_sample_replies_do_not_change_what_is_trained(full, tmp_path):
    quiet = train(tmp_path / "run", full.model, full.data, sample_replies=0, early_stopping_patience=0)
    assert weights_fingerprint(quiet.model) == weights_fingerprint(full.run.model)


def test_the_recipe_prints_a_table(tmp_path, model, data, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = {"max_length": 64, "max_steps": 2, "bf16": "false", "disable_tqdm": "true", "sample_replies": 0}
    argv = [item for name, value in flags.items() for item in (f"--{name}", str(value))]
    load_recipe("finetune").main(["--model", str(model), "--data", str(data), "--output_dir", "run", *argv])
    table = capsys.readouterr().out.partition("\nrun  ")[2].splitlines()
    record = RunFolder("run").record()["training"]
    assert table[0].split() == ["run"]
    cells = {line.split()[0]: line.split()[1] for line in table[2:9]}
    assert list(cells) == list(record)
    assert (cells["global_step"], cells["planned_steps"], cells["stopped_early"]) == ("2", "2", "no")
    assert cells["best_eval_loss"] == str(record["best_eval_loss"])
    assert table[-1] == "score it with recipes/score.py run"


# --- early stopping ---------------------------------------------------------------------------------------------------


def scripted_losses(monkeypatch, losses: list[float]) -> None:
    """Let evaluations find `losses`, one after the other."""
    coming = iter(losses)

    class Scripted(DialogueTrainer):
        def evaluation_loop(self, *args, **kwargs):
            output = super().evaluation_loop(*args, **kwargs)
            output.metrics["eval_loss"] = next(coming)
            return output

    monkeypatch.setattr(training, "DialogueTrainer", Scripted)


EACH_STEP = {"eval_steps": 1, "save_steps": 1, "sample_replies": 0}


def test_training_stops_when_it_gets_no_better_and_keeps_the_best(tmp_path, model, data, monkeypatch):
    scripted_losses(monkeypatch, [5.0, 4.0, 4.5, 4.2])
    run = train(tmp_path / "run", model, data, early_stopping_patience=2, **EACH_STEP)
    record = run.record()["training"]
    assert record["stopped_early"] is True
    assert (record["global_step"], record["planned_steps"]) == (4, 12)
    assert (record["best_step"], record["best_eval_loss"]) == (2, 4.0)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    final, best, last = (
        load_file(folder / "model.safetensors")
        for folder in (run.model, run.checkpoints / "checkpoint-2", run.checkpoints / "checkpoint-4")
    )
    assert all(torch.equal(final[name], best[name]) for name in best)
    assert not any(torch.equal(final[name], last[name]) for name in last)


def test_patience_0_never_stops(tmp_path, model, data, monkeypatch):
    scripted_losses(monkeypatch, [4.0, 5.0, 6.0, 7.0, 8.0])
    record = train(tmp_path / "run", model, data, early_stopping_patience=0, max_steps=5, **EACH_STEP).record()
    assert record["training"]["stopped_early"] is False
    assert (record["training"]["global_step"], record["training"]["best_step"]) == (5, 1)


# --- what is supervised -----------------------------------------------------------------------------------------------


def test_completion_only_loss_leaves_out_what_the_person_said(tiny_tokenizer):
    rows = [{"messages": [{"role": "user", "content": "I feel so"}, {"role": "assistant", "content": "Tell me"}]}]
    context, reply = (tiny_tokenizer(text)["input_ids"] for text in ("I feel so", "Tell me"))
    end = [tiny_tokenizer.eos_token_id]
    for only, labels in ((True, [IGNORED] * (len(context) + 1)), (False, context + end)):
        arguments = FinetuneArguments(max_length=64, completion_only_loss=only, disable_tqdm=True)
        encoded = encode_split(tiny_tokenizer, rows, arguments, "train")
        assert encoded.rows.to_list() == [
            {
                "input_ids": context + end + reply + end,
                "labels": labels + reply + end,
                "length": len(context) + len(reply) + 2,
            }
        ]


def test_all_tokens_are_supervised_without_completion_only_loss(tmp_path, model, data):
    run = train(tmp_path / "run", model, data, completion_only_loss=False, max_steps=2)
    counts = run.record()["data"]["splits"]
    assert counts["train"]["supervised_tokens"] == counts["train"]["tokens"]
    assert counts["validation"]["supervised_tokens"] == counts["validation"]["tokens"]
    assert run.record()["arguments"]["completion_only_loss"] is False


def long_csv(path: Path) -> Path:
    """Write the dialogues, the replies to every third question too long for a row of 40 tokens."""
    pairs = [
        (context, " ".join([reply, *WORDS[number % 20 : number % 20 + 10]]) if number % 3 == 0 else reply)
        for number, (context, reply) in enumerate(dialogues())
    ]
    return write_csv(path, pairs)


def test_long_dialogues_are_cut_split_or_dropped_and_counted(tmp_path, model, capsys):
    data = long_csv(tmp_path / "long.csv")
    counts, printed = {}, {}
    for way in ("truncate", "split", "drop"):
        run = train(tmp_path / way, model, data, long_inputs=way, max_length=40, max_steps=1)
        printed[way] = capsys.readouterr().out
        counts[way] = run.record()["data"]["splits"]["train"]
        assert read_json(run.report_file)["encoding"] == {
            "long_inputs": way,
            "max_length": 40,
            **run.record()["data"]["splits"],
        }
    long = counts["truncate"]["long_dialogues"]
    assert 10 < long < 48
    assert {counts[way]["dialogues"] for way in counts} == {48}
    assert {counts[way]["long_dialogues"] for way in counts} == {long}
    assert counts["truncate"]["rows"] == 48
    assert counts["drop"]["rows"] == 48 - long
    assert counts["split"]["rows"] >= 48 + long
    assert counts["drop"]["tokens"] < counts["truncate"]["tokens"] < counts["split"]["tokens"]
    assert f"rows         {48 - long} from 48 dialogues ({long} long: drop)" in printed["drop"]


def test_nothing_left_to_train_on_is_refused(tmp_path, model):
    words = " ".join(WORDS)
    data = write_csv(tmp_path / "long.csv", [(context, f"{reply} {words}") for context, reply in dialogues()[::2]])
    message = (
        r"^no train row is left: 24 of 24 dialogues are longer than max_length 40; raise it or pass --long_inputs "
        r"truncate$"
    )
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", model, data, long_inputs="drop", max_length=40)
    assert not (tmp_path / "run").exists()


# --- a plan and a dry run ---------------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(tmp_path, model, data, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    assert train(None, model, data, dry_run=True) is None
    assert files(tmp_path) == before
    assert not (tmp_path / "runs").exists()
    printed = capsys.readouterr().out
    assert "steps        12, evaluated and saved every 4\n" in printed
    rows = printed.partition("\nThe first rows, what is supervised in [brackets]:\n\n")[2].strip().split("\n\n")
    train_rows = prepare(DataArguments(dataset_name=[str(data)]), progress=False).splits["train"]
    assert rows == [
        "{}<|endoftext|>[{}<|endoftext|>]".format(*(message["content"] for message in row["messages"]))
        for row in train_rows[:3]
    ]


def test_a_dry_run_leaves_a_started_run_alone(full, capsys):
    before = {name: (full.run.path / name).stat().st_mtime_ns for name in files(full.run.path)}
    assert train(full.run.path, full.model, full.data, learning_rate=3.0, dry_run=True) is None
    assert {name: (full.run.path / name).stat().st_mtime_ns for name in files(full.run.path)} == before


def plan_of(model, data, **changes):
    arguments = FinetuneArguments(**{"max_length": 64, "disable_tqdm": True, "bf16": False, **changes})
    prepared = prepare(DataArguments(dataset_name=[str(data)]), progress=False)
    return make_plan(ModelArguments(model_name_or_path=str(model)), prepared, arguments), arguments


@pytest.mark.parametrize(
    ("changes", "steps", "every"),
    [
        # 48 rows in batches of 10 are 5 steps an epoch; 25 epochs are too short for an evaluation every 500.
        ({}, 125, 5),
        ({"num_train_epochs": 2.5}, 13, 5),
        ({"num_train_epochs": 0.5}, 3, 3),
        ({"per_device_train_batch_size": 7}, 175, 7),
        ({"per_device_train_batch_size": 7, "dataloader_drop_last": True}, 150, 6),
        ({"gradient_accumulation_steps": 2}, 75, 3),
        ({"max_steps": 7}, 7, 5),
        ({"max_steps": 3}, 3, 3),
        ({"eval_steps": 50, "save_steps": 50}, 125, 50),
        ({"eval_steps": 125, "save_steps": 125}, 125, 125),
    ],
)
def test_steps_are_counted_and_a_short_run_is_evaluated_each_epoch(model, data, changes, steps, every):
    plan, arguments = plan_of(model, data, **changes)
    assert plan.steps == steps
    assert (arguments.eval_steps, arguments.save_steps) == (every, every)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"num_train_epochs": 2.5}, 13),
        ({"num_train_epochs": 1, "gradient_accumulation_steps": 2}, 3),
        ({"num_train_epochs": 1, "dataloader_drop_last": True, "per_device_eval_batch_size": 1}, 4),
    ],
)
def test_the_steps_counted_are_the_steps_made(tmp_path, model, data, changes, steps):
    changes = {"max_steps": -1, "eval_steps": 500, "save_steps": 500, **changes}
    record = train(tmp_path / "run", model, data, sample_replies=0, **changes).record()["training"]
    assert record["global_step"] == record["planned_steps"] == steps
    assert record["stopped_early"] is False


def test_a_plan_keeps_what_people_wrote_out_of_its_repr(model, data):
    plan, _ = plan_of(model, data)
    assert WORDS[0] not in repr(plan)
    assert repr(plan.encoded["train"]) == f"Encoded(counts={plan.encoded['train'].counts})"


def test_rows_are_described_with_what_is_supervised_in_brackets(model, data):
    plan, _ = plan_of(model, data, completion_only_loss=False)
    assert describe_rows(plan, 1).startswith("[My ")
    assert describe_rows(plan, 1).endswith("<|endoftext|>]")
    assert len(describe_rows(plan, 1000).split("\n\n")) == 48


# --- arguments --------------------------------------------------------------------------------------------------------


def test_defaults_are_the_documented_ones():
    arguments = FinetuneArguments()
    expected = {
        "output_dir": None,
        "num_train_epochs": 25,
        "per_device_train_batch_size": 10,
        "per_device_eval_batch_size": 10,
        "learning_rate": 5e-5,
        "eval_strategy": "steps",
        "eval_steps": 500,
        "save_strategy": "steps",
        "save_steps": 500,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "train_sampling_strategy": "group_by_length",
        "report_to": [],
        "early_stopping_patience": 3,
        "max_length": 512,
        "long_inputs": "truncate",
        "completion_only_loss": True,
        "sample_replies": 2,
        "seed": 42,
        "resume": False,
        "dry_run": False,
        "push_to_hub": False,
    }
    assert {name: getattr(arguments, name) for name in expected} == expected
    assert arguments.optim.startswith("adamw_torch")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"long_inputs": "chop"}, r"^long_inputs is 'chop'; it is one of truncate, split, drop$"),
        ({"max_length": 15}, r"^max_length is 15; a row needs at least 16 tokens$"),
        ({"early_stopping_patience": -1}, r"^early_stopping_patience and sample_replies are 0 or more$"),
        (
            {"save_only_model": True},
            r"^save_only_model keeps no optimizer, without which a killed run cannot go on as it",
        ),
        ({"sample_replies": -1}, r"^early_stopping_patience and sample_replies are 0 or more$"),
        (
            {"eval_steps": 100},
            r"^eval_steps is 100 and save_steps 500; the best model is kept only where it is both evaluated and saved: "
            r"give both the same, or --load_best_model_at_end false$",
        ),
        (
            {"push_to_hub": True},
            r"^--push_to_hub would publish a model that nobody has scored; leave it out, and publish the finished run "
            r"with recipes/publish\.py RUN --repo me/kind-gpt2$",
        ),
        ({"hub_model_id": "me/kind"}, r"^--hub_model_id would publish .*; leave it out, and publish the finished run"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FinetuneArguments(**changes)


def test_of_several_gpus_in_sight_one_is_used_and_it_is_said(monkeypatch, capsys):
    @functools.cached_property
    def two(self):
        self._n_gpu = 2
        return torch.device("cpu")

    two.__set_name__(TrainingArguments, "_setup_devices")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", two)
    arguments = FinetuneArguments(per_device_train_batch_size=10)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 10)
    assert (
        capsys.readouterr().out == "2 GPUs are in sight and one is used; start with accelerate launch to use them all\n"
    )


def test_without_the_best_model_there_may_be_more_evaluations_than_checkpoints():
    arguments = FinetuneArguments(eval_steps=100, load_best_model_at_end=False)
    assert (arguments.eval_steps, arguments.save_steps) == (100, 500)
    by_epoch = FinetuneArguments(eval_strategy="epoch", save_strategy="epoch", eval_steps=7)
    assert by_epoch.load_best_model_at_end is True


def test_more_tokens_than_the_model_has_positions_are_refused(tmp_path, model, data):
    with pytest.raises(ValueError, match=r"^max_length is 65 and the model has 64 positions; give fewer$"):
        train(tmp_path / "run", model, data, max_length=65)
    assert not (tmp_path / "run").exists()


def test_the_callers_arguments_stay_as_given(tmp_path, model, data):
    models, source = ModelArguments(model_name_or_path=str(model)), DataArguments(dataset_name=[str(data)])
    arguments = FinetuneArguments(
        output_dir=str(tmp_path / "run"), max_length=64, max_steps=2, bf16=False, disable_tqdm=True, sample_replies=0
    )
    before = arguments.to_dict()
    first = finetune(models, source, arguments)
    assert arguments.to_dict() == before
    weights = first.model.joinpath("model.safetensors").read_bytes()
    # The same call again finds the run finished.
    again = finetune(models, source, arguments)
    assert again.path == first.path == tmp_path / "run"
    assert again.model.joinpath("model.safetensors").read_bytes() == weights


# --- runs that are there already --------------------------------------------------------------------------------------


def test_a_finished_run_again_is_left_as_it_is(full, capsys):
    before = {name: (full.run.path / name).stat().st_mtime_ns for name in files(full.run.path)}
    again = train(full.run.path, full.model, full.data)
    assert again.path == full.run.path
    assert {name: (full.run.path / name).stat().st_mtime_ns for name in files(full.run.path)} == before
    path = full.run.path
    assert capsys.readouterr().out == f"the run {path} is finished already; score it with recipes/score.py {path}\n"


def test_a_folder_that_is_no_run_is_refused(tmp_path, model, data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine", encoding="utf-8")
    message = r"run is not a run folder and holds thesis.txt; give --output_dir a new or empty folder$"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", model, data)
    assert files(tmp_path / "run") == {"thesis.txt"}
    with pytest.raises(ValueError, match=r"talk.csv is a file; give --output_dir a folder that is new or a run to go"):
        train(data, model, data)


def test_an_empty_folder_is_taken(tmp_path, model, data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".keep").touch()
    assert train(tmp_path / "run", model, data, max_steps=1).record()["finished"] is not None


def test_a_run_that_somebody_is_at_is_left_to_them(tmp_path, model, data):
    folder = tmp_path / "run"
    with (
        RunFolder(folder).alone(),
        pytest.raises(ValueError, match=r"^another process trains in .*run; wait for it, or"),
    ):
        train(folder, model, data)
    assert not folder.exists()
    assert train(folder, model, data, max_steps=1).record()["finished"] is not None


def test_other_arguments_are_refused_by_name(full):
    message = (
        r"^the run .*run was started otherwise: learning_rate is 0.02, the run has 0.01; lora is True, the run has "
        r"False; seed is 7, the run has 42; give the same arguments to go on, or a new --output_dir$"
    )
    with pytest.raises(ValueError, match=message):
        train(full.run.path, full.model, full.data, learning_rate=0.02, lora=True, seed=7)


def test_arguments_that_do_not_bear_on_the_result_may_differ(full, capsys):
    train(full.run.path, full.model, full.data, disable_tqdm=False, log_level="error", resume=True)
    assert "is finished already" in capsys.readouterr().out


def test_an_unfinished_run_goes_on_and_other_data_or_another_base_are_refused(
    full, tmp_path, model, data, monkeypatch, capsys
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        cut(patch)
        with pytest.raises(RuntimeError, match=r"^the power went out$"):
            train(run, model, data)
    with pytest.raises(ValueError, match=r"run has not finished; go on with recipes/finetune.py --output_dir .*run$"):
        RunFolder.open(run)

    write_csv(data, dialogues()[:-1])
    message = "^the run .*run was started with other {} than these; restore them to go on, or give a new --output_dir$"
    with pytest.raises(ValueError, match=message.format("data")):
        train(run, model, data)
    write_csv(data)

    kept = tmp_path / "kept"
    shutil.copytree(model, kept)
    save_model(model, load_tokenizer(str(kept)), seed=1)
    with pytest.raises(ValueError, match=message.format("base weights")):
        train(run, model, data)
    shutil.rmtree(model)
    kept.rename(model)

    capsys.readouterr()
    finished = train(run, model, data)
    assert f"going on from {run}/checkpoints/checkpoint-12\n" in capsys.readouterr().out
    assert RunFolder.open(run).record()["finished"] is not None
    # The same model, data and seed as the run that nothing cut off.
    whole = full.run.model / "model.safetensors"
    assert (finished.model / "model.safetensors").read_bytes() == whole.read_bytes()
    # All its steps had been made, so there was nothing to train.
    assert finished.record()["training"]["global_step"] == 12
    assert read_json(finished.emissions_file)["sessions"] == 1


def test_a_damaged_or_foreign_record_is_refused(full, tmp_path):
    run = RunFolder(tmp_path)
    run.record_file.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json is not valid JSON"):
        train(tmp_path, full.model, full.data)
    write_json(run.record_file, {"format": 2})
    with pytest.raises(ValueError, match=r"run\.json is not of format 1; it belongs to another program or version$"):
        train(tmp_path, full.model, full.data)
    write_json(run.record_file, [])
    with pytest.raises(ValueError, match=r"run\.json is not of format 1; it belongs to another program or version$"):
        train(tmp_path, full.model, full.data)


def test_runs_without_a_name_get_one_and_latest_points_at_it(tmp_path, model, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = train(None, model, data, max_steps=1)
    assert re.fullmatch(r"runs/\d{8}-\d{6}-tiny(-\d)?", str(first.path))
    latest = tmp_path / "runs" / "latest"
    assert latest.is_symlink()
    assert latest.resolve() == first.path.resolve()
    assert str(latest.readlink()) == first.path.name, "a relative link, so that runs can be moved"
    second = train(None, model, data, max_steps=1)
    assert second.path != first.path
    assert latest.resolve() == second.path.resolve()
    assert sorted(entry.name for entry in (tmp_path / "runs").iterdir()) == sorted(
        ["latest", first.path.name, second.path.name]
    )
    # Elsewhere than under runs, latest is not touched.
    train(tmp_path / "elsewhere", model, data, max_steps=1)
    assert latest.resolve() == second.path.resolve()
    assert RunFolder.open(latest).record() == second.record()


def test_two_runs_of_one_second_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Stopped(run_folder.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 2, 3, 4, 5, 6, tzinfo=tz)

    monkeypatch.setattr(run_folder, "datetime", Stopped)
    names = []
    for _ in range(3):
        path = new_run_path("microsoft/DialoGPT-small")
        path.mkdir(parents=True)
        names.append(str(path))
    stem = "runs/20260203-040506-DialoGPT-small"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_resume_goes_on_with_latest(tmp_path, model, data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^there is no runs/latest to resume; name a run with --output_dir, or start"):
        train(None, model, data, resume=True)
    with pytest.raises(
        ValueError, match=r"^there is no run at .*nowhere to resume; leave out --resume to start one th"
    ):
        train(tmp_path / "nowhere", model, data, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.csv", "tiny"]
    with monkeypatch.context() as patch:
        cut(patch)
        with pytest.raises(RuntimeError, match=r"^the power went out$"):
            train(None, model, data, max_steps=2)
    capsys.readouterr()
    run = train(None, model, data, max_steps=2, resume=True)
    assert run.path == (tmp_path / "runs" / "latest").resolve()
    assert "going on from" in capsys.readouterr().out
    assert RunFolder.open(run.path).record()["training"]["global_step"] == 2
    # The run that latest pointed at is gone.
    shutil.rmtree(run.path)
    with pytest.raises(ValueError, match=r"^there is no runs/latest to resume"):
        train(None, model, data, resume=True)


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_the_saved_template_gives_the_ids_that_were_trained_on(full, data, monkeypatch):
    plan, _ = plan_of(full.model, full.data)
    tokenizer = AutoTokenizer.from_pretrained(full.run.model)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    rows = plan.encoded["train"].rows.to_list()
    for dialogue, row in zip(plan.splits["train"], rows, strict=True):
        encoded = tokenizer.apply_chat_template(
            dialogue["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert encoded["input_ids"] == row["input_ids"]
        assert encoded["assistant_masks"] == [int(label != IGNORED) for label in row["labels"]]


def test_the_saved_settings_are_the_packages_own(full):
    saved = read_json(full.run.model / "generation_config.json")
    del saved["transformers_version"]
    assert saved == {
        "bos_token_id": 0,
        "do_sample": True,
        "eos_token_id": 0,
        "max_new_tokens": 128,
        "pad_token_id": 0,
        "repetition_penalty": 1.1,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    # The Trainer switches the cache off for itself; whoever generates wants it.
    assert read_json(full.run.model / "config.json")["use_cache"] is True


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_transformers_own_pipeline_replies_to_messages(kind, request):
    trained = request.getfixturevalue(kind)
    chat = pipeline("text-generation", model=str(trained.run.model), device="cpu")
    messages = [{"role": "user", "content": "My river hurts"}]
    # Beside an adapter transformers reads the base's settings, so all that matter are given here.
    settings = {"max_new_tokens": 6, "do_sample": False, "repetition_penalty": 1.0}
    (found,) = chat(messages, **settings)
    assert found["generated_text"][:-1] == messages
    assert found["generated_text"][-1]["role"] == "assistant"
    model, tokenizer = load_model(str(trained.run.path)), load_tokenizer(str(trained.run.path))
    greedy = generation_config(tokenizer, **settings, temperature=1.0, top_p=1.0)
    (reply,) = generate_replies(model, tokenizer, [messages], greedy)
    assert found["generated_text"][-1]["content"].strip() == reply.text


def test_an_adapters_run_folder_holds_the_adapter_alone(adapter):
    assert files(adapter.run.model) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "echoes.npy",
        "generation_config.json",
        *TOKENIZER_FILES,
    }
    record = adapter.run.record()
    assert record["method"]["kind"] == "lora"
    assert record["method"]["lora"]["lora_r"] == 8
    tensors = load_file(adapter.run.model / "adapter_model.safetensors")
    assert record["method"]["trainable_parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert len(tensors) == 16
    assert record["fingerprints"]["weights"] == weights_fingerprint(adapter.run.model)
    assert record["fingerprints"]["base_weights"] == state_fingerprint(load_model(str(adapter.model)))
    config = read_json(adapter.run.model / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(adapter.model)
    # The adapter is the best checkpoint's, and has moved.
    best = adapter.run.checkpoints / f"checkpoint-{record['training']['best_step']}" / "adapter_model.safetensors"
    assert all(torch.equal(tensor, load_file(best)[name]) for name, tensor in tensors.items())
    assert all(tensor.abs().max() > 0 for tensor in tensors.values())


def test_last_blocks_alone_move_in_a_whole_run(tmp_path, model, data):
    run = train(tmp_path / "run", model, data, train_layers=1, max_steps=2)
    before, after = (load_file(folder / "model.safetensors") for folder in (model, run.model))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith(("transformer.h.1.", "transformer.ln_f."))}
    assert run.record()["method"] == {
        "kind": "last_blocks",
        "train_layers": 1,
        "lora": None,
        "trainable_parameters": sum(before[name].numel() for name in moved),
    }


def test_the_same_arguments_give_the_same_weights_and_another_seed_others(full, tmp_path):
    again = train(tmp_path / "again", full.model, full.data)
    assert weights_fingerprint(again.model) == weights_fingerprint(full.run.model)
    other = train(tmp_path / "other", full.model, full.data, seed=43, max_steps=4)
    assert weights_fingerprint(other.model) != weights_fingerprint(full.run.model)


def test_a_model_learns_four_dialogues_by_heart_and_to_stop(tmp_path, model):
    data = write_csv(tmp_path / "six.csv", [dialogues()[number] for number in (0, 3, 4, 7, 8, 11)])
    run = train(
        tmp_path / "run",
        model,
        data,
        max_steps=150,
        eval_steps=150,
        save_steps=150,
        learning_rate=1e-2,
        lr_scheduler_type="cosine",
        sample_replies=0,
        early_stopping_patience=0,
    )
    log = [entry["loss"] for entry in read_json(run.log_file) if "loss" in entry]
    assert log[0] > 4
    assert sum(log[-5:]) / 5 < 0.2
    tuned, tokenizer = load_model(str(run.path)), load_tokenizer(str(run.path))
    greedy = generation_config(
        tokenizer, max_new_tokens=30, do_sample=False, temperature=1.0, top_p=1.0, repetition_penalty=1.0
    )
    rows = load_prepared(run.data)["train"]
    assert len(rows) == 4
    replies = generate_replies(tuned, tokenizer, [row["messages"][:1] for row in rows], greedy)
    assert [reply.text for reply in replies] == [row["messages"][1]["content"] for row in rows]
    assert all(reply.stopped for reply in replies)


def test_bf16_is_recorded_and_weights_stay_in_full_precision(tmp_path, model, data):
    run = train(tmp_path / "run", model, data, bf16=True, max_steps=1)
    assert run.record()["dtype"] == "bf16"
    assert {tensor.dtype for tensor in load_file(run.model / "model.safetensors").values()} == {torch.float32}


def test_a_model_made_for_another_format_is_trained_and_saved_with_this_one(tmp_path, data, tiny_tokenizer):
    tokenizer = AutoTokenizer.from_pretrained(save_model(tmp_path / "other", tiny_tokenizer))
    tokenizer.chat_template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "other")
    run = train(tmp_path / "run", tmp_path / "other", data, max_steps=1)
    assert (run.model / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE


def test_the_recorded_arguments_compare_exactly(full):
    arguments = full.run.record()["arguments"]
    assert json.loads(json.dumps(arguments)) == arguments
    assert all(
        value is None or isinstance(value, bool | int | float | str | list | dict) for value in arguments.values()
    )
