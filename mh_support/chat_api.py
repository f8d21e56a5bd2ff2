"""The one reply path as an OpenAI-compatible API, for chat clients and public evaluation harnesses.

    app = FastAPI()
    mount_chat_api(app, SupportBot.from_pretrained("starter"), model_name="starter", api_key=None)

`/v1/chat/completions` (by server-sent events too) and `/v1/models`. Every reply goes through `bot.stream`, so a
crisis is never the model's to answer: its answer comes at once, whatever the queue, and each answer says of what kind
it is in a field of its own, `"mh_support": {"kind": "crisis", "notice": ...}` (or model, concern, safe, untranslated),
beside the notice that a program speaks, which a streamed answer begins with. What a caller asks for is honoured or
refused in words, in the shape of OpenAI's own errors. Nothing that anybody wrote is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import secrets
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from anyio import CancelScope, CapacityLimiter, fail_after, to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from mh_support.chat_request import ChatRequest, Refusal, parse_request
from mh_support.dialogue import encode_prompt
from mh_support.safety import NOTICE

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from mh_support.support_bot import ReplyStream

MAX_BODY_BYTES = 1 << 20
BODY_SECONDS = 30.0  # A request that comes byte by byte holds its place no longer.
CONCURRENT_REPLIES = 2  # More at once only make each slower on a CPU, unless the bot has a batcher.
MAX_WAITING = 32
CONCURRENT_CHECKS = 4  # So that long messages cannot take every thread that the server has.
_POLL_SECONDS = 0.2

_log = logging.getLogger(__name__)


class ChatBot(Protocol):
    """What answers: a `SupportBot`, or one that translates for it."""

    model: Any
    tokenizer: Any
    config: Any

    def stream(self, messages: Any, *, config: GenerationConfig | None = None) -> Any:
        """Return the `ReplyStream` of one reply."""


def mount_chat_api(
    app: FastAPI,
    bot: ChatBot,
    *,
    model_name: str,
    api_key: str | None,
    concurrency: int = CONCURRENT_REPLIES,
    max_waiting: int = MAX_WAITING,
) -> None:
    """Add the API to `app`, under /v1.

    Args:
        app: a FastAPI app, such as the one that serves the page.
        bot: what answers.
        model_name: the name that requests give as their model.
        api_key: what requests must bear; None lets everybody in who can reach the server.
        concurrency: how many replies are written at once.
        max_waiting: how many more may wait for their turn; further ones are told to come back.

    Raises:
        ValueError: the key is empty, which would be no protection.
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("api_key is empty; give a key, or None to let everybody in who can reach the server")
    api = _ChatApi(bot, model_name, api_key, _Queue(concurrency, max_waiting))
    router = APIRouter(prefix="/v1", include_in_schema=False)
    router.add_api_route("/chat/completions", api.complete, methods=["POST"], response_model=None)
    router.add_api_route("/models", api.models, methods=["GET"], response_model=None)
    router.add_api_route("/models/{name:path}", api.model, methods=["GET"], response_model=None)
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    router.add_api_route("/{rest:path}", api.unknown, methods=every, response_model=None)
    app.include_router(router)


class _Queue:
    """Lets `concurrency` in at once and `max_waiting` wait; in one event loop."""

    def __init__(self, concurrency: int, max_waiting: int) -> None:
        self._turns = asyncio.Semaphore(concurrency)
        self._places = concurrency + max_waiting
        self._inside = 0

    @contextlib.asynccontextmanager
    async def turn(self, request: Request) -> AsyncIterator[None]:
        """Wait for a turn. Raises `Refusal` where too many wait, and `_Gone` where the client does not any more."""
        if self._inside >= self._places:
            raise Refusal(429, "too many replies are asked for at once; try again soon", code="rate_limit_exceeded")
        self._inside += 1
        try:
            await self._wait(request)
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._inside -= 1

    async def _wait(self, request: Request) -> None:
        acquiring = asyncio.ensure_future(self._turns.acquire())
        try:
            while not acquiring.done():
                await asyncio.wait({acquiring}, timeout=_POLL_SECONDS)
                if await request.is_disconnected():
                    raise _Gone
        except BaseException:
            if not acquiring.cancel():  # Its turn had come in this very moment.
                self._turns.release()
            raise


class _Gone(Exception):
    """Nobody waits for the answer any more."""


class _ChatApi:
    def __init__(self, bot: ChatBot, model_name: str, api_key: str | None, queue: _Queue) -> None:
        self._bot, self._name, self._queue = bot, model_name, queue
        self._key = None if api_key is None else api_key.encode()
        self._started = int(time.time())
        self._checks = CapacityLimiter(CONCURRENT_CHECKS)
        # So that half of the positions are left for what was said.
        self._max_tokens = int(bot.model.config.max_position_embeddings) // 2

    async def models(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, request: Request, name: str) -> Response:
        refused = self._refused(request)
        if refused is None and name != self._name:
            refused = _error(self._unknown_model())
        return refused or JSONResponse(self._card())

    async def unknown(self, request: Request) -> Response:
        message = f"{request.method} is not answered here; there are POST /v1/chat/completions and GET /v1/models"
        return self._refused(request) or _error(Refusal(404, message, code="unknown_url"))

    async def complete(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        try:
            chat = parse_request(await _body(request), self._bot.config, max_tokens=self._max_tokens)
            if chat.model != self._name:
                raise self._unknown_model()
            try:
                # Here the crisis check is made; the model writes only when the stream is read.
                check = partial(self._bot.stream, chat.messages, config=chat.config)
                stream = await to_thread.run_sync(check, limiter=self._checks)
            except ValueError as error:
                raise chat.refusal or Refusal(400, str(error), param="messages") from None
            if chat.refusal is not None and stream.kind != "crisis":
                stream.close()
                raise chat.refusal
            answer = _Answer(self._bot, self._name, chat, stream)
            if chat.stream:
                return await self._streamed(request, answer)
            async for _ in self._pieces(request, answer):
                pass
            return JSONResponse(await run_in_threadpool(answer.whole))
        except Refusal as refusal:
            return _error(refusal)
        except _Gone:
            return Response(status_code=499)  # Nobody reads it.
        except Exception as error:
            return _error(_failure(error))

    async def _streamed(self, request: Request, answer: _Answer) -> Response:
        pieces = self._pieces(request, answer)
        # The first piece is awaited before the status is sent, so that a refusal still has its own.
        first = await anext(pieces, "")

        async def events() -> AsyncIterator[str]:
            try:
                yield _event(answer.first_chunk())
                yield _event(answer.chunk({"content": first}))
                async for piece in pieces:
                    yield _event(answer.chunk({"content": piece}))
                for chunk in await run_in_threadpool(answer.last_chunks):
                    yield _event(chunk)
                yield "data: [DONE]\n\n"
            except _Gone:
                return
            except Exception as error:
                yield _event(_failure(error).body())
            finally:
                await pieces.aclose()

        return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _pieces(self, request: Request, answer: _Answer) -> AsyncGenerator[str, None]:
        """Yield the reply's pieces, in its turn; the model is stopped when the client goes away."""
        # Somebody in danger does not wait in a queue, and the reply that they need takes no model.
        turn = contextlib.nullcontext() if answer.stream.kind == "crisis" else self._queue.turn(request)
        async with turn:
            try:
                # A thread that has begun is waited for also when this task is cancelled, so that the reply below is
                # never closed while it is being read.
                while (piece := await run_in_threadpool(answer.next_piece)) is not None:
                    if await request.is_disconnected():
                        raise _Gone
                    if piece:
                        yield piece
            finally:
                with CancelScope(shield=True):
                    await run_in_threadpool(answer.close)

    def _refused(self, request: Request) -> Response | None:
        """Return the answer to a request without the key, or None."""
        if self._key is None:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # In constant time, so that the key cannot be guessed sign by sign.
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._key):
            return None
        message = "the API key is missing or wrong; send it as Authorization: Bearer KEY"
        return _error(Refusal(401, message, code="invalid_api_key"))

    def _unknown_model(self) -> Refusal:
        return Refusal(404, f"there is no such model here; ask for {self._name}", param="model", code="model_not_found")

    def _card(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._started, "owned_by": "mh-support"}


class _Answer:
    """One reply, in the shapes that OpenAI's clients read."""

    def __init__(self, bot: ChatBot, name: str, chat: ChatRequest, stream: ReplyStream) -> None:
        self.stream = stream
        self._bot, self._chat = bot, chat
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": name}
        self._pieces = _until_stop(stream, chat.stop)
        self._text = ""

    def next_piece(self) -> str | None:
        """Return the next piece, which takes as long as it takes, or None at the end."""
        piece = next(self._pieces, None)
        self._text += piece or ""
        return piece

    def close(self) -> None:
        """Stop the model."""
        self._pieces.close()
        self.stream.close()

    def whole(self) -> dict[str, Any]:
        """Return the answer to a request that is not streamed."""
        message = {"role": "assistant", "content": self._text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason()}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(),
            "mh_support": {"kind": self.stream.kind, "notice": NOTICE},
        }

    def first_chunk(self) -> dict[str, Any]:
        """Return what begins a streamed answer, with the notice."""
        chunk = self.chunk({"role": "assistant", "content": ""})
        chunk["mh_support"]["notice"] = NOTICE
        return chunk

    def chunk(self, delta: Mapping[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        """Return one piece of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": [choice],
            "mh_support": {"kind": self.stream.kind},
        }

    def last_chunks(self) -> list[dict[str, Any]]:
        """Return what ends a streamed answer."""
        chunks = [self.chunk({}, self._finish_reason())]
        if self._chat.include_usage:
            chunks.append({**self.chunk({}), "choices": [], "usage": self._usage()})
        return chunks

    def _finish_reason(self) -> str:
        """Say whether the model ran into the limit, by the tokens that its text has."""
        cut = self.stream.kind == "model" and self._tokens() >= self._chat.config.max_new_tokens
        return "length" if cut else "stop"

    def _usage(self) -> dict[str, int]:
        prompt, reply = len(encode_prompt(self._bot.tokenizer, self._chat.messages)), self._tokens()
        return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}

    def _tokens(self) -> int:
        return len(self._bot.tokenizer(self._text, add_special_tokens=False)["input_ids"])


def _until_stop(stream: ReplyStream, stops: tuple[str, ...]) -> Generator[str, None, None]:
    """Yield what comes before the first of `stops`; they are the model's, and cut off no fixed reply."""
    held, longest = "", max(map(len, stops), default=1)
    for piece in stream:
        if stream.kind != "model":
            yield piece
            continue
        held += piece
        places = [place for place in map(held.find, stops) if place >= 0]
        if places:
            yield held[: min(places)]
            return
        # The end may be the beginning of a stop.
        sure = len(held) - longest + 1
        if sure > 0:
            yield held[:sure]
            held = held[sure:]
    if held:
        yield held


async def _body(request: Request) -> bytes:
    """Return the request's body, within the bounds of size and time."""
    # Other types can be sent from any web page without being asked; the browser asks first for this one.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body is not said to be JSON; send it with Content-Type: application/json")
    body = b""
    try:
        with fail_after(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise Refusal(413, f"the body has more than {MAX_BODY_BYTES} bytes, which is the most")
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {BODY_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        raise _Gone from None
    return body


def _error(refusal: Refusal) -> Response:
    headers = {429: {"Retry-After": "2"}, 401: {"WWW-Authenticate": "Bearer"}, 413: {"Connection": "close"}}
    return JSONResponse(refusal.body(), refusal.status, headers.get(refusal.status))


def _failure(error: Exception) -> Refusal:
    """Log where a fault of the server's is, without a word of what was said, and return what the client is told."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("a reply failed with %s at %s:%s", type(error).__name__, place.filename, place.lineno)
    return Refusal(500, "the reply failed through a fault of the server's; try again")


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"
