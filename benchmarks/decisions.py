"""How often intervals of net benefit, of its differences, and of calibration hold the truth.

    python benchmarks/decisions.py [--stores 2000]
    python benchmarks/decisions.py --smallest

Patients with one or three stays, whose log odds of the outcome are normal; a model that says them as they are, too
extreme, too low or bent. The truth is that of a million stays. A 95 % interval should hold it in .93 to .97 of stores
(2,000 stores: ± .010); where the distance from calibration is 0 its interval ends there, and holds it in .975 or more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mmnar.evaluation.decided import Calibrated
from mmnar.evaluation.decisions import Alerts
from mmnar.evaluation.intervals import Resampling, interval
from mmnar.evaluation.recalibration import calibrated
from mmnar.evaluation.result import Estimate

Float = NDArray[np.float64]
THRESHOLDS = (0.05, 0.1, 0.2)
RESAMPLES = 500
MODELS = {  # log odds said = a + b · log odds known + c · their square
    "as it is": (0.0, 1.0, 0.0),
    "too extreme": (0.4, 1.5, 0.0),
    "too low": (-0.6, 1.0, 0.0),
    "bent": (0.0, 1.0, 0.25),
}


def drawn(patients: int, stays: int, seed: int) -> tuple[NDArray[np.int64], Float, Float]:
    """Subject, outcome, and log odds given what the model sees, of each stay; stays of a patient are alike."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(patients), stays)
    known = rng.normal(-2.2, 0.9, patients)[subject] + rng.normal(0, 0.3, len(subject))
    return subject, (rng.random(len(subject)) < expit(known)).astype(float), known


def said(known: Float, model: str) -> Float:
    a, b, c = MODELS[model]
    return np.asarray(expit(a + b * known + c * (known + 2.2) ** 2))


def truth(stays: int) -> dict[tuple[str, str], float]:
    _, _, known = drawn(1_000_000 // stays, stays, 10**9)
    risk, found = expit(known), {}
    for model in MODELS:
        p = said(known, model)
        for t in THRESHOLDS:
            alert = p >= t
            found[model, f"net benefit at {t}"] = float(np.mean(alert * (risk - (1 - risk) * t / (1 - t))))
        found[model, "ici"] = float(np.abs(p - risk).mean())
        found[model, "o_to_e"] = float(risk.sum() / p.sum())
        for t in THRESHOLDS:
            found[model, f"less everyone at {t}"] = found[model, f"net benefit at {t}"] - float(
                np.mean(risk - (1 - risk) * t / (1 - t))
            )
    return found


def estimates(
    subject: NDArray[np.int64], y: Float, known: Float, seed: int
) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """(model, figure) and what the package says of it."""
    resampling, rows = Resampling.draw(subject, RESAMPLES, seed), np.arange(len(y))
    for model in MODELS:
        p = said(known, model)
        alerts = Alerts.of(y, p, rows, THRESHOLDS, resampling)
        every = {"net benefit": alerts.net_benefit()}
        every["less everyone"] = alerts.net_benefit() - alerts.net_benefit_of_everyone()
        for name, values in every.items():
            for i, t in enumerate(THRESHOLDS):
                yield (model, f"{name} at {t}"), interval(float(values[0, i]), values[1:, i], "")
        of: Calibrated = calibrated(y, p, rows, resampling)
        yield (model, "ici"), of.ici
        yield (model, "o_to_e"), of.o_to_e


def coverage(patients: int, stays: int, stores: int) -> None:
    exact = truth(stays)
    held = dict.fromkeys(exact, 0)
    print(f"{patients} patients with {stays} stays each, {stores} stores", flush=True)
    for seed in range(stores):
        for key, e in estimates(*drawn(patients, stays, seed), seed):
            assert e.low is not None, (key, e)
            assert e.high is not None, (key, e)
            held[key] += e.low - 1e-9 <= exact[key] <= e.high + 1e-9
    for (model, figure), count in held.items():
        print(f"  {model:12} {figure:22} truth {exact[model, figure]:8.4f}  held in {count / stores:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--smallest", action="store_true", help="20 stores of 300 patients")
    arguments = parser.parse_args()
    if arguments.smallest:
        coverage(300, 1, 20)
        return
    for patients, stays in ((700, 1), (400, 3), (3000, 1)):
        coverage(patients, stays, arguments.stores)


if __name__ == "__main__":
    main()
