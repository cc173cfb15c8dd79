"""The command. Heavy imports happen inside the verbs: ``mmnar --help`` must answer at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from cyclopts import App

from mmnar import __version__
from mmnar.errors import MmnarError

app = App(
    name="mmnar",
    version=__version__,
    help="Risk per patient when whole modalities are missing because clinicians decided so. Research use only.",
)
prepare = App(name="prepare", help="Raw records → a store any model can train on.")
app.command(prepare)


@app.command
def demo(*, out: Path = Path("demo"), patients: int = 3000, modalities: int = 4, seed: int = 0) -> None:
    """Simulate a population with known truth, train five models, write a report. No download, no credentials.

    Parameters
    ----------
    out: Folder for the store, the runs and the report.
    patients: Number of simulated patients.
    modalities: 4 or 10.
    seed: Of the simulated patients and of training.
    """
    from mmnar.estimators.registry import model_names
    from mmnar.models.registry import MODELS

    if any(out.glob("runs/*")):
        raise _not_empty(out)
    store = out / "store"
    synthetic(out=store, patients=patients, modalities=modalities, seed=seed)
    quick = ("train.batch_size=128", "train.min_steps=300", "rectifier.folds=3", f"seed={seed}")
    for name in model_names():
        words = (*quick, "model.width=64") if name in MODELS else quick
        train(store, *words, model=name, out=out / "runs" / name)
    report(*sorted((out / "runs").iterdir()), out=out / "report")


@prepare.command
def eicu(*, root: Path, out: Path, apache_prediction: bool = True) -> None:
    """eICU-CRD 2.0 or its open demo: in-hospital mortality asked 24 h after unit admission, ICU readmission asked
    at unit discharge.

    Parameters
    ----------
    root: The release's folder; .csv, .csv.gz or .parquet, any letter case. Never written to.
    out: The store to write; an older store there is replaced only when the new one is whole.
    apache_prediction: Keep APACHE's own predicted mortality among the inputs.
    """
    from mmnar.cohort.criteria import eicu_criteria
    from mmnar.cohort.labels import eicu_questions
    from mmnar.dataset.prepare import prepare as write
    from mmnar.sources.eicu import read_eicu

    extract = read_eicu(root, apache_prediction=apache_prediction)
    write(extract, eicu_criteria(), eicu_questions(), out)
    describe(out)


@prepare.command
def synthetic(
    *,
    out: Path,
    patients: int = 3000,
    modalities: int = 4,
    gamma: float = 1.0,
    eta: float = 0.5,
    mcar: float = 0.0,
    sites: int = 4,
    seed: int = 0,
) -> None:
    """A simulated population whose exact Bayes risks are known.

    Parameters
    ----------
    out: The store to write.
    patients: N.
    modalities: M, 4 or 10.
    gamma: How strongly illness drives what is measured; 0 = missing at random.
    eta: Direct effect of the pattern on outcomes.
    mcar: Share of patients whose pattern ignores their illness.
    sites: Number of hospitals with habits of their own.
    seed: Of the patients; the world they live in stays the same.
    """
    from mmnar.cohort.synthetic import synthetic_criteria, synthetic_questions
    from mmnar.dataset.prepare import prepare as write
    from mmnar.sources.simulator import simulate
    from mmnar.sources.synthetic import read_synthetic

    simulation = simulate(patients, modalities, seed, gamma=gamma, eta=eta, mcar=mcar, sites=sites)
    write(read_synthetic(simulation), synthetic_criteria(), synthetic_questions(), out)
    print(f"store: {out}")


@app.command
def describe(store: Path) -> None:
    """How many patients have which modalities, and does it matter? Cohort, attrition, patterns, outcome by pattern."""
    from mmnar.dataset.store import open_store
    from mmnar.evaluation.atlas import availability, describe_text

    data = open_store(store)
    print(describe_text(availability(data), data))


@app.command
def train(store: Path, *words: str, model: str, out: Path, resume: bool = False) -> None:
    """Fit a model, its rectifier on out-of-fold predictions, and score the test fold.

    Parameters
    ----------
    store: A prepared store.
    words: Overrides, e.g. train.lr=3e-4 model.width=64 ensemble=5 split.folds=5 split.fold=0 preset=paper.
    model: A name from `mmnar models`.
    out: The run's folder.
    resume: Continue an interrupted run, to the same numbers.
    """
    from mmnar.training.monitor import Bars
    from mmnar.workflow import train_run

    with Bars() as bars:
        run = train_run(store, model, out, words, resume=resume, monitor=bars)
    print(f"{run.name}: {len(run.test)} test samples scored in {run.record['seconds']:.0f} s → {out}")


@app.command
def evaluate(*runs: Path, on: Path | None = None, out: Path | None = None, resamples: int = 1000) -> None:
    """Metrics with intervals and paired tests of one or more runs.

    Parameters
    ----------
    runs: Run folders, scored on the same patients.
    on: Another store of the same schema: external validation.
    out: Also write result.json there.
    resamples: Of the patient-clustered bootstrap.
    """
    from mmnar.report.text import result_text
    from mmnar.workflow import evaluate_runs, open_run

    result = evaluate_runs([open_run(run) for run in runs], on=on, resamples=resamples)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        result.save(out / "result.json")
    print(result_text(result))


@app.command
def report(*runs: Path, out: Path, on: Path | None = None, store: Path | None = None, resamples: int = 1000) -> None:
    """One offline HTML file, result.json and predictions.parquet.

    Parameters
    ----------
    runs: Run folders, scored on the same patients.
    out: Folder to write to.
    on: Another store of the same schema: external validation.
    store: The store, if it has moved since training.
    resamples: Of the patient-clustered bootstrap.
    """
    from mmnar.report.build import build_report
    from mmnar.workflow import open_run

    path = build_report([open_run(run) for run in runs], out, on=on, store=store, resamples=resamples)
    print(f"report: {path}")


@app.command
def models() -> None:
    """Every registered method with its paper."""
    from mmnar.config import TrainConfig
    from mmnar.estimators.registry import build_estimator, model_names

    for name in model_names():
        card = build_estimator(name, {}, TrainConfig()).card
        kind = "control" if card["control"] else "method"
        print(f"{name:20} {kind:8} {card['title']}\n{'':29} {card['paper']}")


@app.command
def doctor(*, root: Path | None = None, store: Path | None = None) -> None:
    """Check this machine, and a data folder or store if given, before hours are lost.

    Parameters
    ----------
    root: A folder of raw eICU records.
    store: A prepared store; every file's hash is recomputed.
    """
    from mmnar.doctor import examine

    lines, healthy = examine(root, store)
    print("\n".join(lines))
    if not healthy:
        sys.exit(1)


def _not_empty(out: Path) -> MmnarError:
    from mmnar.errors import StoreError

    return StoreError(f"'{out}'", "a new folder", "runs of an earlier demo", "choose another --out or delete it")


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: errors of ours are one line on stderr and exit status 2; others keep their traceback."""
    try:
        return app(arguments)
    except MmnarError as error:
        print(f"mmnar: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
