"""Echoes: long runs of words from the training text are heard in replies, and only hashes of them are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from training_fixtures import save_model, train, write_csv  # noqa: F401

from mh_support.safety.echoes import FILE, RUN, Echoes

LETTER = "When the second letter came my aunt in Tromso read it aloud twice and put it behind the clock."
WORDS = LETTER.rstrip(".").split()


def test_a_run_of_twelve_words_is_heard_and_one_of_eleven_is_not() -> None:
    read = Echoes.of([LETTER])
    assert RUN == 12 and len(read) == len(WORDS) - RUN + 1
    for start in range(len(WORDS) - RUN + 1):
        assert read.heard_in("You said: " + " ".join(WORDS[start : start + RUN]) + ", and then?")
    for start in range(len(WORDS) - RUN + 2):
        assert not read.heard_in("You said: " + " ".join(WORDS[start : start + RUN - 1]) + ", or not?")


def test_case_punctuation_and_spelling_hide_nothing() -> None:
    assert Echoes.of([LETTER]).heard_in(LETTER.upper().replace(" twice", ", TWICE,"))


def test_nothing_read_and_nothing_said_is_no_echo() -> None:
    assert not Echoes.of([]).heard_in(LETTER)
    assert not Echoes.of(["Too short."]).heard_in(LETTER)
    assert not Echoes.of([LETTER]).heard_in("")


def test_the_file_holds_no_word(tmp_path: Path) -> None:
    Echoes.of([LETTER, LETTER]).save(tmp_path)
    data = (tmp_path / FILE).read_bytes()
    assert b"letter" not in data and b"Tromso" not in data.replace(b"tromso", b"Tromso")
    again = Echoes.from_pretrained(str(tmp_path))
    assert again is not None and again.heard_in(LETTER) and len(again) == len(Echoes.of([LETTER]))


def test_a_model_without_the_file_has_none(tmp_path: Path) -> None:
    assert Echoes.from_pretrained(str(tmp_path)) is None


@pytest.mark.parametrize("wrong", [b"", b"not an array", b"\x93NUMPY"])
def test_a_damaged_file_is_said_in_one_line(tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / FILE).write_bytes(wrong)
    with pytest.raises(ValueError, match=r"echoes\.npy cannot be read \(.+\); save or download the model again$"):
        Echoes.from_pretrained(str(tmp_path))


def test_nor_is_any_other_array_taken_for_hashes(tmp_path: Path) -> None:
    np.save(tmp_path / FILE, np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"echoes\.npy holds no list of hashes; save or download the model again$"):
        Echoes.from_pretrained(str(tmp_path))
