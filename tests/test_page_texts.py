"""The page's words: the same in every language, complete, and true."""

import json
import re

import pytest

from mh_support.chat_page.texts import (
    check_country,
    crisis_message,
    help_by_country,
    languages,
    preferred,
)
from mh_support.safety import NOTICE, resources_for
from mh_support.safety.disclosure import BREAK, REMINDER
from mh_support.safety.resources import countries

ENGLISH = languages()["en"]
OTHERS = [code for code in languages() if code != "en"]
# What it must never say that it is; each language's notice denies it once.
THERAPIST = {
    "en": r"therap|psycholog|counsellor|doctor",
    "es": r"terap|psic[óo]log|consejer|médic",
    "fr": r"thérap|psycholog|conseill|médecin",
    "de": r"therap|psycholog|berat|arzt|ärzt",
    "pt": r"terap|psic[óo]log|conselheir|médic",
    "ar": r"معالج|طبيب|مرشد|نفسي",
}


def words(texts):
    """Every text of a language, by its key."""
    for key, text in texts.items():
        for part in text if isinstance(text, list) else [text]:
            yield key, part


def test_there_are_six_languages_and_one_runs_from_right_to_left():
    assert list(languages()) == ["en", "de", "es", "fr", "pt", "ar"]
    assert {code for code, texts in languages().items() if texts["direction"] == "rtl"} == {"ar"}


@pytest.mark.parametrize("code", OTHERS)
def test_every_language_has_every_text_with_the_same_blanks(code):
    texts = languages()[code]
    assert list(texts) == list(ENGLISH)
    for key, english in ENGLISH.items():
        assert type(texts[key]) is type(english)
        assert len(texts[key]) == len(english) or isinstance(english, str)
        for one, other in zip(
            *([part] if isinstance(part, str) else part for part in (texts[key], english)), strict=True
        ):
            assert sorted(re.findall(r"\{\w+\}", one)) == sorted(re.findall(r"\{\w+\}", other)), key
            assert one.strip() == one and one


@pytest.mark.parametrize("code", OTHERS)
def test_no_text_was_left_in_english(code):
    texts = dict(words(languages()[code]))
    same = {key for key, text in words(ENGLISH) if texts[key] == text} - {"direction"}
    # Words that are the same in both languages.
    assert same <= {"conversation", "stop", "code"}


def test_notice_and_reminder_are_those_that_the_rest_of_the_project_gives():
    assert ENGLISH["notice"] == NOTICE
    assert (ENGLISH["reminder"], ENGLISH["break"]) == (REMINDER, BREAK)


@pytest.mark.parametrize("code", list(languages()))
def test_nobody_calls_it_a_therapist(code):
    """Those words stand only where it denies being one, twice, and where a crisis message sends people to one."""
    said = {key for key, text in words(languages()[code]) if re.search(THERAPIST[code], text, re.IGNORECASE)}
    assert said == {"notice", "reminder", "crisis"}


@pytest.mark.parametrize("code", list(languages()))
def test_a_crisis_message_names_the_number_services_and_directories(code):
    message = crisis_message(code, resources_for("GB"))
    for named in ("999", "Samaritans: 116 123", "Shout: 85258", "findahelpline.com", "befrienders.org"):
        assert named in message
    assert len(message.split("\n\n")) == 4
    assert "{" not in message
    anywhere = crisis_message(code, resources_for(None))
    assert languages()[code]["emergency_words"] in anywhere
    assert "findahelpline.com" in anywhere and "{" not in anywhere


def test_the_page_knows_every_country_and_service():
    known = help_by_country()
    assert list(known["countries"]) == list(countries())
    assert known["countries"]["GB"]["emergency"] == "999"
    assert known["countries"]["GB"]["services"][1] == {
        "name": "Shout",
        "how": ["text"],
        "number": "85258",
        "keyword": "SHOUT",
        "hours": None,
        "free": True,
        "topic": "anyone",
    }
    assert json.loads(json.dumps(known)) == known


@pytest.mark.parametrize(
    ("wanted", "found"), [(["pt-BR", " en"], "pt"), (["xx", "AR-eg"], "ar"), (["xx"], "en"), ([], "en"), ([""], "en")]
)
def test_the_preferred_language_is_the_first_that_is_there(wanted, found):
    assert preferred(wanted) == found


@pytest.mark.parametrize(("given", "found"), [(None, None), (" ", None), ("gb", "GB"), ("uk", "GB"), ("IN", "IN")])
def test_a_country_is_known_by_its_code(given, found):
    assert check_country(given) == found


@pytest.mark.parametrize("given", ["XX", "England", "../GB"])
def test_an_unknown_country_is_refused(given):
    said = (
        rf"^country is '{re.escape(given)}', which has no services in the table; give one of AT, AU, .*, ZA, or none "
    )
    with pytest.raises(ValueError, match=said):
        check_country(given)
