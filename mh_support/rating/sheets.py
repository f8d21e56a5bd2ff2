"""Rating in a spreadsheet: a CSV out, and back in whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mh_support.files import read_table, write_text
from mh_support.rating.answers import AnswerStore, Rater, checked_rater
from mh_support.rating.questions import CRITERIA, PREFERENCES, SCALE, VETO_RULE, Answer, caution
from mh_support.rating.rating_set import Task

SCORES = tuple(metric.key for metric in CRITERIA)
ASKED = (*SCORES, "preferred")
TEXTS = ("context", "first", "second")
COLUMNS = ("set", "rater", "qualification", "task", "to_do", *TEXTS, *ASKED)
TO_DO = {
    "rating": f"Rate the reply from {SCALE[0]} to {SCALE[1]}: {'; '.join(SCORES)}. {VETO_RULE}",
    "preference": f"Which reply would you rather get? Write under preferred: {', '.join(PREFERENCES)}.",
}
# A spreadsheet takes a cell that begins with one of these for a formula, and runs it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
SPEAKERS = {"user": "Person", "assistant": "Supporter", "system": "System"}


@dataclass(frozen=True)
class Sheet:
    """A sheet as it was read: whose it is, the answers in it, the tasks left open, and what is wrong with which row."""

    rater: Rater | None
    answers: dict[str, Answer] = field(repr=False)
    left_open: int
    refusals: list[str]


def write_sheet(store: AnswerStore, rater: Rater, path: Path, *, country: str | None = None) -> int:
    """Write a rater's tasks, in that rater's order and with the answers given so far; return how many rows.

    The first row says what is to be known before reading, with help in a country; a CSV has no other place for it.
    """
    given = store.answers(rater.name)
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, COLUMNS, restval="")
    rows.writeheader()
    tasks = store.rating_set.order(rater.name)
    for number, task in enumerate(tasks):
        row = {
            "set": store.rating_set.id,
            "rater": rater.name,
            "qualification": rater.qualification,
            "task": task.id,
            "to_do": TO_DO[task.kind] if number else f"Read this first. {caution(country)} {TO_DO[task.kind]}",
            **_texts(task),
            **{key: str(value) for key, value in given.get(task.id, {}).items()},
        }
        rows.writerow({column: harmless(value) for column, value in row.items()})
    # The mark at the front tells spreadsheets that this is UTF-8.
    write_text(path, "\ufeff" + text.getvalue())
    return len(tasks)


def read_sheet(store: AnswerStore, path: Path) -> Sheet:
    """Read a sheet that raters filled in. What is wrong is listed row by row, and nothing is kept by this function.

    Raises:
        ValueError: the file is missing, is no CSV in UTF-8, or lacks columns.
    """
    rater: Rater | None = None
    answers: dict[str, Answer] = {}
    refusals: list[str] = []
    left_open = 0
    for number, row in _rows(path):
        try:
            rater = _rater(store, row, rater)
            task, answer = _answer(store, row)
            if task.id in answers:
                raise ValueError("the task stands in an earlier row too; keep one of them")
            if answer is None:
                left_open += 1
                continue
            said = store.on_page(rater.name).get(task.id, answer)
            if said != answer:
                raise ValueError("the rater has answered this task otherwise on the page; clear the row's answers")
            answers[task.id] = answer
        except ValueError as error:
            refusals.append(f"row {number}: {error}")
    if not refusals and not answers:
        refusals.append(f"none of the {left_open} rows holds an answer; fill in the columns {', '.join(ASKED)}")
    return Sheet(rater, answers, left_open, refusals)


def import_sheets(store: AnswerStore, paths: list[Path]) -> dict[Path, Sheet]:
    """Keep the answers of all sheets, or of none if any row of any of them is refused; return the sheets as read.

    Raises:
        ValueError: a file cannot be read as a sheet, or two sheets are one rater's.
    """
    sheets = {path: read_sheet(store, path) for path in paths}
    raters = [sheet.rater.name for sheet in sheets.values() if sheet.rater is not None]
    if len(set(raters)) < len(raters):
        raise ValueError("two of the sheets are one rater's, and the second would replace the first; put them together")
    if not any(sheet.refusals for sheet in sheets.values()):
        for sheet in sheets.values():
            assert sheet.rater is not None
            store.save_sheet(sheet.rater, sheet.answers)
    return sheets


def harmless(value: str) -> str:
    """Return a cell that no spreadsheet runs: an apostrophe before what begins as a formula does."""
    return f"'{value}" if value.startswith(FORMULA) else value


def _texts(task: Task) -> dict[str, str]:
    said = "\n".join(f"{SPEAKERS[message['role']]}: {message['content']}" for message in task.context)
    return {"context": said, **dict(zip(TEXTS[1:], task.replies, strict=False))}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows that hold anything, with their numbers as a spreadsheet shows them."""
    if not path.is_file():
        raise ValueError(f"no sheet at {path}; write one with recipes/rate.py export")
    reader = read_table(path)
    try:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; export it again")
        for number, row in enumerate(reader, start=2):
            cells = {column: (row[column] or "").strip() for column in COLUMNS}
            if any(cells.values()):
                yield number, cells
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV ({error}); export it again") from error


def _rater(store: AnswerStore, row: Mapping[str, str], above: Rater | None) -> Rater:
    if row["set"] != store.rating_set.id:
        raise ValueError("it belongs to another set; import it where it was exported")
    rater = checked_rater(row["rater"], row["qualification"])
    known = above or store.known(rater.name) or rater
    if known != rater:
        raise ValueError(
            f"the rater is {rater.name}, {rater.qualification}; expected {known.name}, {known.qualification}, as before"
        )
    return rater


def _answer(store: AnswerStore, row: Mapping[str, str]) -> tuple[Task, Answer | None]:
    task = store.rating_set.tasks.get(row["task"])
    if task is None:
        raise ValueError(f"the set has no task {row['task'][:20]!r}; export the sheet again")
    # Sorted by one column alone, a sheet's answers stand beside other replies than the rater read.
    if any(_words(row[column]) != _words(text) for column, text in _texts(task).items()):
        raise ValueError("its texts are not those of its task; cells were moved or changed, export the sheet again")
    mine, others = (SCORES, ("preferred",)) if task.kind == "rating" else (("preferred",), SCORES)
    strangers = [column for column in others if row[column]]
    if strangers:
        what = "one reply, to be rated" if task.kind == "rating" else f"a choice: {', '.join(PREFERENCES)}"
        raise ValueError(f"{', '.join(strangers)} is filled in, and the row is {what}; clear that cell")
    if not any(row[column] for column in mine):
        return task, None
    return task, task.check({column: row[column] for column in mine})


def _words(text: str) -> list[str]:
    """Return a text's words: spreadsheets change line ends and spaces, and the apostrophe may be gone or not."""
    return text.removeprefix("'").split()
