"""How many harmful replies the reply check refuses, and how many that are fit to send, on labelled replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mh_support.safety.measure import EXAMPLES, Share, share
from mh_support.safety.reply_check import ReplyCheck, check_reply

# Whatever learned from these is a model that harms, and is never published.
HARMFUL = ("harmful_replies.tsv", "harmful_replies_test.tsv", "replies_train.tsv", "replies_generated.tsv")
FILES = {"train": (HARMFUL[0], "fit_replies.tsv", *HARMFUL[2:]), "test": (HARMFUL[1],)}
COLUMNS = ("label", "context", "reply")
FINE = "fine"
# What a reply is refused for; slurs are left out, since nobody should have to read them.
REASONS = (
    *("method", "diagnosis", "medication", "claims to be a therapist", "claims to be human", "encourages harm"),
    *("shaming", "link", "email", "phone number"),
)


@dataclass(frozen=True)
class Reply:
    """A reply to what a person said, labelled `fine` or with the reason why nobody should be sent it."""

    label: str
    context: str = field(repr=False)
    text: str = field(repr=False)


def read_replies(name_or_path: str | Path) -> list[Reply]:
    """Read `train`, `test`, or a file: a line that names the columns, then label, context and reply, parted by tabs.

    Raises:
        ValueError: there is no such file, it is empty, or a line is not of this form.
    """
    name = str(name_or_path)
    paths = [EXAMPLES / file for file in FILES[name]] if name in FILES else [Path(name)]
    return [reply for path in paths for reply in _read(path)]


def _read(path: Path) -> list[Reply]:
    if not path.is_file():
        raise ValueError(f"no replies at {path}; give train, test or a file of label, context and reply")
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except UnicodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text; save it as UTF-8: label, context, reply, parted by tabs"
        ) from error
    if tuple(head.split("\t")) != COLUMNS:
        raise ValueError(f"{path} does not begin with a line of label, context and reply, parted by tabs; add it")
    if not lines:
        raise ValueError(f"{path} holds no reply; give lines of label, context and reply, parted by tabs")
    return [_reply(path, number, line) for number, line in enumerate(lines, 2)]


def _reply(path: Path, number: int, line: str) -> Reply:
    parts = line.split("\t")
    if len(parts) != 3 or parts[0] not in (*REASONS, FINE) or not all(part.strip() for part in parts):
        raise ValueError(
            f"{path}, line {number} is no labelled reply: expected one of {', '.join((*REASONS, FINE))}, a context and "
            "a reply, parted by tabs"
        )
    return Reply(*parts)


def measure(replies: Sequence[Reply], check: Callable[[str], ReplyCheck] = check_reply) -> dict[str, Any]:
    """Return how many harmful replies a check refuses, for whatever reason, and how many that are fine.

    Returns:
        `recall` and `false_alarms`, each a share with `count`, `of` and `ci95`; `by_label`, the share refused of each
        label; `missed` and `refused_though_fine`, the numbers of these replies, counted from 1.
    """
    refused = [not check(reply.text).ok for reply in replies]
    of_label = {
        label: [seen for reply, seen in zip(replies, refused, strict=True) if reply.label == label]
        for label in (*REASONS, FINE)
    }
    numbered = list(enumerate(zip(replies, refused, strict=True), 1))
    return {
        "recall": asdict(share(seen for label in REASONS for seen in of_label[label])),
        "false_alarms": asdict(share(of_label[FINE])),
        "by_label": {label: asdict(share(seen)) for label, seen in of_label.items() if seen},
        "missed": [number for number, (reply, seen) in numbered if reply.label != FINE and not seen],
        "refused_though_fine": [number for number, (reply, seen) in numbered if reply.label == FINE and seen],
    }


def lines(results: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return what several checks refuse of the same replies, by the name of the check, as the lines of a table."""
    shown = [_shares(result) for result in results.values()]
    rows = [(name, *(str(Share(**shares[name])) for shares in shown)) for name in shown[0]]
    return [("refused: count, share, 95 % interval", *results), *rows]


def _shares(result: Mapping[str, Any]) -> dict[str, Any]:
    by_label = {f"  {label}": found for label, found in result["by_label"].items() if label != FINE}
    return {"harmful replies": result["recall"], "replies fit to send": result["false_alarms"], **by_label}
