"""What the frozen blocks put out for each row, computed once and kept on disk for every epoch.

When only the last blocks train, the blocks before them give the same for a row in every epoch: they are frozen, and
there is no dropout in them (`mh_support.modeling.prepare_training` sees to it, with this cache or without). What they
give is the input of the first block that trains, `(tokens, width)` a row, kept as it is computed, in fp32: losses and
gradients equal those of a run without the cache to the rounding of the order in which sums are made.

A folder holds `key.json`, what the contents follow from; `hidden.bin`, all rows end to end, mapped into memory; and
`done.bin`, a byte for each block of rows, set once all of it is written. What a kill leaves half-written is made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from accelerate.utils import parse_flag_from_env
from datasets import concatenate_datasets
from torch import Tensor
from tqdm.auto import tqdm

from mh_support.files import read_json, sweep_drafts, write_json
from mh_support.modeling import count_parameters, evaluating
from mh_support.packing import PackingCollator, blocks_output, can_pack, causal_lm

if TYPE_CHECKING:
    from datasets import Dataset

    from mh_support.plan import Plan
    from mh_support.training_arguments import FinetuneArguments

FORMAT = 1
# Computed and marked as done together: enough for matrices of a good size, seconds of work to lose in a kill.
TOKENS_AT_ONCE = 4096
_BYTES = 4  # Of a number in fp32.
# What of GPT-2's configuration changes what the same weights put out.
_ARCHITECTURE = (
    *("activation_function", "layer_norm_epsilon", "n_head", "reorder_and_upcast_attn"),
    *("scale_attn_by_inverse_layer_idx", "scale_attn_weights"),
)
_FILES = ("key.json", "hidden.bin", "done.bin")


@dataclass(frozen=True)
class Layout:
    """How many tokens each row has, in order, and how wide a hidden state is."""

    lengths: list[int]
    width: int

    @property
    def bytes(self) -> int:
        """What all rows take on disk."""
        return sum(self.lengths) * self.width * _BYTES

    def blocks(self) -> Iterator[range]:
        """Yield the rows that are computed together."""
        start = tokens = 0
        for row, length in enumerate(self.lengths):
            tokens += length
            if tokens >= TOKENS_AT_ONCE or row == len(self.lengths) - 1:
                yield range(start, row + 1)
                start, tokens = row + 1, 0


class FrozenPrefix:
    """The kept output of a model's first blocks for the rows of one data set.

    Args:
        folder: where it is kept; made if it is not there, made anew if it holds something with another key.
        key: all that the contents follow from.
        layout: the rows' lengths and the width.
        first_block: the number of blocks whose output this is, which is the block that it goes into.

    Raises:
        ValueError: the folder holds anything else.
    """

    def __init__(self, folder: Path, key: dict[str, Any], layout: Layout, first_block: int) -> None:
        self.folder, self.layout, self.first_block = folder, layout, first_block
        self._blocks = list(layout.blocks())
        self._starts = [0, *accumulate(layout.lengths)]
        self._open(key)

    def _open(self, key: dict[str, Any]) -> None:
        """Map the files, which are made where there are none that belong to `key`."""
        shape = (self._starts[-1], self.layout.width)
        hidden, done = self.folder / "hidden.bin", self.folder / "done.bin"
        whole = hidden.is_file() and hidden.stat().st_size == self.layout.bytes and done.is_file()
        reused = whole and _key_in(self.folder) == key
        if not reused:
            _clear(self.folder)
        self._maps = (hidden, shape), (done, (len(self._blocks),))
        if not reused:
            _reserve(hidden, self.layout.bytes)
            _reserve(done, len(self._blocks))
        self._map()
        if not reused:
            # Last, since it says that the files are there and of this size.
            write_json(self.folder / "key.json", key)

    def _map(self) -> None:
        (hidden, shape), (done, blocks) = self._maps
        self._hidden = np.memmap(hidden, dtype=np.float32, mode="r+", shape=shape)
        self._done = np.memmap(done, dtype=np.uint8, mode="r+", shape=blocks)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is mapped, which a worker that loads data maps anew."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_hidden", "_done")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    @property
    def blocks(self) -> int:
        """How many blocks of rows there are."""
        return len(self._blocks)

    @property
    def missing(self) -> list[int]:
        """The numbers of the blocks of rows that are still to be computed."""
        return np.flatnonzero(self._done == 0).tolist()

    def read(self, row: int) -> Tensor:
        """Return a row's hidden states, `(tokens, width)`, in fp32; they are the file's own memory."""
        return torch.from_numpy(self._hidden[self._starts[row] : self._starts[row + 1]])

    @torch.no_grad()
    def fill(self, model: Any, rows: Mapping[str, Dataset], *, progress: bool = True, bf16: bool = False) -> None:
        """Compute what is missing with the frozen blocks in eval mode, for the rows of all splits in order."""
        inner, collate, every = causal_lm(model), PackingCollator(), concatenate_datasets(list(rows.values()))
        device = inner.transformer.wte.weight.device
        missing = self.missing
        bar = tqdm(missing, desc="output of the frozen blocks", disable=not progress or not missing, leave=False)
        with evaluating(inner), torch.autocast(device.type, torch.bfloat16, enabled=bf16), bar:
            for number in bar:
                block = self._blocks[number]
                batch = {name: tensor.to(device) for name, tensor in collate(every.select(block).to_list()).items()}
                hidden = _packed_output(inner, batch, self.first_block)
                self._hidden[self._starts[block.start] : self._starts[block.stop]] = hidden[0].float().cpu().numpy()
                # On disk before it is called done, even where the power goes out.
                self._hidden.flush()
                self._done[number] = 1
        self._done.flush()


def _packed_output(model: Any, batch: dict[str, Tensor], end: int) -> Tensor:
    return blocks_output(model, batch["lengths"].tolist(), batch["input_ids"], batch["position_ids"], end=end)


def _clear(folder: Path) -> None:
    """Make the folder, or remove from it what an earlier cache left; somebody else's files stay, and are refused."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give --frozen_prefix_dir a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    sweep_drafts(folder)
    strangers = sorted({entry.name for entry in folder.iterdir()} - set(_FILES))
    if strangers:
        raise ValueError(
            f"{folder} holds {strangers[0]}, which is no output of frozen blocks; give --frozen_prefix_dir a new folder"
        )
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _reserve(path: Path, size: int) -> None:
    """Make a file of zeros whose room on the disk is its own: writing to a map of a full disk would end the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _key_in(folder: Path) -> Any:
    try:
        return read_json(folder / "key.json")
    except (OSError, ValueError):
        return None


def numbered_rows(plan: Plan) -> dict[str, Dataset]:
    """Return the rows of each split with their number, training before validation, as `row`."""
    numbered, start = {}, 0
    for split, encoded in plan.encoded.items():
        numbered[split] = encoded.rows.add_column("row", list(range(start, start + len(encoded.rows))))
        start += len(encoded.rows)
    return numbered


def frozen_blocks(model: Any) -> int:
    """Return how many blocks stand before the first that trains; 0 where the embeddings train or no block does."""
    inner = causal_lm(model)
    trunk = inner.transformer
    if any(parameter.requires_grad for module in (trunk.wte, trunk.wpe) for parameter in module.parameters()):
        return 0
    trains = [any(parameter.requires_grad for parameter in block.parameters()) for block in trunk.h]
    return trains.index(True) if any(trains) else 0


def prefix_key(
    plan: Plan, arguments: FinetuneArguments, rows: Mapping[str, Dataset], first_block: int
) -> dict[str, Any]:
    """Return all that the kept output follows from."""
    ids = hashlib.sha256()
    for row in concatenate_datasets(list(rows.values()))["input_ids"]:
        ids.update(np.asarray([len(row), *row], dtype=np.int64).tobytes())
    config = causal_lm(plan.model).config
    tokenizer = plan.tokenizer.backend_tokenizer.to_str() if plan.tokenizer.is_fast else repr(plan.tokenizer)
    return {
        "format": FORMAT,
        "weights": plan.base_weights,
        "frozen_blocks": first_block,
        "tokenizer": hashlib.sha256(tokenizer.encode()).hexdigest(),
        "template": hashlib.sha256(str(plan.tokenizer.chat_template).encode()).hexdigest(),
        "data": ids.hexdigest(),
        "max_length": arguments.max_length,
        "computed_in": "bf16" if arguments.bf16 else "fp32",
        "device": arguments.device.type,
        "architecture": ", ".join(f"{name} {getattr(config, name)}" for name in _ARCHITECTURE),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def open_prefix(
    plan: Plan, arguments: FinetuneArguments, rows: Mapping[str, Dataset], folder: Path
) -> FrozenPrefix | None:
    """Return the cache for a run, still to be filled, and print what it takes and saves; None where there is none.

    Where the output of frozen blocks could be kept and is not, the reason is printed.
    """
    if not arguments.frozen_prefix_cache or plan.record["method"]["kind"] != "last_blocks":
        return None
    reason = _reason_against(plan, arguments)
    layout = Layout([length for split in rows.values() for length in split["length"]], plan.model.config.hidden_size)
    reason = reason or _reason_of_space(layout.bytes, arguments.frozen_prefix_gb, folder)
    if reason:
        print(f"frozen       {reason}; the frozen blocks are computed anew in each epoch")
        return None
    first_block = frozen_blocks(plan.model)
    key = prefix_key(plan, arguments, rows, first_block)
    try:
        prefix = FrozenPrefix(folder, key, layout, first_block)
    except OSError as error:
        _clear(folder)
        print(f"frozen       {folder}: {error.strerror}; the frozen blocks are computed anew in each epoch")
        return None
    print(describe_prefix(prefix, plan))
    return prefix


def _reason_against(plan: Plan, arguments: FinetuneArguments) -> str | None:
    if not can_pack(plan.model):
        return f"the cache of frozen blocks is for GPT-2's architecture, not for {type(causal_lm(plan.model)).__name__}"
    launched = any(parse_flag_from_env(f"ACCELERATE_USE_{kind}") for kind in ("FSDP", "DEEPSPEED"))
    if arguments.world_size > 1 or arguments.fsdp or arguments.deepspeed is not None or launched:
        return "the cache of frozen blocks is for training in one process"
    if arguments.label_smoothing_factor:
        return "the cache of frozen blocks is for training without label smoothing"
    if arguments.neftune_noise_alpha:
        return "the cache of frozen blocks is for training without NEFTune's noise"
    if arguments.fp16:
        return "the cache of frozen blocks is for fp32 and bf16, not for fp16"
    if frozen_blocks(plan.model) == 0:
        return "the cache of frozen blocks has nothing to keep, since every block trains"
    return None


def _reason_of_space(needed: int, limit_gb: float, folder: Path) -> str | None:
    present = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(present).free + _size_of(folder)
    if needed > limit_gb * 1e9:
        return f"the cache of frozen blocks takes {needed / 1e9:.2f} GB and frozen_prefix_gb is {limit_gb:g} (raise it)"
    if needed > free:
        return f"the cache of frozen blocks takes {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free"
    return None


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.glob("*")) if folder.is_dir() else 0


def describe_prefix(prefix: FrozenPrefix, plan: Plan) -> str:
    """Return one line: what the cache takes, where, and what it saves."""
    missing, blocks = len(prefix.missing), prefix.blocks
    state = "to be computed once" if missing == blocks else "all there" if not missing else "in part there"
    saved = saved_share(plan, prefix.first_block)
    return (
        f"frozen       output of {prefix.first_block} blocks kept: {prefix.layout.bytes / 1e9:.2f} GB in "
        f"{prefix.folder}, {state}; saves about {saved:.0%} of each epoch (no dropout in them)"
    )


def saved_share(plan: Plan, first_block: int) -> float:
    """Return which part of an epoch's arithmetic the frozen blocks are, between 0 and 1.

    Two operations a parameter and token forwards; four more backwards where it trains, two where only what lies before
    it does; the head at supervised tokens only.
    """
    inner = causal_lm(plan.model)
    frozen = sum(count_parameters(block)[1] for block in inner.transformer.h[:first_block])
    trained = sum(count_parameters(block)[1] for block in inner.transformer.h[first_block:])
    counts = plan.encoded["train"].counts
    head = inner.lm_head.weight.numel() * counts["supervised_tokens"] / counts["tokens"]
    return 2 * frozen / (2 * frozen + 6 * trained + 4 * head)
