"""Texts that are clearly not English, which the classifiers leave to the rules, and those that only look odd."""

from __future__ import annotations

import numpy as np
import pytest

from mh_support.safety import assess
from mh_support.safety.classifier import crisis_classifier
from mh_support.safety.languages import is_foreign
from mh_support.safety.measure import read_examples
from mh_support.safety.plain_words import without_disguises

HARMLESS = {
    "Arabic": "اليوم طبخت مع أمي وكان الطعام لذيذا",
    "Chinese": "今天天气很好 我和朋友去公园散步。",
    "Dutch": "Vandaag ben ik met de fiets naar het werk gegaan en het was koud.",
    "French": "Aujourd'hui il pleut et je n'ai pas envie de sortir avec le chien.",
    "German": "Ich bin heute sehr müde, weil der Hund die ganze Nacht gebellt hat.",
    "Hindi": "आज मैंने अपनी माँ के साथ खाना बनाया और बहुत मज़ा आया।",
    "Hindi in Latin letters": "aaj main bahut thak gaya hoon kyunki kaam bahut tha",
    "Indonesian": "Saya hari ini makan siang dengan teman di kantor dan senang sekali.",
    "Italian": "Oggi ho cucinato la pasta per tutta la famiglia e sono contento.",
    "Japanese": "今日は寒いので、家で本を読みます。",
    "Korean": "오늘은 날씨가 좋아서 공원에 갔어요.",
    "Polish": "Dzisiaj jestem zmęczona, bo pies szczekał całą noc i nie mogłam spać.",
    "Portuguese": "Hoje o meu irmão faz anos e vamos comer bolo em casa da avó.",
    "Russian": "Сегодня я испекла пирог, и соседи пришли пить чай.",
    "Spanish": "Hoy he comido con mi abuela y me ha contado historias de su pueblo.",
    "Swedish": "Jag är trött idag, för hunden skällde hela natten och jag kunde inte sova.",
    "Turkish": "Bugün hava çok güzel, annem ile parka gittik ve dondurma yedik.",
    "Vietnamese": "Hôm nay tôi đi chợ với mẹ và mua rất nhiều rau.",
}
ENGLISH = [
    "i wnt 2 dye 2nite plz hlp",
    "no one care me i am so much tired of live",
    "me no want live more, husband he beat",
    "bruh im cooked fr fr no cap ngl",
    "wanna unalive myself tbh",
    "i c4nt d0 th1s 4nym0re",
    "s u i c i d e",
    "omg die die die die die",
    "kms",
    "Ich will sterben",
    "a u ok",
    "Hola, I want to die and nobody cares que triste",
    "je suis tired of living and i want to end it",
    "Mi casa es su casa lol but honestly i feel awful",
    "今日は I want to kill myself",
    "Dr van der Berg and Señora de la Cruz von und zu Stein said no",
    "",
    "\U0001f642 \U0001f642 \U0001f642",
    "12345 67",
]
LOOKALIKES = str.maketrans("aeopcyxi", "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456")


@pytest.mark.parametrize("language", HARMLESS)
def test_another_language_is_left_to_the_rules(language: str) -> None:
    said = HARMLESS[language]
    assert is_foreign(without_disguises(said))
    assert assess([{"role": "user", "content": said}]).level == "none"


@pytest.mark.parametrize("said", ENGLISH)
def test_english_however_poor_is_read(said: str) -> None:
    assert not is_foreign(without_disguises(said))
    assert not is_foreign(without_disguises(said.translate(LOOKALIKES)))


def test_the_labelled_messages_are_english() -> None:
    said = [turn for name in ("train", "development") for one in read_examples(name) for turn in one.turns]
    assert [number for number, text in enumerate(said) if is_foreign(without_disguises(text))] == []


def test_the_classifier_is_silent_and_the_rules_still_read() -> None:
    german, english = HARMLESS["German"], "by the weekend i wont be a problem for anyone"
    odds = crisis_classifier().log_odds([german, english])
    assert odds[0] == -np.inf and odds[1] > 0
    assert crisis_classifier().suspect([german])[0] is None
    mixed = f"{german} I want to kill myself."
    assert assess([{"role": "user", "content": mixed}]).is_crisis
