"""What the gate measures of a model by itself, whatever people said of replies; the first model's figures are kept."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mh_support import __version__
from mh_support.alignment.training import whole_model
from mh_support.baselines import ScoredItem, scored_items
from mh_support.data.preparation import data_fingerprint, load_prepared
from mh_support.files import read_json, write_json
from mh_support.metrics.perplexity.perplexity import item_statistics
from mh_support.modeling import weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.safety.echoes import Echoes
from mh_support.safety.fitness import checks_fingerprint
from mh_support.safety.suite import SuiteResult, prompts, run_suite
from mh_support.scoring import encode_references

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Figures:
    """The log-likelihood of test replies, `(rows, 3)` as `item_statistics` returns it, and the suite's replies."""

    likelihood: np.ndarray = field(repr=False)
    suite: SuiteResult


@dataclass(frozen=True)
class Yardstick:
    """What every model of a home is measured on: test dialogues of its data, and the suite's prompts."""

    data: Path
    tokenizer: PreTrainedTokenizerBase
    limit: int
    samples: int
    max_new_tokens: int
    seed: int

    @cached_property
    def items(self) -> list[ScoredItem]:
        """The test replies whose likelihood is measured."""
        dialogues = load_prepared(self.data)["test"]
        if len(dialogues) > self.limit:
            dialogues = random.Random(self.seed).sample(dialogues, self.limit)
        return scored_items(dialogues)

    @property
    def groups(self) -> list[str]:
        """The question that each row of the likelihoods belongs to."""
        return [item.group for item in self.items for _ in item.references]

    def measure(self, run: RunFolder, model: PreTrainedModel, name: str) -> Figures:
        """Measure a run's model; `name` says in the progress which one."""
        positions = int(model.config.max_position_embeddings)
        rows, _ = encode_references(self.tokenizer, self.items, max_length=positions)
        likelihood = item_statistics(model, rows, pad_token_id=self.tokenizer.pad_token_id, batch_size=16)
        suite = run_suite(
            model,
            self.tokenizer,
            samples=self.samples,
            max_new_tokens=min(self.max_new_tokens, positions // 2),
            seed=self.seed,
            echoes=Echoes.from_pretrained(str(run.model)),
            progress=f"replies, {name}",
        )
        return Figures(likelihood, suite)

    def settings(self) -> dict[str, Any]:
        """Return what figures depend on besides the weights, as JSON keeps it."""
        return {
            "data": data_fingerprint(self.data),
            "limit": self.limit,
            "samples": self.samples,
            "max_new_tokens": self.max_new_tokens,
            "seed": self.seed,
            "prompts": [list(pair) for pair in prompts()],
            # What the suite's replies are held against, which may change between two versions.
            "check": checks_fingerprint(),
            "version": __version__,
        }


@dataclass(frozen=True)
class FirstModel:
    """The model that all rounds start from, which each new one is held against too, so that small steps add up to no
    more than one may be. Its figures are measured once, and kept in a file."""

    run: RunFolder
    file: Path

    def figures(self, yardstick: Yardstick) -> Figures:
        """Return its figures, measured now where none are kept that were measured in this way."""
        made = {"weights": weights_fingerprint(self.run.model), "settings": yardstick.settings()}
        kept = read_json(self.file) if self.file.is_file() else {}
        if {key: kept.get(key) for key in made} == made:
            return Figures(np.array(kept["likelihood"]), SuiteResult(**kept["suite"]))
        figures = yardstick.measure(self.run, whole_model(self.run), "the first model")
        write_json(self.file, {**made, "likelihood": figures.likelihood.tolist(), "suite": asdict(figures.suite)})
        return figures
