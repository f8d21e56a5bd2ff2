"""Arguments and errors at the edge of every recipe: what wins over what, and one line with the right exit code."""

from __future__ import annotations

import errno
import re
import runpy
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from transformers.utils import logging

from mh_support.cli import ArgumentParser, one_line, run

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Colours:
    """Arguments of each type that recipes use."""

    name: list[str] = field(default_factory=lambda: ["red"], metadata={"help": "Names.", "aliases": ["--colour"]})
    depth: int = field(default=3, metadata={"help": "Depth."})
    rate: float = field(default=0.5, metadata={"help": "Rate, in %%."})
    note: str | None = field(default=None, metadata={"help": "Note."})
    loud: bool = field(default=False, metadata={"help": "Loud."})
    warm: bool = field(default=True, metadata={"help": "Warm."})
    kind: str = field(default="oil", metadata={"help": "Kind.", "choices": ["oil", "water"]})
    extra: dict | str | None = field(default=None, metadata={"help": "Extra."})

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth is {self.depth}; give at least 1")


@dataclass
class Output:
    """A second concern."""

    output_dir: str = "out"


@pytest.fixture(autouse=True)
def verbosity():
    """Put back what `run` sets for its whole process, and begin at transformers' default."""
    before = logging.get_verbosity()
    logging.set_verbosity_warning()
    yield
    logging.set_verbosity(before)


@pytest.fixture
def parser():
    return ArgumentParser((Colours, Output))


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "c.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def refused(parser, argv, capsys):
    """Return the line that a usage error prints."""
    with pytest.raises(SystemExit) as stopped:
        parser.parse(argv)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    return err.rstrip("\n")


# ---- what wins -------------------------------------------------------------------------------------------------------


def test_defaults(parser):
    assert parser.parse([]) == (Colours(), Output())


def test_flags_win_over_yaml_and_yaml_over_defaults(parser, config):
    path = config("depth: 4\nrate: 1e-4\nname: [blue, green]\nloud: true\nwarm: false\noutput_dir: there\n")
    expected = Colours(name=["blue", "green"], depth=4, rate=1e-4, loud=True, warm=False)
    assert parser.parse(["--config", path]) == (expected, Output("there"))
    flags = ["--depth", "5", "--name", "grey", "--no_loud", "--warm", "--output_dir=here"]
    assert parser.parse(["--config", path, *flags[:4], "--loud", "false", *flags[5:]]) == (
        Colours(name=["grey"], depth=5, rate=1e-4, loud=False, warm=True),
        Output("here"),
    )


@pytest.mark.parametrize("place", ["first", "middle", "last", "joined"])
def test_a_config_may_stand_anywhere_and_flags_still_win(parser, config, place):
    path = config("depth: 4\nrate: 2\n")
    argv = {
        "first": ["--config", path, "--depth", "5", "--loud"],
        "middle": ["--depth", "5", "--config", path, "--loud"],
        "last": ["--depth", "5", "--loud", "--config", path],
        "joined": ["--depth", "5", f"--config={path}", "--loud"],
    }[place]
    assert parser.parse(argv)[0] == Colours(depth=5, rate=2.0, loud=True)


def test_the_command_line_is_read_where_no_arguments_are_given(parser, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--depth", "7"])
    assert parser.parse()[0].depth == 7


def test_no_file_beside_the_script_is_read_unasked(parser, monkeypatch, tmp_path):
    (tmp_path / "recipe.args").write_text("--depth 9")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "recipe.py")])
    assert parser.parse()[0].depth == 3


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("colour: blue", "name", ["blue"]),
        ("name: [a b, c]", "name", ["a b", "c"]),
        ("note: -x", "note", "-x"),
        ("note: --depth", "note", "--depth"),
        ("note: ''", "note", ""),
        ("note: 12", "note", "12"),
        ("note: a=b", "note", "a=b"),
        ("note:", "note", None),
        ("rate: -1", "rate", -1.0),
        ("warm: no", "warm", False),
        ("loud: 'yes'", "loud", True),
        ("extra: {a: 1, b: [2]}", "extra", '{"a": 1, "b": [2]}'),
    ],
)
def test_yaml_values(parser, config, line, name, value):
    assert getattr(parser.parse(["--config", config(line)])[0], name) == value


def test_other_arguments_come_back_last_and_a_list_in_yaml_does_not_take_them(config):
    parser = ArgumentParser(Colours)
    parser.add_argument("run")
    colours, rest = parser.parse(["runs/one", "--config", config("name: [a, b]")])
    assert (colours.name, vars(rest)) == (["a", "b"], {"run": "runs/one"})


def test_empty_comments_only_yaml_and_an_empty_mapping(parser, config):
    assert parser.parse(["--config", config("{}")]) == (Colours(), Output())
    with pytest.raises(ValueError, match=r"c\.yaml holds a NoneType; expected lines such as 'learning_rate: 1e-4'$"):
        parser.parse(["--config", config("# nothing\n")])


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--dept", "3"], "error: unknown option --dept (nearest: --depth); see --help"),
        (["--outputdir=x"], "error: unknown option --outputdir (nearest: --output_dir); see --help"),
        (["--zzzzzzzz"], "error: unknown option --zzzzzzzz; see --help"),
        (["--depth", "3", "x"], "error: x stands where an option such as --config was expected; see --help"),
        (["--depth", "x"], "error: argument --depth: invalid int value: 'x'"),
        (["--depth", "1.5"], "error: argument --depth: invalid int value: '1.5'"),
        (["--rate", "x"], "error: argument --rate: invalid float value: 'x'"),
        (["--depth"], "error: argument --depth: expected one argument"),
        (["--name"], "error: argument --name/--colour: expected at least one argument"),
        (["--config"], "error: --config needs a YAML file after it"),
        (
            ["--config", "a", "--config=b"],
            "error: more than one --config; give one file, and flags for what differs from it",
        ),
    ],
)
def test_usage_errors(parser, capsys, argv, line):
    assert refused(parser, argv, capsys) == line


def test_a_bad_bool_and_a_bad_choice(parser, capsys):
    assert refused(parser, ["--loud", "perhaps"], capsys).startswith(
        "error: argument --loud: Truthy value expected: got"
    )
    assert refused(parser, ["--kind", "wax"], capsys).startswith(
        "error: argument --kind: invalid choice: 'wax' (choose"
    )


def test_a_value_in_yaml_is_checked_like_a_flag(parser, capsys, config):
    line = refused(parser, ["--config", config("depth: deep")], capsys)
    assert line == "error: argument --depth: invalid int value: 'deep'"
    line = refused(parser, ["--config", config("depth: [1, 2]")], capsys)
    assert line == "error: 2 stands where an option such as --config was expected; see --help"


def test_a_token_given_to_the_wrong_flag_is_not_shown(parser, capsys):
    assert (
        refused(parser, ["--depth", "hf_abcDEF123"], capsys) == "error: argument --depth: invalid int value: 'hf_***'"
    )
    assert "abcDEF" not in refused(parser, ["--hf_abcDEF123"], capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dept: 3", r"c\.yaml has the unknown key dept \(nearest: --depth\); see --help$"),
        ("zzzzzzzzz: 3", r"c\.yaml has the unknown key zzzzzzzzz; see --help$"),
        ("1: 3", r"c\.yaml has the unknown key 1; see --help$"),
        ("config: other.yaml", r"c\.yaml has the key config, which is for the command line only; leave it out$"),
        ("help: true", r"c\.yaml has the key help, which is for the command line only; leave it out$"),
        ("- depth", r"c\.yaml holds a list; expected lines such as 'learning_rate: 1e-4'$"),
        ("depth", r"c\.yaml holds a str; expected"),
        ("a: [1", r"c\.yaml is not valid YAML \(.+\); mend it$"),
        (
            "a: !!python/object:os.system {}",
            r"c\.yaml is not valid YAML \(could not determine a constructor .+\); mend it$",
        ),
        (b"\x89PNG\r\n\x1a\n\x00", r"c\.yaml is not valid YAML \(.+\); mend it$"),
        ("[" * 2000, r"c\.yaml is not valid YAML \(.+\); mend it$"),
    ],
)
def test_yaml_that_is_refused(parser, config, text, message):
    with pytest.raises(ValueError, match=message):
        parser.parse(["--config", config(text)])


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_config_that_is_not_there(parser, tmp_path, name):
    message = r"^no config file at .+; the ones that come with the project are in recipes/configs$"
    with pytest.raises(ValueError, match=message):
        parser.parse(["--config", str(tmp_path / name)])


def test_what_a_dataclass_refuses_is_a_value_error(parser):
    with pytest.raises(ValueError, match=r"^depth is 0; give at least 1$"):
        parser.parse(["--depth", "0"])


def test_help_names_every_option_and_exits_with_0(parser, capsys):
    with pytest.raises(SystemExit) as stopped:
        parser.parse(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(word in text for word in ("--config FILE", "--output_dir", "Rate, in %.", "--colour"))


def test_help_keeps_the_lines_of_the_description_and_ends_with_what_is_inherited(capsys):
    with suppress(SystemExit):
        runpy.run_path(str(ROOT / "recipes" / "finetune.py"))["main"](["--help"])
    text = capsys.readouterr().out
    head, ours, theirs = re.split(r"\n\n(?:options|options of transformers' TrainingArguments):\n", text)
    commands = [line for line in head.splitlines() if line.startswith("python recipes/finetune.py ")]
    assert len(commands) == 4 and head.startswith("usage: ") and head.count("\n") == 7
    # A default that is set here makes an option the project's own.
    for name in ("--config FILE", "--max_length", "--lora_r", "--dataset_name", "--learning_rate", "--output_dir"):
        assert f"\n  {name}" in f"\n{ours}" and f"\n  {name}" not in theirs
    assert "--weight_decay" in theirs and "--weight_decay" not in ours
    assert "(default: 512)" in ours


def test_the_usage_names_what_is_not_an_option(capsys):
    with suppress(SystemExit):
        runpy.run_path(str(ROOT / "recipes" / "score.py"))["main"](["--help"])
    assert capsys.readouterr().out.splitlines()[0].endswith(" RUN [options]")


RECIPES = sorted((ROOT / "recipes").glob("*.py"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_every_recipe_says_what_it_can_be_told(recipe, capsys):
    with suppress(SystemExit):
        runpy.run_path(str(recipe))["main"](["--help"])
    assert f"recipes/{recipe.name}" in capsys.readouterr().out


# ---- one line and an exit code ---------------------------------------------------------------------------------------


def ended(main, capsys):
    """Return the exit code and what stands on stderr."""
    with pytest.raises(SystemExit) as stopped:
        run(main)
    out, err = capsys.readouterr()
    assert out == ""
    return stopped.value.code, err


def raising(error):
    def main():
        raise error

    return main


def test_success_is_0_and_silent(capsys):
    assert ended(lambda: "anything", capsys) == (0, "")


def test_ctrl_c_is_130(capsys):
    line = "stopped; what was finished is kept, and the same command goes on from there\n"
    assert ended(raising(KeyboardInterrupt()), capsys) == (130, line)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("depth is 0; give 1"), "error: depth is 0; give 1\n"),
        (ValueError("two\n  lines\r\n\tand\u2028more"), "error: two lines and more\n"),
        (ValueError(""), "error: ValueError\n"),
        (ValueError("a \x1b[31mred\x07 \x00word"), "error: a [31mred word\n"),
        (ValueError("token hf_abcDEF123456 and hf_XYZ987654"), "error: token hf_*** and hf_***\n"),
        (OSError("unreachable"), "error: unreachable\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b.csv"),
            "error: No such file or directory (a/b.csv); free or correct the place named and run the command again\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "error: No space left on device; free or correct the place named and run the command again\n",
        ),
    ],
)
def test_an_expected_error_is_1_and_one_line(capsys, error, line):
    assert ended(raising(error), capsys) == (1, line)


@pytest.mark.parametrize(("asked", "level"), [(None, logging.ERROR), ("info", logging.WARNING)])
def test_transformers_is_quiet_unless_asked(capsys, monkeypatch, asked, level):
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    if asked is not None:
        monkeypatch.setenv("TRANSFORMERS_VERBOSITY", asked)
    assert ended(lambda: None, capsys) == (0, "")
    assert logging.get_verbosity() == level


@pytest.mark.parametrize("error", [RuntimeError("ours"), KeyError("ours"), TypeError("ours")])
def test_a_fault_of_ours_shows_its_traceback(error):
    with pytest.raises(type(error), match="ours"):
        run(raising(error))


def test_usage_errors_keep_their_code(capsys):
    code, err = ended(lambda: ArgumentParser(Output).parse(["--zzzz"]), capsys)
    assert (code, err) == (2, "error: unknown option --zzzz; see --help\n")


def test_one_line():
    assert one_line("  a\n b ") == "a b"
    assert one_line(ValueError("hf_123456, not hf_12345")) == "hf_***, not hf_12345"
    assert one_line(ValueError()) == "ValueError"


def test_importing_it_loads_no_torch():
    command = "import sys, mh_support.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], timeout=60, check=False).returncode == 0
