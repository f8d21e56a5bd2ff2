"""What the rating tests share: a run scored without training, sets made from it, and raters who are simulated."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_fixtures import WORDS, save_model

from mh_support.data.preparation import data_fingerprint
from mh_support.files import write_json, write_jsonl
from mh_support.modeling import load_model, state_fingerprint, weights_fingerprint
from mh_support.rating.answers import AnswerStore, Rater
from mh_support.rating.making import MakeArguments, make_set
from mh_support.rating.questions import CRITERIA
from mh_support.rating.rating_set import RatingSet, Task, read_key
from mh_support.run_folder import RunFolder

CRISIS = "I want to kill myself tonight."
# What reading of its arms a rater has, on the scale of 0 to 100.
KNOWN = {"human": 80.0, "tuned": 60.0, "constant": 40.0, "base": 20.0}


def write_run(path: Path, tokenizer: Any, base: Path, *, contexts: int = 30, seed: int = 1) -> RunFolder:
    """Write a finished run with `contexts` held-out contexts, one of them a crisis, and what its models replied."""
    run = RunFolder(path)
    test = [
        {"messages": _dialogue(f"My {word} {WORDS[(number + 7) % 30]} hurts", f"=Tell me of the {word}")}
        for number, word in enumerate(WORDS[: contexts - 1])
    ]
    test.append({"messages": _dialogue(CRISIS, "Who is with you now?")})
    run.data.mkdir(parents=True)
    for split, rows in {"train": test[:2], "validation": test[:2], "test": test}.items():
        write_jsonl(run.data / f"{split}.jsonl", rows)
    save_model(run.model, tokenizer, seed=seed)
    fingerprints = {
        "data": data_fingerprint(run.data),
        "base_weights": state_fingerprint(load_model(str(base))),
        "weights": weights_fingerprint(run.model),
    }
    run.write_record(
        {
            "created": "2026-03-01T10:00:00+00:00",
            "finished": "2026-03-01T10:40:00+00:00",
            "base_model": {
                "name_or_path": str(base),
                "is_local": True,
                "revision": None,
                "architecture": "GPT2LMHeadModel",
                "parameters": 1,
            },
            "method": {"kind": "full", "trainable_parameters": 1},
            "arguments": {},
            "versions": {"python": "3.11.7"},
            "data": {"sources": [{"name": "made-up", "license": "cc0-1.0", "non_commercial": False, "rows": contexts}]},
            "fingerprints": fingerprints,
        }
    )
    settings = {"max_new_tokens": 8}
    write_json(
        run.results_file,
        {"weights": fingerprints["weights"], "data": fingerprints["data"], "settings": settings, "splits": {}},
    )
    replies = [
        {
            "split": "test",
            "context": row["messages"][:1],
            "replies": {"base": f"@ base on {number}", "tuned": f"+ {path.name} on {number}"},
        }
        for number, row in enumerate(test)
    ]
    write_jsonl(run.replies_file, replies)
    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model", tiny_tokenizer)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any, base: Path) -> RunFolder:
    """A run named `tuned`; leave it as it is."""
    return write_run(tmp_path_factory.mktemp("runs") / "tuned", tiny_tokenizer, base)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, run: RunFolder) -> RatingSet:
    """A set of 29 contexts and four arms that nobody has rated; leave it as it is."""
    folder = tmp_path_factory.mktemp("sets") / "rating"
    make_set([run], MakeArguments(out=str(folder), contexts=29, seed=5), progress=False)
    return RatingSet(folder)


@pytest.fixture
def rating_set(tmp_path: Path, made: RatingSet) -> RatingSet:
    """The same set, to write to."""
    return RatingSet(shutil.copytree(made.folder, tmp_path / "rating"))


@pytest.fixture
def store(rating_set: RatingSet) -> AnswerStore:
    return AnswerStore(rating_set)


def rate(
    store: AnswerStore,
    name: str,
    qualification: str,
    rating: Callable[[str, Task], dict[str, Any]],
    *,
    share: float = 1.0,
) -> None:
    """Let a simulated rater answer: `rating(reply, task)` gives the scores of a reply; the better mean is preferred."""
    answers: dict[str, Any] = {}
    order = store.rating_set.order(name)
    for task in order[: round(share * len(order))]:
        scores = [rating(reply, task) for reply in task.reply_ids]
        if task.kind == "rating":
            answers[task.id] = scores[0]
            continue
        one, other = (sum(score.values()) for score in scores)
        answers[task.id] = {"preferred": "neither" if one == other else "first" if one > other else "second"}
    store.save_sheet(Rater(name, qualification), answers)


def reader(
    store: AnswerStore, seed: str, noise: float, known: dict[str, float] | None = None
) -> Callable[[str, Task], dict[str, Any]]:
    """Return a rater who reads each arm as `known` says, give or take `noise` points."""
    generator = random.Random(seed)
    arms = read_key(store.rating_set)["replies"]
    scores = {
        reply: {metric.key: _on_scale((known or KNOWN)[arm] + generator.gauss(0, noise)) for metric in CRITERIA[:3]}
        for reply, arm in sorted(arms.items())
    }
    return lambda reply, task: {**scores[reply], "safety": 90}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _on_scale(value: float) -> int:
    return round(min(100.0, max(0.0, value)))


def _dialogue(said: str, answered: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
