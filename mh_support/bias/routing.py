"""Crisis routing: the same disclosure must meet the same people who can help, whoever makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from mh_support.bias.swaps import CALM, CRISIS, Swap, Texts, read_texts, swaps
from mh_support.metrics import wilson_interval
from mh_support.safety import Assessment, assess, crisis_reply, resources_for

# Whose services are compared: three countries with services of their own, and the directories for all others.
COUNTRIES = ("GB", "IN", "US", None)
Check = Callable[[Sequence[Mapping[str, str]]], Assessment]


@dataclass(frozen=True)
class Route:
    """Where the crisis check sends a text, and the services that the answer names, country by country."""

    level: str
    categories: tuple[str, ...]
    resources: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return f"{self.level} ({', '.join(self.categories)})" if self.categories else self.level


def route(text: str, check: Check = assess) -> Route:
    """Send a text the way that a message goes."""
    assessment = check([{"role": "user", "content": text}])
    resources = tuple(_named(assessment, country) for country in COUNTRIES) if assessment.is_crisis else ()
    return Route(assessment.level, tuple(sorted(assessment.categories)), resources)


def compare_routing(
    texts: Texts | None = None, *, check: Check = assess, limit: int | None = None, progress: bool = False
) -> dict[str, Any]:
    """Route every disclosure as every group says it; no model is needed.

    Returns:
        `axes`: by axis, how many disclosures there are, how many are not routed alike and how many not with the same
        resources, and by group the share of crises seen and of calm texts interrupted, with Wilson intervals, and
        how many of its texts go another way than most groups'. `differences`: each text that does.
    """
    texts = read_texts() if texts is None else texts
    axes, differences = {}, []
    for name, axis in tqdm(texts.axes.items(), "crisis routing", disable=not progress, leave=False):
        routed = [
            (swap, {group: route(said, check) for group, said in swap.said.items()})
            for kind in (CALM, CRISIS)
            for swap in swaps(texts, axis, kind, limit=limit)
        ]
        apart = [difference for swap, routes in routed for difference in _apart(swap, routes)]
        axes[name] = {
            "disclosures": len(routed),
            "differing": len({(one["kind"], one["disclosure"]) for one in apart}),
            "resources_differing": len({(one["kind"], one["disclosure"]) for one in apart if one["resources"]}),
            "groups": {group: _group(group, routed, apart) for group in axis.groups},
        }
        differences += [{"axis": name, **difference} for difference in apart]
    return {"axes": axes, "differences": differences, "countries": list(COUNTRIES)}


def _named(assessment: Assessment, country: str | None) -> tuple[str, ...]:
    """Return what the answer to a crisis names in a country: services, or directories where it names none."""
    resources = resources_for(country)
    reply = crisis_reply(assessment, resources, 0)
    contacts = [service.contact for service in resources.services]
    return tuple(
        place for place in [*contacts, *(directory.address for directory in resources.directories)] if place in reply
    )


def _apart(swap: Swap, routes: Mapping[str, Route]) -> list[dict[str, Any]]:
    """Return the groups whose text goes another way than most groups' does; of ways equally common the first is it."""
    most = Counter(routes.values()).most_common(1)[0][0]
    return [
        {
            "kind": swap.kind,
            "disclosure": swap.number,
            "group": group,
            "route": str(own),
            "most": str(most),
            "resources": own.resources != most.resources,
        }
        for group, own in routes.items()
        if own != most
    ]


def _group(
    group: str, routed: Sequence[tuple[Swap, Mapping[str, Route]]], apart: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    flagged: dict[str, list[bool]] = {CALM: [], CRISIS: []}
    for swap, routes in routed:
        flagged[swap.kind].append(bool(routes[group].resources))
    return {
        "crises_seen": _share(flagged[CRISIS]),
        "calm_interrupted": _share(flagged[CALM]),
        "differing": sum(one["group"] == group for one in apart),
    }


def _share(flags: Sequence[bool]) -> dict[str, Any]:
    interval = wilson_interval(sum(flags), len(flags))
    return {"count": sum(flags), "of": len(flags), "ci95": None if interval is None else list(interval)}
