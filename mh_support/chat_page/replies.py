"""What the page's requests are answered with: replies through the queue, and a crisis past it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
from anyio import CapacityLimiter, to_thread
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from mh_support.chat_page.limits import checked_conversation, plain_newest_part
from mh_support.chat_page.texts import ENGLISH, check_country, crisis_message, languages, with_services
from mh_support.dialogue import Message
from mh_support.safety import resources_for

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from mh_support.feedback import FeedbackStore
    from mh_support.translation import TranslatingBot, Translator

CONCURRENT_CHECKS = 4  # For a crisis, so that long conversations cannot take every thread that serves the page.
MAX_CHECKS = 100  # That may wait; one more is refused, and its conversation is checked again when the queue reaches it.


def chat_function(
    bot: Any, translators: Mapping[str, Translator], feedback: FeedbackStore | None
) -> Callable[..., Iterator[dict[str, str]]]:
    """Return the function that Gradio's queue calls with a conversation, and that is the page's API."""
    default_temperature, longest = bot.config.temperature, bot.config.max_new_tokens
    default_country = bot.resources.country

    def chat(
        messages: list[dict[str, str]],
        temperature: float = default_temperature,
        length: int = longest,
        country: str = default_country or "",
        language: str = ENGLISH,
    ) -> Iterator[dict[str, str]]:
        """Reply to a conversation, growing piece by piece, behind the crisis check and the check of replies.

        Whoever reads the reply must be told: I am a computer program, not a human or a therapist, made for research and
        education, and I cannot replace professional care. If you or somebody else is in danger, please call your local
        emergency number now.

        Args:
            messages: the conversation as {"role": "user" or "assistant", "content": text}, the person's turn last.
            temperature: from 0.1 (predictable) to 1.5 (varied).
            length: the most tokens of the reply.
            country: two-letter code of the country whose services are named in a crisis; empty for none.
            language: language code of the conversation.

        Returns:
            kind ("model", "concern", "crisis", "safe" or "untranslated"), the text so far, and once the model has
            ended it a proof of that, with which it can be rated.
        """
        try:
            conversation = checked_conversation(messages)
            config = _config(bot, temperature, length, longest)
            asked = _there(bot, country, language)
            if language in translators:
                asked = _translating(asked, translators[language], language)
            stream = asked.stream(conversation, config=config)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None
        try:
            if stream.kind == "crisis" and language != ENGLISH:
                yield {"kind": "crisis", "text": crisis_message(language, resources_for(country)), "proof": ""}
                return
            for _ in stream:
                yield {"kind": stream.kind, "text": stream.text, "proof": ""}
            # In another language a crisis may have passed unseen, and nothing may be kept of such a conversation.
            if stream.kind == "model" and feedback is not None and language == ENGLISH:
                yield {"kind": stream.kind, "text": stream.text, "proof": feedback.sign(conversation, stream.text)}
        finally:
            # Pressing stop ends this generator: the model must not go on writing for nobody.
            stream.close()

    return chat


def _there(bot: Any, country: str, language: str) -> Any:
    """Return the bot with the services of a country; all else is shared."""
    if language not in languages():
        raise ValueError(f"language is {language!r}; it is one of {', '.join(languages())}")
    there = copy.copy(bot)
    there.resources = resources_for(check_country(country))
    return there


class _Urgent(BaseModel):
    """A conversation that may call for people who can help."""

    messages: list[Message]
    country: str = ""
    language: str = ENGLISH


def add_crisis(server: gr.Server, bot: Any) -> None:
    """Answer a crisis past the queue: it takes no model, and whoever is in danger does not wait for others' replies."""
    turns, inside = CapacityLimiter(CONCURRENT_CHECKS), 0

    def check(asked: _Urgent) -> JSONResponse:
        beyond = ""
        try:
            there = _there(bot, asked.country, asked.language)
            try:
                conversation = checked_conversation(asked.messages)
            except ValueError as error:
                # Whoever writes too much for a reply may be in danger all the same.
                beyond = str(error)
                conversation = plain_newest_part(asked.messages)
            stream = there.stream(conversation)
        except ValueError as error:
            return JSONResponse({"error": beyond or str(error)}, 422)
        if stream.kind != "crisis":
            stream.close()
            none = {"kind": "none", "text": "", "proof": ""}
            return JSONResponse({"error": beyond}, 422) if beyond else JSONResponse(none)
        text = "".join(stream)
        if asked.language != ENGLISH:
            text = crisis_message(asked.language, resources_for(asked.country))
        return JSONResponse({"kind": "crisis", "text": text, "proof": ""})

    @server.post("/crisis", include_in_schema=False)
    async def crisis(asked: _Urgent) -> JSONResponse:
        nonlocal inside
        # Counted here, in one event loop: who has not yet come to the turns does not wait there either.
        if inside >= CONCURRENT_CHECKS + MAX_CHECKS:
            return JSONResponse({"error": "too many conversations at once; try again in a minute"}, 503)
        inside += 1
        try:
            return await to_thread.run_sync(check, asked, limiter=turns)
        finally:
            inside -= 1


def _config(bot: Any, temperature: float, length: int, longest: int) -> GenerationConfig:
    """Return the bot's way of generating with one request's settings."""
    if not 0.1 <= temperature <= 1.5:
        raise ValueError(f"temperature is {temperature}; it is between 0.1 and 1.5")
    if not 8 <= length <= longest:
        raise ValueError(f"length is {length}; it is between 8 and {longest}")
    config: GenerationConfig = copy.deepcopy(bot.config)
    config.update(temperature=float(temperature), max_new_tokens=int(length))
    return config


def _translating(bot: Any, translator: Translator, language: str) -> TranslatingBot:
    """Return the bot behind a translator, with the page's own words for what cannot be translated."""
    from mh_support.translation import TranslatingBot

    texts = languages()[language]
    untranslated = with_services(texts["untranslated"], language, bot.resources)
    return TranslatingBot(bot, translator, untranslated=untranslated, in_english=texts["in_english"])
