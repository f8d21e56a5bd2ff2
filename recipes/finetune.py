"""Fine-tune GPT-2, DialoGPT or any causal LM on dialogues.

python recipes/finetune.py --data train.csv
python recipes/finetune.py --data train.csv --model microsoft/DialoGPT-small --lora true
python recipes/finetune.py --config recipes/configs/gpt2_last_two_blocks.yaml --learning_rate 1e-4
python recipes/finetune.py --data samples --model starter --dry_run true
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.cli import ArgumentParser, run
from mh_support.data.preparation import DataArguments
from mh_support.data.report import table
from mh_support.modeling import ModelArguments
from mh_support.training import FinetuneArguments, finetune


def main(argv: Sequence[str] | None = None) -> None:
    """Fine-tune and print how it went."""
    parser = ArgumentParser((ModelArguments, DataArguments, FinetuneArguments), description=__doc__)
    model, data, training = parser.parse(argv)
    folder = finetune(model, data, training)
    if folder is not None and training.process_index == 0:
        print(table([("run", folder.path), *folder.record()["training"].items()]))
        print(f"\nscore it with recipes/score.py {folder.path}")


if __name__ == "__main__":
    run(main)
