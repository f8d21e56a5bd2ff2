"""The report of a rating set: one HTML file with everything in it, and `ratings.json` in each run's folder."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mh_support.files import write_json, write_text
from mh_support.modeling import weights_fingerprint
from mh_support.rating import pictures
from mh_support.rating.analysis import groups_shown, run_results
from mh_support.rating.preferences import DASH
from mh_support.rating.questions import CRITERIA, QUALIFICATIONS, VETO_RULE, WIN_RATE
from mh_support.rating.rating_set import SIMULATED, RatingSet, read_key
from mh_support.run_folder import RunFolder
from mh_support.scores import show_p

REPORT_FILE = "report.html"
PLOTS = "plots"


def write_report(rating_set: RatingSet, result: Mapping[str, Any]) -> Path:
    """Draw the pictures and write the report beside the set; return its path."""
    drawn = {
        name: draw(result, rating_set.folder / PLOTS / f"{name}.png")
        for name, draw in {
            "rating_means": pictures.rating_means,
            "win_rates": pictures.win_rates,
            "agreement": pictures.agreement,
        }.items()
    }
    jinja = Environment(
        loader=PackageLoader("mh_support.rating", ""),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = jinja.get_template(REPORT_FILE).render(
        result=result,
        groups={name: result["groups"][name] for name in groups_shown(result)},
        criteria=CRITERIA,
        qualifications=list(QUALIFICATIONS),
        win_rate=WIN_RATE,
        dash=DASH,
        veto_rule=VETO_RULE,
        p_value=show_p,
        pictures={name: _embedded(path) for name, path in drawn.items()},
    )
    path = rating_set.folder / REPORT_FILE
    write_text(path, page)
    return path


def write_run_results(rating_set: RatingSet, result: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """Write `ratings.json` into the folder of each rated run; return the files, and a line for each that got none."""
    key = read_key(rating_set)
    written, passed = [], []
    for arm, about in key["arms"].items():
        if about["kind"] != "tuned":
            continue
        run = RunFolder(about["run"])
        if key.get(SIMULATED):
            passed.append(f"{arm}: its raters are simulated")
        elif not run.model.is_dir():
            passed.append(f"{arm}: the run is no longer at {run.path}")
        elif weights_fingerprint(run.model) != about["weights"]:
            passed.append(f"{arm}: its weights have changed since the set was made")
        else:
            write_json(run.ratings_file, run_results(result, key, arm))
            written.append(run.ratings_file)
    return written, passed


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
