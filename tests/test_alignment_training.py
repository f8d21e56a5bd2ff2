"""KTO and DPO on a tiny model: the very ids of the chat template, held to the run's own weights, and silent."""

from __future__ import annotations

import builtins
import importlib.util
from typing import Any

import pytest
import torch
from alignment_fixtures import choice, crowd, sentence, write_feedback
from training_fixtures import one_thread, save_model, train, write_csv  # noqa: F401

from mh_support.alignment.feedback_data import Feedback, FeedbackArguments, collect
from mh_support.alignment.preference import preference, preference_statistics
from mh_support.alignment.training import LOG_FILE, align, fitting, make_trainer, whole_model
from mh_support.alignment.training_arguments import AlignmentArguments, check_trl
from mh_support.dialogue import encode_prompt, encode_reply
from mh_support.files import read_json
from mh_support.hub import PublishArguments, model_files
from mh_support.modeling import load_model, load_tokenizer, state_fingerprint, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.scoring import ScoringArguments, score_run
from mh_support.support_bot import SupportBot

QUICK: dict[str, Any] = {
    "max_steps": 8,
    "save_steps": 4,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "bf16": False,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def parents(tmp_path_factory, tiny_tokenizer):
    """A run that trained all of a tiny model, and one that trained an adapter."""
    home = tmp_path_factory.mktemp("parents")
    base, data = save_model(home / "tiny", tiny_tokenizer, n_positions=128), write_csv(home / "talk.csv")
    few = {"max_steps": 4, "sample_replies": 0}
    return {kind: train(home / kind, base, data, lora=kind == "lora", **few) for kind in ("full", "lora")}


def gather(folder, method: str, tokenizer: Any) -> Feedback:
    records = crowd(8, 6)
    if method == "dpo":
        records = [
            choice(who, sentence((who, number), 5), f"Tell me of {sentence((number, who), 2)}", "No no no no.")
            for who in range(8)
            for number in range(3)
        ]
    path = write_feedback(folder / f"{method}.jsonl", records)
    arguments = FeedbackArguments(feedback=[str(path)], method=method)
    return collect(arguments, fitting(tokenizer, 128), secret=b"secret 2")


@pytest.fixture(scope="module")
def gathered(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("feedback")
    return {method: gather(folder, method, tiny_tokenizer) for method in ("kto", "dpo")}


@pytest.fixture(scope="module")
def aligned(parents, gathered, tmp_path_factory):
    """One run aligned by each method, the second from an adapter."""
    runs = {}
    for method, kind in (("kto", "full"), ("dpo", "lora")):
        runs[method] = RunFolder(tmp_path_factory.mktemp(method) / "run")
        align(parents[kind], gathered[method], AlignmentArguments(**QUICK), runs[method], method)
    return runs


TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "I feel alone."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "I moved <|endoftext|> here."},
]
REPLIES = [{"role": "assistant", "content": " That sounds lonely. "}], [{"role": "assistant", "content": "Oh."}]


@pytest.mark.parametrize("method", ["kto", "dpo"])
def test_trl_sees_the_ids_of_the_chat_template(parents, tmp_path, method):
    rows = [{"prompt": TALK, "chosen": REPLIES[0], "rejected": REPLIES[1]}]
    columns = {"chosen_ids": REPLIES[0], "rejected_ids": REPLIES[1]}
    if method == "kto":
        rows = [{"prompt": TALK, "completion": reply, "label": reply is REPLIES[0]} for reply in REPLIES]
        columns = {}
    trainer = make_trainer(parents["full"], rows, AlignmentArguments(**QUICK), RunFolder(tmp_path), method)
    tokenizer = load_tokenizer(str(parents["full"].model))
    assert len(trainer.train_dataset) == len(rows)
    for row in trainer.train_dataset:
        assert row["prompt_ids"] == encode_prompt(tokenizer, TALK)
        for column, reply in (columns or {"completion_ids": row["completion"]}).items():
            encoded = encode_reply(tokenizer, [*TALK, *reply])
            assert row["prompt_ids"] + row[column] == encoded["input_ids"]
            assert [label for label in encoded["labels"] if label != -100] == row[column]
            assert row[column][-1] == tokenizer.eos_token_id
    # What people wrote is in memory only.
    assert [name for name in trainer.train_dataset.cache_files if "prompt" in str(name)] == []


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_training_starts_from_the_runs_own_weights_and_is_held_to_them(parents, gathered, tmp_path, kind):
    parent = parents[kind]
    before = weights_fingerprint(parent.model)
    trainer = make_trainer(parent, gathered["kto"].train, AlignmentArguments(**QUICK), RunFolder(tmp_path), "kto")
    own = load_model(str(parent.model)).eval()
    ids = torch.tensor([encode_prompt(load_tokenizer(str(parent.model)), TALK)])
    with torch.inference_mode():
        expected = own(input_ids=ids).logits
        for model in (trainer.model, trainer.ref_model):
            torch.testing.assert_close(model.eval()(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)
    reference = state_fingerprint(trainer.ref_model)
    trained = {name: value.clone() for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    trainer.train()
    assert all(not torch.equal(value, trainer.model.get_parameter(name)) for name, value in trained.items())
    assert state_fingerprint(trainer.ref_model) == reference
    assert weights_fingerprint(parent.model) == before


def test_thumbs_of_each_kind_weigh_the_same_in_all(parents, gathered, tmp_path):
    rows = gathered["kto"].train
    uneven = [row for row in rows if row["label"]] + [row for row in rows if not row["label"]][:4]
    trainer = make_trainer(parents["full"], uneven, AlignmentArguments(**QUICK), RunFolder(tmp_path), "kto")
    praised = sum(row["label"] for row in uneven)
    assert trainer.desirable_weight * praised == pytest.approx(trainer.undesirable_weight * 4) == pytest.approx(4)


def test_praise_and_blame_are_in_every_batch(parents, gathered, tmp_path):
    rows = gathered["kto"].train
    uneven = [row for row in rows if row["label"]] + [row for row in rows if not row["label"]][:4]
    trainer = make_trainer(parents["full"], uneven, AlignmentArguments(**QUICK), RunFolder(tmp_path), "kto")
    batches = [batch["label"].tolist() for batch in trainer.get_train_dataloader()]
    assert [len(set(batch)) for batch in batches[:-1]] == [2] * (len(batches) - 1)
    assert sum(map(len, batches)) == len(uneven)


def test_trl_tells_nobody_and_writes_no_card(parents, gathered, tmp_path, monkeypatch):
    import trl.trainer.base_trainer

    told: list[Any] = []
    monkeypatch.setattr(trl.trainer.base_trainer, "send_telemetry", lambda **found: told.append(found))
    monkeypatch.delenv("CI", raising=False)
    run = RunFolder(tmp_path)
    changes = {**QUICK, "max_steps": 1, "save_steps": 1}
    make_trainer(parents["full"], gathered["kto"].train, AlignmentArguments(**changes), run, "kto").train()
    assert told == []
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize(("method", "kind"), [("kto", "full"), ("dpo", "lora")])
def test_what_people_praised_is_preferred_by_the_new_model(parents, gathered, aligned, method, kind):
    tokenizer = load_tokenizer(str(parents[kind].model))
    old, new = (
        preference_statistics(whole_model(run), tokenizer, gathered[method].held_out, max_length=128)
        for run in (parents[kind], aligned[method])
    )
    assert preference(new.sum(axis=0))["preference"] > preference(old.sum(axis=0))["preference"] + 0.02


@pytest.mark.parametrize(("method", "kind"), [("kto", "full"), ("dpo", "lora")])
def test_the_new_run_is_a_run_like_any_other(parents, aligned, method, kind):
    run = RunFolder.open(aligned[method].path)
    record, parent = run.record(), parents[kind].record()
    assert record["base_model"] == parent["base_model"]
    assert record["fingerprints"]["weights"] == weights_fingerprint(run.model) != parent["fingerprints"]["weights"]
    assert record["fingerprints"]["data"] == parent["fingerprints"]["data"]
    assert record["method"] == {**parent["method"], "merged": kind == "lora"}
    told = record["alignment"]
    assert (told["method"], told["parent"]) == (method, str(parents[kind].path))
    assert told["parent_weights"] == parent["fingerprints"]["weights"]
    assert (told["training"]["global_step"], told["arguments"]["beta"]) == (8, 0.1)
    assert told["versions"].keys() == {"trl", "transformers", "peft"}
    assert any("loss" in entry for entry in read_json(run.path / LOG_FILE))
    # Whole, whether or not an adapter was trained before it or now.
    assert sorted(path.name for path in run.model.iterdir()) == [
        *("chat_template.jinja", "config.json", "echoes.npy", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    # What was learned by heart before is looked for still.
    assert (run.model / "echoes.npy").read_bytes() == (parents[kind].model / "echoes.npy").read_bytes()
    emitted, before = (read_json(folder.emissions_file) for folder in (run, parents[kind]))
    assert (emitted["sessions"], before["sessions"]) == (2, 1)
    assert emitted["duration_s"] > before["duration_s"]
    assert SupportBot.from_pretrained(str(run.path), max_new_tokens=4).reply([{"role": "user", "content": "Hm."}])
    results = score_run(run, ScoringArguments(limit=2, max_new_tokens=4, n_resamples=10), progress=False)
    assert results["weights"] == weights_fingerprint(run.model)
    with model_files(run, PublishArguments(repo="me/kind-gpt2")) as files:
        assert {"model.safetensors", "config.json"} <= files.keys() and "adapter_config.json" not in files
        assert (b"and then merged into it" in files["README.md"]) == (kind == "lora")


def test_all_of_the_model_can_be_trained(parents, gathered, tmp_path):
    run = RunFolder(tmp_path / "run")
    changes = {**QUICK, "max_steps": 2, "save_steps": 2, "lora": False}
    align(parents["full"], gathered["kto"], AlignmentArguments(**changes), run, "kto")
    old, new = (dict(whole_model(folder).named_parameters()) for folder in (parents["full"], run))
    assert all(not torch.equal(value, new[name]) for name, value in old.items())
    told = run.record()["alignment"]["training"]
    assert told["trainable_parameters"] == told["parameters"]


def test_a_finished_run_is_left_as_it_is_and_another_is_refused(parents, gathered, aligned):
    run, before = aligned["kto"], weights_fingerprint(aligned["kto"].model)
    align(parents["full"], gathered["kto"], AlignmentArguments(**QUICK), run, "kto")
    assert weights_fingerprint(run.model) == before
    other = AlignmentArguments(**{**QUICK, "beta": 0.5})
    with pytest.raises(ValueError, match=rf"^the round {run.path} was begun with another arguments; go on with"):
        align(parents["full"], gathered["kto"], other, run, "kto")
    with pytest.raises(
        ValueError, match=r"with another parent and parent_weights; go on with the same, or remove that folder"
    ):
        align(parents["lora"], gathered["kto"], AlignmentArguments(**QUICK), run, "kto")


def test_a_missing_trl_is_said_with_what_installs_it(monkeypatch, parents, gathered, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "mh_support.alignment.training_arguments.find_spec", lambda name: None if name == "trl" else found(name)
    )
    with pytest.raises(
        ValueError,
        match=r"^learning from feedback needs TRL, .* -c constraints\.txt -e '\.\[align\]'",
    ):
        check_trl()


def test_nothing_but_training_imports_trl(monkeypatch):
    real = builtins.__import__

    def without_trl(name, *args, **kwargs):
        assert not name.startswith("trl"), f"{name} is imported"
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_trl)
    for name in ("gate", "preference", "promotion", "rounds", "sieve", "simulation", "training"):
        module = importlib.import_module(f"mh_support.alignment.{name}")
        importlib.reload(module)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 1}, r"^per_device_train_batch_size is 1; KTO compares ratings within a batch"),
        ({"beta": 0.0}, r"^beta is 0.0; give more than 0"),
        ({"push_to_hub": True}, r"^--push_to_hub would publish .* with recipes/publish\.py RUN --repo me/kind-gpt2$"),
        ({"hub_model_id": "me/kind"}, r"^--hub_model_id would publish a model that nobody has scored; leave it out"),
        ({"max_length": 8}, r"^max_length is 8; a row needs at least 16 tokens$"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        AlignmentArguments(**changes)
