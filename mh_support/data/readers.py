"""Read files, folders and Hub data sets into rows: one dictionary a line, by the names of the columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
# The longest field of a CSV file, in characters: thousands of times any dialogue, yet it fits in memory.
FIELD_LIMIT = 10_000_000
# Rows of a Parquet file that are in memory at once.
_PARQUET_ROWS = 1000

Row = Mapping[str, Any]


def read_file(path: Path, encoding: str) -> Iterator[Row]:
    """Return the rows of a CSV, TSV, JSON, JSONL or Parquet file, read as they are asked for.

    Raises:
        ValueError: the file is empty or of another kind; once a row is asked for, it cannot be read as its kind.
    """
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
                    yield _checked_row(parse_json(line, f"{path} line {number}"), f"{path} line {number}")
        except UnicodeError as error:
            raise _encoding_error(path, encoding, error) from error


def _read_json(path: Path, encoding: str) -> Iterator[Row]:
    with _opened(path, encoding) as stream:
        try:
            text = stream.read()
        except UnicodeError as error:
            raise _encoding_error(path, encoding, error) from error
    value = parse_json(text, str(path))
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if not isinstance(value, list):
        raise ValueError(f"{path} holds a {type(value).__name__}; expected a list of rows")
    for number, row in enumerate(value, 1):
        yield _checked_row(row, f"{path} row {number}")


def parse_json(text: str, where: str) -> Any:
    """Return what the JSON `text` holds; errors name `where` it stands.

    Raises:
        ValueError: it is not valid JSON, or nested too deep.
    """
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
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is not a Parquet file that can be read ({_first_line(error)}); write it again or fetch it anew"
        ) from error


def read_folder(path: Path, encoding: str) -> Iterator[Row]:
    """Return the rows of a folder: a saved data set, a file a split, or one file; `split` tells several splits apart.

    Raises:
        ValueError: it is none of these, or cannot be read.
    """
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _read_saved(path)
    # In the order of the names above, so that the first rows, which may be all that is asked for, are of train.
    files = [
        file
        for stem in SPLIT_NAMES
        for file in sorted(path.iterdir())
        if file.stem.lower() == stem and file.suffix.lower() in FILE_SUFFIXES
    ]
    if files:
        return _read_split_files(files, encoding)
    singles = [file for file in path.iterdir() if file.suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet")]
    if len(singles) == 1:
        return read_file(singles[0], encoding)
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
        for row in read_file(file, encoding):
            yield row if alone else {**row, "split": file.stem}


def read_hub(name: str, revision: str | None) -> Iterator[Row]:
    """Return the rows of a data set on the Hub; `split` tells several splits apart.

    Raises:
        ValueError: it is not there, or cannot be fetched or read.
    """
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
