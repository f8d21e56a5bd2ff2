"""Preparing data of growing size, and importing the package: time and memory."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES = (10_000, 100_000, 1_000_000)


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


def measure_preparation(path: str) -> dict[str, Any]:
    """Prepare the rows of a CSV as recipes/prepare.py does; return seconds, and how many were kept."""
    from mh_support.data.preparation import DataArguments, prepare

    started = time.perf_counter()
    prepared = prepare(DataArguments(dataset_name=[path]), progress=False)
    return {"seconds": time.perf_counter() - started, "kept": prepared.report.fates["kept"]}


def measure_import(repeats: int = 5) -> dict[str, Any]:
    """Import the package in new processes; return the median seconds that it takes beyond Python's own start."""
    from statistics import median

    code = "import time; start = time.perf_counter(); import mh_support; print(time.perf_counter() - start)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    return {"seconds": median(seconds)}
