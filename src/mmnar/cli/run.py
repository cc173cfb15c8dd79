"""Verbs from a store to a report: demo, train, evaluate, report, card, models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmnar.cli.apps import app, writes_out
from mmnar.errors import ConfigError, MmnarError

if TYPE_CHECKING:
    from mmnar.workflow import Run


@app.command
def demo(*, out: Path = Path("demo"), patients: int = 3000, seed: int = 0) -> None:
    """Raw MIMIC-IV tables, notes and X-ray embeddings of patients who do not exist → store → five models → report.
    No download, no credentials.

    Args:
        out: Folder for the records, the store, the runs and the report.
        patients: Number of simulated patients.
        seed: Of the simulated patients and of training.
    """
    from mmnar.cli.prepare import mimic_iv
    from mmnar.cli.simulate import mimic_iv as simulate
    from mmnar.models.registry import MODELS
    from mmnar.simulation.mimic_iv.release import EMBEDDINGS

    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise _not_empty(out)
    records, store = out / "records", out / "store"
    simulate(patients=patients, out=records, seed=seed)
    mimic_iv(
        root=records / "mimiciv" / "3.1",
        notes=records / "mimic-iv-note" / "2.2",
        cxr=records / "mimic-cxr-jpg" / "2.1.0",
        embeddings=records / EMBEDDINGS,
        truth=records / "truth" / "mimic_iv.parquet",
        notes_encoder="hashing",
        out=store,
    )
    every, deep = ("fits=3", f"seed={seed}"), ("train.batch_size=128", "train.min_steps=300", "model.width=64")
    for name in ("crl-mmnar", "zero-fill", "pattern-only", "logistic-pattern", "boosting-pattern"):
        train(store, *every, *(deep if name in MODELS else ()), model=name, out=out / "runs" / name)
    report(*sorted((out / "runs").iterdir()), out=out / "report")


@app.command
@writes_out
def train(store: Path, *overrides: str, model: str = "stack", out: Path, resume: bool = False) -> None:
    """Fit a model on folds of all patients but the test fold, correct it by their risks out of fold, and score the
    test fold; without one (split.test=0) the risks out of fold are judged.

    Args:
        store: A prepared store.
        overrides: Such as train.lr=3e-4 model.width=64 ensemble=5 split.folds=5 fit=single preset=original
            (or carebench).
        model: A name from `mmnar models`; the stack weighs CRL-MMNAR and two controls by their risks out of fold.
        out: The run's folder.
        resume: Continue an interrupted run, to the same numbers; a finished one stays as it is.
    """
    from mmnar.training.monitor import shown
    from mmnar.workflow import is_finished, train_run

    finished = is_finished(out)
    with shown() as monitor:
        run = train_run(store, model, out, overrides, resume=resume, monitor=monitor)
    if finished:
        print(f"{run.name}: the run in {out} is finished; nothing was changed")
        return
    print(f"{run.name}: {len(run.test)} {run.judged} scored in {run.record['seconds']:.0f} s → {out}")


@app.command
@writes_out
def evaluate(
    *runs: Path,
    on: Path | None = None,
    store: Path | None = None,
    out: Path | None = None,
    resamples: int = 1000,
    thresholds: tuple[str, ...] = (),
    outside: tuple[str, ...] = (),
) -> None:
    """Metrics with intervals and paired tests of one or more runs.

    Args:
        runs: Run folders, scored on the same patients.
        on: Another store of the same schema: external validation.
        store: The runs' store, if it has moved since training; with --on it tells whether a patient was trained on.
        out: Also write result.json there.
        resamples: Of the patient-clustered bootstrap.
        thresholds: Such as mortality=0.1,0.2: risks at which a task's alerts are judged, the main one first.
        outside: Such as sepsis-score=risks.csv: risks made elsewhere of the scored samples, all of them and no others
            (subject_id, prediction_time, task, risk; .csv, .csv.gz, .parquet).
    """
    from mmnar.files import write_whole
    from mmnar.report.terminal import result_text
    from mmnar.workflow import evaluate_runs

    at = thresholds_in(thresholds)
    made = _outside(outside)
    result = evaluate_runs(_opened(runs), on=on, store=store, resamples=resamples, thresholds=at, outside=made)
    if out:
        write_whole(out / "result.json", result.save)
    print(result_text(result))


@app.command
@writes_out
def report(
    *runs: Path,
    out: Path,
    on: Path | None = None,
    store: Path | None = None,
    resamples: int = 1000,
    predictions: Path | None = None,
    thresholds: tuple[str, ...] = (),
    outside: tuple[str, ...] = (),
    pdf: bool = False,
) -> None:
    """One offline HTML file and result.json: no patient's row, no count under ten.

    Args:
        runs: Run folders, scored on the same patients.
        out: Folder to write to.
        on: Another store of the same schema: external validation.
        store: The store, if it has moved since training.
        resamples: Of the patient-clustered bootstrap.
        predictions: Also write every model's risks to this .parquet file, patient by patient: not to be passed on.
        thresholds: Such as mortality=0.1,0.2: risks at which a task's alerts are judged, the main one first.
        outside: Such as sepsis-score=risks.csv: risks made elsewhere of the scored samples, all of them and no others
            (subject_id, prediction_time, task, risk; .csv, .csv.gz, .parquet).
        pdf: Also report.pdf, printed by an installed Chromium, Chrome or Edge.
    """
    from mmnar.report.build import build_report

    at = thresholds_in(thresholds)
    path = build_report(
        _opened(runs),
        out,
        on=on,
        store=store,
        resamples=resamples,
        predictions=predictions,
        thresholds=at,
        outside=_outside(outside),
        pdf=pdf,
    )
    print(f"report: {path}")


@app.command
def card(
    run: Path,
    *,
    out: Path = Path("card"),
    on: Path | None = None,
    store: Path | None = None,
    resamples: int = 1000,
    thresholds: tuple[str, ...] = (),
) -> None:
    """A run's model card: card.html, card.md, and card.xml for who reads Applied Model Cards. What no run can know is
    left blank and says by whom it is to be filled. No patient's row, no count under ten, no place of this machine.

    Args:
        run: A run folder.
        out: Folder to write to.
        on: Another store of the same schema, on which the run is judged, too: external validation.
        store: The run's store, if it has moved since training.
        resamples: Of the patient-clustered bootstrap.
        thresholds: Such as mortality=0.1,0.2: risks at which a task's alerts are judged, the main one first.
    """
    from mmnar.report.model_card.build import build_card
    from mmnar.workflow import open_run

    at = thresholds_in(thresholds)
    paths = build_card(open_run(run), out, on=on, store=store, resamples=resamples, thresholds=at)
    print(f"card: {', '.join(map(str, paths))}")


@app.command
def export(run: Path, *, out: Path, store: Path | None = None) -> None:
    """Splits, labels and test predictions as MEDS 0.4 files, which meds-evaluation and others read.

    Args:
        run: A run folder.
        out: A new folder to write to.
        store: The store, if it has moved since training.
    """
    from mmnar.workflow import export_run, open_run

    export_run(open_run(run), out, store=store)
    print(f"MEDS files: {out}")


@app.command
def models(name: str | None = None) -> None:
    """Every registered method with its paper; or the card of one, the data it needs and all its settings.

    Args:
        name: A method.
    """
    from mmnar.estimators.registry import check_name, defaults, estimator, is_trained, known_names
    from mmnar.extras import install
    from mmnar.report.cards import card_text, settings_text

    if name is not None:
        check_name(name)
        card = estimator(name).card
        print(card_text(name, card))
        if not card.get("needs"):
            print("Takes every kind of modality")
        if not card.get("original"):
            print("Has no preset")
        print(f"\n{settings_text(defaults(name), is_trained(name))}")
        return
    for known in known_names():
        card = estimator(known).card
        kind = "control" if card["control"] else "method"
        print(f"{known:20} {kind:8} {card['title']}\n{'':29} {card['paper']}")
        if extra := card.get("extra"):
            print(f"{'':29} Needs a file of weights (mmnar models {known}); {install(extra)}")


def thresholds_in(words: tuple[str, ...]) -> dict[str, list[float]]:
    """Task → risks of words such as mortality=0.1,0.2.

    Raises:
        ConfigError: Not TASK=RISK,RISK.
    """
    found = {}
    for word in words:
        task, _, values = word.partition("=")
        try:
            found[task] = [float(v) for v in values.split(",")]
        except ValueError:
            raise ConfigError("--thresholds", "TASK=RISK,RISK", f"'{word}'", "write mortality=0.1,0.2") from None
    return found


def _outside(words: tuple[str, ...]) -> dict[str, Path]:
    """
    Raises:
        ConfigError: Not NAME=FILE, or a name twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, _, file = word.partition("=")
        if not name or not file or name in found:
            raise ConfigError("--outside", "NAME=FILE, each name once", f"'{word}'", "write sepsis-score=risks.csv")
        found[name] = Path(file)
    return found


def _opened(runs: tuple[Path, ...]) -> list[Run]:
    """Every run folder named, at least one."""
    from mmnar.workflow import open_run

    if not runs:
        raise ConfigError("runs", "one or more run folders", "none", "name them, e.g. runs/crl runs/logistic")
    return [open_run(run) for run in runs]


def _not_empty(out: Path) -> MmnarError:
    from mmnar.errors import StoreError

    return StoreError(f"'{out}'", "a new or empty folder", "something else", "choose another --out, or delete it")
