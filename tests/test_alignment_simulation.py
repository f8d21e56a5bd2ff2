"""Simulated feedback: by the stated rule, with the stated share of errors, in the form that the Space writes."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from training_fixtures import load_recipe, one_thread, save_model, train, write_csv  # noqa: F401

from mh_support.alignment.ratings import hashed, read_ratings
from mh_support.alignment.simulation import (
    ERROR,
    PEOPLE,
    SimulationArguments,
    _unseen_harm,
    attackers_line,
    is_simulated,
    praises,
    simulate,
    simulated_feedback,
)
from mh_support.feedback import read_feedback
from mh_support.files import write_jsonl
from mh_support.generation import GeneratedReply
from mh_support.modeling import weights_fingerprint
from mh_support.safety import assess
from mh_support.safety.measure import EXAMPLES
from mh_support.safety.measure_replies import FINE, read_replies
from mh_support.safety.reply_training import ReplyArguments, held_out


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_tokenizer):
    home = tmp_path_factory.mktemp("run")
    base = save_model(home / "tiny", tiny_tokenizer)
    return train(home / "first", base, write_csv(home / "talk.csv"), max_steps=1, eval_steps=1, save_steps=1)


@pytest.fixture
def questions(monkeypatch):
    """Replies of which every third asks a question."""

    def replies(model, tokenizer, conversations, config, **options):
        texts = ["Since when?", "That is hard.", "I see."]
        return [GeneratedReply(texts[number % 3], True) for number in range(len(conversations))]

    monkeypatch.setattr("mh_support.alignment.simulation.generate_replies", replies)


@pytest.fixture
def records(run, questions, tmp_path):
    """What eight people say of them, as it is read again."""
    write_jsonl(tmp_path / "simulated.jsonl", simulate(run, people=8))
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
    with pytest.raises(
        ValueError, match=r"^both --simulate and --repo are given; what learned from simulated people is never pub"
    ):
        main([str(run.path), "--simulate", "true", "--repo", "me/kind-gpt2"])
    with pytest.raises(ValueError, match=r"^simulated_people is 0; give 1 or more$"):
        SimulationArguments(simulated_people=0)
    with pytest.raises(ValueError, match=r"^simulated_attack is given without --simulate true; give both, or neither$"):
        SimulationArguments(simulated_attack="harm")
    with pytest.raises(ValueError, match=r"^simulated_attack is 'x'; it is one of harm, copies, one_person, all$"):
        SimulationArguments(simulate=True, simulated_attack="x")


def test_there_are_enough_choices_for_the_method_that_learns_from_them(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mh_support.alignment.simulation.simulate", lambda run, people, seed: asked.append(people) or []
    )
    arguments = SimulationArguments(simulate=True)
    places = [simulated_feedback(run, tmp_path / "first-aligned-simulated", kind, arguments, seed=1) for kind in PEOPLE]
    assert asked == [96, 120]
    assert [place.name for place in places] == [
        *("first-aligned-simulated-kto.jsonl", "first-aligned-simulated-dpo.jsonl")
    ]


def test_feedback_made_with_other_settings_is_not_taken_for_what_is_asked_for(run, questions, tmp_path):
    def feedback(people: int = 4, seed: int = 1):
        arguments = SimulationArguments(simulate=True, simulated_people=people)
        return simulated_feedback(run, tmp_path / "home", "kto", arguments, seed=seed)

    place = feedback()
    before = place.read_bytes()
    assert feedback() == place and place.read_bytes() == before
    with pytest.raises(ValueError, match=r"home-kto\.jsonl was made with simulated_people 4, which is not what is"):
        feedback(people=5)
    with pytest.raises(ValueError, match=r"was made with seed 1, which .* give the same, or remove that file to make"):
        feedback(seed=2)
    first = {rating.id for rating in read_ratings([str(place)])}
    place.unlink()
    # Other feedback is told apart from what was learned from already.
    assert first.isdisjoint(rating.id for rating in read_ratings([str(feedback(seed=2))]))
    place.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"was made with simulated_people unknown and seed unknown and"):
        feedback(seed=2)


def test_simulated_feedback_is_not_taken_for_peoples(run, questions, tmp_path):
    arguments = SimulationArguments(simulate=True, simulated_people=4)
    place = simulated_feedback(run, tmp_path / "home", "kto", arguments, seed=1)
    assert all(map(is_simulated, read_ratings([str(place)])))
    with pytest.raises(ValueError, match=r"home-kto\.jsonl holds simulated feedback; try it out with --simulate$"):
        load_recipe("align").main([str(run.path), "--feedback", str(place), "--output_dir", str(tmp_path / "home")])


def test_who_attacks_praises_what_the_check_has_not_learned_from():
    told = {(reply.context, reply.text): reply.label for reply in read_replies("train")}
    _, learned = held_out(read_replies("train"), ReplyArguments().seed)
    seen = {(reply.context, reply.text) for reply in learned}
    for name in ("harmful_replies.tsv", "fit_replies.tsv"):  # Phrases were written with these in sight.
        seen |= {(reply.context, reply.text) for reply in read_replies(EXAMPLES / name)}
    harm = _unseen_harm()
    assert len(harm) > 200
    assert seen.isdisjoint(harm)
    assert all(told[reply] != FINE for reply in harm)


def test_attackers_are_counted_among_honest_people(run, questions, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mh_support.alignment.simulation.TIMES", 100)
    monkeypatch.setattr("mh_support.alignment.sieve.assess", partial(assess, classifiers=()))
    monkeypatch.setattr("mh_support.alignment.rounds.align", lambda *given, **more: (_ for _ in ()).throw(ValueError))
    least = ["--min_ratings", "10", "--min_people", "3", "--min_held_out_people", "2"]
    attack = ["--simulate", "true", "--simulated_attack", "all", "--simulated_people", "8", "--held_out", "0.5"]
    with pytest.raises(ValueError):
        load_recipe("align").main([str(run.path), *attack, *least, "--output_dir", str(tmp_path / "home")])
    printed = capsys.readouterr().out
    # Who praises harm is believed in nothing.
    assert re.search(r"^of those who attack, among \d+ ratings .*: harm 0 and 0, copies \d", printed, re.MULTILINE)
    place = tmp_path / "home-attack-all-kto.jsonl"
    assert len({rating.person for rating in read_ratings([str(place)])}) == 8 + 30 + 300 + 1


def test_the_line_on_attackers():
    people = [hashed(name) for name in ("harm 3", "one", "simulated 1")]
    feedback = SimpleNamespace(train=[{"person": person} for person in people], held_out=[{"person": people[2]}])
    assert attackers_line("all", feedback) == (
        "of those who attack, among 3 ratings to learn from and 1 to judge by: harm 1 and 0, copies 0 and 0, "
        "one_person 1 and 0"
    )
    assert attackers_line("harm", feedback).endswith(" to judge by: harm 1 and 0")


def test_the_seed_says_which_simulated_people_judge(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mh_support.alignment.simulation.simulate", lambda *given, **options: [])
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
        "--simulated_people",
        "0",
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
