"""What goes along with training: the rows' order, TensorBoard, sample replies, and an estimate of the CO2."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from mh_support.dialogue import Message
from mh_support.files import read_json, write_json
from mh_support.generation import generate_replies, generation_config

SAMPLE_TOKENS = 48


def tensorboard_callback(folder: Path) -> TensorBoardCallback:
    """Return transformers' TensorBoard callback, writing to `folder` instead of a place it makes up."""
    callback = TensorBoardCallback()
    callback.logging_dir = str(folder)
    return callback


class EpochOrderCallback(TrainerCallback):
    """Let the order of an epoch's rows follow from the seed and the epoch alone.

    transformers' length-grouped sampler draws it from the same random numbers as dropout. These are not the same ones
    in a resumed epoch, which would repeat some rows and miss others, nor in each of several processes.
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Seed the sampler for the epoch."""
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        if isinstance(batches.sampler, LengthGroupedSampler):
            epoch = state.global_step // math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
            seed = args.seed if args.data_seed is None else args.data_seed
            batches.sampler.generator = torch.Generator().manual_seed(seed + epoch)


class SampleRepliesCallback(TrainerCallback):
    """Show the model's greedy replies to the same few validation contexts at each evaluation.

    Greedy decoding draws no random numbers, so training goes on as if nobody had asked.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, contexts: Sequence[Sequence[Message]], board: TensorBoardCallback
    ) -> None:
        self.tokenizer = tokenizer
        self.contexts = contexts
        self.board = board

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Print the replies and log them as text."""
        # One process alone cannot generate with weights of which it holds a part.
        sharded = AcceleratorState().distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        if not self.contexts or not state.is_world_process_zero or sharded:
            return
        config = generation_config(
            self.tokenizer, max_new_tokens=SAMPLE_TOKENS, do_sample=False, temperature=1.0, top_p=1.0
        )
        replies = generate_replies(model, self.tokenizer, self.contexts, config)
        for number, (context, reply) in enumerate(zip(self.contexts, replies, strict=True), 1):
            said = " ".join(context[-1]["content"].split())
            print(f"  step {state.global_step}, sample {number}: {said[:70]}\n    -> {reply.text}")
            if self.board.tb_writer is not None:
                self.board.tb_writer.add_text(f"sample {number}", f"{said}\n\n{reply.text}", state.global_step)


class EmissionsCallback(TrainerCallback):
    """Estimate the CO2 of training with codecarbon, added up over a run's sessions in one file.

    The figure is written at each checkpoint and at the end; what a kill cuts off since the last one is not in it.
    """

    def __init__(self, path: Path, country_iso_code: str) -> None:
        self.path = path
        self.country = country_iso_code
        self.before: dict[str, Any] = {"kg_co2eq": 0.0, "duration_s": 0.0, "sessions": 0}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start measuring."""
        self.tracker = None
        if not state.is_world_process_zero:
            return
        from codecarbon import OfflineEmissionsTracker

        # It sets a level of its own when it is imported, and logs before it reads the one that it is given.
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        self.begun = time.monotonic()
        if self.path.is_file():
            self.before = read_json(self.path)
        self.tracker = OfflineEmissionsTracker(
            country_iso_code=self.country, output_methods=[], log_level="critical", allow_multiple_runs=True
        )
        self.tracker.start()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the figure so far."""
        if self.tracker is not None:
            self._write(self.tracker.flush())

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the figure and stop."""
        if self.tracker is not None:
            self._write(self.tracker.stop())

    def _write(self, kilograms: float | None) -> None:
        if kilograms is None:
            return
        write_json(
            self.path,
            {
                "kg_co2eq": float(self.before["kg_co2eq"]) + float(kilograms),
                "duration_s": float(self.before["duration_s"]) + time.monotonic() - self.begun,
                "country_iso_code": self.country,
                "sessions": int(self.before["sessions"]) + 1,
            },
        )
