"""Files are whole or not there: whatever fails on the way, what stood before stands again and nothing is left over."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat

import pytest

from mh_support.files import (
    kept_secret,
    packaged_json,
    read_json,
    read_table,
    remove,
    replacing,
    sha256_of,
    sweep_drafts,
    write_json,
    write_jsonl,
    write_text,
)


def tree(folder):
    """Return every file below `folder` with its bytes, and every folder with None."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


class Interrupted(BaseException):
    """Stands for Ctrl-C, which no `except Exception` sees."""


def test_a_new_file_and_its_folders(tmp_path):
    target = tmp_path / "a" / "b" / "c.txt"
    with replacing(target) as draft:
        assert (draft.suffix, draft.exists(), target.exists()) == (".txt", False, False)
        assert draft.parent.parent == target.parent
        draft.write_text("one")
    assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/c.txt": b"one"}


def test_a_new_folder_and_a_replaced_one(tmp_path):
    target = tmp_path / "out"
    for name in ("first", "second"):
        with replacing(target) as draft:
            draft.mkdir()
            (draft / name).write_text(name)
            assert not (target / name).exists()
        assert tree(tmp_path) == {"out": None, f"out/{name}": name.encode()}


def test_a_path_may_be_a_string_and_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text("x.txt", "é\n")
    assert tree(tmp_path) == {"x.txt": b"\xc3\xa9\n"}


def test_a_folder_is_removed_at_once_and_what_a_kill_leaves_of_it_is_swept(tmp_path, monkeypatch):
    for name in ("one", "two"):
        write_text(tmp_path / name / "text", "mine")
    remove(tmp_path / "one")
    assert tree(tmp_path) == {"two": None, "two/text": b"mine"}
    with monkeypatch.context() as patch:
        patch.setattr("mh_support.files.shutil.rmtree", lambda *given: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            remove(tmp_path / "two")
    assert not (tmp_path / "two").exists()
    sweep_drafts(tmp_path)
    assert tree(tmp_path) == {}


def test_what_a_kill_leaves_behind_is_swept_and_all_else_stays(tmp_path):
    for name in ("run.json", ".env", ".git/config", ".data.abcdefgh.txt"):
        write_text(tmp_path / name, "mine")
    before = tree(tmp_path)
    pid = os.fork()
    if pid == 0:
        with replacing(tmp_path / "data") as draft:
            draft.mkdir()
            (draft / "train.jsonl").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.glob(".data.????????"))) == 1
    sweep_drafts(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("error", [ValueError("no"), Interrupted()])
@pytest.mark.parametrize("kind", ["nothing", "file", "folder"])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, kind, error):
    target = tmp_path / "x"
    if kind == "file":
        target.write_text("old")
    if kind == "folder":
        target.mkdir()
        (target / "y").write_text("old")
    before = tree(tmp_path)
    with pytest.raises(type(error)), replacing(target) as draft:
        draft.mkdir()
        (draft / "half").write_text("half")
        raise error
    assert tree(tmp_path) == before


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Interrupted()])
def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, failing, error):
    target = tmp_path / "x"
    target.mkdir()
    (target / "y").write_text("old")
    before = tree(tmp_path)
    replace, calls = os.replace, []

    def failing_replace(source, destination):
        calls.append(source)
        if len(calls) == failing:
            raise error
        replace(source, destination)

    monkeypatch.setattr(os, "replace", failing_replace)
    with pytest.raises(type(error)), replacing(target) as draft:
        draft.mkdir()
    assert tree(tmp_path) == before


def test_a_block_that_makes_nothing_is_an_error_and_the_old_folder_stays(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x"):
        pass
    assert tree(tmp_path) == {"x": None}


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "x") as draft:
        draft.mkdir()
    assert tree(tmp_path) == {"x": b"old"}


def test_what_is_written_can_be_read_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "x", "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_write_json_to_the_letter(tmp_path):
    write_json(tmp_path / "x.json", {"b": [1, 0.5, None], "a": "é “x”"})
    text = '{\n  "b": [\n    1,\n    0.5,\n    null\n  ],\n  "a": "é “x”"\n}\n'
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == text
    assert read_json(tmp_path / "x.json") == {"b": [1, 0.5, None], "a": "é “x”"}


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), ({1, 2}, TypeError)])
def test_what_json_has_no_word_for_is_not_written(tmp_path, value, error):
    (tmp_path / "x.json").write_text("old")
    with pytest.raises(error, match=r"JSON"):
        write_json(tmp_path / "x.json", value)
    assert tree(tmp_path) == {"x.json": b"old"}


def test_write_jsonl_to_the_letter(tmp_path):
    write_jsonl(tmp_path / "x.jsonl", ({"a": text} for text in ("é", "two\nlines\u2028and")))
    assert (tmp_path / "x.jsonl").read_bytes() == '{"a": "é"}\n{"a": "two\\nlines\u2028and"}\n'.encode()
    write_jsonl(tmp_path / "x.jsonl", [])
    assert (tmp_path / "x.jsonl").read_bytes() == b""


def test_rows_that_stop_half_way_leave_the_old_file(tmp_path):
    write_jsonl(tmp_path / "x.jsonl", [{"a": 1}])

    def rows():
        yield {"a": 2}
        raise ValueError("row 2 is bad")

    with pytest.raises(ValueError, match=r"^row 2 is bad$"):
        write_jsonl(tmp_path / "x.jsonl", rows())
    assert tree(tmp_path) == {"x.jsonl": b'{"a": 1}\n'}


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\x89PNG", '{"a": 1}'.encode("utf-16"), b"[" * 100_000],
    ids=["empty", "cut", "png", "16", "deep"],
)
def test_read_json_names_the_file(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON \(.+\); make it again or restore it$"):
        read_json(tmp_path / "x.json")


def test_read_json_of_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "x.json")


def test_sha256_of_is_over_names_and_bytes_in_the_order_of_names(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"one\n")
    (tmp_path / "b.jsonl").write_bytes(b"x" * 3_000_000)
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    expected = hashlib.sha256(b"a.jsonl" + b"one\n" + b"b.jsonl" + b"x" * 3_000_000).hexdigest()
    assert sha256_of(paths) == sha256_of(reversed(paths)) == sha256_of(map(str, paths)) == expected
    assert sha256_of([]) == hashlib.sha256().hexdigest()
    changed = {expected}
    for number, (name, data) in enumerate([("a.jsonl", b"one"), ("a.jsonl", b"two\n"), ("c.jsonl", b"one\n")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(data)
        changed.add(sha256_of([folder / name, paths[1]]))
    assert len(changed) == 4


def test_sha256_of_does_not_depend_on_the_folder(tmp_path):
    for name in ("one", "two"):
        write_json(tmp_path / name / "x.json", json.loads("{}"))
    assert sha256_of([tmp_path / "one" / "x.json"]) == sha256_of([tmp_path / "two" / "x.json"])


def test_a_file_of_a_package_is_read_once(tmp_path, monkeypatch):
    package = tmp_path / "a_package_with_a_table"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "table.json").write_text('{"a": 1}')
    monkeypatch.syspath_prepend(tmp_path)
    first = packaged_json(package.name, "table.json")
    (package / "table.json").unlink()
    assert packaged_json(package.name, "table.json") is first == {"a": 1}


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path):
    secret = kept_secret(tmp_path / "one")
    assert (len(secret), kept_secret(tmp_path / "one")) == (32, secret)
    assert kept_secret(tmp_path / "two") != secret
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600
    (tmp_path / "one").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"one holds 5 bytes instead of a secret of 32; restore it or remove it$"):
        kept_secret(tmp_path / "one")


@pytest.mark.parametrize(("mark", "sign"), [("", ","), ("", ";"), ("\ufeff", ",")])
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path, mark, sign):
    path = tmp_path / "table.csv"
    path.write_text(f'{mark}name{sign}said\r\nann{sign}"one, two; {sign} three"\r\n', encoding="utf-8", newline="")
    assert list(read_table(path)) == [{"name": "ann", "said": f"one, two; {sign} three"}]
    path.write_bytes(b"n\xe4me")
    with pytest.raises(ValueError, match=r"table\.csv is not UTF-8; save it as CSV UTF-8$"):
        read_table(path)
