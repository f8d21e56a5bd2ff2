"""What happened to every row on its way from a file to the splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FATES = {
    "kept": "kept",
    "empty_context": "dropped: nothing said by the person",
    "empty_response": "dropped: no reply left",
    "risk": "set aside: signs of a crisis, which is never a model's to answer",
    "duplicate": "dropped: the same dialogue again",
    "near_duplicate": "dropped: the same question and nearly the same reply",
    "leaked": "dropped from training: its question is in a shipped validation or test split",
    "augmented": "dropped: a changed copy or a grown row, and the rows are split anew",
}
EDITS = {
    "cleaned": "text cleaned (markup, spacing, characters)",
    "opening_reply_removed": "reply before the person spoke, removed",
    "closing_turn_removed": "closing words without a reply, removed",
    "system_removed": "system message, removed",
    "email": "e-mail address removed",
    "phone": "phone number removed",
    "link": "link removed",
    "signature": "credentials or signature removed",
    "advert": "advert removed",
    "hotline": "obsolete hotline replaced",
}

AUGMENTATION = {
    "risk": "not touched: a hint of risk in them",
    "unchanged": "not added: nothing to change in them",
    "leaked": "not added: they would ask a held-out question",
    "repeated": "not added: they stand there already",
}


@dataclass
class DataReport:
    """The fate of each row (each row has exactly one) and the number of rows that each kind of edit touched."""

    sources: list[dict[str, Any]] = field(default_factory=list)
    rows_read: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    edits: Counter[str] = field(default_factory=Counter)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    split_by: str = "question"
    leakage: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, dict[str, int]] = field(default_factory=dict)
    growth: dict[str, dict[str, int]] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as `data_report.json` holds it.

        Raises:
            RuntimeError: the fates do not add up to the rows read, which would be an error in this package.
        """
        if sum(self.fates.values()) != self.rows_read:
            raise RuntimeError(f"{self.rows_read} rows were read and {sum(self.fates.values())} accounted for")
        return {
            "source": ", ".join(source["name"] for source in self.sources),
            "sources": self.sources,
            "rows_read": self.rows_read,
            "fates": dict(self.fates),
            "edits": dict(self.edits),
            "splits": self.splits,
            "split_by": self.split_by,
            "leakage": self.leakage,
            "augmentation": self.augmentation,
            "growth": self.growth,
            "encoding": self.encoding,
        }

    def table(self) -> str:
        """Return the report as a table to print."""
        rows: list[tuple[str, int | str]] = [("rows read", self.rows_read)]
        rows += [(f"  {text}", self.fates[fate]) for fate, text in FATES.items() if self.fates[fate] or fate == "kept"]
        rows += [("rows edited", "")] if self.edits else []
        rows += [(f"  {text}", self.edits[edit]) for edit, text in EDITS.items() if self.edits[edit]]
        rows += [(f"split by {self.split_by}", "dialogues (questions)")]
        rows += [
            (f"  {name}", f"{count['dialogues']:,} ({count['questions']:,})") for name, count in self.splits.items()
        ]
        rows += [("questions in more than one split", self.leakage.get("shared_questions", "not checked"))]
        ways = [(f"added to train by {method}", counts) for method, counts in self.augmentation.items()]
        ways += [(f"added to train, replies grown by {model}", counts) for model, counts in self.growth.items()]
        for way, counts in ways:
            rows += [(way, counts["added"])]
            rows += [(f"  {text}", counts[key]) for key, text in AUGMENTATION.items() if counts.get(key)]
        return table([("what happened", "rows"), *rows])


def table(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows of cells as aligned text; the first row is the head, numbers stand to the right."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def count_edits(edits: Counter[str], found: Mapping[str, int]) -> None:
    """Add one to each kind of edit that `found` counts at least once: rows are counted, not places."""
    edits.update(kind for kind, count in found.items() if count)
