"""Score a run: base against tuned beside baselines, with intervals, tables and plots.

python recipes/score.py runs/latest
python recipes/score.py runs/latest --limit 20
python recipes/score.py runs/latest --bias true
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.bias.measure import BiasArguments, measure_bias
from mh_support.bias.report import bias_lines, summary
from mh_support.cli import ArgumentParser, run
from mh_support.data.report import table
from mh_support.plots import save_plots
from mh_support.run_folder import RunFolder
from mh_support.scoring import ScoringArguments, results_table, score_run


def main(argv: Sequence[str] | None = None) -> None:
    """Score, plot and print."""
    parser = ArgumentParser((ScoringArguments, BiasArguments), description=__doc__)
    parser.add_argument("run", metavar="RUN", help="A finished run folder.")
    arguments, bias, rest = parser.parse(argv)
    folder = RunFolder.open(rest.run)
    written = []
    if not bias.bias_alone:
        results = score_run(folder, arguments)
        for split in results["splits"]:
            print(results_table(results, split), end="\n\n")
        written.append(folder.results_file)
    if bias.bias:
        found = measure_bias(folder, bias, arguments)
        print("\n".join([table(bias_lines(found)), *summary(found)]), end="\n\n")
        written.append(folder.bias_file)
    plots = save_plots(folder.path)
    print(f"written: {', '.join(map(str, written))} and the plots {', '.join(str(path) for path in plots)}")


if __name__ == "__main__":
    run(main)
