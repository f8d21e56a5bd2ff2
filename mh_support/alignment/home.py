"""The folder of a run's rounds: which they are, and that nothing else is taken for one."""

from __future__ import annotations

import re
from pathlib import Path

from filelock import FileLock

from mh_support.alignment.promotion import CURRENT, point_current
from mh_support.files import kept_secret, read_json, sweep_drafts, write_json
from mh_support.modeling import weights_fingerprint
from mh_support.run_folder import RunFolder

ROUNDS, HOME_FILE, OUTCOME_FILE, SECRET_FILE = "rounds", "home.json", "outcome.json", "secret"


class Home:
    """The folder of a run's rounds.

    Args:
        origin: the finished run that all of them start from.
        path: by default the run's own path with `-aligned` after its name, or `-aligned-simulated`.
        simulated: whether simulated people are learned from here, or real ones; never both.
        secret: decides who is held out; by default one that is made for this folder and kept in it.

    Raises:
        ValueError: the run is not finished, or the folder would lie among the rounds of another home.
    """

    def __init__(
        self, origin: RunFolder, path: str | None = None, *, simulated: bool = False, secret: bytes | None = None
    ) -> None:
        self._secret = secret
        self.origin = RunFolder.open(origin.path.resolve())
        around = _home_around(self.origin.path)
        if path is None and around is not None:
            first = read_json(around / HOME_FILE)["run"]
            raise ValueError(
                f"{self.origin.path} is a round of {around}; give {first}, which its rounds start from, or --output_dir"
            )
        self.simulated = simulated
        name = f"{self.origin.path.name}-aligned{'-simulated' if simulated else ''}"
        self.path = self.origin.path.with_name(name) if path is None else Path(path)
        around = _home_around(self.path)
        if around is not None:
            raise ValueError(f"{self.path} lies among the rounds of {around}; give another --output_dir")

    def open(self) -> None:
        """Make the folder, with the run itself as the current model, or check that it is this run's.

        Raises:
            ValueError: the folder holds something else, or belongs to another run.
        """
        weights = weights_fingerprint(self.origin.model)
        record = {"run": str(self.origin.path), "weights": weights, "simulated": self.simulated}
        place = self.path / HOME_FILE
        if place.is_file():
            kept = read_json(place)
            if kept["weights"] != record["weights"]:
                raise ValueError(f"{self.path} belongs to a run with other weights; give another --output_dir")
            if kept.get("simulated", False) is not self.simulated:
                of, wanted = ("real", "simulated") if self.simulated else ("simulated", "real")
                raise ValueError(f"{self.path} is for {of} feedback, not for {wanted}; give another --output_dir")
            sweep_drafts(self.path)
            sweep_drafts(self.path / ROUNDS)
        else:
            strangers = sorted(entry.name for entry in self.path.glob("[!.]*")) if self.path.exists() else []
            if strangers:
                raise ValueError(f"{self.path} holds {strangers[0]}, which is no round; give a new --output_dir")
            write_json(place, record)
        if not (self.path / CURRENT).is_symlink():
            point_current(self.path, self.origin)

    def lock(self) -> FileLock:
        """Return the lock that a process holds while it works here; it ends with the process, however that ends."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock", blocking=False)

    def secret(self) -> bytes:
        """Return what decides who is held out, the same in every round."""
        return kept_secret(self.path / SECRET_FILE) if self._secret is None else self._secret

    def rounds(self) -> list[RunFolder]:
        """Return the rounds begun so far, in order."""
        folders = sorted((self.path / ROUNDS).glob("*"))
        return [RunFolder(path) for path in folders if re.fullmatch("[0-9]{4}", path.name) and path.is_dir()]

    def next_round(self) -> RunFolder:
        """Return the round that is under way, or the folder of a new one."""
        begun = self.rounds()
        if begun and not (begun[-1].path / OUTCOME_FILE).is_file():
            return begun[-1]
        number = int(begun[-1].path.name) + 1 if begun else 1
        return RunFolder(self.path / ROUNDS / f"{number:04d}")


def _home_around(path: Path) -> Path | None:
    """Return the home in whose rounds a path lies, or None."""
    parents = (folder.parent for folder in path.resolve().parents if folder.name == ROUNDS)
    return next((folder for folder in parents if (folder / HOME_FILE).is_file()), None)
