"""The picture of a bias result: a line a group, a panel a measure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from mh_support.bias.bounds import BEYOND, MEASURES, OPEN, Measure
from mh_support.drawing import AMBER, BLUE, GREY, INK, frame, new_figure, save

RED = "#D55E00"  # Okabe and Ito's vermilion: nothing else in these pictures calls for attention.


def bias_plot(result: Mapping[str, Any], path: Path) -> Path:
    """Draw a result of `bias.json`: routing, differences of replies from the axis's mean, perplexity of descriptors."""
    lines = _places(result)
    bottom = max(lines.values())
    figure = new_figure(
        17,
        2.2 + 0.25 * bottom,
        "Groups of people compared",
        "Dot: the group's difference from the mean of its axis, or its perplexity. Bar: its 95 % interval. "
        "Shaded: the bounds.",
        "Blue: within the bounds, bar and all. Grey: the replies are too few to tell. "
        "Red: beyond the bound by more than chance explains; any difference in routing.",
    )
    panels = figure.subplots(1, 2 + len(MEASURES), sharey=True)
    _draw_routing(panels[0], result["routing"], lines)
    for axes, measure in zip(panels[1:], MEASURES, strict=False):
        _draw_measure(axes, measure, result["replies"], lines)
    _draw_descriptors(panels[-1], result["descriptors"], lines)
    named = [(line, axis.capitalize() if group is None else group) for (axis, group), line in lines.items()]
    panels[0].set_yticks([line for line, _ in named], [name for _, name in named])
    for label, (_, group) in zip(panels[0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if group is None else "normal")
    for axes in panels:
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    panels[0].set_ylim(bottom + 0.8, -0.8)
    return save(figure, path)


def _places(result: Mapping[str, Any]) -> dict[tuple[str, str | None], int]:
    """Return the line of each axis's name and of each of its groups, an empty line between two axes."""
    places: dict[tuple[str, str | None], int] = {}
    line = 0
    for axis, found in result["routing"]["axes"].items():
        for group in (None, *found["groups"]):
            places[axis, group] = line
            line += 1
        line += 1
    return places


def _draw_routing(axes: Axes, routing: Mapping[str, Any], lines: Mapping[tuple[str, str | None], int]) -> None:
    frame(axes, "disclosures", "")
    axes.set_title("Not routed as most", fontsize=11, fontweight="bold", color=INK)
    for axis, found in routing["axes"].items():
        for group, one in found["groups"].items():
            line = lines[axis, group]
            axes.barh(line, one["differing"], height=0.7, color=RED)
            axes.plot([0], [line], "|", color=RED if one["differing"] else BLUE, markersize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set_xlim(-0.15, max(axes.get_xlim()[1], 3))


def _draw_measure(
    axes: Axes, measure: Measure, replies: Mapping[str, Any], lines: Mapping[tuple[str, str | None], int]
) -> None:
    frame(axes, f"bound: {measure.bound_in_words}", "")
    axes.set_title(measure.label, fontsize=11, fontweight="bold", color=INK)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for axis, groups in replies.items():
        bound = next(iter(groups.values()))[measure.key]["bound"]
        first, last = (lines[axis, group] for group in (next(iter(groups)), [*groups][-1]))
        axes.fill_between([-bound, bound], first - 0.5, last + 0.5, color=AMBER, alpha=0.13, linewidth=0)
        for group, measures in groups.items():
            one = measures[measure.key]
            colour = {BEYOND: RED, OPEN: GREY}.get(one["verdict"], BLUE)
            _draw_point(axes, one["difference"], one["difference_ci95"], lines[axis, group], colour)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


def _draw_descriptors(axes: Axes, descriptors: Mapping[str, Any], lines: Mapping[tuple[str, str | None], int]) -> None:
    frame(axes, "lower: more expected", "")
    axes.set_title("Perplexity of descriptors", fontsize=11, fontweight="bold", color=INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([step * 10**power for power in range(6) for step in (1, 3)]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    for axis, found in descriptors.items():
        count = f"{found['differing']} of {found['pairs']} pairs differ, {found['base_differing']} in base"
        place = axes.get_yaxis_transform()
        axes.text(0.5, lines[axis, None], count, transform=place, ha="center", va="center", fontsize=8.5, color=INK)
        for group, one in found["groups"].items():
            _draw_point(axes, one["value"], one["ci95"], lines[axis, group], INK)


def _draw_point(axes: Axes, value: float, interval: list[float], line: int, colour: str) -> None:
    axes.plot(interval, [line, line], color=colour, linewidth=2.4, solid_capstyle="butt", alpha=0.6)
    axes.plot([value], [line], "o", color=colour, markersize=4.5)
