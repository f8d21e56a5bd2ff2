"""What every recipe does at its edges: arguments from a YAML file and flags, and errors as one clear line."""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
import sys
from argparse import Action, ArgumentDefaultsHelpFormatter, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml
from transformers import HfArgumentParser
from transformers import logging as transformers_logging

# What a person's machine or input can do wrong. Anything else is a fault of this package and shows its traceback.
EXPECTED_ERRORS = (ValueError, OSError)
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{6,}")


class _Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Keep the lines of a description, show defaults, and spare the usage line a hundred and fifty options."""

    def add_usage(self, usage: str | None, actions: Iterable[Action], groups: Any, prefix: str | None = None) -> None:
        places = [self._format_args(action, action.dest) for action in actions if not action.option_strings]
        super().add_usage(" ".join(["%(prog)s", *places, "[options]"]), actions, groups, prefix)


class ArgumentParser(HfArgumentParser):
    """Parse dataclasses from flags, with `--config FILE.yaml` for their defaults.

    The order is: defaults, then the YAML file, then flags. A key or flag that no dataclass knows fails, and the message
    names the nearest one that exists. The help lists last what a dataclass only inherits from transformers.
    """

    def __init__(self, dataclass_types: Any, *, description: str | None = None) -> None:
        described = None if description is None else inspect.cleandoc(description)
        super().__init__(dataclass_types, allow_abbrev=False, formatter_class=_Help, description=described)
        self.add_argument("--config", metavar="FILE", help="YAML file with any of these options; flags override it.")

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        """Add a dataclass's options, those that it only inherits from transformers in a group of their own."""
        hints, inherited = get_type_hints(dtype), _inherited(dtype)
        others: Any = self.add_argument_group("options of transformers' TrainingArguments") if inherited else self
        for field in fields(dtype):
            if field.init:
                field.type = hints[field.name]
                self._parse_dataclass_field(others if field.name in inherited else self, field)

    def parse(self, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
        """Return one instance of each dataclass, in order, and last a namespace if other arguments were added.

        Raises:
            ValueError: the YAML file is missing, is no mapping, or has an unknown key.
        """
        given = list(sys.argv[1:] if argv is None else argv)
        config, rest = self._config_of(given)
        # The file's own flag ends a list before it, which would otherwise take what follows for its own.
        flags = [] if config is None else [*self._as_flags(config), f"--config={config}"]
        *parsed, others = self.parse_args_into_dataclasses(args=[*flags, *rest], look_for_args_file=False)
        del others.config
        return (*parsed, others) if vars(others) else tuple(parsed)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Parse as argparse does, but refuse what is unknown, a flag with the nearest known one."""
        parsed, unknown = super().parse_known_args(args, namespace)
        flags = [item.split("=")[0] for item in unknown if item.startswith("-")]
        if flags:
            self.error(f"unknown option {flags[0]}{self._nearest(flags[0])}; see --help")
        if unknown:
            self.error(f"{unknown[0]} stands where an option such as --config was expected; see --help")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        print(f"error: {one_line(message)}", file=sys.stderr)
        raise SystemExit(2)

    def _config_of(self, given: list[str]) -> tuple[Path | None, list[str]]:
        """Take `--config FILE` out of the flags."""
        places = [place for place, item in enumerate(given) if item == "--config" or item.startswith("--config=")]
        if not places:
            return None, given
        if len(places) > 1:
            self.error("more than one --config; give one file, and flags for what differs from it")
        place, after = places[0], places[0] + 1
        if given[place] != "--config":
            return Path(given[place].removeprefix("--config=")), given[:place] + given[after:]
        if after == len(given):
            self.error("--config needs a YAML file after it")
        return Path(given[after]), given[:place] + given[after + 1 :]

    def _as_flags(self, config: Path) -> list[str]:
        """Return a YAML file's keys as flags, so that argparse checks their types as it checks a person's."""
        if not config.is_file():
            raise ValueError(f"no config file at {config}; the ones that come with the project are in recipes/configs")
        try:
            values = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{config} is not valid YAML ({one_line(error)}); mend it") from error
        if not isinstance(values, dict):
            raise ValueError(f"{config} holds a {type(values).__name__}; expected lines such as 'learning_rate: 1e-4'")
        flags: list[str] = []
        for key, value in values.items():
            if key in ("config", "help"):
                raise ValueError(f"{config} has the key {key}, which is for the command line only; leave it out")
            if f"--{key}" not in self._option_string_actions:
                raise ValueError(f"{config} has the unknown key {key}{self._nearest(f'--{key}')}; see --help")
            flags += _flag(key, value)
        return flags

    def _nearest(self, flag: str) -> str:
        close = difflib.get_close_matches(flag, self._option_string_actions, n=1, cutoff=0.5)
        return f" (nearest: {close[0]})" if close else ""


def _inherited(dtype: Any) -> set[str]:
    """Return the fields that no class but one of transformers' defines."""
    ours = [base for base in dtype.__mro__ if not base.__module__.startswith("transformers.")]
    defined = {name for base in ours for name in inspect.get_annotations(base)}
    return {field.name for field in fields(dtype)} - defined


def _flag(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    # Joined by "=", so that a value that begins with a dash is not taken for a flag.
    return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}"]


def one_line(error: BaseException | str) -> str:
    """Return an error's text on one line, without control characters, any access token in it blotted out."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _TOKEN.sub("hf_***", "".join(character for character in text if character.isprintable()))


def run(main: Callable[[], Any]) -> NoReturn:
    """Run a recipe's `main` and exit: 0, or 1 after one line on stderr, or 130 after Ctrl-C."""
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        # Its hints are for those who call it themselves; a person at a recipe should see the recipe's own words.
        transformers_logging.set_verbosity_error()
    try:
        main()
    except EXPECTED_ERRORS as error:
        print(f"error: {one_line(_described(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(0)


def _described(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        place = f" ({error.filename})" if error.filename is not None else ""
        return f"{error.strerror}{place}; free or correct the place named and run the command again"
    return str(error) or type(error).__name__
