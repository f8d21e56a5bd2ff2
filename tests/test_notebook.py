"""The notebook, run from its first cell to its last by this interpreter, with less to do and without a network.

One run serves all tests here; it takes about a minute.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from mh_support.dialogue import Message
from mh_support.safety import NOTICE, assess, crisis_reply, resources_for

NOTEBOOK = Path(__file__).resolve().parent.parent / "recipes" / "training.ipynb"
LESS = """
import socket

MAX_STEPS = 4
LIMIT = 4
assert socket.socket.connect.__name__ == "connect_locally"  # Or `NO_NETWORK` was not read.
"""
# Read by the kernel when it starts: whatever leads off this machine fails at once, and is written down.
NO_NETWORK = """
import os
import socket

connect, look_up = socket.socket.connect, socket.getaddrinfo


def write_down(address):
    with open(os.environ["ATTEMPTS"], "a") as file:
        print(address, file=file)


def connect_locally(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "localhost"):
        write_down(address)
        raise OSError(101, "Network is unreachable")
    return connect(self, address)


def look_up_locally(host, *args, **kwargs):
    if host not in (None, "", "127.0.0.1", "localhost"):
        write_down(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return look_up(host, *args, **kwargs)


socket.socket.connect, socket.getaddrinfo = connect_locally, look_up_locally
"""


def committed() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def write_kernel(folder: Path, scratch: Path) -> None:
    """Write a kernel named `this`: the interpreter that runs the tests, offline and in one thread."""
    start = folder / "start"
    start.mkdir(parents=True)
    (start / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    kernel = folder / "kernels" / "this"
    kernel.mkdir(parents=True)
    environment = {
        "PYTHONPATH": str(start),
        "ATTEMPTS": str(folder / "attempts"),
        "TMPDIR": str(scratch),
        "HF_HOME": str(folder / "hf"),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": "1",
    }
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "this",
        "language": "python",
        "env": environment,
    }
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("jupyter", "scratch", "workplace")}


@pytest.fixture(scope="module")
def executed(places: dict[str, Path]) -> nbformat.NotebookNode:
    write_kernel(places["jupyter"], places["scratch"])
    notebook = committed()
    (first,) = (number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(first + 1, new_code_cell(LESS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(places["jupyter"]))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(places["jupyter"] / "runtime"))
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="this",
            allow_errors=True,
            resources={"metadata": {"path": str(places["workplace"])}},
        )
        return client.execute()


def cell_named(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    (cell,) = (cell for cell in notebook.cells if cell.id == name)
    return cell


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")


def shown(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    return [out.data[kind] for out in cell.outputs if out.output_type == "display_data" and kind in out.data]


def test_the_committed_notebook_is_clean() -> None:
    notebook = committed()

    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert cell.cell_type in ("markdown", "code")
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
            assert set(cell.metadata) <= {"tags"}
        else:
            assert len(cell.source.split()) <= 120
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.metadata.tags == ["parameters"]
    assert re.findall(r"^(\w+) = (\d+)", first.source, re.MULTILINE) == [("MAX_STEPS", "60"), ("LIMIT", "12")]


def test_it_names_the_epochs_of_the_demo() -> None:
    epochs = yaml.safe_load((NOTEBOOK.parent / "configs" / "demo.yaml").read_text(encoding="utf-8"))["num_train_epochs"]
    word = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")[epochs]

    assert f"`recipes/configs/demo.yaml` trains {word} epochs" in cell_named(committed(), "parameters-text").source


def test_it_says_what_it_is_for_and_where_to_turn() -> None:
    text = committed().cells[0].source

    assert "For research and education" in text
    assert "not a therapist, and never a replacement for professional care" in text
    assert "call your local emergency number" in text


def test_every_cell_runs_without_an_error(executed: nbformat.NotebookNode) -> None:
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    errors = [(cell.id, out.ename, out.evalue) for cell in code for out in cell.outputs if out.output_type == "error"]

    assert errors == []
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_it_writes_to_its_temporary_folder_only(executed: nbformat.NotebookNode, places: dict[str, Path]) -> None:
    assert list(places["workplace"].iterdir()) == []
    (folder,) = (path for path in places["scratch"].iterdir() if path.name.startswith("mh-support-"))
    run = folder / "run"
    assert sorted(path.name for path in folder.iterdir()) == ["plots", "run"]
    assert {"run.json", "results.json", "replies.jsonl", "model", "data", "plots"} <= set(os.listdir(run))
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["training"]["global_step"] == 4
    assert record["base_model"]["name_or_path"] == "starter"


def test_the_report_accounts_for_every_row(executed: nbformat.NotebookNode) -> None:
    report = printed(cell_named(executed, "prepare"))

    assert re.search(r"^rows read +626$", report, re.MULTILINE)
    assert re.search(r"^  kept +597$", report, re.MULTILINE)
    assert re.search(r"^questions in more than one split +0$", report, re.MULTILINE)


def test_the_pictures_are_displayed(executed: nbformat.NotebookNode) -> None:
    pictures = {cell.id: shown(cell, "image/png") for cell in executed.cells if cell.cell_type == "code"}

    assert {name: len(found) for name, found in pictures.items() if found} == {
        "words": 2,
        "loss": 1,
        "score-plots": 2,
    }
    everything = [base64.b64decode(picture) for found in pictures.values() for picture in found]
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 10_000 for picture in everything)
    assert len(set(everything)) == 5


def test_the_dry_run_shows_rows_as_encoded_and_trains_nothing(executed: nbformat.NotebookNode) -> None:
    text = printed(cell_named(executed, "dry-run"))

    assert re.search(r"^model +starter, full$", text, re.MULTILINE)
    assert re.search(r"^rows +466 from 466 dialogues", text, re.MULTILINE)
    assert re.search(r"^steps +4, evaluated and saved every 1$", text, re.MULTILINE)
    rows = text.split("what is supervised in [brackets]:\n\n")[1].strip().split("\n\n")
    assert len(rows) == 3
    for row in rows:
        assert re.fullmatch(r"(?:[^\[\]]+<\|endoftext\|>\[[^\[\]]+<\|endoftext\|>\])+", row)


def test_base_and_tuned_stand_side_by_side(executed: nbformat.NotebookNode, places: dict[str, Path]) -> None:
    table = printed(cell_named(executed, "score"))
    (replies,) = shown(cell_named(executed, "replies"), "text/markdown")
    (run,) = places["scratch"].glob("mh-support-*/run")
    written = [json.loads(line) for line in (run / "replies.jsonl").read_text(encoding="utf-8").splitlines()]
    test = [row for row in written if row["split"] == "test"]
    opening = [row for row in test if len(row["context"]) == 1]
    calm = [row for row in opening if not assess(row["context"]).is_crisis]

    assert re.match(rf"test, {len(test)} replies +Base model +Fine-tuned +Constant reply", table)
    assert all(f"\n{name}  " in table for name in ("Perplexity", "ROUGE-L", "BLEU-4", "Distinct-2"))
    assert len(opening) == 4
    head, rule, *lines = replies.splitlines()
    assert (head, rule) == ("| What the person said | Base model | Tuned model |", "| --- | --- | --- |")
    assert len(lines) == len(calm) > 0
    for line, row in zip(lines, calm, strict=True):
        cells = [row["context"][0]["content"], row["replies"]["base"], row["replies"]["tuned"]]
        plain = [" ".join(text.split()).replace("|", "\\|").replace("<", "&lt;") for text in cells]
        assert line == "| " + " | ".join(plain) + " |"


def test_the_card_is_shown(executed: nbformat.NotebookNode) -> None:
    cell = cell_named(executed, "card")
    (card,) = shown(cell, "text/markdown")

    assert "library_name: transformers" in printed(cell)
    assert card.strip().startswith("# kind-starter")
    assert "It is not a human and not a therapist" in " ".join(card.replace(">", " ").split())
    assert "findahelpline.com" in card


def test_it_talks_through_the_bot(executed: nbformat.NotebookNode) -> None:
    text = printed(cell_named(executed, "talk"))

    assert text.startswith(f"{NOTICE}\n\nyou: I moved here for work")
    assert len(re.findall(r"^bot: \S", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^\[(?:model|safe)\]$", text, re.MULTILINE)) == 2


def test_it_ends_with_the_notice_and_people_who_can_help(executed: nbformat.NotebookNode) -> None:
    last = executed.cells[-1]
    said = "I do not want to be alive anymore."
    messages: list[Message] = [{"role": "user", "content": said}]
    reply = crisis_reply(assess(messages), resources_for("GB"), 0)

    assert last.id == "crisis"
    assert printed(last) == f"{NOTICE}\n\nyou: {said}\nbot: {reply}\n[crisis]\n\n"
    assert "116 123" in reply and "999" in reply


def test_nothing_is_fetched(executed: nbformat.NotebookNode, places: dict[str, Path]) -> None:
    attempts = places["jupyter"] / "attempts"

    assert not attempts.exists(), attempts.read_text()
