"""Every YAML file that comes with the recipes, read by what reads it for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from training_fixtures import ROOT, load_recipe
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config

from mh_support.benchmark.suite import BenchmarkArguments
from mh_support.cli import ArgumentParser
from mh_support.data.preparation import DataArguments
from mh_support.modeling import STARTER, ModelArguments, count_parameters, prepare_training
from mh_support.training import FinetuneArguments

CONFIGS = ROOT / "recipes" / "configs"
# What each says, so that a change of a default shows here as well as a change of a file.
EXPECTED: dict[str, dict[str, Any]] = {
    "bad_model": {"kind": "full", "num_train_epochs": 16, "learning_rate": 1e-3, "max_length": 128},
    "demo": {"kind": "full", "num_train_epochs": 3, "learning_rate": 5e-4, "max_length": 256, "eval_steps": 50},
    "dialogpt_lora": {"kind": "lora", "num_train_epochs": 25, "learning_rate": 5e-4, "max_length": 512},
    "gpt2_full": {"kind": "full", "num_train_epochs": 25, "learning_rate": 5e-5, "max_length": 512},
    "gpt2_last_two_blocks": {"kind": "last_blocks", "num_train_epochs": 25, "learning_rate": 1e-4},
    "original": {"kind": "last_blocks", "num_train_epochs": 25, "learning_rate": 5e-5, "eval_steps": 500},
}


def parse(path: Path, *flags: str):
    parser = ArgumentParser((ModelArguments, DataArguments, FinetuneArguments))
    return parser.parse(["--config", str(path), *flags])


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_no_file_is_left_out():
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert names == {*EXPECTED, "accelerate_fsdp", "accelerate_deepspeed"}
    assert {path.name for path in CONFIGS.iterdir() if path.suffix != ".yaml"} == {"README.md"}


def test_the_page_on_several_processes_names_what_there_is():
    page = (CONFIGS / "README.md").read_text(encoding="utf-8")
    flags = set(re.findall(r"`--([a-z_0-9]+)", page))
    assert len(flags) > 10
    launcher = set(vars(launch_command_parser().parse_args(["recipes/finetune.py"])))
    ours = {name for group in (ModelArguments, FinetuneArguments, BenchmarkArguments) for name in vars(group())}
    assert flags <= launcher | ours
    assert {
        path for path in re.findall(r"recipes/[a-z_/0-9]+\.(?:py|yaml)", page) if not (ROOT / path).is_file()
    } == set()


@pytest.mark.parametrize("name", EXPECTED)
def test_every_key_reaches_its_argument(name):
    path = CONFIGS / f"{name}.yaml"
    model, data, training = parse(path)
    found = {**vars(model), **vars(data), **vars(training)}
    assert {key: found[key] for key in read(path)} == read(path)
    # In YAML, 5e-5 without a point is text; here numbers are numbers.
    assert not [key for key, value in read(path).items() if isinstance(value, str) and value[0].isdigit()]
    found["kind"] = model.kind
    assert {key: found[key] for key in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_flags_override_the_file(name):
    _, _, training = parse(CONFIGS / f"{name}.yaml", "--learning_rate", "0.25", "--output_dir", "elsewhere")
    assert (training.learning_rate, training.output_dir) == (0.25, "elsewhere")


@pytest.mark.parametrize("name", EXPECTED)
def test_an_unknown_key_fails_and_the_nearest_is_named(name, tmp_path):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**read(CONFIGS / f"{name}.yaml"), "learning_rat": 1.0}), encoding="utf-8")
    message = rf"^{path} has the unknown key learning_rat \(nearest: --learning_rate\); see --help$"
    with pytest.raises(ValueError, match=message):
        parse(path)


def test_the_original_recipe_is_the_original_one():
    model, _, training = parse(CONFIGS / "original.yaml")
    assert (model.model_name_or_path, model.train_layers) == ("gpt2", 2)
    assert training.completion_only_loss is False
    assert training.per_device_train_batch_size == 10
    assert (training.save_steps, training.eval_steps) == (500, 500)


def test_the_last_two_blocks_are_as_many_parameters_as_the_file_says():
    with torch.device("meta"):
        gpt2 = AutoModelForCausalLM.from_config(GPT2Config())
    model, _, _ = parse(CONFIGS / "gpt2_last_two_blocks.yaml")
    trainable, total = count_parameters(prepare_training(gpt2, model))
    assert round(total / trainable) == 9
    assert "a ninth of the parameters" in (CONFIGS / "gpt2_last_two_blocks.yaml").read_text(encoding="utf-8")


def test_the_demo_fits_what_comes_with_the_package(tmp_path, monkeypatch, capsys):
    _, _, training = parse(CONFIGS / "demo.yaml")
    assert training.max_length <= AutoConfig.from_pretrained(STARTER).max_position_embeddings
    monkeypatch.chdir(tmp_path)
    load_recipe("finetune").main(
        ["--config", str(CONFIGS / "demo.yaml"), "--dry_run", "true", "--disable_tqdm", "true"]
    )
    assert capsys.readouterr().out.startswith("model        starter, full\n")
    assert list(tmp_path.iterdir()) == []


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "section"),
    [
        ("accelerate_fsdp", DistributedType.FSDP, "fsdp_config"),
        ("accelerate_deepspeed", DistributedType.DEEPSPEED, "deepspeed_config"),
    ],
)
def test_accelerate_reads_its_own(name, kind, section):
    path = CONFIGS / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert (config.distributed_type, config.num_processes, config.num_machines) == (kind, 2, 1)
    assert config.mixed_precision == "bf16"
    assert getattr(config, section) == read(path)[section]
    # Every key of the section is an option of `accelerate launch`, where it lands.
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "recipes/finetune.py"])
    names = {key if key.startswith("fsdp_") else key.removeprefix("deepspeed_") for key in read(path)[section]}
    assert names <= vars(arguments).keys()
    launched, _, _ = _validate_launch_command(arguments)
    assert {key: str(getattr(launched, key)).lower() for key in names} == {
        key: str(value).lower() for key, value in read(path)[section].items()
    }
    assert (launched.use_fsdp, launched.use_deepspeed) == (section == "fsdp_config", section == "deepspeed_config")
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert (
        first == f"# accelerate launch --config_file recipes/configs/{name}.yaml recipes/finetune.py --data train.csv"
    )


def test_accelerate_refuses_an_unknown_key(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump({**read(CONFIGS / "accelerate_fsdp.yaml"), "num_process": 2}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"num_process"):
        load_config_from_file(str(path))
