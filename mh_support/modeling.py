"""Models: where they come from, which of their parameters train, and in which precision."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.utils.peft_utils import find_adapter_config_file

from mh_support.dialogue import set_chat_template
from mh_support.files import read_json, sha256_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STARTER = Path(__file__).resolve().parent / "starter"
DTYPES = ("auto", "float32", "bfloat16")
# GPT-2 keeps its projections in Conv1D layers of these names; of the attention alone c_attn would be the default.
GPT2_TARGETS = ["c_attn", "c_proj", "c_fc"]


@dataclass
class ModelArguments:
    """Which model to start from and which of its parameters to train: all, the last blocks, or LoRA's."""

    model_name_or_path: str = field(
        default="gpt2",
        metadata={
            "help": "Hub id or folder of a causal LM (gpt2, gpt2-medium, microsoft/DialoGPT-small, -medium, -large), "
            "or 'starter', the small one that comes with the package.",
            "aliases": ["--model"],
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    train_layers: int | None = field(default=None, metadata={"help": "Train only the last N transformer blocks."})
    lora: bool = field(default=False, metadata={"help": "Train a LoRA adapter and leave the model as it is."})
    lora_r: int = field(default=8, metadata={"help": "Rank of the adapter's matrices."})
    lora_alpha: int = field(default=16, metadata={"help": "Scale of the adapter: alpha / r times its output."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the adapter."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Layers to adapt; by default all projections of every block."}
    )
    use_dora: bool = field(default=False, metadata={"help": "Weight-decomposed LoRA."})
    use_rslora: bool = field(default=False, metadata={"help": "Scale by alpha / sqrt(r)."})

    def __post_init__(self) -> None:
        if self.lora and self.train_layers is not None:
            raise ValueError("both --lora and --train_layers are given; choose one way to train")
        if self.train_layers is not None and self.train_layers < 1:
            raise ValueError(f"train_layers is {self.train_layers}; give 1 or more, or leave it out to train all")
        if (self.use_dora or self.use_rslora) and not self.lora:
            raise ValueError("--use_dora and --use_rslora are ways of --lora; add --lora true")
        if self.lora_r < 1 or not 0 <= self.lora_dropout < 1:
            raise ValueError(
                f"lora_r is {self.lora_r}, lora_dropout {self.lora_dropout}; r is at least 1, 0 <= dropout < 1"
            )

    @property
    def kind(self) -> str:
        """The method's name: full, last_blocks or lora."""
        if self.lora:
            return "lora"
        return "full" if self.train_layers is None else "last_blocks"

    def as_method(self) -> dict[str, Any]:
        """Return the method as `run.json` and the card record it."""
        lora = {key: value for key, value in asdict(self).items() if key.startswith(("lora_", "use_"))}
        return {"kind": self.kind, "train_layers": self.train_layers, "lora": lora if self.lora else None}


def model_path(name_or_path: str) -> str:
    """Return where transformers finds a model: the starter's folder, a run's `model` folder, or what was given.

    Raises:
        ValueError: a run folder whose training has not finished.
    """
    if name_or_path == "starter":
        return str(STARTER)
    folder = Path(name_or_path)
    if (folder / "run.json").is_file():
        if not (folder / "model").is_dir():
            raise ValueError(
                f"the run {name_or_path} has no finished model; finish it with recipes/finetune.py --resume true"
            )
        return str(folder / "model")
    return name_or_path


def load_tokenizer(name_or_path: str, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer, with this package's chat template if it has none of its own.

    Raises:
        ValueError: there is no such tokenizer, or it cannot be reached.
    """
    path = model_path(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(_not_found("tokenizer", name_or_path, error)) from error
    if tokenizer.chat_template is None:
        set_chat_template(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    name_or_path: str, *, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Load a causal LM, or an adapter on the base that it names, in `dtype`.

    Raises:
        ValueError: there is no such model, it cannot be reached, or it is no causal LM.
    """
    path = model_path(name_or_path)
    adapter = _adapter_config(path, revision)
    try:
        if adapter is None:
            return with_fused_activation(AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype=dtype))
        from peft import PeftModel

        base = AutoModelForCausalLM.from_pretrained(
            model_path(adapter["base_model_name_or_path"]), revision=adapter.get("revision"), dtype=dtype
        )
        adapted = PeftModel.from_pretrained(with_fused_activation(base), path, revision=revision)
        return adapted  # type: ignore[return-value]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(_not_found("causal language model", name_or_path, error)) from error


def with_fused_activation(model: PreTrainedModel) -> PreTrainedModel:
    """Let a model with GPT-2's activation compute it in one operation instead of eight; its configuration stays.

    `gelu_new` and `gelu_pytorch_tanh` are the same function, the first composed in Python.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, ACT2FN["gelu_pytorch_tanh"])
    return model


def adapter_base(path: str) -> str | None:
    """Return the base model that an adapter names, in a folder or on the Hub, or None where there is no adapter."""
    config = _adapter_config(path)
    return None if config is None else config["base_model_name_or_path"]


def _adapter_config(path: str, revision: str | None = None) -> dict[str, Any] | None:
    try:
        config = find_adapter_config_file(path, revision=revision)
    except OSError:
        return None  # There is no such model; what loads it next says so.
    return None if config is None else read_json(config)


def _not_found(what: str, name: str, error: BaseException) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return f"no {what} can be loaded from {name} ({reason}); check the id, the folder or the network, or use 'starter'"


def prepare_training(model: PreTrainedModel, arguments: ModelArguments) -> PreTrainedModel:
    """Return `model` with the parameters of the chosen method trainable and all others frozen.

    Raises:
        ValueError: more blocks than the model has, or LoRA targets that it does not have.
    """
    if arguments.kind == "full":
        return model
    if arguments.kind == "lora":
        return _with_adapter(model, arguments)
    assert arguments.train_layers is not None
    owner, blocks = _blocks(model)
    if arguments.train_layers > len(blocks):
        raise ValueError(f"train_layers is {arguments.train_layers} and the model has {len(blocks)} blocks; give fewer")
    model.requires_grad_(False)
    children = list(owner.children())
    # What follows the blocks (the last layer norm) trains with them; the head is tied to the embeddings and stays.
    trained = [*blocks[-arguments.train_layers :], *children[children.index(blocks) + 1 :]]
    for module in trained:
        module.requires_grad_(True)
    for module in model.modules():
        # What is frozen gives the same for a row each time, so that it can be computed once (see frozen_prefix).
        if isinstance(module, nn.Dropout) and not any(module in part.modules() for part in trained):
            module.p = 0.0
    return model


def _blocks(model: nn.Module) -> tuple[nn.Module, nn.ModuleList]:
    """Return the module that holds the transformer blocks, and the blocks: the longest list of modules there is."""
    found = [
        (owner, child) for owner in model.modules() for child in owner.children() if isinstance(child, nn.ModuleList)
    ]
    if not found:
        raise ValueError(f"{type(model).__name__} has no list of blocks; train it in full or with --lora true")
    return max(found, key=lambda pair: len(pair[1]))


def _with_adapter(model: PreTrainedModel, arguments: ModelArguments) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    is_gpt2 = any(type(module).__name__ == "Conv1D" for module in model.modules())
    targets: list[str] | str | None = arguments.lora_target_modules
    if targets is None:
        targets = GPT2_TARGETS if is_gpt2 else "all-linear"
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets,
        fan_in_fan_out=is_gpt2,
        use_dora=arguments.use_dora,
        use_rslora=arguments.use_rslora,
    )
    adapted = get_peft_model(model, config)
    # A name travels; the path of somebody's folder does not.
    adapted.peft_config["default"].base_model_name_or_path = arguments.model_name_or_path
    adapted.peft_config["default"].revision = arguments.model_revision
    # The vocabulary stays as it is. To find that out, peft would look for the base on the Hub at every save.
    adapted.save_pretrained = partial(adapted.save_pretrained, save_embedding_layers=False)  # type: ignore[method-assign]
    return adapted  # type: ignore[return-value]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and afterwards give each module the mode it had: a trainer may hold frozen parts in eval."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters and of all."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def supports_bf16(device: str) -> bool:
    """Say whether the processor or GPU computes in bf16, rather than only storing it."""
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def serving_dtype(name: str) -> torch.dtype:
    """Return the precision to write replies in: of "auto", bfloat16 where the processor computes in it.

    Raises:
        ValueError: no such precision.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; it is one of {', '.join(DTYPES)}")
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and supports_bf16("cpu")) else torch.float32


def round_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Turn a model's weights, and an adapter's, to `dtype` in place; buffers, such as rotary angles, stay precise."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)


def device_name(device: str) -> str:
    """Return what a machine's processor or GPU is called, for records and cards."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name} CPU, {threads} thread{'s' if threads > 1 else ''}"


def memory_estimate(model: nn.Module, *, batch_size: int, max_length: int) -> int:
    """Return roughly how many bytes training takes, before the first step is tried.

    Weights and, for each trainable parameter, its gradient and AdamW's two moments, in 4 bytes each; activations of
    about 16 hidden-sized tensors a block and 3 vocabulary-sized ones for the head, in 4 bytes.
    """
    trainable, total = count_parameters(model)
    config: Any = getattr(model, "config", None)
    blocks = getattr(config, "num_hidden_layers", 0)
    width = getattr(config, "hidden_size", 0)
    activations = batch_size * max_length * (16 * blocks * width + 3 * getattr(config, "vocab_size", 0))
    return 4 * (total + 3 * trainable + activations)


def state_fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_fingerprint(folder: str | Path) -> str:
    """Return the SHA-256 of a model folder's safetensors files, a full model's or an adapter's.

    Raises:
        ValueError: the folder holds none.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no .safetensors file; give a folder with a saved model")
    return sha256_of(files)
