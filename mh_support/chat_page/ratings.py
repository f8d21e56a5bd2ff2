"""Ratings over HTTP: kept of those who agree, of replies that this server gave, deleted by a person's code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mh_support.chat_page.limits import checked_conversation
from mh_support.chat_page.texts import CONSENT
from mh_support.dialogue import Message

if TYPE_CHECKING:
    from mh_support.feedback import FeedbackStore


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    code: str = Field(max_length=100)


class _Rating(_Asked):
    consent: str  # The version of the text that the person agreed to.
    messages: list[Message]
    reason: str | None = None


class Thumb(_Rating):
    """A thumb on one reply."""

    reply: str
    proof: str
    up: bool


class Choice(_Rating):
    """A choice between two replies to the same conversation."""

    chosen: str
    rejected: str
    proofs: tuple[str, str]


def add_ratings(server: gr.Server, store: FeedbackStore) -> None:
    """Add the routes that make a code, keep ratings under it, and delete them."""
    from mh_support.feedback import new_code

    def kept(asked: _Rating, keep: Callable[[list[Message]], str | None]) -> JSONResponse:
        if asked.consent != CONSENT:
            return JSONResponse({"error": "the consent is to another text; agree to the one on the page"}, 403)
        try:
            return JSONResponse({"kept": keep(checked_conversation(asked.messages)) is not None})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)

    @server.post("/ratings/code", include_in_schema=False)
    def code() -> JSONResponse:
        return JSONResponse({"code": new_code()})

    @server.post("/ratings/thumb", include_in_schema=False)
    def thumb(asked: Thumb) -> JSONResponse:
        return kept(
            asked,
            lambda said: store.add_thumb(asked.code, said, asked.reply, asked.up, asked.reason, proof=asked.proof),
        )

    @server.post("/ratings/choice", include_in_schema=False)
    def choice(asked: Choice) -> JSONResponse:
        return kept(
            asked,
            lambda said: store.add_choice(
                asked.code, said, asked.chosen, asked.rejected, asked.reason, proofs=asked.proofs
            ),
        )

    @server.post("/ratings/delete", include_in_schema=False)
    def delete(asked: _Asked) -> JSONResponse:
        try:
            return JSONResponse({"deleted": store.delete(asked.code)})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)
