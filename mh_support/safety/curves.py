"""Both curves of the crisis classifier: crises seen, and safe messages interrupted, as its threshold moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mh_support.drawing import AMBER, BLUE, GREY, INK, frame, new_figure, save
from mh_support.safety.classifier import TextClassifier
from mh_support.safety.crisis_training import joined
from mh_support.safety.measure import Example


def threshold_curves(classifier: TextClassifier, examples: Sequence[Example], path: Path) -> Path:
    """Draw what share of the crises and of the safe messages each threshold reaches, and where the two are set.

    The classifier alone is drawn, without the rules, which add to what it sees.

    Raises:
        ValueError: there is no crisis or no safe message among the examples.
    """
    danger = np.array([example.is_crisis for example in examples])
    if danger.all() or not danger.any():
        raise ValueError("both curves are to be drawn; give examples of crises and of safe messages")
    odds = classifier.log_odds([joined(example.turns) for example in examples])
    notes = (f"{danger.sum()} crises and {(~danger).sum()} safe messages as hard; the classifier alone.",)
    figure = new_figure(9, 5, "What each threshold of the crisis classifier sees", *notes)
    axes = figure.subplots()
    frame(axes, "threshold, in log-odds of danger", "share of the messages at or above it")
    parts = ((danger, BLUE, "crises (higher is better)"), (~danger, AMBER, "safe (lower is better)"))
    for chosen, colour, label in parts:
        values = np.sort(odds[chosen])
        axes.step(values, 1 - np.arange(len(values)) / len(values), where="pre", color=colour, linewidth=2, label=label)
    for level, name in (("concern", "asked about"), ("crisis", "crisis")):
        threshold = classifier.about.thresholds[level]
        axes.axvline(threshold, color=GREY, linestyle="--", linewidth=1.2)
        axes.text(threshold, 1.02, name, ha="center", va="bottom", fontsize=10, color=INK)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=10)
    return save(figure, path)
