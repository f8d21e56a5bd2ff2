"""Work on batches in several processes: results in order, few batches under way, the same for any number of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

# So many batches are worked on before it is worth starting other processes.
ALONE = 4
# Rows and characters of a batch: enough that handing it over costs little, and few enough that several fit in memory.
BATCH_ROWS, BATCH_CHARACTERS = 1000, 4_000_000


def default_num_proc() -> int:
    """Return how many processors this process may use; 1 in one that may not start others."""
    if multiprocessing.current_process().daemon:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def batches_of(rows: Iterable[Given], size: Callable[[Given], int]) -> Iterator[list[Given]]:
    """Yield rows in batches; `size` says how many characters a row has."""
    batch: list[Given] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += size(row)
        if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def in_order(work: Callable[[Given], Made], batches: Iterable[Given], num_proc: int) -> Generator[Made, None, None]:
    """Yield `work(batch)` of each batch, in order; `work` is a function that other processes can import.

    Close the generator, or let it end, and no other process is left.
    """
    waiting = iter(batches)
    yield from map(work, islice(waiting, ALONE))
    following = list(islice(waiting, 1))
    if not following:
        return
    waiting = chain(following, waiting)
    if num_proc == 1:
        yield from map(work, waiting)
        return
    pool = ProcessPoolExecutor(num_proc, initializer=_begin)
    try:
        under_way: deque[Future[Made]] = deque()
        for batch in waiting:
            under_way.append(pool.submit(work, batch))
            if len(under_way) > 2 * num_proc:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that waits for this one, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
