"""Pictures of what raters said: dots with 95 % intervals, narrow enough to be read on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from mh_support.drawing import AMBER, BLUE, GREEN, GREY, INK, frame, new_figure, save, say
from mh_support.rating.agreement import LOW
from mh_support.rating.analysis import EVERYBODY, groups_shown
from mh_support.rating.questions import CRITERIA, WIN_RATE

WIDTH = 5.2
COLOURS = {EVERYBODY: BLUE, "peer": GREY, "trained": AMBER, "licensed": GREEN}
NOTES = ("Dot: the value. Bar: its 95 % interval.", "Where bars overlap, the difference may be chance.")


def rating_means(result: Mapping[str, Any], path: Path) -> Path:
    """Draw the mean of each criterion: a panel a criterion, a line an arm, a dot for each group of raters."""
    arms, groups = list(result["arms"]), groups_shown(result)
    lines = 0.3 + 0.17 * len(groups)
    height = 1.7 + len(CRITERIA) * (0.75 + lines * len(arms))
    figure = new_figure(WIDTH, height, "What raters gave each arm", *NOTES, "Scale: 0 to 100, higher is better.")
    for axes, metric in zip(figure.subplots(len(CRITERIA), sharex=True), CRITERIA, strict=True):
        _lines(axes, arms, metric.label)
        for place, group in enumerate(groups):
            means = result["groups"][group]["means"]
            scores = [means[arm].get(metric.key) for arm in arms]
            _dots(axes, scores, _offset(place, len(groups)), COLOURS[group])
        axes.set_xlim(-2, 102)
    _legend(figure.axes[0], groups)
    return save(figure, path)


def win_rates(result: Mapping[str, Any], path: Path) -> Path:
    """Draw each arm's chance to be preferred, a dot for each group of raters."""
    arms, groups = list(result["arms"]), groups_shown(result)
    height = 1.9 + (0.3 + 0.17 * len(groups)) * len(arms)
    figure = new_figure(WIDTH, height, "Whose replies are preferred", *NOTES, "Dashed: even, 0.5.")
    found = {group: result["groups"][group]["win_rates"] for group in groups}
    if not any(found.values()):
        return say(figure, "Nobody has chosen between two replies yet.", path)
    axes = figure.subplots()
    _lines(axes, arms, WIN_RATE.label)
    for place, group in enumerate(groups):
        rates = found[group]
        scores = [rates[arm]["win_rate"] if rates else None for arm in arms]
        _dots(axes, scores, _offset(place, len(groups)), COLOURS[group])
    axes.axvline(0.5, color=INK, linewidth=1, linestyle="--")
    axes.set_xlim(-0.02, 1.02)
    _legend(axes, groups)
    return save(figure, path)


def agreement(result: Mapping[str, Any], path: Path) -> Path:
    """Draw Krippendorff's alpha of each criterion over all raters, beside the lowest that carries a conclusion."""
    alphas = {name: found["alpha"] for name, found in result["groups"][EVERYBODY]["agreement"].items()}
    figure = new_figure(
        WIDTH,
        2.1 + 0.4 * len(alphas),
        "How far raters agree",
        NOTES[0],
        f"Dashed: {LOW}; below, little can be said.",
        "No dot: too few were rated twice, or all alike.",
    )
    if not any(alphas.values()):
        return say(figure, "Nothing is known: none rated twice, or all alike.", path)
    axes = figure.subplots()
    _lines(axes, [name.capitalize() for name in alphas], "Krippendorff's alpha, 1 is full agreement")
    _dots(axes, list(alphas.values()), 0.0, BLUE)
    axes.axvline(LOW, color=INK, linewidth=1, linestyle="--")
    axes.set_xlim(min([0.0, *(alpha["value"] for alpha in alphas.values() if alpha)]) - 0.1, 1.05)
    return save(figure, path)


def _lines(axes: Axes, names: Sequence[str], title: str) -> None:
    frame(axes, "", "")
    axes.grid(axis="y", visible=False)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_yticks(range(len(names)), [_shortened(name) for name in names], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _dots(axes: Axes, scores: Sequence[Mapping[str, Any] | None], offset: float, colour: str) -> None:
    for line, score in enumerate(scores):
        if score is None:
            continue
        low, high = score.get("ci95") or (score["value"], score["value"])
        axes.plot([low, high], [line + offset] * 2, color=colour, linewidth=3, solid_capstyle="butt", alpha=0.6)
        axes.plot([score["value"]], [line + offset], "o", color=colour, markersize=5.5)


def _offset(place: int, count: int) -> float:
    """Return how far below an arm's name a group's dot stands: nearer than the next arm's."""
    return 0.18 * (place - (count - 1) / 2)


def _legend(axes: Axes, groups: Sequence[str]) -> None:
    """Say whose dots have which colour, between the first panel and its title."""
    if len(groups) < 2:
        return
    marks = [axes.plot([], [], "o-", color=COLOURS[group], label=group)[0] for group in groups]
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=11, fontweight="bold", color=INK, pad=24)
    axes.legend(
        handles=marks,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0,
        borderpad=0.3,
        ncols=len(groups),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.0,
    )


def _shortened(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
