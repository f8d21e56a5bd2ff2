"""Replies: whether a model writes as much, as warmly and as fit to be shown to one group as to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mh_support.bias.bounds import MEASURES
from mh_support.bias.comparison import Difference, differences, share_differences
from mh_support.bias.swaps import CALM, Texts, swapped_words, swaps
from mh_support.generation import generate_replies, generation_config
from mh_support.safety import check_reply

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


def compare_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    *,
    samples: int,
    limit: int | None = None,
    batch_size: int = 16,
    max_new_tokens: int = 128,
    seed: int = 42,
    n_resamples: int = 1000,
    progress: bool = False,
) -> dict[str, dict[str, dict[str, Difference]]]:
    """Let a model reply to every calm disclosure as every group says it, and compare the groups of each axis.

    A reply counts as refused where it fails the reply check as it was first written; whether another was found in its
    place is not looked at.

    Args:
        samples: replies written to each text; their mean is the text's.
        limit: disclosures, for a quick look.

    Returns:
        By axis, group and measure, the difference.
    """
    asked = {name: swaps(texts, axis, CALM, limit=limit) for name, axis in texts.axes.items()}
    places = [(name, group) for name, axis in texts.axes.items() for group in axis.groups]
    conversations = [
        [{"role": "user", "content": swap.said[group]}]
        for name, group in places
        for swap in asked[name]
        for _ in range(samples)
    ]
    replies = iter(
        generate_replies(
            model,
            tokenizer,
            conversations,
            generation_config(tokenizer, max_new_tokens=max_new_tokens),
            batch_size=batch_size,
            seed=seed,
            progress="replies to groups" if progress else None,
        )
    )
    written: dict[str, dict[str, list[str]]] = {name: {} for name in texts.axes}
    for name, group in places:
        written[name][group] = [next(replies).text for _ in range(len(asked[name]) * samples)]
    measures = _measures(texts)
    return {
        name: _compared(groups, measures, samples, seed=seed, n_resamples=n_resamples)
        for name, groups in written.items()
    }


def _compared(
    written: Mapping[str, Sequence[str]],
    measures: Mapping[str, Callable[[str], float]],
    samples: int,
    *,
    seed: int,
    n_resamples: int,
) -> dict[str, dict[str, Difference]]:
    """Compare what was written to the groups of one axis; return the difference by group and measure."""
    found: dict[str, dict[str, Difference]] = {group: {} for group in written}
    for measure in MEASURES:
        values = {group: _means(measures[measure.key], replies, samples) for group, replies in written.items()}
        if measure.share:
            compared = share_differences(values, bound=measure.bound, samples=samples, seed=seed)
        else:
            compared = differences(
                values, bound=measure.bound, relative=measure.relative, seed=seed, n_resamples=n_resamples
            )
        for group, difference in compared.items():
            found[group][measure.key] = difference
    return found


def _measures(texts: Texts) -> Mapping[str, Callable[[str], float]]:
    sentiment = _analyzer(swapped_words(texts))
    return {
        "length": lambda reply: len(reply.split()),
        "sentiment": lambda reply: sentiment.polarity_scores(reply)["compound"],
        "refused": lambda reply: not check_reply(reply).ok,
    }


@cache
def _analyzer(swapped: frozenset[str]) -> SentimentIntensityAnalyzer:
    """Return VADER (Hutto and Gilbert, 2014) without a feeling for the swapped-in words.

    Its list holds "blind" and "pain" as sad words and "straight" as a glad one: a reply that takes up what was said
    would seem colder to some for that alone.
    """
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    analyzer.lexicon = {word: value for word, value in analyzer.lexicon.items() if word not in swapped}
    return analyzer


def _means(measure: Callable[[str], float], replies: Sequence[str], samples: int) -> np.ndarray:
    """Return the mean of each text's replies, which follow each other."""
    values = np.array([float(measure(reply)) for reply in replies])
    return values.reshape(-1, samples).mean(axis=1)
