"""Does `mmnar monitor` find a change of ordering practice, and only then?

    python benchmarks/monitor.py [--smallest] [--years 40] [--patients 150] [--learned 1500]

Simulated years of a served run (M = 4), each with a run of its own. So many patients a month are first asked about, and
from July on another policy orders for them: the same, a higher rate of every modality, half the selection, none,
reversed. Shown: the share of years with an alarm from January to June, from July to December, at any time; and of those
with one in the second half, in which month of it the first came (mean). Bars: at most 5 % of years without a change
have any alarm (of 40: at most 5); reversed selection is found in all at 150 patients a month.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mmnar.cohort.build import build_cohort
from mmnar.cohort.split import Split
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset, write_store
from mmnar.evaluation.monitor.asked import Answers
from mmnar.evaluation.monitor.periods import periods
from mmnar.evaluation.monitor.watch import watch
from mmnar.simulation.events import read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions
from mmnar.workflow import Run, train_run
from mmnar.workflow.monitor import learned_of

POLICIES: dict[str, dict[str, Any]] = {
    "same": {},
    "higher rates": {"rate_shift": 0.7},
    "half": {"gamma": 0.5},
    "none": {"mcar": 1.0},
    "reversed": {"gamma": -1.0},
}
MONTHS = np.arange("2026-01", "2027-01", dtype="datetime64[M]").astype("datetime64[us]").astype(np.int64)


def store(patients: int, seed: int, **policy: Any) -> PatientDataset:
    """One store, through events, cohort and features like real records."""
    extract = read_synthetic(simulate(patients, 4, seed, **policy))
    return dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))


def months(run: Run, data: PatientDataset, patients: int, from_july: bool) -> list[bool]:
    """Whether each of six months of answers of a run has an alarm."""
    scored = run.predictor().predict(data.fold(Split.external(), "test"))
    time = np.repeat(MONTHS[6 * from_july :][:6] + 86_400_000_000, patients)
    risks = {task: scored.proba[: len(time), k] for k, task in enumerate(scored.tasks)}
    refused = {task: np.full(len(time), "") for task in scored.tasks}
    answers = Answers(
        time, np.arange(len(time)), np.ones(len(time), dtype=bool), scored.present[: len(time)], risks, {}, refused
    )
    spans = periods(int(time[0]), int(time[-1]), "month")
    found = watch(answers, scored.modalities, learned_of(run), spans, "month", 2**62, scored.tasks)
    return [bool(p.alarms) for p in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--years", type=int, default=40)
    parser.add_argument("--patients", type=int, default=150)
    parser.add_argument("--learned", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0, help="of the first year")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    asked = parser.parse_args()
    years, patients, learned = (1, 40, 400) if asked.smallest else (asked.years, asked.patients, asked.learned)
    print(f"{years} years, {patients} patients a month, {learned} in the run's store, M = 4")
    early, late = [], {name: [] for name in asked.policies}  # type: ignore[var-annotated]
    for seed in range(asked.seed, asked.seed + years):
        with tempfile.TemporaryDirectory() as folder:
            path = write_store(Path(folder) / "store", store(learned, 3 * seed))
            run = train_run(path, "logistic-pattern", Path(folder) / "run", ("fits=2",))
            early.append(months(run, store(6 * patients, 3 * seed + 1), patients, False))
            for name in asked.policies:
                after = store(6 * patients, 3 * seed + 2, **POLICIES[name])
                late[name].append(months(run, after, patients, True))
    print(f"January to June: an alarm in {np.mean([any(of) for of in early]):.2f} of years")
    print(f"{'from July':14} {'July to December':>17} {'whole year':>11} {'first in month':>15}")
    for name, of in late.items():
        found = np.array(of)
        first = [int(np.argmax(row)) + 1 for row in found if row.any()]
        whole = np.mean([any(a) or any(b) for a, b in zip(early, of, strict=True)])
        print(f"{name:14} {found.any(1).mean():17.2f} {whole:11.2f} {np.mean(first) if first else float('nan'):15.1f}")


if __name__ == "__main__":
    main()
