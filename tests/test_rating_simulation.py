"""Simulated raters: the order that was told is found, disagreement is seen, and nobody takes them for people."""

# ruff: noqa: F811 - the fixtures that are imported are the arguments' names.

from __future__ import annotations

import re
import shutil

import pytest
from rating_fixtures import base, run, write_run  # noqa: F401
from training_fixtures import load_recipe, one_thread  # noqa: F401

from mh_support.rating.agreement import LOW
from mh_support.rating.making import MakeArguments
from mh_support.rating.simulation import SimulateArguments, simulate, simulation_table, told_order


def test_arms_are_told_apart_by_kind_from_80_down_to_20():
    kinds = {"mine": "tuned", "base": "base", "human": "human", "constant": "constant"}
    assert told_order(kinds) == {"human": 80.0, "mine": 60.0, "constant": 40.0, "base": 20.0}
    assert list(told_order({**kinds, "other": "tuned"})) == ["human", "mine", "other", "constant", "base"]


def test_the_command_shows_the_order_recovered_and_disagreement_seen(tmp_path, run, capsys):
    copy = shutil.copytree(run.path, tmp_path / "mine")
    out = tmp_path / "simulated"
    given = ["simulate", str(copy), "--out", str(out), "--contexts", "15", "--seed", "1", "--n_resamples", "60"]
    load_recipe("rate").main(given)
    printed = capsys.readouterr().out

    rows = {line.split("  ")[0]: re.split(r"\s{2,}", line) for line in printed.splitlines()}
    assert [rows[arm][1] for arm in ("human", "mine", "constant", "base")] == ["80.0", "60.0", "40.0", "20.0"]
    assert rows["in the order told"][-4:] == ["yes"] * 4
    for name in ("empathy", "relevance", "coherence", "preference"):
        alike, unlike = (float(cell.split()[0]) for cell in rows[name][1:])
        assert unlike < 0.3 < alike
    assert (
        "The order told, with 15 points of noise, was recovered. That raters disagree was seen (alpha below" in printed
    )
    page = (out / "unlike" / "report.html").read_text()
    assert "<h1>Rated by simulated raters</h1>" in page
    assert "<li>Simulated raters: no person has rated this set.</li>" in page

    # Analysed like any other set, it says so again, and no run's card gets to tell of it.
    load_recipe("rate").main(["analyse", str(out / "alike"), "--n_resamples", "20"])
    again = capsys.readouterr()
    assert "Simulated raters: no person has rated this set.\n" in again.out
    assert again.err.endswith("no ratings.json for mine: its raters are simulated\n")
    assert not (copy / "ratings.json").exists()
    with pytest.raises(ValueError, match=r"simulated is there already; give --out a new folder$"):
        load_recipe("rate").main(given)


def test_what_is_not_recovered_is_said(tmp_path, run):
    """With more noise than the scale is long, and one rater, nothing is found, and nothing is claimed."""
    result = simulate(
        [run],
        MakeArguments(out=str(tmp_path / "out"), contexts=3, raters=1, seed=3),
        SimulateArguments(noise=100, n_resamples=10),
        progress=False,
    )
    printed = simulation_table(result)
    assert "was not recovered. That raters disagree was not seen" in printed
    assert f"(alpha below {LOW})" in printed
    assert re.search(r"^empathy +- +-$", printed, flags=re.MULTILINE)


def test_two_pairs_that_never_met_are_in_no_order(tmp_path, run):
    made = MakeArguments(out=str(tmp_path / "out"), contexts=1, raters=2, seed=3)
    result = simulate([run], made, SimulateArguments(noise=0, n_resamples=10), progress=False)
    printed = simulation_table(result)
    assert re.search(r"^in the order told +yes +yes +yes +no$", printed, flags=re.MULTILINE)
    assert re.search(r"^human +80.0 .* -$", printed, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": 101}, r"^noise is 101; give points from 0 to 100, such as 15$"),
        ({"n_resamples": 0}, r"^n_resamples is"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        SimulateArguments(**changes)
