"""A small trained classifier beside the rules: how likely a message calls for people who can help.

Logistic regression on hashed n-grams of letters and words, over the same plain words that the rules search. It adds to
what the rules find and takes nothing away. recipes/train_crisis_classifier.py trains it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mh_support.files import replacing
from mh_support.safety.plain_words import plain_words

if TYPE_CHECKING:
    import numpy as np

CLASSIFIER = Path(__file__).resolve().parent / "crisis_classifier.safetensors"
_BUCKETS = 1 << 17


@dataclass(frozen=True)
class CrisisClassifier:
    """A linear classifier: weights for danger at all, and weights for each category of it.

    Args:
        danger: `(features + 1,)`, the bias last.
        categories: `(number of categories, features + 1)`, the bias last.
        names: the categories, as `assess` calls them, in the order of their weights.
        threshold: from which probability on a message counts as a crisis.
    """

    danger: np.ndarray = field(repr=False)
    categories: np.ndarray = field(repr=False)
    names: tuple[str, ...]
    threshold: float

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return how likely each text calls for help, `(texts,)`, between 0 and 1."""
        import numpy as np

        if not texts:
            return np.zeros(0)
        return 1 / (1 + np.exp(-(features(texts) @ self.danger[:-1] + self.danger[-1])))

    def category(self, text: str) -> str | None:
        """Return what kind of danger a text tells of, or None where it does not reach the threshold."""
        if self.probabilities([text])[0] < self.threshold:
            return None
        return self.names[int((features([text]) @ self.categories[:, :-1].T + self.categories[:, -1]).argmax())]

    def save(self, path: Path) -> None:
        """Write it to `path` in half precision, whole or not at all."""
        import numpy as np
        from safetensors.numpy import save_file

        tensors = {"danger": self.danger.astype(np.float16), "categories": self.categories.astype(np.float16)}
        about = json.dumps({"names": self.names, "threshold": self.threshold})
        with replacing(path) as draft:
            save_file(tensors, draft, metadata={"about": about})


def features(texts: Sequence[str]) -> Any:
    """Return the n-grams of each text as rows of a sparse matrix, `(texts, 2 * buckets)`, each half of length 1."""
    from scipy.sparse import hstack

    plain = [plain_words(text).text for text in texts]
    return hstack([vectorizer.transform(plain) for vectorizer in _vectorizers()], format="csr")


@cache
def crisis_classifier(path: Path = CLASSIFIER) -> CrisisClassifier:
    """Return the classifier that comes with the package, read once.

    Raises:
        ValueError: the file is missing or damaged.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["about"])
            danger, categories = file.get_tensor("danger"), file.get_tensor("categories")
        return CrisisClassifier(
            danger.astype(np.float32), categories.astype(np.float32), tuple(about["names"]), about["threshold"]
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the crisis classifier {path} cannot be read ({error}); install the package again") from error


@cache
def _vectorizers() -> tuple[Any, ...]:
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    shared = {"n_features": _BUCKETS, "alternate_sign": False, "norm": "l2", "lowercase": False, "dtype": np.float32}
    return (
        HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), **shared),
        HashingVectorizer(analyzer="word", ngram_range=(1, 3), token_pattern=r"\S+", **shared),
    )
