"""What ratings say: small cases worked by hand, simulated raters whose mind is known, the report and the card."""

# ruff: noqa: F811 - the fixtures that are imported are the arguments' names.

from __future__ import annotations

import json
import math
import re
import shutil

import krippendorff
import numpy as np
import pytest
from rating_fixtures import KNOWN, base, made, rate, rating_set, reader, run, store, write_run  # noqa: F401
from scipy.stats import beta
from test_card import assert_tables_well_formed
from training_fixtures import load_recipe, one_thread  # noqa: F401

from mh_support.card import check_publishable, write_card
from mh_support.files import write_json
from mh_support.modeling import weights_fingerprint
from mh_support.rating.agreement import (
    alpha_unknown,
    icc_unknown,
    interval_alpha,
    intraclass_correlation,
    nominal_alpha,
)
from mh_support.rating.analysis import AnalyseArguments, analyse, groups_shown, results_table, run_results
from mh_support.rating.answers import AnswerStore, Rater
from mh_support.rating.making import MakeArguments, make_set
from mh_support.rating.preferences import Choice, strengths, win_rates
from mh_support.rating.questions import CRITERIA
from mh_support.rating.rating_set import RatingSet, read_key
from mh_support.rating.report import write_report, write_run_results

QUICK = AnalyseArguments(n_resamples=60)
DRAWN = {"seed": 0, "n_resamples": 200}


# Worked by hand.


def test_alpha_of_numbers_by_hand():
    # Two raters, three replies: (1, 1), (2, 2), (3, 4). Observed disagreement: pairs of one reply, both ways, 0 + 0 + 2
    # over 6 values = 1/3. Expected: of 1 1 2 2 3 4 all pairs both ways, 2 (6 * 35 - 13 * 13) = 82, over 6 * 5 = 82/30.
    values = np.array([[1, 2, 3], [1, 2, 4]], dtype=float)

    alpha = interval_alpha(values, [0, 1, 2], **DRAWN)
    assert alpha["value"] == pytest.approx(1 - (1 / 3) / (82 / 30), abs=1e-4)
    assert alpha["ci95"][0] <= alpha["value"] <= alpha["ci95"][1] <= 1


def test_alpha_of_choices_by_hand():
    # Two raters: (0, 0), (1, 1), (0, 1). Observed: 2 unlike pairs both ways over 6 values = 1/3. Expected: three 0 and
    # three 1, 2 * 9 unlike pairs over 6 * 5 = 18/30.
    values = np.array([[0, 1, 0], [0, 1, 1]], dtype=float)
    assert nominal_alpha(values, [0, 1, 2], **DRAWN)["value"] == pytest.approx(1 - (1 / 3) / (18 / 30), abs=1e-4)


@pytest.mark.parametrize("level", ["interval", "nominal"])
def test_the_parts_that_add_up_give_the_librarys_alpha(level):
    from mh_support.rating import agreement

    generator = np.random.default_rng(3)
    values = generator.integers(0, 3, size=(4, 40)).astype(float)
    values[generator.random(values.shape) < 0.4] = np.nan
    statistics = getattr(agreement, f"_{level}_statistics")(values)
    ours = getattr(agreement, f"_from_{level}_statistics")(statistics.sum(axis=0))["alpha"]
    assert ours == pytest.approx(krippendorff.alpha(reliability_data=values, level_of_measurement=level), abs=1e-12)


def test_the_interval_of_alpha_covers_as_often_as_it_says():
    # Three raters whose numbers are one half the reply's own and one half their noise: alpha is 0.5.
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        values = generator.normal(size=(1, 60)) + generator.normal(size=(3, 60))
        low, high = interval_alpha(values, range(60), seed=1, n_resamples=100)["ci95"]
        covered += low <= 0.5 <= high
    assert 51 <= covered < 60


@pytest.mark.parametrize("values", [[[5.0, 5.0], [5.0, 5.0]], [[1.0, 2.0]], [[1.0, np.nan], [np.nan, 2.0]]])
def test_alpha_is_unknown_where_nothing_can_differ(values):
    assert interval_alpha(np.array(values), [0, 1], **DRAWN) is None


def test_the_icc_is_that_of_shrout_and_fleiss():
    # Table 2 of their paper of 1979: six targets, four judges; ICC(2,1) is .29 and ICC(2,4) .62.
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    values = np.array(table, dtype=float).T
    with_gap = np.column_stack([values, [1, np.nan, 1, 1]])

    for given in (values, with_gap):
        found = intraclass_correlation(given)
        assert (found["raters"], found["replies"]) == (4, 6)
        assert found["single"] == {"value": pytest.approx(0.2898, abs=1e-4), "ci95": [0.02, 0.76]}
        assert found["mean"] == {"value": pytest.approx(0.6201, abs=1e-4), "ci95": [0.07, 0.93]}
    # A fifth judge who left after two targets takes nobody along; one who rated four of six counts.
    left_early = np.vstack([values, [9, 6, *[np.nan] * 4]])
    assert intraclass_correlation(left_early) == intraclass_correlation(values)
    assert icc_unknown(np.vstack([values, [9, 6, 8, 7, np.nan, np.nan]])) == (
        "the 5 raters who rated at least half of the replies share fewer than 5"
    )


def test_what_is_not_known_has_its_reason():
    many = np.arange(12.0).reshape(2, 6)
    few = many.copy()
    few[1, 1:] = np.nan
    assert (alpha_unknown(many), icc_unknown(many)) == (None, None)
    assert alpha_unknown(few) is None
    assert icc_unknown(few) == icc_unknown(many[:1]) == "fewer than two raters rated at least half of the replies"
    assert alpha_unknown(many[:1]) == alpha_unknown(np.full((0, 0), np.nan)) == "nothing was answered by two raters"
    assert icc_unknown(many[:, :4]) == "the 2 raters who rated at least half of the replies share fewer than 5"
    assert alpha_unknown(many * 0) == icc_unknown(many * 0) == "all answers are one and the same"
    for values in (few, many[:1], many[:, :4], many * 0):
        assert intraclass_correlation(values) is None


def test_bradley_and_terry_by_hand():
    # Three wins to one: the strengths differ by ln 3, and the chance to win is 3/4.
    choices = [Choice("a", "b", False, number) for number in range(3)] + [Choice("b", "a", False, 3)]
    found = win_rates(choices, ["a", "b"], **DRAWN)

    assert strengths(np.array([[0.0, 3.0], [1.0, 0.0]]))[0] == pytest.approx(math.log(3) / 2, abs=0.01)
    assert found["a"]["win_rate"]["value"] == pytest.approx(0.75, abs=0.005)
    assert found["b"]["win_rate"]["value"] == pytest.approx(0.25, abs=0.005)
    assert [found["a"][key] for key in ("wins", "ties", "losses")] == [3, 0, 1]


def test_a_tie_is_half_a_win_for_both_and_who_met_whom_does_not_matter():
    # One win and two ties of three: two wins to one.
    choices = [Choice("a", "b", False, 0), Choice("a", "b", True, 1), Choice("b", "a", True, 2)]
    found = win_rates(choices, ["a", "b"], **DRAWN)
    assert found["a"]["win_rate"]["value"] == pytest.approx(2 / 3, abs=0.005)
    assert (found["a"]["ties"], found["b"]["ties"]) == (2, 2)
    # c beats b as a does, but b beat c's like nobody: a met b alone, and stands as high as c.
    wins = np.array([[0, 6, 0], [2, 0, 2], [0, 6, 0]], dtype=float)
    first, _, third = strengths(wins)
    assert first == pytest.approx(third, abs=1e-6)


def rates_of(choices, arms):
    return {arm: line["win_rate"] for arm, line in win_rates(choices, arms, seed=0, n_resamples=1000).items()}


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (10, 0), (7, 3), (19, 1)])
def test_the_interval_of_two_arms_is_that_of_jeffreys(wins, losses):
    choices = [Choice("a", "b", False, number) for number in range(wins)]
    choices += [Choice("b", "a", False, wins + number) for number in range(losses)]
    found = rates_of(choices, ["a", "b"])
    low, high = beta.ppf([0.025, 0.975], wins + 0.5, losses + 0.5)

    assert found["a"]["ci95"] == pytest.approx([low, high], abs=0.025)
    assert found["b"]["ci95"] == pytest.approx([1 - high, 1 - low], abs=0.025)
    assert found["a"]["ci95"][0] < found["a"]["value"] <= found["a"]["ci95"][1]


def test_three_raters_of_a_question_are_no_three_questions():
    alone = [Choice("a", "b", False, number) for number in range(6)]
    low, thrice = (rates_of(choices, ["a", "b"])["a"]["ci95"][0] for choices in (alone, alone * 3))
    assert thrice == pytest.approx(low, abs=0.02)
    assert rates_of([alone[0]] * 3, ["a", "b"])["a"]["ci95"] is None  # One question has no spread.


def test_an_arm_that_nothing_ties_to_the_others_has_no_win_rate():
    met = [Choice("a", "b", False, 0), Choice("b", "c", False, 1), Choice("c", "a", True, 2)]
    found = win_rates(met, ["a", "b", "c", "d"], **DRAWN)
    assert found["d"] == {"wins": 0, "ties": 0, "losses": 0, "strength": None, "win_rate": None}
    # d is no arm that another could meet: the mean over arms is that of three.
    assert [found[arm]["win_rate"] for arm in "abc"] == [
        line["win_rate"] for line in win_rates(met, "abc", **DRAWN).values()
    ]

    apart = win_rates([*met, Choice("d", "e", False, 3)], "abcde", **DRAWN)
    assert apart["d"]["wins"] == 1 and apart["d"]["win_rate"] is apart["e"]["win_rate"] is None
    assert apart["a"]["win_rate"] is not None
    # Two pairs of arms that never met: neither are the others.
    halves = win_rates([Choice("a", "b", False, 0), Choice("c", "d", False, 1)], "abcd", **DRAWN)
    assert {line["win_rate"] for line in halves.values()} == {None}


def test_nobody_who_chose_has_no_win_rate():
    assert win_rates([], ["a", "b"], **DRAWN) is None


def test_wilcoxon_and_holm_by_hand(store):
    # On six contexts the tuned model gets 1 to 6 points more than the base on empathy, the same on all else. All six
    # signs agree: p = 2 / 2 ** 6. The other two comparisons are the same, so Holm's correction is threefold.
    key = read_key(store.rating_set)
    contexts = list(store.rating_set.contexts)[:6]
    answers = {
        task.id: {
            "empathy": 50 + (contexts.index(task.context_id) + 1) * (key["replies"][task.id] == "tuned"),
            "relevance": 50,
            "coherence": 50,
            "safety": 50,
        }
        for task in store.rating_set.tasks.values()
        if task.kind == "rating" and task.context_id in contexts
    }
    store.save_sheet(Rater("ann", "peer"), answers)
    found = analyse(store.rating_set, QUICK)["groups"]["all"]["comparisons"]

    empathy = {line["other"]: line for line in found if line["criterion"] == "empathy"}
    assert set(empathy) == {"base", "human", "constant"}
    for line in empathy.values():
        assert (line["one"], line["questions"], line["value"]) == ("tuned", 6, 3.5)
        assert (line["p"], line["p_holm"]) == (0.03125, 0.09375)
        assert 1 <= line["ci95"][0] < 3.5 < line["ci95"][1] <= 6
    others = [line for line in found if line["criterion"] != "empathy"]
    assert {(line["value"], line["p"], line["p_holm"]) for line in others} == {(0.0, 1.0, 1.0)}


def test_two_contexts_of_one_question_count_once(store):
    key_file = store.rating_set.folder / "key.json"
    key = json.loads(key_file.read_text())
    key["questions"] = dict.fromkeys(key["questions"], 0)
    key_file.write_text(json.dumps(key))
    rate(store, "ann", "peer", reader(store, "ann", 5))
    found = analyse(store.rating_set, QUICK)["groups"]["all"]

    assert {line["questions"] for line in found["comparisons"]} == {1}
    assert found["means"]["tuned"]["empathy"]["ci95"] is None


# Raters whose mind is known.


def test_a_known_order_is_recovered(store):
    for name in ("ann", "bob", "cat"):
        rate(store, name, "peer", reader(store, name, 10))
    result = analyse(store.rating_set, QUICK)
    found = result["groups"]["all"]

    for metric in CRITERIA[:3]:
        means = {arm: found["means"][arm][metric.key] for arm in KNOWN}
        assert sorted(means, key=lambda arm: -means[arm]["value"]) == ["human", "tuned", "constant", "base"]
        for arm, mean in means.items():
            assert mean["value"] == pytest.approx(KNOWN[arm], abs=3)
            assert mean["ci95"][0] < mean["value"] < mean["ci95"][1] and mean["ratings"] == 87
    rates = {arm: line["win_rate"] for arm, line in found["win_rates"].items()}
    assert sorted(rates, key=lambda arm: -rates[arm]["value"]) == ["human", "tuned", "constant", "base"]
    assert rates["tuned"]["ci95"][0] > 0.5 > rates["constant"]["ci95"][1]
    for line in found["comparisons"]:
        if line["criterion"] != "safety":
            assert line["value"] == pytest.approx(KNOWN["tuned"] - KNOWN[line["other"]], abs=4)
            assert line["p_holm"] < 0.001


def test_raters_who_agree_are_seen_to_agree(store):
    for name in ("ann", "bob", "cat"):
        rate(store, name, "licensed", reader(store, name, 3))
    result = analyse(store.rating_set, QUICK)
    agreed = result["groups"]["all"]["agreement"]

    assert agreed["empathy"]["alpha"]["value"] > 0.95 and agreed["empathy"]["alpha"]["ci95"][0] > 0.9
    assert agreed["empathy"]["icc"]["single"]["value"] > 0.95
    assert agreed["preference"]["alpha"]["value"] > 0.95
    same = "all answers are one and the same"
    assert agreed["safety"] == {"alpha": None, "icc": None, "unknown": {"alpha": same, "icc": same}}
    assert result["warnings"] == [
        "Fewer questions than needed to see a difference of 10 points: 29 of 80.",
        "How far raters agree is not known from Krippendorff's alpha: all answers are one and the same (safety).",
        "How far raters agree is not known from the ICC: all answers are one and the same (safety).",
    ]


def test_who_leaves_early_does_not_hide_how_far_the_others_agree(store):
    for name, share in (("ann", 1.0), ("bob", 1.0), ("cat", 0.1)):
        rate(store, name, "licensed", reader(store, name, 3), share=share)
    result = analyse(store.rating_set, QUICK)

    icc = result["groups"]["all"]["agreement"]["empathy"]["icc"]
    assert (icc["raters"], icc["replies"]) == (2, 116) and icc["single"]["value"] > 0.95
    page = write_report(store.rating_set, result).read_text()
    assert "<td>2 of 3 raters, 116 replies</td>" in page

    # Two who rated other replies each: nothing is known, and it is said.
    for name in ("ann", "bob", "cat"):
        (store.rating_set.folder / "answers" / f"{name}.sheet.jsonl").unlink()
    order = [task.id for task in store.rating_set.order("ann") if task.kind == "rating"]
    for name, tasks in (("ann", order[:58]), ("bob", order[58:])):
        store.save_sheet(Rater(name, "licensed"), {task: {metric.key: 50 for metric in CRITERIA} for task in tasks})
    found = analyse(store.rating_set, QUICK)
    assert found["warnings"][2:4] == [
        "How far raters agree is not known from Krippendorff's alpha: nothing was answered by two raters "
        "(empathy, relevance, coherence, safety, preference).",
        "How far raters agree is not known from the ICC: the 2 raters who rated at least half of the replies share "
        "fewer than 5 (empathy, relevance, coherence, safety).",
    ]


def test_raters_who_disagree_are_seen_to(store):
    even = dict.fromkeys(KNOWN, 50.0)
    for name in ("ann", "bob", "cat"):
        rate(store, name, "licensed", reader(store, name, 20, even))
    result = analyse(store.rating_set, QUICK)
    agreed = result["groups"]["all"]["agreement"]

    for criterion in ("empathy", "relevance", "coherence", "preference"):
        low, high = agreed[criterion]["alpha"]["ci95"]
        assert abs(agreed[criterion]["alpha"]["value"]) < 0.2 and low < 0.15 and high > -0.15
    (low,) = [warning for warning in result["warnings"] if warning.startswith("Low agreement")]
    assert re.fullmatch(
        r"Low agreement between raters \(Krippendorff's alpha below 0.667\): empathy -?0\.\d\d, relevance -?0\.\d\d, "
        r"coherence -?0\.\d\d, preference -?0\.\d\d\.",
        low,
    )
    assert all(line["p_holm"] > 0.01 for line in result["groups"]["all"]["comparisons"])


def test_one_veto_is_enough_and_turns_every_choice(store):
    key = read_key(store.rating_set)["replies"]
    pairs = [task for task in store.rating_set.tasks.values() if task.kind == "preference"]
    pair = next(task for task in pairs if [key[reply] for reply in task.reply_ids] == ["human", "base"])
    bad = pair.reply_ids[0]
    calm = reader(store, "ann", 1)
    rate(store, "ann", "peer", calm)
    rate(store, "bob", "peer", calm)
    before = analyse(store.rating_set, QUICK)["groups"]["all"]
    rate(store, "cat", "licensed", lambda reply, task: {**calm(reply, task), "safety": 49 if reply == bad else 90})
    after = analyse(store.rating_set, QUICK)["groups"]

    assert before["vetoes"]["human"] == {
        "replies": 29,
        "vetoed": 0,
        "share": 0.0,
        "ci95": before["vetoes"]["tuned"]["ci95"],
    }
    assert (after["all"]["vetoes"]["human"]["vetoed"], after["all"]["vetoes"]["tuned"]["vetoed"]) == (1, 0)
    # The professional's veto counts over everybody, and leaves the peers' own choices alone.
    assert (after["licensed"]["vetoes"]["human"]["vetoed"], after["peer"]["vetoes"]["human"]["vetoed"]) == (1, 0)
    assert after["all"]["choices"] == {"given": 174, "turned_by_veto": 3 * _met(pairs, bad), "both_vetoed": 0}
    assert after["licensed"]["choices"]["turned_by_veto"] == _met(pairs, bad)
    assert after["peer"]["choices"] == before["choices"] and after["peer"]["win_rates"] == before["win_rates"]
    assert before["choices"]["turned_by_veto"] == 0
    lost = after["all"]["win_rates"]["human"]["losses"] - before["win_rates"]["human"]["losses"]
    assert lost == 3 * _met(pairs, bad)


def test_a_peers_veto_leaves_the_professionals_choices_as_they_are(store):
    calm = reader(store, "ann", 1)
    rate(store, "cat", "licensed", calm)
    before = analyse(store.rating_set, QUICK)["groups"]["licensed"]
    rate(store, "ann", "peer", lambda reply, task: {**calm(reply, task), "safety": 10})
    after = analyse(store.rating_set, QUICK)["groups"]

    assert after["licensed"] == before
    assert after["all"]["choices"]["both_vetoed"] == after["all"]["choices"]["given"] == 116
    assert after["all"]["win_rates"] is None and after["peer"]["win_rates"] is None


def _met(pairs, reply):
    return sum(reply in task.reply_ids for task in pairs)


def test_two_vetoed_replies_do_not_meet(store):
    rate(store, "ann", "peer", lambda reply, task: {**reader(store, "ann", 5)(reply, task), "safety": 10})
    found = analyse(store.rating_set, QUICK)["groups"]["all"]
    assert found["choices"] == {"given": 58, "turned_by_veto": 0, "both_vetoed": 58}
    assert found["win_rates"] is None
    assert {found["vetoes"][arm]["share"] for arm in KNOWN} == {1.0}
    page = write_report(store.rating_set, analyse(store.rating_set, QUICK)).read_text()
    assert "<h3>All raters: 1</h3>" in page and "Choices turned" not in page


def test_professionals_stand_apart(store):
    rate(store, "ann", "peer", reader(store, "ann", 5))
    rate(store, "bob", "peer", reader(store, "bob", 5))
    rate(store, "cat", "licensed", reader(store, "cat", 5, {**KNOWN, "tuned": 10.0}))
    result = analyse(store.rating_set, QUICK)

    assert list(result["groups"]) == ["all", "peer", "licensed"]
    assert result["raters"] == {"all": 3, "peer": 2, "trained": 0, "licensed": 1}
    tuned = {group: found["means"]["tuned"]["empathy"]["value"] for group, found in result["groups"].items()}
    assert tuned["peer"] == pytest.approx(60, abs=3) and tuned["licensed"] == pytest.approx(10, abs=3)
    assert result["groups"]["licensed"]["agreement"]["empathy"]["icc"] is None
    # Professionals are among the raters, so nothing is said of their absence.
    assert not [warning for warning in result["warnings"] if "licensed" in warning]
    assert "raters: licensed" in results_table(result, "licensed")


def test_an_arm_whose_choices_are_all_gone_has_a_dash(store):
    key = read_key(store.rating_set)["replies"]
    rate(store, "ann", "peer", reader(store, "ann", 5))
    answers = {
        task: answer
        for task, answer in store.answers("ann").items()
        if "human" not in [key[reply] for reply in store.rating_set.tasks[task].reply_ids] or task in key
    }
    (store.rating_set.folder / "answers" / "ann.sheet.jsonl").unlink()
    store.save_sheet(Rater("ann", "peer"), answers)
    result = analyse(store.rating_set, QUICK)

    assert result["groups"]["all"]["win_rates"]["human"]["win_rate"] is None
    assert re.search(r"^human .* -  0 of 29$", results_table(result), flags=re.MULTILINE)
    page = write_report(store.rating_set, result).read_text()
    assert "<tr><td>human</td><td>-</td><td>0</td><td>0</td><td>0</td></tr>" in page
    assert "A dash: no counted choice ties the arm to the others." in page


def test_what_stands_against_the_result_is_said(store):
    rate(store, "ann", "trained", reader(store, "ann", 2, {**KNOWN, "human": 10.0}), share=0.5)
    result = analyse(store.rating_set, QUICK)

    assert result["warnings"] == [
        f"Fewer ratings than planned: {result['ratings']} of 348.",
        "Fewer questions than needed to see a difference of 10 points: 29 of 80.",
        "One rater alone: nothing is known of how far others would agree.",
        "No licensed professional is among the raters.",
        "The replies that people wrote were not rated more relevant than one and the same sentence for everybody: "
        "the raters may not have read closely, or the references are weak.",
    ]


def test_a_set_that_nobody_rated_is_refused(store):
    store.sign_in("ann", "peer")
    with pytest.raises(
        ValueError, match=r"^no answers in .*rating; have the set rated with recipes/rate.py serve or ex"
    ):
        analyse(store.rating_set, QUICK)


# The report, the run's file and the card.


@pytest.fixture
def rated_run(tmp_path, tiny_tokenizer, base):
    """A run of its own and another, rated together by three raters."""
    run = write_run(tmp_path / "runs" / "mine", tiny_tokenizer, base)
    other = write_run(tmp_path / "runs" / "secret-project", tiny_tokenizer, base, seed=2)
    make_set([run, other], MakeArguments(out=str(tmp_path / "rating"), contexts=12, raters=3, seed=1), progress=False)
    store = AnswerStore(RatingSet(tmp_path / "rating"))
    known = {**KNOWN, "mine": 60.0, "secret-project": 50.0}
    for name, qualification in (("ann", "peer"), ("bob", "trained"), ("cat", "licensed")):
        rate(store, name, qualification, reader(store, name, 15, known))
    return run, store.rating_set


def test_the_runs_file_tells_of_its_own_arms_alone(rated_run):
    run, rating_set = rated_run
    result = analyse(rating_set, QUICK)
    written, passed = write_run_results(rating_set, result)
    assert written[0] == run.ratings_file and passed == []
    kept = json.loads(run.ratings_file.read_text())

    assert kept == json.loads(json.dumps(run_results(result, read_key(rating_set), "mine")))
    assert "secret" not in json.dumps(kept)
    assert list(kept["groups"]["all"]["means"]) == ["base", "tuned", "constant", "human"]
    assert kept["groups"]["all"]["means"]["tuned"] == result["groups"]["all"]["means"]["mine"]
    assert {(line["one"], line["other"]) for line in kept["groups"]["all"]["comparisons"]} == {
        ("tuned", "base"),
        ("tuned", "human"),
        ("tuned", "constant"),
    }
    assert kept["weights"] == weights_fingerprint(run.model) and kept["arms_in_set"] == 5


def test_a_run_with_other_weights_by_now_gets_no_file(rated_run, tmp_path):
    run, rating_set = rated_run
    (run.model / "config.json").write_text((run.model / "config.json").read_text())
    weights = next(run.model.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b" ")
    shutil.rmtree(tmp_path / "runs" / "secret-project" / "model")
    written, passed = write_run_results(rating_set, analyse(rating_set, QUICK))

    assert written == []
    assert passed == [
        "mine: its weights have changed since the set was made",
        f"secret-project: the run is no longer at {tmp_path / 'runs' / 'secret-project'}",
    ]


def test_the_report_needs_nothing_but_itself(rated_run):
    _, rating_set = rated_run
    page = write_report(rating_set, analyse(rating_set, QUICK)).read_text()

    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert len(re.findall(r'src="data:image/png;base64,iVBOR', page)) == 3
    assert re.findall(r'(?:src|href)="(?!data:)', page) == [] and "<script" not in page
    assert "3 raters\n(1 peer, 1 trained, 1 licensed)" in page
    assert "180 of 180 planned ratings and 72 choices" in page
    assert "<li>Fewer questions than needed to see a difference of 10 points: 12 of " in page
    words = re.sub(r'src="data:[^"]+"', "", page)
    assert not re.search(r"\{\{|None|\bnan\b|Undefined", words)


def test_raters_of_one_kind_are_shown_once(rated_run):
    _, rating_set = rated_run
    result = analyse(rating_set, QUICK)
    assert groups_shown(result) == ["all", "peer", "trained", "licensed"]
    for name in ("bob", "cat"):
        (rating_set.folder / "answers" / f"{name}.sheet.jsonl").unlink()
    result = analyse(rating_set, QUICK)
    assert list(result["groups"]) == ["all", "peer"] and groups_shown(result) == ["all"]
    page = write_report(rating_set, result).read_text()
    assert "<h3>All raters: 1</h3>" in page and "<h3>Peer" not in page
    assert "<h1>Rated by people</h1>" in page


def test_names_in_the_report_are_text(rated_run):
    _, rating_set = rated_run
    contents = (rating_set.folder / "key.json").read_text()
    (rating_set.folder / "key.json").write_text(contents.replace('"mine"', '"<b>mine"'))
    page = write_report(rating_set, analyse(rating_set, QUICK)).read_text()
    assert "&lt;b&gt;mine" in page and "<b>mine" not in page


def test_the_card_says_who_rated_and_what_stands_against_it(rated_run):
    run, rating_set = rated_run
    assert "### Rated by people\n\nNo person has rated this model's replies.\n" in write_card(run.path, "me/kind")
    result = analyse(rating_set, QUICK)
    write_run_results(rating_set, result)
    card = write_card(run.path, "me/kind")
    section = card.split("### Rated by people\n\n")[1].split("\n## ")[0]

    assert section.startswith("3 people (1 peer, 1 trained, 1 licensed) gave 180 of 180 planned ratings and 72\n")
    for warning in result["warnings"]:
        assert f"\n- **{warning}**\n" in section
    tuned = {group: found["means"]["mine"]["empathy"] for group, found in result["groups"].items()}
    for group, raters in (("all", 3), ("peer", 1), ("licensed", 1)):
        row = next(
            line for line in section.splitlines() if line.startswith(f"| Empathy, 0 to 100 | {group} ({raters}) |")
        )
        assert CRITERIA[0].show(tuned[group]) in row
    assert "| Asked | Raters | Base model | Fine-tuned | Constant reply | Reference |\n" in section
    assert "| Replies vetoed | all (3) | 0 of 12 | 0 of 12 | 0 of 12 | 0 of 12 |\n" in section
    alpha = result["groups"]["all"]["agreement"]["empathy"]["alpha"]["value"]
    assert f"| Empathy | {alpha:.2f} [" in section
    assert re.search(r"^\| Empathy \|.*\| 3 of 3 raters, 60 replies \|$", section, flags=re.MULTILINE)
    assert "on 12 held-out contexts of 12 questions, without being told" in section
    assert "\nA dash: no counted choice ties the arm to the others.\n" in section
    assert_tables_well_formed(section, at_least=3)
    assert "secret" not in card and not re.search(r"\b(None|nan|Undefined)\b", section)


def test_a_card_of_raters_of_one_kind_has_no_second_line(rated_run):
    run, rating_set = rated_run
    for name in ("ann", "cat"):
        (rating_set.folder / "answers" / f"{name}.sheet.jsonl").unlink()
    write_run_results(rating_set, analyse(rating_set, QUICK))
    section = write_card(run.path, "me/kind").split("### Rated by people\n\n")[1].split("\n## ")[0]
    assert section.startswith("1 person (0 peer, 1 trained, 0 licensed) gave 60 of 180 planned ratings")
    assert "- **Fewer ratings than planned: 60 of 180.**\n" in section
    assert "- **One rater alone: nothing is known of how far others would agree.**\n" in section
    assert section.count("| Empathy, 0 to 100 |") == 1
    assert "| Empathy | - | - | - | - |\n" in section
    assert (
        "\nHow far raters agree is not known from Krippendorff's alpha: nothing was answered by two raters (empathy, "
        "relevance, coherence, safety, preference).\n"
    ) in section


def test_ratings_of_other_weights_stop_the_publishing(rated_run):
    run, rating_set = rated_run
    write_run_results(rating_set, analyse(rating_set, QUICK))
    weights = weights_fingerprint(run.model)
    rows = {row: {"rougeL": {"value": 0.1}} for row in ("base", "tuned", "constant")}
    results = json.loads(run.results_file.read_text())
    leakage = {"checked": True, "shared_questions": 0}
    write_json(run.results_file, {**results, "leakage": leakage, "splits": {"test": {"rows": rows}}})
    check_publishable(run.path, weights)
    write_json(run.ratings_file, {**json.loads(run.ratings_file.read_text()), "weights": "5eed" * 16})
    with pytest.raises(
        ValueError, match=r"^ratings.json is stale: people rated 5eed5eed5eed, the weights are .{12}; move"
    ):
        check_publishable(run.path, weights)


def test_the_recipe_from_a_run_to_its_report(tmp_path, run, capsys):
    recipe = load_recipe("rate")
    copy = shutil.copytree(run.path, tmp_path / "mine")
    folder = tmp_path / "rating"
    recipe.main(["make", str(copy), "--out", str(folder), "--contexts", "8", "--raters", "1", "--seed", "1"])
    assert f"who rates must not see {folder}/key.json, which tells the arms apart\n" in capsys.readouterr().out
    store = AnswerStore(RatingSet(folder))
    known = {"mine" if arm == "tuned" else arm: value for arm, value in KNOWN.items()}
    rate(store, "ann", "peer", reader(store, "ann", 4, known))
    recipe.main(["analyse", str(folder), "--n_resamples", "50"])
    printed = capsys.readouterr().out

    assert re.search(r"^mine +\d\d\.\d \[", printed, flags=re.MULTILINE)
    assert f"written: {folder / 'report.html'}, {copy / 'ratings.json'}\n" in printed
    assert "One rater alone: nothing is known of how far others would agree.\n" in printed


def test_the_recipe_refuses_what_it_does_not_know(store, monkeypatch, capsys):
    recipe = load_recipe("rate")
    with pytest.raises(
        ValueError, match=r"^rat was asked; the commands are make, serve, export, import, analyse, simulate$"
    ):
        recipe.main(["rat"])
    recipe.main(["--help"])
    assert "python recipes/rate.py analyse rating" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"^country is 'XX', which has no services in the table; give one of "):
        recipe.main(
            ["export", str(store.rating_set.folder), "--rater", "a", "--qualification", "peer", "--country", "XX"]
        )
    monkeypatch.setattr("mh_support.rating.find_spec", lambda name: None if name == "choix" else name)
    with pytest.raises(
        ValueError,
        match=r"^what ratings need is not installed \(choix\); .* -e '\.\[rating\]'$",
    ):
        recipe.main(["analyse", "x"])
    with pytest.raises(ValueError, match=r"^n_resamples is 0; give 1 or more$"):
        AnalyseArguments(n_resamples=0)
