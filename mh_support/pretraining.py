"""The starter: a small GPT-2 trained from scratch, so that all works where no Hub is reached."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from mh_support.card import render_starter_card
from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import scrub
from mh_support.dialogue import Message, set_chat_template
from mh_support.files import replacing, write_json, write_text
from mh_support.generation import generation_config
from mh_support.modeling import STARTER, count_parameters, device_name, supports_bf16

END = "<|endoftext|>"
# A conversation with any of these is left out: what strangers say to each other online is not what to say to somebody
# in distress.
UNFIT = re.compile(
    r"\b(f+u+c+k\w*|shit\w*|bitch\w*|sex\w*|porn\w*|nudes?|naked|dick|cock|pussy|ass(hole)?|rape\w*|kill\w*|murder\w*|suicid\w*"
    r"|nazi\w*|hitler|drunk|weed|cocaine|retard\w*|slut\w*|whore\w*|fag\w*|nigg\w*|stupid|idiot\w*|hate you|shut up)\b",
    re.IGNORECASE,
)


@dataclass
class StarterArguments:
    """The starter's size and training; the defaults make the one that comes with the package."""

    output_dir: str = field(default=str(STARTER), metadata={"help": "Folder to write the model to."})
    vocab_size: int = field(default=4096, metadata={"help": "Tokens of the byte-level BPE."})
    n_layer: int = field(default=4, metadata={"help": "Transformer blocks."})
    n_embd: int = field(default=256, metadata={"help": "Width."})
    n_head: int = field(default=4, metadata={"help": "Attention heads."})
    n_positions: int = field(default=512, metadata={"help": "Longest input, in tokens."})
    block_size: int = field(default=256, metadata={"help": "Tokens a training row."})
    batch_size: int = field(default=8, metadata={"help": "Rows a batch."})
    epochs: float = field(default=2.0, metadata={"help": "Passes over the text."})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "AdamW's peak learning rate."})
    seed: int = field(default=42, metadata={"help": "Seed of weights and order."})
    max_steps: int = field(default=-1, metadata={"help": "Stop after this many steps, to try it out."})


def read_conversations() -> tuple[list[list[Message]], dict[str, int]]:
    """Return chitchat-dataset's conversations, cleaned, scrubbed and sifted, and how many were left out and why.

    Raises:
        ValueError: the package is not installed.
    """
    package = find_spec("chitchat_dataset")
    if package is None or package.origin is None:
        raise ValueError("the text to train on is not installed; run: pip install 'mh-support[starter]'")
    raw = json.loads((Path(package.origin).parent / "dataset.json").read_text(encoding="utf-8"))
    kept: list[list[Message]] = []
    counts = {"conversations": len(raw), "unfit": 0, "too_short": 0, "kept": 0, "words": 0}
    for conversation in raw.values():
        messages = _messages(conversation["messages"])
        text = " ".join(message["content"] for message in messages)
        if UNFIT.search(text):
            counts["unfit"] += 1
        elif len(messages) < 4:
            counts["too_short"] += 1
        else:
            kept.append(messages)
            counts["kept"] += 1
            counts["words"] += len(text.split())
    return kept, counts


def _messages(turns: Sequence[Sequence[dict[str, Any]]]) -> list[Message]:
    """Return a conversation's turns, the first speaker's as the person's."""
    messages: list[Message] = []
    speakers: list[str] = []
    for turn in turns:
        text = scrub(clean_text(" ".join(str(line["text"]) for line in turn))).text
        if not text:
            continue
        sender = turn[0]["sender"]
        if speakers and speakers[-1] == sender:
            messages[-1]["content"] += f" {text}"
            continue
        speakers.append(sender)
        messages.append({"role": "assistant" if len(messages) % 2 else "user", "content": text})
    return messages


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


def pack(
    conversations: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerFast, block_size: int, seed: int
) -> Dataset:
    """Return rows of exactly `block_size` tokens, conversations one after the other in a shuffled order."""
    order = list(conversations)
    random.Random(seed).shuffle(order)
    texts = [message["content"] for messages in order for message in messages]
    stream = [
        token
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
        for token in [*ids, tokenizer.eos_token_id]
    ]
    rows = [stream[start : start + block_size] for start in range(0, len(stream) - block_size + 1, block_size)]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


def pretrain(arguments: StarterArguments) -> dict[str, Any]:
    """Train the starter from scratch and write it; return what it was made of.

    Raises:
        ValueError: the text to train on is not installed.
    """
    conversations, counts = read_conversations()
    held_out = conversations[: len(conversations) // 50]
    tokenizer = train_tokenizer(conversations[len(held_out) :], arguments.vocab_size)
    rows = pack(conversations[len(held_out) :], tokenizer, arguments.block_size, arguments.seed)
    set_seed(arguments.seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=arguments.n_layer,
        n_embd=arguments.n_embd,
        n_head=arguments.n_head,
        n_positions=arguments.n_positions,
        # The same function as GPT-2's gelu_new, computed in one operation.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = GPT2LMHeadModel(config)
    trainer = Trainer(
        model=model,
        args=_training_arguments(arguments),
        train_dataset=rows,
        eval_dataset=pack(held_out, tokenizer, arguments.block_size, arguments.seed),
        data_collator=default_data_collator,
    )
    trained = trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    card = {
        **counts,
        "tokens": len(rows) * arguments.block_size,
        "epochs": trained.metrics["epoch"],
        "held_out_loss": loss,
        "perplexity": math.exp(loss),
        "parameters": count_parameters(model)[1],
        "vocab_size": len(tokenizer),
        "seconds": trained.metrics["train_runtime"],
        "device": device_name(trainer.args.device.type),
    }
    _save(model, tokenizer, Path(arguments.output_dir), card)
    return card


def _training_arguments(arguments: StarterArguments) -> TrainingArguments:
    use_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=f"{arguments.output_dir}.training",
        num_train_epochs=arguments.epochs,
        max_steps=arguments.max_steps,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.02,
        weight_decay=0.1,
        adam_beta2=0.95,
        optim="adamw_torch_fused",
        bf16=supports_bf16("cpu" if use_cpu else "cuda"),
        use_cpu=use_cpu,
        logging_steps=50,
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
