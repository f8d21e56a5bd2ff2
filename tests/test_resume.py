"""A run that is killed at any moment and started again ends with the very weights of one that nothing cut off.

The processes here are killed with SIGKILL, as the kernel does it when memory runs out: nothing is caught or cleaned up.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from training_fixtures import ROOT, RUN_FILES, SHORT, quick_steps, save_model, train, write_csv

import mh_support.training as training
from mh_support.files import read_json
from mh_support.run_folder import RunFolder
from mh_support.trainer import DialogueTrainer

# Eight steps in two epochs: checkpoints 2 and 6 lie within an epoch, 4 and 8 at the end of one.
STEPS: dict[str, Any] = {
    "per_device_train_batch_size": 12,
    "max_steps": 8,
    "eval_steps": 2,
    "save_steps": 2,
    "sample_replies": 0,
}
EVENTS = {"open": 0, "os.mkdir": 0, "os.rename": 1, "os.rmdir": 0, "shutil.rmtree": 0}


def run_once(folder: Path, model: Path, data: Path, changes: dict[str, Any], moment: str, losses: dict[int, float]):
    """Train in this process and kill it when `moment` comes: an event of Python's in the run folder, and its number.

    Python tells of each file that it is about to open, make, move or remove, so that any place in between can be named:
    "os.rename run.json 2" is just before the record is put in place for the second time.
    """
    quick_steps()
    seen: Counter[str] = Counter()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not str(arguments[EVENTS[event]]).startswith(str(folder)):
            return
        # What is written beside its place lies in a folder with eight letters of chance in its name.
        place = re.sub(r"\.[a-z0-9_]{8}(?=/|$)", "", str(arguments[EVENTS[event]]).removeprefix(str(folder))).strip("/")
        seen[f"{event} {place}"] += 1
        if f"{event} {place} {seen[f'{event} {place}']}" == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    class Scripted(DialogueTrainer):
        def evaluation_loop(self, *args, **kwargs):
            output = super().evaluation_loop(*args, **kwargs)
            output.metrics["eval_loss"] = losses[self.state.global_step]
            return output

    if losses:
        training.DialogueTrainer = Scripted
    if moment:
        sys.addaudithook(hook)
    train(folder, model, data, **{**STEPS, **changes})


@pytest.fixture(scope="module")
def processes():
    """Start processes from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mh_support.training", "codecarbon", "peft", "torch.utils.tensorboard"])
    return context


class Starter:
    """Runs the same training in processes of their own."""

    def __init__(self, context, home: Path, tokenizer) -> None:
        self.context = context
        self.model, self.data = save_model(home / "tiny", tokenizer), write_csv(home / "talk.csv")

    def process(self, folder: Path, moment: str = "", losses: dict[int, float] | None = None, **changes: Any):
        arguments = (folder, self.model, self.data, changes, moment, losses or {})
        return self.context.Process(target=run_once, args=arguments)

    def __call__(self, *arguments: Any, **changes: Any) -> int:
        """Return how the process ended: 0, or -9 if it was killed."""
        process = self.process(*arguments, **changes)
        process.start()
        process.join(300)
        assert process.exitcode is not None, "the process hangs"
        return process.exitcode


@pytest.fixture(scope="module")
def start(processes, tmp_path_factory, tiny_tokenizer):
    return Starter(processes, tmp_path_factory.mktemp("home"), tiny_tokenizer)


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    """Return the bytes of the final weights of a run that nothing cut off, by its method."""
    weights: dict[bool, bytes] = {}

    def made(lora: bool) -> bytes:
        if lora not in weights:
            folder = tmp_path_factory.mktemp("whole") / "run"
            assert start(folder, lora=lora) == 0
            weights[lora] = weights_of(folder)
        return weights[lora]

    return made


def weights_of(folder: Path) -> bytes:
    run = RunFolder.open(folder)
    (file,) = run.model.glob("*.safetensors")
    assert run.record()["training"]["global_step"] == 8
    return file.read_bytes()


MOMENTS = {
    "just after the dialogues are written": "shutil.rmtree .data 1",
    "just before the first checkpoint is whole": "open checkpoints/checkpoint-2/trainer_state.json 1",
    "after a checkpoint at an epoch's end": "open .emissions.json/emissions.json 2",
    "after a checkpoint within an epoch": "os.rename emissions.json 3",
    "after the last checkpoint": "os.rename emissions.json 4",
    "before the run is recorded as finished": "os.rename run.json 3",
}
# One after the other, each in the start that goes on from where the one before was killed.
IN_A_ROW = (
    "os.mkdir  1",  # The run's folder.
    "open .run.json/run.json 1",
    "os.rename run.json 1",
    "open .data/data/.validation.jsonl/validation.jsonl 1",
    "os.rename data 1",
    "shutil.rmtree .data 2",  # Once what the kill before left behind is swept.
    "os.rename data_report.json 1",
    "os.rename run.json 1",  # With the fingerprints this time.
    "os.mkdir tensorboard 1",
    "open checkpoints/checkpoint-2/tokenizer_config.json 1",
    "open checkpoints/checkpoint-2/trainer_state.json 1",
    "open .emissions.json/emissions.json 2",  # Checkpoint 4 is whole.
    "shutil.rmtree checkpoints/checkpoint-2 1",  # Checkpoint 6 is whole, and one too many.
    "open checkpoints/checkpoint-8/trainer_state.json 1",
    "os.rmdir checkpoints/checkpoint-2 1",  # Checkpoint 8 is whole, and all steps are made.
    "open .model/model/tokenizer_config.json 1",
    "os.rename model 1",
    "shutil.rmtree .model 2",
    "os.rename log_history.json 1",
    "os.rename run.json 1",  # As finished.
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_once_it_ends_as_if_it_had_not_been(start, uninterrupted, tmp_path, moment):
    folder = tmp_path / "run"
    assert start(folder, MOMENTS[moment]) == -signal.SIGKILL
    with pytest.raises(ValueError, match=r"has not finished"):
        RunFolder.open(folder)
    assert start(folder) == 0
    assert weights_of(folder) == uninterrupted(False)


def test_an_adapters_run_killed_again_and_again_ends_as_if_it_had_not_been(start, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for moment in IN_A_ROW:
        assert (moment, start(folder, moment, lora=True)) == (moment, -signal.SIGKILL)
    assert start(folder, lora=True) == 0
    assert weights_of(folder) == uninterrupted(True)
    # Nothing that was half-written is left.
    assert sorted(path.name for path in folder.iterdir()) == RUN_FILES
    assert not [path for path in (folder / "model").iterdir() if path.name.startswith(".")]


# --- early stopping ---------------------------------------------------------------------------------------------------

LOSSES = {2: 5.0, 4: 4.0, 6: 4.5, 8: 4.2, 10: 1.0, 12: 1.0}


@pytest.mark.parametrize(
    "moment",
    [
        # One evaluation without a better loss is behind it; without its count it would wait for two more.
        "os.rename emissions.json 3",
        # It has decided to stop; if it went on it would find a better model.
        "os.rename emissions.json 4",
        "os.rename model 1",
    ],
)
def test_patience_is_carried_over(start, tmp_path, moment):
    folder = tmp_path / "run"
    patient = {"losses": LOSSES, "early_stopping_patience": 2, "max_steps": 40}
    assert start(folder, moment, **patient) == -signal.SIGKILL
    assert start(folder, **patient) == 0
    run = RunFolder.open(folder)
    record = run.record()["training"]
    assert (record["global_step"], record["best_step"], record["best_eval_loss"]) == (8, 4, 4.0)
    assert (record["planned_steps"], record["stopped_early"]) == (40, True)
    assert [entry["eval_loss"] for entry in read_json(run.log_file) if "eval_loss" in entry] == [5.0, 4.0, 4.5, 4.2]
    final, best = (path / "model.safetensors" for path in (run.model, run.checkpoints / "checkpoint-4"))
    assert final.read_bytes() == best.read_bytes()


# --- killed from outside ----------------------------------------------------------------------------------------------


def test_killed_as_soon_as_a_checkpoints_folder_appears(start, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    process = start.process(folder)
    process.start()
    while not (folder / "checkpoints" / "checkpoint-6").exists():
        process.join(0.001)
        assert process.is_alive()
    process.kill()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert start(folder) == 0
    assert weights_of(folder) == uninterrupted(False)
    assert read_json(folder / "emissions.json")["sessions"] == 2


def test_the_same_command_goes_on_from_the_line_it_was_killed_at(start, uninterrupted, tmp_path):
    run = tmp_path / "run"
    flags = {"model": start.model, "data": start.data, "output_dir": run, **SHORT, **STEPS, "disable_tqdm": "true"}
    command = [sys.executable, str(ROOT / "recipes" / "finetune.py")]
    command += [item for name, value in flags.items() for item in (f"--{name}", str(value).lower())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}

    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        lines = list(itertools.islice(process.stdout, 11))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert lines[0] == f"model        {start.model}, full\n"
    assert "eval_loss" in lines[-1]

    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == f"score it with recipes/score.py {run}"
    assert weights_of(run) == uninterrupted(False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# --- what a kill can leave --------------------------------------------------------------------------------------------


def test_half_written_checkpoints_are_removed_and_the_newest_whole_one_found(tmp_path):
    run = RunFolder(tmp_path)
    assert run.last_checkpoint() is None
    for step in (9, 100, 200, 300):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "trainer_state.json").write_text("{}", encoding="utf-8")
    (run.checkpoints / "checkpoint-200" / "trainer_state.json").write_text('{"global_step": 2', encoding="utf-8")
    (run.checkpoints / "checkpoint-300" / "trainer_state.json").unlink()
    assert run.last_checkpoint() == run.checkpoints / "checkpoint-100"
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-100", "checkpoint-9"]
    shutil.rmtree(run.checkpoints / "checkpoint-100")
    (run.checkpoints / "checkpoint-9" / "trainer_state.json").write_bytes(b"\xff\xfe{")
    assert run.last_checkpoint() is None
    assert list(run.checkpoints.iterdir()) == []
