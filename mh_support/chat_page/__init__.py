"""The chat page: what a person sees in the browser, and the server that answers it.

`build_server` makes the server around a bot. The page itself is page.html, page.css and a few small scripts; its words
stand in texts/, a file a language.
"""

from mh_support.chat_page.server import build_server, launch

__all__ = ["build_server", "launch"]
