"""The server that a Space runs: with a bot whose replies are written here, and once as it really starts."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import wave
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from importlib.metadata import metadata, requires
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
import torch
import yaml
from gradio_client import Client
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from imports import imported, undeclared
from load_page import Figures, from_queue
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from openai import AuthenticationError, OpenAI
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from page_fixtures import CRISIS, PIECES, REPLY, ScriptedBot, assistant, serving, until, user  # noqa: F401
from training_fixtures import one_thread, save_model  # noqa: F401

import mh_support.chat_page.replies
import mh_support.chat_page.server
import mh_support.cli
from mh_support.card import render_space_readme
from mh_support.chat_page import build_server, launch
from mh_support.chat_page.texts import CONSENT, crisis_message, languages
from mh_support.feedback import FeedbackStore, read_feedback
from mh_support.hub import PublishArguments, space_files
from mh_support.modeling import load_model
from mh_support.safety import NOTICE, assess, crisis_reply, resources_for
from mh_support.safety.classifier import crisis_classifier
from mh_support.safety.trust import FEWEST, Trust
from mh_support.support_bot import SupportBot
from mh_support.translation import Untranslatable

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "space" / "app.py"
PAGE = ROOT / "mh_support" / "chat_page"


def load_app():
    spec = importlib.util.spec_from_file_location("space_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


app = load_app()


class NoModel:
    """A model that must not be asked."""

    config = SimpleNamespace(max_position_embeddings=256)

    def eval(self):
        return self

    def generate(self, *args, **kwargs):
        raise AssertionError("the model was asked")


@pytest.fixture(scope="module")
def served(serve, tiny_tokenizer):
    """A function that makes the served bot anew, and the address of its page."""
    bot = ScriptedBot(tiny_tokenizer)
    server, address = serve(bot)

    def anew():
        bot.__init__(tiny_tokenizer)
        return bot

    return anew, address, server


@pytest.fixture
def bot(served):
    return served[0]()


@pytest.fixture
def address(served):
    return served[1]


@pytest.fixture
def client(address, bot):
    """A new visit to the page."""
    return Client(address, verbose=False)


def ask(client, *messages, **settings):
    return client.predict(list(messages), api_name="/chat", **settings)


def answer_of(bot):
    """Return the function that the queue calls with a conversation."""
    ((chat, _),) = build_server(bot)._deferred_apis
    return chat


# The page


def test_the_notice_stands_on_the_page_before_any_script_runs(address):
    html = httpx.get(address).text
    assert f'<p id="notice" role="note" data-text="notice">{NOTICE}</p>' in html
    assert "<title>A small model that listens</title>" in html
    assert '<html lang="en" dir="ltr">' in html
    assert "findahelpline.com" in html[html.index("<noscript>") : html.index("</noscript>")]


def test_a_look_at_the_head_alone_finds_the_page(address):
    answer = httpx.head(address)
    assert (answer.status_code, answer.headers["referrer-policy"]) == (200, "no-referrer")


@pytest.mark.parametrize(
    ("asked", "query", "language", "direction"),
    [
        ("es-MX,es;q=0.9,en;q=0.8", "", "es", "ltr"),
        ("xx, ar;q=0.5", "", "ar", "rtl"),
        ("xx", "", "en", "ltr"),
        ("fr", "?lang=de", "de", "ltr"),
        ("fr", "?lang=xx", "en", "ltr"),
    ],
)
def test_the_page_comes_in_the_language_that_the_browser_asks_for(address, asked, query, language, direction):
    html = httpx.get(f"{address}{query}", headers={"Accept-Language": asked}).text
    assert f'<html lang="{language}" dir="{direction}">' in html
    assert languages()[language]["notice"] in html


def test_the_browser_is_told_to_let_nothing_leave_the_server(address):
    headers = httpx.get(address).headers
    assert headers["content-security-policy"] == (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; object-src 'none'; "
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
    )
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers


def test_nothing_is_reported_and_nothing_kept(address):
    config = httpx.get(f"{address}config").json()
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert config["analytics_enabled"] is False
    assert config.get("run_history") in (None, False)


def test_what_a_script_is_told_cannot_end_the_script(serve, tiny_tokenizer, monkeypatch):
    bot = ScriptedBot(tiny_tokenizer)
    bot.resources = SimpleNamespace(country="</script><script>alert(1)</script>")
    html = httpx.get(serve(bot)[1]).text
    assert "alert(1)" in html and "<script>alert" not in html


@pytest.mark.parametrize(
    "path",
    [
        *("page/../../setup.cfg", "page/..%2f..%2fsetup.cfg", "page/texts/..%2fen", "page/server.py"),
        *("gradio_api/file=/etc/passwd", "gradio_api/file=setup.cfg", "gradio_api/proxy=http://127.0.0.1/", "file/x"),
        *(
            "gradio_api/upload_progress?upload_id=x",
            "monitoring",
            "runs",
            "docs",
            "openapi.json",
            "voice",
            "ratings/code",
        ),
        *("gradio_api//file=/etc/passwd", "%2e%2e/setup.cfg", "static/../../etc/passwd", "assets/index.js"),
    ],
)
def test_paths_lead_to_nothing_but_the_page(address, path):
    # httpx tidies dots out of a path; a hostile client would not.
    host, _, port = address.removeprefix("http://").rstrip("/").partition(":")
    connection = HTTPConnection(host, int(port))
    connection.request("GET", f"/{path}")
    answer = connection.getresponse()
    assert answer.status == 404
    assert len(answer.read()) < 100


def test_nothing_can_be_uploaded(address):
    answer = httpx.post(f"{address}gradio_api/upload", files={"files": b"x"})
    assert (answer.status_code, answer.json()) == (404, {"error": "there is nothing here; the page is at /"})


def test_too_much_is_refused_before_it_is_read(address):
    answer = httpx.post(f"{address}gradio_api/queue/join", content=b"x" * 2_500_001)
    assert (answer.status_code, answer.json()) == (
        413,
        {"error": "the request holds 2500001 bytes; the most is 2500000: send less"},
    )
    answer = httpx.post(f"{address}gradio_api/queue/join", content=iter([b"x" * 100]))
    assert (answer.status_code, answer.json()) == (
        411,
        {"error": "the request does not say how long it is; send a Content-Length"},
    )


# A conversation


def test_a_reply_grows_piece_by_piece(client, bot):
    said = list(client.submit([user("I feel alone.")], api_name="/chat"))
    expected = ["That sounds lonely. ", "That sounds lonely. What was it like ", REPLY]
    assert said == [{"kind": "model", "text": text, "proof": ""} for text in expected]
    assert bot.asked == [[user("I feel alone.")]]
    assert bot.closed.acquire(timeout=10)


def test_the_conversation_so_far_goes_along(client, bot):
    conversation = [user("I feel alone."), assistant("Since when?"), user("Since May.")]
    ask(client, *conversation)
    assert bot.asked == [conversation]


def test_visits_know_nothing_of_each_other(address, client, bot):
    ask(client, user("I feel alone."))
    ask(Client(address, verbose=False), user("Hello."))
    assert bot.asked == [[user("I feel alone.")], [user("Hello.")]]


def test_settings_hold_for_one_request(client, bot):
    ask(client, user("Hello."), temperature=0.3, length=40, country="gb")
    ask(client, user("Hello."))
    assert bot.settings == [(0.3, 40, "GB"), (0.7, 128, None)]
    assert (bot.config.temperature, bot.resources.country) == (0.7, None)


@pytest.mark.parametrize(
    ("messages", "settings", "said"),
    [
        ([user("x" * 4001)], {}, "a message has 4001 characters; the most is 4000: send it in parts"),
        (
            [user("x" * 4000)] * 3,
            {},
            "one speaker's messages in a row have 12002 characters; the most is 8000: start a new conversation",
        ),
        ([user("x")] * 401, {}, "the conversation has 401 messages; the most is 400: start a new one"),
        ([user(" \n")], {}, "the conversation does not end with something the person said; add a user message"),
        (
            [{"role": "root", "content": "x"}],
            {},
            "a message has the role 'root'; the roles are system, user and assistant",
        ),
        ([user("x")], {"temperature": 9}, "temperature is 9; it is between 0.1 and 1.5"),
        ([user("x")], {"length": 129}, "length is 129; it is between 8 and 128"),
        ([user("x")], {"language": "xx"}, f"language is 'xx'; it is one of {', '.join(languages())}"),
        ([user("x")], {"country": "XX"}, "country is 'XX', which has no services in the table; give one of AT, AU, "),
    ],
)
def test_what_is_out_of_bounds_is_said_in_one_line(tiny_tokenizer, messages, settings, said):
    bot = ScriptedBot(tiny_tokenizer)
    bot.stream = lambda conversation, config: SupportBot.stream(bot, conversation)
    with pytest.raises(gr.Error, match=rf"^['\"]{re.escape(said)}"):
        next(answer_of(bot)(messages, **settings))


def test_a_message_as_long_as_the_page_takes_is_answered_after_another_too(tiny_tokenizer):
    bot = ScriptedBot(tiny_tokenizer)
    list(answer_of(bot)([user("Hello."), assistant("Hello."), user("a" * 3990 + " " * 20), user("b" * 4000)]))
    assert bot.asked == [[user("Hello."), assistant("Hello."), user("a" * 3990 + "\n" + "b" * 4000)]]


def test_a_megabyte_and_ten_thousand_turns_are_answered_and_the_next_person_is_served(client, bot):
    with pytest.raises(AppError, match=r"a message has 1000000 characters; the most is 4000: send it in parts"):
        ask(client, user("x" * 1_000_000))
    with pytest.raises(AppError, match=r"the conversation has 10000 messages; the most is 400: start a new one"):
        ask(client, *[user("x"), assistant("y")] * 5_000)
    assert ask(client, user("Hello."))["text"] == REPLY
    assert bot.asked == [[user("Hello.")]]


def test_control_characters_and_halves_of_characters_do_not_reach_the_model(tiny_tokenizer):
    bot = ScriptedBot(tiny_tokenizer)
    list(answer_of(bot)([user("a\x00b\x1b[31mc\ud83d \u200fd\n\te\x85")]))
    assert bot.asked == [[user("ab[31mc? \u200fd\n\te")]]


def test_content_comes_as_a_string_or_as_parts(tiny_tokenizer):
    bot = ScriptedBot(tiny_tokenizer)
    list(answer_of(bot)([user([{"type": "text", "text": "I feel alone."}])]))
    assert bot.asked == [[user("I feel alone.")]]


def endless(piece):
    while True:
        yield piece


def test_pressing_stop_closes_the_stream(client, bot):
    bot.script["pieces"] = endless("and ")
    job = client.submit([user("I feel alone.")], api_name="/chat")
    next(job)
    assert not bot.closed.acquire(blocking=False)
    assert job.cancel()
    assert bot.closed.acquire(timeout=10)
    given = len(bot.given)
    bot.say("Yes.")
    assert ask(client, user("Still there?"))["text"] == "Yes."
    assert len(bot.given) == given + 1  # the stopped one said no more


def test_a_closed_answer_closes_the_stream(tiny_tokenizer):
    bot = ScriptedBot(tiny_tokenizer)
    bot.script["pieces"] = endless("and ")
    stream = answer_of(bot)([user("I feel alone.")])
    assert [next(stream)["text"], next(stream)["text"]] == ["and ", "and and "]
    stream.close()
    assert bot.closed.acquire(blocking=False)
    assert len(bot.given) == 2


def test_in_a_crisis_who_can_help_is_named_and_the_model_is_not_asked(tiny_tokenizer):
    answer = answer_of(SupportBot(NoModel(), tiny_tokenizer, country="GB"))
    conversation = [user("Hello."), assistant("Hello. What is on your mind?"), user(CRISIS)]
    expected = crisis_reply(assess(conversation), resources_for("GB"), 1)
    assert list(answer(conversation)) == [{"kind": "crisis", "text": expected, "proof": ""}]
    assert "116 123" in expected
    # What was said before still counts, and the country can be another.
    conversation = [user(CRISIS), assistant(expected), user("Thanks.")]
    (again,) = answer(conversation, country="US")
    assert again["text"] == crisis_reply(assess(conversation), resources_for("US"), 1)
    assert "988" in again["text"]


def test_a_crisis_is_answered_past_the_queue(address, bot):
    conversation = [user("Hello."), assistant("Hello. What is on your mind?"), user(CRISIS)]
    answer = httpx.post(f"{address}crisis", json={"messages": conversation, "country": "GB"}, timeout=60)
    expected = crisis_reply(assess(conversation), resources_for("GB"), 1)
    assert answer.json() == {"kind": "crisis", "text": expected, "proof": ""}
    answer = httpx.post(f"{address}crisis", json={"messages": conversation, "country": "AT", "language": "de"})
    assert answer.json()["text"] == crisis_message("de", resources_for("AT"))
    answer = httpx.post(f"{address}crisis", json={"messages": conversation[:1]})
    assert answer.json() == {"kind": "none", "text": "", "proof": ""}
    assert bot.given == []
    answer = httpx.post(f"{address}crisis", json={"messages": [user("x" * 9000)]})
    said = {"error": "a message has 9000 characters; the most is 4000: send it in parts"}
    assert (answer.status_code, answer.json()) == (422, said)
    answer = httpx.post(f"{address}crisis", json={"messages": [{"role": "user"}]})
    said = {"error": "a message lacks role or content; each must be {'role': 'user', 'content': 'text'}"}
    assert (answer.status_code, answer.json()) == (422, said)


@pytest.mark.parametrize(
    "conversation",
    [
        [user(f"{CRISIS} {'It rained. ' * 1000}")],
        [user(f"{'It rained. ' * 1000} {CRISIS}")],
        [user("It rained."), {"role": "assistant", "content": "I hear you."}] * 201 + [user(CRISIS)],
        [user("It rained. " * 300), user("And then it snowed. " * 300), user(CRISIS)],
        [user("x")] * 401 + [user(CRISIS), assistant("Are you thinking of killing yourself?"), user("Yes, tonight.")],
        [user(CRISIS), *[user("x" * 3000)] * 3],
    ],
    ids=["begins", "ends", "many messages", "in a row", "said before", "said before much"],
)
def test_a_crisis_is_answered_though_too_much_was_written_for_a_reply(serve, tiny_tokenizer, conversation):
    _, address = serve(ScriptedBot(tiny_tokenizer, country="GB"))
    answer = httpx.post(f"{address}crisis", json={"messages": conversation, "country": "GB"})
    assert (answer.status_code, answer.json()["kind"]) == (200, "crisis")
    assert "116 123" in answer.json()["text"]


def test_in_a_crisis_another_language_has_its_own_words(tiny_tokenizer):
    (said,) = answer_of(SupportBot(NoModel(), tiny_tokenizer))([user(CRISIS)], language="de", country="AT")
    assert said == {"kind": "crisis", "text": crisis_message("de", resources_for("AT")), "proof": ""}
    assert "Telefonseelsorge: 142" in said["text"] and "findahelpline.com" in said["text"]


class Phrasebook:
    """A translator that knows two sentences."""

    pairs = (("Me siento solo.", "I feel alone."), ("¿Desde cuándo?", "Since when?"))

    def to_english(self, text):
        for spanish, english in self.pairs:
            if text == spanish:
                return english
        raise Untranslatable("not in the book")

    def from_english(self, text):
        return next(spanish for spanish, english in self.pairs if text == english)


def test_who_chooses_a_translated_language_is_answered_in_it(tiny_tokenizer, tmp_path):
    bot = ScriptedBot(tiny_tokenizer, country="ES")
    bot.say("Since when?")
    store = FeedbackStore(tmp_path, model={"name": "scripted", "fingerprint": None}, consent=CONSENT)
    ((answer, _),) = build_server(bot, translators={"es": Phrasebook()}, feedback=store)._deferred_apis
    # No proof: a crisis in Spanish may have passed unseen, so that nothing of it may be kept.
    assert list(answer([user("Me siento solo.")], language="es")) == [
        {"kind": "model", "text": "¿Desde cuándo?", "proof": ""}
    ]
    assert bot.asked[-1] == [user("I feel alone.")]
    (said,) = answer([user("Otra cosa.")], language="es")
    assert (said["kind"], said["proof"]) == ("untranslated", "")
    assert said["text"].startswith("Lo que escribiste no se pudo traducir") and "llama ahora al 112;" in said["text"]
    (said,) = answer([user(CRISIS)], language="es")
    assert said == {"kind": "crisis", "text": crisis_message("es", resources_for("ES")), "proof": ""}
    assert len(bot.given) == 1


def test_whoever_comes_when_the_queue_is_full_is_told_so(serve, tiny_tokenizer):
    bot = ScriptedBot(tiny_tokenizer)
    bot.say("One. ", None, "Two.")
    server, address = serve(bot, concurrency=1)
    server.get_blocks()._queue.max_size = 2
    clients = [Client(address, verbose=False) for _ in range(4)]
    first = clients[0].submit([user("Hello.")], api_name="/chat")
    next(first)
    waiting = [client.submit([user("Hello.")], api_name="/chat") for client in clients[1:3]]
    until(lambda: len(server.get_blocks()._queue) == 2)
    with pytest.raises(QueueError, match=r"^Queue is full! Please try again\.$"):
        ask(clients[3], user("Hello."))
    for _ in range(10):
        bot.go_on.release()
    assert first.result(timeout=20)["text"] == "One. Two."
    assert all(job.result(timeout=20)["text"] == "One. Two." for job in waiting)


# Flooding


def echo(bot, gate):
    """Let the bot say back what it was told, once `gate` is open."""
    bot.script["pieces"] = lambda messages: (f"You said {messages[-1]['content']}." for _ in [gate.wait(60)])


def test_a_flood_from_one_is_bounded_and_the_page_and_help_are_still_there(serve, tiny_tokenizer):
    bot, gate = ScriptedBot(tiny_tokenizer, country="GB"), threading.Event()
    echo(bot, gate)
    server, address = serve(bot, concurrency=1)
    queue = server.get_blocks()._queue
    queue.max_size = 10
    join = {"data": [[user("flood")], 0.7, 128, "", "en"], "fn_index": 0, "session_hash": "one"}
    with httpx.Client(base_url=address, timeout=60) as http:
        answers = [http.post("gradio_api/queue/join", json=join) for _ in range(40)]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert 29 <= len(refused) <= 30  # The first may have been taken on already.
        assert {(answer.status_code, answer.json()["detail"]) for answer in refused} == {
            (503, "Queue is full. Max size is 10 and size is 10.")
        }
        assert http.get("/").status_code == 200
        urgent = http.post("crisis", json={"messages": [user(CRISIS)], "country": "GB"}).json()
        assert urgent["text"] == crisis_reply(assess([user(CRISIS)]), resources_for("GB"), 0)
    gate.set()
    until(lambda: len(queue) == 0)
    assert ask(Client(address, verbose=False), user("river"))["text"] == "You said river."


def test_of_a_flood_from_many_each_gets_their_own_reply_or_is_sent_back(serve, tiny_tokenizer):
    bot, gate = ScriptedBot(tiny_tokenizer), threading.Event()
    echo(bot, gate)
    server, address = serve(bot, concurrency=2)
    server.get_blocks()._queue.max_size = 10
    refused, replies = [], {}

    async def person(http, number):
        data = [[user(f"word {number}")], 0.7, 128, "", "en"]
        try:
            async for text in from_queue(http, data, Figures()):
                replies[number] = text
        except httpx.HTTPStatusError as error:
            refused.append(error.response.status_code)
            if len(refused) >= 18:
                gate.set()

    async def everyone():
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=httpx.Limits(max_connections=60)) as http:
            await asyncio.gather(*(person(http, number) for number in range(30)))

    asyncio.run(everyone())
    assert set(refused) == {503} and 10 <= len(replies) <= 12 and len(refused) + len(replies) == 30
    assert replies == {number: f"You said word {number}." for number in replies}


def test_a_flood_of_checks_for_a_crisis_leaves_the_page_its_threads(serve, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(mh_support.chat_page.replies, "MAX_CHECKS", 20)
    bot, gate, begun = ScriptedBot(tiny_tokenizer), threading.Event(), threading.Semaphore(0)
    stream = bot.stream

    def slowly(messages, **options):
        begun.release()
        assert gate.wait(300)
        return stream(messages, **options)

    bot.stream = slowly
    _, address = serve(bot)
    asked, many = {"messages": [user("Hello.")]}, httpx.Limits(max_connections=31)
    with httpx.Client(base_url=address, timeout=300, limits=many) as http, ThreadPoolExecutor(30) as people:
        checks = [people.submit(http.post, "crisis", json=asked) for _ in range(30)]
        until(lambda: sum(check.done() for check in checks) == 6, 200)
        assert [begun.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]
        assert http.get("/").status_code == 200
        gate.set()
        answers = [check.result() for check in checks]
    assert sorted(answer.status_code for answer in answers) == [200] * 24 + [503] * 6
    assert {answer.text for answer in answers if answer.status_code == 503} == {
        '{"error":"too many conversations at once; try again in a minute"}'
    }


def test_a_session_is_forgotten_when_it_is_over(served, client, bot):
    """Gradio keeps ten thousand sessions, and takes each request for one; only some may be held at a time."""
    for _ in range(3):
        ask(client, user("I feel alone."))
    blocks = served[2].get_blocks()
    assert blocks.state_session_capacity == 100
    assert len(blocks._queue.event_analytics) <= 1


# Ratings and recordings


@pytest.fixture(scope="module")
def rated(serve, tiny_tokenizer, tmp_path_factory):
    """The address of a page that keeps ratings, with the folder that it keeps them in."""
    folder = tmp_path_factory.mktemp("feedback")
    store = FeedbackStore(folder, model={"name": "scripted", "fingerprint": None}, consent=CONSENT)
    transcriber = SimpleNamespace(transcribe=lambda audio: f"{len(audio[1])} samples at {audio[0]}")
    return serve(ScriptedBot(tiny_tokenizer), feedback=store, transcriber=transcriber)[1], folder


@pytest.fixture
def thumb(rated):
    """A rating that would be kept."""
    reply = ask(Client(rated[0], verbose=False), user("I feel alone."))
    assert (reply["text"], len(reply["proof"])) == (REPLY, 64)
    code = httpx.post(f"{rated[0]}ratings/code").json()["code"]
    said = {"messages": [user("I feel alone.")], "reply": REPLY, "proof": reply["proof"], "up": True}
    return {"code": code, "consent": CONSENT, **said}


def test_a_rating_is_kept_until_its_code_deletes_it(rated, thumb):
    answer = httpx.post(f"{rated[0]}ratings/thumb", json=thumb)
    assert (answer.status_code, answer.json()) == (200, {"kept": True})
    (record,) = read_feedback(rated[1])
    assert (record["reply"], record["up"], record["consent"]) == (REPLY, True, CONSENT)
    delete = {"code": thumb["code"]}
    assert httpx.post(f"{rated[0]}ratings/delete", json=delete).json() == {"deleted": 1}
    assert httpx.post(f"{rated[0]}ratings/delete", json=delete).json() == {"deleted": 0}
    assert read_feedback(rated[1]) == []


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"consent": "yes"}, 403, "the consent is to another text; agree to the one on the page"),
        ({"reply": "Never said."}, 422, None),
        ({"messages": [user("Never written.")]}, 422, None),
        ({"proof": "0" * 64}, 422, None),
        ({"code": "short"}, 422, None),
        ({"messages": [user("x" * 9000)]}, 422, "a message has 9000 characters; the most is 4000: send it in parts"),
        ({"messages": [user("x")] * 401}, 422, "the conversation has 401 messages; the most is 400: start a new one"),
        ({"person": "somebody else"}, 422, None),
        ({"up": {"$gt": 1}}, 422, None),
    ],
)
def test_what_is_forged_or_too_much_is_not_kept(rated, thumb, change, status, said):
    answer = httpx.post(f"{rated[0]}ratings/thumb", json={**thumb, **change})
    assert answer.status_code == status
    assert said is None or answer.json() == {"error": said}
    assert read_feedback(rated[1]) == []


def test_a_page_that_keeps_no_ratings_has_no_way_to_send_them(address):
    assert httpx.post(f"{address}ratings/code").status_code == 404
    assert 'id="settings-data">' in httpx.get(address).text
    assert '"consent": null' in httpx.get(address).text


def recording(channels=1, width=2, rate=16_000, frames=b"\0\0" * 800):
    held = io.BytesIO()
    with wave.open(held, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(frames)
    return held.getvalue()


BROKEN = {"error": "the recording is not a WAV file that can be read; record it again"}


@pytest.mark.parametrize(
    ("sound", "status", "said"),
    [
        (recording(), 200, {"text": "800 samples at 16000"}),
        (recording()[:300], 200, {"text": "128 samples at 16000"}),
        (b"", 422, {"error": "the recording is not a WAV file that can be read; record it again"}),
        (
            b"RIFF\xff\xff\xff\xffWAVEfmt ",
            422,
            {"error": "the recording is not a WAV file that can be read; record it again"},
        ),
        (b"OggS" * 50, 422, {"error": "the recording is not a WAV file that can be read; record it again"}),
        (recording(2), 422, {"error": "the recording holds 2 x 16 bits a sample; send one channel of 16 bits"}),
        (recording(1, 1), 422, {"error": "the recording holds 1 x 8 bits a sample; send one channel of 16 bits"}),
        (
            recording(rate=8_000, frames=b"\0\0" * 8_000 * 70),
            422,
            {"error": "the recording is longer than 60 seconds; say it in parts"},
        ),
        (
            recording()[:24] + bytes(4) + recording()[28:],  # No samples a second, and so without end.
            422,
            {"error": "the recording is longer than 60 seconds; say it in parts"},
        ),
    ],
)
def test_a_recording_is_written_down_or_refused_in_one_line(rated, sound, status, said):
    answer = httpx.post(f"{rated[0]}voice", content=sound)
    assert (answer.status_code, answer.json()) == (status, said)


def test_on_a_space_with_zero_gpu_the_chat_asks_for_one(tiny_tokenizer, tmp_path, monkeypatch):
    (tmp_path / "spaces.py").write_text(
        "asked = []\n\ndef GPU(function):\n    asked.append(function)\n    return function\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "spaces", raising=False)
    answer = answer_of(ScriptedBot(tiny_tokenizer))
    assert sys.modules.pop("spaces").asked == [answer]


def test_of_many_recordings_at_once_the_last_are_sent_back(serve, tiny_tokenizer):
    go_on = threading.Event()
    held = SimpleNamespace(transcribe=lambda audio: go_on.wait(60) and "words")
    _, address = serve(ScriptedBot(tiny_tokenizer), transcriber=held)
    with ThreadPoolExecutor(20) as people:
        asked = [people.submit(httpx.post, f"{address}voice", content=recording(), timeout=60) for _ in range(20)]
        until(lambda: sum(one.done() for one in asked) == 12)
        assert httpx.get(address).status_code == 200
        go_on.set()
        answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [200] * 8 + [503] * 12
    assert {answer.text for answer in answers if answer.status_code == 503} == {
        '{"error":"too many recordings at once; try again in a minute"}'
    }


# How it is started


@pytest.fixture
def launched(monkeypatch):
    """What the page was launched with, instead of launching it."""
    calls = []
    monkeypatch.setattr(app, "launch", lambda server, **options: calls.append(options))
    return calls


@pytest.fixture(autouse=True)
def no_trial(monkeypatch):
    """Models with random weights write noise, of which the check refuses too much."""
    monkeypatch.setenv("TRIAL", "0")


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_tokenizer):
    return save_model(tmp_path_factory.mktemp("model"), tiny_tokenizer, n_positions=256)


def test_it_listens_to_this_machine_only_unless_asked_otherwise(launched, model):
    app.main(["--model", str(model)])
    app.main(["--model", str(model), "--host", "0.0.0.0", "--port", "8123", "--country", "IN"])
    assert launched == [
        {"host": None, "port": None, "mcp": False},
        {"host": "0.0.0.0", "port": 8123, "mcp": False},
    ]


def test_a_model_that_the_check_refuses_too_often_is_not_served(launched, model, monkeypatch, capsys):
    asked = []
    refused = False

    def try_out(bot, conversations):
        asked.append(len(conversations))
        trial = Trust()
        for _ in conversations:
            trial.add(refused=refused)
        return trial

    monkeypatch.setattr(app.SupportBot, "try_out", try_out)
    app.main(["--model", str(model), "--trial", "20"])
    assert asked == [20]
    assert "20 messages\nthe check: 0 of the last 20 drafts refused\n" in capsys.readouterr().out
    app.main(["--model", str(model)])
    assert asked == [20] and len(launched) == 2
    refused = True
    with pytest.raises(ValueError, match=r"^the check refuses too much of what model[0-9]* writes \(16 of the last 16"):
        app.main(["--model", str(model), "--trial", "16"])
    assert len(launched) == 2


def test_by_default_there_is_a_trial(monkeypatch):
    monkeypatch.delenv("TRIAL")
    assert app.parser().parse_args([]).trial == app.TRIAL >= FEWEST


@pytest.mark.parametrize("trial", ["-1", "1", "15"])
def test_a_trial_of_too_few_replies_to_tell_is_said_before_anything_is_loaded(trial):
    with pytest.raises(ValueError, match=rf"^--trial is {trial}; give 16 replies or more, or 0 for none$"):
        app.main(["--model", "./no-such-model", "--trial", trial])


def test_a_crisis_model_joins_ours_and_replies_are_counted(monkeypatch, launched, model, tmp_path):
    bots, asked = [], []
    load = SupportBot.from_pretrained
    monkeypatch.setattr(app.SupportBot, "from_pretrained", lambda *a, **k: bots.append(load(*a, **k)) or bots[-1])
    monkeypatch.setattr(app.HubClassifier, "from_pretrained", lambda *a: asked.append(a) or "theirs")
    counts = tmp_path / "counts.json"
    flags = ["--crisis_model", "me/crisis", "--crisis_labels", "LABEL_1=suicide", "LABEL_2=self-harm"]
    app.main(["--model", str(model), "--counts", str(counts), *flags])
    # Up to sixteen people are answered from one batch.
    assert (bots[0].batcher.model is bots[0].model, bots[0].batcher.at_once) == (True, 16)
    assert bots[0].classifiers == [crisis_classifier(), "theirs"] and bots[0].counts.path == counts
    assert asked == [("me/crisis", {"LABEL_1": "suicide", "LABEL_2": "self-harm"})]
    with pytest.raises(ValueError, match=r"^--crisis_labels are of a model; name it with --crisis_model$"):
        app.main(["--model", str(model), "--crisis_labels", "LABEL_1=suicide"])


@pytest.mark.parametrize("label", ["suicide", "=suicide", "LABEL_1=", "LABEL_1:suicide"])
def test_a_label_that_cannot_be_understood_is_said(label):
    with pytest.raises(ValueError, match=rf"^--crisis_labels {label} is not LABEL=CATEGORY; give such as LABEL_1"):
        app.classifiers("me/crisis", ["LABEL_2=abuse", label])


def test_a_spaces_labels_are_parted_by_commas(monkeypatch):
    asked = []
    monkeypatch.setattr(app.HubClassifier, "from_pretrained", lambda *given: asked.append(given))
    monkeypatch.setenv("CRISIS_LABELS", "LABEL_1=suicide, LABEL_2=self-harm,")
    app.classifiers("me/crisis", app.parser().parse_args([]).crisis_labels)
    assert asked == [("me/crisis", {"LABEL_1": "suicide", "LABEL_2": "self-harm"})]


def test_the_card_of_a_space_names_every_variable_that_the_app_reads():
    settings = render_space_readme("me/chat", "me/kind").split("## Settings")[1].split("## Run it yourself")[0]
    read = set(re.findall(r'variable\("([A-Z_]+)"\)', APP.read_text(encoding="utf-8")))
    assert {"COUNTS", "CRISIS_MODEL", "CRISIS_LABELS", "API_KEY"} < read
    assert read - {*re.findall(r"\b[A-Z_]{4,}\b", settings)} == set()


def test_a_model_that_is_not_there_is_said_before_anything_is_served(launched):
    with pytest.raises(ValueError, match=r"^no tokenizer can be loaded from \./no-such-model \("):
        app.main(["--model", "./no-such-model"])
    assert launched == []


def test_a_country_without_services_is_said_before_anything_is_loaded(launched):
    with pytest.raises(ValueError, match=r"^country is 'XX', which has no services in the table; give one of AT, AU, "):
        app.main(["--model", "./no-such-model", "--country", "XX"])
    assert launched == []


@pytest.mark.parametrize("pair", ["de=only/one", "xx=a/b,c/d", "en=a/b,c/d", "nonsense"])
def test_a_translation_that_cannot_be_understood_is_said(pair):
    with pytest.raises(
        ValueError, match=rf"^--translate {pair} is not LANGUAGE=TO_ENGLISH,FROM_ENGLISH with one of de, "
    ):
        app.translators([pair])


def test_the_profile_reaches_the_page(monkeypatch, launched, model):
    asked, build = [], app.build_server
    monkeypatch.setattr(app, "build_server", lambda bot, **options: asked.append(options) or build(bot, **options))
    app.main(["--model", str(model), "--speech", "none"])
    app.main(["--model", str(model), "--speech", "none", "--profile", "strict"])
    monkeypatch.setenv("PROFILE", "strict")
    app.main(["--model", str(model), "--speech", "none"])
    assert [options["profile"] for options in asked] == ["standard", "strict", "strict"]


@pytest.mark.parametrize(
    ("flags", "native", "dtype"),
    [
        ([], True, torch.bfloat16),
        ([], False, torch.float32),
        (["--dtype", "float32"], True, torch.float32),
        (["--dtype", "bfloat16"], False, torch.bfloat16),
    ],
)
def test_replies_are_written_in_bf16_where_the_processor_does(
    monkeypatch, launched, model, tmp_path, flags, native, dtype
):
    monkeypatch.setattr("mh_support.modeling.supports_bf16", lambda device: native)
    served = []
    build = app.build_server
    monkeypatch.setattr(app, "build_server", lambda bot, **k: served.append((bot, k)) or build(bot, **k))
    app.main(["--model", str(model), "--speech", "none", "--feedback", str(tmp_path), *flags])
    ((bot, options),) = served
    assert {weight.dtype for weight in bot.batcher.model.parameters()} == {dtype}
    messages = [{"role": "user", "content": "I feel alone."}]
    for _ in bot.batcher.stream(messages, bot.config):  # Random weights may have nothing to say.
        pass
    # Ratings are of the model that was trained, however it is rounded where it is served.
    assert options["feedback"]._model["fingerprint"] == app.state_fingerprint(load_model(str(model)))


def test_a_spaces_variable_sets_the_precision(monkeypatch):
    monkeypatch.setenv("DTYPE", "float32")
    assert app.parser().parse_args([]).dtype == "float32"
    assert app.parser().parse_args(["--dtype", "bfloat16"]).dtype == "bfloat16"


def test_an_unknown_dtype_is_said_before_anything_is_loaded(launched):
    with pytest.raises(ValueError, match=r"^dtype is 'fp8'; it is one of auto, float32, bfloat16$"):
        app.main(["--model", "./no-such-model", "--dtype", "fp8"])


def test_an_unknown_profile_is_said_before_anything_is_loaded(launched):
    with pytest.raises(ValueError, match=r"^profile is 'lax'; it is one of standard, strict$"):
        app.main(["--model", "./no-such-model", "--profile", "lax"])
    assert launched == []


def test_somebody_must_be_answered(tiny_tokenizer):
    with pytest.raises(ValueError, match=r"^concurrency is 0; at least 1 reply must be written at a time$"):
        build_server(ScriptedBot(tiny_tokenizer), concurrency=0)


def test_a_data_set_for_ratings_needs_a_folder(launched, model):
    said = r"^--feedback_repo needs a folder to upload from; add --feedback FOLDER$"
    with pytest.raises(ValueError, match=said):
        app.main(["--model", str(model), "--feedback_repo", "me/feedback", "--speech", "none"])
    assert launched == []


def test_the_mcp_tool_needs_its_package(model, capfd, monkeypatch):
    monkeypatch.setattr(mh_support.chat_page.server, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        mh_support.cli.run(lambda: app.main(["--model", str(model), "--port", str(free_port()), "--mcp"]))
    said = "the MCP server needs a package that is not installed; run: pip install -c constraints.txt -e '.[mcp]'"
    assert capfd.readouterr().err.endswith(f"error: {said}\n")


def test_a_crisis_over_mcp_is_answered_as_everywhere_and_so_is_all_else(serve, tiny_tokenizer):
    bot = ScriptedBot(tiny_tokenizer)
    _, address = serve(bot, mcp=True)
    asked = [{"messages": [user("I feel alone.")]}, {"messages": [user(CRISIS)], "country": "GB"}]
    too_long = {"messages": [user("x" * 9_000)]}

    async def visit():
        async with (
            streamable_http_client(f"{address}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            return tools, [await session.call_tool("chat", arguments) for arguments in (*asked, too_long)]

    (tool,), (reply, urgent, refused) = asyncio.run(visit())
    assert tool.name == "chat" and "behind the crisis check and the check of replies" in tool.description
    assert NOTICE in tool.description
    assert tool.inputSchema["required"] == ["messages"]
    expected = crisis_reply(assess([user(CRISIS)]), resources_for("GB"), 0)
    assert ast.literal_eval(reply.content[0].text) == {"kind": "model", "text": REPLY, "proof": ""}
    assert ast.literal_eval(urgent.content[0].text) == {"kind": "crisis", "text": expected, "proof": ""}
    assert refused.isError and "a message has 9000 characters; the most is 4000" in refused.content[0].text
    assert bot.given == list(PIECES)


def test_an_mcp_server_that_does_not_start_is_said_and_nothing_is_served(tiny_tokenizer, monkeypatch):
    def fail(blocks):
        raise RuntimeError("wrong version")

    monkeypatch.setattr(mh_support.chat_page.server, "find_spec", lambda name: None if name == "spaces" else name)
    monkeypatch.setattr("gradio.mcp.GradioMCPServer", fail)
    port = free_port()
    said = r"^the MCP server cannot be started \(Error launching MCP server: wrong version\); start without --mcp, or "
    with pytest.raises(ValueError, match=said):
        launch(build_server(ScriptedBot(tiny_tokenizer)), port=port, mcp=True, block=False)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")


def test_a_port_that_is_taken_is_said_in_one_line(address, model, capfd):
    port = address.rstrip("/").rpartition(":")[2]
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
    flags = ["--port", str(port), "--model", str(model), "--country", "GB", "--feedback", "ratings", "--api_key", "key"]
    command = [sys.executable, str(APP), *flags]
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
            assert ask(client, user(said))["text"].strip()
            conversation = [user(CRISIS)]
            shown = ask(Client(f"http://127.0.0.1:{port}", verbose=False), *conversation)["text"]
            assert shown == crisis_reply(assess(conversation), resources_for("GB"), 0)
            # The same replies for OpenAI's clients, under the name of the model's folder.
            openai = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="key", max_retries=0)
            completion = openai.chat.completions.create(model=model.name, messages=conversation)
            assert completion.choices[0].message.content == shown
            with pytest.raises(AuthenticationError, match="the API key is missing or wrong"):
                openai.with_options(api_key="wrong").models.list()
        finally:
            process.terminate()
        printed.append(process.stdout.read())
    assert said not in "".join(printed) and "kill" not in "".join(printed) and shown[:20] not in "".join(printed)
    assert [*tmp_path.rglob("*")] == [tmp_path / "ratings"]


# What a published Space gets


def pins(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


REQUIREMENTS = pins(APP.with_name("requirements.txt"))


def test_it_asks_for_the_versions_that_the_tests_ran_with():
    assert REQUIREMENTS
    assert REQUIREMENTS.items() <= pins(ROOT / "constraints.txt").items()


def test_a_space_runs_the_python_that_they_need():
    header = yaml.safe_load(render_space_readme("me/chat", "me/kind").split("---\n")[1])
    newest = f"{header['python_version']}.99"  # A Space takes the last release of the version it is told.
    needed = {name: metadata(name)["Requires-Python"] for name in closure(REQUIREMENTS)}
    assert {name: said for name, said in needed.items() if said and newest not in SpecifierSet(said)} == {}
    assert [name for name in REQUIREMENTS if needed[name] and "3.10.99" not in SpecifierSet(needed[name])]


IMPORT_SCRIPT = """
import json, sys

root, model, crisis = sys.argv[1:]
sys.path = [path for path in sys.path if path != root]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path_hooks = [hook for hook in sys.path_hooks if "editable" not in repr(hook)]
import app
from mh_support.support_bot import SupportBot
from mh_support.translation import Untranslatable

bot = SupportBot.from_pretrained(model, max_new_tokens=8)
page = app.build_server(bot)
replies = [bot.reply([{"role": "user", "content": text}]) for text in ("My river letter hurts", crisis)]
tried = str(bot.try_out(app.trial_conversations(app.TRIAL)))
files = sorted(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ("mh_support", "app"))
print(json.dumps({"model": app.default_model(), "replies": replies, "tried": tried, "files": files}))
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
    assert found["replies"][0].strip() and found["tried"].endswith("of the last 48 drafts refused")
    assert found["replies"][1] == crisis_reply(assess([user(CRISIS)]), resources_for(None), 0)
    files = [Path(file) for file in found["files"]]
    assert files and all(file.is_relative_to(folder) for file in files)
    # Whatever those files import, now or later, is asked for in requirements.txt, itself or through what is.
    names = set().union(*map(imported, files))
    assert {"torch", "transformers", "gradio"} <= names
    assert undeclared(names, closure(REQUIREMENTS)) == {}
