"""What the same held-out replies cost, in bits a byte, without a neural network: an n-gram model and two compressors.

A language model is worth its name only where it foresees text better than counting does, and better than a program
that looks up what it has seen before. All of them read the same training text.
"""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mh_support.baselines import scored_items
from mh_support.data.preparation import load_prepared
from mh_support.dialogue import IGNORED, EncodedReply
from mh_support.files import write_json
from mh_support.metrics.perplexity import perplexity
from mh_support.modeling import load_model, load_tokenizer
from mh_support.pretraining import encode_whole
from mh_support.pretraining_text import read_chats, read_practice
from mh_support.run_folder import RunFolder
from mh_support.scoring import encode_references

ZLIB_WINDOW = 1 << 15  # Bytes that zlib looks back at most.
ROWS = {
    "tuned": "Fine-tuned model",
    "ngram": "n-gram model, Witten-Bell",
    "xz": "xz, primed",
    "zlib": "zlib, primed",
}


@dataclass
class BitsPerByteArguments:
    """What a model is held against."""

    order: int = field(default=5, metadata={"help": "Order of the n-gram model, which counts runs of so many tokens."})
    batch_size: int = field(default=16, metadata={"help": "Replies that the model reads at once."})

    def __post_init__(self) -> None:
        if self.order < 1 or self.batch_size < 1:
            raise ValueError(f"order is {self.order} and batch_size {self.batch_size}; both are at least 1")


def compare_bits(run: RunFolder, arguments: BitsPerByteArguments) -> dict[str, Any]:
    """Return the bits a byte of a run's model and of its rivals on the test split, and write them into the run.

    The rivals read the run's training split and, where the run started from the starter, all that the starter read.

    Raises:
        ValueError: the run is not finished, or the starter's text is not installed.
    """
    record = RunFolder.open(run.path).record()
    splits = load_prepared(run.data)
    tokenizer, model = load_tokenizer(str(run.model)), load_model(str(run.model))
    training = [dialogue["messages"] for dialogue in splits["train"]]
    if record["base_model"]["name_or_path"] == "starter":
        training = [*read_chats()[0], *read_practice()[0], *training]
    items = scored_items(splits["test"])
    replies = [reference for item in items for reference in item.references]
    rows, _ = encode_references(tokenizer, items, max_length=int(model.config.max_position_embeddings))
    statistics = perplexity.item_statistics(
        model, rows, pad_token_id=tokenizer.pad_token_id, batch_size=arguments.batch_size
    )
    streams = encode_whole(training, tokenizer)
    text = "\n".join(message["content"] for messages in training for message in messages)
    result = {
        "bits_per_byte": {
            "tuned": perplexity.from_statistics(statistics.sum(axis=0))["bits_per_byte"],
            "ngram": ngram_bits(streams, rows, vocab_size=len(tokenizer), order=arguments.order),
            **compressed_bits(text, replies),
        },
        "order": arguments.order,
        "replies": len(replies),
        "reply_bytes": sum(len(reply.encode()) for reply in replies),
        "training_bytes": len(text.encode()),
        "training_tokens": sum(map(len, streams)),
    }
    write_json(run.path / "bits_per_byte.json", result)
    return result


def ngram_bits(
    training: Sequence[Sequence[int]], rows: Sequence[EncodedReply], *, vocab_size: int, order: int = 5
) -> float:
    """Return the bits a byte that an interpolated n-gram model of token ids takes for the scored tokens of `rows`.

    Every id of the vocabulary is counted once more than it is seen, so that none is impossible.
    """
    from nltk.lm import WittenBellInterpolated
    from nltk.lm.vocabulary import Vocabulary
    from nltk.util import everygrams

    model = WittenBellInterpolated(order, vocabulary=Vocabulary(map(str, range(vocab_size))))
    every = [[(str(id),)] for id in range(vocab_size)]
    model.fit([*every, *(list(everygrams(list(map(str, ids)), max_len=order)) for ids in training)])
    bits = 0.0
    for row in rows:
        ids = list(map(str, row["input_ids"]))
        for place, label in enumerate(row["labels"]):
            if label != IGNORED:
                context = tuple(ids[max(0, place - order + 1) : place])
                bits -= math.log2(model.unmasked_score(ids[place], context))
    return bits / sum(row["bytes"] for row in rows)


def compressed_bits(training: str, replies: Sequence[str]) -> dict[str, float]:
    """Return the bits a byte that xz and zlib add for the replies after the training text, by name.

    This flatters both: all replies are compressed as one text, so that the later ones are told by the earlier. xz looks
    back over the whole text, zlib over the last 32 KiB of it.
    """
    known, said = training.encode(), "\n".join(["", *replies]).encode()
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": max(1 << 16, len(known) * 2)}]

    def xz(text: bytes) -> int:
        return len(lzma.compress(text, format=lzma.FORMAT_RAW, filters=filters))

    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=known[-ZLIB_WINDOW:])
    added = {"xz": xz(known + said) - xz(known), "zlib": len(deflate.compress(said) + deflate.flush())}
    return {name: 8 * size / len(said) for name, size in added.items()}


def lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a result as the lines of a table."""
    head = (f"test, {result['replies']:,} replies", "bits a byte")
    return [head, *((ROWS[row], f"{bits:.3f}") for row, bits in result["bits_per_byte"].items())]
