"""Round after round, collect, train, gate and publish; killed at any point, the same command goes on.

A home folder beside the run holds `current`, which points at the model that is served, `secret`, which decides who
judges, and `rounds/0001` and so on, each a run folder of its own. What a stage leaves is written whole before the next
begins, and tells where to go on:

    feedback/   the ratings of this round (removed when it ends: people may take theirs back)
    run.json    the training, finished or not
    gate.json   the verdict
    outcome.json   the round has ended: promoted or kept aside, published or not
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id
from transformers import AutoConfig

from mh_support.alignment.fates import FeedbackReport
from mh_support.alignment.feedback_data import Feedback, FeedbackArguments, check_enough, collect
from mh_support.alignment.gate import GATE_FILE, GateArguments, judge
from mh_support.alignment.promotion import (
    CURRENT,
    before_current,
    current_run,
    point_current,
    publish_run,
)
from mh_support.alignment.ratings import fingerprint, read_ratings
from mh_support.alignment.training import align, fitting
from mh_support.alignment.training_arguments import AlignmentArguments, check_trl
from mh_support.bias.measure import BiasArguments, measure_bias
from mh_support.data.preparation import load_prepared
from mh_support.data.splitting import SPLITS
from mh_support.dialogue import check_messages
from mh_support.files import kept_secret, read_json, replacing, sweep_drafts, write_json, write_jsonl
from mh_support.modeling import adapter_base, load_tokenizer, model_path, weights_fingerprint
from mh_support.run_folder import RunFolder, now
from mh_support.safety.echoes import Echoes
from mh_support.scoring import ScoringArguments

ROUNDS, HOME_FILE, SECRET_FILE = "rounds", "home.json", "secret"
FEEDBACK, REPORT_FILE, OUTCOME_FILE = "feedback", "feedback_report.json", "outcome.json"


@dataclass
class RoundArguments:
    """What becomes of a better model, and whether to go on after it."""

    repo: str | None = field(
        default=None,
        metadata={"help": "Repository on the Hub that a better model is published to, such as me/kind-gpt2."},
    )
    public: bool = field(default=False, metadata={"help": "Let everyone see that repository; private by default."})
    continuous: bool = field(default=False, metadata={"help": "Go on with a round whenever there is new feedback."})
    wait_s: float = field(default=600.0, metadata={"help": "Seconds between two looks for new feedback."})
    max_rounds: int | None = field(default=None, metadata={"help": "Rounds after which --continuous ends."})
    rollback: bool = field(default=False, metadata={"help": "Go back to the model before the current one, and stop."})

    def __post_init__(self) -> None:
        if self.repo is not None:
            validate_repo_id(self.repo)
        if self.wait_s < 0 or (self.max_rounds is not None and self.max_rounds < 1):
            raise ValueError("wait_s is 0 or more, and max_rounds 1 or more")


class Home:
    """The folder of a run's rounds.

    Args:
        origin: the finished run that all of them start from.
        path: by default the run's own path with `-aligned` after its name.
        secret: decides who is held out; by default one that is made for this folder and kept in it.
    """

    def __init__(self, origin: RunFolder, path: str | None = None, *, secret: bytes | None = None) -> None:
        self._secret = secret
        self.origin = RunFolder.open(origin.path.resolve())
        self.path = self.origin.path.with_name(f"{self.origin.path.name}-aligned") if path is None else Path(path)

    def open(self) -> None:
        """Make the folder, with the run itself as the current model, or check that it is this run's.

        Raises:
            ValueError: the folder holds something else, or belongs to another run.
        """
        record = {"run": str(self.origin.path), "weights": weights_fingerprint(self.origin.model)}
        place = self.path / HOME_FILE
        if place.is_file():
            if read_json(place)["weights"] != record["weights"]:
                raise ValueError(f"{self.path} belongs to a run with other weights; give another --output_dir")
            sweep_drafts(self.path)
        else:
            strangers = sorted(entry.name for entry in self.path.glob("[!.]*")) if self.path.exists() else []
            if strangers:
                raise ValueError(f"{self.path} holds {strangers[0]}, which is no round; give a new --output_dir")
            write_json(place, record)
        if not (self.path / CURRENT).is_symlink():
            point_current(self.path, self.origin)

    def lock(self) -> FileLock:
        """Return the lock that a process holds while it works here; it ends with the process, however that ends."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock", blocking=False)

    def secret(self) -> bytes:
        """Return what decides who is held out, the same in every round."""
        return kept_secret(self.path / SECRET_FILE) if self._secret is None else self._secret

    def rounds(self) -> list[RunFolder]:
        """Return the rounds begun so far, in order."""
        return [RunFolder(path) for path in sorted((self.path / ROUNDS).glob("[0-9]*"))]

    def next_round(self) -> RunFolder:
        """Return the round that is under way, or the folder of a new one."""
        begun = self.rounds()
        if begun and not (begun[-1].path / OUTCOME_FILE).is_file():
            return begun[-1]
        number = int(begun[-1].path.name) + 1 if begun else 1
        return RunFolder(self.path / ROUNDS / f"{number:04d}")


@dataclass(frozen=True)
class Aligner:
    """Everything that a round needs."""

    home: Home
    feedback: FeedbackArguments
    training: AlignmentArguments
    gate: GateArguments
    scoring: ScoringArguments
    rounds: RoundArguments
    say: Callable[[str], None] = print

    def run(self) -> None:
        """Work through one round, or through one after the other.

        Raises:
            ValueError: bad arguments or data, too little feedback, another process at work here, or the Hub refuses.
        """
        check_trl()
        try:
            with self.home.lock():
                self.home.open()
                if self.rounds.continuous:
                    self._go_on()
                elif not self.round():
                    self.say(f"no new feedback since the last round in {self.home.path}")
        except TooLittle as error:
            self.say(error.table)
            raise
        except Timeout as error:
            raise ValueError(f"another process works in {self.home.path}; wait for it, or stop it") from error

    def roll_back(self) -> None:
        """Let the model before the current one take its place again, on the Hub too where there is a repository.

        Raises:
            ValueError: there is none before it, or the Hub refuses.
        """
        try:
            with self.home.lock():
                left, run = before_current(self.home.path, self.home.origin, self.home.rounds())
                # First, that a round which has not quite ended is not taken up again and promoted anew.
                _end(left, published=None, rolled_back=now())
                point_current(self.home.path, run)
        except Timeout as error:
            raise ValueError(f"another process works in {self.home.path}; wait for it, or stop it") from error
        self.say(f"{self.home.path / CURRENT} is {run.path} again, and no longer {left.path}")
        if self.rounds.repo is not None:
            try:
                self._publish(run)
            except ValueError as error:
                # The same command again would go back one more.
                raise ValueError(
                    f"{error}; here it is done, so publish that one with recipes/publish.py {run.path} --repo "
                    f"{self.rounds.repo}"
                ) from error

    def round(self) -> bool:
        """Work through one round, from wherever it was cut off; return whether there was anything to do."""
        run = self.home.next_round()
        sweep_drafts(run.path)
        verdict_file = run.path / GATE_FILE
        if not verdict_file.is_file():
            feedback = self._collected(run)
            if feedback is None:
                return False
            self.say(f"\ntraining in {run.path}, held to {self.home.origin.path}")
            align(self.home.origin, feedback, self.training, run, self.feedback.method)
            self._judge(run, feedback)
        verdict = read_json(verdict_file)
        if verdict["promoted"]:
            point_current(self.home.path, run)
            self.say(f"\n{run.path} is better: {self.home.path / CURRENT} points at it now")
        else:
            self.say(f"\nkept aside in {run.path}:" + "".join(f"\n  {reason}" for reason in verdict["reasons"]))
        published = self._publish(run) if verdict["promoted"] and self.rounds.repo is not None else None
        _end(run, published=published, rolled_back=None)
        return True

    def _go_on(self) -> None:
        worked = 0
        waiting = ""
        while self.rounds.max_rounds is None or worked < self.rounds.max_rounds:
            try:
                if self.round():
                    worked += 1
                    continue
                reason = "no new feedback"
            except TooLittle as error:
                reason = f"{error.table}\n\n{error}"
            if reason != waiting:
                self.say(f"\n{reason}; looking again every {self.rounds.wait_s:.0f} s")
                waiting = reason
            time.sleep(self.rounds.wait_s)

    def _collected(self, run: RunFolder) -> Feedback | None:
        """Return this round's feedback, collected now or before it was cut off; None where there is nothing new."""
        if not self.feedback.feedback:
            raise ValueError(
                "there is no feedback to learn from; give --feedback the folder that the Space writes it to, or try it "
                "out with --simulate true"
            )
        there = read_ratings(self.feedback.feedback)
        folder = run.path / FEEDBACK
        if folder.is_dir():
            rows = {part: _read_rows(folder / f"{part}.jsonl") for part in ("train", "held_out")}
            if {row["id"] for part in rows.values() for row in part} <= {rating.id for rating in there}:
                return Feedback(**rows, report=FeedbackReport(**read_json(folder / REPORT_FILE)))
            self.say(f"{run.path} is begun anew: somebody has taken feedback back that it was learning from")
        if run.path.exists():
            shutil.rmtree(run.path)
        ended = [other for other in self.home.rounds() if (other.path / OUTCOME_FILE).is_file()]
        if ended and read_json(ended[-1].path / REPORT_FILE)["fingerprint"] == fingerprint(there):
            return None
        return self._collect(run)

    def _collect(self, run: RunFolder) -> Feedback:
        parent = self.home.origin
        tokenizer = load_tokenizer(str(parent.model))
        length = min(self.training.max_length, _positions(parent))
        dialogues = load_prepared(parent.data)
        scored = [row["messages"] for split in SPLITS[1:] for row in dialogues[split]]
        feedback = collect(
            self.feedback,
            fitting(tokenizer, length),
            secret=self.home.secret(),
            echoes=Echoes.from_pretrained(str(parent.model)),
            scored=scored,
            seed=self.training.seed,
        )
        try:
            check_enough(feedback, self.feedback)
        except ValueError as error:
            raise TooLittle(str(error), feedback.report.table()) from error
        self.say(feedback.report.table())
        write_json(run.path / REPORT_FILE, feedback.report.as_dict())
        with replacing(run.path / FEEDBACK) as draft:
            draft.mkdir()
            for part in ("train", "held_out"):
                write_jsonl(draft / f"{part}.jsonl", getattr(feedback, part))
            write_json(draft / REPORT_FILE, feedback.report.as_dict())
        return feedback

    def _judge(self, run: RunFolder, feedback: Feedback) -> None:
        old = current_run(self.home.path)
        if old.bias_file.is_file():
            measure_bias(run, BiasArguments(bias=True), self.scoring)
        verdict = judge(old, run, feedback.held_out, self.gate, seed=self.training.seed)
        self.say(f"\n{verdict.table()}")

    def _publish(self, run: RunFolder) -> dict[str, Any]:
        assert self.rounds.repo is not None
        api = HfApi(library_name="mh-support")
        address, tag = publish_run(run, self.rounds.repo, public=self.rounds.public, scoring=self.scoring, api=api)
        self.say(f"published {address}, tag {tag}")
        return {"address": address, "tag": tag}


class TooLittle(ValueError):
    """There is too little feedback to learn from yet; `table` says what became of it."""

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table


def _end(run: RunFolder, *, published: dict[str, Any] | None, rolled_back: str | None) -> None:
    """End a round, or note that its model was left again."""
    # What people wrote has served, and they may take it back; the optimizer's state has served too.
    for folder in (run.path / FEEDBACK, run.checkpoints):
        if folder.exists():
            shutil.rmtree(folder)
    verdict = read_json(run.path / GATE_FILE)
    outcome = {"promoted": verdict["promoted"], "reasons": verdict["reasons"], "published": published, "ended": now()}
    place = run.path / OUTCOME_FILE
    write_json(place, {**outcome, **(read_json(place) if place.is_file() else {}), "rolled_back": rolled_back})


def _positions(run: RunFolder) -> int:
    """Return how many tokens a run's model reads."""
    base = adapter_base(str(run.model))
    config = AutoConfig.from_pretrained(str(run.model) if base is None else model_path(base))
    return int(config.max_position_embeddings)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{**row, "prompt": check_messages(row["prompt"])} for row in rows]
