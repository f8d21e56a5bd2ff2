"""Publishing with the real clients, to a Hub on this machine that can be made to fail."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import httpx2
import pytest
import torch
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from loopback_hub import TOKEN
from training_fixtures import one_thread, save_model, train, write_csv  # noqa: F401

import mh_support.cli
import mh_support.hub
from mh_support.bias.measure import BiasArguments, measure_bias
from mh_support.dialogue import encode_dialogue
from mh_support.files import read_json, write_json
from mh_support.hub import PublishArguments, space_files
from mh_support.modeling import load_model, load_tokenizer, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.safety import NOTICE
from mh_support.scoring import ScoringArguments, score_run

ROOT = Path(__file__).resolve().parent.parent
BASE = {"chat_template.jinja", "echoes.npy", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
FULL = {*BASE, "README.md", "results.json", "config.json", "model.safetensors"}
ADAPTER = {*BASE, "README.md", "results.json", "adapter_config.json", "adapter_model.safetensors"}
SAID = [{"role": "user", "content": "My river letter hurts"}]
publish_recipe = runpy.run_path(str(ROOT / "recipes" / "publish.py"))["main"]


class Outcome(NamedTuple):
    """How the recipe ended: its exit status, what it printed, and its line on stderr if it failed."""

    code: int
    out: str
    error: str | None


class Trained(NamedTuple):
    """A saved base model, a full run and a LoRA run from it, both scored."""

    base: Path
    full: RunFolder
    adapter: RunFolder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_tokenizer):
    root = tmp_path_factory.mktemp("trained")
    base = save_model(root / "base", tiny_tokenizer, n_positions=256)
    data = write_csv(root / "data.csv")
    runs = [train(root / "full", base, data), train(root / "adapter", base, data, lora=True)]
    for run in runs:
        score_run(run, ScoringArguments(limit=4, max_new_tokens=8, n_resamples=20), progress=False)
    return Trained(base, *runs)


@pytest.fixture
def publish(hub, monkeypatch, capfd):
    """Return a function that runs the recipe as the command line does, but here, where waiting takes no time."""
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))

    def run(*argv, token=TOKEN):
        monkeypatch.setenv("HF_TOKEN", token)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            mh_support.cli.run(functools.partial(publish_recipe, [str(part) for part in argv]))
        return outcome(ended.value.code, *capfd.readouterr(), token)

    return run


def outcome(code, out, err, token):
    """Check what holds for every way to end: no token, no traceback, and one line where it failed."""
    assert TOKEN not in out + err
    assert not token or token not in out + err
    assert "Traceback" not in out + err
    errors = [line for line in re.split(r"[\r\n]+", err) if line.startswith("error: ")]
    assert len(errors) == (code != 0)
    assert not errors or err.endswith(f"{errors[0]}\n")
    return Outcome(code, out, errors[0].removeprefix("error: ") if errors else None)


@pytest.fixture
def base_repo(api, trained):
    """Put the base model on the Hub, as me/base."""
    api.create_repo("me/base", private=False)
    api.upload_folder(repo_id="me/base", folder_path=trained.base)
    return "me/base"


@pytest.fixture
def one_card(monkeypatch):
    """Write each card once: to compile its template takes longer than all the requests."""
    monkeypatch.setattr(mh_support.hub, "write_card", functools.cache(mh_support.hub.write_card))


@pytest.fixture
def copy(tmp_path):
    """Return a function that copies what publishing needs of a run, to spoil it."""

    def copied(run):
        folder = tmp_path / "run"
        shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
        return RunFolder(folder)

    return copied


def change(path, edit):
    """Edit a JSON file."""
    value = read_json(path)
    edit(value)
    write_json(path, value)


def files(hub, repo="me/kind", kind="model"):
    """Return a repository's files without .gitattributes, which the Hub itself puts there; none if there is none."""
    try:
        found = hub.files(repo, kind)
    except KeyError:
        return {}
    del found[".gitattributes"]
    return found


def titles(hub, repo="me/kind", kind="model"):
    return [commit.title for commit in hub.commits(repo, kind)]


def client(hub, home, token=TOKEN):
    """Return the environment of a process that knows only the Hub on this machine."""
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}


def ask(hub, home, script, *arguments):
    """Run a script that only reads from the Hub, and return the JSON of its last line."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=client(hub, home), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# What is published


def test_a_full_model_arrives_with_its_card_and_scores_and_nothing_else(publish, hub, trained):
    assert publish(trained.full.path, "--repo", "me/kind") == (0, f"published {hub.url}/me/kind\n", None)
    there = files(hub)
    assert set(there) == FULL
    for name in FULL - {"README.md", "results.json"}:
        assert there[name] == (trained.full.model / name).read_bytes()
    assert there["results.json"] == trained.full.results_file.read_bytes()
    assert hub.repo("me/kind").at("main").files["model.safetensors"].large
    assert titles(hub) == ["Publish with mh-support", "initial commit"]


def test_an_adapter_arrives_with_its_tokenizer_and_names_its_base_on_the_hub(publish, hub, trained, base_repo):
    assert publish(trained.adapter.path, "--repo", "me/kind", "--base_repo", base_repo).code == 0
    there = files(hub)
    assert set(there) == ADAPTER
    for name in ADAPTER - {"README.md", "results.json", "adapter_config.json"}:
        assert there[name] == (trained.adapter.model / name).read_bytes()
    trained_with = read_json(trained.adapter.model / "adapter_config.json")
    assert trained_with["base_model_name_or_path"] == str(trained.base)
    assert json.loads(there["adapter_config.json"]) == {**trained_with, "base_model_name_or_path": "me/base"}
    card = hub.repo("me/kind").at("main")
    assert {"base_model": "me/base", "library_name": "peft"}.items() <= hub._store.card(card).items()


def test_a_merged_adapter_arrives_as_a_full_model(publish, hub, trained, tmp_path):
    assert publish(trained.adapter.path, "--repo", "me/kind", "--merge").code == 0
    there = files(hub)
    assert set(there) == FULL
    # Sampling as the run does, not as its base was saved with.
    for name in BASE:
        assert there[name] == (trained.adapter.model / name).read_bytes()
    for name, content in there.items():
        (tmp_path / name).write_bytes(content)
    ids = torch.arange(1, 41).unsqueeze(0)
    merged, adapted, base = (
        load_model(str(folder)).eval()(ids).logits for folder in (tmp_path, trained.adapter.model, trained.base)
    )
    torch.testing.assert_close(merged, adapted, rtol=0, atol=1e-5)
    assert (merged - base).abs().max() > 1e-2
    assert "library_name: transformers\n" in there["README.md"].decode()


@pytest.mark.parametrize("ways", [[], ["--base_repo", "me/base"], ["--merge"]])
def test_nothing_of_the_data_or_of_this_machine_is_published(publish, hub, trained, base_repo, ways):
    run = trained.adapter if ways else trained.full
    assert publish(run.path, "--repo", "me/kind", *ways).code == 0
    rows = [json.loads(line) for split in run.data.iterdir() for line in split.read_text().splitlines()]
    said = {message["content"] for row in rows for message in row["messages"]}
    assert len(said) > 60
    for name, content in files(hub).items():
        text = content.decode("latin-1")
        assert not [sentence for sentence in said if sentence in text], name
        assert str(trained.base.parent) not in text and str(ROOT) not in text, name


def test_strangers_in_the_models_folder_stay_where_they_are(publish, hub, trained, copy):
    run = copy(trained.full)
    pickles = ["training_args.bin", "pytorch_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"]
    others = ["trainer_state.json", "events.out.tfevents.1", "train.jsonl", "notes.md", ".env", "model.safetensors.bak"]
    for name in pickles + others:
        (run.model / name).write_bytes(b"my secret")
    (run.model / "README.md").write_text("somebody else's card")
    (run.model / "data").mkdir()
    assert publish(run.path, "--repo", "me/kind").code == 0
    assert set(files(hub)) == FULL
    assert "somebody else's card" not in files(hub)["README.md"].decode()


def test_a_large_model_goes_up_as_a_large_file(publish, hub, trained, copy, tiny_tokenizer):
    run = copy(trained.full)
    save_model(run.model, tiny_tokenizer, n_positions=250_000)
    weights = (run.model / "model.safetensors").read_bytes()
    assert len(weights) > 32_000_000
    change(run.record_file, lambda record: record["fingerprints"].update(weights=weights_fingerprint(run.model)))
    change(run.results_file, lambda results: results.update(weights=weights_fingerprint(run.model)))
    assert publish(run.path, "--repo", "me/kind").code == 0
    # The weights, and the hashes beside them, which are binary too.
    assert [method for method, path in hub.requests if path.startswith("/lfs-objects/")] == ["PUT", "PUT"]
    assert files(hub)["model.safetensors"] == weights


# Who may see it


def test_it_is_private_unless_asked_otherwise(publish, hub, trained):
    publish(trained.full.path, "--repo", "me/kind")
    assert hub.repo("me/kind").private is True
    publish(trained.full.path, "--repo", "me/seen", "--public")
    assert hub.repo("me/seen").private is False
    assert set(files(hub)) == set(files(hub, "me/seen")) == FULL


def test_a_private_model_is_not_there_for_others(publish, hub, trained):
    publish(trained.full.path, "--repo", "me/kind")
    anyone = HfApi(endpoint=hub.url, token=False)
    with pytest.raises(RepositoryNotFoundError):
        anyone.model_info("me/kind")
    address = f"{hub.url}/me/kind/resolve/main/README.md"
    assert httpx2.get(address).status_code == 401
    assert httpx2.get(address, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    ("private", "flag", "message"),
    [
        (False, [], "me/kind is public already; make it private on the Hub first, or add --public true"),
        (True, ["--public"], "me/kind is private already; make it public on the Hub first, or leave out --public true"),
    ],
)
def test_a_repository_that_others_see_otherwise_is_left_alone(publish, hub, api, trained, private, flag, message):
    api.create_repo("me/kind", private=private)
    assert publish(trained.full.path, "--repo", "me/kind", *flag) == (1, "", message)
    assert (files(hub), hub.repo("me/kind").private) == ({}, private)
    # A Space as well.
    api.create_repo("me/chat", private=private, repo_type="space", space_sdk="gradio")
    arguments = PublishArguments(repo="me/kind", space="me/chat", public=bool(flag))
    with pytest.raises(ValueError, match=f"^{message.replace('kind', 'chat')}$"):
        mh_support.hub.publish_space(arguments, api)
    assert files(hub, "me/chat", "space") == {}


# Again


def test_publishing_again_changes_nothing(publish, hub, trained):
    for _ in range(2):
        assert publish(trained.full.path, "--repo", "me/kind") == (0, f"published {hub.url}/me/kind\n", None)
    assert titles(hub) == ["Publish with mh-support", "initial commit"]


def test_a_tag_names_a_revision_for_good(publish, hub, trained):
    assert publish(trained.full.path, "--repo", "me/kind", "--tag", "v1").code == 0
    first = files(hub)["model.safetensors"]
    assert publish(trained.adapter.path, "--repo", "me/kind", "--merge", "--tag", "v2").code == 0
    assert publish(trained.full.path, "--repo", "me/kind", "--tag", "v1").code == 0
    assert list(hub.repo("me/kind").tags) == ["v1", "v2"]
    assert hub.files("me/kind", revision="v1")["model.safetensors"] == first
    assert hub.repo("me/kind").tags["v1"] == hub.commits("me/kind")[2].id


def test_publishing_another_kind_leaves_no_file_of_the_last(publish, hub, api, trained, base_repo):
    publish(trained.full.path, "--repo", "me/kind")
    own = {"notes.md": b"mine", "examples/model.safetensors": b"mine too"}
    for name, content in own.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="me/kind")
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.json", "merges.txt"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id="me/kind")
    before = len(hub.commits("me/kind"))
    for number, (ways, expected) in enumerate(
        [(["--base_repo", "me/base"], ADAPTER), (["--merge"], FULL), (["--base_repo", "me/base"], ADAPTER)], 1
    ):
        assert publish(trained.adapter.path, "--repo", "me/kind", *ways).code == 0
        there = files(hub)
        assert set(there) == {*expected, *own}
        assert own.items() <= there.items()
        assert len(hub.commits("me/kind")) == before + number


# Before anything is sent


def test_a_dry_run_lists_the_files_and_shows_the_card_and_sends_nothing(publish, hub, trained):
    dry = publish(trained.full.path, "--repo", "me/kind", "--space", "me/chat", "--dry_run", token="")
    assert (dry.code, hub.requests) == (0, [])
    assert dry.out.split()[:2] == ["me/kind", "bytes"]
    size = (trained.full.model / "model.safetensors").stat().st_size
    assert re.search(rf"^model\.safetensors +{size:,}$", dry.out, re.MULTILINE)
    assert "\n---\nlanguage: en\n" in dry.out and "\nlicense: other\n" in dry.out and "\n# kind\n" in dry.out
    assert re.search(r"^me/chat +bytes\n", dry.out, re.MULTILINE)
    assert re.search(r"^mh_support/support_bot\.py +[\d,]+$", dry.out, re.MULTILINE)
    publish(trained.full.path, "--repo", "me/kind")
    listed = set(re.findall(r"^([\w.]+) +[\d,]+$", dry.out.partition("\n---\n")[0], re.MULTILINE))
    assert listed == FULL
    assert files(hub)["README.md"].decode() in dry.out
    dry = publish(trained.full.path, "--repo", "me/kind", "--license", "apache-2.0", "--dry_run", token="")
    assert "\nlicense: apache-2.0\n" in dry.out


def test_a_bias_result_goes_along_with_the_reason_it_was_accepted_for_and_goes_with_it(publish, hub, trained, copy):
    run = copy(trained.full)
    quick = ScoringArguments(max_new_tokens=4, n_resamples=20, batch_size=64)
    measure_bias(run, BiasArguments(bias_samples=1, bias_limit=2), quick, progress=False)
    change(run.bias_file, lambda bias: bias.update(findings=[{"kind": "length", "axis": "age", "line": "too short"}]))
    refused = publish(run.path, "--repo", "me/kind")
    assert (refused.code, hub.requests) == (1, [])
    assert refused.error.startswith("bias was found outside the bounds: too short; mend it, or publish with")
    assert publish(run.path, "--repo", "me/kind", "--accept_bias", "for a course").code == 0
    assert set(files(hub)) == FULL | {"bias.json"}
    assert files(hub)["bias.json"] == run.bias_file.read_bytes()
    assert "by whoever published it: for a course\n" in files(hub)["README.md"].decode()
    run.bias_file.unlink()
    assert publish(run.path, "--repo", "me/kind").code == 0
    assert set(files(hub)) == FULL


def leak(results):
    results["leakage"]["shared_questions"] = 3


def no_baselines(results):
    for row in ("base", "constant", "random", "nearest", "human"):
        del results["splits"]["test"]["rows"][row]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda results: results.update(weights="0" * 64), r"results\.json is stale: it scored 000000000000, the"),
        (leak, r"3 held-out dialogues ask a question of another split; split by question and train again$"),
        (no_baselines, r"results\.json has no baselines beside the fine-tuned model \(needs base, and constant,"),
        (lambda results: results.update(data="0" * 64), r"results\.json was scored on other data than the run was"),
        (lambda results: results.update(note="hf_" + "a" * 34 + "_x"), r"results\.json holds what looks like an"),
    ],
)  # fmt: skip
def test_scores_that_do_not_hold_are_refused(publish, hub, trained, copy, spoil, message):
    run = copy(trained.full)
    change(run.results_file, spoil)
    for flag in ([], ["--dry_run"]):
        refused = publish(run.path, "--repo", "me/kind", *flag)
        assert (refused.code, refused.out) == (1, "")
        assert re.match(message, refused.error)
    assert hub.requests == []


def test_weights_that_were_never_scored_are_refused(publish, hub, trained, copy):
    run = copy(trained.full)
    run.results_file.unlink()
    assert publish(run.path, "--repo", "me/kind").error == (
        f"{run.path} has no results.json; run recipes/score.py {run.path} before publishing"
    )
    shutil.copy(trained.base / "model.safetensors", run.model)
    shutil.copy(trained.full.results_file, run.results_file)
    assert publish(run.path, "--repo", "me/kind").error.startswith("run.json was written for other weights than the")
    assert hub.requests == []


def test_what_is_no_finished_run_is_refused(publish, hub, trained, copy, tmp_path):
    assert publish(tmp_path / "none", "--repo", "me/kind").error.startswith(f"no run folder at {tmp_path / 'none'}; ")
    assert publish(trained.base, "--repo", "me/kind").error.startswith(f"{trained.base} is not a run folder (it has no")
    run = copy(trained.full)
    change(run.record_file, lambda record: record.update(finished=None))
    assert publish(run.path, "--repo", "me/kind").error.startswith(f"the run {run.path} has not finished; go on with")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "where"),
    [("local", "a local model, not on the Hub"), ("starter", "the starter, not on the Hub")],
)
def test_an_adapter_whose_base_is_not_on_the_hub_is_refused(publish, hub, trained, copy, name, where):
    run = copy(trained.adapter)
    if name == "starter":
        starter = {"name_or_path": "starter", "is_local": False}
        change(run.record_file, lambda record: record["base_model"].update(starter))
    assert publish(run.path, "--repo", "me/kind") == (
        1,
        "",
        f"{run.path} is an adapter on {where}; add --merge true to publish a full model, or --base_repo with the base "
        "model's id there",
    )
    assert hub.requests == []


def test_an_adapter_on_a_hub_model_keeps_its_base_and_the_revision_of_it(publish, hub, trained, copy):
    run = copy(trained.adapter)
    base = {"name_or_path": "me/base", "is_local": False, "revision": "v1"}
    change(run.record_file, lambda record: record["base_model"].update(base))
    change(run.model / "adapter_config.json", lambda config: config.update(revision="v1"))
    assert publish(run.path, "--repo", "me/kind").code == 0
    config = json.loads(files(hub)["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/base", "v1")
    assert "base_model: me/base\n" in files(hub)["README.md"].decode()


@pytest.mark.parametrize("which", ["adapter", "full"])
def test_a_base_with_other_weights_is_refused(publish, hub, api, trained, which):
    run = getattr(trained, which)
    api.create_repo("me/other", private=False)
    api.upload_folder(repo_id="me/other", folder_path=trained.full.model)
    commits = titles(hub, "me/other")
    for flag in ([], ["--dry_run"]):
        assert publish(run.path, "--repo", "me/kind", "--base_repo", "me/other", *flag) == (
            1,
            "",
            f"me/other has other weights than the model that {run.path} started from; give --base_repo that model's "
            "own id, or leave it out and add --merge true to publish a full model",
        )
    assert publish(run.path, "--repo", "me/kind", "--base_repo", "me/none").error.startswith(
        "no causal language model can be loaded from me/none"
    )
    assert files(hub) == {} and titles(hub, "me/other") == commits


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json", "chat_template.jinja"])
def test_a_token_in_a_file_is_refused_and_not_repeated(publish, hub, trained, copy, name):
    run = copy(trained.full)
    planted = "hf_" + "PlantedToken" * 3
    with (run.model / name).open("a") as file:
        file.write(f"\n{planted}\n")
    refused = publish(run.path, "--repo", "me/kind", token=planted)
    assert refused.error == f"{name} holds what looks like an access token; remove it, and revoke it if it is real"
    assert hub.requests == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "nothing to publish to; give --repo, such as --repo me/kind-gpt2"),
        (["--space", "me/chat"], "a Space needs to know the model that it serves; add --repo, such as --repo me/kind"),
        (["--repo", "kind"], "kind lacks its owner; give it as owner/name, such as me/kind"),
        (["--repo", "me/kind", "--space", "chat"], "chat lacks its owner; give it as owner/name, such as me/chat"),
        (["--repo", "me/kind", "--base_repo", "gpt"], "gpt lacks its owner; give it as owner/name, such as me/gpt"),
        (["--repo", "me/kind/x"], "Repo id must be in the form 'repo_name' or 'namespace/repo_name': 'me/kind/x'."),
        (["--repo", "me/kind", "--accept_bias", " "], "--accept_bias is empty; give the reason, which the card shows"),
        (["--repo", "me/kind", "--license", "Apache 2.0"], "--license is 'Apache 2.0'; give it as the Hub writes it"),
        (["--repo", "me/kind", "--merge"], "is a full model, there is nothing to merge; leave out --merge"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_met_are_refused(publish, hub, trained, argv, message):
    refused = publish(trained.full.path, *argv)
    assert (refused.code, refused.out, hub.requests) == (1, "", [])
    assert message in refused.error


# What is read from there


def test_a_data_set_on_the_hub_is_prepared_as_its_file_here_is(hub, api, tmp_path):
    api.create_repo("me/talk", repo_type="dataset", private=True)
    here = write_csv(tmp_path / "talk.csv")
    api.upload_file(path_or_fileobj=here, path_in_repo="talk.csv", repo_id="me/talk", repo_type="dataset")
    home = tmp_path / "home"

    def prepare(data, output, token=TOKEN):
        command = [sys.executable, str(ROOT / "recipes" / "prepare.py"), "--data", str(data), "--output_dir", output]
        environment = client(hub, home, token)
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    for data, output in ((here, "from_file"), ("me/talk", "from_hub")):
        done = prepare(data, output)
        assert done.returncode == 0, done.stderr
    prepared = {path.name: path.read_bytes() for path in (tmp_path / "from_file").glob("*.jsonl")}
    assert set(prepared) == {"train.jsonl", "validation.jsonl", "test.jsonl"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "from_hub").glob("*.jsonl")} == prepared
    source = read_json(tmp_path / "from_hub" / "data_report.json")["sources"][0]
    assert (source["name"], source["license"]) == ("me/talk", "unknown")
    home = tmp_path / "elsewhere"
    stranger = prepare("me/talk", "refused", token="")
    assert (stranger.returncode, (tmp_path / "refused").exists()) == (1, False)
    assert stranger.stderr.splitlines()[-1] == (
        "error: no data set me/talk on the Hub, or no access to it; check the id, or log in"
    )


# When the Hub does not take it


@pytest.mark.parametrize("token", ["", "hf_" + "stranger" * 4])
def test_a_missing_or_wrong_token_is_said_in_one_line(publish, hub, trained, token):
    assert publish(trained.full.path, "--repo", "me/kind", token=token) == (
        1,
        "",
        "the Hub does not know you as one who may write to me/kind; log in with a token that may: hf auth login",
    )
    assert files(hub) == {}


@pytest.mark.parametrize("step", ["/api/repos/create", "/commit/"])
def test_a_token_that_may_not_write_there_is_said_in_one_line(publish, hub, trained, step):
    hub.fail_always(lambda method, path: method == "POST" and step in path, "403")
    assert publish(trained.full.path, "--repo", "me/kind") == (
        1,
        "",
        "the Hub does not let this token write to me/kind (Injected 403); use one that may write there, or another "
        "owner",
    )
    assert files(hub) == {}


def test_a_hub_that_does_not_answer_is_said_in_one_line(publish, trained, monkeypatch):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # taken, and nobody listens
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{unheard.getsockname()[1]}")
        failed = publish(trained.full.path, "--repo", "me/kind")
    assert (failed.code, failed.out) == (1, "")
    assert re.fullmatch(
        r"publishing me/kind was cut short \(.*Connection refused\); the Hub has all of it or nothing, run the same "
        "command again",
        failed.error,
    )


def test_an_error_without_words_is_told_by_its_number(trained):
    response = httpx2.Response(502, request=httpx2.Request("POST", "http://127.0.0.1"))
    api = SimpleNamespace(create_repo=lambda *_, **__: (_ for _ in ()).throw(HfHubHTTPError("", response=response)))
    with pytest.raises(ValueError, match=r"^publishing me/kind was cut short \(status 502\); "):
        mh_support.hub.publish_model(trained.full, PublishArguments(repo="me/kind"), api)


LINES = {
    "500": r"publishing me/kind was cut short \(.+\); the Hub has all of it or nothing, run the same command again",
    "403": r"the Hub does not let this token write to me/kind \(Injected 403\); use one that may write there, or .*|"
    r"publishing me/kind was cut short \(.+\); the Hub has all of it or nothing, run the same command again",
}


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("how", ["500", "403", "disconnect", "lost"])
def test_a_failure_at_any_request_leaves_all_or_nothing_and_again_finishes(
    publish, hub, trained, one_card, how, for_good
):
    command = [trained.full.path, "--repo", "me/kind"]
    assert publish(*command).code == 0
    steps = len(hub.requests)
    assert steps >= 7
    for at in range(steps):
        hub.reset()
        if for_good:
            seen = itertools.count()
            hub.fail_always(lambda *_, seen=seen, at=at: next(seen) >= at, how)
        else:
            hub.fail(at, how)
        failed = publish(*command)
        left = set(files(hub))
        assert left in (set(), FULL), (at, left)
        assert failed.code == 1 if for_good else (failed.code == 1 or left == FULL)
        assert failed.error is None or re.fullmatch(LINES.get(how, LINES["500"]), failed.error), (at, failed.error)
        hub.clear_faults()
        assert publish(*command) == (0, f"published {hub.url}/me/kind\n", None), at
        assert set(files(hub)) == FULL
        assert titles(hub) == ["Publish with mh-support", "initial commit"]


@pytest.mark.parametrize("how", ["500", "lost"])
def test_a_failure_while_replacing_leaves_the_old_model_or_the_new_one(publish, hub, trained, one_card, how):
    old, new = [trained.full.path, "--repo", "me/kind"], [trained.adapter.path, "--repo", "me/kind", "--merge"]
    publish(*old)
    before = files(hub)
    hub.clear_requests()
    publish(*new)
    after, steps = files(hub), len(hub.requests)
    assert before["model.safetensors"] != after["model.safetensors"]
    for at in range(steps):
        hub.reset()
        publish(*old)
        seen = itertools.count()
        hub.fail_always(lambda *_, seen=seen, at=at: next(seen) >= at, how)
        assert publish(*new).code == 1
        assert files(hub) in (before, after), at
        hub.clear_faults()
        assert publish(*new).code == 0
        assert files(hub) == after


@pytest.mark.parametrize(
    ("refused", "code", "message"), [(False, 0, None), (True, 1, "the Hub does not let this token write to me/kind")]
)
def test_the_command_itself_never_shows_the_token(hub, trained, tmp_path, refused, code, message):
    hub.fail_always(lambda method, path: refused and "/commit/" in path, "403")
    command = [sys.executable, str(ROOT / "recipes/publish.py"), str(trained.full.path), "--repo", "me/kind"]
    done = subprocess.run(command, env=client(hub, tmp_path), capture_output=True, text=True)
    ended = outcome(done.returncode, done.stdout, done.stderr, TOKEN)
    assert ended.code == code
    assert ended.error is None if message is None else ended.error.startswith(message)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


# What can be loaded

MODEL_SCRIPT = """
import json, sys
import torch
from huggingface_hub import ModelCard
from transformers import AutoTokenizer, pipeline, set_seed
from mh_support.modeling import adapter_base, load_model, state_fingerprint
from mh_support.support_bot import SupportBot

repo, folder, messages = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
said = messages[:1]
texts = []
for source in (repo, folder):
    generate = pipeline("text-generation", model=source)
    set_seed(0)
    texts.append(generate(said, max_new_tokens=8)[0]["generated_text"])
generation = generate.model.generation_config.to_diff_dict()
tokens = AutoTokenizer.from_pretrained(repo).apply_chat_template(
    messages, return_dict=True, return_assistant_tokens_mask=True
)
card = ModelCard.load(repo)
card.validate()
set_seed(0)
reply = SupportBot.from_pretrained(repo, max_new_tokens=8).reply(said)
print(json.dumps({
    "texts": texts, "generation": generation, "reply": reply, "card": card.data.to_dict(), "base": adapter_base(repo),
    "weights": [state_fingerprint(load_model(source)) for source in (repo, folder)],
    "ids": list(tokens["input_ids"]), "mask": list(tokens["assistant_masks"]),
}))
"""

ADAPTER_SCRIPT = """
import json, sys
import torch
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM
from transformers import pipeline
from mh_support.modeling import adapter_base, load_model
from mh_support.support_bot import SupportBot

repo, base, expected, messages = sys.argv[1], sys.argv[2], torch.load(sys.argv[3]), json.loads(sys.argv[4])
generate = pipeline("text-generation", model=repo)
text = generate(messages[:1], max_new_tokens=8)[0]["generated_text"]
ids = torch.arange(1, 41).unsqueeze(0)
models = {
    "base": load_model(base), "load_model": load_model(repo), "pipeline": generate.model,
    "AutoPeft": AutoPeftModelForCausalLM.from_pretrained(repo),
}
logits = {name: model.eval()(ids).logits for name, model in models.items()}
card = ModelCard.load(repo)
card.validate()
bot = SupportBot.from_pretrained(repo, max_new_tokens=8)
print(json.dumps({
    "text": text, "card": card.data.to_dict(), "base": adapter_base(repo), "reply": bot.reply(messages[:1]),
    "apart": {name: (made - expected).abs().max().item() for name, made in logits.items()},
}))
"""


@pytest.fixture(scope="module")
def one_dialogue(trained):
    """The first dialogue that both runs were trained on."""
    return json.loads((trained.full.data / "train.jsonl").read_text().splitlines()[0])["messages"]


def test_a_published_model_loads_everywhere_as_it_was_trained(publish, hub, trained, tmp_path, one_dialogue):
    assert publish(trained.full.path, "--repo", "me/kind").code == 0
    found = ask(hub, tmp_path, MODEL_SCRIPT, "me/kind", trained.full.model, json.dumps(one_dialogue))
    assert found["texts"][0] == found["texts"][1]
    assert [message["role"] for message in found["texts"][0]] == ["user", "assistant"]
    assert found["weights"][0] == found["weights"][1]
    assert found["base"] is None
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1, "max_new_tokens": 128}
    assert sampling.items() <= found["generation"].items()
    # The pipeline's template gives the very ids that the run was trained on, and marks what was supervised.
    (row,) = encode_dialogue(load_tokenizer(str(trained.base)), one_dialogue, max_length=64).rows
    assert found["ids"] == row["input_ids"]
    assert [label != -100 for label in row["labels"]] == [bool(marked) for marked in found["mask"]]
    assert any(found["mask"]) and not all(found["mask"])
    assert {"library_name": "transformers", "pipeline_tag": "text-generation"}.items() <= found["card"].items()
    assert found["card"]["model-index"][0]["name"] == "kind"
    assert found["reply"].strip()


def test_a_published_adapter_loads_as_it_was_trained(publish, hub, trained, base_repo, tmp_path, one_dialogue):
    assert publish(trained.adapter.path, "--repo", "me/kind", "--base_repo", base_repo).code == 0
    with torch.no_grad():
        logits = load_model(str(trained.adapter.model)).eval()(torch.arange(1, 41).unsqueeze(0)).logits
    torch.save(logits, tmp_path / "logits.pt")
    moved = trained.base.rename(trained.base.with_name("elsewhere"))  # nothing may look for it on this machine
    try:
        given = ["me/kind", "me/base", tmp_path / "logits.pt", json.dumps(one_dialogue)]
        found = ask(hub, tmp_path / "home", ADAPTER_SCRIPT, *given)
    finally:
        moved.rename(trained.base)
    apart = found["apart"]
    assert apart.pop("base") > 1e-2
    assert max(apart.values()) < 1e-5, apart
    assert found["base"] == "me/base"
    assert [message["role"] for message in found["text"]] == ["user", "assistant"]
    expected = {"library_name": "peft", "base_model": "me/base", "base_model_relation": "adapter"}
    assert expected.items() <= found["card"].items()
    assert found["reply"].strip()


# A Space


def test_a_space_holds_the_app_the_package_and_the_models_name(publish, hub, trained):
    done = publish(trained.full.path, "--repo", "me/kind", "--space", "me/chat")
    assert (done.code, done.out) == (
        0,
        f"published {hub.url}/me/kind\npublished {hub.url}/spaces/me/chat\n"
        "the model is private: give the Space a secret HF_TOKEN that may read it, in its settings on the Hub\n",
    )
    assert (hub.repo("me/chat", "space").private, hub.repo("me/chat", "space").sdk) == (True, "gradio")
    assert titles(hub, "me/chat", "space") == ["Publish with mh-support", "initial commit"]
    there = files(hub, "me/chat", "space")
    top = {name for name in there if "/" not in name}
    assert top == {"LICENSE", "README.md", "app.py", "requirements.txt", "settings.json"}
    assert there["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert json.loads(there["settings.json"]) == {"model_name_or_path": "me/kind"}
    package = {name for name in there if "/" in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.json", "py.typed", "*.html", "*.css", "*.js", "*.svg")
        for path in (ROOT / "mh_support").rglob(pattern)
    }
    expected |= {f"mh_support/safety/{name}_classifier.safetensors" for name in ("crisis", "reply")}
    assert package == {name for name in expected if name.split("/")[1] not in ("samples", "starter")}
    for name in [*package, "app.py", "requirements.txt"]:
        assert there[name] == (ROOT / name if "/" in name else ROOT / "space" / name).read_bytes()
    assert {"mh_support/__init__.py", "mh_support/safety/__init__.py"} < package
    others = [name for name in there if Path(name).suffix not in ("", ".py", ".json", ".txt", ".md", ".typed")]
    assert sorted(name for name in others if not name.startswith("mh_support/chat_page/")) == [
        "mh_support/rating/report.html",
        "mh_support/safety/crisis_classifier.safetensors",
        "mh_support/safety/reply_classifier.safetensors",
    ]


def test_a_spaces_header_is_what_the_hub_asks_for(publish, hub, trained):
    publish(trained.full.path, "--repo", "me/kind", "--space", "me/chat", "--public")
    header = yaml.safe_load(files(hub, "me/chat", "space")["README.md"].decode().split("---\n")[1])
    installed = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert header == {
        "title": "chat",
        "emoji": "🌱",
        "colorFrom": "green",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": installed["gradio"],
        "python_version": "3.11",
        "app_file": "app.py",
        "license": "apache-2.0",
        "short_description": "Supportive chat for research. A program, not a person.",
        "models": ["me/kind"],
        "tags": ["emotional-support", "mental-health", "mh-support"],
    }
    assert len(header["short_description"]) <= 60


def test_a_public_space_asks_for_no_secret(publish, hub, trained):
    done = publish(trained.full.path, "--repo", "me/kind", "--space", "me/chat", "--public")
    assert done.out == f"published {hub.url}/me/kind\npublished {hub.url}/spaces/me/chat\n"
    assert hub.repo("me/chat", "space").private is False


def test_a_space_published_again_loses_what_the_package_no_longer_has(publish, hub, api, trained):
    api.create_repo("me/chat", private=True, repo_type="space", space_sdk="gradio")
    for name in ("mh_support/gone.py", "notes.md", "avatar.json"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo=name, repo_id="me/chat", repo_type="space")
    assert publish(trained.full.path, "--repo", "me/kind", "--space", "me/chat").code == 0
    there = files(hub, "me/chat", "space")
    assert "mh_support/gone.py" not in there
    assert (there["notes.md"], there["avatar.json"]) == (b"x", b"x")


@pytest.mark.parametrize("status", [402, 403])
def test_a_space_the_hub_has_no_place_for_is_explained_and_the_model_stays(publish, hub, trained, status):
    hub.refuse_spaces("Upgrade to PRO to create a Gradio Space.", status)
    assert publish(trained.full.path, "--repo", "me/kind", "--space", "me/chat") == (
        1,
        f"published {hub.url}/me/kind\n",
        "the Hub refuses the Space me/chat (Upgrade to PRO to create a Gradio Space.); a new Gradio Space needs a paid "
        "plan or a free ZeroGPU place: see your plan, or run it yourself with python space/app.py",
    )
    assert set(files(hub)) == FULL
    assert files(hub, "me/chat", "space") == {}
    hub.clear_faults()
    assert publish(trained.full.path, "--repo", "me/kind", "--space", "me/chat").code == 0
    assert "app.py" in files(hub, "me/chat", "space")


def test_a_space_needs_a_checkout_and_no_token_in_its_files(monkeypatch, tmp_path):
    arguments = PublishArguments(repo="me/kind", space="me/chat")
    monkeypatch.setattr(mh_support.hub, "SPACE", tmp_path / "space")
    with pytest.raises(
        ValueError, match=rf"^the app is not at {tmp_path}/space; publish a Space from a checkout of the repository$"
    ):
        space_files(arguments)
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "app.py").write_text("TOKEN = 'hf_" + "a" * 34 + "'\n")
    with pytest.raises(ValueError, match=r"^app\.py holds what looks like an access token; remove it, and revoke"):
        space_files(arguments)


# The whole of it


def test_the_demo_does_the_whole_job_in_the_folder_it_is_run_in(tmp_path):
    command = [sys.executable, str(ROOT / "recipes" / "demo.py"), "--limit", "4", "--max_steps", "4"]
    # The token and the offline mode of whoever runs it are no concern of the demo's.
    environment = {**os.environ, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr and "hf_loopback" not in done.stdout + done.stderr
    (folder,) = [path for path in (tmp_path / "runs").iterdir() if path.name != "latest"]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert (tmp_path / "runs" / "latest").resolve() == folder
    run = f"runs/{folder.name}"
    shown = re.findall(r"^\$ python (\S+) (\S+)", done.stdout, re.MULTILINE)
    assert [recipe for recipe, _ in shown] == [
        *("recipes/prepare.py", "recipes/finetune.py", "recipes/score.py", "recipes/publish.py", "-c")
    ]
    assert (shown[2][1], shown[3][1]) == (run, run)
    assert re.search(r"^test, \d+ replies +Base model +Fine-tuned +Constant reply", done.stdout, re.MULTILINE)
    assert re.search(r"^published http://127\.0\.0\.1:\d+/demo/kind-starter$", done.stdout, re.MULTILINE)
    loaded = done.stdout.partition("$ python -c")[2]
    assert NOTICE in loaded
    assert len(re.findall(r"^  (\S.*)\n    -> .*\S", loaded, re.MULTILINE)) == 3
    assert re.search(
        rf"^The plots are in {run}/plots; runs/latest is this run\. It took \d+ seconds\.", loaded, re.MULTILINE
    )
    assert loaded.endswith(f"recipes/chat.py {run}\n")
    assert read_json(folder / "run.json")["training"]["global_step"] == 4
    assert {"loss_curves.png", "scores_test.png"} <= {path.name for path in (folder / "plots").iterdir()}
    assert read_json(folder / "results.json")["settings"]["limit"] == 4
