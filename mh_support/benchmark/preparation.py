"""Preparing data of growing size, and importing the package: time and memory."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES = (10_000, 100_000, 1_000_000)
# What a process takes to start with, and pools that fill, are over by then: from here on memory must not grow.
SETTLED = 100_000
_SECONDS = 0.1  # between two looks at the memory


def write_rows(path: Path, dialogues: Sequence[Any], count: int) -> None:
    """Write `count` rows of Context and Response, made of the data's own words in an order by chance.

    The lengths are those of the data; no two questions are alike, as in a data set that was not copied from itself.
    """
    rng = random.Random(0)
    words = sorted({word for dialogue in dialogues for message in dialogue for word in message["content"].split()})
    lengths = [(len(dialogue[0]["content"].split()), len(dialogue[-1]["content"].split())) for dialogue in dialogues]
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("Context", "Response"))
        for _ in range(count):
            rows.writerow([" ".join(rng.choices(words, k=max(3, length))) for length in rng.choice(lengths)])


class PeakMemory:
    """The most memory that this process and its children held together while the block ran.

    Bytes of proportional set size, by which a page that several processes share is counted once. `private` is what the
    processes hold by themselves. `files` are pages of files that are mapped into memory, Arrow's and the libraries':
    the system takes them back where memory is short. Where the kernel does not tell the two apart (other than Linux),
    `private` is psutil's unique set size and `files` is 0.
    """

    def __init__(self) -> None:
        self.private = self.files = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(_SECONDS):
            self._look()

    def _look(self) -> None:
        import psutil

        held = [
            _held(pid) for pid in (os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True)))
        ]
        self.private = max(self.private, sum(private for private, _ in held))
        self.files = max(self.files, sum(files for _, files in held))


def _held(pid: int) -> tuple[int, int]:
    """Return the private bytes of a process and its bytes of mapped files; none of one that has just ended."""
    import psutil

    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        sizes = {words[0]: int(words[1]) * 1024 for words in map(str.split, lines[1:]) if len(words) == 3}
        return sizes["Pss_Anon:"], sizes["Pss_File:"]
    except (OSError, KeyError):
        pass
    try:
        return psutil.Process(pid).memory_full_info().uss, 0
    except psutil.Error:
        return 0, 0


def measure_preparation(path: str, num_proc: int | None = None) -> dict[str, Any]:
    """Prepare the rows of a CSV and save them as recipes/prepare.py does; return seconds, rows kept and peak memory."""
    import tempfile

    from mh_support.data.preparation import DataArguments, prepare

    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder, PeakMemory() as peak:
        started, cpu = time.perf_counter(), _cpu_seconds()
        prepared = prepare(DataArguments(dataset_name=[path], num_proc=num_proc), progress=False)
        prepared.save(Path(folder) / "prepared")
        seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
    kept = prepared.report.fates["kept"]
    return {"seconds": seconds, "cpu_seconds": cpu, "kept": kept, "private": peak.private, "files": peak.files}


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def with_growth(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each size how many private bytes a row it took more than the one before; None at sizes not settled."""
    grown = []
    for before, each in zip([None, *measured[:-1]], measured, strict=True):
        growth = None
        if before is not None and SETTLED <= before["rows"] < each["rows"]:
            growth = (each["private"] - before["private"]) / (each["rows"] - before["rows"])
        grown.append({**each, "growth_per_row": growth})
    return grown


def measure_import(repeats: int = 5) -> dict[str, Any]:
    """Import the package in new processes; return the median seconds that it takes beyond Python's own start."""
    from statistics import median

    code = "import time; start = time.perf_counter(); import mh_support; print(time.perf_counter() - start)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    return {"seconds": median(seconds)}
