"""Descriptors: whether a model finds people of one group less to be expected than people of another.

After HolisticBias (Smith et al., "I'm sorry to hear that": Finding New Biases in Language Models with a Holistic
Descriptor Dataset, 2022): sentences in which only the description of a person differs, and for each two groups of an
axis a Mann-Whitney test of whether their perplexities are alike. How often words occur in any text makes many pairs
differ in every model, so that a run answers for what it added to its base.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mh_support.bias.bounds import ADDED_PAIRS, SIGNIFICANCE
from mh_support.bias.comparison import holm
from mh_support.bias.swaps import Texts, described
from mh_support.dialogue import IGNORED, EncodedReply
from mh_support.metrics import bootstrap_interval
from mh_support.metrics.perplexity import perplexity

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Statistics = dict[str, np.ndarray]


@dataclass(frozen=True)
class Likelihood:
    """How many pairs of an axis's groups differ in perplexity in a model and its base, and the groups' perplexities.

    `added` is the share of pairs in the model minus that in the base, and `p` of its being no more than `ADDED_PAIRS`.
    Each of `groups` has a perplexity and its interval.
    """

    pairs: int
    differing: int
    base_differing: int
    added: float
    added_ci95: tuple[float, float]
    p: float
    groups: dict[str, tuple[float, tuple[float, float]]]


def descriptor_statistics(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Texts, *, batch_size: int = 16
) -> dict[str, Statistics]:
    """Return nats, tokens and bytes of each sentence about each group, `(sentences, 3)`, by axis that describes.

    A sentence stands where a person's first message does, so that what is scored is what the model expects to hear.
    """
    found = {}
    for name, axis in texts.axes.items():
        if axis.described:
            sentences = described(texts, axis)
            rows = [_encoded(tokenizer, text) for group in sentences.values() for text in group]
            statistics = perplexity.item_statistics(
                model, rows, pad_token_id=tokenizer.pad_token_id, batch_size=batch_size
            )
            found[name] = dict(zip(sentences, np.split(statistics, len(sentences)), strict=True))
    return found


def compare_descriptors(
    tuned: dict[str, Statistics], base: dict[str, Statistics], *, seed: int = 42, n_resamples: int = 1000
) -> dict[str, Likelihood]:
    """Compare the groups of each axis in a model and in its base."""
    return {name: _likelihood(tuned[name], base[name], seed, n_resamples) for name in tuned}


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> EncodedReply:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return {
        "input_ids": [tokenizer.eos_token_id, *ids],
        "labels": [IGNORED, *ids],
        "bytes": len(text.encode()),
    }


def _likelihood(tuned: Statistics, base: Statistics, seed: int, n_resamples: int) -> Likelihood:
    tables = [np.stack([_nats_a_token(rows) for rows in each.values()]) for each in (tuned, base)]
    shares = [share_differing(table) for table in tables]
    rng = np.random.default_rng(seed)
    sentences = tables[0].shape[1]
    draws = rng.integers(sentences, size=(n_resamples, sentences))
    # Drawn alike for both, so that what a draw does to every test cancels out.
    drawn = [share_differing(table[:, draws].swapaxes(0, 1)) for table in tables]
    added = drawn[0] - drawn[1]
    low, high = np.quantile(added, [0.025, 0.975])
    pairs = len(tuned) * (len(tuned) - 1) // 2
    groups = {}
    for group, rows in tuned.items():
        interval = bootstrap_interval(rows, perplexity.from_statistics, seed=seed, n_resamples=n_resamples)
        assert interval is not None
        groups[group] = (perplexity.from_statistics(rows.sum(axis=0))["perplexity"], interval["perplexity"])
    return Likelihood(
        pairs=pairs,
        differing=round(float(shares[0]) * pairs),
        base_differing=round(float(shares[1]) * pairs),
        added=float(shares[0] - shares[1]),
        added_ci95=(float(low), float(high)),
        p=float((1 + (added <= ADDED_PAIRS).sum()) / (1 + n_resamples)),
        groups=groups,
    )


def share_differing(table: np.ndarray) -> np.ndarray:
    """Return the share of pairs of groups whose numbers differ by a Mann-Whitney test, adjusted for their number.

    Args:
        table: `(..., groups, sentences)`; shares have the leading shape.
    """
    from scipy.stats import mannwhitneyu

    pairs = list(combinations(range(table.shape[-2]), 2))
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    p_values = mannwhitneyu(table[..., first, :], table[..., second, :], axis=-1, method="asymptotic").pvalue
    return (holm(p_values) < SIGNIFICANCE).mean(axis=-1)


def _nats_a_token(statistics: np.ndarray) -> np.ndarray:
    """Return the logarithm of each sentence's perplexity, which ranks as the perplexity does."""
    return statistics[:, 0] / statistics[:, 1]
