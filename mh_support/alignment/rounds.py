"""Round after round, collect, train, gate and publish; killed at any point, the same command goes on.

A home folder beside the run holds `current`, which points at the model that is served, `secret`, which decides who
judges, and `rounds/0001` and so on, each a run folder of its own; `first.json` and `first_bias.json` keep what was
measured of the run itself. What a stage leaves is written whole before the next begins, and tells where to go on:

    feedback_report.json   what became of each rating; a folder without it is no round
    feedback/   the ratings of this round (removed when there is a verdict: people may take theirs back)
    run.json    the training, finished or not
    gate.json   the verdict
    outcome.json   the round has ended: promoted or kept aside, published or not
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout
from huggingface_hub import HfApi
from transformers import AutoConfig

from mh_support.alignment.fates import FeedbackReport
from mh_support.alignment.feedback_data import Feedback, FeedbackArguments, check_enough, collect
from mh_support.alignment.figures import FirstModel
from mh_support.alignment.gate import GATE_FILE, Finding, Findings, GateArguments, judge
from mh_support.alignment.home import OUTCOME_FILE, Home
from mh_support.alignment.promotion import (
    CURRENT,
    before_current,
    check_ready,
    current_run,
    point_current,
    publish_run,
)
from mh_support.alignment.ratings import fingerprint, read_ratings
from mh_support.alignment.simulation import attackers_line, is_simulated
from mh_support.alignment.training import align, fitting
from mh_support.alignment.training_arguments import AlignmentArguments, check_trl
from mh_support.bias.measure import BiasArguments, measure_bias, measured_bias
from mh_support.data.preparation import load_prepared
from mh_support.data.splitting import SPLITS
from mh_support.dialogue import check_messages
from mh_support.files import read_json, remove, replacing, sweep_drafts, write_json, write_jsonl
from mh_support.hub import PublishArguments
from mh_support.modeling import adapter_base, load_tokenizer, model_path
from mh_support.run_folder import RunFolder, now
from mh_support.safety.echoes import Echoes
from mh_support.scoring import ScoringArguments

FEEDBACK, REPORT_FILE = "feedback", "feedback_report.json"
FIRST_FILE, FIRST_BIAS_FILE = "first.json", "first_bias.json"


@dataclass
class RoundArguments:
    """What becomes of a better model, and whether to go on after it."""

    repo: str | None = field(
        default=None,
        metadata={"help": "Repository on the Hub that a better model is published to, such as me/kind-gpt2."},
    )
    public: bool = field(default=False, metadata={"help": "Let everyone see that repository; private by default."})
    accept_bias: str | None = field(
        default=None,
        metadata={"help": "Publish although bias was found outside the bounds, for this reason; the card shows it."},
    )
    continuous: bool = field(default=False, metadata={"help": "Go on with a round whenever there is new feedback."})
    wait_s: float = field(default=600.0, metadata={"help": "Seconds between two looks for new feedback."})
    max_rounds: int | None = field(default=None, metadata={"help": "Rounds after which --continuous ends."})
    rollback: bool = field(default=False, metadata={"help": "Go back to the model before the current one, and stop."})

    def __post_init__(self) -> None:
        if self.repo is not None:
            self.publishing()
        elif self.accept_bias is not None:
            raise ValueError("accept_bias is given without --repo, and nothing is published; give both, or neither")
        if self.wait_s < 0 or (self.max_rounds is not None and self.max_rounds < 1):
            raise ValueError("wait_s is 0 or more, and max_rounds 1 or more")

    def publishing(self) -> PublishArguments:
        """Return what `recipes/publish.py` would be told."""
        return PublishArguments(repo=self.repo, public=self.public, accept_bias=self.accept_bias)


@dataclass(frozen=True)
class Aligner:
    """Everything that a round needs."""

    home: Home
    feedback: FeedbackArguments
    training: AlignmentArguments
    gate: GateArguments
    scoring: ScoringArguments
    rounds: RoundArguments
    attack: str | None = None
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
                self.home.open()
                left, run = before_current(self.home.path, self.home.origin, self.home.rounds())
                # First, that a round which has not quite ended is not taken up again and promoted anew.
                _end(left, reasons=[], published=None, rolled_back=now())
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
            _note(run, **self._asked())
            self.say(f"\ntraining in {run.path}, held to {self.home.origin.path}")
            align(
                self.home.origin,
                feedback,
                self.training,
                run,
                self.feedback.method,
                simulated=self.home.simulated,
            )
            self._judge(run, feedback)
        _forget(run)
        reasons = read_json(verdict_file)["reasons"] or self._unpublishable(run)
        published = None
        if reasons:
            self._keep_aside(run, reasons)
        else:
            point_current(self.home.path, run)
            self.say(f"\n{run.path} is better: {self.home.path / CURRENT} points at it now")
            published = None if self.rounds.repo is None else self._publish(run)
        _end(run, reasons=reasons, published=published, rolled_back=None)
        return True

    def _keep_aside(self, run: RunFolder, reasons: Sequence[str]) -> None:
        if current_run(self.home.path).path.resolve() == run.path.resolve():
            # Promoted before it was known that it cannot be published.
            point_current(self.home.path, before_current(self.home.path, self.home.origin, self.home.rounds())[1])
        self.say(f"\nkept aside in {run.path}:" + "".join(f"\n  {reason}" for reason in reasons))

    def _unpublishable(self, run: RunFolder) -> list[str]:
        """Return why a run cannot be published where it is to be: then it is not served either."""
        if self.rounds.repo is None:
            return []
        _note(run, accept_bias=self.rounds.accept_bias)
        try:
            check_ready(run, self.rounds.publishing(), self.scoring)
        except ValueError as error:
            return [str(error)]
        return []

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
        if not self.home.simulated and any(map(is_simulated, there)):
            raise ValueError(
                f"{', '.join(self.feedback.feedback)} holds simulated feedback; try it out with --simulate"
            )
        kept = _read_feedback(run.path / FEEDBACK)
        if kept is not None:
            if {row["id"] for row in (*kept.train, *kept.held_out)} <= {rating.id for rating in there}:
                self._check_same(run)
                return kept
            self.say(f"{run.path} is begun anew: somebody has taken feedback back that it was learning from")
        if run.path.exists():
            _check_own(run.path)
            remove(run.path)
        ended = [other for other in self.home.rounds() if (other.path / OUTCOME_FILE).is_file()]
        if ended and self._repeats(ended[-1], fingerprint(there)):
            return None
        return self._collect(run)

    def _asked(self) -> dict[str, Any]:
        """Return what a round's verdict depends on, besides the feedback."""
        sifting = asdict(self.feedback)
        for name in ("feedback", "min_ratings", "min_people", "min_held_out_people"):
            del sifting[name]
        return {"sifting": sifting, "training": self.training.of_the_result(), "gate": asdict(self.gate)}

    def _check_same(self, run: RunFolder) -> None:
        """Raise ValueError if a round's feedback was sifted in another way than is asked for now."""
        sifting = self._asked()["sifting"]
        begun = read_json(run.path / REPORT_FILE).get("asked", {}).get("sifting", sifting)
        differing = [name for name, value in sifting.items() if begun.get(name) != value]
        if differing:
            raise ValueError(
                f"the round {run.path} was begun with another {' and '.join(differing)}; go on with the same, or "
                "remove that folder to begin the round anew"
            )

    def _repeats(self, last: RunFolder, there: str) -> bool:
        """Say whether a round would do again what the last one did."""
        report = read_json(last.path / REPORT_FILE)
        asked = self._asked()
        if self.rounds.accept_bias is not None:
            asked["accept_bias"] = self.rounds.accept_bias
        before = report.get("asked", {})
        return report["fingerprint"] == there and all(before.get(name) == value for name, value in asked.items())

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
        if self.attack is not None:
            self.say(attackers_line(self.attack, feedback))
        write_json(run.path / REPORT_FILE, {**feedback.report.as_dict(), "asked": self._asked()})
        with replacing(run.path / FEEDBACK) as draft:
            draft.mkdir(mode=0o700)
            for part in ("train", "held_out"):
                write_jsonl(draft / f"{part}.jsonl", getattr(feedback, part))
            write_json(draft / REPORT_FILE, feedback.report.as_dict())
            for path in draft.iterdir():
                path.chmod(0o600)
        return feedback

    def _judge(self, run: RunFolder, feedback: Feedback) -> None:
        old = current_run(self.home.path)
        first = FirstModel(self.home.origin, self.home.path / FIRST_FILE)
        bias = self._bias(old, run) if self.gate.measure_bias else None
        verdict = judge(old, run, feedback.held_out, self.gate, first, bias=bias, seed=self.training.seed)
        self.say(f"\n{verdict.table()}")

    def _bias(self, old: RunFolder, new: RunFolder) -> Findings:
        origin = self.home.origin
        # The run that the rounds start from is left as it is.
        first = self._findings(origin, self.home.path / FIRST_BIAS_FILE)
        before = first if old.path.resolve() == origin.path else self._findings(old, old.bias_file)
        return Findings(before, self._findings(new, new.bias_file), first)

    def _findings(self, run: RunFolder, place: Path) -> list[Finding]:
        """Return what lies outside the bounds on bias, measured and kept in `place` where that is yet to be done."""
        asked = BiasArguments(bias=True)
        there = (measured_bias(path, run, asked, self.scoring) for path in (run.bias_file, place))
        result = next((found for found in there if found is not None), None)
        if result is None:
            result = measure_bias(run, asked, self.scoring, output=place)
        findings: list[Finding] = result["findings"]
        return findings

    def _publish(self, run: RunFolder) -> dict[str, Any]:
        api = HfApi(library_name="mh-support")
        address, tag = publish_run(run, self.rounds.publishing(), self.scoring, api)
        self.say(f"published {address}, tag {tag}")
        return {"address": address, "tag": tag}


class TooLittle(ValueError):
    """There is too little feedback to learn from yet; `table` says what became of it."""

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table


def _note(run: RunFolder, **asked: Any) -> None:
    """Write into a round's report what was asked of it."""
    report = read_json(run.path / REPORT_FILE)
    write_json(run.path / REPORT_FILE, {**report, "asked": {**report.get("asked", {}), **asked}})


def _end(run: RunFolder, *, reasons: Sequence[str], published: dict[str, Any] | None, rolled_back: str | None) -> None:
    """End a round, or note that its model was left again."""
    _forget(run)
    outcome = {"promoted": not reasons, "reasons": list(reasons), "published": published, "ended": now()}
    place = run.path / OUTCOME_FILE
    write_json(place, {**outcome, **(read_json(place) if place.is_file() else {}), "rolled_back": rolled_back})


def _forget(run: RunFolder) -> None:
    """Remove what people wrote, which they may take back, and the optimizer's state; both have served."""
    for folder in (run.path / FEEDBACK, run.checkpoints):
        if folder.exists():
            remove(folder)


def _check_own(folder: Path) -> None:
    """Raise ValueError unless a folder is a round or empty: what is not ours is never removed."""
    strangers = sorted(entry.name for entry in folder.iterdir())
    if strangers and not (folder / REPORT_FILE).is_file():
        raise ValueError(f"{folder} holds {strangers[0]} and is no round; move it away")


def _positions(run: RunFolder) -> int:
    """Return how many tokens a run's model reads."""
    base = adapter_base(str(run.model))
    config = AutoConfig.from_pretrained(str(run.model) if base is None else model_path(base))
    return int(config.max_position_embeddings)


def _read_feedback(folder: Path) -> Feedback | None:
    """Return the feedback that a round keeps, or None where any of it is missing."""
    places = {part: folder / f"{part}.jsonl" for part in ("train", "held_out")}
    report = folder / REPORT_FILE
    if not all(place.is_file() for place in (*places.values(), report)):
        return None
    rows = {part: _read_rows(place) for part, place in places.items()}
    return Feedback(**rows, report=FeedbackReport(**read_json(report)))


def _read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [{**row, "prompt": check_messages(row["prompt"])} for row in rows]
