"""The one reply path: a crisis is never the model's to answer, and no sentence is shown that was not checked."""

from __future__ import annotations

import builtins
import logging

import pytest
import torch
from training_fixtures import load_recipe, one_thread, save_model, train, write_csv  # noqa: F401

import mh_support.support_bot as support_bot
from mh_support.files import write_json
from mh_support.generation import GeneratedReply, generation_config
from mh_support.modeling import state_fingerprint
from mh_support.safety import (
    NOTICE,
    ReplyCheck,
    asked_about,
    assess,
    check_in,
    check_reply,
    crisis_reply,
    resources_for,
    safe_reply,
)
from mh_support.safety.classifier import Suspicion, crisis_classifier, reply_classifier
from mh_support.safety.echoes import Echoes
from mh_support.safety.trust import FEWEST
from mh_support.support_bot import ASKED_LATELY, ATTEMPTS, ReplyStream, SupportBot

LINK = "Look at www.example.com for more."
HEARD = "I hear you."


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


class Script:
    """Stands for `stream_reply`: gives one scripted reply after the other, and notes what it was asked."""

    def __init__(self, *replies: list[str]) -> None:
        self.replies = list(replies)
        self.asked: list[list[dict[str, str]]] = []
        self.given: list[str] = []
        self.closed = 0

    def __call__(self, model, tokenizer, messages, config):
        self.asked.append(list(messages))
        pieces = self.replies[min(len(self.asked), len(self.replies)) - 1]
        try:
            for piece in pieces:
                self.given.append(piece)
                yield piece
        finally:
            self.closed += 1


@pytest.fixture
def bot(tiny_model, tiny_tokenizer):
    config = generation_config(tiny_tokenizer, max_new_tokens=20)
    return SupportBot(tiny_model, tiny_tokenizer, config=config, classifiers=())


@pytest.fixture
def scripted(monkeypatch):
    """Return a function that lets the model say what is scripted."""

    def script(*replies: list[str]) -> Script:
        made = Script(*replies)
        monkeypatch.setattr(support_bot, "stream_reply", made)
        return made

    return script


# --- a crisis ---------------------------------------------------------------------------------------------------------

CRISIS = "I am going to kill myself tonight."


def test_the_model_is_never_asked_in_a_crisis(bot, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the model was asked")

    monkeypatch.setattr(support_bot, "stream_reply", never)
    monkeypatch.setattr(bot.model, "forward", never)
    stream = bot.stream(said(CRISIS))
    assert stream.kind == "crisis"
    pieces = list(stream)
    assert pieces == [crisis_reply(assess(said(CRISIS)), resources_for(None), 0)]
    assert stream.text == pieces[0] == bot.reply(said(CRISIS))


def test_the_model_is_not_asked_where_the_classifier_alone_sees_a_crisis(tiny_model, tiny_tokenizer, scripted):
    bot = SupportBot(tiny_model, tiny_tokenizer)
    script = scripted([HEARD])
    hint = said("by the weekend i wont be a problem for anyone")
    assert assess(hint, classifiers=()).level == "none"
    stream = bot.stream(hint)
    assert (stream.kind, "".join(stream)) == ("crisis", crisis_reply(assess(hint), resources_for(None), 0))
    assert script.asked == []


def test_nobody_is_answered_without_the_classifier(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    missing = tmp_path / "missing.safetensors"
    monkeypatch.setattr(support_bot, "crisis_classifier", lambda: crisis_classifier(missing))
    with pytest.raises(ValueError, match=r"missing\.safetensors cannot be read"):
        SupportBot(tiny_model, tiny_tokenizer)


def test_nor_without_the_one_that_reads_replies(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    missing = tmp_path / "missing.safetensors"
    monkeypatch.setattr(support_bot, "reply_classifier", lambda: reply_classifier(missing))
    with pytest.raises(ValueError, match=r"^the reply classifier .+missing\.safetensors cannot be read"):
        SupportBot(tiny_model, tiny_tokenizer, classifiers=())


def test_a_crisis_stays_one_in_the_turns_that_follow(bot, scripted):
    script = scripted([HEARD])
    conversation = said(CRISIS, "Please call somebody.", "ok thanks")
    stream = bot.stream(conversation)
    assert (stream.kind, "".join(stream)) == ("crisis", crisis_reply(assess(conversation), resources_for(None), 1))
    # A second turn in a row is answered in other words.
    assert stream.text != bot.reply(said(CRISIS))
    assert script.asked == []


def test_what_the_bot_said_is_no_crisis(bot, scripted):
    scripted([HEARD])
    assert bot.stream(said("I feel low", CRISIS, "Yes, I feel low")).kind == "model"


def test_the_services_named_are_those_of_the_country_that_was_set(tiny_model, tiny_tokenizer):
    british = SupportBot(tiny_model, tiny_tokenizer, country="GB")
    assert british.resources == resources_for("GB")
    reply = british.reply(said(CRISIS))
    assert reply == crisis_reply(assess(said(CRISIS)), resources_for("GB"), 0)
    assert "999" in reply
    assert "999" not in SupportBot(tiny_model, tiny_tokenizer).reply(said(CRISIS))


# --- sentences --------------------------------------------------------------------------------------------------------


def test_a_reply_comes_sentence_by_sentence(bot, scripted):
    scripted(["I h", "ear you. Te", "ll me", " more? ", 'He said "no." And', " then", "!  So"])
    stream = bot.stream(said("I feel low"))
    assert list(stream) == ["I hear you. ", "Tell me more? ", 'He said "no." ', "And then!  ", "So"]
    assert stream.kind == "model"
    assert stream.text == 'I hear you. Tell me more? He said "no." And then!  So'


def test_a_sentence_is_shown_before_the_next_is_written(bot, scripted):
    script = scripted(["I hear you. ", "Tell me", " more."])
    stream = bot.stream(said("I feel low"))
    assert script.asked == [], "nothing is written before it is asked for"
    assert next(stream) == "I hear you. "
    assert script.given == ["I hear you. "]
    assert stream.text == "I hear you. "
    assert list(stream) == ["Tell me more."]


def test_a_reply_without_an_end_is_shown_as_a_whole(bot, scripted):
    scripted(["tell me", " more", " "])
    assert list(bot.stream(said("I feel low"))) == ["tell me more"]


def test_space_after_the_last_sentence_is_not_a_piece(bot, scripted):
    scripted(["I hear you. ", " ", "\n"])
    assert list(bot.stream(said("I feel low"))) == ["I hear you. "]


def test_numbers_and_words_with_periods_in_them_are_not_cut(bot, scripted):
    scripted(["It was 3.5 hours, e.g", ".this morning"])
    assert list(bot.stream(said("I feel low"))) == ["It was 3.5 hours, e.g.this morning"]


# --- checks -----------------------------------------------------------------------------------------------------------


def test_every_sentence_is_checked_with_all_before_it(bot, scripted, monkeypatch):
    scripted(["I hear you. Tell me more? Yes"])
    seen = []

    def check(text):
        seen.append(text)
        return check_reply(text)

    monkeypatch.setattr("mh_support.safety.fitness.check_reply", check)
    bot.reply(said("I feel low"))
    assert seen == ["I hear you. ", "I hear you. Tell me more? ", "I hear you. Tell me more? Yes"]


def test_a_reply_that_fails_is_written_again(bot, scripted):
    assert not check_reply(LINK).ok
    script = scripted([LINK], [HEARD])
    stream = bot.stream(said("I feel low"))
    assert list(stream) == [HEARD]
    assert (stream.kind, stream.text) == ("model", HEARD)
    assert len(script.asked) == script.closed == 2


def test_four_replies_that_fail_are_replaced_by_a_safe_one(bot, scripted):
    script = scripted([LINK, " And more."])
    for turns in (("I feel low",), ("I feel low", "I see.", "So low")):
        stream = bot.stream(said(*turns))
        turn = len(turns) // 2
        assert list(stream) == [safe_reply(turn)]
        assert (stream.kind, stream.text) == ("safe", safe_reply(turn))
    assert ATTEMPTS == 4
    assert len(script.asked) == script.closed == 8
    assert script.given == [LINK, " And more."] * 8
    assert safe_reply(0) != safe_reply(1)


def test_a_reply_that_fails_later_ends_before_that_and_the_model_is_stopped(bot, scripted):
    script = scripted(["I hear you. ", f"{LINK} ", "And ", "so ", "on."])
    stream = bot.stream(said("I feel low"))
    assert list(stream) == ["I hear you. "]
    assert (stream.kind, stream.text) == ("model", "I hear you. ")
    assert (len(script.asked), script.closed) == (1, 1)
    assert script.given == ["I hear you. ", f"{LINK} "]


def test_what_is_harmful_only_together_is_not_completed(bot, scripted, monkeypatch):
    scripted(["Go on. ", "Do it. ", "Now."])
    refused = {True: ReplyCheck(False, ("encouragement of harm",)), False: ReplyCheck(True, ())}
    monkeypatch.setattr("mh_support.safety.fitness.check_reply", lambda text: refused["Go on. Do it." in text])
    assert list(bot.stream(said("I feel low"))) == ["Go on. "]


@pytest.mark.parametrize("silence", [[], [""], [" ", "\n"], ["..."]])
def test_an_empty_reply_is_written_again_and_then_replaced(bot, scripted, silence):
    script = scripted(silence, silence, [HEARD])
    assert bot.reply(said("I feel low")) == HEARD
    assert len(script.asked) == 3
    script = scripted(silence)
    stream = bot.stream(said("I feel low"))
    assert (list(stream), stream.kind) == ([safe_reply(0)], "safe")
    assert len(script.asked) == 4


@pytest.mark.parametrize("number", range(20))
def test_nothing_is_shown_that_fails_the_check(bot, scripted, number):
    parts = [HEARD, "Tell me more.", LINK, "You have depression.", "Take 20 mg of it.", "That is hard."]
    generator = torch.Generator().manual_seed(number)
    replies = [
        [f"{parts[index]} " for index in torch.randint(0, len(parts), (4,), generator=generator).tolist()]
        for _ in range(ATTEMPTS)
    ]
    scripted(*replies)
    stream = bot.stream(said("I feel low"))
    shown = ""
    for piece in stream:
        shown += piece
        assert check_reply(shown).ok
    assert shown == stream.text
    assert shown.strip()


def test_an_error_of_the_model_is_not_hidden(bot, monkeypatch):
    def fail(*args):
        yield "I hear you. "
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(support_bot, "stream_reply", fail)
    with pytest.raises(RuntimeError, match=r"^the device is gone$"):
        bot.reply(said("I feel low"))


def test_closing_a_stream_stops_the_model_and_keeps_what_came(bot, scripted):
    script = scripted(["I hear you. ", "Tell ", "me ", "more."])
    stream = bot.stream(said("I feel low"))
    next(stream)
    stream.close()
    assert (stream.text, script.closed, script.given) == ("I hear you. ", 1, ["I hear you. "])
    assert list(stream) == []
    crisis = bot.stream(said(CRISIS))
    crisis.close()
    assert crisis.text == ""


# --- conversations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [],
        said("I feel low", "I see."),
        [{"role": "system", "content": "Be kind."}],
        said("   "),
        [*said("I feel low", "I see."), {"role": "user", "content": " \n"}],
    ],
    ids=["none", "the bot's turn", "no turn", "blank", "blank at the end"],
)
def test_a_conversation_that_does_not_end_with_the_person_is_refused(bot, messages):
    message = r"^the conversation does not end with something the person said; add a user message$"
    with pytest.raises(ValueError, match=message):
        bot.stream(messages)
    with pytest.raises(ValueError, match=message):
        bot.reply(messages)


def test_what_is_no_conversation_is_refused(bot):
    with pytest.raises(ValueError, match=r"^messages is str; give a list of"):
        bot.reply("I feel low")
    with pytest.raises(ValueError, match=r"^a message has the role 'therapist'; the roles are system, user and assist"):
        bot.reply([{"role": "therapist", "content": "Hello"}])
    with pytest.raises(ValueError, match=r"^a message lacks role or content; each must be"):
        bot.reply([{"role": "user"}])


def test_content_comes_as_text_or_in_the_pages_parts(bot, scripted):
    script = scripted([HEARD])
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "I feel low"}], "metadata": None, "options": None},
        {"role": "assistant", "content": [{"type": "text", "text": "I see."}]},
        {"role": "user", "content": [{"type": "text", "text": "So low"}, {"type": "text", "text": "today"}]},
    ]
    assert bot.reply(parts) == HEARD
    assert script.asked == [said("I feel low", "I see.", "So low\ntoday")]
    stream = bot.stream([{"role": "user", "content": [{"type": "text", "text": CRISIS}]}])
    assert stream.kind == "crisis"


def test_messages_in_a_row_are_one_turn_and_blank_ones_none(bot, scripted):
    script = scripted([LINK])
    messages = [
        *said("I feel low"),
        *said("so low"),
        *said(" "),
        {"role": "assistant", "content": "I see."},
        *said("Yes"),
    ]
    stream = bot.stream(messages)
    assert list(stream) == [safe_reply(1)]
    assert script.asked[0] == said("I feel low\nso low", "I see.", "Yes")


def test_the_callers_messages_stay_as_they_were(bot, scripted):
    scripted([HEARD])
    messages = [*said("I feel low"), *said("so low")]
    bot.reply(messages)
    assert messages == [*said("I feel low"), *said("so low")]


def test_nothing_that_people_wrote_is_in_a_repr(bot, scripted):
    scripted([HEARD])
    stream = bot.stream(said("something private"))
    assert list(stream) == [HEARD]
    assert repr(stream) == "ReplyStream(kind='model')"
    assert repr(bot.stream(said(CRISIS))) == "ReplyStream(kind='crisis')"
    assert repr(ReplyStream("model", iter(["private"]))) == "ReplyStream(kind='model')"
    assert "private" not in repr(bot) + repr(vars(bot))


# --- real models ------------------------------------------------------------------------------------------------------


def test_the_model_is_asked_as_it_is_scored_unless_told_otherwise(tiny_model, tiny_tokenizer):
    bot = SupportBot(tiny_model.train(), tiny_tokenizer)
    assert bot.config == generation_config(tiny_tokenizer)
    assert not any(module.training for module in bot.model.modules())


def test_one_reply_can_be_asked_for_in_another_way(bot, monkeypatch):
    configs = []

    def stand_in(model, tokenizer, messages, config):
        configs.append(config)
        yield HEARD

    monkeypatch.setattr(support_bot, "stream_reply", stand_in)
    other = generation_config(bot.tokenizer, max_new_tokens=3)
    for given in (other, None):
        assert "".join(bot.stream(said("I feel low"), config=given)) == HEARD
    assert configs[0] is other
    assert configs[1] is bot.config


def test_a_real_model_replies_or_is_replaced(tiny_model, tiny_tokenizer):
    greedy = generation_config(tiny_tokenizer, max_new_tokens=20, do_sample=False, temperature=1.0, top_p=1.0)
    bot = SupportBot(tiny_model, tiny_tokenizer, config=greedy)
    calls = []
    forward = tiny_model.forward

    def counted(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    tiny_model.forward = counted
    first = bot.stream(said("I feel low"))
    text = "".join(first)
    assert first.kind in ("model", "safe")
    assert check_reply(text).ok
    assert calls
    assert bot.reply(said("I feel low")) == text


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_tokenizer):
    """A saved model, a full run and a LoRA run made from it."""
    home = tmp_path_factory.mktemp("bots")
    model, data = save_model(home / "tiny", tiny_tokenizer), write_csv(home / "talk.csv")
    short = {"max_steps": 2, "sample_replies": 0}
    train(home / "full", model, data, **short)
    train(home / "lora", model, data, lora=True, **short)
    return home


@pytest.mark.parametrize("name", ["tiny", "full", "full/model", "lora", "lora/model"])
def test_a_bot_comes_from_a_model_a_run_or_an_adapter(folders, name):
    bot = SupportBot.from_pretrained(str(folders / name), max_new_tokens=12, temperature=0.3, country="us")
    assert (bot.config.max_new_tokens, bot.config.temperature, bot.config.top_p) == (12, 0.3, 0.9)
    assert bot.resources == resources_for("US")
    assert not any(module.training for module in bot.model.modules())
    reply = bot.reply(said("My river hurts"))
    assert check_reply(reply).ok


def test_a_runs_bot_has_the_tuned_weights(folders):
    base, full, lora = (SupportBot.from_pretrained(str(folders / name)).model for name in ("tiny", "full", "lora"))
    assert len({state_fingerprint(model) for model in (base, full, lora)}) == 3
    assert state_fingerprint(full) == state_fingerprint(SupportBot.from_pretrained(str(folders / "full/model")).model)


def test_the_starter_is_the_default_and_replies():
    bot = SupportBot.from_pretrained(max_new_tokens=16)
    assert state_fingerprint(bot.model) == state_fingerprint(SupportBot.from_pretrained("starter").model)
    assert check_reply(bot.reply(said("I feel alone today."))).ok


def test_an_unfinished_run_and_a_wrong_name_are_refused(tmp_path):
    write_json(tmp_path / "run.json", {})
    with pytest.raises(ValueError, match=r"has no finished model; finish it with recipes/finetune.py --resume true$"):
        SupportBot.from_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match=r"^no tokenizer can be loaded from \./nowhere \("):
        SupportBot.from_pretrained("./nowhere")


def test_a_revision_reaches_the_model_and_the_tokenizer(monkeypatch, tiny_model, tiny_tokenizer):
    asked = []
    monkeypatch.setattr(support_bot, "load_model", lambda name, revision: asked.append((name, revision)) or tiny_model)
    monkeypatch.setattr(
        support_bot, "load_tokenizer", lambda name, revision: asked.append((name, revision)) or tiny_tokenizer
    )
    SupportBot.from_pretrained("me/kind-gpt2", revision="v2")
    assert asked == [("me/kind-gpt2", "v2")] * 2


# --- in the terminal --------------------------------------------------------------------------------------------------


def test_a_talk_in_the_terminal(folders, scripted, monkeypatch, capsys):
    script = scripted([HEARD, " Tell me more."])
    monkeypatch.setattr(support_bot, "crisis_classifier", Lanterns)
    lines = iter(["I feel low", "   ", "So low", CRISIS])

    def read(prompt):
        assert prompt == "you: "
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr(builtins, "input", read)
    load_recipe("chat").main([str(folders / "tiny"), "--country", "GB"])
    greeting, _, talk = capsys.readouterr().out.partition("\n\n")
    assert greeting == NOTICE
    reply = f"{HEARD} Tell me more."
    conversation = said("I feel low", reply, "So low", reply, CRISIS)
    crisis = crisis_reply(assess(conversation), resources_for("GB"), 2)
    assert talk == (
        "Write a line and press Enter. Ctrl-D ends; nothing is kept.\n\n"
        f"bot: {reply}\n\nbot: {reply}\n\nbot: {crisis}\n\n"
    )
    assert script.asked == [conversation[:1], conversation[:3]]


def test_the_terminal_names_what_it_cannot_load():
    with pytest.raises(ValueError, match=r"^no tokenizer can be loaded from \./nowhere \("):
        load_recipe("chat").main(["./nowhere"])
    with pytest.raises(SystemExit) as raised:
        load_recipe("chat").main([])
    assert raised.value.code == 2


# --- a concern --------------------------------------------------------------------------------------------------------

UNEASY = "A lantern hangs in the window."


class Lanterns:
    """Takes lanterns for a concern about abuse."""

    def suspect(self, texts):
        return [Suspicion("concern", "abuse") if "lantern" in text else None for text in texts]


@pytest.fixture
def careful(tiny_model, tiny_tokenizer):
    config = generation_config(tiny_tokenizer, max_new_tokens=20)
    return SupportBot(tiny_model, tiny_tokenizer, config=config, classifiers=[Lanterns()])


def test_after_a_concern_the_model_answers_and_a_direct_question_follows(careful, scripted):
    scripted([f"{HEARD} ", "What was it like?"])
    stream = careful.stream(said(UNEASY))
    pieces = list(stream)
    assessment = assess(said(UNEASY), classifiers=[Lanterns()])
    assert stream.kind == "concern"
    assert pieces == [f"{HEARD} ", "What was it like?", "\n\n" + check_in(assessment, 0)]
    assert asked_about(stream.text) == {"abuse"}


def test_a_yes_to_it_is_a_crisis_and_anything_else_goes_on(careful, scripted):
    scripted([HEARD])
    asked = careful.reply(said(UNEASY))
    assert careful.stream(said(UNEASY, asked, "Yes.")).kind == "crisis"
    assert careful.stream(said(UNEASY, asked, "No, it is only a lamp.")).kind == "model"


def test_it_is_not_asked_again_until_a_while_has_passed(careful, scripted):
    scripted([HEARD])
    asked = careful.reply(said(UNEASY))
    later = said(UNEASY, asked, *["It is late.", HEARD] * (ASKED_LATELY - 1), UNEASY)
    assert careful.stream(later).kind == "model"
    longer = [*later[:-1], *said("It is late.", HEARD), *said(UNEASY)]
    assert careful.stream(longer).kind == "concern"


def test_the_question_follows_a_safe_reply_too(careful, scripted):
    scripted([LINK])
    stream = careful.stream(said(UNEASY))
    assessment = assess(said(UNEASY), classifiers=[Lanterns()])
    assert "".join(stream) == f"{safe_reply(0)}\n\n{check_in(assessment, 0)}"
    assert stream.kind == "concern"


def test_stopping_stops_the_model_and_leaves_the_question_unasked(careful, scripted):
    script = scripted([f"{HEARD} ", "What was it like?"])
    stream = careful.stream(said(UNEASY))
    assert next(stream) == f"{HEARD} "
    stream.close()
    assert (stream.text, script.closed) == (f"{HEARD} ", 1)
    assert careful.counts.as_dict() == {}, "nobody was asked"


@pytest.mark.parametrize(
    "reply",
    [
        "Call the emergency number if it is good to end your life.",
        "When do you think of dying, do you think?",
        "Do you feel like hurting yourself?",
    ],
)
def test_danger_that_nobody_spoke_of_is_not_for_the_model_to_bring_up(bot, scripted, reply):
    scripted([reply], [HEARD])
    assert bot.reply(said("I feel alone since I moved here.")) == HEARD


# --- echoes and counts ------------------------------------------------------------------------------------------------

LETTER = "When the second letter came the woman next door read it aloud twice and put it behind the clock."


def test_what_the_model_learned_by_heart_is_not_repeated(bot, scripted):
    bot.echoes = Echoes.of([LETTER])
    script = scripted([LETTER], [HEARD])
    assert bot.reply(said("Hello")) == HEARD
    assert len(script.asked) == 2


def test_replies_are_counted_by_kind_and_reason_and_not_by_word(careful, scripted):
    careful.echoes = Echoes.of([LETTER])
    # One reply after two that were refused, then four refusals.
    scripted([LETTER], [LINK], [HEARD], [LINK])
    for message in ("Hello", UNEASY, CRISIS):
        careful.reply(said(message))
    (found,) = careful.counts.as_dict().values()
    assert found == {
        "model": 1,
        "safe": 1,
        "concern": 1,
        "concern: abuse": 1,
        "crisis": 1,
        "crisis: emergency": 1,
        "crisis: suicide": 1,
        "refused": 6,
        "refused: echo": 1,
        "refused: link": 5,
    }


def test_a_run_leaves_its_echoes_beside_the_model_and_the_bot_finds_them(tmp_path, tiny_tokenizer):
    texts = [" ".join(f"word{number}x{place}" for place in range(14)) for number in range(12)]
    pairs = [(f"Question {text}", text) for text in texts]
    model = save_model(tmp_path / "model", tiny_tokenizer)
    run = train(tmp_path / "run", model, write_csv(tmp_path / "train.csv", pairs))
    bot = SupportBot.from_pretrained(str(run.path))
    assert bot.echoes is not None
    assert sum(bot.echoes.heard_in(text) for text in texts) >= 8  # All but those that were held out.


# --- a model that is not fit ------------------------------------------------------------------------------------------


def test_a_model_that_is_refused_too_often_is_asked_no_more(bot, scripted, caplog):
    script = scripted([LINK])
    with caplog.at_level(logging.WARNING):
        while not bot.trust.lost:
            assert bot.stream(said("It rained.")).whole() == safe_reply(0)
    # Of each message's drafts the first counts, and once it is lost no further one is asked for.
    asked = len(script.asked)
    assert asked == ATTEMPTS * (FEWEST - 1) + 1
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{FEWEST} of the last {FEWEST} drafts refused: the model is asked no more")
    stream = bot.stream(said("It rained.", HEARD, "Still."))
    assert (stream.whole(), stream.kind) == (safe_reply(1), "safe")
    assert len(script.asked) == asked
    # A crisis is answered as ever.
    assert bot.stream(said(CRISIS)).kind == "crisis"


def test_the_first_draft_for_a_message_counts_for_or_against_the_model(bot, scripted):
    counted = []
    bot.trust.add = lambda *, refused: counted.append(refused)
    scripted([f"{HEARD} {LINK}"], [HEARD], [""], [LINK], [HEARD], [f"{HEARD} And then?"], ["I see. ", "Hm."])
    assert bot.reply(said("It rained.")) == f"{HEARD} "
    assert bot.reply(said("It rained.")) == HEARD
    # An empty one is as useless as one that is refused, and what comes after it is not counted.
    assert bot.reply(said("It rained.")) == HEARD
    # One that nobody waited for was fit as far as it came.
    stream = bot.stream(said("It rained."))
    next(stream)
    stream.close()
    assert counted == [True, False, True, False]
    # One that nobody began to read is not counted.
    bot.stream(said("It rained.")).close()
    assert len(counted) == 4


def test_it_is_tried_out_on_every_sentence_of_replies_that_nobody_gets(bot, monkeypatch):
    written = [GeneratedReply(HEARD, True), GeneratedReply(f"{HEARD} {LINK} {HEARD}", True)] * FEWEST
    monkeypatch.setattr(support_bot, "generate_replies", lambda model, tokenizer, conversations, config: written)
    trial = bot.try_out([said("It rained.")] * len(written))
    assert trial.lost and str(trial) == f"{FEWEST} of the last {2 * FEWEST} drafts refused"
    # What people will ask for begins with nothing against the model.
    assert str(bot.trust) == "0 of the last 0 drafts refused"
    assert bot.counts.as_dict() == {}
