"""Training in several processes on one machine, the batch of each step shared between them."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from mh_support.benchmark.processes import in_own_process
from mh_support.benchmark.training import TrainingSetup, measure_arm

# What a launcher sets for recipes/configs/accelerate_fsdp.yaml.
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


@dataclass(frozen=True)
class Sharing:
    """How many processes train, and whether they share weights and optimizer (FSDP) or have them all each (DDP)."""

    processes: int
    sharded: bool = False

    @property
    def label(self) -> str:
        """What the table calls it."""
        return "1" if self.processes == 1 else f"{self.processes} {'FSDP' if self.sharded else 'DDP'}"


def measure_processes(sharing: Sharing, setup: TrainingSetup) -> dict[str, Any]:
    """Train all of the model in several processes, over gloo; return what the first measured.

    Each has its part of every batch and of the processor's cores. `peak_memory` is that of all together.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    count = sharing.processes
    with ThreadPoolExecutor(count) as waiting:
        found = list(waiting.map(lambda rank: in_own_process(measure_rank, rank, sharing, port, setup), range(count)))
    return {**found[0], "peak_memory": sum(each["peak_memory"] for each in found)}


def measure_rank(rank: int, sharing: Sharing, port: int, setup: TrainingSetup) -> dict[str, Any]:
    """Be one of the processes, as a launcher starts them."""
    import torch

    count = sharing.processes
    if count > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in {**address, "RANK": rank, "LOCAL_RANK": rank}.items()})
        os.environ["ACCELERATE_USE_CPU"] = "true"
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    if sharing.sharded:
        os.environ.update(SHARDED)
        shard_on_cpu()
    return measure_arm("ours_full", replace(setup, batch_size=setup.batch_size // count))


def shard_on_cpu() -> None:
    """Let accelerate shard over processors too, as torch's FSDP can; of itself it does so over accelerators alone.

    That is for measuring and testing here what is meant for GPUs.
    """
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    begin = AcceleratorState.__init__

    def begin_sharded(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            if self.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self.mixed_precision)
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = begin_sharded
