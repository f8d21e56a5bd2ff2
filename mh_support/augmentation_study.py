"""What augmentation buys: the same model trained with and without it on parts of the data, scored on the same held-out.

Every cell of one part takes as many steps as training without augmentation, so that nothing wins by training longer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mh_support.baselines import ScoredItem, scored_items
from mh_support.data.augmentation import METHODS
from mh_support.data.preparation import DataArguments, Dialogue, prepare, write_splits
from mh_support.data.report import table
from mh_support.data.splitting import group_by_question
from mh_support.files import read_json, replacing, write_json
from mh_support.metrics import paired_difference
from mh_support.metrics.perplexity import perplexity
from mh_support.modeling import ModelArguments, load_model, load_tokenizer
from mh_support.run_folder import RunFolder
from mh_support.scores import METRICS
from mh_support.scoring import Scores, ScoringArguments, model_scores, sample
from mh_support.training import FinetuneArguments, finetune

NONE = "none"
SHOWN = {metric.key: metric for metric in METRICS if metric.key in ("perplexity", "distinct2")}
NOTE = (
    "Intervals (95 %) are over held-out questions; training again with another seed would add to them. Lower "
    "perplexity and higher distinct-2 are better."
)


@dataclass
class StudyArguments:
    """What is compared, on how much of the data, and for how long each model trains."""

    output_dir: str = field(default="augmentation_study", metadata={"help": "Folder for the runs and the table."})
    methods: list[str] = field(
        default_factory=lambda: ["synonyms", "shorten", "drop_turns"],
        metadata={"help": f"Ways of augmentation: {', '.join(METHODS)}."},
    )
    shares: list[int] = field(
        default_factory=lambda: [10, 30, 100], metadata={"help": "Parts of the training questions, in percent."}
    )
    num_train_epochs: float = field(default=3, metadata={"help": "Epochs over the rows that are not augmented."})
    max_steps: int | None = field(default=None, metadata={"help": "Train each model for at most so many steps."})
    limit: int | None = field(default=None, metadata={"help": "Score this many held-out contexts, for a quick look."})
    seed: int = field(default=42, metadata={"help": "Seed of the parts, the training and the intervals."})
    n_resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples for the 95 % intervals."})

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"methods has {method!r}; the ways are {', '.join(METHODS)}")
        for share in self.shares:
            if not 1 <= share <= 100:
                raise ValueError(f"shares has {share}; give percent from 1 to 100")


def study(model: ModelArguments, data: DataArguments, arguments: StudyArguments) -> dict[str, Any]:
    """Train and score every cell, and write `study.json`; cells that are trained already are not trained again.

    Raises:
        ValueError: `data` is to be augmented already, or it cannot be prepared.
    """
    if data.augment:
        raise ValueError("the ways of augmentation are given with --methods here; leave out --augment")
    folder = Path(arguments.output_dir)
    splits = prepare(data).splits
    scoring = ScoringArguments(limit=arguments.limit, seed=arguments.seed, n_resamples=arguments.n_resamples)
    items = sample(scored_items(splits["test"]), arguments.limit, arguments.seed)
    rows = []
    for share in arguments.shares:
        part = folder / f"data-{share}"
        training = part_of(splits["train"], share, arguments.seed)
        if not part.exists():
            with replacing(part) as draft:
                write_splits(draft, {**splits, "train": training})
        plain: Scores | None = None
        for method in (NONE, *arguments.methods):
            run = _train(model, data, part, folder / f"{method}-{share}", method, len(training), arguments)
            scores = _score(run, items, scoring)
            plain = scores if plain is None else plain
            rows.append(_row(share, method, run, scores, plain, arguments))
    result = {"arguments": asdict(arguments), "held_out": len(items), "rows": rows}
    write_json(folder / "study.json", result)
    return result


def part_of(training: Sequence[Dialogue], share: int, seed: int) -> list[Dialogue]:
    """Return the dialogues of `share` percent of the questions; a smaller part is within a larger one."""
    groups = group_by_question([dialogue["messages"] for dialogue in training])
    questions = sorted(set(groups))
    random.Random(f"{seed} parts").shuffle(questions)
    kept = set(questions[: max(1, round(len(questions) * share / 100))])
    return [dialogue for dialogue, group in zip(training, groups, strict=True) if group in kept]


def study_table(result: Mapping[str, Any]) -> str:
    """Return a line a cell: what it was trained on, its scores, the difference to no augmentation, the verdict."""
    lines = [("share", "augmented by", "rows", "added", "perplexity", "minus none", "distinct-2", "so it")]
    for row in result["rows"]:
        gain = row["minus_none"]
        lines.append(
            (
                f"{row['share']} %",
                row["method"],
                f"{row['dialogues']:,}",
                f"{row['added']:,}",
                SHOWN["perplexity"].show(row["perplexity"]),
                "-" if gain is None else SHOWN["perplexity"].show(gain, signed=True),
                SHOWN["distinct2"].show(row["distinct2"]),
                "-" if gain is None else verdict(gain["ci95"]),
            )
        )
    return f"{table(lines)}\n\n{NOTE}"


def verdict(interval: Sequence[float] | None) -> str:
    """Say what a difference in perplexity shows."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "shows nothing"
    return "helps" if interval[1] < 0 else "hurts"


def _train(
    model: ModelArguments,
    data: DataArguments,
    part: Path,
    path: Path,
    method: str,
    dialogues: int,
    arguments: StudyArguments,
) -> RunFolder:
    batch = FinetuneArguments.per_device_train_batch_size
    steps = math.ceil(math.ceil(dialogues / batch) * arguments.num_train_epochs)
    steps = steps if arguments.max_steps is None else min(steps, arguments.max_steps)
    every = max(1, steps // 4)
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
        max_length=256,
        sample_replies=0,
        seed=arguments.seed,
    )
    augmented = DataArguments(
        dataset_name=[str(part)],
        augment=[] if method == NONE else [method],
        wordnet=data.wordnet,
        paraphrase_model=data.paraphrase_model,
        back_translation_models=data.back_translation_models,
    )
    run = finetune(model, augmented, training)
    assert run is not None  # Only a dry run gives none.
    return run


def _score(run: RunFolder, items: Sequence[ScoredItem], scoring: ScoringArguments) -> Scores:
    model, tokenizer = load_model(str(run.model)), load_tokenizer(str(run.model))
    return model_scores(model, tokenizer, items, scoring, f"scoring {run.path.name}")[0]


def _row(
    share: int, method: str, run: RunFolder, scores: Scores, plain: Scores, arguments: StudyArguments
) -> dict[str, Any]:
    gain = None
    if method != NONE:
        found = paired_difference(
            plain.statistics[perplexity],
            scores.statistics[perplexity],
            perplexity.from_statistics,
            seed=arguments.seed,
            n_resamples=arguments.n_resamples,
            groups=scores.groups,
        )["perplexity"]
        ends = None if found.interval is None else [round(end, 4) for end in found.interval]
        gain = {"value": round(found.value, 4), "ci95": ends}
    trained = run.record()["data"]["splits"]["train"]["dialogues"]
    added = read_json(run.report_file)["augmentation"].get(method, {"added": 0})["added"]
    return {
        "share": share,
        "method": method,
        "dialogues": trained,
        "added": added,
        **{key: scores.values[key] for key in SHOWN},
        "minus_none": gain,
    }
