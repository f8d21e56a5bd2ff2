"""Let a run's model answer contexts that have no reply, and keep the answers that are safe and sure, to train on.

python recipes/grow.py runs/first --contexts questions.csv --output grown.jsonl
python recipes/finetune.py --data train.csv --grow grown.jsonl --output_dir runs/second
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mh_support.cli import ArgumentParser, run
from mh_support.data.contexts import read_contexts
from mh_support.growth import GrowthRule, grow
from mh_support.run_folder import RunFolder


@dataclass
class ContextArguments:
    """Where the contexts are, and where the dialogues go."""

    contexts: list[str] = field(
        metadata={"help": "Files, folders or data sets with what people said; replies in them are not read."}
    )
    output: str = field(default="grown.jsonl", metadata={"help": "JSONL file for the dialogues; its report beside it."})
    context_column: str | None = field(default=None, metadata={"help": "Column of what the person said."})
    encoding: str = field(default="utf-8", metadata={"help": "Encoding of text files."})

    def __post_init__(self) -> None:
        if not self.output.endswith(".jsonl"):
            raise ValueError(f"output is {self.output}; give a name that ends in .jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    """Answer, sift, write, and print what became of every context."""
    parser = ArgumentParser((ContextArguments, GrowthRule), description=__doc__)
    parser.add_argument("run", metavar="RUN", help="A finished run folder.")
    given, rule, rest = parser.parse(argv)
    output = Path(given.output)
    if output.exists():
        raise ValueError(f"{output} is there already; give --output a new file")
    contexts, places = read_contexts(given.contexts, context_column=given.context_column, encoding=given.encoding)
    grown = grow(RunFolder(rest.run), contexts, rule)
    grown.save(output, places)
    print(grown.table())
    print(f"\nwritten to {output}; train on it with --grow {output}, beside the data that the run was tuned on")


if __name__ == "__main__":
    run(main)
