"""Have replies rated by people who are not told whose they are: make a set, serve it or send sheets, analyse.

pip install -c constraints.txt -e '.[rating]'
python recipes/rate.py make runs/latest --out rating
python recipes/rate.py serve rating
python recipes/rate.py export rating --rater ann --qualification peer --output ann.csv
python recipes/rate.py import rating ann.csv
python recipes/rate.py analyse rating
python recipes/rate.py simulate runs/latest --out rating-simulated --contexts 30
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mh_support.chat_page.texts import check_country
from mh_support.cli import ArgumentParser, run
from mh_support.rating import check_installed
from mh_support.rating.analysis import AnalyseArguments, analyse, groups_shown, results_table
from mh_support.rating.answers import AnswerStore
from mh_support.rating.questions import QUALIFICATIONS
from mh_support.rating.rating_set import RatingSet
from mh_support.rating.sheets import import_sheets, write_sheet

COUNTRY = "Two-letter code of the raters' country, such as GB, whose emergency number and services they are told."


@dataclass
class ServeArguments:
    """Where the page listens."""

    host: str | None = field(default=None, metadata={"help": "Address to listen on; by default this machine only."})
    port: int | None = field(default=None, metadata={"help": "Port; 7860 by default."})
    country: str | None = field(default=None, metadata={"help": COUNTRY})


@dataclass
class ExportArguments:
    """Whose sheet, and where it goes."""

    rater: str = field(metadata={"help": "The rater's made-up name: letters, digits, - and _."})
    qualification: str = field(metadata={"help": f"One of {', '.join(QUALIFICATIONS)}.", "choices": [*QUALIFICATIONS]})
    output: str | None = field(default=None, metadata={"help": "CSV file; by default RATER.csv."})
    country: str | None = field(default=None, metadata={"help": COUNTRY})


def make(argv: Sequence[str]) -> None:
    """Make a set from runs, and say what it can show."""
    # Only this loads models, and with them torch.
    from mh_support.rating.making import MakeArguments, make_set, plan_table
    from mh_support.run_folder import RunFolder

    parser = ArgumentParser(MakeArguments, description=make.__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="A finished run folder.")
    arguments, rest = parser.parse(argv)
    key = make_set([RunFolder(path) for path in rest.runs], arguments)
    print(plan_table(key))
    print(f"\nwritten to {arguments.out}; rate with recipes/rate.py serve {arguments.out}")
    print(f"who rates must not see {arguments.out}/key.json, which tells the arms apart")


def serve(argv: Sequence[str]) -> None:
    """Serve the rating page until stopped."""
    from mh_support.rating.page import serve as serve_page

    parser = ArgumentParser(ServeArguments, description=serve.__doc__)
    parser.add_argument("folder", metavar="DIR", help="A rating set.")
    arguments, rest = parser.parse(argv)
    country = check_country(arguments.country)
    serve_page(AnswerStore(RatingSet(rest.folder)), host=arguments.host, port=arguments.port, country=country)


def export(argv: Sequence[str]) -> None:
    """Write a rater's sheet."""
    parser = ArgumentParser(ExportArguments, description=export.__doc__)
    parser.add_argument("folder", metavar="DIR", help="A rating set.")
    arguments, rest = parser.parse(argv)
    store = AnswerStore(RatingSet(rest.folder))
    path = Path(arguments.output or f"{arguments.rater}.csv")
    if path.exists():
        raise ValueError(f"{path} is there already, perhaps filled in; give --output a new file")
    country = check_country(arguments.country)
    rows = write_sheet(store, store.sign_in(arguments.rater, arguments.qualification), path, country=country)
    print(f"written: {path}, {rows:,} rows; bring it back with recipes/rate.py import {rest.folder} {path}")


def import_(argv: Sequence[str]) -> None:
    """Take in sheets, all of them or none."""
    parser = ArgumentParser((), description=import_.__doc__)
    parser.add_argument("folder", metavar="DIR", help="A rating set.")
    parser.add_argument("sheets", metavar="CSV", nargs="+", help="A sheet that recipes/rate.py export wrote.")
    (rest,) = parser.parse(argv)
    sheets = import_sheets(AnswerStore(RatingSet(rest.folder)), [Path(path) for path in rest.sheets])
    refusals = [f"{path}, {refusal}" for path, sheet in sheets.items() for refusal in sheet.refusals]
    for refusal in refusals:
        print(refusal, file=sys.stderr)
    if refusals:
        raise ValueError(f"nothing was imported; mend what is refused above (places: {len(refusals)}) and import again")
    for path, sheet in sheets.items():
        print(f"{path}: {len(sheet.answers):,} answers imported, {sheet.left_open:,} rows left open")


def analyse_(argv: Sequence[str]) -> None:
    """Analyse a set's answers, and write the report and each run's ratings.json."""
    from mh_support.rating.report import write_report, write_run_results

    parser = ArgumentParser(AnalyseArguments, description=analyse_.__doc__)
    parser.add_argument("folder", metavar="DIR", help="A rating set.")
    arguments, rest = parser.parse(argv)
    rating_set = RatingSet(rest.folder)
    result = analyse(rating_set, arguments)
    for group in groups_shown(result):
        print(results_table(result, group), end="\n\n")
    for warning in result["warnings"]:
        print(warning)
    written, passed = write_run_results(rating_set, result)
    print(f"written: {', '.join(map(str, [write_report(rating_set, result), *written]))}")
    for reason in passed:
        print(f"no ratings.json for {reason}", file=sys.stderr)


def simulate(argv: Sequence[str]) -> None:
    """Make a set from runs and let simulated raters rate it, to see that the analysis finds what was put in."""
    from mh_support.rating.making import MakeArguments
    from mh_support.rating.simulation import SimulateArguments, simulation_table
    from mh_support.rating.simulation import simulate as simulate_raters
    from mh_support.run_folder import RunFolder

    parser = ArgumentParser((MakeArguments, SimulateArguments), description=simulate.__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="A finished run folder.")
    making, arguments, rest = parser.parse(argv)
    print(simulation_table(simulate_raters([RunFolder(path) for path in rest.runs], making, arguments)))
    print(f"\nwritten: {making.out}/alike/report.html, {making.out}/unlike/report.html")


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "make": make,
    "serve": serve,
    "export": export,
    "import": import_,
    "analyse": analyse_,
    "simulate": simulate,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the first word says."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if not given or given[0] not in COMMANDS:
        raise ValueError(f"{given[0] if given else 'nothing'} was asked; the commands are {', '.join(COMMANDS)}")
    check_installed()
    COMMANDS[given[0]](given[1:])


if __name__ == "__main__":
    run(main)
