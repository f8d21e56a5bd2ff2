"""Hold a run's bits a byte against an n-gram model and two compressors that have read the same text.

pip install -c constraints.txt -e '.[starter]'
python recipes/bits_per_byte.py runs/latest
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.bits_per_byte import BitsPerByteArguments, compare_bits, lines
from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.run_folder import RunFolder


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, and print the table."""
    parser = ArgumentParser(BitsPerByteArguments, description=__doc__)
    parser.add_argument("run", metavar="RUN", help="A finished run folder.")
    arguments, rest = parser.parse(argv)
    folder = RunFolder.open(rest.run)
    print(table(lines(compare_bits(folder, arguments))))
    print(f"written to {folder.path / 'bits_per_byte.json'}")


if __name__ == "__main__":
    run(main)
