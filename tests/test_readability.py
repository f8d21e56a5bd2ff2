"""Reading grades, worked by hand."""

import pytest

from mh_support.readability import reading_grade, syllables


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("the", 1),
        ("I", 1),
        ("regal", 2),
        ("real", 1),
        ("home", 1),
        ("tree", 1),
        ("You're", 1),
        ("nobody", 3),
        ("HOME", 1),
        ("friendliness", 3),
        ("rhythm", 1),
        ("40", 1),
        ("hmm", 1),
    ],
)
def test_syllables(word: str, count: int) -> None:
    assert syllables(word) == count


@pytest.mark.parametrize(
    ("text", "words", "sentences", "counted"),
    [
        ("You came home late. Nobody asked.", 6, 2, 9),
        ("You came home late, nobody asked", 6, 1, 9),
        ("You came home late?! Nobody asked...", 6, 2, 9),
        ("You came home late.\nNobody asked.\n\n", 6, 2, 9),  # Turns joined by line breaks.
        ("You came home late\nNobody asked", 6, 2, 9),  # A turn needs no full stop.
        ("'You came home late.' Nobody asked.", 6, 2, 9),
        ("(You came home late.) Nobody asked.", 6, 2, 9),
        ("He came at 7.30 today.", 6, 1, 7),  # 7 and 30 are two words; the point between them ends nothing.
        ("Don't.", 1, 1, 1),
        ("Don\N{RIGHT SINGLE QUOTATION MARK}t.", 1, 1, 1),
        ("... Go on. --", 2, 1, 2),  # Marks alone are no sentence.
    ],
)
def test_the_grade_by_hand(text: str, words: int, sentences: int, counted: int) -> None:
    assert reading_grade(text) == pytest.approx(0.39 * words / sentences + 11.8 * counted / words - 15.59)


def test_long_sentences_and_words_are_harder() -> None:
    easy = "The cat sat on the mat. The dog ran to it."
    hard = "Multidisciplinary considerations necessitate comprehensive individualised evaluation of circumstances."

    assert reading_grade(easy) < 1
    assert reading_grade(hard) > 20


@pytest.mark.parametrize("text", ["", " \n", "... --"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the text has no word; give some English text$"):
        reading_grade(text)
