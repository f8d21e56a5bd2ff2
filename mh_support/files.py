"""Writing files so that nothing is ever half-written (write beside, then rename), and reading JSON."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix) that takes its place on success.

    What the block makes there may be a file or a folder. If the block raises, `path` is left as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        draft = holder / target.name
        yield draft
        if target.is_dir():
            _swap(draft, target, holder / "replaced")
        else:
            os.replace(draft, target)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def sweep_drafts(folder: str | os.PathLike[str]) -> None:
    """Remove what `replacing` left in `folder` where it was killed. Call it while nothing else writes there."""
    for draft in Path(folder).glob(".*.????????"):
        if draft.is_dir():
            shutil.rmtree(draft)


def remove(folder: str | os.PathLike[str]) -> None:
    """Remove a folder, at once for whoever looks; what a kill leaves of it is a draft that `sweep_drafts` removes."""
    target = Path(folder)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    os.replace(target, holder / target.name)
    shutil.rmtree(holder)


def _swap(draft: Path, target: Path, aside: Path) -> None:
    """Put `draft` in the place of the folder `target`, which goes aside, and comes back if that fails."""
    os.replace(target, aside)
    try:
        os.replace(draft, target)
    except BaseException:
        os.replace(aside, target)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line to `path`, whole or not at all."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def kept_secret(path: str | os.PathLike[str]) -> bytes:
    """Return the 32 random bytes kept at `path`, made there if there are none yet; only the owner may read them.

    Raises:
        ValueError: the file holds something else.
    """
    place = Path(path)
    if not place.is_file():
        with replacing(place) as draft, os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
    secret = place.read_bytes()
    if len(secret) != 32:
        raise ValueError(f"{place} holds {len(secret)} bytes instead of a secret of 32; restore it or remove it")
    return secret


def read_table(path: str | os.PathLike[str]) -> csv.DictReader[str]:
    """Return the rows of a CSV file as spreadsheets save it: with commas or semicolons, a mark in front or none.

    Raises:
        ValueError: the file is not in UTF-8.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as CSV UTF-8") from None
    head = text.split("\n", 1)[0]
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON from `path`.

    Raises:
        ValueError: the file is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); make it again or restore it") from error


@cache
def packaged_json(package: str, name: str) -> dict[str, Any]:
    """Return the JSON object of a file that comes with a package, read once: everybody gets the same, to be read."""
    table: dict[str, Any] = json.loads((files(package) / name).read_text(encoding="utf-8"))
    return table


def sha256_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Return one SHA-256 over the names and bytes of `paths`, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(Path(path) for path in paths):
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    return digest.hexdigest()
