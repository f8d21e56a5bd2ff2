"""Take the signature off a message, and tell which of its sentences advertise whoever wrote it."""

import re
from collections import Counter

from mh_support.data.contacts import HELP, MARK

__all__ = ["ADVERT_CUE", "DASHES", "is_advert", "without_signature"]

# ---- signatures ------------------------------------------------------------------------------------------------------
DASHES = "~\u2013\u2014-"  # for the end of a character class
# A degree or licence in capitals: LMFT, LPC-S, Ph.D.
_CREDENTIAL = (
    r"(?:LCSW(?:-?[A-Z])?|A?MFT(?:-?[A-Z])?|LA?MFT(?:-?[A-Z])?|LPCC?(?:-?[A-Z])?|LPCMH|LCPC|LC?MHC|LMSW|LSC?SW|LI?C?SW|"
    r"LISW(?:-S)?|LMAC|LC?ADC|LCAT|LGPC|LCP|MSW|Ph\.? ?D|Psy\.? ?D|Ed\.? ?D|D\.?B\.?H|M\.?D|M\.?Ed|M\.?A|M\.?S|M\.?Sc|"
    r"B\.?A|R\.?N|N\.?C\.?C|BCBA|CADC|CASAC|C\.?C\.?C|R\.?C\.?C|CCTP|CHT|ATR|CSAT|PMHNP)(?:\b|(?=[A-Z][a-z]))\.?"
)
# Words that begin a sentence with a capital as a name does; no name begins with one.
_NO_NAME = (
    r"(?!(?:A|Again|All|Also|Always|An|And|Any|Anyone|Anyway|Ask|Be|Best|Bless|But|Bye|Call|Cheers|Contact|Dad|Dear|"
    r"Doctor|Ever|Everyone|Find|Forever|Friends?|God|Good|Goodbye|Guys|He|Help|Hope|Hugs|I|If|It|Jesus|Just|"
    r"Keep|Licensed|Look|Lord|Love|Madam|Many|Me|Mom|Most|Mum|My|Never|No|Not|Now|OK|Ok|Okay|Peace|Please|"
    r"Really|See|She|Sir|So|Some|Sorry|Stay|Take|Thanks?|That|The|They|This|Today|Tomorrow|Try|We|Wish|Yes|"
    r"You|Your)\b)"
)
# "Jane", "O'Roe", or an initial.
_NAME_WORD = r"(?:[A-ZÀ-Þ][\w'-]+|[A-ZÀ-Þ]\b\.?)"
_NAME = rf"(?:Dr\.? )?{_NO_NAME}{_NAME_WORD}(?:\s{_NAME_WORD}){{0,3}}"
_FULL_NAME = rf"{_NO_NAME}{_NAME_WORD}(?:\s{_NAME_WORD}){{1,2}}"
# A title or a place of work: "Licensed Professional Counselor", "Roe and Doe Family Therapy".
_PRACTICE = (
    rf"(?:pre-licensed|Licensed [^.!?\n\ufdd0-\ufdd2]{{2,60}}|(?:(?:{_NAME_WORD}|and|&)\s){{1,4}}"
    r"(?:Center|Clinic|Coaching|Counsell?ing|Counsell?or|Health|Psychologist|Psychotherapy|Services|Therapist|"
    r"Therapy|Wellness))"
)
# All that may follow a name until the message ends: contacts, pronouns, credentials, practices.
_TAIL = (
    rf"(?:[\s,;:|•·()/{DASHES}]{{0,6}}(?:{MARK}|and(?= ?{MARK})|(?:he|she|they)/\w+|{_CREDENTIAL}|"
    rf"{_PRACTICE})){{0,12}}[\s.,!)~]*\Z"
)
# What leads up to a name: "Warm regards", "Take care", "Hope this helps you".
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
        rf"\s[{DASHES}]+\s?)"
        rf"(?P<name>{_NAME},?\s{{1,2}}(?:{_CREDENTIAL}|Licensed (?=[A-Z])){_TAIL})",
        # After a closing and a comma, line break or dash: "Be well, Jane".
        rf"{_CLOSING}\s?[,\n{DASHES}]+\s?(?P<name>{_NAME}{_TAIL})",
        # After a dash, but not whom a quotation is from, unless a contact follows.
        rf"(?:(?<=[.!?)\]…*\n])\s?[{DASHES}]+\s?|\s[{DASHES}](?=[A-Z][a-z])(?:(?<![\"']\s.)|(?=[^\n]*{MARK})))"
        rf"(?P<name>{_NAME}{_TAIL})",
        # "Dr. Roe", after a sentence.
        rf"(?<=[.!?)\n])\s?(?P<name>Dr\.? {_NAME_WORD}(?:\s{_NAME_WORD}){{0,2}}{_TAIL})",
        # A bare name counts with a contact behind it, or on a last line of its own.
        rf"(?<=[.!?)\"\n])\s?(?P<name>{_FULL_NAME}[\s,:|({DASHES}]{{0,3}}{MARK}{_TAIL})",
        rf"(?<=[.!?,]\n)\n?(?P<name>{_FULL_NAME})\Z",
        # A first name or two after a closing that is a sentence: "Good luck! Jane".
        rf"{_CLOSING}[.!]+\s?(?P<name>{_NO_NAME}[A-ZÀ-Þ][\w'-]+(?:\s{_NAME_WORD})?)\Z",
        # An initial as the last word; "I" is none.
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
# The cheap test: the text ends in a capitalised word, a contact or "she/her)".
_NAME_CUE = re.compile(r"(?:[A-ZÀ-Þ][\w'.-]*|[\ufdd0-\ufdd2]|/\w+\))[\s.,!)~]*\Z")
# "- Breathe": where there are several, the last one's dash begins no signature.
_LIST_ITEM = re.compile(rf"(?:\A|[\s.!?:])[•*{DASHES}]\s?[A-Z]")
_SIGNATURE_WINDOW = 300  # characters; the longest seen, with a title and two websites, has 140


def without_signature(text: str, lowered: str, counts: Counter[str]) -> str:
    """Cut off the name at the end, with its closing; `lowered` is the text in lower case, for a cheap test."""
    if not (_NAME_CUE.search(text, max(0, len(text) - 40)) or "licensed" in lowered[-80:]):
        return text
    for signature in _SIGNATURES:
        found = signature.search(text, max(0, len(text) - _SIGNATURE_WINDOW))
        if not found:
            continue
        kept = text[: found.start("name")].rstrip()
        if kept.endswith("-") and len(_LIST_ITEM.findall(text)) > 1:
            continue
        counts["signature"] += 1
        kept = _LETTER_CLOSING.sub("", kept.rstrip(f" \n,;:(|*{DASHES}")).rstrip()
        return kept + "." if kept[-1:].isalnum() else kept
    return text


# ---- adverts ---------------------------------------------------------------------------------------------------------
# The start of a sentence, past list marks and "Also, then".
_OPENING = r"(?:^[\W\d]{0,6}(?:(?:also|so|and|then|or|again|finally),? )*)"
# What asks the reader to do it: "please", "you can", "feel free to", "I suggest that you".
_ASKED = (
    r"(?:\b(?:please|feel free(?: to)?|free to|welcome to|hesitate to|you (?:can|may|might|could|will)|you'll|"
    r"(?:suggest|recommend)(?: that)? you|if you(?:'d| would)? (?:want|like|wish) to)"
    r"(?: also| always| even| either| then)*(?: want to| wish to| like to)? )"
)
# Ways to get in touch, one or two of them: "call or text".
_REACH = (
    r"(?:call|contact|e-?mail|text|message|phone|ring|dm|reach(?: out to)?|write(?: to)?|get in touch with|"
    r"connect with)(?: (?:or|and) (?:call|text|e-?mail|message))?"
)
_US = r"(?:me|us|my office|our office)\b"
# What a reader does with a book, a channel or a website.
_GET = (
    r"(?:visit|check|see|read|view|buy|purchase|order|get|pick up|download|subscribe|follow|listen|look|browse|go|head|"
    r"sign up|join|watch|find|learn|grab)\b"
)
_SITE = r"(?:web ?site|web ?page|blog|podcast|(?:youtube )?channel)\b"
# What a counsellor has to offer, with words before it: "free online grief workshop".
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
            # "Call me for a session", "..., or text us any time"
            rf"(?:{_OPENING}|, (?:and |or )?){_REACH} {_US}(?=,? (?:at|on|via|through|if you|for (?:an?|more|your)|"
            r"with any|any ?time|today|directly|whenever|to (?:schedule|book|set))\b)",
            # "... and call me on my cell, <phone>"
            rf"(?:{_OPENING}|\b(?:and|or) |{_ASKED}){_REACH} {_US}[^.!?]{{0,200}}{MARK}",
            # "Check out my new book", but not "In my book, children come first"
            rf"(?:{_OPENING}|{_ASKED}){_GET}[^.!?]{{0,80}}?(?<!\bin )\b(?:my|our) {_MEDIA}",
            # "Read more in my blog", "Follow me on ...", "My new book is at <link>"
            rf"(?:{_OPENING}|{_ASKED})(?:read|learn|find)\b[^.!?]{{0,80}}?\bin (?:my|our) {_MEDIA}",
            rf"(?:{_OPENING}|{_ASKED})(?:follow|find|like) (?:me|us) (?:on|at)\b",
            rf"\b(?:my|our) {_MEDIA}[^.!?]{{0,30}}{MARK}",
            # "On my website", "visit our blog", "as I said in my book, Sad Days", "I wrote about it on my blog"
            rf"^(?:on|at|via|through) (?:my|our) {_SITE}|\b(?:visit|go to|check out) (?:my|our) {_SITE}",
            r"(?<=\w )in my book,? (?-i:\"?[A-Z][\w']+ [A-Z])",
            r"\b(?:information|resources?|articles?|posts?|videos?|exercises?|worksheets?|link|it(?:'s| is)|wrote|"
            rf"written)\b[^.!?]{{0,60}}\b(?:on|at|via|through) (?:my|our) (?:own )?{_SITE}",
            # "I offer sessions in Austin", "We provide a newsletter, <link>"
            r"\b(?:I|we)(?: also| currently| do| can)? (?:offer|provide) (?:(?!my |him |her |them |our |in |of |"
            r"that |which |to |during |for |with )[\w/&-]+,? ){0,7}?"
            r"(?:sessions?|coaching|tele-?health|t(?:el|hel)e-?(?:therapy|counsell?ing)|consult(?:ation)?s?|appointments?|workshops?|"
            r"(?:counsell?ing|psychotherapy|services|therapy)(?= (?:in|to|for|via|through|online)\b|[,.!?]|$))",
            rf"\b(?:I|we)(?: also)? (?:offer|provide)\b[^.!?]{{0,200}}{MARK}",
            # "I am a licensed therapist in Austin"
            r"\bI(?:'m| am)(?: also| currently)?(?: an?)?(?: (?:licen[sc]ed|certified|registered|clinical|professional|"
            r"mental|health|family|marriage|and|life|couples?|online|practicing|private|child|sex|trauma))*"
            rf" (?:{_TRADE}\b[^.!?]{{0,40}}?|licen[sc]ed)\b (?:in|serving|near|of) (?:the )?(?-i:[A-Z])",
            # "You can book an appointment with me"
            rf"(?:{_OPENING}|{_ASKED})(?:book|schedule|request|set up|sign up for|arrange)\b"
            rf"[^.!?]{{0,40}}?\b{_MEETING}\b[^.!?]{{0,60}}?\b(?:with (?:me|us)|(?:at|on|through) (?:my|our))\b",
            # "Claim your free call", but not "Get a free checkup with your doctor"
            rf"{_OPENING}(?:please )?(?:book|schedule|request|claim|get|(?:call|e-?mail)(?: \w+)? for) (?:an?|your|the)"
            r" (?:free|complimentary|no[- ]cost|no[- ]obligation)\b(?![^.!?]*\bwith (?:an?|your|any|some|several|the|"
            r"one)\b)",
            # "If you'd like to work with me", "I'd love to meet with you"
            r"\bif you(?:'d| would|'re| are)?\b[^.!?]{0,60}\b(?:like|want|interested)\b[^.!?]{0,40}"
            r"\b(?:connect|work|meet|schedule|book)\w*\b[^.!?]{0,25}\bwith (?:me|us)\b",
            r"\bI(?:'d| would) (?:love|be (?:happy|glad)) to (?:work with you|meet with you|schedule|set up)",
            # "Accepting new clients", "my practice offers"
            r"\b(?:accepting|taking) new clients\b|\bmy (?:private )?practice (?:is located|offers|specializes)\b",
        )
    ),
    re.IGNORECASE,
)
# The cheap test before it, for text in lower case.
ADVERT_CUE = re.compile(
    rf"\b{_REACH} (?:me|us|my|our)\b|\b(?:follow|find|like|with) (?:me|us)\b|\b(?:my|our) {_MEDIA}|"
    rf"\bi(?:'m| am)\b[^.!?]{{0,80}}\b(?:{_TRADE}|licen[sc]ed)|\b(?:i|we)\b[\w' ]{{0,12}} (?:offer|provide)\b|"
    r"\bfree |complimentary|no[- ]cost|no[- ]obligation|new clients|"
    r"\b(?:love|happy|glad) to (?:work|meet|schedule|set up)|my (?:private )?practice"
)


def is_advert(sentence: str) -> bool:
    """Tell whether a sentence promotes its writer; one that names help that is there today never counts."""
    return bool(ADVERT_CUE.search(sentence.lower()) and _ADVERT.search(sentence) and not HELP.search(sentence))
