"""The frozen blocks' output from disk: the same losses and gradients, bounded, resumable, and never stale."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from training_fixtures import SHORT, dialogues, one_thread, save_model, train, write_csv  # noqa: F401
from transformers import LlamaConfig, LlamaForCausalLM

import mh_support.frozen_prefix as frozen_prefix
from mh_support.data.preparation import DataArguments, prepare
from mh_support.files import read_json
from mh_support.frozen_prefix import (
    FrozenPrefix,
    Layout,
    frozen_blocks,
    numbered_rows,
    open_prefix,
    prefix_key,
    saved_share,
)
from mh_support.modeling import ModelArguments, weights_fingerprint
from mh_support.packing import PackingCollator
from mh_support.plan import make_plan
from mh_support.run_folder import RunFolder
from mh_support.trainer import DialogueTrainer
from mh_support.training import FinetuneArguments

# Three blocks with dropout, of which the last trains; rows in several blocks of the cache.
LAST: dict = {"train_layers": 1, "sample_replies": 0, "early_stopping_patience": 0}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(frozen_prefix, "TOKENS_AT_ONCE", 200)


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_tokenizer):
    return save_model(tmp_path_factory.mktemp("model") / "tiny", tiny_tokenizer, n_layer=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "talk.csv")


def plan_of(model, data, *, train_layers=1, lora=False, **changes):
    arguments = FinetuneArguments(output_dir="unused", **{**SHORT, "sample_replies": 0, **changes})
    given = ModelArguments(model_name_or_path=str(model), train_layers=train_layers, lora=lora)
    return make_plan(given, prepare(DataArguments(dataset_name=[str(data)]), progress=False), arguments), arguments


def opened(model, data, folder, **changes):
    plan, arguments = plan_of(model, data, **changes)
    rows = numbered_rows(plan)
    return plan, arguments, rows, open_prefix(plan, arguments, rows, folder)


def trainer_of(plan, arguments, rows, prefix):
    trainer = DialogueTrainer(
        model=plan.model,
        args=arguments,
        tokenizer=plan.tokenizer,
        prefix=prefix,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
    )
    if prefix is not None:
        prefix.fill(plan.model, rows, progress=False, bf16=bool(arguments.bf16))
    return trainer


def loss_and_gradients(plan, arguments, rows, prefix):
    """Return the loss of the first ten rows in training mode, and the gradients, as the Trainer finds them."""
    trainer = trainer_of(plan, arguments, rows, prefix)
    batch = trainer.data_collator(rows["train"].select(range(10)).to_list())
    torch.manual_seed(0)
    loss = trainer.training_step(plan.model, batch, num_items_in_batch=torch.tensor(100))
    return loss.item(), {n: p.grad.clone() for n, p in plan.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("train_layers", [1, 2])
def test_losses_and_gradients_are_those_without_it(tmp_path, model, data, train_layers, bf16):
    kept = opened(model, data, tmp_path / "kept", train_layers=train_layers, bf16=bf16)
    plain = opened(model, data, tmp_path / "none", train_layers=train_layers, bf16=bf16, frozen_prefix_cache=False)
    assert plain[3] is None
    assert kept[3].first_block == 3 - train_layers
    (loss, gradients), (expected, wanted) = loss_and_gradients(*kept), loss_and_gradients(*plain)
    # Dropout is on in the blocks that train: the same random numbers are drawn for them, and none before.
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == wanted.keys()
    assert len(gradients) == 12 * train_layers + 2
    for name, gradient in wanted.items():
        # bf16 keeps 8 bits, and sums are made in another order.
        assert 0 < gradient.norm() * (1e-2 if bf16 else 1e-5) > (gradients[name] - gradient).norm(), name


def test_whole_runs_have_the_same_losses(tmp_path, model, data, capsys):
    kept = train(tmp_path / "kept", model, data, **LAST)
    assert "frozen       output of 2 blocks kept: 0.00 GB in" in capsys.readouterr().out
    plain = train(tmp_path / "plain", model, data, **LAST, frozen_prefix_cache=False)
    assert "frozen  " not in capsys.readouterr().out
    logs = [read_json(run.log_file) for run in (kept, plain)]
    for key in ("loss", "eval_loss", "grad_norm"):
        ours, theirs = ([entry[key] for entry in log if key in entry] for log in logs)
        assert ours == pytest.approx(theirs, rel=1e-3)
        assert len(ours) >= 3
    assert not kept.frozen_prefix.exists(), "it is removed once the run is finished"


def test_what_is_kept_is_what_the_frozen_blocks_put_out(tmp_path, model, data):
    plan, arguments, rows, prefix = opened(model, data, tmp_path / "kept")
    trainer_of(plan, arguments, rows, prefix)
    with torch.no_grad():
        for row in [*rows["train"].select([0, 7]), rows["validation"][3]]:
            ids = torch.tensor([row["input_ids"]])
            expected = plan.model.eval()(ids, output_hidden_states=True).hidden_states[2][0]
            torch.testing.assert_close(prefix.read(row["row"]), expected, rtol=1e-4, atol=1e-6)


def test_a_batch_holds_it_in_the_order_of_its_rows(tmp_path):
    layout = Layout([2, 3, 1], 2)
    prefix = FrozenPrefix(tmp_path / "kept", {}, layout, 1)
    prefix._hidden[:] = np.arange(12).reshape(6, 2)
    features = [
        {"input_ids": [5] * layout.lengths[row], "labels": [5] * layout.lengths[row], "row": row} for row in (2, 0)
    ]
    assert PackingCollator(prefix)(features)["prefix"].tolist() == [[[10, 11], [0, 1], [2, 3]]]
    assert layout.bytes == 6 * 2 * 4


def test_rows_are_computed_in_blocks_of_about_as_many_tokens():
    assert list(Layout([150, 60, 10, 250, 3], 8).blocks()) == [range(0, 2), range(2, 4), range(4, 5)]
    assert list(Layout([200], 8).blocks()) == [range(0, 1)]


# --- resumable, and never stale -----------------------------------------------------------------------------------


def test_whole_blocks_are_kept_and_half_written_ones_made_again(tmp_path, model, data, monkeypatch, capsys):
    plan, arguments, rows, prefix = opened(model, data, tmp_path / "kept")
    assert "to be computed once" in capsys.readouterr().out
    blocks = prefix.blocks
    assert blocks > 3
    trainer_of(plan, arguments, rows, prefix)
    whole = prefix._hidden.copy()
    assert prefix.missing == []

    computed = []
    output = frozen_prefix._packed_output

    def noted(inner, batch, end):
        computed.append(batch["lengths"].tolist())
        return output(inner, batch, end)

    monkeypatch.setattr(frozen_prefix, "_packed_output", noted)
    # As a kill leaves it while the third block is written.
    prefix._done[2:] = 0
    prefix._hidden[sum(sum(prefix.layout.lengths[row] for row in rows) for rows in prefix._blocks[:2]) :] = 1e9
    again = opened(model, data, tmp_path / "kept")
    assert "in part there" in capsys.readouterr().out
    assert again[3].missing == list(range(2, blocks))
    trainer_of(*again)
    assert computed == [[prefix.layout.lengths[row] for row in rows] for rows in prefix._blocks[2:]]
    assert np.array_equal(again[3]._hidden, whole)

    computed.clear()
    trainer_of(*opened(model, data, tmp_path / "kept"))
    assert "all there" in capsys.readouterr().out
    assert computed == []


CHANGES = {
    "weights": {"seed": 1},
    "frozen_blocks": {"train_layers": 2},
    "data": {"rows": 59},
    "max_length": {"max_length": 63},
    "computed_in": {"bf16": True},
}


@pytest.mark.parametrize("what", CHANGES)
def test_anything_in_its_key_makes_it_anew(tmp_path, model, data, tiny_tokenizer, what):
    before = opened(model, data, tmp_path / "kept")
    trainer_of(*before)
    changes = dict(CHANGES[what])
    if "seed" in changes:
        model = save_model(tmp_path / "other", tiny_tokenizer, n_layer=3, seed=changes.pop("seed"))
    if "rows" in changes:
        data = write_csv(tmp_path / "fewer.csv", dialogues()[: changes.pop("rows")])
    after = opened(model, data, tmp_path / "kept", **changes)
    keys = [prefix_key(plan, arguments, rows, prefix.first_block) for plan, arguments, rows, prefix in (before, after)]
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {what}
    assert after[3].missing == list(range(after[3].blocks))
    assert read_json(tmp_path / "kept" / "key.json") == keys[1]


def test_the_tokenizer_and_the_template_are_in_its_key(model, data):
    plan, arguments = plan_of(model, data)
    rows = numbered_rows(plan)
    key = prefix_key(plan, arguments, rows, 2)
    plan.tokenizer.chat_template += " "
    template = prefix_key(plan, arguments, rows, 2)
    assert {name for name in key if key[name] != template[name]} == {"template"}
    plan.tokenizer.add_tokens(["new"])
    tokenizer = prefix_key(plan, arguments, rows, 2)
    assert {name for name in key if template[name] != tokenizer[name]} == {"tokenizer"}


@pytest.mark.parametrize("name", ["n_head", "layer_norm_epsilon", "activation_function"])
def test_what_the_same_weights_compute_otherwise_is_in_its_key(model, data, name):
    plan, arguments = plan_of(model, data)
    rows = numbered_rows(plan)
    key = prefix_key(plan, arguments, rows, 2)
    plan.model.config.name_or_path = "moved"
    assert prefix_key(plan, arguments, rows, 2) == key
    setattr(plan.model.config, name, {"n_head": 1, "layer_norm_epsilon": 1e-3, "activation_function": "relu"}[name])
    other = prefix_key(plan, arguments, rows, 2)
    assert {part for part in key if key[part] != other[part]} == {"architecture"}


@pytest.mark.parametrize("damage", ["{", "[]", None])
def test_a_folder_whose_key_cannot_be_read_is_made_anew(tmp_path, model, data, damage):
    trainer_of(*opened(model, data, tmp_path / "kept"))
    key = tmp_path / "kept" / "key.json"
    key.unlink() if damage is None else key.write_text(damage)
    assert opened(model, data, tmp_path / "kept")[3].missing != []


def test_a_folder_whose_files_are_gone_or_short_is_made_anew(tmp_path, model, data):
    for name in ("hidden.bin", "done.bin"):
        trainer_of(*opened(model, data, tmp_path / "kept"))
        (tmp_path / "kept" / name).unlink()
        assert opened(model, data, tmp_path / "kept")[3].missing != []
    trainer_of(*opened(model, data, tmp_path / "kept"))
    os.truncate(tmp_path / "kept" / "hidden.bin", 100)
    assert opened(model, data, tmp_path / "kept")[3].missing != []


def test_somebody_elses_folder_is_left_alone(tmp_path, model, data):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "mine" / "hidden.bin").write_text("precious too")
    message = r"mine holds thesis\.txt, which is no output of frozen blocks; give --frozen_prefix_dir a new folder$"
    with pytest.raises(ValueError, match=message):
        opened(model, data, tmp_path / "mine")
    assert sorted(os.listdir(tmp_path / "mine")) == ["hidden.bin", "thesis.txt"]
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ValueError, match=r"file is a file; give --frozen_prefix_dir a new folder$"):
        opened(model, data, tmp_path / "file")


def test_a_run_cut_off_goes_on_to_the_same_weights(tmp_path, model, data, monkeypatch):
    whole = train(tmp_path / "whole", model, data, **LAST)
    run = RunFolder(tmp_path / "cut")
    output, step = frozen_prefix._packed_output, DialogueTrainer.training_step

    def half_filled(inner, batch, end, blocks=iter(range(3))):  # noqa: B008
        if next(blocks, None) is None:
            raise RuntimeError("the power went out")
        return output(inner, batch, end)

    def half_trained(self, *arguments, **keywords):
        if self.state.global_step == 10:
            raise RuntimeError("the power went out")
        return step(self, *arguments, **keywords)

    for name, (owner, attribute, broken) in {
        "while it is filled": (frozen_prefix, "_packed_output", half_filled),
        "while it trains": (DialogueTrainer, "training_step", half_trained),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(owner, attribute, broken)
            with pytest.raises(RuntimeError, match=r"^the power went out$"):
                train(run.path, model, data, **LAST)
        assert (run.frozen_prefix / "key.json").is_file(), name
    assert run.last_checkpoint() == run.checkpoints / "checkpoint-8"
    finished = train(run.path, model, data, **LAST)
    assert weights_fingerprint(finished.model) == weights_fingerprint(whole.model)
    assert not run.frozen_prefix.exists()


def test_a_folder_of_its_own_serves_the_next_run(tmp_path, model, data, capsys):
    kept = tmp_path / "shared"
    first = train(tmp_path / "first", model, data, **LAST, frozen_prefix_dir=str(kept))
    assert "to be computed once" in capsys.readouterr().out
    assert sorted(os.listdir(kept)) == ["done.bin", "hidden.bin", "key.json"]
    second = train(tmp_path / "second", model, data, **LAST, frozen_prefix_dir=str(kept))
    assert "all there" in capsys.readouterr().out
    assert weights_fingerprint(first.model) == weights_fingerprint(second.model)


# --- bounded, and where it applies ------------------------------------------------------------------------------------


def test_what_it_takes_and_saves_is_said_first(tmp_path, model, data, capsys):
    plan, _, _, prefix = opened(model, data, tmp_path / "kept")
    size = os.path.getsize(tmp_path / "kept" / "hidden.bin")
    tokens = sum(plan.encoded[split].counts["tokens"] for split in ("train", "validation"))
    assert size == prefix.layout.bytes == tokens * 32 * 4
    share = saved_share(plan, 2)
    assert capsys.readouterr().out == (
        f"frozen       output of 2 blocks kept: {size / 1e9:.2f} GB in {tmp_path / 'kept'}, to be computed once; "
        f"saves about {share:.0%} of each epoch (no dropout in them)\n"
    )
    block = 12 * 32 * 32 + 13 * 32
    counts = plan.encoded["train"].counts
    head = 300 * 32 * counts["supervised_tokens"] / counts["tokens"]
    assert share == pytest.approx(2 * 2 * block / (2 * 2 * block + 6 * block + 4 * head))


def test_beyond_its_limit_the_run_goes_on_without_it(tmp_path, model, data, capsys):
    run = train(tmp_path / "run", model, data, **LAST, max_steps=1, frozen_prefix_gb=1e-6)
    printed = capsys.readouterr().out
    assert (
        "frozen       the cache of frozen blocks takes 0.00 GB and frozen_prefix_gb is 1e-06 (raise it); the frozen "
        "blocks are computed anew in each epoch\n"
    ) in printed
    assert RunFolder.open(run.path).record()["training"]["global_step"] == 1
    with pytest.raises(ValueError, match=r"^frozen_prefix_gb is 0; give more than 0, or --frozen_prefix_cache false$"):
        FinetuneArguments(output_dir="unused", frozen_prefix_gb=0)


def test_a_disk_too_full_for_it_is_left_alone(tmp_path, model, data, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5))
    assert opened(model, data, tmp_path / "kept")[3] is None
    assert "takes 0.00 GB and 0.00 GB are free; the frozen blocks are computed anew" in capsys.readouterr().out
    assert not (tmp_path / "kept").exists()


def test_other_ways_to_train_have_none_and_say_nothing(tmp_path, model, data, capsys):
    for way in ({"train_layers": None}, {"train_layers": None, "lora": True}):
        assert opened(model, data, tmp_path / "kept", **way)[3] is None
    assert capsys.readouterr().out == ""


def test_where_it_cannot_be_the_reason_is_printed(tmp_path, model, data, tiny_tokenizer, capsys):
    assert opened(model, data, tmp_path / "kept", train_layers=3)[3] is None
    assert "frozen       the cache of frozen blocks has nothing to keep, since every block trains; the" in (
        capsys.readouterr().out
    )
    end = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "max_position_embeddings": 64}
    shape = {"vocab_size": len(tiny_tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(**shape, **heads, **end)).save_pretrained(tmp_path / "llama")
    tiny_tokenizer.save_pretrained(tmp_path / "llama")
    run = train(tmp_path / "run", tmp_path / "llama", data, **LAST, max_steps=1)
    assert "the cache of frozen blocks is for GPT-2's architecture, not for LlamaForCausalLM" in capsys.readouterr().out
    assert run.record()["training"]["global_step"] == 1
    plan, arguments = plan_of(model, data)
    parallel = dataclasses.replace(plan)
    smoothed = FinetuneArguments(output_dir="unused", **{**SHORT, "label_smoothing_factor": 0.1})
    assert open_prefix(plan, smoothed, numbered_rows(plan), tmp_path / "kept") is None
    assert "is for training without label smoothing" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"^the output of frozen blocks is for models and arguments that rows are pac"):
        trainer_of(plan, smoothed, numbered_rows(plan), FrozenPrefix(tmp_path / "a", {}, Layout([2], 32), 2))
    noisy = FinetuneArguments(output_dir="unused", **{**SHORT, "neftune_noise_alpha": 5.0})
    assert open_prefix(plan, noisy, numbered_rows(plan), tmp_path / "kept") is None
    assert "is for training without NEFTune's noise" in capsys.readouterr().out
    assert not isinstance(trainer_of(plan, noisy, numbered_rows(plan), None).data_collator, PackingCollator)
    arguments = FinetuneArguments(output_dir="unused", **{**SHORT, "fsdp": True})
    assert open_prefix(parallel, arguments, numbered_rows(plan), tmp_path / "kept") is None
    assert "is for training in one process" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_a_launcher_that_shards_keeps_nothing(model, data, tmp_path, monkeypatch, capsys, kind):
    plan, arguments = plan_of(model, data)
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    assert open_prefix(plan, arguments, numbered_rows(plan), tmp_path / "kept") is None
    assert "is for training in one process" in capsys.readouterr().out


def test_a_disk_that_is_full_after_all_is_said(model, data, tmp_path, monkeypatch, capsys):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(frozen_prefix.os, "posix_fallocate", full)
    plan, arguments = plan_of(model, data)
    assert open_prefix(plan, arguments, numbered_rows(plan), tmp_path / "kept") is None
    assert "kept: No space left on device; the frozen blocks are computed anew in each epoch" in capsys.readouterr().out
    assert list((tmp_path / "kept").iterdir()) == []


def test_its_room_on_the_disk_is_taken_when_it_is_opened(tmp_path):
    FrozenPrefix(tmp_path / "kept", {}, Layout([3000], 32), 2)
    assert (tmp_path / "kept" / "hidden.bin").stat().st_blocks * 512 >= 3000 * 32 * 4


def test_a_worker_maps_it_anew(tmp_path):
    prefix = FrozenPrefix(tmp_path / "kept", {}, Layout([3000], 32), 2)
    prefix._hidden[:] = 7
    sent = pickle.dumps(prefix)
    assert len(sent) < 10_000
    assert (pickle.loads(sent).read(0) == 7).all()


def test_frozen_blocks_are_counted(model, data):
    assert frozen_blocks(plan_of(model, data)[0].model) == 2
    assert frozen_blocks(plan_of(model, data, train_layers=None)[0].model) == 0


def test_no_text_is_in_the_key(tmp_path, model, data):
    trainer_of(*opened(model, data, tmp_path / "kept"))
    text = (tmp_path / "kept" / "key.json").read_text(encoding="utf-8")
    assert not any(word in text for context, _ in dialogues() for word in context.split()[1:3])
    assert all(isinstance(value, str | int) for value in json.loads(text).values())
