"""The practice dialogues that the starter learns from, linted."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import yaml
from dialogue_lint import Row, forbidden, near_duplicates, opening, said, unnamed_disorders

from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import scrub
from mh_support.data.sources import SAMPLES
from mh_support.metrics.diversity import distinct
from mh_support.pretraining_text import PRACTICE
from mh_support.readability import reading_grade

CARD = PRACTICE.with_name("README.md")
ROWS: list[Row] = [json.loads(line) for line in PRACTICE.read_text(encoding="utf-8").splitlines()]
SUPPORTER = [text for row in ROWS for text in said(row, "assistant")]


def faults(row: Row) -> list[str]:
    """Return what is wrong with a row's form."""
    if list(row) != ["id", "topic", "messages"]:
        return ["keys"]
    roles = [message.get("role") for message in row["messages"]]
    texts = [message.get("content", "") for message in row["messages"]]
    checks = {
        "id": re.fullmatch(re.escape(row["topic"].replace(" ", "-")) + r"-\d{4}", row["id"]),
        "turns": 2 <= len(roles) <= 12 and roles == ["user", "assistant"] * (len(roles) // 2),
        "length": all(1 <= len(text.split()) <= 130 for text in texts),
        "spacing": all(text == " ".join(text.split()) and text.isprintable() and text.isascii() for text in texts),
    }
    return [name for name, right in checks.items() if not right]


def test_the_schema() -> None:
    assert {row["id"]: faults(row) for row in ROWS if faults(row)} == {}
    assert [id for id, count in Counter(row["id"] for row in ROWS).items() if count > 1] == []


def test_no_two_dialogues_nearly_agree_nor_does_one_with_a_sample() -> None:
    samples = [json.loads(line) for path in sorted(SAMPLES.glob("*.jsonl")) for line in path.open(encoding="utf-8")]
    assert len(samples) == 626
    assert near_duplicates([*ROWS, *samples], 0.3) == []


def test_no_dialogue_begins_as_another_or_as_a_held_out_sample() -> None:
    held_out = [
        json.loads(line) for split in ("validation", "test") for line in (SAMPLES / f"{split}.jsonl").open("rb")
    ]
    first = Counter(" ".join(re.findall(r"\w+", row["messages"][0]["content"].lower())) for row in [*ROWS, *held_out])
    assert [words for words, count in first.items() if count > 1] == []


def test_no_opening_is_worn_out() -> None:
    starts = Counter(" ".join(opening(text).split()[:3]) for text in SUPPORTER)
    assert max(starts.values()) <= 0.02 * len(SUPPORTER)
    assert distinct(SUPPORTER, 2) >= 0.2
    assert 1 < reading_grade("\n".join(SUPPORTER)) < 5


def test_the_supporter_says_nothing_forbidden() -> None:
    # An exclamation mark is allowed here, for good news.
    found = [
        (row["id"], kind)
        for row in ROWS
        for text in said(row, "assistant")
        for kind in forbidden(text.replace("!", "."))
    ]
    assert found == []
    assert [(row["id"], unnamed_disorders(row)) for row in ROWS if unnamed_disorders(row)] == []


def test_what_is_said_reaches_the_model_unchanged() -> None:
    for text in SUPPORTER:
        assert scrub(clean_text(text)).text == text


def test_load_dataset_reads_them(tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(PRACTICE.parent), cache_dir=str(tmp_path))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": len(ROWS)}
    assert loaded["train"][0] == ROWS[0]


def test_the_card_tells_what_is_there() -> None:
    text = CARD.read_text(encoding="utf-8")
    turns = [message["content"] for row in ROWS for message in row["messages"]]
    words = sum(len(turn.split()) for turn in turns)
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "cc0-1.0"
    assert (
        f"{len(ROWS):,} short supportive dialogues in simple English, {len(turns):,} messages, {words:,} words" in text
    )
    assert f"Dialogues with four messages or more: {sum(len(row['messages']) >= 4 for row in ROWS):,}." in text
    assert "risk" not in {row["topic"] for row in ROWS}
    assert "None is about somebody in danger" in text
