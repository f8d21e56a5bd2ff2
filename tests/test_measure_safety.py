"""The labelled messages, and how the crisis check is measured on them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from training_fixtures import load_recipe

from mh_support.safety import Assessment, assess
from mh_support.safety.classifier import Suspicion, TextClassifier, crisis_classifier
from mh_support.safety.curves import threshold_curves
from mh_support.safety.measure import (
    EXAMPLES,
    KINDS,
    Example,
    lines,
    measure,
    milliseconds,
    read_examples,
    variant_lines,
)
from mh_support.safety.measure_ordinary import LABELS, measure_ordinary, ordinary_lines, read_ordinary
from mh_support.safety.variants import VARIANTS, vary

# Locked before the check was measured on it: nothing is to be learned from it, and nothing changed in it.
LOCKED = "c6841edc4980c0909f28176a75ffef55f37eb250bd6b106103c729af2b5f11c5"
SETS = {name: read_examples(name) for name in ("train", "development", "test", "pairs")}


def words(example: Example) -> str:
    return " ".join(re.findall(r"\w+", " ".join(example.turns).lower()))


def test_the_test_messages_are_as_they_were_locked() -> None:
    assert hashlib.sha256((EXAMPLES / "test.tsv").read_bytes()).hexdigest() == LOCKED


def test_there_are_enough_of_every_kind() -> None:
    counts = {name: Counter((one.label, one.kind) for one in examples) for name, examples in SETS.items()}
    every = {(label, kind) for label, kinds in KINDS.items() for kind in kinds}
    assert all(set(count) == every for count in counts.values())
    assert min(counts["test"].values()) >= 40
    assert min(counts["development"].values()) >= 10
    crises = {name: sum(one.is_crisis for one in examples) for name, examples in SETS.items()}
    assert crises["train"] >= 1000 and len(SETS["train"]) - crises["train"] >= 2000


def test_their_page_counts_them() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name, examples in SETS.items() if f"`{name}.tsv` ({len(examples):,})" not in page] == []


def test_no_message_stands_twice() -> None:
    seen = Counter(words(example) for examples in SETS.values() for example in examples)
    assert [text for text, count in seen.items() if count > 1] == []


def example(label: str, kind: str, *turns: str) -> Example:
    return Example(label, kind, turns)


def told(flagged: set[str]):
    """Return a check that takes what stands in `flagged` for a crisis."""
    return lambda messages: Assessment("crisis" if messages[-1]["content"] in flagged else "none")


def test_shares_are_of_each_label_and_kind_and_what_went_wrong_is_listed() -> None:
    examples = [
        *(example("crisis", "suicide", text) for text in "abc"),
        example("crisis", "abuse", "x", "d"),
        *(example("safe", "media", text) for text in "ef"),
    ]
    result = measure(examples, told({"a", "b", "d", "f"}))
    assert (result["recall"]["count"], result["recall"]["of"]) == (3, 4)
    assert (result["false_positives"]["count"], result["false_positives"]["of"]) == (1, 2)
    assert {kind: (share["count"], share["of"]) for kind, share in result["by_kind"].items()} == {
        "crisis: suicide": (2, 3),
        "crisis: abuse": (1, 1),
        "safe: media": (1, 2),
    }
    assert (result["misses"], result["false_alarms"]) == ([3], [6])
    low, high = result["recall"]["ci95"]
    assert 0.30 < low < 0.31 and 0.95 < high < 0.96  # Wilson, 3 of 4.
    assert lines(result)[1] == ("crises seen", f"3 of 4, 0.750 [{low:.3f}, {high:.3f}]")


def test_a_concern_is_no_crisis_and_is_counted_by_itself() -> None:
    levels = {"a": "crisis", "b": "concern", "c": "none", "d": "concern"}
    examples = [example("crisis", "suicide", text) for text in "abc"]
    examples += [example("safe", "media", text) for text in "cd"]
    result = measure(examples, lambda messages: Assessment(levels[messages[-1]["content"]]))
    assert [result[key]["count"] for key in ("recall", "noticed", "false_positives", "asked")] == [1, 2, 0, 1]
    shown = dict(lines(result)[1:5])
    assert shown["crises seen or asked about"].startswith("2 of 3, ") and shown["or asked about"].startswith("1 of 2, ")


def test_the_time_a_message_takes_is_measured() -> None:
    clock = iter([0.0, 0.010, 1.0, 1.030, 2.0, 2.020])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mh_support.safety.measure.time.process_time", lambda: next(clock))
        found = milliseconds([example("safe", "media", text) for text in "abc"], told(set()))
    assert found == {"median": 20.0, "most": 30.0}


def test_both_curves_are_drawn_with_both_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("mh_support.safety.curves.save", lambda figure, path: drawn.append(figure) or path)
    hint = "by the weekend i wont be a problem for anyone"
    examples = [example("crisis", "suicide", hint), example("safe", "media", "A green kettle.")]
    assert threshold_curves(crisis_classifier(), examples, tmp_path / "curves.png") == tmp_path / "curves.png"
    (axes,) = drawn[0].axes
    about = crisis_classifier().about
    crises, safe, *thresholds = axes.lines
    assert list(crises.get_ydata()) == list(safe.get_ydata()) == [1.0]
    assert crises.get_xdata()[0] > about.thresholds["crisis"] and safe.get_xdata()[0] < about.thresholds["concern"]
    assert [line.get_xdata()[0] for line in thresholds] == list(about.thresholds.values())
    with pytest.raises(ValueError, match=r"give examples of crises and of safe messages$"):
        threshold_curves(crisis_classifier(), examples[:1], tmp_path / "curves.png")


def test_without_examples_of_a_label_nothing_is_made_up() -> None:
    result = measure([example("safe", "media", "a")], told(set()))
    assert result["recall"] == {"count": 0, "of": 0, "ci95": None}
    assert lines(result)[1] == ("crises seen", "none to count")


def test_a_line_is_label_kind_and_turns(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("crisis\tsuicide\tone || two\nsafe\tpast\tlong ago\n", encoding="utf-8")
    first, second = read_examples(path)
    assert (first.turns, first.is_crisis, second.turns, second.is_crisis) == (
        ("one", "two"),
        True,
        ("long ago",),
        False,
    )
    assert [message["content"] for message in first.messages] == ["one", "two"]
    assert "one" not in repr(first)


@pytest.mark.parametrize(
    "line", ["crisis\tsuicide", "crisis\tmedia\ta", "danger\tsuicide\ta", "safe\tpast\t ", "a", ""]
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "own.tsv"
    path.write_text(f"safe\tpast\tlong ago\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"own\.tsv, line 2 is no example: expected crisis or safe, a kind of it, and"):
        read_examples(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"holds no example; give lines"), (b"\xff\xfe", r"is not UTF-8 text; save it"), (None, r"^no examples at ")],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "own.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_examples(path)


def test_the_recipe_measures_lists_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("crisis\tsuicide\tI want to die tonight.\nsafe\tpast\tI was sad, long ago.\n", encoding="utf-8")
    output = tmp_path / "figures.json"
    load_recipe("measure_safety").main(["--examples", str(path), "--list", "true", "--output", str(output)])
    printed = capsys.readouterr().out
    result = measure(read_examples(path), assess)
    assert json.loads(output.read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert (result["recall"]["count"], result["false_positives"]["count"]) == (1, 0)
    assert all(text in printed for _, text in lines(result)) and "misses:\n\nfalse alarms:\n" in printed


def test_variants_change_the_spelling_and_nothing_else() -> None:
    examples = [
        example("safe", "media", "The river was quiet, and nobody sang.", "A second turn"),
        example("safe", "past", "42"),
    ]
    for variant in VARIANTS:
        varied = vary(examples, variant)
        assert varied == vary(examples, variant)
        assert [(one.label, one.kind, len(one.turns)) for one in varied] == [("safe", "media", 2), ("safe", "past", 1)]
        assert varied[1].turns == ("42",)
        assert (varied == examples) == (variant == "as written")
    assert vary(examples, "capitals")[0].turns[0] == "THE RIVER WAS QUIET, AND NOBODY SANG."
    apart = vary(examples, "letters pulled apart")[0].turns
    assert [turn.replace(" ", "") for turn in apart] == [turn.replace(" ", "") for turn in examples[0].turns]
    assert "s e c o n d" in apart[1]
    alike = vary(examples, "look-alike letters")[0].turns[1]
    assert alike.isascii() is False and len(alike) == len("A second turn")
    for variant, edits in (("one typo a turn", 1), ("two typos a turn", 2)):
        typed = vary(examples, variant)[0].turns[1]
        assert typed != "A second turn" and abs(len(typed) - len("A second turn")) <= edits


def test_the_recipe_leaves_the_classifier_out_where_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("crisis\tsuicide\tI want to die.\ncrisis\tsuicide\tThe cat has a new home.\n", encoding="utf-8")
    crisis = Suspicion("crisis", "suicide")
    monkeypatch.setattr(TextClassifier, "suspect", lambda self, texts: [crisis] * len(texts))
    counts = []
    for flags in ([], ["--rules_alone", "true"]):
        output = tmp_path / "figures.json"
        load_recipe("measure_safety").main(
            ["--examples", str(path), "--variants", "true", "--output", str(output), *flags]
        )
        result = json.loads(output.read_text(encoding="utf-8"))
        counts.append([one["recall"]["count"] for one in (result, result["variants"]["capitals"])])
    assert counts == [[2, 2], [1, 1]]
    capsys.readouterr()


def test_the_recipe_shows_every_spelling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = tmp_path / "own.tsv", tmp_path / "figures.json"
    path.write_text("crisis\tsuicide\tI want to die tonight.\nsafe\tpast\tI was sad, long ago.\n", encoding="utf-8")
    load_recipe("measure_safety").main(["--examples", str(path), "--variants", "true", "--output", str(output)])
    result = json.loads(output.read_text(encoding="utf-8"))["variants"]
    assert list(result) == list(VARIANTS)
    assert result["capitals"]["recall"]["count"] == 1
    printed = capsys.readouterr().out
    assert all(name in printed and recall in printed for name, recall, *_ in variant_lines(result))


# --- ordinary texts ---------------------------------------------------------------------------------------------------

SAID = {"I want to die.": "risk", "My cat is ill.": "none", "What is a good bread?": "none", "Hm.": "unsure"}


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def ordinary(tmp_path: Path) -> tuple[Path, Path]:
    """A CSV file of these texts and of one that nobody labelled, and the labels."""
    texts, labels = tmp_path / "texts.csv", tmp_path / "labels.tsv"
    rows = ["Context,Response", *(f'"{text}",yes' for text in [*SAID, *SAID, "Not labelled."])]
    texts.write_text("\n".join(rows), encoding="utf-8")
    labels.write_text("".join(f"{hashed(text)}\t{label}\n" for text, label in SAID.items()), encoding="utf-8")
    return texts, labels


def test_ordinary_texts_are_found_by_their_hashes_each_once(ordinary: tuple[Path, Path]) -> None:
    assert [(one.text, one.label) for one in read_ordinary(*ordinary)] == list(SAID.items())


def test_interruptions_are_counted_by_label(ordinary: tuple[Path, Path]) -> None:
    levels = {"I want to die.": "emergency", "My cat is ill.": "concern", "Hm.": "crisis"}
    texts = read_ordinary(*ordinary)
    result = measure_ordinary(texts, lambda messages: Assessment(levels.get(messages[0]["content"], "none")))
    counts = {label: [(found[key]["count"], found[key]["of"]) for key in found] for label, found in result.items()}
    assert counts == {"risk": [(1, 1), (1, 1)], "unsure": [(1, 1), (1, 1)], "none": [(0, 2), (1, 2)]}
    assert ordinary_lines(result)[1] == ("without risk", "0 of 2, 0.000 [0.000, 0.658]", "1 of 2, 0.500 [0.095, 0.905]")


def test_the_recipe_measures_ordinary_texts(
    ordinary: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = ordinary
    output = tmp_path / "figures.json"
    flags = ["--ordinary", str(texts), "--ordinary_labels", str(labels), "--rules_alone", "true"]
    load_recipe("measure_safety").main([*flags, "--output", str(output)])
    assert json.loads(output.read_text(encoding="utf-8"))["risk"]["crisis"]["count"] == 1
    assert "without risk                   0 of 2, 0.000 [0.000, 0.658]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (
            "Context\nHm.\n",
            "abc\tnone\n",
            r"labels\.tsv, line 1 is no label: expected a SHA-256 and one of risk, unsure",
        ),
        (
            "Context\nHm.\n",
            f"{'0' * 64}\tnone\n",
            r"^1 of the 1 texts that .+ labels are not in .+; give the file they",
        ),
        ("said\nHm.\n", f"{'0' * 64}\tnone\n", r"has the columns said; expected Context or questionText$"),
        ("Context\nHm.\n", None, r"^no labels at .+; give a file of SHA-256 and label, parted by tabs$"),
        (None, f"{'0' * 64}\tnone\n", r"^no texts at .+; give a CSV file with the column Context or questionText$"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, texts: str | None, labels: str | None, message: str
) -> None:
    paths = tmp_path / "texts.csv", tmp_path / "labels.tsv"
    for path, content in zip(paths, (texts, labels), strict=True):
        if content is not None:
            path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_ordinary(*paths)


def test_the_labels_that_come_with_the_package_hold_no_text() -> None:
    lines = LABELS.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len({line[:64] for line in lines}) == 200
    assert all(re.fullmatch(r"[0-9a-f]{64}\t(risk|unsure|none)", line) for line in lines)


def test_the_check_does_no_worse_than_it_did() -> None:
    """A floor, well below which is a fault; what the check reaches is measured by the recipe and told in the README."""
    result = measure(SETS["test"])
    assert result["recall"]["count"] >= 400
    assert result["false_positives"]["count"] <= 42
