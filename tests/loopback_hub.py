"""Run a small Hub on this machine that the real Hugging Face clients push to and pull from.

    python tests/loopback_hub.py --root hub_store --port 8765
    HF_ENDPOINT=http://127.0.0.1:8765 HF_HUB_DISABLE_XET=1 HF_TOKEN=hf_loopback python any_client.py

The tests run it in a thread and make chosen requests fail: see `LoopbackHub`.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import uvicorn
from loopback_endpoints import Endpoints, error_response
from loopback_store import Commit, HubError, Repo, Store
from starlette.types import Message, Receive, Scope, Send

Fault = Literal["500", "503", "403", "429", "disconnect", "lost"]
TOKEN = "hf_" + "loopback" * 4  # for tests: as long as a real one
WRONG_TOKEN = error_response(None, HubError(401, "", "Invalid credentials in Authorization header"))


class Faults:
    """Note every request, and say which of them is to fail. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[tuple[str, str]] = []
        self._count = 0
        self.clear()

    def clear(self) -> None:
        """Let nothing fail from here on."""
        with self._lock:
            self._at: dict[int, Fault] = {}
            self._always: list[tuple[Callable[[str, str], bool], Fault]] = []

    def fail(self, at: int, how: Fault) -> None:
        """Let the `at`-th request from now fail, counted from 0."""
        with self._lock:
            self._at[self._count + at] = _known(how)

    def fail_always(self, match: Callable[[str, str], bool], how: Fault) -> None:
        """Let every request fail that matches."""
        with self._lock:
            self._always.append((match, _known(how)))

    def next(self, method: str, path: str) -> Fault | None:
        """Note a request and return how it fails, None when it is to be answered."""
        with self._lock:
            self._seen.append((method, path))
            self._count += 1
            once = self._at.pop(self._count - 1, None)
            return once or next((how for match, how in self._always if match(method, path)), None)

    def seen(self) -> list[tuple[str, str]]:
        """Return the requests noted so far."""
        with self._lock:
            return list(self._seen)

    def forget(self) -> None:
        """Start the list of requests anew."""
        with self._lock:
            self._seen.clear()


def _known(how: Fault) -> Fault:
    if how not in get_args(Fault):
        raise ValueError(f"how={how!r} is no way to fail; choose one of {', '.join(get_args(Fault))}")
    return how


class LoopbackHub:
    """A Hub on a free port of this machine, for as long as the `with` block lasts.

    Args:
        root: folder that keeps the repositories; a Hub started on it again still has them.
        tokens: the valid tokens; any other one is refused with 401.
        user: whom the tokens belong to; names without an owner are created under it.
        port: 0 takes a free port.

    Example:
        >>> with LoopbackHub(tmp_path) as hub:
        ...     api = HfApi(endpoint=hub.url, token="hf_loopback")
        ...     api.create_repo("me/x", private=True)
        ...     hub.fail(1, "500")  # the first request from here passes, the second fails
        ...     hub.requests
        [('POST', '/api/repos/create')]
    """

    def __init__(
        self, root: str | Path, tokens: Sequence[str] = ("hf_loopback",), *, user: str = "me", port: int = 0
    ) -> None:
        self._store = Store(Path(root))
        self._endpoints = Endpoints(self._store, user)
        self._app = self._endpoints.app()
        self._allowed = {f"Bearer {token}".encode() for token in tokens}
        self._faults = Faults()
        self._port = port

    def __enter__(self) -> LoopbackHub:
        # Without its proto, asyncio would leave Nagle's algorithm on, which costs 40 ms an answer.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", self._port))
        except OSError:
            self._socket.close()
            raise
        self._socket.listen()  # here, so that a client may connect before the server's thread is up
        self._port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._serve, interface="asgi3", http="h11", ws="none", lifespan="off", loop="asyncio",
            log_config=None, log_level="error", access_log=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def wait(self) -> None:
        """Serve until the process is interrupted."""
        self._thread.join()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT or `endpoint=` takes."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """(method, path) of every request so far, failed ones too; paths as sent, without the query."""
        return self._faults.seen()

    def reset(self) -> None:
        """Be a new Hub again: no repositories, no faults, no requests so far. Much quicker than starting another.

        Call it while no request is under way.
        """
        self.clear_faults()
        self.clear_requests()
        self._store.clear()

    def clear_requests(self) -> None:
        """Empty the list of requests."""
        self._faults.forget()

    def fail(self, at: int, how: Fault) -> None:
        """Let one request fail: the `at`-th from now, counted from 0.

        500, 503, 403 and 429 are answered instead of doing anything. `disconnect` cuts the connection without doing
        anything; `lost` does what was asked and cuts it instead of answering. Note that the clients try some
        requests again on their own after 429, 5xx or a cut. Raises ValueError for any other `how`.
        """
        self._faults.fail(at, how)

    def fail_always(self, match: Callable[[str, str], bool], how: Fault) -> None:
        """Let every request fail for which `match(method, path)` is true, until `clear_faults`."""
        self._faults.fail_always(match, how)

    def refuse_spaces(self, message: str, status: int = 402) -> None:
        """Refuse to create Spaces with this message, as the Hub does when a plan is needed."""
        self._endpoints.space_refusal = (status, message)

    def clear_faults(self) -> None:
        """Answer every request again, and create Spaces again."""
        self._faults.clear()
        self._endpoints.space_refusal = None

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        """Return a repository to look at (`private`, `sdk`, `tags`, `secrets`, ...). Raises KeyError."""
        return self._store.repos[repo_type, repo_id]

    def files(self, repo_id: str, repo_type: str = "model", revision: str = "main") -> dict[str, bytes]:
        """Return the bytes of every file, by path. A new repository has one: .gitattributes."""
        commit = self.repo(repo_id, repo_type).at(revision)
        return {path: self._store.blob(file.sha256).read_bytes() for path, file in commit.files.items()}

    def commits(self, repo_id: str, repo_type: str = "model", revision: str = "main") -> list[Commit]:
        """Return the commits, newest first; the last one is "initial commit"."""
        return self.repo(repo_id, repo_type).history(revision)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["raw_path"].decode()  # %2F in a revision or a path is no separator
        how = self._faults.next(scope["method"], scope["path"])
        token = dict(scope["headers"]).get(b"authorization")
        answer = self._app if token is None or token in self._allowed else WRONG_TOKEN
        if how == "lost":
            await answer(scope, receive, _swallow)
            await self._cut(scope, receive)
        elif how == "disconnect":
            # All is read first, so that the client meets the same error each time.
            while (await receive()).get("more_body"):
                pass
            await self._cut(scope, receive)
        elif how is not None:
            await error_response(None, HubError(int(how), "", f"Injected {how}"))(scope, receive, send)
        else:
            await answer(scope, receive, send)

    async def _cut(self, scope: Scope, receive: Receive) -> None:
        """Close the connection of a request without an answer."""
        connections: set[Any] = self._server.server_state.connections
        for connection in connections:
            if connection.client == scope["client"]:
                connection.transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


async def _swallow(message: Message) -> None:
    """Send nothing."""


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve a small Hub on this machine.")
    parser.add_argument("--root", type=Path, required=True, help="folder that keeps the repositories")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--token", action="append", help="a valid token, may be repeated (default: hf_loopback)")
    args = parser.parse_args(argv)
    try:
        with LoopbackHub(args.root, args.token or ["hf_loopback"], port=args.port) as hub:
            print(f"Serving {args.root} at {hub.url}; stop with Ctrl-C.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                hub.wait()
    except OSError as error:
        raise SystemExit(f"error: cannot serve on port {args.port}: {error.strerror}; choose another --port") from None


if __name__ == "__main__":
    main()
