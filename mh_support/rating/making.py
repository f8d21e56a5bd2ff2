"""Making a rating set: held-out contexts, the replies of every arm, names by chance, and the key."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mh_support.baselines import CONSTANT_REPLY, ScoredItem, scored_items
from mh_support.data.preparation import data_fingerprint, load_prepared
from mh_support.data.report import table
from mh_support.data.sources import open_source
from mh_support.data.splitting import normalise
from mh_support.dialogue import Message
from mh_support.files import read_json, replacing, write_json
from mh_support.generation import MAX_NEW_TOKENS, generate_replies, generation_config
from mh_support.modeling import weights_fingerprint
from mh_support.rating.power import power_table, questions_needed, visible_difference
from mh_support.rating.rating_set import ANSWERS, FORMAT, KEY_FILE, SET_FILE, compared
from mh_support.run_folder import RunFolder, now
from mh_support.safety import assess
from mh_support.scoring import load_row_model

HIDDEN = ("human", "base", "constant")
ContextKey = tuple[str, ...]


@dataclass
class MakeArguments:
    """What goes into a rating set, and the difference that it is to show."""

    out: str = field(metadata={"help": "New folder for the set."})
    contexts: int | None = field(
        default=None, metadata={"help": "Held-out contexts; by default as many as the difference needs questions."}
    )
    raters: int = field(default=3, metadata={"help": "Raters who are to rate the whole set."})
    difference: float = field(default=10, metadata={"help": "Difference of means worth seeing, in points of 100."})
    spread: float = field(
        default=25,
        metadata={"help": "Standard deviation of the difference between two replies to one context, in points."},
    )
    power: float = field(default=0.8, metadata={"help": "Chance of seeing the difference where it is there."})
    batch_size: int = field(default=16, metadata={"help": "Replies generated at once, where they are missing."})
    max_new_tokens: int | None = field(
        default=None, metadata={"help": "Tokens such a reply has at most; by default as when the run was scored."}
    )
    seed: int | None = field(default=None, metadata={"help": "Seed of the set; by default drawn, and kept in the key."})

    def __post_init__(self) -> None:
        for name in ("contexts", "raters", "batch_size", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")
        for name in ("difference", "spread"):
            if not 0 < getattr(self, name) <= 100:
                raise ValueError(f"{name} is {getattr(self, name)}; give points of 100, such as 10")
        if not 0.05 < self.power < 1:
            raise ValueError(f"power is {self.power}; give a chance above 0.05 and below 1, such as 0.8")


@dataclass(frozen=True)
class _Arm:
    """Whose replies these are: a run's tuned model, or a hidden arm."""

    name: str
    kind: str
    run: RunFolder | None = None


def make_set(runs: Sequence[RunFolder], arguments: MakeArguments, *, progress: bool = True) -> dict[str, Any]:
    """Write a rating set and its key to `arguments.out`, whole or not at all; return the key.

    Raises:
        ValueError: a run is not finished or not as it was made, the runs share no held-out context that is fit to be
            rated, or the folder is taken.
    """
    folder = Path(arguments.out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already, perhaps with answers in it; give --out a new folder")
    records = {run.path: RunFolder.open(run.path).record() for run in runs}
    arms = _arms(runs, records)
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    plan = _plan(arms, arguments)
    held_out, crises = _held_out(runs, records)
    items = _chosen(held_out, arguments.contexts or plan["questions_needed"], random.Random(seed))
    written = {arm.name: _replies(arm, items, records, arguments, seed, progress) for arm in arms}
    contents, key_of = _blinded(items, written, random.Random(f"{seed} names"))
    contents = {"format": FORMAT, "set": secrets.token_hex(8), **contents}
    questions = len({item.group for item in items})
    plan |= {"contexts": len(items), "questions": questions, "ratings": len(items) * len(arms) * arguments.raters}
    plan["visible_difference"] = visible_difference(
        questions, arguments.spread, power=arguments.power, comparisons=plan["comparisons"]
    )
    key = {
        "set": contents["set"],
        "created": now(),
        "seed": seed,
        "arms": {arm.name: _arm_record(arm, records) for arm in arms},
        "plan": plan,
        "left_out": {"crisis": crises},
        **key_of,
    }
    with replacing(folder) as draft:
        (draft / ANSWERS).mkdir(parents=True)
        write_json(draft / SET_FILE, contents)
        write_json(draft / KEY_FILE, key)
        (draft / KEY_FILE).chmod(0o600)
    return key


def plan_table(key: Mapping[str, Any]) -> str:
    """Return what a set holds and what it can show, as text to print."""
    plan, arms = key["plan"], len(key["arms"])
    visible = plan["visible_difference"]
    found = "none" if visible is None else f"{visible:.1f} points"
    facts: list[tuple[str, Any]] = [
        ("the set", ""),
        ("arms, three of them hidden" if arms == 4 else "arms", arms),
        ("contexts", plan["contexts"]),
        ("questions: contexts of one count once", plan["questions"]),
        ("contexts left out: a crisis in them", key["left_out"]["crisis"]),
        ("raters planned", plan["raters"]),
        ("ratings planned", plan["ratings"]),
        (f"questions that {plan['difference']:g} points need", plan["questions_needed"]),
        ("smallest difference that these questions show", found),
    ]
    needs = power_table(
        arms=arms,
        raters=plan["raters"],
        spread=plan["spread"],
        power=plan["power"],
        comparisons=plan["comparisons"],
    )
    return f"{needs}\n\n{table(facts)}"


def has_crisis(messages: Sequence[Message]) -> bool:
    """Say whether the person was in a crisis at any point of a conversation."""
    turns = range(1, len(messages) + 1)
    return any(assess(messages[:end]).is_crisis for end in turns if messages[end - 1]["role"] == "user")


def _arms(runs: Sequence[RunFolder], records: Mapping[Path, Any]) -> list[_Arm]:
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ValueError("a run is named twice; name each once")
    names = [run.path.resolve().name for run in runs]
    if len(set(names)) < len(names) or set(names) & set(HIDDEN):
        names = [str(run.path) for run in runs]
    tuned = [_Arm(name, "tuned", run) for name, run in zip(names, runs, strict=True)]
    bases = {records[run.path]["fingerprints"]["base_weights"]: run for run in reversed(runs)}
    base = [
        _Arm("base" if len(bases) == 1 else f"base of {run.path.resolve().name}", "base", run) for run in bases.values()
    ]
    return [*tuned, *base, _Arm("human", "human"), _Arm("constant", "constant")]


def _plan(arms: Sequence[_Arm], arguments: MakeArguments) -> dict[str, Any]:
    comparisons = len(compared([(arm.name, arm.kind) for arm in arms]))
    return {
        "raters": arguments.raters,
        "difference": arguments.difference,
        "spread": arguments.spread,
        "power": arguments.power,
        "comparisons": comparisons,
        "questions_needed": questions_needed(
            arguments.difference, arguments.spread, power=arguments.power, comparisons=comparisons
        ),
    }


def _key(messages: Sequence[Message]) -> ContextKey:
    return tuple(normalise(message["content"]) for message in messages)


def _held_out(runs: Sequence[RunFolder], records: Mapping[Path, Any]) -> tuple[list[ScoredItem], int]:
    """Return the contexts that every run held out and that are fit to be rated, and how many hold a crisis."""
    shared: dict[ContextKey, ScoredItem] = {}
    for number, run in enumerate(runs):
        if data_fingerprint(run.data) != records[run.path]["fingerprints"]["data"]:
            raise ValueError(f"the data in {run.data} is not what the run was trained on; restore it or train again")
        items = {_key(item.context): item for item in scored_items(load_prepared(run.data)["test"])}
        shared = items if number == 0 else {key: item for key, item in shared.items() if key in items}
    if not shared:
        raise ValueError("the runs share no held-out context; name runs that were trained on the same splits")
    fit = [item for item in shared.values() if not has_crisis(item.context)]
    if not fit:
        raise ValueError(f"each of the {len(shared)} held-out contexts holds a crisis, and none is given to raters")
    return fit, len(shared) - len(fit)


def _chosen(items: Sequence[ScoredItem], count: int, generator: random.Random) -> list[ScoredItem]:
    """Return `count` items by chance, one of each question before a second of any: those of one hang together."""
    shuffled = generator.sample(list(items), len(items))
    seen: dict[str, int] = {}
    turns = []
    for item in shuffled:
        seen[item.group] = seen.get(item.group, 0) + 1
        turns.append(seen[item.group])
    order = sorted(range(len(shuffled)), key=lambda place: turns[place])
    return [shuffled[place] for place in order[:count]]


def _replies(
    arm: _Arm,
    items: Sequence[ScoredItem],
    records: Mapping[Path, Any],
    arguments: MakeArguments,
    seed: int,
    progress: bool,
) -> list[str]:
    if arm.kind == "constant":
        return [CONSTANT_REPLY] * len(items)
    if arm.kind == "human":
        generator = random.Random(f"{seed} human")
        return [generator.choice(item.references) for item in items]
    assert arm.run is not None
    known, scored_with = _scored_replies(arm.run, arm.kind)
    missing = [item for item in items if _key(item.context) not in known]
    if missing:
        model, tokenizer = load_row_model(arm.run, records[arm.run.path], arm.kind)
        made = generate_replies(
            model,
            tokenizer,
            [item.context for item in missing],
            generation_config(tokenizer, max_new_tokens=arguments.max_new_tokens or scored_with),
            batch_size=arguments.batch_size,
            seed=seed,
            # Not the arm's name: who starts this may sit beside a rater.
            progress="writing replies" if progress else None,
        )
        known |= {_key(item.context): reply.text for item, reply in zip(missing, made, strict=True)}
    return [known[_key(item.context)] for item in items]


def _scored_replies(run: RunFolder, row: str) -> tuple[dict[ContextKey, str], int]:
    """Return what a model replied when the run was scored, unless weights or data have changed, and the token limit."""
    if not run.results_file.is_file() or not run.replies_file.is_file():
        return {}, MAX_NEW_TOKENS
    results = read_json(run.results_file)
    made_from = (weights_fingerprint(run.model), data_fingerprint(run.data))
    if (results.get("weights"), results.get("data")) != made_from:
        return {}, MAX_NEW_TOKENS
    rows = [line for line in open_source(str(run.replies_file)).rows if line["split"] == "test"]
    known = {_key(line["context"]): line["replies"][row] for line in rows}
    return known, int(results["settings"]["max_new_tokens"])


def _blinded(
    items: Sequence[ScoredItem], written: Mapping[str, Sequence[str]], generator: random.Random
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what raters see and what the key says, each reply and pair under a name and at a place by chance."""
    contexts: list[dict[str, Any]] = []
    replies: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    owners: dict[str, str] = {}
    questions: dict[str, int] = {}
    numbers: dict[str, int] = {}
    arms = generator.sample(list(written), len(written))
    for number, item in enumerate(items):
        context = _name("c", generator)
        contexts.append({"id": context, "messages": item.context})
        questions[context] = numbers.setdefault(item.group, len(numbers))
        names = {arm: _name("r", generator) for arm in written}
        owners |= {name: arm for arm, name in names.items()}
        replies += [{"id": names[arm], "context": context, "text": written[arm][number]} for arm in written]
        for pair in tournament_round(arms, number):
            sides = generator.sample([names[arm] for arm in pair], 2)
            pairs.append({"id": _name("p", generator), "context": context, "replies": sides})
    for rows in (contexts, replies, pairs):
        generator.shuffle(rows)
    return {"contexts": contexts, "replies": replies, "pairs": pairs}, {"questions": questions, "replies": owners}


def tournament_round(arms: Sequence[str], number: int) -> list[tuple[str, str]]:
    """Return the pairs of one round of a round-robin tournament: over all rounds each pair of arms meets once.

    With an odd number of arms one of them sits out each round (the circle method).

    Example:
        >>> [tournament_round("abcd", number) for number in range(3)]
        [[('a', 'd'), ('b', 'c')], [('a', 'c'), ('d', 'b')], [('a', 'b'), ('c', 'd')]]
    """
    seats: list[str | None] = [*arms, *([None] if len(arms) % 2 else [])]
    shift = number % (len(seats) - 1)
    wheel = seats[1:]
    turned = [seats[0], *wheel[len(wheel) - shift :], *wheel[: len(wheel) - shift]]
    half = len(turned) // 2
    return [
        (one, other)
        for one, other in zip(turned[:half], reversed(turned[half:]), strict=True)
        if one is not None and other is not None
    ]


def _name(letter: str, generator: random.Random) -> str:
    return f"{letter}{generator.getrandbits(40):010x}"


def _arm_record(arm: _Arm, records: Mapping[Path, Any]) -> dict[str, Any]:
    if arm.run is None:
        return {"kind": arm.kind}
    fingerprints = records[arm.run.path]["fingerprints"]
    if arm.kind == "base":
        return {"kind": arm.kind, "weights": fingerprints["base_weights"]}
    return {
        "kind": arm.kind,
        "run": str(arm.run.path.resolve()),
        "weights": weights_fingerprint(arm.run.model),
        "data": fingerprints["data"],
        "base_weights": fingerprints["base_weights"],
    }
