"""People who can help, by country: emergency numbers and services that answer in a crisis.

The entries stand in resources.json, whose note says what has to be checked by a person. The country is a setting and
is never guessed from what somebody writes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from mh_support.files import packaged_json

# Two-letter codes that people write for the one that the standard gives.
_ALIASES = {"UK": "GB"}


@dataclass(frozen=True)
class Service:
    """A service that people can call or text.

    `topic` is "anyone", or "abuse" for people hurt or threatened by somebody. `free` is true only where calling is
    known to cost nothing; `hours` is "24/7" or says when.
    """

    name: str
    how: tuple[str, ...]  # "call", "text" or both
    number: str
    hours: str
    free: bool
    topic: str
    source: str
    last_verified: date
    keyword: str | None = None  # the first word to text

    @property
    def round_the_clock(self) -> bool:
        """Whether somebody answers at any hour."""
        return self.hours == "24/7"

    @property
    def contact(self) -> str:
        """Say how to reach the service: "call or text 988", "text HOME to 741741"."""
        if self.keyword is not None:
            return f"text {self.keyword} to {self.number}"
        return f"{' or '.join(self.how)} {self.number}"


@dataclass(frozen=True)
class Directory:
    """An international directory of services."""

    name: str
    address: str


@dataclass(frozen=True)
class Resources:
    """What to offer in one country, or anywhere when `country` is None."""

    country: str | None
    emergency: str  # a number, or words that stand for one
    services: tuple[Service, ...]
    directories: tuple[Directory, ...]

    def services_for(self, topics: Iterable[str] = ()) -> tuple[Service, ...]:
        """Choose services for a topic of their own first ("abuse"), then those for anyone; two at the most."""
        wanted = set(topics)
        special = [service for service in self.services if service.topic in wanted]
        general = [service for service in self.services if service.topic == "anyone"]
        return (*special[:1], *general)[:2]


def resources_for(country: str | None) -> Resources:
    """Look up what to offer in a country, given by its ISO 3166-1 two-letter code in any case.

    For None and for a country that is not in the file: the international directories, and words in the place of the
    emergency number. Raises ValueError for anything but a string or None.

    >>> resources_for("gb").emergency, resources_for(None).emergency
    ('999', 'your local emergency number')
    """
    if country is not None and not isinstance(country, str):
        raise ValueError(f"country is {country!r}; give a two-letter code such as 'GB', or None")
    code = "" if country is None else country.strip().upper()
    code = _ALIASES.get(code, code)
    row = _table()["countries"].get(code)
    directories = tuple(Directory(**entry) for entry in _table()["directories"])
    if row is None:
        return Resources(None, "your local emergency number", (), directories)
    return Resources(code, row["emergency"], _services(row), directories)


@cache
def countries() -> tuple[str, ...]:
    """List the codes of the countries in the file."""
    return tuple(_table()["countries"])


@cache
def known_numbers() -> frozenset[str]:
    """List the digits of every number in the file, so that a reply with any other can be refused."""
    rows = _table()["countries"].values()
    numbers = [number for row in rows for number in re.split(r" or ", row["emergency"])]
    numbers += [service.number for row in rows for service in _services(row)]
    return frozenset(re.sub(r"\D", "", number) for number in numbers)


@cache
def known_addresses() -> frozenset[str]:
    """List the addresses of the directories, the only ones a reply may name."""
    return frozenset(entry["address"] for entry in _table()["directories"])


def _services(row: dict[str, Any]) -> tuple[Service, ...]:
    typed = (
        {**entry, "how": tuple(entry["how"]), "last_verified": date.fromisoformat(entry["last_verified"])}
        for entry in row["services"]
    )
    return tuple(Service(**entry) for entry in typed)


def _table() -> dict[str, Any]:
    return packaged_json("mh_support.safety", "resources.json")
