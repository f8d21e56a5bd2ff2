"""Train with and without more rows (augmented, grown) on parts of the data; print what each buys on held-out dialogues.

python recipes/compare_augmentation.py --data samples --model starter
python recipes/compare_augmentation.py --data samples --model starter --shares 10 --methods shorten --limit 20
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.augmentation_effects import study_table
from mh_support.augmentation_study import StudyArguments, study
from mh_support.cli import ArgumentParser, run
from mh_support.data.preparation import DataArguments
from mh_support.modeling import ModelArguments


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score and print the table."""
    parser = ArgumentParser((ModelArguments, DataArguments, StudyArguments), description=__doc__)
    model, data, arguments = parser.parse(argv)
    print(f"\n{study_table(study(model, data, arguments))}")


if __name__ == "__main__":
    run(main)
