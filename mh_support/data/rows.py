"""Dialogues in Arrow files on disk, read where they stand: memory holds a number a row, the text stays in the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

Dialogue = dict[str, Any]
Array = np.ndarray[Any, Any]

SCHEMA = pa.schema(
    {
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "split": pa.string(),
        "augmented": pa.string(),
        "grown_by": pa.string(),
    }
)
_BLOCK = 1000  # rows that are made into Python objects at once


def record_batch(dialogues: Iterable[Dialogue]) -> pa.RecordBatch:
    """Return dialogues as Arrow columns."""
    return pa.RecordBatch.from_pylist(list(dialogues), schema=SCHEMA)


def write_arrow(path: Path, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Write batches to a new Arrow file as they come, and return it mapped into memory."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for batch in batches:
            if batch.num_rows:
                stream.write_batch(batch)
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def plain(row: Dialogue) -> Dialogue:
    """Return the messages of a row, and how it was made where it did not come so."""
    marks = {key: row[key] for key in ("augmented", "grown_by") if row.get(key) is not None}
    return {"messages": row["messages"], **marks}


class Rows(Sequence[Any]):
    """Some of the rows of an Arrow table, each made when it is asked for.

    Args:
        table: with the columns of `SCHEMA`.
        places: which rows, `(rows,)` in ascending order; all unless given.
        make: what to return of a row; the dialogue as it is saved unless given.
    """

    def __init__(
        self,
        table: pa.Table,
        places: Array | None = None,
        make: Callable[[Dialogue], Any] = plain,
    ) -> None:
        self.table = table
        self.places = np.arange(table.num_rows) if places is None else places
        self._make = make

    def messages(self) -> Rows:
        """Return the same rows as nothing but their messages."""
        return Rows(self.table.select(["messages"]), self.places, itemgetter("messages"))

    def joined(self, table: pa.Table, places: Array) -> Rows:
        """Return these rows and, after them, some of another table's."""
        both = pa.concat_tables([self.table, table])
        return Rows(both, np.concatenate([self.places, self.table.num_rows + places]), self._make)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[row] for row in range(*place.indices(len(self)))]
        return self._make(self.table.slice(int(self.places[place]), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self.table.num_rows, _BLOCK):
            first, end = np.searchsorted(self.places, (start, start + _BLOCK))
            if first == end:
                continue
            block = self.table.slice(start, _BLOCK)
            if end - first < block.num_rows:
                block = block.combine_chunks().take(self.places[first:end] - start)
            yield from map(self._make, block.to_pylist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"
