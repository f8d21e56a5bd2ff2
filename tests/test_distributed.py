"""Two processes that train one model: one run folder, each row once an epoch, and the same weights after a kill.

They have all weights each (DDP), or share them (FSDP).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_fixtures import ROOT, RUN_FILES, SHORT, quick_steps, save_model, train, write_csv

import mh_support.trainer as trainer
from mh_support.benchmark.scaling import SHARDED, shard_on_cpu
from mh_support.data.preparation import data_fingerprint
from mh_support.dialogue import encode_dialogue
from mh_support.files import read_json
from mh_support.modeling import load_model, weights_fingerprint
from mh_support.packing import PackingCollator
from mh_support.run_folder import RunFolder

# 48 rows in two processes of 6 are four steps an epoch; checkpoint 6 lies in the middle of the second.
STEPS: dict[str, Any] = {"per_device_train_batch_size": 6, "max_steps": 8, "eval_steps": 2, "save_steps": 2}


def work(
    rank: int, port: int, folder: Path, model: Path, data: Path, die_at: str, sharded: bool, changes: dict[str, Any]
) -> None:
    """Be one of two processes, as a launcher starts them; note the rows that it is given, and die where told."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ.update({**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"})
    if sharded:
        os.environ.update(SHARDED)
        shard_on_cpu()
    quick_steps()
    notes = folder.parent / f"rows{rank}.jsonl"

    class Noted(PackingCollator):
        def __call__(self, features):
            with notes.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps([feature["input_ids"] for feature in features]) + "\n")
            return super().__call__(features)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and die_at and str(arguments[0]).endswith(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.PackingCollator = Noted
    sys.addaudithook(hook)
    train(folder, model, data, **{**STEPS, "sample_replies": 0, **changes})


class Pair:
    """Starts the same training in two processes."""

    def __init__(self, home: Path, tokenizer) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["mh_support.training", "codecarbon", "peft", "torch.utils.tensorboard"])
        self.model, self.data = save_model(home / "tiny", tokenizer), write_csv(home / "talk.csv")

    def __call__(
        self, folder: Path, *, die_at: str = "", model: Path | None = None, sharded: bool = False, **changes: Any
    ) -> list[int | None]:
        """Return how the two ended; where the first was killed, the second is too."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        processes = [
            self.context.Process(
                target=work,
                args=(rank, port, folder, model or self.model, self.data, "" if rank else die_at, sharded, changes),
            )
            for rank in (0, 1)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
            if die_at:
                processes[1].kill()
        return [process.exitcode for process in processes]


@pytest.fixture(scope="module")
def pair(tmp_path_factory, tiny_tokenizer):
    return Pair(tmp_path_factory.mktemp("pair"), tiny_tokenizer)


@pytest.fixture(scope="module")
def finished(pair, tmp_path_factory):
    """A run that two processes made and nothing cut off."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert pair(folder) == [0, 0]
    return RunFolder.open(folder)


def test_two_processes_make_one_run(finished):
    record = finished.record()
    assert record["arguments"]["world_size"] == 2
    assert (record["training"]["global_step"], record["training"]["planned_steps"]) == (8, 8)
    assert record["training"]["epochs"] == 2.0
    assert record["fingerprints"]["weights"] == weights_fingerprint(finished.model)
    assert record["fingerprints"]["data"] == data_fingerprint(finished.data)
    assert sorted(path.name for path in finished.path.iterdir()) == RUN_FILES
    assert len(list(finished.tensorboard.iterdir())) == 1
    assert read_json(finished.emissions_file)["sessions"] == 1
    assert (finished.checkpoints / "checkpoint-8" / "rng_state_1.pth").is_file()


def test_each_row_is_trained_on_once_an_epoch_by_one_of_them(finished, tiny_tokenizer):
    rows = sorted(
        encode_dialogue(tiny_tokenizer, json.loads(line)["messages"], max_length=64).rows[0]["input_ids"]
        for line in finished.data.joinpath("train.jsonl").read_text(encoding="utf-8").splitlines()
    )
    given = []
    for rank in (0, 1):
        noted = finished.path.with_name(f"rows{rank}.jsonl").read_text(encoding="utf-8").splitlines()
        # The others are evaluations.
        given.append([batch for batch in map(json.loads, noted) if all(row in rows for row in batch)])
    assert [len(batches) for batches in given] == [8, 8]
    for epoch in (0, 1):
        both = [row for batches in given for batch in batches[4 * epoch : 4 * epoch + 4] for row in batch]
        assert sorted(both) == rows
    assert given[0][:4] != given[0][4:]


@pytest.mark.parametrize(("sharded", "accumulated"), [(False, 1), (False, 3), (True, 1), (True, 3)])
def test_two_processes_train_as_one_with_twice_the_batch(pair, tmp_path, tiny_tokenizer, sharded, accumulated):
    # Dropout would draw other numbers in each of them.
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = save_model(tmp_path / "still", tiny_tokenizer, **still)
    # Rows in an order that does not depend on the batch size.
    same = {"train_sampling_strategy": "random", "logging_steps": 1, "max_steps": 4, "eval_steps": 4, "save_steps": 4}
    two, one = tmp_path / "two", tmp_path / "one"
    each = 6 // accumulated
    changes = {**same, "per_device_train_batch_size": each, "gradient_accumulation_steps": accumulated}
    assert pair(two, model=model, sharded=sharded, **changes) == [0, 0]
    train(one, model, pair.data, **{**STEPS, **same, "per_device_train_batch_size": 12, "sample_replies": 0})
    runs = [RunFolder.open(folder) for folder in (one, two)]
    logs = [read_json(run.log_file) for run in runs]
    losses = [[entry["loss"] for entry in log if "loss" in entry] for log in logs]
    assert len(losses[0]) == 4
    assert losses[0][0] - losses[0][-1] > 0.1, "it does learn"
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    weights = [load_file(run.model / "model.safetensors") for run in runs]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=2e-3, msg=name)


@pytest.mark.parametrize("sharded", [False, True])
def test_killed_within_an_epoch_they_end_as_if_they_had_not_been(pair, finished, tmp_path, sharded):
    whole = finished
    if sharded:
        assert pair(tmp_path / "whole", sharded=True) == [0, 0]
        whole = RunFolder.open(tmp_path / "whole")
    folder = tmp_path / "run"
    killed, other = pair(folder, die_at="checkpoint-8/trainer_state.json", sharded=sharded)
    # On a busy machine the second finds its peer gone before it is killed itself.
    assert killed == -signal.SIGKILL
    assert other in (1, -signal.SIGKILL)
    assert RunFolder(folder).record()["finished"] is None
    assert pair(folder, sharded=sharded) == [0, 0]
    run = RunFolder.open(folder)
    assert run.record()["training"]["global_step"] == 8
    assert (run.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()


def test_another_number_of_processes_is_refused(pair, finished):
    with pytest.raises(ValueError, match=r"was started otherwise: world_size is 1, the run has 2; give the same argum"):
        train(finished.path, pair.model, pair.data, **{**STEPS, "sample_replies": 0})


def launch(pair: Pair, folder: Path, *options: str, **changes: Any) -> tuple[RunFolder, str]:
    """Start the recipe with `accelerate launch` in a folder; return its run and what it printed."""
    flags = {"model": pair.model, "data": pair.data, **SHORT, **STEPS, "sample_replies": 1, "disable_tqdm": "true"}
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "--main_process_port", "0"]
    command += [str(ROOT / "recipes" / "finetune.py")]
    command += [item for name, value in {**flags, **changes}.items() for item in (f"--{name}", str(value).lower())]
    # Without a GPU in sight this is two processes on the CPU; `accelerate launch --cpu` would start one alone.
    alone = {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    alone["PYTHONPATH"] = os.pathsep.join([str(folder.parent), os.environ.get("PYTHONPATH", "")])
    launched = subprocess.run(
        command, cwd=folder, env={**os.environ, **alone}, capture_output=True, text=True, timeout=300
    )
    assert launched.returncode == 0, launched.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["runs"]
    (made,) = (path for path in (folder / "runs").iterdir() if not path.is_symlink())
    assert (folder / "runs" / "latest").resolve() == made
    return RunFolder.open(made), launched.stdout


def test_accelerate_launches_the_recipe(pair, finished, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    options = ("--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no")
    run, printed = launch(pair, folder, *options, "--dynamo_backend", "no")
    assert run.record()["arguments"]["world_size"] == 2
    # One of them speaks.
    assert printed.count(f"model        {pair.model}, full\n") == 1
    assert printed.count("sample 1: ") == 4
    assert printed.splitlines()[-1] == f"score it with recipes/score.py runs/{run.path.name}"
    assert (run.model / "model.safetensors").read_bytes() == (finished.model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("lora", [False, True])
def test_the_file_for_fsdp_shards_what_the_recipe_trains(pair, tmp_path, lora):
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n\nif 'RANK' in os.environ:\n"
        "    from mh_support.benchmark.scaling import shard_on_cpu\n\n    shard_on_cpu()\n",
        encoding="utf-8",
    )
    folder = tmp_path / "here"
    folder.mkdir()
    configuration = str(ROOT / "recipes" / "configs" / "accelerate_fsdp.yaml")
    run, printed = launch(pair, folder, "--config_file", configuration, lora=lora, bf16=True)
    assert run.record()["dtype"] == "bf16"
    # Nothing is generated with a part of the weights.
    assert "sample 1: " not in printed
    losses = [entry["eval_loss"] for entry in read_json(run.log_file) if "eval_loss" in entry]
    assert losses[-1] < losses[0] - 0.01
    # Which of them is the best is not to be decided by how bf16 rounds.
    found = torch.tensor(losses)
    assert (found != found.bfloat16().float()).all()
    assert load_model(str(run.model)).dtype == torch.float32
    if not lora:
        saved, base = (load_file(path / "model.safetensors") for path in (run.model, pair.model))
        assert {name: weight.shape for name, weight in saved.items()} == {n: w.shape for n, w in base.items()}
    # The optimizer too is put together from what each of them has.
    assert (run.checkpoints / "checkpoint-8" / "optimizer.bin").is_file()
