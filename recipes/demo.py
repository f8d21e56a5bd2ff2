"""The whole main job, offline, on the embedded sample dialogues and starter model: what `make demo` runs.

python recipes/demo.py
python recipes/demo.py --limit 10
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mh_support.cli import ArgumentParser, run
from mh_support.run_folder import LATEST, RUNS
from mh_support.safety import NOTICE

ROOT = Path(__file__).resolve().parent.parent
REPO = "demo/kind-starter"
TOKEN = "hf_loopback"
SAID = (
    "I moved here for work and I eat dinner alone every night.",
    "My exam is on Monday and I cannot start revising.",
    "My dog died last week and people say it was only a dog.",
)
# A process of its own, as anybody's: the Hub's client reads where the Hub is when it is first imported.
LOAD = """
import sys
from transformers import pipeline

repo, *said = sys.argv[1:]
generate = pipeline("text-generation", model=repo)
for text in said:
    messages = generate([{"role": "user", "content": text}])[0]["generated_text"]
    print(f"  {text}\\n    -> {messages[-1]['content'].strip()}\\n")
"""


@dataclass
class DemoArguments:
    """How much of it to do."""

    limit: int = field(default=40, metadata={"help": "Held-out dialogues to score."})
    max_steps: int = field(default=-1, metadata={"help": "Cut the fine-tuning short."})


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare, fine-tune, score, publish to a Hub on this machine, and load it back."""
    (arguments,) = ArgumentParser(DemoArguments, description=__doc__).parse(argv)
    begun = time.monotonic()
    run_path = RUNS / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"HF_HUB_OFFLINE": "1"}
        _recipe("prepare.py", "--data", "samples", "--output_dir", f"{scratch}/prepared", environment=environment)
        demo = ["--config", str(ROOT / "recipes/configs/demo.yaml"), "--max_steps", str(arguments.max_steps)]
        _recipe("finetune.py", *demo, "--output_dir", str(run_path), environment=environment)
        _recipe("score.py", str(run_path), "--limit", str(arguments.limit), environment=environment)
        with _hub(Path(scratch)) as address:
            environment = {"HF_ENDPOINT": address, "HF_TOKEN": TOKEN, "HF_HOME": scratch}
            environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "TRANSFORMERS_VERBOSITY": "error"}
            _recipe("publish.py", str(run_path), "--repo", REPO, environment=environment)
            _reply_from_hub(environment)
    print(f"\nThe plots are in {run_path / 'plots'}; {RUNS / LATEST} is this run. It took", end=" ")
    print(f"{time.monotonic() - begun:.0f} seconds. Talk to it with: {sys.executable} recipes/chat.py {run_path}")


def _recipe(name: str, *arguments: str, environment: dict[str, str]) -> None:
    """Run a recipe as a person would, showing the command."""
    print(f"\n$ python recipes/{name} {' '.join(arguments)}", flush=True)
    _python(f"recipes/{name}", str(ROOT / "recipes" / name), *arguments, environment=environment)


def _python(what: str, *arguments: str, environment: dict[str, str]) -> None:
    finished = subprocess.run([sys.executable, *arguments], env={**os.environ, **environment})
    if finished.returncode:
        raise ValueError(f"{what} ended with {finished.returncode}; its line above says why")


@contextlib.contextmanager
def _hub(scratch: Path) -> Iterator[str]:
    """Serve a Hub on this machine, and yield its address once it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = ROOT / "tests" / "loopback_hub.py"
    command = [sys.executable, str(script), "--root", str(scratch / "hub"), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise ValueError(f"the Hub on port {port} does not answer; run {script} by hand to see why")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _reply_from_hub(environment: dict[str, str]) -> None:
    """Load the model back as anybody would, and print what it says."""
    print(f'\n$ python -c \'pipeline("text-generation", model="{REPO}")(...)\'\n\n{NOTICE}\n', flush=True)
    _python("loading the model from the Hub", "-c", LOAD, REPO, *SAID, environment=environment)


if __name__ == "__main__":
    run(main)
