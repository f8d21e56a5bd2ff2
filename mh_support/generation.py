"""How a model writes a reply: batched for scoring, streamed for a person, from the same settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from mh_support.dialogue import Message, encode_prompt
from mh_support.modeling import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Sampling close to the model's best guess: greedy decoding of models this small runs in circles.
DECODING: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
MAX_NEW_TOKENS = 128
# Reading a model's weights for a token costs the same for one reply as for many.
BATCH_SIZE = 64
# Fewer where prompts are long: keys and values of so many positions are 1.2 GB with GPT-2.
POSITIONS_AT_ONCE = 16_384


@dataclass(frozen=True)
class GeneratedReply:
    """A reply; `stopped` says whether the model ended it itself, rather than running into the limit."""

    text: str = field(repr=False)
    stopped: bool


def generation_config(
    tokenizer: PreTrainedTokenizerBase, *, max_new_tokens: int = MAX_NEW_TOKENS, **changes: Any
) -> GenerationConfig:
    """Return the settings that replies are made with and that are saved with a model."""
    return GenerationConfig(
        **{**DECODING, **changes},
        max_new_tokens=max_new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def prompt_room(model: PreTrainedModel, max_new_tokens: int) -> int:
    """Return how many tokens a prompt may have, so that a whole reply still fits the model's positions.

    Raises:
        ValueError: the reply alone would fill them.
    """
    positions = int(model.config.max_position_embeddings)
    if max_new_tokens >= positions:
        raise ValueError(f"max_new_tokens is {max_new_tokens} and the model has {positions} positions; give fewer")
    return positions - max_new_tokens


@torch.inference_mode()
def generate_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    config: GenerationConfig,
    *,
    batch_size: int = BATCH_SIZE,
    seed: int = 42,
    progress: str | None = None,
) -> list[GeneratedReply]:
    """Reply to each conversation, in order; prompts of like length share a batch, padded on the left.

    A batch has at most `batch_size` of them, and fewer where they are long.
    The same seed, batch size and conversations give the same replies.
    """
    room = prompt_room(model, config.max_new_tokens)
    prompts = [encode_prompt(tokenizer, messages, max_length=room) for messages in conversations]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    replies: dict[int, GeneratedReply] = {}
    bar = tqdm(total=len(order), desc=progress, disable=progress is None, leave=False)
    with evaluating(model), torch.random.fork_rng(), bar:
        torch.manual_seed(seed)
        while len(replies) < len(order):
            # The longest that is left comes first, so that no other of its batch takes more room.
            room_each = len(prompts[order[len(replies)]]) + config.max_new_tokens
            at_once = max(1, min(batch_size, POSITIONS_AT_ONCE // room_each))
            indices = order[len(replies) : len(replies) + at_once]
            batch = _left_padded([prompts[index] for index in indices], tokenizer.pad_token_id, model.device)
            output: Any = model.generate(**batch, generation_config=config)  # type: ignore[operator]
            for index, ids in zip(indices, output[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
                replies[index] = _decode(tokenizer, ids)
            bar.update(len(indices))
    return [replies[index] for index in range(len(prompts))]


def _left_padded(prompts: Sequence[list[int]], pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    ids = [[pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> GeneratedReply:
    stopped = tokenizer.eos_token_id in ids
    if stopped:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return GeneratedReply(str(tokenizer.decode(ids, skip_special_tokens=True)).strip(), stopped)


class _Stopped(StoppingCriteria):
    def __init__(self, event: Event) -> None:
        self._event = event

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> Any:
        return torch.full((input_ids.shape[0],), self._event.is_set(), device=input_ids.device)


def stream_reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    config: GenerationConfig,
) -> Iterator[str]:
    """Yield a reply to one conversation piece by piece; closing the iterator stops the model within a token."""
    room = prompt_room(model, config.max_new_tokens)
    prompt = encode_prompt(tokenizer, messages, max_length=room)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    stop = Event()
    batch = _left_padded([prompt], tokenizer.pad_token_id, model.device)
    failure: list[BaseException] = []

    def write() -> None:
        try:
            with torch.inference_mode():
                model.generate(  # type: ignore[operator]
                    **batch,
                    generation_config=config,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_Stopped(stop)]),
                )
        except BaseException as error:
            # Raised again where the reply is read: a thread has nobody to tell.
            failure.append(error)
            streamer.end()

    thread = Thread(target=write, daemon=True)
    model.eval()
    thread.start()
    try:
        yield from streamer
    finally:
        stop.set()
        thread.join()
    if failure:
        raise failure[0]
