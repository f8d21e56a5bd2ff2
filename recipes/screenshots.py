"""Take pictures of the chat page's main states, to be looked at after every change of it.

python recipes/screenshots.py --output_dir pictures
python recipes/screenshots.py --model runs/latest --readme_picture model_card/pictures/space.png

It needs a Chromium, and the package playwright.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import torch
from PIL import Image

from mh_support.chat_page import build_server, launch
from mh_support.chat_page.texts import CONSENT
from mh_support.cli import ArgumentParser, run
from mh_support.files import replacing
from mh_support.support_bot import SupportBot

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1100, "height": 760}
SAID = "I feel alone since I moved here."
CRISIS = "I don't want to be alive any more."
_MARGIN = 24  # Pixels between the phones in the README's picture.


@dataclass
class ScreenshotArguments:
    """What is shown, and where the pictures go."""

    model: str = field(default="starter", metadata={"help": "A run folder, a saved model, an adapter or a Hub id."})
    output_dir: str = field(default="pictures", metadata={"help": "Folder for the pictures."})
    readme_picture: str | None = field(default=None, metadata={"help": "File for three phones side by side."})
    browser: str = field(default="/usr/bin/chromium", metadata={"help": "The Chromium to use."})
    country: str = field(default="GB", metadata={"help": "ISO 3166 code of the services to name."})
    seed: int = field(default=29, metadata={"help": "Seed of the replies."})


class Silent:
    """Stands for a transcriber, so that the page has its microphone; nothing is transcribed for a picture."""

    def transcribe(self, audio: Any) -> str:
        """Return no words."""
        return ""


class Unkept:
    """Stands for a store of ratings, so that the page has its thumbs; nothing is rated for a picture."""

    consent = CONSENT

    def sign(self, messages: Any, reply: str) -> str:
        """Return some proof."""
        return "0" * 64


class Pictures:
    """Visits of one page, and the pictures taken on them."""

    def __init__(self, browser: Any, address: str, folder: Path, seed: int) -> None:
        self._browser, self._address, self._folder, self._seed = browser, address, folder, seed
        self.taken: dict[str, bytes] = {}

    def visit(self, viewport: dict[str, int], *, language: str = "en", scheme: str = "light") -> Any:
        """Open the page as a new visitor, to whom the same replies are given."""
        torch.manual_seed(self._seed)
        context = self._browser.new_context(
            viewport=viewport, locale=language, color_scheme=scheme, permissions=["microphone"], device_scale_factor=1
        )
        page = context.new_page()
        page.goto(self._address)
        return page

    def take(self, name: str, page: Any) -> None:
        """Keep a picture of what is seen now."""
        self.taken[name] = page.screenshot()
        (self._folder / f"{name}.png").write_bytes(self.taken[name])


def say(page: Any, text: str, *, wait_for: str = ".assistant:last-child .tools") -> None:
    """Send a message and wait for what comes of it."""
    page.locator("#message").fill(text)
    page.locator("#message").press("Enter")
    page.locator(wait_for).wait_for()


@contextmanager
def served(arguments: ScreenshotArguments, go_on: Event) -> Iterator[str]:
    """Serve a bot whose replies stop after their first piece until `go_on` is set."""
    bot = SupportBot.from_pretrained(arguments.model, country=arguments.country)
    stream = bot.stream

    def held(*asked: Any, **settings: Any) -> Any:
        reply = stream(*asked, **settings)
        pieces = reply._pieces

        def slowly() -> Iterator[str]:
            for piece in pieces:
                yield piece
                go_on.wait()

        reply._pieces = slowly()
        return reply

    bot.stream = held  # type: ignore[method-assign]
    server = build_server(bot, transcriber=Silent(), feedback=Unkept())  # type: ignore[arg-type]
    try:
        yield launch(server, block=False)
    finally:
        server.get_blocks().close(verbose=False)


def take_all(pictures: Pictures, go_on: Event) -> None:
    """Go through the page's main states."""
    page = pictures.visit(DESK)
    pictures.take("empty", page)
    say(page, SAID, wait_for=".pending .words:not(:empty)")
    pictures.take("streaming", page)
    go_on.set()
    page.locator(".assistant .tools").wait_for()
    pictures.take("reply", page)
    say(page, CRISIS)
    pictures.take("crisis", page)
    for dialog in ("help", "settings", "feedback"):
        page.evaluate("id => document.getElementById(id).showModal()", dialog)
        pictures.take(dialog, page)
        page.keyboard.press("Escape")
    page = pictures.visit(PHONE)
    pictures.take("phone", page)
    page.locator("#speak").click()
    page.locator("#speak[aria-pressed=true]").wait_for()
    pictures.take("voice", page)
    page = pictures.visit(PHONE)
    say(page, SAID)
    pictures.take("phone_reply", page)
    say(page, CRISIS)
    pictures.take("phone_crisis", page)
    page = pictures.visit(PHONE, scheme="dark")
    say(page, SAID)
    pictures.take("dark", page)
    page = pictures.visit(PHONE, language="ar", scheme="dark")
    pictures.take("right_to_left", page)


def side_by_side(shown: Sequence[bytes], path: Path) -> None:
    """Write pictures of one size beside each other, in 128 colours, which is all that they need."""
    images = [Image.open(BytesIO(one)).convert("RGB") for one in shown]
    width, height = images[0].size
    whole = Image.new("RGB", (len(images) * (width + _MARGIN) - _MARGIN, height), "white")
    for number, image in enumerate(images):
        whole.paste(image, (number * (width + _MARGIN), 0))
    with replacing(path) as draft:
        whole.quantize(128).save(draft, optimize=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page, visit it and take the pictures."""
    (arguments,) = ArgumentParser(ScreenshotArguments, description=__doc__).parse(argv)
    if not Path(arguments.browser).is_file():
        raise ValueError(f"there is no browser at {arguments.browser}; name a Chromium with --browser")
    from playwright.sync_api import sync_playwright

    folder, go_on = Path(arguments.output_dir), Event()
    folder.mkdir(parents=True, exist_ok=True)
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with served(arguments, go_on) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=["--no-sandbox", *microphone])
        pictures = Pictures(browser, address, folder, arguments.seed)
        take_all(pictures, go_on)
        browser.close()
    if arguments.readme_picture is not None:
        chosen = [pictures.taken[name] for name in ("phone_reply", "phone_crisis", "right_to_left")]
        side_by_side(chosen, Path(arguments.readme_picture))
    for name in pictures.taken:
        print(folder / f"{name}.png")


if __name__ == "__main__":
    run(main)
