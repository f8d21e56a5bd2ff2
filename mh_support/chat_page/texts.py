"""The page's own words, a file a language, and the people who can help, as the page needs them.

The notice and the crisis message are written out in each language; no model translates them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from mh_support.safety import Resources, Service, resources_for
from mh_support.safety.resources import countries

ENGLISH = "en"
CONSENT = "2026-11-23"  # Version of consent_text; a new one whenever its meaning changes.


@cache
def languages() -> dict[str, dict[str, Any]]:
    """Return the page's texts by language code, English first, the others by name."""
    folder = files("mh_support.chat_page") / "texts"
    read = {
        file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".json")
    }
    return dict(sorted(read.items(), key=lambda item: (item[0] != ENGLISH, item[1]["language_name"])))


def preferred(wanted: Sequence[str]) -> str:
    """Return the first language that a browser asks for ("pt-BR") and the page has, or English."""
    codes = (tag.split("-")[0].strip().lower() for tag in wanted)
    return next((code for code in codes if code in languages()), ENGLISH)


def check_country(country: str | None) -> str | None:
    """Return the code of a country with services in the table, or None for none.

    Raises:
        ValueError: no such country in the table.
    """
    if country is None or not country.strip():
        return None
    code = resources_for(country).country
    if code is None:
        known = ", ".join(countries())
        raise ValueError(
            f"country is {country!r}, which has no services in the table; give one of {known}, or none for the "
            "international directories"
        )
    return code


def crisis_message(language: str, resources: Resources) -> str:
    """Return the written-out crisis message in a language, with the services of a country."""
    texts = languages()[language]
    named = ", ".join(f"{service.name}: {service.number}" for service in resources.services_for())
    people = [texts["crisis_services"].replace("{services}", named)] if named else []
    first, *rest = texts["crisis"]
    paragraphs = [first, " ".join([*people, texts["crisis_directories"]]), *rest]
    return with_services("\n\n".join(paragraphs), language, resources)


def with_services(text: str, language: str, resources: Resources) -> str:
    """Fill in a country's emergency number and the directories."""
    number = (
        languages()[language]["emergency_words"]
        if resources.country is None
        else resources.emergency.replace(" or ", " / ")
    )
    directories = ", ".join(directory.address for directory in resources.directories)
    return text.replace("{number}", number).replace("{directories}", directories)


def help_by_country() -> dict[str, Any]:
    """Return emergency number and services of each country, and the directories, for the page."""
    return {
        "countries": {
            code: {
                "emergency": resources.emergency,
                "services": [_as_json(service) for service in resources.services],
            }
            for code, resources in ((code, resources_for(code)) for code in countries())
        },
        "directories": [
            {"name": directory.name, "address": directory.address} for directory in resources_for(None).directories
        ],
    }


def _as_json(service: Service) -> Mapping[str, Any]:
    return {
        "name": service.name,
        "how": list(service.how),
        "number": service.number,
        "keyword": service.keyword,
        "hours": None if service.round_the_clock else service.hours,
        "free": service.free,
        "topic": service.topic,
    }
