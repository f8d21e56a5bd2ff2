"""How the next token of each conversation in a batch is chosen, each by settings and a random generator of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig

# What `generate` takes where a config leaves it open.
_TOP_K = 50
# Without top_k, top_p is looked for among so many first: sorting a whole vocabulary takes long.
_CANDIDATES = 256


@dataclass(frozen=True)
class Sampling:
    """One reply's settings, as transformers' GenerationConfig names them; a `top_k` of 0 is none."""

    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    min_new_tokens: int
    max_new_tokens: int
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "repetition_penalty"):
            value, most = getattr(self, name), 1.0 if name == "top_p" else float("inf")
            if not 0 < value <= most:
                raise ValueError(f"{name} is {value}; it is above 0" + (" and at most 1" if name == "top_p" else ""))

    @classmethod
    def of(cls, config: GenerationConfig) -> Sampling:
        """Read the settings, with transformers' defaults for what is left open.

        Raises:
            ValueError: one of them is out of its bounds.
        """
        ends = config.eos_token_id
        return cls(
            do_sample=bool(config.do_sample),
            temperature=1.0 if config.temperature is None else config.temperature,
            top_k=_TOP_K if config.top_k is None else config.top_k,
            top_p=1.0 if config.top_p is None else config.top_p,
            repetition_penalty=1.0 if config.repetition_penalty is None else config.repetition_penalty,
            min_new_tokens=config.min_new_tokens or 0,
            max_new_tokens=config.max_new_tokens,
            ends=() if ends is None else tuple(ends) if isinstance(ends, list) else (ends,),
        )


def choose(
    logits: torch.Tensor,
    ids: torch.Tensor,
    settings: Sequence[Sampling],
    written: Sequence[int],
    generators: Sequence[torch.Generator],
) -> list[int]:
    """Return the next token of each row.

    Args:
        logits: `(rows, vocabulary)`.
        ids: `(rows, length)`, what each row holds so far; where it is shorter, any of its tokens again.
        settings: one a row.
        written: how many tokens each row's reply has.
        generators: one a row; a row that samples draws one number from its own.
    """
    scores = _penalised(logits.float(), ids, settings)
    for row, (each, count) in enumerate(zip(settings, written, strict=True)):
        if count < each.min_new_tokens:
            scores[row, list(each.ends)] = -torch.inf
    tokens: list[int] = scores.argmax(-1).tolist()
    rows = [row for row, each in enumerate(settings) if each.do_sample]
    if rows:
        drawn = [float(torch.rand((), dtype=torch.float64, generator=generators[row])) for row in rows]
        everyone = len(rows) == len(settings)
        sampled = _sampled(scores if everyone else scores[rows], [settings[row] for row in rows], drawn)
        for row, token in zip(rows, sampled, strict=True):
            tokens[row] = token
    return tokens


def _penalised(logits: torch.Tensor, ids: torch.Tensor, settings: Sequence[Sampling]) -> torch.Tensor:
    """Divide the logits of tokens that a row holds by its penalty, or multiply them where they are negative."""
    if all(each.repetition_penalty == 1.0 for each in settings):
        return logits
    penalty = _column([each.repetition_penalty for each in settings], logits)
    seen = logits.gather(1, ids)
    return logits.scatter(1, ids, torch.where(seen < 0, seen * penalty, seen / penalty))


def _sampled(scores: torch.Tensor, settings: Sequence[Sampling], drawn: Sequence[float]) -> list[int]:
    """Return the token at which each row's share of probability, most probable first, reaches the number drawn."""
    probabilities, tokens = likely(scores, settings)
    shares = probabilities.double().cumsum(-1)
    reached = (shares <= _column(drawn, shares) * shares[:, -1:]).sum(-1, keepdim=True)
    # Rounding must not lead to a token that was left out.
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    found: list[int] = tokens.gather(1, torch.minimum(reached, last))[:, 0].tolist()
    return found


def likely(scores: torch.Tensor, settings: Sequence[Sampling]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return probabilities after temperature, top_k and top_p, `(rows, candidates)`, and the tokens that they are of.

    The most probable come first; what is left out has none; the others' are not made to sum to one.
    """
    scores = scores / _column([each.temperature for each in settings], scores)
    size = scores.shape[-1]
    least = max(each.top_k or _CANDIDATES for each in settings)
    top_k = _column([each.top_k or size for each in settings], scores)
    top_p = _column([each.top_p for each in settings], scores)
    for count in (min(least, size), size):
        values, tokens = scores.topk(count)
        values = values.masked_fill(torch.arange(count, device=scores.device) >= top_k, -torch.inf)
        # Of those within top_k; without one, of the whole vocabulary.
        whole = torch.where(top_k < size, values.logsumexp(-1, keepdim=True), scores.logsumexp(-1, keepdim=True))
        probabilities = (values - whole).exp()
        before = probabilities.cumsum(-1) - probabilities
        if bool(((top_k <= count) | ((before[:, -1:] >= top_p) & (top_p < 1))).all()):
            break
    kept = (before < top_p) | (top_p == 1)
    return probabilities * kept, tokens


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
