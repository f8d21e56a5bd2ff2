"""The embedded dialogues, linted, and their data card.

After a change to the dialogues or the card that is meant, write the card anew with `python tests/test_samples.py`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from dialogue_lint import Row, forbidden, near_duplicates, opening, said, unnamed_disorders

from mh_support.card import render_dataset_card
from mh_support.data.cleaning import clean_text
from mh_support.data.preparation import DataArguments, prepare
from mh_support.data.privacy import scrub
from mh_support.data.sources import SAMPLES
from mh_support.metrics.diversity import distinct
from mh_support.readability import reading_grade

CARD = SAMPLES / "README.md"
SIZES = {"train": 490, "validation": 68, "test": 68}
KEYS = ["id", "topic", "age", "risk", "strategies", "messages"]
# The eight of ESConv (Liu et al., 2021).
STRATEGIES = {
    "Question",
    "Restatement or Paraphrasing",
    "Reflection of feelings",
    "Self-disclosure",
    "Affirmation and Reassurance",
    "Providing Suggestions",
    "Information",
    "Others",
}
# Read one by one: here the same words deny, refuse or mean something else.
READ_AND_RIGHT = {
    ("bullying-0023", "law"),  # "Whether you can sue ... is for a lawyer"
    ("everyday-0001", "human"),  # "Thank you for telling me too"
    ("everyday-0002", "human"),  # "I won't pretend I'm a person"
    ("everyday-0019", "blame"),  # "to reply or just smile"
    ("habits-0005", "blame"),  # "it's not that you're weak"
}
# Whom a supporter sends somebody in danger to, besides professionals.
TRUSTED = (
    r"\b(?:mum|dad|parent|wife|husband|lad|brother|sister|aunt|cousin|friend|neighbour|flatmate|colleague|grown-up|adult)\b"
    r"|\b(?:tutor|woman from class|someone you trust|Rob|Bea|Ivan|Daniel)\b"
)


def read(split: str) -> list[Row]:
    return [json.loads(line) for line in (SAMPLES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


SPLITS = {split: read(split) for split in SIZES}
ROWS = [row for rows in SPLITS.values() for row in rows]


SUPPORTER = [text for row in ROWS for text in said(row, "assistant")]


def test_there_are_enough_of_them_in_all_three_splits() -> None:
    assert {split: len(rows) for split, rows in SPLITS.items()} == SIZES
    assert len(ROWS) >= 600
    assert sum(len(row["messages"]) >= 4 for row in ROWS) >= 0.4 * len(ROWS)


def test_every_line_is_one_row_in_strict_ascii() -> None:
    for split in SIZES:
        raw = (SAMPLES / f"{split}.jsonl").read_bytes()
        assert raw.isascii() and b"\r" not in raw
        assert raw.endswith(b"}\n") and b"\n\n" not in raw
        assert b"\\u" not in raw  # No escapes that stand for anything but ASCII.


def faults(row: Row) -> list[str]:
    """Return what is wrong with a row's form."""
    if list(row) != KEYS:
        return ["keys"]
    roles = [message.get("role") for message in row["messages"]]
    texts = [message.get("content", "") for message in row["messages"]]
    checks = {
        "id": re.fullmatch(re.escape(row["topic"].replace(" ", "-")) + r"-\d{4}", row["id"]),
        "age": type(row["age"]) is int and 13 <= row["age"] <= 85,
        "risk": type(row["risk"]) is bool,
        "message keys": all(list(message) == ["role", "content"] for message in row["messages"]),
        "turns": len(roles) in (2, 4, 6, 8) and roles == ["user", "assistant"] * (len(roles) // 2),
        "strategies": len(row["strategies"]) == len(roles) // 2 and set(row["strategies"]) <= STRATEGIES,
        "length": all(5 <= len(text.split()) <= 80 for text in texts),
        "spacing": all(text == " ".join(text.split()) and text.isprintable() for text in texts),
    }
    return [name for name, right in checks.items() if not right]


def test_the_schema() -> None:
    assert {row["id"]: faults(row) for row in ROWS if faults(row)} == {}


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("keys", {"extra": 1}),
        ("id", {"id": "sleep-1"}),
        ("id", {"topic": "sleeping"}),
        ("age", {"age": 12}),
        ("age", {"age": "40"}),
        ("risk", {"risk": 0}),
        ("turns", {"messages": [{"role": "assistant", "content": "One two three four five."}] * 2}),
        ("message keys", {"messages": [{"role": "user", "content": "a b c d e", "at": 1}, ROWS[0]["messages"][1]]}),
        ("strategies", {"strategies": []}),
        ("strategies", {"strategies": ["Advice"]}),
        ("length", {"messages": [{"role": "user", "content": "Hm."}, ROWS[0]["messages"][1]]}),
        ("spacing", {"messages": [{"role": "user", "content": "One two  three four five."}, ROWS[0]["messages"][1]]}),
    ],
)
def test_the_schema_finds_what_it_should(fault: str, change: dict[str, Any]) -> None:
    row = {
        "id": "sleep-0001",
        "topic": "sleep",
        "age": 40,
        "risk": False,
        "strategies": ["Question"],
        "messages": ROWS[0]["messages"][:2],
    }

    assert faults(row) == []
    assert faults(row | change) == [fault]


def test_ids_are_unique_over_all_splits() -> None:
    assert [id for id, count in Counter(row["id"] for row in ROWS).items() if count > 1] == []


def test_topics_ages_risk_and_strategies_are_spread() -> None:
    topics = {row["topic"] for row in ROWS}
    assert len(topics) >= 24
    for rows in SPLITS.values():
        assert {row["topic"] for row in rows} == topics
        assert any(row["risk"] for row in rows)
    ages = [row["age"] for row in ROWS]
    assert (min(ages), max(ages)) == (13, 85)
    decades = Counter(age // 10 for age in ages)
    assert min(decades[decade] for decade in range(1, 9)) >= 0.03 * len(ROWS)
    assert 0.03 <= sum(row["risk"] for row in ROWS) / len(ROWS) <= 0.06
    marked = Counter(strategy for row in ROWS for strategy in row["strategies"])
    assert set(marked) == STRATEGIES
    assert max(marked.values()) < 0.3 * marked.total()


def test_no_two_dialogues_nearly_agree() -> None:
    assert near_duplicates(ROWS, 0.3) == []


def test_no_opening_sentence_is_worn_out() -> None:
    people = Counter(opening(said(row, "user")[0]) for row in ROWS)
    supporter = Counter(opening(text) for text in SUPPORTER)
    assert [(words, count) for words, count in people.items() if count > 3] == []
    assert [(words, count) for words, count in supporter.items() if count > 3] == []


def test_the_supporter_varies_the_words() -> None:
    assert distinct(SUPPORTER, 2) >= 0.45
    starts = Counter(" ".join(opening(text).split()[:3]) for text in SUPPORTER)
    assert max(starts.values()) <= 0.02 * len(SUPPORTER)


def test_the_supporter_is_easy_to_read() -> None:
    assert 2 < reading_grade("\n".join(SUPPORTER)) < 5
    assert max(reading_grade(text) for text in SUPPORTER) < 8


def test_the_supporter_says_nothing_forbidden() -> None:
    found = {(row["id"], kind) for row in ROWS for text in said(row, "assistant") for kind in forbidden(text)}
    assert found == READ_AND_RIGHT


def test_the_supporter_names_no_disorder_first() -> None:
    assert [(row["id"], unnamed_disorders(row)) for row in ROWS if unnamed_disorders(row)] == []


@pytest.mark.parametrize("row", [row for row in ROWS if row["risk"]], ids=lambda row: row["id"])
def test_people_who_can_help_are_named_where_there_is_danger(row: Row) -> None:
    replies = said(row, "assistant")
    whole = " ".join(replies)

    assert "crisis line" in whole
    assert "emergency services" in whole
    assert re.search(r"\bdoctor\b", whole)
    assert re.search(TRUSTED, whole, re.IGNORECASE)
    assert "?" in replies[0]  # Asks before anything else is settled.
    assert len(replies) >= 2  # And goes on listening.


def test_nobody_is_sent_to_a_crisis_line_without_danger() -> None:
    calm = [row["id"] for row in ROWS if not row["risk"] and "crisis line" in " ".join(said(row, "assistant"))]
    assert calm == []


def test_what_the_supporter_says_reaches_the_model_unchanged() -> None:
    for text in SUPPORTER:
        cleaned = clean_text(text)
        assert (cleaned, scrub(cleaned).text) == (text, text)


def test_load_dataset_gives_the_three_splits(tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(SAMPLES), cache_dir=str(tmp_path))

    assert {split: rows.num_rows for split, rows in loaded.items()} == SIZES
    assert list(loaded) == list(SIZES)
    assert {split: rows.to_list() for split, rows in loaded.items()} == SPLITS


def test_prepare_keeps_every_row_in_its_split() -> None:
    prepared = prepare(DataArguments(dataset_name=["samples"], risk_rows="keep"), progress=False)

    assert prepared.report.fates == {"kept": len(ROWS)}
    assert prepared.report.split_by == "shipped split"
    assert prepared.report.splits == {split: {"dialogues": size, "questions": size} for split, size in SIZES.items()}
    assert prepared.report.leakage == {"checked": True, "shared_questions": 0}
    assert prepared.report.sources == [
        {"name": "samples", "license": "cc0-1.0", "non_commercial": False, "url": None, "rows": len(ROWS)}
    ]
    for split, rows in SPLITS.items():
        replies = [
            [m["content"] for m in row["messages"] if m["role"] == "assistant"] for row in prepared.splits[split]
        ]
        assert replies == [said(row, "assistant") for row in rows]


def rendered() -> str:
    return render_dataset_card("mh_support/samples", ROWS, splits=SIZES)


def test_the_card_beside_them_is_as_rendered() -> None:
    assert CARD.read_text(encoding="utf-8") == rendered()


def test_the_card_tells_what_is_there() -> None:
    text = CARD.read_text(encoding="utf-8")
    words = sum(len(message["content"].split()) for row in ROWS for message in row["messages"])
    turns = sum(len(row["messages"]) for row in ROWS)

    data = yaml.safe_load(text.split("---\n")[1])
    assert (data["license"], data["language"], data["size_categories"]) == ("cc0-1.0", ["en"], ["n<1K"])
    files = [{"split": split, "path": f"{split}.jsonl"} for split in SIZES]
    assert data["configs"] == [{"config_name": "default", "data_files": files}]
    assert f"626 supportive dialogues in English, {turns:,} messages," in text
    assert "| train | 490 |\n| validation | 68 |\n| test | 68 |\n" in text
    assert f"- Words: {words:,}, on average {words / turns:.1f} a message.\n" in text
    assert f"turns: {reading_grade(chr(10).join(SUPPORTER)):.1f} years of school, by the Flesch-Kincaid formula" in text
    assert f"may be in danger: {sum(row['risk'] for row in ROWS)}." in text
    assert 'load_dataset("mh_support/samples", split="train")' in text
    assert not re.search(r"^#+ .+\n\n?#{1,2} |\n{3}|[ \t]$", text, re.MULTILINE)
    assert text.isascii()


def test_the_card_of_a_data_set_without_files_or_replies_leaves_them_out() -> None:
    text = render_dataset_card("me/a", [{"messages": [{"role": "user", "content": "Hello."}]}])

    assert "configs:" not in text and "| Split |" not in text
    assert "Reading level" not in text


def test_the_card_refuses_splits_that_do_not_add_up() -> None:
    with pytest.raises(ValueError, match=r"^the splits hold 5 dialogues and 626 are given; give all of them$"):
        render_dataset_card("me/a", ROWS, splits={"train": 5})


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("I promise you can do it.", ["promise"]),
        ("It will all get better.", ["promise"]),
        ("Everything'll be fine.", ["promise"]),
        ("You'll be all right.", ["promise"]),
        ("I will always listen.", ["promise"]),
        ("He didn't promise you anything.", []),
        ("It may get better, and it may not.", []),
        ("Time heals.", ["platitude"]),
        ("You can do this!", ["platitude"]),
        ("You are being selfish.", ["blame"]),
        ("Please calm down.", ["blame"]),
        ("You aren't selfish to want that.", []),
        ("I'm a real person.", ["human"]),
        ("As your therapist, I would wait.", ["human"]),
        ("My own mother said so.", ["human"]),
        ("I've been there.", ["human"]),
        ("I'm a program and not a human.", []),
        ("I am not a counsellor.", []),
        ("As an AI, I cannot.", ["machine by name"]),
        ("Try your tablets at noon.", ["medication"]),
        ("50 mg is enough.", ["medication"]),
        ("Ask a pharmacist about those tablets.", []),
        ("See www.help.org for more.", ["link"]),
        ("Write to a@b.org now.", ["link"]),
        ("Call 0800 123 456.", ["telephone number"]),
        ("Ring 999 now.", ["telephone number"]),
        ("Nine pages, then page 112.", []),
        ("Samaritans are there.", ["named service"]),
        ("You could sue him.", ["law"]),
    ],
)
def test_the_list_of_forbidden_phrases_finds_what_it_should(text: str, kinds: list[str]) -> None:
    assert forbidden(text) == kinds


def test_a_disorder_is_found_unless_the_person_named_it() -> None:
    turns = [{"role": "user", "content": "I cry a lot."}, {"role": "assistant", "content": "It may be depression."}]
    named = [{"role": "user", "content": "The doctor says depression."}, turns[1]]

    assert unnamed_disorders({"messages": turns}) == ["depression"]
    assert unnamed_disorders({"messages": turns + named}) == ["depression"]
    assert unnamed_disorders({"messages": named + turns}) == []


def test_near_duplicates_are_found() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve"
    rows = [
        {"id": "a", "messages": [{"content": words}]},
        {"id": "b", "messages": [{"content": words.upper() + "."}, {"content": "thirteen"}]},  # 8 of 9 series shared.
        {"id": "c", "messages": [{"content": "nothing at all like the other ones here, is it"}]},
    ]

    assert near_duplicates(rows, 8 / 9) == [("a", "b")]
    assert near_duplicates(rows, 0.9) == []


if __name__ == "__main__":
    CARD.write_text(rendered(), encoding="utf-8")
