"""Every format in which dialogues come, read to the letter, and what each refusal says."""

from __future__ import annotations

import json
import re

import pytest
from datasets import Dataset, DatasetDict, exceptions

from mh_support.data import sources
from mh_support.data.sources import REGISTRY, Source, dialogues_of, open_source


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


PAIR = [user("I feel low, today"), assistant('That is "hard".\nTell me more?')]
ROW = {"Context": PAIR[0]["content"], "Response": PAIR[1]["content"]}


def read(name, **columns):
    """Return what a source by name holds, as (messages, split) of each row."""
    return [(row["messages"], row["split"]) for row in dialogues_of(open_source(str(name)), **columns)]


def rows_of(*rows, name="x", **columns):
    """Return what these rows become."""
    return [(row["messages"], row["split"]) for row in dialogues_of(Source(name, rows=rows), **columns)]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# ---- files -----------------------------------------------------------------------------------------------------------

CSV = 'id,Context,Response\n1,"I feel low, today","That is ""hard"".\nTell me more?"\n\n2,two,Zwei é\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", CSV),
        ("X.CSV", CSV.replace("\n", "\r\n").replace("hard.\r\n", "hard.\n").replace('".\r\nTell', '".\nTell')),
        ("bom.csv", "\ufeff" + CSV.removeprefix("id,").replace("\n1,", "\n").replace("\n2,", "\n")),
        ("x.tsv", 'Context\tResponse\nI feel low, today\t"That is ""hard"".\nTell me more?"\ntwo\tZwei é\n'),
        ("x.json", json.dumps([ROW, {"Context": "two", "Response": "Zwei é"}])),
        ("data.json", json.dumps({"version": 1, "data": [ROW, {"Response": "Zwei é", "Context": "two"}]}, indent=1)),
        ("x.jsonl", json.dumps(ROW) + '\n\n   \n{"Context": "two", "Response": "Zwei é"}'),
        ("bom.jsonl", "\ufeff" + json.dumps(ROW) + '\r\n{"Context": "two", "Response": "Zwei é"}\r\n'),
    ],
)
def test_text_files(write, name, content):
    assert read(write(name, content)) == [(PAIR, None), ([user("two"), assistant("Zwei é")], None)]


def test_parquet(tmp_path):
    Dataset.from_list([ROW, {"Context": None, "Response": "x"}]).to_parquet(tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == [(PAIR, None), ([user(""), assistant("x")], None)]


def test_parquet_with_messages(tmp_path):
    Dataset.from_list([{"messages": PAIR, "split": "dev"}]).to_parquet(tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == [(PAIR, "validation")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "latin-1"])
@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl"])
def test_a_named_encoding(write, encoding, name):
    texts = {
        "x.csv": "Context,Response\né,ü\n",
        "x.json": '[{"Context": "é", "Response": "ü"}]',
        "x.jsonl": '{"Context": "é", "Response": "ü"}\n',
    }
    path = write(name, texts[name].encode(encoding))
    rows = list(dialogues_of(open_source(str(path), encoding=encoding)))
    assert rows == [{"messages": [user("é"), assistant("ü")], "split": None}]
    if encoding != "utf-16-le":
        with pytest.raises(
            ValueError, match=rf"{re.escape(str(path))} is not utf-8 text throughout \(byte 0x[0-9a-f]+\); "
        ):
            read(path)


def test_reading_is_lazy(write):
    path = write("x.jsonl", json.dumps(ROW) + "\nnot json\n")
    rows = dialogues_of(open_source(str(path)))
    assert next(rows)["messages"] == PAIR
    with pytest.raises(ValueError, match=r"x\.jsonl line 2 is not valid JSON"):
        next(rows)


# ---- folders ---------------------------------------------------------------------------------------------------------


def line(text, **more):
    return json.dumps({"messages": [user(text), assistant(text.upper())], **more}) + "\n"


def turned(text, split):
    return [user(text), assistant(text.upper())], split


def test_a_folder_with_train_and_test(write, tmp_path):
    write("d/train.jsonl", line("a") + line("b"))
    write("d/test.jsonl", line("c"))
    write("d/Valid.jsonl", line("d"))
    write("d/README.md", "no data")
    write("d/data_report.json", "{}")
    rows = read(tmp_path / "d")
    assert sorted(rows, key=str) == sorted(
        [turned("a", "train"), turned("b", "train"), turned("c", "test"), turned("d", "validation")], key=str
    )


def test_one_split_alone_is_no_split(write, tmp_path):
    write("d/train.jsonl", line("a") + line("b"))
    assert read(tmp_path / "d") == [turned("a", None), turned("b", None)]


def test_a_folder_with_one_file(write, tmp_path):
    write("d/counsel.csv", "Context,Response\na,A\n")
    write("d/notes.txt", "no data")
    assert read(tmp_path / "d") == [turned("a", None)]


@pytest.mark.parametrize("files", [[], ["a.txt"], ["a.csv", "b.csv"], ["data_report.json"]])
def test_a_folder_without_a_data_set(write, tmp_path, files):
    (tmp_path / "d").mkdir()
    for name in files:
        write(f"d/{name}", "Context,Response\na,A\n")
    message = (
        r"^the folder .*d holds no data set; expected train\.jsonl \(or \.csv, \.parquet\) with validation and test"
    )
    with pytest.raises(ValueError, match=message):
        open_source(str(tmp_path / "d"))


def test_saved_by_datasets(tmp_path):
    whole = Dataset.from_list([ROW, {**ROW, "Response": "x"}])
    whole.save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one") == [(PAIR, None), ([PAIR[0], assistant("x")], None)]
    DatasetDict(train=whole, valid=Dataset.from_list([ROW])).save_to_disk(tmp_path / "two")
    assert read(tmp_path / "two") == [(PAIR, "train"), ([PAIR[0], assistant("x")], "train"), (PAIR, "validation")]
    DatasetDict(train=whole).save_to_disk(tmp_path / "three")
    assert [split for _, split in read(tmp_path / "three")] == [None, None]


@pytest.mark.parametrize("name", ["dataset_dict.json", "state.json"])
@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"splits": 3}', '{"splits": ["train"]}'])
def test_a_damaged_saved_data_set(write, tmp_path, name, content):
    write(f"d/{name}", content)
    with pytest.raises(
        ValueError, match=r"^the folder .*d is not a data set that load_from_disk can read \(.+\); save it"
    ):
        open_source(str(tmp_path / "d"))


# ---- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        ("Context", "Response"),
        ("context", "response"),
        ("CONTEXT", "RESPONSE"),
        ("prompt", "completion"),
        ("questionText", "answerText"),
        ("Question", "Answer"),
        ("input", "output"),
    ],
)
def test_pairs_of_columns_in_any_case_and_order(columns):
    row = {"id": 1, columns[1]: "A", "upvotes": 3, columns[0]: "q"}
    assert rows_of(row) == [([user("q"), assistant("A")], None)]


def test_the_first_known_pair_wins():
    row = {"input": "no", "output": "no", "Response": "A", "Context": "q"}
    assert rows_of(row) == [([user("q"), assistant("A")], None)]


def test_cells_that_hold_nothing_or_numbers():
    rows = [{"Context": None, "Response": float("nan")}, {"Context": 3, "Response": 0.5}, {"Response": "x"}]
    assert [messages for messages, _ in rows_of(*rows)] == [
        [user(""), assistant("")],
        [user("3"), assistant("0.5")],
        [user(""), assistant("x")],
    ]


def test_mapped_columns_win_over_known_ones():
    row = {"Context": "no", "Response": "no", "messages": "no", "said": "q", "Reply ": "A", "split": "TEST"}
    expected = [([user("q"), assistant("A")], "test")]
    assert rows_of(row, context_column="said", response_column="Reply ") == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"context_column": "a"}, r"^give both --context_column and --response_column, or neither$"),
        ({"response_column": "a"}, r"^give both --context_column and --response_column, or neither$"),
        ({"context_column": "a", "response_column": "c"}, r"^x has no column c; its columns are a, b$"),
        ({"context_column": "A", "response_column": "b"}, r"^x has no column A; its columns are a, b$"),
    ],
)
def test_mapped_columns_that_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        rows_of({"a": "1", "b": "2"}, **columns)


def test_messages():
    messages = [
        {"role": "system", "content": "Be kind."},
        user("q"),
        assistant(None),
        user([{"text": "a"}, {"text": "b"}]),
    ]
    expected = [*messages[:2], assistant(""), user("a\nb")]
    assert rows_of({"id": "1", "messages": messages}) == [(expected, None)]
    as_text = json.dumps(messages)
    assert rows_of({"Messages": as_text, "split": "val"}) == [(expected, "validation")]
    assert rows_of({"messages": []}) == [([], None)]
    assert rows_of({"messages": [{"role": "user", "content": "q", "name": "x"}]}) == [([user("q")], None)]


def test_prompt_and_completion():
    assert rows_of({"prompt": "q", "completion": "A"}) == [([user("q"), assistant("A")], None)]
    conversational = {"prompt": [user("q"), assistant("A"), user("r")], "completion": [assistant("B")]}
    assert rows_of(conversational) == [([user("q"), assistant("A"), user("r"), assistant("B")], None)]


def test_esconv_in_both_forms():
    expected = [([user("I lost my job."), assistant("I am sorry."), user("Thanks")], None)]
    dialog = [
        {"speaker": "seeker", "annotation": {}, "content": "I lost my job."},
        {"speaker": "supporter", "annotation": {"strategy": "Reflection"}, "content": "I am sorry."},
        {"speaker": "seeker", "annotation": {}, "content": "Thanks"},
    ]
    assert rows_of({"situation": "job", "emotion_type": "anxiety", "dialog": dialog}) == expected
    short = [
        {"speaker": "usr", "text": "I lost my job."},
        {"speaker": "sys", "text": "I am sorry.", "strategy": "Reflection"},
        {"speaker": "USR", "text": "Thanks"},
    ]
    assert rows_of({"text": json.dumps({"situation": "job", "dialog": short})}) == expected
    assert rows_of({"text": {"dialog": short}}) == expected


def test_a_turn_of_esconv_without_words_is_empty():
    assert rows_of({"dialog": [{"speaker": "sys", "content": None}, {"speaker": "usr"}]}) == [
        ([assistant(""), user("")], None)
    ]


def test_empathetic_dialogues():
    def utterance(conversation, index, text, **more):
        return {"conv_id": conversation, "utterance_idx": index, "prompt": "no", "utterance": text, **more}

    rows = [
        utterance("hit:1", 2, "Oh_comma_ no!", split="train"),
        utterance("hit:2", 1, "My cat died_comma_ yesterday.", split="valid"),
        utterance("hit:1", 1, "I fell.", split="train"),
        utterance("hit:1", 10, "Bye", split="train"),
        utterance("hit:2", 2, None, split="valid"),
        utterance("hit:1", 3, "Twice.", split="train"),
    ]
    expected = [
        ([user("I fell."), assistant("Oh, no!"), user("Twice."), assistant("Bye")], "train"),
        ([user("My cat died, yesterday."), assistant("")], "validation"),
    ]
    assert rows_of(*rows) == expected
    assert rows_of(*[{**row, "utterance_idx": str(row["utterance_idx"])} for row in rows]) == expected


def test_empathetic_dialogues_without_numbers_take_turns():
    rows = [{"conv_id": 1, "utterance": "a"}, {"conv_id": 2, "utterance": "x"}, {"conv_id": 1, "utterance": "b"}]
    assert rows_of(*rows) == [([user("a"), assistant("b")], None), ([user("x")], None)]


@pytest.mark.parametrize(
    ("shipped", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("validation", "validation"),
        ("VALID", "validation"),
        ("val", "validation"),
        ("dev", "validation"),
        ("test", "test"),
        ("", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_a_shipped_split(shipped, split):
    assert rows_of({"prompt": "q", "completion": "A", "split": shipped}) == [([user("q"), assistant("A")], split)]


LONG = "I have never told anybody what I am telling you now"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "completion": "A", "split": "holdout"}, r"^x has the split 'holdout'; the splits are train, "),
        (
            {"prompt": "q", "completion": "A", "split": LONG},
            r"^x has the split 'I have never told anybody what\.\.\.'; ",
        ),
        ({"prompt": "q", "completion": {"a": 1}}, r"^a cell holds a dict; expected text, or a list of messages$"),
        ({"messages": None}, r"^a messages cell is a NoneType; expected a list of role and content$"),
        ({"messages": {"role": "user"}}, r"^a messages cell is a dict; "),
        ({"messages": "hello"}, r"^a messages cell is not valid JSON \(.+\); mend it or give another format$"),
        ({"messages": "3"}, r"^a messages cell is a int; "),
        (
            {"messages": ["hello"]},
            r"^a message lacks role or content; each must be \{'role': 'user', 'content': 'text'\}$",
        ),
        ({"messages": [{"role": "user"}]}, r"^a message lacks role or content"),
        (
            {"messages": [{"role": "human", "content": ""}]},
            r"^a message has the role 'human'; the roles are system, user",
        ),
        (
            {"messages": [{"role": LONG, "content": ""}]},
            r"^a message has the role 'I have never told anybody what\.\.\.'; ",
        ),
        ({"messages": [{"role": ["user"], "content": ""}]}, r"^a message has the role \"\['user'\]\"; "),
        ({"messages": [user(3)]}, r"^a message's content is int; give a string or a list of text parts$"),
        ({"prompt": [user("a")], "completion": [3]}, r"^a message lacks role or content"),
        ({"dialog": "hello"}, r"^a dialog cell is a str; expected a list of speaker and content$"),
        (
            {"dialog": [{"speaker": "narrator", "content": "x"}]},
            r"^a dialog turn has the speaker 'narrator'; expected one",
        ),
        ({"dialog": ["hello"]}, r"^a dialog turn has the speaker ''; expected one of seeker, speaker, usr, user, "),
        ({"dialog": [{"speaker": "usr", "text": ["x"]}]}, r"^a cell holds a list; "),
        (
            {"text": "hello"},
            r"^the column text is not ESConv's JSON; name your columns with --context_column, --response",
        ),
        ({"text": "[" * 100_000}, r"^the column text is not ESConv's JSON; "),
        ({"text": '{"a": 1}'}, r"^the column text is not ESConv's JSON; "),
        ({"text": None}, r"^the column text is not ESConv's JSON; "),
        (
            {"conv_id": 1, "utterance": "a", "utterance_idx": "first"},
            r"^x has an utterance_idx that is no number; count",
        ),
        ({"conv_id": 1, "utterance": "a", "utterance_idx": None}, r"^x has an utterance_idx that is no number; count"),
        (
            {"a": 1, "b": 2},
            r"^x has the columns a, b; expected Context and Response, prompt and completion, or messages; name yours "
            r"with --context_column and --response_column$",
        ),
        ({LONG: 1}, r"^x has the columns I have never told anybody what\.\.\.; expected"),
        ({str(number): 1 for number in range(50)}, r"^x has the columns 0, 1, 2, 3, 4, 5, 6, 7 and 42 more; expected"),
        ({letter: 1 for letter in "abcdefgh"}, r"^x has the columns a, b, c, d, e, f, g, h; expected"),
        ({"Context": 1}, r"^x has the columns Context; expected"),
        ({}, r"^x has the columns ; expected"),
    ],
)
def test_rows_that_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        rows_of(row)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"messages": PAIR}, r"^a messages cell is a NoneType; "),
        ({"dialog": [{"speaker": "usr", "text": "a"}]}, r"^a dialog cell is a NoneType; "),
        ({"text": '{"dialog": []}'}, r"^the column text is not ESConv's JSON; "),
    ],
)
def test_a_later_row_of_another_kind(first, message):
    with pytest.raises(ValueError, match=message):
        rows_of(first, {"other": 1})


def test_no_rows():
    with pytest.raises(ValueError, match=r"^x holds no rows; give a file with at least a few dialogues$"):
        rows_of()


# ---- what a source says of itself ------------------------------------------------------------------------------------


def test_the_registrys_licences():
    assert {name: (source.license, source.non_commercial) for name, source in REGISTRY.items()} == {
        "samples": ("cc0-1.0", False),
        "Amod/mental_health_counseling_conversations": ("other (RAIL-D)", False),
        "nbertagnolli/counsel-chat": ("mit", False),
        "thu-coai/esconv": ("cc-by-nc-4.0", True),
        "facebook/empathetic_dialogues": ("cc-by-nc-4.0", True),
        "ShenLab/MentalChat16K": ("mit", False),
    }
    for name, source in REGISTRY.items():
        assert source.name == name
        assert source.url == (None if name == "samples" else f"https://huggingface.co/datasets/{name}")


def test_a_file_is_called_by_its_name_and_its_licence_is_unknown_until_told(write):
    path = write("kept/private/x.csv", "Context,Response\na,A\n")
    expected = {"name": "x.csv", "license": "unknown", "non_commercial": False, "url": None}
    assert open_source(str(path)).as_dict() == expected
    assert open_source(str(path), license="cc-by-4.0").as_dict() == {**expected, "license": "cc-by-4.0"}
    restricted = {**expected, "license": "CC-BY-NC-4.0", "non_commercial": True}
    assert open_source(str(path), license="CC-BY-NC-4.0").as_dict() == restricted
    assert "x.csv" in repr(open_source(str(path)))


def test_a_source_does_not_show_its_rows():
    assert "secret" not in repr(Source("x", rows=[{"Context": "secret"}]))


def test_the_folder_one_stands_in_has_a_name(write, tmp_path, monkeypatch):
    write("here/counsel.csv", "Context,Response\na,A\n")
    monkeypatch.chdir(tmp_path / "here")
    assert open_source(".").name == "here"


def test_the_samples(monkeypatch, write, tmp_path):
    write("s/samples.jsonl", line("a"))
    monkeypatch.setattr(sources, "SAMPLES", tmp_path / "s")
    assert open_source("samples").as_dict() == REGISTRY["samples"].as_dict()
    assert read("samples") == [turned("a", None)]


# ---- the Hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Stand in for `datasets.load_dataset`: give what is set, or raise it; remember what was asked."""
    asked = []

    def answer(value):
        def load_dataset(name, revision=None):
            asked.append((name, revision))
            if isinstance(value, Exception):
                raise value
            return value

        monkeypatch.setattr("datasets.load_dataset", load_dataset)
        return asked

    return answer


def test_a_data_set_of_the_hub(hub):
    asked = hub(DatasetDict(train=Dataset.from_list([ROW]), test=Dataset.from_list([ROW])))
    source = open_source("thu-coai/esconv", revision="abc")
    assert source.as_dict() == REGISTRY["thu-coai/esconv"].as_dict()
    assert asked == [("thu-coai/esconv", "abc")]
    assert [(row["messages"], row["split"]) for row in dialogues_of(source)] == [(PAIR, "train"), (PAIR, "test")]


def test_one_split_of_the_hub_is_no_split(hub):
    hub(DatasetDict(train=Dataset.from_list([ROW])))
    assert read("someone/set") == [(PAIR, None)]
    assert open_source("someone/set", license="mit").as_dict() == {
        "name": "someone/set",
        "license": "mit",
        "non_commercial": False,
        "url": None,
    }


def test_a_licence_that_is_told_does_not_lift_what_a_known_set_forbids(hub):
    hub(DatasetDict(train=Dataset.from_list([ROW])))
    told = open_source("thu-coai/esconv", license="mit")
    assert (told.license, told.non_commercial) == ("mit", True)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            exceptions.DatasetNotFoundError("no"),
            r"^no data set someone/set on the Hub, or no access to it; check the id, or log in$",
        ),
        (
            ConnectionError("Couldn't reach it\nreally"),
            r"^the data set someone/set cannot be fetched from the Hub \(Couldn't reach it\); check the network, or "
            r"give a file, a folder, or 'samples'$",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found set.py"),
            r"^the data set someone/set cannot be read \(Dataset scripts are no longer supported, but found set\.py\); "
            r"try --dataset_revision refs/convert/parquet$",
        ),
    ],
)
def test_a_data_set_that_cannot_be_had(hub, error, message):
    hub(error)
    with pytest.raises(ValueError, match=message):
        open_source("someone/set")


def test_an_id_that_cannot_be_one():
    with pytest.raises(ValueError, match=r"^no data set some one/set on the Hub, or no access to it; check the id"):
        open_source("some one/set")


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "a/b/c",
        "folder/",
        "./a",
        "../a/b",
        "/a/b",
        "/no-such-folder",
        "~/a",
        "data/train.csv",
        "data/x.PARQUET",
    ],
)
def test_what_is_neither_here_nor_an_id(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        rf"^no data at {re.escape(name)}; give a \.csv, \.tsv, \.json, \.jsonl, \.parquet file, a folder, a Hub id, or"
    )
    with pytest.raises(ValueError, match=message):
        open_source(name)
