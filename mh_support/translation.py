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
from threading import Lock
from typing import TYPE_CHECKING, Any

from mh_support.dialogue import Message, check_messages
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
MAX_CHARACTERS = 8_000
_BEAMS = 4
_MAX_REPEATS = 3  # The same few tokens more often in a row are a model going in circles, unless its source does too.
# After a full stop or its kin with a space after it; after that of Chinese and Japanese without one; at a line's end.
_SENTENCES = re.compile(
    r"(?<=[.!?\u2026\u061f\u06d4\u0964])[\"')\]\u00bb\u201d]*[^\S\n]+|(?<=[\u3002\uff01\uff1f])|(\s*\n\s*)"
)
_THOUSANDS = re.compile(r"(?<=\d)[.,'\u2019\u00a0\u202f ](?=\d{3}(?!\d))")
_ADDRESSES = re.compile(r"https?://|www\.|@|\b\w+\.(?:com|org|net)\b", re.IGNORECASE)


class Untranslatable(ValueError):
    """A text that cannot be translated safely; the message says why, without its words."""


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
    """One model, which translates a sentence at a time, as these models are trained to."""

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
                "translation needs packages that are not installed; run: pip install 'mh-support[translation]'"
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
        parts = []
        for sentence, gap in _sentences(text):
            # What holds no word, such as an emoji, means the same everywhere.
            parts += [self._translated(sentence) if any(map(str.isalpha, sentence)) else sentence, gap]
        translated = "".join(parts).strip()
        if not translated:
            raise Untranslatable("there is nothing to translate")
        return translated

    def _translated(self, sentence: str) -> str:
        import torch

        source = self._ids(sentence)
        room = min(self._max_tokens, 3 * len(source) + 16)
        with torch.inference_mode():
            output: Any = self._model.generate(
                input_ids=torch.tensor([source], device=self._model.device),
                attention_mask=torch.ones(1, len(source), dtype=torch.long, device=self._model.device),
                max_length=None,
                max_new_tokens=room - 1,
                num_beams=_BEAMS,
                do_sample=False,
            )
        target = output[0].tolist()
        with self._lock:
            translated = str(self._tokenizer.decode(target, skip_special_tokens=True)).strip()
        self._check(sentence, source, target, translated)
        return translated

    def _ids(self, sentence: str) -> list[int]:
        with self._lock:
            pieces = self._tokenizer.tokenize(sentence)
            ids = self._tokenizer(f"{self._prefix} {sentence}".strip())["input_ids"]
            unknown = [
                piece
                for piece in pieces
                if self._tokenizer.convert_tokens_to_ids(piece) == self._tokenizer.unk_token_id
            ]
        if any(map(str.isalpha, "".join(unknown))):
            raise Untranslatable("the translation model does not know these letters")
        if len(ids) > self._max_tokens:
            raise Untranslatable("a sentence is too long for the translation model; say it in shorter ones")
        return list(ids)

    def _check(self, sentence: str, source: Sequence[int], target: Sequence[int], translated: str) -> None:
        if not any(map(str.isalpha, translated)):
            raise Untranslatable("nothing came out of the translation")
        if self._tokenizer.eos_token_id not in target[1:]:
            raise Untranslatable("the translation did not come to an end")
        if self._tokenizer.unk_token_id in target:
            raise Untranslatable("the translation holds a sign that is not known")
        if _repeats(target) > max(_MAX_REPEATS, _repeats(source)):
            raise Untranslatable("the translation goes in circles")
        if _numbers(sentence) - _numbers(translated):
            raise Untranslatable("a number was lost in translation")
        if len(_ADDRESSES.findall(sentence)) != len(_ADDRESSES.findall(translated)):
            raise Untranslatable("an address was changed in translation")


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
        stream = self.stream(messages)
        for _ in stream:
            pass
        return stream.text

    def stream(self, messages: Sequence[Message], *, config: GenerationConfig | None = None) -> ReplyStream:
        """Return a reply that comes sentence by sentence; raises as `SupportBot.stream` does."""
        conversation = check_messages(messages)
        # Assessed as it was written; the model is not asked unless this stream is read.
        written = self.bot.stream(conversation, config=config)
        if written.kind == "crisis":
            return self._crisis(written)
        try:
            latest = {"role": "user", "content": self._to_english(conversation[-1]["content"])}
        except Untranslatable:
            return ReplyStream("untranslated", iter([self._statement]))
        # And as it is translated.
        english = self.bot.stream([*self._earlier(conversation[:-1]), latest], config=config)
        if english.kind == "crisis":
            return self._crisis(english)
        stream = ReplyStream(english.kind, iter(()))
        stream._pieces = self._pieces(english, stream)
        return stream

    def _earlier(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Yield earlier turns in English; one that cannot be translated was said to be so in its time."""
        for message in messages:
            try:
                yield {**message, "content": self._to_english(message["content"])}
            except Untranslatable:
                continue

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
