"""What is known of a run before its first step: the model, the rows as token ids, and how many steps it will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import set_seed

from mh_support.data.preparation import Dialogue, Prepared
from mh_support.dialogue import IGNORED, encode_dialogue, set_chat_template
from mh_support.modeling import (
    ModelArguments,
    count_parameters,
    load_model,
    load_tokenizer,
    memory_estimate,
    prepare_training,
    state_fingerprint,
)
from mh_support.training_arguments import FinetuneArguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One split as token rows, and its counts of dialogues, rows, tokens and long dialogues."""

    rows: Dataset = field(repr=False)
    counts: dict[str, int]


@dataclass(frozen=True)
class Plan:
    """All that is known of a run before its first step."""

    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    splits: dict[str, Sequence[Dialogue]] = field(repr=False)
    encoded: dict[str, Encoded] = field(repr=False)
    steps: int
    base_weights: str
    record: dict[str, Any]


def encode_split(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Dialogue], arguments: FinetuneArguments, name: str
) -> Encoded:
    """Return a split's rows of `input_ids`, `labels` and `length`, and their counts.

    Raises:
        ValueError: no row is left.
    """
    rows: list[dict[str, Any]] = []
    long = 0
    for dialogue in tqdm(dialogues, desc=f"encoding {name}", disable=arguments.disable_tqdm, leave=False):
        encoded = encode_dialogue(
            tokenizer,
            dialogue["messages"],
            max_length=arguments.max_length,
            long_inputs=arguments.long_inputs,
            completion_only_loss=arguments.completion_only_loss,
        )
        long += encoded.long
        rows += [{**row, "length": len(row["input_ids"])} for row in encoded.rows]
    if not rows:
        raise ValueError(
            f"no {name} row is left: {long} of {len(dialogues)} dialogues are longer than max_length "
            f"{arguments.max_length}; raise it or pass --long_inputs truncate"
        )
    counts = {
        "dialogues": len(dialogues),
        "rows": len(rows),
        "tokens": sum(row["length"] for row in rows),
        "supervised_tokens": sum(label != IGNORED for row in rows for label in row["labels"]),
        "long_dialogues": long,
    }
    return Encoded(Dataset.from_list(rows), counts)


def make_plan(model_arguments: ModelArguments, prepared: Prepared, arguments: FinetuneArguments) -> Plan:
    """Load the model, encode the splits and count what training will take.

    Raises:
        ValueError: the model cannot be loaded, or does not fit the arguments.
    """
    name = model_arguments.model_name_or_path
    tokenizer = load_tokenizer(name, revision=model_arguments.model_revision)
    set_chat_template(tokenizer)
    set_seed(arguments.seed)
    model = load_model(name, revision=model_arguments.model_revision)
    positions = int(model.config.max_position_embeddings)
    if arguments.max_length > positions:
        raise ValueError(f"max_length is {arguments.max_length} and the model has {positions} positions; give fewer")
    base_weights = state_fingerprint(model)
    architecture, parameters = type(model).__name__, count_parameters(model)[1]
    model = prepare_training(model, model_arguments)
    encoded = {
        split: encode_split(tokenizer, prepared.splits[split], arguments, split) for split in ("train", "validation")
    }
    record = {
        "base_model": {
            "name_or_path": name,
            "is_local": name != "starter" and Path(name).exists(),
            "revision": model_arguments.model_revision,
            "architecture": architecture,
            "parameters": parameters,
        },
        "method": {**model_arguments.as_method(), "trainable_parameters": count_parameters(model)[0]},
    }
    steps = _steps(len(encoded["train"].rows), arguments)
    return Plan(model, tokenizer, prepared.splits, encoded, steps, base_weights, record)


def _steps(rows: int, arguments: FinetuneArguments) -> int:
    """Return how many optimizer steps the run has, and let a short run be evaluated at least each epoch."""
    batch = arguments.train_batch_size * arguments.world_size
    batches = rows // batch if arguments.dataloader_drop_last else math.ceil(rows / batch)
    each_epoch = max(1, math.ceil(batches / arguments.gradient_accumulation_steps))
    steps = arguments.max_steps if arguments.max_steps > 0 else math.ceil(each_epoch * arguments.num_train_epochs)
    arguments.eval_steps = arguments.save_steps if arguments.eval_steps is None else arguments.eval_steps
    if steps < arguments.eval_steps:
        arguments.eval_steps = arguments.save_steps = min(each_epoch, steps)
    return steps


def describe(plan: Plan, arguments: FinetuneArguments) -> str:
    """Return what would be trained: rows, tokens, parameters, steps, memory, and the first three rows as encoded."""
    trainable, total = count_parameters(plan.model)
    train = plan.encoded["train"].counts
    memory = memory_estimate(
        plan.model, batch_size=arguments.per_device_train_batch_size, max_length=arguments.max_length
    )
    lines = [
        f"model        {plan.record['base_model']['name_or_path']}, {plan.record['method']['kind']}",
        f"parameters   {trainable:,} trainable of {total:,}",
        f"precision    {'bf16' if arguments.bf16 else 'fp16' if arguments.fp16 else 'fp32'} on {arguments.device.type}",
        f"rows         {train['rows']:,} from {train['dialogues']:,} dialogues ({train['long_dialogues']:,} long: "
        f"{arguments.long_inputs}), validation {plan.encoded['validation'].counts['rows']:,}",
        f"tokens       {train['tokens']:,} an epoch, {train['supervised_tokens']:,} of them supervised",
        f"steps        {plan.steps:,}, evaluated and saved every {arguments.eval_steps:,}",
        f"memory       about {memory / 2**30:.1f} GiB",
    ]
    return "\n".join(lines)


def describe_rows(plan: Plan, count: int = 3) -> str:
    """Return the first rows as text, what is supervised in [brackets]."""
    lines = []
    for row in plan.encoded["train"].rows.select(range(min(count, len(plan.encoded["train"].rows)))):
        pieces = []
        for supervised, group in groupby(
            zip(row["input_ids"], row["labels"], strict=True), lambda pair: pair[1] != IGNORED
        ):
            text = plan.tokenizer.decode([token for token, _ in group])
            pieces.append(f"[{text}]" if supervised else str(text))
        lines.append("".join(pieces))
    return "\n\n".join(lines)
