"""The files of a feedback folder: appended to, read, and a person's records taken out, by any number of processes."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

# A lock of the operating system's ends with the process that holds it, also by kill -9. filelock wraps it alike on
# every system, and comes with huggingface_hub and datasets already.
from filelock import FileLock

from mh_support.dialogue import check_messages
from mh_support.files import replacing, sweep_drafts

_LOCK_SECONDS = 20.0
_COMMON = {"id", "person", "time", "consent", "model", "messages", "kind", "reason"}
_KINDS = {"thumb": {"reply", "up"}, "choice": {"chosen", "rejected"}}


def folder_lock(folder: Path) -> FileLock:
    """Return the lock under which any process changes the files of a feedback folder."""
    return FileLock(folder / ".lock", timeout=_LOCK_SECONDS, mode=0o600, poll_interval=0.01)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as a line at the end of a file, and return when it is on the disk.

    Raises:
        OSError: the disk refuses; then the file is as it was.
    """
    line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
    # Opened for each record: a deletion may have put another file in its place.
    with folder_lock(path.parent):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            try:
                if file.write(line) != len(line):
                    raise OSError("the disk took only a part of the record; free some space")
                os.fsync(descriptor)
            except OSError:
                os.truncate(path, size)  # Or the next record would be glued to half a line.
                raise
        if size == 0:
            _sync_folder(path.parent)


def delete_records(folder: Path, person: str, ids: Collection[str] | None = None) -> int:
    """Remove every record of a person, or those with `ids`, from every file, and return how many there were.

    Each file is replaced whole, so that a crash leaves it as it was or without them; calling again goes on.
    """
    with folder_lock(folder):
        sweep_drafts(folder)  # A deletion that was killed leaves a draft, which holds what others wrote.
        return sum(_without(path, person, ids) for path in sorted(folder.glob("*.jsonl")))


def read_feedback(path_or_folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of a file, or of every file in a folder, oldest first; an unfinished last line is passed over.

    Raises:
        ValueError: no such file or folder, or a line is not a record; the message names the file and the line.
    """
    place = Path(path_or_folder)
    if not place.exists():
        raise ValueError(f"no feedback at {place}; give the folder that the server writes it to")
    paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
    records = [record for path in paths for record in _records(path)]
    return sorted(records, key=lambda record: record["time"])


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        problem = _problem(record)
        if problem is not None:
            raise ValueError(f"{path}, line {number}: {problem}; remove the line, or restore the file")
        yield record


def _problem(record: Any) -> str | None:
    """Say what is wrong with a record, without a word of what it holds."""
    if not isinstance(record, dict):
        return "not a JSON object"
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        return "its kind is neither thumb nor choice"
    wanted = _COMMON | _KINDS[kind]
    if set(record) != wanted:
        return f"its keys differ from those of a {kind} in {', '.join(sorted(set(record) ^ wanted))}"
    texts = {"id", "person", "time", "consent", *(_KINDS[kind] - {"up"})}
    wrong = sorted(key for key in texts if not isinstance(record[key], str))
    if "up" in wanted and not isinstance(record["up"], bool):
        wrong.append("up")
    if not isinstance(record["model"], dict):
        wrong.append("model")
    if record["reason"] is not None and not isinstance(record["reason"], str):
        wrong.append("reason")
    try:
        conversation = check_messages(record["messages"])
    except ValueError:
        conversation = []
    if not conversation or conversation[-1]["role"] != "user":
        wrong.append("messages")
    return f"{', '.join(wrong)} cannot be what was written" if wrong else None


def _without(path: Path, person: str, ids: Collection[str] | None) -> int:
    """Rewrite a file without a person's lines, if it has any, and return how many. An unfinished line goes too."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and not _is_of(line, person, ids)]
    if len(kept) == len(lines):
        return 0
    with replacing(path) as draft, os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)
    return sum(line.endswith(b"\n") for line in lines) - len(kept)


def _is_of(line: bytes, person: str, ids: Collection[str] | None) -> bool:
    try:
        record = json.loads(line)
        return bool(record["person"] == person and (ids is None or record["id"] in ids))
    except (ValueError, KeyError, TypeError, RecursionError):
        return person.encode() in line  # A damaged line that names the person is theirs.


def _sync_folder(folder: Path) -> None:
    """Bring a new or replaced file's name to the disk, where a folder can be opened for it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
