"""What the measurements come to: medians with their spread, whether the losses agree, tables and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mh_support.benchmark.generation import WAYS
from mh_support.benchmark.preparation import SETTLED
from mh_support.benchmark.training import ARMS, TrainingSetup, needed_operations
from mh_support.data.report import table
from mh_support.drawing import AMBER, BLUE, GREY, frame, new_figure, save

# Two ways whose losses differ by more than this, relative, at any step do not train the same.
SAME_LOSS = 0.01
MANY_EPOCHS = 25


def summarise_training(found: dict[str, list[dict[str, Any]]], setup: TrainingSetup) -> dict[str, dict[str, Any]]:
    """Return each way's figures: medians over the repeats, with the least and the most."""
    tokens, every = sum(setup.lengths[setup.batch_size :]), sum(setup.lengths)
    summary = {}
    for name, runs in found.items():
        arm = ARMS[name]
        reference = next(other for other in found if ARMS[other].method == arm.method)
        # What the first pass takes for the tokens that the steps were measured on.
        fills = [run["fill_seconds"] * tokens / every for run in runs]
        steps = [sum(run["seconds"]) for run in runs]
        operations = needed_operations(arm, setup)
        difference = _difference(runs, found[reference])
        summary[name] = {
            "label": arm.label,
            "method": arm.method,
            "tokens_per_second": _spread([tokens / seconds for seconds in steps]),
            "one_epoch": _spread([tokens / (s + fill) for s, fill in zip(steps, fills, strict=True)]),
            "many_epochs": _spread(
                [MANY_EPOCHS * tokens / (MANY_EPOCHS * s + fill) for s, fill in zip(steps, fills, strict=True)]
            ),
            "share_of_matmul_rate": _spread(
                [operations / seconds / run["matmul_rate"] for seconds, run in zip(steps, runs, strict=True)]
            ),
            "matmul_rate": _spread([run["matmul_rate"] for run in runs]),
            "peak_memory": max(run["peak_memory"] for run in runs),
            "losses": runs[0]["losses"],
            "loss_difference": difference,
            "compared_with": reference,
            "same_losses": difference <= SAME_LOSS,
            "runs": runs,
        }
    return summary


def _difference(runs: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> float:
    pairs = [pair for run in runs for pair in zip(run["losses"], reference[0]["losses"], strict=True)]
    return max(abs(ours - theirs) / abs(theirs) for ours, theirs in pairs)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


def summarise_generation(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return each way's seconds, and how many of its replies are the pipeline's to the letter."""
    expected = found["pipeline"][0]["replies"]
    summary = {}
    for way, runs in found.items():
        texts = runs[0]["replies"]
        summary[way] = {
            "label": WAYS[way],
            "seconds": _spread([run["seconds"] for run in runs]),
            "same_text": sum(ours == theirs for ours, theirs in zip(texts, expected, strict=True)),
            "replies": len(texts),
            "peak_memory": max(run["peak_memory"] for run in runs),
        }
    return summary


def tables(results: dict[str, Any]) -> str:
    """Return the results as tables to print."""
    parts = [_training_table(results["training"])] if "training" in results else []
    if "generation" in results:
        parts.append(_generation_table(results["generation"]))
    lines = []
    if "serving" in results:
        serving = results["serving"]
        lines.append(
            f"serving: first word after {serving['first_piece_seconds'] * 1000:.0f} ms, "
            f"{serving['tokens_per_second']:.1f} tokens/s in one conversation"
        )
    if "import" in results:
        lines.append(f"import mh_support: {results['import']['seconds']:.3f} s")
    if "preparation" in results:
        parts.append(_preparation_table(results["preparation"]))
    return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])


def _training_table(training: dict[str, Any]) -> str:
    head = (
        "real tokens/s",
        "least to most",
        "1 epoch",
        f"{MANY_EPOCHS} epochs",
        "times",
        "of matmul",
        "peak",
        "losses",
    )
    rows = [("training", *head)]
    for each in training.values():
        reference = training[each["compared_with"]]
        speed = each["tokens_per_second"]
        same = f"{each['loss_difference']:.1e}" if each["same_losses"] else "OTHERS: does not count"
        rows.append(
            (
                each["label"],
                f"{speed['median']:.1f}",
                f"{speed['least']:.1f} to {speed['most']:.1f}",
                f"{each['one_epoch']['median']:.1f}",
                f"{each['many_epochs']['median']:.1f}",
                f"{each['many_epochs']['median'] / reference['many_epochs']['median']:.1f}",
                f"{each['share_of_matmul_rate']['median']:.0%}",
                _gb(each["peak_memory"]),
                same,
            )
        )
    notes = (
        f"{MANY_EPOCHS} epochs: worked out from the measured steps, the first pass over the frozen blocks counted "
        f"once. times: over {MANY_EPOCHS} epochs, against the first line of the same method.\n"
        "of matmul: the operations that the method needs on real tokens, against the machine's own bf16 matmul at the "
        "time. losses: largest relative difference of a step's loss from that first line's."
    )
    return f"{table(rows)}\n\n{notes}"


def _generation_table(generation: dict[str, Any]) -> str:
    rows = [("generation", "seconds", "least to most", "times", "same text", "peak")]
    first = generation["pipeline"]["seconds"]["median"]
    for each in generation.values():
        seconds = each["seconds"]
        spread = f"{seconds['least']:.1f} to {seconds['most']:.1f}"
        same = f"{each['same_text']} of {each['replies']}"
        times = f"{first / seconds['median']:.1f}"
        rows.append((each["label"], f"{seconds['median']:.1f}", spread, times, same, _gb(each["peak_memory"])))
    return table(rows)


def _preparation_table(preparation: Sequence[dict[str, Any]]) -> str:
    rows = [("preparing rows", "seconds", "rows/s", "CPU ms a row", "private", "of files", "bytes a row more", "kept")]
    for each in preparation:
        growth = each["growth_per_row"]
        rows.append(
            (
                f"{each['rows']:,}",
                f"{each['seconds']:.1f}",
                f"{each['rows'] / each['seconds']:.0f}",
                f"{each['cpu_seconds'] / each['rows'] * 1000:.2f}",
                _gb(each["private"]),
                _gb(each["files"]),
                "-" if growth is None else f"{growth:.0f}",
                f"{each['kept']:,}",
            )
        )
    notes = (
        "Peak memory of all processes, shared pages counted once: private, and of mapped files (Arrow's and the "
        f"libraries').\nbytes a row more: private memory against the size before, from {SETTLED:,} rows on."
    )
    return f"{table(rows)}\n\n{notes}"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def draw_training(training: dict[str, Any], path: Path) -> Path:
    """Draw real tokens a second over one and over many epochs, a bar each with its spread."""
    notes = "Real tokens a second, higher is better. Lines: least to most over the repeats."
    figure = new_figure(10, 1.6 + 0.62 * len(training), "Fine-tuning a model of GPT-2's size", notes)
    axes = figure.subplots()
    frame(axes, "Real tokens a second", "")
    for offset, key, colour, label in (
        (0.2, "one_epoch", AMBER, "one epoch"),
        (-0.2, "many_epochs", BLUE, f"{MANY_EPOCHS} epochs, worked out from the measured steps"),
    ):
        spreads = [each[key] for each in training.values()]
        middle = [spread["median"] for spread in spreads]
        lines = [[m - s["least"] for m, s in zip(middle, spreads, strict=True)]]
        lines.append([s["most"] - m for m, s in zip(middle, spreads, strict=True)])
        places = [len(spreads) - row + offset for row in range(len(spreads))]
        axes.barh(places, middle, height=0.38, color=colour, label=label, xerr=lines, ecolor=GREY)
    axes.set_yticks([len(training) - row for row in range(len(training))], [e["label"] for e in training.values()])
    axes.legend(frameon=False)
    return save(figure, path)
