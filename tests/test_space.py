"""The page that a Space shows: with a bot whose replies are written here, and once as it really starts."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from training_fixtures import one_thread, save_model  # noqa: F401

import mh_support.cli
from mh_support.hub import PublishArguments, space_files
from mh_support.safety import NOTICE, assess, crisis_reply, resources_for
from mh_support.support_bot import ReplyStream, SupportBot

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "space" / "app.py"
CRISIS = "I want to kill myself tonight."


def load_app():
    spec = importlib.util.spec_from_file_location("space_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


app = load_app()


class ScriptedBot:
    """A bot that says what `pieces` holds, and remembers what it was asked and how often its stream was closed."""

    def __init__(self):
        self.start_anew()

    def start_anew(self):
        self.pieces = ["That sounds lonely. ", "What was it like ", "to move?"]
        self.asked = []
        self.streams = []
        self.given = 0
        self.closed = threading.Semaphore(0)

    def stream(self, messages):
        self.asked.append(messages)
        self.streams.append(ReplyStream("model", self._say(self.closed)))  # held, so that no collector closes it
        return self.streams[-1]

    def _say(self, closed):
        try:
            for piece in self.pieces:
                self.given += 1
                yield piece
        finally:
            closed.release()


class NoModel:
    """A model that must not be asked."""

    def eval(self):
        return self

    def generate(self, *args, **kwargs):
        raise AssertionError("the model was asked")


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


@pytest.fixture(scope="module")
def served():
    """A scripted bot and the address of a page that it answers on."""
    bot = ScriptedBot()
    page = app.build(bot)
    page.queue().launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield bot, page.local_url
    page.close()


@pytest.fixture
def bot(served):
    served[0].start_anew()
    return served[0]


@pytest.fixture
def client(served, bot):
    """A new visit to the page."""
    return Client(served[1], verbose=False)


def answer_of(bot, monkeypatch):
    """Return the function that the page calls with a message and the history."""
    found, interface = [], app.gr.ChatInterface
    monkeypatch.setattr(app.gr, "ChatInterface", lambda fn, **options: found.append(fn) or interface(fn, **options))
    app.build(bot)
    return found[0]


# The page


def test_the_notice_stands_on_the_page(served):
    html = httpx.get(served[1]).text
    config = httpx.get(f"{served[1]}config").json()
    assert json.dumps(NOTICE)[1:-1] in html
    (heading,) = [part["props"] for part in config["components"] if part["type"] == "markdown"]
    assert heading["value"] == f"# A small model that listens\n\n{NOTICE}"
    assert heading["visible"] is True
    assert config["title"] == "A small model that listens"


def test_nothing_is_reported_and_nothing_kept(served, tmp_path):
    config = httpx.get(f"{served[1]}config").json()
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert config["analytics_enabled"] is False
    assert not {"flag", "like"} & {target[1] for call in config["dependencies"] for target in call["targets"]}


def test_a_message_has_a_longest_length_and_no_markup_is_run(served):
    config = httpx.get(f"{served[1]}config").json()
    parts = {part["type"]: part["props"] for part in config["components"]}
    assert parts["textbox"]["max_length"] == 4000
    assert parts["chatbot"]["render_markdown"] is False


def test_a_reply_grows_piece_by_piece(client, bot):
    assert list(client.submit("I feel alone.", api_name="/answer")) == [
        "That sounds lonely. ",
        "That sounds lonely. What was it like ",
        "That sounds lonely. What was it like to move?",
    ]
    assert bot.asked == [[user("I feel alone.")]]
    assert bot.closed.acquire(timeout=10)


def test_the_conversation_so_far_goes_along(client, bot):
    for text in ("I feel alone.", "Since May."):
        client.predict(text, api_name="/answer")
    reply = assistant("That sounds lonely. What was it like to move?")
    assert bot.asked == [[user("I feel alone.")], [user("I feel alone."), reply, user("Since May.")]]


def test_visits_know_nothing_of_each_other(served, client, bot):
    client.predict("I feel alone.", api_name="/answer")
    Client(served[1], verbose=False).predict("Hello.", api_name="/answer")
    assert bot.asked[1] == [user("Hello.")]


def parts(text):
    """A message's content as the page sends it."""
    return [{"type": "text", "text": text}]


@pytest.mark.parametrize("form", [str, parts], ids=["strings", "parts"])
def test_history_comes_as_strings_or_as_parts(monkeypatch, form):
    bot = ScriptedBot()
    extra = {"metadata": None, "options": None}
    history = [{**user(form("I feel alone.")), **extra}, {**assistant(form("Since when?")), **extra}]
    assert list(answer_of(bot, monkeypatch)("Since May.", history))[-1] == "".join(bot.pieces)
    assert bot.asked == [[user("I feel alone."), assistant("Since when?"), user("Since May.")]]
    assert [turn["content"] for turn in history] == [form("I feel alone."), form("Since when?")]


@pytest.mark.parametrize("nothing", ["", "  \n"])
def test_enter_on_nothing_asks_nobody(client, bot, nothing):
    assert client.predict(nothing, api_name="/answer") is None
    assert bot.asked == []
    client.predict("I feel alone.", api_name="/answer")
    assert bot.asked == [[user("I feel alone.")]]


def endless(piece):
    while True:
        yield piece


def test_pressing_stop_closes_the_stream(client, bot):
    bot.pieces = endless("and ")
    job = client.submit("I feel alone.", api_name="/answer")
    next(job)
    assert not bot.closed.acquire(blocking=False)
    assert job.cancel()
    assert bot.closed.acquire(timeout=10)
    given = bot.given
    bot.pieces = ["Yes."]
    assert client.predict("Still there?", api_name="/answer") == "Yes."
    assert bot.given == given + 1  # the stopped one said no more


def test_a_closed_answer_closes_the_stream(monkeypatch):
    bot = ScriptedBot()
    bot.pieces = endless("and ")
    stream = answer_of(bot, monkeypatch)("I feel alone.", [])
    assert [next(stream), next(stream)] == ["and ", "and and "]
    stream.close()
    assert bot.closed.acquire(blocking=False)
    assert bot.given == 2


def test_in_a_crisis_the_page_shows_who_can_help_and_the_model_is_not_asked(monkeypatch, tiny_tokenizer):
    bot = SupportBot(NoModel(), tiny_tokenizer, country="GB")
    answer = answer_of(bot, monkeypatch)
    conversation = [user("Hello."), assistant("Hello. What is on your mind?"), user(CRISIS)]
    expected = crisis_reply(assess(conversation), resources_for("GB"), 1)
    assert list(answer(CRISIS, [user(parts("Hello.")), assistant(parts("Hello. What is on your mind?"))])) == [expected]
    assert "116 123" in expected
    # What was said before still counts.
    (again,) = answer("Thanks.", [user(parts(CRISIS)), assistant(parts(expected))])
    assert again == crisis_reply(assess([user(CRISIS), assistant(expected), user("Thanks.")]), resources_for("GB"), 1)


# How it is started


@pytest.fixture
def launched(monkeypatch):
    """What the page was launched with, instead of launching it."""
    calls = []
    monkeypatch.setattr(app.gr.Blocks, "launch", lambda page, **options: calls.append(options))
    return calls


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_tokenizer):
    return save_model(tmp_path_factory.mktemp("model"), tiny_tokenizer, n_positions=256)


def test_it_listens_to_this_machine_only_unless_asked_otherwise(launched, model):
    app.main(["--model", str(model)])
    app.main(["--model", str(model), "--host", "0.0.0.0", "--port", "8123", "--country", "IN"])
    assert launched == [
        {"server_name": None, "server_port": None, "theme": app.THEME},
        {"server_name": "0.0.0.0", "server_port": 8123, "theme": app.THEME},
    ]


def test_a_model_that_is_not_there_is_said_before_anything_is_served(launched):
    with pytest.raises(ValueError, match=r"^no tokenizer can be loaded from \./no-such-model \("):
        app.main(["--model", "./no-such-model"])
    assert launched == []


def test_a_port_that_is_taken_is_said_in_one_line(served, model, capfd):
    port = served[1].rstrip("/").rpartition(":")[2]
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        mh_support.cli.run(lambda: app.main(["--model", str(model), "--port", port]))
    assert ended.value.code == 1
    assert re.search(rf"^error: [^\n]*\b{port}\b[^\n]*\n\Z", capfd.readouterr().err, re.MULTILINE)


def test_the_model_comes_from_the_settings_beside_the_app(monkeypatch, tmp_path):
    assert app.default_model() == "starter"
    monkeypatch.setattr(app, "__file__", str(tmp_path / "app.py"))
    assert app.default_model() == "starter"
    (tmp_path / "settings.json").write_text('{"model_name_or_path": "me/kind"}')
    assert app.default_model() == "me/kind"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_starts_as_a_command_and_answers_and_writes_no_word_of_it_down(model, tmp_path):
    port = free_port()
    command = [sys.executable, str(APP), "--port", str(port), "--model", str(model), "--country", "GB"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, **pipes) as process:
        try:
            printed = []
            for line in process.stdout:
                printed.append(line)
                if "Running on local URL" in line:
                    break
            assert f"http://127.0.0.1:{port}" in "".join(printed), printed
            client = Client(f"http://127.0.0.1:{port}", verbose=False)
            said = "My river letter hurts"
            assert client.predict(said, api_name="/answer").strip()
            conversation = [user(CRISIS)]
            shown = Client(f"http://127.0.0.1:{port}", verbose=False).predict(CRISIS, api_name="/answer")
            assert shown == crisis_reply(assess(conversation), resources_for("GB"), 0)
        finally:
            process.terminate()
        printed.append(process.stdout.read())
    assert said not in "".join(printed) and "kill" not in "".join(printed) and shown[:20] not in "".join(printed)
    assert list(tmp_path.iterdir()) == []


# What a published Space gets


def pins(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


REQUIREMENTS = pins(APP.with_name("requirements.txt"))


def test_it_asks_for_the_versions_that_the_tests_ran_with():
    assert REQUIREMENTS
    assert REQUIREMENTS.items() <= pins(ROOT / "constraints.txt").items()


IMPORT_SCRIPT = """
import json, sys

root, model, crisis = sys.argv[1:]
sys.path = [path for path in sys.path if path != root]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path_hooks = [hook for hook in sys.path_hooks if "editable" not in repr(hook)]
import app
from mh_support.support_bot import SupportBot

bot = SupportBot.from_pretrained(model, max_new_tokens=8)
page = app.build(bot)
replies = [bot.reply([{"role": "user", "content": text}]) for text in ("My river letter hurts", crisis)]
files = sorted(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ("mh_support", "app"))
print(json.dumps({"model": app.default_model(), "replies": replies, "files": files}))
"""


def closure(names):
    """Return distributions with all that they require."""
    found, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        needed = (Requirement(line) for line in requires(name) or [])
        needed = {
            canonicalize_name(one.name) for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})
        }
        waiting |= needed - found
    return found


def imported(path):
    """Return the top-level names that a module imports anywhere, but for those that only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"mh_support"}


def test_the_files_of_a_space_are_enough_to_run_it(model, tmp_path):
    folder = tmp_path / "space"
    for name, content in space_files(PublishArguments(repo="me/kind", space="me/chat")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    command = [sys.executable, "-c", IMPORT_SCRIPT, str(ROOT), str(model), CRISIS]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["model"] == "me/kind"
    assert found["replies"][0].strip()
    assert found["replies"][1] == crisis_reply(assess([user(CRISIS)]), resources_for(None), 0)
    files = [Path(file) for file in found["files"]]
    assert files and all(file.is_relative_to(folder) for file in files)
    # Whatever those files import, now or later, is asked for in requirements.txt, itself or through what is.
    there = closure(REQUIREMENTS)
    owners = packages_distributions()
    names = set().union(*map(imported, files))
    assert {"torch", "transformers", "gradio"} <= names
    assert {
        name: owners.get(name) for name in names if not {*map(canonicalize_name, owners.get(name, []))} & there
    } == {}
