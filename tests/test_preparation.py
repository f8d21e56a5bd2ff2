"""From files to splits: what becomes of every row, to the number, and folders that are the same to the byte."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from mh_support.data import processes
from mh_support.data.preparation import (
    DataArguments,
    Prepared,
    check_replaceable,
    data_fingerprint,
    load_prepared,
    prepare,
    write_splits,
)
from mh_support.data.report import DataReport, count_edits, table
from mh_support.data.splitting import shared_questions
from mh_support.files import sha256_of

RECIPE = Path(__file__).parent.parent / "recipes" / "prepare.py"
PATIENT = "and I would like to hear more about it whenever you feel ready to tell me, at your own pace, with no hurry"


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def row(question, answer, **more):
    return {"Context": question, "Response": answer, **more}


@pytest.fixture
def source(tmp_path):
    """Write rows as a JSONL file and return the arguments that read it."""

    def write(*rows, name="data.jsonl", **arguments):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return DataArguments(dataset_name=[str(path)], **arguments)

    return write


@pytest.fixture
def plain(made_up):
    """Return ten rows of different questions and replies in which there is nothing to clean, drop or edit."""
    return [row(made_up(number), made_up(number + 1000)) for number in range(10)]


def prepared(arguments):
    return prepare(arguments, progress=False)


def everything(result):
    return [dialogue["messages"] for split in ("train", "validation", "test") for dialogue in result.splits[split]]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- fates -----------------------------------------------------------------------------------------------------------


def test_each_row_has_the_fate_it_should(source, plain, made_up):
    question, answer = made_up(0), made_up(1000)
    thorough = f"{made_up(2000)} {PATIENT}"
    rows = [
        *plain,
        row("", made_up(1)),
        row(" <br>&nbsp; ", made_up(2)),
        row(None, None),
        row(made_up(3), ""),
        row(made_up(4), "<p> </p>"),
        row(question, answer),
        row(f" {question.upper()} ", answer.lower().replace(".", "!!")),
        row(question, thorough),
        row(question, thorough.replace("hurry", "rush")),
        row(question, made_up(2001)),
    ]
    result = prepared(source(*rows))
    report = result.report.as_dict()
    assert report["rows_read"] == 20
    assert report["fates"] == {
        "empty_context": 3,
        "empty_response": 2,
        "duplicate": 2,
        "near_duplicate": 1,
        "kept": 12,
    }
    assert sum(split["dialogues"] for split in report["splits"].values()) == 12
    assert sum(split["questions"] for split in report["splits"].values()) == 10
    assert report["leakage"] == {"checked": True, "shared_questions": 0}
    assert (report["source"], report["split_by"], report["encoding"]) == ("data.jsonl", "question", {})
    assert report["sources"] == [
        {"name": "data.jsonl", "license": "unknown", "non_commercial": False, "url": None, "rows": 20}
    ]
    kept = {answer for _, answer in ((first["content"], last["content"]) for first, last in everything(result))}
    assert kept == {*(made_up(number + 1000) for number in range(10)), thorough, made_up(2001)}


PASSED = [
    user("I want to kill myself."),
    assistant("Are you safe?"),
    user("Yes, I'm safe now. My sister is here."),
    assistant("I am glad that she is with you."),
]


def test_dialogues_with_a_crisis_in_them_are_set_aside_unless_told(source, plain):
    rows = [{"messages": [user(one["Context"]), assistant(one["Response"])]} for one in plain]
    rows += [{"messages": PASSED}, {"messages": [PASSED[0], assistant("Please call somebody.")]}]
    assert prepared(source(*rows)).report.fates == {"kept": 10, "risk": 2}
    kept = prepared(source(*rows, risk_rows="keep"))
    assert kept.report.fates == {"kept": 12}
    assert PASSED in everything(kept)
    assert "set aside: signs of a crisis" in prepared(source(*rows)).report.table()


def test_near_duplicates_may_stay(source, plain, made_up):
    thorough = f"{made_up(2000)} {PATIENT}"
    rows = [*plain, row(made_up(0), thorough), row(made_up(0), thorough.replace("hurry", "rush")), plain[0]]
    report = prepared(source(*rows, near_duplicates=False)).report
    assert report.fates == {"kept": 12, "duplicate": 1}


def test_the_same_reply_to_another_question_stays(source, plain, made_up):
    assert prepared(source(*plain, row(made_up(50), plain[0]["Response"]))).report.fates == {"kept": 11}


def test_a_dialogue_runs_from_the_persons_first_turn_to_the_last_reply(source, plain, made_up):
    one, two, three, four = (made_up(number) for number in range(60, 64))
    messages = [
        {"role": "system", "content": "Be kind."},
        assistant("Hello, welcome."),
        user(one),
        user("<p></p>"),
        user(two),
        assistant(three),
        assistant(""),
        user("   "),
        assistant(four),
        user("Thanks, bye now"),
    ]
    as_messages = [{"messages": [user(plain_row["Context"]), assistant(plain_row["Response"])]} for plain_row in plain]
    result = prepared(source({"messages": messages}, *as_messages))
    expected = [user(f"{one} {two}"), assistant(f"{three} {four}")]
    assert expected in everything(result)
    edits = {"system_removed": 1, "opening_reply_removed": 1, "closing_turn_removed": 1, "cleaned": 1}
    assert result.report.edits == edits


@pytest.mark.parametrize(
    ("messages", "fate"),
    [
        ([], "empty_context"),
        ([assistant("a")], "empty_context"),
        ([{"role": "system", "content": "a"}], "empty_context"),
        ([user("a")], "empty_response"),
        ([user("a"), user("b")], "empty_response"),
        ([assistant("a"), user("b")], "empty_response"),
        ([assistant("a"), user("b"), assistant(" ")], "empty_response"),
    ],
)
def test_what_has_no_exchange_is_dropped(source, plain, messages, fate):
    as_messages = [{"messages": [user(plain_row["Context"]), assistant(plain_row["Response"])]} for plain_row in plain]
    report = prepared(source(*as_messages, {"messages": messages})).report
    assert (report.fates, report.edits) == ({"kept": 10, fate: 1}, {})


def test_edits_count_rows_not_places(source, plain, made_up):
    rows = [
        *plain,
        row(made_up(70), "Write to me@example.com or you@example.com and we will see what can be done about it."),
        row(f"{made_up(71)} My number is 212-555-0147 and hers is 212-555-0148.", f"{made_up(72)}<br>{made_up(73)}"),
        row("", "Write to me@example.com about it."),
    ]
    report = prepared(source(*rows)).report
    assert (report.fates["kept"], report.fates["empty_context"]) == (12, 1)
    assert (report.edits["email"], report.edits["phone"], report.edits["cleaned"]) == (1, 1, 1)


def test_nothing_personal_is_left(source, plain, made_up):
    reply = f"{made_up(75)} Write to jane@example.com, or look at https://example.com/jane or call 212-555-0147 today."
    result = prepared(source(*plain, row(f"{made_up(74)} My address is jane@example.com.", reply)))
    text = json.dumps(everything(result))
    assert not [word for word in ("jane", "example.com", "555") if word in text]
    assert made_up(75) in text


def test_lower_case(source, plain):
    result = prepared(source(*plain, lowercase=True))
    texts = [message["content"] for messages in everything(result) for message in messages]
    assert sorted(texts) == sorted(text.lower() for plain_row in plain for text in plain_row.values())
    assert prepared(source(*plain)).report.edits == {}


def test_max_samples_counts_the_rows_of_each_data_set(source, plain, made_up):
    one = source(*plain, name="one.jsonl").dataset_name
    two = source(*[row(made_up(number), "Yes.") for number in range(80, 90)], name="two.jsonl").dataset_name
    report = prepared(DataArguments(dataset_name=[*one, *two], max_samples=4)).report
    assert (report.rows_read, report.fates) == (8, {"kept": 8})
    assert [(origin["name"], origin["rows"]) for origin in report.sources] == [("one.jsonl", 4), ("two.jsonl", 4)]
    assert report.as_dict()["source"] == "one.jsonl, two.jsonl"


def test_rows_beyond_max_samples_are_not_even_read(tmp_path, plain):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(plain_row) + "\n" for plain_row in plain[:5]) + "no json\n", encoding="utf-8")
    assert prepared(DataArguments(dataset_name=[str(path)], max_samples=5)).report.fates == {"kept": 5}


def test_the_samples_need_nothing():
    report = prepare(DataArguments(), progress=False).report
    assert report.leakage["shared_questions"] == 0
    assert set(report.fates) == {"kept", "risk"} and 0 < report.fates["risk"] < report.rows_read / 10
    assert report.sources[0]["name"] == "samples"
    assert report.sources[0]["license"] == "cc0-1.0"


class Terminal(io.StringIO):
    """What looks like a terminal to those who ask."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "shown"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_progress_is_for_terminals_and_leaves_no_trace(source, plain, monkeypatch, stream, progress, shown):
    monkeypatch.setattr(sys, "stderr", stream())
    prepare(source(*plain), progress=progress)
    text = sys.stderr.getvalue()
    assert [words in text for words in ("reading data.jsonl", "near-duplicate questions")] == [shown, shown]
    assert text.rpartition("\r")[2] == ""
    with pytest.raises(ValueError, match="split") as raised:
        prepare(source({**plain[0], "split": "holdout"}), progress=progress)
    # The error still holds its frames: it is not their end that cleared the line.
    assert raised.tb is not None
    assert sys.stderr.getvalue().rpartition("\r")[2] == ""


# ---- many rows ----


@pytest.fixture
def many(source, made_up, monkeypatch):
    """Rows with repeats, a crisis, and what is scrubbed, in batches so small that several processes share them."""
    monkeypatch.setattr(processes, "BATCH_ROWS", 7)
    rows = [row(made_up(number % 40), made_up(number % 80 + 1000)) for number in range(200)]
    rows[60:60] = [row("I want to kill myself.", made_up(1)), row(made_up(60), "Write to me@example.com about it."), {}]
    return lambda **changes: source(*rows, **changes)


def test_any_number_of_processes_gives_the_same_bytes(many, tmp_path):
    for num_proc in (1, 2, 3):
        prepared(many(num_proc=num_proc)).save(tmp_path / str(num_proc))
    report = json.loads((tmp_path / "1" / "data_report.json").read_text(encoding="utf-8"))
    assert (report["rows_read"], report["fates"]["risk"], report["fates"]["duplicate"]) == (203, 1, 120)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


@pytest.mark.parametrize("ending", ["no json", '{"Context": [3], "Response": "b"}'])
def test_an_error_far_into_the_rows_leaves_nothing_behind(many, tmp_path, monkeypatch, ending):
    arguments = many(num_proc=2)
    path = Path(arguments.dataset_name[0])
    path.write_text(path.read_text(encoding="utf-8") + ending + "\n", encoding="utf-8")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    with pytest.raises(ValueError, match=r"line 204 is not valid JSON|a message lacks role or content"):
        prepared(arguments)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert multiprocessing.active_children() == []


def test_the_rows_outlive_their_files(many, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    splits = prepared(many()).splits
    assert [path for path in tmp_path.iterdir() if path not in before and path.name != "data.jsonl"] == []
    for rows in splits.values():
        assert list(rows) == [rows[place] for place in range(len(rows))] == rows[:] == rows
        assert rows[-1] == rows[len(rows) - 1]
        assert rows[:2] != rows
        assert repr(rows) == f"<{len(rows)} rows>"


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_and_follow_the_seed(source, made_up):
    rows = [row(made_up(number), made_up(number * 7 + copy + 5000)) for number in range(60) for copy in range(3)]
    results = [prepared(source(*rows, split_seed=seed)) for seed in (1, 1, 2)]
    assert results[0].splits == results[1].splits != results[2].splits
    for result in results:
        splits = {name: [dialogue["messages"] for dialogue in split] for name, split in result.splits.items()}
        assert shared_questions(splits) == []
        assert Counter({name: len(split) for name, split in splits.items()}) == {
            "train": 144,
            "validation": 18,
            "test": 18,
        }
        assert result.report.splits == {
            "train": {"dialogues": 144, "questions": 48},
            "validation": {"dialogues": 18, "questions": 6},
            "test": {"dialogues": 18, "questions": 6},
        }


@pytest.fixture
def leaky(made_up):
    """Rows of shipped splits in which train 0, 1 and 2 ask what stands in test and validation."""
    train = [row(made_up(number), made_up(number + 1000), split="train") for number in range(6)]
    held_out = [row(made_up(number), made_up(number + 1000), split="validation") for number in range(6, 8)]
    held_out += [row(made_up(number), made_up(number + 1000), split="test") for number in range(8, 11)]
    train[0] |= {"Context": made_up(8)}
    train[1] |= {"Context": f"{made_up(9).upper()} oh"}
    train[2] |= {"Context": made_up(6), "Response": made_up(1006)}  # the whole dialogue again
    return [*train, *held_out]


def test_shipped_splits_that_leak_are_refused(source, leaky):
    message = (
        r"^questions stand in more than one split \(pairs of rows: 3; first: train row 1 and test row 1\), so scores "
        r"would measure memory; pass --shipped_splits drop_leaks or ignore$"
    )
    with pytest.raises(ValueError, match=message):
        prepared(source(*leaky))


def test_leaks_can_be_dropped_from_training(source, leaky):
    result = prepared(source(*leaky, shipped_splits="drop_leaks"))
    report = result.report.as_dict()
    assert report["fates"] == {"leaked": 3, "kept": 8}
    assert report["split_by"] == "shipped split"
    assert report["splits"] == {
        "train": {"dialogues": 3, "questions": 3},
        "validation": {"dialogues": 2, "questions": 2},
        "test": {"dialogues": 3, "questions": 3},
    }
    assert report["leakage"] == {"checked": True, "shared_questions": 0}
    assert everything(result) == [[user(r["Context"]), assistant(r["Response"])] for r in leaky[3:]]


def test_leaks_between_validation_and_test_can_only_be_split_anew(source, leaky, made_up):
    leaky[-1]["Context"] = leaky[6]["Context"]
    message = r"\(pairs of rows: 1; first: validation row 1 and test row 3\).*; pass --shipped_splits ignore$"
    with pytest.raises(ValueError, match=message):
        prepared(source(*leaky, shipped_splits="drop_leaks"))


def test_nothing_left_to_train_on(source, leaky):
    rows = [*leaky[:3], *leaky[6:]]
    message = r"^every question in train stands in validation or test too; pass --shipped_splits ignore$"
    with pytest.raises(ValueError, match=message):
        prepared(source(*rows, shipped_splits="drop_leaks"))


def test_shipped_splits_can_be_ignored(source, leaky):
    result = prepared(source(*leaky, shipped_splits="ignore"))
    assert result.report.fates == {"duplicate": 1, "kept": 10}
    assert result.report.split_by == "question"
    assert shared_questions({n: [d["messages"] for d in s] for n, s in result.splits.items()}) == []


def test_shipped_splits_are_used_as_they_are(source, leaky):
    result = prepared(source(*leaky[3:]))
    assert result.report.fates == {"kept": 8}
    assert result.report.split_by == "shipped split"
    assert {name: len(split) for name, split in result.splits.items()} == {"train": 3, "validation": 2, "test": 3}
    assert everything(result) == [[user(r["Context"]), assistant(r["Response"])] for r in leaky[3:]]


@pytest.mark.parametrize(
    ("shipped", "split_by", "sizes"),
    [
        (["train"], "shipped split, validation and test taken from train by question", (16, 2, 2)),
        (["train", "test"], "shipped split, validation taken from train by question", (18, 2, 5)),
        (["train", "validation"], "shipped split, test taken from train by question", (18, 5, 2)),
    ],
)
def test_splits_that_are_not_shipped_are_taken_from_train(source, made_up, shipped, split_by, sizes):
    rows = [row(made_up(number), made_up(number + 1000), split="train") for number in range(20)]
    rows += [
        row(made_up(number), made_up(number + 1000), split=name) for name in shipped[1:] for number in range(20, 25)
    ]
    result = prepared(source(*rows))
    assert result.report.split_by == split_by
    assert tuple(len(result.splits[name]) for name in ("train", "validation", "test")) == sizes
    shipped_texts = {r["Context"] for r in rows if r["split"] != "train"}
    for name in shipped[1:]:
        assert {dialogue["messages"][0]["content"] for dialogue in result.splits[name]} == shipped_texts


def test_a_taken_split_keeps_questions_whole(source, made_up):
    rows = [
        row(made_up(number), made_up(number + c * 50 + 1000), split="train") for number in range(20) for c in range(3)
    ]
    result = prepared(source(*rows))
    assert result.report.splits["test"] == {"dialogues": 6, "questions": 2}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            ["train", None, "test", ""],
            r"^2 of 4 rows have no split and the others do; fill the split column, or pass --shipped_splits ignore$",
        ),
        (["test"] * 4, r"^the shipped splits have no train rows; name one train, or pass --shipped_splits ignore$"),
        (["train", "train", "test", "test"], r"^2 different questions left after cleaning, at least 3 are needed"),
        (
            ["train", "train", "test", "holdout"],
            r"^data\.jsonl has the split 'holdout'; the splits are train, validation",
        ),
    ],
)
def test_shipped_splits_that_cannot_be_used(source, plain, splits, message):
    rows = [{**plain_row, "split": split} for plain_row, split in zip(plain, splits, strict=False)]
    with pytest.raises(ValueError, match=message):
        prepared(source(*rows))


def test_nothing_left(source):
    message = r"^no dialogue is left of 3 rows read \(1 empty context, 2 empty response\); check the columns$"
    with pytest.raises(ValueError, match=message):
        prepared(source(row("", "a"), row("b", ""), row("c", None)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shipped_splits": "perhaps"}, r"^shipped_splits is 'perhaps'; it is one of use, drop_leaks, ignore$"),
        ({"max_samples": 0}, r"^max_samples is 0; give at least 1, or leave it out for all$"),
        ({"max_samples": -3}, r"^max_samples is -3; "),
        ({"num_proc": 0}, r"^num_proc is 0; give at least 1, or leave it out for one a processor$"),
        ({"risk_rows": "some"}, r"^risk_rows is 'some'; it is drop or keep$"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**arguments)


def test_one_sample_may_be_asked_for():
    assert DataArguments(max_samples=1).max_samples == 1


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_saved_folder_to_the_letter(source, plain, tmp_path):
    result = prepared(source(*plain))
    result.save(tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["data_report.json", "test.jsonl", "train.jsonl", "validation.jsonl"]
    for name, split in result.splits.items():
        lines = "".join(json.dumps(dialogue, ensure_ascii=False) + "\n" for dialogue in split)
        assert (tmp_path / "out" / f"{name}.jsonl").read_text(encoding="utf-8") == lines
        assert all(list(dialogue) == ["messages"] for dialogue in split)
    report = json.loads((tmp_path / "out" / "data_report.json").read_text(encoding="utf-8"))
    assert report == result.report.as_dict()
    assert load_prepared(tmp_path / "out") == result.splits


def test_the_same_data_gives_the_same_bytes(source, made_up, tmp_path):
    rows = [row(made_up(number), f"{made_up(number + c * 99)} é") for number in range(40) for c in (10, 11)]
    arguments = source(*rows)
    for name in ("one", "two"):
        prepared(arguments).save(tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert data_fingerprint(tmp_path / "one") == data_fingerprint(tmp_path / "two")
    # And in a process of its own, in which Python orders its sets otherwise.
    command = [sys.executable, str(RECIPE), "--data", *arguments.dataset_name, "--output_dir", str(tmp_path / "three")]
    ended = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


def test_the_fingerprint_is_of_the_three_splits(source, plain, tmp_path):
    result = prepared(source(*plain))
    result.save(tmp_path / "out")
    paths = [tmp_path / "out" / f"{name}.jsonl" for name in ("train", "validation", "test")]
    before = data_fingerprint(tmp_path / "out")
    assert before == sha256_of(paths)
    (tmp_path / "out" / "data_report.json").write_text("{}")
    assert data_fingerprint(tmp_path / "out") == before
    write_splits(tmp_path / "out", {**result.splits, "test": result.splits["test"][:0]})
    assert data_fingerprint(tmp_path / "out") != before


@pytest.mark.parametrize("failing", range(1, 7))
def test_a_save_that_fails_leaves_the_old_folder(source, plain, tmp_path, monkeypatch, failing):
    prepared(source(*plain)).save(tmp_path / "out")
    other = prepared(source(*plain[:5]))
    before, names = contents(tmp_path / "out"), sorted(os.listdir(tmp_path))
    replace, calls = os.replace, []

    def failing_replace(here, there):
        calls.append(here)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device", str(there))
        replace(here, there)

    monkeypatch.setattr(os, "replace", failing_replace)
    with pytest.raises(OSError, match="No space left on device"):
        other.save(tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert sorted(os.listdir(tmp_path)) == names


def test_a_report_that_does_not_add_up_is_not_saved(source, plain, tmp_path):
    result = prepared(source(*plain))
    result.report.rows_read += 1
    with pytest.raises(RuntimeError, match=r"^11 rows were read and 10 accounted for$"):
        result.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_load_prepared_refuses_what_is_missing_or_damaged(source, plain, tmp_path):
    prepared(source(*plain)).save(tmp_path / "out")
    path = tmp_path / "out" / "validation.jsonl"
    path.write_text('{"messages": [}\n')
    with pytest.raises(ValueError, match=r"validation\.jsonl line 1 is not valid JSON"):
        load_prepared(tmp_path / "out")
    path.unlink()
    message = r"validation\.jsonl is missing; prepare the data again with recipes/prepare\.py or recipes/finetune\.py$"
    with pytest.raises(ValueError, match=message):
        load_prepared(tmp_path / "out")


def test_a_prepared_folder_remembers_where_its_rows_came_from(source, plain, made_up, tmp_path):
    arguments = source(*plain, dataset_license="cc-by-nc-4.0")
    prepared(arguments).save(tmp_path / "one")
    again = prepared(DataArguments(dataset_name=[str(tmp_path / "one")]))
    origin = {"name": "data.jsonl", "license": "cc-by-nc-4.0", "non_commercial": True, "url": None}
    assert again.report.sources == [{**origin, "rows": 10}]
    assert again.report.split_by == "shipped split"
    assert again.splits == load_prepared(tmp_path / "one")

    other = source(*[row(made_up(n), made_up(n + 1000)) for n in range(20, 30)], name="b.jsonl", dataset_license="mit")
    prepared(other).save(tmp_path / "two")
    both = prepared(DataArguments(dataset_name=[str(tmp_path / "one"), str(tmp_path / "two")]))
    assert both.report.sources == [
        {**origin, "rows": 10},
        {"name": "b.jsonl", "license": "mit", "non_commercial": False, "url": None, "rows": 10},
    ]
    both.save(tmp_path / "three")
    third = prepared(DataArguments(dataset_name=[str(tmp_path / "three")])).report.sources
    assert third == [
        {
            "name": "data.jsonl, b.jsonl",
            "license": "cc-by-nc-4.0 and mit",
            "non_commercial": True,
            "url": None,
            "rows": 20,
        }
    ]


def test_a_licence_that_is_told_wins_over_what_a_folder_remembers(source, plain, tmp_path):
    prepared(source(*plain)).save(tmp_path / "one")
    told = prepared(DataArguments(dataset_name=[str(tmp_path / "one")], dataset_license="cc-by-4.0"))
    assert told.report.sources[0]["license"] == "cc-by-4.0"


def test_a_prepared_folder_remembers_one_address(source, plain, tmp_path):
    prepared(source(*plain)).save(tmp_path / "one")
    path = tmp_path / "one" / "data_report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    origin = {"name": "a/b", "license": "mit", "non_commercial": False, "url": "https://example.com/a/b", "rows": 10}
    for origins, url in (([origin], origin["url"]), ([origin, origin], None)):
        path.write_text(json.dumps({**report, "sources": origins}), encoding="utf-8")
        assert prepared(DataArguments(dataset_name=[str(tmp_path / "one")])).report.sources[0]["url"] == url


@pytest.mark.parametrize("report", ["{}", "[]", '{"sources": [{"name": "x"}]}', '{"sources": 3}', '{"sources": ["x"]}'])
def test_a_folder_with_a_report_of_another_kind(source, plain, tmp_path, report):
    prepared(source(*plain)).save(tmp_path / "one")
    (tmp_path / "one" / "data_report.json").write_text(report)
    message = r"data_report\.json does not say where the rows came from; prepare the data again$"
    with pytest.raises(ValueError, match=message):
        prepared(DataArguments(dataset_name=[str(tmp_path / "one")]))


def test_only_prepared_data_is_replaced(source, plain, tmp_path):
    folder = tmp_path / "out"
    check_replaceable(folder)
    folder.mkdir()
    check_replaceable(folder)
    prepared(source(*plain)).save(folder)
    check_replaceable(folder)
    (folder / "run.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"out holds run\.json, which is no prepared data; give --output_dir a new folder$"
    ):
        check_replaceable(folder)
    with pytest.raises(ValueError, match=r"out/run\.json is a file; give --output_dir a new folder$"):
        check_replaceable(folder / "run.json")


def test_what_people_wrote_is_in_no_repr(source, plain, made_up):
    assert made_up(0)[:10] not in repr(prepared(source(*plain)))
    assert isinstance(prepared(source(*plain)), Prepared)


# ---- the report ------------------------------------------------------------------------------------------------------


def test_the_report_as_a_table_to_the_letter():
    report = DataReport(
        rows_read=1234,
        fates=Counter(kept=1200, duplicate=30, leaked=4),
        edits=Counter(email=12, cleaned=1000),
        splits={
            "train": {"dialogues": 1000, "questions": 900},
            "validation": {"dialogues": 100, "questions": 90},
            "test": {"dialogues": 100, "questions": 5},
        },
        split_by="shipped split",
        leakage={"checked": True, "shared_questions": 0},
    )
    lines = [
        ("what happened", "rows"),
        ("rows read", "1,234"),
        ("  kept", "1,200"),
        ("  dropped: the same dialogue again", "30"),
        ("  dropped from training: its question is in a shipped validation or test split", "4"),
        ("rows edited", ""),
        ("  text cleaned (markup, spacing, characters)", "1,000"),
        ("  e-mail address removed", "12"),
        ("split by shipped split", "dialogues (questions)"),
        ("  train", "1,000 (900)"),
        ("  validation", "100 (90)"),
        ("  test", "100 (5)"),
        ("questions in more than one split", "0"),
    ]
    text = [f"{left:78}{right:>23}".rstrip() for left, right in lines]
    assert report.table() == "\n".join([text[0], "-" * 101, *text[1:]])


def test_a_table_to_the_letter():
    assert table([("a", "b"), ("long", 1234), ("x", 0.5)]) == "a         b\n-----------\nlong  1,234\nx       0.5"


def test_a_report_adds_up_or_is_refused():
    with pytest.raises(RuntimeError, match=r"^3 rows were read and 2 accounted for$"):
        DataReport(rows_read=3, fates=Counter(kept=1, duplicate=1)).as_dict()
    assert DataReport(rows_read=2, fates=Counter(kept=1, duplicate=1)).as_dict()["fates"] == {"kept": 1, "duplicate": 1}


def test_count_edits():
    edits = Counter(email=1)
    count_edits(edits, {"email": 3, "phone": 1, "link": 0})
    assert edits == {"email": 2, "phone": 1}
    assert "link" not in edits
