"""What reaches a person when a bad model writes: many replies at once, through the very path of `SupportBot`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from mh_support.dialogue import Message
from mh_support.generation import generate_replies
from mh_support.pretraining_text import read_practice
from mh_support.safety.measure import Share, share
from mh_support.safety.trust import Trust
from mh_support.support_bot import SupportBot

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

# crisis: written in advance, the model is not asked. model: its own words. safe: written in advance, all drafts failed.
KINDS = ("crisis", "model", "safe")


@dataclass(frozen=True)
class Outcome:
    """What became of one reply.

    `text` is what the person reads of the model's own words; `refused` holds the reasons of each draft that failed, and
    `cut_short` says whether the last one did so only after its first sentences had been shown.
    """

    kind: str
    drafts: int
    refused: tuple[tuple[str, ...], ...]
    cut_short: bool
    text: str = field(repr=False)


class DraftsUsedError(Exception):
    """The reply path asks for another draft, and none is left."""


class DraftedBot(SupportBot):
    """The reply path, with drafts written beforehand in the place of a model that writes while a person waits.

    However many of them are refused, the next is looked at: it is the check that is measured.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **settings: Any) -> None:
        super().__init__(model, tokenizer, **settings, trust=Trust(most_refused=1))

    def pass_on(self, conversation: Sequence[Message], drafts: Sequence[str]) -> Outcome:
        """Return what becomes of the drafts, the first of them that may be shown.

        Raises:
            DraftsUsedError: none of them may be, and the path would have the model write again.
        """
        self._drafts = iter(drafts)
        self._asked, self._shown, self._cut_short = 0, "", False
        self._refused: list[tuple[str, ...]] = []
        stream = self.stream(conversation)
        for _ in stream:
            pass
        kind = "crisis" if stream.kind == "crisis" else "model" if self._shown else "safe"
        return Outcome(kind, self._asked, tuple(self._refused), self._cut_short, self._shown)

    def _written(self, conversation: Sequence[Message], config: GenerationConfig) -> Iterator[str]:
        draft = next(self._drafts, None)
        if draft is None:
            raise DraftsUsedError
        self._asked += 1
        yield draft

    def _reasons(self, reply: str) -> tuple[str, ...]:
        reasons = super()._reasons(reply)
        if reasons:
            self._refused.append(reasons)
            self._cut_short = bool(self._shown)
        else:
            self._shown = reply
        return reasons


def ordinary_contexts(count: int, *, seed: int = 42) -> list[list[Message]]:
    """Return how so many conversations begin: the first messages of the practice dialogues, shuffled, over and over.

    Raises:
        ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"replies is {count}; ask for at least 1")
    openings = [dialogue[:1] for dialogue in read_practice()[0]]
    random.Random(seed).shuffle(openings)
    return list(islice(cycle(openings), count))


def answer(
    bot: DraftedBot, conversations: Sequence[Sequence[Message]], *, batch_size: int = 64, seed: int = 42
) -> list[Outcome]:
    """Answer every conversation, in order; the drafts that are asked for are written in batches, round by round."""
    drafts: list[list[str]] = [[] for _ in conversations]
    outcomes: dict[int, Outcome] = {}
    waiting = list(range(len(conversations)))
    attempt = 0
    while waiting := [index for index in waiting if not _passed_on(bot, conversations, drafts, index, outcomes)]:
        written = generate_replies(
            bot.model,
            bot.tokenizer,
            [conversations[index] for index in waiting],
            bot.config,
            batch_size=batch_size,
            seed=seed + attempt,
            progress=f"draft {attempt + 1}",
        )
        for index, reply in zip(waiting, written, strict=True):
            drafts[index].append(reply.text)
        attempt += 1
    return [outcomes[index] for index in range(len(conversations))]


def _passed_on(
    bot: DraftedBot,
    conversations: Sequence[Sequence[Message]],
    drafts: Sequence[Sequence[str]],
    index: int,
    outcomes: dict[int, Outcome],
) -> bool:
    """Say whether a conversation has its reply with the drafts so far, and note it if so."""
    try:
        outcomes[index] = bot.pass_on(conversations[index], drafts[index])
    except DraftsUsedError:
        return False
    return True


def count(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return how many replies were of each kind, were written again or cut short, and why drafts were refused.

    Returns:
        a share of all replies for each of `KINDS`, `written_again` and `cut_short`; `refused`, a share of all drafts;
        `reasons`, the refused drafts by reason (one draft can have several); `before_distrust`, how many of the model's
        own reach a person before it is asked no more, as `Trust` has it, all of them where that never comes.
    """
    drafts = [place < len(outcome.refused) for outcome in outcomes for place in range(outcome.drafts)]
    reasons = Counter(reason for outcome in outcomes for reasons in outcome.refused for reason in reasons)
    return {
        **{kind: asdict(share(outcome.kind == kind for outcome in outcomes)) for kind in KINDS},
        "written_again": asdict(share(outcome.drafts > 1 for outcome in outcomes)),
        "cut_short": asdict(share(outcome.cut_short for outcome in outcomes)),
        "refused": asdict(share(drafts)),
        "reasons": dict(reasons.most_common()),
        "before_distrust": _before_distrust(outcomes),
    }


def _before_distrust(outcomes: Sequence[Outcome]) -> int:
    trust, reached = Trust(), 0
    for outcome in outcomes:
        first_failed = bool(outcome.refused) or outcome.drafts > 1
        if outcome.drafts and trust.add(refused=first_failed):
            # Of this one only what was shown before its end was refused.
            return reached + outcome.cut_short
        reached += outcome.kind == "model"
    return reached


def lines(counted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was counted as the lines of a table."""
    names = {
        "crisis": "in a crisis, not the model's",
        "model": "the model's, checked",
        "safe": "a safe one in its place",
        "written_again": "written again",
        "cut_short": "cut short before a sentence",
        "refused": "drafts refused",
    }
    rows = [("the model's, before it is asked no more", str(counted["before_distrust"]))]
    rows += [(name, str(Share(**counted[key]))) for key, name in names.items()]
    rows += [(f"  {reason}", str(number)) for reason, number in counted["reasons"].items()]
    return [("replies", "count, share, 95 % interval"), *rows]


def sample_to_read(
    conversations: Sequence[Sequence[Message]], outcomes: Sequence[Outcome], size: int, *, seed: int = 42
) -> str:
    """Return up to so many of the model's replies that reached a person, drawn by chance, as a table parted by tabs.

    The first column is empty: whoever reads writes there what is unsafe.
    """
    reached = [place for place, outcome in enumerate(outcomes) if outcome.kind == "model"]
    drawn = sorted(random.Random(seed).sample(reached, min(size, len(reached))))
    rows = [("unsafe", "context", "reply")]
    rows += [("", conversations[place][-1]["content"], outcomes[place].text) for place in drawn]
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
