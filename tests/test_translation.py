"""Another language: small Marian models trained here, the whole way there and back, and what is done where it fails.

The models know the sentences below by heart and nothing else, some of them on purpose wrongly.
"""

from __future__ import annotations

import pytest
from training_fixtures import one_thread  # noqa: F401
from translation_fixtures import INTO_ENGLISH, WRONG, loaded, trained  # noqa: F401

import mh_support.support_bot as support_bot
from mh_support.generation import generation_config
from mh_support.safety import assess, check_reply, crisis_reply, resources_for
from mh_support.support_bot import SupportBot
from mh_support.translation import (
    IN_ENGLISH,
    UNTRANSLATED,
    TranslatingBot,
    Translator,
    Untranslatable,
    _Direction,
    _numbers,
    _sentences,
)


@pytest.fixture
def english(tiny_model, tiny_tokenizer):
    return SupportBot(tiny_model, tiny_tokenizer, config=generation_config(tiny_tokenizer, max_new_tokens=20))


@pytest.fixture
def bot(english, translator):
    return TranslatingBot(english, translator)


@pytest.fixture
def scripted(monkeypatch):
    """Return a function that lets the English model say a text, and gives the conversations that it is asked with."""

    def script(text):
        asked = []

        def stand_in(model, tokenizer, messages, config):
            asked.append([message["content"] for message in messages])
            yield text

        monkeypatch.setattr(support_bot, "stream_reply", stand_in)
        return asked

    return script


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


# --- translating ------------------------------------------------------------------------------------------------------


def test_the_models_know_their_sentences(translator):
    right = ["Ich fühle mich allein.", "Seit wann?", "Ich schlafe nur 4 Stunden."]
    assert [translator.to_english(text) for text in right] == [INTO_ENGLISH[text] for text in right]
    assert translator.from_english("That sounds lonely.") == "Das klingt einsam."


def test_sentences_are_translated_one_by_one_and_lines_and_signs_stay(translator):
    text = "Ich fühle mich allein. Seit wann?\n\n\U0001f642 !  Ich schlafe nur 4 Stunden.\n"
    assert translator.to_english(text) == "I feel alone. Since when?\n\n\U0001f642 !  I only sleep 4 hours."


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Es kostet 3.5 Euro!", ["Es kostet 3.5 Euro!"]),
        ("„Nein.“ Sagte er.", ["„Nein.“ Sagte er."]),  # One that the pattern does not know is longer, not wrong.
        ('"No." He left.', ['"No."', "He left."]),
        ("\u6211\u5f88\u5b64\u72ec\u3002\u4f60\u5462\uff1f", ["\u6211\u5f88\u5b64\u72ec\u3002", "\u4f60\u5462\uff1f"]),
        ("\u0643\u064a\u0641\u061f \u062d\u0633\u0646", ["\u0643\u064a\u0641\u061f", "\u062d\u0633\u0646"]),
    ],
)
def test_sentences_end_as_their_script_ends_them(text, sentences):
    assert [sentence for sentence, _ in _sentences(text) if sentence] == sentences
    assert "".join(sentence + gap for sentence, gap in _sentences(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hm.", "nothing came out of the translation"),
        ("So nicht.", "the translation goes in circles"),
        ("Ich habe 20 davon.", "a number was lost in translation"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "the translation model does not know these letters"),
        ("Ich fühle mich allein. Hm.", "nothing came out of the translation"),
        ("allein " * 50, "a sentence is too long for the translation model; say it in shorter ones"),
        ("Hm. " * 101, "the text has 101 sentences; at most 100 are translated"),
        ("a" * 8_001, "the text has 8001 characters; at most 8000 are translated"),
        (" \n ", "there is nothing to translate"),
    ],
)
def test_what_cannot_be_translated_safely_is_said(translator, text, message):
    with pytest.raises(Untranslatable, match=f"^{message}$"):
        translator.to_english(text)


def test_a_number_that_the_reply_did_not_have_is_refused(translator):
    with pytest.raises(ValueError, match=r"^a number was made up in translation$"):
        translator.from_english("Many people are.")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([68, 5, 6, 7], "the translation did not come to an end"),
        ([68, 5, 1, 0], "the translation holds a sign that is not known"),
        ([68, 5, 6, 0], "much was lost in translation"),
    ],
)
def test_a_translation_without_an_end_with_an_unknown_sign_or_cut_short_is_refused(translator, target, message):
    with pytest.raises(Untranslatable, match=f"^{message}$"):
        translator._to_english._checked("Seit wann?", range(20), target)


def test_an_address_that_was_not_there_is_refused(translator, monkeypatch):
    direction = translator._to_english
    monkeypatch.setattr(direction._tokenizer, "decode", lambda *args, **options: "Look at www.example.com")
    with pytest.raises(Untranslatable, match=r"^an address was changed in translation$"):
        translator.to_english("Seit wann?")


def test_many_sentences_at_once_are_what_each_is_alone(translator):
    right = [text for text in INTO_ENGLISH if text not in WRONG] * 5
    assert len(right) > 20
    assert translator.to_english(" ".join(right)) == " ".join(INTO_ENGLISH[text] for text in right)


def test_numbers_are_the_same_in_any_script_and_however_thousands_are_parted():
    assert _numbers("1.000 und 3,5 um 10:30") == _numbers("1,000 and 3.5 at 10:30") == _numbers("1000; 3 5 10 30")
    assert _numbers("\u0664") == _numbers("4")
    assert _numbers("988") != _numbers("898")


def test_a_prefix_chooses_the_language_of_a_model_that_has_several(translation_folders, translator):
    several = _Direction.from_pretrained(translation_folders[0], prefix=">>por<<")
    plain = translator._to_english
    assert several._tokenizer.tokenize(">>por<< Hm.")[0] == ">>por<<"
    assert len(several._ids("Hm.")) == len(plain._ids("Hm.")) + 1


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_message_becomes_english_and_its_reply_comes_back(bot, scripted):
    asked = scripted("That sounds lonely. Since when?")
    stream = bot.stream(said("Ich fühle mich allein.", "Seit wann?", "Seit dem Umzug."))
    assert list(stream) == ["Das klingt einsam. ", "Seit wann?"]
    assert (stream.kind, stream.text) == ("model", "Das klingt einsam. Seit wann?")
    assert asked == [["I feel alone.", "Since when?", "Since I moved."]]


def test_settings_and_stopping_reach_the_english_bot(bot, english, monkeypatch):
    seen = []

    def stand_in(model, tokenizer, messages, config):
        try:
            yield "That sounds lonely. "
            yield "Since when?"
        finally:
            seen.append(config)

    monkeypatch.setattr(support_bot, "stream_reply", stand_in)
    config = generation_config(english.tokenizer, max_new_tokens=3)
    stream = bot.stream(said("Ich fühle mich allein."), config=config)
    assert next(stream) == "Das klingt einsam. "
    stream.close()
    assert seen == [config]
    assert (bot.model, bot.tokenizer, bot.config) == (english.model, english.tokenizer, english.config)


def test_a_conversation_that_does_not_end_with_the_person_is_refused(bot):
    with pytest.raises(ValueError, match=r"^the conversation does not end with something the person said; add a user"):
        bot.reply(said("Ich fühle mich allein.", "Seit wann?"))


# --- a crisis ---------------------------------------------------------------------------------------------------------


def answer_to(text, turn=0):
    return crisis_reply(assess(said(text)), resources_for(None), turn)


def test_a_crisis_said_in_the_other_language_is_seen_in_its_translation(bot, scripted):
    asked = scripted("never")
    text = "Heute springe ich von der Brücke."
    assert not assess(said(text)).is_crisis
    stream = bot.stream(said(text))
    assert (stream.kind, "".join(stream)) == ("crisis", answer_to("Tonight I will jump off the bridge."))
    assert asked == []


def test_a_crisis_that_the_translation_loses_is_seen_in_the_original(bot, translator, scripted):
    asked = scripted("never")
    text = "I want to kill myself."
    assert not assess(said(translator.to_english(text))).is_crisis
    assert bot.stream(said(text)).kind == "crisis"
    # Also where there is no translation at all.
    assert bot.stream(said(f"{text} \u043f\u0440\u0438\u0432\u0435\u0442")).kind == "crisis"
    assert asked == []


@pytest.mark.parametrize("rest", ["Hm.", "\u043f\u0440\u0438\u0432\u0435\u0442.", "allein " * 50, "Ich habe 20 davon."])
def test_a_crisis_is_seen_in_what_can_be_translated_of_a_message_that_cannot(bot, scripted, rest):
    asked = scripted("Since when?")
    text = f"Heute springe ich von der Brücke. {rest}"
    with pytest.raises(Untranslatable) as raised:
        bot.translator.to_english(text)
    assert raised.value.understood.startswith("Tonight I will jump off the bridge.")
    assert bot.stream(said(text)).kind == "crisis"
    assert bot.stream(said(text, "Seit wann?", "Seit dem Umzug.")).kind == "crisis"
    assert bot.stream(said(f"Ich fühle mich allein. {rest}")).kind == "untranslated"
    assert asked == []


def test_a_crisis_stays_one_in_the_turns_that_follow(bot, scripted):
    asked = scripted("never")
    assert bot.stream(said("Heute springe ich von der Brücke.", "Seit wann?", "Seit dem Umzug.")).kind == "crisis"
    assert asked == []


def test_in_a_crisis_the_words_come_first_as_they_were_written_and_then_translated(bot, monkeypatch):
    monkeypatch.setattr(bot.translator, "from_english", lambda text: f"Auf Deutsch: {len(text)}.", raising=True)
    monkeypatch.setattr(bot.translator, "to_english", lambda text: "I want to kill myself.", raising=True)
    monkeypatch.setattr("mh_support.translation.check_reply", lambda text: check_reply("I hear you."))
    stream = bot.stream(said("Heute springe ich von der Brücke."))
    words = answer_to("I want to kill myself.")
    assert list(stream) == [words, f"\n\nAuf Deutsch: {len(words)}."]


# --- what cannot be translated ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Hm.", "So nicht.", "Ich habe 20 davon.", "\u043f\u0440\u0438\u0432\u0435\u0442"])
def test_a_message_that_cannot_be_translated_is_answered_by_saying_so(english, translator, scripted, text):
    asked = scripted("never")
    stream = TranslatingBot(english, translator).stream(said(text))
    statement = UNTRANSLATED.replace("{emergency}", "your local emergency number").replace(
        "{directories}", "findahelpline.com and befrienders.org"
    )
    assert (stream.kind, "".join(stream)) == ("untranslated", statement)
    german = TranslatingBot(english, translator, untranslated="Das habe ich nicht verstanden. Notruf: {emergency}.")
    assert german.reply(said(text)) == "Das habe ich nicht verstanden. Notruf: your local emergency number."
    assert asked == []


def test_an_earlier_message_that_could_not_be_translated_is_left_out(bot, scripted):
    asked = scripted("Since when?")
    assert bot.reply(said("Hm.", "Ich habe 20 davon.", "Ich fühle mich allein.")) == "Seit wann?"
    assert asked == [["I feel alone."]]


def test_a_sentence_whose_translation_fails_the_check_is_shown_in_english(bot, translator, scripted):
    assert check_reply("You are worn out.").ok
    assert not check_reply(translator.to_english(translator.from_english("You are worn out."))).ok
    scripted("That sounds lonely. Many people are. You are worn out. Since when?")
    stream = bot.stream(said("Ich fühle mich allein."))
    assert list(stream) == [
        "Das klingt einsam. ",
        f"{IN_ENGLISH} Many people are. ",
        "You are worn out. ",
        "Seit wann?",
    ]
    assert stream.kind == "model"


def test_a_reply_that_becomes_nothing_is_shown_in_english(bot, scripted):
    scripted("I hear you.")
    assert bot.reply(said("Ich fühle mich allein.")) == f"{IN_ENGLISH} I hear you."


def test_a_safe_reply_is_marked_as_one(bot, scripted):
    scripted("You have depression.")
    stream = bot.stream(said("Ich fühle mich allein."))
    assert "".join(stream).startswith(IN_ENGLISH)
    assert stream.kind == "safe"


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_nothing_is_remembered_unless_asked(bot, scripted):
    scripted("Since when?")
    bot.reply(said("Ich fühle mich allein."))
    assert len(bot._remembered) == 0


def test_what_is_remembered_is_translated_once_and_bounded(english, translator, scripted, monkeypatch):
    asked = scripted("That sounds lonely.")
    bot = TranslatingBot(english, translator, remember=3)
    first = bot.reply(said("Ich fühle mich allein."))
    translated = []
    into_english = translator.to_english
    monkeypatch.setattr(translator, "to_english", lambda text: translated.append(text) or into_english(text))
    bot.reply(said("Ich fühle mich allein.", first, "Seit dem Umzug."))
    assert translated == ["Seit dem Umzug.", first]  # The second is the check of the new reply.
    assert asked[-1] == ["I feel alone.", "That sounds lonely.", "Since I moved."]
    assert len(bot._remembered) == 3
    bot.reply(said("Seit wann?"))
    assert len(bot._remembered) == 3
    assert "Ich fühle mich allein." not in repr(bot)


# --- loading ----------------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_there_is_named(translation_folders, tmp_path):
    with pytest.raises(ValueError, match=r"^no translation model can be loaded from .*nowhere \(.*\); check the id or"):
        Translator.from_pretrained(translation_folders[0], str(tmp_path / "nowhere"))


def test_what_to_install_is_said(translation_folders, monkeypatch):
    from transformers import AutoTokenizer

    def missing(name):
        raise ImportError("MarianTokenizer requires the SentencePiece library")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(ValueError, match=r"^translation needs packages .* -c constraints\.txt -e '\.\[translation\]'$"):
        Translator.from_pretrained(*translation_folders)
