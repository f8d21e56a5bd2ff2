"""Answer the requests of the Hugging Face clients for the loopback Hub: one method for each endpoint."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from loopback_store import RUNTIME, HubError, Repo, Store, below, card_errors, card_metadata, upload_mode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}
PAGE = "/{owner}/{name}"
REPO = "/api/{kind}" + PAGE
Handler = Callable[["Endpoints", Request], Awaitable[Any]]
ROUTES: list[tuple[str, str, bool, Handler]] = []


def route(methods: str, *paths: str, public: bool | None = None) -> Callable[[Handler], Handler]:
    """Register an endpoint; everything but reading needs a token unless `public` says otherwise."""

    def register(handler: Handler) -> Handler:
        verbs = [(verb, verb == "GET" if public is None else public) for verb in methods.split()]
        ROUTES.extend((verb, path, is_public, handler) for path in paths for verb, is_public in verbs)
        return handler

    return register


def param(request: Request, name: str) -> str:
    return unquote(request.path_params.get(name, ""))


def type_of(request: Request) -> str:
    kind = request.path_params.get("kind", "models")
    if kind not in TYPES:
        raise HubError(404, "RepoNotFound", f"{kind} is not one of {', '.join(TYPES)}")
    return TYPES[kind]


def flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("1", "true")


def signed_in(request: Request) -> bool:
    """Tell whether a token came along; wrong ones were refused before."""
    return "authorization" in request.headers


def error_response(_: Request | None, error: Exception) -> Response:
    if not isinstance(error, HubError):  # the router found no endpoint
        error = HubError(404, "RepoNotFound", "Repository not found")
    line = " ".join(error.message.split()).encode("ascii", "replace").decode()  # a header is one plain line
    headers = {"X-Error-Message": line} | ({"X-Error-Code": error.code} if error.code else {})
    return JSONResponse(error.body, error.status, headers)


class Endpoints:
    """Answer the requests of the clients from a store."""

    def __init__(self, store: Store, user: str) -> None:
        self.store, self.user = store, user
        self.space_refusal: tuple[int, str] | None = None

    def app(self) -> Starlette:
        routes = [Route(path, self._answer(public, handler), methods=[verb]) for verb, path, public, handler in ROUTES]
        return Starlette(routes=routes, exception_handlers={HubError: error_response, 404: error_response})

    def _answer(self, public: bool, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not public and not signed_in(request):
                raise HubError(401, "", "Invalid username or password.")
            result = await handler(self, request)
            return result if isinstance(result, Response) else JSONResponse(result)

        return answer

    def _repo(self, request: Request) -> Repo:
        """Find the repository of the request; without a token, a private one does not exist."""
        repo = self.store.repos.get((type_of(request), f"{param(request, 'owner')}/{param(request, 'name')}"))
        if repo is None or (repo.private and not signed_in(request)):
            raise HubError(404 if signed_in(request) else 401, "RepoNotFound", "Repository not found")
        return repo

    def _key(self, body: dict[str, Any]) -> tuple[str, str]:
        return body.get("type", "model"), f"{body.get('organization') or self.user}/{body['name']}"

    # Accounts and repositories

    @route("GET", "/api/whoami-v2", public=False)
    async def whoami(self, request: Request) -> Any:
        token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
        return {"type": "user", "id": "1", "name": self.user, "fullname": self.user, "orgs": [], "auth": token}

    @route("POST", "/api/repos/create")
    async def create(self, request: Request) -> Any:
        body = await request.json()
        repo_type, repo_id = self._key(body)
        if repo_type == "space" and self.space_refusal is not None:
            raise HubError(self.space_refusal[0], "", self.space_refusal[1])
        repo = self.store.repos.get((repo_type, repo_id))
        if repo is not None:
            raise HubError(409, "", f"You already created this {repo_type} repo", url=f"{request.base_url}{repo.page}")
        repo = self.store.create(repo_type, repo_id, body.get("visibility") == "private", body.get("sdk"))
        repo.secrets |= {item["key"]: "" for item in body.get("secrets", [])}
        repo.variables |= {item["key"]: item["value"] for item in body.get("variables", [])}
        self.store.save()
        return {"url": f"{request.base_url}{repo.page}", "name": repo_id, "id": repo_id, "private": repo.private}

    @route("DELETE", "/api/repos/delete")
    async def delete(self, request: Request) -> Any:
        if self.store.repos.pop(self._key(await request.json()), None) is None:
            raise HubError(404, "RepoNotFound", "Repository not found")
        self.store.save()
        return {}

    @route("PUT", REPO + "/settings")
    async def settings(self, request: Request) -> Any:
        self._repo(request).private = (await request.json())["visibility"] == "private"
        self.store.save()
        return {}

    @route("POST", "/api/validate-yaml", public=True)
    async def validate_yaml(self, request: Request) -> Any:
        body = await request.json()
        errors = [{"message": text} for text in card_errors(body["content"], body["repoType"])]
        empty = not errors and not card_metadata(body["content"])
        warnings = [{"message": "empty or missing yaml metadata in repo card"}] if empty else []
        return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    @route("GET", "/api/{kind}")
    async def listing(self, request: Request) -> Any:
        kind, author, search = type_of(request), *(request.query_params.get(key, "") for key in ("author", "search"))
        shown = [r for r in self.store.repos.values() if r.type == kind and (not r.private or signed_in(request))]
        found = [r for r in shown if search in r.id and author in ("", r.id.split("/")[0])]
        return [self.store.info(r, r.at("main"), blobs=False) for r in found]

    @route("GET", REPO, REPO + "/revision/{revision}")
    async def info(self, request: Request) -> Any:
        repo = self._repo(request)
        return self.store.info(repo, repo.at(param(request, "revision") or "main"), blobs=flag(request, "blobs"))

    # Files

    @route("GET", REPO + "/tree/{revision}", REPO + "/tree/{revision}/{path:path}")
    async def tree(self, request: Request) -> Any:
        repo, folder = self._repo(request), param(request, "path").strip("/")
        commit, start = repo.at(param(request, "revision")), f"{folder}/" if folder else ""
        paths = [path for path in commit.paths() if path.startswith(start)]
        if folder and not paths:
            raise HubError(404, "EntryNotFound", f"{folder} does not exist on {param(request, 'revision')}")
        shown = paths if flag(request, "recursive") else [path for path in paths if "/" not in path[len(start) :]]
        return [repo.entry(commit, path, flag(request, "expand")) for path in shown]

    @route("POST", REPO + "/paths-info/{revision}", public=True)
    async def paths_info(self, request: Request) -> Any:
        repo, form = self._repo(request), parse_qs((await request.body()).decode())
        commit, expand = repo.at(param(request, "revision")), form.get("expand", [""])[0].lower() == "true"
        paths = [path.strip("/") for path in form.get("paths", [])]
        return [repo.entry(commit, path, expand) for path in paths if below(commit.files, path)]

    @route("GET", PAGE + "/resolve/{revision}/{path:path}", "/{kind}" + PAGE + "/resolve/{revision}/{path:path}")
    async def resolve(self, request: Request) -> Any:
        commit = self._repo(request).at(param(request, "revision"))
        headers, file = {"X-Repo-Commit": commit.id}, commit.files.get(param(request, "path"))
        if file is None:
            missing = error_response(request, HubError(404, "EntryNotFound", "Entry not found"))
            missing.headers.update(headers)  # the clients remember for which commit a file is missing
            return missing
        headers["ETag"] = f'"{file.sha256 if file.large else file.oid}"'
        if file.large:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.size)}
        return FileResponse(self.store.blob(file.sha256), headers=headers, media_type="application/octet-stream")

    @route("POST", REPO + "/preupload/{revision}")
    async def preupload(self, request: Request) -> Any:
        known = self._repo(request).at(param(request, "revision")).files
        return {"files": [upload_mode(f, known.get(f["path"])) for f in (await request.json())["files"]]}

    @route("POST", PAGE + ".git/info/lfs/objects/batch", "/{kind}" + PAGE + ".git/info/lfs/objects/batch")
    async def lfs_batch(self, request: Request) -> Any:
        self._repo(request)
        objects = (await request.json())["objects"]
        for wanted in objects:
            if not self.store.blob(wanted["oid"]).exists():
                wanted["actions"] = {"upload": {"href": f"{request.base_url}lfs-objects/{wanted['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    @route("PUT", "/lfs-objects/{sha256}", public=True)  # as on the Hub, the address came from the batch, no token
    async def lfs_put(self, request: Request) -> Any:
        blob, digest = self.store.blob(param(request, "sha256")), hashlib.sha256()
        with tempfile.TemporaryDirectory(dir=self.store.blobs.parent) as folder:
            part = Path(folder) / "part"
            with part.open("wb") as sink:
                async for chunk in request.stream():
                    digest.update(chunk)
                    sink.write(chunk)
            if digest.hexdigest() != blob.name:
                raise HubError(400, "", f"Expected the sha256 {blob.name}, got {digest.hexdigest()}")
            part.replace(blob)
        return {}

    # Commits, branches and tags

    @route("POST", REPO + "/commit/{revision}")
    async def commit(self, request: Request) -> Any:
        repo, branch = self._repo(request), param(request, "revision")
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        head, header = repo.at(branch), lines[0]["value"]  # nothing is awaited from here on: one commit at a time
        if branch not in repo.branches:
            raise HubError(404, "RevisionNotFound", f"{branch} is not a branch")
        if not head.id.startswith(header.get("parentCommit") or ""):
            raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines[1:]:
            self.store.apply(files, line["key"], line["value"])
        page, answer = f"{request.base_url}{repo.page}", {}
        if flag(request, "create_pr"):
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.branches)
            branch, answer["pullRequestUrl"] = f"refs/pr/{number}", f"{page}/discussions/{number}"
            repo.branches[branch] = head.id
        done = self.store.commit(repo, branch, header["summary"], header.get("description", ""), files)
        return answer | {"success": True, "commitOid": done.id, "commitUrl": f"{page}/commit/{done.id}"}

    @route("POST", REPO + "/super-squash/{revision}")
    async def squash(self, request: Request) -> Any:
        """Leave one commit of a branch, with its files as they are."""
        repo, branch = self._repo(request), param(request, "revision")
        files = repo.at(branch).files
        del repo.branches[branch]  # so that nothing comes before the next commit
        self.store.commit(repo, branch, (await request.json())["message"], "", files)
        return {}

    @route("GET", REPO + "/commits/{revision}")
    async def commits(self, request: Request) -> Any:
        return [
            {"id": c.id, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": self.user}]}
            for c in self._repo(request).history(param(request, "revision"))
        ]

    @route("GET", REPO + "/refs")
    async def refs(self, request: Request) -> Any:
        repo = self._repo(request)
        found: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for name, commit in repo.branches.items():
            pull = name.startswith("refs/pr/")
            ref = {"name": name, "ref": name if pull else f"refs/heads/{name}", "targetCommit": commit}
            found["pullRequests" if pull else "branches"].append(ref)
        found["tags"] = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": c} for tag, c in repo.tags.items()]
        return found

    @route("POST", REPO + "/branch/{branch}")
    async def create_branch(self, request: Request) -> Any:
        repo, source = self._repo(request), (await request.json()).get("startingPoint", "main")
        return self._create_ref(repo, repo.branches, param(request, "branch"), source)

    @route("POST", REPO + "/tag/{revision}")
    async def create_tag(self, request: Request) -> Any:
        repo, tag = self._repo(request), (await request.json())["tag"]
        return self._create_ref(repo, repo.tags, tag, param(request, "revision"))

    def _create_ref(self, repo: Repo, refs: dict[str, str], name: str, source: str) -> Any:
        if name in refs:
            raise HubError(409, "", f"Reference already exists: {name}")
        refs[name] = repo.at(source).id
        self.store.save()
        return {}

    @route("DELETE", REPO + "/branch/{ref}", REPO + "/tag/{ref}")
    async def delete_ref(self, request: Request) -> Any:
        repo, name = self._repo(request), param(request, "ref")
        refs = repo.tags if request.url.path.split("/")[5] == "tag" else repo.branches
        if refs is repo.branches and name == "main":
            raise HubError(403, "", "Cannot delete the default branch")
        if refs.pop(name, None) is None:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {name}")
        self.store.save()
        return {}

    # Spaces

    @route("GET", REPO + "/runtime")
    async def runtime(self, request: Request) -> Any:
        self._repo(request)
        return RUNTIME

    @route("GET POST DELETE", REPO + "/secrets", public=False)
    async def secrets(self, request: Request) -> Any:
        return await self._change(request, self._repo(request).secrets, hide=True)

    @route("GET POST DELETE", REPO + "/variables")
    async def variables(self, request: Request) -> Any:
        return await self._change(request, self._repo(request).variables, hide=False)

    async def _change(self, request: Request, values: dict[str, str], hide: bool) -> Any:
        body = await request.json() if request.method != "GET" else {}
        if request.method == "POST":
            values[body["key"]] = "" if hide else body["value"]
        elif request.method == "DELETE":
            values.pop(body["key"], None)
        self.store.save()
        return {key: {"value": value} for key, value in values.items()}
