"""BLEU-4 as sacreBLEU counts it and BLEU-2 as papers on ESConv do, as an `evaluate` metric that needs no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import datasets
import evaluate
import numpy as np
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
from nltk.translate.bleu_score import (
    Fraction,
    SmoothingFunction,
    brevity_penalty,
    closest_ref_length,
    modified_precision,
)
from sacrebleu.metrics import BLEU
from tqdm.auto import tqdm

from mh_support.metrics import check_texts, plain_scores
from mh_support.metrics.overlap import OverlapMetric

_DESCRIPTION = """\
BLEU says how much of a reply's wording stands in its references: the geometric mean of n-gram precisions (the share
of the replies' n-grams found in a reference, each at most as often as it stands there), times a penalty where the
replies are shorter than the references closest to them in length. N-grams are counted over all items before dividing,
so BLEU is a property of the set and not a mean over items. Every reference of an item is used. Fractions from 0 to 1,
higher is better; sacreBLEU and many papers print 100 times as much.

- bleu: BLEU-4, sacreBLEU's corpus score with its defaults (case kept, 13a tokens, exponential smoothing), over 100;
  `signature` gives the line that makes it comparable.
- bleu2: BLEU-2 as the published results on ESConv were counted: nltk's corpus_bleu with weights (1/2, 1/2) and
  smoothing method 3, over lower-cased nltk words. There, sentences are split with a Punkt model that has to be
  downloaded; here with the same algorithm and no more abbreviations than the titles dr, mr, mrs and ms. The words can
  differ where that model knows an abbreviation ("the u.s. law"): here its period becomes a word of its own.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): the replies; an empty one matches nothing.
    references (list of list of str): one or more references for each prediction.
Returns:
    bleu (float): sacreBLEU's BLEU-4, 0 to 1, higher is better.
    bleu2 (float): nltk's BLEU-2, 0 to 1, higher is better.
Examples:

    >>> from mh_support.metrics import Bleu
    >>> Bleu().compute(predictions=["I am here for you."], references=[["I am here for you."]])
    {'bleu': 1.0, 'bleu2': 1.0}
"""

_CITATION = """\
@inproceedings{papineni-etal-2002-bleu,
    title = "{BLEU}: a Method for Automatic Evaluation of Machine Translation",
    author = "Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing",
    booktitle = "Proceedings of the 40th Annual Meeting of the Association for Computational Linguistics",
    year = "2002",
    url = "https://aclanthology.org/P02-1040"
}
@inproceedings{post-2018-call,
    title = "A Call for Clarity in Reporting {BLEU} Scores",
    author = "Post, Matt",
    booktitle = "Proceedings of the Third Conference on Machine Translation",
    year = "2018",
    url = "https://aclanthology.org/W18-6319"
}
@inproceedings{liu-etal-2021-towards,
    title = "Towards Emotional Support Dialog Systems",
    author = "Liu, Siyang and Zheng, Chujie and Demasi, Orianna and Sabour, Sahand and Li, Yu and Yu, Zhou and
      Jiang, Yong and Huang, Minlie",
    booktitle = "Proceedings of the 59th Annual Meeting of the Association for Computational Linguistics",
    year = "2021",
    url = "https://aclanthology.org/2021.acl-long.269"
}
"""

_BLEU4_COLUMNS = 10
_COLUMNS = 16


def item_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, progress: bool = False
) -> np.ndarray:
    """Return the counts of each item, `(items, 16)`.

    Columns 0 to 9 are sacreBLEU's: length of the reply, length of the closest reference, n-grams matched (n = 1 to 4),
    n-grams in the reply (n = 1 to 4). Columns 10 to 15 are nltk's for n = 1 and 2: both lengths, matched, in the reply.

    Raises:
        ValueError: the texts cannot be scored; see `check_texts`.
    """
    check_texts(predictions, references)
    # Only counts are read from it; effective_order, which they do not depend on, keeps its advice on sentences quiet.
    scorer = BLEU(effective_order=True)
    pairs = tqdm(zip(predictions, references, strict=True), "bleu", len(predictions), disable=not progress)
    rows = [_bleu4_counts(scorer, prediction, texts) + _bleu2_counts(prediction, texts) for prediction, texts in pairs]
    return np.array(rows, dtype=np.float64)


def from_statistics(total: np.ndarray) -> dict[str, Any]:
    """Return both scores from summed statistics, `(..., 16)`: floats, or arrays of the leading shape."""
    counts = np.rint(total).astype(np.int64).reshape(-1, _COLUMNS)
    shape = total.shape[:-1]
    return plain_scores(
        {
            "bleu": np.array([_bleu4(row[:_BLEU4_COLUMNS]) for row in counts.tolist()]).reshape(shape),
            "bleu2": np.array([_bleu2(row[_BLEU4_COLUMNS:]) for row in counts.tolist()]).reshape(shape),
        }
    )


def signature(references: Sequence[Sequence[str]]) -> str:
    """Return sacreBLEU's signature of `bleu` for these references: what a reader needs to compute the same number.

    Example:
        >>> signature([["one"], ["one", "two"]])
        'nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0'
    """
    check_texts([""] * len(references), references)
    streams = [
        list(stream) for stream in zip_longest(*references)
    ]  # The n-th references of all items; None where none.
    return str(BLEU(references=streams).get_signature())


def _bleu4_counts(scorer: BLEU, prediction: str, references: Sequence[str]) -> list[int]:
    score = scorer.sentence_score(prediction, list(references))
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def _bleu2_counts(prediction: str, references: Sequence[str]) -> list[int]:
    reply = _words(prediction)
    texts = [_words(text) for text in references]
    precisions = [modified_precision(texts, reply, order) for order in (1, 2)]
    matched = [precision.numerator for precision in precisions]
    return [len(reply), closest_ref_length(texts, len(reply)), *matched, *(p.denominator for p in precisions)]


def _bleu4(counts: list[int]) -> float:
    score = BLEU.compute_bleu(
        correct=counts[2:6], total=counts[6:10], sys_len=counts[0], ref_len=counts[1], smooth_method="exp"
    )
    return min(score.score / 100, 1.0)  # A perfect set comes out of the logarithms at 100.00000000000004.


def _bleu2(counts: list[int]) -> float:
    """Score counts as nltk's corpus_bleu does once it has added them up."""
    reply_length, reference_length, *ratios = counts
    if ratios[0] == 0:
        return 0.0
    precisions = [Fraction(ratios[order], ratios[order + 2], _normalize=False) for order in (0, 1)]
    smoothed = SmoothingFunction().method3(precisions)
    return brevity_penalty(reference_length, reply_length) * math.exp(math.fsum(0.5 * math.log(p) for p in smoothed))


def _sentence_tokenizer() -> PunktSentenceTokenizer:
    parameters = PunktParameters()
    parameters.abbrev_types = {"dr", "mr", "mrs", "ms"}
    return PunktSentenceTokenizer(parameters)


_SENTENCES = _sentence_tokenizer()
_WORDS = NLTKWordTokenizer()


def _words(text: str) -> list[str]:
    """Return lower-cased words as nltk's word_tokenize does, without the model that it downloads."""
    return [word for sentence in _SENTENCES.tokenize(text.lower()) for word in _WORDS.tokenize(sentence)]


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Bleu(OverlapMetric):
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
            codebase_urls=["https://github.com/mjpost/sacrebleu", "https://github.com/nltk/nltk"],
            reference_urls=["https://aclanthology.org/P02-1040", "https://aclanthology.org/W18-6319"],
        )
