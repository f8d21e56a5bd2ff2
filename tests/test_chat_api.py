"""The OpenAI-compatible API: OpenAI's own client and hostile requests against a real server on this machine."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI

import mh_support.chat_api as chat_api
import mh_support.support_bot as support_bot
from mh_support.chat_api import mount_chat_api
from mh_support.generation import generation_config
from mh_support.safety import NOTICE, assess, crisis_reply, resources_for, safe_reply
from mh_support.support_bot import SupportBot
from mh_support.translation import TranslatingBot, Untranslatable

KEY = "a-key-of-the-tests"
LOW = [{"role": "user", "content": "I feel low today."}]
CRISIS = [{"role": "user", "content": "I am going to kill myself tonight."}]
CALM = [{"role": "user", "content": "It rained."}, {"role": "assistant", "content": "I hear you."}]
LONG = [{"role": "assistant", "content": "I hear you, and I am listening. " * 300}, CALM[0]] * 3
ANSWER = crisis_reply(assess(CRISIS), resources_for(None), 0)


class Server:
    """uvicorn in a thread on a free port, for as long as the `with` block lasts."""

    def __init__(self, app) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        )
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def bot():
    return SupportBot.from_pretrained("starter")


@pytest.fixture(scope="module")
def server(bot):
    app = FastAPI()
    mount_chat_api(app, bot, model_name="starter", api_key=KEY, concurrency=2, max_waiting=2)
    with Server(app) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def post(server):
    """Return a function that posts a body as it stands; `change` alters a good request."""
    with httpx.Client(timeout=60) as http:

        def send(content=None, headers=None, **change):
            content = json.dumps({"model": "starter", "messages": LOW, **change}) if content is None else content
            given = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **(headers or {})}
            return http.post(f"{server.url}/chat/completions", content=content, headers=given)

        yield send


class Script:
    """Stands for the model: writes its pieces; at an event among them it waits until that is set, or it is stopped."""

    def __init__(self, *pieces) -> None:
        self.pieces, self.configs, self.asked = pieces, [], []
        self.closed = threading.Semaphore(0)
        self.writing = threading.Semaphore(0)

    def __call__(self, model, tokenizer, messages, config):
        self.configs.append(config)
        self.asked.append(messages)
        self.writing.release()
        try:
            for piece in self.pieces:
                if isinstance(piece, threading.Event):
                    assert piece.wait(30)
                elif isinstance(piece, Exception):
                    raise piece
                else:
                    yield piece
        finally:
            self.closed.release()


@pytest.fixture
def scripted(monkeypatch):
    def script(*pieces):
        made = Script(*pieces)
        monkeypatch.setattr(support_bot, "stream_reply", made)
        return made

    return script


def ask(client, messages=LOW, **options):
    return client.chat.completions.create(model="starter", messages=messages, **options)


# --- OpenAI's client --------------------------------------------------------------------------------------------------


def test_the_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["starter"]
    assert client.models.retrieve("starter").owned_by == "mh-support"
    with pytest.raises(openai.NotFoundError, match="there is no such model here; ask for starter"):
        client.models.retrieve("other/model")


def test_a_reply_is_the_bots(client, bot):
    answer = ask(client, temperature=0, max_tokens=40)
    assert answer.object == "chat.completion"
    assert answer.model == "starter"
    (choice,) = answer.choices
    assert (choice.message.role, choice.index) == ("assistant", 0)
    assert answer.mh_support == {"kind": "model", "notice": NOTICE}
    greedy = generation_config(bot.tokenizer, max_new_tokens=40, do_sample=False, temperature=None, top_p=None)
    assert choice.message.content == "".join(bot.stream(LOW, config=greedy))
    tokens = len(bot.tokenizer(choice.message.content)["input_ids"])
    assert answer.usage.completion_tokens == tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + tokens


def test_a_streamed_reply_is_the_same_in_pieces(client):
    whole = ask(client, temperature=0).choices[0].message.content
    chunks = list(ask(client, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens > 0) == ([], True)


def test_sentences_come_as_they_are_written(client, scripted):
    rest = threading.Event()
    scripted("I hear you. ", "Tell ", rest, "me more.")
    stream = ask(client, stream=True)
    texts = (chunk.choices[0].delta.content for chunk in stream)
    assert [next(texts), next(texts)] == ["", "I hear you. "]
    rest.set()
    assert "".join(text or "" for text in texts) == "Tell me more."


@pytest.mark.parametrize("stream", [False, True])
def test_a_crisis_is_never_the_models_and_is_marked(client, scripted, stream):
    script = scripted("never")
    # Nothing that a caller sets shortens it.
    answer = ask(client, CRISIS, stream=stream, stop=["\n", " ", "."], max_tokens=1)
    chunks = list(answer) if stream else [answer]
    texts = [choice.delta.content if stream else choice.message.content for c in chunks for choice in c.choices]
    assert "".join(text or "" for text in texts) == ANSWER
    told = [{"kind": "crisis", "notice": NOTICE}, *[{"kind": "crisis"}] * (len(chunks) - 1)]
    assert [chunk.mh_support for chunk in chunks] == told
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert script.asked == []


def test_a_reply_that_fails_the_check_is_replaced_and_marked(client, scripted):
    scripted("You have depression.")
    answer = ask(client, stop=["."])
    assert (answer.choices[0].message.content, answer.mh_support) == (
        safe_reply(0),
        {"kind": "safe", "notice": NOTICE},
    )


def test_a_bot_that_translates_is_served_alike(bot):
    class Nothing:
        def to_english(self, text):
            raise Untranslatable("the translation model does not know these letters")

    app = FastAPI()
    translating = TranslatingBot(bot, Nothing(), untranslated="Bitte in anderen Worten.")
    mount_chat_api(app, translating, model_name="starter", api_key=None)
    with Server(app) as server, openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        answer = ask(client, max_tokens=1)
    assert (answer.choices[0].message.content, answer.mh_support) == (
        "Bitte in anderen Worten.",
        {"kind": "untranslated", "notice": NOTICE},
    )
    assert answer.choices[0].finish_reason == "stop"


def test_conversations_at_once_are_not_mixed_up(bot, monkeypatch):
    def echo(model, tokenizer, messages, config):
        yield f"You said: {messages[-1]['content']}"

    monkeypatch.setattr(support_bot, "stream_reply", echo)
    app = FastAPI()
    mount_chat_api(app, bot, model_name="starter", api_key=None, concurrency=3, max_waiting=100)
    with Server(app) as server, openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:

        def talk(number):
            text = f"I like the number {number}."
            return ask(client, [{"role": "user", "content": text}]).choices[0].message.content == f"You said: {text}"

        with ThreadPoolExecutor(20) as people:
            assert all(people.map(talk, range(60)))


# --- settings ---------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_reaches_the_model_and_stays_with_its_request(client, bot, scripted):
    script = scripted("I hear you.")
    ask(client, temperature=1.3, top_p=0.5, max_tokens=7)
    ask(client, temperature=0, max_completion_tokens=9)
    ask(client)
    first, second, third = script.configs
    assert (first.do_sample, first.temperature, first.top_p, first.max_new_tokens) == (True, 1.3, 0.5, 7)
    assert (second.do_sample, second.temperature, second.max_new_tokens) == (False, None, 9)
    assert third.to_dict() == bot.config.to_dict()


def test_a_system_message_is_heard_by_the_template_and_adds_no_crisis(client, scripted):
    script = scripted("I hear you.")
    ask(client, [{"role": "developer", "content": CRISIS[0]["content"]}, *LOW])
    assert [message["role"] for message in script.asked[0]] == ["system", "user"]


def test_text_parts_are_one_message(client, scripted):
    script = scripted("I hear you.")
    parts = [{"type": "text", "text": "I feel"}, {"type": "text", "text": "low"}]
    ask(client, [{"role": "user", "content": parts}])
    assert script.asked == [[{"role": "user", "content": "I feel\nlow"}]]


@pytest.mark.parametrize(
    ("pieces", "stop", "text"),
    [
        (["I hear you. ", "Tell me more."], "Tell", "I hear you. "),
        (["I hear you. ", "Tell me more."], ["more", "you"], "I hear "),
        (["I hear you. ", "Tell me more."], "you. Tell", "I hear "),  # Across two pieces.
        (["I hear you. ", "Tell me more."], "nowhere", "I hear you. Tell me more."),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_ends_before_a_stop(client, scripted, pieces, stop, text, stream):
    script = scripted(*pieces)
    answer = ask(client, stop=stop, stream=stream)
    if stream:
        shown = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        shown = answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
    assert shown == text
    assert script.closed.acquire(timeout=10)


def test_a_reply_that_ran_into_the_limit_says_so(client):
    answer = ask(client, temperature=0, max_tokens=2)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 2)


def test_a_seed_gives_the_same_reply_again_and_leaves_others_to_chance(client):
    def reply(**options):
        return ask(client, temperature=1.5, top_p=1, max_tokens=12, **options).choices[0].message.content

    assert reply(seed=5) == reply(seed=5)
    assert len({reply(seed=seed) for seed in range(3)}) > 1
    assert len({reply() for _ in range(3)}) > 1


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "param", "message"),
    [
        ({"model": "gpt-4"}, 404, "model", "there is no such model here; ask for starter"),
        ({"model": None}, 400, "model", "model is missing; give the name that /v1/models lists"),
        ({"messages": None}, 400, "messages", "messages is missing; give a list of {'role', 'content'} messages"),
        ({"messages": []}, 400, "messages", "messages is missing; give a list of {'role', 'content'} messages"),
        (
            {"messages": [*LOW, {"role": "assistant", "content": "I see."}]},
            400,
            "messages",
            "the conversation does not end with something the person said; add a user message",
        ),
        (
            {"messages": [{"role": "user", "content": "  "}]},
            400,
            "messages",
            "the conversation does not end with something the person said; add a user message",
        ),
        (
            {"messages": CALM * 101},
            400,
            "messages",
            "there are 202 messages; at most 200 are read",
        ),
        (
            {"messages": [{"role": "user", "content": "a" * 16_001}]},
            400,
            "messages",
            "the messages have 16001 characters; at most 16000 are read",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            400,
            "messages[0]",
            "messages[0] needs a role: system, developer, user, assistant",
        ),
        ({"messages": ["hi"]}, 400, "messages[0]", "messages[0] needs a role: system, developer, user, assistant"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "messages[0]",
            "messages[0] needs content: a text, or a list of text parts; nothing else is read",
        ),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}, *LOW]},
            400,
            "messages[0]",
            "messages[0] holds a call of a tool; there are none here",
        ),
        ({"temperature": 2.1}, 400, "temperature", "temperature must be a number from 0 to 2"),
        ({"temperature": "hot"}, 400, "temperature", "temperature must be a number from 0 to 2"),
        ({"temperature": True}, 400, "temperature", "temperature must be a number from 0 to 2"),
        ({"temperature": float("nan")}, 400, "temperature", "temperature must be a number from 0 to 2"),
        ({"top_p": 0}, 400, "top_p", "top_p must be a number from 0.001 to 1"),
        ({"max_tokens": 0}, 400, "max_tokens", "max_tokens must be a whole number from 1 to 256"),
        ({"max_tokens": 257}, 400, "max_tokens", "max_tokens must be a whole number from 1 to 256"),
        ({"max_tokens": 1.5}, 400, "max_tokens", "max_tokens must be a whole number from 1 to 256"),
        (
            {"seed": 2**63},
            400,
            "seed",
            "seed must be a whole number from -9223372036854775807 to 9223372036854775807",
        ),
        ({"stop": ["a", ""]}, 400, "stop", "stop must be a text or a list of texts, none of them empty"),
        ({"stop": ["a"] * 17}, 400, "stop", "stop holds more than 16 texts of 200 characters, which is the most"),
        ({"stream": "yes"}, 400, "stream", "stream must be true or false"),
        (
            {"stream_options": []},
            400,
            "stream_options",
            "stream_options is not an object, such as {'include_usage': true}",
        ),
        ({"n": 2}, 400, "n", "n can only be 1 here; leave it out"),
        ({"tools": [{}]}, 400, "tools", "tools can only be [] here; leave it out"),
        ({"logprobs": True}, 400, "logprobs", "logprobs can only be false here; leave it out"),
        ({"presence_penalty": 0.5}, 400, "presence_penalty", "presence_penalty can only be 0 here; leave it out"),
        ({"top_k": 3}, 400, "top_k", "top_k is not something that can be asked for here; leave it out"),
        ({"\x1b[31m": 3}, 400, "[31m", "[31m is not something that can be asked for here; leave it out"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(post, scripted, change, status, param, message):
    script = scripted("never")
    answer = post(**change)
    code = {404: "model_not_found"}.get(status, "context_length_exceeded" if "at most" in message else None)
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    assert (answer.status_code, answer.json()) == (status, {"error": error})
    assert script.asked == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "messages",
    [
        [*CALM * 150, *CRISIS],
        [*CRISIS, *CALM, *LONG, *LOW],
        [{"role": "user", "content": "It rained and rained. " * 2_000}, *CRISIS],
        [{"role": "user", "content": f"{'It rained and rained. ' * 2_000} {CRISIS[-1]['content']}"}],
    ],
    ids=["many", "long replies", "long", "one"],
)
def test_a_crisis_is_answered_beyond_the_bounds(client, scripted, messages, stream):
    script = scripted("never")
    answer = ask(client, messages, stream=stream)
    chunks = list(answer) if stream else [answer]
    assert {chunk.mh_support["kind"] for chunk in chunks} == {"crisis"}
    assert script.asked == []


def test_what_asks_for_nothing_else_is_accepted(post, scripted):
    scripted("I hear you.")
    nothing = {"n": 1, "tools": [], "logprobs": False, "frequency_penalty": 0.0, "response_format": {"type": "text"}}
    assert post(user="x", metadata={"a": "b"}, temperature=None, stop=None, **nothing).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not valid JSON; send an object with model and messages"),
        (b"\x00\xff\xfe", "the body is not valid JSON; send an object with model and messages"),
        (b'{"model": "starter"', "the body is not valid JSON; send an object with model and messages"),
        (b"[" * 200_000, "the body is not valid JSON; send an object with model and messages"),
        (
            b'{"max_tokens": ' + b"9" * 5_000 + b"}",
            "the body is not valid JSON; send an object with model and messages",
        ),
        (b"[]", "the body is a JSON list; send an object with model and messages"),
        (b'"x"', "the body is a JSON str; send an object with model and messages"),
    ],
)
def test_what_is_no_request_is_refused(post, body, message):
    answer = post(body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


def test_a_page_elsewhere_cannot_send_a_request_unasked(post):
    answer = post(headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.json()["error"]["message"].startswith("the body is not said to be JSON")


def test_control_characters_and_half_characters_are_answered(post, bot):
    text = '{"model": "starter", "messages": [{"role": "user", "content": "I feel \\u0000\\ud800 low \\u001b[31m"}]}'
    answer = post(text.encode())
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]


def test_what_is_not_there_is_said_in_the_same_shape(server):
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        for method, path in (("GET", "/chat/completions"), ("POST", "/embeddings"), ("DELETE", "/models/starter")):
            answer = http.request(method, f"{server.url}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
            assert answer.json()["error"]["message"].startswith(f"{method} is not answered here; there are POST")


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer \xe9"]
)
def test_nothing_is_answered_without_the_key(server, scripted, header):
    script = scripted("never")
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    with httpx.Client(headers=headers) as http:
        for method, path in (("GET", "/models"), ("GET", "/models/x"), ("POST", "/chat/completions"), ("GET", "/x")):
            answer = http.request(method, f"{server.url}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert script.asked == []


def test_the_clients_own_error_for_a_wrong_key(server):
    wrong = openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError, match="the API key is missing or wrong; send it as"):
        wrong.models.list()


def test_the_key_is_compared_in_constant_time(client, monkeypatch):
    compared = []
    compare = chat_api.hmac.compare_digest
    monkeypatch.setattr(chat_api.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    client.models.list()
    assert compared == [(KEY.encode(), KEY.encode())]


def test_an_empty_key_would_be_no_protection(bot):
    with pytest.raises(ValueError, match="api_key is empty; give a key, or None to let everybody in"):
        mount_chat_api(FastAPI(), bot, model_name="starter", api_key=" ")


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_body_too_large_is_refused_while_it_comes(post):
    def endless():
        while True:
            yield b" " * 65_536

    for body in (b" " * (chat_api.MAX_BODY_BYTES + 1), endless()):
        try:
            answer = post(body)
        except httpx.WriteError:
            continue  # The server has stopped reading, which the client may meet before the answer.
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            413,
            "the body has more than 1048576 bytes, which is the most",
        )


def test_a_body_that_does_not_come_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(chat_api, "BODY_SECONDS", 0.3)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def until(condition):
    """Wait until it is so."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def test_more_wait_than_may_and_a_crisis_does_not_wait(client, scripted):
    go = threading.Event()
    script = scripted(go, "I hear you.")
    with ThreadPoolExecutor(4) as people:
        places = [people.submit(ask, client) for _ in range(4)]  # Two are written, two wait.
        assert script.writing.acquire(timeout=20)
        assert script.writing.acquire(timeout=20)
        refused = []

        def full():
            try:
                ask(client, stream=True, timeout=0.3)
            except openai.RateLimitError as error:
                refused.append(error)
            except openai.APITimeoutError:
                pass  # It got a place before the others did, and gave it back.
            return bool(refused)

        until(full)
        assert refused[0].body["message"] == "too many replies are asked for at once; try again soon"
        assert refused[0].response.headers["retry-after"] == "2"
        assert ask(client, CRISIS).choices[0].message.content == ANSWER
        assert len(script.asked) == 2
        go.set()
        assert {place.result().choices[0].message.content for place in places} == {"I hear you."}
    assert len(script.asked) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_stops_when_the_client_goes_away(client, scripted, stream):
    gates = [threading.Event() for _ in range(2)]
    script = scripted("I hear you. ", gates[0], "Tell me. ", gates[1], "More. ")
    body = json.dumps({"model": "starter", "messages": LOW, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
        connection.sendall(head.encode() + body)
        assert script.writing.acquire(timeout=20)
        if stream:
            assert connection.recv(10)
    ask(client, CRISIS)  # Once this is answered, the server has heard of who left before.
    # The sentence that was being written is the last: the second gate is never passed.
    gates[0].set()
    assert script.closed.acquire(timeout=20)
    assert not gates[1].is_set()
    scripted("I am here.")
    assert ask(client).choices[0].message.content == "I am here."


def test_who_goes_away_while_waiting_leaves_the_queue(client, scripted):
    go = threading.Event()
    script = scripted(go, "I hear you.")
    with ThreadPoolExecutor(4) as people:
        places = [people.submit(ask, client) for _ in range(2)]
        assert script.writing.acquire(timeout=20)
        assert script.writing.acquire(timeout=20)
        for _ in range(6):  # Thrice as many as may wait.
            with pytest.raises(openai.APITimeoutError):
                ask(client, timeout=0.4)
        ask(client, CRISIS)  # Once this is answered, the server has heard of those who left before.
        go.set()
        assert [place.result().choices[0].message.content for place in places] == ["I hear you."] * 2
    assert len(script.asked) == 2


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_fault_is_told_without_its_words_and_logged_without_what_was_said(client, scripted, caplog):
    scripted(RuntimeError("I feel low today."))
    with caplog.at_level(logging.DEBUG), pytest.raises(openai.InternalServerError) as raised:
        ask(client)
    assert raised.value.body == {
        "message": "the reply failed through a fault of the server's; try again",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    (line,) = [record.getMessage() for record in caplog.records if record.name == "mh_support.chat_api"]
    assert line.startswith("a reply failed with RuntimeError at ")
    assert "I feel low" not in caplog.text.replace(json.dumps(LOW), "")


def test_a_fault_in_the_middle_of_a_stream_is_told_there(client, scripted):
    scripted("I hear you. ", RuntimeError("gone"))
    stream = ask(client, stream=True)
    shown = []
    with pytest.raises(openai.APIError, match="the reply failed through a fault of the server's; try again"):
        for chunk in stream:
            shown.append(chunk.choices[0].delta.content)
    assert shown == ["", "I hear you. "]
    scripted("I am here.")
    assert ask(client).choices[0].message.content == "I am here."  # Its turn was given back.
