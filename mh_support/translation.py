"""Conversations in the person's language: into English by a translation model, and the reply back by another.

What goes wrong in translation goes wrong silently, so every sentence is checked: one that comes out empty, in circles
or unfinished, that the model cannot read, or whose numbers or addresses change, is not used. A message that cannot be
translated is answered by saying so; a sentence of the reply that cannot is shown in English. The crisis check reads the
message as it was written and its translation.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

from mh_support.dialogue import Message, check_messages
from mh_support.extras import how_to_install
from mh_support.safety import Resources, check_reply
from mh_support.support_bot import ReplyStream, SupportBot

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

UNTRANSLATED = (
    "What you wrote could not be translated well enough to answer it. Please say it in other words and in shorter"
    " sentences, or in English. If you or somebody else is in danger, please call {emergency} now; {directories} list"
    " people who listen, in most countries and at no cost."
)
IN_ENGLISH = "(This could not be translated safely, so here it is in English:)"
MAX_CHARACTERS, MAX_SENTENCES = 8_000, 100
_BATCH = 16  # Sentences at once, which takes little longer than one.
_BEAMS = 4
_MAX_REPEATS = 3  # The same few tokens more often in a row are a model going in circles, unless its source does too.
# After a full stop or its kin with a space after it; after that of Chinese and Japanese without one; at a line's end.
_SENTENCES = re.compile(
    r"(?<=[.!?\u2026\u061f\u06d4\u0964])[\"')\]\u00bb\u201d]*[^\S\n]+|(?<=[\u3002\uff01\uff1f])|(\s*\n\s*)"
)
_THOUSANDS = re.compile(r"(?<=\d)[.,'\u2019\u00a0\u202f ](?=\d{3}(?!\d))")
_ADDRESSES = re.compile(r"https?://|www\.|@|\b\w+\.(?:com|org|net)\b", re.IGNORECASE)


class Untranslatable(ValueError):
    """A text that cannot be translated safely; the message says why, without its words.

    `understood` is what came out all the same: not to be shown, but a crisis in it is not to be passed over.
    """

    def __init__(self, message: str, understood: str = "") -> None:
        super().__init__(message)
        self.understood = understood


class Translator:
    """Two translation models, into English and out of it. Safe from any thread.

    Example:
        >>> translator = Translator.from_pretrained("Helsinki-NLP/opus-mt-de-en", "Helsinki-NLP/opus-mt-en-de")
        >>> translator.to_english("Ich fühle mich allein.")
        'I feel alone.'
    """

    def __init__(self, to_english: _Direction, from_english: _Direction) -> None:
        self._to_english, self._from_english = to_english, from_english

    @classmethod
    def from_pretrained(cls, to_english: str, from_english: str, *, prefix: str = "") -> Translator:
        """Load Marian models, or other sequence-to-sequence ones that need no more than a text, by folder or Hub id.

        `prefix` chooses the language of a `from_english` model that has several, such as ">>por<<".

        Raises:
            ValueError: no such model, or it cannot be reached.
        """
        return cls(_Direction.from_pretrained(to_english), _Direction.from_pretrained(from_english, prefix=prefix))

    def to_english(self, text: str) -> str:
        """Translate a person's text. Raises `Untranslatable`, a ValueError, where that is not safe."""
        return self._to_english(text)

    def from_english(self, text: str) -> str:
        """Translate a text for the person. Raises `Untranslatable`, a ValueError, where that is not safe."""
        translated = self._from_english(text)
        if _numbers(text) != _numbers(translated):
            raise Untranslatable("a number was made up in translation")
        return translated


class _Direction:
    """One model, given single sentences, as these models were in training."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefix: str = "") -> None:
        self._model, self._tokenizer, self._prefix = model.eval(), tokenizer, prefix
        self._max_tokens = int(getattr(model.config, "max_position_embeddings", 512))
        self._lock = Lock()  # Marian's tokenizer switches between its languages.

    @classmethod
    def from_pretrained(cls, name_or_path: str, *, prefix: str = "") -> _Direction:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            model = AutoModelForSeq2SeqLM.from_pretrained(name_or_path)
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        except ImportError as error:
            raise ValueError(
                f"translation needs packages that are not installed; {how_to_install('translation')}"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            raise ValueError(
                f"no translation model can be loaded from {name_or_path} ({reason}); check the id or the folder"
            ) from error
        return cls(model, tokenizer, prefix)

    def __call__(self, text: str) -> str:
        if len(text) > MAX_CHARACTERS:
            raise Untranslatable(f"the text has {len(text)} characters; at most {MAX_CHARACTERS} are translated")
        parts = list(_sentences(text))
        # What holds no word, such as an emoji, means the same everywhere.
        spoken = [place for place, (sentence, _) in enumerate(parts) if any(map(str.isalpha, sentence))]
        if len(spoken) > MAX_SENTENCES:
            raise Untranslatable(f"the text has {len(spoken)} sentences; at most {MAX_SENTENCES} are translated")
        outcomes = chain.from_iterable(
            self._translated([parts[place][0] for place in batch]) for batch in _batches(spoken)
        )
        failures = []
        for place, outcome in zip(spoken, outcomes, strict=True):
            if isinstance(outcome, Untranslatable):
                failures.append(outcome)
            parts[place] = (outcome.understood if isinstance(outcome, Untranslatable) else outcome, parts[place][1])
        whole = "".join(map("".join, parts)).strip()
        if failures:
            raise Untranslatable(str(failures[0]), whole)
        if not whole:
            raise Untranslatable("there is nothing to translate")
        return whole

    def _translated(self, sentences: Sequence[str]) -> Iterator[str | Untranslatable]:
        """Yield the translation of each sentence, or why there is none."""
        sources = [self._ids(sentence) for sentence in sentences]
        readable = [source for source in sources if not isinstance(source, Untranslatable)]
        targets = iter(self._generate(readable) if readable else [])
        for sentence, source in zip(sentences, sources, strict=True):
            try:
                yield source if isinstance(source, Untranslatable) else self._checked(sentence, source, next(targets))
            except Untranslatable as failure:
                yield failure

    def _generate(self, sources: Sequence[list[int]]) -> list[list[int]]:
        import torch

        width = max(map(len, sources))
        ids = [source + [self._tokenizer.pad_token_id] * (width - len(source)) for source in sources]
        mask = [[1] * len(source) + [0] * (width - len(source)) for source in sources]
        with torch.inference_mode():
            targets: Any = self._model.generate(
                input_ids=torch.tensor(ids, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                max_length=None,
                max_new_tokens=min(self._max_tokens, 3 * width + 16) - 1,
                num_beams=_BEAMS,
                do_sample=False,
            )
        return list(targets.tolist())

    def _checked(self, sentence: str, source: Sequence[int], target: list[int]) -> str:
        """Return a translation's text. Raises `Untranslatable` where it cannot be relied on."""
        end = self._tokenizer.eos_token_id
        ended = end in target[1:]
        target = target[1 : target.index(end, 1) if ended else None]
        with self._lock:
            translated = str(self._tokenizer.decode(target, skip_special_tokens=True)).strip()
        problems = {
            "the translation did not come to an end": not ended,
            "nothing came out of the translation": not any(map(str.isalpha, translated)),
            "the translation holds a sign that is not known": self._tokenizer.unk_token_id in target,
            "the translation goes in circles": _repeats(target) > max(_MAX_REPEATS, _repeats(source)),
            # Long sentences are cut short silently; no two languages differ as much in length.
            "much was lost in translation": 3 * len(target) + 8 < len(source),
            "a number was lost in translation": bool(_numbers(sentence) - _numbers(translated)),
            "an address was changed in translation": len(_ADDRESSES.findall(sentence))
            != len(_ADDRESSES.findall(translated)),
        }
        for problem, found in problems.items():
            if found:
                raise Untranslatable(problem, translated)
        return translated

    def _ids(self, sentence: str) -> list[int] | Untranslatable:
        with self._lock:
            pieces = self._tokenizer.tokenize(sentence)
            ids = self._tokenizer(f"{self._prefix} {sentence}".strip())["input_ids"]
            unknown = [
                piece
                for piece in pieces
                if self._tokenizer.convert_tokens_to_ids(piece) == self._tokenizer.unk_token_id
            ]
        if any(map(str.isalpha, "".join(unknown))):
            return Untranslatable("the translation model does not know these letters")
        if len(ids) > self._max_tokens:
            return Untranslatable("a sentence is too long for the translation model; say it in shorter ones")
        return list(ids)


class TranslatingBot:
    """A `SupportBot` for conversations in the translator's language; the same `stream` and `reply`.

    A reply's `kind` is "untranslated" where the person's message could not be translated, and `text` says so.

    Args:
        bot: answers in English.
        translator: goes between.
        remember: how many translations of earlier messages are kept in memory, so that each turn translates only what
            is new. They are what people wrote: make one bot for each conversation, which ends with it, or leave this 0.
        untranslated: what is said then, best in the person's language, with {emergency} and {directories} for people
            who can help.
        in_english: what is said before a sentence that is shown in English.
    """

    def __init__(
        self,
        bot: SupportBot,
        translator: Translator,
        *,
        remember: int = 0,
        untranslated: str = UNTRANSLATED,
        in_english: str = IN_ENGLISH,
    ) -> None:
        self.bot, self.translator = bot, translator
        # What was written is looked at by the rules alone: the classifiers read English.
        self._rules = copy(bot)
        self._rules.classifiers = ()
        self._statement, self._in_english = _with_services(untranslated, bot.resources), in_english
        self._remember, self._remembered = remember, OrderedDict[str, str]()
        self._remembering = Lock()

    @property
    def model(self) -> Any:
        """The model that replies in English."""
        return self.bot.model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.bot.tokenizer

    @property
    def config(self) -> GenerationConfig:
        """How it generates."""
        return self.bot.config

    def reply(self, messages: Sequence[Message]) -> str:
        """Return a whole reply; raises as `SupportBot.reply` does."""
        return self.stream(messages).whole()

    def stream(self, messages: Sequence[Message], *, config: GenerationConfig | None = None) -> ReplyStream:
        """Return a reply that comes sentence by sentence; raises as `SupportBot.stream` does."""
        conversation = check_messages(messages)
        # Assessed as it was written; the model is not asked unless this stream is read.
        written = self._rules.stream(conversation, config=config)
        if written.kind == "crisis":
            return self._crisis(written)
        translated = [*self._earlier(conversation[:-1])]
        try:
            latest, failed = self._to_english(conversation[-1]["content"]), False
        except Untranslatable as failure:
            latest, failed = failure.understood, True
        if latest:
            # And as it is translated, be it in part.
            english = self.bot.stream([*translated, {"role": "user", "content": latest}], config=config)
            if english.kind == "crisis":
                return self._crisis(english)
        if failed:
            return ReplyStream("untranslated", iter([self._statement]))
        stream = ReplyStream(english.kind, iter(()))
        stream._pieces = self._pieces(english, stream)
        return stream

    def _earlier(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Yield earlier turns in English; what could not be translated was said to be so in its time."""
        for message in messages:
            try:
                yield {**message, "content": self._to_english(message["content"])}
            except Untranslatable as failure:
                if message["role"] == "user":
                    yield {**message, "content": failure.understood}

    def _crisis(self, english: ReplyStream) -> ReplyStream:
        """Return the words as they were written, which nothing can mistranslate or hold up, and then a translation."""

        def pieces() -> Iterator[str]:
            yield from english
            try:
                yield f"\n\n{self._from_english(english.text, english.text)}"
            except Untranslatable:
                return

        return ReplyStream("crisis", pieces())

    def _pieces(self, english: ReplyStream, stream: ReplyStream) -> Iterator[str]:
        """Yield each sentence of a checked reply in the person's language, or in English where that is not safe."""
        said = False
        try:
            for piece in english:
                stream.kind = english.kind
                try:
                    sentence = self._from_english(piece, english.text)
                except Untranslatable:
                    sentence, said = piece.strip() if said else f"{self._in_english} {piece.strip()}", True
                yield sentence + piece[len(piece.rstrip()) :]
        finally:
            english.close()
        self._keep(stream.text.strip(), english.text.strip())

    def _from_english(self, text: str, so_far: str) -> str:
        """Translate what was checked in English, unless its translation no longer passes that check."""
        translated = self.translator.from_english(text)
        before = so_far[: len(so_far) - len(text)]
        if check_reply(before + text).ok and not check_reply(before + self.translator.to_english(translated)).ok:
            raise Untranslatable("the translation says something that may not be said")
        return translated

    def _to_english(self, text: str) -> str:
        with self._remembering:
            if text in self._remembered:
                self._remembered.move_to_end(text)
                return self._remembered[text]
        english = self.translator.to_english(text)
        self._keep(text, english)
        return english

    def _keep(self, text: str, english: str) -> None:
        with self._remembering:
            self._remembered[text] = english
            while len(self._remembered) > self._remember:
                self._remembered.popitem(last=False)


def _with_services(statement: str, resources: Resources) -> str:
    directories = " and ".join(directory.address for directory in resources.directories)
    return statement.replace("{emergency}", resources.emergency).replace("{directories}", directories)


def _batches(places: Sequence[int]) -> Iterator[Sequence[int]]:
    return (places[start : start + _BATCH] for start in range(0, len(places), _BATCH))


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield each sentence with what stands between it and the next."""
    start = 0
    for match in _SENTENCES.finditer(text):
        end = match.start() + len(match.group().rstrip()) if match.group(1) is None else match.start()
        yield text[start:end], text[end : match.end()]
        start = match.end()
    yield text[start:], ""


def _numbers(text: str) -> Counter[str]:
    """Count the numbers in a text, in the digits of any script, however thousands are parted."""
    plain = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)
    return Counter(re.findall(r"\d+", _THOUSANDS.sub("", plain)))


def _repeats(ids: Sequence[int]) -> int:
    """Return how often in a row the same one to six tokens come."""
    most = 1
    for width in range(1, 7):
        run = 0
        for place in range(width, len(ids)):
            run = run + 1 if ids[place] == ids[place - width] else 0
            most = max(most, run // width + 1)
    return most
