"""What setup.cfg and the README say of the package, held against what is installed."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from importlib.metadata import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def setup() -> ConfigParser:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("==")[0] for line in lines if "==" in line]


def test_every_constraint_takes_the_pythons_that_are_promised() -> None:
    said = re.search(r"It needs Python (3\.\d+) \(from (3\.\d+\.\d+)\) to (3\.\d+) ", " ".join(README.split()))
    assert said is not None
    first, least, last = said.groups()
    minors = [f"3.{minor}" for minor in range(int(first[2:]), int(last[2:]) + 1)]
    promised = [least, *(f"{minor}.0" for minor in minors[1:])]
    needed = {name: metadata(name)["Requires-Python"] for name in constraints()}
    refused = {
        name: one for name, one in needed.items() for version in promised if one and version not in SpecifierSet(one)
    }
    assert refused == {}

    config = setup()
    assert config["options"]["python_requires"] == f">={least}"
    classified = re.findall(r"Python :: (3\.\d+)$", config["metadata"]["classifiers"], re.MULTILINE)
    assert classified == minors
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert ruff["target-version"] == f"py{first.replace('.', '')}"
