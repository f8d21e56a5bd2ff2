"""Train the starter model from scratch, as it comes with the package.

pip install -c constraints.txt -e '.[starter]'
python recipes/pretrain_starter.py
python recipes/pretrain_starter.py --max_steps 20 --output_dir /tmp/starter
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.pretraining import StarterArguments, pretrain


def main(argv: Sequence[str] | None = None) -> None:
    """Train and print what it was made of."""
    (arguments,) = ArgumentParser(StarterArguments, description=__doc__).parse(argv)
    card = pretrain(arguments)
    loss = card["held_out_loss"]["practice"]
    told = {key: card[key] for key in ("parameters", "steps", "seconds", "device")}
    print(table([("starter", arguments.output_dir), *told.items(), ("loss on held-out practice dialogues", loss)]))


if __name__ == "__main__":
    run(main)
