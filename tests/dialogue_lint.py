"""What the lint tests of the embedded dialogues look for."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

# What a supporter must not say; case does not matter.
FORBIDDEN = {
    "promise": (
        r"\bI promise\b|\bguarantee|\bI(?:'ll| will) (?:always|never)\b|\byou can trust me\b",
        r"\b(?:it|this|that|things|everything)(?:'ll| will)(?: \w+)? (?:get (?:better|easier)|work out|pass)\b",
        r"\b(?:it|this|that|things|everything|you)(?:'ll| will)(?: \w+)? be (?:fine|ok|okay|all right|alright|safe)\b",
        r"\byou(?:'ll| will) (?:feel|get) (?:better|well|over)\b",
    ),
    "platitude": (
        r"\btime heals|\bhappens for a reason|\bstay strong|\bbright side|\bcheer up|\byou've got this",
        r"\byou(?:'re| are) not alone\b|\bI know (?:exactly )?how you feel|\bthis too shall pass|!",
    ),
    "blame": (
        r"\b(?:you(?:'re| are)|that(?:'s| is)) (?:\w+ )?(?:selfish|attention.seeking|overreacting|your fault|weak)\b",
        r"\bshame on|\bman up\b|\bsnap out of|\bget over it|\bcalm down\b|\bjust (?:relax|smile|think positive)",
        r"\bat least you\b|\b(?:others|people) have it worse|\bcould be worse|\byou should be (?:grateful|ashamed)",
    ),
    "human": (
        r"\bI(?:'m| am) (?:an? |your |only )*(?:human|person|real|man|woman|friend|doctor|nurse|psychologist)\b",
        r"\bI(?:'m| am) (?:an? |your )*(?:therapist|counsell?or)\b|\bas (?:an?|your) (?:therapist|counsell?or|human)\b",
        r"\b(?:my|our) (?:own )?(?:wife|husband|mother|mum|father|dad|son|daughter|children|kids|brother|sister)\b",
        r"\b(?:my|our) (?:own )?(?:childhood|life|patients|clients)\b|\bI(?:'ve| have) been (?:there|through)",
        r"\bwhen I was\b|\bI (?:cried|remember|grew up)\b|\b(?:happened|same) to me\b|\bme too\b",
    ),
    "machine by name": (r"\bas an AI\b|\blanguage model|\bassistant\b|\bartificial|\bI was trained",),
    "medication": (
        r"\bmedicat|\bmedicine|\bantidepress|\bsertraline|\bfluoxetine|\bdiazepam|\bmelatonin|\bibuprofen|\bparacetamol",
        r"\b\d+ ?(?:mg|ml|milligrams?)\b",
        r"\b(?:take|try|stop|double|halve|skip) (?:your|the|an?|two|more|these) (?:\w+ )?(?:pill|tablet|dose|drug)",
    ),
    "link": (r"https?:|www\.|\w\.(?:com|org|net|uk|gov|info)\b|\w@\w",),
    "telephone number": (r"\d[\d ().-]{5,}\d|\b(?:call|ring|dial|text|phone) \d|\b(?:988|911|999|000|741741)\b",),
    "named service": (r"\bsamaritans|\bchildline|\blifeline|\bfindahelpline|\bbefrienders|\bcrisis text line",),
    "law": (
        r"\byou (?:can|could|should|must) (?:sue|press charges)\b|\b(?:is|it's|that's) illegal\b|\blegal rights\b",
    ),
}
# A disorder may be named only after the person has named it, for else naming it is a diagnosis.
DISORDERS = (
    r"\b(?:depress|bipolar|manic|mania|adhd|autis|ptsd|post-traumatic|ocd\b|anorexi|bulimi|eating disorder|schizo)\w*",
    r"\b(?:psychosis|psychotic|dementia|alzheimer|narciss|borderline|anxiety|phobi|insomnia|addict|alcoholi)\w*",
    r"\b(?:trauma|disorder|syndrome)\w*",
)

Row = dict[str, Any]


def said(row: Row, role: str) -> list[str]:
    """Return what one of the two says."""
    return [message["content"] for message in row["messages"] if message["role"] == role]


def forbidden(text: str) -> list[str]:
    """Return the kinds of forbidden phrases in `text`."""
    return [kind for kind, patterns in FORBIDDEN.items() if re.search("|".join(patterns), text, re.IGNORECASE)]


def unnamed_disorders(row: Row) -> list[str]:
    """Return the disorders that the supporter names before the person does."""
    heard, found = "", []
    for message in row["messages"]:
        named = [match[0].lower() for match in re.finditer("|".join(DISORDERS), message["content"], re.IGNORECASE)]
        if message["role"] == "user":
            heard += message["content"].lower()
        else:
            found += [name for name in named if name not in heard]
    return found


def shingles(row: Row) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9']+", " ".join(message["content"] for message in row["messages"]).lower())
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


def near_duplicates(rows: Sequence[Row], threshold: float) -> list[tuple[str, str]]:
    """Return the pairs whose Jaccard index on 5-word series is `threshold` or more."""
    series = [shingles(row) for row in rows]
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, found in enumerate(series):
        for one in found:
            places[one].append(number)
    shared = Counter(pair for numbers in places.values() for pair in combinations(numbers, 2))
    return [
        (rows[a]["id"], rows[b]["id"])
        for (a, b), count in shared.items()
        if count / (len(series[a]) + len(series[b]) - count) >= threshold
    ]


def opening(text: str) -> str:
    """Return the first sentence, as words only."""
    return " ".join(re.findall(r"[a-z0-9']+", re.split(r"(?<=[.!?])\s", text)[0].lower()))
