"""What the server takes from strangers: known paths, bodies and conversations of a bounded size, plain characters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from mh_support.dialogue import Message, check_messages, newest_part, text_of

MAX_CHARACTERS = 4000  # Of one message, as the page's text box counts them.
MAX_IN_A_ROW = 2 * MAX_CHARACTERS  # Of the messages of one speaker in a row, which are read as one.
MAX_MESSAGES = 400

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Limits:
    """Middleware that passes on requests to `paths` whose body holds at most `max_bytes`.

    Gradio brings routes that the page has no use for: uploads, files, proxies. What is not named is not there.

    Args:
        app: the application to protect.
        paths: exact paths, or with a slash at the end everything below.
        max_bytes: the most that a request may carry.
    """

    def __init__(self, app: App, *, paths: Sequence[str], max_bytes: int) -> None:
        self.app = app
        self.exact = frozenset(path for path in paths if path == "/" or not path.endswith("/"))
        self.below = tuple(path for path in paths if path != "/" and path.endswith("/"))
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (self.app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        path = scope["path"]
        if path not in self.exact and not path.startswith(self.below):
            return JSONResponse({"error": "there is nothing here; the page is at /"}, 404)
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit():
            return JSONResponse({"error": "the request does not say how long it is; send a Content-Length"}, 411)
        if int(length) > self.max_bytes:
            said = f"the request holds {int(length)} bytes; the most is {self.max_bytes}: send less"
            return JSONResponse({"error": said}, 413)
        return None


def checked_conversation(messages: Any) -> list[Message]:
    """Return a conversation within bounds, as the bot takes it.

    Raises:
        ValueError: it is too long, a message is, or it is no conversation.
    """
    if isinstance(messages, list) and len(messages) > MAX_MESSAGES:
        raise ValueError(f"the conversation has {len(messages)} messages; the most is {MAX_MESSAGES}: start a new one")
    conversation = check_messages(messages)
    longest = max((len(text_of(message["content"]).strip()) for message in messages), default=0)
    if longest > MAX_CHARACTERS:
        raise ValueError(f"a message has {longest} characters; the most is {MAX_CHARACTERS}: send it in parts")
    longest = max((len(message["content"]) for message in conversation), default=0)
    if longest > MAX_IN_A_ROW:
        raise ValueError(
            f"one speaker's messages in a row have {longest} characters; the most is {MAX_IN_A_ROW}: start a new "
            "conversation"
        )
    return [{"role": message["role"], "content": _plain(message["content"])} for message in conversation]


def plain_newest_part(messages: Sequence[Message]) -> list[Message]:
    """Return the latest messages of a conversation beyond the bounds, to be looked at for danger all the same.

    Raises:
        ValueError: it is no conversation.
    """
    check_messages(messages)
    kept = newest_part(messages[-MAX_MESSAGES:], 2 * MAX_IN_A_ROW)
    return check_messages([{"role": message["role"], "content": _plain(message["content"])} for message in kept])


def _plain(text: str) -> str:
    """Return `text` without control characters and halves of characters, which no keyboard types."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter for letter in whole if letter in "\n\t" or not (letter < " " or "\x7f" <= letter <= "\x9f"))
