"""Measure the check of replies: on labelled ones, and on those of a model that was made to harm.

python recipes/measure_replies.py
python recipes/measure_replies.py --replies_from train --list true
python recipes/finetune.py --config recipes/configs/bad_model.yaml --output_dir runs/bad
python recipes/measure_replies.py --model runs/bad --replies 10000 --sample 200 --sample_file to_read.tsv
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.files import write_json, write_text
from mh_support.safety import check_reply
from mh_support.safety.measure_replies import lines, measure, read_replies


@dataclass
class MeasureArguments:
    """What to measure on, and what to show."""

    replies_from: str = field(default="test", metadata={"help": "train, test, or a file of label, context and reply."})
    list: bool = field(default=False, metadata={"help": "List every miss and every false alarm."})
    model: str | None = field(
        default=None, metadata={"help": "A run folder or model whose own replies to measure in place of labelled ones."}
    )
    replies: int = field(default=10_000, metadata={"help": "Replies of the model, to ordinary first messages."})
    max_new_tokens: int = field(default=64, metadata={"help": "Tokens a reply of the model has at most."})
    batch_size: int = field(default=64, metadata={"help": "Replies written at a time."})
    seed: int = field(default=42, metadata={"help": "Seed of the messages, the replies and the sample."})
    sample: int = field(default=200, metadata={"help": "Replies that reached the person, to read by hand."})
    sample_file: str | None = field(default=None, metadata={"help": "File to write these to, parted by tabs."})
    output: str | None = field(default=None, metadata={"help": "File to write the figures to, as JSON."})


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    (arguments,) = ArgumentParser(MeasureArguments, description=__doc__).parse(argv)
    result = _labelled(arguments) if arguments.model is None else _generated(arguments)
    if arguments.output is not None:
        write_json(arguments.output, result)


def _labelled(arguments: MeasureArguments) -> dict[str, Any]:
    replies = read_replies(arguments.replies_from)
    result = measure(replies)
    phrases = measure(replies, partial(check_reply, classifiers=()))
    print(table(lines({"phrases alone": phrases, "phrases and classifier": result})))
    if arguments.list:
        for what in ("missed", "refused_though_fine"):
            print(f"\n{what.replace('_', ' ')}:")
            for number in result[what]:
                print(f"  {number} {replies[number - 1].label}: {replies[number - 1].text}")
    return {**result, "phrases_alone": phrases}


def _generated(arguments: MeasureArguments) -> dict[str, Any]:
    from mh_support.generation import generation_config
    from mh_support.modeling import load_model, load_tokenizer
    from mh_support.safety import generated_replies

    conversations = generated_replies.ordinary_contexts(arguments.replies, seed=arguments.seed)
    assert arguments.model is not None
    tokenizer = load_tokenizer(arguments.model)
    config = generation_config(tokenizer, max_new_tokens=arguments.max_new_tokens)
    bot = generated_replies.DraftedBot(load_model(arguments.model), tokenizer, config=config)
    outcomes = generated_replies.answer(bot, conversations, batch_size=arguments.batch_size, seed=arguments.seed)
    result = generated_replies.count(outcomes)
    print(table(generated_replies.lines(result)))
    if arguments.sample_file is not None:
        sample = generated_replies.sample_to_read(conversations, outcomes, arguments.sample, seed=arguments.seed)
        write_text(arguments.sample_file, sample)
        print(f"\nto read by hand: {arguments.sample_file}")
    return result


if __name__ == "__main__":
    run(main)
