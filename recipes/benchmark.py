"""Measure training, generation, serving, preparation and import side by side, from the same weights and batches.

python recipes/benchmark.py --quick true
python recipes/benchmark.py --data train.csv --output_dir benchmark
python recipes/benchmark.py --data train.csv --parts preparation --sizes 10000 100000 1000000
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.benchmark.results import tables
from mh_support.benchmark.suite import BenchmarkArguments, run_benchmark
from mh_support.cli import ArgumentParser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the files and print the tables."""
    (arguments,) = ArgumentParser(BenchmarkArguments, description=__doc__).parse(argv)
    print(tables(run_benchmark(arguments)))
    print(f"\nwritten: {arguments.output_dir}/benchmark.json")


if __name__ == "__main__":
    run(main)
