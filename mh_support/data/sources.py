"""Where dialogues come from: files, folders and Hub data sets, turned into `messages` at the door."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mh_support.data.augmentation import METHODS
from mh_support.data.grown import GROWTH, is_grower
from mh_support.data.readers import FILE_SUFFIXES, SPLIT_NAMES, Row, parse_json, read_file, read_folder, read_hub
from mh_support.dialogue import Message, text_of

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
# Column pairs, in lower case, that stand for what the person said and what was answered.
COLUMN_PAIRS = (
    ("context", "response"),
    ("prompt", "completion"),
    ("questiontext", "answertext"),
    ("question", "answer"),
    ("input", "output"),
)
SPEAKER_ROLES = {
    "seeker": "user",
    "speaker": "user",
    "usr": "user",
    "user": "user",
    "supporter": "assistant",
    "listener": "assistant",
    "sys": "assistant",
    "assistant": "assistant",
}
# A file without a header has people's words where the names should be: a message shows only so much of them.
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 8, 30


@dataclass(frozen=True)
class Source:
    """One data set: what it is called, under which licence it may be used, and its rows."""

    name: str
    license: str = "unknown"
    non_commercial: bool = False
    url: str | None = None
    rows: Iterable[Row] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return what a run folder and a card record of it."""
        return {"name": self.name, "license": self.license, "non_commercial": self.non_commercial, "url": self.url}


# The data sets people use for this, with the licence their pages state. Columns are told apart by name, below.
REGISTRY: dict[str, Source] = {
    source.name: source
    for source in (
        Source("samples", "cc0-1.0"),
        Source(
            "Amod/mental_health_counseling_conversations",
            "other (RAIL-D)",
            url="https://huggingface.co/datasets/Amod/mental_health_counseling_conversations",
        ),
        Source("nbertagnolli/counsel-chat", "mit", url="https://huggingface.co/datasets/nbertagnolli/counsel-chat"),
        Source("thu-coai/esconv", "cc-by-nc-4.0", True, url="https://huggingface.co/datasets/thu-coai/esconv"),
        Source(
            "facebook/empathetic_dialogues",
            "cc-by-nc-4.0",
            True,
            url="https://huggingface.co/datasets/facebook/empathetic_dialogues",
        ),
        Source("ShenLab/MentalChat16K", "mit", url="https://huggingface.co/datasets/ShenLab/MentalChat16K"),
    )
}


def open_source(
    name: str, *, license: str | None = None, encoding: str = "utf-8", revision: str | None = None
) -> Source:
    """Open `name`: `samples`, a file, a folder of files or of a saved data set, or a Hub data set's id.

    Each row carries `split` where the data set ships its splits.

    Raises:
        ValueError: nothing is there, or it cannot be read; the message says where and what to do.
    """
    known = REGISTRY.get(name, Source(name))
    path = SAMPLES if name == "samples" else Path(name)
    if path.is_file():
        rows: Iterable[Row] = read_file(path, encoding)
    elif path.is_dir():
        rows = read_folder(path, encoding)
    elif path.suffix.lower() in FILE_SUFFIXES or name.count("/") != 1 or name[0] in "./~" or name[-1] == "/":
        raise ValueError(f"no data at {name}; give a {', '.join(FILE_SUFFIXES)} file, a folder, a Hub id, or 'samples'")
    else:
        rows = read_hub(name, revision)
    recorded = path.absolute().name if path.exists() and name not in REGISTRY else name
    stated = license if license is not None else known.license
    restricted = known.non_commercial or "-nc" in stated.lower()
    return Source(recorded, stated, restricted, known.url, rows)


def dialogues_of(
    source: Source, *, context_column: str | None = None, response_column: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield `{"messages", "split"}` for every row of `source`; `split` is None where none is shipped.

    A row that augmentation made has its way of making as `augmented` too, and a grown one its model as `grown_by`.

    The messages are as they came: uncleaned, and possibly empty. EmpatheticDialogues' rows, one utterance each, become
    one dialogue a conversation.

    Raises:
        ValueError: the columns are not understood, or a split's name is unknown.
    """
    rows = iter(source.rows)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{source.name} holds no rows; give a file with at least a few dialogues")
    chained = _chain(first, rows)
    columns = {str(column).lower(): str(column) for column in first}
    if context_column is not None or response_column is not None:
        pair = _mapped_pair(source.name, first, context_column, response_column)
        return (_with_split(row, _pair_messages(row, pair), source.name) for row in chained)
    if {"conv_id", "utterance"} <= first.keys():
        return _conversations(chained, source.name)
    for column, reader in (("messages", _as_messages), ("dialog", _speaker_messages), ("text", _text_messages)):
        if column in columns:
            key = columns[column]
            return (_with_split(row, reader(row.get(key)), source.name) for row in chained)
    for context, response in COLUMN_PAIRS:
        if context in columns and response in columns:
            pair = (columns[context], columns[response])
            return (_with_split(row, _pair_messages(row, pair), source.name) for row in chained)
    raise ValueError(
        f"{source.name} has the columns {_listed(first)}; expected Context and Response, prompt and "
        "completion, or messages; name yours with --context_column and --response_column"
    )


def contexts_of(source: Source, *, context_column: str | None = None) -> Iterator[list[Message]]:
    """Yield what was said before the reply in every row of `source`, whether or not there is a reply.

    Of a dialogue that is all up to the person's last turn. The messages are as they came: uncleaned, possibly empty.

    Raises:
        ValueError: the columns are not understood.
    """
    rows = iter(source.rows)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{source.name} holds no rows; give a file with at least one context")
    columns = {str(column).lower(): str(column) for column in first}
    known = (columns[context] for context, _ in COLUMN_PAIRS if context in columns)
    column = next(known, None) if context_column is None else context_column
    if column is None:
        dialogues = dialogues_of(Source(source.name, rows=_chain(first, rows)))
        return (_up_to_the_person(row["messages"]) for row in dialogues)
    if column not in first:
        raise ValueError(f"{source.name} has no column {column}; its columns are {_listed(first)}")
    return (_up_to_the_person(_turns(row.get(column))) for row in _chain(first, rows))


def _up_to_the_person(messages: list[Message]) -> list[Message]:
    last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return messages[: last + 1]


def _turns(value: Any, role: str = "user") -> list[Message]:
    """Return a cell as messages: a list of them, or a text that is all of one role."""
    return _as_messages(value) if isinstance(value, list) else [{"role": role, "content": _cell_text(value)}]


def _chain(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _listed(columns: Iterable[Any]) -> str:
    names = [_shortened(column) for column in columns]
    more = len(names) - _SHOWN_COLUMNS
    return ", ".join(names[:_SHOWN_COLUMNS]) + (f" and {more} more" if more > 0 else "")


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _mapped_pair(name: str, row: Row, context: str | None, response: str | None) -> tuple[str, str]:
    if context is None or response is None:
        raise ValueError("give both --context_column and --response_column, or neither")
    for column in (context, response):
        if column not in row:
            raise ValueError(f"{name} has no column {column}; its columns are {_listed(row)}")
    return context, response


def _with_split(row: Row, messages: list[Message], name: str) -> dict[str, Any]:
    split = _cell_text(row.get("split"))
    mark = _mark(row)
    if not split:
        return {"messages": messages, "split": None, **mark}
    known = SPLIT_NAMES.get(split.lower())
    if known is None:
        raise ValueError(f"{name} has the split {_shortened(split)!r}; the splits are train, validation and test")
    return {"messages": messages, "split": known, **mark}


def _mark(row: Row) -> dict[str, Any]:
    """Return how augmentation or growth made a row, where one of them did."""
    way = _cell_text(row.get("augmented"))
    if way == GROWTH and is_grower(row.get("grown_by")):
        return {"augmented": way, "grown_by": row["grown_by"]}
    return {"augmented": way} if way in METHODS else {}


def _pair_messages(row: Row, pair: tuple[str, str]) -> list[Message]:
    """Return a row's two cells as messages; conversational prompts and completions are lists already."""
    messages: list[Message] = []
    for column, role in zip(pair, ("user", "assistant"), strict=True):
        value = row.get(column)
        messages += _turns(value, role)
    return messages


def _cell_text(value: Any) -> str:
    """Return a cell as text; pandas writes what is missing as NaN."""
    if value is None or value != value:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError(f"a cell holds a {type(value).__name__}; expected text, or a list of messages")
    return str(value)


def _as_messages(value: Any) -> list[Message]:
    if isinstance(value, str):
        value = parse_json(value, "a messages cell")
    if not isinstance(value, list):
        raise ValueError(f"a messages cell is a {type(value).__name__}; expected a list of role and content")
    messages = []
    for message in value:
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise ValueError("a message lacks role or content; each must be {'role': 'user', 'content': 'text'}")
        if message["role"] not in ("system", "user", "assistant"):
            raise ValueError(
                f"a message has the role {_shortened(message['role'])!r}; the roles are system, user and assistant"
            )
        content = message["content"]
        messages.append({"role": message["role"], "content": "" if content is None else text_of(content)})
    return messages


def _speaker_messages(dialog: Any) -> list[Message]:
    """Return ESConv's `dialog`, in either of the forms it is passed on in, as messages."""
    if not isinstance(dialog, list):
        raise ValueError(f"a dialog cell is a {type(dialog).__name__}; expected a list of speaker and content")
    messages = []
    for turn in dialog:
        speaker = str(turn.get("speaker", "")).lower() if isinstance(turn, dict) else ""
        if speaker not in SPEAKER_ROLES:
            raise ValueError(
                f"a dialog turn has the speaker {_shortened(speaker)!r}; expected one of {', '.join(SPEAKER_ROLES)}"
            )
        content = _cell_text(turn.get("content", turn.get("text")))
        messages.append({"role": SPEAKER_ROLES[speaker], "content": content})
    return messages


def _text_messages(text: Any) -> list[Message]:
    """Return messages from a `text` column that holds ESConv's JSON."""
    value = text
    if isinstance(text, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
    if not isinstance(value, dict) or "dialog" not in value:
        raise ValueError(
            "the column text is not ESConv's JSON; name your columns with --context_column, --response_column"
        )
    return _speaker_messages(value["dialog"])


def _conversations(rows: Iterable[Row], name: str) -> Iterator[dict[str, Any]]:
    """Yield EmpatheticDialogues' utterances gathered by conversation; the first to speak is the person."""
    gathered: dict[str, tuple[Row, list[tuple[int, Message]]]] = {}
    for row in rows:
        conversation = _cell_text(row.get("conv_id"))
        _, turns = gathered.setdefault(conversation, (row, []))
        try:
            index = int(row.get("utterance_idx", len(turns) + 1))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} has an utterance_idx that is no number; count each conversation's from 1"
            ) from error
        content = _cell_text(row.get("utterance")).replace("_comma_", ",")
        turns.append((index, {"role": "user" if index % 2 else "assistant", "content": content}))
    for row, turns in gathered.values():
        yield _with_split(row, [message for _, message in sorted(turns, key=lambda turn: turn[0])], name)
