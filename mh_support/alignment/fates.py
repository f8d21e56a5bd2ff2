"""What happened to every record of feedback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mh_support.data.report import EDITS, table

FATES = {
    "train": "to learn from",
    "held_out": "held out to judge by",
    "no_consent": "left out: no consent, or not to a text that counts",
    "again": "left out: the same person rated the same again later",
    "empty": "left out: nothing left without personal details, or no difference",
    "unsafe_praise": "left out: praises a reply that fails the check",
    "distrusted": "left out: from somebody who praised several such replies",
    "other_kind": "left out: the method does not learn from this kind",
    "over_cap": "left out: beyond what one person counts",
    "risk": "left out: the person may be in danger",
    "scored": "left out: asks what the run is scored on",
    "repeat": "left out: nearly the same reply to nearly the same question",
    "disputed": "left out: as many people for as against",
    "echo": "left out: praises a reply that repeats what the model has read",
    "too_long": "left out: longer than the model reads",
    "shared_question": "left out: its question stands on the other side",
    "surplus": "left out: too many thumbs of its kind",
}


@dataclass(frozen=True)
class FeedbackReport:
    """The fate of each record (each has exactly one), and what is left: people, praise, and which records they were."""

    read: int
    fates: Mapping[str, int]
    edits: Mapping[str, int]
    people: Mapping[str, int]
    praised: Mapping[str, int]
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        """Return the report as `feedback_report.json` holds it.

        Raises:
            RuntimeError: the fates do not add up to the records read, which would be an error in this package.
        """
        if sum(self.fates.values()) != self.read:
            raise RuntimeError(f"{self.read} records were read and {sum(self.fates.values())} accounted for")
        return asdict(self)

    def table(self) -> str:
        """Return the report as a table to print."""
        rows: list[tuple[str, int | str]] = [("records read", self.read)]
        rows += [(f"  {FATES[fate]}", count) for fate, count in self.fates.items()]
        rows += [("people to learn from", self.people["train"]), ("people held out", self.people["held_out"])]
        rows += [(f"  {EDITS[edit]} (texts)", count) for edit, count in self.edits.items()]
        return table([("what happened to the feedback", "records"), *rows])
