"""The model card, written from a run folder's own files alone, and the checks a run must pass to be published."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FunctionLoader, StrictUndefined

from mh_support.bias.report import bias_lines, verdicts
from mh_support.data.report import EDITS, FATES
from mh_support.files import read_json
from mh_support.generation import DECODING
from mh_support.rating.preferences import DASH
from mh_support.rating.questions import CRITERIA, QUALIFICATIONS, WIN_RATE
from mh_support.readability import reading_grade
from mh_support.safety.fitness import checks_fingerprint
from mh_support.safety.measure_replies import HARMFUL
from mh_support.scores import METRICS, ROWS, show_p

PUBLISHED = ("perplexity", "rouge1", "rouge2", "rougeL", "bleu", "bleu2")  # What model-index tells the Hub.
# Of some hundred and fifty arguments, those a reader needs to train the same model. None holds a path or an account.
TOLD = (
    *("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "world_size"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "weight_decay", "max_grad_norm"),
    *("label_smoothing_factor", "neftune_noise_alpha", "beta", "loss_type", "max_length", "long_inputs"),
    *("completion_only_loss", "train_sampling_strategy", "eval_steps", "early_stopping_patience"),
    *("load_best_model_at_end", "metric_for_best_model", "seed", "split_seed", "shipped_splits"),
    *("near_duplicates", "lowercase", "max_samples"),
)
LOSS_LINES = 10
LOCAL_PATH = re.compile(r"[/~.]|[A-Za-z]:|.*\\|.*\.(csv|tsv|jsonl?|parquet)$", re.IGNORECASE)
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
HUB_DATASET = re.compile(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)")


def write_card(
    run_dir: Path,
    repo_id: str,
    *,
    merged: bool = False,
    base_repo: str | None = None,
    accept_bias: str | None = None,
    license: str | None = None,
) -> str:
    """Return the model card of a run, front matter and text, for the repository `repo_id` on the Hub.

    Everything in it comes from `run.json`, `data_report.json`, `results.json`, `ratings.json`, `bias.json`,
    `emissions.json` and `log_history.json` in `run_dir`; only the first is needed, and what the others would tell is
    left out or said to be not measured. Paths on this machine never enter the card.

    Args:
        run_dir: the run folder.
        repo_id: where the model will stand, such as `me/kind-gpt2`.
        merged: whether a LoRA adapter is published as a full model, merged into its base.
        base_repo: the Hub id of the base model, where the run started from a local copy of it.
        accept_bias: why the model is published although bias was found.
        license: what the weights are published under, where it is not what `run.json` says.

    Raises:
        ValueError: `run.json` is missing or lacks a part, a score is not a finite number, or `repo_id` is not an id.

    Example:
        >>> text = write_card(Path("runs/latest"), "me/kind-gpt2")  # doctest: +SKIP
    """
    validate_repo_id(repo_id)
    run_dir = Path(run_dir)
    run, results, emissions = _read_run(run_dir), _read_results(run_dir), _read(run_dir, "emissions.json")
    bias = _read_bias(run_dir)
    if base_repo is not None:
        run["base_model"] |= {"name": base_repo, "on_hub": True}
    if license is not None:
        run["license"] = license
    adapter = run["method"]["kind"] == "lora" and not (merged or run["method"].get("merged", False))
    if emissions is not None:
        emissions["grams"] = float(f"{1000 * emissions['kg_co2eq']:.4g}")  # More digits would pretend to know.
    card = _render(
        "model.md",
        repo_id,
        front_matter=_front_matter(run, results, emissions, repo_id, adapter).to_yaml(),
        run=run,
        adapter=adapter,
        decoding=", ".join(f"{key}={value}" for key, value in DECODING.items()),
        arguments={key: run["arguments"][key] for key in TOLD if key in run["arguments"]},
        report=_read(run_dir, "data_report.json") or {},
        losses=_losses(_read(run_dir, "log_history.json") or []),
        results=results or {"splits": {}},
        ratings=_read(run_dir, "ratings.json"),
        rating={"criteria": CRITERIA, "win_rate": WIN_RATE, "dash": DASH, "qualifications": QUALIFICATIONS},
        gate=_read(run_dir, "gate.json"),
        emissions=emissions,
        bias=bias,
        bias_lines=[] if bias is None else bias_lines(bias),
        bias_verdicts={} if bias is None else verdicts(bias),
        accept_bias=accept_bias,
        metrics=METRICS,
        labels={"rows": ROWS, "fates": FATES, "edits": EDITS},
    )
    ModelCard(card)  # Loads it as the Hub's own client will, and raises where that would.
    return card


def render_space_readme(repo_id: str, model_id: str) -> str:
    """Return the README of a Gradio Space at `repo_id` that serves the model `model_id`.

    Raises:
        ValueError: one of them is not an id.
    """
    validate_repo_id(repo_id)
    validate_repo_id(model_id)
    return _render("space.md", repo_id, model_id=model_id)


def render_dataset_card(
    repo_id: str, rows: Sequence[Mapping[str, Any]], *, splits: Mapping[str, int] | None = None
) -> str:
    """Return the data card of the sample dialogues: counts, topics, strategies and reading level come from `rows`.

    Args:
        repo_id: what `load_dataset` is to be given: a Hub id, or a folder in a folder.
        rows: every dialogue.
        splits: how many of them each file beside the card holds, as `{"train": 490}` for a `train.jsonl`.

    Raises:
        ValueError: there are no rows, `splits` do not add up to them, or `repo_id` is not an id.
    """
    validate_repo_id(repo_id)
    if not rows:
        raise ValueError("there are no dialogues to describe; give the rows of the sample dialogues")
    if splits is not None and sum(splits.values()) != len(rows):
        raise ValueError(
            f"the splits hold {sum(splits.values())} dialogues and {len(rows)} are given; give all of them"
        )
    turns = [message for row in rows for message in row["messages"]]
    said = "\n".join(message["content"] for message in turns if message["role"] == "assistant")
    return _render(
        "dataset.md",
        repo_id,
        rows=rows,
        turns=turns,
        splits=splits,
        grade=reading_grade(said) if said.strip() else None,
        ages=[row["age"] for row in rows if row.get("age") is not None],
        topics=Counter(row["topic"] for row in rows if row.get("topic")).most_common(),
        strategies=Counter(strategy for row in rows for strategy in row.get("strategies", [])).most_common(),
    )


def render_starter_card(training: Mapping[str, Any]) -> str:
    """Return the starter's card from what `pretrain` counted, as its `training.json` holds it."""
    return _render("starter.md", "mh-support/starter", training=training)


def check_publishable(run_dir: Path, weights_sha256: str, *, accept_bias: str | None = None) -> None:
    """Check that a run's scores belong to its weights, are not leaked and stand beside baselines, and its bias.

    A run that learned from harmful replies, or from simulated people, is never published.

    Args:
        run_dir: the run folder.
        weights_sha256: the fingerprint of the weights that are about to be published.
        accept_bias: why findings of bias are accepted; a run whose bias was not measured has none.

    Raises:
        ValueError: the first of these that does not hold, in one line that says what to do.
    """
    run_dir = Path(run_dir)
    run, results, again = _read_run(run_dir), _read_results(run_dir), f"run recipes/score.py {run_dir}"
    harmful = sorted({source["name"] for source in run["data"]["sources"]} & set(HARMFUL))
    if harmful:
        raise ValueError(
            f"{run_dir} learned from {harmful[0]}, replies that harm people and only test the reply check; it is never "
            "published: train on other data"
        )
    if run.get("alignment", {}).get("simulated", False):
        raise ValueError(
            f"{run_dir} learned from simulated people, to try learning out; it is never published: learn from people"
        )
    if results is None:
        raise ValueError(f"{run_dir} has no results.json; {again} before publishing")
    if run["fingerprints"].get("weights", weights_sha256) != weights_sha256:
        raise ValueError(f"run.json was written for other weights than the model's {weights_sha256[:12]}; train again")
    if results.get("weights") != weights_sha256:
        scored = results.get("weights", "unnamed ones")[:12]
        raise ValueError(f"results.json is stale: it scored {scored}, the weights are {weights_sha256[:12]}; {again}")
    if results.get("data") != run["fingerprints"].get("data"):
        raise ValueError(f"results.json was scored on other data than the run was trained on; {again}")
    leakage = results.get("leakage", {})
    if not leakage.get("checked") or "shared_questions" not in leakage:
        raise ValueError(f"results.json does not say whether test questions stand in training too; {again}")
    if leakage["shared_questions"] > 0:
        raise ValueError(
            f"{leakage['shared_questions']} held-out dialogues ask a question of another split; split by question and "
            "train again"
        )
    rows = set(results["splits"].get("test", {}).get("rows", {}))
    if "tuned" not in rows:
        raise ValueError(f"results.json does not score the fine-tuned model on the test split; {again}")
    if "base" not in rows or not rows & {"constant", "random", "nearest", "human"}:
        others = "needs base, and constant, random, nearest or human"
        raise ValueError(f"results.json has no baselines beside the fine-tuned model ({others}); {again}")
    ratings = _read(run_dir, "ratings.json")
    if ratings is not None and ratings.get("weights") != weights_sha256:
        rated = ratings.get("weights", "unnamed ones")[:12]
        raise ValueError(
            f"ratings.json is stale: people rated {rated}, the weights are {weights_sha256[:12]}; move it away, or "
            "have the replies of these weights rated with recipes/rate.py"
        )
    _check_bias(run_dir, weights_sha256, accept_bias)


def _check_bias(run_dir: Path, weights_sha256: str, accept_bias: str | None) -> None:
    bias, again = _read_bias(run_dir), f"run recipes/score.py {run_dir} --bias_alone true"
    if bias is None:
        if accept_bias is not None:
            raise ValueError(f"--accept_bias has nothing to accept: no bias was measured; leave it out, or {again}")
        return
    for what, now in (("weights", weights_sha256), ("checks", checks_fingerprint())):
        if bias[what] != now:
            raise ValueError(
                f"bias.json is stale: it is of {what} {bias[what][:12]}, which are {now[:12]} now; {again}, or delete "
                "it and the card will say that bias was not measured"
            )
    found = [finding["line"] for finding in bias["findings"]]
    if found and accept_bias is None:
        more = f", and {len(found) - 1} more in bias.json" if len(found) > 1 else ""
        raise ValueError(
            f"bias was found outside the bounds: {found[0]}{more}; mend it, or publish with --accept_bias and the "
            "reason, which the card will show"
        )
    if accept_bias is not None and not found:
        raise ValueError("--accept_bias has nothing to accept: no bias was found outside the bounds; leave it out")


def _read(run_dir: Path, name: str) -> Any:
    return _without_nulls(read_json(run_dir / name)) if (run_dir / name).exists() else None


def _without_nulls(value: Any) -> Any:
    """Leave out what is null at any depth, so that a template asks one question only: is it defined?"""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _read_run(run_dir: Path) -> dict[str, Any]:
    """Read `run.json`, with what it says about base model and sources made fit to be shown."""
    run = _read(run_dir, "run.json")
    if run is None:
        raise ValueError(f"{run_dir} has no run.json; give a run folder that recipes/finetune.py has made")
    missing = {"base_model", "method", "arguments", "data", "versions", "fingerprints"} - set(run)
    if missing:
        raise ValueError(f"{run_dir / 'run.json'} lacks {', '.join(sorted(missing))}; train again with this version")
    base = run["base_model"]
    base["on_hub"] = not base["is_local"] and base["name_or_path"] != "starter"
    base["name"] = _last_part(base["name_or_path"]) if base["is_local"] else base["name_or_path"]
    run["data"]["sources"] = [_source(source) for source in run["data"]["sources"]]
    return run


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data source, with a Hub id where it has one, and a name that shows no folder of this machine."""
    name, page = source["name"], HUB_DATASET.match(source.get("url", ""))
    if page is None and LOCAL_PATH.match(name):
        return dict(source) | {"name": _last_part(name)}
    hub_id = page[1] if page else name if HUB_ID.fullmatch(name) else None
    return dict(source) if hub_id is None else dict(source) | {"hub_id": hub_id}


def _read_results(run_dir: Path) -> dict[str, Any] | None:
    results = _read(run_dir, "results.json")
    for split, scored in (results or {"splits": {}})["splits"].items():
        for row, scores in scored["rows"].items():
            for key, score in scores.items():
                for number in (score.get("value"), *score.get("ci95", ())):
                    if number is None or not math.isfinite(number):
                        raise ValueError(
                            f"results.json: {key} of {row} on {split} is {number}, not a finite number; "
                            f"run recipes/score.py {run_dir}"
                        )
    return results


def _read_bias(run_dir: Path) -> dict[str, Any] | None:
    bias = _read(run_dir, "bias.json")
    missing = {"weights", "checks", "settings", "routing", "replies", "descriptors", "findings"} - set(bias or ())
    if bias is not None and missing:
        raise ValueError(
            f"bias.json lacks {', '.join(sorted(missing))}; run recipes/score.py {run_dir} --bias_alone true"
        )
    return None if bias is None else dict(bias)


def _losses(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return training and validation loss at up to ten evaluations spread over the run, the last one included."""
    found, train = [], None
    for entry in sorted(log_history, key=lambda entry: entry.get("step", 0)):
        train = entry.get("loss", train)
        if "eval_loss" in entry:
            found.append(_without_nulls({**entry, "loss": train}))
    return found[:: -(math.ceil(len(found) / LOSS_LINES) or 1)][::-1]


def _front_matter(
    run: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    emissions: Mapping[str, Any] | None,
    repo_id: str,
    adapter: bool,
) -> ModelCardData:
    base = run["base_model"]
    scores = _eval_results(results, run["data"]["sources"])
    carbon = emissions and {
        "emissions": emissions["grams"],
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "geographical_location": emissions.get("country_iso_code"),
        "hardware_used": run.get("device"),
    }
    return ModelCardData(
        language="en",
        license=run.get("license", "other"),
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=base["name"] if base["on_hub"] else None,
        base_model_relation=("adapter" if adapter else "finetune") if base["on_hub"] else None,
        tags=[
            "conversational",
            "emotional-support",
            "mental-health",
            "mh-support",
            *(["lora"] if run["method"]["kind"] == "lora" else []),
        ],
        datasets=[source["hub_id"] for source in run["data"]["sources"] if "hub_id" in source] or None,
        co2_eq_emissions=_without_nulls(carbon),
        model_name=repo_id.split("/")[-1] if scores else None,
        eval_results=scores or None,
    )


def _eval_results(results: Mapping[str, Any] | None, sources: Sequence[Mapping[str, Any]]) -> list[EvalResult]:
    tuned = (results or {"splits": {}})["splits"].get("test", {}).get("rows", {}).get("tuned", {})
    names = ", ".join(source["name"] for source in sources)
    hub_id = sources[0].get("hub_id") if len(sources) == 1 else None
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Supportive replies",
            dataset_type=re.sub(r"[^\w.-]+", "-", names).lower() if hub_id is None else hub_id,
            dataset_name=names,
            dataset_split="test",
            metric_type=metric.key,
            metric_name=metric.label + ("" if metric.key == "perplexity" else " (0 to 1)"),
            metric_value=float(tuned[metric.key]["value"]),
        )
        for metric in METRICS
        if metric.key in PUBLISHED and metric.key in tuned
    ]


def _template(name: str) -> str:
    """Return a text of the folder model_card, from the installed package or from the repository beside it."""
    try:
        folder = resources.files("mh_support.model_card")
    except ModuleNotFoundError:
        folder = Path(__file__).resolve().parents[1] / "model_card"
    return folder.joinpath(name).read_text(encoding="utf-8")


def _cell(value: Any) -> str:
    """Make a value harmless in a Markdown table: no bars, no line breaks."""
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").strip()


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.{1 if count < 1e8 else 0}f}"


def _render(template: str, repo_id: str, **values: Any) -> str:
    # Markdown, not HTML: nothing is escaped. What is not defined raises.
    jinja = Environment(
        loader=FunctionLoader(_template),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    jinja.filters |= {
        "cell": _cell,
        "number": "{:,}".format,
        "duration": _duration,
        "millions": _millions,
        "p_value": show_p,
    }
    text = jinja.get_template(template).render(repo_id=repo_id, name=repo_id.split("/")[-1], **values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
