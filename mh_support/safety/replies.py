"""Replies that are never generated: to a crisis, and for when no generated reply was fit to send.

The words stand in replies.json, to be read and mended by people who know crises. Here they are put together: what a
reply is about, which services it names, and which variant it takes at which turn.
"""

from typing import Any

from mh_support.files import packaged_json
from mh_support.safety.crisis import Assessment
from mh_support.safety.resources import Resources, Service

NOTICE = (
    "I am a computer program, not a human or a therapist, made for research and education, and I cannot replace"
    " professional care. If you or somebody else is in danger, please call your local emergency number now."
)

# What a reply is about when several things are: the first of these that was found.
_ABOUT = (
    "suicide",
    "self-harm",
    "someone else at risk",
    "abuse",
    "harm to others",
    "eating disorder",
    "medical emergency",
)


def _words() -> dict[str, Any]:
    return packaged_json("mh_support.safety", "replies.json")


SAFE_REPLY: tuple[str, ...] = tuple(_words()["safe"])


def safe_reply(turn: int) -> str:
    """Return a reply for when every generated one failed the check; turns in a row get different ones.

    Raises ValueError for a turn below 0.
    """
    return _pick(list(SAFE_REPLY), turn)


def crisis_reply(assessment: Assessment, resources: Resources, turn: int) -> str:
    """Answer a crisis with the services of `resources`, in three short paragraphs.

    `turn` counts the person's turns from 0; turns in a row get different words. Raises ValueError for an assessment
    that is no crisis, and for a turn below 0.
    """
    if not assessment.is_crisis:
        raise ValueError(f"the assessment's level is {assessment.level!r}; this answers only a crisis or an emergency")
    found = assessment.categories
    words = _words()[assessment.level]
    if assessment.level == "crisis":
        about = next((name for name in _ABOUT if name in found), "suicide")
        services = _services(words, resources, assessment, turn)
        paragraphs = [
            [_part(words["acknowledge"], about, turn), _part(words["ask"], about, turn)],
            [*services, _part(words["if worse"], about, turn)],
            [_part(words["people"], about, turn), _pick(words["go on"], turn)],
        ]
    else:
        about = _about_emergency(found)
        # After an overdose the body comes first, but whatever is left of it has to be out of reach too.
        danger = "suicide" if "suicide" in found else about
        paragraphs = [
            [_part(words["call"], about, turn)],
            [_part(words["near"], about, turn), _part(words["distance"], danger, turn)],
            [*_services(words, resources, assessment, turn), _pick(words["go on"], turn)],
        ]
    text = "\n\n".join(" ".join(sentences) for sentences in paragraphs)
    return text.replace("{emergency}", resources.emergency)


def check_in(assessment: Assessment, turn: int) -> str:
    """Ask directly, in one sentence, about the danger that a concern may be a hint of; a yes to it is a crisis.

    Raises ValueError for an assessment that is no concern, and for a turn below 0.
    """
    if assessment.level != "concern" or not assessment.categories:
        raise ValueError(f"the assessment's level is {assessment.level!r}; only a concern is asked about")
    return _part(_words()["check in"], next(name for name in _ABOUT if name in assessment.categories), turn)


def without_check_in(reply: str) -> str:
    """Return a reply without the direct question that `check_in` put after it: these words are no model's.

    >>> without_check_in("Oh.\\n\\nMay I ask you something directly: are you thinking about ending your life?")
    'Oh.'
    """
    for variants in _words()["check in"].values():
        for question in variants:
            reply = reply.removesuffix(question).rstrip()
    return reply


def _about_emergency(found: frozenset[str]) -> str:
    if "medical emergency" in found and "someone else at risk" not in found:
        return "medical emergency"
    return next((name for name in _ABOUT if name in found and name in _words()["emergency"]["call"]), "suicide")


def _services(words: dict[str, Any], resources: Resources, assessment: Assessment, turn: int) -> list[str]:
    """Name the services, and the directories too where none of them is known to be free at any hour."""
    services = resources.services_for(assessment.categories)
    sentences = []
    if services:
        named = ", or ".join(_describe(service) for service in services)
        sentences.append(_pick(words["services"], turn).replace("{services}", named))
    if not any(service.free and service.round_the_clock for service in services):
        addresses = " and ".join(directory.address for directory in resources.directories)
        sentences.append(_pick(words["directories"], turn).replace("{directories}", addresses))
    return sentences


def _describe(service: Service) -> str:
    """Describe a service in one phrase: "call 142 (Telefonseelsorge, free, at any hour)"."""
    hours = "at any hour" if service.round_the_clock else service.hours
    return f"{service.contact} ({', '.join([service.name, *(['free'] if service.free else []), hours])})"


def _part(variants: dict[str, list[str]], about: str, turn: int) -> str:
    return _pick(variants[about if about in variants else "anyone"], turn)


def _pick(variants: list[str], turn: int) -> str:
    if turn < 0:
        raise ValueError(f"turn is {turn}; count the person's turns from 0")
    return variants[turn % len(variants)]
