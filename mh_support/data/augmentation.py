"""More training dialogues from few: what the person said, said a little differently; replies stay as they were.

Off by default. Rows of the training split alone are augmented, each new row is marked with how it was made, and a
dialogue in which anything hints at risk is never touched: a word changed there may change what it means.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mh_support.dialogue import Message
from mh_support.safety import assess

if TYPE_CHECKING:
    from nltk.corpus.reader.wordnet import Lemma, WordNetCorpusReader

METHODS = {
    "synonyms": "words of the person changed for synonyms",
    "shorten": "sentences of the person left out",
    "drop_turns": "earlier exchanges left out",
    "paraphrase": "the person's turns paraphrased by a model",
    "back_translation": "the person's turns translated there and back by two models",
}
WORDNET = "/usr/share/wordnet"  # Where Debian's package wordnet-base puts it.
# A word is changed only if this share of its uses has the one meaning, by WordNet's counts, and so has its synonym's.
DOMINANT = 0.7
CHANGED = 0.5  # Share of the words with a synonym that are changed.
# Three letters or more that no apostrophe or hyphen makes part of a longer word.
_WORD = re.compile(r"(?<![\w'\u2019-])[A-Za-z]{3,}(?![\w'\u2019-])")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_VOWELS = frozenset("aeiou")
_LEXNAMES = 45

Rewrite = Callable[[Sequence[Message], random.Random], list[Message] | None]


def augment(
    dialogues: Sequence[Sequence[Message]], at_risk: Sequence[bool], rewrite: Rewrite, *, seed: str
) -> Iterator[tuple[list[Message] | None, str]]:
    """Yield for each dialogue a changed one and `added`, or None and why there is none: `risk` or `unchanged`.

    What a change makes is looked at as well: a dialogue that hints at risk only afterwards is not added.

    Args:
        dialogues: the training dialogues.
        at_risk: what `hint_at_risk_each` says of them; asked once for all ways of augmentation, since it takes longest.
        rewrite: from `rewriter`.
        seed: the same seed gives the same changes.
    """
    generator = random.Random(seed)
    for messages, risk in zip(dialogues, at_risk, strict=True):
        if risk:
            yield None, "risk"
            continue
        changed = rewrite(messages, generator)
        if changed is None or changed == list(messages):
            yield None, "unchanged"
        elif hints_at_risk(changed):
            yield None, "risk"
        else:
            yield changed, "added"


def rewriter(
    method: str, *, wordnet: str, paraphrase_model: str | None, back_translation_models: Sequence[str]
) -> Rewrite:
    """Return what changes a dialogue by `method`.

    Raises:
        ValueError: its dictionary or its models are missing.
    """
    if method == "synonyms":
        dictionary = load_wordnet(wordnet)
        return lambda messages, generator: with_synonyms(messages, dictionary, generator)
    if method in ("shorten", "drop_turns"):
        return {"shorten": shortened, "drop_turns": without_turns}[method]
    names = [paraphrase_model] if paraphrase_model and method == "paraphrase" else []
    if method == "back_translation":
        names = list(back_translation_models)
    return _by_models([_load_seq2seq(name) for name in names])


def hints_at_risk(messages: Sequence[Message]) -> bool:
    """Say whether anything that the person said, at any turn, is more than nothing to the crisis check."""
    turns = range(1, len(messages) + 1)
    return any(assess(messages[:end]).level != "none" for end in turns if messages[end - 1]["role"] == "user")


def hint_at_risk_each(dialogues: Iterable[Sequence[Message]]) -> list[bool]:
    """Return what `hints_at_risk` says of each; what was said once and answered by many is looked at once."""
    found: dict[tuple[str, ...], bool] = {}
    each = []
    for messages in dialogues:
        last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)
        said = tuple(f"{message['role']} {message['content']}" for message in messages[: last + 1])
        if said not in found:
            found[said] = hints_at_risk(messages)
        each.append(found[said])
    return each


def with_synonyms(
    messages: Sequence[Message], wordnet: WordNetCorpusReader, generator: random.Random
) -> list[Message] | None:
    """Change about half of the person's words that have a safe synonym; None where none has."""
    changed = 0

    def change(match: re.Match[str]) -> str:
        nonlocal changed
        word = match.group()
        found = synonyms(word.lower(), wordnet) if word[1:].islower() else ()
        if not found or generator.random() > CHANGED:
            return word
        changed += 1
        other = generator.choice(found)
        return other.capitalize() if word[0].isupper() else other

    said = _of_the_person(messages, lambda text: _WORD.sub(change, text))
    return said if changed else None


def shortened(messages: Sequence[Message], generator: random.Random) -> list[Message] | None:
    """Leave out about half of the sentences of each of the person's turns, in order, at least one kept."""

    def shorten(text: str) -> str:
        sentences = _SENTENCE_END.split(text)
        if len(sentences) < 2:
            return text
        kept = sorted(generator.sample(range(len(sentences)), generator.randint(1, len(sentences) - 1)))
        return " ".join(sentences[place] for place in kept)

    return _of_the_person(messages, shorten)


def without_turns(messages: Sequence[Message], generator: random.Random) -> list[Message] | None:
    """Leave out some of the earlier exchanges, the last one always kept; None where there is but one."""
    exchanges: list[list[Message]] = []
    for message in messages:
        if message["role"] == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(dict(message))
    if len(exchanges) < 2:
        return None
    earlier = range(len(exchanges) - 1)
    kept = sorted(generator.sample(earlier, generator.randint(0, len(earlier) - 1)))
    return [message for place in [*kept, len(exchanges) - 1] for message in exchanges[place]]


@cache
def load_wordnet(folder: str) -> WordNetCorpusReader:
    """Return WordNet from a folder of its dictionary files, such as Debian's.

    Raises:
        ValueError: there is none.
    """
    path = Path(folder)
    if not (path / "data.noun").is_file():
        raise ValueError(
            f"no WordNet at {folder}; on Debian run: apt-get install wordnet-base, or name its folder with --wordnet"
        )
    import warnings

    import nltk.data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        """nltk's reader, content without what only other languages need and Debian leaves out."""

        def open(self, file: str) -> Any:
            if file == "lexnames":  # Names of topics, which nothing here asks for.
                return StringIO("".join(f"{number:02} topic{number} 0\n" for number in range(_LEXNAMES)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            return None

    # nltk reads only where it was told that it may.
    if str(path) not in nltk.data.path:
        nltk.data.path.append(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That other languages are missing.
        return Reader(str(path), None)


@cache
def synonyms(word: str, wordnet: WordNetCorpusReader) -> tuple[str, ...]:
    """Return the words that can stand for `word`: of the same, clearly most frequent meaning, and themselves in use.

    The counts are of WordNet's sense-tagged texts. Without a tagger nobody knows which meaning is meant here, so words
    of several meanings stay. Only base forms are looked up, and a vowel at the front is kept, for "a" and "an".
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    own = _dominant(word, wordnet)
    if word in ENGLISH_STOP_WORDS or own is None:
        return ()
    found = []
    for lemma in own.synset().lemmas():
        other = lemma.name()
        in_use = lemma.count() > 0 and other != word and other.isalpha() and other.islower()
        if in_use and (other[0] in _VOWELS) == (word[0] in _VOWELS) and _dominant(other, wordnet) == lemma:
            found.append(other)
    return tuple(sorted(found))


def _dominant(word: str, wordnet: WordNetCorpusReader) -> Lemma | None:
    """Return the word in its clearly most frequent meaning, if it has one."""
    lemmas = [lemma for synset in wordnet.synsets(word) for lemma in synset.lemmas() if lemma.name() == word]
    counts = [lemma.count() for lemma in lemmas]
    if not counts or max(counts) == 0 or max(counts) < DOMINANT * sum(counts):
        return None
    return lemmas[counts.index(max(counts))]


def _of_the_person(messages: Sequence[Message], change: Callable[[str], str]) -> list[Message]:
    return [
        {"role": message["role"], "content": change(message["content"])} if message["role"] == "user" else dict(message)
        for message in messages
    ]


def _by_models(models: Sequence[Callable[[str, int], str]]) -> Rewrite:
    """Return what sends the person's turns through models in a row; None where one of them has nothing to say."""

    def rewrite(messages: Sequence[Message], generator: random.Random) -> list[Message] | None:
        def through(text: str) -> str:
            for model in models:
                text = model(text, generator.getrandbits(32)) if text else ""
            return text

        said = _of_the_person(messages, through)
        return said if all(message["content"] for message in said) else None

    return rewrite


def _load_seq2seq(name: str) -> Callable[[str, int], str]:
    """Return what one sequence-to-sequence model makes of a text; a seed gives the same text again."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name} is no sequence-to-sequence model that can be loaded; give its folder or id"
        ) from error

    def generate(text: str, seed: int) -> str:
        ids = tokenizer(text, return_tensors="pt", truncation=True)["input_ids"]
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(seed)
            output = model.generate(input_ids=ids, do_sample=True, top_p=0.9, max_new_tokens=2 * ids.shape[1] + 10)
        return str(tokenizer.decode(output[0], skip_special_tokens=True)).strip()

    return generate


def count_outcomes(outcomes: Sequence[str]) -> dict[str, int]:
    """Return how many dialogues were changed, kept out for risk, and could not be changed."""
    counts = Counter(outcomes)
    return {outcome: counts[outcome] for outcome in ("added", "risk", "unchanged")}
