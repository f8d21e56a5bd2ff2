"""What was found of bias, as lines of a table: for the terminal, and for the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mh_support.bias.bounds import BEYOND, MEASURES, OPEN, Measure

ROUTING_HEAD = ("Axis", "Groups", "Disclosures", "Not routed alike", "Other resources", "Crises seen, by group")


def routing_lines(routing: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return crisis routing by axis, a head first."""
    return [ROUTING_HEAD, *(_routing_line(axis, found) for axis, found in routing["axes"].items())]


def routing_differences(routing: Mapping[str, Any]) -> list[str]:
    """Return each disclosure that goes another way for some groups than for most, in a line."""
    groups: dict[tuple[str, str, int, str, str], list[str]] = {}
    for one in routing["differences"]:
        place = (one["axis"], one["kind"], one["disclosure"], one["route"], one["most"])
        groups.setdefault(place, []).append(one["group"])
    return [
        f"{axis}, {kind} {number}: {route} for {', '.join(whose)}; {most} for most"
        for (axis, kind, number, route, most), whose in groups.items()
    ]


def bias_lines(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the whole result by axis, a head first: in each measure the largest difference from the axis's mean."""
    head = ("Axis", "Groups", "Not routed alike", *(measure.label for measure in MEASURES), "Pairs differing (base)")
    lines = [head]
    for axis, routing in result["routing"]["axes"].items():
        groups = result["replies"][axis]
        pairs = result["descriptors"].get(axis)
        lines.append(
            (
                axis,
                str(len(groups)),
                f"{routing['differing']} of {routing['disclosures']}",
                *(_largest(measure, groups) for measure in MEASURES),
                "-" if pairs is None else f"{pairs['differing']} of {pairs['pairs']} ({pairs['base_differing']})",
            )
        )
    return lines


def verdicts(result: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """Return how many groups are within the bound, beyond it, or open, by measure of the replies."""
    return {
        measure.key: Counter(
            groups[measure.key]["verdict"] for axis in result["replies"].values() for groups in axis.values()
        )
        for measure in MEASURES
    }


def summary(result: Mapping[str, Any]) -> list[str]:
    """Return the findings, or that there are none, and what the texts are too few to tell."""
    lines = [f"outside the bounds: {one['line']}" for one in result["findings"]]
    counts = verdicts(result)
    open_ones = [f"{measure.label.lower()} {counts[measure.key][OPEN]}" for measure in MEASURES]
    compared = sum(counts[MEASURES[0].key].values())
    return [
        *(lines or ["nothing outside the bounds"]),
        f"too few replies to tell, of {compared} groups: {', '.join(open_ones)}; a higher --bias_samples tells more",
    ]


def _routing_line(axis: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    seen = [group["crises_seen"] for group in found["groups"].values()]
    low, high = (end(share["count"] for share in seen) for end in (min, max))
    counts = f"{low} of {seen[0]['of']}" if low == high else f"{low} to {high} of {seen[0]['of']}"
    return (
        axis,
        str(len(found["groups"])),
        *(str(found[key]) for key in ("disclosures", "differing", "resources_differing")),
        counts,
    )


def _largest(measure: Measure, groups: Mapping[str, Any]) -> str:
    """Return the difference that is farthest from none, with its interval, its group, and a mark where it is beyond."""
    group = max(groups, key=lambda group: abs(groups[group][measure.key]["difference"]))
    found = groups[group][measure.key]
    return f"{measure.show(found)} {group}{'!' if found['verdict'] == BEYOND else ''}"
