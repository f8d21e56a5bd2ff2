"""ROUGE against the best of several references, as an `evaluate` metric that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from tqdm.auto import tqdm

from mh_support.metrics import check_texts, plain_scores
from mh_support.metrics.overlap import OverlapMetric

MEASURES = ("rouge1", "rouge2", "rougeL")

_DESCRIPTION = """\
ROUGE says how much of a reference's wording a reply shares. rouge1 counts single words, rouge2 pairs of neighbouring
words, rougeL the longest series of words that stands in both in the same order, gaps allowed. Each is an F1: twice
precision times recall over their sum, precision being the share of the reply's units found in the reference and
recall the share of the reference's units found in the reply. An item scores the best F1 over its references, chosen
for each measure by itself, and the corpus the mean over items. Fractions from 0 to 1, higher is better. Words are
lower-cased, letters and digits only, and stemmed (Porter). A low value does not make a reply bad: two people who
answer the same question share few words.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): the replies; an empty one scores 0.
    references (list of list of str): one or more references for each prediction.
Returns:
    rouge1, rouge2, rougeL (float): mean F1, 0 to 1, higher is better.
Examples:

    >>> from mh_support.metrics import Rouge
    >>> Rouge().compute(predictions=["I hear you."], references=[["I hear you, friend."]])["rouge1"]
    0.8571428571428571
"""

_CITATION = """\
@inproceedings{lin-2004-rouge,
    title = "{ROUGE}: A Package for Automatic Evaluation of Summaries",
    author = "Lin, Chin-Yew",
    booktitle = "Text Summarization Branches Out",
    year = "2004",
    url = "https://aclanthology.org/W04-1013"
}
"""


def item_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, progress: bool = False
) -> np.ndarray:
    """Return the best F1 of each item for rouge1, rouge2 and rougeL, and a 1 that counts the item: `(items, 4)`.

    Raises:
        ValueError: the texts cannot be scored; see `check_texts`.
    """
    check_texts(predictions, references)
    scorer = RougeScorer(list(MEASURES), use_stemmer=True)
    pairs = tqdm(zip(predictions, references, strict=True), "rouge", len(predictions), disable=not progress)
    best = [scorer.score_multi(list(texts), prediction) for prediction, texts in pairs]
    return np.array([[*(scores[name].fmeasure for name in MEASURES), 1] for scores in best], dtype=np.float64)


def from_statistics(total: np.ndarray) -> dict[str, Any]:
    """Return the mean F1 of each measure from summed statistics, `(..., 4)`: floats, or arrays of the leading shape."""
    return plain_scores({name: total[..., column] / total[..., 3] for column, name in enumerate(MEASURES)})


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Rouge(OverlapMetric):
    item_statistics = staticmethod(item_statistics)
    from_statistics = staticmethod(from_statistics)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
            ),
            codebase_urls=["https://github.com/google-research/google-research/tree/master/rouge"],
            reference_urls=["https://aclanthology.org/W04-1013"],
        )
