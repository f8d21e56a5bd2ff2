"""Clean raw text before it is scrubbed, split and tokenized.

The steps run in an order that matters, again and again until nothing changes (so cleaning twice equals cleaning once):

1. Markup goes first, because entities hide tags (`&lt;br&gt;`) and spaces (`&nbsp;`).
2. Turn markers such as `<|endoftext|>` go next: one of them inside a message would end a turn in training.
3. Unicode is repaired (mojibake, curly quotes, invisible characters), which makes every space a plain one.
4. Whitespace is collapsed, so that later steps only meet single spaces and line breaks.
5. Glued sentences are spaced. This looks at one word at a time and never opens a link or an e-mail address, only the
   places where one is glued to its neighbours. `clean_text` therefore runs before `mh_support.data.privacy.scrub`,
   which finds whole links in clean text, and whole sentences around them.
6. Spaces before punctuation go, and last the case, if asked.
"""

import html
import re
from html.entities import html5

import ftfy

__all__ = ["clean_text"]

# Text that still changes after this many rounds nests markup in markup, as no person and no editor does: its markup
# characters are dropped, which bounds the work and keeps the result stable.
_MAX_ROUNDS = 12

# ---- markup ----------------------------------------------------------------------------------------------------------
# A parser would take any <word> for a tag and lose what people write ("I <really> mean it"), so only the elements that
# HTML defines are removed, and only where their attributes look like attributes ("a <b and c> d" is text).
_LINE_ELEMENTS = (
    "address|article|aside|blockquote|body|br|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer|form|"
    "h[1-6]|header|hr|html|legend|li|main|menu|nav|ol|option|p|pre|section|summary|table|tbody|tfoot|thead|title|tr|ul"
)
_SPACE_ELEMENTS = (
    "audio|button|canvas|caption|embed|iframe|img|input|meter|object|picture|progress|select|svg|td|textarea|th|video"
)
_INLINE_ELEMENTS = (
    "a|abbr|acronym|area|b|base|bdi|bdo|big|cite|code|col|colgroup|data|datalist|del|dfn|em|font|head|i|ins|kbd|label|"
    "link|map|mark|math|meta|nobr|noscript|o:p|optgroup|output|param|path|q|rp|rt|ruby|s|samp|script|small|source|span|"
    "strike|strong|style|sub|sup|template|time|track|tt|u|var|wbr"
)
_FLAGS = "allowfullscreen|async|autofocus|autoplay|checked|controls|defer|disabled|hidden|itemscope|loop|multiple|muted"
_FLAGS += "|nowrap|noshade|open|readonly|required|reversed|selected"
_ATTRIBUTE = rf"""(?:[a-z_:@][\w:.-]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'=<>`]+)|(?:{_FLAGS})(?=[\s/>]))"""
_TAG = re.compile(
    rf"</?(?:(?P<line>{_LINE_ELEMENTS})|(?P<space>{_SPACE_ELEMENTS})|{_INLINE_ELEMENTS})(?:\s+{_ATTRIBUTE})*\s*/?>",
    re.IGNORECASE,
)
# Each body stops at the next opening of its own kind, so a text full of unclosed ones is still read only once.
_HIDDEN = re.compile(
    r"<!--(?:(?!<!--).)*?-->|<(script|style|head|template|svg)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>"
    r"|<!doctype\b[^<>]*>|<\?xml\b[^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
_AMPERSANDS = re.compile(r"&(?:amp;|#38;|#x26;)+", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7};|#x[0-9a-f]{1,6};|[a-z][a-z0-9]{1,31};|nbsp(?![a-z0-9]))", re.IGNORECASE)
_TURN_MARKER = re.compile(r"<\|\s*[a-z0-9_]{1,32}\s*\|>", re.IGNORECASE)

# ---- characters ------------------------------------------------------------------------------------------------------
_UNICODE = ftfy.TextFixerConfig(unescape_html=False, normalization="NFC")
# Straight stand-ins for the commonest characters. Where only dashes are left beyond ASCII there is nothing for ftfy
# to repair (mojibake needs letters such as Ã or â), and most texts are spared the cost.
_STRAIGHT = str.maketrans("\xa0\u2018\u2019\u201c\u201d", " ''\"\"")
_UNUSUAL = re.compile("[^\x00-\x7f\u2013\u2014\u2022\u2026\xb7]")
_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufdd0-\ufdef\ufeff\uffa0\ufff9-\ufffc\U000e0000-\U000e007f]"
)
# A joiner between two emoji or two letters of a joining script is part of the writing; anywhere else it is dirt.
_JOINED = "\u0590-\u1fff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
_STRAY_JOINER = re.compile(f"(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])")
_LOST_APOSTROPHE = re.compile(r"(?<=[a-z])\ufffd(?=(?:t|s|re|ve|ll|d|m)\b)", re.IGNORECASE)

# ---- spacing ---------------------------------------------------------------------------------------------------------
_LOWER, _UPPER = "a-zß-öø-ÿ", "A-ZÀ-ÖØ-Þ"
_DOMAIN_END = "com|org|net|edu|gov"
# What follows a full stop without being a sentence: a domain's end (Yahoo.Com) or a file's (notes.PDF).
_NOT_A_WORD = rf"(?!(?i:{_DOMAIN_END}|js|html?|php|aspx?|pdf|docx?|txt|jpe?g|png|gif|mp[34])\b)"
_SENTENCE_START = rf"(?={_NOT_A_WORD}(?:[{_UPPER}][{_LOWER}]|[{_UPPER}]{{2,}}\b|[IA]\b(?!\.)|[¿¡]))"
# Two letters of one case before the full stop: "with.Seriously", "PTSD.The", but not "Ph.D", "e.g.The" or "U.S.The".
# Every branch begins with its mark and looks back from there, which is many times quicker than looking back everywhere.
_FULL_STOP = rf"\.(?:(?<=[{_LOWER}]{{2}}\.)|(?<=[{_UPPER}]{{2}}\.)|(?<='[a-z]\.)|(?<=[\d)\]\"']\.))"
_SMILE = r":(?<![^\s.!?]:)-?[()]|;(?<![^\s.!?];)-?\)"
_GLUED = re.compile(
    rf"(?:{_FULL_STOP}|[!?](?<=[\w)\]\"'!?].)|[:;](?<=[a-z]{{2}}.)|{_SMILE}){_SENTENCE_START}|,(?<=\w,)(?=[^\W\d_])"
)
_LINKED = re.compile(rf"://|\bwww\.|@|\.(?:{_DOMAIN_END}|info|io|co|uk|ca|au)(?![a-z])", re.IGNORECASE)
_BEFORE_LINK = re.compile(
    r"(?<=[\w.,:;!?)])(?:(?=https?://)|(?<!aw)(?<!ww)(?<!\ba)(?=www(?:\.[\w-]{1,63}){1,4}\.[a-z]{2}))", re.IGNORECASE
)
_AFTER_DOMAIN = re.compile(
    r"(?<=\.com|\.org|\.net|\.edu|\.gov)(?=[A-Z][a-z]|[¿¡]|\d{3}\D)"
    rf"|(?i:\.(?:{_DOMAIN_END})),(?=[a-zA-Z])"
)
_AFTER_LINK = re.compile(
    rf"(?i:\.(?:{_DOMAIN_END}|info|io|ca|uk|au))(?:[/?#]\S{{0,500}}?|[)\]]{{0,3}})"
    rf"(?<=[a-z\d/)\]]{{2}})[.!]{_SENTENCE_START}(?!\S{{0,100}}@)"
)
# Web pages lose the line break after a link: ".../values-listIf this". Only words that open sentences are believed
# there, and any word behind a bare ".org/" ("https://a.org/Find help").
_AFTER_PATH = re.compile(
    r"(?<=[a-z0-9/_=])(?=(?:A|After|Also|And|Another|As|At|Best|But|For|Good|He|Here|Hope|However|I|If|In|It|Maybe|My|"
    r"Once|One|Perhaps|Please|Recently|She|So|Some|That|The|Then|There|These|They|This|To|We|What|When|While|You|Your)+"
    r"[,:]?$)|(?<=\.org/|\.net/|\.gov/|\.edu/)(?=[A-Z][a-z]+[,:]?$)"
)
_SPACE_BEFORE = re.compile(r"(?<=\S) +(?=(?:,+|\.(?!\.)|[!?]+)(?:[\s\"')\]]|[,.!?]|\Z)|[:;](?:\s|\Z))")
_SPACE_ON_THE_WRONG_SIDE = re.compile(rf"(?<=[\w)\]\"']) +(?:([.!?]){_SENTENCE_START}|(,)(?=[^\W\d_]))")
# Lines shorter than this were broken on purpose (a list, a poem); longer ones end where an editor's window ended.
_WRAPPED_LINE = 40

_UNTIDY = re.compile(r"[^\n -~]|[<&]|[.!?,][A-Za-z]|[:;][A-Z]|[:;-][()][A-Z]| [ \n,.!?;:]|\n[ a-z]|\n\n\n|://")


def clean_text(text: str, *, lowercase: bool = False) -> str:
    """Return `text` without markup, invisible characters, mojibake and broken spacing.

    Line breaks stay, at most one empty line in a row. The result may be empty. Cleaning is idempotent:
    `clean_text(clean_text(x)) == clean_text(x)`. Run it before `mh_support.data.privacy.scrub`.

    Args:
        text: one message, of any length. HTML, entities and any Unicode are fine.
        lowercase: lower the case too. Off by default: GPT-2 and DialoGPT were trained on cased text.

    Raises:
        ValueError: if `text` is not a string (an empty cell often arrives as None).

    Example:
        >>> clean_text("<p>I can&rsquo;t hang out with.Seriously , why ?</p>")
        "I can't hang out with. Seriously, why?"
    """
    if not isinstance(text, str):
        raise ValueError(f"clean_text got {type(text).__name__}, expected str; drop or fill empty cells first")
    if not (text.isascii() and _is_tidy(text)):
        text = _clean_until_stable(text)
    return _lowered(text) if lowercase else text


def _is_tidy(text: str) -> bool:
    return _UNTIDY.search(text) is None and text == text.strip()


def _clean_until_stable(text: str) -> str:
    for done in range(1, 2 * _MAX_ROUNDS + 1):
        before, text = text, _clean_once(text)
        if text == before:
            break
        if done == _MAX_ROUNDS:
            text = text.replace("<", "").replace("&", "")
    return text


def _lowered(text: str) -> str:
    """Lower the case, and clean again where that made something new (a token written in capitals)."""
    lowered = text.lower()
    return lowered if lowered == text else clean_text(lowered)


def _clean_once(text: str) -> str:
    if "<" in text or "&" in text:
        text = _without_markup(text)
        text = _TURN_MARKER.sub(" ", text)
    text = _repaired(text)
    text = _collapsed(text)
    text = re.sub(r"\S+", _unglued, text) if _LINKED.search(text) else _GLUED.sub(_and_space, text)
    text = _SPACE_ON_THE_WRONG_SIDE.sub(lambda mark: (mark[1] or mark[2]) + " ", text)
    return _SPACE_BEFORE.sub("", text)


def _without_markup(text: str) -> str:
    text = _HIDDEN.sub(" ", text)
    text = _TAG.sub(_tag_space, text)
    text = _AMPERSANDS.sub("&", text)
    return _ENTITY.sub(_entity_character, text)


def _tag_space(match: re.Match[str]) -> str:
    return "\n" if match["line"] else " " if match["space"] else ""


def _entity_character(match: re.Match[str]) -> str:
    entity = match[0]
    if entity[1] == "#":
        return html.unescape(entity)
    # html.unescape would also read "&notit;" as "¬it;": only whole names count.
    return html5.get(entity[1:].rstrip(";") + ";", entity)


def _repaired(text: str) -> str:
    text = _LINE_BREAK.sub("\n", text)
    straight = text.translate(_STRAIGHT)
    if not _UNUSUAL.search(straight):
        text = straight
    else:
        text = _LOST_APOSTROPHE.sub("'", ftfy.fix_text(text, _UNICODE)).replace("\ufffd", "")
        text = _STRAY_JOINER.sub("", text)
    if "\x1b" in text:
        text = ftfy.fixes.remove_terminal_escapes(text)
    return _INVISIBLE.sub("", text)


def _collapsed(text: str) -> str:
    """Make every space a plain single one, join hard-wrapped lines and keep at most one empty line."""
    text = re.sub(r"[^\S\n]+", " ", text)
    if "\n" not in text:
        return text.strip()
    joined: list[str] = []
    for line in (line.strip() for line in text.split("\n")):
        if joined and _continues(joined[-1], line):
            joined[-1] += " " + line
        else:
            joined.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(joined)).strip()


def _continues(line: str, following: str) -> bool:
    return len(line) >= _WRAPPED_LINE and following[:1].islower() and (line[-1].isalnum() or line[-1] in ",-'\"")


def _unglued(match: re.Match[str]) -> str:
    """Put the missing spaces into one whitespace-free run of characters, leaving links and addresses whole."""
    word = match[0]
    if not _LINKED.search(word):
        return _GLUED.sub(_and_space, word)
    word = _BEFORE_LINK.sub(" ", word)
    word = _AFTER_DOMAIN.sub(_and_space, word)
    word = _AFTER_LINK.sub(_and_space, word)
    return _AFTER_PATH.sub(" ", word) if "://" in word or "www." in word else word


def _and_space(match: re.Match[str]) -> str:
    return match[0] + " "
