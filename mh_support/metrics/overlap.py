"""What metrics share that hold replies against references: what they are given, and how it is added up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np

from mh_support.metrics import check_texts


# Abstract, since `evaluate.load` takes the first class of a module that is not for its metric.
class OverlapMetric(evaluate.Metric, ABC):
    """A metric of replies and their references, made of its module's two functions."""

    @staticmethod
    @abstractmethod
    def item_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """Return one row of numbers per item, `(items, k)`, which add up."""

    @staticmethod
    @abstractmethod
    def from_statistics(total: np.ndarray) -> dict[str, Any]:
        """Return the scores from the sum of the rows, `(..., k)`."""

    def add_batch(
        self,
        *,
        predictions: Sequence[str] | None = None,
        references: Sequence[Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add replies and their references, checked first: evaluate's own errors would quote them."""
        check_texts(predictions, [] if references is None else references)
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, *, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return self.from_statistics(self.item_statistics(predictions, references).sum(axis=0))
