"""The scores of `results.json`: what they are called, how to read them, and in which order they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One score of `results.json`: its key, the name people know it by, how to read it, and its decimals."""

    key: str
    label: str
    reading: str
    decimals: int = 3

    def show(self, score: Mapping[str, Any], signed: bool = False) -> str:
        """Return a score with its 95 % interval: `0.146 [0.131, 0.160]`, or with signs for a difference."""
        form = f"{'+' if signed else ''},.{self.decimals}f"
        interval = score.get("ci95")
        bounds = "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"
        return f"{score['value']:{form}}{bounds}"


METRICS = (
    Metric("perplexity", "Perplexity", "lower is better", 1),
    Metric("bits_per_byte", "Bits a byte", "lower is better"),
    Metric("rouge1", "ROUGE-1", "higher is closer to the references"),
    Metric("rouge2", "ROUGE-2", "higher is closer to the references"),
    Metric("rougeL", "ROUGE-L", "higher is closer to the references"),
    Metric("bleu", "BLEU-4", "higher is closer to the references"),
    Metric("bleu2", "BLEU-2", "higher is closer to the references"),
    Metric("distinct1", "Distinct-1", "compare with the references"),
    Metric("distinct2", "Distinct-2", "compare with the references"),
    Metric("length", "Length in words", "compare with the references", 1),
    Metric("stop_rate", "Ends by itself", "higher is better"),
    Metric("repetition", "Repetition", "lower is better"),
)
ROWS = {
    "base": "Base model",
    "tuned": "Fine-tuned",
    "constant": "Constant reply",
    "random": "Random reply",
    "nearest": "Nearest reply",
    "human": "Reference",
}


def show_p(value: float | None) -> str:
    """Return a p value as people write it."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
