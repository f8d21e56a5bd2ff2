"""A text classifier from the Hub as one more voice in the crisis check: it can raise the level, never lower it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mh_support.safety.classifier import Suspicion
from mh_support.safety.crisis_rules import CATEGORIES


class HubClassifier:
    """A sequence classifier whose labels are told which danger they stand for.

    Example:
        >>> bot = SupportBot.from_pretrained(
        ...     "me/kind-gpt2",
        ...     classifiers=[crisis_classifier(), HubClassifier.from_pretrained("me/crisis", {"LABEL_1": "suicide"})],
        ... )

    Args:
        pipeline: a text-classification pipeline.
        labels: the labels that stand for a danger, each with its category; all others count as safe.
        threshold: from which probability of a label on a text is a crisis, above 0 and at most 1.

    Raises:
        ValueError: a label that the model does not have, a category that there is not, or no such threshold.
    """

    def __init__(self, pipeline: Any, labels: Mapping[str, str], *, threshold: float = 0.5) -> None:
        known = set(pipeline.model.config.label2id)
        strange = sorted(set(labels) - known)
        if strange or not labels:
            raise ValueError(
                f"the labels are {', '.join(strange) or 'none'}; this model has {', '.join(sorted(known))}"
            )
        wrong = sorted(set(labels.values()) - set(CATEGORIES))
        if wrong:
            raise ValueError(f"{wrong[0]} is no category of danger; it is one of {', '.join(CATEGORIES)}")
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it is above 0 and at most 1")
        self._pipeline = pipeline
        self._labels = dict(labels)
        self._threshold = threshold

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str,
        labels: Mapping[str, str],
        *,
        threshold: float = 0.5,
        revision: str | None = None,
    ) -> HubClassifier:
        """Load a sequence classifier from the Hub or a folder.

        Raises:
            ValueError: as above, or there is no such model, or it cannot be reached.
        """
        from transformers import pipeline

        try:
            loaded = pipeline("text-classification", model=model_name_or_path, revision=revision, truncation=True)
        except (OSError, ValueError, KeyError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            raise ValueError(
                f"no text classifier can be loaded from {model_name_or_path} ({line}); check the id, the folder or the "
                "network"
            ) from error
        return cls(loaded, labels, threshold=threshold)

    def suspect(self, texts: Sequence[str]) -> list[Suspicion | None]:
        """Say of each text whether it is a crisis, and what about; None where it is not."""
        found: list[Suspicion | None] = []
        for scores in self._pipeline(list(texts), top_k=None) if texts else []:
            danger = [score for score in scores if score["label"] in self._labels]
            worst = max(danger, key=lambda score: score["score"])
            alarming = worst["score"] >= self._threshold
            found.append(Suspicion("crisis", self._labels[worst["label"]]) if alarming else None)
        return found
