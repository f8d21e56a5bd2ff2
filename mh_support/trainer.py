"""transformers' Trainer on dialogues: packed rows, the head at supervised positions, frozen blocks computed once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from mh_support.dialogue import IGNORED
from mh_support.frozen_prefix import FrozenPrefix
from mh_support.memory import keep_freed_memory
from mh_support.packing import PackingCollator, can_pack, pack_forward


class DialogueTrainer(Trainer):
    """A Trainer that computes the same losses and gradients in less time; all else about it is the Trainer's own.

    With GPT-2's architecture rows are packed instead of padded, and logits are made where a token is supervised. Other
    models, DeepSpeed, the first FSDP, label smoothing and NEFTune are trained as the Trainer does it.

    Args:
        model: a causal LM, or an adapter on one.
        args: the Trainer's arguments.
        tokenizer: saved beside each checkpoint, and its padding used where rows are padded.
        prefix: the output of the frozen blocks, filled; the rows of all data sets then need its `row` column.
        kwargs: anything else that a Trainer takes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        tokenizer: PreTrainedTokenizerBase,
        prefix: FrozenPrefix | None = None,
        **kwargs: Any,
    ) -> None:
        self._by_row = prefix is not None
        if args.device.type == "cpu":
            keep_freed_memory()
        padding: Any = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
        super().__init__(model=model, args=args, processing_class=tokenizer, data_collator=padding, **kwargs)
        # Only now is it known what a launcher asked for. DeepSpeed and the first FSDP put weights together for the
        # forward of the module that has them, and packed rows are sent around that of the whole.
        sharded = self.is_fsdp_enabled and self.accelerator.is_fsdp2
        apart = self.is_deepspeed_enabled or (self.is_fsdp_enabled and not sharded)
        if sharded:
            _keep_loss_exact(self.accelerator.state.fsdp_plugin)
        # The noise of NEFTune is measured by the length of what it gets, which is to be a row.
        if can_pack(model) and not (apart or args.label_smoothing_factor or args.neftune_noise_alpha):
            pack_forward(model, 0 if prefix is None else prefix.first_block)
            self.data_collator = PackingCollator(prefix)
        elif prefix is not None:
            raise ValueError("the output of frozen blocks is for models and arguments that rows are packed with")

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if self._by_row and "row" not in columns:
            # Not for the model but for the collator, which finds the frozen blocks' output by it.
            columns.append("row")


def _keep_loss_exact(plugin: Any) -> None:
    """Let sharded models put out what they compute in bf16 as fp32; losses would be rounded to two or three digits."""
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=torch.float32)
