"""Every command and every piece of Python in the README is run, in a folder with a train.csv and the recipes in it."""

from __future__ import annotations

import csv
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What makes a command quick without changing what it does: fewer steps, fewer dialogues.
QUICKER = {
    "recipes/finetune.py": ["--max_steps", "4", "--eval_steps", "4", "--save_steps", "4", "--max_length", "128"],
    "recipes/align.py": [
        *("--simulated_people", "12", "--held_out", "0.5", "--min_ratings", "10"),
        *("--min_people", "3", "--min_held_out_people", "2"),
        *("--max_steps", "2", "--suite_samples", "1", "--suite_tokens", "8", "--n_resamples", "50"),
        *("--measure_bias", "false"),
    ],
    "recipes/score.py": ["--limit", "2", "--max_new_tokens", "16", "--n_resamples", "50"],
}
TOPICS = """
my noisy upstairs neighbour; a driving test on Friday; the garden since the flood; my brother's wedding speech;
a job in another town; the cat that ran off; homework in three languages; a choir that sings too fast;
the bus that never comes; my knee after the fall; a letter from the landlord; the quiet house at night;
my son's first week at school; a friend who stopped calling; the exam in chemistry; an empty fridge on Sunday;
my grandmother's old recipes; the shop that closed; a team that laughs without me; the long way to work
""".replace("\n", " ").split(";")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("recipes", "space", "mh_support"):
        (folder / name).symlink_to(ROOT / name)
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Context", "Response"])
        for topic in map(str.strip, TOPICS):
            rows.writerow(
                [f"All week I keep thinking about {topic}.", f"You keep coming back to {topic}. What weighs most?"]
            )
    return folder


def run(arguments: list[str], folder: Path, said: str = "") -> str:
    finished = subprocess.run(
        [sys.executable, *arguments], cwd=folder, input=said, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    asked = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert asked == ["demo", "test"]
    assert set(asked) <= set(targets)


def test_the_environment_to_activate_is_the_one_they_make() -> None:
    (folder,) = re.findall(r"^VENV +:= (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    place = README.index(f"`source {folder}/bin/activate`")
    assert README.index("make test ") < place < README.index("python recipes/")


@pytest.fixture(scope="module")
def outputs(workplace: Path) -> dict[str, str]:
    """What each command but the app's printed, run in the order given."""
    printed = {}
    for command in COMMANDS:
        arguments = command.split()[1:]
        if command.startswith("python recipes/"):
            said = "I keep thinking about the garden.\n" if arguments[0] == "recipes/chat.py" else ""
            printed[command] = run([*arguments, *QUICKER.get(arguments[0], [])], workplace, said)
    return printed


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [
        ("prepare.py", "questions in more than one split"),
        ("finetune.py", "supervised in [brackets]"),
        ("score.py", "ROUGE-L"),
        ("publish.py", "# kind-gpt2"),
        ("chat.py", "not a human or a therapist"),
        ("rate.py", "who rates must not see rating/key.json"),
        ("align.py", "people to learn from"),
    ],
)
def test_each_command_shows_what_it_is_for(outputs: dict[str, str], recipe: str, shown: str) -> None:
    assert any(shown in printed for command, printed in outputs.items() if recipe in command)


def test_nothing_but_known_commands_stands_in_the_readme() -> None:
    known = ("make ", "python recipes/", "python space/app.py ")
    assert [command for command in COMMANDS if not command.startswith(known)] == []


def test_the_app_answers_on_its_port(workplace: Path, outputs: dict[str, str]) -> None:
    (command,) = [command for command in COMMANDS if command.startswith("python space/app.py")]
    arguments = command.split()[1:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments[arguments.index("--port") + 1] = str(port)
    app = subprocess.Popen([sys.executable, *arguments], cwd=workplace, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert app.poll() is None, "the app ended by itself"
            time.sleep(0.1)
        raise AssertionError("the app did not answer within a minute")
    finally:
        app.terminate()
        app.wait()


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_python_runs(workplace: Path, outputs: dict[str, str], number: int) -> None:
    code = blocks("python")[number].replace('"me/kind-gpt2"', repr(str(workplace / "runs/first/model")))
    run(["-c", code], workplace)


def test_every_file_of_the_tree_is_there() -> None:
    tree = README.split("## Architecture")[1].split("```")[1]
    parents = {0: ROOT}
    for line in filter(str.strip, tree.splitlines()):
        indent = len(line) - len(line.lstrip())
        names = re.split(r"\s{2,}", line.strip())[0].replace(",", "").split()
        for name in names:
            assert (parents[indent] / name).exists(), (
                f"{name} is in the README's tree and not in {parents[indent].name}"
            )
        parents[indent + 2] = parents[indent] / names[0]
