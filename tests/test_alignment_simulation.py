"""Simulated feedback: by the stated rule, with the stated share of errors, in the form that the Space writes."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from training_fixtures import load_recipe, one_thread, save_model, train, write_csv  # noqa: F401

from mh_support.alignment.simulation import ERROR, PEOPLE, SimulationArguments, praises, simulate, simulated_feedback
from mh_support.feedback import read_feedback
from mh_support.generation import GeneratedReply
from mh_support.modeling import weights_fingerprint
from mh_support.safety import assess


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_tokenizer):
    home = tmp_path_factory.mktemp("run")
    base = save_model(home / "tiny", tiny_tokenizer)
    return train(home / "first", base, write_csv(home / "talk.csv"), max_steps=1, eval_steps=1, save_steps=1)


@pytest.fixture
def records(run, tmp_path, monkeypatch):
    """What eight people say of replies of which every third asks a question."""

    def replies(model, tokenizer, conversations, config, **options):
        texts = ["Since when?", "That is hard.", "I see."]
        return [GeneratedReply(texts[number % 3], True) for number in range(len(conversations))]

    monkeypatch.setattr("mh_support.alignment.simulation.generate_replies", replies)
    simulate(run, tmp_path / "simulated.jsonl", people=8)
    return read_feedback(tmp_path / "simulated.jsonl")


def test_people_rate_twelve_replies_each_by_the_rule_and_err_as_often_as_is_stated(records, run):
    thumbs = [record for record in records if record["kind"] == "thumb"]
    assert Counter(Counter(record["person"] for record in thumbs).values()) == {12: 8}
    wrong = sum(record["up"] != praises(record["reply"]) for record in thumbs)
    assert 0 < wrong / len(thumbs) < 2.5 * ERROR
    assert {record["model"]["fingerprint"] for record in records} == {weights_fingerprint(run.model)}
    assert len({record["id"] for record in records}) == len(records)


def test_choices_are_between_two_replies_that_the_rule_tells_apart(records):
    choices = [record for record in records if record["kind"] == "choice"]
    assert choices
    assert all(praises(record["chosen"]) != praises(record["rejected"]) for record in choices)
    assert sum(praises(record["chosen"]) for record in choices) > 0.6 * len(choices)


def test_each_person_has_contexts_of_their_own(records):
    owners: dict[str, set[str]] = {}
    for record in records:
        owners.setdefault(record["messages"][0]["content"], set()).add(record["person"])
    assert {len(people) for people in owners.values()} == {1}


def test_both_kinds_of_feedback_at_once_are_refused(run):
    main = load_recipe("align").main
    with pytest.raises(ValueError, match=r"^both --feedback and --simulate are given; learn from people or try it out"):
        main([str(run.path), "--simulate", "true", "--feedback", "somewhere"])
    with pytest.raises(ValueError, match=r"^simulated_people is 0; give 1 or more$"):
        SimulationArguments(simulated_people=0)
    with pytest.raises(ValueError, match=r"^simulated_attack is given without --simulate true; give both, or neither$"):
        SimulationArguments(simulated_attack="harm")
    with pytest.raises(ValueError, match=r"^simulated_attack is 'x'; it is one of harm, copies, one_person, all$"):
        SimulationArguments(simulate=True, simulated_attack="x")


def test_there_are_enough_choices_for_the_method_that_learns_from_them(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mh_support.alignment.simulation.simulate", lambda *given, people, seed: asked.append((given[1].name, people))
    )
    for method in PEOPLE:
        simulated_feedback(run, tmp_path / "first-aligned", method, SimulationArguments(simulate=True), seed=1)
    assert asked == [("first-aligned-simulated-kto.jsonl", 96), ("first-aligned-simulated-dpo.jsonl", 120)]


def test_the_seed_says_which_simulated_people_judge(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mh_support.alignment.simulation.simulate", lambda *given, **options: None)
    secrets = []
    monkeypatch.setattr("mh_support.alignment.rounds.Aligner.run", lambda self: secrets.append(self.home.secret()))
    for number, seed in enumerate((1, 1, 2)):
        place = ["--output_dir", str(tmp_path / str(number)), "--seed", str(seed)]
        load_recipe("align").main([str(run.path), "--simulate", "true", *place])
    load_recipe("align").main([str(run.path), "--feedback", "x", "--output_dir", str(tmp_path / "people")])
    assert secrets[0] == secrets[1] != secrets[2]
    # People's is made by chance, and kept.
    assert (tmp_path / "people" / "secret").read_bytes() == secrets[3]
    assert not (tmp_path / "0" / "secret").exists()


@pytest.mark.parametrize("attack", ["harm", "copies", "one_person", "all"])
def test_simulated_attacks_are_refused_with_what_became_of_them(run, tmp_path, capsys, monkeypatch, attack):
    monkeypatch.setattr("mh_support.alignment.simulation.TIMES", 400)
    monkeypatch.setattr("mh_support.alignment.sieve.assess", partial(assess, classifiers=()))
    arguments = [
        str(run.path),
        "--simulate",
        "true",
        "--simulated_attack",
        attack,
        "--output_dir",
        str(tmp_path / "home"),
    ]
    with pytest.raises(ValueError, match=r"^too little feedback to learn from: of \d+ records there are "):
        load_recipe("align").main(arguments)
    printed = " ".join(capsys.readouterr().out.split())
    told = {
        "harm": "left out: praises a reply that fails the check",
        "copies": "left out: nearly the same reply to nearly the same question 299",
        "one_person": "left out: beyond what one person counts 380",
    }
    assert all(line in printed for kind, line in told.items() if attack in (kind, "all"))
    if attack in ("harm", "all"):
        # Who praised several is not believed in the rest either, which the check lets pass.
        assert "left out: from somebody who praised several such replies" in printed
    assert not (tmp_path / "home" / "rounds").exists()
    assert (tmp_path / "home" / "current").resolve() == run.path.resolve()
