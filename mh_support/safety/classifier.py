"""Trained classifiers beside the rules: what is wrong with a text, though no phrase of it says so?

A small sentence encoder reads each text; adapters and a head, trained on texts written for this project, say what it is
about. One reads what people write, one what the model replies. Each adds to what the rules find and takes nothing away.
recipes/train_crisis_classifier.py and recipes/train_reply_classifier.py train them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mh_support.files import replacing
from mh_support.safety.identities import neutral
from mh_support.safety.languages import is_foreign
from mh_support.safety.plain_words import without_disguises
from mh_support.safety.together import Together

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from mh_support.safety.encoder import Member

CRISIS_CLASSIFIER = Path(__file__).resolve().parent / "crisis_classifier.safetensors"
REPLY_CLASSIFIER = Path(__file__).resolve().parent / "reply_classifier.safetensors"
# Longer texts are read in windows of so many tokens, each beginning so many before the last one's end. A letter of 130
# words fits in one: parts of a letter look more alarming than the whole.
WINDOW, OVERLAP = 192, 64
# What a person says in a word or two is too little for a classifier that has read whole messages, and so are several
# such turns that are no more than this together, and greetings and thanks; the rules read them.
FEWEST_WORDS, FEWEST_TOGETHER = 3, 5
_PLEASANTRY = re.compile(
    "hi|hello|hey|ok|okay|yes|yeah|thanks|thank|you|too|bye|goodbye|good|morning|evening|night|lol"
)
# Spaces need not part words, as in "can't.go.on".
_WORDS = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
# Tokens that are read at once, padding among them, since more would take more memory; and how many of their own one may
# have read before others have their turn.
_BATCH, _TURN = 2_048, 3 * 2_048


@dataclass(frozen=True)
class Suspicion:
    """What a classifier takes a text for: a message for a "concern" or a "crisis", a reply for one to be "refused"."""

    level: str
    category: str


class Suspects(Protocol):
    """What the checks ask beside their rules: a trained classifier, or a model from the Hub."""

    def suspect(self, texts: Sequence[str]) -> Sequence[Suspicion | None]:
        """Say of each text which level it reaches, and what about; None where it reaches none."""


@dataclass(frozen=True)
class About:
    """What a classifier's numbers mean.

    Args:
        names: what a text may be about, in the order of the logits after that of nothing wrong.
        thresholds: the levels, lowest first, each with the log-odds of something wrong from which on it is reached.
        rank: of the adapters.
        unsure: the name given where none of them has half of what is wrong; None gives the likeliest.
        leaves_short: whether a word or two are left to the rules.
    """

    names: tuple[str, ...]
    thresholds: Mapping[str, float]
    rank: int
    unsure: str | None = None
    leaves_short: bool = False

    def level(self, odds: float) -> str | None:
        """Return the highest level that these log-odds reach, or None."""
        reached = [level for level, threshold in self.thresholds.items() if odds >= threshold]
        return reached[-1] if reached else None


@dataclass(frozen=True)
class TextClassifier:
    """One or more encoders with their heads, whose opinions are averaged, their tokenizer, and what it all means."""

    members: tuple[Member, ...] = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    about: About
    _together: Together[list[int], tuple[float, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_together", Together(self._read_windows))

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        """Return each text's log-odds of something wrong, `(texts,)`; of a long text, those of its worst window.

        Of a text that is clearly not English, or of a word or two where these are left to the rules, they are minus
        infinity: the classifier would guess.
        """
        return self._read(texts)[0]

    def suspect(self, texts: Sequence[str]) -> list[Suspicion | None]:
        """Say of each text which level it reaches and what it is about; None where it reaches none."""
        found: list[Suspicion | None] = []
        for odds, kind in zip(*self._read(texts), strict=True):
            level = self.about.level(odds)
            found.append(None if level is None else Suspicion(level, self.about.names[kind]))
        return found

    def save(self, path: Path) -> None:
        """Write adapters and heads to one file in half precision, whole or not at all."""
        from safetensors.torch import save_file

        from mh_support.safety.encoder import own_state

        tensors = {
            f"{number}.{name}": tensor.detach().half().contiguous()
            for number, member in enumerate(self.members)
            for name, tensor in own_state(member).items()
        }
        about = json.dumps({**asdict(self.about), "members": len(self.members)})
        with replacing(path) as draft:
            save_file(tensors, draft, metadata={"about": about})

    def _read(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-odds of something wrong and the likeliest name of each text, both `(texts,)`."""
        import numpy as np

        odds, kinds = np.full(len(texts), -np.inf), np.zeros(len(texts), dtype=int)
        # A few at a time, so that nobody waits for all of somebody's long text.
        for some in _turns(self._windows(texts)):
            for (owner, _), (value, kind) in zip(some, self._together([ids for _, ids in some]), strict=True):
                if value > odds[owner]:
                    odds[owner], kinds[owner] = value, kind
        return odds, kinds

    def _read_windows(self, windows: Sequence[list[int]]) -> list[tuple[float, int]]:
        """Return the log-odds of something wrong and the likeliest name of each window of tokens."""
        import torch

        found: dict[int, tuple[float, int]] = {}
        for numbers in batches([len(window) for window in windows]):
            batch = self.tokenizer.pad({"input_ids": [windows[number] for number in numbers]}, return_tensors="pt")
            with torch.inference_mode():
                logits = torch.stack([member(**batch).log_softmax(-1) for member in self.members]).mean(0)
            wrong = logits[:, 1:].logsumexp(-1) - logits[:, 0]
            shares, named = logits[:, 1:].softmax(-1).max(-1)
            if self.about.unsure is not None:
                named = torch.where(shares >= 0.5, named, self.about.names.index(self.about.unsure))
            found.update(zip(numbers, zip(wrong.tolist(), named.tolist(), strict=True), strict=True))
        return [found[number] for number in range(len(windows))]

    def _windows(self, texts: Sequence[str]) -> list[tuple[int, list[int]]]:
        """Return windows of tokens, each with the number of its text."""
        plain = [(number, without_disguises(text)) for number, text in enumerate(texts)]
        read = [
            (number, neutral(text))
            for number, text in plain
            if (_says_enough(text) or not self.about.leaves_short) and text.strip() and not is_foreign(text)
        ]
        if not read:
            return []
        numbers, said = zip(*read, strict=True)
        encoded = self.tokenizer(
            list(said),
            truncation=True,
            max_length=WINDOW,
            stride=OVERLAP,
            return_overflowing_tokens=True,
        )
        owners = [numbers[place] for place in encoded["overflow_to_sample_mapping"]]
        return list(zip(owners, encoded["input_ids"], strict=True))


def _turns(windows: Sequence[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
    turn: list[tuple[int, list[int]]] = []
    for window in windows:
        if turn and sum(len(ids) for _, ids in turn) + len(window[1]) > _TURN:
            yield turn
            turn = []
        turn.append(window)
    if turn:
        yield turn


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the numbers of windows to be read at once, those of like length together, so that little is padded.

    >>> list(batches([1_500, 20, 1_500, 30]))
    [[1, 3], [0], [2]]
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        # The longest yet: all others are padded to its length.
        if batch and (len(batch) + 1) * lengths[number] > _BATCH:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _says_enough(text: str) -> bool:
    """Whether one of the turns, which empty lines part, or all of them together, are more than a word or two."""
    words = [
        sum(not _PLEASANTRY.fullmatch(word) for word in _WORDS.findall(turn.lower())) for turn in text.split("\n\n")
    ]
    return max(words) >= FEWEST_WORDS or sum(words) >= FEWEST_TOGETHER


def as_read(text: str) -> str:
    """Return a text as classifiers read it, in training too: without disguises, and blind to who speaks.

    >>> as_read("My name is Fatima and n o b o d y cares.")
    'My name is person and nobody cares.'
    """
    return neutral(without_disguises(text))


def crisis_classifier(path: Path = CRISIS_CLASSIFIER) -> TextClassifier:
    """Return the classifier of what people write that comes with the package, read once.

    Raises:
        ValueError: the file is missing or damaged, or the encoder's package is not installed.
    """
    return _classifier("crisis", path)


def reply_classifier(path: Path = REPLY_CLASSIFIER) -> TextClassifier:
    """Return the classifier of replies that comes with the package, read once; raises as `crisis_classifier` does."""
    return _classifier("reply", path)


@cache
def _classifier(name: str, path: Path) -> TextClassifier:
    from safetensors import SafetensorError, safe_open

    from mh_support.safety.encoder import encoder_tokenizer, load_member

    try:
        with safe_open(path, framework="pt") as file:
            raw = json.loads(file.metadata()["about"])
            count, names = raw.pop("members"), tuple(raw.pop("names"))
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        about = About(names=names, **raw)
        states = [
            {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{number}.")}
            for number in range(count)
        ]
        members = tuple(load_member(state, 1 + len(names), about.rank) for state in states)
    except (OSError, SafetensorError, LookupError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"the {name} classifier {path} cannot be read ({line}); install the package again") from error
    return TextClassifier(members, encoder_tokenizer(), about)
