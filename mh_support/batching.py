"""Many conversations at once: one thread decodes all replies that are being read, in one batch.

A CPU reads all of a model's weights for each token, whether for one reply or for sixteen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from mh_support.decoding import PROMPT_TOKENS, Decoder, Row, can_decode
from mh_support.dialogue import Message, encode_prompt
from mh_support.generation import Pieces, prompt_room, reply_seed, stream_reply

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

AT_ONCE = 16
MAX_WAITING = 100


class BusyError(RuntimeError):
    """So many replies are waiting that no more are taken."""


@dataclass(eq=False)
class _Reader:
    """Who reads a reply: text as it comes, at the end None, or what went wrong."""

    row: Row
    pieces: Pieces
    queue: SimpleQueue[str | BaseException | None] = field(default_factory=SimpleQueue)
    gone: bool = False


class ReplyBatcher:
    """Streams replies as `stream_reply` does, many at a time from one batch.

    A reply depends on its conversation, its config and its seed alone. A thread runs while there is something to write.

    Example:
        >>> bot = SupportBot.from_pretrained("starter")
        >>> bot.batcher = ReplyBatcher(bot.model, bot.tokenizer)

    Args:
        model: a causal LM. What `can_decode` refuses is written by `generate`, each reply by itself.
        tokenizer: its tokenizer.
        at_once: replies in the batch; memory for their keys and values is taken for as many.
        max_waiting: replies that may wait for a place.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        at_once: int = AT_ONCE,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        if at_once < 1:
            raise ValueError(f"at_once is {at_once}; at least 1 reply must be written at a time")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.at_once, self.max_waiting = at_once, max_waiting
        self._lock = Lock()
        self._waiting: deque[_Reader] = deque()
        self._thread: Thread | None = None

    def stream(self, messages: Sequence[Message], config: GenerationConfig) -> Iterator[str]:
        """Yield a reply piece by piece; closing the iterator takes it out of the batch within a token.

        Raises:
            BusyError: too many wait already.
            ValueError: the reply does not fit the model's positions.
        """
        if not can_decode(self.model, config):
            yield from stream_reply(self.model, self.tokenizer, messages, config)
            return
        prompt = encode_prompt(self.tokenizer, messages, max_length=prompt_room(self.model, config.max_new_tokens))
        reader = _Reader(Row.of(prompt, config, reply_seed(config)), Pieces(self.tokenizer))
        self._join(reader)
        try:
            while (piece := reader.queue.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            reader.gone = True

    def _join(self, reader: _Reader) -> None:
        with self._lock:
            self._waiting = deque(other for other in self._waiting if not other.gone)
            if len(self._waiting) >= self.max_waiting:
                raise BusyError(f"{self.max_waiting} replies are waiting already; ask again in a while")
            self._waiting.append(reader)
            if self._thread is None:
                self._thread = Thread(target=self._write, name="replies", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        """Decode until nobody reads any more."""
        decoder = Decoder(self.model, self.at_once)
        readers: dict[Row, _Reader] = {}
        while (joining := self._next(decoder)) is not None:
            readers.update({reader.row: reader for reader in joining})
            try:
                self._advance(decoder, readers, [reader.row for reader in joining])
            except BaseException as error:
                # Raised again where each reply is read: a thread has nobody to tell.
                for reader in readers.values():
                    reader.queue.put(error)
                decoder, readers = Decoder(self.model, self.at_once), {}

    def _advance(self, decoder: Decoder, readers: dict[Row, _Reader], joining: Sequence[Row]) -> None:
        """Write a token of each reply; those that join have their first from the pass over their prompts."""
        decoder.step()
        decoder.add(joining)
        for row in [row for row in decoder.rows if readers[row].gone]:
            decoder.drop(row)
            del readers[row]
        for row in decoder.rows:
            _tell(readers[row])
        for row in decoder.drop_done():
            del readers[row]

    def _next(self, decoder: Decoder) -> list[_Reader] | None:
        """Return who joins now, or None where nobody is left, and with that the thread's end."""
        with self._lock:
            joining: list[_Reader] = []
            # Who is in the batch waits while prompts are read: not many at a time.
            tokens = 0
            while self._waiting and len(decoder.rows) + len(joining) < self.at_once and tokens < PROMPT_TOKENS:
                reader = self._waiting.popleft()
                if not reader.gone:
                    joining.append(reader)
                    tokens += reader.row.length
            if not joining and not decoder.rows:
                self._thread = None
                return None
            return joining


def _tell(reader: _Reader) -> None:
    """Pass on what the last token adds to the text, and that it was the last."""
    reader.pieces.put(torch.tensor(reader.row.written[-1:]))
    if reader.row.done:
        reader.pieces.end()
    if piece := reader.pieces.take():
        reader.queue.put(piece)
    if reader.row.done:
        reader.queue.put(None)
