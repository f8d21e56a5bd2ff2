"""Where dialogues come from: files, folders and Hub data sets, turned into `messages` at the door."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mh_support.dialogue import Message, text_of

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
FILE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
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
# The longest field of a CSV file, in characters: thousands of times any dialogue, yet it fits in memory.
FIELD_LIMIT = 10_000_000
# A file without a header has people's words where the names should be: a message shows only so much of them.
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 8, 30

Row = Mapping[str, Any]


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
        rows: Iterable[Row] = _read_file(path, encoding)
    elif path.is_dir():
        rows = _read_folder(path, encoding)
    elif (
        path.suffix.lower() in FILE_SUFFIXES
        or name.count("/") != 1
        or name.startswith((".", "/", "~"))
        or name[-1] == "/"
    ):
        raise ValueError(f"no data at {name}; give a {', '.join(FILE_SUFFIXES)} file, a folder, a Hub id, or 'samples'")
    else:
        rows = _read_hub(name, revision)
    recorded = path.absolute().name if path.exists() and name not in REGISTRY else name
    stated = license if license is not None else known.license
    restricted = known.non_commercial or "-nc" in stated.lower()
    return Source(recorded, stated, restricted, known.url, rows)


def dialogues_of(
    source: Source, *, context_column: str | None = None, response_column: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield `{"messages", "split"}` for every row of `source`; `split` is None where none is shipped.

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


def _chain(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _read_file(path: Path, encoding: str) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; give a file with a header and at least a few dialogues")
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, encoding, "\t" if suffix == ".tsv" else ",")
    if suffix == ".jsonl":
        return _read_jsonl(path, encoding)
    if suffix == ".json":
        return _read_json(path, encoding)
    if suffix == ".parquet":
        return _read_parquet(path)
    raise ValueError(f"{path} ends in {suffix or 'nothing'}; the formats read are {', '.join(FILE_SUFFIXES)}")


def _read_csv(path: Path, encoding: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(FIELD_LIMIT)
    with _opened(path, encoding) as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if not any(header):
                raise ValueError(f"{path} has an empty first line; the first line must name the columns")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ValueError(
                        f"{path} line {reader.line_num} has {len(cells)} fields, the header has {len(header)}; "
                        "quote fields that hold commas, tabs, quotes or line breaks"
                    )
                yield dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise ValueError(f"{path} line {reader.line_num} is not valid CSV ({error}); mend its quoting") from error
        except UnicodeError as error:
            raise _encoding_error(path, encoding, error) from error


def _read_jsonl(path: Path, encoding: str) -> Iterator[Row]:
    with _opened(path, encoding) as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _checked_row(_parse_json(line, f"{path} line {number}"), f"{path} line {number}")
        except UnicodeError as error:
            raise _encoding_error(path, encoding, error) from error


def _read_json(path: Path, encoding: str) -> Iterator[Row]:
    with _opened(path, encoding) as stream:
        try:
            text = stream.read()
        except UnicodeError as error:
            raise _encoding_error(path, encoding, error) from error
    value = _parse_json(text, str(path))
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if not isinstance(value, list):
        raise ValueError(f"{path} holds a {type(value).__name__}; expected a list of rows")
    for number, row in enumerate(value, 1):
        yield _checked_row(row, f"{path} row {number}")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error}); mend it or give another format") from error
    except RecursionError:
        raise ValueError(f"{where} is nested too deep to be a dialogue; give rows of messages") from None


def _checked_row(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f'{where} is a {type(row).__name__}; expected an object such as {{"messages": [...]}}')
    return row


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is not a Parquet file that can be read ({_first_line(error)}); write it again or fetch it anew"
        ) from error


def _read_folder(path: Path, encoding: str) -> Iterator[Row]:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _read_saved(path)
    files = sorted(
        file for file in path.iterdir() if file.suffix.lower() in FILE_SUFFIXES and file.stem.lower() in SPLIT_NAMES
    )
    if files:
        return _read_split_files(files, encoding)
    singles = [file for file in path.iterdir() if file.suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet")]
    if len(singles) == 1:
        return _read_file(singles[0], encoding)
    raise ValueError(
        f"the folder {path} holds no data set; expected train.jsonl (or .csv, .parquet) with validation and test "
        "beside it, one such file, or a folder written by datasets' save_to_disk"
    )


def _read_saved(path: Path) -> Iterator[Row]:
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(path))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"the folder {path} is not a data set that load_from_disk can read ({type(error).__name__}: "
            f"{_first_line(error)}); save it again"
        ) from error
    return _rows_of(saved if isinstance(saved, DatasetDict) else {"": saved})


def _read_split_files(files: Sequence[Path], encoding: str) -> Iterator[Row]:
    alone = len(files) == 1
    for file in files:
        for row in _read_file(file, encoding):
            yield row if alone else {**row, "split": file.stem}


def _read_hub(name: str, revision: str | None) -> Iterator[Row]:
    from datasets import exceptions, load_dataset
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        loaded = load_dataset(name, revision=revision)
    except (exceptions.DatasetNotFoundError, HFValidationError) as error:
        raise ValueError(f"no data set {name} on the Hub, or no access to it; check the id, or log in") from error
    except (ConnectionError, OfflineModeIsEnabled, HfHubHTTPError, exceptions.DatasetsError) as error:
        raise ValueError(
            f"the data set {name} cannot be fetched from the Hub ({_first_line(error)}); check the network, or give a "
            "file, a folder, or 'samples'"
        ) from error
    except RuntimeError as error:
        # datasets no longer runs the scripts that older data sets bring; the Hub keeps their rows as Parquet too.
        raise ValueError(
            f"the data set {name} cannot be read ({_first_line(error)}); try --dataset_revision refs/convert/parquet"
        ) from error
    return _rows_of(loaded)


def _rows_of(splits: Mapping[Any, Any]) -> Iterator[Row]:
    for name, split in splits.items():
        for row in split:
            yield row if len(splits) == 1 else {**row, "split": str(name)}


def _opened(path: Path, encoding: str) -> Any:
    """Open as text, dropping a byte-order mark; binary data shows as an encoding error at its first bad byte."""
    try:
        return path.open(encoding="utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding, newline="")
    except LookupError as error:
        raise ValueError(f"the encoding {encoding} is unknown; give one such as utf-8, utf-16 or cp1252") from error


def _encoding_error(path: Path, encoding: str, error: UnicodeError) -> ValueError:
    found = f"byte 0x{error.object[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else str(error)
    return ValueError(
        f"{path} is not {encoding} text throughout ({found}); save it as UTF-8, or name its encoding with --encoding, "
        "such as utf-16 or cp1252"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


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
    if not split:
        return {"messages": messages, "split": None}
    known = SPLIT_NAMES.get(split.lower())
    if known is None:
        raise ValueError(f"{name} has the split {_shortened(split)!r}; the splits are train, validation and test")
    return {"messages": messages, "split": known}


def _pair_messages(row: Row, pair: tuple[str, str]) -> list[Message]:
    """Return a row's two cells as messages; conversational prompts and completions are lists already."""
    messages: list[Message] = []
    for column, role in zip(pair, ("user", "assistant"), strict=True):
        value = row.get(column)
        if isinstance(value, list):
            messages += _as_messages(value)
        else:
            messages.append({"role": role, "content": _cell_text(value)})
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
        value = _parse_json(value, "a messages cell")
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
