import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback_hub import TOKEN, LoopbackHub, main

CARD = b"---\nlicense: mit\nlibrary_name: peft\ntags:\n- chat\n---\n# x\n"


@pytest.fixture
def repo(api):
    """A model repository with one commit of its own: README.md and a/b.txt."""
    api.create_repo("me/x")
    commit(api, {"README.md": CARD, "a/b.txt": b"one"}, "first")
    return "me/x"


def commit(api, files, message="change", **options):
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit("me/x", operations, commit_message=message, **options)


def titles(hub, **where):
    return [commit.title for commit in hub.commits("me/x", **where)]


def send(hub, method, path, data=None, token=TOKEN, **headers):
    """Make a request without a client, returning (status, headers, body)."""
    request = urllib.request.Request(hub.url + path, data, headers, method=method)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


# Repositories


def test_a_new_repository_holds_the_large_file_rules_and_nothing_else(hub, api):
    assert api.whoami()["name"] == "me"
    url = api.create_repo("x")
    assert (url, url.repo_id) == (f"{hub.url}/me/x", "me/x")
    assert list(hub.files("me/x")) == [".gitattributes"]
    assert b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n" in hub.files("me/x")[".gitattributes"]
    assert titles(hub) == ["initial commit"]
    assert hub.repo("me/x").private is False


def test_creating_twice_is_refused_unless_it_may_exist(hub, api):
    api.create_repo("me/x", private=True)
    with pytest.raises(HfHubHTTPError, match="You already created this model repo") as refused:
        api.create_repo("me/x")
    assert refused.value.response.status_code == 409
    assert api.create_repo("me/x", private=False, exist_ok=True) == f"{hub.url}/me/x"
    assert hub.repo("me/x").private is True  # as on the Hub, asking again changes nothing


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_each_type_has_its_own_names(hub, api, repo_type):
    sdk = {"space_sdk": "gradio"} if repo_type == "space" else {}
    page = {"model": "me/x", "dataset": "datasets/me/x", "space": "spaces/me/x"}[repo_type]
    assert api.create_repo("me/x", repo_type=repo_type, **sdk) == f"{hub.url}/{page}"
    api.upload_file(path_or_fileobj=b"hello", path_in_repo="b.txt", repo_id="me/x", repo_type=repo_type)
    assert hub.files("me/x", repo_type)["b.txt"] == b"hello"
    info = api.repo_info("me/x", repo_type=repo_type)
    assert (info.id, info.private, [file.rfilename for file in info.siblings]) == (
        "me/x",
        False,
        [".gitattributes", "b.txt"],
    )
    assert [kind for kind, _ in hub._store.repos] == [repo_type]


def test_squashing_leaves_the_files_and_one_commit(hub, api, repo):
    files = hub.files(repo)
    assert len(hub.commits(repo)) == 2
    api.super_squash_history(repo, commit_message="only one")
    assert (titles(hub), hub.files(repo)) == (["only one"], files)


def test_deleting(hub, api, repo):
    api.delete_repo(repo)
    with pytest.raises(KeyError):
        hub.files(repo)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(repo)
    api.delete_repo(repo, missing_ok=True)


def test_visibility_and_listing(hub, api, repo):
    anyone = HfApi(endpoint=hub.url, token=False)
    api.create_repo("you/hidden", private=True)
    assert [model.id for model in anyone.list_models()] == ["me/x"]
    assert [model.id for model in api.list_models(author="you")] == ["you/hidden"]
    assert [model.id for model in api.list_models(search="idd")] == ["you/hidden"]
    assert list(api.list_datasets()) == []
    api.update_repo_settings(repo, private=True)
    assert hub.repo(repo).private is True
    assert list(anyone.list_models()) == []
    api.update_repo_settings(repo, private=False)
    assert anyone.repo_exists(repo)


def test_a_private_repository_does_not_exist_without_a_token(hub, api, repo, tmp_path):
    api.update_repo_settings(repo, private=True)
    anyone = HfApi(endpoint=hub.url, token=False)
    for read in (anyone.model_info, anyone.list_repo_files, anyone.list_repo_commits, anyone.list_repo_refs):
        with pytest.raises(RepositoryNotFoundError) as hidden:
            read(repo)
        assert hidden.value.response.status_code == 401
    with pytest.raises(RepositoryNotFoundError):
        anyone.hf_hub_download(repo, "README.md", cache_dir=tmp_path / "cache")
    with pytest.raises(RepositoryNotFoundError) as missing:
        api.model_info("me/nothing")
    assert missing.value.response.status_code == 404


def test_a_wrong_token_is_refused_even_where_none_is_needed(hub, repo):
    stranger = HfApi(endpoint=hub.url, token="hf_other")
    for call in (stranger.whoami, lambda: stranger.model_info(repo)):
        with pytest.raises(HfHubHTTPError) as refused:
            call()
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["X-Error-Message"] == "Invalid credentials in Authorization header"


def test_writing_needs_a_token(hub, repo):
    anyone = HfApi(endpoint=hub.url, token=False)
    for write in (
        lambda: anyone.create_repo("me/y"),
        lambda: commit(anyone, {"b.txt": b"2"}),
        lambda: anyone.create_tag(repo, tag="v1"),
        lambda: anyone.delete_repo(repo),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            write()
        assert refused.value.response.status_code == 401
    assert send(hub, "GET", "/api/whoami-v2", token=None)[0] == 401
    assert titles(hub) == ["first", "initial commit"]


def test_the_valid_tokens_can_be_chosen(tmp_path):
    with LoopbackHub(tmp_path, tokens=("hf_a", "hf_b"), user="someone") as hub:
        assert HfApi(endpoint=hub.url, token="hf_b").whoami()["name"] == "someone"
        assert send(hub, "GET", "/api/whoami-v2", token=TOKEN)[0] == 401


# Files


def test_small_and_large_files_arrive_and_come_back_the_same(hub, api, tmp_path):
    large, small = os.urandom(12_000_000), b"caf\xc3\xa9\n"
    sha256 = hashlib.sha256(large).hexdigest()
    api.create_repo("me/x", private=True)
    commit(api, {"small.txt": small, "sub/model.safetensors": large})
    assert hub.requests == [
        ("POST", "/api/repos/create"),
        ("POST", "/api/models/me/x/preupload/main"),
        ("POST", "/me/x.git/info/lfs/objects/batch"),
        ("PUT", f"/lfs-objects/{sha256}"),
        ("POST", "/api/models/me/x/commit/main"),
    ]
    assert {**hub.files("me/x"), ".gitattributes": b""} == {
        ".gitattributes": b"",
        "small.txt": small,
        "sub/model.safetensors": large,
    }
    for path, data in {"small.txt": small, "sub/model.safetensors": large}.items():
        local = hf_hub_download("me/x", path, endpoint=hub.url, token=TOKEN, cache_dir=tmp_path / "cache")
        assert Path(local).read_bytes() == data
    info = api.model_info("me/x", files_metadata=True)
    sizes = {file.rfilename: (file.size, file.lfs and file.lfs.sha256) for file in info.siblings}
    assert sizes["sub/model.safetensors"] == (12_000_000, sha256)
    assert sizes["small.txt"] == (6, None)
    assert info.sha == hub.commits("me/x")[0].id


@pytest.mark.parametrize(
    ("path", "data", "large"),
    [
        ("a.txt", b"x" * 10_485_760, False),
        ("a.txt", b"x" * 10_485_761, True),
        ("a.bin", b"x", True),
        ("a.txt", b"x\0y", True),
    ],
)
def test_which_files_are_large(hub, api, path, data, large):
    api.create_repo("me/x")
    commit(api, {path: data})
    assert hub.repo("me/x").at("main").files[path].large is large
    assert hub.files("me/x")[path] == data


def test_headers_of_a_file(hub, api, repo):
    commit(api, {"w.bin": b"0123456789"})
    head = hub.commits(repo)[0].id
    sha256 = hashlib.sha256(b"0123456789").hexdigest()
    status, headers, body = send(hub, "HEAD", "/me/x/resolve/main/w.bin")
    assert (status, body, headers["X-Repo-Commit"], headers["Content-Length"]) == (200, b"", head, "10")
    assert (headers["ETag"], headers["X-Linked-Etag"], headers["X-Linked-Size"]) == (
        f'"{sha256}"',
        f'"{sha256}"',
        "10",
    )
    status, headers, body = send(hub, "GET", "/me/x/resolve/main/w.bin", Range="bytes=3-5")
    assert (status, body, headers["Content-Range"]) == (206, b"345", "bytes 3-5/10")
    _, headers, body = send(hub, "GET", f"/me/x/resolve/{head}/a%2Fb.txt")
    # git's name for the three bytes "one"
    assert (body, headers["ETag"]) == (b"one", '"43dd47ea691c90a5fa7827892c70241913351963"')
    assert headers["X-Linked-Etag"] is None


def test_a_missing_file_and_a_missing_revision_are_told_apart(hub, api, repo):
    status, headers, _ = send(hub, "HEAD", "/me/x/resolve/main/none.txt")
    assert (status, headers["X-Error-Code"]) == (404, "EntryNotFound")
    assert headers["X-Repo-Commit"] == hub.commits(repo)[0].id
    assert api.file_exists(repo, "a/b.txt") and not api.file_exists(repo, "none.txt")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="v9")
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "none"))
    assert send(hub, "GET", "/api/unknown")[0] == 404


def test_tree_and_paths(hub, api, repo):
    commit(api, {"a/c/d.bin": b"123", "a.txt": b"12"}, "second")
    assert [entry.path for entry in api.list_repo_tree(repo)] == ["a", ".gitattributes", "README.md", "a.txt"]
    assert [entry.path for entry in api.list_repo_tree(repo, "a")] == ["a/c", "a/b.txt"]
    assert [entry.path for entry in api.list_repo_tree(repo, "a", recursive=True)] == ["a/c", "a/b.txt", "a/c/d.bin"]
    changed = {entry.path: entry.last_commit.title for entry in api.list_repo_tree(repo, expand=True)}
    assert changed == {"a": "second", ".gitattributes": "initial commit", "README.md": "first", "a.txt": "second"}
    found = api.get_paths_info(repo, ["a/c/d.bin", "a", "none"], expand=True)
    assert [(entry.path, getattr(entry, "size", None)) for entry in found] == [("a/c/d.bin", 3), ("a", None)]
    assert found[0].lfs.sha256 == hashlib.sha256(b"123").hexdigest()
    assert found[1].last_commit.title == "second"
    assert api.get_paths_info(repo, "README.md")[0].last_commit is None


def test_a_large_file_must_have_the_bytes_its_name_says(hub, api, repo):
    promised = hashlib.sha256(b"right").hexdigest()
    assert send(hub, "PUT", f"/lfs-objects/{promised}", b"wrong", token=None)[0] == 400
    lines = [
        {"key": "header", "value": {"summary": "bad"}},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": promised, "size": 5}},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    status, _, answer = send(hub, "POST", "/api/models/me/x/commit/main", body)
    assert (status, json.loads(answer)["error"]) == (400, f"Large file {promised} was not uploaded")
    status, _, answer = send(
        hub, "POST", "/api/models/me/x/commit/main", body.replace(promised.encode(), b"../repos.json")
    )
    assert (status, json.loads(answer)["error"]) == (400, "Expected a sha256, got '../repos.json'")
    assert titles(hub) == ["first", "initial commit"]
    assert send(hub, "PUT", f"/lfs-objects/{promised}", b"right", token=None)[0] == 200
    assert send(hub, "POST", "/api/models/me/x/commit/main", body)[0] == 200
    assert hub.files(repo)["w.bin"] == b"right"


# Commits


def test_a_commit_happens_whole_or_not_at_all(hub, api, repo):
    before = hub.files(repo)
    operations = [CommitOperationAdd("new.txt", b"2"), CommitOperationDelete("none.txt")]
    with pytest.raises(EntryNotFoundError, match=r"A file with this name doesn't exist: none\.txt"):
        api.create_commit(repo, operations, commit_message="half")
    assert titles(hub) == ["first", "initial commit"]
    assert hub.files(repo) == before


def test_commits_add_change_and_delete(hub, api, repo):
    commit(api, {"a/b.txt": b"two", "a/c.txt": b"3", "ab.txt": b"4"}, "second", commit_description="why")
    api.delete_file("README.md", repo)
    api.delete_folder("a", repo)
    assert {path: data for path, data in hub.files(repo).items() if path != ".gitattributes"} == {"ab.txt": b"4"}
    listed = api.list_repo_commits(repo)
    assert [made.commit_id for made in listed] == [made.id for made in hub.commits(repo)]
    assert (listed[2].title, listed[2].message, listed[2].authors) == ("second", "why", ["me"])
    assert hub.files(repo, revision=listed[2].commit_id)["a/b.txt"] == b"two"


def test_unchanged_files_make_no_commit(hub, api, repo):
    head = hub.commits(repo)[0].id
    assert commit(api, {"README.md": CARD, "a/b.txt": b"one"}, "again").oid == head
    assert titles(hub) == ["first", "initial commit"]


def test_commits_at_the_same_time_all_arrive(hub, api, repo):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: commit(api, {f"{i}.txt": b"x"}, str(i)), range(16)))
    assert len(hub.commits(repo)) == 18
    assert {f"{i}.txt" for i in range(16)} < set(hub.files(repo))


def test_a_commit_on_an_old_parent_is_refused(hub, api, repo):
    old = hub.commits(repo)[1].id
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as refused:
        commit(api, {"b.txt": b"2"}, parent_commit=old)
    assert refused.value.response.status_code == 412
    assert titles(hub) == ["first", "initial commit"]
    commit(api, {"b.txt": b"2"}, "good", parent_commit=hub.commits(repo)[0].id)
    assert titles(hub) == ["good", "first", "initial commit"]


def test_a_pull_request_leaves_main_alone(hub, api, repo):
    done = commit(api, {"b.txt": b"2"}, "proposal", create_pr=True)
    assert (done.pr_url, done.pr_num, done.pr_revision) == (f"{hub.url}/me/x/discussions/1", 1, "refs/pr/1")
    assert commit(api, {"c.txt": b"3"}, create_pr=True).pr_num == 2
    assert "b.txt" not in hub.files(repo)
    assert api.list_repo_files(repo, revision="refs/pr/1") == [".gitattributes", "README.md", "a/b.txt", "b.txt"]
    assert titles(hub, revision="refs/pr/1") == ["proposal", "first", "initial commit"]
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main"]
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1", "refs/pr/2"]


def test_tags_and_branches(hub, api, repo):
    first = hub.commits(repo)[0].id
    api.create_tag(repo, tag="v1/rc")
    api.create_branch(repo, branch="trial/one", revision="v1/rc")
    commit(api, {"b.txt": b"2"}, "second")
    commit(api, {"c.txt": b"3"}, "third", revision="trial/one")
    refs = api.list_repo_refs(repo)
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("v1/rc", "refs/tags/v1/rc", first)]
    assert titles(hub, revision="trial/one") == ["third", "first", "initial commit"]
    assert "b.txt" not in hub.files(repo, revision="v1/rc")
    assert api.hf_hub_download(repo, "a/b.txt", revision="v1/rc", dry_run=True).commit_hash == first
    with pytest.raises(HfHubHTTPError, match="Reference already exists: v1/rc") as twice:
        api.create_tag(repo, tag="v1/rc")
    assert twice.value.response.status_code == 409
    api.create_tag(repo, tag="v1/rc", exist_ok=True)
    with pytest.raises(RevisionNotFoundError):
        commit(api, {"d.txt": b"4"}, revision="v1/rc")
    api.delete_tag(repo, tag="v1/rc")
    api.delete_branch(repo, branch="trial/one")
    assert (hub.repo(repo).tags, list(hub.repo(repo).branches)) == ({}, ["main"])
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v1/rc")
    with pytest.raises(HfHubHTTPError, match="Cannot delete the default branch"):
        api.delete_branch(repo, branch="main")


# Cards and Spaces


def test_the_card_is_shown_in_the_information(api, repo):
    info = api.model_info(repo)
    assert (info.card_data.license, info.library_name, info.tags) == ("mit", "peft", ["chat", "peft"])


@pytest.mark.parametrize(
    ("repo_type", "card", "message"),
    [
        ("model", "a: [", "Invalid YAML"),
        ("model", "x: !!python/object/apply:os.getcwd []", "Invalid YAML"),
        ("model", "- a", "the metadata is not a mapping"),
        (
            "model",
            "model-index: [{results: [{task: {type: t}, dataset: {type: d}, metrics: [{type: m}]}]}]",
            r'"model-index\[0\]\.results\[0\]\.dataset\.name" is required\n'
            r'- "model-index\[0\]\.results\[0\]\.metrics\[0\]\.value" is required$',
        ),
        ("space", "sdk: gradioo", r'"sdk" must be one of \[gradio, docker, static\]$'),
        (
            "space",
            "colorTo: teal",
            r'"colorTo" must be one of \[red, yellow, green, blue, indigo, purple, pink, gray\]',
        ),
        ("space", f"short_description: {'x' * 61}", "length must be less than or equal to 60 characters long"),
    ],
)
def test_a_card_the_hub_would_refuse_stops_the_commit(hub, api, repo_type, card, message):
    api.create_repo("me/x", repo_type=repo_type, space_sdk="gradio" if repo_type == "space" else None)
    with pytest.raises(ValueError, match=message):
        commit(api, {"README.md": f"---\n{card}\n---\n".encode()}, repo_type=repo_type)
    assert titles(hub, repo_type=repo_type) == ["initial commit"]


def test_a_card_without_metadata_is_a_warning(api):
    api.create_repo("me/x")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata in repo card"):
        commit(api, {"README.md": b"# x\n"})


def test_settings_of_a_space(hub, api):
    secrets = [{"key": "HF_TOKEN", "value": "hf_hidden"}]
    api.create_repo("me/s", repo_type="space", space_sdk="gradio", space_secrets=secrets)
    api.add_space_secret("me/s", "OTHER", "also_hidden")
    api.add_space_variable("me/s", "MODEL", "me/x")
    assert sorted(api.get_space_secrets("me/s")) == ["HF_TOKEN", "OTHER"]
    assert {key: variable.value for key, variable in api.get_space_variables("me/s").items()} == {"MODEL": "me/x"}
    assert not [
        path for path in hub._store.table.parent.rglob("*") if path.is_file() and b"hidden" in path.read_bytes()
    ]
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.url, token=False).get_space_secrets("me/s")
    api.delete_space_secret("me/s", "OTHER")
    api.delete_space_variable("me/s", "MODEL")
    assert (hub.repo("me/s", "space").secrets, hub.repo("me/s", "space").variables) == ({"HF_TOKEN": ""}, {})
    assert (api.get_space_runtime("me/s").stage, api.space_info("me/s").sdk) == ("RUNNING", "gradio")


@pytest.mark.parametrize("status", [402, 403])
def test_a_space_can_be_refused(hub, api, status):
    hub.refuse_spaces("A Gradio Space needs a paid plan.", status)
    for exist_ok in (False, True):
        with pytest.raises(HfHubHTTPError, match=r"A Gradio Space needs a paid plan\.") as refused:
            api.create_repo("me/s", repo_type="space", space_sdk="gradio", exist_ok=exist_ok)
        assert refused.value.response.status_code == status
    api.create_repo("me/s")  # a model is not refused
    hub.clear_faults()
    api.create_repo("me/s", repo_type="space", space_sdk="gradio")


# Faults


@pytest.mark.parametrize("how", ["500", "503", "403", "429"])
def test_a_failed_commit_leaves_nothing_behind(hub, api, repo, how):
    hub.clear_requests()
    hub.fail(1, how)
    with pytest.raises(HfHubHTTPError, match=f"Injected {how}") as failed:
        commit(api, {"b.txt": b"2"})
    assert failed.value.response.status_code == int(how)
    assert hub.requests == [
        ("POST", "/api/models/me/x/preupload/main"),
        ("POST", "/api/models/me/x/commit/main"),  # the client does not try a commit twice
    ]
    assert titles(hub) == ["first", "initial commit"]
    commit(api, {"b.txt": b"2"}, "second")
    assert titles(hub) == ["second", "first", "initial commit"]


@pytest.mark.parametrize(("how", "made"), [("disconnect", []), ("lost", ["second"])])
def test_a_cut_connection(hub, api, repo, how, made):
    hub.fail(1, how)
    with pytest.raises(Exception, match="Server disconnected without sending a response") as cut:
        commit(api, {"b.txt": b"2"}, "second")
    assert type(cut.value).__name__ == "RemoteProtocolError"
    assert titles(hub) == [*made, "first", "initial commit"]
    assert api.repo_exists(repo)


@pytest.mark.parametrize("how", ["500", "503", "429", "disconnect"])
def test_the_client_tries_an_upload_again_by_itself(hub, api, repo, how, monkeypatch):
    waits = []
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=waits.append))
    hub.clear_requests()
    for at in (0, 2, 4):  # preupload, batch and PUT fail once each
        hub.fail(at, how)
    commit(api, {"w.bin": b"weights"}, "second")
    assert [path.split("/")[-2:] for _, path in hub.requests] == [
        *[["preupload", "main"]] * 2,
        *[["objects", "batch"]] * 2,
        *[["lfs-objects", hashlib.sha256(b"weights").hexdigest()]] * 2,
        ["commit", "main"],
    ]
    assert waits == [1, 1, 1]
    assert hub.files(repo)["w.bin"] == b"weights"


def test_faults_count_from_now_and_happen_once(hub, api, repo):
    hub.fail(2, "403")
    assert api.repo_exists(repo) and api.repo_exists(repo)
    with pytest.raises(HfHubHTTPError, match="Injected 403"):
        api.model_info(repo)
    assert api.repo_exists(repo)
    hub.fail(0, "403")
    hub.clear_faults()
    assert api.repo_exists(repo)


def test_faults_by_request(hub, api, repo):
    hub.fail_always(lambda method, path: method == "POST" and "/commit/" in path, "403")
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="Injected 403"):
            commit(api, {"b.txt": b"2"})
    assert api.repo_exists(repo)
    hub.clear_faults()
    commit(api, {"b.txt": b"2"}, "second")
    assert titles(hub) == ["second", "first", "initial commit"]


def test_an_unknown_fault_is_an_error(hub):
    message = "how='404' is no way to fail; choose one of 500, 503, 403, 429, disconnect, lost"
    with pytest.raises(ValueError, match=message):
        hub.fail(0, "404")
    with pytest.raises(ValueError, match=message):
        hub.fail_always(lambda method, path: True, "404")


def test_the_list_of_requests_is_a_copy_and_can_be_emptied(hub, api):
    api.whoami()
    hub.requests.clear()
    assert hub.requests == [("GET", "/api/whoami-v2")]
    hub.clear_requests()
    assert hub.requests == []


# The server


def test_reset_makes_it_a_new_hub(hub, api, repo):
    commit(api, {"w.bin": b"weights"})
    hub.fail(1, "403")
    hub.refuse_spaces("no")
    hub.reset()
    assert (hub.requests, api.repo_exists(repo), list(api.list_models())) == ([], False, [])
    api.create_repo("me/s", repo_type="space", space_sdk="gradio")
    api.create_repo(repo)
    hub.clear_requests()
    commit(api, {"w.bin": b"weights"})
    assert [method for method, _ in hub.requests] == ["POST", "POST", "PUT", "POST"]  # the bytes are asked for again


def test_what_was_pushed_is_there_after_a_restart(tmp_path):
    with LoopbackHub(tmp_path, [TOKEN]) as hub:
        api = HfApi(endpoint=hub.url, token=TOKEN)
        api.create_repo("me/x", private=True)
        commit(api, {"w.bin": b"weights"}, "second")
        api.create_tag("me/x", tag="v1")
        commit(api, {"b.txt": b"2"}, "third")
        port = int(hub.url.rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    with LoopbackHub(tmp_path, [TOKEN]) as again:
        assert (titles(again, revision="v1"), again.repo("me/x").private) == (["second", "initial commit"], True)
        assert titles(again) == ["third", "second", "initial commit"]
        assert (
            HfApi(endpoint=again.url, token=TOKEN).model_info("me/x", revision="v1").sha == again.commits("me/x")[1].id
        )
        assert again.files("me/x")["w.bin"] == b"weights"


def test_it_runs_as_a_command(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("loopback_hub.py")), "--root", str(tmp_path / "store")]
    # Where the tests run in the background, Ctrl-C is ignored from the start; here it is to end the server.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    command += ["--port", "0", "--token", "hf_a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **listening) as process:
        line = process.stdout.readline()
        url = line.split(" at ")[1].split(";")[0]
        assert line == f"Serving {tmp_path / 'store'} at {url}; stop with Ctrl-C.\n"
        assert HfApi(endpoint=url, token="hf_a").whoami()["name"] == "me"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_a_taken_port_is_one_line(hub, tmp_path):
    port = hub.url.rpartition(":")[2]
    with pytest.raises(
        SystemExit, match=rf"^error: cannot serve on port {port}: Address already in use; choose another"
    ):
        main(["--root", str(tmp_path), "--port", port])


def test_transformers_and_datasets_read_from_it(hub, api, tmp_path):
    api.create_repo("me/x", private=True)
    commit(api, {"config.json": b'{"model_type": "gpt2", "n_layer": 3}'})
    api.create_repo("me/d", repo_type="dataset")
    rows = b'{"text": "a"}\n{"text": "b"}\n'
    api.upload_file(path_or_fileobj=rows, path_in_repo="train.jsonl", repo_id="me/d", repo_type="dataset")
    script = """
from datasets import load_dataset
from transformers import AutoConfig
print(AutoConfig.from_pretrained("me/x").n_layer, load_dataset("me/d", split="train")["text"][:])
"""
    client = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "USE_TORCH": "0"}
    environment = {**os.environ, **client, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3 ['a', 'b']\n"), done.stderr
    assert ("GET", "/datasets/me/d/resolve/" + hub.commits("me/d", "dataset")[0].id + "/train.jsonl") in hub.requests
