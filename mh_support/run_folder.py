"""A run folder: what one fine-tuning was asked for, made from, and left behind. Numbers travel in its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mh_support.files import read_json, write_json

RUNS = Path("runs")
LATEST = "latest"
FORMAT = 1


class RunFolder:
    """The paths of one run, and its `run.json`.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.data = self.path / "data"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.frozen_prefix = self.path / "frozen_prefix"
        self.plots = self.path / "plots"
        self.tensorboard = self.path / "tensorboard"
        self.record_file = self.path / "run.json"
        self.report_file = self.path / "data_report.json"
        self.results_file = self.path / "results.json"
        self.bias_file = self.path / "bias.json"
        self.replies_file = self.path / "replies.jsonl"
        self.ratings_file = self.path / "ratings.json"
        self.log_file = self.path / "log_history.json"
        self.emissions_file = self.path / "emissions.json"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """Return the finished run at `path`.

        Raises:
            ValueError: there is no folder, it is not a run folder, or its training has not finished.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise ValueError(f"no run folder at {path}; make one with recipes/finetune.py --output_dir {path}")
        if not run.record_file.is_file():
            raise ValueError(f"{path} is not a run folder (it has no run.json); give one made by recipes/finetune.py")
        record = run.record()
        if record["finished"] is None or not run.model.is_dir():
            raise ValueError(f"the run {path} has not finished; go on with recipes/finetune.py --output_dir {path}")
        return run

    @property
    def started(self) -> bool:
        """Whether there is a run here already."""
        return self.record_file.is_file()

    def check_free(self) -> None:
        """Raise ValueError if something other than a run stands here."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; give --output_dir a folder that is new or a run to go on with")
        if self.path.is_dir() and not self.started:
            strangers = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
            if strangers:
                raise ValueError(
                    f"{self.path} is not a run folder and holds {strangers[0]}; give --output_dir a new or empty folder"
                )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training here meanwhile; it ends with the process, however that ends.

        Raises:
            ValueError: another process is at it.
        """
        self.check_free()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / ".lock"
        try:
            with FileLock(lock, blocking=False):
                try:
                    yield
                finally:
                    if not self.started:  # What was refused leaves nothing.
                        lock.unlink(missing_ok=True)
                        with suppress(OSError):
                            self.path.rmdir()
        except Timeout as error:
            raise ValueError(f"another process trains in {self.path}; wait for it, or stop it") from error

    def record(self) -> dict[str, Any]:
        """Return `run.json`.

        Raises:
            ValueError: it is damaged, or was written by another version of this format.
        """
        record = read_json(self.record_file)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"{self.record_file} is not of format {FORMAT}; it belongs to another program or version")
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace `run.json`."""
        write_json(self.record_file, {"format": FORMAT, **record})

    def last_checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint, removing what a kill left half-written.

        A checkpoint's `trainer_state.json` is the last of its files to be written; one that reads as JSON marks it so.
        """
        whole = []
        for folder in self.checkpoints.glob("checkpoint-*"):
            try:
                read_json(folder / "trainer_state.json")
            except (ValueError, FileNotFoundError):
                shutil.rmtree(folder)
            else:
                whole.append(folder)
        return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def new_run_path(model_name: str) -> Path:
    """Return a path under `runs/` that tells the time and the model, and that nothing stands at yet."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    first = RUNS / f"{stamp}-{Path(model_name).name}"
    others = (first.with_name(f"{first.name}-{number}") for number in count(2))
    return next(path for path in chain([first], others) if not path.exists())


def point_latest(run: RunFolder) -> None:
    """Let `latest`, beside a run under `runs/`, point at it."""
    if run.path.resolve().parent != RUNS.resolve():
        return
    link, draft = RUNS / LATEST, RUNS / f".{LATEST}.{os.getpid()}"
    draft.symlink_to(run.path.name, target_is_directory=True)
    os.replace(draft, link)


def now() -> str:
    """Return the time in UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
