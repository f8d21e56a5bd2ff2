"""Publish a run's model or adapter with its card, and a Space that serves it.

python recipes/publish.py runs/latest --repo me/kind-gpt2 --dry_run true
python recipes/publish.py runs/latest --repo me/kind-gpt2 --license apache-2.0
python recipes/publish.py runs/latest --repo me/kind-gpt2 --space me/kind-chat
python recipes/publish.py runs/latest --repo me/kind-gpt2 --accept_bias "a course project, shown to nobody in distress"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import HfApi

from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.hub import PublishArguments, model_files, publish_model, publish_space, space_files
from mh_support.run_folder import RunFolder


def main(argv: Sequence[str] | None = None) -> None:
    """Publish, or show what would be."""
    parser = ArgumentParser(PublishArguments, description=__doc__)
    parser.add_argument("run", metavar="RUN", help="A finished and scored run folder.")
    arguments, rest = parser.parse(argv)
    folder = RunFolder.open(rest.run)
    if arguments.dry_run:
        with model_files(folder, arguments) as files:
            print(_listing(arguments.repo, files))
            card = files["README.md"]
            print(f"\n{card.decode() if isinstance(card, bytes) else card}")
        if arguments.space is not None:
            print(_listing(arguments.space, space_files(arguments)))
        return
    api = HfApi(library_name="mh-support")
    print(f"published {publish_model(folder, arguments, api)}")
    if arguments.space is not None:
        print(f"published {publish_space(arguments, api)}")
        if not arguments.public:
            print("the model is private: give the Space a secret HF_TOKEN that may read it, in its settings on the Hub")


def _listing(repo: str, files: Mapping[str, bytes | Path]) -> str:
    sizes = [(name, len(file) if isinstance(file, bytes) else file.stat().st_size) for name, file in files.items()]
    return table([(repo, "bytes"), *sizes])


if __name__ == "__main__":
    run(main)
