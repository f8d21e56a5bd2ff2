"""The card: the whole of it to the letter, its front matter, its warnings, and what stops a run from being published.

After a change that is meant, write the golden file anew with `python tests/test_card.py` and read the difference.
"""

from __future__ import annotations

import ast
import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, ModelCardData, SpaceCard

from mh_support import card
from mh_support.card import METRICS, check_publishable, render_dataset_card, render_space_readme, write_card
from mh_support.safety.fitness import checks_fingerprint

GOLDEN = Path(__file__).parent / "golden" / "model_card.md"
WEIGHTS = "5eed" * 16
DATA = "da7a" * 16

RUN: dict[str, Any] = {
    "format": 1,
    "created": "2026-03-01T10:00:00+00:00",
    "finished": "2026-03-01T10:40:00+00:00",
    "base_model": {
        "name_or_path": "gpt2",
        "is_local": False,
        "revision": None,
        "architecture": "GPT2LMHeadModel",
        "parameters": 124439808,
    },
    "method": {"kind": "last_blocks", "train_layers": 2, "lora": None, "trainable_parameters": 14175744},
    "arguments": {
        "model_name_or_path": "/home/jdoe/models/gpt2",
        "output_dir": "/home/jdoe/runs/one",
        "hub_token": "hf_secret",
        "hub_model_id": "jdoe/else",
        "run_name": "jdoe",
        "num_train_epochs": 25,
        "per_device_train_batch_size": 10,
        "learning_rate": 5e-05,
        "lr_scheduler_type": "linear",
        "max_length": 512,
        "neftune_noise_alpha": None,
        "seed": 42,
    },
    "dtype": "bf16",
    "device": "Example CPU, 2 threads",
    "seed": 42,
    "versions": {"python": "3.11.7", "mh-support": "0.1.0", "torch": "2.13.0"},
    "data": {
        "sources": [
            {"name": "samples", "license": "cc0-1.0", "non_commercial": False, "url": None, "rows": 600},
            {
                "name": "nbertagnolli/counsel-chat",
                "license": "mit",
                "non_commercial": False,
                "url": "https://huggingface.co/datasets/nbertagnolli/counsel-chat",
                "rows": 2775,
            },
        ],
        "splits": {
            "train": {"dialogues": 2600, "rows": 2600, "tokens": 410000, "supervised_tokens": 260000},
            "validation": {"dialogues": 320, "rows": 320, "tokens": 51000, "supervised_tokens": 32000},
        },
    },
    "fingerprints": {"data": DATA, "base_weights": "ba5e" * 16, "weights": WEIGHTS},
    "training": {
        "global_step": 1500,
        "planned_steps": 6500,
        "epochs": 5.77,
        "best_step": 1000,
        "best_eval_loss": 2.8754,
        "train_runtime_s": 2400.0,
        "stopped_early": True,
    },
    "license": "other",
}
REPORT: dict[str, Any] = {
    "source": "samples, nbertagnolli/counsel-chat",
    "rows_read": 3375,
    "fates": {"kept": 3240, "duplicate": 120, "something_new": 15},
    "edits": {"email": 12, "hotline": 3},
    "split_by": "question",
}
RESULTS: dict[str, Any] = {
    "weights": WEIGHTS,
    "data": DATA,
    "leakage": {"checked": True, "shared_questions": 0},
    "settings": {
        "limit": None,
        "seed": 42,
        "batch_size": 16,
        "max_new_tokens": 128,
        "decoding": "sampling, temperature 0.7, top_p 0.9",
        "bleu_signature": "nrefs:var|case:mixed|eff:no|tok:13a",
        "intervals": "95 %, bootstrap over dialogues, 1,000 draws",
        "human_items": 61,
    },
    "splits": {
        "test": {
            "items": 72,
            "references": 190,
            "rows": {
                "base": {
                    "perplexity": {"value": 31.24, "ci95": [28.1, 34.96]},
                    "rougeL": {"value": 0.0912, "ci95": [0.081, 0.1]},
                    "bleu": {"value": 0.002, "ci95": [0.001, 0.004]},
                },
                "tuned": {
                    "perplexity": {"value": 17, "ci95": [15.5, 18.9]},
                    "rougeL": {"value": 0.1462, "ci95": [0.131, 0.16]},
                    "bleu": {"value": 0.0105, "ci95": [0.006, 0.015]},
                    "length": {"value": 38.25},
                },
                "constant": {"rougeL": {"value": 0.151, "ci95": [0.14, 0.163]}},
                "human": {"rougeL": {"value": 0.14, "ci95": [0.125, 0.155]}, "length": {"value": 52.0}},
            },
        },
        "train": {"items": 72, "references": 180, "rows": {"tuned": {"perplexity": {"value": 12.5}}}},
    },
    "gain": {"test": {"rougeL": {"value": 0.055, "ci95": [0.041, 0.069]}}},
    "memorisation": {"perplexity": {"train": 12.5, "test": 17.0, "gap": -4.5}},
}
ALIKE = {"value": 30.0, "ci95": [28.0, 32.0], "difference": 0.5, "difference_ci95": [-1.0, 2.0], "bound": 6.0, "p": 1.0}
SHARES = {"crises_seen": {"count": 20, "of": 28, "ci95": [0.53, 0.85]}, "calm_interrupted": {"count": 0, "of": 28}}
BIAS: dict[str, Any] = {
    "weights": WEIGHTS,
    "checks": checks_fingerprint(),
    "settings": {
        "samples": 2,
        "limit": None,
        "bounds": {
            "routing": "none may differ",
            "length": "20 % of the mean",
            "sentiment": "0.2",
            "refused": "0.05",
            "descriptors": "0.1 more of the pairs than the base",
        },
    },
    "routing": {
        "axes": {
            "faith": {
                "disclosures": 56,
                "differing": 1,
                "resources_differing": 0,
                "groups": {"Hindu": SHARES | {"differing": 0}, "Sikh": SHARES | {"differing": 1}},
            }
        },
        "countries": ["GB", None],
    },
    "replies": {
        "faith": {
            "Hindu": {key: ALIKE | {"verdict": "within"} for key in ("length", "sentiment", "refused")},
            "Sikh": {
                "length": ALIKE | {"difference": -9.04, "difference_ci95": [-11.0, -7.0], "verdict": "beyond"},
                "sentiment": ALIKE | {"difference": 0.1, "verdict": "open"},
                "refused": ALIKE | {"difference": 0.1, "verdict": "open"},
            },
        }
    },
    "descriptors": {"faith": {"pairs": 1, "differing": 1, "base_differing": 0}},
    "findings": [
        {"kind": "routing", "axis": "faith", "line": "crisis routing by faith: 1 of 56 are not routed alike"},
        {"kind": "length", "axis": "faith", "line": "words a reply by faith: Sikh -9.0"},
    ],
}
FAIR = BIAS | {"findings": []}
EMISSIONS = {"kg_co2eq": 0.01234567, "duration_s": 2400.0, "country_iso_code": "USA", "sessions": 2}
LOG: list[dict[str, Any]] = [
    {"step": 490, "epoch": 1.9, "loss": 3.1},
    {"step": 500, "epoch": 1.92, "eval_loss": 2.95},
    {"step": 1000, "epoch": 3.85, "loss": 2.7},
    {"step": 1000, "epoch": 3.85, "eval_loss": 2.8754},
    {"step": 1500, "epoch": 5.77, "train_runtime": 2400.0, "train_loss": 2.9},
]


def make_run(folder: Path, **changes: Any) -> Path:
    """Write a run folder; `run`, `report`, `results`, `emissions`, `log` may be replaced, or left out with None, and
    `bias` added."""
    contents = {"run": RUN, "report": REPORT, "results": RESULTS, "emissions": EMISSIONS, "log": LOG} | changes
    names = {"report": "data_report", "log": "log_history"}
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in contents.items():
        if value is not None:
            (folder / f"{names.get(key, key)}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def changed(original: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with the value at a dotted path replaced."""
    result = copy.deepcopy(original)
    *parents, last = path.split(".")
    place = result
    for parent in parents:
        place = place[parent]
    place[last] = value
    return result


@pytest.fixture
def text(tmp_path: Path) -> str:
    return write_card(make_run(tmp_path), "me/kind-gpt2")


LORA_RUN = RUN | {
    "method": {
        "kind": "lora",
        "train_layers": None,
        "lora": {"lora_r": 8, "lora_alpha": 16, "lora_target_modules": ["c_attn", "c_proj"], "use_dora": False},
        "trainable_parameters": 1179648,
    }
}
RESTRICTED_SOURCE = {
    "name": "thu-coai/esconv",
    "license": "cc-by-nc-4.0",
    "non_commercial": True,
    "url": "https://huggingface.co/datasets/thu-coai/esconv",
    "rows": 1300,
}
RESTRICTED_RUN = changed(RUN, "data.sources", [*RUN["data"]["sources"], RESTRICTED_SOURCE])
STARTER_RUN = changed(LORA_RUN, "base_model.name_or_path", "starter")
LOCAL_LORA_RUN = changed(
    changed(LORA_RUN, "base_model.name_or_path", "/home/jdoe/models/gpt2-mine"), "base_model.is_local", True
)
LOCAL_RUN = changed(changed(RUN, "base_model.name_or_path", "/home/jdoe/models/gpt2-mine"), "base_model.is_local", True)
# Every shape of run that a card is written for; each must pass what every card must pass.
SHAPES: dict[str, dict[str, Any]] = {
    "whole": {},
    "full": {"run": RUN | {"method": {"kind": "full", "trainable_parameters": 124439808}}},
    "lora": {"run": LORA_RUN},
    "lora on the starter": {"run": STARTER_RUN},
    "local base": {"run": LOCAL_RUN},
    "non-commercial": {"run": RESTRICTED_RUN},
    "run.json alone": {"report": None, "results": None, "emissions": None, "log": None},
    "empty files": {"report": {}, "log": [], "results": {"weights": WEIGHTS, "data": DATA, "splits": {}}},
    "unfinished": {"run": RUN | {"finished": None, "training": None, "device": None, "dtype": None}},
    "limited": {"results": changed(RESULTS, "settings.limit", 50)},
    "bias found": {"bias": BIAS},
    "a quick look for bias": {"bias": changed(FAIR, "settings.limit", 3)},
    "no intervals": {"results": changed(RESULTS, "splits.test.rows.tuned", {"rougeL": {"value": 0.1, "ci95": None}})},
}


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


def code_blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_whole_card_is_as_the_golden_file(text: str) -> None:
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_card_is_well_formed(shape: str, tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, **SHAPES[shape]), "me/kind-gpt2")

    assert not re.search(r"\b(None|nan|NaN|inf|Undefined|More information|TODO)\b", text)
    assert "\n\n\n" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert "{{" not in text and "{%" not in text
    assert not re.search(r"^- .*\n\n- ", text, flags=re.MULTILINE)  # No list falls in two.
    assert not re.search(r"[ \t]$", text, flags=re.MULTILINE)
    # A section is followed by something that is not the next section.
    assert not re.search(r"^(#+) .+\n\n?#{1,2} ", text, flags=re.MULTILINE)
    # A heading has an empty line before it.
    assert not re.search(r"[^\n]\n#+ ", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    assert headings(text) == [
        "In a crisis",
        "How to use",
        "Intended use",
        "Out-of-scope use",
        "Training data",
        "Training procedure",
        "Results",
        "Limits and biases",
        "Emissions",
        "Citation and contact",
    ]
    for block in code_blocks(text):
        ast.parse(block)
    assert ModelCard(text).data.license == "other"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_table_is_well_formed(shape: str, tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, **SHAPES[shape]), "me/kind-gpt2")

    assert_tables_well_formed(text, at_least=3)


def assert_tables_well_formed(text: str, *, at_least: int) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) >= at_least
    for table in tables:
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        assert all(line.startswith("| ") and line.endswith(" |") for line in table.splitlines())
        assert {len(line) for line in lines} == {len(lines[0])}
        assert set(lines[1]) == {" --- "}
        assert len(lines) > 2
    # Each table stands between empty lines, or it would be read as part of a paragraph.
    assert not re.search(r"^[^|\n].*\n\|", text, flags=re.MULTILINE)
    assert not re.search(r"^\|.*\n[^|\n]", text, flags=re.MULTILINE)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_card_says_what_it_is_and_who_can_help(shape: str, tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, **SHAPES[shape]), "me/kind-gpt2")

    flat = " ".join(text.replace(">", " ").split())
    assert "It is not a human and not a therapist" in flat
    assert "never a replacement for professional care" in flat
    assert "for research and education" in flat
    assert "https://findahelpline.com" in text and "call your local emergency number" in flat
    assert flat.index("emergency number") < flat.index("How to use")


def test_front_matter_to_the_letter(text: str) -> None:
    data = yaml.safe_load(text.split("---\n")[1])

    assert data == {
        "base_model": "gpt2",
        "base_model_relation": "finetune",
        "datasets": ["nbertagnolli/counsel-chat"],
        "language": "en",
        "library_name": "transformers",
        "license": "other",
        "pipeline_tag": "text-generation",
        "tags": ["conversational", "emotional-support", "mental-health", "mh-support"],
        "co2_eq_emissions": {
            "emissions": 12.35,  # 0.01234567 kg in grams
            "source": "codecarbon",
            "training_type": "fine-tuning",
            "geographical_location": "USA",
            "hardware_used": "Example CPU, 2 threads",
        },
        "model-index": [
            {
                "name": "kind-gpt2",
                "results": [
                    {
                        "task": {"type": "text-generation", "name": "Supportive replies"},
                        "dataset": {
                            "name": "samples, nbertagnolli/counsel-chat",
                            "type": "samples-nbertagnolli-counsel-chat",
                            "split": "test",
                        },
                        "metrics": [
                            {"type": "perplexity", "value": 17.0, "name": "Perplexity"},
                            {"type": "rougeL", "value": 0.1462, "name": "ROUGE-L (0 to 1)"},
                            {"type": "bleu", "value": 0.0105, "name": "BLEU-4 (0 to 1)"},
                        ],
                    }
                ],
            }
        ],
    }


def test_the_hubs_own_client_reads_the_front_matter(text: str) -> None:
    data = ModelCard(text).data

    assert isinstance(data, ModelCardData)
    assert data.model_name == "kind-gpt2"
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("perplexity", 17.0),
        ("rougeL", 0.1462),
        ("bleu", 0.0105),
    ]
    # An integer in results.json is a float here too: the Hub shows it with the others.
    assert [type(result.metric_value) for result in data.eval_results] == [float, float, float]


def test_all_six_scores_of_the_tuned_model_are_published_and_no_others(tmp_path: Path) -> None:
    scores = {metric.key: {"value": 0.5} for metric in METRICS}
    text = write_card(make_run(tmp_path, results=changed(RESULTS, "splits.test.rows.tuned", scores)), "me/kind-gpt2")

    published = [result.metric_type for result in ModelCard(text).data.eval_results]
    assert published == ["perplexity", "rouge1", "rouge2", "rougeL", "bleu", "bleu2"]


def test_one_hub_data_set_is_named_by_its_id(tmp_path: Path) -> None:
    run = changed(RUN, "data.sources", RUN["data"]["sources"][1:])
    text = write_card(make_run(tmp_path, run=run), "me/kind-gpt2")

    assert ModelCard(text).data.eval_results[0].dataset_type == "nbertagnolli/counsel-chat"


def test_a_card_without_scores_has_no_model_index_and_says_so(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, **SHAPES["run.json alone"]), "me/kind-gpt2")

    assert "model-index" not in text and "model_name" not in text and "co2_eq_emissions" not in text
    assert "This model has not been scored. Nothing is known about the quality of its replies." in text
    assert "Emissions were not measured." in text
    assert "No validation loss was measured during training." in text
    assert "rows were read" not in text


def test_result_cells_carry_their_intervals(text: str) -> None:
    assert (
        "| ROUGE-L | higher is closer to the references | 0.091 [0.081, 0.100] | 0.146 [0.131, 0.160] "
        "| 0.151 [0.140, 0.163] | 0.140 [0.125, 0.155] | +0.055 [+0.041, +0.069] |\n"
    ) in text
    assert "| Perplexity | lower is better | 31.2 [28.1, 35.0] | 17.0 [15.5, 18.9] | - | - | - |\n" in text
    assert "| Perplexity (lower is better) | 12.5 | 17.0 | -4.5 |\n" in text


def test_rows_and_scores_that_were_not_measured_are_not_mentioned(text: str) -> None:
    assert "Random reply" not in text and "Nearest reply" not in text
    assert "Distinct-1" not in text and "Bits a byte" not in text


def test_a_limit_is_told_in_bold(text: str, tmp_path: Path) -> None:
    limited = write_card(make_run(tmp_path, **SHAPES["limited"]), "me/kind-gpt2")

    assert "**At most 50 test dialogues were scored, with 72 replies, not the whole test split.**" in limited
    assert "- Limit on dialogues: 50\n" in limited
    assert "At most" not in text and "Limit on dialogues" not in text


def test_the_conditions_of_the_scores_are_told(text: str) -> None:
    assert (
        "- Decoding: sampling, temperature 0.7, top_p 0.9\n"
        "- Longest reply in tokens: 128\n"
        "- Seed: 42\n"
        "- Batch size: 16\n"
        "- BLEU signature: `nrefs:var|case:mixed|eff:no|tok:13a`\n"
        "- Intervals: 95 %, bootstrap over dialogues, 1,000 draws\n"
    ) in text


def test_nothing_of_this_machine_or_account_enters_the_card(tmp_path: Path) -> None:
    run = changed(LOCAL_RUN, "data.sources", [{"name": "/home/jdoe/ward-b/talks.csv", "license": "mit"}])
    text = write_card(make_run(tmp_path, run=run), "me/kind-gpt2")

    for secret in ("/home", "jdoe", "ward-b", "hf_secret", str(tmp_path)):
        assert secret not in text
    assert "| talks.csv | mit | see its licence | not counted |" in text
    assert "a model from a local folder named `gpt2-mine`" in text
    assert "base_model" not in text and "datasets:" not in text


@pytest.mark.parametrize(
    "name", ["/home/a/x.csv", "./x.csv", "data/x.csv", r"C:\data\x.csv", r"data\x.csv", "~/x.csv", "../x.csv"]
)
def test_a_path_is_never_taken_for_a_hub_id(name: str, tmp_path: Path) -> None:
    run = changed(RUN, "data.sources", [{"name": name, "license": "mit", "url": None, "rows": 5}])
    text = write_card(make_run(tmp_path, run=run), "me/kind-gpt2")

    assert "| x.csv | mit | see its licence | 5 |" in text
    assert ModelCard(text).data.datasets is None


def test_a_hub_id_is_known_without_its_address(tmp_path: Path) -> None:
    run = changed(RUN, "data.sources", [{"name": "me/my-talks.v2", "license": "mit", "url": None, "rows": 5}])
    text = write_card(make_run(tmp_path, run=run), "me/kind-gpt2")

    assert ModelCard(text).data.datasets == ["me/my-talks.v2"]
    assert "[me/my-talks.v2](https://huggingface.co/datasets/me/my-talks.v2)" in text


def test_non_commercial_terms_are_loud(text: str, tmp_path: Path) -> None:
    restricted = write_card(make_run(tmp_path, run=RESTRICTED_RUN), "me/kind-gpt2")

    warning = "> **NON-COMMERCIAL USE ONLY.** This model was trained on data whose terms forbid commercial use:\n"
    assert warning + "> **thu-coai/esconv** (cc-by-nc-4.0).\n" in restricted
    assert restricted.index(warning) < restricted.index("## In a crisis")
    assert "/thu-coai/esconv) | cc-by-nc-4.0 | **no** | 1,300 |" in restricted
    assert "- Commercial use, which the terms of the training data forbid.\n" in restricted
    assert "NON-COMMERCIAL" not in text and "forbid" not in text


@pytest.mark.parametrize("license", ["unknown", None])
def test_an_unstated_licence_is_said_to_be_unstated(license: str | None, tmp_path: Path) -> None:
    run = changed(RUN, "data.sources", [{"name": "talks", "license": license, "non_commercial": False, "rows": 5}])

    assert "| talks | not stated | ask first | 5 |" in write_card(make_run(tmp_path, run=run), "me/kind-gpt2")


def test_the_licence_of_the_run_is_the_cards(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, run=RUN | {"license": "cc-by-nc-4.0"}), "me/kind-gpt2")

    assert ModelCard(text).data.license == "cc-by-nc-4.0"
    assert "The licence of these weights is given as `cc-by-nc-4.0`." in text


def test_a_licence_that_is_given_takes_its_place(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path), "me/kind-gpt2", license="mit")

    assert ModelCard(text).data.license == "mit"
    assert "The licence of these weights is given as `mit`." in text


def test_an_adapters_card(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, run=LORA_RUN), "me/kind-gpt2-lora")
    data = ModelCard(text).data

    assert (data.library_name, data.base_model, data.base_model_relation) == ("peft", "gpt2", "adapter")
    assert data.tags[-1] == "lora"
    assert 'AutoPeftModelForCausalLM.from_pretrained("me/kind-gpt2-lora")' in text
    assert "pipeline(" not in text
    assert "a LoRA adapter for [`gpt2`](https://huggingface.co/gpt2)" in text
    assert "1,179,648 of 124,439,808 parameters" in text
    assert "| `lora_target_modules` | c_attn, c_proj |\n" in text
    assert "| `lora_r` | 8 |\n" in text


def test_a_merged_adapter_is_a_full_model(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, run=LORA_RUN), "me/kind-gpt2", merged=True)
    data = ModelCard(text).data

    assert (data.library_name, data.base_model, data.base_model_relation) == ("transformers", "gpt2", "finetune")
    assert 'pipeline("text-generation", model="me/kind-gpt2")' in text and "AutoPeftModel" not in text
    assert "a LoRA adapter was trained beside it and then merged into it: 1,179,648 of" in text
    assert data.tags[-1] == "lora"


def test_an_adapters_local_base_is_named_by_its_hub_id_when_given(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, run=LOCAL_LORA_RUN), "me/kind-lora", base_repo="me/gpt2-mine")
    data = ModelCard(text).data

    assert (data.library_name, data.base_model, data.base_model_relation) == ("peft", "me/gpt2-mine", "adapter")
    assert "a LoRA adapter for [`me/gpt2-mine`](https://huggingface.co/me/gpt2-mine)" in text
    assert 'AutoPeftModelForCausalLM.from_pretrained("me/kind-lora")' in text and "jdoe" not in text


def test_an_adapter_for_the_starter_is_not_said_to_load_from_the_hub(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, run=STARTER_RUN), "me/kind-starter")

    assert ModelCard(text).data.base_model is None
    assert "AutoPeftModelForCausalLM" not in text and "huggingface.co/starter" not in text
    assert "the starter model that comes with mh-support" in text
    assert 'SupportBot.from_pretrained("me/kind-starter")' in text


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ({"kind": "full"}, "All weights were trained: 5 of 124,439,808 parameters"),
        ({"kind": "last_blocks", "train_layers": 3}, "Only the last 3 transformer blocks were trained"),
        (
            {"kind": "lora", "lora": {}},
            "The base model was left as it is, and a LoRA adapter was trained beside it: 5 of",
        ),
    ],
)
def test_the_method_is_told(method: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    run = RUN | {"method": method | {"trainable_parameters": 5}}

    assert sentence in write_card(make_run(tmp_path, run=run), "me/kind-gpt2")


def test_arguments_that_were_not_set_are_left_out(text: str) -> None:
    assert "| `learning_rate` | 5e-05 |\n" in text
    assert "neftune" not in text and "output_dir" not in text and "hub_" not in text


def test_fates_and_edits_are_named_as_the_report_names_them(text: str) -> None:
    assert "| Dropped: the same dialogue again | 120 |\n" in text
    assert "| E-mail address removed | 12 |\n" in text
    assert "| Something new | 15 |\n" in text  # A fate that this version does not know.


def test_which_checkpoint_is_published_is_told(text: str, tmp_path: Path) -> None:
    run = changed(RUN, "arguments.load_best_model_at_end", True)
    best = "- Best checkpoint: step 1,000, validation loss 2.875 nats a token"

    assert best + "\n" in text
    assert best + "; its weights are the ones published\n" in write_card(make_run(tmp_path, run=run), "me/kind-gpt2")


def test_a_run_that_was_interrupted_is_said_to_be(text: str, tmp_path: Path) -> None:
    unfinished = write_card(make_run(tmp_path, **SHAPES["unfinished"]), "me/kind-gpt2")

    assert "**Training had not finished when this card was written.**" in unfinished
    assert "had not finished" not in text


def test_losses_are_thinned_to_ten_lines_and_keep_the_last() -> None:
    log = [{"step": step, "eval_loss": 1.0} for step in range(1, 26)]

    assert [line["step"] for line in card._losses(log)] == [1, 4, 7, 10, 13, 16, 19, 22, 25]
    assert [line["step"] for line in card._losses(log[:10])] == list(range(1, 11))
    assert card._losses([]) == []


def test_the_training_loss_beside_an_evaluation_is_the_last_before_it() -> None:
    log = [
        {"step": 20, "eval_loss": 2.0},
        {"step": 10, "loss": 3.0},
        {"step": 30, "loss": 1.0},
        {"step": 5, "eval_loss": 4.0},
    ]

    assert card._losses(log) == [{"step": 5, "eval_loss": 4.0}, {"step": 20, "eval_loss": 2.0, "loss": 3.0}]


def test_a_bar_in_a_name_does_not_break_the_table(tmp_path: Path) -> None:
    run = changed(RUN, "data.sources", [{"name": "a|b\nc", "license": "mit", "rows": 5}])
    text = write_card(make_run(tmp_path, run=run), "me/kind-gpt2")

    assert "| a\\|b c | mit | see its licence | 5 |" in text
    assert_tables_well_formed(text, at_least=3)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7199, "120 minutes"), (7200, "2.0 hours")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert card._duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(124439808, "124"), (9_512_345, "9.5"), (1_557_611_200, "1,558")])
def test_millions(count: int, words: str) -> None:
    assert card._millions(count) == words


@pytest.mark.parametrize(
    ("key", "score", "shown"),
    [
        ("perplexity", {"value": 1234.56, "ci95": [1000, 2000]}, "1,234.6 [1,000.0, 2,000.0]"),
        ("rougeL", {"value": 0.14623, "ci95": None}, "0.146"),
        ("rougeL", {"value": 0.14623}, "0.146"),
    ],
)
def test_a_score_in_figures(key: str, score: dict[str, Any], shown: str) -> None:
    assert next(metric for metric in METRICS if metric.key == key).show(score) == shown


def test_the_snippet_of_a_whole_model_runs_as_it_stands(
    text: str, tiny_model: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tiny_model)
    snippet = code_blocks(text)[0].replace("max_new_tokens=128", "max_new_tokens=3")

    exec(compile(snippet, "card", "exec"), {})

    assert capsys.readouterr().out.endswith("\n")


def test_the_snippet_of_an_adapter_runs_as_it_stands(
    tmp_path: Path, tiny_model: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tiny_model)
    text = write_card(make_run(tmp_path / "run", run=LORA_RUN), "me/kind-lora")
    snippet = code_blocks(text)[0].replace("max_new_tokens=128", "max_new_tokens=3")

    exec(compile(snippet, "card", "exec"), {})

    assert capsys.readouterr().out.endswith("\n")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which me/kind-gpt2 is a model and me/kind-lora its adapter, as those ids are on the Hub."""
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from mh_support.dialogue import set_chat_template

    folder = tmp_path_factory.mktemp("hub")
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = Tokenizer(models.BPE(vocab={**alphabet, "<|endoftext|>": 256}, merges=[]))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    set_chat_template(tokenizer)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=257, n_embd=8, n_layer=1, n_head=1, bos_token_id=256, eos_token_id=256)
    )
    model.save_pretrained(folder / "me" / "kind-gpt2")
    adapted = get_peft_model(GPT2LMHeadModel(model.config), LoraConfig(r=2, task_type="CAUSAL_LM", fan_in_fan_out=True))
    adapted.peft_config["default"].base_model_name_or_path = str(folder / "me" / "kind-gpt2")
    adapted.save_pretrained(folder / "me" / "kind-lora")
    for name in ("kind-gpt2", "kind-lora"):
        tokenizer.save_pretrained(folder / "me" / name)
    return folder


def test_a_publishable_run_passes(tmp_path: Path) -> None:
    assert check_publishable(make_run(tmp_path), WEIGHTS) is None


def test_a_limit_does_not_stop_publishing(tmp_path: Path) -> None:
    assert check_publishable(make_run(tmp_path, **SHAPES["limited"]), WEIGHTS) is None


@pytest.mark.parametrize("baseline", ["constant", "random", "nearest", "human"])
def test_base_and_any_one_baseline_are_enough(baseline: str, tmp_path: Path) -> None:
    rows = RESULTS["splits"]["test"]["rows"]
    kept = {"base": rows["base"], "tuned": rows["tuned"], baseline: {"rougeL": {"value": 0.1}}}

    assert check_publishable(make_run(tmp_path, results=changed(RESULTS, "splits.test.rows", kept)), WEIGHTS) is None


def without(path: str, key: str) -> dict[str, Any]:
    """Return the results without one key under a dotted path."""
    result = copy.deepcopy(RESULTS)
    place = result
    for parent in path.split("."):
        place = place[parent]
    del place[key]
    return result


ROW_NAMES = "splits.test.rows"
NO_BASELINES = (
    r"^results\.json has no baselines beside the fine-tuned model "
    r"\(needs base, and constant, random, nearest or human\); run recipes/score\.py .+$"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": None}, r"^.+ has no results\.json; run recipes/score\.py .+ before publishing$"),
        (
            {"results": changed(RESULTS, "weights", "0ld" + "0" * 61)},
            r"^results\.json is stale: it scored 0ld000000000, the weights are 5eed5eed5eed; run recipes/score\.py .+$",
        ),
        (
            {"run": changed(RUN, "fingerprints.weights", "0" * 64)},
            r"^run\.json was written for other weights than the model's 5eed5eed5eed; train again$",
        ),
        (
            {"results": changed(RESULTS, "data", "0" * 64)},
            r"^results\.json was scored on other data than the run was trained on; run recipes/score\.py .+$",
        ),
        (
            {"results": changed(RESULTS, "leakage.checked", False)},
            r"^results\.json does not say whether test questions stand in training too; run recipes/score\.py .+$",
        ),
        ({"results": changed(RESULTS, "leakage", {})}, r"^results\.json does not say whether test questions stand"),
        (
            {"results": changed(RESULTS, "leakage.shared_questions", 3)},
            r"^3 held-out dialogues ask a question of another split; split by question and train again$",
        ),
        (
            {"results": without(ROW_NAMES, "tuned")},
            r"^results\.json does not score the fine-tuned model on the test split; run recipes/score\.py .+$",
        ),
        (
            {"results": without("splits", "test")},
            r"^results\.json does not score the fine-tuned model on the test split",
        ),
        ({"results": without(ROW_NAMES, "base")}, NO_BASELINES),
        (
            {"results": changed(RESULTS, ROW_NAMES, {"base": {}, "tuned": RESULTS["splits"]["test"]["rows"]["tuned"]})},
            NO_BASELINES,
        ),
    ],
)
def test_what_stops_a_run_from_being_published(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        check_publishable(make_run(tmp_path, **changes), WEIGHTS)

    assert "\n" not in str(raised.value)


def test_what_learned_from_simulated_people_is_never_published(tmp_path: Path) -> None:
    run = make_run(tmp_path, run=RUN | {"alignment": {"simulated": True}})
    with pytest.raises(
        ValueError,
        match=r"^.+ learned from simulated people, to try learning out; it is never published: learn from people$",
    ):
        check_publishable(run, WEIGHTS)


def test_a_card_says_that_nobody_gave_simulated_feedback_and_what_was_not_measured(tmp_path: Path) -> None:
    feedback = {"read": 9, "fates": {"train": 6, "held_out": 2}, "people": {"train": 3, "held_out": 1}}
    learned = {"method": "kto", "simulated": True, "feedback": feedback, "arguments": {"beta": 0.1}}
    run = make_run(tmp_path, run=RUN | {"alignment": learned | {"training": {"global_step": 8}}})
    nothing = dict.fromkeys(("old", "new", "change", "interval", "ok", "reason"))
    measure = {"name": "findings of bias", "bound": "not measured, as asked", **nothing}
    (run / "gate.json").write_text(json.dumps({"measures": [measure], "reasons": []}), encoding="utf-8")
    part = write_card(run, "me/kind-gpt2").split("## Learning from feedback\n")[1].split("\n## ")[0]
    assert part.strip().startswith("**Nobody gave this feedback: a rule did, to try learning out.")
    assert "| Findings of bias | - | - | - | not measured, as asked |" in part


def test_a_card_says_that_bias_was_not_measured(text: str) -> None:
    part = " ".join(text.split("### Groups of people compared\n\n")[1].split("###")[0].split())
    assert part == (
        "Whether people are met alike whatever their name, pronouns, age, faith, origin, orientation, gender or "
        "disability was not measured for this model."
    )


def test_a_card_shows_the_groups_the_findings_and_why_they_were_accepted(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, bias=BIAS), "me/kind-gpt2", accept_bias="A course,\nnobody | uses it.")
    part = text.split("### Groups of people compared\n\n")[1].split("\n### ")[0]
    assert (
        "| Axis | Groups | Not routed alike | Words a reply | Sentiment | Share refused | Pairs differing (base) |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| faith | 2 | 1 of 56 | -9.0 [-11.0, -7.0] Sikh! | +0.50 [-1.00, +2.00] Hindu | +0.50 [-1.00, +2.00] Hindu "
        "| 1 of 1 (0) |\n"
    ) in part
    assert (
        "**Outside the bounds:**\n\n- crisis routing by faith: 1 of 56 are not routed alike\n"
        "- words a reply by faith: Sikh -9.0\n\n"
        "It was published all the same, for this reason given by whoever published it: A course, nobody \\| uses it.\n"
    ) in part
    flat = " ".join(part.split())
    assert "(up to 56, half of them calm, half in a crisis)" in flat and "the model wrote 2 replies each" in flat
    assert "bound 20 % of the mean" in flat and "Bound: none may differ." in flat
    assert (
        "Of 2 groups, some had too few replies to tell that they are within the bound: 0 in length, 1 in sentiment, "
        "1 in the share refused."
    ) in flat
    assert "quick look" not in part and "was not measured" not in part
    assert "All were written by one hand." in part


def test_a_card_without_findings_claims_no_fairness(tmp_path: Path) -> None:
    text = write_card(make_run(tmp_path, bias=changed(FAIR, "settings.limit", 3)), "me/kind-gpt2")
    assert "**This was a quick look, at no more than 3 disclosures of each kind.**" in text
    assert "Nothing was outside the bounds. That is no proof of fairness." in text
    assert "Outside the bounds:" not in text and "published all the same" not in text


def test_bias_within_the_bounds_or_accepted_does_not_stop_publishing(tmp_path: Path) -> None:
    check_publishable(make_run(tmp_path, bias=FAIR), WEIGHTS)
    check_publishable(make_run(tmp_path, bias=BIAS), WEIGHTS, accept_bias="a course")


@pytest.mark.parametrize(
    ("bias", "reason", "message"),
    [
        (
            BIAS,
            None,
            r"^bias was found outside the bounds: crisis routing by faith: 1 of 56 are not routed alike, and 1 more in "
            r"bias\.json; mend it, or publish with --accept_bias and the reason, which the card will show$",
        ),
        (
            BIAS | {"findings": BIAS["findings"][1:]},
            None,
            r"^bias was found outside the bounds: words a reply .+ -9\.0; mend",
        ),
        (
            FAIR | {"weights": "0ld" + "0" * 61},
            None,
            r"^bias\.json is stale: it is of weights 0ld000000000, which are 5eed5eed5eed now; run recipes/score\.py "
            r".+ --bias_alone true, or delete it and the card will say that bias was not measured$",
        ),
        (BIAS | {"weights": "0" * 64}, "a course", r"^bias\.json is stale"),
        (FAIR | {"checks": "0ld" + "0" * 61}, None, r"^bias\.json is stale: it is of checks 0ld000000000, which are"),
        (
            FAIR,
            "a course",
            r"^--accept_bias has nothing to accept: no bias was found outside the bounds; leave it out$",
        ),
        (
            None,
            "a course",
            r"^--accept_bias has nothing to accept: no bias was measured; leave it out, or run recipes/",
        ),
        (
            {"weights": WEIGHTS},
            None,
            r"^bias\.json lacks checks, descriptors, findings, replies, routing, settings; run recipes/",
        ),
    ],
)
def test_bias_that_stops_a_run_from_being_published(bias: Any, reason: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        check_publishable(make_run(tmp_path, bias=bias), WEIGHTS, accept_bias=reason)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("score", [{"value": math.nan}, {"value": None}, {"value": 1.0, "ci95": [0.5, math.inf]}])
@pytest.mark.parametrize("call", [lambda run: write_card(run, "me/a"), lambda run: check_publishable(run, WEIGHTS)])
def test_a_score_that_is_not_a_number_is_refused(score: dict[str, Any], call: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, results=changed(RESULTS, "splits.test.rows.tuned.perplexity", score))

    with pytest.raises(
        ValueError,
        match=r"^results\.json: perplexity of tuned on test is (nan|None|inf), not a finite number; run recipes/score",
    ):
        call(run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r" has no run\.json; give a run folder that recipes/finetune\.py has made$"):
        write_card(tmp_path, "me/kind-gpt2")


def test_a_run_that_lacks_parts_is_refused(tmp_path: Path) -> None:
    run = {key: value for key, value in RUN.items() if key not in ("versions", "data")}

    with pytest.raises(ValueError, match=r"run\.json lacks data, versions; train again with this version$"):
        write_card(make_run(tmp_path, run=run), "me/kind-gpt2")


@pytest.mark.parametrize("repo_id", ["", "a/b/c", "me/", "me/kind gpt2", "../x"])
def test_a_repository_id_must_be_one(repo_id: str, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for call in (lambda: write_card(run, repo_id), lambda: render_space_readme("me/space", repo_id)):
        with pytest.raises(ValueError, match=r"[Rr]epo id"):
            call()


def test_the_spaces_readme() -> None:
    text = render_space_readme("me/kind-space", "me/kind-gpt2")
    data = SpaceCard(text).data

    assert data.to_dict() == {
        "title": "kind-space",
        "emoji": "🌱",
        "colorFrom": "green",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": "6.31.0",
        "python_version": "3.11",
        "app_file": "app.py",
        "license": "apache-2.0",
        "short_description": "Supportive chat for research. A program, not a person.",
        "models": ["me/kind-gpt2"],
        "tags": ["emotional-support", "mental-health", "mh-support"],
    }
    assert len(data.short_description) <= 60
    assert headings(text) == ["In a crisis", "Privacy", "Settings", "Run it yourself"]
    assert "git clone https://huggingface.co/spaces/me/kind-space\ncd kind-space\n" in text
    assert "not a human and not a therapist" in text
    assert "\n\n\n" not in text
    assert_tables_well_formed(text, at_least=1)


def test_a_space_named_like_a_number_keeps_its_name() -> None:
    assert SpaceCard(render_space_readme("me/2024", "me/007")).data.title == "2024"


def test_the_data_card_counts_what_is_there() -> None:
    turns = [{"role": "user", "content": "One two three."}, {"role": "assistant", "content": "Four."}]
    rows = [
        {"id": "sleep-1", "topic": "sleep", "age": 13, "strategies": ["Question"], "messages": turns},
        {"id": "sleep-2", "topic": "sleep", "age": 85, "strategies": ["Question", "Others"], "messages": turns * 2},
        {"id": "work-1", "topic": "work", "age": 40, "strategies": ["Others"], "messages": turns, "risk": True},
    ]
    text = render_dataset_card("me/kind-samples", rows)
    data = DatasetCard(text).data

    assert (data.license, data.size_categories, data.task_categories) == ("cc0-1.0", ["n<1K"], ["text-generation"])
    assert "3 supportive dialogues in English, 8 messages," in text
    assert "- Words: 16, on average 2.0 a message.\n" in text
    assert "- Dialogues with four messages or more: 1.\n" in text
    assert "- Dialogues in which somebody may be in danger: 1." in text
    assert "- Ages: 13 to 85 years.\n" in text
    assert "| Topic | Dialogues |\n| --- | --- |\n| sleep | 2 |\n| work | 1 |\n" in text
    assert "| Question | 2 |\n| Others | 2 |\n" in text
    assert "\n\n\n" not in text
    ast.parse(code_blocks(text)[0])
    assert_tables_well_formed(text, at_least=4)


def test_the_data_card_of_bare_messages_has_no_empty_tables() -> None:
    text = render_dataset_card("me/a", [{"messages": [{"role": "user", "content": "Hello."}]}] * 1000)

    assert DatasetCard(text).data.size_categories == ["1K<n<10K"]
    assert "| Topic |" not in text and "Ages:" not in text
    assert_tables_well_formed(text, at_least=2)


def test_a_data_card_needs_dialogues() -> None:
    with pytest.raises(
        ValueError, match=r"^there are no dialogues to describe; give the rows of the sample dialogues$"
    ):
        render_dataset_card("me/a", [])


def test_the_templates_are_found_beside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    installed = card._template("crisis.md")
    monkeypatch.setattr(card.resources, "files", missing)

    assert card._template("crisis.md") == installed
    assert installed.startswith("**If you, or someone near you, may be in danger now")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(write_card(make_run(Path(scratch)), "me/kind-gpt2"), encoding="utf-8")
