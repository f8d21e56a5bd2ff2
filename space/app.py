"""A chat in the browser, through the same reply path as everywhere else.

    python space/app.py --model runs/latest --port 7860
    python space/app.py

On the Hub it takes the model's id from settings.json, which is published beside it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from mh_support.chat_page import build_server, launch
from mh_support.chat_page.texts import check_country
from mh_support.cli import run
from mh_support.support_bot import SupportBot


def default_model() -> str:
    """Return the model that was published with this app, or the starter."""
    settings = Path(__file__).with_name("settings.json")
    if not settings.is_file():
        return "starter"
    return str(json.loads(settings.read_text(encoding="utf-8"))["model_name_or_path"])


def parser() -> argparse.ArgumentParser:
    """Return what can be asked of the app; on the Hub, a Space's variables stand for what is not given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default=default_model(), help="A run folder, a saved model, an adapter or a Hub id.")
    made.add_argument("--country", default=os.environ.get("COUNTRY"), help="ISO 3166 code of the services to name.")
    made.add_argument("--host", default=None, help="Address to listen on; by default this machine only.")
    made.add_argument("--port", type=int, default=None, help="Port; 7860 by default.")
    made.add_argument("--concurrency", type=int, default=4, help="Replies to write at a time; others wait their turn.")
    made.add_argument("--mcp", action="store_true", help="Offer the chat as an MCP tool too; needs gradio[mcp].")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model and serve the page until stopped."""
    arguments = parser().parse_args(argv)
    country = check_country(arguments.country)
    bot = SupportBot.from_pretrained(arguments.model, country=country)
    server = build_server(bot, concurrency=arguments.concurrency)
    launch(server, host=arguments.host, port=arguments.port, mcp=arguments.mcp)


if __name__ == "__main__":
    run(main)
