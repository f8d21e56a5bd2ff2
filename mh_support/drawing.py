"""What every picture shares: colours, title, notes, and how it is saved. pyplot's global state is not used."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mh_support.files import replacing

# Okabe and Ito's palette, told apart by people with any colour vision (jfly.uni-koeln.de/color).
BLUE, AMBER, GREEN, INK, GREY = "#0072B2", "#E69F00", "#009E73", "#222222", "#6B6B6B"
DOTS_PER_INCH = 150


def new_figure(width: float, height: float, title: str, *notes: str) -> Figure:
    """Return an empty figure, `width` by `height` inches, with a title above and notes below what will be drawn."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    figure.suptitle(title, x=0.015, ha="left", fontsize=14, fontweight="bold", color=INK)
    note(figure, *notes)
    return figure


def note(figure: Figure, *lines: str) -> None:
    """Write `lines` below the picture, in place of any notes there."""
    figure.supxlabel("\n".join(lines), x=0.015, ha="left", fontsize=9, color=GREY)


def frame(axes: Axes, x_label: str, y_label: str) -> None:
    """Give `axes` a quiet frame, a grid and labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=10)
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)


def save(figure: Figure, path: Path) -> Path:
    """Save a figure as a PNG, whole or not at all; the same figure always gives the same bytes."""
    with replacing(path) as draft:
        figure.savefig(draft, format="png", facecolor="white", metadata={"Software": None})
    return Path(path)


def say(figure: Figure, text: str, path: Path) -> Path:
    """Save a picture that says in words why there is nothing to draw."""
    note(figure)
    figure.set_figheight(2.4)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=13, color=INK)
    return save(figure, path)
