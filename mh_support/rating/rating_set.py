"""A rating set as raters get it: contexts, replies and pairs under names that say nothing; the key stands apart."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from mh_support.dialogue import Message
from mh_support.files import read_json
from mh_support.rating.questions import Answer, check_preference, check_rating

FORMAT = 1
SET_FILE, KEY_FILE, ANSWERS = "set.json", "key.json", "answers"
SIMULATED = "simulated"  # In the key of a set that no person has rated.


@dataclass(frozen=True)
class Task:
    """One question to a rater: a context with one reply to rate, or with two to choose between."""

    id: str
    context_id: str
    context: list[Message] = field(repr=False)
    reply_ids: tuple[str, ...]
    replies: tuple[str, ...] = field(repr=False)

    @property
    def kind(self) -> str:
        """What is asked: `rating` or `preference`."""
        return "rating" if len(self.replies) == 1 else "preference"

    def check(self, given: Mapping[str, Any]) -> Answer:
        """Return `given` as an answer to this task, or raise ValueError with what is wrong."""
        return check_rating(given) if self.kind == "rating" else check_preference(given)


class RatingSet:
    """The tasks of one set; it is read from `set.json` alone and knows nothing of the key.

    Args:
        folder: what `rate.py make` wrote.

    Raises:
        ValueError: there is no set, or it is of another format.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        path = self.folder / SET_FILE
        if not path.is_file():
            raise ValueError(f"no rating set at {folder}; make one with recipes/rate.py make RUN --out {folder}")
        contents = read_json(path)
        if not isinstance(contents, dict) or contents.get("format") != FORMAT:
            raise ValueError(f"{path} is not of format {FORMAT}; it belongs to another program or version")
        self.id: str = contents["set"]
        self.contexts: dict[str, list[Message]] = {row["id"]: row["messages"] for row in contents["contexts"]}
        texts = {row["id"]: row["text"] for row in contents["replies"]}
        owners = [(row["id"], row["context"], (row["id"],)) for row in contents["replies"]]
        owners += [(row["id"], row["context"], tuple(row["replies"])) for row in contents["pairs"]]
        self.tasks: dict[str, Task] = {
            task: Task(task, context, self.contexts[context], replies, tuple(texts[reply] for reply in replies))
            for task, context, replies in owners
        }

    def order(self, rater: str) -> list[Task]:
        """Return the tasks in the order of one rater, always the same for that rater.

        Contexts come by chance, so that tiredness does not fall on the same ones for all; those of one context follow
        each other, the pairs last, so that a person's story is read once.
        """
        generator = random.Random(f"{self.id} {rater}")
        by_context: dict[str, list[Task]] = {}
        for task in self.tasks.values():
            by_context.setdefault(task.context_id, []).append(task)
        contexts = list(by_context.values())
        generator.shuffle(contexts)
        for tasks in contexts:
            generator.shuffle(tasks)
            tasks.sort(key=lambda task: task.kind == "preference")
        return [task for tasks in contexts for task in tasks]


def read_key(rating_set: RatingSet) -> dict[str, Any]:
    """Return `key.json`: which arm each reply is of, and what was planned.

    Raises:
        ValueError: it is missing, or is another set's.
    """
    path = rating_set.folder / KEY_FILE
    if not path.is_file():
        raise ValueError(f"{path} is missing, and without it nobody can tell whose replies were rated; put it back")
    key: dict[str, Any] = read_json(path)
    if key.get("set") != rating_set.id:
        raise ValueError(f"{path} is the key of another set; put back the one that was made with {SET_FILE}")
    plan = key["plan"]
    if "contexts_needed" in plan:  # Sets made before questions were planned called the same number so.
        plan["questions_needed"] = plan.pop("contexts_needed")
        plan["questions"] = len(set(key["questions"].values()))
    return key


def compared(arms: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of arms, given by name and kind, whose means are compared: each tuned model with every other."""
    names = sorted(arms, key=lambda arm: arm[1] != "tuned")
    return [(one, other) for (one, kind), (other, _) in combinations(names, 2) if kind == "tuned"]
