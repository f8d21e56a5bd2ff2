"""Many conversations decoded in one batch: they join between two steps, and leave it as they end.

`generate` starts its rows together and computes them all until the last has ended, copies all keys and values at each
step, and sorts the whole vocabulary for top_p. Here a row has its place, its settings and its random numbers to itself,
so that its text does not depend on who else is in the batch (to the rounding of sums of another shape).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache, GenerationConfig
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from mh_support.sampling import Sampling, choose

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Room for keys and values grows by so many columns, so that it is seldom copied.
_COLUMNS = 64
# Prompts are read in passes of about so many tokens, those of like length together.
PROMPT_TOKENS = 1024
_SETTINGS = {
    *("do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "min_new_tokens", "max_new_tokens", "seed"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "transformers_version"),
}


def can_decode(model: PreTrainedModel, config: GenerationConfig) -> bool:
    """Say whether the model attends to all that came before, and the config asks for nothing but what is done here."""
    base: Any = getattr(model, "get_base_model", lambda: model)()
    if not set(config.to_diff_dict()) <= _SETTINGS:
        return False
    takes = inspect.signature(type(base).forward).parameters
    layers = DynamicCache(config=base.config).layers
    return (
        {"attention_mask", "position_ids", "past_key_values", "logits_to_keep"} <= takes.keys()
        and base.config._attn_implementation in ("sdpa", "eager")
        and bool(layers)
        and all(type(layer) is DynamicLayer for layer in layers)
    )


@dataclass(eq=False)
class Row:
    """One reply in the making: what it answers, how, and what has come of it."""

    prompt: list[int] = field(repr=False)
    sampling: Sampling
    generator: torch.Generator = field(repr=False)
    written: list[int] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, prompt: list[int], config: GenerationConfig, seed: int) -> Row:
        """Return the row of a reply to `prompt`, as the config says and with random numbers from `seed`."""
        return cls(prompt, Sampling.of(config), torch.Generator().manual_seed(seed))

    @property
    def ended(self) -> bool:
        """Whether the model ended it itself."""
        return bool(self.written) and self.written[-1] in self.sampling.ends

    @property
    def done(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or len(self.written) >= self.sampling.max_new_tokens

    @property
    def length(self) -> int:
        """Tokens of the prompt and the reply."""
        return len(self.prompt) + len(self.written)


class Decoder:
    """Decodes up to `places` rows at a time; `columns` is the length to make room for, where that is known.

    Example:
        >>> decoder = Decoder(model, places=16)
        >>> decoder.add([Row.of(prompt, config, seed=1), Row.of(other, config, seed=2)])
        >>> while decoder.rows:
        ...     decoder.drop_done()
        ...     decoder.step()
    """

    def __init__(self, model: PreTrainedModel, places: int, columns: int = 0) -> None:
        config = model.config.get_text_config(decoder=True)
        self.model, self.places = model, places
        self.rows: list[Row] = []
        self._pass = _Pass(places, columns)
        self._cache = Cache(layers=[_Layer(self._pass) for _ in range(config.num_hidden_layers)])
        # Each row's tokens from the left; after its last comes one of its own again.
        self._ids = torch.zeros(places, int(config.max_position_embeddings), dtype=torch.long, device=model.device)

    @torch.inference_mode()
    def add(self, rows: Sequence[Row]) -> None:
        """Read the rows' prompts, in passes of those of like length, and choose the first token of each reply."""
        waiting = sorted(rows, key=lambda row: len(row.prompt))
        while waiting:
            # Those after the first are no shorter, so the last decides how wide the pass is.
            count = next(n for n in range(len(waiting), 0, -1) if n == 1 or n * waiting[n - 1].length <= PROMPT_TOKENS)
            self._read(waiting[:count])
            waiting = waiting[count:]

    def _read(self, rows: list[Row]) -> None:
        first, width = len(self.rows), max(row.length for row in rows)
        ids = self._ids[first : first + len(rows)]
        mask = torch.zeros(len(rows), width, dtype=torch.long, device=ids.device)
        for place, row in enumerate(rows):
            ids[place] = row.prompt[0]
            ids[place, : row.length] = torch.tensor(row.prompt)
            mask[place, : row.length] = 1
        self._pass.begin(first, first + len(rows), width)
        output = self.model(
            input_ids=ids[:, :width],
            attention_mask=mask,
            position_ids=torch.arange(width, device=ids.device)[None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=mask.sum(-1, keepdim=True) - 1,
        )
        self.rows += rows
        self._write(rows, first, output.logits[:, 0])

    @torch.inference_mode()
    def step(self) -> None:
        """Choose the next token of each row, from one pass over all."""
        if not self.rows:
            return
        lengths = torch.tensor([row.length for row in self.rows], device=self._ids.device)
        width = int(lengths.max())
        last = lengths[:, None] - 1
        beyond = torch.arange(width, device=last.device) > last
        mask = torch.zeros(beyond.shape, dtype=self.model.dtype, device=last.device)
        mask.masked_fill_(beyond, torch.finfo(mask.dtype).min)
        self._pass.begin(0, len(self.rows), width, last[:, 0])
        output = self.model(
            input_ids=self._ids[: len(last)].gather(1, last),
            attention_mask=mask[:, None, None],
            position_ids=last,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._write(self.rows, 0, output.logits[:, -1])

    def _write(self, rows: Sequence[Row], first: int, logits: torch.Tensor) -> None:
        ids = self._ids[first : first + len(rows), : max(row.length for row in rows)]
        settings, generators = [row.sampling for row in rows], [row.generator for row in rows]
        for place, token in enumerate(choose(logits, ids, settings, [len(row.written) for row in rows], generators)):
            row = rows[place]
            if row.length < self._ids.shape[1]:
                self._ids[first + place, row.length] = token
            row.written.append(token)

    def drop_done(self) -> list[Row]:
        """Return the rows that are done, which have left."""
        done = [row for row in self.rows if row.done]
        for row in done:
            self.drop(row)
        return done

    @torch.inference_mode()
    def drop(self, row: Row) -> None:
        """Let a row leave; the last takes its place."""
        place, last = self.rows.index(row), len(self.rows) - 1
        if place != last:
            self._ids[place] = self._ids[last]
            for layer in self._cache.layers:
                layer.move(last, place, self.rows[last].length)  # type: ignore[union-attr]
            self.rows[place] = self.rows[last]
        self.rows.pop()


class _Pass:
    """What the pass that runs now writes: rows from `first` to `end`, whole prompts or one token each at `columns`."""

    def __init__(self, places: int, room: int) -> None:
        self.places, self.room = places, room
        self.begin(0, 0, 0)

    def begin(self, first: int, end: int, width: int, columns: torch.Tensor | None = None) -> None:
        self.first, self.end, self.width, self.columns = first, end, width, columns
        self.numbers = None if columns is None else torch.arange(end, device=columns.device)


class _Layer(CacheLayerMixin):
    """One layer's keys and values, `(places, heads, columns, width of a head)`; each row's begin at column 0."""

    def __init__(self, now: _Pass) -> None:
        super().__init__()
        self.now = now

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = self._room(key_states), self._room(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep the new keys and values; return those that the pass attends to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        now = self.now
        self.keys, self.values = self._wide(self.keys), self._wide(self.values)
        if now.columns is None:
            self.keys[now.first : now.end, :, : now.width] = key_states
            self.values[now.first : now.end, :, : now.width] = value_states
            return key_states, value_states
        self.keys[now.numbers, :, now.columns] = key_states[:, :, 0]
        self.values[now.numbers, :, now.columns] = value_states[:, :, 0]
        return self.keys[: now.end, :, : now.width], self.values[: now.end, :, : now.width]

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros(self.now.places, states.shape[1], self.now.room, states.shape[3])

    def _wide(self, kept: Any) -> Any:
        """Return what is kept with room for the pass; zeros, since not even a masked value may be NaN."""
        columns = kept.shape[2]
        if self.now.width <= columns:
            return kept
        more = -(-(self.now.width - columns) // _COLUMNS) * _COLUMNS
        return torch.nn.functional.pad(kept, (0, 0, 0, more))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row's keys and values to another place."""
        both: tuple[Any, Any] = (self.keys, self.values)
        for kept in both:
            kept[target, :, :length] = kept[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.now.width, 0

    def get_seq_length(self) -> int:
        return 0 if self.now.columns is None else self.now.width - 1

    def get_max_length(self) -> int:
        return -1
