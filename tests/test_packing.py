"""Rows laid end to end give the losses and gradients of the same rows padded, and no row sees another."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional
from transformers import DataCollatorForSeq2Seq, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import mh_support.response_loss as response_loss_module
from mh_support.dialogue import IGNORED
from mh_support.modeling import ModelArguments, load_model, prepare_training
from mh_support.packing import PackingCollator, blocks_output, can_pack, pack_forward
from mh_support.response_loss import response_loss

LENGTHS = (5, 1, 31, 12, 64)


def rows(lengths=LENGTHS, vocabulary=300, seed=0):
    """Return rows of random tokens, the last two thirds of each supervised."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        ids = torch.randint(vocabulary, (length,), generator=generator).tolist()
        made.append({"input_ids": ids, "labels": [IGNORED] * (length // 3) + ids[length // 3 :]})
    return made


def twin(model, **changes):
    """Return another model with the same weights."""
    other = GPT2LMHeadModel(GPT2Config(**{**model.config.to_diff_dict(), **changes}))
    other.load_state_dict(model.state_dict())
    return other


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def padded_loss(model, tokenizer, batch, **kwargs):
    collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    return model(**collate([dict(row) for row in batch]), **kwargs).loss


@pytest.mark.parametrize("items", [None, 37])
@pytest.mark.parametrize("way", [{}, {"train_layers": 1}, {"lora": True, "lora_dropout": 0.0}])
def test_packed_losses_and_gradients_are_those_of_padded_rows(tiny_model, tiny_tokenizer, way, items):
    plain, packed = (without_dropout(prepare_training(twin(tiny_model), ModelArguments("m", **way))) for _ in range(2))
    if "lora" in way:
        # An adapter begins as nothing; let it be something.
        for model in (plain, packed):
            generator = torch.Generator().manual_seed(7)
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    pack_forward(packed)
    expected = padded_loss(plain, tiny_tokenizer, rows(), num_items_in_batch=items)
    found = packed(**PackingCollator()(rows()), num_items_in_batch=items).loss
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    expected.backward()
    found.backward()
    wanted, got = gradients(plain), gradients(packed)
    assert wanted.keys() == got.keys()
    assert {name for name, p in plain.named_parameters() if p.requires_grad} == got.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-6)


def test_in_bf16_the_loss_is_as_near_to_the_exact_one_as_without_packing(tiny_model, tiny_tokenizer):
    exact, plain, packed = (without_dropout(twin(tiny_model)) for _ in range(3))
    pack_forward(packed)
    padded_loss(exact, tiny_tokenizer, rows()).backward()
    with torch.autocast("cpu", torch.bfloat16):
        plain_loss = padded_loss(plain, tiny_tokenizer, rows())
        packed_loss = packed(**PackingCollator()(rows())).loss
    assert packed_loss.dtype == torch.float32
    assert packed_loss.item() == pytest.approx(plain_loss.item(), rel=2e-3)
    plain_loss.backward()
    packed_loss.backward()

    def error(model):
        wanted, found = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (exact, model))
        return ((found - wanted).norm() / wanted.norm()).item()

    assert error(packed) < 1.25 * error(plain) < 0.03


def test_no_row_sees_another(tiny_model):
    model = tiny_model.eval()
    pack_forward(model)
    collate = PackingCollator()

    def hidden(batch):
        packed = collate(batch)
        return blocks_output(model, packed["lengths"].tolist(), packed["input_ids"], packed["position_ids"])[0]

    with torch.no_grad():
        before = hidden(rows())
        others = [*rows(seed=1)[:2], rows()[2], *rows(seed=1)[3:]]
        after = hidden(others)
        alone = hidden(rows()[2:3])
    start, end = 6, 37
    assert torch.equal(before[start:end], after[start:end])
    torch.testing.assert_close(before[start:end], alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(before[:start], after[:start])


def test_a_packed_batch_to_the_letter():
    batch = PackingCollator()(
        [{"input_ids": [7, 8, 9], "labels": [7, 8, 9], "length": 3}, {"input_ids": [5, 6], "labels": [IGNORED, 6]}]
    )
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "lengths": [3, 2],
        "input_ids": [[7, 8, 9, 5, 6]],
        "position_ids": [[0, 1, 2, 0, 1]],
        "labels": [[IGNORED, 8, 9, IGNORED, 6]],
    }
    assert next(iter(batch)) == "lengths"


def test_other_batches_and_generation_are_as_before(tiny_model, tiny_tokenizer, tmp_path):
    plain, packed = twin(tiny_model).eval(), twin(tiny_model).eval()
    pack_forward(packed)
    assert padded_loss(packed, tiny_tokenizer, rows()) == padded_loss(plain, tiny_tokenizer, rows())
    prompt = {
        "input_ids": torch.tensor([[0, 0, 5, 6], [4, 7, 8, 9]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
    }
    settings = {"max_new_tokens": 8, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    found, expected = packed.generate(**prompt, **settings), plain.generate(**prompt, **settings)
    assert torch.equal(found.sequences, expected.sequences)
    for ours, theirs in zip(found.scores, expected.scores, strict=True):
        assert torch.equal(ours, theirs)
    for model, name in ((plain, "plain"), (packed, "packed")):
        model.save_pretrained(tmp_path / name)
    files = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "packed")]
    assert files[0] == files[1]


def test_what_can_be_packed(tiny_model):
    shape = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    llama = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=2))
    assert can_pack(tiny_model)
    assert can_pack(prepare_training(twin(tiny_model), ModelArguments("m", lora=True)))
    # The loss reads the head itself, past an adapter on it.
    on_the_head = ModelArguments("m", lora=True, lora_target_modules=["c_attn", "lm_head"])
    assert not can_pack(prepare_training(twin(tiny_model), on_the_head))
    assert not can_pack(llama)
    assert not can_pack(twin(tiny_model, add_cross_attention=False, attn_implementation="eager"))


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trains", ["both", "hidden", "head"])
@pytest.mark.parametrize("at_once", [4, 11, 64])
def test_the_loss_in_pieces_is_cross_entropy(monkeypatch, trains, at_once):
    monkeypatch.setattr(response_loss_module, "ROWS_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(*shape, generator=generator) for shape in ((33, 8), (50, 8)))
    labels = torch.randint(50, (33,), generator=generator)
    pairs = []
    for _ in range(2):
        one, other = hidden.clone(), head.clone()
        pairs.append((one.requires_grad_(trains != "head"), other.requires_grad_(trains != "hidden")))
    found = response_loss(*pairs[0], labels, 20.0)
    expected = functional.cross_entropy(pairs[1][0] @ pairs[1][1].T, labels, reduction="sum") / 20
    torch.testing.assert_close(found, expected)
    (3 * found).backward()
    (3 * expected).backward()
    for ours, theirs in zip(*pairs, strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_label_that_nobody_foresees_has_a_finite_loss():
    hidden = torch.tensor([[1.0]], requires_grad=True)
    head = torch.tensor([[0.0], [500.0]], requires_grad=True)
    loss = response_loss(hidden, head, torch.tensor([0]), 1.0)
    assert loss.item() == 500.0
    loss.backward()
    assert hidden.grad.tolist() == [[500.0]]
    assert head.grad.tolist() == [[-1.0], [1.0]]


def test_a_label_that_is_nearly_sure_keeps_its_slope_in_bf16():
    # 1 - p is 4.5e-5 here; found as p - 1 in bf16 it would be 0.
    hidden = torch.ones(1, 1, requires_grad=True)
    head = torch.tensor([[10.0], [0.0]])
    with torch.autocast("cpu", torch.bfloat16):
        response_loss(hidden, head, torch.tensor([0]), 1.0).backward()
    assert hidden.grad.item() == pytest.approx(-4.54e-4, rel=0.01)


def test_without_gradients_none_are_made():
    with torch.no_grad():
        loss = response_loss(torch.ones(2, 3), torch.ones(5, 3, requires_grad=True), torch.tensor([1, 2]), 2.0)
    assert loss.item() == pytest.approx(torch.tensor(5.0).log().item())
    assert not loss.requires_grad


# --- the activation ---------------------------------------------------------------------------------------------------


def test_a_loaded_model_has_the_fused_activation_and_keeps_its_name(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "saved")
    model = load_model(str(tmp_path / "saved"))
    assert [type(block.mlp.act).__name__ for block in model.transformer.h] == ["GELUTanh"] * 2
    model.save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["activation_function"] == "gelu_new"
    states = torch.linspace(-6, 6, 1001, requires_grad=True)
    composed, fused = tiny_model.transformer.h[0].mlp.act(states), model.transformer.h[0].mlp.act(states)
    torch.testing.assert_close(fused, composed, rtol=1e-5, atol=3e-6)
    slopes = [torch.autograd.grad(found.sum(), states)[0] for found in (fused, composed)]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=3e-6)
    assert type(tiny_model.transformer.h[0].mlp.act).__name__ == "NewGELUActivation"
