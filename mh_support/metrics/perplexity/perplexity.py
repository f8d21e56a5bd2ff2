"""Perplexity and bits per byte of replies, for a model in memory, as an `evaluate` metric that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets
import evaluate
import numpy as np
from tqdm.auto import tqdm

from mh_support.dialogue import IGNORED, check_messages, encode_reply
from mh_support.metrics import plain_scores

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_POSITIONS_AT_ONCE = 256  # Scored positions whose fp32 log-probabilities exist at one time: 50 MB with GPT-2's words.

_DESCRIPTION = """\
Perplexity says how well a model foresaw the replies that people wrote: the exponential of the mean negative
log-likelihood, in nats, of a reply's tokens given all before them. Only the last reply of each conversation is
scored, its closing end-of-text included, never what the person said. The mean is over all tokens of all replies
together, so a long reply weighs more than a short one. 1 would be perfect foresight, as many as the vocabulary has
tokens pure guessing; lower is better.

Perplexity depends on what a tokenizer calls a token: compare it between models that share one. bits_per_byte does
not: the same likelihood (the end-of-text's included) in bits, over the UTF-8 bytes of the replies' text; lower is
better.
"""

_KWARGS_DESCRIPTION = """
Args:
    conversations (list of list of dict): messages with role and content; the last, an assistant's, is scored.
    model (transformers.PreTrainedModel or peft.PeftModel): a causal language model, on the device it shall run on.
    tokenizer (transformers.PreTrainedTokenizerBase): the model's own, with a chat template.
    batch_size (int): conversations read at once; the scores do not depend on it.
    max_length (int, optional): tokens kept of a conversation, the newest; by default as many as the model reads.
    progress (bool): show a bar.
Returns:
    perplexity (float): 1 or more, lower is better.
    bits_per_byte (float): bits, lower is better.
Examples:

    >>> from mh_support.metrics import Perplexity
    >>> conversation = [{"role": "user", "content": "I feel alone."}, {"role": "assistant", "content": "I am here."}]
    >>> Perplexity().compute(model=model, tokenizer=tokenizer, conversations=[conversation])  # doctest: +SKIP
    {'perplexity': 21.4, 'bits_per_byte': 1.9}
"""

_CITATION = """\
@article{jelinek-1977-perplexity,
    title = "Perplexity: a Measure of the Difficulty of Speech Recognition Tasks",
    author = "Jelinek, Fred and Mercer, Robert L. and Bahl, Lalit R. and Baker, James K.",
    journal = "The Journal of the Acoustical Society of America",
    volume = "62",
    number = "S1",
    year = "1977"
}
@article{gao-etal-2020-pile,
    title = "The {P}ile: An 800{GB} Dataset of Diverse Text for Language Modeling",
    author = "Gao, Leo and Biderman, Stella and Black, Sid and Golding, Laurence and Hoppe, Travis and Foster, Charles
      and Phang, Jason and He, Horace and Thite, Anish and Nabeshima, Noa and Presser, Shawn and Leahy, Connor",
    journal = "arXiv preprint arXiv:2101.00027",
    year = "2020"
}
"""


def item_statistics(
    model: PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    *,
    pad_token_id: int,
    batch_size: int = 8,
    progress: bool = False,
) -> np.ndarray:
    """Return nats, scored tokens and bytes of each row, `(items, 3)`, in the order of `rows`.

    A row is what `mh_support.dialogue.encode_reply` gives: `input_ids` and `labels`, both `(seq_len,)`, the label of a
    position being the id that stands there or -100 where nothing is scored, and `bytes`, the UTF-8 length of the scored
    text. The model is asked for logits at scored positions only, and left in the mode (training or not) it came in.

    Raises:
        ValueError: no rows, a batch size below 1, a row that cannot be scored, or a model that has gone to NaN.
    """
    import torch

    from mh_support.modeling import evaluating

    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
    _check_rows(rows, getattr(model.config, "max_position_embeddings", None))
    # Rows of like length share a batch, so little is padding; the longest first, so memory runs out at once or never.
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]["input_ids"]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    statistics = np.zeros((len(rows), 3))
    with evaluating(model), torch.inference_mode():
        for batch in tqdm(batches, "perplexity", disable=not progress):
            statistics[batch, :2] = _nats_and_tokens(model, [rows[index] for index in batch], pad_token_id)
    statistics[:, 2] = [row["bytes"] for row in rows]
    if not np.isfinite(statistics).all():
        raise ValueError(
            "the model gives a loss that is not a number; its weights have diverged: use an older checkpoint"
        )
    return statistics


def from_statistics(total: np.ndarray) -> dict[str, Any]:
    """Return both scores from summed statistics, `(..., 3)`: floats, or arrays of the leading shape."""
    nats, tokens, text_bytes = (total[..., column] for column in range(3))
    return plain_scores({"perplexity": np.exp(nats / tokens), "bits_per_byte": nats / np.log(2) / text_bytes})


def _check_rows(rows: Sequence[Mapping[str, Any]], limit: int | None) -> None:
    if len(rows) == 0:
        raise ValueError("there are no rows; give at least one conversation to score")
    for index, row in enumerate(rows):
        ids, labels = row["input_ids"], row["labels"]
        if len(ids) != len(labels):
            raise ValueError(f"row {index} has {len(ids)} input_ids but {len(labels)} labels; give one label per id")
        if limit is not None and len(ids) > limit:
            raise ValueError(
                f"row {index} has {len(ids)} tokens but the model reads {limit}; encode with max_length={limit}"
            )
        if all(label == IGNORED for label in labels) or row["bytes"] < 1:
            raise ValueError(f"row {index} has no reply to score; leave it out, or shorten what comes before the reply")
        if labels[0] != IGNORED:
            raise ValueError(
                f"row {index} scores its first token, which nothing precedes; begin with the person's turn"
            )


def _nats_and_tokens(model: PreTrainedModel, rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> np.ndarray:
    """Return the negative log-likelihood and the number of scored tokens of each row, `(batch, 2)`."""
    import torch
    from torch.nn.functional import cross_entropy

    ids, labels, mask = (tensor.to(model.device) for tensor in _padded(rows, pad_token_id))
    # Position t is foreseen from position t - 1, so labels move one to the left. The first one goes round to the end,
    # which foresees nothing: it is never scored, see _check_rows.
    targets = labels.roll(-1, dims=1)
    scored = targets != IGNORED
    # A mask of (batch, seq_len) asks for logits of (scored positions, vocabulary): the rest is never computed.
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=scored).logits
    pieces = zip(logits.split(_POSITIONS_AT_ONCE), targets[scored].split(_POSITIONS_AT_ONCE), strict=True)
    losses = torch.cat([cross_entropy(piece.float(), wanted, reduction="none") for piece, wanted in pieces])
    tokens = scored.sum(dim=1).cpu().numpy()
    owners = np.repeat(np.arange(len(rows)), tokens)
    nats = np.bincount(owners, weights=losses.cpu().double().numpy(), minlength=len(rows))
    return np.column_stack([nats, tokens])


def _padded(rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, labels and attention mask, `(batch, seq_len)`, padded on the right so that positions are right."""
    import torch

    shape = (len(rows), max(len(row["input_ids"]) for row in rows))
    ids = torch.full(shape, pad_token_id)
    labels = torch.full(shape, IGNORED)
    mask = torch.zeros(shape, dtype=torch.long)
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[index, :length] = torch.tensor(row["input_ids"])
        labels[index, :length] = torch.tensor(row["labels"])
        mask[index, :length] = 1
    return ids, labels, mask


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Perplexity(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        message = {"role": datasets.Value("string"), "content": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"conversations": datasets.List(message)}),
            reference_urls=["https://huggingface.co/docs/transformers/perplexity", "https://arxiv.org/abs/2101.00027"],
        )

    def add_batch(
        self,
        *,
        predictions: None = None,
        references: None = None,
        conversations: Sequence[Sequence[Mapping[str, str]]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add conversations, checked first: evaluate's own errors would quote them."""
        if not conversations:
            raise ValueError("conversations is empty; give at least one conversation that ends with a reply")
        super().add_batch(conversations=[check_messages(list(messages)) for messages in conversations], **kwargs)

    def _compute(
        self,
        *,
        conversations: Sequence[Sequence[dict[str, str]]],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 8,
        max_length: int | None = None,
        progress: bool = False,
    ) -> dict[str, float]:
        if max_length is None:
            max_length = getattr(model.config, "max_position_embeddings", None)
        rows = [encode_reply(tokenizer, messages, max_length=max_length) for messages in conversations]
        pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        statistics = item_statistics(model, rows, pad_token_id=pad_token_id, batch_size=batch_size, progress=progress)
        return from_statistics(statistics.sum(axis=0))
