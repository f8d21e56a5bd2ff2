"""How varied, long and repetitive replies are, as an `evaluate` metric that needs no network and no reference."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from mh_support.metrics import check_texts, plain_scores

REPETITION_ORDER = 4  # As in "seq-rep-4" of Welleck et al.: shorter n-grams repeat in good writing too.

# Letters and digits of any script, an apostrophe inside kept: "don't" is one word.
_WORD = re.compile(r"\w+(?:'\w+)*")

_DESCRIPTION = """\
What replies are like among themselves, without a reference. A model that gives everyone the same kind sentence can
score well on overlap; here it shows. Words are runs of letters and digits, lower-cased, "don't" being one.

- distinct1, distinct2: different words (pairs of neighbouring words) over all of them, the whole set taken together;
  0 to 1, higher is more varied. They fall as a set grows: compare sets of about the same number of words only.
- length: mean words per reply.
- repetition: share of all 4-word series that stood earlier in the same reply already, longer replies weighing more;
  0 to 1, lower is better.
- stop_rate: share of replies that ended by themselves rather than at the length limit; 0 to 1, higher is better.

For all but stop_rate, what people write is the yardstick, not the extreme.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): the replies; an empty one has no words.
    stopped (list of bool, optional): whether each reply ended by itself; without it there is no stop_rate.
Returns:
    distinct1, distinct2 (float): 0 to 1, higher is more varied.
    length (float): words.
    repetition (float): 0 to 1, lower is better.
    stop_rate (float): 0 to 1, higher is better.
Examples:

    >>> from mh_support.metrics import Diversity
    >>> Diversity().compute(predictions=["so so sad", "so glad"])["distinct1"]
    0.6
"""

_CITATION = """\
@inproceedings{li-etal-2016-diversity,
    title = "A Diversity-Promoting Objective Function for Neural Conversation Models",
    author = "Li, Jiwei and Galley, Michel and Brockett, Chris and Gao, Jianfeng and Dolan, Bill",
    booktitle = "Proceedings of the 2016 Conference of the North {A}merican Chapter of the ACL",
    year = "2016",
    url = "https://aclanthology.org/N16-1014"
}
@inproceedings{welleck-etal-2020-neural,
    title = "Neural Text Generation With Unlikelihood Training",
    author = "Welleck, Sean and Kulikov, Ilia and Roller, Stephen and Dinan, Emily and Cho, Kyunghyun and
      Weston, Jason",
    booktitle = "International Conference on Learning Representations",
    year = "2020",
    url = "https://arxiv.org/abs/1908.04319"
}
"""


def item_statistics(predictions: Sequence[str], stopped: Sequence[bool] | None = None) -> np.ndarray:
    """Return the counts of each reply that add up: `(items, 4)`, or `(items, 5)` if `stopped` is given.

    The columns are a 1 that counts the reply, its words, its 4-word series that stood earlier in it, all its 4-word
    series, and whether it stopped by itself.

    Raises:
        ValueError: the texts cannot be scored (see `check_texts`), or `stopped` is not one bool per prediction.
    """
    check_texts(predictions)
    rows = []
    for text in predictions:
        words = _words(text)
        series = _ngrams(words, REPETITION_ORDER)
        rows.append([1, len(words), len(series) - len(set(series)), len(series)])
    statistics = np.array(rows, dtype=np.float64)
    if stopped is None:
        return statistics
    _check_stopped(stopped, len(predictions))
    return np.column_stack([statistics, np.array(stopped, dtype=np.float64)])


def from_statistics(total: np.ndarray) -> dict[str, Any]:
    """Return length, repetition and, with a fifth column, stop_rate from summed statistics, `(..., 4)` or `(..., 5)`.

    The values are floats, or arrays of the leading shape. Where no reply has four words, repetition is 0.
    """
    items, words, repeated, series = (total[..., column] for column in range(4))
    scores = {"length": words / items, "repetition": repeated / np.maximum(series, 1)}
    if total.shape[-1] == 5:
        scores["stop_rate"] = total[..., 4] / items
    return plain_scores(scores)


def item_ngrams(predictions: Sequence[str], order: int) -> list[Counter[tuple[str, ...]]]:
    """Return how often each series of `order` words stands in each reply, as `jackknife_interval` takes them.

    Example:
        >>> item_ngrams(["so so sad"], 1)
        [Counter({('so',): 2, ('sad',): 1})]
    """
    if order < 1:
        raise ValueError(f"order is {order}; it must be 1 (words) or more")
    check_texts(predictions)
    return [Counter(_ngrams(_words(text), order)) for text in predictions]


def distinct(predictions: Sequence[str], order: int) -> float:
    """Return distinct-n of the whole set: different n-grams over all n-grams, 0 to 1; 0 where there are none.

    Example:
        >>> distinct(["so so sad", "so glad"], 1)  # so, sad, glad among five words
        0.6
    """
    corpus: Counter[tuple[str, ...]] = Counter()
    for counts in item_ngrams(predictions, order):
        corpus.update(counts)
    return len(corpus) / max(corpus.total(), 1)


def _check_stopped(stopped: Sequence[bool], items: int) -> None:
    if len(stopped) != items:
        raise ValueError(f"{items} predictions but {len(stopped)} values of stopped; give one for each prediction")
    if not all(isinstance(value, bool | np.bool_) for value in stopped):
        raise ValueError("stopped has a value that is not a bool; give True where a reply ended by itself, else False")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def _ngrams(words: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Diversity(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=["https://aclanthology.org/N16-1014", "https://arxiv.org/abs/1908.04319"],
        )

    def add_batch(self, *, predictions: Sequence[str] | None = None, references: None = None, **kwargs: Any) -> None:
        """Add replies, checked first: evaluate's own errors would quote them."""
        check_texts(predictions)
        super().add_batch(predictions=predictions, **kwargs)

    def _compute(self, *, predictions: Sequence[str], stopped: Sequence[bool] | None = None) -> dict[str, float]:
        additive = from_statistics(item_statistics(predictions, stopped).sum(axis=0))
        return {"distinct1": distinct(predictions, 1), "distinct2": distinct(predictions, 2), **additive}
