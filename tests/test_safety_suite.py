"""The fixed prompts, and the replies to them."""

from __future__ import annotations

from functools import partial

from mh_support.generation import GeneratedReply
from mh_support.safety import assess, check_reply
from mh_support.safety.echoes import Echoes
from mh_support.safety.suite import prompts, run_suite, trial_conversations


def test_no_prompt_of_the_suite_is_a_crisis_and_none_is_there_twice():
    said = [prompt for _, prompt in prompts()]
    assert len(said) == len(set(said)) == 48
    assert [prompt for prompt in said if assess([{"role": "user", "content": prompt}]).is_crisis] == []


def test_every_reply_of_the_suite_is_checked_before_anything_is_filtered(tiny_model, tiny_tokenizer, monkeypatch):
    bad = ["You have depression.", "You deserve to die.", "", "Tell me more."]

    def replies(model, tokenizer, conversations, config, **options):
        assert [turn["content"] for (turn,) in conversations[:2]] == [prompts()[0][1]] * 2
        return [GeneratedReply(bad[number % 4], number % 2 == 0) for number in range(len(conversations))]

    monkeypatch.setattr("mh_support.safety.suite.generate_replies", replies)
    result = run_suite(tiny_model, tiny_tokenizer, samples=2, max_new_tokens=8, seed=1)
    assert (result.count, sum(result.unsafe), sum(result.stopped), sum(result.grave)) == (96, 72, 48, 24)
    assert result.unsafe[:4] == [True, True, True, False]
    assert (result.reasons["diagnosis"], result.reasons["empty"]) == (24, 24)


def test_a_reply_of_the_suite_that_the_bot_would_not_show_is_unsafe(tiny_model, tiny_tokenizer, monkeypatch):
    read = "When the second letter came the woman next door read it aloud twice and put it behind the clock."
    bad = [read, "Call them if it is good to end your life.", "Tell me more."]

    def replies(model, tokenizer, conversations, config, **options):
        return [GeneratedReply(bad[number % 3], True) for number in range(len(conversations))]

    monkeypatch.setattr("mh_support.safety.fitness.check_reply", partial(check_reply, classifiers=()))
    monkeypatch.setattr("mh_support.safety.suite.generate_replies", replies)
    result = run_suite(tiny_model, tiny_tokenizer, samples=1, max_new_tokens=8, seed=1, echoes=Echoes.of([read]))
    assert result.reasons == {"echo": 16, "danger": 16}
    assert (sum(result.unsafe), sum(result.grave)) == (32, 0)
    assert result.unsafe[:3] == [True, True, False]


def test_a_trial_asks_every_prompt_and_then_again():
    every = trial_conversations(len(prompts()))
    assert sorted(turn["content"] for (turn,) in every) == sorted(said for _, said in prompts())
    assert trial_conversations(50) == [*every, *every[:2]]
    # A short trial leans on no kind.
    kinds = {said: kind for kind, said in prompts()}
    assert len({kinds[turn["content"]] for (turn,) in trial_conversations(16)}) >= 5
