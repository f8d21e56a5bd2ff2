"""Many replies at once: each the one that it would be alone, none another's, and nothing left running."""

from __future__ import annotations

import threading

import pytest
import torch
from training_fixtures import one_thread  # noqa: F401
from transformers import MistralConfig, MistralForCausalLM

import mh_support.support_bot as support_bot
from mh_support.batching import BusyError, ReplyBatcher
from mh_support.generation import generation_config, stream_reply
from mh_support.support_bot import ATTEMPTS, SupportBot

GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


CONVERSATIONS = [
    said(text) for text in ("I feel alone.", "I can't sleep.", "Hi", "No", "Nobody calls me today", "It was too much")
]


@pytest.fixture
def model(tiny_model):
    """The tiny model with weights so large that each word of a prompt shows in the reply."""
    with torch.no_grad():
        for name, parameter in tiny_model.named_parameters():
            if "ln_" not in name:
                parameter.mul_(12)
    return tiny_model.eval()


@pytest.fixture
def configs(tiny_tokenizer):
    changes = [{"temperature": 1.5}, {}, GREEDY, {"top_k": 0, "temperature": 2.0}, {"repetition_penalty": 2.0}, {}]
    return [
        generation_config(tiny_tokenizer, max_new_tokens=8 + 2 * place, seed=place, **each)
        for place, each in enumerate(changes)
    ]


class Gate:
    """Notes each pass of the model, and lets it begin only when told to."""

    def __init__(self, model, monkeypatch) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.asked, self.turns = threading.Semaphore(0), threading.Semaphore(0)
        forward = model.forward

        def gated(input_ids, **kwargs):
            self.sizes.append(tuple(input_ids.shape))
            self.asked.release()
            assert self.turns.acquire(timeout=60)
            return forward(input_ids, **kwargs)

        monkeypatch.setattr(model, "forward", gated)

    def wait(self) -> None:
        """Wait until the model is asked for a further pass."""
        assert self.asked.acquire(timeout=60)


@pytest.fixture
def gate(model, monkeypatch):
    return Gate(model, monkeypatch)


class Noted(ReplyBatcher):
    """Says when a conversation has joined."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.joined = threading.Semaphore(0)

    def _join(self, reader) -> None:
        super()._join(reader)
        self.joined.release()


class Reader(threading.Thread):
    """Reads a stream in a thread of its own, to its end or until told to stop."""

    def __init__(self, stream, pieces: int = 1000) -> None:
        super().__init__(daemon=True)
        self.stream, self.pieces = stream, pieces
        self.text, self.error = "", None
        self.start()

    def run(self) -> None:
        try:
            for _, piece in zip(range(self.pieces), self.stream, strict=False):
                self.text += piece
            self.stream.close()
        except RuntimeError as error:
            self.error = error


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "replies"]


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("at_once", [1, 4, 16])
def test_together_each_gets_the_reply_that_it_gets_alone(model, tiny_tokenizer, configs, at_once):
    alone = ["".join(stream_reply(model, tiny_tokenizer, *each)) for each in zip(CONVERSATIONS, configs, strict=True)]
    assert len(set(alone)) == len(alone)
    batcher = ReplyBatcher(model, tiny_tokenizer, at_once=at_once)
    streams = [batcher.stream(*each) for each in zip(CONVERSATIONS, configs, strict=True)]
    assert writers() == [], "nothing runs before a first piece is asked for"
    readers = [Reader(stream) for stream in streams]
    join(readers)
    assert [reader.text for reader in readers] == alone
    join(writers())


@pytest.fixture
def five(tiny_tokenizer):
    return generation_config(tiny_tokenizer, max_new_tokens=5, min_new_tokens=5, **GREEDY)


def test_replies_are_written_in_one_batch(model, gate, tiny_tokenizer, five):
    batcher = Noted(model, tiny_tokenizer, at_once=3)
    readers = [Reader(batcher.stream(said("1"), five))]
    gate.wait()
    readers += [Reader(batcher.stream(said(text), five)) for text in ("2", "34")]
    for _ in readers:
        assert batcher.joined.acquire(timeout=60)
    gate.turns.release(50)
    join(readers + writers())
    # The first is read alone. The others join after its next token, and go on for one when it has ended.
    assert gate.sizes == [(1, 2), (1, 1), (2, 3), (3, 1), (3, 1), (3, 1), (2, 1)]


def test_who_goes_away_leaves_the_batch_and_the_others_go_on(model, gate, tiny_tokenizer, five):
    (word,) = tiny_tokenizer(" I")["input_ids"]
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(50 * model.transformer.wte.weight[word])
    batcher = Noted(model, tiny_tokenizer)
    stays = Reader(batcher.stream(said("1"), five))
    gate.wait()
    leaves = Reader(batcher.stream(said("2"), five), pieces=2)
    for _ in range(2):
        assert batcher.joined.acquire(timeout=60)
    gate.turns.release(4)
    join([leaves])
    assert leaves.text == " I "
    gate.turns.release(50)
    join([stays, *writers()])
    assert stays.text == " I I I I I"
    # It left with the pass that was under way.
    assert gate.sizes == [(1, 2), (1, 1), (1, 2), (2, 1), (2, 1), (1, 1)]


def test_who_went_away_while_waiting_costs_nothing(model, gate, tiny_tokenizer, five):
    batcher = Noted(model, tiny_tokenizer, at_once=1)
    reader = Reader(batcher.stream(said("1"), five))
    gate.wait()
    waiting = Reader(batcher.stream(said("2"), five))
    for _ in range(2):
        assert batcher.joined.acquire(timeout=60)
    (left,) = batcher._waiting
    left.gone = True
    gate.turns.release(50)
    join([reader, *writers()])
    assert gate.sizes == [(1, 2), *[(1, 1)] * 4]
    left.queue.put(None)
    join([waiting])


def test_too_many_are_told_to_come_back(model, gate, tiny_tokenizer, five):
    batcher = Noted(model, tiny_tokenizer, at_once=1, max_waiting=1)
    readers = [Reader(batcher.stream(said("1"), five))]
    gate.wait()
    readers.append(Reader(batcher.stream(said("2"), five)))
    for _ in range(2):
        assert batcher.joined.acquire(timeout=60)
    with pytest.raises(BusyError, match=r"^1 replies are waiting already; ask again in a while$"):
        next(batcher.stream(said("3"), five))
    gate.turns.release(50)
    join(readers + writers())
    assert all(reader.error is None for reader in readers)


def test_a_fault_reaches_everybody_it_concerns_and_nobody_after(model, tiny_tokenizer, five, monkeypatch):
    expected = "".join(stream_reply(model, tiny_tokenizer, said("2"), five))
    batcher, forward = ReplyBatcher(model, tiny_tokenizer), model.forward

    def fail(*args, **kwargs):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(model, "forward", fail)
    readers = [Reader(batcher.stream(said(text), five)) for text in ("1", "2")]
    join(readers)
    assert [str(reader.error) for reader in readers] == ["the device is gone"] * 2
    monkeypatch.setattr(model, "forward", forward)
    assert "".join(batcher.stream(said("2"), five)) == expected
    join(writers())


def test_a_reply_that_cannot_fit_says_so_to_its_reader(model, tiny_tokenizer):
    stream = ReplyBatcher(model, tiny_tokenizer).stream(said("1"), generation_config(tiny_tokenizer))
    with pytest.raises(ValueError, match=r"^max_new_tokens is 128 and the model has 64 positions; give fewer$"):
        next(stream)


def test_nobody_at_once_is_refused(model, tiny_tokenizer):
    with pytest.raises(ValueError, match=r"^at_once is 0; at least 1 reply must be written at a time$"):
        ReplyBatcher(model, tiny_tokenizer, at_once=0)


def test_other_models_are_asked_for_one_reply_at_a_time(tiny_tokenizer, five):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "max_position_embeddings": 64}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2, "sliding_window": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sliding = MistralForCausalLM(MistralConfig(vocab_size=len(tiny_tokenizer), **shape))
    found = "".join(ReplyBatcher(sliding, tiny_tokenizer).stream(said("Hi"), five))
    assert found == "".join(stream_reply(sliding, tiny_tokenizer, said("Hi"), five))
    assert found


# --- behind the bot ---------------------------------------------------------------------------------------------------


def test_the_bot_writes_through_it(model, tiny_tokenizer, configs, monkeypatch):
    bot = SupportBot(model, tiny_tokenizer, classifiers=())
    # What this model writes makes no sense; the checks are not what is looked at here.
    monkeypatch.setattr(SupportBot, "_reasons", lambda self, reply: ())
    alone = ["".join(bot.stream(*each[:1], config=each[1])) for each in zip(CONVERSATIONS, configs, strict=True)]
    bot.batcher = Noted(model, tiny_tokenizer)
    readers = [
        Reader(bot.stream(messages, config=config)) for messages, config in zip(CONVERSATIONS, configs, strict=True)
    ]
    join(readers)
    assert [reader.text for reader in readers] == alone
    assert bot.batcher.joined._value == len(alone)
    join(writers())


def test_another_attempt_has_another_seed(model, tiny_tokenizer, monkeypatch):
    bot, seeds = SupportBot(model, tiny_tokenizer, classifiers=()), []

    def noted(model, tokenizer, messages, config):
        seeds.append(getattr(config, "seed", None))
        yield "You should kill yourself."

    monkeypatch.setattr(support_bot, "stream_reply", noted)
    assert bot.stream(CONVERSATIONS[0]).kind == "model"
    list(bot.stream(CONVERSATIONS[0]))
    list(bot.stream(CONVERSATIONS[0], config=generation_config(tiny_tokenizer, seed=7)))
    assert seeds == [None] * ATTEMPTS + [7, 8, 9, 10]
