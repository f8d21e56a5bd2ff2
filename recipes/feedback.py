"""Count the ratings that people gave, or take one person's out with the code that they were shown.

python recipes/feedback.py feedback
python recipes/feedback.py feedback --delete_code 0J4W-7KQT-M2XB-9RCD --repo me/feedback
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.feedback import delete_feedback, read_feedback
from mh_support.feedback_upload import FeedbackUpload


@dataclass
class FeedbackArguments:
    """Whose ratings to take out, and from where."""

    delete_code: str | None = field(default=None, metadata={"help": "Code of the person whose ratings are taken out."})
    repo: str | None = field(
        default=None, metadata={"help": "Private data set that they were uploaded to, brought in line with the folder."}
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Take out what is asked for, and print what is there."""
    parser = ArgumentParser(FeedbackArguments, description=__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="The folder that the server writes ratings to.")
    arguments, rest = parser.parse(argv)
    upload = None if arguments.repo is None else FeedbackUpload(rest.folder, arguments.repo)
    if arguments.delete_code is not None:
        print(f"taken out: {delete_feedback(rest.folder, arguments.delete_code)}")
    print(table(_rows(read_feedback(rest.folder))))
    if upload is not None:
        upload.close()


def _rows(records: Sequence[dict[str, Any]]) -> Iterator[Sequence[Any]]:
    yield "model", "thumbs up", "thumbs down", "choices", "people"
    for model in sorted({record["model"]["name"] for record in records}):
        own = [record for record in records if record["model"]["name"] == model]
        counts = Counter(record.get("up", "choice") for record in own)
        yield model, counts[True], counts[False], counts["choice"], len({record["person"] for record in own})


if __name__ == "__main__":
    run(main)
