"""From a data set to clean, scrubbed, de-duplicated splits, with a report of what happened to every row.

Rows stream through, in several processes where there are many, into an Arrow file on disk; the splits are read from
there. Memory holds numbers alone: 8 bytes for a row that is kept, and more while questions are compared, as
`recipes/benchmark.py --parts preparation` tells. Two kinds of source are held as a whole while they are read: a .json
file, which is one value, and EmpatheticDialogues, whose conversations may be scattered.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from mh_support.data.augmentation import METHODS, WORDNET, augment, count_outcomes, hint_at_risk_each, rewriter
from mh_support.data.grown import held_out_fingerprint, read_grown
from mh_support.data.processes import batches_of, default_num_proc, in_order
from mh_support.data.ready import make_ready
from mh_support.data.repeats import SAME_REPLY, without_repeats
from mh_support.data.report import DataReport
from mh_support.data.rows import Array, Dialogue, Rows, plain, record_batch, write_arrow
from mh_support.data.sources import Source, dialogues_of, open_source
from mh_support.data.splitting import SPLITS, normalise, question_groups, shared_questions, split_by_question
from mh_support.dialogue import Message
from mh_support.files import read_json, replacing, sha256_of, write_json, write_jsonl

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SAME_REPLY",
    "DataArguments",
    "Dialogue",
    "Prepared",
    "check_replaceable",
    "data_fingerprint",
    "load_prepared",
    "originals",
    "prepare",
    "write_splits",
]

# A row that stays in no split.
_NOWHERE = -1


@dataclass
class DataArguments:
    """Which dialogues to use and how to make them ready."""

    dataset_name: list[str] = field(
        default_factory=lambda: ["samples"],
        metadata={
            "help": "One or more: a CSV, TSV, JSON, JSONL or Parquet file, a folder, a Hub id, or 'samples'.",
            "aliases": ["--data"],
        },
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a Hub data set."})
    dataset_license: str | None = field(
        default=None, metadata={"help": "Licence of the data, for the card; known data sets have theirs."}
    )
    context_column: str | None = field(default=None, metadata={"help": "Column of what the person said."})
    response_column: str | None = field(default=None, metadata={"help": "Column of what was answered."})
    encoding: str = field(default="utf-8", metadata={"help": "Encoding of text files."})
    lowercase: bool = field(default=False, metadata={"help": "Put all text in lower case."})
    near_duplicates: bool = field(
        default=True, metadata={"help": "Drop a reply that nearly repeats another one to the same question."}
    )
    shipped_splits: str = field(
        default="use",
        metadata={
            "help": "Splits that a data set ships: use them and stop if a question stands in two, use them and drop "
            "such rows from training, or ignore them and split anew.",
            "choices": ["use", "drop_leaks", "ignore"],
        },
    )
    risk_rows: str = field(
        default="drop",
        metadata={
            "help": "Dialogues in which the person shows signs of a crisis, by the rules of mh_support.safety: leave "
            "them out, since a model never answers these, or keep them.",
            "choices": ["drop", "keep"],
        },
    )
    split_seed: int = field(default=42, metadata={"help": "Seed of the split by question."})
    num_proc: int | None = field(
        default=None,
        metadata={
            "help": "Processes that prepare a large data set, by default one a processor; the result is the same."
        },
    )
    max_samples: int | None = field(default=None, metadata={"help": "Read at most this many rows of each data set."})
    augment: list[str] = field(
        default_factory=list,
        metadata={"help": f"Add changed copies of training dialogues: {', '.join(METHODS)}; none by default."},
    )
    grow: list[str] = field(
        default_factory=list,
        metadata={"help": "Files of recipes/grow.py whose dialogues are added to training; none by default."},
    )
    wordnet: str = field(default=WORDNET, metadata={"help": "Folder of WordNet's files, for synonyms."})
    paraphrase_model: str | None = field(
        default=None, metadata={"help": "Sequence-to-sequence model that paraphrases English, for paraphrase."}
    )
    back_translation_models: list[str] = field(
        default_factory=list,
        metadata={"help": "Two models, from English and back into English, for back_translation."},
    )

    def __post_init__(self) -> None:
        if self.shipped_splits not in ("use", "drop_leaks", "ignore"):
            raise ValueError(f"shipped_splits is {self.shipped_splits!r}; it is one of use, drop_leaks, ignore")
        if self.risk_rows not in ("drop", "keep"):
            raise ValueError(f"risk_rows is {self.risk_rows!r}; it is drop or keep")
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"max_samples is {self.max_samples}; give at least 1, or leave it out for all")
        if self.num_proc is not None and self.num_proc < 1:
            raise ValueError(f"num_proc is {self.num_proc}; give at least 1, or leave it out for one a processor")
        for method in self.augment:
            if method not in METHODS:
                raise ValueError(f"augment has {method!r}; the ways are {', '.join(METHODS)}")
        if "paraphrase" in self.augment and self.paraphrase_model is None:
            raise ValueError("augmenting by paraphrase needs a model; name it with --paraphrase_model")
        if "back_translation" in self.augment and len(self.back_translation_models) != 2:
            raise ValueError(
                "augmenting by back_translation needs two models; name them with --back_translation_models"
            )


@dataclass(frozen=True)
class Prepared:
    """Splits of dialogues, `{"messages": [...]}` each, and the report that belongs to them."""

    splits: dict[str, Sequence[Dialogue]] = field(repr=False)
    report: DataReport

    def save(self, folder: Path) -> None:
        """Write train.jsonl, validation.jsonl, test.jsonl and data_report.json to `folder`, whole or not at all."""
        with replacing(folder) as draft:
            write_splits(draft, self.splits)
            write_json(draft / "data_report.json", self.report.as_dict())


def check_replaceable(folder: Path) -> None:
    """Raise ValueError if anything but prepared data stands at `folder`: `Prepared.save` replaces the whole of it."""
    own = {*(f"{name}.jsonl" for name in SPLITS), "data_report.json"}
    strangers = sorted({entry.name for entry in folder.iterdir()} - own) if folder.is_dir() else []
    if strangers:
        raise ValueError(f"{folder} holds {strangers[0]}, which is no prepared data; give --output_dir a new folder")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give --output_dir a new folder")


def write_splits(folder: Path, splits: Mapping[str, Sequence[Dialogue]]) -> None:
    """Write each split's dialogues to `folder`, one JSON line each."""
    for name in SPLITS:
        write_jsonl(folder / f"{name}.jsonl", splits[name])


def data_fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a prepared folder's three splits."""
    return sha256_of(folder / f"{name}.jsonl" for name in SPLITS)


def load_prepared(folder: Path) -> dict[str, list[Dialogue]]:
    """Read back the splits that `Prepared.save` wrote.

    Raises:
        ValueError: a split is missing or not as it was written.
    """
    splits: dict[str, list[Dialogue]] = {}
    for name in SPLITS:
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            raise ValueError(
                f"{path} is missing; prepare the data again with recipes/prepare.py or recipes/finetune.py"
            )
        splits[name] = [plain(row) for row in dialogues_of(Source(path.name, rows=_lines(path)))]
    return splits


def prepare(arguments: DataArguments, *, progress: bool = True) -> Prepared:
    """Load, clean, scrub, de-duplicate and split by question.

    Raises:
        ValueError: nothing usable is left, or a question stands in two splits.
    """
    # The files lose their names with the folder, and go for good when nobody reads the splits any more.
    with tempfile.TemporaryDirectory(prefix="mh_support_data_", ignore_cleanup_errors=True) as scratch:
        return _prepare(arguments, Path(scratch), progress)


def _prepare(arguments: DataArguments, scratch: Path, progress: bool) -> Prepared:
    report = DataReport()
    table = write_arrow(scratch / "rows.arrow", _read_all(arguments, report, progress))
    rows = Rows(table, _without_stray_copies(table, report), make=dict)
    groups = question_groups(rows.messages(), num_proc=_num_proc(arguments), progress=progress)
    keep = without_repeats(rows, groups, report.fates, near=arguments.near_duplicates)
    places, groups = rows.places[keep], groups[keep]
    if not len(places):
        raise ValueError(f"no dialogue is left of {report.rows_read} rows read ({_dropped(report)}); check the columns")
    split_of = _assign(_codes(table)[places], groups, arguments, report)
    _check_leakage(table, places, split_of, report, arguments)
    report.fates["kept"] = int((split_of != _NOWHERE).sum())
    copied = table["augmented"].is_valid().to_numpy()[places]
    for code, name in enumerate(SPLITS):
        own = (split_of == code) & ~copied
        report.splits[name] = {"dialogues": int(own.sum()), "questions": len(np.unique(groups[own]))}
    splits: dict[str, Sequence[Dialogue]] = {
        name: Rows(table, places[split_of == code]) for code, name in enumerate(SPLITS)
    }
    _count_marks(table.take(places[copied & (split_of == 0)]), report)
    if arguments.augment and report.augmentation:
        raise ValueError(
            f"the data is augmented already ({', '.join(report.augmentation)}); give the data that it was made from, "
            "or leave out --augment"
        )
    if arguments.grow and report.growth:
        raise ValueError(
            f"the data is grown already (by {', '.join(report.growth)}); give the data without it, or leave out --grow"
        )
    if arguments.augment:
        splits["train"] = _augmented(splits, arguments, report, progress, scratch)
    if arguments.grow:
        splits["train"] = _grown(splits, arguments, report, scratch)
    return Prepared(splits, report)


def _num_proc(arguments: DataArguments) -> int:
    return default_num_proc() if arguments.num_proc is None else arguments.num_proc


def originals(dialogues: Iterable[Dialogue]) -> list[Dialogue]:
    """Return the dialogues as they came, without those that augmentation made from them or that a model grew."""
    return [dialogue for dialogue in dialogues if "augmented" not in dialogue]


def _count_marks(made: pa.Table, report: DataReport) -> None:
    """Let the report tell of rows that were added before: by which way of augmentation, or grown by which model."""
    changed = Counter(made.filter(made["grown_by"].is_null())["augmented"].to_pylist())
    grown = Counter(made["grown_by"].drop_null().to_pylist())
    report.augmentation = {method: {"added": count} for method, count in sorted(changed.items())}
    report.growth = {model: {"added": count} for model, count in sorted(grown.items())}


def _grown(
    splits: Mapping[str, Sequence[Dialogue]], arguments: DataArguments, report: DataReport, scratch: Path
) -> Rows:
    """Return training with the dialogues that were grown, without repeats and what asks a held-out question."""
    rows = [row for path in arguments.grow for row in read_grown(Path(path), held_out_fingerprint(splits))]
    table = write_arrow(scratch / "grown.arrow", [record_batch(rows)])
    leaking = _asking_what_is_held_out(Rows(table), splits, arguments)
    seen: set[str] = set()
    added: list[int] = []
    for place, row in enumerate(rows):
        said = " | ".join(normalise(message["content"]) for message in row["messages"])
        fate = "leaked" if place in leaking else "repeated" if said in seen else "added"
        counts = report.growth.setdefault(row["grown_by"], {"added": 0, "leaked": 0, "repeated": 0})
        counts[fate] += 1
        seen.add(said)
        added += [place] if fate == "added" else []
    train = splits["train"]
    assert isinstance(train, Rows)
    return train.joined(table, np.array(added, dtype=np.int64))


def _asking_what_is_held_out(
    rows: Rows, splits: Mapping[str, Sequence[Dialogue]], arguments: DataArguments
) -> list[int]:
    """Return the places of the rows that ask a question of validation or test."""
    held_out = {name: part.messages() for name, part in splits.items() if name != "train" and isinstance(part, Rows)}
    found = shared_questions({"train": rows.messages(), **held_out}, num_proc=_num_proc(arguments))
    return sorted({place for split, place, *_ in found if split == "train"})


def _augmented(
    splits: dict[str, Sequence[Dialogue]], arguments: DataArguments, report: DataReport, progress: bool, scratch: Path
) -> Rows:
    """Return training with the rows that augmentation adds, and count what became of each row in each way of it.

    A question cut short can be one that is held out; such a row is left out again.
    """
    train = splits["train"]
    assert isinstance(train, Rows)
    came_so = train.table["augmented"].is_null().to_numpy()[train.places]
    dialogues = Rows(train.table, train.places[came_so]).messages()
    shown = {"disable": None if progress else True, "leave": False, "total": len(dialogues)}
    at_risk = hint_at_risk_each(tqdm(dialogues, desc="looking for risk", **shown))
    for method in arguments.augment:
        rewrite = rewriter(
            method,
            wordnet=arguments.wordnet,
            paraphrase_model=arguments.paraphrase_model,
            back_translation_models=arguments.back_translation_models,
        )
        changes = augment(dialogues, at_risk, rewrite, seed=f"{arguments.split_seed} {method}")
        outcomes: list[str] = []
        changed = _changed(tqdm(changes, desc=f"augmenting by {method}", **shown), method, outcomes)
        table = write_arrow(scratch / f"{method}.arrow", changed)
        leaking = _asking_what_is_held_out(Rows(table), splits, arguments)
        added = np.delete(np.arange(table.num_rows), leaking)
        report.augmentation[method] = {**count_outcomes(outcomes), "added": len(added), "leaked": len(leaking)}
        train = train.joined(table, added)
    return train


def _changed(
    changes: Iterable[tuple[list[Message] | None, str]], method: str, outcomes: list[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the changed dialogues as Arrow columns, and put what became of each into `outcomes`."""

    def rows() -> Iterator[Dialogue]:
        for messages, outcome in changes:
            outcomes.append(outcome)
            if messages is not None:
                yield {"messages": messages, "augmented": method}

    return map(record_batch, batches_of(rows(), _characters))


def _characters(row: Dialogue) -> int:
    return sum(len(message["content"]) for message in row["messages"])


def _lines(path: Path) -> Iterable[Any]:
    return open_source(str(path)).rows


def _read_all(arguments: DataArguments, report: DataReport, progress: bool) -> Iterator[pa.RecordBatch]:
    """Yield the usable dialogues of all data sets, cleaned and scrubbed, and count the rest."""
    for name in arguments.dataset_name:
        yield from _read(name, arguments, report, progress)


def _read(name: str, arguments: DataArguments, report: DataReport, progress: bool) -> Iterator[pa.RecordBatch]:
    source = open_source(
        name, license=arguments.dataset_license, encoding=arguments.encoding, revision=arguments.dataset_revision
    )
    rows = dialogues_of(source, context_column=arguments.context_column, response_column=arguments.response_column)
    if arguments.shipped_splits == "ignore":
        rows = ({**row, "split": None} for row in rows)
    work = partial(make_ready, lowercase=arguments.lowercase, drop_risk=arguments.risk_rows == "drop")
    batches = batches_of(islice(rows, arguments.max_samples), _characters)
    before = report.rows_read
    shown = None if progress else True  # None: on a terminal only. Left before an error is printed, it leaves no trace.
    with (
        tqdm(desc=f"reading {source.name}", unit=" rows", disable=shown, leave=False) as bar,
        closing(in_order(work, batches, _num_proc(arguments))) as made,
    ):
        for ready in made:
            report.rows_read += ready.rows_read
            report.fates.update(ready.fates)
            report.edits.update(ready.edits)
            bar.update(ready.rows_read)
            yield ready.usable
    report.sources.append({**_provenance(name, source), "rows": report.rows_read - before})


def _provenance(name: str, source: Source) -> dict[str, Any]:
    """Return what a card says of the source; a folder that was prepared here remembers where its rows came from."""
    earlier = Path(name) / "data_report.json"
    if not earlier.is_file():
        return source.as_dict()
    try:
        origins = [
            {key: origin[key] for key in ("name", "license", "non_commercial", "url")}
            for origin in read_json(earlier)["sources"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{earlier} does not say where the rows came from; prepare the data again") from error
    stated = [source.license] if source.license != "unknown" else sorted({origin["license"] for origin in origins})
    return {
        "name": ", ".join(origin["name"] for origin in origins),
        "license": " and ".join(stated),
        "non_commercial": source.non_commercial or any(origin["non_commercial"] for origin in origins),
        "url": origins[0]["url"] if len(origins) == 1 else None,
    }


def _codes(table: pa.Table) -> Array:
    """Return the number in SPLITS of each row's shipped split; -1 where it has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(table["split"], value_set=pa.array(SPLITS))
    codes: Array = found.fill_null(_NOWHERE).to_numpy().astype(np.int8)
    return codes


def _without_stray_copies(table: pa.Table, report: DataReport) -> Array:
    """Return the places of the rows, without augmented ones unless they come in the training split of a whole set.

    Where rows are split anew, a changed copy could be held out while what it was made from is trained on.
    """
    codes = _codes(table)
    whole = set(np.unique(codes).tolist()) == set(range(len(SPLITS)))
    copied = table["augmented"].is_valid().to_numpy()
    keep = ~copied | (codes == 0) if whole else ~copied
    if not keep.all():
        report.fates["augmented"] = int((~keep).sum())
    return np.flatnonzero(keep)


def _assign(shipped: Array, groups: Array, arguments: DataArguments, report: DataReport) -> Array:
    """Return each row's split, as a number in SPLITS: the shipped one where there is one, else by question."""
    if (shipped == _NOWHERE).all():
        return _split_anew(groups, arguments.split_seed)
    if (shipped == _NOWHERE).any():
        raise ValueError(
            f"{int((shipped == _NOWHERE).sum())} of {len(shipped)} rows have no split and the others do; fill the "
            "split column, or pass --shipped_splits ignore"
        )
    missing = [name for code, name in enumerate(SPLITS) if not (shipped == code).any()]
    if "train" in missing:
        raise ValueError("the shipped splits have no train rows; name one train, or pass --shipped_splits ignore")
    report.split_by = "shipped split"
    if missing:
        report.split_by = f"shipped split, {' and '.join(missing)} taken from train by question"
        _carve(shipped, groups, missing, arguments.split_seed)
    return shipped


def _split_anew(groups: Array, seed: int) -> Array:
    return np.fromiter(map(SPLITS.index, split_by_question(groups, seed=seed)), dtype=np.int8, count=len(groups))


def _carve(shipped: Array, groups: Array, missing: Sequence[str], seed: int) -> None:
    """Move questions from train to the splits that were not shipped, each as large as it would have been."""
    rows = np.flatnonzero(shipped == 0)
    parts = _split_anew(groups[rows], seed)
    moved = np.isin(parts, [SPLITS.index(name) for name in missing])
    shipped[rows[moved]] = parts[moved]


def _check_leakage(
    table: pa.Table, places: Array, split_of: Array, report: DataReport, arguments: DataArguments
) -> None:
    """Look for questions in two splits; drop them from training if told, and stop if any is left."""

    def shared() -> list[tuple[str, int, str, int]]:
        rows: dict[str, Sequence[Sequence[Message]]] = {
            name: Rows(table, places[split_of == code]).messages() for code, name in enumerate(SPLITS)
        }
        return shared_questions(rows, num_proc=_num_proc(arguments))

    remedy = "drop_leaks or ignore"
    if arguments.shipped_splits == "drop_leaks":
        leaking = sorted({row for split, row, *_ in shared() if split == "train"})
        report.fates["leaked"] = len(leaking)
        split_of[np.flatnonzero(split_of == 0)[leaking]] = _NOWHERE
        remedy = "ignore"
        if not (split_of == 0).any():
            raise ValueError("every question in train stands in validation or test too; pass --shipped_splits ignore")
    leaks = shared()
    # The later split's row of each pair is the one held out.
    report.leakage = {"checked": True, "shared_questions": len({place[2:] for place in leaks})}
    if leaks:
        split, row, other, other_row = leaks[0]
        raise ValueError(
            f"questions stand in more than one split (pairs of rows: {len(leaks)}; first: {split} row {row + 1} and "
            f"{other} row {other_row + 1}), so scores would measure memory; pass --shipped_splits {remedy}"
        )


def _dropped(report: DataReport) -> str:
    return ", ".join(f"{count} {fate.replace('_', ' ')}" for fate, count in report.fates.items() if count) or "none"
