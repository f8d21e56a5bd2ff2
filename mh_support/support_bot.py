"""The one reply path: whatever answers a person goes through `SupportBot`.

First the conversation is looked at for a crisis, and in one the reply is never the model's. Otherwise the model writes,
and each sentence is checked before it is shown. A model of which too much is refused is asked no more.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mh_support.dialogue import Message, check_messages
from mh_support.generation import generate_replies, generation_config, stream_reply
from mh_support.modeling import load_model, load_tokenizer, model_path
from mh_support.safety import asked_about, assess, check_in, crisis_reply, resources_for, safe_reply
from mh_support.safety.classifier import crisis_classifier, reply_classifier
from mh_support.safety.counts import ReplyCounts
from mh_support.safety.echoes import Echoes
from mh_support.safety.fitness import why_unfit
from mh_support.safety.reply_check import SENTENCE_END, beginnings
from mh_support.safety.trust import Trust

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from mh_support.batching import ReplyBatcher
    from mh_support.safety import Suspects
    from mh_support.safety.crisis import Assessment

_logger = logging.getLogger(__name__)

ATTEMPTS = 4  # The first reply and three more, before a safe one takes their place.
# A concern is not asked about again while one of so many latest replies has asked.
ASKED_LATELY = 6


@dataclass
class ReplyStream:
    """A reply as it comes: iterate for its pieces; `text` is what has come so far.

    `kind` is crisis (written in advance, with people who can help), model (generated and checked), safe (written in
    advance, in the place of what failed the check) or concern (one of the latter two, and a direct question after it).
    """

    kind: str
    _pieces: Iterator[str] = field(repr=False)
    text: str = field(default="", repr=False)

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> str:
        piece = next(self._pieces)
        self.text += piece
        return piece

    def whole(self) -> str:
        """Read to the end, and return the text."""
        for _ in self:
            pass
        return self.text

    def close(self) -> None:
        """Stop the model; what has come stays in `text`."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


class SupportBot:
    """A model with its tokenizer and the checks around it.

    Example:
        >>> bot = SupportBot.from_pretrained("starter")
        >>> for piece in bot.stream([{"role": "user", "content": "I feel alone."}]):
        ...     print(piece, end="")

    Args:
        model: a causal LM, or an adapted one.
        tokenizer: its tokenizer, with a chat template.
        country: ISO 3166 code, such as "GB", of the services to name in a crisis; None names international directories.
            It is only ever set, never guessed from what a person writes.
        config: how replies are generated; by default as they are scored.
        classifiers: what looks for a crisis beside the rules; by default the classifier that comes with the package.
            Others, such as `HubClassifier`, are given beside it: `[crisis_classifier(), HubClassifier(...)]`.
        echoes: what the model has read, not to be repeated; `from_pretrained` finds it beside the model.
        counts: counts replies by kind, without what was said.
        batcher: writes the replies of many conversations at once; without one each is written by itself.
        trust: says when the model is to be asked no more.

    Raises:
        ValueError: a classifier cannot be read: nobody is answered without them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        country: str | None = None,
        config: GenerationConfig | None = None,
        classifiers: Sequence[Suspects] | None = None,
        echoes: Echoes | None = None,
        counts: ReplyCounts | None = None,
        batcher: ReplyBatcher | None = None,
        trust: Trust | None = None,
    ) -> None:
        # Read here, so that a damaged one is found before anybody writes.
        self.classifiers = [crisis_classifier()] if classifiers is None else classifiers
        reply_classifier()
        self.echoes = echoes
        self.batcher = batcher
        self.trust = Trust() if trust is None else trust
        self.counts = ReplyCounts() if counts is None else counts
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.resources = resources_for(country)
        self.config = generation_config(tokenizer) if config is None else config

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str = "starter",
        *,
        revision: str | None = None,
        country: str | None = None,
        classifiers: Sequence[Suspects] | None = None,
        counts: ReplyCounts | None = None,
        **generation: Any,
    ) -> SupportBot:
        """Load a run folder, a saved model, an adapter, a Hub id or `starter`.

        Raises:
            ValueError: no such model, or it cannot be reached.
        """
        tokenizer = load_tokenizer(model_name_or_path, revision=revision)
        model = load_model(model_name_or_path, revision=revision)
        return cls(
            model,
            tokenizer,
            country=country,
            config=generation_config(tokenizer, **generation),
            classifiers=classifiers,
            echoes=Echoes.from_pretrained(model_path(model_name_or_path), revision=revision),
            counts=counts,
        )

    def reply(self, messages: Sequence[Message]) -> str:
        """Return a whole reply to the conversation so far.

        Raises:
            ValueError: no messages, or the last is not the person's.
        """
        return self.stream(messages).whole()

    def stream(self, messages: Sequence[Message], *, config: GenerationConfig | None = None) -> ReplyStream:
        """Return a reply that comes piece by piece, a checked sentence at a time.

        `config` generates this one reply in place of the bot's own settings; with a `seed` it is the same each time.

        Raises:
            ValueError: no messages, or the last is not the person's.
        """
        conversation = check_messages(messages)
        if not conversation or conversation[-1]["role"] != "user":
            raise ValueError("the conversation does not end with something the person said; add a user message")
        assessment = assess(conversation, classifiers=self.classifiers)
        turn = sum(message["role"] == "user" for message in conversation) - 1
        if assessment.is_crisis:
            self.counts.add("crisis", assessment.level, *assessment.categories)
            return ReplyStream("crisis", iter([crisis_reply(assessment, self.resources, turn)]))
        stream = ReplyStream("model", iter(()))
        stream._pieces = self._checked(conversation, stream, turn, self.config if config is None else config)
        if assessment.level == "concern" and not _asked_lately(conversation):
            stream.kind = "concern"
            stream._pieces = self._asking(stream._pieces, assessment, turn)
        return stream

    def try_out(self, conversations: Sequence[Sequence[Message]]) -> Trust:
        """Let the model answer conversations that nobody waits for, so that one that is not fit is known beforehand.

        The replies are dropped. A model that loses what is returned is not to be served; what people will ask for is
        counted anew.
        """
        trial = Trust(self.trust.most_refused)
        for reply in generate_replies(self.model, self.tokenizer, conversations, self.config):
            trial.add(refused=any(self._reasons(part) for part in beginnings(reply.text)))
        return trial

    def _trusted(self, refused: bool) -> None:
        """Count a draft for or against the model; say so when it is one too many."""
        if self.trust.add(refused=refused):
            _logger.warning(
                "%s: the model is asked no more, and all get replies that were written in advance; serve another",
                self.trust,
            )

    def _asking(self, pieces: Iterator[str], assessment: Assessment, turn: int) -> Iterator[str]:
        """Yield the pieces, then the direct question; closed half-way, the pieces are closed too."""
        yield from pieces
        # Counted here: a stream that is only looked at, or stopped, has asked nobody.
        self.counts.add("concern", *assessment.categories)
        yield "\n\n" + check_in(assessment, turn)

    def _checked(
        self, conversation: Sequence[Message], stream: ReplyStream, turn: int, config: GenerationConfig
    ) -> Iterator[str]:
        """Yield sentences that pass; if the first does not, try again, then give a safe reply."""
        for attempt in range(ATTEMPTS):
            if self.trust.lost:
                break
            shown = refused = False
            try:
                for sentence in self._sentences(conversation, _attempted(config, attempt)):
                    # Checked with what went before, since a sentence can be harmful only in its place.
                    reasons = self._reasons(stream.text + sentence)
                    if reasons:
                        self.counts.add("refused", *reasons)
                        refused = True
                        break
                    shown = True
                    yield sentence
                refused = refused or not shown
            finally:
                # Further drafts fail for the same reasons as the first; one closed half-way was fit as far as it came.
                if attempt == 0 and (refused or shown):
                    self._trusted(refused)
            if shown:
                self.counts.add("model")
                return
        if stream.kind == "model":
            stream.kind = "safe"
        self.counts.add("safe")
        yield safe_reply(turn)

    def _reasons(self, reply: str) -> tuple[str, ...]:
        """Return why a reply, or the part of it that has come so far, is not fit to be shown."""
        return why_unfit(reply, echoes=self.echoes)

    def _sentences(self, conversation: Sequence[Message], config: GenerationConfig) -> Iterator[str]:
        """Yield the model's reply sentence by sentence, each with the space that follows it."""
        held = ""
        pieces = self._written(conversation, config)
        try:
            for piece in pieces:
                held += piece
                while (end := SENTENCE_END.search(held)) is not None:
                    yield held[: end.end()]
                    held = held[end.end() :]
        finally:
            pieces.close()  # type: ignore[attr-defined]
        if held.strip():
            yield held.rstrip()

    def _written(self, conversation: Sequence[Message], config: GenerationConfig) -> Iterator[str]:
        """Yield what the model writes, unchecked, piece by piece."""
        if self.batcher is not None:
            return self.batcher.stream(conversation, config)
        return stream_reply(self.model, self.tokenizer, conversation, config)


def _attempted(config: GenerationConfig, attempt: int) -> GenerationConfig:
    """Return the config with a further attempt's own seed, where it has one: the same would write the same again."""
    seed = getattr(config, "seed", None)
    if seed is None or attempt == 0:
        return config
    changed: Any = copy.deepcopy(config)
    changed.seed = seed + attempt
    return changed


def _asked_lately(conversation: Sequence[Message]) -> bool:
    """Whether one of the latest replies asked directly about danger."""
    replies = [message["content"] for message in conversation if message["role"] == "assistant"]
    return any(asked_about(reply) for reply in replies[-ASKED_LATELY:])
