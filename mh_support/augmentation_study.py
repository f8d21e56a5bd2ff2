"""What more training rows buy: the same model trained with and without them on parts of the data, scored on the same
held-out dialogues.

Every cell of one part takes as many steps as training without additions, so that nothing wins by training longer. Each
is trained with several seeds. A cell that is done is not done again: the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mh_support.augmentation_effects import NONE, Cell, Line, effects, measured
from mh_support.baselines import ScoredItem, scored_items
from mh_support.data.augmentation import METHODS
from mh_support.data.contexts import Context, read_contexts
from mh_support.data.grown import GROWTH, held_out_fingerprint
from mh_support.data.preparation import DataArguments, Dialogue, load_prepared, originals, prepare, write_splits
from mh_support.data.splitting import group_by_question
from mh_support.files import read_json, replacing, write_json
from mh_support.growth import GrowthRule, grow
from mh_support.metrics.perplexity import perplexity
from mh_support.modeling import ModelArguments, load_model, load_tokenizer
from mh_support.run_folder import RunFolder
from mh_support.scoring import ScoringArguments, model_scores, sample
from mh_support.training import FinetuneArguments, finetune

WAYS = {**METHODS, GROWTH: "contexts without a reply answered by the model that was trained without additions"}


@dataclass
class StudyArguments:
    """What is compared, on how much of the data, and for how long each model trains."""

    output_dir: str = field(default="augmentation_study", metadata={"help": "Folder for the runs and the table."})
    methods: list[str] = field(
        default_factory=lambda: ["synonyms", "shorten", "drop_turns", GROWTH],
        metadata={"help": f"Ways to more rows: {', '.join(WAYS)}."},
    )
    shares: list[int] = field(
        default_factory=lambda: [10, 30, 100], metadata={"help": "Parts of the training questions, in percent."}
    )
    seeds: int = field(
        default=2,
        metadata={"help": "Times that each cell is trained, each with a seed of its own; one alone shows nothing."},
    )
    num_train_epochs: float = field(default=3, metadata={"help": "Epochs over the rows without additions."})
    max_steps: int | None = field(default=100, metadata={"help": "Train each model for at most so many steps."})
    max_length: int = field(default=128, metadata={"help": "Tokens a training row has at most."})
    unlabelled: list[str] = field(
        default_factory=lambda: ["samples"],
        metadata={
            "help": "Data whose contexts growth answers beside those that a part leaves out; replies are not read."
        },
    )
    grow_contexts: int = field(default=120, metadata={"help": "Contexts that growth answers, at most."})
    limit: int | None = field(default=None, metadata={"help": "Score this many held-out contexts, for a quick look."})
    max_new_tokens: int = field(default=64, metadata={"help": "Tokens a scored or grown reply has at most."})
    seed: int = field(default=42, metadata={"help": "First seed of the training; of the parts too."})

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in WAYS:
                raise ValueError(f"methods has {method!r}; the ways are {', '.join(WAYS)}")
        for share in self.shares:
            if not 1 <= share <= 100:
                raise ValueError(f"shares has {share}; give percent from 1 to 100")
        for name in ("seeds", "max_steps", "grow_contexts", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")


def study(model: ModelArguments, data: DataArguments, arguments: StudyArguments) -> dict[str, Any]:
    """Train and score every cell, write `study.json` after each line of the table, and return what it holds.

    Raises:
        ValueError: `data` is to be added to already, it cannot be prepared, or what a way of augmentation needs is
            missing.
    """
    if data.augment or data.grow:
        raise ValueError("the ways of augmentation are given with --methods here; leave out --augment and --grow")
    for method in arguments.methods:
        _changes(data, method)  # Says at once which model is not configured.
    return _Study(model, data, arguments).run()


class _Study:
    """The study's folder, and what all of its cells share."""

    def __init__(self, model: ModelArguments, data: DataArguments, arguments: StudyArguments) -> None:
        self.model, self.data, self.arguments = model, data, arguments
        self.folder = Path(arguments.output_dir)
        self.splits = prepare(data).splits
        self.items: list[ScoredItem] = sample(scored_items(self.splits["test"]), arguments.limit, arguments.seed)
        self.seeds = range(arguments.seed, arguments.seed + arguments.seeds)
        self.unlabelled: list[Context] = []

    def run(self) -> dict[str, Any]:
        self._check_same()
        parts = {share: part_of(self.splits["train"], share, self.arguments.seed) for share in self.arguments.shares}
        augmented = [method for method in self.arguments.methods if method != GROWTH]
        # All of it first: what is missing for one of them is said before anything is trained.
        for share, part in parts.items():
            self._write(share, NONE, part)
            self._augment(share, augmented)
        if GROWTH in self.arguments.methods:
            self.unlabelled = read_contexts(self.arguments.unlabelled)[0]
        groups = [item.group for item in self.items]
        lines: list[Line] = []
        result: dict[str, Any] = {"arguments": asdict(self.arguments), "held_out": len(self.items)}
        for share, part in parts.items():
            for method in (NONE, *self.arguments.methods):
                cells = [self._cell(share, method, seed, part) for seed in self.seeds]
                lines.append(measured(share, method, cells, groups))
                result["rows"] = effects(lines)  # All of them anew: each line tells of the others' chance too.
                write_json(self.folder / "study.json", result)
                count = len(parts) * (1 + len(self.arguments.methods))
                print(f"\n{len(lines)} of {count} lines of the table stand in {self.folder / 'study.json'}\n")
        return result

    def _check_same(self) -> None:
        """Note what the cells in the folder are made from, or raise ValueError if it is something else by now."""
        apart = ("output_dir", "methods", "shares", "seeds")
        shared = {name: value for name, value in asdict(self.arguments).items() if name not in apart}
        questions = {"held_out": held_out_fingerprint(self.splits), "training": len(self.splits["train"])}
        parts = {"model": asdict(self.model), "data": asdict(self.data), "arguments": shared, "questions": questions}
        asked = json.loads(json.dumps(parts))  # As it will be read back.
        place = self.folder / "asked.json"
        if not place.is_file():
            write_json(place, asked)
            return
        begun = read_json(place)
        differing = [part for part, value in asked.items() if begun.get(part) != value]
        if differing:
            raise ValueError(
                f"the study in {self.folder} was begun with other {' and '.join(differing)}; go on with the same, or "
                "give a new --output_dir"
            )

    def _data(self, share: int, name: str) -> Path:
        return self.folder / "data" / f"{name}-{share}"

    def _write(self, share: int, name: str, training: Sequence[Dialogue]) -> None:
        if not self._data(share, name).exists():
            with replacing(self._data(share, name)) as draft:
                write_splits(draft, {**self.splits, "train": list(training)})

    def _augment(self, share: int, methods: Sequence[str]) -> None:
        """Write what each way makes of a part; all at once, since looking for risk takes longest and is done once."""
        if all(self._data(share, method).exists() for method in methods):
            return
        given = _with(self.data, [str(self._data(share, NONE))], augment=list(methods))
        training = prepare(given).splits["train"]
        for method in methods:
            self._write(share, method, [row for row in training if row.get("augmented") in (None, method)])

    def _cell(self, share: int, method: str, seed: int, part: Sequence[Dialogue]) -> Cell:
        """Return what one training came to; where a way adds nothing, that is what training without it came to."""
        # What growth adds comes from the model of the same seed.
        name = f"{method}-{seed}" if method == GROWTH else method
        if method == GROWTH and not self._data(share, name).exists():
            given = _with(self.data, [str(self._data(share, NONE))], grow=[str(self._grown(share, seed, part))])
            self._write(share, name, prepare(given).splits["train"])
        training = load_prepared(self._data(share, name))["train"]
        added = len(training) - len(originals(training))
        if not added:
            method = name = NONE
        run = self._train(self._data(share, name), self._run(share, method, seed), len(part), seed)
        scores = self._scores(run, self.folder / "cells" / f"{run.path.name}.json")
        return Cell(len(training), added, np.array(scores["perplexity"]), scores["replies"])

    def _run(self, share: int, method: str, seed: int) -> Path:
        return self.folder / f"{method}-{share}-{seed}"

    def _grown(self, share: int, seed: int, part: Sequence[Dialogue]) -> Path:
        """Return the file of what the model trained without additions answers to contexts that it read no reply to."""
        path = self.folder / f"grown-{share}-{seed}.jsonl"
        if not path.exists():
            own = {id(row) for row in part}
            contexts = [row["messages"][:-1] for row in self.splits["train"] if id(row) not in own]
            contexts += self.unlabelled
            rule = GrowthRule(
                max_contexts=self.arguments.grow_contexts, max_new_tokens=self.arguments.max_new_tokens, seed=seed
            )
            grown = grow(RunFolder(self._run(share, NONE, seed)), contexts, rule)
            grown.save(path, [("contexts", row) for row in range(1, len(contexts) + 1)])
            print(f"\n{grown.table()}\n")
        return path

    def _train(self, data: Path, path: Path, dialogues: int, seed: int) -> RunFolder:
        batch = FinetuneArguments.per_device_train_batch_size
        steps = math.ceil(math.ceil(dialogues / batch) * self.arguments.num_train_epochs)
        steps = steps if self.arguments.max_steps is None else min(steps, self.arguments.max_steps)
        every = math.ceil(steps / 2)
        training = FinetuneArguments(
            output_dir=str(path),
            max_steps=steps,
            eval_steps=every,
            save_steps=every,
            save_total_limit=1,
            early_stopping_patience=0,
            learning_rate=5e-4,
            warmup_steps=0.05,
            lr_scheduler_type="cosine",
            max_length=self.arguments.max_length,
            sample_replies=0,
            seed=seed,
        )
        run = finetune(self.model, DataArguments(dataset_name=[str(data)], risk_rows="keep"), training)
        assert run is not None  # Only a dry run gives none.
        return run

    def _scores(self, run: RunFolder, place: Path) -> dict[str, Any]:
        """Return a run's statistics of perplexity and its replies, from where they are kept if they are its own."""
        weights = run.record()["fingerprints"]["weights"]
        settings = {"weights": weights, "limit": self.arguments.limit, "max_new_tokens": self.arguments.max_new_tokens}
        if place.is_file():
            kept: dict[str, Any] = read_json(place)
            if {name: kept.get(name) for name in settings} == settings:
                return kept
        scoring = ScoringArguments(
            limit=self.arguments.limit,
            max_new_tokens=self.arguments.max_new_tokens,
            seed=self.arguments.seed,
            n_resamples=1,
        )
        model, tokenizer = load_model(str(run.model)), load_tokenizer(str(run.model))
        scores, replies = model_scores(model, tokenizer, self.items, scoring, f"scoring {run.path.name}")
        found = {**settings, "perplexity": scores.statistics[perplexity].tolist(), "replies": replies}
        write_json(place, found)
        return found


def part_of(training: Sequence[Dialogue], share: int, seed: int) -> list[Dialogue]:
    """Return the dialogues of `share` percent of the questions; a smaller part is within a larger one."""
    groups = group_by_question([dialogue["messages"] for dialogue in training])
    questions = sorted(set(groups))
    random.Random(f"{seed} parts").shuffle(questions)
    kept = set(questions[: max(1, round(len(questions) * share / 100))])
    return [dialogue for dialogue, group in zip(training, groups, strict=True) if group in kept]


def _changes(data: DataArguments, method: str) -> DataArguments:
    return _with(data, [], augment=[] if method == GROWTH else [method])


def _with(data: DataArguments, names: list[str], **changes: Any) -> DataArguments:
    """Return the arguments for data of the study's own making, with what ways of augmentation need of `data`."""
    return DataArguments(
        dataset_name=names,
        risk_rows="keep",  # What was to be left out is not in it any more.
        wordnet=data.wordnet,
        paraphrase_model=data.paraphrase_model,
        back_translation_models=data.back_translation_models,
        **changes,
    )
