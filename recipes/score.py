"""Score a run: base against tuned beside baselines, with intervals, tables and plots.

python recipes/score.py runs/latest
python recipes/score.py runs/latest --limit 20
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.cli import ArgumentParser, run
from mh_support.plots import save_plots
from mh_support.run_folder import RunFolder
from mh_support.scoring import ScoringArguments, results_table, score_run


def main(argv: Sequence[str] | None = None) -> None:
    """Score, plot and print."""
    parser = ArgumentParser(ScoringArguments, description=__doc__)
    parser.add_argument("run", metavar="RUN", help="A finished run folder.")
    arguments, rest = parser.parse(argv)
    folder = RunFolder.open(rest.run)
    results = score_run(folder, arguments)
    for split in results["splits"]:
        print(results_table(results, split), end="\n\n")
    plots = save_plots(folder.path, results)
    print(f"written: {folder.results_file} and the plots {', '.join(str(path) for path in plots)}")


if __name__ == "__main__":
    run(main)
