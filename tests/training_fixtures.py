"""What the training tests share: sixty made-up dialogues, a saved model of a few kilobytes, and runs made from them."""

from __future__ import annotations

import csv
import gc
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from mh_support.data.preparation import DataArguments
from mh_support.modeling import ModelArguments
from mh_support.run_folder import RunFolder
from mh_support.training import FinetuneArguments, finetune

ROOT = Path(__file__).resolve().parent.parent
_NOUNS = (
    "river stone apple window garden bread music letter winter coffee train doctor sister teacher market "
    "forest candle mirror pillow ladder blanket bottle kitchen harbour island lemon orange pepper saddle thunder"
)
WORDS = _NOUNS.split()
# What a finished run leaves in its folder.
RUN_FILES = [
    *(".lock", "checkpoints", "data", "data_report.json", "emissions.json", "log_history.json", "model", "run.json"),
    "tensorboard",
]
# Twelve steps, looked at and saved three times, in a second or two.
SHORT: dict[str, Any] = {
    "max_length": 64,
    "max_steps": 12,
    "eval_steps": 4,
    "save_steps": 4,
    "logging_steps": 2,
    "learning_rate": 1e-2,
    "bf16": False,
    "disable_tqdm": True,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Keep the steps of models this small from being the least part of the time."""
    before = torch.get_num_threads()
    quick_steps()
    yield
    torch.set_num_threads(before)
    gc.unfreeze()


def quick_steps() -> None:
    """Compute in one thread, and keep what is loaded already out of the garbage collection of each training."""
    # On a busy machine two threads wait for each other most of the time.
    torch.set_num_threads(1)
    gc.freeze()


def load_recipe(name: str) -> ModuleType:
    """Import recipes/NAME.py as a module, which the folder's name alone does not make it."""
    spec = importlib.util.spec_from_file_location(f"{name}_recipe", ROOT / "recipes" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = recipe
    spec.loader.exec_module(recipe)
    return recipe


def dialogues() -> list[tuple[str, str]]:
    """Return thirty questions with two answers each, short enough for 64 positions and like no other."""
    pairs = []
    for number, word in enumerate(WORDS):
        other, third = WORDS[(number + 7) % 30], WORDS[(number + 13) % 30]
        pairs.append((f"My {word} {other} hurts", f"Tell me of {third}"))
        pairs.append((f"My {word} {other} hurts", f"That {other} is hard"))
    return pairs


def write_csv(path: Path, pairs: list[tuple[str, str]] | None = None) -> Path:
    """Write dialogues as a Context/Response CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("Context", "Response"), *(dialogues() if pairs is None else pairs)])
    return path


def save_model(path: Path, tokenizer: PreTrainedTokenizerBase, *, seed: int = 0, **config: Any) -> Path:
    """Save a GPT-2 of two blocks with random weights, and its tokenizer."""
    end = tokenizer.eos_token_id
    shape = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, **config}
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **ends, **shape)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def train(run: Path | None, model: Path | str, data: Path, **changes: Any) -> RunFolder | None:
    """Fine-tune as `SHORT` says, with `changes` to any of the arguments."""
    groups: list[dict[str, Any]] = []
    for kind in (ModelArguments, DataArguments):
        groups.append({name: changes.pop(name) for name in kind.__dataclass_fields__ if name in changes})
    output = None if run is None else str(run)
    return finetune(
        ModelArguments(model_name_or_path=str(model), **groups[0]),
        DataArguments(dataset_name=[str(data)], **groups[1]),
        FinetuneArguments(output_dir=output, **{**SHORT, **changes}),
    )
