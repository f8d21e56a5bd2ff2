"""How well the crisis check sees what it should, and lets pass what it should, on labelled messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tqdm.auto import tqdm

from mh_support.metrics import wilson_interval
from mh_support.safety.crisis import Assessment, assess

EXAMPLES = Path(__file__).resolve().parent / "examples"
CRISIS, SAFE = "crisis", "safe"
KINDS = {
    CRISIS: (
        *("suicide", "self-harm", "harm-to-others", "abuse", "eating-disorder", "medical-emergency"),
        "someone-else",
    ),
    SAFE: (
        *("figure-of-speech", "negation", "past", "bereavement", "professional", "technical", "media"),
        *("everyday-danger", "distress", "humour"),
    ),
}


@dataclass(frozen=True)
class Example:
    """What a person says in one turn or in several, and whether it calls for people who can help."""

    label: str
    kind: str
    turns: tuple[str, ...] = field(repr=False)

    @property
    def is_crisis(self) -> bool:
        """Whether the person should meet people who can help."""
        return self.label == CRISIS

    @property
    def messages(self) -> list[dict[str, str]]:
        """The turns as a conversation in which only the person speaks."""
        return [{"role": "user", "content": turn} for turn in self.turns]


@dataclass(frozen=True)
class Share:
    """So many of so many, with Wilson's 95 % interval."""

    count: int
    of: int
    ci95: tuple[float, float] | None

    def __str__(self) -> str:
        if self.ci95 is None:
            return "none to count"
        return f"{self.count} of {self.of}, {self.count / self.of:.3f} [{self.ci95[0]:.3f}, {self.ci95[1]:.3f}]"


def read_examples(name_or_path: str | Path) -> list[Example]:
    """Read `train`, `development`, `test`, `pairs`, or a file: lines of label, kind and text, parted by tabs.

    Several turns of a text are parted by ` || `. Labels and kinds are those of `KINDS`.

    Raises:
        ValueError: there is no such file, it is empty, or a line is not of this form.
    """
    path = EXAMPLES / f"{name_or_path}.tsv"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"no examples at {name_or_path}; give train, development, test, pairs or a file of label, kind, text"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8: label, kind, text, parted by tabs") from error
    examples = [_example(path, number, line) for number, line in enumerate(lines, 1)]
    if not examples:
        raise ValueError(f"{path} holds no example; give lines of label, kind and text, parted by tabs")
    return examples


def _example(path: Path, number: int, line: str) -> Example:
    parts = line.split("\t")
    if len(parts) != 3 or parts[1] not in KINDS.get(parts[0], ()) or not parts[2].strip():
        raise ValueError(
            f"{path}, line {number} is no example: expected crisis or safe, a kind of it, and a text, parted by tabs"
        )
    return Example(parts[0], parts[1], tuple(turn.strip() for turn in parts[2].split(" || ")))


def measure(
    examples: Sequence[Example], check: Callable[[Sequence[Mapping[str, str]]], Assessment] = assess
) -> dict[str, Any]:
    """Return how many crises a check sees and how many safe messages it interrupts, in all and by kind.

    Returns:
        `recall` and `false_positives`, each a share with `count`, `of` and `ci95`; `noticed` and `asked`, the shares of
        crises and of safe messages that are a concern at least; `by_kind`, the share taken for a crisis of each kind;
        `misses` and `false_alarms`, the numbers of these examples, counted from 1.
    """
    flagged: dict[tuple[str, str], list[bool]] = {(label, kind): [] for label, kinds in KINDS.items() for kind in kinds}
    noticed: dict[str, list[bool]] = {CRISIS: [], SAFE: []}
    wrong: dict[str, list[int]] = {CRISIS: [], SAFE: []}
    for number, example in enumerate(tqdm(examples, desc="messages", leave=False, disable=None), 1):
        found = check(example.messages)
        seen = found.is_crisis
        noticed[example.label].append(found.level != "none")
        flagged[example.label, example.kind].append(seen)
        if seen != example.is_crisis:
            wrong[example.label].append(number)
    whole = {label: [flag for kind in kinds for flag in flagged[label, kind]] for label, kinds in KINDS.items()}
    return {
        "recall": asdict(share(whole[CRISIS])),
        "false_positives": asdict(share(whole[SAFE])),
        "noticed": asdict(share(noticed[CRISIS])),
        "asked": asdict(share(noticed[SAFE])),
        "by_kind": {f"{label}: {kind}": asdict(share(seen)) for (label, kind), seen in flagged.items() if seen},
        "misses": wrong[CRISIS],
        "false_alarms": wrong[SAFE],
    }


def milliseconds(
    examples: Sequence[Example], check: Callable[[Sequence[Mapping[str, str]]], Assessment] = assess
) -> dict[str, float]:
    """Return the median and the longest processor time that a check takes for an example, on one thread, in ms."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        check(examples[0].messages)  # What is read once is read before.
        for example in examples:
            started = time.process_time()
            check(example.messages)
            times.append(1000 * (time.process_time() - started))
    finally:
        torch.set_num_threads(threads)
    return {"median": round(median(times), 1), "most": round(max(times), 1)}


def share(flags: Iterable[bool]) -> Share:
    """Return how many of the flags are set."""
    counted = list(flags)
    ends = wilson_interval(sum(counted), len(counted)) if counted else None
    return Share(sum(counted), len(counted), None if ends is None else (ends[0], ends[1]))


def variant_lines(results: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the results of several variants, by name, as the lines of a table."""
    head = ("spelling", "crises seen", "seen or asked about", "safe messages interrupted")
    keys = ("recall", "noticed", "false_positives")
    return [head, *((name, *(str(Share(**one[key])) for key in keys)) for name, one in results.items())]


def lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a result as the lines of a table."""
    shown = [("crises seen", result["recall"]), ("crises seen or asked about", result["noticed"])]
    shown += [("safe messages interrupted", result["false_positives"]), ("or asked about", result["asked"])]
    shown += [(f"  {kind}", share) for kind, share in result["by_kind"].items()]
    head = ("taken for a crisis", "count, share, 95 % interval")
    return [head, *((name, str(Share(**share))) for name, share in shown)]
