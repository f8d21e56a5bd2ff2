"""The arguments of a fine-tuning run: transformers' TrainingArguments, and what dialogues need."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from mh_support.modeling import supports_bf16


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
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Look in each step for weights that it did not use; there are none."}
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
    frozen_prefix_cache: bool = field(
        default=True,
        metadata={
            "help": "With --train_layers: compute the frozen blocks' output for each row once, and keep it on disk."
        },
    )
    frozen_prefix_gb: float = field(default=20.0, metadata={"help": "What that may take; beyond it nothing is kept."})
    frozen_prefix_dir: str | None = field(
        default=None,
        metadata={"help": "Folder to keep it in for other runs; by default in the run, until it is finished."},
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
        refuse_pushing(self)
        if not torch.cuda.is_available():
            self.use_cpu = True
        if self.bf16 is None:
            self.bf16 = not self.fp16 and supports_bf16("cpu" if self.use_cpu else "cuda")
        if self.long_inputs not in ("truncate", "split", "drop"):
            raise ValueError(f"long_inputs is {self.long_inputs!r}; it is one of truncate, split, drop")
        if self.max_length < 16:
            raise ValueError(f"max_length is {self.max_length}; a row needs at least 16 tokens")
        if self.frozen_prefix_gb <= 0:
            raise ValueError(
                f"frozen_prefix_gb is {self.frozen_prefix_gb:g}; give more than 0, or --frozen_prefix_cache false"
            )
        if self.early_stopping_patience < 0 or self.sample_replies < 0:
            raise ValueError("early_stopping_patience and sample_replies are 0 or more")
        by_steps = self.eval_strategy == self.save_strategy == "steps"
        if self.load_best_model_at_end and by_steps and self.eval_steps != self.save_steps:
            # The Trainer would record the best evaluation, and end with another model where that was not saved.
            raise ValueError(
                f"eval_steps is {self.eval_steps} and save_steps {self.save_steps}; the best model is kept only where "
                "it is both evaluated and saved: give both the same, or --load_best_model_at_end false"
            )
        if self.save_only_model:
            raise ValueError(
                "save_only_model keeps no optimizer, without which a killed run cannot go on as it was; leave it out"
            )
        output_dir = self.output_dir
        super().__post_init__()
        if self.n_gpu > 1:
            # The Trainer would cut each batch into pieces for all GPUs in sight, which packed rows cannot be.
            print(f"{self.n_gpu} GPUs are in sight and one is used; start with accelerate launch to use them all")
            self._n_gpu = 1
        # Where none is given transformers makes one up; here a run gets a name of its own when it starts.
        self.output_dir = output_dir


def refuse_pushing(arguments: TrainingArguments) -> None:
    """Raise ValueError if the Trainer is asked to push, which would go past every check that publishing makes."""
    given = next((name for name in ("push_to_hub", "hub_model_id") if getattr(arguments, name)), None)
    if given is not None:
        raise ValueError(
            f"--{given} would publish a model that nobody has scored; leave it out, and publish the finished run with "
            "recipes/publish.py RUN --repo me/kind-gpt2"
        )
