"""How often the crisis check interrupts ordinary people, on texts of others that only their hashes name here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from mh_support.data.readers import read_file
from mh_support.safety.crisis import Assessment, assess
from mh_support.safety.measure import EXAMPLES, Share, share

# What somebody who read a text found in it: a sign of danger, nothing that is one, or neither for certain.
RISK, UNSURE, NONE = "risk", "unsure", "none"
LABELS = EXAMPLES / "counsel_chat_labels.tsv"
_COLUMNS = ("Context", "questionText")


class Ordinary(NamedTuple):
    """A text that somebody wrote, and what it was labelled."""

    label: str
    text: str


def read_ordinary(path: Path, labels_path: Path = LABELS) -> list[Ordinary]:
    """Read the texts of a CSV file that are labelled, each once, in the order of the labels.

    The texts stand in the column Context or questionText. A line of labels is a text's SHA-256 and its label, parted by
    a tab.

    Raises:
        ValueError: a file is missing or not of this form, or a labelled text is not in the CSV file.
    """
    labels = _read_labels(labels_path)
    if not path.is_file():
        raise ValueError(f"no texts at {path}; give a CSV file with the column {' or '.join(_COLUMNS)}")
    texts: dict[str, str] = {}
    for row in read_file(path, "utf-8"):
        column = next((column for column in _COLUMNS if column in row), None)
        if column is None:
            raise ValueError(f"{path} has the columns {', '.join(map(str, row))}; expected {' or '.join(_COLUMNS)}")
        text = str(row[column])
        texts[hashlib.sha256(text.encode()).hexdigest()] = text
    missing = [name for name in labels if name not in texts]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(labels)} texts that {labels_path} labels are not in {path}; "
            "give the file they were labelled in"
        )
    return [Ordinary(label, texts[name]) for name, label in labels.items()]


def _read_labels(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ValueError(f"no labels at {path}; give a file of SHA-256 and label, parted by tabs")
    labels = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, _, label = line.partition("\t")
        if len(name) != 64 or label not in (RISK, UNSURE, NONE):
            raise ValueError(
                f"{path}, line {number} is no label: expected a SHA-256 and one of {RISK}, {UNSURE}, {NONE}, "
                "parted by a tab"
            )
        labels[name] = label
    return labels


def measure_ordinary(
    texts: Sequence[Ordinary], check: Callable[[Sequence[Mapping[str, str]]], Assessment] = assess
) -> dict[str, Any]:
    """Return how many texts of each label are taken for a crisis, and how many for that or a concern.

    Returns:
        by label, `crisis` and `asked`: shares with `count`, `of` and `ci95`.
    """
    levels: dict[str, list[str]] = {RISK: [], UNSURE: [], NONE: []}
    for label, text in tqdm(texts, desc="texts", leave=False, disable=None):
        levels[label].append(check([{"role": "user", "content": text}]).level)
    return {
        label: {
            "crisis": asdict(share(level in ("crisis", "emergency") for level in found)),
            "asked": asdict(share(level != "none" for level in found)),
        }
        for label, found in levels.items()
    }


def ordinary_lines(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a result as the lines of a table."""
    names = {NONE: "without risk", UNSURE: "unsure", RISK: "with risk"}
    rows = [(name, *(str(Share(**result[label][key])) for key in ("crisis", "asked"))) for label, name in names.items()]
    return [("texts, by what a reader found", "taken for a crisis", "or asked about"), *rows]
