"""From a data set to clean, scrubbed, de-duplicated splits, with a report of what happened to every row."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mh_support.data.augmentation import METHODS, WORDNET, augment, count_outcomes, hint_at_risk_each, rewriter
from mh_support.data.cleaning import clean_text
from mh_support.data.grown import held_out_fingerprint, read_grown
from mh_support.data.privacy import scrub
from mh_support.data.report import DataReport, count_edits
from mh_support.data.sources import Source, dialogues_of, open_source
from mh_support.data.splitting import (
    SPLITS,
    group_by_question,
    jaccard,
    normalise,
    shared_questions,
    shingles,
    split_by_question,
)
from mh_support.dialogue import Message
from mh_support.files import read_json, replacing, sha256_of, write_json, write_jsonl
from mh_support.safety import assess

# Two replies to one question that agree this far are one reply, posted twice with a word changed.
SAME_REPLY = 0.9

Dialogue = dict[str, Any]


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

    splits: dict[str, list[Dialogue]] = field(repr=False)
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


def write_splits(folder: Path, splits: dict[str, list[Dialogue]]) -> None:
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
        splits[name] = [_plain(row) for row in dialogues_of(Source(path.name, rows=_lines(path)))]
    return splits


def prepare(arguments: DataArguments, *, progress: bool = True) -> Prepared:
    """Load, clean, scrub, de-duplicate and split by question.

    Raises:
        ValueError: nothing usable is left, or a question stands in two splits.
    """
    report = DataReport()
    dialogues: list[Dialogue] = []
    for name in arguments.dataset_name:
        dialogues += _read(name, arguments, report, progress)
    dialogues = _without_stray_copies(dialogues, report)
    groups = group_by_question([dialogue["messages"] for dialogue in dialogues], progress=progress)
    keep = _without_repeats(dialogues, groups, report, near=arguments.near_duplicates)
    dialogues, groups = [dialogues[row] for row in keep], [groups[row] for row in keep]
    if not dialogues:
        raise ValueError(f"no dialogue is left of {report.rows_read} rows read ({_dropped(report)}); check the columns")
    assigned = _assign(dialogues, groups, arguments, report)
    splits: dict[str, list[Dialogue]] = {name: [] for name in SPLITS}
    for dialogue, group, split in zip(dialogues, groups, assigned, strict=True):
        splits[split].append({**_plain(dialogue), "question": group})
    _check_leakage(splits, report, arguments)
    report.fates["kept"] = sum(map(len, splits.values()))
    report.splits = {
        name: {"dialogues": len(originals(rows)), "questions": len({row["question"] for row in originals(rows)})}
        for name, rows in splits.items()
    }
    _count_marks(splits["train"], report)
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
        splits["train"] += _augmented(splits, arguments, report, progress)
    if arguments.grow:
        splits["train"] += _grown(splits, arguments, report)
    return Prepared({name: [_plain(row) for row in rows] for name, rows in splits.items()}, report)


def originals(dialogues: Iterable[Dialogue]) -> list[Dialogue]:
    """Return the dialogues as they came, without those that augmentation made from them or that a model grew."""
    return [dialogue for dialogue in dialogues if "augmented" not in dialogue]


def _plain(row: Dialogue) -> Dialogue:
    """Return the messages of a row, and how it was made where it did not come so."""
    return {"messages": row["messages"], **_mark(row)}


def _mark(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("augmented", "grown_by") if key in row}


def _count_marks(training: Sequence[Dialogue], report: DataReport) -> None:
    """Let the report tell of rows that were added before: by which way of augmentation, or grown by which model."""
    grown = Counter(row["grown_by"] for row in training if "grown_by" in row)
    changed = Counter(row["augmented"] for row in training if "augmented" in row and "grown_by" not in row)
    report.augmentation = {method: {"added": count} for method, count in sorted(changed.items())}
    report.growth = {model: {"added": count} for model, count in sorted(grown.items())}


def _grown(splits: dict[str, list[Dialogue]], arguments: DataArguments, report: DataReport) -> list[Dialogue]:
    """Return the dialogues of files that were grown, without repeats and without any that asks a held-out question."""
    held_out = held_out_fingerprint(splits)
    rows = [row for path in arguments.grow for row in read_grown(Path(path), held_out)]
    leaking = {place for split, place, *_ in _shared({**splits, "train": rows}) if split == "train"}
    seen: set[str] = set()
    added: list[Dialogue] = []
    for place, row in enumerate(rows):
        said = " | ".join(normalise(message["content"]) for message in row["messages"])
        fate = "leaked" if place in leaking else "repeated" if said in seen else "added"
        counts = report.growth.setdefault(row["grown_by"], {"added": 0, "leaked": 0, "repeated": 0})
        counts[fate] += 1
        seen.add(said)
        added += [row] if fate == "added" else []
    return added


def _augmented(
    splits: dict[str, list[Dialogue]], arguments: DataArguments, report: DataReport, progress: bool
) -> list[Dialogue]:
    """Return the rows that augmentation adds to training, and count what became of each row in each way of it.

    A question cut short can be one that is held out; such a row is left out again.
    """
    training = originals(splits["train"])
    shown = {"disable": None if progress else True, "leave": False, "total": len(training)}
    dialogues = [row["messages"] for row in training]
    at_risk = hint_at_risk_each(tqdm(dialogues, desc="looking for risk", **shown))
    added: list[Dialogue] = []
    for method in arguments.augment:
        rewrite = rewriter(
            method,
            wordnet=arguments.wordnet,
            paraphrase_model=arguments.paraphrase_model,
            back_translation_models=arguments.back_translation_models,
        )
        changes = augment(dialogues, at_risk, rewrite, seed=f"{arguments.split_seed} {method}")
        found = list(tqdm(changes, desc=f"augmenting by {method}", **shown))
        rows = [{"messages": messages, "augmented": method} for messages, _ in found if messages is not None]
        leaking = {place for split, place, *_ in _shared({**splits, "train": rows}) if split == "train"}
        counts = count_outcomes([outcome for _, outcome in found])
        report.augmentation[method] = {**counts, "added": len(rows) - len(leaking), "leaked": len(leaking)}
        added += [row for place, row in enumerate(rows) if place not in leaking]
    return added


def _lines(path: Path) -> Iterable[Any]:
    return open_source(str(path)).rows


def _read(name: str, arguments: DataArguments, report: DataReport, progress: bool) -> list[Dialogue]:
    """Return the usable dialogues of one data set, cleaned and scrubbed, and count the rest."""
    source = open_source(
        name, license=arguments.dataset_license, encoding=arguments.encoding, revision=arguments.dataset_revision
    )
    rows = dialogues_of(source, context_column=arguments.context_column, response_column=arguments.response_column)
    usable: list[Dialogue] = []
    before = report.rows_read
    shown = None if progress else True  # None: on a terminal only. Left before an error is printed, it leaves no trace.
    with tqdm(rows, desc=f"reading {source.name}", unit=" rows", disable=shown, leave=False) as bar:
        for row in islice(bar, arguments.max_samples):
            report.rows_read += 1
            messages, fate = _made_ready(row["messages"], arguments.lowercase, report)
            if fate is None and arguments.risk_rows == "drop" and _has_risk(messages):
                fate = "risk"
            if fate is None:
                split = None if arguments.shipped_splits == "ignore" else row["split"]
                usable.append({"messages": messages, "split": split, **_mark(row)})
            else:
                report.fates[fate] += 1
    report.sources.append({**_provenance(name, source), "rows": report.rows_read - before})
    return usable


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


def _made_ready(messages: Sequence[Message], lowercase: bool, report: DataReport) -> tuple[list[Message], str | None]:
    """Clean and scrub each message; return the person's first turn to the last reply, or why there is nothing."""
    found: Counter[str] = Counter()
    ready: list[Message] = []
    for message in messages:
        cleaned = clean_text(message["content"], lowercase=lowercase)
        found["cleaned"] += cleaned != message["content"]
        scrubbed = scrub(cleaned)
        found.update(scrubbed.counts)
        if message["role"] == "system":
            found["system_removed"] += 1
        elif not scrubbed.text:
            continue
        elif ready and ready[-1]["role"] == message["role"]:
            ready[-1] = {"role": message["role"], "content": f"{ready[-1]['content']} {scrubbed.text}"}
        else:
            ready.append({"role": message["role"], "content": scrubbed.text})
    roles = {message["role"] for message in ready}
    if "user" not in roles:
        return [], "empty_context"
    if ready[0]["role"] == "assistant":
        found["opening_reply_removed"] += 1
        ready = ready[1:]
    if ready[-1]["role"] == "user":
        found["closing_turn_removed"] += 1
        ready = ready[:-1]
    if not ready:
        return [], "empty_response"
    count_edits(report.edits, found)
    return ready, None


def _has_risk(messages: Sequence[Message]) -> bool:
    """Whether the person is in a crisis at the end by the rules, or was in one that has passed."""
    whole = assess(messages, classifiers=())
    return whole.is_crisis or (
        whole.level == "concern" and any(assess([message], classifiers=()).is_crisis for message in messages)
    )


def _without_stray_copies(dialogues: list[Dialogue], report: DataReport) -> list[Dialogue]:
    """Leave out augmented rows unless they come in the training split of a whole set of splits.

    Where rows are split anew, a changed copy could be held out while what it was made from is trained on.
    """
    whole = {dialogue["split"] for dialogue in dialogues} == set(SPLITS)
    kept = [row for row in dialogues if "augmented" not in row or (whole and row["split"] == "train")]
    if len(kept) < len(dialogues):
        report.fates["augmented"] = len(dialogues) - len(kept)
    return kept


def _without_repeats(
    dialogues: Sequence[Dialogue], groups: Sequence[int], report: DataReport, *, near: bool
) -> list[int]:
    """Return the rows to keep: the first of each dialogue, and of replies that nearly agree within one question.

    What a data set ships in two splits is no repeat but a leak, which is for the check to find.
    """
    seen: set[tuple[str | None, bytes]] = set()
    replies: dict[tuple[str | None, int], list[set[str]]] = defaultdict(list)
    asked = Counter(groups)
    keep = []
    for row, (dialogue, group) in enumerate(zip(dialogues, groups, strict=True)):
        split = dialogue["split"]
        whole = "\n".join(f"{message['role']} {normalise(message['content'])}" for message in dialogue["messages"])
        # A digest, and no words of a reply that none is compared with: those of a million rows would fill memory.
        digest = hashlib.sha256(whole.encode()).digest()
        reply = _reply_shingles(dialogue) if near and asked[group] > 1 else None
        if (split, digest) in seen:
            report.fates["duplicate"] += 1
        elif (
            reply is not None
            and "augmented" not in dialogue
            and any(jaccard(reply, other) >= SAME_REPLY for other in replies[split, group])
        ):
            report.fates["near_duplicate"] += 1
        else:
            seen.add((split, digest))
            if reply is not None:
                replies[split, group].append(reply)
            keep.append(row)
    return keep


def _reply_shingles(dialogue: Dialogue) -> set[str]:
    said = " ".join(message["content"] for message in dialogue["messages"] if message["role"] == "assistant")
    return shingles(normalise(said))


def _assign(
    dialogues: Sequence[Dialogue], groups: Sequence[int], arguments: DataArguments, report: DataReport
) -> list[str]:
    """Return each row's split: the shipped one where there is one, else by question."""
    shipped = [dialogue["split"] for dialogue in dialogues]
    if not any(shipped):
        return split_by_question(groups, seed=arguments.split_seed)
    if not all(shipped):
        raise ValueError(
            f"{shipped.count(None)} of {len(shipped)} rows have no split and the others do; fill the split column, or "
            "pass --shipped_splits ignore"
        )
    missing = [name for name in SPLITS if name not in shipped]
    if "train" in missing:
        raise ValueError("the shipped splits have no train rows; name one train, or pass --shipped_splits ignore")
    report.split_by = "shipped split"
    if missing:
        report.split_by = f"shipped split, {' and '.join(missing)} taken from train by question"
        _carve(shipped, groups, missing, arguments.split_seed)
    return shipped


def _carve(shipped: list[str], groups: Sequence[int], missing: Sequence[str], seed: int) -> None:
    """Move questions from train to the splits that were not shipped, each as large as it would have been."""
    rows = [row for row, split in enumerate(shipped) if split == "train"]
    parts = split_by_question([groups[row] for row in rows], seed=seed)
    for row, part in zip(rows, parts, strict=True):
        if part in missing:
            shipped[row] = part


def _check_leakage(splits: dict[str, list[Dialogue]], report: DataReport, arguments: DataArguments) -> None:
    """Look for questions in two splits; drop them from training if told, and stop if any is left."""
    remedy = "drop_leaks or ignore"
    if arguments.shipped_splits == "drop_leaks":
        rows = {row for split, row, *_ in _shared(splits) if split == "train"}
        report.fates["leaked"] = len(rows)
        splits["train"] = [dialogue for row, dialogue in enumerate(splits["train"]) if row not in rows]
        remedy = "ignore"
        if not splits["train"]:
            raise ValueError("every question in train stands in validation or test too; pass --shipped_splits ignore")
    leaks = _shared(splits)
    # The later split's row of each pair is the one held out.
    report.leakage = {"checked": True, "shared_questions": len({place[2:] for place in leaks})}
    if leaks:
        split, row, other, other_row = leaks[0]
        raise ValueError(
            f"questions stand in more than one split (pairs of rows: {len(leaks)}; first: {split} row {row + 1} and "
            f"{other} row {other_row + 1}), so scores would measure memory; pass --shipped_splits {remedy}"
        )


def _shared(splits: dict[str, list[Dialogue]]) -> list[tuple[str, int, str, int]]:
    return shared_questions({name: [dialogue["messages"] for dialogue in rows] for name, rows in splits.items()})


def _dropped(report: DataReport) -> str:
    return ", ".join(f"{count} {fate.replace('_', ' ')}" for fate, count in report.fates.items() if count) or "none"
