"""Whatever is wrong with the data or the command: one line that says so, a code other than 0, and nothing written."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from transformers.utils import logging

from mh_support.cli import run

RECIPE = Path(__file__).parent.parent / "recipes" / "prepare.py"
# Stands in most of what is read here: no message may repeat what people wrote.
SAID = "nobody may read this in a terminal"
WORDS = [
    "river",
    "stone",
    "apple",
    "window",
    "garden",
    "bread",
    "music",
    "letter",
    "winter",
    "coffee",
    "train",
    "doctor",
]
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00" + bytes(range(256))


def load_recipe():
    spec = importlib.util.spec_from_file_location("prepare_recipe", RECIPE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RECIPE_MAIN = load_recipe().main


def tree(folder):
    """Return what stands below `folder`: each file's size and digest, each folder as it is."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


@pytest.fixture(autouse=True)
def verbosity():
    """Put back what `run` sets for its whole process."""
    before = logging.get_verbosity()
    yield
    logging.set_verbosity(before)


def prepare(capsys, *argv):
    """Run the recipe as its command line does; return the exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as stopped:
        run(lambda: RECIPE_MAIN([*map(str, argv)]))
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def check_refusal(code, out, err, expected_code, line):
    assert (code, out) == (expected_code, "")
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert len(err) < 600
    assert "nobody may read" not in err
    assert line in err


def distinct(count, **more):
    """Return that many rows, each with a question of its own."""
    return [{"Context": f"{WORDS[n]} {WORDS[-n - 1]} {WORDS[n]}s", "Response": SAID, **more} for n in range(count)]


def as_csv(rows, columns=("Context", "Response")):
    return "".join(",".join(line) + "\n" for line in [columns, *([row[c] for c in columns] for row in rows)])


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def messages(*turns):
    return as_jsonl([{"messages": [{"role": role, "content": SAID} for role in turns]}])


GOOD = as_csv(distinct(6))

# Each: the files, the arguments, the exit code, and what the line must say.
CASES = {
    # ---- nothing there
    "an empty file": (
        {"x.csv": ""},
        ["x.csv"],
        "x.csv is empty; give a file with a header and at least a few dialogues",
    ),
    "an empty JSONL": ({"x.jsonl": ""}, ["x.jsonl"], "x.jsonl is empty"),
    "an empty Parquet": ({"x.parquet": ""}, ["x.parquet"], "x.parquet is empty"),
    "a header only": ({"x.csv": "Context,Response\n"}, ["x.csv"], "x.csv holds no rows"),
    "a byte-order mark only": ({"x.csv": b"\xef\xbb\xbf"}, ["x.csv"], "x.csv has an empty first line"),
    "whitespace only in CSV": (
        {"x.csv": "\n\n  \n"},
        ["x.csv"],
        "x.csv has an empty first line; the first line must name",
    ),
    "whitespace only in JSONL": ({"x.jsonl": " \n\n\t\n"}, ["x.jsonl"], "x.jsonl holds no rows"),
    "whitespace only in JSON": ({"x.json": " \n"}, ["x.json"], "x.json is not valid JSON"),
    "an empty list": ({"x.json": "[]"}, ["x.json"], "x.json holds no rows"),
    "no file": (
        {},
        ["x.csv"],
        "no data at x.csv; give a .csv, .tsv, .json, .jsonl, .parquet file, a folder, a Hub id, or",
    ),
    "no folder": ({}, ["./some/folder"], "no data at ./some/folder; "),
    "no file of a known kind": (
        {"x.txt": SAID},
        ["x.txt"],
        "x.txt ends in .txt; the formats read are .csv, .tsv, .json,",
    ),
    "no suffix": ({"x": SAID}, ["x"], "x ends in nothing; the formats read are"),
    "an empty folder": ({"d/": ""}, ["d"], "the folder d holds no data set; expected train.jsonl"),
    "a folder of strangers": ({"d/a.txt": SAID, "d/b.png": PNG}, ["d"], "the folder d holds no data set"),
    "a folder of two data sets": ({"d/a.csv": GOOD, "d/b.csv": GOOD}, ["d"], "the folder d holds no data set"),
    "a folder called x.csv": ({"x.csv/a.txt": SAID}, ["x.csv"], "the folder x.csv holds no data set"),
    "a folder called train.csv in a folder": ({"d/train.csv/a": SAID}, ["d"], "Is a directory (d/train.csv); "),
    "a damaged saved data set": (
        {"d/dataset_dict.json": "{}"},
        ["d"],
        "the folder d is not a data set that load_from_disk",
    ),
    # ---- not text, or other text
    "a picture as CSV": ({"x.csv": PNG}, ["x.csv"], "x.csv is not utf-8 text throughout (byte 0x89); save it as UTF-8"),
    "a picture as JSON": ({"x.json": PNG}, ["x.json"], "x.json is not utf-8 text throughout (byte 0x89)"),
    "a picture as JSONL": ({"x.jsonl": PNG}, ["x.jsonl"], "x.jsonl is not utf-8 text throughout (byte 0x89)"),
    "a picture as Parquet": ({"x.parquet": PNG}, ["x.parquet"], "x.parquet is not a Parquet file that can be read ("),
    "NUL bytes": ({"x.csv": b"\0" * 5000}, ["x.csv"], "x.csv "),
    "NUL bytes in JSONL": ({"x.jsonl": b"\0" * 5000}, ["x.jsonl"], "x.jsonl line 1 is not valid JSON"),
    "UTF-16 unasked": ({"x.csv": GOOD.encode("utf-16")}, ["x.csv"], "x.csv is not utf-8 text throughout (byte 0xff)"),
    "UTF-16 without a mark": ({"x.csv": GOOD.encode("utf-16-le")}, ["x.csv"], "x.csv "),
    "UTF-8 as UTF-16": (
        {"x.csv": GOOD + " "},
        ["x.csv", "--encoding", "utf-16"],
        "x.csv is not utf-16 text throughout (",
    ),
    "UTF-8 as ASCII": (
        {"x.csv": GOOD + "é,é\n"},
        ["x.csv", "--encoding", "ascii"],
        "is not ascii text throughout (byte 0xc3)",
    ),
    "two encodings": (
        {"x.csv": GOOD.encode() + "é,é\n".encode("cp1252")},
        ["x.csv"],
        "not utf-8 text throughout (byte 0xe9)",
    ),
    "no such encoding": (
        {"x.csv": GOOD},
        ["x.csv", "--encoding", "klingon"],
        "the encoding klingon is unknown; give one such",
    ),
    "an encoding of no text": ({"x.csv": GOOD}, ["x.csv", "--encoding", "base64"], "the encoding base64 is unknown; "),
    # ---- one line of 50 MB
    "50 MB in a CSV": (
        {"x.csv": lambda: b"a" * 50_000_000},
        ["x.csv"],
        "x.csv line 1 is not valid CSV (field larger than field limit",
    ),
    "50 MB in a JSON": (
        {"x.json": lambda: b"[" * 50_000_000},
        ["x.json"],
        "x.json is nested too deep to be a dialogue",
    ),
    "50 MB in a JSONL": ({"x.jsonl": lambda: b"a" * 50_000_000}, ["x.jsonl"], "x.jsonl line 1 is not valid JSON"),
    "a million columns": (
        {"x.csv": "a,b," * 500_000 + "\n" + "1,2," * 500_000},
        ["x.csv"],
        "x.csv has the columns a, b",
    ),
    # ---- CSV
    "other columns": (
        {"x.csv": "id,label\n1,2\n"},
        ["x.csv"],
        "x.csv has the columns id, label; expected Context and Response",
    ),
    "no header": ({"x.csv": f"I would say that {SAID},no\nb,c\n"}, ["x.csv"], "x.csv has the columns I would say that"),
    "semicolons": ({"x.csv": "Context;Response\na;b\n"}, ["x.csv"], "x.csv has the columns Context;Response; expected"),
    "a quote never closed": (
        {"x.csv": f'Context,Response\n"{SAID},b\nc,d\n'},
        ["x.csv"],
        "x.csv line 3 is not valid CSV (",
    ),
    "text after a quote": ({"x.csv": f'Context,Response\n"a"{SAID},b\n'}, ["x.csv"], "x.csv line 2 is not valid CSV ("),
    "a field too many": (
        {"x.csv": GOOD + f"{SAID}, b, c\n"},
        ["x.csv"],
        "x.csv line 8 has 3 fields, the header has 2; quote",
    ),
    "a field too few": (
        {"x.csv": GOOD + f"{SAID}\n"},
        ["x.csv"],
        "x.csv line 8 has 1 fields, the header has 2; quote fields",
    ),
    "tabs in a CSV": (
        {"x.csv": "Context\tResponse\na\tb\n"},
        ["x.csv"],
        "x.csv has the columns Context Response; expected",
    ),
    "a column that is not there": (
        {"x.csv": GOOD},
        ["x.csv", "--context_column", "Context", "--response_column", "Reply"],
        "x.csv has no column Reply; its columns are Context, Response",
    ),
    "one column of two": (
        {"x.csv": GOOD},
        ["x.csv", "--context_column", "Context"],
        "give both --context_column and --resp",
    ),
    # ---- JSON
    "JSON 100,000 deep": (
        {"x.json": "[" * 100_000 + "]" * 100_000},
        ["x.json"],
        "x.json is nested too deep to be a dialogue",
    ),
    "JSONL 100,000 deep": (
        {"x.jsonl": '{"a":' * 100_000},
        ["x.jsonl"],
        "x.jsonl line 1 is nested too deep to be a dialogue",
    ),
    "a scalar": ({"x.json": "3"}, ["x.json"], "x.json holds a int; expected a list of rows"),
    "a number beyond all": ({"x.json": "1" * 10_000}, ["x.json"], "x.json "),
    "a text": ({"x.json": json.dumps(SAID)}, ["x.json"], "x.json holds a str; expected a list of rows"),
    "an object": ({"x.json": json.dumps({"rows": [SAID]})}, ["x.json"], "x.json holds a dict; expected a list of rows"),
    "numbers": (
        {"x.json": "[1, 2, 3]"},
        ["x.json"],
        'x.json row 1 is a int; expected an object such as {"messages": [...]}',
    ),
    "JSON cut short": ({"x.json": json.dumps(distinct(6))[:-20]}, ["x.json"], "x.json is not valid JSON ("),
    "JSONL as JSON": ({"x.json": as_jsonl(distinct(6))}, ["x.json"], "x.json is not valid JSON (Extra data"),
    "JSON as JSONL": ({"x.jsonl": json.dumps(distinct(6), indent=1)}, ["x.jsonl"], "x.jsonl line 1 is not valid JSON"),
    "a bad third line": (
        {"x.jsonl": as_jsonl(distinct(2)) + f"{SAID}\n" + as_jsonl(distinct(6))},
        ["x.jsonl"],
        "x.jsonl line 3 is not valid JSON (Expecting value: line 1 column 1 (char 0)); mend it or give another format",
    ),
    "a list in line 2": (
        {"x.jsonl": as_jsonl(distinct(1)) + "[]\n"},
        ["x.jsonl"],
        "x.jsonl line 2 is a list; expected an object",
    ),
    "messages of an unknown role": (
        {"x.jsonl": messages("user", "bot")},
        ["x.jsonl"],
        "a message has the role 'bot'; the roles",
    ),
    "messages that are no list": (
        {"x.jsonl": '{"messages": 3}'},
        ["x.jsonl"],
        "a messages cell is a int; expected a list",
    ),
    "messages that are text": (
        {"x.jsonl": json.dumps({"messages": SAID})},
        ["x.jsonl"],
        "a messages cell is not valid JSON (",
    ),
    "messages of text": (
        {"x.jsonl": json.dumps({"messages": [SAID]})},
        ["x.jsonl"],
        "a message lacks role or content; each",
    ),
    "content of numbers": (
        {"x.jsonl": '{"messages": [{"role": "user", "content": 3}]}'},
        ["x.jsonl"],
        "content is int; give",
    ),
    "rows of another kind": (
        {"x.jsonl": messages("user") + '{"a": 1}'},
        ["x.jsonl"],
        "a messages cell is a NoneType; expected",
    ),
    "a cell of a dict": (
        {"x.jsonl": as_jsonl([{"prompt": {"a": SAID}, "completion": ""}])},
        ["x.jsonl"],
        "a cell holds a dict",
    ),
    "an unknown speaker": (
        {"x.jsonl": as_jsonl([{"dialog": [{"speaker": "narrator", "content": SAID}]}])},
        ["x.jsonl"],
        "a dialog turn has the speaker 'narrator'; expected one of seeker,",
    ),
    "text that is no JSON": (
        {"x.csv": f"text,label\n{SAID},1\n"},
        ["x.csv"],
        "the column text is not ESConv's JSON; name your",
    ),
    "an utterance without a number": (
        {"x.csv": f"conv_id,utterance_idx,utterance\n1,,{SAID}\n"},
        ["x.csv"],
        "x.csv has an utterance_idx that is no number; count each conversation's from 1",
    ),
    # ---- Parquet
    "Parquet of text": ({"x.parquet": SAID}, ["x.parquet"], "x.parquet is not a Parquet file that can be read ("),
    "Parquet of garbage": (
        {"x.parquet": b"PAR1" + b"\0" * 99 + b"PAR1"},
        ["x.parquet"],
        "x.parquet is not a Parquet file",
    ),
    # ---- too little is left
    "one row": (
        {"x.jsonl": as_jsonl(distinct(1))},
        ["x.jsonl"],
        "1 different question left after cleaning, at least 3 are",
    ),
    "two questions": (
        {"x.jsonl": as_jsonl(distinct(2) * 3)},
        ["x.jsonl"],
        "2 different questions left after cleaning, at",
    ),
    "one question": (
        {"x.jsonl": as_jsonl(distinct(1) * 9)},
        ["x.jsonl"],
        "1 different question left after cleaning, at least",
    ),
    "only empty responses": (
        {"x.csv": f"Context,Response\n{SAID},\n{SAID} too,  \n"},
        ["x.csv"],
        "no dialogue is left of 2 rows read (2 empty response); check the columns",
    ),
    "only empty contexts": (
        {"x.csv": f"Context,Response\n,{SAID}\n<br>,{SAID}\n"},
        ["x.csv"],
        "no dialogue is left of 2 rows read (2 empty context); check the columns",
    ),
    "only system messages": (
        {"x.jsonl": messages("system")},
        ["x.jsonl"],
        "no dialogue is left of 1 rows read (1 empty",
    ),
    # ---- splits
    "an unknown split": (
        {"x.jsonl": as_jsonl(distinct(6, split="holdout"))},
        ["x.jsonl"],
        "x.jsonl has the split 'holdout'; the",
    ),
    "splits half filled": (
        {"x.jsonl": as_jsonl([*distinct(6, split="train")[:3], *distinct(6)[3:]])},
        ["x.jsonl"],
        "3 of 6 rows have no split and the others do; fill the split column, or pass --shipped_splits ignore",
    ),
    "splits that leak": (
        {"d/train.jsonl": as_jsonl(distinct(6)), "d/test.jsonl": as_jsonl(distinct(1))},
        ["d"],
        "questions stand in more than one split (pairs of rows: 1; first: train row 1 and test row 1), so scores would",
    ),
    "a test split only": (
        {"x.jsonl": as_jsonl(distinct(6, split="test"))},
        ["x.jsonl"],
        "the shipped splits have no train rows",
    ),
    "all of train leaks": (
        {"d/train.jsonl": as_jsonl(distinct(3)), "d/test.jsonl": as_jsonl(distinct(6))},
        ["d", "--shipped_splits", "drop_leaks"],
        "every question in train stands in validation or test too; pass --shipped_splits ignore",
    ),
    "a stranger's report": (
        {"d/train.jsonl": as_jsonl(distinct(6)), "d/data_report.json": "{}"},
        ["d"],
        "data_report.json does not say where the rows came from; prepare the data again",
    ),
    # ---- where to write
    "a file where the folder goes": (
        {"x.csv": GOOD, "out": SAID},
        ["x.csv"],
        "out is a file; give --output_dir a new folder",
    ),
    "somebody's folder": (
        {"x.csv": GOOD, "out/notes.txt": SAID},
        ["x.csv"],
        "out holds notes.txt, which is no prepared data; ",
    ),
    "a run's folder": (
        {"x.csv": GOOD, "out/data_report.json": "{}", "out/run.json": "{}", "out/model/model.safetensors": "w"},
        ["x.csv"],
        "out holds model, which is no prepared data; give --output_dir a new folder",
    ),
    "a folder in a file": (
        {"x.csv": GOOD},
        ["x.csv", "--output_dir", "x.csv/out"],
        "File exists (x.csv); free or correct the",
    ),
    "the folder one is in": (
        {"x.csv": GOOD},
        ["x.csv", "--output_dir", "."],
        ". holds x.csv, which is no prepared data; ",
    ),
    # ---- the command
    "max_samples 0": (
        {"x.csv": GOOD},
        ["x.csv", "--max_samples", "0"],
        "max_samples is 0; give at least 1, or leave it out",
    ),
    "no config": (
        {"x.csv": GOOD},
        ["x.csv", "--config", "c.yaml"],
        "no config file at c.yaml; the ones that come with",
    ),
    "an unknown key": (
        {"c.yaml": "lower: true\n"},
        ["x.csv", "--config", "c.yaml"],
        "unknown key lower (nearest: --lowercase)",
    ),
}
USAGE = {
    "an unknown flag": (["--output", "x"], "unknown option --output (nearest: --output_dir); see --help"),
    "a flag without a value": (["--output_dir"], "argument --output_dir/--output-dir: expected one argument"),
    "no data named": (["--data"], "--data: expected at least one argument"),
    "a bad bool": (["--lowercase", "perhaps"], "argument --lowercase: Truthy value expected: got perhaps"),
    "a bad number": (["--max_samples", "many"], "invalid int value: 'many'"),
    "a bad choice": (["--shipped_splits", "keep"], "invalid choice: 'keep'"),
    "a bad number in YAML": (["--config", "c.yaml"], "invalid int value: 'many'"),
    "a token": (["--max_samples", "hf_abcdefghijklmnop"], "invalid int value: 'hf_***'"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Write files into the folder that commands run in; a name that ends in a slash is an empty folder.

    What is large is made when it is written.
    """
    monkeypatch.chdir(tmp_path)

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                content = content() if callable(content) else content
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    yield write
    for path in tmp_path.glob("x.*"):
        # pytest keeps folders for a while; not these.
        if path.is_file() and path.stat().st_size > 1_000_000:
            path.unlink()


@pytest.mark.parametrize("case", CASES)
def test_bad_data(here, capsys, case):
    files, argv, line = CASES[case]
    folder = here(files)
    before = tree(folder)
    check_refusal(*prepare(capsys, "--output_dir", "out", "--data", *argv), 1, line)
    assert tree(folder) == before


@pytest.mark.parametrize("case", USAGE)
def test_a_bad_command(here, capsys, case):
    argv, line = USAGE[case]
    folder = here({"x.csv": GOOD, "c.yaml": "max_samples: many\n"})
    before = tree(folder)
    check_refusal(*prepare(capsys, "--data", "x.csv", *argv), 2, line)
    assert tree(folder) == before


@pytest.mark.parametrize("part", ["end", "half", "middle"])
def test_damaged_parquet(here, capsys, part):
    folder = here({})
    Dataset.from_list([{"Context": f"{SAID} {n}" * 9, "Response": str(n)} for n in range(3000)]).to_parquet("x.parquet")
    data = (folder / "x.parquet").read_bytes()
    damaged = {"end": data[:-9], "half": data[: len(data) // 2], "middle": data[:9] + b"\xff" * 3000 + data[3009:]}
    (folder / "x.parquet").write_bytes(damaged[part])
    capsys.readouterr()
    before = tree(folder)
    line = "x.parquet is not a Parquet file that can be read ("
    check_refusal(*prepare(capsys, "--data", "x.parquet", "--output_dir", "out"), 1, line)
    assert tree(folder) == before


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("what", ["rename", "write", "temporary folder"])
def test_no_space_left(here, capsys, monkeypatch, what, old):
    folder = here({"x.csv": GOOD, "y.csv": as_csv(distinct(9))})
    if old:
        assert prepare(capsys, "--data", "y.csv", "--output_dir", "out")[0] == 0
    before = tree(folder)
    full = OSError(errno.ENOSPC, "No space left on device", "out")
    if what == "rename":
        monkeypatch.setattr(os, "replace", _raising(full))
    elif what == "temporary folder":
        monkeypatch.setattr(tempfile, "mkdtemp", _raising(full))
    else:
        opened = Path.open
        monkeypatch.setattr(
            Path,
            "open",
            lambda self, mode="r", *a, **k: opened(self, mode, *a, **k) if "r" in mode else _raising(full)(),
        )
    line = "No space left on device (out); free or correct the place named and run the command again"
    check_refusal(*prepare(capsys, "--data", "x.csv", "--output_dir", "out"), 1, line)
    assert tree(folder) == before


def _raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_ctrl_c_while_writing(here, capsys, monkeypatch):
    folder = here({"x.csv": GOOD})
    before = tree(folder)
    monkeypatch.setattr(os, "replace", _raising(KeyboardInterrupt()))
    code, out, err = prepare(capsys, "--data", "x.csv", "--output_dir", "out")
    assert (code, out, err.count("\n")) == (130, "", 1)
    assert err.startswith("stopped; ")
    assert tree(folder) == before


def test_what_can_be_read_is_read_whatever_it_looks_like(here, capsys):
    rows = distinct(12)
    odd = ["\ud83d half an emoji", "\x00\x07\x1b[31m control", "\u202eright to left", "a" * 20_000, "😢 " * 300, "न हीं"]
    for row, text in zip(rows, odd, strict=False):
        row["Response"] = text
    folder = here({"x.json": json.dumps(rows)})
    code, out, err = prepare(capsys, "--data", "x.json", "--output_dir", "out")
    assert (code, err) == (0, "")
    written = "".join(path.read_text(encoding="utf-8") for path in sorted((folder / "out").glob("*.jsonl")))
    assert written.count("\n") == 12
    assert not {"\x00", "\x07", "\x1b", "\u202e", "\\u0000", "\\u001b"} & {*written, *written.split('"')}
    assert "half an emoji" in written
    assert "written to out; train on it with recipes/finetune.py --data out" in out


def test_prepared_data_is_replaced_and_can_be_read_again(here, capsys):
    folder = here({"x.csv": GOOD, "y.csv": as_csv(distinct(9)), "out/": ""})
    for name in ("x.csv", "y.csv"):
        assert prepare(capsys, "--data", name, "--output_dir", "out")[::2] == (0, "")
    first = tree(folder)
    assert prepare(capsys, "--data", "out", "--output_dir", "out")[::2] == (0, "")
    names = {"out/train.jsonl", "out/validation.jsonl", "out/test.jsonl"}
    assert {name: first[name] for name in names} == {name: tree(folder)[name] for name in names}


def test_a_saved_data_set_with_an_unknown_split(here, capsys):
    folder = here({})
    DatasetDict(train=Dataset.from_list(distinct(3)), test_b=Dataset.from_list(distinct(6)[3:])).save_to_disk("d")
    capsys.readouterr()
    before = tree(folder)
    check_refusal(*prepare(capsys, "--data", "d", "--output_dir", "out"), 1, "d has the split 'test_b'; the splits are")
    assert tree(folder) == before


# ---- as a command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (
            ["--data", "x.csv", "someone/no-such-set"],
            1,
            "the data set someone/no-such-set cannot be fetched from the Hub (",
        ),
        (
            ["--data", "x.csv", "--outptu_dir", "y"],
            2,
            "unknown option --outptu_dir (nearest: --output_dir); see --help",
        ),
    ],
)
def test_in_a_process_of_its_own(here, argv, code, line):
    folder = here({"x.csv": GOOD})
    before = tree(folder)
    ended = subprocess.run(
        [sys.executable, str(RECIPE), *argv],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    check_refusal(ended.returncode, ended.stdout, ended.stderr, code, line)
    assert tree(folder) == before
