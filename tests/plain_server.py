"""A model behind HTTP with nothing around it, which load_page.py holds the chat page against.

python tests/plain_server.py --model starter --port 8000

It is what serving a model with transformers alone comes to: one `generate` after another, streamed as it is written, in
the order in which people asked. There is no crisis check, no check of replies, no page and no bound on who waits.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from threading import Thread

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from transformers import AsyncTextIteratorStreamer, AutoModelForCausalLM, AutoTokenizer

from mh_support.generation import generation_config
from mh_support.modeling import model_path


def build(name: str) -> FastAPI:
    """Return the server of a model."""
    path = model_path(name)
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
    config, turn, app = generation_config(tokenizer), asyncio.Lock(), FastAPI()

    async def pieces(messages: list[dict[str, str]]) -> AsyncIterator[str]:
        async with turn:
            ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)["input_ids"]
            streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
            prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            options = {**prompt, "generation_config": config, "streamer": streamer}
            Thread(target=model.generate, kwargs=options).start()
            async for piece in streamer:
                yield piece

    @app.post("/reply")
    async def reply(messages: list[dict[str, str]]) -> StreamingResponse:
        return StreamingResponse(pieces(messages), media_type="text/plain")

    return app


def main() -> None:
    """Serve on this machine until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(build(arguments.model), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
