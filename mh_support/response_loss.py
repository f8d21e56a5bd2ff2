"""The head and the loss at supervised positions alone, in pieces, the gradient made in the same pass.

The same sums as `cross_entropy(head(hidden))`, for which the logits of all positions need not exist: with GPT-2's
50,257 words they and what is made of them would be most of the memory that a batch takes, and a good part of its time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Rows of logits that exist at one time: 150 MB of bf16 logits and fp32 probabilities with GPT-2's words.
ROWS_AT_ONCE = 512


def response_loss(hidden: Tensor, weight: Tensor, labels: Tensor, items: float) -> Tensor:
    """Return the summed cross entropy of `labels` over `items`, a scalar in fp32.

    Args:
        hidden: the last hidden states at the positions that foresee a supervised token, `(positions, width)`.
        weight: the head's, `(vocabulary, width)`.
        labels: the tokens to be foreseen, `(positions,)`.
        items: what the sum is divided by, as transformers' `num_items_in_batch`.

    Under autocast the products are made in its type and all else in fp32, as without this function.
    """
    return _ResponseLoss.apply(hidden, weight, labels, items, torch.is_grad_enabled())


class _ResponseLoss(torch.autograd.Function):
    """The loss, with the gradients of head and hidden states found while a piece's logits are there."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, items: float, learns: bool) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        inner, head = hidden.to(dtype), weight.to(dtype)
        to_hidden = torch.empty_like(hidden) if learns and ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight) if learns and ctx.needs_input_grad[1] else None
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(labels), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            logits = functional.linear(inner[rows], head)
            nats, probabilities, of_label = _foreseen(logits, labels[rows])
            loss += nats
            if to_hidden is None and to_weight is None:
                continue
            slope = logits.copy_(probabilities)
            # Written in fp32 where it matters: a label that was foreseen well has a small slope beside a large 1.
            slope.scatter_(1, labels[rows, None], (of_label - 1).to(dtype)[:, None])
            if to_hidden is not None:
                torch.mul(slope @ head, 1 / items, out=to_hidden[rows])
            if to_weight is not None:
                to_weight.add_(slope.t() @ inner[rows], alpha=1 / items)
        ctx.save_for_backward(to_hidden, to_weight)
        return loss / items

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        scale = float(slopes[0])
        scaled = [found if found is None or scale == 1.0 else found * scale for found in ctx.saved_tensors]
        return scaled[0], scaled[1], None, None, None


def _foreseen(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the nats of all rows together, each row's probabilities and that of its label, in fp32."""
    probabilities = torch.softmax(logits.float(), dim=-1)
    # log(sum(exp)) from the likeliest word, whose probability cannot vanish as the label's may.
    likeliest = logits.amax(dim=-1).float() - probabilities.amax(dim=-1).log()
    of_label = logits.gather(1, labels[:, None]).squeeze(1).float() - likeliest
    return -of_label.sum(), probabilities, of_label.exp()
