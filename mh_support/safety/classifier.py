"""A trained classifier beside the rules: does a message call for people who can help, though no phrase of it says so?

A small sentence encoder reads each message; adapters and a head, trained on messages written for this project, say what
it is about. It adds to what the rules find and takes nothing away. recipes/train_crisis_classifier.py trains it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mh_support.files import replacing
from mh_support.safety.crisis_rules import SUICIDE
from mh_support.safety.plain_words import without_disguises

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from mh_support.safety.encoder import Member

CLASSIFIER = Path(__file__).resolve().parent / "crisis_classifier.safetensors"
# Longer messages are read in windows of so many tokens, each beginning so many before the last one's end.
WINDOW, OVERLAP = 64, 24
_BATCH = 32


@dataclass(frozen=True)
class Suspicion:
    """What the classifier takes a message for: `level` is "concern" or "crisis"."""

    level: str
    category: str


@dataclass(frozen=True)
class About:
    """What a classifier's numbers mean.

    Args:
        names: the categories, as `assess` calls them, in the order of the logits after that of "safe".
        concern: from which log-odds of danger on a message is a concern.
        crisis: from which log-odds of danger on it is a crisis.
        rank: of the adapters.
    """

    names: tuple[str, ...]
    concern: float
    crisis: float
    rank: int


@dataclass(frozen=True)
class CrisisClassifier:
    """One or more encoders with their heads, whose opinions are averaged, their tokenizer, and what it all means."""

    members: tuple[Member, ...] = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    about: About

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        """Return each text's log-odds of danger, `(texts,)`; of a long text, those of its most alarming window."""
        return self._read(texts)[0]

    def suspect(self, texts: Sequence[str]) -> list[Suspicion | None]:
        """Say of each text whether it is a concern or a crisis, and what about; None where it is neither."""
        found: list[Suspicion | None] = []
        for odds, kind in zip(*self._read(texts), strict=True):
            level = "crisis" if odds >= self.about.crisis else "concern" if odds >= self.about.concern else None
            found.append(None if level is None else Suspicion(level, self.about.names[kind]))
        return found

    def save(self, path: Path) -> None:
        """Write adapters and heads, not yet merged, to one file in half precision, whole or not at all."""
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
        """Return the log-odds of danger and the likeliest category of each text, both `(texts,)`."""
        import numpy as np
        import torch

        odds, kinds = np.full(len(texts), -np.inf), np.zeros(len(texts), dtype=int)
        # Windows of like length share a batch, so that little is padded.
        windows = sorted(self._windows(texts), key=lambda window: len(window[1]))
        for start in range(0, len(windows), _BATCH):
            owners, ids = zip(*windows[start : start + _BATCH], strict=True)
            batch = self.tokenizer.pad({"input_ids": list(ids)}, return_tensors="pt")
            with torch.inference_mode():
                logits = torch.stack([member(**batch).log_softmax(-1) for member in self.members]).mean(0)
            danger = (logits[:, 1:].logsumexp(-1) - logits[:, 0]).numpy()
            # Of danger that might be of any kind, the gravest is asked about.
            shares, likeliest = logits[:, 1:].softmax(-1).max(-1)
            named = torch.where(shares >= 0.5, likeliest, self.about.names.index(SUICIDE)).numpy()
            for owner, value, kind in zip(owners, danger, named, strict=True):
                if value > odds[owner]:
                    odds[owner], kinds[owner] = value, kind
        return odds, kinds

    def _windows(self, texts: Sequence[str]) -> list[tuple[int, list[int]]]:
        """Return windows of tokens, each with the number of its text."""
        if not texts:
            return []
        encoded = self.tokenizer(
            [without_disguises(text) for text in texts],
            truncation=True,
            max_length=WINDOW,
            stride=OVERLAP,
            return_overflowing_tokens=True,
        )
        return list(zip(encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True))


@cache
def crisis_classifier(path: Path = CLASSIFIER) -> CrisisClassifier:
    """Return the classifier that comes with the package, read once.

    Raises:
        ValueError: the file is missing or damaged, or the encoder's package is not installed.
    """
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
        members = tuple(load_member(state, 1 + len(names)) for state in states)
    except (
        OSError,
        SafetensorError,
        LookupError,
        AttributeError,
        TypeError,
        RuntimeError,
        json.JSONDecodeError,
    ) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"the crisis classifier {path} cannot be read ({line}); install the package again") from error
    return CrisisClassifier(members, encoder_tokenizer(), about)
