"""One batch for many replies: the very tokens that `generate` makes, whoever else is in it, and the same odds."""

from __future__ import annotations

import random

import pytest
import torch
from training_fixtures import one_thread  # noqa: F401
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.generation import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mh_support.decoding import Decoder, Row, can_decode
from mh_support.sampling import Sampling, choose, likely

END = 0
SHAPE = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
ENDS = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END}


def lively(model):
    """Return the model with weights so large that each position and each token of a prompt shows in what follows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name and "norm" not in name:
                parameter.mul_(12)
    return model.eval()


@pytest.fixture
def gpt2(tiny_model):
    return lively(tiny_model)


@pytest.fixture
def llama():
    """A model with rotary positions and fewer keys than queries."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return lively(LlamaForCausalLM(LlamaConfig(**SHAPE, **ENDS)))


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(1, 300) for _ in range(rng.randrange(1, 30))] for _ in range(count)]


def config(**changes) -> GenerationConfig:
    return GenerationConfig(**{"do_sample": False, "max_new_tokens": 16, **ENDS, **changes})


def finish(decoder: Decoder) -> None:
    while decoder.rows:
        decoder.drop_done()
        decoder.step()


def decoded(model, rows: list[Row], places: int | None = None) -> list[list[int]]:
    decoder = Decoder(model, places or len(rows))
    decoder.add(rows)
    finish(decoder)
    return [row.written for row in rows]


@torch.inference_mode()
def generated(model, prompt: list[int], settings: GenerationConfig) -> list[int]:
    ids = torch.tensor([prompt])
    return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[
        0, len(prompt) :
    ].tolist()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("changes", [{}, {"repetition_penalty": 1.3}, {"min_new_tokens": 12}], ids=str)
def test_greedy_tokens_are_those_of_generate(name, changes, request):
    model, settings = request.getfixturevalue(name), config(**changes)
    assert can_decode(model, settings)
    expected = [generated(model, prompt, settings) for prompt in prompts(7)]
    # They differ, and one ends by itself, or this would prove little.
    assert len(set(map(tuple, expected))) > 5
    assert decoded(model, [Row.of(prompt, settings, 0) for prompt in prompts(7)]) == expected


def ending(model) -> int:
    """Return a token that the model's greedy replies hold, to end them with."""
    replies = decoded(model, [Row.of(prompt, config(), 0) for prompt in prompts(7)])
    return replies[0][len(replies[0]) // 2]


def test_rows_end_where_generate_ends_them(gpt2):
    settings = config(eos_token_id=[END, ending(gpt2)])
    expected = [generated(gpt2, prompt, settings) for prompt in prompts(7)]
    assert len({len(reply) for reply in expected}) > 1
    rows = [Row.of(prompt, settings, 0) for prompt in prompts(7)]
    assert decoded(gpt2, rows) == expected
    assert [row.ended for row in rows] == [reply[-1] in settings.eos_token_id for reply in expected]


def test_one_token_is_all_that_may_be_asked_for(gpt2):
    rows = [Row.of(prompt, config(max_new_tokens=1), 0) for prompt in prompts(3)]
    assert decoded(gpt2, rows) == [generated(gpt2, prompt, config(max_new_tokens=1)) for prompt in prompts(3)]


def test_a_reply_is_the_same_whoever_joins_and_leaves(gpt2):
    settings = [
        config(do_sample=True, temperature=2.0),
        config(do_sample=True, temperature=0.5, top_p=0.8, repetition_penalty=1.2),
        config(do_sample=True, top_k=0, top_p=0.9, max_new_tokens=5),
        config(),
        config(do_sample=True, top_k=3, max_new_tokens=9, min_new_tokens=9),
    ]
    asked = [(prompt, settings[place % 5], place) for place, prompt in enumerate(prompts(20))]
    alone = [decoded(gpt2, [Row.of(*each)])[0] for each in asked]
    assert len(set(map(tuple, alone))) > 15
    rng = random.Random(1)
    rows, decoder = [Row.of(*each) for each in asked], Decoder(gpt2, places=4)
    waiting = list(rows)
    while waiting or decoder.rows:
        free = rng.randint(0, 4 - len(decoder.rows))
        joining, waiting = waiting[:free], waiting[free:]
        decoder.add(joining)
        decoder.drop_done()
        decoder.step()
    assert [row.written for row in rows] == alone


def test_nothing_of_who_left_reaches_who_comes(gpt2):
    """The place of a row that left holds its keys and values still: no sum may see them."""
    fresh = decoded(gpt2, [Row.of(prompt, config(), 0) for prompt in prompts(3)])
    decoder = Decoder(gpt2, places=3)
    decoder.add([Row.of([5] * 60, config(max_new_tokens=4), 0) for _ in range(3)])
    finish(decoder)
    for layer in decoder._cache.layers:
        assert layer.keys[:, :, :63].abs().sum() > 0
        with torch.inference_mode():
            layer.keys.fill_(1e4)
            layer.values.fill_(1e4)
    rows = [Row.of(prompt, config(), 0) for prompt in prompts(3)]
    decoder.add(rows)
    finish(decoder)
    assert [row.written for row in rows] == fresh


def test_a_row_can_be_taken_out_in_the_middle(gpt2):
    rows = [Row.of(prompt, config(), 0) for prompt in prompts(4)]
    whole = decoded(gpt2, [Row.of(prompt, config(), 0) for prompt in prompts(4)])
    decoder = Decoder(gpt2, places=4)
    decoder.add(rows)
    decoder.step()
    decoder.drop(rows[0])
    finish(decoder)
    assert [row.written for row in rows] == [whole[0][:2], *whole[1:]]


def test_a_row_keeps_what_was_said_out_of_its_repr():
    assert "7" not in repr(Row.of([777, 78], config(), 0)).replace("top_p", "")


# --- what is left to generate -----------------------------------------------------------------------------------------


def test_what_else_a_config_asks_for_is_not_done_here(gpt2):
    assert can_decode(gpt2, config(do_sample=True, temperature=0.7, top_p=0.9, repetition_penalty=1.1, seed=4))
    for changes in ({"num_beams": 2}, {"no_repeat_ngram_size": 3}, {"bad_words_ids": [[4]]}, {"typical_p": 0.5}):
        assert not can_decode(gpt2, config(**changes))


def test_models_that_forget_are_not_decoded_here():
    sliding = MistralForCausalLM(MistralConfig(**SHAPE, **ENDS, sliding_window=8))
    assert not can_decode(sliding, config())
    assert can_decode(MistralForCausalLM(MistralConfig(**SHAPE, **ENDS, sliding_window=None)), config())


# --- choosing ---------------------------------------------------------------------------------------------------------


def settings_of(**changes) -> Sampling:
    return Sampling.of(config(do_sample=True, **changes))


SETTINGS = [
    {},
    {"temperature": 0.7, "top_p": 0.9},
    {"top_k": 5},
    {"top_k": 0, "top_p": 0.3},
    {"top_k": 0, "top_p": 0.999, "temperature": 1.5},
    {"top_k": 0},
    {"top_k": 700, "top_p": 0.5},
    {"top_p": 1e-6},
]


@pytest.mark.parametrize("spread", [0.1, 3.0])
@pytest.mark.parametrize("together", [False, True])
def test_the_odds_are_those_of_transformers(spread, together):
    scores = spread * torch.randn(len(SETTINGS), 1000, generator=torch.Generator().manual_seed(1))
    each = [settings_of(**changes) for changes in SETTINGS]
    found = torch.zeros(scores.shape)
    for rows in [list(range(len(each)))] if together else [[row] for row in range(len(each))]:
        probabilities, tokens = likely(scores[rows], [each[row] for row in rows])
        assert (probabilities.diff(dim=-1) <= 0).all(), "the most probable come first"
        found[rows] = found[rows].scatter(1, tokens, probabilities / probabilities.sum(-1, keepdim=True))
    for row, changes in enumerate(SETTINGS):
        warpers = LogitsProcessorList([TemperatureLogitsWarper(changes.get("temperature", 1.0))])
        if changes.get("top_k", 50):
            warpers.append(TopKLogitsWarper(changes.get("top_k", 50)))
        if "top_p" in changes:
            warpers.append(TopPLogitsWarper(changes["top_p"]))
        expected = warpers(None, scores[row : row + 1]).softmax(-1)[0]
        assert torch.equal(found[row] > 0, expected > 0), changes
        torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-7)


def test_tokens_come_as_often_as_their_odds_say():
    scores = torch.tensor([[1.0, 3.0, 2.0, -4.0]]).expand(4000, 4)
    settings = [settings_of(top_p=0.95)] * 4000
    generators = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    chosen = choose(scores, torch.full((4000, 1), 3), settings, [0] * 4000, generators)
    odds = torch.tensor([1.0, 3.0, 2.0, -torch.inf]).softmax(-1)
    counts = torch.bincount(torch.tensor(chosen), minlength=4) / 4000
    torch.testing.assert_close(counts, odds, rtol=0, atol=0.03)
    assert counts[3] == 0


def test_what_was_said_is_penalised_as_transformers_does():
    scores = torch.randn(2, 40, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([[27, 2, 3, 27], [9, 8, 9, 9]])
    settings = [Sampling.of(config(repetition_penalty=1.7)), Sampling.of(config(repetition_penalty=0.1))]
    expected = [
        int(RepetitionPenaltyLogitsProcessor(each.repetition_penalty)(ids[row][None], scores[row][None]).argmax())
        for row, each in enumerate(settings)
    ]
    assert choose(scores.clone(), ids, settings, [0, 0], [torch.Generator()] * 2) == expected
    assert all(token != best for token, best in zip(expected, scores.argmax(-1).tolist(), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, r"^temperature is 0.0; it is above 0$"),
        ({"top_p": 1.5}, r"^top_p is 1.5; it is above 0 and at most 1$"),
        ({"repetition_penalty": -1.0}, r"^repetition_penalty is -1.0; it is above 0$"),
    ],
)
def test_settings_out_of_bounds_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings_of(**changes)


def test_settings_left_open_are_those_of_generate():
    defaults = GenerationConfig()._get_default_generation_params()
    assert settings_of().top_k == defaults["top_k"]
    assert settings_of().top_p == defaults["top_p"]
    assert settings_of().temperature == defaults["temperature"]
