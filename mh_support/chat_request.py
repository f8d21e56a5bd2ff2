"""What a request to the chat API may ask for: read, bounded, and honoured or refused in words."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mh_support.dialogue import Message, newest_part

if TYPE_CHECKING:
    from transformers import GenerationConfig

MAX_MESSAGES = 200
MAX_CHARACTERS = 16_000  # Of all messages together; the crisis check reads every one of them, in seconds at worst.
_TOO_LONG = "context_length_exceeded"
MAX_STOPS, MAX_STOP_CHARACTERS = 16, 200
MAX_SEED = 2**63 - 1
_GREEDY_BELOW = 0.01  # Dividing by less than this leaves only the likeliest token anyway, or overflows.
_KNOWN = {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
_KNOWN |= {"temperature", "top_p", "seed", "stop"}
# These change nothing about a reply.
_WITHOUT_EFFECT = {"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"}
# These may be said as long as they ask for what is done anyway.
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "store": (False,),
    "logit_bias": ({},),
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Refusal(Exception):
    """A request that is not answered, with its status and the error that OpenAI's clients read."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """Return the error in OpenAI's shape."""
        kind = {429: "rate_limit_error", 500: "server_error"}.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class ChatRequest:
    """A request that can be answered; one with a `refusal` only if it speaks of a crisis.

    Of messages that are too many or too long it holds the latest: whoever wrote them may be in danger all the same.
    """

    model: str
    messages: list[Message] = field(repr=False)
    config: GenerationConfig = field(repr=False)
    stream: bool = False
    include_usage: bool = False
    stop: tuple[str, ...] = field(default=(), repr=False)
    refusal: Refusal | None = None


def parse_request(body: bytes, config: GenerationConfig, *, max_tokens: int) -> ChatRequest:
    """Read a request; what it leaves open is generated as `config` says.

    Raises:
        Refusal: it is no request, or asks for what cannot be done; the message says which and why. Why one that is too
            large is not answered, the request itself holds.
    """
    asked = {key: value for key, value in _object(body).items() if value is not None}
    _check_known(asked)
    if not isinstance(asked.get("model"), str):
        raise Refusal(400, "model is missing; give the name that /v1/models lists", param="model")
    limit = asked.get("max_completion_tokens", asked.get("max_tokens", min(config.max_new_tokens, max_tokens)))
    options = asked.get("stream_options", {})
    if not isinstance(options, dict):
        raise Refusal(400, "stream_options is not an object, such as {'include_usage': true}", param="stream_options")
    changes = {
        "seed": _number(asked.get("seed"), "seed", -MAX_SEED, MAX_SEED, whole=True),
        "max_new_tokens": _number(limit, "max_tokens", 1, max_tokens, whole=True),
        "temperature": _number(asked.get("temperature"), "temperature", 0, 2),
        "top_p": _number(asked.get("top_p"), "top_p", 0.001, 1),
    }
    messages, refusal = _messages(asked.get("messages"))
    return ChatRequest(
        model=asked["model"],
        messages=messages,
        config=_configured(config, changes),
        stream=_flag(asked, "stream"),
        include_usage=_flag(options, "include_usage"),
        stop=_stop(asked.get("stop", [])),
        refusal=refusal,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not valid JSON; send an object with model and messages") from None
    if not isinstance(asked, dict):
        raise Refusal(400, f"the body is a JSON {type(asked).__name__}; send an object with model and messages")
    return asked


def _check_known(asked: Mapping[str, Any]) -> None:
    for key, value in asked.items():
        if key in _ONLY:
            if value not in _ONLY[key] or isinstance(value, bool) != isinstance(_ONLY[key][0], bool):
                raise Refusal(400, f"{key} can only be {json.dumps(_ONLY[key][0])} here; leave it out", param=key)
        elif key not in _KNOWN | _WITHOUT_EFFECT:
            name = _plain(key)
            raise Refusal(400, f"{name} is not something that can be asked for here; leave it out", param=name)


def _number(value: Any, name: str, least: float, most: float, *, whole: bool = False) -> Any:
    if value is None:
        return None
    kind = int if whole else (int, float)
    # A number that is none (NaN) lies between nothing.
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        what = "a whole number" if whole else "a number"
        raise Refusal(400, f"{name} must be {what} from {least} to {most}", param=name)
    return value


def _flag(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name, False)
    if not isinstance(value, bool):
        raise Refusal(400, f"{name} must be true or false", param=name)
    return value


def _stop(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise Refusal(400, "stop must be a text or a list of texts, none of them empty", param="stop")
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARACTERS for stop in stops):
        most = f"{MAX_STOPS} texts of {MAX_STOP_CHARACTERS} characters"
        raise Refusal(400, f"stop holds more than {most}, which is the most", param="stop")
    return tuple(stops)


def _configured(config: GenerationConfig, changes: Mapping[str, Any]) -> GenerationConfig:
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        if value is not None:
            setattr(changed, name, value)
    if changes["temperature"] is not None:
        changed.do_sample = changes["temperature"] >= _GREEDY_BELOW
    if not changed.do_sample:
        changed.temperature = changed.top_p = changed.top_k = None
    return changed


def _messages(given: Any) -> tuple[list[Message], Refusal | None]:
    """Return the messages, or the latest of them and why they are not answered."""
    if not isinstance(given, list) or not given:
        raise Refusal(400, "messages is missing; give a list of {'role', 'content'} messages", param="messages")
    first = max(0, len(given) - MAX_MESSAGES)
    messages = [_message(message, f"messages[{place}]") for place, message in enumerate(given[first:], first)]
    size = sum(len(message["content"]) for message in messages)
    if first == 0 and size <= MAX_CHARACTERS:
        return messages, None
    text = f"there are {len(given)} messages; at most {MAX_MESSAGES} are read"
    if first == 0:
        text = f"the messages have {size} characters; at most {MAX_CHARACTERS} are read"
    return newest_part(messages, MAX_CHARACTERS), Refusal(400, text, param="messages", code=_TOO_LONG)


def _message(given: Any, place: str) -> Message:
    role = given.get("role") if isinstance(given, dict) else None
    if not isinstance(role, str) or role not in _ROLES:
        raise Refusal(400, f"{place} needs a role: {', '.join(_ROLES)}", param=place)
    if given.get("tool_calls") or given.get("function_call"):
        raise Refusal(400, f"{place} holds a call of a tool; there are none here", param=place)
    content = given.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise Refusal(400, f"{place} needs content: a text, or a list of text parts; nothing else is read", param=place)
    return {"role": _ROLES[role], "content": _whole("\n".join(texts))}  # type: ignore[arg-type]


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can hold and no text can."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(key: str) -> str:
    """Return an unknown key's name, short and printable."""
    return "".join(character for character in key if character.isprintable())[:40]
