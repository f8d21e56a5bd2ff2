"""Train the crisis classifier from the labelled messages, as it comes with the package.

python recipes/train_crisis_classifier.py
python recipes/train_crisis_classifier.py --output /tmp/classifier.safetensors
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.safety import assess
from mh_support.safety.crisis_training import CrisisArguments, train_crisis_classifier
from mh_support.safety.measure import lines, measure, read_examples


def main(argv: Sequence[str] | None = None) -> None:
    """Train, write, and measure rules and classifier together on the development messages."""
    (arguments,) = ArgumentParser(CrisisArguments, description=__doc__).parse(argv)
    classifier, made_from = train_crisis_classifier(arguments)
    classifier.save(Path(arguments.output))
    print(table([("trained on", ""), *made_from.items()]))
    print()
    print(table(lines(measure(read_examples("development"), partial(assess, classifiers=[classifier])))))
    print(f"written to {arguments.output}; measure it on the locked messages with recipes/measure_safety.py")


if __name__ == "__main__":
    run(main)
