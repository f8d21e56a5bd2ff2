"""The pictures: what they show, number by number, and that few points, one or none still make a picture."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from mh_support import drawing, plots
from mh_support.plots import loss_curves, response_lengths, save_plots, score_table
from mh_support.word_clouds import count_words, word_clouds

LOG: list[dict[str, Any]] = [
    {"step": 20, "epoch": 2.0, "loss": 2.5},
    {"step": 10, "epoch": 1.0, "loss": 3.0},
    {"step": 10, "epoch": 1.0, "eval_loss": 2.9},
    {"step": 20, "epoch": 2.0, "eval_loss": 2.7},
    {"step": 30, "epoch": 3.0, "eval_loss": 2.8},
    {"step": 30, "epoch": 3.0, "train_loss": 2.6, "train_runtime": 9.0},
]
RESULTS: dict[str, Any] = {
    "splits": {
        "test": {
            "items": 72,
            "references": 190,
            "rows": {
                "human": {"rougeL": {"value": 0.14, "ci95": [0.125, 0.155]}},
                "base": {
                    "perplexity": {"value": 31.0, "ci95": [28.0, 35.0]},
                    "rougeL": {"value": 0.09, "ci95": [0.08, 0.1]},
                },
                "tuned": {
                    "perplexity": {"value": 17.0, "ci95": None},
                    "rougeL": {"value": 0.146, "ci95": [0.13, 0.16]},
                },
            },
        }
    }
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the figures that are saved, in their order."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def remember(figure: Figure, *args: Any, **settings: Any) -> None:
        figures.append(figure)
        savefig(figure, *args, **settings)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def words_of(figure: Figure) -> str:
    """Return all that is written in a figure outside its axes' ticks."""
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        legend = axes.get_legend()
        texts += [text.get_text() for text in axes.texts + (legend.get_texts() if legend else [])]
        texts += [axes.get_title("left"), axes.get_title("center"), axes.get_title("right")]
        texts += [axes.get_xlabel(), axes.get_ylabel()]
    return "\n".join(text for text in texts if text)


def size(path: Path) -> tuple[int, int]:
    """Return a PNG's width and height in pixels."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    height, width = imread(path).shape[:2]
    return width, height


def test_loss_curves_show_both_losses_in_the_order_of_steps(tmp_path: Path, drawn: list[Figure]) -> None:
    path = loss_curves(LOG, tmp_path / "loss.png")

    train, validation, best = drawn[0].axes[0].get_lines()
    assert train.get_xydata().tolist() == [[10, 3.0], [20, 2.5]]
    assert validation.get_xydata().tolist() == [[10, 2.9], [20, 2.7], [30, 2.8]]
    assert best.get_xydata().tolist() == [[20, 2.7]]
    assert path == tmp_path / "loss.png"
    assert size(path) == (1350, 750)


def test_loss_curves_say_what_is_seen(tmp_path: Path, drawn: list[Figure]) -> None:
    loss_curves(LOG, tmp_path / "loss.png")

    assert words_of(drawn[0]).splitlines() == [
        "Loss on training and validation dialogues",
        "Lower is better. Validation loss that rises while training loss falls is a sign of memorising.",
        "Training",
        "Validation",
        "Lowest validation loss: 2.700 at step 20",
        "Training step (updates of the weights)",
        "Cross-entropy loss (nats a token)",
    ]


def test_a_step_logged_again_replaces_the_earlier_entry(tmp_path: Path, drawn: list[Figure]) -> None:
    loss_curves([{"step": 10, "loss": 9.0}, {"step": 20, "loss": 2.0}, {"step": 10, "loss": 3.0}], tmp_path / "a.png")

    assert drawn[0].axes[0].get_lines()[0].get_xydata().tolist() == [[10, 3.0], [20, 2.0]]


def test_many_training_losses_are_smoothed_and_shown_as_logged(tmp_path: Path, drawn: list[Figure]) -> None:
    losses = [float(step % 2) for step in range(40)]
    loss_curves([{"step": step, "loss": loss} for step, loss in enumerate(losses)], tmp_path / "a.png")

    logged, smooth = drawn[0].axes[0].get_lines()
    assert logged.get_ydata().tolist() == losses
    # Means of five: 0 1 0 1 0 and 1 0 1 0 1 by turns; three at the ends: 0 1 0 and 1 0 1.
    assert smooth.get_ydata().tolist() == pytest.approx([1 / 3, 0.5, *[0.4, 0.6] * 18, 0.5, 2 / 3])
    assert "Training, mean of 5 entries" in words_of(drawn[0])


def test_without_evaluations_the_picture_says_so(tmp_path: Path, drawn: list[Figure]) -> None:
    loss_curves([{"step": 10, "loss": 3.0}], tmp_path / "a.png")

    assert "No validation loss was logged, so memorising cannot be seen here." in words_of(drawn[0])
    assert "Lowest" not in words_of(drawn[0])
    assert drawn[0].axes[0].get_xticks().tolist() == [10]


def test_evaluations_alone_are_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    loss_curves([{"step": 10, "eval_loss": 3.0}], tmp_path / "a.png")

    assert [line.get_label() for line in drawn[0].axes[0].get_lines()] == [
        "Validation",
        "Lowest validation loss: 3.000 at step 10",
    ]


def test_losses_that_are_not_finite_are_left_out_and_counted(tmp_path: Path, drawn: list[Figure]) -> None:
    log = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": math.nan}, {"step": 3, "eval_loss": math.inf}]
    loss_curves(log, tmp_path / "a.png")

    assert drawn[0].axes[0].get_lines()[0].get_xydata().tolist() == [[1, 3.0]]
    assert "Left out because they are not finite numbers: 2." in words_of(drawn[0])


@pytest.mark.parametrize("log", [[], [{"step": 3, "train_runtime": 9.0}], [{"step": 1, "loss": math.nan}]])
def test_a_log_without_losses_makes_a_picture_that_says_so(
    log: list[dict[str, Any]], tmp_path: Path, drawn: list[Figure]
) -> None:
    path = loss_curves(log, tmp_path / "a.png")

    assert words_of(drawn[0]) == "Loss on training and validation dialogues\nNo loss was logged in this run."
    assert size(path) == (1350, 360)


def test_lengths_are_counted_in_words_as_shares_of_each_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    replies = {"base": ["a b c", "a", "", "a  b\nc"], "tuned": ["a b"], "human": ["a", "b c"]}
    path = response_lengths(replies, tmp_path / "lengths.png")

    heights = [[bar.get_height() for bar in axes.patches] for axes in drawn[0].axes]
    assert heights == [[0.25, 0.25, 0, 0.5], [0, 0, 1, 0], [0, 0.5, 0.5, 0]]
    # A bar stands around its whole number of words.
    assert [bar.get_x() for bar in drawn[0].axes[0].patches] == [-0.5, 0.5, 1.5, 2.5]
    assert [axes.get_lines()[0].get_xdata()[0] for axes in drawn[0].axes] == [2, 2, 1.5]
    assert size(path) == (1350, 975)


def test_lengths_say_whose_they_are(tmp_path: Path, drawn: list[Figure]) -> None:
    response_lengths({"base": ["a b c"], "tuned": ["a", "b"], "human": [], "other": ["a"]}, tmp_path / "a.png")

    assert words_of(drawn[0]).splitlines() == [
        "Length of the replies, before and after fine-tuning",
        "The dashed line is the median.",
        "Base model, before fine-tuning",
        "median 3 words, 1 reply",
        "Share of replies",
        "Fine-tuned model, after",
        "median 1 word, 2 replies",
        "Share of replies",
        "no replies",
        "The reference replies",
        "Share of replies",
        "other",
        "median 1 word, 1 reply",
        "Words a reply",
        "Share of replies",
    ]


def test_the_longest_hundredth_is_gathered_in_the_last_bar(tmp_path: Path, drawn: list[Figure]) -> None:
    replies = {"tuned": ["word " * length for length in [*range(1, 100), 5000]]}
    response_lengths(replies, tmp_path / "a.png")

    # 99 words in bars of four: 25 bars, the last for 96 to 99 and the one of 5,000.
    heights = [bar.get_height() for bar in drawn[0].axes[0].patches]
    assert len(heights) == 25
    assert heights[0] == 0.03 and heights[1] == 0.04 and heights[-1] == 0.05
    assert sum(heights) == pytest.approx(1)
    assert "Longer than 99 words, counted in the last bar: 1." in words_of(drawn[0])


@pytest.mark.parametrize("replies", [{}, {"base": [], "tuned": []}])
def test_no_replies_make_a_picture_that_says_so(
    replies: dict[str, list[str]], tmp_path: Path, drawn: list[Figure]
) -> None:
    response_lengths(replies, tmp_path / "a.png")

    assert words_of(drawn[0]).endswith("There are no replies to measure.")


def test_words_are_counted_by_text_without_stop_words() -> None:
    texts = ["The dog and the DOG's bed. I don't know, needn't.", "My dog\u2019s night!", "Night 42 na\u00efve"]

    assert count_words(texts) == {"dog": 2, "bed": 1, "night": 2, "na\u00efve": 1}


def test_a_word_of_one_dialogue_alone_is_never_shown(
    tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wordcloud

    shown: dict[str, int] = {}
    generate = wordcloud.WordCloud.generate_from_frequencies

    def remember(self: Any, frequencies: dict[str, int], *rest: Any) -> Any:
        shown.update(frequencies)
        return generate(self, frequencies, *rest)

    monkeypatch.setattr(wordcloud.WordCloud, "generate_from_frequencies", remember)
    word_clouds(["Marigold is lonely, lonely Marigold", "so lonely tonight"], ["lonely", "dog"], tmp_path)

    assert shown == {"lonely": 2}
    assert words_of(drawn[0]).splitlines() == [
        "What people write about",
        "Training dialogues: 2. The larger a word, the more of them hold it.",
        "Common words are left out, and so are words that a single dialogue holds.",
    ]
    assert words_of(drawn[1]).splitlines() == [
        "What the replies say",
        "Common words aside, no word stands in two dialogues.",
    ]


def test_word_clouds_are_the_same_each_time(tmp_path: Path) -> None:
    texts = ["lonely garden winter kitchen", "winter garden lonely train", "train kitchen garden winter"]
    first = word_clouds(texts, texts, tmp_path / "first")
    second = word_clouds(texts, list(reversed(texts)), tmp_path / "second")

    assert [path.name for path in first] == ["contexts.png", "responses.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert size(first[0]) == (1350, 380)


def test_a_full_word_cloud_is_larger(tmp_path: Path) -> None:
    letters = [a + b for a in "bcdfg" for b in "klmnp"]
    text = " ".join(f"{pair}o{pair}" for pair in letters)

    assert size(word_clouds([text, text], [], tmp_path)[0]) == (1350, 820)


def test_no_texts_make_pictures_that_say_so(tmp_path: Path, drawn: list[Figure]) -> None:
    word_clouds([], [], tmp_path)

    assert all("no word stands in two dialogues" in words_of(figure) for figure in drawn)


def test_scores_are_shown_with_their_intervals_in_the_order_of_rows(tmp_path: Path, drawn: list[Figure]) -> None:
    path = score_table(RESULTS, tmp_path / "scores.png")

    perplexity, rouge = drawn[0].axes
    assert [label.get_text() for label in perplexity.get_yticklabels()] == ["Base model", "Fine-tuned", "Reference"]
    assert [text.get_text() for text in perplexity.texts] == [
        "lower is better",
        "31.0 [28.0, 35.0]",
        "17.0",
        "does not apply",
    ]
    assert [text.get_text() for text in rouge.texts] == [
        "higher is closer to the references",
        "0.090 [0.080, 0.100]",
        "0.146 [0.130, 0.160]",
        "0.140 [0.125, 0.155]",
    ]
    assert [axes.get_title() for axes in drawn[0].axes] == ["Perplexity", "ROUGE-L"]
    assert size(path)[0] == 1515


def test_dots_stand_at_scores_and_bars_over_intervals(tmp_path: Path, drawn: list[Figure]) -> None:
    score_table(RESULTS, tmp_path / "a.png")

    bars_and_dots = [line.get_xydata().tolist() for line in drawn[0].axes[1].get_lines()]
    assert bars_and_dots == [
        [[0.08, 0.2], [0.1, 0.2]],
        [[0.09, 0.2]],
        [[0.13, 1.2], [0.16, 1.2]],
        [[0.146, 1.2]],
        [[0.125, 2.2], [0.155, 2.2]],
        [[0.14, 2.2]],
    ]
    # The first row is at the top.
    assert drawn[0].axes[0].get_ylim() == (2.55, -0.55)


def test_no_score_is_set_apart_as_the_best(tmp_path: Path, drawn: list[Figure]) -> None:
    score_table(RESULTS, tmp_path / "a.png")

    for axes in drawn[0].axes:
        assert {text.get_fontweight() for text in axes.texts} == {"normal"}
        # The band is behind the fine-tuned model's line, wherever it stands.
        assert [(band.get_y(), band.get_height()) for band in axes.patches] == [(0.5, 1.0)]


def test_scores_say_how_many_replies_they_are_of(tmp_path: Path, drawn: list[Figure]) -> None:
    score_table(RESULTS, tmp_path / "a.png")

    assert [text.get_text() for text in drawn[0].texts] == [
        "Replies to the test dialogues, scored",
        "Replies scored: 72. Reference replies they are compared with: 190.\n"
        "Dot: the score. Bar: its 95 % interval. Where bars overlap, the difference may be chance.",
    ]


def test_twelve_scores_fill_three_lines_of_four(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = {"tuned": {metric.key: {"value": 0.5} for metric in plots.METRICS}}
    path = score_table({"splits": {"test": {"items": 1, "references": 1, "rows": rows}}}, tmp_path / "a.png")

    assert [axes.get_title() for axes in drawn[0].axes] == [metric.label for metric in plots.METRICS]
    assert [bool(axes.yaxis.get_tick_params()["labelleft"]) for axes in drawn[0].axes] == [
        True,
        False,
        False,
        False,
    ] * 3
    assert size(path) == (1920, 804)


def test_a_place_without_a_metric_stays_empty(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = {"base": {metric.key: {"value": 0.5} for metric in plots.METRICS[:5]}}
    score_table({"splits": {"test": {"items": 1, "references": 1, "rows": rows}}}, tmp_path / "a.png")

    assert [axes.axison for axes in drawn[0].axes] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("rows", [{}, {"tuned": {}}])
def test_no_scores_make_a_picture_that_says_so(rows: dict[str, Any], tmp_path: Path, drawn: list[Figure]) -> None:
    score_table({"splits": {"test": {"items": 0, "references": 0, "rows": rows}}}, tmp_path / "a.png")

    assert words_of(drawn[0]).endswith("There are no scores to show.")


def test_a_split_that_was_not_scored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the results hold no split 'dev'; the splits are test$"):
        score_table(RESULTS, tmp_path / "a.png", "dev")

    assert list(tmp_path.iterdir()) == []


def make_run(folder: Path) -> Path:
    """Write the files of a run that pictures are made from."""
    messages = [{"role": "user", "content": "Lonely winter."}, {"role": "assistant", "content": "Winter garden."}]
    replies = [
        {
            "split": "test",
            "item": 0,
            "references": ["a b", "a"],
            "replies": {"base": "a b c", "tuned": "a", "constant": "x"},
        },
        {
            "split": "train",
            "item": 0,
            "references": ["a b c d"],
            "replies": {"base": "a b c d e", "tuned": "a b c d e"},
        },
    ]
    (folder / "data").mkdir(parents=True)
    (folder / "log_history.json").write_text(json.dumps(LOG))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in replies))
    (folder / "data" / "train.jsonl").write_text((json.dumps({"messages": messages}) + "\n") * 2)
    return folder


def test_all_pictures_of_a_run(tmp_path: Path, drawn: list[Figure]) -> None:
    made = save_plots(make_run(tmp_path / "run"))

    names = ["loss_curves.png", "response_lengths.png", "contexts.png", "responses.png", "scores_test.png"]
    assert made == [tmp_path / "run" / "plots" / name for name in names]
    assert sorted(path.name for path in (tmp_path / "run" / "plots").iterdir()) == sorted(names)
    assert all(size(path)[0] >= 1000 for path in made)
    # Of the replies only the test split's: one of three words, one of one, people's of two and of one.
    assert [axes.get_title("right") for axes in drawn[1].axes] == [
        "median 3 words, 1 reply",
        "median 1 word, 1 reply",
        "median 1.5 words, 2 replies",
    ]
    assert "Training dialogues: 2." in words_of(drawn[2])


def test_another_split_is_drawn_when_asked_for(tmp_path: Path, drawn: list[Figure]) -> None:
    run = make_run(tmp_path)
    results = {"splits": {"train": RESULTS["splits"]["test"]}}

    assert save_plots(run, results, split="train")[-1].name == "scores_train.png"
    assert drawn[1].axes[0].get_title("right") == "median 5 words, 1 reply"


def test_results_in_memory_go_before_the_file(tmp_path: Path, drawn: list[Figure]) -> None:
    run = make_run(tmp_path)
    (run / "results.json").write_text("not read")
    save_plots(run, RESULTS)

    assert len(drawn) == 5


def test_a_run_without_scores_yet_has_the_pictures_it_can_have(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "results.json").unlink()
    (run / "replies.jsonl").unlink()

    assert [path.name for path in save_plots(run)] == ["loss_curves.png", "contexts.png", "responses.png"]


def test_a_folder_with_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r" holds nothing to draw; give a run folder that recipes/finetune\.py has made$"
    ):
        save_plots(tmp_path)


def test_a_damaged_line_is_named_and_what_it_holds_is_not(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "replies.jsonl").write_text('{"split": "train"}\n{"split": "a secret')

    with pytest.raises(ValueError, match=r"replies\.jsonl, line 2, is not JSON; make the file again$") as raised:
        save_plots(run)
    assert "secret" not in str(raised.value) and raised.value.__suppress_context__


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        loss_curves(LOG, path)

    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["loss.png"]


def test_pictures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = (loss_curves(LOG, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))

    assert first == second


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    score_table(RESULTS, tmp_path / "a.png")

    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_loaded() -> None:
    code = "import sys, mh_support.plots; print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )

    assert loaded.stdout == "False False\n"


def test_colours_are_told_apart_by_lightness_too() -> None:
    def lightness(colour: str) -> float:
        red, green, blue = (int(to_hex(colour)[at : at + 2], 16) / 255 for at in (1, 3, 5))
        return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2

    # Training blue beside validation amber must differ in print and for anyone.
    assert lightness(drawing.AMBER) / lightness(drawing.BLUE) > 2
