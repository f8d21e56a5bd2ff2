"""Rows laid end to end instead of padded: no sequence sees another, and no time goes into padding.

Position ids begin anew with each row, attention is computed row by row, and the loss takes the supervised positions of
all rows: to rounding, losses and gradients are those of the same rows padded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, GPT2LMHeadModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import CausalLMOutput

from mh_support.dialogue import IGNORED
from mh_support.response_loss import response_loss

if TYPE_CHECKING:
    from mh_support.frozen_prefix import FrozenPrefix

PACKED = "packed_sdpa"


def causal_lm(model: Any) -> Any:
    """Return the causal LM inside an adapter, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def can_pack(model: Any) -> bool:
    """Say whether `pack_forward` knows the model: GPT-2's architecture, which is DialoGPT's too, with a plain head."""
    inner = causal_lm(model)
    known = type(inner) is GPT2LMHeadModel and not inner.config.add_cross_attention
    # The loss reads the head's weight itself, so that an adapter on the head would not be heard.
    known = known and type(inner.lm_head) is nn.Linear
    return known and inner.config._attn_implementation in ("sdpa", PACKED)


class PackingCollator:
    """Lay rows end to end: `input_ids`, `position_ids`, `labels`, all `(1, tokens)`, and `lengths`, `(rows,)`.

    Args:
        prefix: where the frozen blocks' output of each row is kept; it is then added as `prefix`, `(1, tokens, width)`.
    """

    def __init__(self, prefix: FrozenPrefix | None = None) -> None:
        self.prefix = prefix

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return the batch; `lengths` comes first, since the Trainer counts a batch's rows by its first tensor."""
        lengths = torch.tensor([len(feature["input_ids"]) for feature in features])
        ids = torch.cat([torch.as_tensor(feature["input_ids"]) for feature in features])
        # The first token of a row is foreseen by nothing, least of all by the row before it.
        labels = torch.cat([torch.tensor([IGNORED, *feature["labels"][1:]]) for feature in features])
        positions = torch.cat([torch.arange(length) for length in lengths.tolist()])
        batch = {"lengths": lengths, "input_ids": ids[None], "position_ids": positions[None], "labels": labels[None]}
        if self.prefix is not None:
            batch["prefix"] = torch.cat([self.prefix.read(feature["row"]) for feature in features])[None]
        return batch


def pack_forward(model: Any, first_block: int = 0) -> None:
    """Let the causal LM in `model` take packed batches too; with others it does what it did.

    Args:
        model: a model that `can_pack`, or an adapter on one; changed in place, its weights and configuration are not.
        first_block: the block that a batch's `prefix` goes into; those before it are then not computed.
    """
    inner = causal_lm(model)
    plain = inner.forward

    # The signature stays the class's: the Trainer reads from it which columns the model takes.
    @wraps(type(inner).forward)
    def forward(self: Any, *args: Any, lengths: Tensor | None = None, **kwargs: Any) -> Any:
        if lengths is None:
            return plain(*args, **kwargs)
        return CausalLMOutput(loss=_packed_loss(self, lengths.tolist(), first_block=first_block, **kwargs))

    # As a method, which is what accelerate expects to find where it wraps the forward in autocast.
    inner.forward = MethodType(forward, inner)
    inner.set_attn_implementation(PACKED)


def _packed_loss(
    model: Any,
    lengths: list[int],
    *,
    first_block: int,
    input_ids: Tensor,
    position_ids: Tensor,
    labels: Tensor,
    prefix: Tensor | None = None,
    num_items_in_batch: Tensor | float | None = None,
    **_: Any,
) -> Tensor:
    if prefix is None:
        hidden = blocks_output(model, lengths, input_ids, position_ids)
    else:
        hidden = _through(model, prefix.to(model.transformer.ln_f.weight.dtype), lengths, start=first_block)
    hidden = model.transformer.ln_f(hidden)[0, :-1]
    targets = labels[0, 1:]
    supervised = (targets != IGNORED).nonzero().squeeze(1)
    items = max(1.0, float(len(supervised) if num_items_in_batch is None else num_items_in_batch))
    return response_loss(hidden[supervised], model.lm_head.weight, targets[supervised], items)


def blocks_output(
    model: GPT2LMHeadModel, lengths: list[int], input_ids: Tensor, position_ids: Tensor, *, end: int | None = None
) -> Tensor:
    """Return what the blocks before `end`, or all, put out for packed rows, `(1, tokens, width)`."""
    trunk = model.transformer
    hidden = trunk.drop(trunk.wte(input_ids) + trunk.wpe(position_ids))
    return _through(model, hidden, lengths, end=end)


def _through(
    model: GPT2LMHeadModel, hidden: Tensor, lengths: list[int], *, start: int = 0, end: int | None = None
) -> Tensor:
    for block in model.transformer.h[start:end]:
        hidden = block(hidden, None, None, use_cache=False, lengths=lengths)
    return hidden


def _packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    lengths: list[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within each row of a packed batch; without `lengths`, as transformers' own SDPA."""
    if lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    queries, keys, values = (states.split(lengths, dim=2) for states in (query, key, value))
    outputs = [
        functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


AttentionInterface.register(PACKED, _packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
