"""Drop adverts from a message and cut marked contacts out of the sentences that say something besides."""

import re
from collections import Counter
from collections.abc import Iterator

from mh_support.data.adverts import ADVERT_CUE, DASHES, is_advert
from mh_support.data.contacts import CRISIS_LINE, EMAIL_MARK, HELP, MARK, NOUNS, PHONE_MARK, SAID_AGAIN

__all__ = ["mended_sentences"]

# Between sentences: space after a full stop (and its quote or bracket), a smiley or a link; any line break.
_GAP = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"')\]])|(?<=[:;][)(]))\s+|(?<=\ufdd1)\s+(?=[A-ZÀ-Þ¿¡])|\s*\n\s*")
# A full stop that ends no sentence: "Dr.", an initial, the number of a list item.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|vs|e\.g|i\.e|[A-HJ-Z])\.$|(?:^|[\n.!?:] ?)\d\d?\.$"
)
# Where these are named, a number to call is most likely a hotline's.
_CRISIS = re.compile(r"\b(?:hot|life|help) ?lines?\b|\bcrisis\b|\bsuicid|\bkill|\bemergenc", re.IGNORECASE)
_CRISIS_CALL = re.compile(rf"\b((?:call|dial|text|phone)(?:ing)?) (?:at |on )?{PHONE_MARK}", re.IGNORECASE)
_LABELLED = re.compile(rf"\[([^\[\]]{{1,80}})\]\({MARK}\)")  # Markdown; the label stays
# "<link>, <link> or <link>"
_SEVERAL = re.compile(rf"({MARK})(?:,?(?: or| and|/)? ?{MARK})+")
# "(see <link> for times)"
_BRACKETED = re.compile(rf" ?[(\[][^()\[\]]{{0,60}}{MARK}[^()\[\]]{{0,60}}[)\]]")
# "call <phone> for more information": what follows goes, so that the mark ends the clause.
_PURPOSE = re.compile(
    rf"(?P<kept>\b(?:visit|go to|see|check out|call|text|e-?mail) {MARK}) (?:for|to|now|today|any ?time)\b[^.!?,;]*",
    re.IGNORECASE,
)
# "at <phone> or on <link>"
_REACHED_AT = rf"(?:at|on|via|through|from|by|in|al|en) {MARK}(?:(?:,| or| and)? (?:at|on|via) {MARK})*"
_CUTS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # "US: <phone>", "2) <link>", "(e-mail: <email>)", "here: <link>"
        (rf"(?-i:\b(?:[A-Z]{{2,3}}|Canada|Australia|Ireland|International)):? ?{MARK}|\b\d[.)] ?{MARK}", ""),
        (
            rf"(?:^|(?<=[,;|(])|\b(?:or|and)) ?"
            rf"(?:phone|tel|fax|cell|mobile|e-?mail|website|web|link|url) ?[:=] ?{MARK}",
            "",
        ),
        (rf"\bhere:? ?{MARK}", ""),
        # "call <phone> or 988", "call <phone> or go to ...", "... or <phone>."
        (rf"{MARK},? (?:or|and) (?=\d)", ""),
        (rf"\b(?:call|dial|text|phone|e-?mail|visit)(?:ing)? (?:at |on )?{MARK},? (?:or|and) (?=\w)", ""),
        (rf",? ?(?:or|and|&|/) ?{MARK}(?=\s*(?:[.!?,;)\"']|$))", ""),
        (rf",? ?(?:and|or)(?: also)? {_REACHED_AT}(?=\s*(?:[.!?,;)]|$))", ""),
        (rf" ?\b(?:{_REACHED_AT}|to [{EMAIL_MARK}{PHONE_MARK}])", ""),
    )
)
_VERBS = r"use[sd]?|using|joined|liked?|likes|loved?|loves|found|finds|got|gets|have|has|had|gave (?:me|him|her)"
# Where the contact is a noun that the sentence needs: "She uses <email> for work", "I found <link>".
_AS_A_NOUN = re.compile(
    rf"(\b(?:{_VERBS}|and|or|to|of|for|with|try|tried|trying|join|like:|than|is|was|named|called|into|visit|visited|"
    rf"visiting|see|saw|search|browse) )({MARK})(?= \w)|(\b(?:{_VERBS}) )({MARK})",
    re.IGNORECASE,
)
# "<link> has a list of groups"
_AS_THE_SUBJECT = re.compile(
    rf"^({MARK})(?= (?:is|are|has|have|can|offers?|provides?|lists?|was|helped|gives?|will)\b)"
)
# Openings of sentences that only say where to look: "For more details, please visit", "Here is an article".
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
# Words that cannot end a sentence: "You can reach him at".
_DANGLING = re.compile(
    r"\b(?:at|via|to|of|is|are|was|were|be|call|calling|dial|ring|text|phone|visit|visiting|see|e-?mail|on|the|an?|"
    r"from|called|(?<!\ba )(?<!phone )(?<!mail )(?:website|link|site|number|address)|through|with|and|or|for|by|in|"
    r"check out|checkout|try|read|find|contact|reach|recommend|click|these|this|following|here|as|like|llamar?|llame|"
    r"visit[ae]r?|contactar|al|en|o|y)[\s.,:!?\"')-]*$",
    re.IGNORECASE,
)
# Where a sentence can end early: before its last clause, unless what is left would begin as the next one says.
_CLAUSE_END = re.compile(r"[,;:] |\s[\u2013\u2014-]+\s|\s(?=(?:and|but|so|or|then) )")
_DEPENDENT = re.compile(
    r"(?:if|when|while|since|because|for|to|as|although|once|in case|whenever|after|before)\b", re.IGNORECASE
)
_LONGEST_POINTER = 14  # words; a longer sentence says something besides where to look


def mended_sentences(text: str, lowered: str, counts: Counter[str]) -> str:
    """Keep, mend or drop each sentence; `lowered` is the text before marking in lower case, for a cheap test."""
    if not (re.search(MARK, text) or ADVERT_CUE.search(lowered)):
        return text
    mended, gap, changed = "", "", False
    for sentence, following in _sentences(text):
        kept = sentence
        if is_advert(sentence):
            counts["advert"] += 1
            kept = ""
        elif re.search(MARK, sentence):
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
        trails_off = text[: gap.start()].endswith(("..", "…")) and text[gap.end() : gap.end() + 1] in NOUNS
        abbreviates = _ABBREVIATION.search(text, max(start, gap.start() - 6), gap.start())
        if "\n" in gap[0] or not (trails_off or abbreviates):
            yield text[start : gap.start()], gap[0]
            start = gap.end()
    yield text[start:], ""


def _mended(sentence: str) -> str:
    """Cut the contacts out of one sentence; return "" if it had no other point."""
    text = _SEVERAL.sub(r"\1", _LABELLED.sub(r"\1", sentence))
    text = _BRACKETED.sub(_unless_help, text)
    if _CRISIS.search(text):
        text = SAID_AGAIN.sub(r"\1", _CRISIS_CALL.sub(rf"\1 {CRISIS_LINE}", text))
    text = _PURPOSE.sub(_unless_help, text)
    points = bool(re.search(rf"{MARK}[\s\"'.,;:!?)\]-]*$", text))
    for pattern, replacement in _CUTS:
        text = pattern.sub(replacement, text)
    text = _AS_A_NOUN.sub(lambda match: (match[1] or match[3]) + NOUNS[match[2] or match[4]], text)
    text = _AS_THE_SUBJECT.sub(lambda match: NOUNS[match[1]].capitalize(), text)
    text = _tidied(re.sub(MARK, " ", text), like=sentence)
    if not re.search(r"\w", text):
        return ""
    return _without_pointer(text) if points else text


def _without_pointer(text: str) -> str:
    """Drop a sentence, or its last clause, that only said where the contact leads; never one that names help."""
    head, clause = _last_clause(text)
    if HELP.search(text):
        return head if _DANGLING.search(text) and HELP.findall(head) == HELP.findall(text) else text
    if _POINTER.match(text):
        return "" if len(re.findall(r"\w+", text)) <= _LONGEST_POINTER else text
    return head if _DANGLING.search(text) or (head and _POINTER.match(clause)) else text


def _unless_help(match: re.Match[str]) -> str:
    return match[0] if HELP.search(match[0]) else match.groupdict().get("kept", "")


def _last_clause(text: str) -> tuple[str, str]:
    """Split off the last clause that leaves a whole sentence before it; the sentence is "" if there is none."""
    for end in reversed(list(_CLAUSE_END.finditer(text))):
        head = text[: end.start()]
        says_help = HELP.search(head) and ("," in head or not _DEPENDENT.match(head))
        whole = says_help or not (_DEPENDENT.match(head) or _POINTER.match(head))
        if whole and len(head.split()) >= 4 and not _DANGLING.search(head):
            return head + ".", text[end.end() :]
    return "", text


def _tidied(text: str, *, like: str) -> str:
    """Mend spaces, brackets and punctuation; begin and end as `like` does."""
    text = re.sub(r"\( *\)|\[ *\]|\" *\"", "", text)
    text = re.sub(r"\( +", "(", re.sub(r" +", " ", text))
    text = re.sub(r" (?=(?:[,.!?;)](?!\.)|:)(?:[\s)]|$))", "", text)
    text = re.sub(r"[,;:]+(?=[.!?,])|,(?= ?,)", "", text)
    text = text.strip().lstrip(f",;:.)/ {DASHES}")
    text = text.rstrip(f",;:/( {DASHES}")
    if text.rstrip(")\"'")[-1:].isalnum() and not like.rstrip()[-1:].isalnum():
        text += like.rstrip()[-1] if like.rstrip()[-1] in ".!?" else "."
    return text[:1].upper() + text[1:] if like[:1].isupper() or like[:1] in NOUNS else text
