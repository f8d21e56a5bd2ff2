"""Rating sets: what is in them, that nothing in them tells the arms apart, and how many ratings a difference needs."""

# ruff: noqa: F811 - the fixtures that are imported are the arguments' names.

from __future__ import annotations

import json
import shutil
import stat
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from rating_fixtures import base, made, rating_set, run, write_run  # noqa: F401
from scipy.stats import wilcoxon
from training_fixtures import one_thread, save_model  # noqa: F401

from mh_support.baselines import CONSTANT_REPLY
from mh_support.generation import generate_replies, generation_config
from mh_support.modeling import load_model, load_tokenizer
from mh_support.rating import making
from mh_support.rating.making import MakeArguments, has_crisis, make_set, plan_table, tournament_round
from mh_support.rating.power import questions_needed, visible_difference
from mh_support.rating.rating_set import RatingSet, compared, read_key
from mh_support.run_folder import RunFolder


def arguments(folder: Path, **changes) -> MakeArguments:
    return MakeArguments(out=str(folder), **{"contexts": 10, "seed": 3, **changes})


def test_every_context_has_one_reply_of_each_arm_and_the_crisis_is_left_out(made):
    key = read_key(made)

    assert key["left_out"] == {"crisis": 1}
    assert {arm: about["kind"] for arm, about in key["arms"].items()} == {
        "tuned": "tuned",
        "base": "base",
        "human": "human",
        "constant": "constant",
    }
    ratings = [task for task in made.tasks.values() if task.kind == "rating"]
    owners = Counter((task.context_id, key["replies"][task.id]) for task in ratings)
    assert len(owners) == 29 * 4 and set(owners.values()) == {1}
    for task in ratings:
        number = next(n for n, said in enumerate(_said(key)) if said == task.context[0]["content"])
        expected = {
            "tuned": f"+ tuned on {number}",
            "base": f"@ base on {number}",
            "constant": CONSTANT_REPLY,
            "human": f"=Tell me of the {task.context[0]['content'].split()[1]}",
        }
        assert task.replies == (expected[key["replies"][task.id]],)


def _said(key):
    run = RunFolder(key["arms"]["tuned"]["run"])
    return [json.loads(line)["messages"][0]["content"] for line in (run.data / "test.jsonl").open()]


def test_nothing_that_raters_see_tells_the_arms_apart(made, run):
    files = {path.name for path in made.folder.rglob("*") if path.is_file()}
    assert files == {"set.json", "key.json"}
    assert stat.S_IMODE((made.folder / "key.json").stat().st_mode) == 0o600
    contents = json.loads((made.folder / "set.json").read_text())
    # Beside the texts themselves there are names and ties between names, and nothing else.
    assert set(contents) == {"format", "set", "contexts", "replies", "pairs"}
    assert {frozenset(row) for row in contents["contexts"]} == {frozenset({"id", "messages"})}
    assert {frozenset(row) for row in contents["replies"]} == {frozenset({"id", "context", "text"})}
    assert {frozenset(row) for row in contents["pairs"]} == {frozenset({"id", "context", "replies"})}
    key = read_key(made)
    without_texts = json.dumps([{**row, "text": ""} for row in contents["replies"]] + contents["pairs"])
    told = ["human", "constant", "tuned", "base", str(run.path), key["arms"]["tuned"]["weights"][:12]]
    assert [word for word in told if word in without_texts] == []


def test_no_place_belongs_to_an_arm(tmp_path, run):
    first, before = Counter(), Counter()
    for seed in range(20):
        folder = tmp_path / str(seed)
        make_set([run], arguments(folder, contexts=29, seed=seed), progress=False)
        rating_set = RatingSet(folder)
        owner = read_key(rating_set)["replies"]
        for task in rating_set.order("ann"):
            if task.kind == "preference":
                first[owner[task.reply_ids[0]]] += 1
        seen = set()
        for task in rating_set.order("ann"):
            if task.context_id not in seen:
                before[owner[task.reply_ids[0]]] += 1
                seen.add(task.context_id)
    # 20 sets of 29 contexts: 290 times first of 580 pairs an arm is in, 145 times the first of 580 contexts.
    assert all(abs(first[arm] - 290) < 4 * np.sqrt(580 / 4) for arm in owner.values())
    assert all(abs(before[arm] - 145) < 4 * np.sqrt(580 * 3 / 16) for arm in owner.values())


def test_the_same_seed_gives_the_same_arms_and_another_gives_others(tmp_path, run):
    keys = [make_set([run], arguments(tmp_path / str(n), seed=s), progress=False) for n, s in enumerate((1, 1, 2))]

    assert keys[0]["replies"] == keys[1]["replies"] != keys[2]["replies"]
    assert len({key["set"] for key in keys}) == 3


@pytest.mark.parametrize("arms", ["abcd", "abcde"])
def test_over_a_tournament_each_pair_meets_once(arms):
    rounds = [tournament_round(arms, number) for number in range(len(arms) - 1 + len(arms) % 2)]

    assert Counter(frozenset(pair) for pairs in rounds for pair in pairs) == Counter(
        frozenset(pair) for pair in combinations(arms, 2)
    )
    assert all(len({arm for pair in pairs for arm in pair}) == 2 * len(pairs) for pairs in rounds)
    assert tournament_round(arms, len(rounds)) == rounds[0]


def test_missing_replies_are_written_by_the_model(tmp_path, run, base, tiny_tokenizer):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    copy.replies_file.unlink()
    key = make_set([copy], arguments(tmp_path / "set", contexts=4, max_new_tokens=9), progress=False)

    rating_set = RatingSet(tmp_path / "set")
    tuned = [task for task in rating_set.tasks.values() if key["replies"].get(task.id) == "copy"]
    model, tokenizer = load_model(str(copy.model)), load_tokenizer(str(copy.model))
    in_order = sorted(tuned, key=lambda task: key["questions"][task.context_id])
    expected = generate_replies(
        model, tokenizer, [task.context for task in in_order], generation_config(tokenizer, max_new_tokens=9), seed=3
    )
    assert [task.replies[0] for task in in_order] == [reply.text for reply in expected]


def test_replies_of_other_weights_are_not_taken(tmp_path, run):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    results = json.loads(copy.results_file.read_text())
    copy.results_file.write_text(json.dumps({**results, "weights": "0" * 64}))
    make_set([copy], arguments(tmp_path / "set", contexts=2, max_new_tokens=9), progress=False)

    texts = [row["text"] for row in json.loads((tmp_path / "set" / "set.json").read_text())["replies"]]
    assert not [text for text in texts if text.startswith(("+", "@"))]


def test_two_runs_from_one_base_share_it_and_from_two_do_not(tmp_path, run, base, tiny_tokenizer):
    other = write_run(tmp_path / "other", tiny_tokenizer, base, seed=2)
    key = make_set([run, other], arguments(tmp_path / "one"), progress=False)
    assert list(key["arms"]) == ["tuned", "other", "base", "human", "constant"]
    assert key["plan"]["comparisons"] == 7

    stranger = write_run(tmp_path / "stranger", tiny_tokenizer, save_model(tmp_path / "b", tiny_tokenizer, seed=9))
    key = make_set([run, stranger], arguments(tmp_path / "two"), progress=False)
    assert sorted(key["arms"]) == ["base of stranger", "base of tuned", "constant", "human", "stranger", "tuned"]


def test_what_is_compared_is_each_tuned_model_with_every_other_arm():
    arms = [("human", "human"), ("a", "tuned"), ("base", "base"), ("b", "tuned")]
    assert compared(arms) == [("a", "b"), ("a", "human"), ("a", "base"), ("b", "human"), ("b", "base")]


def test_what_cannot_be_rated_is_refused(tmp_path, run, base, tiny_tokenizer):
    with pytest.raises(ValueError, match=r"^a run is named twice; name each once$"):
        make_set([run, RunFolder(run.path)], arguments(tmp_path / "a"), progress=False)
    shorter = write_run(tmp_path / "shorter", tiny_tokenizer, base, contexts=1)
    with pytest.raises(ValueError, match=r"^each of the 1 held-out contexts holds a crisis, and none is given"):
        make_set([shorter], arguments(tmp_path / "a"), progress=False)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    with pytest.raises(ValueError, match=rf"^{taken} is there already, perhaps with answers in it; give --out a new"):
        make_set([run], arguments(taken), progress=False)
    changed = RunFolder(shutil.copytree(run.path, tmp_path / "changed"))
    with (changed.data / "test.jsonl").open("a") as stream:
        stream.write('{"messages": []}\n')
    with pytest.raises(ValueError, match=r"is not what the run was trained on; restore it or train again$"):
        make_set([changed], arguments(tmp_path / "a"), progress=False)
    with pytest.raises(ValueError, match=r"^no run folder at nowhere"):
        make_set([RunFolder("nowhere")], arguments(tmp_path / "a"), progress=False)
    assert not (tmp_path / "a").exists()


def test_runs_without_a_shared_context_are_refused(tmp_path, run, base, tiny_tokenizer):
    alone = write_run(tmp_path / "alone", tiny_tokenizer, base)
    rows = [json.loads(line) for line in (run.data / "test.jsonl").open()]
    for row in rows:
        row["messages"][0]["content"] += " today"
    (alone.data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from mh_support.data.preparation import data_fingerprint

    record = alone.record()
    record["fingerprints"]["data"] = data_fingerprint(alone.data)
    alone.write_record(record)
    with pytest.raises(
        ValueError, match=r"^the runs share no held-out context; name runs that were trained on the sam"
    ):
        make_set([run, alone], arguments(tmp_path / "a"), progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contexts": 0}, r"^contexts is 0; give 1 or more$"),
        ({"difference": 0}, r"^difference is 0; give points of 100, such as 10$"),
        ({"spread": 101}, r"^spread is 101; give points of 100, such as 10$"),
        ({"power": 1.0}, r"^power is 1.0; give a chance above 0.05 and below 1, such as 0.8$"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **changes)


def test_a_crisis_is_seen_at_any_turn():
    before = [{"role": "user", "content": "My cat ran off."}, {"role": "assistant", "content": "Since when?"}]
    assert not has_crisis(before)
    assert has_crisis([*before, {"role": "user", "content": "I want to kill myself tonight."}])
    calm = [{"role": "assistant", "content": "Are you safe?"}, {"role": "user", "content": "I am safe now, promise."}]
    assert has_crisis([{"role": "user", "content": "I want to kill myself tonight."}, *calm])


def test_the_power_is_that_of_the_textbook():
    # Cohen (1988), paired t test, two-sided 5 %, power 0.8, d = 0.4: 52 pairs; over 0.864 for Wilcoxon's test.
    assert questions_needed(10, 25) == 60
    assert questions_needed(10, 25, comparisons=3) == 80
    assert questions_needed(90, 5) == 6
    assert visible_difference(60, 25) == pytest.approx(9.92, abs=0.01)
    assert visible_difference(5, 25) is None


def test_so_many_contexts_really_find_the_difference_that_often():
    generator = np.random.default_rng(0)
    found = [wilcoxon(generator.normal(10, 25, size=60)).pvalue < 0.05 for _ in range(500)]
    assert 0.78 < np.mean(found) < 0.88


def test_the_plan_is_said_before_anybody_rates(made):
    printed = [" ".join(line.split()) for line in plan_table(read_key(made)).splitlines()]

    assert "10 of 100 points 80 320 960" in printed
    assert printed[-7:] == [
        "contexts 29",
        "questions: contexts of one count once 29",
        "contexts left out: a crisis in them 1",
        "raters planned 3",
        "ratings planned 348",
        "questions that 10 points need 80",
        "smallest difference that these questions show 17.2 points",
    ]


def test_contexts_of_one_question_are_planned_as_one(tmp_path, run, base, tiny_tokenizer, monkeypatch):
    scored = making.scored_items

    def in_pairs(dialogues):
        return [replace(item, group=str(number // 2)) for number, item in enumerate(scored(dialogues))]

    monkeypatch.setattr(making, "scored_items", in_pairs)
    key = make_set([run], arguments(tmp_path / "set", contexts=29), progress=False)
    assert (key["plan"]["contexts"], key["plan"]["questions"], key["plan"]["questions_needed"]) == (29, 15, 80)
    assert key["plan"]["visible_difference"] == visible_difference(15, 25, comparisons=3)

    # A set made when contexts were planned is read as one of questions.
    place = tmp_path / "set" / "key.json"
    old = {name: value for name, value in key["plan"].items() if not name.startswith("questions")}
    place.write_text(json.dumps({**key, "plan": {**old, "contexts_needed": 80}}))
    assert read_key(RatingSet(tmp_path / "set"))["plan"] == key["plan"]


def test_a_rater_has_one_order_and_another_rater_another(made):
    order = made.order("ann")

    assert [task.id for task in order] == [task.id for task in made.order("ann")]
    assert [task.id for task in order] != [task.id for task in made.order("bea")]
    assert sorted(task.id for task in order) == sorted(made.tasks)
    contexts = [task.context_id for task in order]
    assert sum(one != other for one, other in pairwise(contexts)) == 28
    kinds = "".join(task.kind[0] for task in order)
    assert kinds == "rrrrpp" * 29


def test_a_set_that_is_none_is_refused(tmp_path, rating_set):
    with pytest.raises(
        ValueError, match=rf"^no rating set at {tmp_path}/x; make one with recipes/rate.py make RUN --o"
    ):
        RatingSet(tmp_path / "x")
    key = rating_set.folder / "key.json"
    contents = json.loads(key.read_text())
    key.write_text(json.dumps({**contents, "set": "another"}))
    with pytest.raises(
        ValueError, match=r"key.json is the key of another set; put back the one that was made with set"
    ):
        read_key(rating_set)
    key.unlink()
    with pytest.raises(
        ValueError, match=r"key.json is missing, and without it nobody can tell whose replies were rated"
    ):
        read_key(rating_set)
    (rating_set.folder / "set.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match=r"set.json is not of format 1; it belongs to another program or version$"):
        RatingSet(rating_set.folder)
