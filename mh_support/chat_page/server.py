"""The server behind the chat page: Gradio's queue and API, the page's files, and nothing that remembers a person.

The conversation lives in the page. Each request carries all of it, so a server that is restarted has lost nothing, and
there is nothing of one person that another could be shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

# Before gradio is loaded: nothing about a visit is reported to anybody.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# It also keeps times of the last ten thousand events, and sums them up anew after each; nobody here looks at them.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")

import gradio as gr
from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment

from mh_support.chat_page.limits import MAX_CHARACTERS, MAX_MESSAGES, Limits
from mh_support.chat_page.ratings import add_ratings
from mh_support.chat_page.recordings import MAX_SECONDS, add_recordings
from mh_support.chat_page.replies import add_crisis, chat_function
from mh_support.chat_page.texts import CONSENT, help_by_country, languages, preferred
from mh_support.extras import how_to_install
from mh_support.safety.disclosure import profile_named

if TYPE_CHECKING:
    from mh_support.feedback import FeedbackStore
    from mh_support.speech import Transcriber
    from mh_support.translation import Translator

MAX_BYTES = 2_500_000  # Of one request: a minute of speech, or the longest conversation.
MAX_WAITING = 100  # People in the queue; who comes then is told so at once.
PATHS = (
    *("/", "/page/", "/crisis", "/voice", "/ratings/", "/v1/", "/config", "/gradio_api/info", "/gradio_api/queue/"),
    *("/gradio_api/call/", "/gradio_api/cancel", "/gradio_api/heartbeat/", "/gradio_api/startup-events"),
    *("/gradio_api/mcp", "/gradio_api/mcp/", "/gradio_api/app_id", "/theme.css", "/robots.txt"),
)
_TYPES = {".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml"}
_HEADERS = {
    # The browser itself refuses whatever would leave this server.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "object-src 'none'; frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def build_server(
    bot: Any,
    *,
    translators: Mapping[str, Translator] | None = None,
    transcriber: Transcriber | None = None,
    feedback: FeedbackStore | None = None,
    concurrency: int = 4,
    profile: str = "standard",
) -> gr.Server:
    """Return a server of the chat page around `bot`; `launch` starts it.

    Args:
        bot: a `SupportBot`. Its country and its longest reply are where the page's settings begin.
        translators: by language code; who chooses one of these languages is answered in it.
        transcriber: turns speech into text; without one the page has no microphone.
        feedback: where ratings are kept, of those who agree; without one there are none.
        concurrency: how many replies are written at a time; the others wait, and are told how many are before them.
        profile: how often the page says again that this is a program, by `mh_support.safety.disclosure`.

    Raises:
        ValueError: concurrency below 1, so that nobody would be answered, or no such profile.
    """
    rule = profile_named(profile)
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; at least 1 reply must be written at a time")
    translators = {} if translators is None else translators
    server = gr.Server(title="mh-support", docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(Limits, paths=PATHS, max_bytes=MAX_BYTES)
    chat = chat_function(bot, translators, feedback)
    server.api(_on_zero_gpu(chat), name="chat", concurrency_limit=concurrency)
    settings = {
        "help": help_by_country(),
        "country": bot.resources.country,
        "temperature": bot.config.temperature,
        "length": bot.config.max_new_tokens,
        "languages": {code: texts["language_name"] for code, texts in languages().items()},
        "translated": sorted(translators),
        "voice": transcriber is not None,
        "consent": None if feedback is None else CONSENT,
        "reminder": {
            "seconds": rule.every.total_seconds(),
            "texts": ["reminder", "break"] if rule.proposes_break else ["reminder"],
        },
        "max_characters": MAX_CHARACTERS,
        "max_messages": MAX_MESSAGES,
        "max_seconds": MAX_SECONDS,
    }
    _add_page(server, settings)
    add_crisis(server, bot)
    if transcriber is not None:
        add_recordings(server, transcriber)
    if feedback is not None:
        add_ratings(server, feedback)
    return server


def launch(
    server: gr.Server, *, host: str | None = None, port: int | None = None, mcp: bool = False, block: bool = True
) -> str:
    """Serve until stopped, or return at once if not `block`; return the address.

    Raises:
        ValueError: `mcp` is asked for and its package is not installed, or Gradio cannot start it.
    """
    if mcp and find_spec("mcp") is None:  # Gradio itself would go on without it.
        raise ValueError(f"the MCP server needs a package that is not installed; {how_to_install('mcp')}")
    _, address, _ = server.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        # The page is ours. Gradio's own would come from another process, and its server ends itself where it has to
        # wait for that page at the start, as it does when it comes back to many who are trying again.
        ssr_mode=False,
        _frontend=False,
        state_session_capacity=MAX_WAITING,  # Each request is a session of its own, and has no state.
        run_history=False,  # It would keep what people wrote in their browsers.
        mcp_server=mcp,
        quiet=not block,
    )
    blocks = server.get_blocks()
    if mcp and not blocks.mcp_server:  # Gradio says so where nobody may look, and serves the page without it.
        blocks.close(verbose=False)
        raise ValueError(f"the MCP server cannot be started ({blocks.mcp_error}); start without --mcp, or mend it")
    # Server.launch makes the queue itself and takes no limit for it.
    blocks._queue.max_size = MAX_WAITING
    if block:
        blocks.block_thread()
    return str(address)


def _on_zero_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as a Space with ZeroGPU wants it, where it runs on one."""
    if find_spec("spaces") is None:
        return function
    decorated: Callable[..., Any] = import_module("spaces").GPU(function)
    return decorated


def _add_page(server: gr.Server, settings: dict[str, Any]) -> None:
    """Serve the page and its files: only those, each read once, so that no path leads anywhere else."""
    folder = files("mh_support.chat_page")
    template = Environment(autoescape=True).from_string((folder / "page.html").read_text(encoding="utf-8"))
    parts = [part for part in folder.iterdir() if part.name.endswith((".css", ".js", ".svg"))]
    served = {part.name: part.read_bytes() for part in parts}
    scripts = sorted(name for name in served if name.endswith(".js"))  # All asked for at once, not one after another.

    def function() -> int:
        """Return the number that Gradio's queue knows the chat by."""
        return next(number for number, fn in server.get_blocks().fns.items() if fn.api_name == "chat")

    @server.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page(request: Request, lang: str | None = None) -> HTMLResponse:
        wanted = request.headers.get("accept-language", "").replace(";", ",").split(",")
        language = preferred([lang] if lang else wanted)
        known = settings | {"function": function()}
        html = template.render(language=language, texts=languages()[language], settings=known, scripts=scripts)
        return HTMLResponse(html, headers=_HEADERS)

    @server.get("/page/texts/{language}", include_in_schema=False)
    def texts(language: str) -> JSONResponse:
        if language not in languages():
            return JSONResponse({"error": f"the page has no such language; it has {', '.join(languages())}"}, 404)
        return JSONResponse(languages()[language], headers=_HEADERS)

    @server.get("/page/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in served:
            return JSONResponse({"error": "the page has no such file"}, 404)
        return Response(served[name], media_type=_TYPES[name[name.rindex(".") :]], headers=_HEADERS)
