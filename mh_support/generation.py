"""How a model writes a reply: batched for scoring, streamed for a person, from the same settings."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer, TextStreamer

from mh_support.decoding import Decoder, Row, can_decode
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
    """Reply to each conversation, in order; up to `batch_size` at a time, and fewer where they are long.

    The same seed and conversations give the same replies, whatever the batch size. Models that do not attend to all
    that came before, and settings that are not of this package, are left to the model's own `generate`; its replies
    are the same for a seed and a batch size.
    """
    room = prompt_room(model, config.max_new_tokens)
    prompts = [encode_prompt(tokenizer, messages, max_length=room) for messages in conversations]
    # The longest that is left comes first, so that no other of its batch takes more room.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    write = _decoded if can_decode(model, config) else _generated
    found: dict[int, list[int]] = {}
    bar = tqdm(total=len(order), desc=progress, disable=progress is None, leave=False)
    with evaluating(model), bar:
        for index, ids in write(model, prompts, order, config, batch_size, seed):
            found[index] = ids
            bar.update()
    return [_decode(tokenizer, found[index]) for index in range(len(prompts))]


def _at_once(prompt: Sequence[int], config: GenerationConfig, batch_size: int) -> int:
    """Return how many rows as long as this prompt's there may be at a time."""
    return max(1, min(batch_size, POSITIONS_AT_ONCE // (len(prompt) + config.max_new_tokens)))


def _decoded(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    order: Sequence[int],
    config: GenerationConfig,
    batch_size: int,
    seed: int,
) -> Iterator[tuple[int, list[int]]]:
    """Yield replies as they end; the next prompts take the places of those that have."""
    seeds = torch.randint(2**63 - 1, (len(prompts),), generator=torch.Generator().manual_seed(seed)).tolist()
    waiting = deque(order)
    while waiting:
        longest = prompts[waiting[0]]
        at_once = _at_once(longest, config, batch_size)
        places = min(at_once, len(waiting))
        decoder, owners = Decoder(model, places, columns=len(longest) + config.max_new_tokens), {}
        while True:
            free = places - len(decoder.rows)
            joining: list[Row] = []
            # Some together, since a pass over one short prompt costs nearly as much; and none once twice as many have
            # room, which is made when these are done.
            while waiting and free >= max(1, places // 8) and len(joining) < free:
                if _at_once(prompts[waiting[0]], config, batch_size) >= 2 * at_once:
                    break
                index = waiting.popleft()
                joining.append(Row.of(prompts[index], config, seeds[index]))
                owners[joining[-1]] = index
            decoder.add(joining)
            if not decoder.rows:
                break
            for row in decoder.drop_done():
                yield owners[row], row.written
            decoder.step()


def _generated(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    order: Sequence[int],
    config: GenerationConfig,
    batch_size: int,
    seed: int,
) -> Iterator[tuple[int, list[int]]]:
    """Yield replies batch by batch, padded on the left, from the model's own `generate`."""
    pad_id: Any = config.pad_token_id
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        done = 0
        while done < len(order):
            indices = order[done : done + _at_once(prompts[order[done]], config, batch_size)]
            batch = _left_padded([prompts[index] for index in indices], pad_id, model.device)
            output: Any = model.generate(**batch, generation_config=config)  # type: ignore[operator]
            yield from zip(indices, output[:, batch["input_ids"].shape[1] :].tolist(), strict=True)
            done += len(indices)


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
    """Yield a reply to one conversation piece by piece; closing the iterator stops the model within a token.

    A `seed` that the config carries makes the reply the same each time; without one it is left to torch's own.
    """
    room = prompt_room(model, config.max_new_tokens)
    prompt = encode_prompt(tokenizer, messages, max_length=room)
    model.eval()
    write = _stream_decoded if can_decode(model, config) else _stream_generated
    yield from write(model, tokenizer, prompt, config)


class Pieces(TextStreamer):
    """Turns tokens into pieces of text, whole words at a time; `take` returns those that are ready."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer, skip_special_tokens=True)
        self._ready = ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Keep the text until it is taken."""
        self._ready += text

    def take(self) -> str:
        """Return what has come since the last time, which may be nothing."""
        ready, self._ready = self._ready, ""
        return ready


def reply_seed(config: GenerationConfig) -> int:
    """Return the seed that the config carries, or one drawn from torch's own random numbers."""
    seed = getattr(config, "seed", None)
    return int(torch.randint(2**63 - 1, ())) if seed is None else int(seed)


def _stream_decoded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], config: GenerationConfig
) -> Iterator[str]:
    row, decoder, pieces = Row.of(prompt, config, reply_seed(config)), Decoder(model, places=1), Pieces(tokenizer)
    while not row.done:
        if decoder.rows:
            decoder.step()
        else:
            decoder.add([row])
        pieces.put(torch.tensor(row.written[-1:]))
        if row.done:
            pieces.end()
        if piece := pieces.take():
            yield piece


def _stream_generated(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], config: GenerationConfig
) -> Iterator[str]:
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
    thread.start()
    try:
        yield from streamer
    finally:
        stop.set()
        thread.join()
    if failure:
        raise failure[0]
