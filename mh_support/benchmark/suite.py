"""All measurements in a row, each way of doing a thing in turn, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mh_support.benchmark import serving
from mh_support.benchmark.generation import WAYS, measure_generation, save_prompts
from mh_support.benchmark.preparation import SIZES, measure_import, measure_preparation, with_growth, write_rows
from mh_support.benchmark.processes import in_own_process
from mh_support.benchmark.profile import measure_profile
from mh_support.benchmark.results import (
    draw_generation,
    draw_serving,
    draw_training,
    summarise_generation,
    summarise_scaling,
    summarise_serving,
    summarise_training,
)
from mh_support.benchmark.scaling import Sharing, measure_processes
from mh_support.benchmark.training import (
    ARMS,
    EXTRA,
    MAX_LENGTH,
    POSITIONS,
    TrainingSetup,
    make_model,
    make_setup,
    make_tokenizer,
    measure_arm,
    read_dialogues,
)
from mh_support.dialogue import encode_dialogue
from mh_support.extras import how_to_install
from mh_support.files import write_json
from mh_support.modeling import STARTER, load_tokenizer, supports_bf16

PARTS = ("training", "profile", "generation", "serving", "scaling", "preparation", "import")
_DRAWN = {"training": draw_training, "generation": draw_generation, "serving": draw_serving}
# Dialogues whose perplexity to the starter shows what a way of serving loses.
LOSS_DIALOGUES = 32


@dataclass
class BenchmarkArguments:
    """What to measure, and how long to look."""

    data: str = field(default="samples", metadata={"help": "Dialogues whose lengths and words are used."})
    parts: list[str] = field(
        default_factory=lambda: list(PARTS), metadata={"help": f"What to measure: {', '.join(PARTS)}."}
    )
    arms: list[str] = field(
        default_factory=lambda: [arm for arm in ARMS if arm not in EXTRA],
        metadata={"help": f"Ways to train: {', '.join(ARMS)}; {', '.join(EXTRA)} only by name (needs a C++ compiler)."},
    )
    quick: bool = field(default=False, metadata={"help": "The training table alone, on a few rows, in two minutes."})
    repeats: int = field(default=3, metadata={"help": "Times that each measurement is made, all in turn."})
    batch_size: int = field(default=8, metadata={"help": "Rows a training batch."})
    steps: int = field(default=2, metadata={"help": "Training steps measured each time, after one that warms up."})
    dropout: float = field(
        default=0.0, metadata={"help": "Dropout of every way to train; other than 0 the losses cannot be compared."}
    )
    bf16: bool | None = field(default=None, metadata={"help": "Train in bf16; by default where the processor does."})
    layers: int = field(default=12, metadata={"help": "Blocks of the model; 12 are GPT-2's."})
    width: int = field(default=768, metadata={"help": "Width of the model; 768 is GPT-2's."})
    prompts: int = field(default=64, metadata={"help": "Conversations to reply to."})
    new_tokens: int = field(default=64, metadata={"help": "Tokens of a reply."})
    streams: list[int] = field(
        default_factory=lambda: list(serving.STREAMS), metadata={"help": "People who are served at once."}
    )
    processes: list[int] = field(
        default_factory=lambda: [1, 2, 4], metadata={"help": "Processes that share a step's batch, by DDP and by FSDP."}
    )
    sizes: list[int] = field(
        default_factory=lambda: list(SIZES[:2]),
        metadata={"help": "Rows to prepare, one after the other; add 1000000 for a long look."},
    )
    output_dir: str = field(default="benchmark", metadata={"help": "Where the results go."})

    def __post_init__(self) -> None:
        for name, known in (("parts", PARTS), ("arms", ARMS)):
            unknown = [item for item in getattr(self, name) if item not in known]
            if unknown:
                raise ValueError(f"{name} has {unknown[0]!r}; it is any of {', '.join(known)}")
        for name in ("repeats", "batch_size", "steps", "layers", "width", "prompts", "new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if min(self.streams) < 1:
            raise ValueError(f"streams has {min(self.streams)}; give 1 or more")
        uneven = [count for count in self.processes if count < 1 or self.batch_size % count]
        if uneven and "scaling" in self.parts and not self.quick:
            raise ValueError(f"a batch of {self.batch_size} rows cannot be shared by {uneven[0]} processes evenly")
        if self.parts == ["profile"] and not any(ARMS[arm].library == "ours" for arm in self.arms):
            raise ValueError("a profile is made of our ways to train; give --arms one of them, such as ours_full")
        if self.quick:
            self.parts, self.repeats, self.batch_size, self.steps = ["training"], 1, 2, 1


def run_benchmark(arguments: BenchmarkArguments) -> dict[str, Any]:
    """Measure, and write `benchmark.json` and a picture each of training, generation and serving to the output folder.

    Raises:
        ValueError: TRL or psutil is not installed and asked for, or there is too little data.
    """
    needs_trl = "training" in arguments.parts and any(ARMS[arm].library == "trl" for arm in arguments.arms)
    if needs_trl and find_spec("trl") is None:
        ours = " ".join(name for name, arm in ARMS.items() if arm.library != "trl")
        raise ValueError(f"TRL is not installed; {how_to_install('benchmark')}, or give --arms {ours}")
    if "preparation" in arguments.parts and find_spec("psutil") is None:
        others = " ".join(part for part in arguments.parts if part != "preparation")
        raise ValueError(f"psutil is not installed; {how_to_install('benchmark')}, or give --parts {others}")
    results: dict[str, Any] = {"machine": _machine(), "arguments": asdict(arguments)}
    output = Path(arguments.output_dir)
    with tempfile.TemporaryDirectory(prefix="mh_support_benchmark_") as scratch:
        folder = Path(scratch)
        dialogues = read_dialogues(arguments.data)
        tokenizer = None
        if not {"training", "profile", "generation", "serving", "scaling"}.isdisjoint(arguments.parts):
            tokenizer = make_tokenizer(dialogues)
            heads = max(1, arguments.width // 64)
            shape = {"n_layer": arguments.layers, "n_embd": arguments.width, "n_head": heads}
            make_model(folder, tokenizer, dropout=arguments.dropout, **shape)
            longest = POSITIONS - arguments.new_tokens
            save_prompts(folder, dialogues, tokenizer, arguments.prompts, length=longest)
        measurements: dict[str, Callable[[], Any]] = {
            "training": lambda: _training(arguments, folder, dialogues, tokenizer),
            "profile": lambda: _profile(arguments, folder, dialogues, tokenizer),
            "generation": lambda: _generation(arguments, folder),
            "serving": lambda: _serving(arguments, scratch, dialogues),
            "scaling": lambda: _scaling(arguments, folder, dialogues, tokenizer),
            "preparation": lambda: _preparation(arguments, folder, dialogues),
            "import": measure_import,
        }
        for part in (part for part in PARTS if part in arguments.parts):
            results[part] = measurements[part]()
            results["machine"]["load_after"] = os.getloadavg()[0]
            # After each, so that one that fails or is broken off loses nothing of those before it.
            write_json(output / "benchmark.json", results)
            if part in _DRAWN:
                _DRAWN[part](results[part], output / f"{part}.png")
    return results


def _machine() -> dict[str, Any]:
    import torch

    from mh_support.modeling import device_name

    names = ("torch", "transformers", "peft", "accelerate", *(("trl",) if find_spec("trl") else ()))
    capabilities = torch.cpu.get_capabilities()
    return {
        "processor": device_name("cpu"),
        "instructions": [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if capabilities.get(name)],
        "versions": {name: version(name) for name in names},
        "load_before": os.getloadavg()[0],
    }


def _setup(arguments: BenchmarkArguments, folder: Path, dialogues: Sequence[Any], tokenizer: Any) -> TrainingSetup:
    bf16 = supports_bf16("cpu") if arguments.bf16 is None else arguments.bf16
    sizes = {"batch_size": arguments.batch_size, "steps": arguments.steps}
    return make_setup(folder, dialogues, tokenizer, **sizes, bf16=bf16)


def _training(
    arguments: BenchmarkArguments, folder: Path, dialogues: Sequence[Any], tokenizer: Any
) -> dict[str, dict[str, Any]]:
    setup = _setup(arguments, folder, dialogues, tokenizer)
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arguments.arms}
    turns = [arm for _ in range(arguments.repeats) for arm in arguments.arms]
    for arm in tqdm(turns, desc="training"):
        found[arm].append(in_own_process(measure_arm, arm, setup))
        shutil.rmtree(folder / "frozen_prefix", ignore_errors=True)
    return summarise_training(found, setup)


def _profile(
    arguments: BenchmarkArguments, folder: Path, dialogues: Sequence[Any], tokenizer: Any
) -> dict[str, dict[str, Any]]:
    setup = _setup(arguments, folder, dialogues, tokenizer)
    found = {}
    for arm in tqdm([arm for arm in arguments.arms if ARMS[arm].library == "ours"], desc="profile"):
        found[arm] = in_own_process(measure_profile, arm, setup)
        shutil.rmtree(folder / "frozen_prefix", ignore_errors=True)
    return found


def _generation(arguments: BenchmarkArguments, folder: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for way in tqdm([way for _ in range(arguments.repeats) for way in WAYS], desc="generation"):
        found[way].append(in_own_process(measure_generation, way, str(folder), arguments.new_tokens))
    return summarise_generation(found)


def _serving(arguments: BenchmarkArguments, scratch: str, dialogues: Sequence[Any]) -> dict[str, dict[str, Any]]:
    tokenizer = load_tokenizer("starter")
    texts = [
        encode_dialogue(tokenizer, dialogue, max_length=MAX_LENGTH).rows[0]["input_ids"]
        for dialogue in dialogues[:LOSS_DIALOGUES]
    ]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in serving.ways()}
    for way in tqdm([way for _ in range(arguments.repeats) for way in found], desc="serving"):
        measured = in_own_process(serving.measure_serving, way, scratch, arguments.new_tokens, arguments.streams)
        found[way].append(measured)
    perplexities = {way: in_own_process(serving.measure_perplexity, way, str(STARTER), texts) for way in found}
    return summarise_serving(found, {way: each["perplexity"] for way, each in perplexities.items()})


def _scaling(
    arguments: BenchmarkArguments, folder: Path, dialogues: Sequence[Any], tokenizer: Any
) -> dict[str, dict[str, Any]]:
    setup = _setup(arguments, folder, dialogues, tokenizer)
    ways = [Sharing(count, sharded) for count in arguments.processes for sharded in (False, True) if count > sharded]
    found: dict[str, list[dict[str, Any]]] = {way.label: [] for way in ways}
    for way in tqdm([way for _ in range(arguments.repeats) for way in ways], desc="scaling"):
        found[way.label].append(measure_processes(way, setup))
    return summarise_scaling(found, setup)


def _preparation(arguments: BenchmarkArguments, folder: Path, dialogues: Sequence[Any]) -> list[dict[str, Any]]:
    measured = []
    for size in tqdm(arguments.sizes, desc="preparation"):
        path = folder / "rows.csv"
        write_rows(path, dialogues, size)
        measured.append({"rows": size, "bytes": path.stat().st_size, **in_own_process(measure_preparation, str(path))})
        path.unlink()
    return with_growth(measured)
