"""Find addresses, links, phone numbers and dead hotlines in a message.

Addresses, links and phone numbers become marks, for `mh_support.data.mending` to cut out of the sentences around them.
Dead hotlines become words at once.
"""

import re
from collections import Counter

from phonenumbers import Leniency, PhoneNumberMatcher

__all__ = [
    "CRISIS_LINE",
    "EMAIL_MARK",
    "HELP",
    "LINK_MARK",
    "MARK",
    "NOUNS",
    "PHONE_MARK",
    "SAID_AGAIN",
    "with_marks",
    "without_dead_hotlines",
]

# A mark is a Unicode noncharacter, which no clean text holds; a sentence that needs a noun there gets these words.
NOUNS = {"\ufdd0": "an e-mail address", "\ufdd1": "a website", "\ufdd2": "a phone number"}
EMAIL_MARK, LINK_MARK, PHONE_MARK = NOUNS
MARK = "[\ufdd0-\ufdd2]"
CRISIS_LINE = "a crisis line in your country"
# Help that is there today, those words or a short code in use: a sentence that names it is mended, never dropped.
HELP = re.compile(rf"{CRISIS_LINE}|(?<![\w-])(?:988|911|112|999|116 ?1\d\d|741 ?741)(?![\w-])", re.IGNORECASE)

# ---- hotlines --------------------------------------------------------------------------------------------------------
# Replaced by 988 in July 2022 (800-273-8255 with its Spanish and text-telephone lines) or closed (784-2433, 442-4673).
# Old numbers are passed on for years after they stop answering, so none is ever taught.

# A closed number, in digits or letters, with or without 1, and its reading in brackets: 1-800-273-TALK (8255).
_DEAD_NUMBER = (
    r"(?<![\d-])(?:(?:\+?1[ .-]{0,2})?\(?8(?:00|88)\)?[ .-]{0,2}(?:273[ .-]?(?:8255|TALK)|SUICIDE|784[ .-]?2433"
    r"|628[ .-]?9454|799[ .-]?4889|442[ .-]?(?:4673|HOPE))|273[ .-]?(?:8255|TALK))(?!\d)"
    r"(?: ?\((?:TALK|8255|SUICIDE|HOPE|784[ .-]?2433|273[ .-]?8255)\))?"
)
# What stands before it: "the National Suicide Prevention Lifeline", "a crisis line number", "their toll-free number".
_LINE_NAME = (
    r"\b(?:(?:the|a|an|your)\s)?(?:(?:National|US|U\.S\.|American)\s)*(?:Suicide|Crisis)"
    r"(?:\s(?:and|&|Prevention|Crisis|Intervention))*\s(?:(?:hot|life|help) ?line|line)(?: number)?"
    r"|\b(?:the|their|its) (?:[\w-]+ )?number"
)
# ", formerly <number>", or a line's name with the number behind it, or the number alone.
_DEAD_HOTLINE = re.compile(
    rf"(?P<former>,? ?\(?\b(?:formerly|previously|(?:or )?the old(?: number)?(?: is| was)?) {_DEAD_NUMBER}\)?)"
    rf"|(?P<name>{_LINE_NAME})(?P<verb> is| are)?(?: available)?(?: by calling| at| on|:|,| -)?\s?\(?{_DEAD_NUMBER}\)?"
    rf"|{_DEAD_NUMBER}",
    re.IGNORECASE,
)
# The cheap test before it, for text in lower case: the middle of a number, or one without its prefix.
_DEAD_CUE = re.compile(r"\d\W{0,3}(?:273|784|628|799|442|suicide)|273\W?(?:8255|talk)")
# "a crisis line in your country or a crisis line in your country", left where two dead numbers stood.
SAID_AGAIN = re.compile(
    rf"({CRISIS_LINE})(?:[\s,;/(]*(?:or|and)?(?: at| call| dial)? ?{CRISIS_LINE}\)?)+", re.IGNORECASE
)


def without_dead_hotlines(text: str, lowered: str, counts: Counter[str]) -> str:
    """Replace each number that no longer answers by words; `lowered` is the text in lower case, for a cheap test."""
    if not _DEAD_CUE.search(lowered):
        return text
    found = len(re.findall(_DEAD_NUMBER, text, re.IGNORECASE))
    counts.update({"hotline": found} if found else {})
    return SAID_AGAIN.sub(r"\1", _DEAD_HOTLINE.sub(_crisis_line, text))


def _crisis_line(match: re.Match[str]) -> str:
    if match["former"]:
        return ""
    before = match.string[: match.start()].rstrip(" \"'(")
    starts_sentence = not before or before[-1] in ".!?\n"
    alone = starts_sentence and re.match(r"\W*(?:[.!\n]|\Z)", match.string[match.end() :])
    if match["verb"] or (alone and not match["name"]):
        return f"{'There' if starts_sentence else 'there'} is {CRISIS_LINE}"
    bracket = "(" if match[0][0] == "(" and match[0][-1] == ")" else ""
    return bracket + ("A" + CRISIS_LINE[1:] if starts_sentence else CRISIS_LINE) + (")" if bracket else "")


# ---- contacts --------------------------------------------------------------------------------------------------------
# jane@roe.org, "jane (at) roe (dot) org", "jane at gmail dot com", and what a site shows instead of an address.
_EMAIL = re.compile(
    r"(?:mailto:)?(?<![\w.+%'-])[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,5}[a-z]{2,}"
    r"|(?<![\w.+-])[\w.+-]{1,64} ?[\[(] ?at ?[\])] ?[\w-]{1,63} ?(?:[\[(] ?dot ?[\])]|\.) ?[a-z]{2,}"
    r"|(?<![\w.+-])[\w.+-]{1,64} at (?:aol|gmail|hotmail|icloud|outlook|proton(?:mail)?|yahoo)(?: dot |\.)com"
    r"|\[email\W?protected\]",
    re.IGNORECASE,
)
_EMAIL_CUE = re.compile(r"[@\[]|\( ?at ?\)|(?: dot |\.)com")
_ENDINGS = "ai|au|biz|ca|ch|com|dev|edu|eu|gov|ie|info|io|mil|net|nl|nz|org|tv|uk|xyz"
# Endings that are words too ("I feel it.so what") count as a link only with a path behind them (youtu.be/abc).
_WORDY_ENDINGS = "app|at|be|blog|bz|care|clinic|co|de|ee|es|fr|gl|health|help|in|is|it|life|ly|me|online|site|so|to|us"
# https://..., www...., or a bare name with one of these endings, roe.org/grief.
_LINK = re.compile(
    r"(?:\b(?:https?|ftp)://|\bwww\.(?=[\w-]+\.))[^\s<>\"\ufdd0-\ufdd2]+"
    r"|(?<![\w.@/-])(?:[a-z0-9][a-z0-9-]{0,62}\.){1,4}"
    rf"(?:(?:{_ENDINGS})(?![\w-])(?:[/?#][^\s<>\"]*)?|(?:{_WORDY_ENDINGS})/[^\s<>\"]+)",
    re.IGNORECASE,
)
_LINK_CUE = re.compile(rf"://|www\.|\.(?:{_ENDINGS})(?![\w-])|\.(?:{_WORDY_ENDINGS})/")
# Seven digits in a row, whatever separates them: the cheap test before the thorough one.
_DIGITS = re.compile(r"(?<![\w$€£])[+(]{0,2}\d(?:[ .()\u2010-\u2013-]{0,3}\d){6,}")
# The usual American spellings count even where no such number is in use (area code 555).
_AMERICAN = re.compile(
    r"(?<!\d)(?:\+?1[ .-]{0,2})?(?:\([2-9]\d\d\)[ .-]{0,2}|[2-9]\d\d[ .-]{1,2})\d{3}[ .-]{1,2}\d{4}(?!\d)"
    r"|(?<!\d)(?:\+?1)?[2-9]\d{5}(?!0000)\d{4}(?!\d)"
)
# A toll-free number in letters, such as 1-800-NEW-ROES.
_LETTERED = re.compile(
    r"(?<![\w-])(?:1[ .-])?\(?8(?:00|33|44|55|66|77|88)\)?[ .-](?=[\dA-Z-]{0,8}[A-Z]{3})[\dA-Z]+(?:-[\dA-Z]+)*"
)
# Seven digits without an area code, where the words before them say that it is a number: "call me at 555-0147".
_LOCAL = re.compile(
    r"(\b(?:call|text|phone|ring|dial|tel|fax|cell|mobile|reach|whatsapp|number)\b[^.!?\d\n]{0,20})"
    r"(?<![\d$€£-])\d{3}[ .-]\d{4}(?![\d-])",
    re.IGNORECASE,
)
# Helplines that look like numbers, or begin a run of digits ("116 123 24 hours a day"): in use, and kept.
_SHORT_CODE = re.compile(r"[ .()-]*(?:116 ?1\d\d|741 ?741|13 ?11 ?14|0800 ?1111|988|911|112|999)(?!\d)")
# A bare number is read as one of these countries'; a "+" decides for itself.
_REGIONS = ("US", "GB", "IE", "AU", "NZ", "IN", "ZA", "DE", "FR")
# Dates, round numbers, decimals and network addresses are none, and neither is a list of years.
_NO_PHONE = re.compile(
    r".*(?:(?:19|20)\d\d[-. ](?:0?\d|1[0-2])[-. ]\d\d?\b|\b\d\d?[-.]\d\d?[-.](?:19|20)\d\d\b)|\d*0000\Z|"
    r"\d{1,3}\.\d{5,}\Z|\d{1,3}(?:\.\d{1,3}){3}\Z|(?:(?:19|20)\d\d\D*)+\Z"
)
# "<phone>, ext. 12"
_EXTENSION = re.compile(rf"({PHONE_MARK}),? ?(?:x|ext\.?|extension) ?\d{{1,5}}\b", re.IGNORECASE)


# A run of digits is searched in parts of this length, since the search takes the square of it: no phone is so long.
_LONG_RUN = re.compile(r".{1,160}(?=\s|$)|.{1,160}", re.DOTALL)


def with_marks(text: str, lowered: str, counts: Counter[str]) -> str:
    """Replace each address, link and phone number by its mark; `lowered` is for the cheap tests."""
    text = re.sub("[\ufdd0-\ufdef]", "", text)
    if _EMAIL_CUE.search(lowered):
        text = _EMAIL.sub(EMAIL_MARK, text)
    if _LINK_CUE.search(lowered):
        text = _LINK.sub(_link_mark, text)
    if re.search(r"8\d\d|\d\D{0,3}\d\D{0,3}\d", text):
        text = _LETTERED.sub(PHONE_MARK, text)
        text = _DIGITS.sub(lambda digits: _LONG_RUN.sub(lambda part: _without_phones(part[0]), digits[0]), text)
        text = _EXTENSION.sub(r"\1", _LOCAL.sub(rf"\1{PHONE_MARK}", text))
    for kind, mark in (("email", EMAIL_MARK), ("link", LINK_MARK), ("phone", PHONE_MARK)):
        if mark in text:
            counts[kind] += text.count(mark)
    return text


def _link_mark(match: re.Match[str]) -> str:
    """Leave the punctuation after a link, and a bracket that was opened before it, in the text."""
    link = match[0]
    while link[-1] in ".,;:!?'*_" or (link[-1] in ")]" and link.count(link[-1]) > link.count("(["[link[-1] == "]"])):
        link = link[:-1]
    return LINK_MARK + match[0][len(link) :]


def _without_phones(digits: str) -> str:
    code = _SHORT_CODE.match(digits)
    if code and not _AMERICAN.match(digits):
        return code[0] + _without_phones(digits[code.end() :])
    marked = _AMERICAN.sub(PHONE_MARK, digits)
    if marked != digits:
        return marked
    # A number may run into the next one ("020 7946 0958 24 hours a day"): the longest part that is a phone counts.
    words = list(re.finditer(r"[^\s]+", digits))
    for first, last in _runs(len(words)):
        start, end = words[first].start(), words[last].end()
        if _is_phone(digits[start:end]):
            return digits[:start] + PHONE_MARK + _without_phones(digits[end:])
    return digits


def _runs(words: int) -> list[tuple[int, int]]:
    """List the runs of at most six neighbouring words, the longest first."""
    runs = [(first, last) for first in range(words) for last in range(first, min(first + 6, words))]
    return sorted(runs, key=lambda run: run[0] - run[1])


def _is_phone(digits: str) -> bool:
    groups = re.findall(r"\d+", digits)
    if sum(map(len, groups)) < 7 or _NO_PHONE.match(digits) or _SHORT_CODE.fullmatch(digits):
        return False
    if digits[0] == "+":
        return PhoneNumberMatcher(digits, None, leniency=Leniency.POSSIBLE).has_next()
    if digits[0] not in "0(" and max(map(len, groups)) < 3:  # a list of ages or scores
        return False
    return any(PhoneNumberMatcher(digits, region, leniency=Leniency.VALID).has_next() for region in _REGIONS)
