"""Where the time of a training step goes: matrix products, and what keeps the step from being nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mh_support.benchmark.processes import matmul_rate
from mh_support.benchmark.training import ARMS, TrainingSetup, trainer_of
from mh_support.files import read_json

PRODUCTS = "matrix products"
# By what the names of torch's operators hold, the first that fits; Python and the rest is what is no operator's.
GROUPS = {
    PRODUCTS: ("::mm", "addmm", "bmm", "::linear", "mkldnn_linear", "::matmul"),
    "attention": ("scaled_dot_product", "flash_attention"),
    "softmax and loss": ("softmax", "logsumexp", "amax", "nll_loss", "cross_entropy"),
    "optimizer and clipping": ("adamw", "optimizer", "foreach", "linalg_vector_norm"),
    "casts, copies, zeros": ("copy", "_to_", "::cat", "fill", "zero", "index", "gather", "embedding"),
    "norms, activation, other operators": ("::",),
}
REST = "Python and the rest"


def measure_profile(name: str, setup: TrainingSetup) -> dict[str, Any]:
    """Train on every batch once and profile all steps but the first.

    Returns:
        `seconds` of the steps, `groups` with the seconds of each, `operations` that the matrix products made, and
        `matmul_rate`, the machine's own at the time.
    """
    from torch.profiler import ProfilerActivity, profile
    from transformers import PrinterCallback, TrainerCallback

    profiler = profile(activities=[ProfilerActivity.CPU], with_flops=True)
    took = [0.0]

    class FromTheSecondStep(TrainerCallback):
        """Starts the profiler when the step that warms up has ended."""

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.global_step == 1:
                profiler.start()
                took[0] = -time.perf_counter()
            elif state.global_step == state.max_steps:
                took[0] += time.perf_counter()
                profiler.stop()

    rates = [matmul_rate()]
    trainer, fill = trainer_of(ARMS[name], setup, read_json(Path(setup.folder) / "rows.json"), FromTheSecondStep())
    trainer.remove_callback(PrinterCallback)
    fill()
    trainer.train()
    rates.append(matmul_rate())
    groups, operations = grouped(
        [(event.key, event.self_cpu_time_total / 1e6, event.flops or 0) for event in profiler.key_averages()]
    )
    groups[REST] = took[0] - sum(groups.values())
    return {
        "seconds": took[0],
        "groups": groups,
        "operations": operations,
        "matmul_rate": sum(rates) / len(rates),
    }


def grouped(events: Sequence[tuple[str, float, float]]) -> tuple[dict[str, float], float]:
    """Return the seconds of each group, and the operations of the matrix products.

    `events` are the operators' names, the seconds of their own and the operations that the profiler counted.

    >>> grouped([("aten::addmm", 2.0, 8e9), ("aten::add", 1.0, 1e6)])[0]["matrix products"]
    2.0
    """
    groups, operations = dict.fromkeys(GROUPS, 0.0), 0.0
    for name, seconds, flops in events:
        known = (group for group, parts in GROUPS.items() if any(part in name.lower() for part in parts))
        group = next(known, None)
        if group is not None:
            groups[group] += seconds
            operations += flops if group == PRODUCTS else 0
    return groups, operations
