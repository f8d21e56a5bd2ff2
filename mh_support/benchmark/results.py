"""What the measurements come to: medians with their spread, whether the losses agree, tables and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes

from mh_support.benchmark.generation import SAMPLED, WAYS
from mh_support.benchmark.preparation import SETTLED
from mh_support.benchmark.profile import PRODUCTS
from mh_support.benchmark.serving import WAYS as SERVING_WAYS
from mh_support.benchmark.training import ARMS, TrainingSetup, needed_operations
from mh_support.data.report import table
from mh_support.drawing import AMBER, BLUE, GREEN, GREY, frame, new_figure, save
from mh_support.extras import how_to_install

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
    """Return each way's seconds, and how many of its greedy replies are the pipeline's to the letter."""
    expected = found["pipeline"][0]["replies"]
    summary = {}
    for way, runs in found.items():
        texts = runs[0]["replies"]
        same = sum(ours == theirs for ours, theirs in zip(texts, expected, strict=True))
        summary[way] = {
            "label": WAYS[way],
            "seconds": _spread([run["seconds"] for run in runs]),
            "compared_with": SAMPLED[0] if way in SAMPLED else "pipeline",
            "same_text": None if way in SAMPLED else same,
            "replies": len(texts),
            "peak_memory": max(run["peak_memory"] for run in runs),
        }
    return summary


def summarise_serving(
    found: dict[str, list[dict[str, Any]]], perplexities: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """Return each way's figures by the number of people who are served at once."""
    summary = {}
    for way, runs in found.items():
        streams = {
            count: {
                name: _spread([run["streams"][count][name] for run in runs])
                for name in ("first_seconds", "tokens_per_second")
            }
            for count in runs[0]["streams"]
        }
        summary[way] = {
            "label": SERVING_WAYS[way],
            "streams": streams,
            "perplexity": perplexities[way],
            "peak_memory": max(run["peak_memory"] for run in runs),
        }
    return summary


def summarise_scaling(found: dict[str, list[dict[str, Any]]], setup: TrainingSetup) -> dict[str, dict[str, Any]]:
    """Return the figures by the number of processes; their losses are held against those of the first number."""
    tokens = sum(setup.lengths[setup.batch_size :])
    reference = next(iter(found.values()))
    summary = {}
    for count, runs in found.items():
        difference = _difference(runs, reference)
        summary[count] = {
            "tokens_per_second": _spread([tokens / sum(run["seconds"]) for run in runs]),
            "peak_memory": max(run["peak_memory"] for run in runs),
            "losses": runs[0]["losses"],
            "loss_difference": difference,
            "same_losses": difference <= SAME_LOSS,
        }
    return summary


def tables(results: dict[str, Any]) -> str:
    """Return the results as tables to print."""
    parts = [_training_table(results["training"])] if "training" in results else []
    if results.get("profile"):
        parts.append(_profile_table(results["profile"]))
    if "generation" in results:
        parts.append(_generation_table(results["generation"]))
    if "serving" in results:
        parts.append(_serving_table(results["serving"]))
    if "scaling" in results:
        parts.append(_scaling_table(results["scaling"]))
    lines = []
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


def _profile_table(profile: dict[str, Any]) -> str:
    rows = [("where a step's time goes", *(ARMS[name].label for name in profile))]
    for group in next(iter(profile.values()))["groups"]:
        rows.append((group, *(f"{each['groups'][group] / each['seconds']:.0%}" for each in profile.values())))
    made = [
        each["operations"] / each["groups"][PRODUCTS] / each["matmul_rate"] if each["groups"][PRODUCTS] else 0.0
        for each in profile.values()
    ]
    rows.append((f"the {PRODUCTS} run at, of the matmul rate", *(f"{share:.0%}" for share in made)))
    return table(rows)


def _generation_table(generation: dict[str, Any]) -> str:
    rows = [("generation", "seconds", "least to most", "times", "same text", "peak")]
    for each in generation.values():
        seconds, first = each["seconds"], generation[each["compared_with"]]["seconds"]["median"]
        same = "-" if each["same_text"] is None else f"{each['same_text']} of {each['replies']}"
        times = f"{first / seconds['median']:.1f}"
        rows.append((each["label"], f"{seconds['median']:.1f}", _range(seconds), times, same, _gb(each["peak_memory"])))
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


def _serving_table(serving: dict[str, Any]) -> str:
    rows = [
        ("serving", "at once", "first word, ms", "least to most", "tokens/s", "least to most", "perplexity", "peak")
    ]
    for each in serving.values():
        for count, figures in each["streams"].items():
            first = {name: 1000 * value for name, value in figures["first_seconds"].items()}
            speed = figures["tokens_per_second"]
            rows.append(
                (
                    each["label"],
                    count,
                    f"{first['median']:.0f}",
                    _range(first),
                    f"{speed['median']:.1f}",
                    _range(speed),
                    f"{each['perplexity']:.2f}",
                    _gb(each["peak_memory"]),
                )
            )
    notes = "perplexity: of dialogues of the data to the starter, run the same way."
    missing = [label for way, label in SERVING_WAYS.items() if way.startswith("ctranslate2") and way not in serving]
    if missing:
        notes += f"\nleft out: {'; '.join(missing)}. CTranslate2 is not installed; {how_to_install('benchmark')}"
    return f"{table(rows)}\n\n{notes}"


def _scaling_table(scaling: dict[str, Any]) -> str:
    rows = [("processes", "real tokens/s", "least to most", "times", "losses", "peak")]
    first = next(iter(scaling.values()))["tokens_per_second"]["median"]
    for count, each in scaling.items():
        speed = each["tokens_per_second"]
        same = f"{each['loss_difference']:.1e}" if each["same_losses"] else "OTHERS: does not count"
        times = f"{speed['median'] / first:.2f}"
        rows.append((count, f"{speed['median']:.1f}", _range(speed), times, same, _gb(each["peak_memory"])))
    return table(rows)


def _range(spread: dict[str, float]) -> str:
    return f"{spread['least']:.1f} to {spread['most']:.1f}"


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
        places = [len(training) - row + offset for row in range(len(training))]
        _bars(axes, places, [each[key] for each in training.values()], height=0.38, color=colour, label=label)
    axes.set_yticks([len(training) - row for row in range(len(training))], [e["label"] for e in training.values()])
    axes.legend(frameon=False)
    return save(figure, path)


def draw_generation(generation: dict[str, Any], path: Path) -> Path:
    """Draw the seconds that all replies take, a bar each with its spread."""
    notes = "Seconds, lower is better. Lines: least to most over the repeats."
    figure = new_figure(10, 1.6 + 0.5 * len(generation), "Replying to all prompts, a model of GPT-2's size", notes)
    axes = figure.subplots()
    frame(axes, "Seconds", "")
    places = list(range(len(generation), 0, -1))
    _bars(axes, places, [each["seconds"] for each in generation.values()], height=0.6, color=BLUE)
    axes.set_yticks(places, [each["label"] for each in generation.values()])
    return save(figure, path)


def draw_serving(serving: dict[str, Any], path: Path) -> Path:
    """Draw tokens a second by how many are served at once, a bar each with its spread."""
    notes = "Tokens a second of all together, higher is better. Lines: least to most over the repeats."
    counts = list(next(iter(serving.values()))["streams"])
    height = 0.8 / len(counts)
    figure = new_figure(10, 1.6 + 0.7 * len(serving), "Replies streamed at once, a model of GPT-2's size", notes)
    axes = figure.subplots()
    frame(axes, "Tokens a second", "")
    for number, count in enumerate(counts):
        offset = (len(counts) - 1 - 2 * number) * height / 2
        places = [len(serving) - row + offset for row in range(len(serving))]
        speeds = [each["streams"][count]["tokens_per_second"] for each in serving.values()]
        colour = (AMBER, BLUE, GREEN)[number % 3]
        _bars(axes, places, speeds, height=height, color=colour, label=f"{count} at once")
    axes.set_yticks([len(serving) - row for row in range(len(serving))], [e["label"] for e in serving.values()])
    axes.legend(frameon=False)
    return save(figure, path)


def _bars(axes: Axes, places: Sequence[float], spreads: Sequence[dict[str, float]], **style: Any) -> None:
    """Draw lying bars of the medians, with lines from the least to the most."""
    middle = [spread["median"] for spread in spreads]
    lines = [[m - s["least"] for m, s in zip(middle, spreads, strict=True)]]
    lines.append([s["most"] - m for m, s in zip(middle, spreads, strict=True)])
    axes.barh(places, middle, xerr=lines, ecolor=GREY, **style)
