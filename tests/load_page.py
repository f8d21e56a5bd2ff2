"""Visit the chat page with many people at once, and say how they fared, beside the same model served by itself.

    python tests/load_page.py --people 50 --seconds 180
    python tests/load_page.py --people 50 --seconds 180 --model runs/latest --json load.json

Each server is a process of its own. Each person goes through conversations of three turns: two ordinary ones, then a
crisis in a country of their own, whose emergency number and services must come back, and nobody else's. The same people
then put their ordinary turns to plain_server.py. The page also holds --conversations short ones, its memory read after
every twentieth of them. It ends with 1 if a conversation failed, was mixed up, or if memory went on growing.
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
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from mh_support.safety import assess, crisis_reply, resources_for
from mh_support.safety.resources import countries

TESTS = Path(__file__).resolve().parent
SAID = ("I feel alone since I moved here.", "I keep putting off my exam revision.", "I cannot sleep before work.")
CRISIS = "I want to kill myself tonight."
LENGTH, SHORT = 128, 8  # Tokens of a reply at most; the shorter ones where only memory is looked at.
MOST_GROWTH = 30.0  # MB, from the second quarter of the conversations to the last: the allocator's breathing.

Messages = list[dict[str, str]]


@dataclass
class Figures:
    """What was seen of one server."""

    first: list[float] = field(default_factory=list)  # Seconds until the first words of a generated reply.
    whole: list[float] = field(default_factory=list)  # Seconds until all of it.
    crisis: list[float] = field(default_factory=list)  # Seconds until the reply to a crisis.
    characters: int = 0
    conversations: int = 0
    failed: int = 0
    mixed_up: int | None = None  # None where nothing could tell, as for the next.
    place: int | None = None  # The furthest back that anybody was told to be.
    took: float = 0.0

    def summary(self) -> dict[str, float | int | None]:
        """Return what is reported."""
        return {
            "conversations": self.conversations,
            "replies": len(self.whole),
            "failed": self.failed,
            "mixed_up": self.mixed_up,
            "furthest_place_in_queue": self.place,
            "seconds_to_first_words_median": _percentile(self.first, 50),
            "seconds_to_first_words_p95": _percentile(self.first, 95),
            "seconds_to_whole_reply_p95": _percentile(self.whole, 95),
            "seconds_to_crisis_reply_p95": _percentile(self.crisis, 95),
            "replies_per_second": round(len(self.whole) / self.took, 2),
            "characters_per_second": round(self.characters / self.took, 1),
        }


def _percentile(values: list[float], share: int) -> float | None:
    return round(float(np.percentile(values, share)), 3) if values else None


# One reply


async def timed(pieces: AsyncIterator[str], figures: Figures) -> str:
    """Read a reply that comes as ever longer texts, and note how long it took."""
    begun, first, text = time.perf_counter(), None, ""
    async for text in pieces:
        first = time.perf_counter() - begun if first is None and text else first
    if first is None:
        raise RuntimeError("no reply")
    figures.first.append(first)
    figures.whole.append(time.perf_counter() - begun)
    figures.characters += len(text)
    return text


async def from_queue(client: httpx.AsyncClient, data: list[Any], figures: Figures) -> AsyncIterator[str]:
    """Yield a reply of the page's as it grows."""
    session, text = secrets.token_hex(16), ""
    join = {"data": data, "fn_index": 0, "session_hash": session}
    (await client.post("gradio_api/queue/join", json=join)).raise_for_status()
    async with client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as answer:
        async for line in answer.aiter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {"msg": None}
            if message["msg"] == "estimation":
                figures.place = max(figures.place or 0, message["rank"])
            elif message["msg"] == "process_generating":
                update = message["output"]["data"][0]
                text = update["text"] if isinstance(update, dict) else _grown(text, update)
                yield text
            elif message["msg"] == "process_completed":
                if not message["success"]:
                    raise RuntimeError("the reply failed")
                return
    raise RuntimeError("the reply broke off")


def _grown(text: str, update: list[list[object]]) -> str:
    for change, path, value in update:
        if path == ["text"]:
            text = text + str(value) if change == "append" else str(value)
    return text


async def from_plain(client: httpx.AsyncClient, messages: Messages) -> AsyncIterator[str]:
    """Yield a reply of the plain server's as it grows."""
    text = ""
    async with client.stream("POST", "reply", json=messages) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_text():
            text += piece
            yield text


# One conversation


async def with_page(client: httpx.AsyncClient, rng: random.Random, country: str, figures: Figures, length: int) -> None:
    """Talk as the page does: a crisis is answered at once, all else through the queue."""
    messages: Messages = []
    for said in (*rng.choices(SAID, k=1 if length == SHORT else 2), CRISIS):
        messages.append({"role": "user", "content": said})
        begun = time.perf_counter()
        urgent = await client.post("crisis", json={"messages": messages, "country": country})
        found = urgent.raise_for_status().json()
        if found["kind"] == "crisis":
            figures.crisis.append(time.perf_counter() - begun)
            break
        reply = await timed(from_queue(client, [messages, 0.7, length, country, "en"], figures), figures)
        messages.append({"role": "assistant", "content": reply})
    turn = sum(message["role"] == "user" for message in messages) - 1
    theirs = found["text"] == crisis_reply(assess(messages), resources_for(country), turn)
    figures.mixed_up = (figures.mixed_up or 0) + (not theirs)


async def with_plain(
    client: httpx.AsyncClient, rng: random.Random, country: str, figures: Figures, length: int
) -> None:
    """Put two ordinary turns to the plain server."""
    messages: Messages = []
    for said in rng.choices(SAID, k=2):
        messages.append({"role": "user", "content": said})
        messages.append({"role": "assistant", "content": await timed(from_plain(client, messages), figures)})


Talk = Callable[[httpx.AsyncClient, random.Random, str, Figures, int], Awaitable[None]]


async def everyone(
    address: str, people: int, talk: Talk, go_on: Callable[[Figures], bool], length: int = LENGTH
) -> Figures:
    """Let all of them hold one conversation after another for as long as `go_on` says."""
    figures, begun = Figures(), time.perf_counter()

    async def person(number: int) -> None:
        rng, country = random.Random(number), countries()[number % len(countries())]
        while go_on(figures):
            try:
                await talk(client, rng, country, figures, length)
            except (httpx.HTTPError, RuntimeError):
                figures.failed += 1
            else:
                figures.conversations += 1

    limits = httpx.Limits(max_connections=2 * people)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits, trust_env=False) as client:
        await asyncio.gather(*map(person, range(people)))
    figures.took = time.perf_counter() - begun
    return figures


# The servers


@contextmanager
def started(*command: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start a server on a free port; give its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    with subprocess.Popen([sys.executable, *command, "--port", str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    httpx.get(address, trust_env=False)
                    break
                except httpx.TransportError:
                    if process.poll() is not None:
                        raise RuntimeError(f"{command[0]} ended by itself, with {process.returncode}") from None
                    time.sleep(0.1)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


def under_load(address: str, people: int, seconds: float, talk: Talk) -> Figures:
    """Let people talk for some time, two of them for a moment before that is counted."""

    def lasting(span: float) -> Callable[[Figures], bool]:
        end = time.monotonic() + span
        return lambda figures: time.monotonic() < end

    asyncio.run(everyone(address, 2, talk, lasting(min(5.0, seconds))))
    return asyncio.run(everyone(address, people, talk, lasting(seconds)))


def memory_over(address: str, process: psutil.Process, people: int, conversations: int) -> dict[str, Any]:
    """Hold short conversations and return the memory seen on the way, in MB."""
    seen: list[float] = []

    def go_on(figures: Figures) -> bool:
        held = figures.conversations + figures.failed
        while len(seen) <= 20 * held // conversations:
            seen.append(round(process.memory_info().rss / 1e6, 1))
        return held < conversations

    figures = asyncio.run(everyone(address, people, with_page, go_on, SHORT))
    quarters = np.array_split(seen, 4)
    growth = round(float(np.mean(quarters[3]) - np.mean(quarters[1])), 1)
    counted = {"conversations": figures.conversations, "failed": figures.failed, "mixed_up": figures.mixed_up}
    return {**counted, "seen_mb": seen, "growth_mb": growth, "flat": growth <= MOST_GROWTH}


# The report


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that are printed."""
    yield f"{report['people']} people at once, {report['seconds']:g} seconds, {report['model']}"
    yield f"{'':34}{'page':>12}{'plain':>12}"
    for name, value in report["page"].items():
        beside = report["plain"][name]
        yield f"{name.replace('_', ' '):34}" + "".join(f"{'-' if one is None else one:>12}" for one in (value, beside))
    memory = report["memory"]
    yield f"memory over {memory['conversations']} conversations, MB: {memory['seen_mb'][0]} to {memory['seen_mb'][-1]},"
    verdict = "flat" if memory["flat"] else "NOT FLAT"
    yield f"growth from the second quarter to the last: {memory['growth_mb']} ({verdict})"


def main() -> None:
    """Start the servers, visit them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--conversations", type=int, default=2_000)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--concurrency", default="16")
    parser.add_argument("--json", type=Path, help="File for the figures.")
    asked = parser.parse_args()
    app = [str(TESTS.parent / "space" / "app.py"), "--speech", "none", "--concurrency", asked.concurrency]
    with started(*app, "--model", asked.model) as (address, process):
        page = under_load(address, asked.people, asked.seconds, with_page)
        memory = memory_over(address, process, asked.people, asked.conversations)
    with started(str(TESTS / "plain_server.py"), "--model", asked.model) as (address, _):
        plain = under_load(address, asked.people, asked.seconds, with_plain)
    report = {"people": asked.people, "seconds": asked.seconds, "model": asked.model}
    report |= {"page": page.summary(), "plain": plain.summary(), "memory": memory}
    print("\n".join(table(report)))
    if asked.json is not None:
        asked.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    wrong = page.failed + (page.mixed_up or 0) + plain.failed + memory["failed"] + (memory["mixed_up"] or 0)
    raise SystemExit(wrong > 0 or not memory["flat"])


if __name__ == "__main__":
    main()
