"""What `clean_text` takes out, what it leaves alone, and that a second cleaning finds nothing to do."""

import doctest
import random
import time

import pytest

from mh_support.data import cleaning
from mh_support.data.cleaning import clean_text

MARKUP = {
    "<p>I feel low.</p><p>Every day.</p>": "I feel low.\n\nEvery day.",
    "one<br>two<BR/>three<br />four": "one\ntwo\nthree\nfour",
    "<ul><li>walk</li><li>sleep</li></ul>": "walk\n\nsleep",
    "<td>Monday</td><td>Tuesday</td>": "Monday Tuesday",
    "so <b>very</b> <em class='x'>tired</em>": "so very tired",
    "un<i>believ</i>able": "unbelievable",
    "before<img src=cat.png>after": "before after",
    "<a href=\"https://x.org/?a>b\" target=_blank rel='me you'>a link</a>": "a link",
    "<input disabled>typed": "typed",
    "<h1>Grief</h1>It comes in waves": "Grief\nIt comes in waves",
    "a<script type='x'>if (1 < 2) { alert('<b>') }</script>b": "a b",
    "a<STYLE>p { color: red }</STYLE>b": "a b",
    "a<!-- hidden <b> note -->b": "a b",
    "<!DOCTYPE html><html><head><title>t</title></head><body>hello</body></html>": "hello",
    "<o:p></o:p>pasted from an editor": "pasted from an editor",
    "&lt;b&gt;escaped&lt;/b&gt; twice": "escaped twice",
    "&amp;lt;p&amp;gt;escaped thrice": "escaped thrice",
    "<<b>b>nested</b>": "nested",
}

NOT_MARKUP = [
    "I <3 my dog",
    "I </3 Mondays",
    "a < b and b > c",
    "x<y and y>z",
    "i <really> mean it",
    "he said <sigh> again </sigh>",
    "a <b and c> d",
    "me -> you <- me",
    "<3 <3 <3",
    "AT&T and R&D & more",
    "Q&A; &nothing; &notit;",
    "<",
    "&",
    "5 <6> 7",
]

ENTITIES = {
    "fish &amp; chips": "fish & chips",
    "I&#39;m fine&hellip;": "I'm fine…",
    "it&rsquo;s &quot;ok&quot;": 'it\'s "ok"',
    "a&nbsp;b&#160;c&nbsp d": "a b c d",
    "I &lt;3 you": "I <3 you",
    "&#x1F642; thanks": "🙂 thanks",
    "&amp;amp;amp; once": "& once",
    "caf&eacute;": "café",
}

CHARACTERS = {
    "\u201cYes\u201d, I said, \u2018no\u2019 \u2014 it\u2019s": "\"Yes\", I said, 'no' \u2014 it's",
    "I donâ€™t know": "I don't know",
    "clichÃ© and cafÃ©": "cliché and café",
    "cafe\u0301": "café",
    "don\ufffdt and I\ufffdm": "don't and I'm",
    "lost \ufffd here": "lost here",
    "a\u00a0b\u2003c\u3000d\u202fe\tf": "a b c d e f",
    "zero\u200bwidth\ufeff and soft\u00adhyphen\u2060": "zerowidth and softhyphen",
    "left\u200eto\u202eright": "lefttoright",
    "nul\x00 bell\x07 escape \x1b[31mred\x1b[0m": "nul bell escape red",
    "noncharacters \ufdd0\ufdd1 go": "noncharacters go",
    "line\u2028break\x0bhere\x0cnow\x85end": "line\nbreak\nhere\nnow\nend",
    "\ufb01ne, \uff26\uff35\uff2c\uff2c": "fine, FULL",
    "mother, child \U0001f469\u200d\U0001f467 stay joined": "mother, child \U0001f469\u200d\U0001f467 stay joined",
    "letters a\u200db do not": "letters ab do not",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "¿Qué tal? ¡Ánimo, niño!": "¿Qué tal? ¡Ánimo, niño!",
}

WHITESPACE = {
    "  edges \n": "edges",
    "a   b\t\tc": "a b c",
    "a \n b": "a\nb",
    "a\n\n\n\n\nb": "a\n\nb",
    "a\r\nb\rc": "a\nb\nc",
    "   \n\t ": "",
    "": "",
    "This line was broken by an editor's window and\ngoes on here.": (
        "This line was broken by an editor's window and goes on here."
    ),
    "This line was broken by an editor's window and\ngoes on here, and again it is a long one that\nends here.": (
        "This line was broken by an editor's window and goes on here, and again it is a long one that ends here."
    ),
    "milk\neggs\nbread": "milk\neggs\nbread",
    "This long line ends as a whole sentence should end.\nbut the next one is its own": (
        "This long line ends as a whole sentence should end.\nbut the next one is its own"
    ),
}

GLUED = {
    "people to hang out with.Seriously, do": "people to hang out with. Seriously, do",
    "Why?Because!Yes": "Why? Because! Yes",
    "Feeling low.I know": "Feeling low. I know",
    "It passed.A week later": "It passed. A week later",
    "with PTSD.The past": "with PTSD. The past",
    "in 2016.Then (so far).Now": "in 2016. Then (so far). Now",
    'It is "fine".There is more': 'It is "fine". There is more',
    "I don't.Love is hard": "I don't. Love is hard",
    "really?!Then": "really?! Then",
    "es difícil.Después sigue": "es difícil. Después sigue",
    "and your family.¿Cómo sigo?": "and your family. ¿Cómo sigo?",
    "Awww.So cute": "Awww. So cute",
    "first,then second": "first, then second",
    "Note:This is it": "Note: This is it",
    "It helps :)At first": "It helps :) At first",
    "an assessment .Then rest !Good": "an assessment. Then rest! Good",
}

NOT_GLUED = [
    "e.g. a walk, i.e. air",
    "e.g.Something",
    "i.e.The walk",
    "3.5 hours and 1,000 steps",
    "the U.S.A. and the U.K.",
    "A.I.Then",
    "a Ph.D. or Psy.D",
    "Node.js, ASP.NET and .NET",
    "so ... well",
    "wait...What",
    "at 10:30 or 5:15pm",
    "notes.PDF and photo.JPG",
    "Yahoo.Com",
    "hello :) and :-( and ;)",
    "the .5 mg and .25 mg",
]

LINKS = {
    "Read mysite.com.Then call": "Read mysite.com. Then call",
    "at www.Calm-Minds.org.I hope": "at www.Calm-Minds.org. I hope",
    "write to me@site.com.Then wait": "write to me@site.com. Then wait",
    "(see https://x.org/a/b-20).Once you": "(see https://x.org/a/b-20). Once you",
    "https://x.org/quiz/.Besides that": "https://x.org/quiz/. Besides that",
    "a list https://x.org/values-listIf this": "a list https://x.org/values-list If this",
    "https://x.org/Find help": "https://x.org/ Find help",
    "below:https://x.org": "below: https://x.org",
    "Jane Roewww.Jane-Roe.com": "Jane Roe www.Jane-Roe.com",
    "JaneRoe.com212.555.0147": "JaneRoe.com 212.555.0147",
    "a.com,and b": "a.com, and b",
}

UNTOUCHED_LINKS = [
    "https://en.x.org/wiki/Mr.Example?Page=2,A&b=C.D",
    "http://www.Some.Site.org/Index.Html",
    "John.Smith@Site.com",
    "mysite.co.uk/Page.PHP",
    "www.Calm.Minds.org",
    "https://x.org/a,b,C",
]

PUNCTUATION = {
    "hello , you": "hello, you",
    "hello ,you": "hello, you",
    "really ? yes !": "really? yes!",
    "well . . . fine": "well... fine",
    "(he left , I think )": "(he left, I think )",
    "as follows : rest ; eat": "as follows: rest; eat",
    '"yes ."': '"yes."',
}

MARKERS = {
    "bye<|endoftext|>hello": "bye hello",
    "<|endoftext|>": "",
    "<|ENDOFTEXT|> x": "x",
    "<|end<b></b>oftext|>x": "x",
    "<|end\u200boftext|>x": "x",
    "&lt;|endoftext|&gt;x": "x",
    "\uff1c\uff5cendoftext\uff5c\uff1ex": "x",
    "<|endof<|endoftext|>text|>x": "<|endof text|>x",
    "<|im_start|>system": "system",
}

EXPECTED = MARKUP | ENTITIES | CHARACTERS | WHITESPACE | LINKS | PUNCTUATION | MARKERS
UNCHANGED = NOT_MARKUP + UNTOUCHED_LINKS


@pytest.mark.parametrize(("raw", "clean"), EXPECTED.items())
def test_cleans(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@pytest.mark.parametrize(("raw", "clean"), GLUED.items())
def test_spaces_glued_sentences(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@pytest.mark.parametrize("text", NOT_GLUED)
def test_full_stops_inside_words_stay_closed(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize("text", UNCHANGED)
def test_leaves_alone(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize("text", [*EXPECTED, *GLUED, *NOT_GLUED, *UNCHANGED])
@pytest.mark.parametrize("lowercase", [False, True])
def test_is_idempotent(text: str, lowercase: bool) -> None:
    once = clean_text(text, lowercase=lowercase)
    assert clean_text(once, lowercase=lowercase) == once


def test_is_idempotent_on_random_mixtures_and_never_lets_a_turn_end() -> None:
    """Put nasty pieces together at random: order effects show where single examples do not."""
    pieces = [
        *"<>&;|.,!?:\"')( \n3AIt",
        "<b>",
        "</p>",
        "&amp;",
        "&lt;",
        "&nbsp;",
        "<|",
        "|>",
        "endoftext",
        "<!--",
        "-->",
    ]
    pieces += ["<script>", "</script>", "www.", "site.com", "https://x.org/aIf", "me@a.com", "\u200b", "\u200d", "\xa0"]
    pieces += [
        "â€™",
        "Ã©",
        "\ufffd",
        "e\u0301",
        "👩\u200d💻",
        "\r\n",
        "\u2028",
        "\uff1c",
        "\uff5c",
        "e.g.",
        "PTSD",
        "Well",
    ]
    mixer = random.Random(20)
    for _ in range(4000):
        text = "".join(mixer.choices(pieces, k=mixer.randint(1, 14)))
        for lowercase in (False, True):
            once = clean_text(text, lowercase=lowercase)
            assert clean_text(once, lowercase=lowercase) == once, repr(text)
            assert "<|endoftext|>" not in once, repr(text)


def test_lowercase_is_asked_for_by_name_and_comes_last() -> None:
    assert clean_text("Rest.Then CALL Ann") == "Rest. Then CALL Ann"
    assert clean_text("Rest.Then CALL Ann", lowercase=True) == "rest. then call ann"
    with pytest.raises(TypeError):
        clean_text("Rest", True)  # type: ignore[misc]


def test_lowercase_does_not_make_a_turn_marker() -> None:
    assert clean_text("x <|EndOfText|> y", lowercase=True) == "x y"


def test_plain_text_takes_the_fast_path() -> None:
    plain = "I slept 3.5 hours (again). Is that bad? My mother's doctor said: \"rest\"; I can't.\n\nSo... what now?"
    assert clean_text(plain) is plain


@pytest.mark.parametrize(
    "hostile",
    [
        "<" * 20_000 + "b>" * 20_000,
        "&amp" * 20_000,
        "<script>" * 10_000,
        "<!--" * 10_000,
        "<a x=\"'" * 10_000,
        "www." * 20_000,
        "x.com/." * 5_000,
        "(http://a.com/" + ")" * 30_000,
        " ." * 20_000,
        "\n " * 30_000,
        "a" * 100_000,
        "</p" + " " * 50_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_text_costs_no_more_than_its_length(hostile: str) -> None:
    started = time.process_time()
    once = clean_text(hostile)
    assert time.process_time() - started < 5  # seconds; a quadratic pattern needs minutes
    assert clean_text(once) == once


def test_markup_nested_beyond_reason_loses_its_brackets() -> None:
    assert clean_text("<" * 40 + "i>" * 40 + "end") == "i>" * 28 + "end"


@pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), (3, "int"), (b"x", "bytes"), (["x"], "list")])
def test_refuses_what_is_not_text(value: object, name: str) -> None:
    message = f"^clean_text got {name}, expected str; drop or fill empty cells first$"
    with pytest.raises(ValueError, match=message):
        clean_text(value)  # type: ignore[arg-type]


def test_docstring_examples_are_true() -> None:
    results = doctest.testmod(cleaning)
    assert results.attempted > 0
    assert results.failed == 0
