"""Contexts that nobody answered: read, cleaned and scrubbed, and sifted before a model may answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from mh_support.data.augmentation import hints_at_risk
from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import scrub
from mh_support.data.sources import contexts_of, open_source
from mh_support.data.splitting import SPLITS, group_by_question
from mh_support.dialogue import Message, check_messages

LEFT_OUT = {
    "empty": "left out: nothing said by the person",
    "held_out": "left out: asks a held-out question",
    "known": "left out: its question is answered in training",
    "repeat": "left out: nearly the same as an earlier one",
    "too_long": "left out: longer than the model reads",
    "surplus": "left out: beyond the number to answer",
    "risk": "left out: a hint of risk in it",
}
FIT = "kept"
Context = list[Message]


def read_contexts(
    names: Iterable[str], *, context_column: str | None = None, encoding: str = "utf-8"
) -> tuple[list[Context], list[tuple[str, int]]]:
    """Return the contexts of files, folders or data sets as they stand there, and the file and row of each.

    Raises:
        ValueError: one is missing or cannot be read.
    """
    contexts: list[Context] = []
    places: list[tuple[str, int]] = []
    for name in names:
        source = open_source(name, encoding=encoding)
        found = list(contexts_of(source, context_column=context_column))
        contexts += found
        places += [(source.name, row) for row in range(1, len(found) + 1)]
    return contexts, places


def made_ready(messages: Context) -> Context:
    """Return a context cleaned and scrubbed as training data is, from the person's first turn on."""
    said = [{**turn, "content": scrub(clean_text(turn["content"])).text} for turn in messages]
    ready = [turn for turn in check_messages(said) if turn["role"] != "system"]
    while ready and ready[0]["role"] != "user":
        ready = ready[1:]
    return ready if ready and ready[-1]["role"] == "user" else []


def sift(
    contexts: Sequence[Context],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    fits: Callable[[Context], bool],
    draw: Callable[[list[int]], list[int]],
    *,
    progress: bool = True,
) -> list[str]:
    """Return why each context is not answered, by the keys of `LEFT_OUT`, or `kept`.

    What takes longest comes last, of as few as are left.

    Args:
        contexts: from `made_ready`.
        splits: the dialogues that the answering model was tuned on, and those held out from it.
        fits: whether a model can read a context whole.
        draw: which of the places that are left by then are to be answered.
        progress: show a bar where something takes long.
    """
    fates = [FIT if messages else "empty" for messages in contexts]

    def left() -> list[int]:
        return [place for place, fate in enumerate(fates) if fate == FIT]

    def drop(fate: str, places: Iterable[int]) -> None:
        for place in places:
            fates[place] = fate

    for place, fate in zip(left(), _asked_before([contexts[place] for place in left()], splits), strict=True):
        fates[place] = fate
    drop("too_long", [place for place in left() if not fits(contexts[place])])
    drop("surplus", set(left()) - set(draw(left())))
    bar = tqdm(left(), desc="looking for risk", disable=None if progress else True, leave=False)
    drop("risk", [place for place in bar if hints_at_risk(contexts[place])])
    return fates


def _asked_before(contexts: Sequence[Context], splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return for each context whether its question, or nearly the same, stands anywhere before it."""
    held_out = [row["messages"] for name in SPLITS[1:] for row in splits[name]]
    training = [row["messages"] for row in splits["train"]]
    groups = group_by_question([*held_out, *training, *contexts])
    asked = {group: "held_out" for group in groups[: len(held_out)]}
    for group in groups[len(held_out) : len(held_out) + len(training)]:
        asked.setdefault(group, "known")
    fates = []
    for group in groups[len(held_out) + len(training) :]:
        fates.append(asked.get(group, FIT))
        asked.setdefault(group, "repeat")
    return fates
