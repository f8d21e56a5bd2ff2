"""Whole rounds of learning from feedback: promoted or kept aside, published, rolled back, and killed at every stage."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alignment_fixtures import choice, crowd, person, sentence, thumb, write_feedback
from loopback_hub import LoopbackHub
from training_fixtures import load_recipe, one_thread, quick_steps, save_model, train, write_csv  # noqa: F401

import mh_support.cli
import mh_support.files
from mh_support.files import read_json
from mh_support.modeling import weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.support_bot import SupportBot

TOKEN = "hf_" + "loopback" * 4
# Few steps, bounds that a model of random weights can keep, and as little feedback as there is.
QUICK = {
    **{"max_steps": 8, "save_steps": 4, "per_device_train_batch_size": 8, "learning_rate": "3e-3", "bf16": "false"},
    **{"disable_tqdm": "true", "min_ratings": 10, "min_people": 3, "min_held_out_people": 2},
    **{"max_unsafe_rise": 1, "max_stop_fall": 1, "max_perplexity_rise": 99},
    **{"suite_samples": 1, "suite_tokens": 4, "gate_limit": 4, "n_resamples": 200},
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
            mh_support.cli.run(functools.partial(main, [str(place / "first"), *flags(**given)]))
        out, err = capfd.readouterr()
        error = [line for line in re.split(r"[\r\n]+", err) if line.startswith("error: ")]
        assert "Traceback" not in err
        return SimpleNamespace(code=ended.value.code, out=out, error=error[0] if error else None)

    return run


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


def test_dpo_learns_from_choices_on_the_same_path(place, align):
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


def test_who_takes_feedback_back_is_not_learned_from_when_a_round_goes_on(place, align, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("mh_support.alignment.rounds.align", lambda *given: (_ for _ in ()).throw(ValueError("cut off")))
        assert align().error == "error: cut off"
    folder = place / "first-aligned" / "rounds" / "0001" / "feedback"
    assert sentence("0 0", 6) in "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    write_feedback(place / "feedback" / "one.jsonl", crowd(12, 4)[4:])
    ended = align()
    assert ended.code == 0
    assert "is begun anew: somebody has taken feedback back that it was learning from" in ended.out
    record = RunFolder.open(place / "first-aligned" / "rounds" / "0001").record()
    assert record["alignment"]["feedback"]["read"] == 44


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
# One after the other, each in the start that goes on from where the one before was killed: every stage is in it.
IN_A_ROW = (
    "os.rename home.json 1",
    "os.symlink .current.draft 1",
    "os.rename secret 1",  # Collecting.
    "os.rename rounds/0001/feedback_report.json 1",
    "os.rename rounds/0001/feedback 1",
    "os.rename rounds/0001/data 1",  # Training.
    "os.rename rounds/0001/run.json 1",
    "open rounds/0001/checkpoints/checkpoint-4/trainer_state.json 1",
    "open rounds/0001/checkpoints/checkpoint-8/trainer_state.json 1",  # Checkpoint 4 is whole.
    "os.rename rounds/0001/model 1",  # Checkpoint 8 is whole, and all steps are made.
    "os.rename rounds/0001/run.json 1",  # As finished.
    "os.rename rounds/0001/gate_replies.jsonl 1",  # The gate.
    "os.rename rounds/0001/gate.json 1",
    "os.rename current 1",  # Promotion.
    "os.rename rounds/0001/results.json 1",  # Publishing: scored.
    "commit",  # The Hub has it, and its answer is lost with the process.
    "shutil.rmtree rounds/0001/feedback 1",  # The end.
    "os.rename rounds/0001/outcome.json 1",
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
    for moment in IN_A_ROW:
        assert (moment, start(place, moment)) == (moment, -signal.SIGKILL)
        link = home / "current"
        assert not link.is_symlink() or RunFolder.open(link.resolve())
    assert start(place) == 0
    assert current(place) == "rounds/0001"
    run = home / "rounds" / "0001"
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert weights == (place / "uninterrupted" / "rounds" / "0001" / "model" / "model.safetensors").read_bytes()
    # Nothing that was half-written is left, nothing was published twice, and what people wrote is gone.
    assert sorted(path.name for path in home.iterdir()) == [".lock", "current", "home.json", "rounds", "secret"]
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []
    assert texts(home) == []
    assert hub.files("me/killed")["model.safetensors"] == weights
    assert [commit.title for commit in hub.commits("me/killed")] == ["Publish with mh-support", "initial commit"]
    assert list(hub.repo("me/killed").tags) == [outcome(place)["published"]["tag"]]
