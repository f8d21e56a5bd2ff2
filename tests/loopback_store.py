"""Keep the repositories of the loopback Hub in a folder: file tables by commit, and the bytes by their sha256."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

# What a repository keeps as large files: these endings, as its .gitattributes says, and all above this size in bytes.
LARGE_NAMES = ("*.safetensors", "*.bin", "*.pt", "*.onnx", "*.parquet", "*.arrow", "*.zip", "*.pkl", "*tfevents*")
LARGE_SIZE = 10 * 1024 * 1024
HARDWARE = {"current": "cpu-basic", "requested": "cpu-basic"}
RUNTIME = {"stage": "RUNNING", "hardware": HARDWARE, "storage": None, "gcTimeout": None}
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


class HubError(Exception):
    """Say what the Hub answers instead: a status and the X-Error-Code from which clients choose their exception."""

    def __init__(self, status: int, code: str, message: str, **body: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.body = status, code, message, {"error": message, **body}


@dataclass(frozen=True)
class File:
    """One version of a file: `sha256` names its bytes in the store, `oid` is git's name for them."""

    sha256: str
    size: int
    oid: str
    large: bool

    def lfs(self, name: str) -> dict[str, Any]:
        """Describe a large file, with its sha256 under `name`; nothing for a small one."""
        return {"lfs": {name: self.sha256, "size": self.size, "pointerSize": 134}} if self.large else {}


@dataclass(frozen=True)
class Commit:
    """A whole table of files and the commit it came from; it never changes."""

    id: str
    parent: str | None
    title: str
    message: str
    date: str
    files: dict[str, File]

    def paths(self) -> list[str]:
        """Return every folder, then every file, each in order."""
        folders = {str(parent) for path in self.files for parent in PurePosixPath(path).parents} - {"."}
        return sorted(folders) + sorted(self.files)


@dataclass
class Repo:
    """A repository. `branches` holds pull requests too, as refs/pr/N; `secrets` holds empty values."""

    type: str
    id: str
    private: bool
    sdk: str | None
    created: str
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Where the repository stands on the Hub: me/x, datasets/me/x or spaces/me/x."""
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    def at(self, revision: str) -> Commit:
        """Return the commit that a branch, a tag or a commit id names. Raises HubError 404."""
        commit = self.branches.get(revision) or self.tags.get(revision) or revision
        if commit not in self.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[commit]

    def history(self, revision: str) -> list[Commit]:
        """Return the commits behind a revision, newest first."""
        commit = self.at(revision)
        chain = [commit]
        while commit.parent is not None:
            commit = self.commits[commit.parent]
            chain.append(commit)
        return chain

    def entry(self, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
        """Describe a file or folder as tree and paths-info do; `expand` adds the commit that last changed it."""
        file = commit.files.get(path)
        if file is None:
            oid = hashlib.sha1(repr(sorted(below(commit.files, path))).encode()).hexdigest()
            entry: dict[str, Any] = {"type": "directory", "path": path, "oid": oid, "size": 0}
        else:
            entry = {"type": "file", "path": path, "oid": file.oid, "size": file.size, **file.lfs("oid")}
        if expand:
            last = self._last_change(commit, path)
            entry["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}
        return entry

    def _last_change(self, commit: Commit, path: str) -> Commit:
        while commit.parent and below(self.commits[commit.parent].files, path) == below(commit.files, path):
            commit = self.commits[commit.parent]
        return commit


class Store:
    """Keep files and repositories below `root`. Only the server's thread writes, so reading needs no lock."""

    def __init__(self, root: Path) -> None:
        self.blobs, self.table = root / "blobs", root / "repos.json"
        self.blobs.mkdir(parents=True, exist_ok=True)
        rows = json.loads(self.table.read_text("utf-8")) if self.table.exists() else []
        self.repos = {(row["type"], row["id"]): _repo_from(row) for row in rows}

    def save(self) -> None:
        """Write the table beside the old one and swap them, so that a crash leaves one of the two."""
        part = self.table.with_suffix(".part")
        part.write_text(json.dumps([asdict(repo) for repo in self.repos.values()]), "utf-8")
        part.replace(self.table)

    def clear(self) -> None:
        """Forget every repository and file."""
        self.repos.clear()
        for blob in self.blobs.iterdir():
            blob.unlink()
        self.save()

    def blob(self, sha256: str) -> Path:
        """Return where the bytes with this sha256 lie, or would."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise HubError(400, "", f"Expected a sha256, got {sha256!r}")
        return self.blobs / sha256

    def small_file(self, data: bytes) -> File:
        """Keep a small file; git names it by its bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.blob(sha256).write_bytes(data)
        return File(sha256, len(data), git_oid(data), large=False)

    def large_file(self, sha256: str) -> File:
        """Return a large file that was uploaded before; git names it by its pointer."""
        if not self.blob(sha256).exists():
            raise HubError(400, "", f"Large file {sha256} was not uploaded")
        size = self.blob(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return File(sha256, size, git_oid(pointer.encode()), large=True)

    def create(self, repo_type: str, repo_id: str, private: bool, sdk: str | None) -> Repo:
        """Add a repository whose first commit holds .gitattributes, as on the Hub."""
        repo = self.repos[repo_type, repo_id] = Repo(repo_type, repo_id, private, sdk, now())
        attributes = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE_NAMES)
        self.commit(repo, "main", "initial commit", "", {".gitattributes": self.small_file(attributes.encode())})
        return repo

    def commit(self, repo: Repo, branch: str, title: str, message: str, files: dict[str, File]) -> Commit:
        """Make `files` the newest state of the branch."""
        commit = Commit(os.urandom(20).hex(), repo.branches.get(branch), title, message, now(), files)
        repo.commits[commit.id] = commit
        repo.branches[branch] = commit.id
        self.save()
        return commit

    def apply(self, files: dict[str, File], operation: str, value: dict[str, Any]) -> None:
        """Carry out one line of a commit on `files`. Raises HubError for a missing or unknown thing."""
        path = value["path"].rstrip("/")
        if operation == "file":
            files[path] = self.small_file(base64.b64decode(value["content"]))
        elif operation == "lfsFile":
            files[path] = self.large_file(value["oid"])
        elif operation in ("deletedFile", "deletedFolder"):
            gone = list(below(files, path)) if operation == "deletedFolder" else [path] * (path in files)
            if not gone:
                raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
            for name in gone:
                del files[name]
        else:
            raise HubError(400, "", f"This Hub does not know the operation {operation!r}")

    def info(self, repo: Repo, commit: Commit, blobs: bool) -> dict[str, Any]:
        """Describe a repository at a commit; `blobs` adds the sizes and names of the files' bytes."""
        card = self.card(commit)
        tags = [*(card.get("tags") or []), *([card["library_name"]] if "library_name" in card else [])]
        info: dict[str, Any] = {"id": repo.id, "author": repo.id.split("/")[0], "sha": commit.id, "tags": tags}
        info |= {"private": repo.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        info |= {"createdAt": repo.created, "lastModified": commit.date, "cardData": card}
        info["siblings"] = [
            {"rfilename": path} | ({"size": f.size, "blobId": f.oid, **f.lfs("sha256")} if blobs else {})
            for path, f in sorted(commit.files.items())
        ]
        if repo.type == "model":
            info |= {key: card.get(key) for key in ("pipeline_tag", "library_name", "model-index")}
        if repo.type == "space":
            info |= {"sdk": repo.sdk, "runtime": RUNTIME}
        return info

    def card(self, commit: Commit) -> dict[str, Any]:
        """Return the metadata of the README as plain JSON values; empty when there is none."""
        readme = commit.files.get("README.md")
        text = self.blob(readme.sha256).read_text("utf-8", "replace") if readme else ""
        try:
            return json.loads(json.dumps(card_metadata(text) or {}, default=str))
        except yaml.YAMLError:
            return {}


def _repo_from(row: dict[str, Any]) -> Repo:
    for key, commit in row["commits"].items():
        files = {path: File(**file) for path, file in commit["files"].items()}
        row["commits"][key] = Commit(**{**commit, "files": files})
    return Repo(**row)


def below(files: dict[str, File], path: str) -> dict[str, File]:
    """Return the file at `path`, or every file in the folder of that name."""
    return {name: file for name, file in files.items() if name == path or name.startswith(f"{path}/")}


def git_oid(data: bytes) -> str:
    """Return the name git gives to a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def now() -> str:
    """Return the time as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def upload_mode(asked: dict[str, Any], known: File | None) -> dict[str, Any]:
    """Tell a client how to upload a file, and the name of the bytes that stand there now."""
    named = any(fnmatch.fnmatch(PurePosixPath(asked["path"]).name, name) for name in LARGE_NAMES)
    large = named or asked["size"] > LARGE_SIZE or b"\0" in base64.b64decode(asked["sample"])
    oid = None if known is None else known.sha256 if known.large else known.oid
    return {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}


def card_metadata(text: str) -> dict[str, Any] | None:
    """Read the YAML block that opens a card; None where there is none. Raises yaml.YAMLError."""
    block = re.match(r"\s*---\r?\n(.*?)\r?\n---(\r?\n|$)", text, re.DOTALL)
    card = yaml.safe_load(block[1]) if block else None
    if card is not None and not isinstance(card, dict):
        raise yaml.YAMLError("the metadata is not a mapping")
    return card


def card_errors(text: str, repo_type: str) -> list[str]:
    """Return what the Hub would refuse in a card's metadata."""
    try:
        card = card_metadata(text) or {}
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"]
    if repo_type == "model":
        return _missing_in_results(card)
    return _bad_space_values(card) if repo_type == "space" else []


def _missing_in_results(card: dict[str, Any]) -> list[str]:
    missing = []
    for i, model in enumerate(card.get("model-index") or []):
        for j, result in enumerate(model.get("results") or []):
            given = {"task": result.get("task"), "dataset": result.get("dataset")}
            given |= {f"metrics[{k}]": metric for k, metric in enumerate(result.get("metrics") or [None])}
            for part, values in given.items():
                keys = {"task": ["type"], "dataset": ["type", "name"]}.get(part, ["type", "value"])
                absent = [f"{part}.{key}" for key in keys if key not in (values or {})]
                missing += [f'"model-index[{i}].results[{j}].{name}" is required' for name in absent]
    return missing


def _bad_space_values(card: dict[str, Any]) -> list[str]:
    allowed = {"sdk": ("gradio", "docker", "static"), "colorFrom": COLOURS, "colorTo": COLOURS}
    wrong = [key for key, values in allowed.items() if card.get(key, values[0]) not in values]
    errors = [f'"{key}" must be one of [{", ".join(allowed[key])}]' for key in wrong]
    if len(card.get("short_description", "")) > 60:
        errors.append('"short_description" length must be less than or equal to 60 characters long')
    return errors
