"""Prepare dialogues: load, clean, scrub, de-duplicate and split them by question.

python recipes/prepare.py --data train.csv --output_dir prepared
python recipes/prepare.py --data samples
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mh_support.cli import ArgumentParser, run
from mh_support.data.preparation import DataArguments, check_replaceable, prepare


@dataclass
class OutputArguments:
    """Where the splits go."""

    output_dir: str = field(
        default="prepared", metadata={"help": "Folder for train, validation and test .jsonl and data_report.json."}
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare, save and print what happened to every row."""
    data, output = ArgumentParser((DataArguments, OutputArguments), description=__doc__).parse(argv)
    folder = Path(output.output_dir)
    check_replaceable(folder)
    prepared = prepare(data)
    prepared.save(folder)
    print(prepared.report.table())
    print(f"\nwritten to {folder}; train on it with recipes/finetune.py --data {folder}")


if __name__ == "__main__":
    run(main)
