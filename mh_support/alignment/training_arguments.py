"""The arguments of learning from feedback: transformers' TrainingArguments, and what KTO and DPO need."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any

import torch
from transformers import TrainingArguments

from mh_support.extras import how_to_install
from mh_support.modeling import supports_bf16
from mh_support.training_arguments import refuse_pushing


@dataclass
class AlignmentArguments(TrainingArguments):
    """transformers' TrainingArguments, with defaults for a few hundred ratings, and what KTO and DPO need."""

    output_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of the rounds and of `current`; by default RUN with -aligned after its name."},
    )
    num_train_epochs: float = field(
        default=1, metadata={"help": "Times that each rating is learned from; more costs what the model could do."}
    )
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Ratings a training batch, at least 2."})
    learning_rate: float = field(
        default=5e-4, metadata={"help": "AdamW's peak learning rate; full training wants less."}
    )
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate falls."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps of rising learning rate; below 1, their share."})
    save_steps: float = field(default=25, metadata={"help": "Steps between checkpoints."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept."})
    logging_steps: float = field(default=5, metadata={"help": "Steps between logged training losses."})
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Compute in bf16; by default where the processor or GPU really does."}
    )
    report_to: str | None = field(
        default="none", metadata={"help": "Further loggers; TensorBoard always writes under the round's folder."}
    )
    beta: float = field(
        default=0.1, metadata={"help": "How strongly the model is held to what it was; more is closer."}
    )
    max_length: int = field(default=512, metadata={"help": "Tokens a conversation with its reply has at most."})
    lora: bool = field(
        default=True, metadata={"help": "Train an adapter, merged into the model at the end; false trains all of it."}
    )
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter's matrices."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the adapter: alpha / r times its output."})
    country_iso_code: str = field(
        default="USA", metadata={"help": "Where the machine stands (ISO 3166, three letters), for the estimate of CO2."}
    )

    def __post_init__(self) -> None:
        refuse_pushing(self)
        if not torch.cuda.is_available():
            self.use_cpu = True
        if self.bf16 is None:
            self.bf16 = not self.fp16 and supports_bf16("cpu" if self.use_cpu else "cuda")
        if self.per_device_train_batch_size < 2:
            raise ValueError("per_device_train_batch_size is 1; KTO compares ratings within a batch: give 2 or more")
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; give more than 0, such as 0.1")
        if self.max_length < 16:
            raise ValueError(f"max_length is {self.max_length}; a row needs at least 16 tokens")
        output_dir = self.output_dir
        super().__post_init__()
        # Where none is given transformers makes one up; here it follows from the run's name.
        self.output_dir = output_dir
        if self.world_size > 1:
            raise ValueError(f"{self.world_size} processes were started; learning from feedback works in one")

    def of_the_result(self) -> dict[str, Any]:
        """Return the arguments that bear on the result, as JSON keeps them."""
        ours = ["num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"]
        ours += ["learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "optim"]
        ours += ["seed", "bf16", "fp16", "beta", "max_length", "lora", "lora_r", "lora_alpha"]
        given = self.to_dict()
        return {name: given[name] for name in ours}

    def for_trl(self, config: type[TrainingArguments], **changes: Any) -> Any:
        """Return them as one of TRL's configurations."""
        shared = {item.name: getattr(self, item.name) for item in fields(TrainingArguments) if item.init}
        return config(**{**shared, "beta": self.beta, "max_length": self.max_length, **changes})


def check_trl() -> None:
    """Raise ValueError, with the command that installs it, if TRL is missing."""
    if find_spec("trl") is None:
        raise ValueError(f"learning from feedback needs TRL, which is not installed; {how_to_install('align')}")
