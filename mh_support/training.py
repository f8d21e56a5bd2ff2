"""Fine-tuning on dialogues: from arguments to a finished run folder, resumable at any moment."""

from __future__ import annotations

import json
import math
import platform
import tempfile
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import (
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from mh_support.callbacks import EmissionsCallback, SampleRepliesCallback, tensorboard_callback
from mh_support.data.preparation import (
    DataArguments,
    Dialogue,
    Prepared,
    data_fingerprint,
    prepare,
    write_splits,
)
from mh_support.dialogue import IGNORED, encode_dialogue, set_chat_template
from mh_support.files import replacing, write_json
from mh_support.generation import generation_config
from mh_support.modeling import (
    ModelArguments,
    count_parameters,
    load_model,
    load_tokenizer,
    memory_estimate,
    prepare_training,
    state_fingerprint,
    supports_bf16,
    weights_fingerprint,
)
from mh_support.run_folder import LATEST, RUNS, RunFolder, new_run_path, now, point_latest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Arguments that say where, how loudly or for how long a run is worked at, and not what comes of it.
NOT_OF_THE_RESULT = frozenset(
    {"output_dir", "resume", "dry_run", "disable_tqdm", "log_level", "log_level_replica", "local_rank", "logging_dir"}
)


@dataclass
class FinetuneArguments(TrainingArguments):
    """transformers' TrainingArguments, with the defaults of the project this grew from, and what dialogues need.

    25 epochs in batches of 10 with AdamW; every 500 steps a checkpoint and an evaluation (each epoch, if the whole run
    is shorter); the best checkpoint is kept and training stops early when it no longer gets better.
    """

    output_dir: str | None = field(
        default=None,
        metadata={"help": "Run folder; a new one under runs/ by default. An unfinished run there goes on."},
    )
    num_train_epochs: float = field(default=25, metadata={"help": "Epochs, unless early stopping ends them."})
    per_device_train_batch_size: int = field(default=10, metadata={"help": "Rows a training batch."})
    per_device_eval_batch_size: int = field(default=10, metadata={"help": "Rows an evaluation batch."})
    learning_rate: float = field(default=5e-5, metadata={"help": "AdamW's peak learning rate."})
    eval_strategy: str = field(default="steps", metadata={"help": "Evaluate every eval_steps steps, or epoch."})
    eval_steps: float | None = field(default=500, metadata={"help": "Steps between evaluations."})
    save_strategy: str = field(default="steps", metadata={"help": "Save every save_steps steps, or epoch."})
    save_steps: float = field(default=500, metadata={"help": "Steps between checkpoints."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept, the best always among them."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between logged training losses."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(default="eval_loss", metadata={"help": "What best means."})
    greater_is_better: bool | None = field(default=False, metadata={"help": "Whether more of it is better."})
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Compute in bf16; by default where the processor or GPU really does."}
    )
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "Rows of like length share a batch, which saves padding."}
    )
    report_to: str | None = field(
        default="none", metadata={"help": "Further loggers; TensorBoard always writes under the run folder."}
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Resume early stopping's patience with the rest."}
    )
    early_stopping_patience: int = field(
        default=3, metadata={"help": "Evaluations without a better loss before training stops; 0 never stops early."}
    )
    max_length: int = field(default=512, metadata={"help": "Tokens a row has at most."})
    long_inputs: str = field(
        default="truncate",
        metadata={
            "help": "Dialogues longer than max_length: cut the oldest, split into several rows, or drop.",
            "choices": ["truncate", "split", "drop"],
        },
    )
    completion_only_loss: bool = field(
        default=True, metadata={"help": "Learn from the supporter's turns only; false learns from the person's too."}
    )
    sample_replies: int = field(default=2, metadata={"help": "Replies to show at each evaluation."})
    country_iso_code: str = field(
        default="USA", metadata={"help": "Where the machine stands (ISO 3166, three letters), for the estimate of CO2."}
    )
    resume: bool = field(
        default=False, metadata={"help": "Go on with runs/latest, or with --output_dir; an error if there is none."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Print what would be trained, and stop."})

    def __post_init__(self) -> None:
        if not torch.cuda.is_available():
            self.use_cpu = True
        if self.bf16 is None:
            self.bf16 = not self.fp16 and supports_bf16("cpu" if self.use_cpu else "cuda")
        if self.long_inputs not in ("truncate", "split", "drop"):
            raise ValueError(f"long_inputs is {self.long_inputs!r}; it is one of truncate, split, drop")
        if self.max_length < 16:
            raise ValueError(f"max_length is {self.max_length}; a row needs at least 16 tokens")
        if self.early_stopping_patience < 0 or self.sample_replies < 0:
            raise ValueError("early_stopping_patience and sample_replies are 0 or more")
        super().__post_init__()


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
    splits: dict[str, list[Dialogue]] = field(repr=False)
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
    each_epoch = max(1, math.ceil(math.ceil(rows / batch) / arguments.gradient_accumulation_steps))
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


def finetune(
    model_arguments: ModelArguments, data_arguments: DataArguments, arguments: FinetuneArguments
) -> RunFolder | None:
    """Fine-tune a model into a run folder, or go on with an unfinished one there; None after a dry run.

    Killed at any moment and called again with the same arguments, it ends with the weights that an uninterrupted run
    ends with.

    Raises:
        ValueError: bad arguments or data, a folder that is no run, or a run whose arguments or data differ.
    """
    # What is filled in below is this call's own: the caller may call again with the same arguments.
    arguments = copy(arguments)
    run = _run_folder(model_arguments, arguments)
    asked = _asked(model_arguments, data_arguments, arguments)
    if not arguments.dry_run:
        run.check_free()
        if run.started:
            _check_same(run.record()["arguments"], asked, run)
            if run.record()["finished"] is not None:
                print(f"the run {run.path} is finished already; score it with recipes/score.py {run.path}")
                return run
    with arguments.main_process_first(desc="preparing the data"):
        prepared = prepare(data_arguments, progress=not arguments.disable_tqdm)
        plan = make_plan(model_arguments, prepared, arguments)
        if arguments.process_index == 0 and not arguments.dry_run:
            _begin(run, plan, prepared, asked, arguments)
    if arguments.process_index == 0:
        print(describe(plan, arguments))
    if arguments.dry_run:
        print(f"\nThe first rows, what is supervised in [brackets]:\n\n{describe_rows(plan)}")
        return None
    _train(run, plan, arguments)
    return run


def _run_folder(model_arguments: ModelArguments, arguments: FinetuneArguments) -> RunFolder:
    """Return the run folder that was named, or a new one; all processes agree on it."""
    if arguments.output_dir is None and arguments.resume:
        if not (RUNS / LATEST).exists():
            raise ValueError(f"there is no {RUNS / LATEST} to resume; name a run with --output_dir, or start one")
        arguments.output_dir = str((RUNS / LATEST).resolve())
    elif arguments.output_dir is None:
        names = [str(new_run_path(model_arguments.model_name_or_path))]
        if arguments.world_size > 1:
            broadcast_object_list(names)
        arguments.output_dir = names[0]
    run = RunFolder(arguments.output_dir)
    if arguments.resume and not run.started:
        raise ValueError(f"there is no run at {run.path} to resume; leave out --resume to start one there")
    return run


def _asked(
    model_arguments: ModelArguments, data_arguments: DataArguments, arguments: FinetuneArguments
) -> dict[str, Any]:
    """Return every argument that bears on the result, as JSON keeps it."""
    flat = {**asdict(model_arguments), **asdict(data_arguments), **arguments.to_dict()}
    kept = {key: value for key, value in flat.items() if key not in NOT_OF_THE_RESULT and not key.endswith("token")}
    kept["world_size"] = arguments.world_size
    return json.loads(json.dumps(kept, default=str))


def _check_same(then: dict[str, Any], asked: dict[str, Any], run: RunFolder) -> None:
    differing = [
        f"{key} is {asked.get(key)!r}, the run has {then.get(key)!r}"
        for key in sorted({*then, *asked})
        if then.get(key) != asked.get(key)
    ]
    if differing:
        raise ValueError(
            f"the run {run.path} was started otherwise: {'; '.join(differing)}; give the same arguments to go on, or a "
            "new --output_dir"
        )


def _begin(run: RunFolder, plan: Plan, prepared: Prepared, asked: dict[str, Any], arguments: FinetuneArguments) -> None:
    """Write what the run is made from, or check that what is there is the same."""
    fresh = not run.started
    if fresh:
        run.write_record({"created": now(), "finished": None, "arguments": asked, "fingerprints": {}})
    record = run.record()
    with tempfile.TemporaryDirectory() as scratch:
        write_splits(Path(scratch), prepared.splits)
        found = {"data": data_fingerprint(Path(scratch)), "base_weights": plan.base_weights}
    for what, fingerprint in found.items():
        if record["fingerprints"].get(what, fingerprint) != fingerprint:
            raise ValueError(
                f"the run {run.path} was started with other {what.replace('_', ' ')} than these; restore them to go "
                "on, or give a new --output_dir"
            )
    point_latest(run)
    if record["fingerprints"]:
        return
    with replacing(run.data) as draft:
        draft.mkdir()
        write_splits(draft, prepared.splits)
    encoding = {split: encoded.counts for split, encoded in plan.encoded.items()}
    prepared.report.encoding = {"long_inputs": arguments.long_inputs, "max_length": arguments.max_length, **encoding}
    write_json(run.report_file, prepared.report.as_dict())
    run.write_record(
        {
            **record,
            **plan.record,
            "dtype": "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32",
            "device": _device_name(arguments),
            "seed": arguments.seed,
            "versions": _versions(),
            "data": {"sources": prepared.report.sources, "splits": encoding},
            "license": "other",
            "fingerprints": found,
        }
    )


def _device_name(arguments: FinetuneArguments) -> str:
    if arguments.device.type == "cuda":
        return torch.cuda.get_device_name()
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return f"{name} CPU, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    names = ("mh-support", "torch", "transformers", "datasets", "peft", "accelerate")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _train(run: RunFolder, plan: Plan, arguments: FinetuneArguments) -> None:
    checkpoint = run.last_checkpoint() if arguments.process_index == 0 else None
    if arguments.world_size > 1:
        shared = [checkpoint]
        broadcast_object_list(shared)
        checkpoint = shared[0]
    if checkpoint is not None and arguments.process_index == 0:
        print(f"going on from {checkpoint}")
    # The Trainer's folder is that of the checkpoints, not the run's.
    arguments.output_dir = str(run.checkpoints)
    trainer = Trainer(
        model=plan.model,
        args=arguments,
        train_dataset=plan.encoded["train"].rows,
        eval_dataset=plan.encoded["validation"].rows,
        processing_class=plan.tokenizer,
        data_collator=DataCollatorForSeq2Seq(plan.tokenizer, label_pad_token_id=IGNORED),
        callbacks=_callbacks(run, plan, arguments),
    )
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if arguments.process_index == 0:
        _finish(run, plan, trainer)


def _callbacks(run: RunFolder, plan: Plan, arguments: FinetuneArguments) -> list[TrainerCallback]:
    board = tensorboard_callback(run.tensorboard)
    # One dialogue a question: where several people answered one, all its contexts are the same.
    contexts = {dialogue["messages"][0]["content"]: dialogue["messages"][:-1] for dialogue in plan.splits["validation"]}
    callbacks: list[TrainerCallback] = [
        board,
        EmissionsCallback(run.emissions_file, arguments.country_iso_code),
        SampleRepliesCallback(plan.tokenizer, list(contexts.values())[: arguments.sample_replies], board),
    ]
    if arguments.early_stopping_patience and arguments.load_best_model_at_end:
        callbacks.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    return callbacks


def _finish(run: RunFolder, plan: Plan, trainer: Trainer) -> None:
    """Save the final model, the log and the record; the record last, since it says that all is there."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    # The Trainer switches the cache off, which whoever generates with the saved model wants.
    model.config.use_cache = True
    with replacing(run.model) as draft:
        model.save_pretrained(draft)
        plan.tokenizer.save_pretrained(draft)
        generation_config(plan.tokenizer).save_pretrained(draft)
    write_json(run.log_file, trainer.state.log_history)
    state = trainer.state
    record = run.record()
    runtime = next((entry["train_runtime"] for entry in reversed(state.log_history) if "train_runtime" in entry), None)
    record["training"] = {
        "global_step": state.global_step,
        "planned_steps": plan.steps,
        "epochs": round(state.epoch or 0.0, 2),
        "best_step": state.best_global_step,
        "best_eval_loss": state.best_metric,
        "train_runtime_s": runtime,
        "stopped_early": state.global_step < plan.steps,
    }
    record["fingerprints"]["weights"] = weights_fingerprint(run.model)
    run.write_record({**record, "finished": now()})
