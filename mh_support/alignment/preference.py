"""Does a model prefer what people praised? The log-likelihood of praised over blamed replies, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mh_support.dialogue import encode_reply
from mh_support.metrics.perplexity.perplexity import item_statistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def preference_statistics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    *,
    max_length: int,
    batch_size: int = 16,
) -> np.ndarray:
    """Return, for each held-out row, the log-likelihood a token of what was praised in it and how many replies that
    is, and the same of what was blamed: `(rows, 4)`. A thumb has one of the two, a choice has both.

    By the token, so that a long reply counts no more than a short one.
    """
    replies = [(number, up, turns) for number, row in enumerate(rows) for up, turns in _replies(row)]
    encoded = [
        encode_reply(tokenizer, [*rows[number]["prompt"], *turns], max_length=max_length)
        for number, _, turns in replies
    ]
    each = item_statistics(model, encoded, pad_token_id=tokenizer.pad_token_id, batch_size=batch_size)
    statistics = np.zeros((len(rows), 4))
    for (number, up, _), (nats, tokens, _) in zip(replies, each, strict=True):
        column = 0 if up else 2
        statistics[number, column : column + 2] += (-nats / tokens, 1)
    return statistics


def preference(total: np.ndarray) -> dict[str, Any]:
    """Return, from summed statistics `(..., 4)`, the mean log-likelihood of praised minus that of blamed replies.

    In nats a token; higher is better.
    """
    praised = total[..., 0] / np.maximum(total[..., 1], 1)
    return {"preference": praised - total[..., 2] / np.maximum(total[..., 3], 1)}


def _replies(row: dict[str, Any]) -> list[tuple[bool, list[dict[str, str]]]]:
    if "chosen" in row:
        return [(True, row["chosen"]), (False, row["rejected"])]
    return [(row["label"], row["completion"])]
