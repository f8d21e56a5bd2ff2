"""Which parameters train, that nothing else moves, and that a model comes back as it was saved."""

from __future__ import annotations

import copy
import json
import warnings

import huggingface_hub.constants
import pytest
import torch
from peft import PeftModel
from torch import nn
from training_fixtures import one_thread  # noqa: F401
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, LlamaForCausalLM

import mh_support.modeling as modeling
from mh_support.dialogue import CHAT_TEMPLATE
from mh_support.files import write_json
from mh_support.modeling import (
    GPT2_TARGETS,
    STARTER,
    ModelArguments,
    adapter_base,
    count_parameters,
    load_model,
    load_tokenizer,
    memory_estimate,
    model_path,
    prepare_training,
    round_weights,
    state_fingerprint,
    supports_bf16,
    weights_fingerprint,
)
from mh_support.training import FinetuneArguments

# The parts of one GPT-2 block.
BLOCK = {
    f"{layer}.{part}"
    for layer in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for part in ("weight", "bias")
}
LORA = ("lora_A.default.weight", "lora_B.default.weight")
PROJECTIONS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def block(number: int) -> set[str]:
    return {f"transformer.h.{number}.{name}" for name in BLOCK}


def adapted(*parts: str) -> set[str]:
    return {
        f"base_model.model.transformer.h.{number}.{projection}.{part}"
        for number in (0, 1)
        for projection in PROJECTIONS
        for part in parts
    }


def trainable(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def some_ids(model, rows: int = 4, length: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(1, model.config.vocab_size, (rows, length), generator=generator)


def train(model, steps: int = 5):
    """Take a few steps of AdamW on every trainable parameter."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    ids = some_ids(model)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model.train()
        for _ in range(steps):
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def weights(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=some_ids(model)).logits


# --- arguments --------------------------------------------------------------------------------------------------------


def test_defaults_are_full_training_of_gpt2():
    arguments = ModelArguments()
    assert arguments.model_name_or_path == "gpt2"
    assert arguments.kind == "full"
    assert arguments.as_method() == {"kind": "full", "train_layers": None, "lora": None}


def test_methods_as_they_are_recorded():
    assert ModelArguments(train_layers=2).as_method() == {"kind": "last_blocks", "train_layers": 2, "lora": None}
    assert ModelArguments(lora=True, lora_r=4, use_rslora=True).as_method() == {
        "kind": "lora",
        "train_layers": None,
        "lora": {
            "lora_r": 4,
            "lora_alpha": 16,
            "lora_dropout": 0.05,
            "lora_target_modules": None,
            "use_dora": False,
            "use_rslora": True,
        },
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lora": True, "train_layers": 2}, r"^both --lora and --train_layers are given; choose one way to train$"),
        ({"lora": True, "train_layers": 0}, r"^both --lora and --train_layers are given; choose one way to train$"),
        ({"train_layers": 0}, r"^train_layers is 0; give 1 or more, or leave it out to train all$"),
        ({"train_layers": -1}, r"^train_layers is -1; give 1 or more, or leave it out to train all$"),
        ({"use_dora": True}, r"^--use_dora and --use_rslora are ways of --lora; add --lora true$"),
        ({"use_rslora": True}, r"^--use_dora and --use_rslora are ways of --lora; add --lora true$"),
        ({"lora": True, "lora_r": 0}, r"^lora_r is 0, lora_dropout 0.05; r is at least 1, 0 <= dropout < 1$"),
        ({"lora": True, "lora_dropout": 1.0}, r"^lora_r is 8, lora_dropout 1.0; r is at least 1, 0 <= dropout < 1$"),
        ({"lora": True, "lora_dropout": -0.1}, r"^lora_r is 8, lora_dropout -0.1; r is at least 1, 0 <= dropout < 1$"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ModelArguments(**given)


# --- what trains ------------------------------------------------------------------------------------------------------


def test_full_training_trains_every_parameter(tiny_model):
    before = weights(tiny_model)
    model = prepare_training(tiny_model, ModelArguments())
    assert model is tiny_model
    assert (
        trainable(model)
        == set(before)
        == {
            "transformer.wte.weight",
            "transformer.wpe.weight",
            *block(0),
            *block(1),
            "transformer.ln_f.weight",
            "transformer.ln_f.bias",
        }
    )
    after = weights(train(model))
    assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize(("layers", "blocks"), [(1, {*block(1)}), (2, {*block(0), *block(1)})])
def test_last_blocks_train_with_the_final_norm_and_all_else_stays_to_the_bit(tiny_model, layers, blocks):
    before = weights(tiny_model)
    model = prepare_training(tiny_model, ModelArguments(train_layers=layers))
    chosen = {*blocks, "transformer.ln_f.weight", "transformer.ln_f.bias"}
    assert trainable(model) == chosen
    after = weights(train(model))
    assert {name for name in before if not torch.equal(before[name], after[name])} == chosen
    # The head is the embeddings, and stays with them.
    assert model.lm_head.weight is model.transformer.wte.weight


def test_more_blocks_than_there_are_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"^train_layers is 3 and the model has 2 blocks; give fewer$"):
        prepare_training(tiny_model, ModelArguments(train_layers=3))
    assert trainable(tiny_model) == set(weights(tiny_model))


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match=r"^Linear has no list of blocks; train it in full or with --lora true$"):
        prepare_training(nn.Linear(2, 2), ModelArguments(train_layers=1))


@pytest.mark.parametrize(
    ("ways", "parts"),
    [
        ({}, LORA),
        ({"use_rslora": True}, LORA),
        ({"use_dora": True}, (*LORA, "lora_magnitude_vector.default.weight")),
        ({"use_dora": True, "use_rslora": True}, (*LORA, "lora_magnitude_vector.default.weight")),
    ],
    ids=["lora", "rslora", "dora", "rslora and dora"],
)
def test_an_adapter_trains_on_every_projection_and_the_model_stays_to_the_bit(tiny_model, ways, parts):
    untouched = logits(tiny_model)
    model = prepare_training(tiny_model, ModelArguments(lora=True, lora_r=4, **ways))
    chosen = adapted(*parts)
    assert trainable(model) == chosen
    assert torch.allclose(logits(model), untouched, atol=1e-6)
    before = weights(model)
    after = weights(train(model))
    assert {name for name in before if not torch.equal(before[name], after[name])} == chosen
    assert (logits(model) - untouched).abs().max() > 0.1

    merged = copy.deepcopy(model).merge_and_unload(safe_merge=True)
    assert set(merged.state_dict()) == {
        *(name.removeprefix("base_model.model.") for name in _plain(model)),
        "lm_head.weight",
    }
    assert (logits(merged) - logits(model)).abs().max() < 1e-5


def _plain(model) -> set[str]:
    """Return the names that an adapted model's parameters had before it was adapted."""
    return {name.replace(".base_layer", "") for name in model.state_dict() if "lora_" not in name}


@pytest.mark.parametrize(("rslora", "scale"), [(False, 16 / 4), (True, 16 / 2)])
def test_the_adapters_scale_is_alpha_over_r_or_over_its_root(tiny_model, rslora, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = prepare_training(tiny_model, ModelArguments(lora=True, lora_r=4, lora_alpha=16, use_rslora=rslora))
    layer = model.base_model.model.transformer.h[0].attn.c_attn
    assert layer.scaling == {"default": scale}
    assert layer.fan_in_fan_out is True
    assert layer.lora_A["default"].weight.shape == (4, 32)
    assert layer.lora_B["default"].weight.shape == (96, 4)
    assert layer.lora_dropout["default"].p == 0.05


def test_an_adapters_layers_can_be_chosen(tiny_model):
    model = prepare_training(tiny_model, ModelArguments(lora=True, lora_target_modules=["c_fc"]))
    assert trainable(model) == {name for name in adapted(*LORA) if "c_fc" in name}


def test_layers_that_the_model_lacks_are_refused(tiny_model):
    with pytest.raises(ValueError, match=r"q_proj.*not found in the base model"):
        prepare_training(tiny_model, ModelArguments(lora=True, lora_target_modules=["q_proj"]))


@pytest.fixture
def tiny_llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
    )


def test_other_architectures_last_blocks(tiny_llama):
    model = prepare_training(tiny_llama, ModelArguments(train_layers=1))
    chosen = {name for name, _ in model.named_parameters() if name.startswith("model.layers.2.")} | {
        "model.norm.weight"
    }
    assert len(chosen) == 10
    assert trainable(model) == chosen


def test_other_architectures_adapter(tiny_llama):
    model = prepare_training(tiny_llama, ModelArguments(lora=True))
    projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".")[-4] for name in trainable(model)} == projections
    assert len(trainable(model)) == 3 * 7 * 2
    assert model.base_model.model.model.layers[0].self_attn.q_proj.fan_in_fan_out is False


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_parameters_are_counted_once_and_by_hand(tiny_model):
    width, positions, vocabulary = 32, 64, tiny_model.config.vocab_size
    attention = (width * 3 * width + 3 * width) + (width * width + width)
    mlp = (width * 4 * width + 4 * width) + (4 * width * width + width)
    one_block = 2 * 2 * width + attention + mlp
    total = vocabulary * width + positions * width + 2 * one_block + 2 * width
    assert count_parameters(tiny_model) == (total, total)
    assert count_parameters(prepare_training(tiny_model, ModelArguments(train_layers=1))) == (
        one_block + 2 * width,
        total,
    )


def test_memory_is_estimated_as_its_docstring_says(tiny_model):
    tiny_model.requires_grad_(False)
    tiny_model.transformer.ln_f.requires_grad_(True)
    total = count_parameters(tiny_model)[1]
    activations = 3 * 50 * (16 * 2 * 32 + 3 * tiny_model.config.vocab_size)
    assert memory_estimate(tiny_model, batch_size=3, max_length=50) == 4 * (total + 3 * 64 + activations)


def test_gpt2_of_its_own_size_is_estimated_at_gigabytes():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(GPT2Config())
    assert count_parameters(model) == (124_439_808, 124_439_808)
    # Weights, gradients and moments take 2 GB, ten rows of 512 another 6.
    assert 7e9 < memory_estimate(model, batch_size=10, max_length=512) < 9e9


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, False),
        ({"avx512_f": True, "amx_bf16": False}, False),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
    ],
)
def test_a_processor_gets_bf16_only_where_it_computes_in_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert supports_bf16("cpu") is expected


@pytest.mark.parametrize("ways", [ModelArguments(), ModelArguments(lora=True)])
def test_weights_are_rounded_and_rotary_angles_are_not(tiny_llama, ways):
    model = prepare_training(tiny_llama, ways).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        round_weights(model, torch.bfloat16)
        after = model(input_ids=ids).logits
    assert {weight.dtype for weight in model.parameters()} == {after.dtype} == {torch.bfloat16}
    assert {buffer.dtype for buffer in model.buffers() if buffer.is_floating_point()} == {torch.float32}
    assert (after.float() - before).abs().max() < 0.05


def test_a_gpu_gets_bf16_only_where_it_is_not_emulated(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation))
    supports_bf16("cuda")
    assert asked == [False]
    assert supports_bf16("mps") is False


@pytest.mark.parametrize("supported", [True, False])
def test_training_takes_the_precision_that_is_supported_unless_one_is_asked_for(monkeypatch, supported):
    monkeypatch.setattr("mh_support.training_arguments.supports_bf16", lambda device: supported)
    assert FinetuneArguments().bf16 is supported
    assert FinetuneArguments(bf16=False).bf16 is False
    assert FinetuneArguments(bf16=True).bf16 is True
    assert FinetuneArguments(fp16=True).bf16 is False


def test_weights_are_loaded_in_full_precision_unless_asked_otherwise(tmp_path, tiny_model):
    tiny_model.to(torch.bfloat16).save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load_model(str(tmp_path)).parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(str(tmp_path), dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


# --- where models come from -------------------------------------------------------------------------------------------


def test_paths(tmp_path):
    assert model_path("starter") == str(STARTER)
    assert (STARTER / "config.json").is_file()
    assert model_path("gpt2") == "gpt2"
    assert model_path(str(tmp_path)) == str(tmp_path)
    write_json(tmp_path / "run.json", {})
    (tmp_path / "model").mkdir()
    assert model_path(str(tmp_path)) == str(tmp_path / "model")
    (tmp_path / "model").rmdir()
    with pytest.raises(ValueError, match=r"has no finished model; finish it with recipes/finetune.py --resume true$"):
        model_path(str(tmp_path))


def test_a_saved_model_comes_back_as_it_was(tmp_path, tiny_model, tiny_tokenizer):
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    torch.testing.assert_close(logits(loaded), logits(tiny_model))  # The activation is fused.
    assert state_fingerprint(loaded) == state_fingerprint(tiny_model)
    assert load_tokenizer(str(tmp_path)).get_vocab() == tiny_tokenizer.get_vocab()


@pytest.mark.parametrize("ways", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_an_adapter_on_a_local_model_comes_back_as_it_was(tmp_path, tiny_model, ways):
    base, folder = tmp_path / "base", tmp_path / "adapter"
    tiny_model.save_pretrained(base)
    arguments = ModelArguments(model_name_or_path=str(base), lora=True, **ways)
    trained = train(prepare_training(load_model(str(base)), arguments))
    trained.save_pretrained(folder)
    assert adapter_base(str(folder)) == str(base)
    assert adapter_base(str(base)) is None
    loaded = load_model(str(folder))
    assert isinstance(loaded, PeftModel)
    assert torch.equal(logits(loaded), logits(trained))
    assert state_fingerprint(loaded.get_base_model()) != state_fingerprint(tiny_model)


def test_an_adapter_names_its_base_and_the_revision_of_it(tmp_path, tiny_model):
    arguments = ModelArguments(model_name_or_path="gpt2", model_revision="v1.2", lora=True)
    with warnings.catch_warnings():
        # It would say so if it had looked for the base on the Hub.
        warnings.simplefilter("error", UserWarning)
        prepare_training(tiny_model, arguments).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert saved["base_model_name_or_path"] == "gpt2"
    assert saved["revision"] == "v1.2"
    assert sorted(saved["target_modules"]) == sorted(GPT2_TARGETS)
    assert (saved["r"], saved["lora_alpha"], saved["fan_in_fan_out"]) == (8, 16, True)


def test_an_adapters_base_is_loaded_at_the_revision_that_it_was_trained_on(tmp_path, tiny_model, monkeypatch):
    arguments = ModelArguments(model_name_or_path="gpt2", model_revision="v1.2", lora=True)
    prepare_training(copy.deepcopy(tiny_model), arguments).save_pretrained(tmp_path)
    asked = []

    def from_pretrained(name, *, revision, dtype):
        asked.append((name, revision, dtype))
        return tiny_model

    monkeypatch.setattr(modeling.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    load_model(str(tmp_path))
    assert asked == [("gpt2", "v1.2", torch.float32)]


def test_the_starter_is_a_whole_model_that_needs_no_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    tokenizer, model = load_tokenizer("starter"), load_model("starter")
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "./no/such/folder", "not a name", ""])
def test_what_cannot_be_loaded_is_said_in_one_line(monkeypatch, load, name):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    what = "causal language model" if load is load_model else "tokenizer"
    with pytest.raises(ValueError, match=rf"^no {what} can be loaded from {name} \(") as raised:
        load(name)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("; check the id, the folder or the network, or use 'starter'")


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_folder_without_a_model_is_said_in_one_line(tmp_path, load):
    with pytest.raises(ValueError, match=rf"can be loaded from {tmp_path} \(") as raised:
        load(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_damaged_model_is_said_in_one_line(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"^no causal language model can be loaded from {tmp_path} \("):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^no causal language model can be loaded from {tmp_path} \("):
        load_model(str(tmp_path))


def test_a_damaged_adapter_is_said_in_one_line(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/adapter_config.json is not valid JSON \("):
        load_model(str(tmp_path))


def test_an_adapter_whose_base_is_gone_is_said_in_one_line(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    arguments = ModelArguments(model_name_or_path=str(tmp_path / "gone"), lora=True)
    prepare_training(tiny_model, arguments).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=rf"^no causal language model can be loaded from {tmp_path}/adapter \("):
        load_model(str(tmp_path / "adapter"))


def test_a_tokenizer_keeps_its_own_template_and_padding(tmp_path, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.chat_template == "{{ messages[0]['content'] }}"
    assert loaded.pad_token == "<|pad|>"
    # A template of its own, and no padding.
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "without")
    assert load_tokenizer(str(tmp_path / "without")).pad_token == "<|endoftext|>"


def test_a_tokenizer_without_a_template_gets_this_packages(tmp_path, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.chat_template == CHAT_TEMPLATE
    assert loaded.pad_token == loaded.eos_token == "<|endoftext|>"


# --- fingerprints -----------------------------------------------------------------------------------------------------


def test_a_models_fingerprint_is_stable_and_moves_with_any_weight(tiny_model):
    first = state_fingerprint(tiny_model)
    assert first == state_fingerprint(tiny_model) == state_fingerprint(copy.deepcopy(tiny_model))
    assert len(first) == 64
    seen = {first}
    for name, tensor in tiny_model.state_dict().items():
        flat = tensor.view(-1)
        kept = flat[-1].clone()
        flat[-1] = torch.nextafter(kept, torch.tensor(torch.inf))
        seen.add(state_fingerprint(tiny_model))
        assert len(seen) > 1, name
        flat[-1] = kept
    # The head is the embeddings, so the two change together.
    assert len(seen) == len(tiny_model.state_dict())
    assert state_fingerprint(tiny_model) == first


def test_a_models_fingerprint_knows_names_and_precision(tiny_model):
    one, other = nn.Linear(2, 2, bias=False), nn.Sequential(nn.Linear(2, 2, bias=False))
    other[0].weight = one.weight
    assert state_fingerprint(one) != state_fingerprint(other)
    assert state_fingerprint(tiny_model) != state_fingerprint(copy.deepcopy(tiny_model).to(torch.bfloat16))


def test_a_folders_fingerprint_is_of_its_weights_alone(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "one")
    tiny_model.save_pretrained(tmp_path / "two")
    (tmp_path / "two" / "README.md").write_text("a card", encoding="utf-8")
    first = weights_fingerprint(tmp_path / "one")
    assert weights_fingerprint(tmp_path / "two") == weights_fingerprint(str(tmp_path / "two")) == first
    tiny_model.transformer.ln_f.bias.data[7] += 1e-7
    tiny_model.save_pretrained(tmp_path / "two")
    assert weights_fingerprint(tmp_path / "two") != first
    with pytest.raises(ValueError, match=r"holds no \.safetensors file; give a folder with a saved model$"):
        weights_fingerprint(tmp_path)
