"""Which model is the current one: a link beside the rounds, moved whole or not at all, forwards and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi

from mh_support.alignment.gate import GATE_FILE
from mh_support.files import read_json
from mh_support.hub import PublishArguments, model_files, publish_model
from mh_support.modeling import weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.scoring import ScoringArguments, score_run

CURRENT = "current"


def current_run(home: Path) -> RunFolder:
    """Return the run that `current` points at.

    Raises:
        ValueError: there is no `current`, or what it points at is no finished run.
    """
    link = home / CURRENT
    if not link.is_symlink():
        raise ValueError(f"there is no current model in {home}; run recipes/align.py with --feedback first")
    return RunFolder.open(link.resolve())


def point_current(home: Path, run: RunFolder) -> None:
    """Let `current` point at a run; whoever looks finds the old one or the new one, never neither."""
    home.mkdir(parents=True, exist_ok=True)
    draft = home / f".{CURRENT}.draft"
    draft.unlink(missing_ok=True)  # Left by a process that was killed.
    draft.symlink_to(os.path.relpath(run.path.resolve(), home.resolve()), target_is_directory=True)
    os.replace(draft, home / CURRENT)


def before_current(home: Path, origin: RunFolder, rounds: Sequence[RunFolder]) -> tuple[RunFolder, RunFolder]:
    """Return the current run, and the one that it replaced.

    Raises:
        ValueError: the current run is the first one, or the one before it is no longer there.
    """
    left = current_run(home)
    gate = left.path / GATE_FILE
    if not gate.is_file():
        raise ValueError(f"{left.path} is the first model of {home}; there is none to go back to")
    wanted = read_json(gate)["replaces"]
    for run in (origin, *rounds):
        if run.model.is_dir() and weights_fingerprint(run.model) == wanted:
            return left, run
    raise ValueError(f"the model before {left.path} (weights {wanted[:12]}) is no longer there; restore its folder")


def check_ready(run: RunFolder, arguments: PublishArguments, scoring: ScoringArguments) -> None:
    """Score a run where that is yet to be done, and check that it can be published; nothing is sent.

    Raises:
        ValueError: it cannot; the message says why.
    """
    ensure_scored(run, scoring)
    with model_files(run, _for(run, arguments)):
        pass


def publish_run(run: RunFolder, arguments: PublishArguments, scoring: ScoringArguments, api: HfApi) -> tuple[str, str]:
    """Score a run where that is yet to be done, publish it, and tag the revision; return address and tag.

    The tag names the weights: the same weights have the same tag, so that whoever rolls back tags nothing twice.

    Raises:
        ValueError: the run cannot be published, or the Hub refuses.
    """
    ensure_scored(run, scoring)
    tag = f"weights-{weights_fingerprint(run.model)[:12]}"
    return publish_model(run, replace(_for(run, arguments), tag=tag), api), tag


def _for(run: RunFolder, arguments: PublishArguments) -> PublishArguments:
    """Return the arguments without a reason to accept bias where none was found in this run."""
    found = run.bias_file.is_file() and read_json(run.bias_file)["findings"]
    return arguments if found else replace(arguments, accept_bias=None)


def ensure_scored(run: RunFolder, arguments: ScoringArguments) -> None:
    """Score a run unless its results are those of its weights already."""
    scored = run.results_file.is_file() and read_json(run.results_file).get("weights")
    if scored != weights_fingerprint(run.model):
        score_run(run, arguments)
