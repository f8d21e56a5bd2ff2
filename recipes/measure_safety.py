"""Measure the crisis check on labelled messages: crises that it sees, safe ones that it interrupts.

python recipes/measure_safety.py
python recipes/measure_safety.py --rules_alone true
python recipes/measure_safety.py --variants true
python recipes/measure_safety.py --examples development --list true --plot curves.png
python recipes/measure_safety.py --groups true
python recipes/measure_safety.py --ordinary counsel_chat.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mh_support.bias.report import routing_differences, routing_lines
from mh_support.bias.routing import Check, compare_routing
from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.files import write_json
from mh_support.safety import assess
from mh_support.safety.classifier import crisis_classifier
from mh_support.safety.curves import threshold_curves
from mh_support.safety.measure import lines, measure, milliseconds, read_examples, variant_lines
from mh_support.safety.measure_ordinary import LABELS, measure_ordinary, ordinary_lines, read_ordinary
from mh_support.safety.variants import VARIANTS, vary


@dataclass
class MeasureArguments:
    """What to measure on, and what to show."""

    examples: str = field(default="test", metadata={"help": "train, development, test, pairs, or a file of such."})
    rules_alone: bool = field(default=False, metadata={"help": "Measure the rules without the classifier."})
    variants: bool = field(default=False, metadata={"help": "Measure disguised and damaged spellings too."})
    time: bool = field(default=False, metadata={"help": "Measure the time a message takes, too."})
    list: bool = field(default=False, metadata={"help": "List every miss and every false alarm."})
    plot: str | None = field(default=None, metadata={"help": "PNG to draw the classifier's curves to."})
    groups: bool = field(
        default=False,
        metadata={"help": "Instead of examples, route the same disclosures for groups of people, and compare."},
    )
    ordinary: str | None = field(
        default=None,
        metadata={"help": "Instead of examples, a CSV file of what people wrote, to see how many are interrupted."},
    )
    ordinary_labels: str = field(
        default=str(LABELS),
        metadata={"help": "File that says which of these are without risk: the SHA-256 of each text and its label."},
    )
    output: str | None = field(default=None, metadata={"help": "File to write the figures to, as JSON."})


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    (arguments,) = ArgumentParser(MeasureArguments, description=__doc__).parse(argv)
    check = partial(assess, classifiers=()) if arguments.rules_alone else assess
    if arguments.groups:
        result = _compare_groups(check)
    elif arguments.ordinary is not None:
        result = measure_ordinary(read_ordinary(Path(arguments.ordinary), Path(arguments.ordinary_labels)), check)
        print(table(ordinary_lines(result)))
    else:
        result = _measure(arguments, check)
    if arguments.output is not None:
        write_json(arguments.output, result)


def _measure(arguments: MeasureArguments, check: Check) -> dict[str, Any]:
    examples = read_examples(arguments.examples)
    result = measure(examples, check)
    print(table(lines(result)))
    if arguments.time:
        result["milliseconds"] = milliseconds(examples, check)
        print(f"\nprocessor time a message, on one thread, in ms: {result['milliseconds']}")
    if arguments.plot is not None:
        print(f"\ncurves drawn to {threshold_curves(crisis_classifier(), examples, Path(arguments.plot))}")
    if arguments.variants:
        result["variants"] = {variant: measure(vary(examples, variant), check) for variant in VARIANTS}
        print(f"\n{table(variant_lines(result['variants']))}")
    if arguments.list:
        for what in ("misses", "false_alarms"):
            print(f"\n{what.replace('_', ' ')}:")
            for number in result[what]:
                print(f"  {number} {examples[number - 1].kind}: {' || '.join(examples[number - 1].turns)}")
    return result


def _compare_groups(check: Check) -> dict[str, Any]:
    result = compare_routing(check=check, progress=True)
    print(table(routing_lines(result)))
    for line in routing_differences(result):
        print(line)
    return result


if __name__ == "__main__":
    run(main)
