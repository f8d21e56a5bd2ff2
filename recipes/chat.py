"""Talk to a model in the terminal.

python recipes/chat.py starter
python recipes/chat.py runs/latest --country GB
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mh_support.cli import ArgumentParser, run
from mh_support.dialogue import Message
from mh_support.generation import MAX_NEW_TOKENS
from mh_support.safety.counts import ReplyCounts
from mh_support.safety.disclosure import PROFILES, disclosure
from mh_support.support_bot import SupportBot


@dataclass
class ChatArguments:
    """How to talk."""

    country: str | None = field(
        default=None, metadata={"help": "ISO 3166 code, such as GB, of the services to name in a crisis."}
    )
    max_new_tokens: int = field(default=MAX_NEW_TOKENS, metadata={"help": "Tokens a reply has at most."})
    profile: str = field(
        default="standard",
        metadata={
            "help": "How often to say that this is a program: every three hours, or, if strict, every hour.",
            "choices": list(PROFILES),
        },
    )
    counts: str | None = field(
        default=None, metadata={"help": "JSON file to count replies by kind in, without what was said."}
    )
    temperature: float = field(default=0.7, metadata={"help": "Lower is more predictable."})


def main(argv: Sequence[str] | None = None) -> None:
    """Read a line, answer it, until the input ends."""
    parser = ArgumentParser(ChatArguments, description=__doc__)
    parser.add_argument(
        "model", metavar="RUN_OR_ID", help="A run folder, a saved model, an adapter, a Hub id or starter."
    )
    arguments, rest = parser.parse(argv)
    bot = SupportBot.from_pretrained(
        rest.model,
        country=arguments.country,
        counts=ReplyCounts(arguments.counts),
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
    )
    told: datetime | None = None
    messages: list[Message] = []
    while True:
        notice = disclosure(told, now := datetime.now(UTC), arguments.profile)
        if notice is not None:
            print(f"{notice}\n")
            if told is None:
                print("Write a line and press Enter. Ctrl-D ends; nothing is kept.\n")
            told = now
        said = _read()
        if said is None:
            break
        if not said.strip():
            continue
        messages.append({"role": "user", "content": said})
        stream = bot.stream(messages)
        print("bot: ", end="", flush=True)
        for piece in stream:
            print(piece, end="", flush=True)
        print("\n")
        messages.append({"role": "assistant", "content": stream.text})


def _read() -> str | None:
    try:
        return input("you: ")
    except EOFError:
        return None


if __name__ == "__main__":
    run(main)
