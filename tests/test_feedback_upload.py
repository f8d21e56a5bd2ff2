"""Feedback in a private data set of the local Hub: it arrives, comes back to a new disk, and goes."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import HfApi
from training_fixtures import load_recipe

from mh_support.feedback import FeedbackStore, new_code, read_feedback
from mh_support.feedback_upload import FeedbackUpload

REPO = "me/feedback"
MESSAGES = [{"role": "user", "content": "I feel alone since I moved here."}]
REPLY = "Since when?"


@pytest.fixture
def uploads(api):
    """Return a function that makes an upload; all are stopped at the end, or they would push when Python exits."""
    made = []

    def make(folder, repo=REPO):
        # Minutes so many that only what a test triggers is pushed, after the first time.
        made.append(FeedbackUpload(folder, repo, minutes=1_000, api=api))
        return made[-1]

    yield make
    for upload in made:
        upload._scheduler.stop()


def store_in(folder, upload):
    return FeedbackStore(folder, model={"name": "starter", "fingerprint": None}, consent="1", upload=upload)


def thumb(store, code):
    return store.add_thumb(code, MESSAGES, REPLY, True, proof=store.sign(MESSAGES, REPLY))


def on_the_hub(hub):
    lines = [
        line for name, data in hub.files(REPO, "dataset").items() if name.endswith("l") for line in data.split(b"\n")
    ]
    return [json.loads(line)["id"] for line in lines if line]


def test_records_arrive_in_a_private_data_set_without_a_history(hub, tmp_path, uploads):
    upload = uploads(tmp_path)
    store = store_in(tmp_path, upload)
    first = thumb(store, new_code())
    upload.push()
    second = thumb(store, new_code())
    upload.push()
    assert hub.repo(REPO, "dataset").private
    assert on_the_hub(hub) == [first, second]
    assert sorted(hub.files(REPO, "dataset")) == [".gitattributes", store.path.name]
    assert len(hub.commits(REPO, "dataset")) == 1


def test_what_is_deleted_is_gone_from_the_hub_when_the_person_is_told(hub, tmp_path, uploads):
    upload = uploads(tmp_path)
    store, code = store_in(tmp_path, upload), new_code()
    thumb(store, code)
    upload.push()
    assert len(on_the_hub(hub)) == 1
    assert store.delete(code) == 1
    assert on_the_hub(hub) == []
    assert len(hub.commits(REPO, "dataset")) == 1  # The commit that held it is gone too.


def test_a_new_disk_gets_the_records_back_and_can_delete_them(hub, tmp_path, uploads):
    before, code, other = uploads(tmp_path / "before"), new_code(), new_code()
    store = store_in(tmp_path / "before", before)
    thumb(store, code)
    kept = thumb(store, other)
    before.close()
    after = store_in(tmp_path / "after", uploads(tmp_path / "after"))
    assert [record["id"] for record in read_feedback(tmp_path / "after")] == [*on_the_hub(hub)]
    assert (tmp_path / "after" / store.path.name).stat().st_mode & 0o777 == 0o600
    assert after.delete(code) == 1
    assert on_the_hub(hub) == [kept]


def test_what_is_in_the_folder_already_is_not_overwritten_from_the_hub(hub, tmp_path, uploads):
    upload, code = uploads(tmp_path), new_code()
    thumb(store_in(tmp_path, upload), code)
    upload.close()
    # Deleted by a process without an upload: the Hub's copy must not bring it back.
    assert store_in(tmp_path, None).delete(code) == 1
    uploads(tmp_path).push()
    assert (read_feedback(tmp_path), on_the_hub(hub)) == ([], [])


def test_a_deletion_that_does_not_reach_the_hub_says_so_and_is_finished_by_the_next(hub, tmp_path, uploads):
    upload, code = uploads(tmp_path), new_code()
    store = store_in(tmp_path, upload)
    thumb(store, code)
    upload.push()
    hub.fail_always(lambda method, path: "/commit/" in path, "403")
    with pytest.raises(OSError, match=r"its copy in me/feedback is not yet \(Injected 403\); do the same again"):
        store.delete(code)
    assert len(on_the_hub(hub)) == 1
    hub.clear_faults()
    assert store.delete(code) == 0
    assert on_the_hub(hub) == []


def test_a_public_data_set_is_refused(api, tmp_path):
    api.create_repo(REPO, repo_type="dataset", private=False)
    with pytest.raises(ValueError, match="me/feedback is a public data set; make it private on the Hub"):
        FeedbackUpload(tmp_path, REPO, api=api)


def test_a_hub_that_refuses_is_named_and_no_token_shown(hub, tmp_path):
    with pytest.raises(
        ValueError, match=r"feedback cannot be uploaded to me/feedback \(.*\); see hf auth login"
    ) as raised:
        FeedbackUpload(tmp_path, REPO, api=HfApi(endpoint=hub.url, token="hf_wrongwrong"))
    assert "hf_wrong" not in str(raised.value)


def test_files_with_other_names_are_left_alone(api, hub, tmp_path, uploads):
    api.create_repo(REPO, repo_type="dataset", private=True)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="notes.jsonl", repo_id=REPO, repo_type="dataset")
    (tmp_path / "private.txt").write_text("mine", encoding="utf-8")
    uploads(tmp_path).push()
    assert not (tmp_path / "notes.jsonl").exists()
    assert sorted(hub.files(REPO, "dataset")) == [".gitattributes", "notes.jsonl"]


def test_a_person_is_taken_out_of_the_data_set_from_the_command_line(api, hub, tmp_path, uploads, monkeypatch, capsys):
    upload, code, other = uploads(tmp_path / "server"), new_code(), new_code()
    store = store_in(tmp_path / "server", upload)
    thumb(store, code)
    kept = thumb(store, other)
    upload.close()
    monkeypatch.setattr("mh_support.feedback_upload.HfApi", lambda: api)
    # On a machine that has none of the files yet.
    load_recipe("feedback").main([str(tmp_path / "mine"), "--delete_code", code, "--repo", REPO])
    assert capsys.readouterr().out.startswith("taken out: 1\n")
    assert on_the_hub(hub) == [kept]
