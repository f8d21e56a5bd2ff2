"""Visit the chat page with many people at once, and say how they fared.

    python tests/load_page.py --people 50 --seconds 180
    python tests/load_page.py --people 50 --seconds 20 --model runs/latest

The app runs as a process of its own. Each person goes through conversations of three turns: two ordinary ones, then a
crisis in a country of their own, whose emergency number and services must come back, and nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch

from mh_support.safety import assess, crisis_reply, resources_for
from mh_support.safety.resources import countries
from mh_support.support_bot import SupportBot

APP = Path(__file__).resolve().parent.parent / "space" / "app.py"
SAID = ("I feel alone since I moved here.", "I keep putting off my exam revision.", "I cannot sleep before work.")
CRISIS = "I want to kill myself tonight."


@dataclass
class Figures:
    """What was seen."""

    first: list[float] = field(default_factory=list)  # Seconds until the first words of a generated reply.
    whole: list[float] = field(default_factory=list)  # Seconds until all of it.
    crisis: list[float] = field(default_factory=list)  # Seconds until the reply to a crisis.
    characters: int = 0
    conversations: int = 0
    failed: int = 0
    mixed_up: int = 0
    place: int = 0  # The furthest back that anybody was told to be.


async def ask(client: httpx.AsyncClient, messages: list[dict[str, str]], country: str, figures: Figures) -> str:
    """Return a whole reply, as the page asks for it: of a crisis at once, else through the queue."""
    session, begun, first, text = secrets.token_hex(16), time.perf_counter(), None, ""
    urgent = await client.post("crisis", json={"messages": messages, "country": country})
    found = urgent.raise_for_status().json()
    if found["kind"] == "crisis":
        figures.crisis.append(time.perf_counter() - begun)
        return str(found["text"])
    join = {"data": [messages, 0.7, 128, country, "en"], "fn_index": 0, "session_hash": session}
    (await client.post("gradio_api/queue/join", json=join)).raise_for_status()
    async with client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as answer:
        async for line in answer.aiter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {"msg": None}
            if message["msg"] == "estimation":
                figures.place = max(figures.place, message["rank"])
            elif message["msg"] == "process_generating":
                first = time.perf_counter() - begun if first is None else first
                update = message["output"]["data"][0]
                text = update["text"] if isinstance(update, dict) else _grown(text, update)
            elif message["msg"] == "process_completed":
                if not message["success"] or not text:
                    raise RuntimeError("no reply")
                break
    figures.first.append(first or 0.0)
    figures.whole.append(time.perf_counter() - begun)
    figures.characters += len(text)
    return text


def _grown(text: str, update: list[list[object]]) -> str:
    for change, path, value in update:
        if path == ["text"]:
            text = text + str(value) if change == "append" else str(value)
    return text


async def person(client: httpx.AsyncClient, number: int, until: float, figures: Figures) -> None:
    """Hold one conversation after another until the time is over."""
    rng, country = random.Random(number), countries()[number % len(countries())]
    while time.monotonic() < until:
        messages: list[dict[str, str]] = []
        try:
            for said in (rng.choice(SAID), rng.choice(SAID), CRISIS):
                messages.append({"role": "user", "content": said})
                reply = await ask(client, messages, country, figures)
                messages.append({"role": "assistant", "content": reply})
        except (httpx.HTTPError, RuntimeError):
            figures.failed += 1
            continue
        figures.conversations += 1
        expected = crisis_reply(assess(messages[:-1]), resources_for(country), 2)
        figures.mixed_up += messages[-1]["content"] != expected


async def everyone(address: str, people: int, seconds: float, figures: Figures) -> None:
    """Let all of them talk at once."""
    limits = httpx.Limits(max_connections=2 * people)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits, trust_env=False) as client:
        until = time.monotonic() + seconds
        await asyncio.gather(*(person(client, number, until, figures) for number in range(people)))


def plain(model: str, seconds: float) -> float:
    """Return the characters a second that the model writes alone, one reply after another, with nothing around it."""
    bot = SupportBot.from_pretrained(model)
    written, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        prompt = [{"role": "user", "content": SAID[written % len(SAID)]}]
        ids = bot.tokenizer.apply_chat_template(prompt, return_tensors="pt", return_dict=True)["input_ids"]
        with torch.inference_mode():
            made = bot.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=bot.config)
        written += len(bot.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
    return written / (time.perf_counter() - begun)


def main() -> None:
    """Start the app, visit it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--concurrency", default="16")
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [
        "--port",
        str(port),
        "--model",
        arguments.model,
        "--speech",
        "none",
        "--concurrency",
        arguments.concurrency,
    ]
    app = subprocess.Popen([sys.executable, "-u", str(APP), *flags], stdout=subprocess.PIPE, text=True)
    try:
        assert app.stdout is not None
        while "Running on local URL" not in (line := app.stdout.readline()):
            assert line, "the app ended by itself"
        threading.Thread(target=app.stdout.read, daemon=True).start()
        memory, figures = psutil.Process(app.pid).memory_info, Figures()
        asyncio.run(everyone(f"http://127.0.0.1:{port}/", 2, 5, Figures()))  # To warm up.
        before, begun = memory().rss, time.perf_counter()
        asyncio.run(everyone(f"http://127.0.0.1:{port}/", arguments.people, arguments.seconds, figures))
        took, after = time.perf_counter() - begun, memory().rss
    finally:
        app.terminate()
        app.wait()
    for name, value in {
        "people at once": arguments.people,
        "conversations": figures.conversations,
        "failed": figures.failed,
        "mixed up": figures.mixed_up,
        "furthest place in the queue": figures.place,
        "seconds to first words, median": f"{np.median(figures.first):.2f}",
        "seconds to first words, p95": f"{np.percentile(figures.first, 95):.2f}",
        "seconds to the whole reply, p95": f"{np.percentile(figures.whole, 95):.2f}",
        "seconds to the reply to a crisis, p95": f"{np.percentile(figures.crisis, 95):.2f}",
        "replies a second": f"{len(figures.whole) / took:.2f}",
        "characters a second": f"{figures.characters / took:.0f}",
        "characters a second, plain generate, one at a time": f"{plain(arguments.model, 10):.0f}",
        "memory before and after, MB": f"{before / 1e6:.0f} {after / 1e6:.0f}",
    }.items():
        print(f"{name:52}{value}")
    raise SystemExit(figures.failed + figures.mixed_up > 0)


if __name__ == "__main__":
    main()
