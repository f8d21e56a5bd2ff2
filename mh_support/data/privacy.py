"""Take contact details, signatures, adverts and dead hotlines out of messages.

Counsellors who answer in public sign their replies, link their websites and invite readers to call. A model trained on
that would hand strangers' numbers to people in distress, so it goes, and the text around it is mended. What a person
wrote is never logged, and `Scrubbed` keeps it out of its repr.

Run `mh_support.data.cleaning.clean_text` first. The steps, repeated until nothing changes (so that scrubbing is
idempotent): dead hotlines become words; addresses, links and phone numbers become one character each (a Unicode
noncharacter, which no clean text holds), so that their dots no longer look like sentence ends; the signature goes; then
each sentence is kept, mended or dropped.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from phonenumbers import Leniency, PhoneNumberMatcher

from mh_support.data.cleaning import clean_text

__all__ = ["KINDS", "Scrubbed", "scrub"]

KINDS = ("email", "phone", "link", "signature", "advert", "hotline")

_CRISIS_LINE = "a crisis line in your country"
_NOUNS = {"\ufdd0": "an e-mail address", "\ufdd1": "a website", "\ufdd2": "a phone number"}
_EMAIL_MARK, _LINK_MARK, _PHONE_MARK = _NOUNS
_MARK = "[\ufdd0-\ufdd2]"
_MAX_ROUNDS = 6


@dataclass(frozen=True)
class Scrubbed:
    """A message without personal details, and how many pieces of each kind were found in it.

    `counts` has keys among `KINDS`, and only those found. A phone number in an advert counts as a phone and an advert.
    `text` may be empty: then the message was nothing else, and the caller drops it.
    """

    text: str = field(repr=False)
    counts: Mapping[str, int]


def scrub(text: str) -> Scrubbed:
    """Return `text` without e-mail addresses, links, phone numbers, signatures, adverts and dead hotline numbers.

    A sentence whose only point was the contact goes with it. Short helpline codes in use (988, 911, 112, 999, 116 123,
    741741) stay. Text in which nothing is found comes back as it is.

    Raises:
        ValueError: if `text` is not a string.

    Example:
        >>> scrub("You are not alone. Call me at 212-555-0147. Be well, Jane Doe, LMFT").text
        'You are not alone. Be well.'
    """
    if not isinstance(text, str):
        raise ValueError(f"scrub got {type(text).__name__}, expected str; drop or fill empty cells first")
    counts: Counter[str] = Counter()
    for _ in range(_MAX_ROUNDS):
        scrubbed = _scrub_once(text, counts)
        if scrubbed == text:
            break
        text = clean_text(scrubbed)  # what was cut leaves spaces and full stops behind
    return Scrubbed(text, dict(counts))


def _scrub_once(text: str, counts: Counter[str]) -> str:
    lowered = text.lower()  # for the cheap tests, which are several times quicker without IGNORECASE
    if _DEAD_CUE.search(lowered):
        text = _without_dead_hotlines(text, counts)
    text = _with_marks(text, lowered, counts)
    if _NAME_CUE.search(text, max(0, len(text) - 40)) or "licensed" in lowered[-80:]:
        text = _without_signature(text, counts)
    if re.search(_MARK, text) or _ADVERT_CUE.search(lowered):
        text = _mended_sentences(text, counts)
    return text


# ---- hotlines --------------------------------------------------------------------------------------------------------
# Replaced by 988 in July 2022 (800-273-8255 with its Spanish and text-telephone lines) or closed (784-2433, 442-4673).
# Old numbers are passed on for years after they stop answering, so none is ever taught.
_DEAD_NUMBER = (
    r"(?<![\d-])(?:(?:\+?1[ .-]{0,2})?\(?8(?:00|88)\)?[ .-]{0,2}(?:273[ .-]?(?:8255|TALK)|SUICIDE|784[ .-]?2433"
    r"|628[ .-]?9454|799[ .-]?4889|442[ .-]?(?:4673|HOPE))|273[ .-]?(?:8255|TALK))(?!\d)"
    r"(?: ?\((?:TALK|8255|SUICIDE|HOPE|784[ .-]?2433|273[ .-]?8255)\))?"
)
_LINE_NAME = (
    r"\b(?:(?:the|a|an|your)\s)?(?:(?:National|US|U\.S\.|American)\s)*(?:Suicide|Crisis)"
    r"(?:\s(?:and|&|Prevention|Crisis|Intervention))*\s(?:(?:hot|life|help) ?line|line)(?: number)?"
    r"|\b(?:the|their|its) (?:[\w-]+ )?number"
)
_DEAD_HOTLINE = re.compile(
    rf"(?P<former>,? ?\(?\b(?:formerly|previously|(?:or )?the old(?: number)?(?: is| was)?) {_DEAD_NUMBER}\)?)"
    rf"|(?P<name>{_LINE_NAME})(?P<verb> is| are)?(?: available)?(?: by calling| at| on|:|,| -)?\s?\(?{_DEAD_NUMBER}\)?"
    rf"|{_DEAD_NUMBER}",
    re.IGNORECASE,
)
_DEAD_CUE = re.compile(r"\d\W{0,3}(?:273|784|628|799|442|suicide)|273\W?(?:8255|talk)")
_AGAIN = re.compile(rf"({_CRISIS_LINE})(?:[\s,;/(]*(?:or|and)?(?: at| call| dial)? ?{_CRISIS_LINE}\)?)+", re.IGNORECASE)


def _without_dead_hotlines(text: str, counts: Counter[str]) -> str:
    found = len(re.findall(_DEAD_NUMBER, text, re.IGNORECASE))
    counts.update({"hotline": found} if found else {})
    return _AGAIN.sub(r"\1", _DEAD_HOTLINE.sub(_crisis_line, text))


def _crisis_line(match: re.Match[str]) -> str:
    if match["former"]:
        return ""
    before = match.string[: match.start()].rstrip(" \"'(")
    starts_sentence = not before or before[-1] in ".!?\n"
    alone = starts_sentence and re.match(r"\W*(?:[.!\n]|\Z)", match.string[match.end() :])
    if match["verb"] or (alone and not match["name"]):
        return f"{'There' if starts_sentence else 'there'} is {_CRISIS_LINE}"
    bracket = "(" if match[0][0] == "(" and match[0][-1] == ")" else ""
    return bracket + ("A" + _CRISIS_LINE[1:] if starts_sentence else _CRISIS_LINE) + (")" if bracket else "")


# ---- contacts --------------------------------------------------------------------------------------------------------
_EMAIL = re.compile(
    r"(?:mailto:)?(?<![\w.+%'-])[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,5}[a-z]{2,}"
    r"|(?<![\w.+-])[\w.+-]{1,64} ?[\[(] ?at ?[\])] ?[\w-]{1,63} ?(?:[\[(] ?dot ?[\])]|\.) ?[a-z]{2,}"
    r"|(?<![\w.+-])[\w.+-]{1,64} at (?:aol|gmail|hotmail|icloud|outlook|proton(?:mail)?|yahoo)(?: dot |\.)com"
    r"|\[email\W?protected\]",
    re.IGNORECASE,
)
_EMAIL_CUE = re.compile(r"[@\[]|\( ?at ?\)|(?: dot |\.)com")
# Endings that are words too ("I feel it.so what") count as a link only with a path behind them (youtu.be/abc).
_ENDINGS = "ai|au|biz|ca|ch|com|dev|edu|eu|gov|ie|info|io|mil|net|nl|nz|org|tv|uk|xyz"
_WORDY_ENDINGS = "app|at|be|blog|bz|care|clinic|co|de|ee|es|fr|gl|health|help|in|is|it|life|ly|me|online|site|so|to|us"
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
_LETTERED = re.compile(
    r"(?<![\w-])(?:1[ .-])?\(?8(?:00|33|44|55|66|77|88)\)?[ .-](?=[\dA-Z-]{0,8}[A-Z]{3})[\dA-Z]+(?:-[\dA-Z]+)*"
)
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
_EXTENSION = re.compile(rf"({_PHONE_MARK}),? ?(?:x|ext\.?|extension) ?\d{{1,5}}\b", re.IGNORECASE)


def _with_marks(text: str, lowered: str, counts: Counter[str]) -> str:
    """Replace each address, link and phone number by its mark."""
    text = re.sub("[\ufdd0-\ufdef]", "", text)
    if _EMAIL_CUE.search(lowered):
        text = _EMAIL.sub(_EMAIL_MARK, text)
    if _LINK_CUE.search(lowered):
        text = _LINK.sub(_link_mark, text)
    if re.search(r"8\d\d|\d\D{0,3}\d\D{0,3}\d", text):
        text = _LETTERED.sub(_PHONE_MARK, text)
        text = _DIGITS.sub(lambda digits: _without_phones(digits[0]), text)
        text = _EXTENSION.sub(r"\1", _LOCAL.sub(rf"\1{_PHONE_MARK}", text))
    for kind, mark in (("email", _EMAIL_MARK), ("link", _LINK_MARK), ("phone", _PHONE_MARK)):
        if mark in text:
            counts[kind] += text.count(mark)
    return text


def _link_mark(match: re.Match[str]) -> str:
    """Leave the punctuation after a link, and a bracket that was opened before it, in the text."""
    link = match[0]
    while link[-1] in ".,;:!?'*_" or (link[-1] in ")]" and link.count(link[-1]) > link.count("(["[link[-1] == "]"])):
        link = link[:-1]
    return _LINK_MARK + match[0][len(link) :]


def _without_phones(digits: str) -> str:
    code = _SHORT_CODE.match(digits)
    if code and not _AMERICAN.match(digits):
        return code[0] + _without_phones(digits[code.end() :])
    marked = _AMERICAN.sub(_PHONE_MARK, digits)
    if marked != digits:
        return marked
    # A number may run into the next one ("020 7946 0958 24 hours a day"): the longest part that is a phone counts.
    words = list(re.finditer(r"[^\s]+", digits))
    for first, last in _runs(len(words)):
        start, end = words[first].start(), words[last].end()
        if _is_phone(digits[start:end]):
            return digits[:start] + _PHONE_MARK + _without_phones(digits[end:])
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


# ---- signatures ------------------------------------------------------------------------------------------------------
_DASHES = "~\u2013\u2014-"  # for the end of a character class
_CREDENTIAL = (
    r"(?:LCSW(?:-?[A-Z])?|A?MFT(?:-?[A-Z])?|LA?MFT(?:-?[A-Z])?|LPCC?(?:-?[A-Z])?|LPCMH|LCPC|LC?MHC|LMSW|LSC?SW|LI?C?SW|"
    r"LISW(?:-S)?|LMAC|LC?ADC|LCAT|LGPC|LCP|MSW|Ph\.? ?D|Psy\.? ?D|Ed\.? ?D|D\.?B\.?H|M\.?D|M\.?Ed|M\.?A|M\.?S|M\.?Sc|"
    r"B\.?A|R\.?N|N\.?C\.?C|BCBA|CADC|CASAC|C\.?C\.?C|R\.?C\.?C|CCTP|CHT|ATR|CSAT|PMHNP)(?:\b|(?=[A-Z][a-z]))\.?"
)
_NO_NAME = (
    r"(?!(?:A|Again|All|Also|Always|An|And|Any|Anyone|Anyway|Ask|Be|Best|Bless|But|Bye|Call|Cheers|Contact|Dad|Dear|"
    r"Doctor|Ever|Everyone|Find|Forever|Friends?|God|Good|Goodbye|Guys|He|Help|Hope|Hugs|I|If|It|Jesus|Just|"
    r"Keep|Licensed|Look|Lord|Love|Madam|Many|Me|Mom|Most|Mum|My|Never|No|Not|Now|OK|Ok|Okay|Peace|Please|"
    r"Really|See|She|Sir|So|Some|Sorry|Stay|Take|Thanks?|That|The|They|This|Today|Tomorrow|Try|We|Wish|Yes|"
    r"You|Your)\b)"
)
_NAME_WORD = r"(?:[A-ZÀ-Þ][\w'-]+|[A-ZÀ-Þ]\b\.?)"
_NAME = rf"(?:Dr\.? )?{_NO_NAME}{_NAME_WORD}(?:\s{_NAME_WORD}){{0,3}}"
_FULL_NAME = rf"{_NO_NAME}{_NAME_WORD}(?:\s{_NAME_WORD}){{1,2}}"
_PRACTICE = (
    rf"(?:pre-licensed|Licensed [^.!?\n\ufdd0-\ufdd2]{{2,60}}|(?:(?:{_NAME_WORD}|and|&)\s){{1,4}}(?:Center|Clinic|"
    rf"Coaching|"
    r"Counsell?ing|Counsell?or|Health|Psychologist|Psychotherapy|Services|Therapist|Therapy|Wellness))"
)
_TAIL = (
    rf"(?:[\s,;:|•·()/{_DASHES}]{{0,6}}(?:{_MARK}|and(?= ?{_MARK})|(?:he|she|they)/\w+|{_CREDENTIAL}|"
    rf"{_PRACTICE})){{0,12}}"
    r"[\s.,!)~]*\Z"
)
_CLOSING = (
    r"(?i:\b(?:(?:best|kind(?:est)?|(?:my )?(?:very )?warm(?:est)?)(?: regards| wishes)|regards|sincerely|respectfully|"
    r"warmly|kindly|cheers|namaste|yours(?: truly| sincerely)?|in solidarity|with love|love|peace|blessings|god bless|"
    r"good luck|best of luck|the (?:very )?best|take care|be (?:well|strong|safe|you)|stay (?:strong|safe)|best|"
    r"hope (?:this|that|it) helps?|thanks|thank you|wish you well)"
    r"(?: to (?:you(?: both| all)?|both of you)| you(?: both| all)?| again)?)"
)
_SIGNATURES = tuple(
    re.compile(signature)
    for signature in (
        # With credentials: after a sentence, a closing, a comma or a dash, or glued to a word ("wellJane Doe, LMFT").
        rf"(?:{_CLOSING}\W{{0,4}}|\A|(?<=[.!?)\]…\"*:,~\n])\W{{0,4}}|(?<!\bMc)(?<!\bMac)(?<=[a-z])(?=[A-Z])|"
        rf"\s[{_DASHES}]+\s?)"
        rf"(?P<name>{_NAME},?\s{{1,2}}(?:{_CREDENTIAL}|Licensed (?=[A-Z])){_TAIL})",
        rf"{_CLOSING}\s?[,\n{_DASHES}]+\s?(?P<name>{_NAME}{_TAIL})",
        # After a dash, but not whom a quotation is from, unless a contact follows.
        rf"(?:(?<=[.!?)\]…*\n])\s?[{_DASHES}]+\s?|\s[{_DASHES}](?=[A-Z][a-z])(?:(?<![\"']\s.)|(?=[^\n]*{_MARK})))"
        rf"(?P<name>{_NAME}{_TAIL})",
        rf"(?<=[.!?)\n])\s?(?P<name>Dr\.? {_NAME_WORD}(?:\s{_NAME_WORD}){{0,2}}{_TAIL})",
        # A bare name counts with a contact behind it, or on a last line of its own.
        rf"(?<=[.!?)\"\n])\s?(?P<name>{_FULL_NAME}[\s,:|({_DASHES}]{{0,3}}{_MARK}{_TAIL})",
        rf"(?<=[.!?,]\n)\n?(?P<name>{_FULL_NAME})\Z",
        rf"{_CLOSING}[.!]+\s?(?P<name>{_NO_NAME}[A-ZÀ-Þ][\w'-]+(?:\s{_NAME_WORD})?)\Z",
        r"(?<=[.!?\"])\s(?P<name>[A-HJ-Z])\Z",
    )
)
# Closings that belong to a letter go with the name; "Be well" and "Good luck" say something by themselves.
_LETTER_CLOSING = re.compile(
    r"(?:\A|(?<=[.!?)\n\ufdd0-\ufdd2]))\s*(?:(?:with|my|very|best|kind|kindest|warm|warmest|and)\s)*(?:regards|"
    r"sincerely|respectfully|warmly|kindly|love|yours(?: truly| sincerely)?|in solidarity|"
    r"cheers)(?: to (?:you(?: both| all)?|both of you))?\W*\Z",
    re.IGNORECASE,
)
_NAME_CUE = re.compile(r"(?:[A-ZÀ-Þ][\w'.-]*|[\ufdd0-\ufdd2]|/\w+\))[\s.,!)~]*\Z")
_LIST_ITEM = re.compile(rf"(?:\A|[\s.!?:])[•*{_DASHES}]\s?[A-Z]")
_SIGNATURE_WINDOW = 300  # characters; the longest seen, with a title and two websites, has 140


def _without_signature(text: str, counts: Counter[str]) -> str:
    for signature in _SIGNATURES:
        found = signature.search(text, max(0, len(text) - _SIGNATURE_WINDOW))
        if not found:
            continue
        kept = text[: found.start("name")].rstrip()
        if kept.endswith("-") and len(_LIST_ITEM.findall(text)) > 1:
            continue
        counts["signature"] += 1
        kept = _LETTER_CLOSING.sub("", kept.rstrip(f" \n,;:(|*{_DASHES}")).rstrip()
        return kept + "." if kept[-1:].isalnum() else kept
    return text


# ---- adverts ---------------------------------------------------------------------------------------------------------
_OPENING = r"(?:^[\W\d]{0,6}(?:(?:also|so|and|then|or|again|finally),? )*)"
_ASKED = (
    r"(?:\b(?:please|feel free(?: to)?|free to|welcome to|hesitate to|you (?:can|may|might|could|will)|you'll|"
    r"(?:suggest|recommend)(?: that)? you|if you(?:'d| would)? (?:want|like|wish) to)"
    r"(?: also| always| even| either| then)*(?: want to| wish to| like to)? )"
)
_REACH = (
    r"(?:call|contact|e-?mail|text|message|phone|ring|dm|reach(?: out to)?|write(?: to)?|get in touch with|"
    r"connect with)(?: (?:or|and) (?:call|text|e-?mail|message))?"
)
_US = r"(?:me|us|my office|our office)\b"
_GET = (
    r"(?:visit|check|see|read|view|buy|purchase|order|get|pick up|download|subscribe|follow|listen|look|browse|go|head|"
    r"sign up|join|watch|find|learn|grab)\b"
)
_SITE = r"(?:web ?site|web ?page|blog|podcast|(?:youtube )?channel)\b"
_MEDIA = (
    r"(?:own |new |free |latest |online |private )*(?:[\w'-]+ ){0,2}?(?:web ?site|web ?page|blog|(?:e-?|work ?)?book|"
    r"podcast|newsletter|channel|youtube|instagram|profile|practice|courses?|workshops?|webinars?|series|videos?|"
    r"articles?)\b"
)
_MEETING = r"(?:consult(?:ation)?|session|appointment|call|intake)s?"
_TRADE = r"(?:therapist|counsell?or|psychologist|psychotherapist|coach|social worker)"
_ADVERT = re.compile(
    "|".join(
        (
            # "Please contact us", but not "call me names", "you can call me Anna", "please call me back"
            rf"(?:{_ASKED}|{_OPENING}please ){_REACH} {_US}(?!(?-i: [A-Z])|"
            r" (?:back|names?|crazy|mad|weird|stupid|old|silly|selfish|lazy|an?|the|by|that|what)\b)",
            rf"(?:{_OPENING}|, (?:and |or )?){_REACH} {_US}(?=,? (?:at|on|via|through|if you|for (?:an?|more|your)|"
            rf"with any|any ?time|"
            r"today|directly|whenever|to (?:schedule|book|set))\b)",
            rf"(?:{_OPENING}|\b(?:and|or) |{_ASKED}){_REACH} {_US}[^.!?]{{0,200}}{_MARK}",
            # "Check out my new book", but not "In my book, children come first"
            rf"(?:{_OPENING}|{_ASKED}){_GET}[^.!?]{{0,80}}?(?<!\bin )\b(?:my|our) {_MEDIA}",
            rf"(?:{_OPENING}|{_ASKED})(?:read|learn|find)\b[^.!?]{{0,80}}?\bin (?:my|our) {_MEDIA}",
            rf"(?:{_OPENING}|{_ASKED})(?:follow|find|like) (?:me|us) (?:on|at)\b",
            rf"\b(?:my|our) {_MEDIA}[^.!?]{{0,30}}{_MARK}",
            rf"^(?:on|at|via|through) (?:my|our) {_SITE}|\b(?:visit|go to|check out) (?:my|our) {_SITE}",
            r"(?<=\w )in my book,? (?-i:\"?[A-Z][\w']+ [A-Z])",
            r"\b(?:information|resources?|articles?|posts?|videos?|exercises?|worksheets?|link|it(?:'s| is)|wrote|"
            r"written)\b"
            rf"[^.!?]{{0,60}}\b(?:on|at|via|through) (?:my|our) (?:own )?{_SITE}",
            # "I offer sessions in Austin", "I am a licensed therapist in Austin", "book a free call"
            r"\b(?:I|we)(?: also| currently| do| can)? (?:offer|provide) (?:(?!my |him |her |them |our |in |of |"
            r"that |which |"
            r"to |during |for |with )[\w/&-]+,? ){0,7}?(?:sessions?|coaching|tele-?health|t(?:el|hel)e-?(?:therapy|"
            r"counsell?ing)|consult(?:ation)?s?|appointments?|workshops?|(?:counsell?ing|psychotherapy|services|"
            r"therapy)"
            r"(?= (?:in|to|for|via|through|online)\b|[,.!?]|$))",
            rf"\b(?:I|we)(?: also)? (?:offer|provide)\b[^.!?]{{0,200}}{_MARK}",
            r"\bI(?:'m| am)(?: also| currently)?(?: an?)?(?: (?:licen[sc]ed|certified|registered|clinical|professional|"
            r"mental|health|family|marriage|and|life|couples?|online|practicing|private|child|sex|trauma))*"
            rf" (?:{_TRADE}\b[^.!?]{{0,40}}?|licen[sc]ed)\b (?:in|serving|near|of) (?:the )?(?-i:[A-Z])",
            rf"(?:{_OPENING}|{_ASKED})(?:book|schedule|request|set up|sign up for|"
            rf"arrange)\b[^.!?]{{0,40}}?\b{_MEETING}\b"
            r"[^.!?]{0,60}?\b(?:with (?:me|us)|(?:at|on|through) (?:my|our))\b",
            rf"{_OPENING}(?:please )?(?:book|schedule|request|claim|get|(?:call|e-?mail)(?: \w+)? for) (?:an?|your|the)"
            r" (?:free|complimentary|no[- ]cost|no[- ]obligation)\b(?![^.!?]*\bwith (?:an?|your|any|some|several|the|"
            r"one)\b)",
            r"\bif you(?:'d| would|'re| are)?\b[^.!?]{0,60}\b(?:like|want|interested)\b[^.!?]{0,40}"
            r"\b(?:connect|work|meet|schedule|book)\w*\b[^.!?]{0,25}\bwith (?:me|us)\b",
            r"\bI(?:'d| would) (?:love|be (?:happy|glad)) to (?:work with you|meet with you|schedule|set up)",
            r"\b(?:accepting|taking) new clients\b|\bmy (?:private )?practice (?:is located|offers|specializes)\b",
        )
    ),
    re.IGNORECASE,
)
_ADVERT_CUE = re.compile(
    rf"\b{_REACH} (?:me|us|my|our)\b|\b(?:follow|find|like|with) (?:me|us)\b|\b(?:my|our) {_MEDIA}|"
    rf"\bi(?:'m| am)\b[^.!?]{{0,80}}\b(?:{_TRADE}|licen[sc]ed)|\b(?:i|we)\b[\w' ]{{0,12}} (?:offer|provide)\b|"
    rf"\bfree |complimentary|"
    r"no[- ]cost|no[- ]obligation|new clients|\b(?:love|happy|glad) to (?:work|meet|schedule|set up)|"
    r"my (?:private )?practice"
)


def _is_advert(sentence: str) -> bool:
    return bool(_ADVERT_CUE.search(sentence.lower()) and _ADVERT.search(sentence) and not _HELP.search(sentence))


# ---- mending ---------------------------------------------------------------------------------------------------------
_GAP = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"')\]])|(?<=[:;][)(]))\s+|(?<=\ufdd1)\s+(?=[A-ZÀ-Þ¿¡])|\s*\n\s*")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|vs|e\.g|i\.e|[A-HJ-Z])\.$|(?:^|[\n.!?:] ?)\d\d?\.$")
# A sentence that names help that is there today is mended, never dropped.
_HELP = re.compile(rf"{_CRISIS_LINE}|(?<![\w-])(?:988|911|112|999|116 ?1\d\d|741 ?741)(?![\w-])", re.IGNORECASE)
_CRISIS = re.compile(r"\b(?:hot|life|help) ?lines?\b|\bcrisis\b|\bsuicid|\bkill|\bemergenc", re.IGNORECASE)
_CRISIS_CALL = re.compile(rf"\b((?:call|dial|text|phone)(?:ing)?) (?:at |on )?{_PHONE_MARK}", re.IGNORECASE)
_LABELLED = re.compile(rf"\[([^\[\]]{{1,80}})\]\({_MARK}\)")  # Markdown; the label stays
_BRACKETED = re.compile(rf" ?[(\[][^()\[\]]{{0,60}}{_MARK}[^()\[\]]{{0,60}}[)\]]")
# "call <phone> for more information": what follows goes, so that the mark ends the clause.
_PURPOSE = re.compile(
    rf"(?P<kept>\b(?:visit|go to|see|check out|call|text|e-?mail) {_MARK}) (?:for|to|now|today|any ?time)\b[^.!?,;]*",
    re.IGNORECASE,
)
_REACHED_AT = rf"(?:at|on|via|through|from|by|in|al|en) {_MARK}(?:(?:,|/| or| and)? ?(?:at |on |via )?{_MARK})*"
_CUTS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # "US: <phone>", "2) <link>", "(e-mail: <email>)", "here: <link>"
        (rf"(?-i:\b(?:[A-Z]{{2,3}}|Canada|Australia|Ireland|International)):? ?{_MARK}|\b\d[.)] ?{_MARK}", ""),
        (
            rf"(?:^|(?<=[,;|(])|\b(?:or|and)) ?(?:phone|tel|fax|cell|mobile|e-?mail|website|web|link|"
            rf"url) ?[:=] ?{_MARK}",
            "",
        ),
        (rf"\bhere:? ?{_MARK}", ""),
        # "call <phone> or 988", "call <phone> or go to ...", "... or <phone>."
        (rf"{_MARK},? (?:or|and) (?=\d)", ""),
        (rf"\b(?:call|dial|text|phone|e-?mail|visit)(?:ing)? (?:at |on )?{_MARK},? (?:or|and) (?=\w)", ""),
        (rf",? ?(?:or|and|&|/) ?{_MARK}(?=\s*(?:[.!?,;)\"']|$))", ""),
        (rf",? ?(?:and|or)(?: also)? {_REACHED_AT}(?=\s*(?:[.!?,;)]|$))", ""),
        (rf" ?\b(?:{_REACHED_AT}|to [{_EMAIL_MARK}{_PHONE_MARK}])", ""),
    )
)
_AS_A_NOUN = re.compile(
    r"(\b(?:and|or|to|of|for|with|use|used|using|try|tried|trying|join|joined|like:?|love|than|is|was|named|called|"
    r"into|"
    rf"visit|visited|visiting|see|saw|found|got|have|had|gave (?:me|him|her)) )({_MARK})(?= \w)|(\b(?:use|used|using|"
    rf"joined|liked?|loved?|found|got|have|had|gave (?:me|him|her)) )({_MARK})",
    re.IGNORECASE,
)
_AS_THE_SUBJECT = re.compile(
    rf"^({_MARK})(?= (?:is|are|has|have|can|offers?|provides?|lists?|was|helped|gives?|will)\b)"
)
# Sentences that only say where to look, and words that cannot end one.
_POINTER = re.compile(
    r"(?:(?:and|also|or|so|but|then|please|plus|again),? )*(?:(?:for|to) (?:more|further|additional|learn|read|"
    r"find)[^,]{0,50}, )?(?:please )?(?:you(?:'ll| will| can| may| could| might)(?: also| always| even)? |"
    r"feel free to |I(?: would|'d)? (?:recommend|suggest) )?(?:find|read|learn|see|view|visit|click|check|checkout|"
    r"go to|e-?mail|call|text|phone|dial|contact|reach|message|write|look at|look up|watch|download|here(?:'s| is|"
    r" are)|(?:for )?more (?:info|information|details|help|on this)|(?:the |my |our |their |his |her )?(?:e-?mail|"
    r"source|link|website|web site|site|address|number|phone|reference|article|resource)s?|(?:this|that) (?:link|site|"
    r"website|article)|there(?:'s| is) an? (?:link|article|site|website)|para (?:más|una)|llam\w+|visit[ae])\b",
    re.IGNORECASE,
)
_DANGLING = re.compile(
    r"\b(?:at|via|to|of|is|are|was|were|be|call|calling|dial|ring|text|phone|visit|visiting|see|e-?mail|on|the|an?|"
    r"from|called|(?<!\ba )(?<!phone )(?<!mail )(?:website|link|site|number|address)|through|with|and|or|for|by|in|"
    r"check out|checkout|try|read|find|contact|reach|recommend|click|these|this|following|here|as|like|llamar?|llame|"
    r"visit[ae]r?|contactar|al|en|o|y)[\s.,:!?\"')-]*$",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[,;:] |\s[\u2013\u2014-]+\s|\s(?=(?:and|but|so|or|then) )")
_DEPENDENT = re.compile(
    r"(?:if|when|while|since|because|for|to|as|although|once|in case|whenever|after|before)\b", re.IGNORECASE
)
_LONGEST_POINTER = 14  # words; a longer sentence says something besides where to look


def _mended_sentences(text: str, counts: Counter[str]) -> str:
    mended, gap, changed = "", "", False
    for sentence, following in _sentences(text):
        kept = sentence
        if _is_advert(sentence):
            counts["advert"] += 1
            kept = ""
        elif re.search(_MARK, sentence):
            kept = _mended(sentence)
        changed = changed or kept != sentence
        if kept:
            mended += (gap if mended else "") + kept
            gap = following
        else:
            gap = max(gap, following, key=lambda space: space.count("\n"))
    return mended if changed else text


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield each sentence with the whitespace after it."""
    start = 0
    for gap in _GAP.finditer(text):
        # "Here is a quiz... <link>" is one sentence.
        trails_off = text[: gap.start()].endswith(("..", "…")) and text[gap.end() : gap.end() + 1] in _NOUNS
        abbreviates = _ABBREVIATION.search(text, max(start, gap.start() - 6), gap.start())
        if "\n" in gap[0] or not (trails_off or abbreviates):
            yield text[start : gap.start()], gap[0]
            start = gap.end()
    yield text[start:], ""


def _mended(sentence: str) -> str:
    """Cut the contacts out of one sentence; return "" if it had no other point."""
    text = _BRACKETED.sub(_unless_help, _LABELLED.sub(r"\1", sentence))
    if _CRISIS.search(text):
        text = _AGAIN.sub(r"\1", _CRISIS_CALL.sub(rf"\1 {_CRISIS_LINE}", text))
    text = _PURPOSE.sub(_unless_help, text)
    points = bool(re.search(rf"{_MARK}[\s\"'.,;:!?)\]-]*$", text))
    for pattern, replacement in _CUTS:
        text = pattern.sub(replacement, text)
    text = _AS_A_NOUN.sub(lambda match: (match[1] or match[3]) + _NOUNS[match[2] or match[4]], text)
    text = _AS_THE_SUBJECT.sub(lambda match: _NOUNS[match[1]].capitalize(), text)
    text = _tidied(re.sub(_MARK, " ", text), like=sentence)
    words = len(re.findall(r"\w+", text))
    if not words:
        return ""
    if not points or _HELP.search(text):
        return text
    if _POINTER.match(text):
        return "" if words <= _LONGEST_POINTER else text
    head, clause = _last_clause(text)
    return head if _DANGLING.search(text) or (head and _POINTER.match(clause)) else text


def _unless_help(match: re.Match[str]) -> str:
    return match[0] if _HELP.search(match[0]) else match.groupdict().get("kept", "")


def _last_clause(text: str) -> tuple[str, str]:
    """Split off the last clause that leaves a whole sentence before it; the sentence is "" if there is none."""
    for end in reversed(list(_CLAUSE_END.finditer(text))):
        head = text[: end.start()]
        whole = len(head.split()) >= 4 and not _DEPENDENT.match(head) and not _POINTER.match(head)
        if whole and not _DANGLING.search(head):
            return head + ".", text[end.end() :]
    return "", text


def _tidied(text: str, *, like: str) -> str:
    """Mend spaces, brackets and punctuation; begin and end as `like` does."""
    text = re.sub(r"\( *\)|\[ *\]|\" *\"", "", text)
    text = re.sub(r"\( +", "(", re.sub(r" +", " ", text))
    text = re.sub(r" (?=(?:[,.!?;)](?!\.)|:)(?:[\s)]|$))", "", text)
    text = re.sub(r"[,;:]+(?=[.!?,])|,(?= ?,)", "", text)
    text = text.strip().lstrip(f",;:.)/ {_DASHES}")
    text = text.rstrip(f",;:/( {_DASHES}")
    if text.rstrip(")\"'")[-1:].isalnum() and not like.rstrip()[-1:].isalnum():
        text += like.rstrip()[-1] if like.rstrip()[-1] in ".!?" else "."
    return text[:1].upper() + text[1:] if like[:1].isupper() or like[:1] in _NOUNS else text
