"""The raters' answers: a file each, every answer on the disk before the next question is asked.

`answers/NAME.jsonl` begins with who rates; a line an answer follows, and a later answer to the same task replaces an
earlier one. Lines are only ever added, so a kill at any moment costs at most the answer that was being written.
`answers/NAME.sheet.jsonl` is the same from a spreadsheet, written whole.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mh_support.files import replacing
from mh_support.rating.questions import Answer, check_qualification
from mh_support.rating.rating_set import ANSWERS, RatingSet
from mh_support.run_folder import now

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
SHEET = ".sheet.jsonl"


@dataclass(frozen=True)
class Rater:
    """Who rates: a name that the rater made up, and a qualification."""

    name: str
    qualification: str


class AnswerStore:
    """The answers to one rating set.

    Args:
        rating_set: the set that is answered; the files stand in `answers` in its folder.
    """

    def __init__(self, rating_set: RatingSet) -> None:
        self.rating_set = rating_set
        self.folder = rating_set.folder / ANSWERS
        self._lock = threading.Lock()

    def sign_in(self, name: str, qualification: str) -> Rater:
        """Return the rater of that name, known from now on.

        Raises:
            ValueError: the name is no name, or the rater was here with another qualification.
        """
        rater = checked_rater(name, qualification)
        self.folder.mkdir(exist_ok=True)
        with self._lock:
            known = self._known(rater.name)
            if known is not None and known != rater:
                raise ValueError(
                    f"{known.name} has rated here as {known.qualification}; go on as that, or take another name"
                )
            if known is None:
                self._append(rater, [self._head(rater)])
        return known or rater

    def save(self, rater: Rater, task_id: str, given: Mapping[str, Any]) -> Answer:
        """Keep one answer; when this returns it is on the disk.

        Raises:
            ValueError: there is no such task, or this is no answer to it.
        """
        if task_id not in self.rating_set.tasks:
            raise ValueError("this task is not in the set; reload the page")
        answer = self.rating_set.tasks[task_id].check(given)
        with self._lock:
            self._append(rater, [{"task": task_id, **answer, "time": now()}])
        return answer

    def save_sheet(self, rater: Rater, answers: Mapping[str, Answer]) -> Path:
        """Write all answers of a spreadsheet, whole or not at all, over those of this rater's earlier sheets."""
        path = self.folder / f"{rater.name}{SHEET}"
        answers = {**self._read(path), **answers}
        self.folder.mkdir(exist_ok=True)
        with replacing(path) as draft, draft.open("w", encoding="utf-8") as lines:
            for line in [self._head(rater), *({"task": task, **answer} for task, answer in answers.items())]:
                lines.write(json.dumps(line) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        return path

    def answers(self, name: str) -> dict[str, Answer]:
        """Return one rater's answers by task; what was said on the page stands above what was said in a sheet."""
        return {**self._read(self.folder / f"{name}{SHEET}"), **self.on_page(name)}

    def on_page(self, name: str) -> dict[str, Answer]:
        """Return what one rater answered on the page."""
        return self._read(self._page_file(name))

    def known(self, name: str) -> Rater | None:
        """Return the rater of that name, if anybody rated under it."""
        with self._lock:
            return self._known(name)

    def all(self) -> dict[Rater, dict[str, Answer]]:
        """Return every rater's answers, raters in the order of their names, those without an answer left out."""
        names = sorted({path.name.split(".")[0] for path in self.folder.glob("*.jsonl")})
        found = {self._known(name): self.answers(name) for name in names}
        return {rater: answers for rater, answers in found.items() if rater is not None and answers}

    def _page_file(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _head(self, rater: Rater) -> dict[str, Any]:
        return {
            "set": self.rating_set.id,
            "rater": rater.name,
            "qualification": rater.qualification,
            "since": now(),
        }

    def _known(self, name: str) -> Rater | None:
        # On some disks Ann.jsonl and ann.jsonl are one file: raters whose names differ in case only are one rater.
        for path in sorted(self.folder.glob("*.jsonl")):
            head = next(iter(_lines(path)), None)
            if head is not None and head["rater"].casefold() == name.casefold():
                return Rater(head["rater"], head["qualification"])
        return None

    def _append(self, rater: Rater, lines: Iterable[Mapping[str, Any]]) -> None:
        path = self._page_file(rater.name)
        _mend(path)
        fresh = not path.exists()
        with path.open("ab") as stream:
            stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            stream.flush()
            os.fsync(stream.fileno())
        if fresh:
            _sync_folder(self.folder)

    def _read(self, path: Path) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        for number, line in enumerate(_lines(path), start=1):
            if number == 1:
                if line.get("set") != self.rating_set.id:
                    raise ValueError(f"{path} answers another set; move it to the folder of the set that it belongs to")
                continue
            task = self.rating_set.tasks.get(line.get("task", ""))
            if task is None:
                raise ValueError(f"{path}, line {number}, answers a task that is not in the set; restore the file")
            found[task.id] = task.check(line)
        return found


def checked_rater(name: str, qualification: str) -> Rater:
    """Return a rater.

    Raises:
        ValueError: the name is no name, or the qualification none of those known.
    """
    if not NAME.fullmatch(name):
        raise ValueError("a rater's name is 1 to 32 letters, digits, - or _; make one up that is not your own")
    return Rater(name, check_qualification(qualification))


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file; what follows the last line's end was being written in a kill."""
    if not path.is_file():
        return []
    rows = path.read_bytes().split(b"\n")[:-1]
    try:
        return [dict(json.loads(row)) for row in rows]
    except (TypeError, ValueError):
        # From None: the decoder's error carries the line.
        raise ValueError(f"{path} holds a line that is no answer; restore the file or take that line out") from None


def _mend(path: Path) -> None:
    """Cut off an unfinished last line, so that the next one does not run into it."""
    if not path.is_file():
        return
    contents = path.read_bytes()
    whole = contents.rfind(b"\n") + 1
    if whole < len(contents):
        with path.open("r+b") as stream:
            stream.truncate(whole)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as lasting as its contents."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
