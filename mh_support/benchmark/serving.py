"""Replies streamed to several people at once: a thread each, in one batch, in fewer bits, and by CTranslate2."""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from mh_support.benchmark.generation import GREEDY, by_generate
from mh_support.files import read_json, write_json

WAYS = {
    "generate": "generate, a thread each",
    "alone": "ours, a thread each",
    "together": "ours, one batch",
    "together_bf16": "ours, one batch, bf16",
    "together_int8": "ours, one batch, int8 (torch, dynamic)",
    "ctranslate2": "CTranslate2, one batch, fp32",
    "ctranslate2_int8": "CTranslate2, one batch, int8",
}
STREAMS = (1, 4, 16)

# Replies to conversations, and returns the seconds to each one's first word.
Serve = Callable[[Sequence[Any]], list[float]]


def ways() -> list[str]:
    """Return the ways that can be measured here: CTranslate2 comes with the extra `benchmark`."""
    return [way for way in WAYS if find_spec("ctranslate2") or not way.startswith("ctranslate2")]


def measure_serving(way: str, folder: str, new_tokens: int, streams: Sequence[int] = STREAMS) -> dict[str, Any]:
    """Stream replies of `new_tokens` to so many at once; return seconds to a first word, and tokens a second.

    Returns:
        by the number of streams: `first_seconds`, the median over the streams, and `tokens_per_second` of all together.
    """
    prompts = read_json(Path(folder) / "prompts.json")
    serve = _ctranslate2(way, folder, new_tokens) if way.startswith("ctranslate2") else _torch(way, folder, new_tokens)
    serve(prompts[:1])
    found = {}
    for count in streams:
        started = time.perf_counter()
        first = serve(list(islice(cycle(prompts), count)))
        rate = count * new_tokens / (time.perf_counter() - started)
        found[str(count)] = {"first_seconds": median(first), "tokens_per_second": rate}
    return {"streams": found}


def measure_perplexity(way: str, folder: str, texts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the perplexity of rows of token ids to a model in a way's precision."""
    if way.startswith("ctranslate2"):
        generator, words = _converted(way, folder)
        scored = generator.score_batch([words(row) for row in texts])
        each = [value for result in scored for value in result.log_probs]
    else:
        import torch

        model = _model(way, folder)
        with torch.inference_mode():
            each = []
            for row in texts:
                ids = torch.tensor([row])
                odds = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].float().log_softmax(-1)
                each += odds.gather(1, ids[0, 1:, None])[:, 0].tolist()
    return {"perplexity": math.exp(-sum(each) / len(each))}


def _model(way: str, folder: str) -> Any:
    import torch

    from mh_support.modeling import load_model

    model = load_model(folder, dtype=torch.bfloat16 if way.endswith("bf16") else torch.float32).eval()
    return _int8(model) if way.endswith("int8") else model


def _int8(model: Any) -> Any:
    """Return the model with its projections and its head in int8, their inputs rounded as they come."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):  # torch quantises its own layer only, which holds the same transposed.
                linear = torch.nn.Linear(child.nx, child.nf)
                linear.weight.data, linear.bias.data = child.weight.data.t().contiguous(), child.bias.data
                setattr(module, name, linear)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is to move to another package.
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def _torch(way: str, folder: str, new_tokens: int) -> Serve:
    from mh_support.batching import ReplyBatcher
    from mh_support.generation import generation_config, stream_reply
    from mh_support.memory import keep_freed_memory
    from mh_support.modeling import load_tokenizer

    keep_freed_memory()
    model, tokenizer = _model(way, folder), load_tokenizer(folder)
    config = generation_config(tokenizer, max_new_tokens=new_tokens, min_new_tokens=new_tokens, **GREEDY)
    if way == "generate":
        by_generate(config)
    batcher = ReplyBatcher(model, tokenizer) if way.startswith("together") else None

    def read(conversation: Any) -> float:
        started = time.perf_counter()
        if batcher is None:
            pieces = stream_reply(model, tokenizer, conversation, config)
        else:
            pieces = batcher.stream(conversation, config)
        # The first may be empty, until a word is whole.
        next((piece for piece in pieces if piece), None)
        seconds = time.perf_counter() - started
        for _ in pieces:
            pass
        return seconds

    def serve(conversations: Sequence[Any]) -> list[float]:
        with ThreadPoolExecutor(len(conversations)) as threads:
            return list(threads.map(read, conversations))

    return serve


def _converted(way: str, folder: str) -> tuple[Any, Callable[[Sequence[int]], list[str]]]:
    """Return the model as CTranslate2 runs it, and what turns token ids into its words."""
    import ctranslate2
    import torch
    from ctranslate2.converters import TransformersConverter

    from mh_support.modeling import load_tokenizer

    kind = "int8" if way.endswith("int8") else "float32"
    with tempfile.TemporaryDirectory() as scratch:
        source = _with_whole_vocabulary(folder, Path(scratch) / "source")
        output = TransformersConverter(str(source)).convert(f"{scratch}/model", quantization=kind)
        threads = torch.get_num_threads()
        generator = ctranslate2.Generator(output, device="cpu", compute_type=kind, intra_threads=threads)
    tokenizer = load_tokenizer(folder)
    return generator, lambda ids: list(tokenizer.convert_ids_to_tokens(list(ids)))


def _with_whole_vocabulary(folder: str, copy: Path) -> Path:
    """Return a copy whose tokenizer has a word for each row of the model and for the unknown, as CTranslate2 wants."""
    copy.mkdir()
    for path in Path(folder).iterdir():
        (copy / path.name).symlink_to(path.resolve())
    tokenizer = read_json(copy / "tokenizer.json")
    words = tokenizer["model"]["vocab"]
    taken = {*words.values(), *(each["id"] for each in tokenizer["added_tokens"])}
    for number in range(read_json(copy / "config.json")["vocab_size"]):
        if number not in taken:
            words[f"<unused{number}>"] = number
    settings = read_json(copy / "tokenizer_config.json")
    settings = {**settings, "unk_token": settings.get("unk_token") or settings["eos_token"]}
    for name, changed in {"tokenizer.json": tokenizer, "tokenizer_config.json": settings}.items():
        (copy / name).unlink()
        write_json(copy / name, changed)
    return copy


def _ctranslate2(way: str, folder: str, new_tokens: int) -> Serve:
    from mh_support.dialogue import encode_prompt
    from mh_support.modeling import load_tokenizer

    tokenizer = load_tokenizer(folder)
    generator, words = _converted(way, folder)

    def serve(conversations: Sequence[Any]) -> list[float]:
        first: dict[int, float] = {}
        started = time.perf_counter()

        def told(step: Any) -> bool:
            first.setdefault(step.batch_id, time.perf_counter() - started)
            return False  # Go on.

        settings = {"max_length": new_tokens, "min_length": new_tokens, "include_prompt_in_result": False}
        prompts = [words(encode_prompt(tokenizer, conversation)) for conversation in conversations]
        generator.generate_batch(prompts, **settings, callback=told)
        return list(first.values())

    return serve
