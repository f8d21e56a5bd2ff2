"""Pictures of a run: losses, lengths of replies, scores, and the word clouds of `mh_support.word_clouds`."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from mh_support.bias.picture import bias_plot
from mh_support.drawing import AMBER, BLUE, GREEN, GREY, INK, frame, new_figure, note, save, say
from mh_support.files import read_json
from mh_support.scores import METRICS, ROWS, Metric
from mh_support.word_clouds import word_clouds

SMOOTHED_FROM = 40  # Fewer logged losses than this are easy to read as they are.
LENGTH_BARS = 30
SCORE_COLUMNS = 4  # More would be too small to read on a page.
COMPARED = {
    "base": ("Base model, before fine-tuning", AMBER),
    "tuned": ("Fine-tuned model, after", BLUE),
    "human": ("The reference replies", GREEN),
}


def loss_curves(log_history: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw training and validation loss over the steps of a run, and mark the lowest validation loss.

    Args:
        log_history: `Trainer.state.log_history`, entries with `step` and `loss` or `eval_loss` (nats a token). An entry
            logged again for the same step, as after a resume, replaces the earlier one.
        path: the PNG file to write.

    Example:
        >>> loss_curves([{"step": 10, "loss": 3.1}, {"step": 10, "eval_loss": 3.0}], Path("loss.png"))  # doctest: +SKIP
    """
    train, train_lost = _series(log_history, "loss")
    validation, validation_lost = _series(log_history, "eval_loss")
    notes = ["Lower is better. Validation loss that rises while training loss falls is a sign of memorising."]
    if not validation:
        notes = ["Lower is better. No validation loss was logged, so memorising cannot be seen here."]
    if train_lost + validation_lost:
        notes.append(f"Left out because they are not finite numbers: {train_lost + validation_lost}.")
    figure = new_figure(9, 5, "Loss on training and validation dialogues", *notes)
    if not train and not validation:
        return say(figure, "No loss was logged in this run.", path)
    axes = figure.subplots()
    frame(axes, "Training step (updates of the weights)", "Cross-entropy loss (nats a token)")
    if train:
        _draw_training(axes, train)
    if validation:
        axes.plot(
            list(validation), list(validation.values()), color=AMBER, marker="o", markersize=5, label="Validation"
        )
        best = min(validation, key=lambda step: validation[step])
        label = f"Lowest validation loss: {validation[best]:.3f} at step {best:,}"
        axes.plot([best], [validation[best]], "D", color=INK, markersize=9, markerfacecolor="none", label=label)
    steps = {*train, *validation}
    axes.xaxis.set_major_locator(FixedLocator([*steps]) if len(steps) == 1 else MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.03, y=0.12)
    axes.legend(frameon=False, fontsize=10)
    return save(figure, path)


def response_lengths(replies: Mapping[str, Sequence[str]], path: Path) -> Path:
    """Draw how long replies are, in words, one panel for each of `replies` on a shared axis.

    Args:
        replies: texts by who wrote them; `base`, `tuned` and `human` get their names, any other key stands as it is.
        path: the PNG file to write. The longest hundredth is counted in the last bar, and the picture says so.
    """
    lengths = {name: [len(text.split()) for text in texts] for name, texts in replies.items()}
    everything = sorted(length for values in lengths.values() for length in values)
    figure = new_figure(9, 1.4 + 1.7 * max(len(lengths), 1), "Length of the replies, before and after fine-tuning")
    if not everything:
        return say(figure, "There are no replies to measure.", path)
    longest = everything[math.ceil(0.99 * len(everything)) - 1]
    width = math.ceil((longest + 1) / LENGTH_BARS)
    bars = longest // width + 1
    panels = figure.subplots(len(lengths), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, lengths.items(), strict=True):
        _draw_lengths(axes, values, width, bars, *COMPARED.get(name, (name, GREY)))
    panels[-1].set_xlabel("Words a reply", color=INK)
    panels[-1].set_xlim(-0.5, bars * width - 0.5)
    beyond = sum(length >= bars * width for length in everything)
    gathered = f" Longer than {bars * width - 1:,} words, counted in the last bar: {beyond:,}." if beyond else ""
    note(figure, "The dashed line is the median." + gathered)
    return save(figure, path)


def score_table(results: Mapping[str, Any], path: Path, split: str = "test") -> Path:
    """Draw the scores of `split` in `results.json`: a panel a metric, a line a row, each with its 95 % interval.

    No best value is set apart, since intervals that overlap do not tell which row is better.

    Raises:
        ValueError: the results hold no such split.
    """
    if split not in results["splits"]:
        raise ValueError(f"the results hold no split {split!r}; the splits are {', '.join(results['splits'])}")
    scored = results["splits"][split]
    names = [name for name in ROWS if name in scored["rows"]]
    metrics = [metric for metric in METRICS if any(metric.key in scored["rows"][name] for name in names)]
    columns = max(1, min(len(metrics), SCORE_COLUMNS))
    lines = max(1, math.ceil(len(metrics) / columns))
    figure = new_figure(
        2 + 2.7 * max(columns, 3),
        1.4 + lines * (0.8 + 0.52 * max(len(names), 1)),
        f"Replies to the {split} dialogues, scored",
        f"Replies scored: {scored['items']:,}. Reference replies they are compared with: {scored['references']:,}.",
        "Dot: the score. Bar: its 95 % interval. Where bars overlap, the difference may be chance.",
    )
    if not metrics:
        return say(figure, "There are no scores to show.", path)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for place, axes in enumerate(panels.flat):
        if place >= len(metrics):
            axes.set_axis_off()
            continue
        _draw_metric(axes, metrics[place], {name: scored["rows"][name].get(metrics[place].key) for name in names})
        axes.set_yticks(range(len(names)), [ROWS[name] for name in names], color=INK)
        axes.tick_params(axis="y", length=0, labelleft=place % columns == 0)
    panels[0, 0].set_ylim(len(names) - 0.45, -0.55)
    return save(figure, path)


def save_plots(run_dir: Path, results: Mapping[str, Any] | None = None, split: str = "test") -> list[Path]:
    """Make every picture that the files of `run_dir` allow, into `run_dir/plots`, and return their paths.

    Args:
        run_dir: a run folder; `log_history.json`, `replies.jsonl`, `data/train.jsonl`, `results.json` and
            `bias.json` are read.
        results: scores already in memory, instead of `results.json`.
        split: which split's replies and scores to draw.

    Raises:
        ValueError: the folder holds none of these files, or one of them cannot be read.
    """
    run_dir, made = Path(run_dir), []
    plots = run_dir / "plots"
    if (run_dir / "log_history.json").exists():
        made.append(loss_curves(read_json(run_dir / "log_history.json"), plots / "loss_curves.png"))
    if (run_dir / "replies.jsonl").exists():
        made.append(
            response_lengths(_compared_replies(run_dir / "replies.jsonl", split), plots / "response_lengths.png")
        )
    if (run_dir / "data" / "train.jsonl").exists():
        dialogues = [row["messages"] for row in _rows(run_dir / "data" / "train.jsonl")]
        made += word_clouds([_said(d, "user") for d in dialogues], [_said(d, "assistant") for d in dialogues], plots)
    if results is None and (run_dir / "results.json").exists():
        results = read_json(run_dir / "results.json")
    if results is not None:
        made.append(score_table(results, plots / f"scores_{split}.png", split))
    if (run_dir / "bias.json").exists():
        made.append(bias_plot(read_json(run_dir / "bias.json"), plots / "bias.png"))
    if not made:
        raise ValueError(f"{run_dir} holds nothing to draw; give a run folder that recipes/finetune.py has made")
    return made


def _series(log_history: Iterable[Mapping[str, Any]], key: str) -> tuple[dict[int, float], int]:
    """Return the finite values of `key` by step in the order of the steps, and how many were not finite."""
    values = {int(entry["step"]): float(entry[key]) for entry in log_history if key in entry and "step" in entry}
    finite = {step: values[step] for step in sorted(values) if math.isfinite(values[step])}
    return finite, len(values) - len(finite)


def _draw_training(axes: Axes, train: dict[int, float]) -> None:
    steps, losses = list(train), list(train.values())
    if len(train) < SMOOTHED_FROM:
        axes.plot(steps, losses, color=BLUE, marker="o", markersize=4, label="Training")
        return
    half = max(2, len(losses) // 40)
    smooth = [statistics.fmean(losses[max(0, i - half) : i + half + 1]) for i in range(len(losses))]
    axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=0.9, label="Training, as logged")
    axes.plot(steps, smooth, color=BLUE, linewidth=2, label=f"Training, mean of {2 * half + 1} entries")


def _draw_lengths(axes: Axes, values: Sequence[int], width: int, bars: int, label: str, colour: str) -> None:
    """Draw one panel: bars over `width` whole numbers of words each, the last one holding all that is longer."""
    frame(axes, "", "Share of replies")
    axes.set_title(label, loc="left", fontsize=11, color=INK)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    if not values:
        axes.text(0.5, 0.5, "no replies", transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    counts = Counter(min(length // width, bars - 1) for length in values)
    starts = [bar * width - 0.5 for bar in range(bars)]
    shares = [counts[bar] / len(values) for bar in range(bars)]
    axes.bar(starts, shares, width=width, align="edge", color=colour, edgecolor="white", linewidth=0.6)
    median = statistics.median(values)
    axes.axvline(min(median, bars * width - 0.5), color=INK, linewidth=1.4, linestyle="--")
    count = f"{len(values):,} {'reply' if len(values) == 1 else 'replies'}"
    axes.set_title(
        f"median {median:g} {'word' if median == 1 else 'words'}, {count}", loc="right", fontsize=10, color=GREY
    )


def _draw_metric(axes: Axes, metric: Metric, scores: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Draw one metric's panel: a line a row with its value in figures above a dot and the bar of its interval."""
    frame(axes, "", "")
    axes.grid(color="#ECECEC", linewidth=0.6)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_title(metric.label, fontsize=11, fontweight="bold", color=INK, pad=18)
    axes.text(0.5, 1.02, metric.reading, transform=axes.transAxes, ha="center", va="bottom", fontsize=9, color=GREY)
    across = axes.get_yaxis_transform()
    for line, (name, score) in enumerate(scores.items()):
        if name == "tuned":
            axes.axhspan(line - 0.5, line + 0.5, color=BLUE, alpha=0.08, linewidth=0, zorder=0)
        if score is None:
            axes.text(0.5, line, "does not apply", transform=across, ha="center", va="center", fontsize=9, color=GREY)
            continue
        colour = COMPARED[name][1] if name in COMPARED else GREY
        axes.text(0.5, line - 0.22, metric.show(score), transform=across, ha="center", va="center", fontsize=9)
        low, high = score.get("ci95") or (score["value"], score["value"])
        axes.plot([low, high], [line + 0.2] * 2, color=colour, linewidth=3, solid_capstyle="butt", alpha=0.6)
        axes.plot([score["value"]], [line + 0.2], "o", color=colour, markersize=5.5)
    axes.tick_params(axis="x", labelsize=9)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.1)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                # From None: the decoder's error carries the line, which is what a person wrote.
                raise ValueError(f"{path}, line {number}, is not JSON; make the file again") from None


def _said(messages: Iterable[Mapping[str, str]], role: str) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] == role)


def _compared_replies(path: Path, split: str) -> dict[str, list[str]]:
    compared: dict[str, list[str]] = {name: [] for name in COMPARED}
    for row in _rows(path):
        if row["split"] == split:
            compared["human"] += row["references"]
            for name in ("base", "tuned"):
                if name in row["replies"]:
                    compared[name].append(row["replies"][name])
    return compared
