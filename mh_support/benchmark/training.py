"""Training as the original recipe, TRL and this package do it, on the same batches from the same weights."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mh_support.benchmark.processes import matmul_rate
from mh_support.data.sources import dialogues_of, open_source
from mh_support.dialogue import IGNORED, encode_dialogue, set_chat_template
from mh_support.files import read_json, write_json
from mh_support.modeling import ModelArguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_LENGTH = 512
POSITIONS = 1024  # GPT-2's.
# What a vocabulary of GPT-2's kind comes to on a data set of counselling: tokens of about its length.
VOCABULARY = 16384
END = "<|endoftext|>"


@dataclass(frozen=True)
class Arm:
    """One way to train: whose, which parameters, whether the frozen blocks' output is kept and blocks are compiled."""

    label: str
    library: str
    method: str
    cached: bool = False
    compiled: bool = False

    @property
    def model_arguments(self) -> ModelArguments:
        """What trains, as recipes/finetune.py is told it."""
        ways: dict[str, dict[str, Any]] = {
            "full": {},
            "lora": {"lora": True, "lora_dropout": 0.0},
            "last two": {"train_layers": 2},
        }
        return ModelArguments(model_name_or_path="benchmark", **ways[self.method])


ARMS = {
    "original": Arm("original recipe: Trainer, fp32, padded to 512", "trainer", "full"),
    "trl_full": Arm("TRL SFTTrainer, full", "trl", "full"),
    "ours_full": Arm("ours, full", "ours", "full"),
    "trl_lora": Arm("TRL SFTTrainer, LoRA", "trl", "lora"),
    "ours_lora": Arm("ours, LoRA", "ours", "lora"),
    "trl_last": Arm("TRL SFTTrainer, last two blocks", "trl", "last two"),
    "ours_last": Arm("ours, last two blocks", "ours", "last two"),
    "ours_cached": Arm("ours, last two blocks, frozen output kept", "ours", "last two", cached=True),
    "ours_compiled": Arm("ours, full, torch.compile", "ours", "full", compiled=True),
}
# Those that are asked for by name: they need a C++ compiler.
EXTRA = ("ours_compiled",)


@dataclass
class TrainingSetup:
    """The model's folder, the batches in order, and how they are trained on."""

    folder: str
    batch_size: int
    bf16: bool
    steps: int
    learning_rate: float = 5e-5
    lengths: list[int] = field(default_factory=list)
    supervised: list[int] = field(default_factory=list)


def read_dialogues(data: str, limit: int | None = None) -> list[list[dict[str, str]]]:
    """Return the dialogues of a data set as they are, without cleaning."""
    rows: Iterable[Any] = dialogues_of(open_source(data))
    return [row["messages"] for row in islice(rows, limit)]


def make_tokenizer(dialogues: Sequence[Sequence[dict[str, str]]]) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE of GPT-2's kind on the dialogues."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    texts = [message["content"] for messages in dialogues for message in messages]
    bpe.train_from_iterator(
        texts, vocab_size=VOCABULARY, min_frequency=2, special_tokens=[END], show_progress=False, length=len(texts)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token=END, eos_token=END, pad_token=END)
    set_chat_template(tokenizer)
    return tokenizer


def make_model(folder: Path, tokenizer: PreTrainedTokenizerBase, *, dropout: float, **shape: Any) -> None:
    """Save GPT-2 with random weights: how long a step takes does not depend on their values.

    It has GPT-2's full size unless `shape` says otherwise.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    drop: dict[str, Any] = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    ends = {name: tokenizer.eos_token_id for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    GPT2LMHeadModel(GPT2Config(**drop, **ends, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_setup(
    folder: Path,
    dialogues: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    steps: int,
    bf16: bool,
) -> TrainingSetup:
    """Draw rows by chance, put those of like length in a batch and the batches in an order by chance; save them.

    Raises:
        ValueError: there are too few dialogues.
    """
    wanted = batch_size * (steps + 1)  # The first batch warms up.
    if len(dialogues) < wanted:
        raise ValueError(f"the data has {len(dialogues)} dialogues and {wanted} are needed; give more, or fewer steps")
    rng = random.Random(0)
    rows = []
    for dialogue in rng.sample(list(dialogues), wanted):
        rows += encode_dialogue(tokenizer, dialogue, max_length=MAX_LENGTH).rows
    rows.sort(key=lambda row: len(row["input_ids"]))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    rng.shuffle(batches)
    ordered = [row for batch in batches for row in batch]
    write_json(folder / "rows.json", ordered)
    setup = TrainingSetup(str(folder), batch_size, bf16, steps)
    setup.lengths = [len(row["input_ids"]) for row in ordered]
    setup.supervised = [sum(label != IGNORED for label in row["labels"][1:]) for row in ordered]
    write_json(folder / "setup.json", asdict(setup))
    return setup


def measure_arm(name: str, setup: TrainingSetup) -> dict[str, Any]:
    """Train on every batch once; return seconds and loss of each step but the first, and the matmul rate meanwhile."""
    from transformers import PrinterCallback

    arm, rows = ARMS[name], read_json(Path(setup.folder) / "rows.json")
    rates = [matmul_rate()]
    clock = _step_clock()
    trainer, fill = trainer_of(arm, setup, rows, clock)
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    fill()
    filled = time.perf_counter() - started
    trainer.train()
    rates.append(matmul_rate())
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seconds": [after - before for before, after in pairwise(clock.ends)],
        # Of all threads together: what is left to compare by where others use the machine too.
        "cpu_seconds": [after - before for before, after in pairwise(clock.cpu)],
        "losses": losses,
        "fill_seconds": filled if arm.cached else 0.0,
        "matmul_rate": sum(rates) / len(rates),
    }


def trainer_of(arm: Arm, setup: TrainingSetup, rows: list[dict[str, Any]], clock: Any) -> tuple[Any, Any]:
    """Return a trainer that has not begun, and what is to be done once before it does."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer
    from transformers import logging as transformers_logging

    from mh_support.modeling import load_model, prepare_training

    transformers_logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(setup.folder)
    ours = arm.library == "ours"
    model = load_model(setup.folder) if ours else AutoModelForCausalLM.from_pretrained(setup.folder, dtype="float32")
    # The same adapter from the same seed for everyone.
    torch.manual_seed(0)
    model = prepare_training(model, arm.model_arguments)
    dataset = Dataset.from_list([{**row, "length": len(row["input_ids"]), "row": i} for i, row in enumerate(rows)])
    shared: dict[str, Any] = {"model": model, "args": _arguments(arm, setup), "callbacks": [clock]}
    if ours:
        return _our_trainer(arm, setup, tokenizer, dataset, shared)
    dataset = dataset.select_columns(["input_ids", "labels"])
    if arm.library == "trl":
        from trl import SFTTrainer

        return SFTTrainer(**shared, train_dataset=dataset, processing_class=tokenizer), lambda: None
    collator = DataCollatorForSeq2Seq(
        tokenizer, label_pad_token_id=IGNORED, padding="max_length", max_length=MAX_LENGTH
    )
    return Trainer(**shared, train_dataset=dataset, data_collator=collator), lambda: None


def _our_trainer(
    arm: Arm, setup: TrainingSetup, tokenizer: Any, dataset: Any, shared: dict[str, Any]
) -> tuple[Any, Any]:
    from mh_support.frozen_prefix import FrozenPrefix, Layout, frozen_blocks
    from mh_support.trainer import DialogueTrainer

    model, prefix = shared["model"], None
    if arm.compiled:
        _compile_blocks(model)
    if arm.cached:
        layout = Layout(setup.lengths, model.config.hidden_size)
        # A key of its own each time, so that the first pass is made each time.
        key = {"measured": time.time_ns()}
        prefix = FrozenPrefix(Path(setup.folder) / "frozen_prefix", key, layout, frozen_blocks(model))
    trainer = DialogueTrainer(**shared, tokenizer=tokenizer, prefix=prefix, train_dataset=dataset)

    def fill() -> None:
        if prefix is not None:
            prefix.fill(model, {"train": dataset}, progress=False, bf16=setup.bf16)

    return trainer, fill


def _compile_blocks(model: Any) -> None:
    """Let torch compile each block once for batches of any length, but for the attention, which goes row by row."""
    import torch
    from transformers import AttentionInterface

    from mh_support.packing import PACKED, causal_lm

    AttentionInterface.register(PACKED, torch.compiler.disable(AttentionInterface()[PACKED]))
    for block in causal_lm(model).transformer.h:
        block.compile(dynamic=True)


def _arguments(arm: Arm, setup: TrainingSetup) -> Any:
    from transformers import TrainingArguments

    settings: dict[str, Any] = {
        "output_dir": str(Path(setup.folder) / "checkpoints"),
        "per_device_train_batch_size": setup.batch_size,
        "num_train_epochs": 1,
        "learning_rate": setup.learning_rate,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "ddp_find_unused_parameters": False,
        # The original computes in fp32, which is what Trainer does unless it is told otherwise.
        "bf16": setup.bf16 and arm.library != "trainer",
    }
    if arm.library == "trl":
        from trl import SFTConfig

        # Its best here: no recomputation, rows padded to the longest of a batch of like lengths. Its packing and
        # padding-free batches need flash attention, which a CPU has not; without it rows would see each other.
        settings |= {"activation_checkpointing": False, "max_length": MAX_LENGTH}
        return SFTConfig(**settings, dataset_kwargs={"skip_prepare_dataset": True})
    return TrainingArguments(**settings)


def _step_clock() -> Any:
    from transformers import TrainerCallback

    class StepClock(TrainerCallback):
        """Notes when each step ends; collation, which comes before a step begins, is part of what lies between."""

        def __init__(self) -> None:
            self.ends: list[float] = []
            self.cpu: list[float] = []

        def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
            self.ends.append(time.perf_counter())
            self.cpu.append(time.process_time())

    return StepClock()


def needed_operations(arm: Arm, setup: TrainingSetup) -> float:
    """Return the operations that the measured steps need on real tokens alone, whoever makes them.

    Two a weight and token forwards, two back to the input and two for the weight's gradient where it trains; causal
    attention at half of the square; the head at supervised positions.
    """
    from transformers import GPT2Config

    shape = GPT2Config.from_pretrained(setup.folder)
    block = 12 * shape.n_embd**2
    passes = {"full": 6, "lora": 4, "last two": 6}[arm.method]
    blocks = {"full": shape.n_layer, "lora": shape.n_layer, "last two": 2}[arm.method]
    frozen = 0 if arm.cached or arm.method != "last two" else 2 * block * (shape.n_layer - 2)
    head = (6 if arm.method == "full" else 4) * shape.vocab_size * shape.n_embd
    lengths, supervised = (rows[setup.batch_size :] for rows in (setup.lengths, setup.supervised))
    # Scores and their product with the values: 2 x 2 x width x length^2 / 2 forwards, twice that backwards.
    attention = 6 * shape.n_embd * blocks * sum(length**2 for length in lengths)
    return sum(lengths) * (passes * blocks * block + frozen) + sum(supervised) * head + attention
