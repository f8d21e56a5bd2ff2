"""Learn from what people said of replies, and let the new model replace the old one only if it is better and as safe.

python recipes/align.py runs/first --simulate true
python recipes/align.py runs/first --simulate true --simulated_attack all
python recipes/align.py runs/first --feedback feedback --method kto
python recipes/align.py runs/first --feedback feedback --method dpo --continuous true --repo me/kind-gpt2
python recipes/align.py runs/first --rollback true
"""

from __future__ import annotations

from collections.abc import Sequence

from mh_support.alignment.feedback_data import FeedbackArguments
from mh_support.alignment.gate import GateArguments
from mh_support.alignment.home import Home
from mh_support.alignment.ratings import hashed
from mh_support.alignment.rounds import Aligner, RoundArguments
from mh_support.alignment.simulation import SimulationArguments, simulated_feedback
from mh_support.alignment.training_arguments import AlignmentArguments, check_trl
from mh_support.cli import ArgumentParser, run
from mh_support.run_folder import RunFolder
from mh_support.scoring import ScoringArguments


def main(argv: Sequence[str] | None = None) -> None:
    """Work through a round, or go on round after round, or go back."""
    parser = ArgumentParser(
        (FeedbackArguments, AlignmentArguments, GateArguments, RoundArguments, SimulationArguments), description=__doc__
    )
    parser.add_argument("run", metavar="RUN", help="A finished run folder; every round starts from it.")
    feedback, training, gate, rounds, simulation, rest = parser.parse(argv)
    if simulation.simulate and feedback.feedback:
        raise ValueError("both --feedback and --simulate are given; learn from people or try it out, not both")
    if simulation.simulate and rounds.repo is not None:
        raise ValueError("both --simulate and --repo are given; what learned from simulated people is never published")
    # Simulated people choose no names, and the same seed holds the same of them out.
    secret = hashed(f"simulated {training.seed}").encode() if simulation.simulate else None
    home = Home(RunFolder.open(rest.run), training.output_dir, simulated=simulation.simulate, secret=secret)
    if simulation.simulate and not rounds.rollback:
        check_trl()
        place = simulated_feedback(home.origin, home.path, feedback.method, simulation, seed=training.seed)
        print(f"simulated feedback: {place}")
        feedback.feedback = [str(place)]
    attack = simulation.simulated_attack
    aligner = Aligner(home, feedback, training, gate, ScoringArguments(), rounds, attack)
    if rounds.rollback:
        aligner.roll_back()
    else:
        aligner.run()


if __name__ == "__main__":
    run(main)
