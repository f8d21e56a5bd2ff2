"""Plain words: a message with its disguises and spelling variants taken off, for rules to search.

"I wanna k1LLLL my s e l f..." and "i want to kill myself" become the same words, by the tables of spellings.json.
Where each word stood is kept, so that a match can be reported as a place in what the person wrote.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import ftfy
from ftfy.badness import is_bad

from mh_support.files import packaged_json

_Word = tuple[str, int, int]  # its plain spelling, and from where to where it stood in the message

# A word ends at space and punctuation, or after 100 characters, which bounds the work on a message without spaces.
# "." is also a separator inside "s.u.i.c.i.d.e", "!" stays for "k!ll", and dots in a row are a pause, not an end.
_STOPS = ".!?\u3002\uff01\uff1f"
_TOKEN = re.compile(
    rf"(?P<pause>[.\u2026]{{2,}}|\u2026)|(?P<stop>[{_STOPS}]+(?=\s|$)|\n\s*\n)"
    r"|(?P<word>[^\s,;:()\"\u201c\u201d\u00ab\u00bb<>\[\]{}\u2013\u2014\-_./\\~?=&^%\u2026\u3002\uff01\uff1f]{1,100})"
)
_LAUGHTER = re.compile("[\U0001f602\U0001f923\U0001f606\U0001f639\U0001f480\u2620]")
_NOT_A_LETTER = re.compile(r"[^a-z0-9*$@!|+]")
# Cyrillic, Greek and other letters that look like Latin ones.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u03bf\u03b1\u03b9\u03c1\u0131\u0142\u00f8",
    "aeopcyxijsdoaipilo",
)
_LEET = (str.maketrans("013457@$!|+", "oieastasiit"), str.maketrans("013457@$!|+", "oleastasllt"))
_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
# Three letters or more that stand apart: "s u i c i d e".
_APART = re.compile(r"\b(?:[^\W\d_] ){2,}[^\W\d_]\b")
_TO_SELF = {
    "esteem",
    "worth",
    "harm",
    "harming",
    "confidence",
    "care",
    "image",
    "respect",
    "hatred",
    "control",
    "injury",
}


class Spellings(NamedTuple):
    """The tables of spellings.json, ready for use."""

    words: dict[str, str]
    pairs: dict[tuple[str, str], str]
    disguised: dict[str, str]  # by its letters without repetitions: "kil" -> "kill"
    censored: list[str]
    run_together: dict[str, str]  # "wanttodie" -> "want to die"
    run_together_pattern: re.Pattern[str]
    slips: dict[str, str]


@dataclass(frozen=True)
class PlainWords:
    """Words of one message, "/ i want to die / ", and where each stood in it."""

    text: str = field(repr=False)
    starts: tuple[int, ...] = field(repr=False)  # of each word in `text`
    places: tuple[tuple[int, int], ...] = field(repr=False)  # of each word in the message

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Say where characters `start` to `end` of `text` stood in the message."""
        first = max(0, bisect_right(self.starts, start) - 1)
        last = max(first, bisect_right(self.starts, end - 1) - 1)
        return self.places[first][0], self.places[last][1]


def plain_words(message: str, known: dict[str, str] | None = None) -> PlainWords:
    """Make a message plain: lower case, known spellings, one space between words, "/" around each sentence.

    Takes time in proportion to the length of the message. `known` takes up each word as it is written, and its plain
    spelling, for the next call to find; without it nothing is kept.

    >>> plain_words("I do not wanna k1ll my self!").text
    '/ i dont want to kill myself / '
    """
    text, starts, places, length = ["/ "], [], [], 2
    for word, start, end in _merged(_spelt(message, {} if known is None else known)):
        if word == "/" and text[-1] == "/ ":
            continue
        starts.append(length)
        places.append((start, end))
        text.append(word + " ")
        length += len(word) + 1
    if text[-1] != "/ ":
        starts.append(length)
        places.append((len(message), len(message)))
        text.append("/ ")
    return PlainWords("".join(text), tuple(starts), tuple(places))


def without_disguises(message: str) -> str:
    """Return a message as it was written, but for look-alike letters and letters set apart: sentences stay sentences.

    >>> without_disguises("Please, n o b o d y c\u0430res.")
    'please, nobody cares.'
    """
    straight = message.translate(_QUOTES)
    latin = straight if straight.isascii() else _latin(straight)
    return _APART.sub(lambda found: found[0].replace(" ", ""), latin)


def _spelt(message: str, known: dict[str, str]) -> Iterator[_Word]:
    """Yield each word in its plain spelling, and letters set apart ("d i e") as the word they make."""
    letters: list[_Word] = []
    for token in _TOKEN.finditer(message):
        kind, (start, end) = token.lastgroup, token.span()
        if kind == "pause":
            continue
        written = token[0]
        if kind == "word" and end - start == 1 and written.isalnum():
            letters.append((written, start, end))
            continue
        if letters:
            yield from _joined(letters, known)
            letters = []
        if kind == "stop":
            yield "/", start, end
            continue
        plain = _plain(written, known)
        if plain:
            yield plain, start, end
        if written[-1] == "!":
            yield "/", end - 1, end
    yield from _joined(letters, known)


def _plain(written: str, known: dict[str, str]) -> str:
    plain = known.get(written)
    if plain is None:
        plain = known[written] = plain_word(written)
    return plain


def _joined(letters: list[_Word], known: dict[str, str]) -> Iterator[_Word]:
    """Yield single letters as the word they spell, or else as they are."""
    word = plain_word("".join(letter for letter, _, _ in letters[:100])) if len(letters) > 2 else ""
    if word and not set(word.split()).isdisjoint(spellings().disguised.values()):
        yield word, letters[0][1], letters[-1][2]
    else:
        for letter, start, end in letters:
            yield _plain(letter, known), start, end


def _merged(words: Iterator[_Word]) -> Iterator[_Word]:
    """Yield words with pairs such as "do not" as one, "dont"."""
    pairs = spellings().pairs
    held: _Word | None = None
    for word, start, end in words:
        if held is None:
            held = (word, start, end)
        elif (held[0], word) in pairs:
            held = (pairs[held[0], word], held[1], end)
        else:
            if held[0] == "myself" and word in _TO_SELF:
                held = ("my self", held[1], held[2])
            yield held
            held = (word, start, end)
    if held is not None:
        yield held


def plain_word(written: str) -> str:
    """Spell one word plainly; the result may be empty, or several words.

    >>> plain_word("su1c1dal"), plain_word("dieeee"), plain_word("#iwanttodie"), plain_word("gonna")
    ('suicidal', 'die', 'i want to die', 'going to')
    """
    tables = spellings()
    if re.search("[a-z]I", written):  # a capital I in the place of an l
        written = written.replace("I", "l")
    word = written if written.isascii() else _latin(written)
    laughs = " lol" if _LAUGHTER.search(word) else ""
    if "'" in (quoted := written.translate(_QUOTES).lower()):  # Without it another word would stand there, as "odd".
        word = tables.words.get(quoted, word)
    word = _NOT_A_LETTER.sub("", word.lower().rstrip("!").lstrip("@"))
    if word not in tables.words and not word.isalpha() and not word.isdigit():
        word = _undisguised(word)
    if re.search(r"(.)\1\1", word) and not word.isdigit():
        word = tables.disguised.get(_squeezed(word), re.sub(r"(.)\1\1+", r"\1", word))
    word = tables.words.get(word, tables.slips.get(word, word))
    if len(word) > 6 and " " not in word:
        spaced = tables.run_together_pattern.sub(lambda found: f" {tables.run_together[found[0]]} ", word)
        word = " ".join(spaced.split())
    return (word + laughs).strip()


def _latin(written: str) -> str:
    """Turn curly, broken, accented and look-alike characters into plain ones, and drop invisible ones."""
    if is_bad(written):
        written = ftfy.fix_text(written)
    letters = unicodedata.normalize("NFKD", written.lower())
    return "".join(c for c in letters if unicodedata.category(c) not in ("Mn", "Me", "Cf")).translate(_LOOKALIKES)


def _undisguised(word: str) -> str:
    """Resolve "k1ll" and "su*cide" to the words they stand for; "20mg" stays as it is."""
    tables = spellings()
    if "*" in word:
        shape = re.compile(re.escape(word).replace(r"\*", "[a-z]"))
        return next((key for key in tables.censored if shape.fullmatch(key)), word.replace("*", ""))
    for leet in _LEET:
        guess = word.translate(leet)
        guess = tables.disguised.get(_squeezed(guess), guess)
        if guess in tables.disguised.values() or tables.run_together_pattern.search(guess):
            return guess
    return re.sub(r"[^a-z0-9]", "", word)


def _squeezed(word: str) -> str:
    return re.sub(r"(.)\1+", r"\1", word)


@cache
def spellings() -> Spellings:
    """Read spellings.json."""
    table = packaged_json("mh_support.safety", "spellings.json")
    run_together = {phrase.replace(" ", ""): phrase for phrase in table["run together"]}
    return Spellings(
        words=table["words"],
        pairs={tuple(pair.split()): word for pair, word in table["pairs"].items()},
        # The first of two words with the same letters counts.
        disguised={_squeezed(word): word for word in reversed(table["disguised"])},
        censored=table["censored"],
        run_together=run_together,
        run_together_pattern=re.compile("|".join(sorted(run_together, key=len, reverse=True))),
        slips=_slips(table["slips"]),
    )


def _slips(words: list[str]) -> dict[str, str]:
    """Map every spelling one slip away from a word to it: a letter missing, added, mistaken or swapped."""
    slips: dict[str, str] = {}
    for word in words:
        for i in range(len(word)):
            rest = word[i + 1 :]
            spelt = [word[:i] + rest, word[:i] + rest[:1] + word[i] + rest[1:]]
            for letter in "abcdefghijklmnopqrstuvwxyz":
                spelt += [word[:i] + letter + rest, word[:i] + letter + word[i:]]
            slips.update((slip, word) for slip in spelt if slip not in ("overdose", "overdoses"))
    return slips
