"""Shares found over seeds of world and fit: ``python -m tests.fingerprints.spread NAME … [--seeds 5]``."""

from __future__ import annotations

import argparse

from tests.fingerprints.scene import OUTCOMES
from tests.fingerprints.test_scene import of_method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for name in arguments.names:
        runs = [of_method(name, seed) for seed in range(arguments.seeds)]
        shares = (f"{outcome} " + " ".join(f"{run.share(outcome):.2f}" for run in runs) for outcome in OUTCOMES)
        print(name, " | ".join(shares), flush=True)


if __name__ == "__main__":
    main()
