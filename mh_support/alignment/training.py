"""Training on feedback: KTO from thumbs or DPO from choices, from a run's weights to a new run folder, resumable.

The run's own weights are both where training starts and what it is held to. The ratings reach TRL's trainers as
messages, and its tokenizer is the run's, so that they become the very ids that the model was fine-tuned on.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import Trainer, TrainerState, set_seed

from mh_support.alignment.feedback_data import Feedback
from mh_support.alignment.ratings import Rating
from mh_support.alignment.training_arguments import AlignmentArguments, check_trl
from mh_support.callbacks import EmissionsCallback, tensorboard_callback
from mh_support.dialogue import encode_reply
from mh_support.files import replacing, write_json
from mh_support.generation import generation_config
from mh_support.modeling import (
    ModelArguments,
    adapter_base,
    count_parameters,
    load_model,
    load_tokenizer,
    prepare_training,
    weights_fingerprint,
)
from mh_support.run_folder import RunFolder, now
from mh_support.safety.echoes import FILE as ECHOES

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOG_FILE = "alignment_log.json"


def whole_model(run: RunFolder) -> PreTrainedModel:
    """Return a run's model as one without an adapter: where the run trained one, it is merged into its base."""
    model: Any = load_model(str(run.model))
    return model if adapter_base(str(run.model)) is None else model.merge_and_unload(safe_merge=True)


def fitting(tokenizer: PreTrainedTokenizerBase, max_length: int) -> Callable[[Rating], Rating | None]:
    """Return what cuts a rating's oldest exchanges until it fits `max_length` tokens; None where the last is too long.

    TRL would cut the end of the reply, which is what was rated.
    """

    def fitted(rating: Rating) -> Rating | None:
        messages = rating.messages
        while True:
            turns = [[*messages, {"role": "assistant", "content": reply}] for reply, _ in rating.replies]
            if max(len(encode_reply(tokenizer, turn)["input_ids"]) for turn in turns) <= max_length:
                return replace(rating, messages=messages)
            users = [place for place, message in enumerate(messages) if message["role"] == "user"]
            if len(users) < 2:
                return None
            messages = messages[users[1] :]

    return fitted


def align(
    parent: RunFolder,
    feedback: Feedback,
    arguments: AlignmentArguments,
    run: RunFolder,
    method: str,
    *,
    simulated: bool = False,
) -> None:
    """Train a run's model on the ratings and write it as a run of its own; go on with what is begun there.

    Killed at any moment and called again with the same arguments and ratings, it ends with the weights that an
    uninterrupted run ends with. The run's record says where the ratings were `simulated`.

    Raises:
        ValueError: TRL is missing, or the run was begun with other arguments, ratings or weights.
    """
    check_trl()
    # What was learned from simulated people once is in the weights for good.
    simulated = simulated or parent.record().get("alignment", {}).get("simulated", False)
    _begin(parent, feedback, arguments, run, method, simulated)
    if run.record()["finished"] is not None:
        return
    checkpoint = run.last_checkpoint()
    state = None if checkpoint is None else TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    trainer = make_trainer(parent, feedback.train, arguments, run, method)
    if state is not None and state.global_step >= state.max_steps:
        # Cut off after its last checkpoint: the Trainer, which takes a step before it asks, would go beyond the end.
        trainer._load_from_checkpoint(str(checkpoint))
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        state = trainer.state
    _finish(parent, run, trainer, state)


def make_trainer(
    parent: RunFolder, rows: Sequence[dict[str, Any]], arguments: AlignmentArguments, run: RunFolder, method: str
) -> Trainer:
    """Return TRL's trainer for the method, over the run's model, held to a frozen copy of it."""
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    class Silent:
        """Leaves out what TRL does beside training: a card, which is written here, and telling its makers."""

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Write none."""

        def _send_telemetry(self) -> None:
            """Tell nobody."""

    class Kto(Silent, KTOTrainer):
        pass

    class Dpo(Silent, DPOTrainer):
        pass

    # What the frozen copy makes of each rating is computed once, not in every epoch.
    changes: dict[str, Any] = {"output_dir": str(run.checkpoints), "precompute_ref_log_probs": True}
    if method == "kto":
        # Each kind of thumb weighs the same in all, however many there are of it. TRL wants its batches in order.
        changes |= {"train_sampling_strategy": "sequential", **_weights(rows)}
    set_seed(arguments.seed)
    model, reference = whole_model(parent), whole_model(parent).requires_grad_(False)
    if arguments.lora:
        adapter = ModelArguments(
            str(parent.path), lora=True, lora_r=arguments.lora_r, lora_alpha=arguments.lora_alpha, lora_dropout=0.0
        )
        model = prepare_training(model, adapter)
    mixed = _mixed(rows, arguments.seed)
    board = tensorboard_callback(run.tensorboard)
    trainer: Trainer = (Kto if method == "kto" else Dpo)(
        model=model,
        ref_model=reference,
        args=arguments.for_trl(KTOConfig if method == "kto" else DPOConfig, **changes),
        # In memory only: what people wrote has no place in a cache.
        train_dataset=Dataset.from_list(
            [{key: row[key] for key in row if key not in ("id", "person")} for row in mixed]
        ),
        processing_class=load_tokenizer(str(parent.model)),
        callbacks=[board, EmissionsCallback(run.emissions_file, arguments.country_iso_code)],
    )
    return trainer


def _mixed(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Return the rows by chance, but with praise and blame spread evenly, so that no batch has one of them alone."""
    chance = random.Random(seed)
    placed: list[tuple[float, dict[str, Any]]] = []
    for praised in (True, False):
        kind = [row for row in rows if row.get("label", True) is praised]
        chance.shuffle(kind)
        placed += [((number + 0.5) / len(kind), row) for number, row in enumerate(kind)]
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def _weights(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    praised = sum(row["label"] for row in rows)
    blamed = len(rows) - praised
    fewer = min(praised, blamed)
    return {"desirable_weight": fewer / praised, "undesirable_weight": fewer / blamed}


def _begin(
    parent: RunFolder,
    feedback: Feedback,
    arguments: AlignmentArguments,
    run: RunFolder,
    method: str,
    simulated: bool,
) -> None:
    """Write what the run is made from, or check that what is there is the same."""
    made_from = {
        "method": method,
        "simulated": simulated,
        "parent": str(parent.path),
        "parent_weights": weights_fingerprint(parent.model),
        "feedback": feedback.report.as_dict(),
        "arguments": arguments.of_the_result(),
    }
    if run.started:
        begun = run.record()["alignment"]
        differing = [key for key, value in made_from.items() if begun.get(key) != value]
        if differing:
            raise ValueError(
                f"the round {run.path} was begun with another {' and '.join(differing)}; go on with the same, or "
                "remove that folder to begin the round anew"
            )
        return
    run.path.mkdir(parents=True, exist_ok=True)
    # What this training takes is added to the emissions.
    for part in ("data", "report_file", "log_file", "emissions_file"):
        source: Path = getattr(parent, part)
        if source.exists():
            with replacing(getattr(run, part)) as draft:
                (shutil.copytree if source.is_dir() else shutil.copy)(source, draft)
    versions = {"trl": version("trl"), "transformers": version("transformers"), "peft": version("peft")}
    record = parent.record()
    record["fingerprints"] = {key: value for key, value in record["fingerprints"].items() if key != "weights"}
    # Of a run that trained an adapter, a whole model comes out.
    record["method"] = {**record["method"], "merged": record["method"]["kind"] == "lora"}
    run.write_record({**record, "created": now(), "finished": None, "alignment": {**made_from, "versions": versions}})


def _finish(parent: RunFolder, run: RunFolder, trainer: Trainer, state: TrainerState) -> None:
    """Save the model, whole, the log and the record; the record last, since it says that all is there."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    trained, total = count_parameters(model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload(safe_merge=True)
    # TRL replaces the method that computes the loss; the class has the original.
    model.__dict__.pop("forward", None)
    model.config.use_cache = True
    tokenizer = load_tokenizer(str(parent.model))
    with replacing(run.model) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        generation_config(tokenizer).save_pretrained(draft)
        if (parent.model / ECHOES).is_file():
            # What the model read before it can repeat still.
            shutil.copy(parent.model / ECHOES, draft)
    write_json(run.path / LOG_FILE, state.log_history)
    record = run.record()
    record["alignment"]["training"] = {
        "global_step": state.global_step,
        "epochs": round(state.epoch or 0.0, 2),
        "trainable_parameters": trained,
        "parameters": total,
    }
    record["fingerprints"]["weights"] = weights_fingerprint(run.model)
    run.write_record({**record, "finished": now()})
