"""Publishing to the Hub: a model or adapter with its card, or a Space, each in one commit."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from tqdm import tqdm

from mh_support.card import check_publishable, render_space_readme, write_card
from mh_support.cli import one_line
from mh_support.modeling import load_model, state_fingerprint, weights_fingerprint
from mh_support.run_folder import RunFolder

PACKAGE = Path(__file__).resolve().parent
SPACE = PACKAGE.parent / "space"
# What a published model consists of. All else in a folder stays where it is: no pickle, optimizer state, log or data.
MODEL_FILES = re.compile(
    r"(model|adapter_model)(-\d+-of-\d+)?\.safetensors|echoes\.npy|(model\.safetensors\.index|config|generation_config|adapter_config"
    r"|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|merges\.txt|tokenizer\.model"
    r"|chat_template\.jinja"
)
# Of this package, what a Space takes along.
PACKAGE_FILES = (".py", ".json", ".safetensors", ".typed", ".html", ".css", ".js", ".svg")
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # The Hub's client knows no list of its licences, only the Hub does.
SECRET = re.compile(rb"hf_[A-Za-z0-9]{20,}")


@dataclass
class PublishArguments:
    """What goes where on the Hub."""

    repo: str | None = field(default=None, metadata={"help": "Repository of the model, such as me/kind-gpt2."})
    space: str | None = field(
        default=None, metadata={"help": "Repository of a Space that serves the model, such as me/kind-chat."}
    )
    public: bool = field(default=False, metadata={"help": "Let everyone see it; private by default."})
    merge: bool = field(
        default=False, metadata={"help": "Merge a LoRA adapter into its base and publish a full model."}
    )
    base_repo: str | None = field(
        default=None, metadata={"help": "Hub id of an adapter's base model, where it was trained on a local one."}
    )
    accept_bias: str | None = field(
        default=None,
        metadata={"help": "Publish although bias was found outside the bounds, for this reason; the card shows it."},
    )
    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the weights as the Hub writes it, such as apache-2.0; by default the run's."},
    )
    tag: str | None = field(
        default=None, metadata={"help": "Name that this revision of the model is given for good, such as v2."}
    )
    dry_run: bool = field(default=False, metadata={"help": "List the files and show the card; send nothing."})

    def __post_init__(self) -> None:
        if self.repo is None:
            needs = (
                "a Space needs to know the model that it serves; add" if self.space else "nothing to publish to; give"
            )
            raise ValueError(f"{needs} --repo, such as --repo me/kind-gpt2")
        if self.accept_bias is not None and not self.accept_bias.strip():
            raise ValueError("--accept_bias is empty; give the reason, which the card shows")
        if self.license is not None and not LICENSE.fullmatch(self.license):
            raise ValueError(
                f"--license is {self.license!r}; give it as the Hub writes it, such as apache-2.0, mit or cc-by-nc-4.0"
            )
        for repo in (self.repo, self.space, self.base_repo):
            if repo is not None:
                validate_repo_id(repo)
                if "/" not in repo:
                    raise ValueError(f"{repo} lacks its owner; give it as owner/name, such as me/{repo}")


@contextmanager
def model_files(run: RunFolder, arguments: PublishArguments) -> Iterator[dict[str, bytes | Path]]:
    """Yield what a run's model consists of on the Hub, name to contents or path, its card among them.

    Raises:
        ValueError: the run cannot be published (see `check_publishable`), or an adapter's base has no Hub id.
    """
    assert arguments.repo is not None
    check_publishable(run.path, weights_fingerprint(run.model), accept_bias=arguments.accept_bias)
    record = run.record()
    adapter = record["method"]["kind"] == "lora" and not record["method"].get("merged", False)
    if arguments.base_repo is not None:
        _check_base(arguments.base_repo, record["fingerprints"]["base_weights"], run)
    if arguments.merge and not adapter:
        raise ValueError(f"{run.path} is a full model, there is nothing to merge; leave out --merge")
    with tempfile.TemporaryDirectory() as scratch:
        folder = run.model
        if arguments.merge:
            folder = _merged(run, Path(scratch) / "merged")
        files: dict[str, bytes | Path] = {
            path.name: path for path in sorted(folder.iterdir()) if MODEL_FILES.fullmatch(path.name)
        }
        base = None
        if adapter and not arguments.merge:
            base = arguments.base_repo or _hub_base(record["base_model"], run)
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            config["base_model_name_or_path"] = base
            if arguments.base_repo is not None:
                config["revision"] = None  # That of the base which was trained on, not of this one.
            files["adapter_config.json"] = json.dumps(config, indent=2, sort_keys=True).encode()
        card = write_card(
            run.path,
            arguments.repo,
            merged=arguments.merge,
            base_repo=base or arguments.base_repo,
            accept_bias=arguments.accept_bias,
            license=arguments.license,
        )
        files = {"README.md": card.encode(), **files, "results.json": run.results_file}
        if run.bias_file.is_file():
            files[run.bias_file.name] = run.bias_file
        _check_secrets(files)
        yield files


def publish_model(run: RunFolder, arguments: PublishArguments, api: HfApi) -> str:
    """Publish a run's model with its card in one commit; return its address.

    Cut off at any point, it leaves the repository as it was (or new and empty), and run again it finishes. A tag is
    set once the commit is there; one that exists already stays where it is.

    Raises:
        ValueError: the run cannot be published, or the Hub refuses; the message says which and what to do.
    """
    assert arguments.repo is not None
    with model_files(run, arguments) as files:
        return _commit(api, arguments.repo, "model", files, private=not arguments.public, tag=arguments.tag)


def publish_space(arguments: PublishArguments, api: HfApi) -> str:
    """Publish the app, this package and its requirements as a Space that serves the model; return its address.

    Raises:
        ValueError: the Hub refuses, such as where the account's plan has no place for a Space.
    """
    assert arguments.space is not None
    return _commit(api, arguments.space, "space", space_files(arguments), private=not arguments.public)


def space_files(arguments: PublishArguments) -> dict[str, bytes | Path]:
    """Return what a Space consists of, name to contents or path."""
    assert arguments.space is not None and arguments.repo is not None
    if not SPACE.is_dir():
        raise ValueError(f"the app is not at {SPACE}; publish a Space from a checkout of the repository")
    files: dict[str, bytes | Path] = {
        path.name: path for path in sorted(SPACE.iterdir()) if path.suffix in (".py", ".txt") and path.is_file()
    }
    for path in sorted(PACKAGE.rglob("*")):
        # The starter and the samples stay behind: a Space serves the model it names.
        part = path.relative_to(PACKAGE)
        if path.is_file() and part.parts[0] not in ("samples", "starter") and path.suffix in PACKAGE_FILES:
            files[f"mh_support/{part.as_posix()}"] = path
    files["LICENSE"] = PACKAGE.parent / "LICENSE"
    files["README.md"] = render_space_readme(arguments.space, arguments.repo).encode()
    files["settings.json"] = json.dumps({"model_name_or_path": arguments.repo}, indent=2).encode() + b"\n"
    _check_secrets(files)
    return files


def _merged(run: RunFolder, folder: Path) -> Path:
    """Write the adapter merged into its base, with the run's tokenizer and settings, to `folder`."""
    adapted: Any = load_model(str(run.model))
    adapted.merge_and_unload(safe_merge=True).save_pretrained(folder)
    for path in run.model.iterdir():
        # The base's own generation settings, which came with it, give way to the run's.
        if MODEL_FILES.fullmatch(path.name) and not path.name.startswith("adapter"):
            shutil.copy(path, folder)
    return folder


def _check_base(repo: str, base_weights: str, run: RunFolder) -> None:
    """Fetch the model that is said to be the base, and compare its weights with those the run started from."""
    if state_fingerprint(load_model(repo)) != base_weights:
        raise ValueError(
            f"{repo} has other weights than the model that {run.path} started from; give --base_repo that model's own "
            "id, or leave it out and add --merge true to publish a full model"
        )


def _hub_base(base: Mapping[str, Any], run: RunFolder) -> str:
    """Return the Hub id that an adapter will look for its base under."""
    name = str(base["name_or_path"])
    if base["is_local"] or name == "starter":
        raise ValueError(
            f"{run.path} is an adapter on {'the starter' if name == 'starter' else 'a local model'}, not on the "
            "Hub; add --merge true to publish a full model, or --base_repo with the base model's id there"
        )
    return name


def _check_secrets(files: Mapping[str, bytes | Path]) -> None:
    for name, content in files.items():
        if name.endswith(".safetensors"):
            continue
        text = content if isinstance(content, bytes) else content.read_bytes()
        if SECRET.search(text):
            raise ValueError(f"{name} holds what looks like an access token; remove it, and revoke it if it is real")


def _commit(
    api: HfApi, repo: str, kind: str, files: Mapping[str, bytes | Path], *, private: bool, tag: str | None = None
) -> str:
    """Put `files` in the repository in one commit, and take out what an earlier one left that is not among them."""
    operations: list[Any] = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    try:
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        address = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True, **sdk)  # type: ignore[arg-type]
        if api.repo_info(repo, repo_type=kind).private != private:
            is_now, wanted, flag = ("public", "private", "add") if private else ("private", "public", "leave out")
            raise ValueError(f"{repo} is {is_now} already; make it {wanted} on the Hub first, or {flag} --public true")
        there = api.list_repo_files(repo, repo_type=kind)
        stale = [name for name in there if name not in files and name != ".gitattributes" and _ours(name, kind)]
        operations += [CommitOperationDelete(name) for name in stale]
        commit = api.create_commit(repo, operations, repo_type=kind, commit_message="Publish with mh-support")
        if tag is not None:
            api.create_tag(repo, tag=tag, revision=commit.oid, repo_type=kind, exist_ok=True)
    except (HTTPError, OSError, RuntimeError) as error:
        # RuntimeError is what huggingface_hub raises where the upload of a large file fails. It leaves the progress bar
        # open, on whose line the message would stand.
        for bar in list(tqdm._instances):
            bar.close()
        raise ValueError(_refusal(error, repo, kind)) from error
    return str(address)


def _ours(name: str, kind: str) -> bool:
    if kind == "space":
        return name.startswith("mh_support/")
    # Not every run has a bias.json that would take an earlier one's place.
    return name == "bias.json" or bool(MODEL_FILES.fullmatch(name))


def _refusal(error: BaseException, repo: str, kind: str) -> str:
    """Return one line on why the Hub did not take it, and what to do."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    message = error.server_message or f"status {status}" if isinstance(error, HfHubHTTPError) else error
    said = one_line(message)
    if isinstance(error, LocalTokenNotFoundError) or status == 401 or isinstance(error, RepositoryNotFoundError):
        return f"the Hub does not know you as one who may write to {repo}; log in with a token that may: hf auth login"
    if kind == "space" and status in (402, 403):
        return (
            f"the Hub refuses the Space {repo} ({said}); a new Gradio Space needs a paid plan or a free ZeroGPU place: "
            "see your plan, or run it yourself with python space/app.py"
        )
    if status == 403:
        return (
            f"the Hub does not let this token write to {repo} ({said}); use one that may write there, or another owner"
        )
    return f"publishing {repo} was cut short ({said}); the Hub has all of it or nothing, run the same command again"
