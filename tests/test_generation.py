"""Replies in batches and as a stream: the same text, in order, and nothing left changed or running behind."""

from __future__ import annotations

import copy
import random
import threading

import numpy as np
import pytest
import torch
from training_fixtures import one_thread  # noqa: F401

import mh_support.generation as generation
from mh_support.dialogue import encode_prompt
from mh_support.generation import (
    DECODING,
    MAX_NEW_TOKENS,
    GeneratedReply,
    generate_replies,
    generation_config,
    prompt_room,
    stream_reply,
)

GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


# Of very different lengths, so that a batch is mostly padding.
CONVERSATIONS = [
    said("I feel alone."),
    said("I can't sleep, because I keep thinking."),
    said("Hi"),
    said("I moved.", "What was it like?", "It was too much"),
    said("No"),
    said("Nobody calls me today"),
    said("What goes through your mind at night?"),
]


@pytest.fixture
def lively_model(tiny_model):
    """The tiny model with weights so large that each position and each word of the prompt shows in its replies."""
    with torch.no_grad():
        for name, parameter in tiny_model.named_parameters():
            if "ln_" not in name:
                parameter.mul_(12)
    return tiny_model.eval()


@pytest.fixture
def greedy(tiny_tokenizer):
    return generation_config(tiny_tokenizer, max_new_tokens=20, **GREEDY)


@pytest.fixture
def sampled(tiny_tokenizer):
    return generation_config(tiny_tokenizer, max_new_tokens=20)


def always(model, token: int):
    """Let `model` say one token for ever."""
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(50 * model.transformer.wte.weight[token])
    return model


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_the_ones_that_are_published(tiny_tokenizer, tmp_path):
    config = generation_config(tiny_tokenizer)
    assert (config.do_sample, config.temperature, config.top_p, config.repetition_penalty) == (True, 0.7, 0.9, 1.1)
    assert DECODING == {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
    assert config.max_new_tokens == MAX_NEW_TOKENS == 128
    end = tiny_tokenizer.eos_token_id
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (end, end, end)
    config.save_pretrained(tmp_path)


def test_settings_can_be_changed(tiny_tokenizer):
    config = generation_config(tiny_tokenizer, max_new_tokens=7, temperature=0.2, do_sample=False)
    assert (config.max_new_tokens, config.temperature, config.do_sample, config.top_p) == (7, 0.2, False, 0.9)


def test_a_prompt_has_the_room_that_the_reply_leaves(tiny_model):
    assert prompt_room(tiny_model, 20) == 44
    assert prompt_room(tiny_model, 63) == 1
    with pytest.raises(ValueError, match=r"^max_new_tokens is 64 and the model has 64 positions; give fewer$"):
        prompt_room(tiny_model, 64)


def test_a_reply_keeps_its_text_out_of_its_repr():
    assert repr(GeneratedReply("something private", True)) == "GeneratedReply(stopped=True)"


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_replies_as_one_by_one(lively_model, tiny_tokenizer, greedy):
    alone = [generate_replies(lively_model, tiny_tokenizer, [one], greedy)[0] for one in CONVERSATIONS]
    # The replies differ, or this would prove nothing.
    assert len({reply.text for reply in alone}) == len(CONVERSATIONS)
    for batch_size in (1, 2, 3, 16):
        together = generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, greedy, batch_size=batch_size)
        assert together == alone


def test_few_are_written_at_a_time_where_they_are_long(lively_model, tiny_tokenizer, greedy, monkeypatch):
    whole = generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, greedy)
    sizes, forward = [], lively_model.forward

    def noted(input_ids, **kwargs):
        sizes.append(len(input_ids))
        return forward(input_ids, **kwargs)

    monkeypatch.setattr(lively_model, "forward", noted)
    longest = max(len(encode_prompt(tiny_tokenizer, one)) for one in CONVERSATIONS)
    monkeypatch.setattr(generation, "POSITIONS_AT_ONCE", longest + 21)
    assert generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, greedy) == whole
    # The longest by itself; the short ones, of which two have room, two at a time.
    assert sizes[0] == 1
    assert max(sizes) == 2


def test_replies_are_the_models_own_argmax(lively_model, tiny_tokenizer, greedy):
    ids = encode_prompt(tiny_tokenizer, CONVERSATIONS[1])
    written: list[int] = []
    with torch.no_grad():
        while len(written) < 20 and tiny_tokenizer.eos_token_id not in written:
            written.append(int(lively_model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    (reply,) = generate_replies(lively_model, tiny_tokenizer, [CONVERSATIONS[1]], greedy)
    assert reply.stopped is (tiny_tokenizer.eos_token_id in written)
    assert reply.text == tiny_tokenizer.decode(written, skip_special_tokens=True).strip()
    assert len(written) > 3


def test_order_is_kept_whatever_the_lengths(lively_model, tiny_tokenizer, greedy):
    replies = generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, greedy, batch_size=2)
    backwards = generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS[::-1], greedy, batch_size=3)
    assert backwards == replies[::-1]


def test_no_conversations_have_no_replies(tiny_model, tiny_tokenizer, greedy):
    assert generate_replies(tiny_model, tiny_tokenizer, [], greedy) == []


class Scripted(torch.nn.Module):
    """Stands for a model: notes each batch, and answers each row by its prompt's first id."""

    device = torch.device("cpu")

    def __init__(self, config, replies: dict[int, list[int]], end: int) -> None:
        super().__init__()
        self.config, self.replies, self.end = config, replies, end
        self.batches: list[tuple[list[list[int]], list[list[int]]]] = []

    def generate(self, input_ids, attention_mask, generation_config):
        assert not self.training
        self.batches.append((input_ids.tolist(), attention_mask.tolist()))
        rows = []
        for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            rows.append(self.replies[ids[mask.index(1)]])
        width = max(map(len, rows))
        return torch.tensor(
            [ids + row + [self.end] * (width - len(row)) for ids, row in zip(input_ids.tolist(), rows, strict=True)]
        )


def test_prompts_are_padded_on_the_left_and_masked_longest_first(tiny_model, tiny_tokenizer, greedy):
    end = tiny_tokenizer.eos_token_id
    prompts = [encode_prompt(tiny_tokenizer, said(text)) for text in ("678", "12", "34", "5")]
    assert [len(prompt) for prompt in prompts] == [4, 3, 3, 2], "a token a digit, and the end"
    replies = {prompt[0]: tiny_tokenizer(text)["input_ids"] for prompt, text in zip(prompts, "wxyz", strict=True)}
    model = Scripted(tiny_model.config, replies, end)
    found = generate_replies(
        model, tiny_tokenizer, [said(text) for text in ("5", "12", "34", "678")], greedy, batch_size=3
    )
    assert [reply.text for reply in found] == ["z", "x", "y", "w"]
    assert model.batches == [
        ([prompts[0], [end, *prompts[1]], [end, *prompts[2]]], [[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]),
        ([prompts[3]], [[1, 1]]),
    ]


def test_a_reply_has_stopped_if_it_ended_itself_and_only_then(tiny_model, tiny_tokenizer, greedy):
    end = tiny_tokenizer.eos_token_id
    words = tiny_tokenizer(" I am here")["input_ids"]
    texts = ("a", "b", "c", "d")
    first = [encode_prompt(tiny_tokenizer, said(text))[0] for text in texts]
    scripts = [[*words, end], words + words, [end], [*words, end, *words]]
    model = Scripted(tiny_model.config, dict(zip(first, scripts, strict=True)), end)
    alone = [generate_replies(model, tiny_tokenizer, [said(text)], greedy)[0] for text in texts]
    assert alone == [
        GeneratedReply("I am here", True),
        GeneratedReply("I am here I am here", False),
        GeneratedReply("", True),
        GeneratedReply("I am here", True),
    ]
    # In one batch all are padded to the longest with the very token that ends a reply.
    model.replies = {first[0]: scripts[0], first[1]: scripts[1] + words, first[2]: scripts[2], first[3]: scripts[3]}
    together = generate_replies(model, tiny_tokenizer, [said(text) for text in texts], greedy)
    assert [reply.stopped for reply in together] == [True, False, True, True]


def test_a_real_model_stops_or_runs_into_the_limit(tiny_model, tiny_tokenizer, greedy):
    (letter,) = tiny_tokenizer("w")["input_ids"]
    endless = generate_replies(always(copy.deepcopy(tiny_model), letter), tiny_tokenizer, CONVERSATIONS, greedy)
    assert endless == [GeneratedReply("w" * 20, False)] * len(CONVERSATIONS)
    silent = always(tiny_model, tiny_tokenizer.eos_token_id)
    assert generate_replies(silent, tiny_tokenizer, CONVERSATIONS, greedy) == [GeneratedReply("", True)] * 7


def test_a_prompt_longer_than_the_positions_loses_its_oldest(lively_model, tiny_tokenizer, greedy):
    long = said("x" * 300, "I see.", "I feel alone.")
    assert len(encode_prompt(tiny_tokenizer, long)) > 64
    # The oldest exchange goes as a whole, so the reply is to what is left.
    assert generate_replies(lively_model, tiny_tokenizer, [long], greedy) == generate_replies(
        lively_model, tiny_tokenizer, [said("I feel alone.")], greedy
    )
    # One message that is too long by itself loses its beginning.
    single, shorter = said("x" * 300 + " alone"), said("x" * 100 + " alone")
    replies = generate_replies(lively_model, tiny_tokenizer, [single, *CONVERSATIONS, shorter], greedy, batch_size=16)
    assert replies[0] == replies[-1]
    assert replies[1:-1] == generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, greedy)
    assert "".join(stream_reply(lively_model, tiny_tokenizer, single, greedy)).strip() == replies[0].text


def test_the_same_seed_gives_the_same_replies(lively_model, tiny_tokenizer, sampled):
    def replies(seed):
        return generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, sampled, batch_size=3, seed=seed)

    torch.manual_seed(1)
    first = replies(7)
    torch.manual_seed(2)
    assert replies(7) == first
    assert replies(8) != first
    assert generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, sampled, batch_size=3) == replies(42)


def test_no_random_state_is_touched(lively_model, tiny_tokenizer, sampled):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, sampled, seed=3)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


@pytest.mark.parametrize("training", [True, False])
def test_every_module_keeps_its_mode(tiny_model, tiny_tokenizer, greedy, training):
    tiny_model.train(training)
    tiny_model.transformer.h[0].eval()
    modes = [module.training for module in tiny_model.modules()]
    generate_replies(tiny_model, tiny_tokenizer, CONVERSATIONS[:1], greedy)
    assert [module.training for module in tiny_model.modules()] == modes


def test_every_module_keeps_its_mode_when_the_model_fails(tiny_model, tiny_tokenizer, greedy, monkeypatch):
    def fail(**kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny_model, "forward", fail)
    tiny_model.train()
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        generate_replies(tiny_model, tiny_tokenizer, CONVERSATIONS[:1], greedy)
    assert all(module.training for module in tiny_model.modules())


def test_no_graph_is_kept_and_dropout_is_off(tiny_model, tiny_tokenizer, greedy):
    tiny_model.train()
    first = generate_replies(tiny_model, tiny_tokenizer, CONVERSATIONS, greedy)
    assert generate_replies(tiny_model, tiny_tokenizer, CONVERSATIONS, greedy, seed=9) == first
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_progress_is_shown_when_it_has_a_name_and_else_nothing(tiny_model, tiny_tokenizer, greedy, capfd):
    generate_replies(tiny_model, tiny_tokenizer, CONVERSATIONS[:2], greedy)
    assert capfd.readouterr().out == ""
    generate_replies(tiny_model, tiny_tokenizer, CONVERSATIONS[:2], greedy, progress="base on test")
    assert "base on test" in capfd.readouterr().err


def writers() -> list[threading.Thread]:
    """Return the threads in which models write."""
    return [thread for thread in threading.enumerate() if thread.name.endswith("(write)")]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_seed_belongs_to_its_stream(lively_model, tiny_tokenizer):
    def reply(**seed):
        config = generation_config(tiny_tokenizer, max_new_tokens=20, **seed)
        return "".join(stream_reply(lively_model, tiny_tokenizer, CONVERSATIONS[0], config))

    torch.manual_seed(1)
    first = reply(seed=5)
    assert reply(seed=5) == first != reply(seed=6)
    # Without one it follows torch's own, as it does with `generate`.
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unseeded = reply()
        torch.manual_seed(1)
        assert (reply(), reply() == unseeded) == (unseeded, False)


def test_a_stream_says_what_a_batch_says(lively_model, tiny_tokenizer, greedy):
    batched = [reply.text for reply in generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS, greedy)]
    streamed = ["".join(stream_reply(lively_model, tiny_tokenizer, one, greedy)).strip() for one in CONVERSATIONS]
    assert streamed == batched


def test_a_stream_comes_in_pieces(tiny_model, tiny_tokenizer, greedy):
    letter, _ = tiny_tokenizer("w ")["input_ids"]
    pieces = list(stream_reply(always(tiny_model, letter), tiny_tokenizer, CONVERSATIONS[0], greedy))
    assert "".join(pieces) == "w" * 20
    # The special tokens never show.
    silent = always(tiny_model, tiny_tokenizer.eos_token_id)
    assert "".join(stream_reply(silent, tiny_tokenizer, CONVERSATIONS[0], greedy)) == ""


@pytest.fixture
def counted(tiny_model, tiny_tokenizer, monkeypatch):
    """A model that says "I" for ever, and the list of its forward passes; each waits until it is told to go on."""
    (word,) = tiny_tokenizer(" I")["input_ids"]
    model = always(tiny_model.eval(), word)
    calls, gate = [], threading.Semaphore(0)
    forward = model.forward

    def slowly(*args, **kwargs):
        assert gate.acquire(timeout=20)
        calls.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", slowly)
    return model, calls, gate


@pytest.fixture(params=[{}, {"no_repeat_ngram_size": 60}], ids=["decoded", "generated"])
def path(request):
    """A setting without effect, which is left to the model's own `generate` and its thread, and none."""
    return request.param


def test_closing_a_stream_stops_the_model_within_a_token(counted, tiny_tokenizer, monkeypatch, path):
    model, calls, gate = counted

    class OpensTheGate(threading.Event):
        def set(self):
            super().set()
            gate.release(50)

    monkeypatch.setattr(generation, "Event", OpensTheGate)
    config = generation_config(tiny_tokenizer, max_new_tokens=50, **GREEDY, **path)
    stream = stream_reply(model, tiny_tokenizer, CONVERSATIONS[0], config)
    assert writers() == [], "nothing runs before the first piece is asked for"
    gate.release()
    next(stream)
    assert len(writers()) == len(path)
    # In its thread the model waits for its second token. Told to stop it may make that one, and could make 48 more.
    stream.close()
    assert writers() == []
    assert len(calls) == 1 + len(path)


def test_closing_a_stream_that_never_began_runs_nothing(counted, tiny_tokenizer, greedy):
    model, calls, _ = counted
    stream_reply(model, tiny_tokenizer, CONVERSATIONS[0], greedy).close()
    assert (calls, writers()) == ([], [])


def test_a_stream_left_in_the_middle_by_an_error_stops_too(counted, tiny_tokenizer):
    model, calls, gate = counted
    gate.release(10)
    config = generation_config(tiny_tokenizer, max_new_tokens=8, **GREEDY)
    with pytest.raises(KeyError, match="reader"):
        for _ in stream_reply(model, tiny_tokenizer, CONVERSATIONS[0], config):
            raise KeyError("reader")
    # The exception's traceback let go of the generator, which closed it.
    assert writers() == []
    assert len(calls) <= 8


def test_a_finished_stream_leaves_no_thread(tiny_model, tiny_tokenizer, path):
    config = generation_config(tiny_tokenizer, max_new_tokens=20, **GREEDY, **path)
    list(stream_reply(tiny_model, tiny_tokenizer, CONVERSATIONS[0], config))
    assert writers() == []


def test_an_error_of_the_model_reaches_the_reader(tiny_model, tiny_tokenizer, monkeypatch, path):
    config = generation_config(tiny_tokenizer, max_new_tokens=20, **GREEDY, **path)
    calls = []
    always(tiny_model, tiny_tokenizer("w")["input_ids"][0])
    forward = tiny_model.forward

    def fail_at_the_third(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the device is gone")
        return forward(*args, **kwargs)

    monkeypatch.setattr(tiny_model, "forward", fail_at_the_third)
    with pytest.raises(RuntimeError, match=r"^the device is gone$"):
        list(stream_reply(tiny_model, tiny_tokenizer, CONVERSATIONS[0], config))
    assert len(calls) == 3
    assert writers() == []


def test_a_stream_that_cannot_fit_says_so_to_the_reader(tiny_model, tiny_tokenizer):
    stream = stream_reply(tiny_model, tiny_tokenizer, CONVERSATIONS[0], generation_config(tiny_tokenizer))
    with pytest.raises(ValueError, match=r"^max_new_tokens is 128 and the model has 64 positions; give fewer$"):
        next(stream)


def test_two_streams_at_once_do_not_mix(lively_model, tiny_tokenizer, greedy):
    streams = [stream_reply(lively_model, tiny_tokenizer, one, greedy) for one in CONVERSATIONS[:2]]
    texts = ["", ""]
    for _ in range(50):
        for number, stream in enumerate(streams):
            texts[number] += next(stream, "")
    expected = generate_replies(lively_model, tiny_tokenizer, CONVERSATIONS[:2], greedy)
    assert [text.strip() for text in texts] == [reply.text for reply in expected]
