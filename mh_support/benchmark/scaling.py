"""Training in several processes on one machine, the batch of each step shared between them."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from mh_support.benchmark.processes import in_own_process
from mh_support.benchmark.training import TrainingSetup, measure_arm


def measure_processes(count: int, setup: TrainingSetup) -> dict[str, Any]:
    """Train all of the model in `count` processes (DDP over gloo); return what the first measured.

    Each has its part of every batch and of the processor's cores. `peak_memory` is that of all together.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ThreadPoolExecutor(count) as waiting:
        found = list(waiting.map(lambda rank: in_own_process(measure_rank, rank, count, port, setup), range(count)))
    return {**found[0], "peak_memory": sum(each["peak_memory"] for each in found)}


def measure_rank(rank: int, count: int, port: int, setup: TrainingSetup) -> dict[str, Any]:
    """Be one of `count` processes, as a launcher starts them."""
    import torch

    if count > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in {**address, "RANK": rank, "LOCAL_RANK": rank}.items()})
        os.environ["ACCELERATE_USE_CPU"] = "true"
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    return measure_arm("ours_full", replace(setup, batch_size=setup.batch_size // count))
