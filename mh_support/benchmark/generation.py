"""Replies from transformers' pipeline and from this package, greedy and so the same; and sampled, as scores are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mh_support.dialogue import encode_prompt
from mh_support.files import read_json, write_json

WAYS = {
    "pipeline": "pipeline, one by one",
    "pipeline_batched": "pipeline, batched",
    "generate": "generate, batched and sorted",
    "ours": "ours",
    "generate_sampled": "sampled: generate, batched and sorted",
    "ours_sampled": "sampled: ours",
}
# The sampled ways draw other random numbers, so that their texts are no ones that could be compared.
SAMPLED = ("generate_sampled", "ours_sampled")
GREEDY: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
PIPELINE_BATCH = 16


def save_prompts(folder: Path, dialogues: Sequence[Any], tokenizer: Any, count: int, *, length: int) -> None:
    """Save the first words of `count` dialogues, those of a person, as conversations to reply to.

    Those of more than `length` tokens are left out: the pipeline does not shorten what is too long for the model.
    """
    first = [dialogue[:1] for dialogue in dialogues if dialogue[0]["role"] == "user"]
    # A question with several answers stands in the data several times.
    different = {message["content"]: [message] for (message,) in first}.values()
    fitting = (prompt for prompt in different if len(encode_prompt(tokenizer, prompt)) <= length)
    write_json(folder / "prompts.json", list(islice(fitting, count)))


def measure_generation(way: str, folder: str, new_tokens: int) -> dict[str, Any]:
    """Reply to all prompts; return seconds, tokens and the replies' text."""
    prompts = read_json(Path(folder) / "prompts.json")
    if way.startswith("pipeline"):
        reply = _pipeline(folder, new_tokens, batched=way != "pipeline")
    else:
        reply = _ours(folder, new_tokens, sampled=way in SAMPLED, generate=way.startswith("generate"))
    reply(prompts[:1])
    started = time.perf_counter()
    replies = reply(prompts)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "replies": replies}


def _pipeline(folder: str, new_tokens: int, *, batched: bool) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    chat = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    settings = {"max_new_tokens": new_tokens, "do_sample": False, "batch_size": PIPELINE_BATCH if batched else 1}

    def reply(prompts: list[Any]) -> list[str]:
        return [found[0]["generated_text"][-1]["content"].strip() for found in chat(prompts, **settings)]

    return reply


def _ours(folder: str, new_tokens: int, *, sampled: bool, generate: bool) -> Any:
    from mh_support.generation import generate_replies, generation_config
    from mh_support.memory import keep_freed_memory
    from mh_support.modeling import load_model, load_tokenizer

    keep_freed_memory()  # As scoring does.
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    config = generation_config(tokenizer, max_new_tokens=new_tokens, **({} if sampled else GREEDY))
    if generate:
        by_generate(config)

    def reply(prompts: list[Any]) -> list[str]:
        return [found.text for found in generate_replies(model, tokenizer, prompts, config)]

    return reply


def by_generate(config: Any) -> None:
    """Have replies written by the model's own `generate`: a setting that the decoder does not know changes nothing."""
    config.measured = True
