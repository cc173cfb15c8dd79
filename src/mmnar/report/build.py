"""From runs to the report's two files: report.html and result.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from mmnar.dataset.store import open_store
from mmnar.errors import ConfigError
from mmnar.evaluation.atlas import availability
from mmnar.evaluation.informative import informativeness
from mmnar.files import write_whole
from mmnar.parquet import save
from mmnar.posthoc.base import FittedCorrection
from mmnar.posthoc.rectify import FittedLattice, FittedThreshold
from mmnar.predictions import Predictions
from mmnar.render.pdf import browser, write_pdf
from mmnar.report.choosing import choose
from mmnar.report.inputs import ReportInputs, RunRecord, StoreFacts
from mmnar.report.ordering import sets_of, tilts_of
from mmnar.report.parts.cohort import source_of
from mmnar.report.places import placeless
from mmnar.report.runs import write_report
from mmnar.report.written import writing
from mmnar.roles import Test
from mmnar.workflow import Run, evaluate_runs, store_of
from mmnar.workflow.judge import judged_predictions
from mmnar.workflow.probe import with_probes

_UNKNOWN: Final = {"made": "elsewhere", "missing": "not known here", "learned from": "not known here"}
"""The card of risks that no run made."""


def build_report(
    runs: Sequence[Run],
    out: Path,
    *,
    on: Path | None = None,
    store: Path | None = None,
    resamples: int = 1000,
    title: str = "",
    predictions: Path | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    outside: Mapping[str, Path] | None = None,
    pdf: bool = False,
) -> Path:
    """Judge runs on the same patients and write the report.

    Args:
        on: Another store of the same schema: external validation; the report then describes that store.
        store: Where the runs' store lies now, if it has moved since training.
        predictions: Also write every model's risks there, patient by patient. Not into the report's folder unless it is
            asked for: a report may be passed on, a patient's row may not.
        thresholds: Task → risks at which its alerts are judged, the main one first.
        outside: Name → table of risks made elsewhere, as in ``evaluate_runs``.
        pdf: Also print report.pdf.

    Returns:
        Path of report.html.

    Raises:
        StoreError: The store is gone or has changed since the runs were trained.
        ConfigError: No runs.
        RequirementError: A PDF is wanted, and no browser is there to print it, or it did not.
    """
    if pdf:
        browser()
    if not runs:
        raise ConfigError("runs", "at least one run folder", "none", "name the folders that `mmnar train` wrote")
    stores = [open_store(on)] if on else [store_of(run, store) for run in runs]
    data = stores[0]
    result = evaluate_runs(runs, on=on, store=store, resamples=resamples, thresholds=thresholds, outside=outside)
    result = with_probes(result, runs, on, store)
    choices = choose(result, {run.name: run.calibration() for run in runs})
    chosen = [run for run in runs if run.name in choices.models.values()]
    inputs = ReportInputs(
        title or f"Risk report: {source_of(data.manifest)}" + (" (external validation)" if on else ""),
        StoreFacts(_told(data.manifest, runs), availability(data), informativeness(data)),
        result,
        (*(record_of(run) for run in runs), *(RunRecord(name, _UNKNOWN) for name in result.outside)),
        runs[0].record["versions"],
        choices,
        sets_of(chosen, runs, on, store, resamples),
        tilts_of(chosen, runs, on, store, resamples, thresholds),
    )
    path = write_report(inputs, out)
    if pdf:
        with writing(out):
            write_pdf(path, path.with_suffix(".pdf"))
    if predictions is not None:
        _write_predictions(judged_predictions(runs, on, store, outside), predictions)
    return path


def _told(manifest: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """The manifest, its warnings with the runs' regimes, for of the store itself nothing was hidden, and refits."""
    said = [f"{run.name} was made under a regime: {' '.join(map(placeless, run.told))}" for run in runs if run.told]
    said += [f"{run.name}: {sentence}" for run in runs for sentence in run.refit_told]
    return {**manifest, "warnings": [*manifest.get("warnings", []), *said]}


def record_of(run: Run) -> RunRecord:
    """What a page says of a run."""
    rectifier = run.rectifier()
    return RunRecord(
        run.name,
        run.record["card"],
        placeless({"model": run.record["model"], **run.record["config"]}),
        run.history(),
        None if rectifier is None else _rectifier(rectifier),
        run.record["seconds"],
        run.record["parameters"],
        run.record.get("weights", {}),
        " ".join(run.refit_told),
    )


def _rectifier(fitted: FittedCorrection) -> dict[str, Any]:
    """The pattern offsets of a rectifier as the report shows them."""
    if isinstance(fitted, FittedLattice):
        return {
            task: {
                "rule": "lattice",
                "no_effect_probability": fitted.no_effect.get(task),
                "note": fitted.reasons[task],
                "offsets": [vars(o) for o in fitted.offsets[task]],
            }
            for task in fitted.tasks
        }
    assert isinstance(fitted, FittedThreshold), type(fitted)
    return {
        task: {
            "rule": "threshold",
            "no_effect_probability": None,
            "note": f"κ = {fitted.kappa[task]}",
            "offsets": [vars(o) for o in fitted.offsets[task]],
        }
        for task in fitted.tasks
    }


def _write_predictions(scored: Sequence[Predictions[Test]], path: Path) -> None:
    """Every model's risks in one table with a ``model`` column."""
    import polars as pl

    frames = [
        p.to_frame().select(pl.lit(str(p.provenance["model"])).alias("model"), pl.all().exclude("subject_digest"))
        for p in scored
    ]
    with writing(path.parent):
        write_whole(path, partial(save, pl.concat(frames)))
