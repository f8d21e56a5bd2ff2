"""What the tests of the chat page share: a bot whose replies are written here, and a server around it."""

from __future__ import annotations

import threading
import time

import pytest

from mh_support.chat_page import build_server, launch
from mh_support.generation import generation_config
from mh_support.safety import assess, crisis_reply, resources_for
from mh_support.support_bot import ReplyStream

CRISIS = "I want to kill myself tonight."
PIECES = ("That sounds lonely. ", "What was it like ", "to move?")
REPLY = "".join(PIECES)


class ScriptedBot:
    """A bot that says what its script holds, and remembers what it was asked and how often its stream was closed.

    The script's pieces may be a function of the messages.

    A copy with other settings, which the server makes for each request, remembers in the same place. A crisis it
    answers as a `SupportBot` does.
    """

    def __init__(self, tokenizer, country=None):
        self.config = generation_config(tokenizer)
        self.resources = resources_for(country)
        self.script = {"pieces": PIECES}
        self.asked, self.settings, self.given, self.streams = [], [], [], []
        self.closed = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)  # Holds a reply back wherever its pieces have None.

    def say(self, *pieces):
        self.script["pieces"] = pieces

    def stream(self, messages, *, config=None):
        assessment = assess(messages)
        if assessment.is_crisis:
            self.asked.append(messages)
            turn = sum(message["role"] == "user" for message in messages) - 1
            return ReplyStream("crisis", iter([crisis_reply(assessment, self.resources, turn)]))
        self.streams.append(ReplyStream("model", self._say(messages, config)))  # held, so that no collector closes it
        return self.streams[-1]

    def _say(self, messages, config):
        self.asked.append(messages)
        self.settings.append((config.temperature, config.max_new_tokens, self.resources.country))
        pieces = self.script["pieces"]
        try:
            for piece in pieces(messages) if callable(pieces) else pieces:
                if piece is None:
                    assert self.go_on.acquire(timeout=60)
                    continue
                self.given.append(piece)
                yield piece
        finally:
            self.closed.release()


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def until(condition, seconds=30):
    """Wait until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        threading.Event().wait(0.02)


@pytest.fixture(scope="session", name="serve")
def serving():
    """Return a function that serves a bot on this machine and returns the server and its address."""
    servers = []

    def start(bot, **options):
        port, mcp = options.pop("port", None), options.pop("mcp", False)
        server = build_server(bot, **options)
        servers.append(server)
        return server, launch(server, host="127.0.0.1", port=port, mcp=mcp, block=False)

    yield start
    for server in servers:
        server.get_blocks().close()
