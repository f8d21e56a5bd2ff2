"""Train the classifier of replies from the labelled ones, as it comes with the package.

python recipes/train_reply_classifier.py
python recipes/train_reply_classifier.py --output /tmp/classifier.safetensors
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.safety import check_reply
from mh_support.safety.measure_replies import lines, measure, read_replies
from mh_support.safety.reply_training import ReplyArguments, held_out, train_reply_classifier


def main(argv: Sequence[str] | None = None) -> None:
    """Train, write, and measure phrases and classifier on the replies that were held out."""
    (arguments,) = ArgumentParser(ReplyArguments, description=__doc__).parse(argv)
    classifier, made_from = train_reply_classifier(arguments)
    classifier.save(Path(arguments.output))
    print(table([("trained on", ""), *((name, str(count)) for name, count in made_from.items())]))
    development, _ = held_out(read_replies("train"), arguments.seed)
    checks = {
        "phrases alone": partial(check_reply, classifiers=()),
        "phrases and classifier": partial(check_reply, classifiers=[classifier]),
    }
    print()
    print(table(lines({name: measure(development, check) for name, check in checks.items()})))
    print(f"written to {arguments.output}; measure it on the locked replies with recipes/measure_replies.py")


if __name__ == "__main__":
    run(main)
