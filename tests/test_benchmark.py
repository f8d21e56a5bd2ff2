"""The benchmark on a model of a few kilobytes: what it measures, what it makes of it, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import chain
from shutil import which

import pytest
from training_fixtures import load_recipe, one_thread, write_csv  # noqa: F401
from transformers import AutoTokenizer, GPT2Config

import mh_support.benchmark.processes as processes
import mh_support.benchmark.profile as benchmark_profile
import mh_support.benchmark.scaling as scaling
import mh_support.benchmark.suite as suite
import mh_support.benchmark.training as benchmark_training
from mh_support.benchmark.generation import save_prompts
from mh_support.benchmark.preparation import (
    PeakMemory,
    measure_import,
    measure_preparation,
    with_growth,
    write_rows,
)
from mh_support.benchmark.processes import in_own_process, matmul_rate
from mh_support.benchmark.results import (
    draw_generation,
    draw_serving,
    draw_training,
    summarise_generation,
    summarise_scaling,
    summarise_serving,
    summarise_training,
    tables,
)
from mh_support.benchmark.scaling import Sharing, measure_processes
from mh_support.benchmark.suite import PARTS, BenchmarkArguments, run_benchmark
from mh_support.benchmark.training import (
    ARMS,
    EXTRA,
    TrainingSetup,
    make_model,
    make_setup,
    make_tokenizer,
    measure_arm,
    needed_operations,
    read_dialogues,
)
from mh_support.dialogue import IGNORED
from mh_support.files import read_json

SMALL = {"n_layer": 3, "n_embd": 32, "n_head": 2}


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "talk.csv")


@pytest.fixture(scope="module")
def setup(tmp_path_factory, talk):
    folder = tmp_path_factory.mktemp("setup")
    dialogues = read_dialogues(str(talk))
    tokenizer = make_tokenizer(dialogues)
    make_model(folder, tokenizer, dropout=0.0, vocab_size=len(tokenizer), **SMALL)
    return make_setup(folder, dialogues, tokenizer, batch_size=4, steps=2, bf16=False)


@pytest.fixture(scope="module", autouse=True)
def quick_rate():
    """Measure matmul on a matrix that takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (benchmark_training, benchmark_profile):
            patch.setattr(module, "matmul_rate", lambda: matmul_rate(seconds=0.0, size=64))
        yield


@pytest.fixture(scope="module")
def measured(setup):
    return {name: [measure_arm(name, setup)] for name in ARMS if name not in EXTRA}


@pytest.mark.skipif(which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_train_with_the_same_losses(measured, setup):
    # In a process of its own, as in a benchmark: what is compiled stays so.
    run = in_own_process(measure_arm, "ours_compiled", setup)
    assert run["losses"] == pytest.approx(measured["ours_full"][0]["losses"], rel=1e-4)
    assert "ours_compiled" not in BenchmarkArguments().arms


def summary_of(measured, setup):
    return summarise_training(
        {name: [{**run, "peak_memory": 10**9} for run in runs] for name, runs in measured.items()}, setup
    )


def test_everyone_trains_on_the_same_batches_with_the_same_losses(measured, setup):
    for name, (run,) in measured.items():
        assert (len(run["losses"]), len(run["seconds"])) == (3, 2), name
        assert all(seconds > 0 for seconds in run["seconds"])
        assert (run["fill_seconds"] > 0) == (name == "ours_cached")
    summary = summary_of(measured, setup)
    assert {name: each["compared_with"] for name, each in summary.items()} == {
        **dict.fromkeys(("original", "trl_full", "ours_full"), "original"),
        **dict.fromkeys(("trl_lora", "ours_lora"), "trl_lora"),
        **dict.fromkeys(("trl_last", "ours_last", "ours_cached"), "trl_last"),
    }
    assert all(each["loss_difference"] < 1e-4 and each["same_losses"] for each in summary.values())
    # They do learn, each method in its own way.
    ends = {name: run["losses"][-1] for name, (run,) in measured.items()}
    assert len({round(ends[name], 5) for name in ("ours_full", "ours_lora", "ours_last")}) == 3


def test_rows_of_like_length_share_a_batch(setup):
    rows = json.loads((suite.Path(setup.folder) / "rows.json").read_text())
    assert setup.lengths == [len(row["input_ids"]) for row in rows]
    assert setup.supervised == [sum(label != IGNORED for label in row["labels"][1:]) for row in rows]
    batches = [setup.lengths[start : start + 4] for start in range(0, 12, 4)]
    assert sorted(chain.from_iterable(sorted(batches))) == sorted(setup.lengths)
    assert sum(max(batch) - min(batch) for batch in batches) <= max(setup.lengths) - min(setup.lengths)


def test_too_little_data_is_refused(tmp_path, talk):
    dialogues = read_dialogues(str(talk))
    message = r"^the data has 60 dialogues and 66 are needed; give more, or fewer steps$"
    with pytest.raises(ValueError, match=message):
        make_setup(tmp_path, dialogues, make_tokenizer(dialogues), batch_size=6, steps=10, bf16=False)


def test_the_tokenizer_is_of_gpt2s_kind_and_reads_everything(talk):
    tokenizer = make_tokenizer(read_dialogues(str(talk)))
    text = "My river hurts, caf\u00e9 \U0001f642"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>",) * 2
    assert len(tokenizer("river")["input_ids"]) < 5


def test_a_full_size_model_is_gpt2(tmp_path, talk):
    tokenizer = make_tokenizer(read_dialogues(str(talk)))
    make_model(tmp_path, tokenizer, dropout=0.0, n_layer=1, n_embd=64, n_head=1)
    config, plain = GPT2Config.from_pretrained(tmp_path), GPT2Config()
    same = ("vocab_size", "n_positions", "activation_function", "layer_norm_epsilon")
    assert {name: getattr(config, name) for name in same} == {name: getattr(plain, name) for name in same}
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.0, 0.0, 0.0)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(tokenizer)


# --- what is made of it -----------------------------------------------------------------------------------------------


def test_needed_operations_by_hand(setup):
    one = TrainingSetup(setup.folder, 1, False, 1, lengths=[9, 10], supervised=[9, 6])
    shape = GPT2Config.from_pretrained(setup.folder)
    block, head, square = 12 * 32 * 32, shape.vocab_size * 32, 6 * 32 * 100
    expected = {
        "original": 10 * 6 * 3 * block + 6 * 6 * head + 3 * square,
        "ours_lora": 10 * 4 * 3 * block + 6 * 4 * head + 3 * square,
        "ours_last": 10 * (6 * 2 + 2) * block + 6 * 4 * head + 2 * square,
        "ours_cached": 10 * 6 * 2 * block + 6 * 4 * head + 2 * square,
    }
    assert {name: needed_operations(ARMS[name], one) for name in expected} == expected


def a_run(seconds, losses, fill=0.0, rate=1e9):
    return {"seconds": seconds, "losses": losses, "fill_seconds": fill, "matmul_rate": rate, "peak_memory": 2 * 10**9}


@pytest.fixture
def made_up(setup):
    two = TrainingSetup(setup.folder, 2, False, 1, lengths=[30, 20, 30, 20], supervised=[10] * 4)
    return summarise_training(
        {
            "original": [a_run([10.0], [5.0, 4.0]), a_run([20.0], [5.0, 4.0]), a_run([5.0], [5.0, 4.0])],
            "ours_full": [a_run([1.0], [5.0, 4.02])],
            "trl_last": [a_run([5.0], [5.0, 4.0])],
            "ours_cached": [a_run([0.5], [5.0, 3.0], fill=4.0)],
        },
        two,
    )


def test_medians_spread_and_the_first_pass(made_up):
    assert made_up["original"]["tokens_per_second"] == {"median": 5.0, "least": 2.5, "most": 10.0}
    assert (
        made_up["original"]["one_epoch"]
        == made_up["original"]["many_epochs"]
        == made_up["original"]["tokens_per_second"]
    )
    cached = made_up["ours_cached"]
    # Half of the first pass belongs to the rows that warmed up.
    assert cached["tokens_per_second"]["median"] == 100.0
    assert cached["one_epoch"]["median"] == pytest.approx(50 / (0.5 + 2.0))
    assert cached["many_epochs"]["median"] == pytest.approx(25 * 50 / (25 * 0.5 + 2.0))


def test_a_faster_way_with_other_losses_does_not_count(made_up):
    assert (made_up["ours_full"]["loss_difference"], made_up["ours_full"]["same_losses"]) == (
        pytest.approx(0.005),
        True,
    )
    assert (made_up["ours_cached"]["loss_difference"], made_up["ours_cached"]["same_losses"]) == (0.25, False)
    lines = tables({"training": made_up}).splitlines()
    head = [
        "training",
        "real tokens/s",
        "least to most",
        "1 epoch",
        "25 epochs",
        "times",
        "of matmul",
        "peak",
        "losses",
    ]
    assert re.split(r"  +", lines[0]) == head
    label = ARMS["original"].label
    assert re.split(r"  +", lines[2])[:6] == [label, "5.0", "2.5 to 10.0", "5.0", "5.0", "1.0"]
    assert re.split(r"  +", lines[3])[-2:] == ["2.00 GB", "5.0e-03"]
    assert lines[5].endswith("OTHERS: does not count")


def test_replies_are_held_against_the_pipelines_to_the_letter(tmp_path):
    runs = {"pipeline": ["a", "b"], "ours": ["a", "c"], "generate_sampled": ["x", "y"], "ours_sampled": ["a", "z"]}
    seconds = {"pipeline": 6.0, "ours": 1.0, "generate_sampled": 4.0, "ours_sampled": 0.5}
    found = {way: [{"seconds": seconds[way], "replies": texts, "peak_memory": 10**9}] for way, texts in runs.items()}
    summary = summarise_generation(found)
    # Other random numbers: their texts say nothing.
    same = {"pipeline": 2, "ours": 1, "generate_sampled": None, "ours_sampled": None}
    assert {way: each["same_text"] for way, each in summary.items()} == same
    lines = [re.split(r"  +", line) for line in tables({"generation": summary}).splitlines()[-3:]]
    assert lines == [
        ["ours", "1.0", "1.0 to 1.0", "6.0", "1 of 2", "1.00 GB"],
        ["sampled: generate, batched and sorted", "4.0", "4.0 to 4.0", "1.0", "-", "1.00 GB"],
        ["sampled: ours", "0.5", "0.5 to 0.5", "8.0", "-", "1.00 GB"],
    ]
    assert draw_generation(summary, tmp_path / "generation.png").read_bytes().startswith(b"\x89PNG")


def test_serving_by_how_many_are_served(tmp_path):
    def a_run(first, speed):
        streams = {
            count: {"first_seconds": first, "tokens_per_second": speed * times}
            for count, times in (("1", 1), ("16", 4))
        }
        return {"streams": streams, "peak_memory": 10**9}

    found = {"alone": [a_run(0.1, 20.0), a_run(0.3, 10.0), a_run(0.2, 30.0)], "together": [a_run(0.1, 40.0)]}
    summary = summarise_serving(found, {"alone": 64.0, "together": 64.06})
    lines = [re.split(r"  +", line) for line in tables({"serving": summary}).splitlines()[2:6]]
    assert lines == [
        ["ours, a thread each", "1", "200", "100.0 to 300.0", "20.0", "10.0 to 30.0", "64.00", "1.00 GB"],
        ["ours, a thread each", "16", "200", "100.0 to 300.0", "80.0", "40.0 to 120.0", "64.00", "1.00 GB"],
        ["ours, one batch", "1", "100", "100.0 to 100.0", "40.0", "40.0 to 40.0", "64.06", "1.00 GB"],
        ["ours, one batch", "16", "100", "100.0 to 100.0", "160.0", "160.0 to 160.0", "64.06", "1.00 GB"],
    ]
    missing = "CTranslate2, one batch, fp32; CTranslate2, one batch, int8. CTranslate2 is not installed; run: "
    install = "pip install -c constraints.txt -e '.[benchmark]'"
    assert tables({"serving": summary}).endswith(f"\nleft out: {missing}{install}")
    every = {**summary, "ctranslate2": summary["alone"], "ctranslate2_int8": summary["alone"]}
    assert "left out" not in tables({"serving": every})
    assert draw_serving(summary, tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")


def test_a_profile_accounts_for_the_whole_step(setup):
    found = benchmark_profile.measure_profile("ours_full", setup)
    assert sum(found["groups"].values()) == pytest.approx(found["seconds"])
    # The second and third of three batches: two operations a weight and token forwards and four back, in blocks alone.
    tokens = sum(setup.lengths[4:])
    blocks = 6 * 12 * SMALL["n_embd"] ** 2 * SMALL["n_layer"] * tokens
    assert blocks < found["operations"] < 2 * blocks
    assert all(found["groups"][group] > 0 for group in ("matrix products", "attention", "optimizer and clipping"))


def test_operators_by_what_they_do():
    seconds, operations = benchmark_profile.grouped(
        [
            ("aten::mm", 3.0, 6e9),
            ("aten::_scaled_dot_product_flash_attention_for_cpu", 1.0, 1e9),
            ("aten::_softmax", 0.5, 0.0),
            ("aten::_fused_adamw_", 0.25, 0.0),
            ("aten::copy_", 0.25, 0.0),
            ("aten::native_layer_norm", 0.5, 0.0),
        ]
    )
    assert list(seconds.values()) == [3.0, 1.0, 0.5, 0.25, 0.25, 0.5]
    assert operations == 6e9
    profile = {
        "ours_full": {"seconds": 10.0, "groups": {**seconds, "rest": 4.5}, "operations": 6e9, "matmul_rate": 4e9}
    }
    lines = [re.split(r"  +", line) for line in tables({"profile": profile}).splitlines()]
    assert lines[2] == ["matrix products", "30%"]
    assert lines[-1] == ["the matrix products run at, of the matmul rate", "50%"]


def test_several_processes_are_held_against_one(setup):
    two = TrainingSetup(setup.folder, 2, False, 1, lengths=[30, 20, 30, 20], supervised=[10] * 4)
    found = {"1": [a_run([2.0], [5.0, 4.0])], "2": [a_run([1.25], [5.0, 4.02])], "4": [a_run([1.0], [5.0, 3.0])]}
    lines = tables({"scaling": summarise_scaling(found, two)}).splitlines()[2:]
    assert [re.split(r"  +", line) for line in lines] == [
        ["1", "25.0", "25.0 to 25.0", "1.00", "0.0e+00", "2.00 GB"],
        ["2", "40.0", "40.0 to 40.0", "1.60", "5.0e-03", "2.00 GB"],
        ["4", "50.0", "50.0 to 50.0", "2.00", "OTHERS: does not count", "2.00 GB"],
    ]


def test_processes_with_all_weights_and_with_parts_train_the_same(setup, monkeypatch):
    monkeypatch.setattr(processes, "PRELOADED", ["mh_support.trainer", "transformers"])
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    ways = [Sharing(1), Sharing(2), Sharing(2, sharded=True)]
    found = {way.label: [measure_processes(way, setup)] for way in ways}
    summary = summarise_scaling(found, setup)
    assert list(summary) == ["1", "2 DDP", "2 FSDP"]
    for each in summary.values():
        assert len(each["losses"]) == 3
        assert each["loss_difference"] < 1e-5


def test_the_plot_is_drawn(made_up, tmp_path):
    assert draw_training(made_up, tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


# --- measuring --------------------------------------------------------------------------------------------------------


def test_work_in_a_process_of_its_own_comes_back_with_its_memory(monkeypatch):
    monkeypatch.setattr(processes, "PRELOADED", [])
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    result = in_own_process(dict, [("answer", 42)])
    assert result.pop("peak_memory") > 5e6
    assert result == {"answer": 42}
    with pytest.raises(RuntimeError, match=r"^exit\(7,\) ended with exit code 7$"):
        in_own_process(sys.exit, 7)


def test_the_matmul_rate_is_a_rate():
    assert 1e8 < matmul_rate(seconds=0.01, size=128) < 1e15


def test_importing_the_package_is_quick():
    assert measure_import(repeats=3)["seconds"] < 0.3


def test_rows_to_prepare_are_all_different(tmp_path, talk):
    write_rows(tmp_path / "rows.csv", read_dialogues(str(talk)), 50)
    found = measure_preparation(str(tmp_path / "rows.csv"))
    assert found["kept"] == 50
    assert found["seconds"] > 0 < found["cpu_seconds"]
    assert found["private"] > 1e7
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".csv"] == ["rows.csv"]


def test_memory_is_that_of_the_children_too():
    command = [sys.executable, "-c", "text = b'x' * 100_000_000; print(len(text), flush=True); input()"]
    with PeakMemory() as alone:
        pass
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"100000000\n"
        with PeakMemory() as both:
            pass
        child.communicate(b"\n")
    assert both.private - alone.private > 9e7


def test_growth_is_told_once_memory_has_settled():
    sizes = [(10_000, 500), (100_000, 900), (1_000_000, 9_900), (1_000_000, 9_900)]
    measured = [{"rows": rows, "private": private} for rows, private in sizes]
    assert [each["growth_per_row"] for each in with_growth(measured)] == [None, None, 0.01, None]


@pytest.fixture
def here(monkeypatch):
    """Measure in this process, which has imported everything already."""
    for module in (suite, scaling):
        monkeypatch.setattr(module, "in_own_process", lambda work, *given: {**work(*given), "peak_memory": 10**9})


def test_the_recipe_writes_and_prints(tmp_path, talk, here, capsys):
    sizes = {"repeats": 1, "batch_size": 2, "steps": 1, "layers": 3, "width": 64, "prompts": 3, "new_tokens": 4}
    argv = [item for name, value in {**sizes, "sizes": 20}.items() for item in (f"--{name}", str(value))]
    argv += ["--streams", "1", "3", "--processes", "1"]
    argv += ["--arms", "ours_last", "ours_cached", "--data", str(talk), "--output_dir", str(tmp_path / "out")]
    load_recipe("benchmark").main(argv)
    printed = capsys.readouterr().out
    assert "3 of 3" in printed
    assert "import mh_support: 0." in printed
    assert printed.endswith(f"written: {tmp_path / 'out'}/benchmark.json\n")
    results = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert set(results) == {"machine", "arguments", *PARTS}
    assert [each["same_text"] for each in results["generation"].values()] == [3] * 4 + [None] * 2
    perplexities = {way: each["perplexity"] for way, each in results["serving"].items()}
    whole = perplexities["generate"]
    assert all(abs(value / whole - 1) < 0.1 for value in perplexities.values()), "they compute the same model"
    assert perplexities["together_int8"] != whole
    for each in results["serving"].values():
        assert set(each["streams"]) == {"1", "3"}
        assert all(figures["tokens_per_second"]["median"] > 0 for figures in each["streams"].values())
    assert set(results["scaling"]) == {"1"}
    assert results["training"]["ours_cached"]["same_losses"]
    assert set(results["profile"]) == {"ours_last", "ours_cached"}
    assert [each["kept"] for each in results["preparation"]] == [20]
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["generation.png", "serving.png", "training.png"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"parts": ["trainings"]},
            r"^parts has 'trainings'; it is any of training, profile, generation, serving, ",
        ),
        ({"arms": ["theirs"]}, r"^arms has 'theirs'; it is any of original, trl_full, ours_full, "),
        ({"steps": 0}, r"^steps is 0; give 1 or more$"),
        ({"streams": [4, 0]}, r"^streams has 0; give 1 or more$"),
        ({"processes": [1, 3]}, r"^a batch of 8 rows cannot be shared by 3 processes evenly$"),
    ],
)
def test_bad_arguments_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkArguments(**given)


def test_without_trl_its_ways_are_refused_with_the_command_that_installs_it(monkeypatch, talk):
    monkeypatch.setattr(suite, "find_spec", lambda name: None)
    message = r"^TRL is not installed; run: pip install -c constraints\.txt -e '\.\[benchmark\]', or give --arms "
    with pytest.raises(ValueError, match=message):
        run_benchmark(BenchmarkArguments(data=str(talk)))


def test_without_psutil_preparation_is_refused_before_anything_is_measured(monkeypatch, talk, tmp_path):
    monkeypatch.setattr(suite, "find_spec", lambda name: None)
    arguments = BenchmarkArguments(data=str(talk), parts=["preparation", "import"], output_dir=str(tmp_path / "out"))
    message = r"^psutil is not installed; run: pip install .* -e '\.\[benchmark\]', or give --parts import$"
    with pytest.raises(ValueError, match=message):
        run_benchmark(arguments)
    assert not (tmp_path / "out").exists()


def test_a_quick_look_is_the_training_table_alone():
    quick = BenchmarkArguments(quick=True)
    assert (quick.parts, quick.repeats, quick.batch_size, quick.steps) == (["training"], 1, 2, 1)


def small_arguments(talk, folder, *parts):
    sizes = {"repeats": 1, "batch_size": 2, "steps": 1, "layers": 2, "width": 64, "prompts": 2, "new_tokens": 4}
    given = {"streams": [1], "processes": [1], "sizes": [20], "arms": ["ours_full"]}
    return BenchmarkArguments(data=str(talk), parts=list(parts), output_dir=str(folder), **sizes, **given)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_measured_alone(tmp_path, talk, here, part):
    assert set(run_benchmark(small_arguments(talk, tmp_path, part))) == {"machine", "arguments", part}


def test_a_part_that_fails_loses_none_before_it(tmp_path, talk, here, monkeypatch):
    def fail(*given):
        raise RuntimeError("it ended with exit code 1")

    monkeypatch.setattr(suite, "measure_import", fail)
    with pytest.raises(RuntimeError, match="exit code 1"):
        run_benchmark(small_arguments(talk, tmp_path, "preparation", "import"))
    assert read_json(tmp_path / "benchmark.json")["preparation"][0]["rows"] == 20


def test_prompts_that_the_model_has_no_room_for_are_left_out(tmp_path, tiny_tokenizer):
    said = [[{"role": "user", "content": words}] for words in ("I am sad", "so " * 200, "I am sad", "I am tired", "No")]
    save_prompts(tmp_path, said, tiny_tokenizer, 2, length=60)
    assert [prompt[0]["content"] for prompt in read_json(tmp_path / "prompts.json")] == ["I am sad", "I am tired"]
