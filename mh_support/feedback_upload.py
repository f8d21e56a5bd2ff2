"""Bring feedback to a private data set on the Hub, where it outlives a Space's disk, and delete it there too."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import CommitScheduler, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from mh_support.cli import one_line
from mh_support.feedback_files import folder_lock
from mh_support.files import replacing

_NAME = re.compile(r"feedback-[0-9a-f]{32}\.jsonl")


class FeedbackUpload:
    """Uploads the changed files of a feedback folder every few minutes, and at the end of the process.

    Files that are in the data set and not in the folder are fetched first: a Space that was started anew can so delete
    what it kept before. The data set keeps no history, since that would hold what people took back.

    Example:
        >>> upload = FeedbackUpload("feedback", "me/feedback")
        >>> store = FeedbackStore("feedback", model=model, consent="2026-11", upload=upload)

    Args:
        folder: the folder of the store.
        repo_id: a private data-set repository; made if it is missing.
        minutes: between uploads.
        api: a client with a token that may write there; by default that of `hf auth login`.

    Raises:
        ValueError: the data set is public, or the Hub refuses.
    """

    def __init__(
        self, folder: str | os.PathLike[str], repo_id: str, *, minutes: float = 5, api: HfApi | None = None
    ) -> None:
        self._folder, self.repo_id, self._api = Path(folder), repo_id, HfApi() if api is None else api
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True)
            if not self._api.repo_info(repo_id, repo_type="dataset").private:
                raise ValueError(f"{repo_id} is a public data set; make it private on the Hub, or give another")
            self._fetch_missing()
            self._scheduler = CommitScheduler(
                repo_id=repo_id,
                folder_path=self._folder,
                every=minutes,
                repo_type="dataset",
                private=True,
                # The drafts of a deletion begin with a dot and are not among these.
                allow_patterns="feedback-*.jsonl",
                squash_history=True,
                hf_api=self._api,
            )
        except (HTTPError, OSError) as error:
            raise ValueError(f"feedback cannot be uploaded to {repo_id} ({_said(error)}); see hf auth login") from error
        # The scheduler's own lock knows one process; this one keeps it from a line that another is writing.
        self._scheduler.lock = folder_lock(self._folder)  # type: ignore[assignment]

    def push(self) -> None:
        """Upload what changed, now, and wait for it.

        Raises:
            OSError: the Hub cannot be reached or refuses; the next upload brings what this one did not.
        """
        try:
            self._scheduler.trigger().result()
        except (HTTPError, OSError) as error:
            raise OSError(
                f"the feedback on this machine is changed, and its copy in {self.repo_id} is not yet "
                f"({_said(error)}); do the same again"
            ) from error

    def close(self) -> None:
        """Upload what changed, and stop."""
        self.push()
        self._scheduler.stop()

    def _fetch_missing(self) -> None:
        names = [name for name in self._api.list_repo_files(self.repo_id, repo_type="dataset") if _NAME.fullmatch(name)]
        with folder_lock(self._folder), tempfile.TemporaryDirectory() as holder:
            for name in names:
                if not (self._folder / name).exists():
                    fetched = self._api.hf_hub_download(self.repo_id, name, repo_type="dataset", local_dir=holder)
                    with replacing(self._folder / name) as draft:
                        shutil.copyfile(fetched, draft)
                        draft.chmod(0o600)


def _said(error: BaseException) -> str:
    return one_line((isinstance(error, HfHubHTTPError) and error.server_message) or error)
