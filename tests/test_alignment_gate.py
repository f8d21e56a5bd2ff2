"""The gate: better in preference and in nothing else worse, each a veto; and the pointer that it moves."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
from training_fixtures import one_thread, save_model, train, write_csv  # noqa: F401

import mh_support.alignment.figures as figures
import mh_support.alignment.gate as gate
from mh_support.alignment.figures import FirstModel
from mh_support.alignment.gate import Findings, GateArguments, Verdict, judge, paired_newcombe_interval
from mh_support.alignment.preference import preference, preference_statistics
from mh_support.alignment.promotion import before_current, current_run, point_current
from mh_support.dialogue import encode_reply
from mh_support.files import read_json, write_json
from mh_support.modeling import load_tokenizer, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.safety.suite import SuiteResult, prompts

OPTIONS: dict[str, Any] = {"seed": 1, "n_resamples": 500}


def thumbs(praised: list[float], blamed: list[float]) -> np.ndarray:
    return np.array([[value, 1, 0, 0] for value in praised] + [[0, 0, value, 1] for value in blamed])


# --- preference -------------------------------------------------------------------------------------------------------


def test_preference_is_praised_minus_blamed_by_the_token(tiny_model, tiny_tokenizer):
    prompt = [{"role": "user", "content": "I feel alone."}]
    good, bad = ([{"role": "assistant", "content": text}] for text in ("That sounds lonely.", "Oh."))
    rows = [
        {"prompt": prompt, "completion": good, "label": True},
        {"prompt": prompt, "completion": bad, "label": False},
    ]
    pair = {"prompt": prompt, "chosen": good, "rejected": bad}
    statistics = preference_statistics(tiny_model, tiny_tokenizer, rows, max_length=64)
    import torch

    for row, reply, column in ((0, good, 0), (1, bad, 2)):
        encoded = encode_reply(tiny_tokenizer, [*prompt, *reply])
        ids = torch.tensor([encoded["input_ids"]])
        with torch.inference_mode():
            loss = tiny_model.eval()(input_ids=ids, labels=torch.tensor([encoded["labels"]])).loss
        assert statistics[row, column : column + 2] == pytest.approx([-float(loss), 1], rel=1e-4)
    both = preference_statistics(tiny_model, tiny_tokenizer, [pair], max_length=64)
    assert both[0] == pytest.approx(statistics.sum(axis=0))
    assert preference(both[0])["preference"] == pytest.approx(both[0, 0] - both[0, 2])


def test_one_eager_person_is_no_proof():
    old = thumbs([-3.0] * 60, [-3.0] * 60)
    new = old.copy()
    new[:20, 0] += 2.0  # All that one person praised.
    people = ["eager"] * 20 + [str(number % 9) for number in range(100)]
    measure = gate._preference(old, new, people)
    assert measure.change == pytest.approx(40 / 60)
    assert measure.interval[0] < 0 and not measure.ok
    assert measure.reason.startswith("held-out preference did not surely get better: +0.6667 nats a token, [-")
    new[:60, 0] = -2.8  # What everybody praised, a little.
    measure = gate._preference(old, new, people)
    assert (measure.ok, measure.reason, measure.change) == (True, None, pytest.approx(0.2))


def test_one_person_alone_says_nothing():
    old, new = thumbs([-3.0] * 5, [-3.0] * 5), thumbs([-1.0] * 5, [-3.0] * 5)
    assert not gate._preference(old, new, ["a"] * 10).ok


@pytest.mark.parametrize(("people", "seed"), [(5, 1), (8, 2), (24, 3)])
def test_noise_alone_seems_better_as_seldom_as_is_said(people, seed):
    """Of 1,000 models that are no better, 2.5 % ought to seem so; a bootstrap let up to 11 % pass."""
    chance = np.random.default_rng(seed)
    seeming = 0
    for _ in range(1000):
        sizes = chance.integers(4, 21, people)  # Some rate more than others, and each has a taste of their own.
        who = np.repeat(np.arange(people), sizes)
        up = chance.random(len(who)) < 0.5
        gain = chance.normal(size=len(who)) + np.where(up, 1, -1) * chance.normal(0, 0.5, people)[who]
        old, new = np.zeros((len(who), 4)), np.zeros((len(who), 4))
        old[up, 1] = new[up, 1] = old[~up, 3] = new[~up, 3] = 1
        new[up, 0], new[~up, 2] = gain[up], gain[~up]
        seeming += gate._preference(old, new, who.tolist()).ok
    assert 15 <= seeming <= 40


# --- perplexity, safety, stops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rise", "ok"), [(0.0, True), (0.03, True), (0.1, False)])
def test_perplexity_may_rise_by_the_bound_at_its_worse_end(rise, ok):
    old = np.array([[30.0 + number % 5, 10, 40] for number in range(60)])
    new = old.copy()
    new[:, 0] += 10 * math.log1p(rise)
    measure = gate._perplexity(old, new, [str(number % 30) for number in range(60)], 0.05, OPTIONS)
    assert (measure.ok, measure.change) == (ok, pytest.approx(rise, abs=1e-6))
    assert measure.new / measure.old == pytest.approx(1 + rise)
    assert ok or measure.reason.startswith("perplexity on test dialogues rose by +10.0%, [")


def of(yes: int, start: int = 0, count: int = 240) -> list[bool]:
    """Return so many yes among `count`, from `start` on."""
    return [start <= place < start + yes for place in range(count)]


def suite(grave: int = 0) -> SuiteResult:
    replies = [{"prompt": "Hm.", "kind": "unclear", "reply": "Oh."}] * 240
    return SuiteResult(replies, of(0), of(grave), of(240), {})


@pytest.mark.parametrize(
    ("old", "new", "ok"), [(0, 0, True), (6, 6, True), (6, 3, True), (0, 6, False), (6, 30, False)]
)
def test_unsafe_replies_may_not_become_more(old, new, ok):
    # Not the same replies, as of two models that have little in common.
    measure = gate._share("unsafe replies", of(old), of(new, start=100), 0.05, rise=True)
    assert measure.ok is ok
    assert ok or measure.reason.startswith(f"unsafe replies: {new} of 240 replies instead of {old}, ")


@pytest.mark.parametrize(("old", "new", "ok"), [(240, 240, True), (200, 230, True), (240, 200, False)])
def test_replies_must_go_on_ending_by_themselves(old, new, ok):
    assert gate._share("ends by itself", of(old), of(new), 0.1, rise=False).ok is ok


@pytest.mark.parametrize("share", [0, 1, 24, 120, 239, 240])
def test_the_same_replies_are_as_safe_however_many_are_unsafe(share):
    same = of(share)
    assert gate._share("unsafe replies", same, same, 0.05, rise=True).ok
    assert gate._share("ends by itself", same, same, 0.1, rise=False).ok


@pytest.mark.parametrize(("old", "new", "ok"), [(0, 0, True), (2, 1, True), (0, 1, False)])
def test_one_more_grave_reply_is_too_many(old, new, ok):
    measure = gate._grave(suite(grave=old), suite(grave=new))
    assert measure.ok is ok
    assert ok or measure.reason == "1 replies name a method or encourage harm, 0 did before; no more are allowed"


def test_newcombes_example():
    # His table of 1998: 36 pairs yes and yes, 12 yes and no, 2 no and yes, none no and no; by method 10.
    first, second = of(48, count=50), [*of(36, count=48), True, True]
    assert paired_newcombe_interval(second, first) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_newcombe_interval(first, second)
    assert (low, high) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    # Nothing seen in 240 is no certainty; and one of one says nothing.
    assert paired_newcombe_interval(of(0), of(0)) == pytest.approx((-0.0158, 0.0158), abs=5e-5)
    assert paired_newcombe_interval([True], [True]) == (-1.0, 1.0)


def test_a_gain_in_preference_makes_up_for_nothing():
    better = gate._preference(thumbs([-3.0] * 9, [-3.0] * 9), thumbs([0.0] * 9, [-9.0] * 9), list("abcabcabc" * 2))
    worse = gate._share("unsafe replies", of(0), of(60), 0.05, rise=True)
    assert better.ok and not worse.ok
    verdict = Verdict([better, worse], replaces="old", weights="new")
    assert not verdict.promoted
    assert verdict.reasons == [worse.reason]


# --- bias -------------------------------------------------------------------------------------------------------------


def found(count: int) -> list[dict[str, str]]:
    return [{"line": f"age, crisis {number}"} for number in range(count)]


def test_no_finding_of_bias_may_be_added():
    assert gate._bias(found(1), found(1)).ok
    assert gate._bias(found(1), []).ok
    worse = gate._bias(found(1), found(2))
    assert worse.reason == "bias: 2 findings outside the bounds, 1 before; the first is age, crisis 0"


# --- the whole gate ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_tokenizer):
    """Three runs on the same dialogues, the first the least trained."""
    home = tmp_path_factory.mktemp("runs")
    base, data = save_model(home / "tiny", tiny_tokenizer, n_positions=128), write_csv(home / "talk.csv")
    steps = {"first": 1, "second": 3, "third": 5}
    return {
        name: train(home / name, base, data, max_steps=count, eval_steps=count, save_steps=count, sample_replies=0)
        for name, count in steps.items()
    }


LOOSE: dict[str, Any] = {
    **{"max_unsafe_rise": 1.0, "max_stop_fall": 1.0, "max_perplexity_rise": 99.0},
    **{"suite_samples": 1, "suite_tokens": 4, "n_resamples": 100},
}


def held_out(run: RunFolder) -> list[dict[str, Any]]:
    prompt = [{"role": "user", "content": "My river letter hurts"}]
    good, bad = ([{"role": "assistant", "content": text}] for text in ("Tell me of candle", "zzzz qqqq xxxx zzzz"))
    return [{"person": str(number), "prompt": prompt, "chosen": good, "rejected": bad} for number in range(4)]


VETOES = ("perplexity", "unsafe replies", "grave replies", "ends by itself")


@pytest.fixture
def first(runs, tmp_path):
    return FirstModel(runs["first"], tmp_path / "first.json")


def test_judging_writes_the_verdict_and_the_replies(runs, first):
    old, new = runs["first"], runs["third"]
    verdict = judge(old, new, held_out(new), GateArguments(**LOOSE), first)
    assert [measure.name for measure in verdict.measures] == ["preference", *VETOES, "findings of bias"]
    # That bias was left out stands in the verdict.
    assert (verdict.measures[-1].bound, verdict.measures[-1].ok) == ("not measured, as asked", None)
    assert verdict.table().splitlines()[-1].split() == [
        *("findings", "of", "bias", "-", "-", "-", "not", "measured,", "as", "asked", "-")
    ]
    written = read_json(new.path / "gate.json")
    assert (written["promoted"], written["reasons"]) == (True, [])
    assert (written["replaces"], written["weights"]) == tuple(weights_fingerprint(run.model) for run in (old, new))
    lines = (new.path / "gate_replies.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(prompts())
    assert verdict.table().splitlines()[0].split() == ["gate", "old", "new", "change", "must", "be", "holds"]


def test_a_new_model_is_held_against_the_first_too_whose_figures_are_measured_once(runs, first, tmp_path, monkeypatch):
    old, new = runs["second"], runs["third"]
    bias = Findings(old=found(2), new=found(2), first=found(1))
    verdict = judge(old, new, held_out(new), GateArguments(**LOOSE), first, bias=bias)
    assert [measure.name for measure in verdict.measures] == [
        *("preference", *VETOES),
        *(f"{name}, since the first model" for name in VETOES),
        *("findings of bias", "findings of bias, since the first model"),
    ]
    # Each step may be small enough, and all of them together too large.
    assert verdict.measures[-2].ok
    assert verdict.reasons == [
        "since the first model, bias: 2 findings outside the bounds, 1 before; the first is age, crisis 0"
    ]
    kept = read_json(first.file)
    measured = []
    measure = gate.Yardstick.measure
    monkeypatch.setattr(
        gate.Yardstick,
        "measure",
        lambda self, run, model, name: measured.append(name) or measure(self, run, model, name),
    )
    write_json(first.file, {**kept, "likelihood": [[nats / 2, *rest] for nats, *rest in kept["likelihood"]]})
    bounds = GateArguments(**{**LOOSE, "max_perplexity_rise": 0.5})
    verdict = judge(old, new, held_out(new), bounds, first)
    assert measured == ["old", "new"]
    assert [reason.split(" rose")[0] for reason in verdict.reasons] == [
        "since the first model, perplexity on test dialogues"
    ]
    # Figures that were measured in another way are not compared.
    judge(old, new, held_out(new), GateArguments(**{**LOOSE, "suite_tokens": 3}), first)
    assert measured == ["old", "new", "the first model", "old", "new"]
    # Nor are those that another check of replies was asked about.
    monkeypatch.setattr(figures, "checks_fingerprint", lambda: "others")
    judge(old, new, held_out(new), GateArguments(**{**LOOSE, "suite_tokens": 3}), first)
    assert measured[5:] == ["the first model", "old", "new"]


def test_the_old_model_does_not_replace_the_new_one(runs, first):
    verdict = judge(runs["third"], runs["first"], held_out(runs["first"]), GateArguments(**LOOSE), first)
    assert not verdict.promoted
    assert verdict.reasons[0].startswith("held-out preference did not surely get better: -")


def test_a_model_that_is_no_worse_fails_only_where_it_is_no_better(runs, first):
    """The bounds as they are by default can be kept: the very same model keeps them, and is not promoted for that."""
    run = runs["first"]
    bounds = GateArguments(suite_samples=2, suite_tokens=4, n_resamples=100)
    verdict = judge(run, run, held_out(run), bounds, first, bias=Findings(found(1), found(1), found(1)))
    assert {measure.name: measure.ok for measure in verdict.measures} == {
        "preference": False,
        **dict.fromkeys((*VETOES, "findings of bias"), True),
    }
    assert verdict.reasons == [
        "held-out preference did not surely get better: +0.0000 nats a token, [+0.0000, +0.0000] over people; it must "
        "be above 0"
    ]


def test_a_bound_of_nothing_is_a_veto(runs, first):
    strict = GateArguments(**{**LOOSE, "max_unsafe_rise": 0.0})
    verdict = judge(runs["first"], runs["third"], held_out(runs["third"]), strict, first)
    assert verdict.measures[0].ok and not verdict.promoted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_unsafe_rise": -0.1}, r"^max_unsafe_rise is -0.1; give 0 or more$"),
        ({"suite_samples": 0}, r"^suite_samples is 0; give 1 or more$"),
    ],
)
def test_bad_bounds(changes, message):
    with pytest.raises(ValueError, match=message):
        GateArguments(**changes)


# --- the pointer ------------------------------------------------------------------------------------------------------


def test_the_pointer_moves_whole_or_not_at_all(runs, tmp_path, monkeypatch):
    point_current(tmp_path, runs["first"])
    assert current_run(tmp_path).path.resolve() == runs["first"].path.resolve()
    assert not os.path.isabs(os.readlink(tmp_path / "current"))
    # Any recipe takes it for the run.
    assert load_tokenizer(str(tmp_path / "current")).chat_template

    def refuse(*args):
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"^the disk is gone$"):
        patch.setattr("mh_support.alignment.promotion.os.replace", refuse)
        point_current(tmp_path, runs["second"])
    assert current_run(tmp_path).path.resolve() == runs["first"].path.resolve()
    point_current(tmp_path, runs["second"])  # The draft that was left is in nobody's way.
    assert current_run(tmp_path).path.resolve() == runs["second"].path.resolve()


def test_the_model_before_the_current_one_is_found_by_its_weights(runs, tmp_path):
    first, second, third = runs.values()
    for run in runs.values():
        (run.path / "gate.json").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"^there is no current model in .*; run recipes/align.py with"):
        current_run(tmp_path)
    point_current(tmp_path, first)
    with pytest.raises(ValueError, match=r"is the first model of .*; there is none to go back to$"):
        before_current(tmp_path, first, [])
    write_json(second.path / "gate.json", {"replaces": weights_fingerprint(first.model)})
    write_json(third.path / "gate.json", {"replaces": weights_fingerprint(second.model)})
    point_current(tmp_path, third)
    assert before_current(tmp_path, first, [second, third])[1].path == second.path
    with pytest.raises(ValueError, match=r"\(weights [0-9a-f]{12}\) is no longer there; restore its folder$"):
        before_current(tmp_path, first, [third])
