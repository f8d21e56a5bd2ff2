"""The starter: a small GPT-2 trained from scratch, so that all works where no Hub is reached."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    DataCollatorForSeq2Seq,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from mh_support.card import render_starter_card
from mh_support.dialogue import IGNORED, Message, set_chat_template
from mh_support.files import replacing, write_json, write_text
from mh_support.generation import generation_config
from mh_support.modeling import STARTER, count_parameters, device_name, supports_bf16
from mh_support.pretraining_text import read_chats, read_practice

END = "<|endoftext|>"
HELD_OUT = 50  # One conversation in so many is kept to measure on.
SIZES = ("vocab_size", "n_layer", "n_embd", "n_head", "n_positions")

Row = dict[str, list[int]]


@dataclass
class StarterArguments:
    """The starter's size and training; the defaults make the one that comes with the package."""

    output_dir: str = field(default=str(STARTER), metadata={"help": "Folder to write the model to."})
    vocab_size: int = field(default=4096, metadata={"help": "Tokens of the byte-level BPE."})
    n_layer: int = field(default=6, metadata={"help": "Transformer blocks."})
    n_embd: int = field(default=320, metadata={"help": "Width."})
    n_head: int = field(default=5, metadata={"help": "Attention heads."})
    n_positions: int = field(default=512, metadata={"help": "Longest input, in tokens."})
    block_size: int = field(default=256, metadata={"help": "Tokens a row of casual conversation."})
    batch_size: int = field(default=32, metadata={"help": "Rows a batch."})
    chat_epochs: int = field(default=1, metadata={"help": "Passes over the casual conversations, which come first."})
    practice_epochs: int = field(default=8, metadata={"help": "Passes over the practice dialogues."})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "AdamW's peak learning rate."})
    seed: int = field(default=42, metadata={"help": "Seed of weights and order."})
    max_steps: int = field(default=-1, metadata={"help": "Stop after this many steps, to try it out."})


def train_tokenizer(conversations: Sequence[Sequence[Message]], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with `<|endoftext|>` and the chat template."""
    bpe = ByteLevelBPETokenizer()
    texts: Iterator[str] = (message["content"] for messages in conversations for message in messages)
    bpe.train_from_iterator(texts, vocab_size=vocab_size, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token=END, eos_token=END, unk_token=END, pad_token=END
    )
    set_chat_template(tokenizer)
    return tokenizer


def encode_whole(conversations: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of each conversation, every turn closed by the end-of-text."""
    texts = [message["content"] for messages in conversations for message in messages]
    turns = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    return [[id for _ in messages for id in [*next(turns), tokenizer.eos_token_id]] for messages in conversations]


def blocks(conversations: Sequence[list[int]], block_size: int, seed: int) -> list[Row]:
    """Return rows of exactly `block_size` tokens, conversations one after the other in a shuffled order."""
    order = list(conversations)
    random.Random(seed).shuffle(order)
    stream = [id for ids in order for id in ids]
    return [_row(stream[start : start + block_size]) for start in range(0, len(stream) - block_size + 1, block_size)]


def whole_rows(conversations: Sequence[list[int]], longest: int, batch_size: int, seed: int) -> list[Row]:
    """Return a row a conversation, cut at `longest` tokens, in a shuffled order that puts like lengths in a batch."""
    rows = [_row(ids[:longest]) for ids in conversations]
    generator = torch.Generator().manual_seed(seed)
    lengths = [len(row["input_ids"]) for row in rows]
    return [rows[index] for index in get_length_grouped_indices(lengths, batch_size, generator=generator)]


def _row(ids: list[int]) -> Row:
    return {"input_ids": ids, "labels": ids}


def pretrain(arguments: StarterArguments) -> dict[str, Any]:
    """Train the starter from scratch and write it; return what it was made of.

    Casual conversation comes first, in blocks, then the practice dialogues, one a row and several times over.

    Raises:
        ValueError: the casual conversations are not installed.
    """
    (chats, chat_counts), (practice, practice_counts) = read_chats(), read_practice()
    random.Random(arguments.seed).shuffle(practice)
    held_out = {"chat": chats[::HELD_OUT], "practice": practice[::HELD_OUT]}
    chats, practice = ([row for n, row in enumerate(rows) if n % HELD_OUT] for rows in (chats, practice))
    tokenizer = train_tokenizer([*chats, *practice], arguments.vocab_size)
    chat_ids, practice_ids = encode_whole(chats, tokenizer), encode_whole(practice, tokenizer)
    size, seed = arguments.batch_size, arguments.seed
    rows = [row for n in range(arguments.chat_epochs) for row in blocks(chat_ids, arguments.block_size, seed + n)]
    for epoch in range(arguments.practice_epochs):
        rows += whole_rows(practice_ids, arguments.n_positions, size, seed + epoch)
    set_seed(seed)
    scratch = tempfile.TemporaryDirectory()  # The Trainer makes its folder even where it saves nothing.
    model = GPT2LMHeadModel(_config(arguments, tokenizer))
    trainer = Trainer(
        model=model,
        args=_training_arguments(arguments, scratch.name),
        train_dataset=Dataset.from_list(rows),
        eval_dataset={
            name: Dataset.from_list(
                [_row(ids[: arguments.n_positions]) for ids in encode_whole(conversations, tokenizer)]
            )
            for name, conversations in held_out.items()
        },
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
    )
    trained = trainer.train()
    losses = trainer.evaluate()
    card = {
        "chat": {**chat_counts, "tokens": sum(map(len, chat_ids)), "epochs": arguments.chat_epochs},
        "practice": {**practice_counts, "tokens": sum(map(len, practice_ids)), "epochs": arguments.practice_epochs},
        "held_out_loss": {name: losses[f"eval_{name}_loss"] for name in held_out},
        "held_out_perplexity": {name: math.exp(losses[f"eval_{name}_loss"]) for name in held_out},
        "parameters": count_parameters(model)[1],
        "arguments": {key: value for key, value in asdict(arguments).items() if key != "output_dir"},
        "steps": trainer.state.global_step,
        "seconds": trained.metrics["train_runtime"],
        "device": device_name(trainer.args.device.type),
    }
    scratch.cleanup()
    _save(model, tokenizer, Path(arguments.output_dir), card)
    return card


def _config(arguments: StarterArguments, tokenizer: PreTrainedTokenizerBase) -> GPT2Config:
    sizes = {name: getattr(arguments, name) for name in SIZES}
    return GPT2Config(
        **{**sizes, "vocab_size": len(tokenizer)},
        # The same function as GPT-2's gelu_new, computed in one operation.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _training_arguments(arguments: StarterArguments, scratch: str) -> TrainingArguments:
    use_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=1,
        max_steps=arguments.max_steps,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=arguments.batch_size,
        # The rows are in the order that they are to be read in.
        train_sampling_strategy="sequential",
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.02,
        weight_decay=0.1,
        adam_beta2=0.95,
        optim="adamw_torch_fused",
        bf16=supports_bf16("cpu" if use_cpu else "cuda"),
        use_cpu=use_cpu,
        logging_steps=50,
        eval_strategy="steps",
        eval_steps=500,
        save_strategy="no",
        seed=arguments.seed,
        report_to="none",
    )


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, card: dict[str, Any]) -> None:
    """Write weights in half precision, which halves the file and costs nothing that can be measured."""
    # Tuned models start from these weights with GPT-2's usual dropout.
    model.config.resid_pdrop = model.config.embd_pdrop = model.config.attn_pdrop = 0.1
    with replacing(folder) as draft:
        model.to(torch.float16).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        generation_config(tokenizer).save_pretrained(draft)
        write_json(draft / "training.json", card)
        write_text(draft / "README.md", render_starter_card(card))
