"""A dialogue as token ids: one chat template for training, scoring, the pipeline, the Space and the terminal.

Turns are joined by the end-of-text token, DialoGPT's own format, so no token is added and adapters load anywhere::

    I feel alone.<|endoftext|>That is hard. Since when?<|endoftext|>

The supporter's turns, each with the end-of-text that closes it, are what a model is trained and scored on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # The label that torch's cross entropy leaves out.
_LAST_WORDS = 400  # Characters of a reply in which its last question stands.

# `generation` marks what the assistant says, for `return_assistant_tokens_mask`. A system message has no place in the
# format and is left out; an end-of-text inside a message would close the turn early and is cut.
CHAT_TEMPLATE = (
    "{%- for message in messages if message['role'] != 'system' -%}"
    "{%- set content = message['content'] | replace(eos_token, ' ') | trim -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- content + eos_token -}}{%- endgeneration -%}"
    "{%- else -%}{{- content + eos_token -}}{%- endif -%}"
    "{%- endfor -%}"
)

Message = dict[str, str]


class EncodedDialogue(TypedDict):
    """Ids and labels of one row, both of length `seq_len`; labels are -100 where nothing is supervised."""

    input_ids: list[int]
    labels: list[int]


class EncodedRows(NamedTuple):
    """The rows of one dialogue, and whether it was too long to be one row as it stands."""

    rows: list[EncodedDialogue]
    long: bool


class EncodedReply(EncodedDialogue):
    """One row with only its last reply supervised, and that reply's length in UTF-8 bytes."""

    bytes: int


def text_of(content: Any) -> str:
    """Return a message's text, whether it is a string or a list of `{"type": "text", "text": ...}` parts.

    Raises:
        ValueError: the content is neither.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "\n".join(str(part["text"]) for part in content if part.get("type", "text") == "text" and "text" in part)
    raise ValueError(f"a message's content is {type(content).__name__}; give a string or a list of text parts")


def check_messages(messages: Any) -> list[Message]:
    """Return `messages` as plain role/content strings, adjacent turns of one speaker merged, empty turns left out.

    Raises:
        ValueError: not a list of `{"role", "content"}`, or a role other than system, user or assistant.
    """
    if not isinstance(messages, list | tuple):
        raise ValueError(f"messages is {type(messages).__name__}; give a list of {{'role', 'content'}} messages")
    checked: list[Message] = []
    for message in messages:
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise ValueError("a message lacks role or content; each must be {'role': 'user', 'content': 'text'}")
        role = message["role"]
        if role not in ("system", "user", "assistant"):
            raise ValueError(f"a message has the role {role!r}; the roles are system, user and assistant")
        content = text_of(message["content"]).strip()
        if not content:
            continue
        if checked and checked[-1]["role"] == role:
            checked[-1] = {"role": role, "content": f"{checked[-1]['content']}\n{content}"}
        else:
            checked.append({"role": role, "content": content})
    return checked


def newest_part(messages: Sequence[Message], characters: int) -> list[Message]:
    """Return what is to be looked at for danger of a conversation that is too long for a reply.

    That is the latest of what the person said, so many characters of it, and the ends of the replies between, whose
    questions a yes may answer. Of a long message it is beginning and end, where letters say what they are about.
    """
    kept: list[Message] = []
    room = characters
    for message in reversed(messages):
        text = message["content"]
        if message["role"] == "assistant":
            kept.append({"role": "assistant", "content": text[-_LAST_WORDS:]})
        elif message["role"] == "user":
            text = _ends(text, min(room, characters // 2))
            room -= len(text)
            kept.append({"role": "user", "content": text})
        if room < _LAST_WORDS:  # Ends any shorter than this say nothing.
            break
    return kept[::-1]


def _ends(text: str, most: int) -> str:
    """Return the beginning and the end of a text of more than `most` characters, together no more than these."""
    half = (most - 2) // 2
    return text if len(text) <= most else f"{text[:half]}\n\n{text[-half:]}"


def set_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give `tokenizer` the template above, and its end-of-text as padding where it has none.

    Raises:
        ValueError: the tokenizer has no end-of-text token.
    """
    if tokenizer.eos_token is None:
        raise ValueError(
            "the tokenizer has no end-of-text token, which closes each turn; choose a causal LM that has one"
        )
    tokenizer.chat_template = CHAT_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, max_length: int | None = None
) -> list[int]:
    """Return the ids that a reply to `messages` follows, the oldest exchanges left out beyond `max_length` tokens.

    The tokenizer's own chat template is used, so that a base model made for another format is prompted in its own.

    Raises:
        ValueError: there are no messages.
    """
    if not messages:
        raise ValueError("there is no message to reply to; give at least what the person said")
    turns = list(messages)
    ids = _render(tokenizer, turns)
    while max_length is not None and len(ids) > max_length:
        following = _next_exchange(turns)
        if following is None:
            return ids[len(ids) - max_length :]
        turns = turns[following:]
        ids = _render(tokenizer, turns)
    return ids


def encode_reply(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, max_length: int | None = None
) -> EncodedReply:
    """Return the row in which the last message, an assistant's, is supervised after all that came before it.

    Beyond `max_length` tokens the oldest of the prompt go first (a quarter of the row, at most 64 tokens, is kept for
    it), then the end of the reply. `bytes` counts the text of the reply that is left.

    Raises:
        ValueError: the last message is not an assistant's, or there is none before it.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError(
            "the last message is not an assistant's; give a conversation that ends with the reply to score"
        )
    text = _turn_text(tokenizer, messages[-1]["content"])
    reply = _turn_ids(tokenizer, text)
    prompt = encode_prompt(tokenizer, messages[:-1])
    if max_length is not None and len(prompt) + len(reply) > max_length:
        room = max(1, max_length - min(len(prompt), max_length // 4, 64))
        if len(reply) > room:
            reply = reply[:room]
            # A character cut in half is no text.
            text = str(tokenizer.decode(reply, clean_up_tokenization_spaces=False)).rstrip("\ufffd")
        prompt = encode_prompt(tokenizer, messages[:-1], max_length=max_length - len(reply))
    labels = [IGNORED] * len(prompt) + reply
    return {"input_ids": prompt + reply, "labels": labels, "bytes": len(text.encode())}


def encode_dialogue(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    max_length: int,
    long_inputs: str = "truncate",
    completion_only_loss: bool = True,
) -> EncodedRows:
    """Return the training rows of one dialogue, every supporter's turn in it supervised.

    A dialogue of at most `max_length` tokens is one row. A longer one is, by `long_inputs`:

    - `"truncate"`: one row that keeps the newest exchanges; if the last alone is too long, the oldest of what the
      person said goes first (a quarter of the row is kept for it), then the end of the reply;
    - `"split"`: as many rows as it takes, each supporter's token supervised in exactly one of them;
    - `"drop"`: none.

    With `completion_only_loss=False` the person's turns are supervised too.

    Raises:
        ValueError: `long_inputs` is none of the three, `max_length` is below 1, or there is no supporter's turn.
    """
    if long_inputs not in ("truncate", "split", "drop"):
        raise ValueError(f"long_inputs is {long_inputs!r}; it is one of truncate, split, drop")
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}; a row needs at least 1 token")
    exchanges = [_encode_exchange(tokenizer, exchange, completion_only_loss) for exchange in _exchanges(messages)]
    if not exchanges:
        raise ValueError("a dialogue has no assistant turn to learn from; leave it out or add the reply")
    if sum(map(len, exchanges)) <= max_length:
        return EncodedRows([_join(exchanges)], long=False)
    if long_inputs == "drop":
        return EncodedRows([], long=True)
    if long_inputs == "truncate":
        return EncodedRows([_newest(exchanges, max_length)], long=True)
    return EncodedRows(list(_windows(exchanges, max_length)), long=True)


@dataclass(frozen=True)
class _Exchange:
    """What the person said and the reply to it: ids, labels, and where the reply begins."""

    input_ids: list[int]
    labels: list[int]
    reply_start: int

    def __len__(self) -> int:
        return len(self.input_ids)


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    encoded: Any = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def _turn_ids(tokenizer: PreTrainedTokenizerBase, content: str) -> list[int]:
    """Return one turn's ids, as the template gives them: its text, then the end-of-text."""
    text = _turn_text(tokenizer, content)
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _turn_text(tokenizer: PreTrainedTokenizerBase, content: str) -> str:
    return content.replace(str(tokenizer.eos_token), " ").strip()


def _next_exchange(turns: Sequence[Message]) -> int | None:
    """Return the index of the second user turn, where the next exchange starts."""
    users = [index for index, turn in enumerate(turns) if turn["role"] == "user"]
    return users[1] if len(users) > 1 else None


def _exchanges(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield the runs of messages that each end with an assistant turn; what follows the last is left out."""
    run: list[Message] = []
    for message in messages:
        if message["role"] == "system":
            continue
        run.append(message)
        if message["role"] == "assistant":
            yield run
            run = []


def _encode_exchange(
    tokenizer: PreTrainedTokenizerBase, exchange: Sequence[Message], completion_only_loss: bool
) -> _Exchange:
    context = [token for message in exchange[:-1] for token in _turn_ids(tokenizer, message["content"])]
    reply = _turn_ids(tokenizer, exchange[-1]["content"])
    context_labels = [IGNORED] * len(context) if completion_only_loss else context
    return _Exchange(context + reply, [*context_labels, *reply], len(context))


def _join(exchanges: Sequence[_Exchange]) -> EncodedDialogue:
    return {
        "input_ids": [token for exchange in exchanges for token in exchange.input_ids],
        "labels": [label for exchange in exchanges for label in exchange.labels],
    }


def _newest(exchanges: Sequence[_Exchange], max_length: int) -> EncodedDialogue:
    """Keep as many of the newest exchanges as fit, at least the last, which is cut if it must be."""
    kept: list[_Exchange] = []
    room = max_length
    for exchange in reversed(exchanges):
        if len(exchange) > room:
            break
        kept.insert(0, exchange)
        room -= len(exchange)
    return _join(kept) if kept else next(_pieces(exchanges[-1], max_length))


def _windows(exchanges: Sequence[_Exchange], max_length: int) -> Iterator[EncodedDialogue]:
    """Yield rows of whole exchanges, in order, each as full as it goes; an exchange too long for one is cut up."""
    row: list[_Exchange] = []
    used = 0
    for exchange in exchanges:
        if row and used + len(exchange) > max_length:
            yield _join(row)
            row, used = [], 0
        if len(exchange) > max_length:
            yield from _pieces(exchange, max_length)
        else:
            row.append(exchange)
            used += len(exchange)
    if row:
        yield _join(row)


def _pieces(exchange: _Exchange, max_length: int) -> Iterator[EncodedDialogue]:
    """Yield an exchange too long for one row as several.

    The first keeps the newest of the context, at least a quarter of the row if there is that much; each later one
    repeats half a row of what came before, so that the reply goes on from something.
    """
    ids, labels = exchange.input_ids, exchange.labels
    reply_length = len(exchange) - exchange.reply_start
    context = min(exchange.reply_start, max(max_length // 4, max_length - reply_length))
    begin = exchange.reply_start - context
    end = min(len(ids), begin + max_length)
    yield {"input_ids": ids[begin:end], "labels": labels[begin:end]}
    while end < len(ids):
        fresh = end
        end = min(len(ids), fresh + max_length - max_length // 2)
        begin = max(0, end - max_length)
        yield {"input_ids": ids[begin:end], "labels": [IGNORED] * (fresh - begin) + labels[fresh:end]}
