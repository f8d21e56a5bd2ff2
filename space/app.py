"""A chat in the browser, through the same reply path as everywhere else.

    python space/app.py --model runs/latest --port 7860
    python space/app.py

On the Hub it takes the model's id from settings.json, which is published beside it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Before gradio is loaded: nothing about a visit is reported to anybody.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from mh_support.cli import run
from mh_support.dialogue import check_messages
from mh_support.safety import NOTICE
from mh_support.support_bot import SupportBot

TITLE = "A small model that listens"
# The device's own fonts: nothing has to be fetched, and every script that it can show is shown.
THEME = gr.themes.Soft(primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
EXAMPLES = ["I feel alone since I moved here.", "I keep putting off my exam revision.", "I cannot sleep before work."]


def build(bot: SupportBot) -> gr.Blocks:
    """Return the page: the notice, always in sight, and a chat that streams."""

    def answer(message: str, history: list[dict[str, Any]]) -> Iterator[str]:
        if not message.strip():
            return  # Enter was pressed on nothing.
        said = check_messages([{"role": turn["role"], "content": turn["content"]} for turn in history])
        stream = bot.stream([*said, {"role": "user", "content": message}])
        try:
            for _ in stream:
                yield stream.text
        finally:
            # Pressing stop ends this generator: the model must not go on writing for nobody.
            stream.close()

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\n\n{NOTICE}")
        gr.ChatInterface(
            answer,
            chatbot=gr.Chatbot(label="Conversation", height="60vh", render_markdown=False, buttons=["copy"]),
            textbox=gr.Textbox(
                label="Your message",
                placeholder="What is on your mind?",
                max_length=4000,
                submit_btn="Send",
                stop_btn="Stop",
            ),
            examples=EXAMPLES,
            save_history=False,
        )
    return page


def default_model() -> str:
    """Return the model that was published with this app, or the starter."""
    settings = Path(__file__).with_name("settings.json")
    if not settings.is_file():
        return "starter"
    return str(json.loads(settings.read_text(encoding="utf-8"))["model_name_or_path"])


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model and serve the page until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=default_model(), help="A run folder, a saved model, an adapter or a Hub id.")
    parser.add_argument("--country", default=os.environ.get("COUNTRY"), help="ISO 3166 code of the services to name.")
    parser.add_argument("--host", default=None, help="Address to listen on; by default this machine only.")
    parser.add_argument("--port", type=int, default=None, help="Port; 7860 by default.")
    arguments = parser.parse_args(argv)
    bot = SupportBot.from_pretrained(arguments.model, country=arguments.country)
    build(bot).queue().launch(server_name=arguments.host, server_port=arguments.port, theme=THEME)


if __name__ == "__main__":
    run(main)
