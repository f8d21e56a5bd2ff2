"""Measuring in a process of its own, so that nobody inherits another's memory, threads or settings."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

# Imported once, before the processes that measure are forked from one that computes nothing.
PRELOADED = ["mh_support.training", "mh_support.generation", "transformers.pipelines", "peft"]
_CONTEXT = multiprocessing.get_context("forkserver")


def in_own_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what `work` returns, and `peak_memory`, the most bytes that its process held.

    Raises:
        RuntimeError: the process failed; what it printed says why.
    """
    _CONTEXT.set_forkserver_preload([*PRELOADED, *(["trl"] if find_spec("trl") else [])])
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        result: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{work.__name__}{arguments[:1]} ended with exit code {process.exitcode}") from None
    process.join()
    return result


def _work(sender: Connection, work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    result = work(*arguments)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender.send({**result, "peak_memory": kilobytes * 1024})


def matmul_rate(seconds: float = 0.5, size: int = 2048) -> float:
    """Return the operations a second of a square bf16 matmul of torch's, the best of as many as fit `seconds`."""
    import torch

    left, right = (torch.randn(size, size, dtype=torch.bfloat16) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
