"""Whole rounds of learning from feedback: promoted or kept aside, published, rolled back, and killed at every stage."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import re
import shutil
import signal
import stat
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alignment_fixtures import choice, crowd, person, sentence, thumb, write_feedback
from loopback_hub import LoopbackHub
from test_card import BIAS
from training_fixtures import load_recipe, one_thread, quick_steps, save_model, train, write_csv  # noqa: F401

import mh_support.alignment.rounds as rounds
import mh_support.cli
import mh_support.files
from mh_support.alignment.home import Home
from mh_support.bias.measure import made_from
from mh_support.files import read_json, remove, write_json, write_jsonl
from mh_support.generation import GeneratedReply
from mh_support.modeling import weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.scoring import ScoringArguments
from mh_support.support_bot import SupportBot

TOKEN = "hf_" + "loopback" * 4
# Few steps, bounds that a model of random weights can keep, and as little feedback as there is.
QUICK = {
    **{"max_steps": 8, "save_steps": 4, "per_device_train_batch_size": 8, "learning_rate": "3e-3", "bf16": "false"},
    **{"disable_tqdm": "true", "min_ratings": 10, "min_people": 3, "min_held_out_people": 2},
    **{"max_unsafe_rise": 1, "max_stop_fall": 1, "max_perplexity_rise": 99},
    **{"suite_samples": 1, "suite_tokens": 4, "gate_limit": 4, "n_resamples": 200, "measure_bias": "false"},
}


SECRET = b"\x04" * 32  # Holds out some of the crowd, and not by chance.


def flags(**changes: Any) -> list[str]:
    given = {**QUICK, **changes}
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_tokenizer):
    """A tiny run to start from, and feedback on it."""
    home = tmp_path_factory.mktemp("made")
    base, data = save_model(home / "tiny", tiny_tokenizer, n_positions=160), write_csv(home / "talk.csv")
    train(home / "first", base, data, max_steps=4, sample_replies=0)
    (home / "feedback").mkdir()
    write_feedback(home / "feedback" / "one.jsonl", crowd(12, 4))
    return home


@pytest.fixture
def place(made, tmp_path):
    """A copy of the run and the feedback, to work on."""
    shutil.copytree(made / "first", tmp_path / "first")
    shutil.copytree(made / "feedback", tmp_path / "feedback")
    return tmp_path


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    """Let every home be made with the same secret."""
    monkeypatch.setattr("mh_support.files.secrets.token_bytes", lambda size: SECRET)


@pytest.fixture
def align(place, capfd):
    """Return a function that runs the recipe as the command line does, but here."""
    main = load_recipe("align").main

    def run(**changes: Any) -> SimpleNamespace:
        given = {"feedback": place / "feedback", **changes}
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            origin = given.pop("run", place / "first")
            mh_support.cli.run(functools.partial(main, [str(origin), *flags(**given)]))
        out, err = capfd.readouterr()
        error = [line for line in re.split(r"[\r\n]+", err) if line.startswith("error: ")]
        assert "Traceback" not in err
        return SimpleNamespace(code=ended.value.code, out=out, error=error[0] if error else None)

    return run


def cut_off(*given: Any, **more: Any) -> None:
    raise ValueError("cut off")


def current(place: Path) -> str:
    return os.readlink(place / "first-aligned" / "current")


def outcome(place: Path, number: int = 1) -> dict[str, Any]:
    return read_json(place / "first-aligned" / "rounds" / f"{number:04d}" / "outcome.json")


def texts(folder: Path) -> list[str]:
    """Return which files below a folder hold what the crowd wrote."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and sentence("0 0", 6).encode() in path.read_bytes()
    ]


# --- from feedback to a better model ----------------------------------------------------------------------------------


def test_a_better_model_takes_the_old_ones_place_and_goes_back_again(place, align):
    first = align()
    assert (first.code, first.error) == (0, None)
    assert "records read" in first.out and "preference" in first.out
    assert current(place) == "rounds/0001"
    run = RunFolder.open((place / "first-aligned" / "current").resolve())
    assert outcome(place)["promoted"] is True
    assert weights_fingerprint(run.model) != weights_fingerprint(place / "first" / "model")
    assert SupportBot.from_pretrained(str(place / "first-aligned" / "current"), max_new_tokens=4).reply(
        [{"role": "user", "content": "Hm."}]
    )
    # What people wrote has served, and the optimizer's state with it.
    assert texts(place / "first-aligned") == []
    assert not run.checkpoints.exists()
    secret = place / "first-aligned" / "secret"
    assert (secret.read_bytes(), secret.stat().st_mode & 0o777) == (SECRET, 0o600)

    again = align()
    assert again.out.splitlines() == [f"no new feedback since the last round in {run.path.parent.parent}"]
    assert not (place / "first-aligned" / "rounds" / "0002").exists()

    # The next round starts from the run itself, and is held against the model that replaced it.
    write_feedback(place / "feedback" / "two.jsonl", [thumb("new", sentence("new", 6), "Tell me of it?", True)])
    second = align()
    assert second.code == 0
    record = RunFolder.open(place / "first-aligned" / "rounds" / "0002").record()
    assert record["alignment"]["parent"] == str((place / "first").resolve())
    gate = read_json(place / "first-aligned" / "rounds" / "0002" / "gate.json")
    assert gate["replaces"] == weights_fingerprint(run.model)

    before = current(place)
    back = align(rollback="true", feedback=None)
    assert (back.code, back.error) == (0, None)
    assert current(place) == {"rounds/0002": "rounds/0001", "rounds/0001": "../first"}[before]
    assert outcome(place, int(before[-1]))["rolled_back"] is not None
    assert align().out.startswith("no new feedback since ")
    while current(place) != "../first":
        assert align(rollback="true", feedback=None).code == 0
    last = align(rollback="true", feedback=None)
    assert (last.code, last.error) == (
        1,
        f"error: {(place / 'first').resolve()} is the first model of {(place / 'first-aligned').resolve()}; there is "
        "none to go back to",
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_unsafe_rise": 0}, "unsafe replies: "),
        ({"max_perplexity_rise": 0}, "perplexity on test dialogues rose by "),
    ],
)
def test_what_is_worse_is_kept_aside_with_the_reason(place, align, changes, reason):
    ended = align(**changes)
    assert ended.code == 0
    assert current(place) == "../first"
    found = outcome(place)
    assert found["promoted"] is False
    assert any(line.startswith(reason) for line in found["reasons"])
    assert all(f"\n  {line}\n" in ended.out for line in found["reasons"])
    RunFolder.open(place / "first-aligned" / "rounds" / "0001")  # Kept whole, to be looked at.
    assert texts(place / "first-aligned") == []


def test_dpo_learns_from_choices_on_the_same_path(place, align, monkeypatch):
    choices = [
        choice(
            who, sentence((who, number), 6), f"Tell me more of {sentence((number, who), 2)}", "Well well oh well now"
        )
        for who in range(12)
        for number in range(3)
    ]
    write_feedback(place / "feedback" / "one.jsonl", choices)
    ended = align(method="dpo")
    assert (ended.code, ended.error) == (0, None)
    assert (current(place), outcome(place)["promoted"]) == ("rounds/0001", True)
    told = RunFolder.open(place / "first-aligned" / "rounds" / "0001").record()["alignment"]
    assert (told["method"], told["training"]["global_step"]) == ("dpo", 8)
    gate = read_json(place / "first-aligned" / "rounds" / "0001" / "gate.json")["measures"][0]
    assert gate["name"] == "preference" and gate["interval"][0] > 0
    assert align(rollback="true", feedback=None).code == 0 and current(place) == "../first"

    # The same feedback is new to another method, and to other arguments.
    assert align(method="dpo").out.startswith("no new feedback since ")
    assert align(method="kto").error.startswith("error: too little feedback to learn from: of ")
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "align", cut_off)
        assert align(method="dpo", beta=0.5).error == "error: cut off"
        assert align(method="dpo", max_stop_fall=0.5).error == "error: cut off"
    assert align(method="dpo", held_out=0.3).error == (
        f"error: the round {(place / 'first-aligned' / 'rounds' / '0002').resolve()} was begun with another held_out; "
        "go on with the same, or remove that folder to begin the round anew"
    )


def test_dpo_learns_nothing_from_thumbs_and_says_so(place, align):
    ended = align(method="dpo")
    assert ended.code == 1
    assert ended.error.startswith(
        "error: too little feedback to learn from: of 48 records there are 0 ratings to learn"
    )
    assert "left out: the method does not learn from this kind" in ended.out
    assert not (place / "first-aligned" / "rounds").exists()


# --- poison -----------------------------------------------------------------------------------------------------------


def test_poisoned_feedback_alone_is_refused(place, align):
    shutil.rmtree(place / "feedback")
    (place / "feedback").mkdir()
    harm = ["You have depression.", "I am a human therapist with years of practice.", "Take 40 mg of it before bed."]
    attack = [
        thumb(f"attacker {who}", sentence(("attack", who, number), 6), reply, True)
        for who in range(30)
        for number, reply in enumerate(harm)
    ]
    one = [thumb("one", sentence(("one", number), 6), sentence(number), number % 2 == 0) for number in range(1000)]
    copied = thumb("two", sentence("copied", 6), sentence("copied reply"), True)
    copies = [{**copied, "id": f"{number:x}", "person": person(number)} for number in range(300)]
    write_feedback(place / "feedback" / "poison.jsonl", [*attack, *one, *copies])
    ended = align()
    assert ended.code == 1
    assert "2 people to learn from of at least 3" in ended.error or "1 people to learn from" in ended.error
    assert current(place) == "../first"


def test_poison_beside_honest_feedback_leaves_the_model_as_honest_feedback_makes_it(place, align):
    assert align(output_dir=place / "honest").code == 0
    harm = [thumb(f"bad {who}", sentence(("bad", who), 6), "You have depression.", True) for who in range(40)]
    write_feedback(place / "feedback" / "poison.jsonl", harm)
    assert align(output_dir=place / "poisoned").code == 0
    honest, poisoned = (
        weights_fingerprint(place / name / "rounds" / "0001" / "model") for name in ("honest", "poisoned")
    )
    assert honest == poisoned


# --- what stands in the way -------------------------------------------------------------------------------------------


def test_two_at_once_are_refused(place, align):
    from filelock import FileLock

    home = (place / "first-aligned").resolve()
    home.mkdir()
    with FileLock(home / ".lock"):
        ended = align()
    assert (ended.code, ended.error) == (1, f"error: another process works in {home}; wait for it, or stop it")


def test_no_feedback_named_a_strange_folder_and_another_runs_folder(place, align):
    assert align(feedback=None).error.startswith(
        "error: there is no feedback to learn from; give --feedback the folder"
    )
    (place / "strange").mkdir()
    (place / "strange" / "thesis.txt").touch()
    ended = align(output_dir=place / "strange")
    assert ended.error == f"error: {place / 'strange'} holds thesis.txt, which is no round; give a new --output_dir"
    model = place / "first" / "model" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-4] + b"\0\0\0\0")
    assert "belongs to a run with other weights; give another --output_dir" in align().error


def test_what_a_round_keeps_is_read_again_whatever_signs_are_in_it(tmp_path):
    row = {"id": "1", "prompt": [{"role": "user", "content": "One\u2028two\x85three"}], "label": True}
    write_jsonl(tmp_path / "train.jsonl", [row])
    assert rounds._read_rows(tmp_path / "train.jsonl") == [row]


def test_a_round_is_no_place_for_another_home(place):
    home = Home(RunFolder.open(place / "first"))
    home.open()
    round_ = home.path / "rounds" / "0001"
    shutil.copytree(place / "first", round_)
    with pytest.raises(
        ValueError,
        match=rf"^{round_} is a round of {home.path}; give {home.origin.path}, which its rounds start from, or",
    ):
        Home(RunFolder(round_))
    with pytest.raises(
        ValueError, match=rf"^{home.path}/rounds/0002 lies among the rounds of {home.path}; give another"
    ):
        Home(home.origin, str(home.path / "rounds" / "0002"))
    Home(RunFolder(round_), str(place / "elsewhere")).open()


def test_only_rounds_are_taken_for_rounds_and_nothing_else_is_removed(place, align):
    home = Home(RunFolder.open(place / "first"))
    home.open()
    for name in ("0001-aligned", "00001", ".0001.abcdefg"):
        (home.path / "rounds" / name).mkdir(parents=True)
    (home.path / "rounds" / "0009").touch()
    assert home.rounds() == []
    stranger = home.path / "rounds" / "0001" / "thesis.txt"
    stranger.parent.mkdir()
    stranger.touch()
    assert align().error == f"error: {stranger.parent} holds thesis.txt and is no round; move it away"
    assert stranger.exists()


def test_simulated_people_have_a_home_of_their_own(place, align):
    real, simulated = (Home(RunFolder.open(place / "first"), simulated=kind) for kind in (False, True))
    assert (real.path.name, simulated.path.name) == ("first-aligned", "first-aligned-simulated")
    simulated.open()
    assert align(output_dir=simulated.path).error == (
        f"error: {simulated.path} is for simulated feedback, not for real; give another --output_dir"
    )
    real.open()
    with pytest.raises(ValueError, match=r"first-aligned is for real feedback, not for simulated; give another --out"):
        Home(real.origin, str(real.path), simulated=True).open()


def test_what_learned_from_simulated_people_says_so_for_good(place, align, monkeypatch):
    def replies(model, tokenizer, conversations, config, **options):
        texts = ["Since when?", "That is hard."]
        return [GeneratedReply(texts[number % 2], True) for number in range(len(conversations))]

    monkeypatch.setattr("mh_support.alignment.simulation.generate_replies", replies)
    given = {"feedback": None, "simulate": "true", "simulated_people": 12, "held_out": 0.5}
    assert align(**given).code == 0
    home = place / "first-aligned-simulated"
    run = RunFolder.open(home / "rounds" / "0001")
    assert run.record()["alignment"]["simulated"] is True
    assert not (place / "first-aligned").exists()
    # What then learns from people has learned from a rule too.
    monkeypatch.setattr(rounds.Aligner, "_judge", cut_off)
    with monkeypatch.context() as patch:
        patch.setattr("mh_support.alignment.training._finish", lambda *given: None)
        assert align(run=run.path, output_dir=place / "second").error == "error: cut off"
    assert RunFolder(place / "second" / "rounds" / "0001").record()["alignment"]["simulated"] is True


def test_who_takes_feedback_back_is_not_learned_from_when_a_round_goes_on(place, align, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "align", cut_off)
        assert align().error == "error: cut off"
        folder = place / "first-aligned" / "rounds" / "0001" / "feedback"
        assert sentence("0 0", 6) in "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
        # Nobody else on this machine reads it.
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        # Without all of it a round is begun anew.
        (folder / "held_out.jsonl").unlink()
        assert align().error == "error: cut off"
        assert (folder / "held_out.jsonl").is_file()
    write_feedback(place / "feedback" / "one.jsonl", crowd(12, 4)[4:])
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "remove", half_removed)
        assert align().error == "error: killed"
    assert not folder.parent.exists()
    ended = align()
    assert ended.code == 0
    assert sorted(path.name for path in (place / "first-aligned" / "rounds").iterdir()) == ["0001"]
    record = RunFolder.open(place / "first-aligned" / "rounds" / "0001").record()
    assert record["alignment"]["feedback"]["read"] == 44


def half_removed(folder: Path) -> None:
    """Remove a folder and be killed halfway."""

    def rmtree(path: Path, **options: Any) -> None:
        next(found for found in Path(path).rglob("*.jsonl")).unlink()
        raise ValueError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mh_support.files.shutil.rmtree", rmtree)
        remove(folder)


# --- bias -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bias(monkeypatch):
    """Let measuring find one thing in every run; return which were measured."""
    measured: list[str] = []

    def measure(run: RunFolder, arguments: Any, scoring: Any, *, output: Path) -> dict[str, Any]:
        measured.append(f"{run.path.name} in {output.parent.name}/{output.name}")
        result = {
            **BIAS,
            **made_from(run, arguments, scoring),
            "findings": [{"kind": "length", "axis": "age", "line": "too short"}],
        }
        write_json(output, result)
        return result

    monkeypatch.setattr(rounds, "measure_bias", measure)
    return measured


def aligner(place: Path) -> rounds.Aligner:
    return rounds.Aligner(Home(RunFolder.open(place / "first")), *[None] * 3, ScoringArguments(), None)  # type: ignore[arg-type]


def test_the_bias_of_the_old_model_is_measured_unless_it_was_in_the_same_way(place, bias):
    origin = RunFolder.open((place / "first").resolve())
    kept = place / "first-aligned" / "first_bias.json"
    kept.parent.mkdir()
    there = aligner(place)
    for _ in range(2):
        assert [finding["line"] for finding in there._findings(origin, kept)] == ["too short"]
    assert bias == ["first in first-aligned/first_bias.json"]
    # Of other weights, and made with other settings, texts or checks.
    for change in ({"weights": "0" * 64}, {"settings": {}}, {"texts": "0" * 64}, {"checks": "0" * 64}):
        write_json(kept, {**read_json(kept), **change})
        there._findings(origin, kept)
    assert len(bias) == 5
    # The run's own is as good, and is left as it is.
    shutil.move(kept, origin.bias_file)
    there._findings(origin, kept)
    assert len(bias) == 5
    write_json(origin.bias_file, {**read_json(origin.bias_file), "settings": {}})
    before = origin.bias_file.read_bytes()
    there._findings(origin, kept)
    assert (len(bias), origin.bias_file.read_bytes()) == (6, before)


def test_what_cannot_be_published_for_bias_does_not_become_current_until_that_is_accepted(place, align, online, bias):
    ended = align(repo="me/biased", measure_bias="true")
    assert (ended.code, current(place)) == (0, "../first")
    assert bias == ["first in first-aligned/first_bias.json", "0001 in 0001/bias.json"]
    (reason,) = outcome(place)["reasons"]
    assert reason.startswith("bias was found outside the bounds: too short; mend it, or publish with --accept_bias")
    assert (outcome(place)["promoted"], outcome(place)["published"]) == (False, None)
    assert f"\n  {reason}\n" in ended.out
    measures = read_json(place / "first-aligned" / "rounds" / "0001" / "gate.json")["measures"]
    assert (measures[-1]["name"], measures[-1]["old"], measures[-1]["new"]) == ("findings of bias", 1.0, 1.0)
    assert align(repo="me/biased", measure_bias="true").out.startswith("no new feedback since ")

    assert align(repo="me/biased", measure_bias="true", accept_bias="for a course").code == 0
    assert (current(place), outcome(place, 2)["promoted"]) == ("rounds/0002", True)
    assert "by whoever published it: for a course" in online.files("me/biased")["README.md"].decode()


def test_a_model_that_turns_out_not_to_be_fit_to_publish_is_current_no_longer(place, align, online, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "_end", cut_off)
        assert align().error == "error: cut off"
    assert current(place) == "rounds/0001"
    # What people wrote was needed for the verdict only.
    assert texts(place / "first-aligned") == []
    run = RunFolder(place / "first-aligned" / "rounds" / "0001")
    write_json(run.bias_file, {"weights": "0" * 64, "findings": []})
    ended = align(repo="me/unfit")
    assert (ended.code, current(place)) == (0, "../first")
    assert outcome(place)["promoted"] is False


def test_a_repository_and_a_reason_are_checked_before_anything_is_trained(align):
    assert align(repo="kind-gpt2").error.startswith("error: kind-gpt2 lacks its owner; give it as owner/name")
    assert align(repo="me/kind-gpt2", accept_bias=" ").error.startswith("error: --accept_bias is empty; give the rea")
    assert align(accept_bias="why not").error == (
        "error: accept_bias is given without --repo, and nothing is published; give both, or neither"
    )


# --- the Hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LoopbackHub(tmp_path_factory.mktemp("hub"), tokens=[TOKEN]) as server:
        yield server


@pytest.fixture
def online(hub, monkeypatch):
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def test_what_is_promoted_is_published_with_a_tag_and_rolling_back_publishes_the_one_before(place, align, online):
    online.fail_always(lambda method, path: "/commit/" in path, "403")
    cut = align(repo="me/kind-gpt2")
    assert cut.code == 1 and "does not let this token write to me/kind-gpt2" in cut.error
    assert current(place) == "rounds/0001"
    assert not (place / "first-aligned" / "rounds" / "0001" / "outcome.json").exists()
    online.clear_faults()

    assert align(repo="me/kind-gpt2").code == 0
    run = place / "first-aligned" / "rounds" / "0001"
    tag = f"weights-{weights_fingerprint(run / 'model')[:12]}"
    assert outcome(place)["published"] == {"address": f"{online.url}/me/kind-gpt2", "tag": tag}
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert online.files("me/kind-gpt2")["model.safetensors"] == weights
    assert online.files("me/kind-gpt2", revision=tag)["model.safetensors"] == weights
    card = online.files("me/kind-gpt2")["README.md"].decode()
    assert "## Learning from feedback" in card and "first-aligned" not in card

    assert align(rollback="true", feedback=None, repo="me/kind-gpt2").code == 0
    before = (place / "first" / "model" / "model.safetensors").read_bytes()
    assert online.files("me/kind-gpt2")["model.safetensors"] == before
    # The better one stays where its tag is.
    assert online.files("me/kind-gpt2", revision=tag)["model.safetensors"] == weights
    assert len(online.repo("me/kind-gpt2").tags) == 2


def test_a_rollback_that_the_hub_refuses_says_how_to_finish(place, align, online):
    assert align(repo="me/refused").code == 0
    online.fail_always(lambda method, path: "/commit/" in path, "403")
    ended = align(rollback="true", feedback=None, repo="me/refused")
    online.clear_faults()
    first = (place / "first").resolve()
    assert ended.code == 1
    assert ended.error.endswith(
        f"here it is done, so publish that one with recipes/publish.py {first} --repo me/refused"
    )
    assert current(place) == "../first"


def test_the_continuous_run_waits_for_enough_and_says_why_once(place, align, monkeypatch):
    one, two = place / "feedback" / "one.jsonl", place / "two.jsonl"
    one.rename(two)
    looks: list[float] = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            two.rename(one)

    monkeypatch.setattr("mh_support.alignment.rounds.time.sleep", wait)
    ended = align(continuous="true", max_rounds=1, wait_s=7)
    assert ended.code == 0
    assert looks == [7.0] * 3
    assert ended.out.count("too little feedback to learn from: of 0 records") == 1
    assert current(place) == "rounds/0001"


# --- killed -----------------------------------------------------------------------------------------------------------

EVENTS = {"open": 0, "os.mkdir": 0, "os.rename": 1, "os.rmdir": 0, "shutil.rmtree": 0, "os.symlink": 1}
TAKEN_BACK = "somebody takes feedback back"
# One after the other, each in the start that goes on from where the one before was killed: every stage is in it.
IN_A_ROW = (
    "os.rename home.json 1",
    "os.symlink .current.draft 1",
    "os.rename secret 1",  # Collecting.
    "os.rename rounds/0001/feedback_report.json 1",
    "os.rename rounds/0001/feedback 1",
    "os.rename rounds/0001/data 1",  # Training.
    TAKEN_BACK,
    "os.rename rounds/0001 1",
    "shutil.rmtree rounds/.0001 2",  # It has gone aside to be removed; what the last kill left was swept before.
    "os.rename rounds/0001/run.json 1",
    "open rounds/0001/checkpoints/checkpoint-4/trainer_state.json 1",
    "open rounds/0001/checkpoints/checkpoint-8/trainer_state.json 1",  # Checkpoint 4 is whole.
    "os.rename rounds/0001/model 1",  # Checkpoint 8 is whole, and all steps are made.
    "os.rename rounds/0001/run.json 1",  # As finished.
    "os.rename first.json 1",  # The gate.
    "os.rename rounds/0001/gate_replies.jsonl 1",
    "os.rename rounds/0001/gate.json 1",
    "shutil.rmtree rounds/0001/.feedback 1",  # What people wrote has served.
    "os.rename rounds/0001/results.json 1",  # Scored, to see whether it can be published.
    "os.rename current 1",  # Promotion.
    "commit",  # The Hub has it, and its answer is lost with the process.
    "os.rename rounds/0001/outcome.json 1",  # The end.
)


def run_once(place: Path, moment: str, url: str) -> None:
    """Go on with the continuous run in this process, and kill it when `moment` comes."""
    quick_steps()
    home = str(place / "first-aligned")
    seen: Counter[str] = Counter()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not str(arguments[EVENTS[event]]).startswith(home):
            return
        # What is written beside its place lies in a folder with eight letters of chance in its name.
        path = re.sub(r"\.[^/]*\.[a-z0-9_]{8}/", "", str(arguments[EVENTS[event]]).removeprefix(home)).strip("/")
        path = re.sub(r"(/\.[^/]*)\.[a-z0-9_]{8}$", r"\1", path)
        seen[f"{event} {path}"] += 1
        if f"{event} {path} {seen[f'{event} {path}']}" == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    import huggingface_hub.constants as constants
    from huggingface_hub import HfApi

    constants.ENDPOINT = url
    constants.HUGGINGFACE_CO_URL_TEMPLATE = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    os.environ["HF_TOKEN"] = TOKEN
    if moment == "commit":
        create = HfApi.create_commit

        def last_deed(*args: Any, **kwargs: Any) -> Any:
            create(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        HfApi.create_commit = last_deed  # type: ignore[method-assign]
    mh_support.files.secrets.token_bytes = lambda size: SECRET  # type: ignore[assignment]
    if moment:
        sys.addaudithook(hook)
    more = {"feedback": place / "feedback", "continuous": "true", "max_rounds": 1, "wait_s": 0, "repo": "me/killed"}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        load_recipe("align").main([str(place / "first"), *flags(**more)])


@pytest.fixture(scope="module")
def start(hub):
    """Start a process, from one that has imported everything already, and return how it ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mh_support.alignment.rounds", "codecarbon", "peft", "trl", "torch.utils.tensorboard", "loopback_hub"]
    )

    def ended(place: Path, moment: str = "") -> int:
        process = context.Process(target=run_once, args=(place, moment, hub.url))
        process.start()
        process.join(300)
        assert process.exitcode is not None, "the process hangs"
        return process.exitcode

    return ended


def test_killed_at_every_stage_the_same_command_goes_on_and_ends_as_if_nothing_had_been(place, align, start, hub):
    assert align(output_dir=place / "uninterrupted").code == 0
    home = place / "first-aligned"
    more = write_feedback(place / "feedback" / "more.jsonl", crowd(6, 1))
    for moment in IN_A_ROW:
        if moment == TAKEN_BACK:
            more.unlink()
            continue
        assert (moment, start(place, moment)) == (moment, -signal.SIGKILL)
        link = home / "current"
        assert not link.is_symlink() or RunFolder.open(link.resolve())
    assert start(place) == 0
    assert current(place) == "rounds/0001"
    run = home / "rounds" / "0001"
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert weights == (place / "uninterrupted" / "rounds" / "0001" / "model" / "model.safetensors").read_bytes()
    # Nothing that was half-written is left, nothing was published twice, and what people wrote is gone.
    left = [".lock", "current", "first.json", "home.json", "rounds", "secret"]
    assert sorted(path.name for path in home.iterdir()) == left
    assert [path.name for path in (home / "rounds").iterdir()] == ["0001"]
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []
    assert texts(home) == []
    assert hub.files("me/killed")["model.safetensors"] == weights
    assert [commit.title for commit in hub.commits("me/killed")] == ["Publish with mh-support", "initial commit"]
    assert list(hub.repo("me/killed").tags) == [outcome(place)["published"]["tag"]]
