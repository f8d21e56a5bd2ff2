"""Fine-tuning on dialogues: from arguments to a finished run folder, resumable at any moment."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from contextlib import nullcontext
from copy import copy
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState

from mh_support.callbacks import EmissionsCallback, EpochOrderCallback, SampleRepliesCallback, tensorboard_callback
from mh_support.data.preparation import (
    DataArguments,
    Prepared,
    data_fingerprint,
    load_prepared,
    prepare,
    write_splits,
)
from mh_support.files import read_json, replacing, sweep_drafts, write_json
from mh_support.frozen_prefix import numbered_rows, open_prefix
from mh_support.generation import generation_config
from mh_support.modeling import ModelArguments, device_name, load_model, weights_fingerprint
from mh_support.plan import Encoded, Plan, describe, describe_rows, encode_split, make_plan
from mh_support.run_folder import LATEST, RUNS, RunFolder, new_run_path, now, point_latest
from mh_support.safety.echoes import Echoes
from mh_support.trainer import DialogueTrainer
from mh_support.training_arguments import FinetuneArguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Encoded", "FinetuneArguments", "Plan", "describe", "describe_rows", "encode_split", "finetune", "make_plan"]

# Arguments that say where, how loudly or for how long a run is worked at, and not what comes of it.
NOT_OF_THE_RESULT = frozenset(
    {
        *("output_dir", "frozen_prefix_dir", "resume", "dry_run", "disable_tqdm", "num_proc"),
        *("log_level", "log_level_replica", "local_rank", "logging_dir", "ddp_find_unused_parameters"),
    }
)


def finetune(
    model_arguments: ModelArguments, data_arguments: DataArguments, arguments: FinetuneArguments
) -> RunFolder | None:
    """Fine-tune a model into a run folder, or go on with an unfinished one there; None after a dry run.

    Killed at any moment and called again with the same arguments, it ends with the weights that an uninterrupted run
    ends with.

    Raises:
        ValueError: bad arguments or data, a folder that is no run or that another process works in, or a run whose
            arguments or data differ.
    """
    # What is filled in below is this call's own: the caller may call again with the same arguments.
    arguments = copy(arguments)
    run = _run_folder(model_arguments, arguments)
    works = arguments.process_index == 0 and not arguments.dry_run
    with run.alone() if works else nullcontext():
        return _work(run, model_arguments, data_arguments, arguments)


def _work(
    run: RunFolder, model_arguments: ModelArguments, data_arguments: DataArguments, arguments: FinetuneArguments
) -> RunFolder | None:
    asked = _asked(model_arguments, data_arguments, arguments)
    if not arguments.dry_run:
        run.check_free()
        if run.started:
            _check_same(run.record()["arguments"], asked, run)
            if run.record()["finished"] is not None:
                print(f"the run {run.path} is finished already; score it with recipes/score.py {run.path}")
                return run
            if arguments.process_index == 0:
                sweep_drafts(run.path)
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
            "device": device_name(arguments.device.type),
            "seed": arguments.seed,
            "versions": _versions(),
            "data": {"sources": prepared.report.sources, "splits": encoding},
            "license": "other",
            "fingerprints": found,
        }
    )


def _versions() -> dict[str, str]:
    names = ("mh-support", "torch", "transformers", "datasets", "peft", "accelerate")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _train(run: RunFolder, plan: Plan, arguments: FinetuneArguments) -> None:
    """Train what is left to train, and finish the run."""
    checkpoint = run.last_checkpoint() if arguments.process_index == 0 else None
    if arguments.world_size > 1:
        shared = [checkpoint]
        broadcast_object_list(shared)
        checkpoint = shared[0]
    if checkpoint is not None and arguments.process_index == 0:
        print(f"going on from {checkpoint}")
    state = None if checkpoint is None else TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if state is not None and state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
        # Cut off after its last checkpoint: the Trainer, which takes a step before it asks, would go beyond the end.
        best = state.best_model_checkpoint if arguments.load_best_model_at_end else None
        model = load_model(str(checkpoint if best is None else run.checkpoints / Path(best).name))
        weights = model.state_dict()
    else:
        model, weights, state = _trained(run, plan, arguments, checkpoint)
    if arguments.process_index == 0:
        _finish(run, plan, model, weights, state)


def _trained(
    run: RunFolder, plan: Plan, arguments: FinetuneArguments, checkpoint: Path | None
) -> tuple[PreTrainedModel, dict[str, Any], TrainerState]:
    """Train, from a checkpoint or from the start, and return the model that it ends with, and its weights."""
    # The Trainer's folder is that of the checkpoints, not the run's.
    arguments.output_dir = str(run.checkpoints)
    rows = numbered_rows(plan)
    prefix = open_prefix(plan, arguments, rows, _prefix_folder(run, arguments))
    trainer = DialogueTrainer(
        model=plan.model,
        args=arguments,
        tokenizer=plan.tokenizer,
        prefix=prefix,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        callbacks=_callbacks(run, plan, arguments),
    )
    if prefix is not None:
        prefix.fill(plan.model, rows, progress=not arguments.disable_tqdm, bf16=bool(arguments.bf16))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    # Where each process holds a part of the weights, all of them take part in putting these together.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    model = trainer.accelerator.unwrap_model(trainer.model)
    # Put together, one tensor of two names has become two.
    tied = getattr(model, "all_tied_weights_keys", {})
    return model, {name: weight for name, weight in weights.items() if tied.get(name) not in weights}, trainer.state


def _prefix_folder(run: RunFolder, arguments: FinetuneArguments) -> Path:
    """Return where the frozen blocks' output is kept: in the run while it trains, or where it was asked to stay."""
    return run.frozen_prefix if arguments.frozen_prefix_dir is None else Path(arguments.frozen_prefix_dir)


def _callbacks(run: RunFolder, plan: Plan, arguments: FinetuneArguments) -> list[TrainerCallback]:
    board = tensorboard_callback(run.tensorboard)
    # One dialogue a question: where several people answered one, all its contexts are the same.
    contexts = {dialogue["messages"][0]["content"]: dialogue["messages"][:-1] for dialogue in plan.splits["validation"]}
    callbacks: list[TrainerCallback] = [
        EpochOrderCallback(),
        board,
        EmissionsCallback(run.emissions_file, arguments.country_iso_code),
        SampleRepliesCallback(plan.tokenizer, list(contexts.values())[: arguments.sample_replies], board),
    ]
    if arguments.early_stopping_patience and arguments.load_best_model_at_end:
        callbacks.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    return callbacks


def _echoes(run: RunFolder) -> Echoes:
    """Return what the model has read: all that people and supporters say in its training dialogues."""
    dialogues = load_prepared(run.data)["train"]
    return Echoes.of(message["content"] for dialogue in dialogues for message in dialogue["messages"])


def _finish(run: RunFolder, plan: Plan, model: PreTrainedModel, weights: dict[str, Any], state: TrainerState) -> None:
    """Save the final model, the log and the record; the record last, since it says that all is there."""
    # The Trainer switches the cache off, which whoever generates with the saved model wants.
    model.config.use_cache = True
    with replacing(run.model) as draft:
        model.save_pretrained(draft, state_dict=weights)
        plan.tokenizer.save_pretrained(draft)
        generation_config(plan.tokenizer).save_pretrained(draft)
        _echoes(run).save(draft)
    write_json(run.log_file, state.log_history)
    shutil.rmtree(run.frozen_prefix, ignore_errors=True)
    record = run.record()
    record["training"] = {
        "global_step": state.global_step,
        "planned_steps": plan.steps,
        "epochs": round(state.epoch or 0.0, 2),
        "best_step": state.best_global_step,
        "best_eval_loss": state.best_metric,
        # Of all sessions, where the Trainer's own count is of the last.
        "train_runtime_s": round(read_json(run.emissions_file)["duration_s"], 1),
        "stopped_early": state.global_step < plan.steps,
    }
    record["fingerprints"]["weights"] = weights_fingerprint(run.model)
    run.write_record({**record, "finished": now()})
